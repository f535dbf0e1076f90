"""Bundles: refused with file, line and rule; one digest that follows behaviour and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pydantic
import pytest
import rfc8785
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import FileRuleError
from llmlab.bundle.bundle import Bundle, ModelRef, PinOverride, RetrievalConfig, Sampling, load_bundles
from llmlab.bundle.grids import grid
from llmlab.judge import Judge

TEXT = """\
name: pandas_help
version: "1.0.0"
model: {provider: openai, id: gpt-4o-2024-08-06}
prompt:
  system: Answer from the passages.
  template: "{{ question }}\\n\\n{{ passages }}"
  examples:
    - inputs: {question: "What is NA?", passages: "[NA] missing"}
      output: A gap.
sampling: {temperature: 0.0, max_tokens: 200, stop: ["END"]}
retrieval: {corpus: {package: pandas}, retriever: bm25, k: 5}
tools:
  - {name: lookup, description: finds, parameters: {type: object}}
metadata: {author: me, notes: [1, {a: b}]}
"""
DATA = yaml.safe_load(TEXT)
PROMPT = TEXT[TEXT.index("prompt:") : TEXT.index("sampling:")]


def written(folder: Path, text: str, name: str = "v1.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(written(tmp_path, TEXT))


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "rule"),
    [
        ('version: "1.0.0"', "version: 1.10", 2, 'version: 1.10 was read as a float; quote it: "1.10"'),
        ('version: "1.0.0"', "version: 1", 2, "quote it"),
        ('version: "1.0.0"', "version: 2024-08-06", 2, "quote it"),
        ('version: "1.0.0"', 'version: "../1"', 2, "version"),
        ("name: pandas_help", "name: ../../etc/passwd", 1, "name"),
        ("name: pandas_help", "name: a/b", 1, "name"),
        ("name: pandas_help", "name: 'a\\b'", 1, "name"),
        ("name: pandas_help", "name: ..", 1, "name"),
        ("name: pandas_help", "name: .hidden", 1, "name"),
        ("name: pandas_help", 'name: "a\\n"', 1, "name"),
        ("name: pandas_help", 'name: "C:"', 1, "name"),
        ("name: pandas_help", 'name: ""', 1, "name"),
        ("name: pandas_help", "name: a\nname: b", 2, "duplicate key 'name'"),
        ("metadata:", "author: me\nmetadata:", 14, "unknown key 'author'"),
        ("max_tokens: 200", "max_token: 200", 10, "max_token'; did you mean 'sampling.max_tokens'?"),
        ("temperature: 0.0", "temperature: .nan", 10, "is not a number"),
        ("temperature: 0.0", "temperature: yes", 10, "sampling.temperature"),
        ("max_tokens: 200", f"max_tokens: {2**60}", 10, "sampling.max_tokens"),
        ("max_tokens: 200", f"seed: {2**60}", 10, "sampling.seed"),
        ("max_tokens: 200", f"extra: {{a: {2**60}}}", 10, "largest integer"),
        ('stop: ["END"]', 'stop: "END"', 10, "sampling.stop"),
        ("{{ question }}\\n", "{{ question \\n", 6, "not valid Jinja2"),
        ("{package: pandas}", "{package: pandas, folder: x}", 11, "exactly one of"),
        ("{package: pandas}", "{}", 11, "exactly one of"),
        ("{package: pandas}", "{package: os.system()}", 11, "retrieval.corpus.package"),
        ("k: 5", "k: 0", 11, "retrieval.k"),
        ("k: 5", 'query: "{{ question"', 11, "not valid Jinja2"),
        ("description: finds", 'description: "\\ud800"', 13, "tools.0.description"),
        ("k: 5", "chunking: {size_words: 20, overlap_words: 20}", 11, "overlap_words == 20, must be < size_words"),
        ("name: lookup", "name: look up", 13, "tools.0.name"),
        ("provider: openai", "provider: Open AI", 3, "model.provider"),
        ("{provider: openai, id: gpt-4o-2024-08-06}", "gpt-4o", 3, "model: 'gpt-4o' names no provider"),
        ("{provider: openai, id: gpt-4o-2024-08-06}", "[a]", 3, "model: must be a mapping"),
        ("model: {provider: openai, id: gpt-4o-2024-08-06}\n", "", 1, "the key 'model' is missing"),
        ("author: me", "author: !!python/name:os.system", 14, "tags are not allowed"),
        ("author: me", "author: &a me", 14, "anchors and aliases"),
        ("output: A gap.", 'output: "\\ud800"', 9, "output"),
        (PROMPT, "prompt: 7\n", 4, "prompt: must be a mapping"),
        ("  system: Answer", "  system_file: a.txt\n  system: Answer", None, "are both given"),
        ("temperature: 0.0", "temperature: '0.7'", 10, "sampling.temperature: must be a number; it is text"),
        ("temperature: 0.0", "temperature: -1", 10, "sampling.temperature: must be >= 0"),
        ("max_tokens: 200", "max_tokens: 1.5", 10, "sampling.max_tokens: must be a whole number; it is a number"),
        ("{temperature: 0.0, ", "[0.7] # {", 10, "sampling: must be a mapping of keys to values; it is a list"),
        ("\n  - {name: lookup", " {name: lookup", 12, "tools: must be a list; it is a mapping"),
        ("{type: object}", "[a]", 13, "must be a mapping"),
        ("name: lookup", "type: web_search", 13, "the key 'tools.0.name' is missing"),
        ("retriever: bm25", "distinct_by: word", 11, "must be 'document' or 'group'"),
        ("{package: pandas}", "docs", 11, "retrieval.corpus: must be a mapping"),
        ("{author: me, notes: [1, {a: b}]}", "text", 14, "must be a mapping"),
    ],
)
def test_a_broken_bundle_is_refused_with_file_line_and_rule(
    tmp_path: Path, old: str, new: str, line: int | None, rule: str
) -> None:
    """In our words, never as pydantic says it ("Input should be ...")."""
    assert TEXT.count(old) == 1
    path = written(tmp_path, TEXT.replace(old, new))
    with pytest.raises(FileRuleError) as raised:
        Bundle.load(path)
    assert (raised.value.path, raised.value.line) == (path, line)
    assert rule in raised.value.rule
    assert "nput" not in raised.value.rule


def test_a_folder_without_bundles_or_with_two_of_one_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRuleError, match="no bundle"):
        load_bundles(tmp_path)
    written(tmp_path, TEXT)
    written(tmp_path, TEXT.replace("author: me", "author: you"), "v2.yaml")
    assert list(load_bundles(tmp_path)) == ["v1", "v2"]
    written(tmp_path, TEXT, "v1.yml")
    with pytest.raises(FileRuleError, match="another bundle 'v1'"):
        load_bundles(tmp_path)


# -- the digest -------------------------------------------------------------------------------------


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("\n", "\r\n"),
        TEXT.replace('"1.0.0"', "'1.0.0'").replace("Answer from the passages.", '"Answer from the passages."'),
        "# a comment\n" + TEXT.replace("k: 5", "k:   5"),
        yaml.safe_dump(reordered(DATA), sort_keys=False),
        yaml.safe_dump(DATA, default_flow_style=True),
        json.dumps(DATA),
        "\ufeff" + TEXT,
        TEXT.replace("temperature: 0.0", "temperature: 0"),
        TEXT.replace("name: pandas_help", "name: other").replace("1.0.0", "9.9").replace("author: me", "author: you"),
        TEXT.replace("openai,", "openai, pin_override: {who: me, why: so},"),
        TEXT.replace("retriever: bm25, ", ""),
    ],
)
def test_layout_quoting_line_ends_defaults_and_metadata_do_not_change_the_digest(
    tmp_path: Path, bundle: Bundle, text: str
) -> None:
    assert Bundle.load(written(tmp_path, text, "other.yaml")).digest == bundle.digest


BEHAVIOUR: dict[str, tuple[Any, ...]] = {  # other values than the bundle's
    "model": ("openai/gpt-4o-2024-05-13", "azure/gpt-4o-2024-08-06"),
    "revision": ("abc",),
    "quantisation": ("q4",),
    "system": ("Answer.",),
    "template": ("{{ question }}",),
    "examples": ([],),
    "temperature": (0.1, None),
    "top_p": (1.0,),
    "top_k": (1,),
    "max_tokens": (201,),
    "stop": ([], ["end"]),
    "seed": (0,),
    "frequency_penalty": (0.0,),
    "presence_penalty": (0.0,),
    "response_format": ({"type": "json_object"},),
    "extra": ({"a": 1}, {"a": None}, {"a": ""}, {"a": {}}),
    "corpus": ({"package": "numpy"}, {"jsonl": "pandas"}),
    "retriever": ("dense",),
    "k": (6,),
    "query": ("{{ search }}",),
    "distinct_by": ("group",),
    "passage_chars": (500,),
    "chunking": ({"size_words": 100},),
    "embedding": ({"provider": "openai", "id": "text-embedding-3-small"},),
    "options": ({"k1": 1.2}, {"stem": ""}),
    "retrieval": (None,),
    "tools": (
        [],
        [{"name": "lookup", "description": "", "parameters": {"type": "object"}}],
        [{"name": "lookup", "description": "finds", "parameters": {}}],
    ),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BEHAVIOUR.items() for value in values],
    ids=lambda part: json.dumps(part)[:60],
)
def test_every_change_of_behaviour_changes_digest_and_version(bundle: Bundle, name: str, value: Any) -> None:
    changed = bundle.with_(**{name: value})
    assert changed.digest != bundle.digest
    assert changed.version == f"1.0.0+{changed.digest[:8]}"
    assert bundle.diff(changed)


def test_the_digest_is_sha256_of_the_canonical_json(bundle: Bundle) -> None:
    import hashlib

    assert bundle.digest == hashlib.sha256(rfc8785.dumps(json.loads(json.dumps(bundle.behaviour)))).hexdigest()


def test_a_cached_digest_is_never_stale(bundle: Bundle) -> None:
    before = bundle.digest
    copies = [
        bundle.model_copy(update={"sampling": Sampling(temperature=0.9)}),
        bundle.with_(temperature=0.9),
        pickle.loads(pickle.dumps(bundle)).with_(temperature=0.9),
        copy.deepcopy(bundle).model_copy(update={"sampling": Sampling(temperature=0.9)}),
    ]
    for changed in copies:
        assert changed.digest == Bundle.model_validate(changed.model_dump()).digest != before
    assert bundle.digest == before == pickle.loads(pickle.dumps(bundle)).digest == copy.deepcopy(bundle).digest


def test_a_bundle_is_frozen_at_every_depth(bundle: Bundle) -> None:
    attempts = [
        lambda: setattr(bundle, "name", "x"),
        lambda: setattr(bundle.sampling, "temperature", 1.0),
        lambda: setattr(bundle.prompt, "template", "x"),
        lambda: bundle.metadata.update(author="x"),
        lambda: bundle.metadata["notes"][1].update(a="c"),
        lambda: bundle.tools[0].parameters.update(type="array"),
        lambda: bundle.prompt.examples[0].inputs.update(question="x"),
        lambda: bundle.behaviour.__setitem__("model", {}),  # type: ignore[attr-defined]  # that is the test
        lambda: bundle.sampling.sent.__setitem__("seed", 1),  # type: ignore[attr-defined]  # that is the test
        lambda: bundle.model.identity.__setitem__("id", "x"),  # type: ignore[attr-defined]  # that is the test
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, pydantic.ValidationError)):
            attempt()
    assert isinstance(bundle.sampling.stop, tuple)


def test_what_a_caller_changes_later_does_not_reach_the_bundle() -> None:
    extra = {"logit_bias": {"1": 2}}
    made = Bundle.from_prompt("{{ q }}", model="openai/gpt-4o-2024-08-06", extra=extra)
    before = made.digest
    extra["logit_bias"]["1"] = 3
    assert made.sampling.extra == {"logit_bias": {"1": 2}}
    assert made.with_(name="x").digest == before


def test_a_validated_copy_refuses_what_the_model_refuses(bundle: Bundle) -> None:
    for update in ({"nonsense": 1}, {"name": "../x"}, {"sampling": {"temperature": float("nan")}}):
        with pytest.raises(pydantic.ValidationError):
            bundle.model_copy(update=update)


# -- saving, changing, comparing --------------------------------------------------------------------


def test_saving_and_loading_gives_the_same_bundle(tmp_path: Path, bundle: Bundle) -> None:
    again = Bundle.load(bundle.save(tmp_path / "again.yaml"))
    assert again == bundle
    assert again.digest == bundle.digest


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


@settings(max_examples=60)
@given(
    system=TEXTS,
    output=TEXTS,
    extra=st.dictionaries(TEXTS, TEXTS | st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
    temperature=st.none() | st.floats(0, 2),
)
def test_any_bundle_survives_a_round_trip_through_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    system: str,
    output: str,
    extra: dict[str, object],
    temperature: float | None,
) -> None:
    prompt = {
        "system": system.replace("{", "("),
        "template": f"{{{{ q }}}}{system.replace('{', '(')}",
        "examples": [{"inputs": {"q": output}, "output": output}],
    }
    made = Bundle.from_prompt("x", model="offline/extractive-1", prompt=prompt, extra=extra, temperature=temperature)
    path = tmp_path_factory.mktemp("b") / "v1.yaml"
    again = Bundle.load(made.save(path))
    assert again == made
    assert again.digest == made.digest
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert Bundle.load(path).digest == made.digest


def test_other_content_under_the_same_version_is_not_written_over(tmp_path: Path, bundle: Bundle) -> None:
    path = bundle.save(tmp_path / "v1.yaml")
    bundle.model_copy(update={"metadata": {"author": "new"}}).save(path)
    other = bundle.with_(temperature=0.5, version="1.0.0")
    with pytest.raises(FileRuleError, match=r"version 1\.0\.0 with other content"):
        other.save(path)
    assert Bundle.load(other.model_copy(update={"version": "1.1"}).save(path)).sampling.temperature == 0.5


def test_with_takes_fields_of_any_level_and_refuses_others(bundle: Bundle) -> None:
    changed = bundle.with_(model="anthropic/claude-opus-4-6", k=8, template="{{ q }}", max_tokens=None)
    assert (str(changed.model), changed.retrieval and changed.retrieval.k) == ("anthropic/claude-opus-4-6", 8)
    assert (changed.prompt.template, changed.prompt.system) == ("{{ q }}", bundle.prompt.system)
    assert changed.sampling.max_tokens is None
    assert bundle.with_(temperature=0.0).version == bundle.with_(name="x").version == "1.0.0"
    assert bundle.with_(temperature=0.5).with_(temperature=0.7).version.count("+") == 1
    assert bundle.with_(temperature=0.5, version="2.0").version == "2.0"
    with pytest.raises(ValueError, match=r"'temprature' is no field of a bundle \(known: "):
        bundle.with_(temprature=0.5)
    with pytest.raises(ValueError, match="belongs to retrieval, which this bundle does not have"):
        bundle.with_(retrieval=None).with_(k=3)
    with pytest.raises(ValueError, match="names no provider"):
        bundle.with_(model="gpt-4o")
    with pytest.raises(ValueError, match=r"^retrieval.corpus: is missing$"):
        bundle.with_(retrieval={"retriever": "bm25"})


def test_a_grid_names_every_combination_after_what_was_set(bundle: Bundle) -> None:
    variants = grid({"v1": bundle, "v2": bundle.with_(k=8)}, temperature=[0.0, 0.7], k=[3, 5])
    points = [f"temperature={t},k={k}" for t in (0.0, 0.7) for k in (3, 5)]
    assert list(variants) == [f"{name}@{point}" for name in ("v1", "v2") for point in points]
    assert variants["v1@temperature=0.0,k=5"].digest == bundle.digest
    assert list(grid(bundle, seed=[1])) == ["pandas_help@seed=1"]
    assert grid({"v1": bundle}) == {"v1": bundle}


def test_what_reasoning_models_take_is_an_axis_and_moves_no_digest_that_was_there(bundle: Bundle) -> None:
    """One limit takes the other's place, for both bound the same."""
    variants = grid({"v1": bundle}, reasoning_effort=["low", "high"], max_completion_tokens=[900])
    assert list(variants) == [f"v1@reasoning_effort={effort},max_completion_tokens=900" for effort in ("low", "high")]
    assert {(b.sampling.tokens_at_most, b.sampling.max_tokens) for b in variants.values()} == {(900, None)}
    assert len({variant.digest for variant in variants.values()}) == 2
    budgets = grid({"v1": bundle}, thinking=[{"budget_tokens": 2000}, {"type": "disabled"}])
    assert list(budgets) == ["v1@thinking=2000", "v1@thinking={'type': 'disabled'}"]
    assert Bundle.model_validate(budgets["v1@thinking=2000"].model_dump()).digest == budgets["v1@thinking=2000"].digest
    assert "reasoning_effort" not in bundle.behaviour["sampling"]


@pytest.mark.parametrize(
    ("sampling", "rule"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 5}, "keep one"),
        ({"thinking": {"budget_tokens": "many"}}, "budget_tokens == 'many'"),
        ({"thinking": {"budget_tokens": 0}}, "budget_tokens == 0"),
    ],
)
def test_a_limit_is_said_once_and_a_budget_is_a_number(sampling: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Sampling(**sampling)


@pytest.mark.parametrize(
    ("axes", "rule"),
    [
        ({"temperature": []}, "must be a non-empty list"),
        ({"temperature": 0.5}, "must be a non-empty list"),
        ({"temperature": ["hot"]}, "sampling.temperature: must be a number; it is text"),
        ({"model": "openai/gpt-4o"}, "must be a non-empty list"),
        ({"temperature": [0.5, 0.5]}, "occurs twice"),
        ({"temp": [0.5]}, "is no field of a bundle"),
    ],
)
def test_a_grid_that_means_nothing_is_refused(bundle: Bundle, axes: dict[str, list[object]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        grid(bundle, **axes)


def test_absent_is_not_zero_in_what_is_sent() -> None:
    assert Sampling().sent == {}
    assert Sampling(temperature=0.0, presence_penalty=0.0, seed=3).sent == {"temperature": 0.0, "presence_penalty": 0.0}


def test_a_diff_tells_false_from_zero_and_absent_from_null(bundle: Bundle) -> None:
    for left, right in (({"a": False}, {"a": 0}), ({}, {"a": None})):
        assert bundle.with_(extra=left).diff(bundle.with_(extra=right))
    assert not bundle.with_(extra={"a": 1}).diff(bundle.with_(extra={"a": 1.0}))


def test_a_diff_of_two_bundles_of_one_name_and_version_shows_both_sides() -> None:
    one, other = (Bundle.from_prompt("{{ question }}", model="offline/extractive-1", temperature=t) for t in (0.0, 0.7))
    (row,) = one.diff(other)._rows()
    assert list(row.values()) == ["sampling.temperature", 0.0, 0.7]


def test_a_diff_shows_fields(bundle: Bundle) -> None:
    other = bundle.with_(template="Briefly: {{ question }}", k=9)
    found = bundle.diff(other)
    assert {field for field, _, _ in found.changes} == {"prompt.template", "retrieval.k"}
    assert other.digest[:8] in str(found)
    assert not bundle.diff(bundle.with_(name="x"))
    assert "Same behaviour" in str(bundle.diff(bundle))
    assert "digest=" in repr(bundle)


def test_a_model_reference_is_read_from_text_and_its_override_is_no_identity() -> None:
    ref = ModelRef.parse("together/meta-llama/Llama-3.3-70B")
    assert (ref.provider, ref.id) == ("together", "meta-llama/Llama-3.3-70B")
    assert str(ref) == "together/meta-llama/Llama-3.3-70B"
    vouched = ref.model_copy(update={"pin_override": PinOverride(who="me", why="so")})
    assert vouched.identity == ref.identity
    assert not ref.pinned
    assert vouched.pinned


def test_retrieval_defaults_are_the_documented_ones() -> None:
    config = RetrievalConfig.model_validate({"corpus": {"package": "pandas"}})
    assert (config.retriever, config.k, config.query, config.distinct_by) == ("bm25", 5, "{{ question }}", None)


def test_a_bundle_that_is_not_in_the_folder_is_told_with_those_that_are(tmp_path):
    Bundle.from_prompt("{{ question }}", model="offline/extractive-1").save(tmp_path / "v1.yaml")
    found = load_bundles(tmp_path)
    with pytest.raises(FileRuleError, match=r"no 'v9' in this folder \(there are: v1\)"):
        found["v9"]
    assert found.get("v9") is None


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("  template: |\n    Hi\n\n    {{ question.upper() }}\n", 6),
        ('  template: "{{ question.upper() }}"\n', 3),
        ("  template: ok\n  system: |-\n    {{ a }}\n    {% macro m() %}{% endmacro %}\n", 6),
    ],
)
def test_a_template_error_names_the_line_of_the_file(prompt: str, line: int, tmp_path: Path) -> None:
    rest = "version: 1.0.0\nmodel: {provider: openai, id: gpt-4o-2024-08-06}\n"
    path = written(tmp_path, f"name: qa\nprompt:\n{prompt}{rest}")
    with pytest.raises(FileRuleError, match="of the template") as raised:
        Bundle.load(path)
    assert (raised.value.path, raised.value.line) == (path, line)


# -- as people write them ---------------------------------------------------------------------------

SPELT = """\
name: qa
version: "1"
model: {provider: openai, id: gpt-4o-2024-08-06}
prompt: {template: 'Q: {{ question }}'}
"""
SCHEMA = "{type: object, properties: {city: {type: string}}}"


@pytest.mark.parametrize(
    ("spelt", "short"),
    [
        ("model: {provider: openai, id: gpt-4o-2024-08-06}", "model: openai/gpt-4o-2024-08-06"),
        ("prompt: {template: 'Q: {{ question }}'}", "prompt: 'Q: {{ question }}'"),
        ("prompt: {template: 'Q: {{ question }}'}", "prompt: {template_file: ../ask.txt}"),
    ],
)
def test_a_short_form_is_the_same_bundle(tmp_path: Path, spelt: str, short: str) -> None:
    """To the digest; the text of a file is part of it."""
    written(tmp_path, "Q: {{ question }}\n", "ask.txt")
    texts = {"bundles/a.yaml": SPELT, "bundles/b.yaml": SPELT.replace(spelt, short)}
    assert len({Bundle.load(written(tmp_path, text, name)).digest for name, text in texts.items()}) == 1


def test_tools_are_read_in_openais_formats(tmp_path: Path) -> None:
    """As its documentation shows them."""
    tool = f"name: find, description: Finds, parameters: {SCHEMA}"
    forms = (f"{{{tool}}}", f"{{type: function, function: {{{tool}}}}}", f"{{type: function, {tool}}}")
    assert len({Bundle.load(written(tmp_path, f"{SPELT}tools: [{form}]\n")).digest for form in forms}) == 1


def test_texts_of_a_prompt_lie_in_files_and_are_part_of_the_digest(tmp_path: Path) -> None:
    """A changed text is another bundle, and a saved bundle holds the text itself."""
    path = written(tmp_path, SPELT.replace("{template", "{system_file: system.md, template"))
    digests = []
    for text in ("Be brief.\n", "Be brief.", "Be long."):
        written(tmp_path, text, "system.md")
        digests.append(Bundle.load(path).digest)
    assert digests[0] == digests[1] != digests[2]
    assert Bundle.load(Bundle.load(path).save(tmp_path / "saved.yaml")).prompt.system == "Be long."


@pytest.mark.parametrize("where", ["../../secret.txt", "/etc/hostname", "link.txt", "missing.txt"])
def test_a_prompts_file_stays_inside_the_experiment(tmp_path: Path, where: str) -> None:
    """A folder from a colleague puts none of your files into a prompt."""
    written(tmp_path, "mine", "secret.txt")
    path = written(tmp_path, SPELT.replace("{template", f"{{system_file: {where}, template"), "exp/bundles/v1.yaml")
    (path.parent / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(FileRuleError):
        Bundle.load(path)


def test_a_judges_texts_lie_in_files_too(tmp_path: Path) -> None:
    """From judges/ as from bundles/."""
    judge = Judge.pointwise("relevance", model="openai/gpt-4o-2024-08-06")
    written(tmp_path, judge.bundle.prompt.template, "ask.txt")
    written(tmp_path, judge.bundle.prompt.system, "judges/system.txt")
    text = "rubric: relevance\nmodel: openai/gpt-4o-2024-08-06\n"
    prompt = "prompt: {system_file: system.txt, template_file: ../ask.txt}\n"
    assert Judge.load(written(tmp_path, text + prompt, "judges/j.yaml")).digest == judge.digest
