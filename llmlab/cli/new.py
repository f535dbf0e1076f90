"""`llmlab new NAME --csv tickets.csv`: an experiment of one's own, for what is really in the file."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from llmlab.base.cells import plain
from llmlab.base.errors import FileRuleError, RequestRefusedError
from llmlab.base.numbers import counted
from llmlab.base.private import holds_secret
from llmlab.base.project import project_root
from llmlab.base.tables import Table, read_table
from llmlab.base.yamlfile import to_yaml
from llmlab.bundle.bundle import Bundle, ModelRef, Sampling
from llmlab.bundle.prompt import Prompt
from llmlab.clients.base import Request
from llmlab.clients.endpoints import LOCAL, PROVIDERS
from llmlab.clients.wire import wire_sampling
from llmlab.experiment.addresses import rules_of
from llmlab.gate.proposal import propose_for_cases
from llmlab.golden.cases import GoldenSet
from llmlab.golden.columns import is_missing, native

Kind = Literal["nothing", "facts", "numbers", "label", "json"]

# names of columns as people write them, in English, German, French, Spanish, Italian, Dutch and Portuguese
_QUESTION = (
    *("question", "questions", "query", "prompt", "input", "user_input", "instruction", "frage", "pregunta", "domanda"),
    *("vraag", "pergunta", "anfrage"),
)
_BESIDE = ("context", "kontext", "contexte", "contexto", "contesto", "passage", "document", "dokument", "history")
_TEXTS = (
    *("subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "assunto", "title", "titel"),
    *("text", "texte", "texto", "testo", "tekst"),
    *("message", "nachricht", "mensaje", "messaggio", "bericht", "mensagem"),
    *("body", "inhalt", "content", "description", "beschreibung", "ticket", "anliegen", "email", "e_mail", "mail"),
    *("review", "comment", "kommentar", "sentence", "satz"),
)
_EXPECTED = (
    *("expected", "expected_answer", "expected_output", "answer", "answers", "ground_truth", "reference", "gold"),
    *("reference_answer", "target", "correct_answer", "output", "completion", "solution", "label", "labels", "class"),
    *("intent", "sentiment", "erwartet", "erwartete_antwort", "antwort", "soll", "lösung", "ergebnis", "klasse"),
    *("réponse", "reponse", "attendu", "classe", "respuesta", "esperado", "clase", "risposta", "atteso", "antwoord"),
    *("verwacht", "resposta"),
)
_OPTIONAL = {
    "id": ("id", "case_id", "qid", "nr", "ticket_id", "ticket_nr", "ticketnummer"),
    "tags": (
        *("tags", "tag", "category", "categories", "topic", "theme", "type", "kategorie", "thema", "rubrik", "bereich"),
        *("typ", "art", "catégorie", "categorie", "thème", "categoría", "categoria", "tema", "language", "sprache"),
    ),
    "cluster": ("cluster", "group", "gruppe", "conversation_id", "dialog_id", "thread_id", "session_id", "document_id"),
}
_HOSTS = {  # part of the host's name -> provider, as the pinning rules know it
    **{urlsplit(address).netloc: name for name, (address, _) in PROVIDERS.items() if "127.0.0.1" not in address},
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "aiplatform.googleapis": "vertex",
    "bedrock": "bedrock",
    "deepinfra": "deepinfra",
    "cerebras": "cerebras",
    "x.ai": "xai",
    ":11434": "ollama",
}
# names of models that think and that we have no rule of
_THINKS = re.compile(r"(?i)\b(?:o\d|r1|qwq|qwen-?3|gpt-oss|magistral)|think|reason")
_LONG_ANSWER_CHARS, LONGEST_LABEL_CHARS = 80, 40
_MOST_LABELS, _CASES_PER_LABEL = 20, 3
_FEW_CLUSTERS = 15  # below, Student's t alone makes an interval a tenth wider, and most gains do not show
_ANSWER_TOKENS, _TOKENS_WITH_THOUGHT = 400, 4_000
_OWN_KEY = "LLM_API_KEY"  # for an address that belongs to no provider

_KINDS: dict[Kind, tuple[str, tuple[str, ...]]] = {  # what is expected -> in words, and its scorers
    "nothing": ("nothing is named", ()),
    "facts": ("facts that an answer mentions (mentions_expected)", ("mentions_expected",)),
    "numbers": ("numbers that an answer states (numbers_equal)", ("numbers_equal",)),
    "label": ("classes (label)", ("label",)),
    "json": ("JSON (json_fields, json_equal)", ("json_fields", "json_equal")),
}
_EXPERIMENT = """\
scorers: [{scorers}]
temperatures: as the bundles say   # or a list to try, such as [0.0, 0.7]
repeats: 1                         # answers per case
"""
_SCORERS_NOTE = {
    "json": "# {fenced: json_fields} also reads what stands in a ``` fence, {json_fields: [a, b]} these fields alone\n",
    "numbers": "# {numbers_equal: 0.01} lets numbers differ by a hundredth\n",
}
_README = """\
# {name}

{cases} from `{file}`, asked to `{model}`. Expected: {expected}.

    llmlab run experiments/{name}

- `bundles/v1.yaml` and `bundles/v2.yaml` are two prompts to start from: change them, or add a third file.
- `golden.jsonl` holds the cases, `experiment.yaml` names the scorers, and `endpoints.yaml` the address, if it is there.
- `gate.yaml` says what a candidate must prove before it replaces what is in production, and `v1` while nothing is.
- Scorers of your own go into `scorers.py`: `@ll.scorer` above a function `(case, generation)` that gives a yes or no or
  a number from 0 to 1; another range is declared, `@ll.scorer(low=0, high=100)`.
- A model that speaks neither OpenAI's nor Anthropic's format is reached by a client of your own in `clients.py`:
  `acme = AcmeClient()`, with a `fingerprint` and `async complete(request)`, answers for `model: acme/ID`.
- Keys are read from the environment and never written here.
- {pin}
"""

_VOUCH = (
    " Until it is, no gate releases it. If nobody but you can change what the endpoint serves, vouch for it in the "
    "bundles: `model: {provider: ..., id: ..., pin_override: {who: YOU, why: our own server}}`."
)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Which column is what; `inputs` by the placeholder that each fills."""

    inputs: Mapping[str, str]
    expected: str | None
    id: str | None
    tags: str | None
    cluster: str | None

    @property
    def named(self) -> dict[str, str | None]:
        """What each field of a case is read from, None where there is no such column."""
        return {"expected": self.expected, "id": self.id, "tags": self.tags, "cluster": self.cluster}

    @property
    def used(self) -> dict[str, str]:
        """As {"question": "Frage", "expected": "Antwort"}."""
        return {**self.inputs, **{field: column for field, column in self.named.items() if column}}


@click.command("new")
@click.argument("name")
@click.option("--csv", "path", type=click.Path(path_type=Path), required=True, help="Cases: CSV, JSONL or Parquet.")
@click.option("--model", "model_id", required=True, help="The model to ask, by the id that the endpoint knows.")
@click.option("--base-url", help="Its endpoint, such as http://localhost:11434/v1; without, --model is provider/id.")
@click.option("--provider", help="Whose model ids these are; guessed from the address by default.")
@click.option("--key-env", help=f"NAME of the variable that holds the key; {_OWN_KEY} for an address of your own.")
@click.option("--question", help="Column of the question; guessed by default.")
@click.option("--input", "inputs", multiple=True, help="Column that goes into the prompt; repeatable.")
@click.option("--expected", help="Column of what is expected (of facts: `a; b`, or `a|b` for one said two ways).")
@click.option("--expected-is", type=click.Choice(["facts", "numbers", "label", "json"]), help="Guessed by default.")
@click.option("--id", help="Column of the case's id.")
@click.option("--tags", help="Column of categories to report by; a topic is one.")
@click.option("--cluster", help="Column of what makes cases depend on each other: a conversation, a document.")
def new(
    name: str,
    *,
    path: Path,
    model_id: str,
    base_url: str | None,
    provider: str | None,
    key_env: str | None,
    inputs: tuple[str, ...],
    expected_is: Kind | None,
    **named: str | None,
) -> None:
    """Write experiments/NAME: two bundles, the cases, scorers, a gate that they can settle, and what to run next."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,59}", name):
        raise ValueError(f"NAME == {name!r}, must be ASCII letters, digits, - and _ (a folder and a model get it)")
    folder = project_root() / "experiments" / name
    if folder.exists():
        raise ValueError(f"experiments/{name} exists already; choose another name, or delete it first")
    model = _model(model_id, base_url, provider)
    table = read_table(path)
    columns = _understood(table, inputs=inputs, named=named)
    kind = _kind(table, columns.expected) if expected_is is None or columns.expected is None else expected_is
    golden = _golden_set(table, columns, kind, name=name)
    sampling, about_model = _sampling(model)
    expected, of_expected = _KINDS[kind]
    scorers = [*of_expected, "not_refused"]
    gate = propose_for_cases(golden, metric=scorers[0], guards=scorers[-1:] if of_expected else [])
    pin = f"The model is {'pinned' if model.pinned else 'not pinned'}: {model.pinned.reason}."
    pin += "" if model.pinned else _VOUCH
    cases = counted(len(golden), "case")
    files = {
        "README.md": _README.format(name=name, cases=cases, file=path.name, model=model, expected=expected, pin=pin),
        "gate.yaml": gate.to_yaml(),
        "experiment.yaml": _SCORERS_NOTE.get(kind, "") + _EXPERIMENT.format(scorers=", ".join(scorers)),
    }
    if base_url:
        files["endpoints.yaml"], about_key = _endpoints(model, base_url, key_env)
    else:
        about_key = f"The key is read from {key}." if (key := PROVIDERS.get(model.provider, ("", None))[1]) else ""
    bundles = _bundles(name, model, sampling, golden=golden, columns=columns, kind=kind)
    _write(folder, files, bundles=bundles, golden=golden)
    notes = _notes(table, columns, kind, golden)
    remarks = [f"gate.yaml: {metric}: {remark}" for metric, remark in gate.remarks]
    head = f"experiments/{name} has {cases} and two prompts."
    lines = [head, *notes, *remarks, *about_model, pin, *([about_key] if about_key else []), "", "Next:", _next(name)]
    click.echo("\n".join(plain(line, None) for line in lines))


def _model(model_id: str, base_url: str | None, provider: str | None) -> ModelRef:
    if not model_id.strip():
        raise ValueError("--model is empty, must be the id that the endpoint knows, such as llama3.1:8b")
    if base_url:
        owner = provider or _provider_of(base_url)
        prefix = f"{owner}/" if owner != "openrouter" else ""  # whose ids have a slash
        return ModelRef(provider=owner, id=model_id.removeprefix(prefix))
    model = ModelRef(provider=provider, id=model_id) if provider else ModelRef.parse(model_id)
    is_here = model.provider == "local" and LOCAL.match(model.id)
    if not is_here and model.provider not in PROVIDERS:
        raise ValueError(f"no address is known for the provider {model.provider!r}; name it with --base-url")
    return model


def _provider_of(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--base-url == {base_url!r}, must be an address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or (secret := holds_secret(base_url)):
        where = f" (it holds the value of {secret})" if not (parts.username or parts.password or parts.query) else ""
        raise ValueError(f"--base-url must not carry a key{where}: keys stay in the environment")
    return next((name for part, name in _HOSTS.items() if part in parts.netloc.lower()), "vllm")


def _understood(table: Table, *, inputs: Sequence[str], named: Mapping[str, str | None]) -> _Columns:
    """The columns that were named, and guesses for the others; FileRuleError where nothing looks like an input."""
    header = [str(column) for column in table.cells.columns]
    if len(set(header)) < len(header):
        raise FileRuleError("names a column twice", path=table.path, line=1)
    named_columns = [*inputs, *filter(None, named.values())]
    table.with_columns(named_columns)
    free = [column for column in header if column not in named_columns]
    input_columns = list(inputs)
    if named["question"]:
        input_columns.insert(0, named["question"])
    elif not inputs:
        question = _guess(_QUESTION, free)
        input_columns = [question, *_all_like(_BESIDE, free)] if question else _all_like(_TEXTS, free)
    if not input_columns:
        raise FileRuleError(
            f"no column looks like the question (there are: {', '.join(header)}); name it with --question, or what "
            "goes into the prompt with --input, which may be repeated",
            path=table.path,
        )
    free = [column for column in free if column not in input_columns]
    expected = named["expected"] or _guess(_EXPECTED, free)
    rest = {key: named[key] or _guess(names, [c for c in free if c != expected]) for key, names in _OPTIONAL.items()}
    by_name = {_input_name(column, input_columns): column for column in input_columns}
    if len(by_name) < len(input_columns):
        raise FileRuleError(f"inputs would be called alike: {', '.join(input_columns)}; rename one", path=table.path)
    return _Columns(inputs=by_name, expected=expected, **rest)


def _guess(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The first of the names that a column bears, however it is spelt."""
    bare = {_bare(column): column for column in reversed(columns)}
    return next((bare[name] for name in names if name in bare), None)


def _all_like(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    return [column for column in columns if _bare(column) in names]


def _bare(column: str) -> str:
    return re.sub(r"[\s_-]+", "_", column.strip().lower())


def _input_name(column: str, inputs: Sequence[str]) -> str:
    """The placeholder of an input: `question` where there is one, else the column's name with what may stand in one."""
    if len(inputs) == 1 or _bare(column) in _QUESTION:
        return "question"
    name = re.sub(r"\W+", "_", _bare(column)).strip("_") or "input"
    return f"input_{name}" if name[0].isdigit() else name


def _kind(table: Table, column: str | None) -> Kind:
    if column is None:
        return "nothing"
    values = [native(value) for value in table.cells[column].tolist() if not is_missing(value)]
    texts = [text for value in values if (text := str(value).strip())]
    lists = [value for value in values if isinstance(value, list)]
    if lists and all(isinstance(part, str) for value in lists for part in value):
        return "facts"
    if any(isinstance(value, dict) for value in values) or sum(text[0] in "{[" for text in texts) > len(texts) / 2:
        return "json"
    labels = {text.casefold() for text in texts}
    short = all(len(text) <= LONGEST_LABEL_CHARS and not re.search("[;|\n]", text) for text in texts)
    if short and 2 <= len(labels) <= _MOST_LABELS and len(texts) >= _CASES_PER_LABEL * len(labels):
        return "label"
    numeric = texts and all(re.fullmatch(r"-?\d+(?:[.,]\d+)*", text) for text in texts)
    return "numbers" if numeric else "facts"


def _golden_set(table: Table, columns: _Columns, kind: Kind, *, name: str) -> GoldenSet:
    options: dict[str, Any] = {**columns.named, "expected_is": {"json": "json", "label": "text"}.get(kind, "facts")}
    cases = GoldenSet.from_table(table.path, inputs=columns.inputs, **options)
    return GoldenSet(tuple(replace(case, source=table.path.name) for case in cases), name=name)


def _notes(table: Table, columns: _Columns, kind: Kind, golden: GoldenSet) -> list[str]:
    notes = [f"Columns: {', '.join(f'{field} = {column}' for field, column in columns.used.items())}."]
    parts = {c for c in table.cells.columns if c.rpartition(".")[0] in table.cells.columns}  # keys within another
    if unused := [str(column) for column in table.cells.columns if column not in {*columns.used.values(), *parts}]:
        notes.append(f"Not used: {', '.join(unused)}.")
    if columns.expected is None:
        notes.append("No column of expected answers: only refusals, length and cost can be compared (see --expected).")
    else:
        classes = f": {', '.join(_labels(golden))}" if kind == "label" else ""
        notes.append(f"Expected are {_KINDS[kind][0]}{classes}. If that is wrong: --expected-is.")
    if kind == "facts" and any(len(fact) > _LONG_ANSWER_CHARS for case in golden for fact in case.facts):
        notes.append(
            "Some expected answers are whole sentences, which answers seldom repeat word by word: cut them to the "
            "facts that matter, separated by semicolons, or score with similar_to_expected."
        )
    if columns.tags and columns.cluster is None:
        notes.append(
            f"{columns.tags} is a tag to report by. Where cases of one depend on each other: --cluster {columns.tags}."
        )
    clusters = len({case.cluster or f"\0{case.id}" for case in golden})
    if clusters < _FEW_CLUSTERS:
        unit = "independent cases" if columns.cluster is None else f"clusters of {columns.cluster}"
        notes.append(
            f"Only {clusters} {unit}: below about {_FEW_CLUSTERS} few differences can be told from chance; add cases."
        )
    return notes


def _labels(golden: GoldenSet) -> list[str]:
    """The classes in the order of the file, as they are first written."""
    labels: dict[str, str] = {}
    for fact in (fact for case in golden for fact in case.facts):
        labels.setdefault(fact.casefold(), fact)
    return list(labels.values())


def _sampling(model: ModelRef) -> tuple[Sampling, list[str]]:
    """Temperature 0 and a limit, as the model takes them, and what is said of it."""
    usual = Sampling(temperature=0.0, max_tokens=_ANSWER_TOKENS)
    try:
        wire_sampling(Request(model=model, messages=(), sampling=usual), rules=rules_of(model.provider))
        cold = True
    except RequestRefusedError:
        cold = False
    if cold and not _THINKS.search(model.id):
        return usual, []
    sampling = Sampling(temperature=0.0 if cold else None, max_tokens=_TOKENS_WITH_THOUGHT)
    why = "it thinks first, and the limit counts the thought" if cold else "it takes no temperature, as it thinks first"
    return sampling, [f"{model}: {why}; max_tokens is {_TOKENS_WITH_THOUGHT:,}."]


def _bundles(
    name: str, model: ModelRef, sampling: Sampling, *, golden: GoldenSet, columns: _Columns, kind: Kind
) -> dict[str, Bundle]:
    blocks = [f"{column.strip()}:\n{{{{ {placeholder} }}}}" for placeholder, column in columns.inputs.items()]
    template = "\n\n".join(blocks) if len(blocks) > 1 else "{{ question }}"
    prompts = [Prompt(system=system, template=template) for system in _systems(golden, kind)]
    return {
        f"v{number}": Bundle(name=name, version=f"{number}.0.0", model=model, prompt=prompt, sampling=sampling)
        for number, prompt in enumerate(prompts, start=1)
    }


def _systems(golden: GoldenSet, kind: Kind) -> tuple[str, str]:
    """Two system prompts that ask for what is expected: a plain one, and one that says more."""
    if kind == "label":
        labels = _literal(", ".join(_labels(golden)))
        return (
            f"Answer with one of these classes: {labels}.",
            f"Decide which one class fits best, by what the text is mainly about. Classes: {labels}.\n"
            "Answer with the name of that class and nothing else: no sentence, no quotes, no explanation.",
        )
    if kind == "json":
        fields = {
            key: value for case in golden if isinstance(case.expected, Mapping) for key, value in case.expected.items()
        }
        form = f"JSON object with the fields {', '.join(fields)}" if fields else "JSON value"
        typed = ", ".join(f"{key} ({_type(value)})" for key, value in fields.items())
        more = f"one object with exactly these fields: {typed}" if fields else "one value"
        return (
            _literal(f"Answer with one {form} and nothing else."),
            _literal(
                f"Read the whole text first, then answer in JSON: {more}.\n"
                "Use null for what the text does not say. No fence, no comment, no text around the JSON."
            ),
        )
    if kind == "numbers":
        return "Answer with the number.", "Answer with the number alone, in digits: no unit, no sentence."
    return (
        "Answer the question.",
        "Answer the question in one or two sentences. Name the facts that matter. Say so when you do not know.",
    )


def _literal(text: str) -> str:
    """A text that no template reads as its own."""
    return re.sub(r"[{}]", "", text)


def _type(value: Any) -> str:
    names = {bool: "true or false", int: "number", float: "number", str: "text", tuple: "list"}
    return names.get(type(value), "object" if isinstance(value, Mapping) else "null or a value")


def _endpoints(model: ModelRef, base_url: str, key_env: str | None) -> tuple[str, str]:
    """The text of `endpoints.yaml`, and where the key is read from. No well-known key goes to an unknown address."""
    host = urlsplit(base_url).hostname or ""
    public, usual = PROVIDERS.get(model.provider, ("", None))
    key = key_env or _OWN_KEY
    if not key_env and (host in ("localhost", "::1") or host.startswith("127.")):
        key = ""
    elif not key_env and urlsplit(public).netloc == urlsplit(base_url).netloc:
        key = usual or ""
    elif not key_env and model.provider == "azure":
        key = "AZURE_OPENAI_API_KEY"
    entry = {"endpoints": {model.provider: {"base_url": base_url.rstrip("/"), "key_env": key or None}}}
    key_note = f"The key is read from {key}" + ("" if key_env else " (--key-env names another variable)")
    return to_yaml(entry), f"{key_note}." if key else "No key is sent to this machine (--key-env names one)."


def _write(folder: Path, files: dict[str, str], *, bundles: dict[str, Bundle], golden: GoldenSet) -> None:
    """All of it or nothing: written beside, then renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        partial_folder = Path(aside) / "new"
        (partial_folder / "bundles").mkdir(parents=True)
        for stem, bundle in bundles.items():
            bundle.save(partial_folder / "bundles" / f"{stem}.yaml")
        golden.save(partial_folder / "golden.jsonl")
        for file, text in files.items():
            (partial_folder / file).write_text(text, encoding="utf-8")
        partial_folder.rename(folder)


def _next(name: str) -> str:
    """The next command, called as this one was where that is not the one on the PATH."""
    started = sys.argv[0]
    elsewhere = Path(started).name == "llmlab" and shutil.which("llmlab") != started
    return f"  {shlex.quote(started) if elsewhere else 'llmlab'} run experiments/{name}"
