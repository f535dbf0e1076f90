"""Files that other tools wrote themselves become cases, prompts and results; what cannot be carried over is listed."""

import contextlib
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import llmlab as ll
from llmlab.base.errors import FileRuleError, LlmlabError
from llmlab.bundle.bundle import Bundle
from llmlab.cli.imports import import_file
from llmlab.foreign.datasets import kind_of, promptfoo_bundles

FILES = Path(__file__).parent / "files"


def rows(golden):
    return {case.id: case.to_row() for case in golden}


@pytest.fixture
def beir(tmp_path):
    """Two queries of BEIR's layout, one of them not judged in this split."""
    folder = tmp_path / "nfcorpus"
    (folder / "qrels").mkdir(parents=True)
    first = {"_id": "PLAIN-1", "text": "Do eggs harm?", "metadata": {"url": "x"}}
    (folder / "queries.jsonl").write_text(f'{json.dumps(first)}\n{{"_id": "PLAIN-2", "text": "Why?"}}\n')
    judged = "query-id\tcorpus-id\tscore\nPLAIN-1\tMED-10\t2\nPLAIN-1\tMED-11\t0\n"
    (folder / "qrels" / "test.tsv").write_text(judged)
    return folder


def test_the_tests_of_promptfoo_become_cases_with_what_their_assertions_expect():
    """Defaults are merged in, a list of values is a test each, and `contains-any` is one fact said either way."""
    with pytest.warns(UserWarning, match=r"type 'latency' \(3 times\).*`metadata` of a test \(2 times\)"):
        golden = ll.GoldenSet.from_promptfoo(FILES / "promptfooconfig.yaml")
    first = {"id": "q1", "inputs": {"hint": "think", "country": "France"}, "source": "plain"}
    assert rows(golden)["q1"] == {**first, "expected": ("paris", "Paris|Lutetia")}
    assert [case.inputs["country"] for case in golden] == ["France", "Italy", "Spain"]
    with pytest.warns(UserWarning, match="latency"):
        assert ll.GoldenSet.from_promptfoo(FILES / "promptfoo_results.json").digest == golden.digest


def test_the_examples_of_langsmith_become_cases():
    """One output is what is expected, several are a JSON value, splits are tags."""
    with pytest.warns(UserWarning, match="metadata"):
        golden = ll.GoldenSet.from_langsmith(FILES / "langsmith.json")
    first, second, third = golden
    asked = {"question": "Capital of France?"}
    assert (first.inputs, first.expected, first.tags) == (asked, ("Paris",), ("base", "easy"))
    assert second.expected == {"prime": True, "reason": "no divisor"}
    assert second.inputs["messages"][0]["content"] == "7?"
    assert not third.names_expected


def test_the_active_items_of_langfuse_become_cases():
    """A text is the question, an object the inputs; an archived item is counted and left."""
    with pytest.warns(UserWarning, match=r"archived item \(1 time\)"):
        golden = ll.GoldenSet.from_langfuse(FILES / "langfuse.json")
    assert rows(golden) == {
        "i1": {"id": "i1", "inputs": {"question": "Capital of France?"}, "expected": ("Paris",), "source": "trace-1"},
        "i2": {"id": "i2", "inputs": {"country": "Italy", "year": 2026}, "expected": {"capital": "Rome"}},
    }


def test_the_judged_queries_of_beir_become_cases_with_grades(beir):
    """Queries that the split does not judge are counted."""
    with pytest.warns(UserWarning, match=r"without a judgement in 'test' \(1 time\)"):
        (case,) = ll.GoldenSet.from_beir(beir)
    assert (case.id, case.question, dict(case.relevant)) == ("PLAIN-1", "Do eggs harm?", {"MED-10": 2, "MED-11": 0})
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nPLAIN-1\tMED-10\n")
    with pytest.raises(FileRuleError) as refused:
        ll.GoldenSet.from_beir(beir)
    assert refused.value.line == 2


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_an_inspect_log_becomes_results(suffix):
    """Epochs are repeats, marks are numbers, stop reasons statuses, several targets one fact said either way."""
    results = ll.Results.from_inspect(FILES / f"demo.{suffix}")
    assert results.variants == ("mockllm/model",)
    assert list(results.metrics) == ["includes", "length"]
    said = {(case, repeat): (status, text, right) for case, repeat, status, text, right in results.answers(
        "case_id", "repeat", "status", "text", "includes")}  # fmt: skip
    assert said["capital", 0] == ("ok", "Paris.", 1.0)
    if suffix == "eval":
        assert said["capital", 1] == ("ok", "Lyon", 0.0)
        assert [said["river", 1][0], said["3", 0][0]] == ["truncated", "refused"]
        assert results.golden.by_id["river"].expected == ("Tiber|Tevere",)
        assert results.golden.by_id["river"].inputs["messages"][0]["role"] == "system"
        assert results.total("input_tokens") == 60
    assert any("`metadata` of a sample" in note for note in results.notes)


def test_promptfoo_results_become_results_that_can_be_compared():
    """A variant per prompt and provider, its scores as metrics; a failed assertion is a score and no error."""
    results = ll.Results.from_promptfoo(FILES / "promptfoo_results.json")
    assert results.variants == ("echo, The capital of {{country}} is Paris.", "echo, brief")
    assert results.scores("promptfoo_pass").tolist() == [1, 1, 0, 0, 0, 0]
    assert results.n_answers(status="error") == 0
    assert results.total("cost_usd") is None  # promptfoo writes 0 where it knows no price
    assert "no difference" in str(results.compare(results.variants[0], metrics=["promptfoo_score"])).lower()


@pytest.mark.parametrize(
    ("name", "kind", "written"),
    [
        ("promptfoo_results.json", "promptfoo results", {"golden.jsonl", "results.parquet"}),
        ("demo.eval", "inspect", {"golden.jsonl", "results.parquet"}),
        ("langsmith.json", "langsmith", {"golden.jsonl"}),
        ("langfuse.json", "langfuse", {"golden.jsonl"}),
        ("promptfooconfig.yaml", "promptfoo", {"golden.jsonl"}),  # echo is no model
    ],
)
def test_the_command_knows_whose_file_it_is_and_lists_what_it_left(name, kind, written, tmp_path):
    done = CliRunner().invoke(import_file, [str(FILES / name), "--to", str(tmp_path / "new")], catch_exceptions=False)
    assert kind_of(FILES / name) == kind
    assert {path.name for path in (tmp_path / "new").iterdir()} == written
    assert kind in done.output
    assert "not carried over" in done.output
    assert len(ll.GoldenSet.load(tmp_path / "new" / "golden.jsonl")) > 0


def test_prompts_and_models_of_promptfoo_become_bundles(tmp_path):
    """One file per pair; chat prompts keep their system message, what a bundle cannot hold is listed."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{country}}?"}]
    asked = {"temperature": 0, "tools": []}
    config = {
        "prompts": ["Capital of {{country}}?", json.dumps(chat), "file://other.txt"],
        "providers": [{"id": "openai:chat:gpt-4o-2024-08-06", "config": asked}, "ollama:chat:llama3:8b"],
        "tests": [{"vars": {"country": "Peru"}}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = CliRunner().invoke(import_file, [str(tmp_path / "config.json"), "--to", str(tmp_path / "new")])
    made = {path.stem: Bundle.load(path) for path in (tmp_path / "new" / "bundles").glob("*.yaml")}
    assert {stem: str(bundle.model) for stem, bundle in made.items()} == {
        **{"prompt1_model1": "openai/gpt-4o-2024-08-06", "prompt2_model1": "openai/gpt-4o-2024-08-06"},
        **{"prompt1_model2": "ollama/llama3:8b", "prompt2_model2": "ollama/llama3:8b"},
    }
    assert made["prompt2_model1"].prompt.system == "Be brief."
    assert made["prompt1_model1"].sampling.temperature == 0
    for what in ("a prompt in a file", "`tools` of a provider"):
        assert what in done.output


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_any_other_table_is_read_by_a_mapping_of_columns(suffix, tmp_path):
    import pandas as pd

    table = pd.DataFrame({"Nr": ["a1", "a2"], "Frage": ["Why?", "How?"], "Antwort": ["so", "thus; slowly"]})
    path = tmp_path / f"fragen.{suffix}"
    if suffix == "csv":
        table.to_csv(path, sep=";", index=False)
    elif suffix == "jsonl":
        lines = [{"data": {"Frage": q}, "Nr": n, "Antwort": a.split("; ")} for n, q, a in table.itertuples(index=False)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        table.to_parquet(path)
    column = "data.Frage" if suffix == "jsonl" else "Frage"
    given = ["--input", f"question={column}", "--expected", "Antwort", "--id", "Nr"]
    done = CliRunner().invoke(import_file, [str(path), "--to", str(tmp_path / "new"), *given], catch_exceptions=False)
    assert done.exit_code == 0
    golden = ll.GoldenSet.load(tmp_path / "new" / "golden.jsonl")
    assert rows(golden)["a2"] == {"id": "a2", "inputs": {"question": "How?"}, "expected": ("thus", "slowly")}
    with pytest.raises(ValueError, match="--input"):
        CliRunner().invoke(import_file, [str(path), "--to", str(tmp_path / "other")], catch_exceptions=False)


READERS = [
    ll.GoldenSet.from_promptfoo,
    ll.GoldenSet.from_langsmith,
    ll.GoldenSet.from_langfuse,
    ll.GoldenSet.from_deepeval,
    ll.GoldenSet.from_beir,
    ll.Results.from_inspect,
    ll.Results.from_promptfoo,
    kind_of,
]
HOSTILE = r"""
[]
{}
null
7
"x"
[1]
[[]]
{"tests": 1}
{"tests": [1]}
{"tests": [{"vars": 3}]}
{"tests": [{"assert": 3, "vars": {"a": []}}]}
{"data": {}}
[{"id": [1]}]
[{"inputs": 1, "outputs": 2}]
{"eval": 1, "samples": [{}]}
{"samples": 3, "eval": {}}
{"eval": {}, "samples": [{"output": 3, "scores": [1]}]}
{"eval": {"model": 1}, "samples": [{"epoch": "x", "input": 3}]}
{"results": {"results": [1]}}
{"results": {"results": [{}]}}
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", [*HOSTILE.splitlines(), "\ud800", "[" * 100_000], ids=lambda text: text[:40])
@pytest.mark.parametrize("suffix", ["json", "yaml", "jsonl", "eval"])
def test_whatever_a_file_holds_it_is_read_or_refused_and_nothing_else_happens(text, suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(text.strip().encode("utf-8", "surrogatepass"))
    for read in READERS:
        with contextlib.suppress(LlmlabError):
            read(path)


def test_a_torn_or_foreign_archive_is_no_log(tmp_path):
    torn = (FILES / "demo.eval").read_bytes()
    (tmp_path / "torn.eval").write_bytes(torn[: len(torn) // 2])
    shutil.copy(FILES / "demo.json", tmp_path / "json.eval")
    with zipfile.ZipFile(tmp_path / "other.eval", "w") as packed:
        packed.writestr("hello.txt", "hello")
    for name in ("torn", "json", "other"):
        with pytest.raises(FileRuleError):
            ll.Results.from_inspect(tmp_path / f"{name}.eval")


@pytest.mark.parametrize("tests", ["tests.csv", "file://tests.csv", "[file://tests.csv]"])
def test_tests_of_promptfoo_in_a_file_of_their_own_are_read(tmp_path, tests):
    (tmp_path / "promptfooconfig.yaml").write_text(f"prompts: ['{{{{q}}}}']\ntests: {tests}\n", encoding="utf-8")
    rows = 'q,__expected,__expected2,__description\nCapital?,contains: Paris,,first\nSum?,4,"icontains-any: four,4",\n'
    (tmp_path / "tests.csv").write_text(rows, encoding="utf-8")
    with pytest.warns(UserWarning, match="__description"):
        golden = ll.GoldenSet.from_promptfoo(tmp_path / "promptfooconfig.yaml")
    assert [dict(case.inputs) for case in golden] == [{"q": "Capital?"}, {"q": "Sum?"}]
    assert golden.cases[0].expected == ("Paris",)


def test_tests_in_yaml_by_a_pattern_are_read_and_those_of_code_are_listed(tmp_path):
    tests = "[file://more/*.yaml, 'file://make.py', {vars: {q: '0?'}}]"
    (tmp_path / "promptfooconfig.yaml").write_text(f"tests: {tests}\n", encoding="utf-8")
    (tmp_path / "more").mkdir()
    for n in (1, 2):
        (tmp_path / "more" / f"{n}.yaml").write_text(f"- vars: {{q: '{n}?'}}\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="make.py"):
        golden = ll.GoldenSet.from_promptfoo(tmp_path / "promptfooconfig.yaml")
    assert [case.inputs["q"] for case in golden] == ["1?", "2?", "0?"]


def test_a_configuration_reads_no_tests_from_outside_its_folder(tmp_path):
    for name in ("../tests.csv", "/etc/tests.csv"):
        (tmp_path / "promptfooconfig.yaml").write_text(f"tests: {name}\n", encoding="utf-8")
        with pytest.raises(FileRuleError):
            ll.GoldenSet.from_promptfoo(tmp_path / "promptfooconfig.yaml")


def warned(read, path):
    """What the reader made of it, and the sentences on what it left out."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read(path)
    return found, " ".join(str(one.message) for one in told)


def test_defaults_scenarios_and_assertions_beside_a_json_value_are_counted(tmp_path):
    checks = "[{type: contains, value: Paris}, {type: equals, value: {city: Paris}}, {type: llm-rubric, value: kind}]"
    (tmp_path / "c.yaml").write_text(
        "defaultTest: {options: {transform: x}, threshold: 0.5, metadata: {a: 1}, vars: {lang: en}}\n"
        "scenarios: [{tests: [{vars: {q: b}}]}]\n"
        "extensions: ['file://hook.py:before']\nderivedMetrics: [{name: f1, value: a / b}]\nnunjucksFilters: {}\n"
        f"tests: [{{vars: {{q: a}}, assert: {checks}}}]\n",
        encoding="utf-8",
    )
    (case,), said = warned(ll.GoldenSet.from_promptfoo, tmp_path / "c.yaml")
    assert case.inputs == {"q": "a", "lang": "en"}
    assert case.expected == {"city": "Paris"}
    assert "nunjucksFilters" not in said
    lost = ("`options`", "`threshold`", "`metadata`", "scenario", "'contains'", "'llm-rubric'")
    for what in (*lost, "`extensions`", "`derivedMetrics`"):
        assert what in said
    (tmp_path / "c.yaml").write_text("defaultTest: file://default.yaml\ntests: [{vars: {q: a}}]\n", encoding="utf-8")
    assert "`defaultTest`" in warned(ll.GoldenSet.from_promptfoo, tmp_path / "c.yaml")[1]


def test_targets_and_providers_given_as_mappings_are_models(tmp_path):
    told = {"temperature": 0.3, "config": {"seed": 7}}
    config = {"prompts": ["{{q}}?"], "targets": ["openai:gpt-4o-mini", {"openai:chat:gpt-4o-2024-08-06": told}]}
    (tmp_path / "c.json").write_text(json.dumps(config))
    assert kind_of(tmp_path / "c.json") == "promptfoo"
    read = promptfoo_bundles(tmp_path / "c.json")
    models = {name: (fields["model"], fields.get("seed")) for name, fields in read.fields.items()}
    assert models == {
        "prompt1_model1": ("openai/gpt-4o-mini", None),
        "prompt1_model2": ("openai/gpt-4o-2024-08-06", 7),
    }
    assert ["`temperature` of a provider" in what for what in read.left_out] == [True]


def test_fields_of_an_item_and_pages_of_a_data_set_that_are_left_out_are_counted(tmp_path):
    more = {"metadata": {"a": 1}, "comments": None}
    (tmp_path / "items.json").write_text(json.dumps([{"input": "Q", "expectedOutput": "E", **more}]))
    (case,), said = warned(ll.GoldenSet.from_langfuse, tmp_path / "items.json")
    assert (case.question, case.expected) == ("Q", ("E",))
    assert "`metadata`" in said
    assert "comments" not in said
    page = {"data": [{"id": "i", "input": "Q", "expectedOutput": "E"}], "meta": {"page": 1, "totalPages": 3}}
    (tmp_path / "page.json").write_text(json.dumps(page))
    assert "page of the data set (2 times)" in warned(ll.GoldenSet.from_langfuse, tmp_path / "page.json")[1]
    page["meta"]["totalPages"] = 1
    (tmp_path / "page.json").write_text(json.dumps(page))
    assert not warned(ll.GoldenSet.from_langfuse, tmp_path / "page.json")[1]


def test_the_goldens_of_deepeval_are_known_by_their_fields_and_become_cases(tmp_path):
    """A context is an input; what belongs to an answer is counted, and so is the rest."""
    left = {"actual_output": "A", "retrieval_context": ["d"], "expected_tools": [{"name": "t"}], "name": "n"}
    goldens = [
        {"input": "Q", "expected_output": "E", "context": ["c"], "source_file": "a.md", **left, "comments": None},
        {"input": "R", "actual_output": None, "expected_output": None, "retrieval_context": None, "context": None},
        {"input": None, "turns": [{"role": "user", "content": "Hi"}]},
    ]
    (tmp_path / "goldens.json").write_text(json.dumps(goldens))
    done = CliRunner().invoke(import_file, [str(tmp_path / "goldens.json"), "--to", str(tmp_path / "new")])
    assert "goldens.json is of deepeval" in done.output
    assert all(f"`{name}` of a golden" in done.output for name in left)
    assert "a golden of a conversation" in done.output
    assert "comments" not in done.output
    assert rows(ll.GoldenSet.load(tmp_path / "new" / "golden.jsonl")) == {
        "q1": {"id": "q1", "inputs": {"question": "Q", "context": ("c",)}, "expected": ("E",), "source": "a.md"},
        "q2": {"id": "q2", "inputs": {"question": "R"}},
    }


def test_fields_of_an_example_and_of_a_sample_that_are_left_out_are_counted(tmp_path):
    (tmp_path / "examples.json").write_text(
        json.dumps([{"inputs": {"q": "a"}, "outputs": {"a": "b"}, "runs": [1], "created_at": "2026-01-01"}])
    )
    said = warned(ll.GoldenSet.from_langsmith, tmp_path / "examples.json")[1]
    assert ("`runs`" in said, "created_at" in said) == (True, False)
    log = json.loads((FILES / "demo.json").read_text())
    log["samples"][0] |= {"files": {"a.txt": "x"}, "sandbox": {"type": "docker"}}
    (tmp_path / "log.json").write_text(json.dumps(log))
    notes = " ".join(ll.Results.from_inspect(tmp_path / "log.json").notes)
    assert all(what in notes for what in ("`files` of a sample (1 time)", "`sandbox` of a sample (1 time)"))


@pytest.mark.parametrize("ending", ["JSONL", "ndjson", "NDJSON"])
def test_items_on_lines_are_known_whatever_the_case_of_the_ending(tmp_path, ending):
    path = tmp_path / f"items.{ending}"
    path.write_text('{"input": "Q", "expectedOutput": "E"}\n{"input": "R", "expectedOutput": "F"}\n')
    assert kind_of(path) == "langfuse"
    assert len(ll.GoldenSet.from_langfuse(path)) == 2


def test_a_provider_of_promptfoo_results_may_be_a_text(tmp_path):
    providers = ["openai:gpt-4o-mini", {"id": "openai:gpt-4o", "label": "large"}, {"id": "openai:gpt-4o"}]
    results = [
        {
            "promptIdx": n,
            "testIdx": 0,
            "provider": provider,
            "vars": {"q": "a"},
            "response": {"output": "x"},
            "score": 1,
        }
        for n, provider in enumerate(providers)
    ]
    config = {"derivedMetrics": [{"name": "f1", "value": "a / b"}]}
    (tmp_path / "r.json").write_text(json.dumps({"config": config, "results": {"results": results}}))
    read = ll.Results.from_promptfoo(tmp_path / "r.json")
    assert any("`derivedMetrics`" in note for note in read.notes)
    assert [name.partition(",")[0] for name in read.variants] == ["openai:gpt-4o-mini", "large", "openai:gpt-4o"]
