"""Other tools' data sets as rows of cases: promptfoo's tests, LangSmith's examples, Langfuse's items, DeepEval's
goldens, BEIR's queries.

What a row cannot carry is counted and listed, never dropped in silence. `golden.GoldenSet.from_...` makes cases of it;
`kind_of` tells whose a file is, by what is in it, for `llmlab import`.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

from llmlab.base.cells import plain
from llmlab.base.documents import decoded, json_lines, read_bytes
from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.project import inside_experiment
from llmlab.base.tables import JSON_LINES, read_csv
from llmlab.base.yamlfile import parse_yaml

Arguments = ParamSpec("Arguments")
Read = TypeVar("Read")
Kind: TypeAlias = Literal[
    "beir", "deepeval", "inspect", "langfuse", "langsmith", "promptfoo", "promptfoo results", "table"
]
_WHOLE_FACTS = {"equals": "text", "contains": "fact", "icontains": "fact"}
_ENDPOINTS = {"chat", "completion", "messages", "responses"}
_SAMPLING = {"temperature", "top_p", "max_tokens", "seed"}
_OF_A_CASE = {"vars", "assert", "description"}
_OF_A_CONFIG = {  # of promptfoo: what is read or counted elsewhere, and where it shows and writes its results
    *("prompts", "providers", "targets", "tests", "scenarios", "defaultTest", "description"),
    *("$schema", "commandLineOptions", "outputPath", "sharing", "writeLatestResults"),
}
_OF_A_GOLDEN = {"input", "expectedoutput", "context", "sourcefile"}  # of DeepEval
_OF_AN_EXAMPLE = {  # of LangSmith: what is read or counted by itself, and where and when the example was written
    *("id", "inputs", "outputs", "metadata", "split", "attachments", "dataset_id", "dataset_name"),
    *("source_run_id", "created_at", "modified_at"),
}
_OF_AN_ITEM = {  # of Langfuse: what a case takes, and where and when the item was written
    *("id", "input", "expectedoutput", "sourcetraceid", "status"),
    *("datasetid", "datasetname", "sourceobservationid", "projectid", "createdat", "updatedat"),
}
_MANY_FACTS = {"contains-all", "icontains-all", "contains-any", "icontains-any"}
_BAR = "an expected text with |, which separates two wordings here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Rows as `Case.from_row` takes them, and a sentence per thing that could not be carried over."""

    rows: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Fields of bundles by name (template, system, model, sampling), and what could not be carried over."""

    fields: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...] = ()


def document(path: str | Path) -> Any:
    """The content of a JSON, JSON lines or YAML file; FileRuleError for anything else."""
    ending = Path(path).suffix.lower()
    if ending in JSON_LINES:
        return [row for _, row in json_lines(path)]
    text = decoded(read_bytes(path), path)
    if ending in (".yaml", ".yml"):
        return parse_yaml(text, path=path)[0]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileRuleError(f"is not JSON ({error})", path=path, line=getattr(error, "lineno", None)) from None


def shaped_by(tool: str) -> Callable[[Callable[Arguments, Read]], Callable[Arguments, Read]]:
    """A reader whose file has not the shape in which this tool writes it says so: a file is anybody's."""

    def checked(reader: Callable[Arguments, Read]) -> Callable[Arguments, Read]:
        @functools.wraps(reader)
        def reading(*args: Arguments.args, **options: Arguments.kwargs) -> Read:
            try:
                return reader(*args, **options)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                why = f"is not shaped as {tool} writes it ({type(error).__name__}: {plain(str(error), 80)})"
                raise FileRuleError(why, path=str(args[0])) from None

        return reading

    return checked


def kind_of(path: str | Path) -> Kind:
    """What wrote the file (or BEIR's folder); "table" for rows that need a mapping of columns; FileRuleError else."""
    path = Path(path)
    if path.is_dir():
        if (path / "queries.jsonl").exists() and (path / "qrels").is_dir():
            return "beir"
        raise FileRuleError("is a folder, but not one of BEIR (queries.jsonl and qrels/)", path=path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".parquet", ".pq"):
        return "table"
    if suffix == ".eval":
        return "inspect"
    content = document(path)
    if isinstance(content, Mapping):
        results = content.get("results")
        if isinstance(results, Mapping) and isinstance(results.get("results"), list):
            return "promptfoo results"
        if "eval" in content and "samples" in content:
            return "inspect"
        if ("prompts" in content and ("providers" in content or "targets" in content)) or "tests" in content:
            return "promptfoo"
        content = next((content[name] for name in ("examples", "data", "items") if name in content), None)
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping):
        keys = {_bare(key) for key in first}
        if {"input", "expectedoutput"} <= keys:
            return "deepeval" if "retrievalcontext" in keys else "langfuse"
        return "langsmith" if {"inputs", "outputs"} <= keys else "table"
    raise FileRuleError(
        "is of none of the known tools (promptfoo, LangSmith, Langfuse, DeepEval, Inspect, BEIR) and no table of rows",
        path=path,
    )


@shaped_by("promptfoo")
def promptfoo_cases(path: str | Path) -> Cases:
    """The tests of a promptfoo configuration, or those that a results file was made with."""
    config, left_out = _config(path), Counter[str]()
    default, rows = _default(config.get("defaultTest"), left_out), list[dict[str, Any]]()
    left_out["a scenario with its tests"] += len(_listed(config.get("scenarios")))
    left_out.update(f"`{key}` of the configuration" for key in config if config[key] and key not in _OF_A_CONFIG)
    for test in _tests(config.get("tests"), path, left_out):
        whole = _with_defaults(test, default)
        for inputs in _expanded(whole["vars"]):
            rows.append(promptfoo_case(f"q{len(rows) + 1}", {**whole, "vars": inputs}, left_out))
    return Cases(rows=tuple(rows), left_out=listed(left_out))


def _config(path: str | Path) -> Mapping[str, Any]:
    config = document(path)
    return config.get("config", config) if isinstance(config, Mapping) else {}


def _tests(spec: Any, path: str | Path, left_out: Counter[str]) -> list[Mapping[str, Any]]:
    """The tests of a configuration, with those that it names by a file (`tests.csv`, `file://tests/*.yaml`) put in."""
    tests: list[Mapping[str, Any]] = []
    for test in [spec] if isinstance(spec, (str, Mapping)) else spec or ():
        if isinstance(test, Mapping) and "path" not in test:
            tests.append(test)
            continue
        name = str(test["path"] if isinstance(test, Mapping) else test).removeprefix("file://")
        if not name.lower().endswith((".yaml", ".yml", ".json", ".csv", *JSON_LINES)):
            left_out[f"tests that code or another place makes ({plain(name, 60)})"] += 1
            continue
        folder = Path(path).parent
        inside_experiment(name, folder)
        for file in sorted(folder.glob(name)) or [folder / name]:
            tests += _csv_tests(file, left_out) if file.suffix.lower() == ".csv" else _listed(document(file))
    if not tests:
        raise FileRuleError("has no list of tests", path=path)
    return tests


def _csv_tests(path: Path, left_out: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """A row per test: a column per variable, and `__expected`, `__expected1`, ... as promptfoo writes them."""
    for _, row in read_csv(path).cells.iterrows():
        cells = {str(name): str(value) for name, value in row.items()}
        asserts = [value for name, value in cells.items() if re.fullmatch(r"__expected\d*", name) and value.strip()]
        for name in cells:
            if name.startswith("__") and not re.fullmatch(r"__expected\d*", name) and cells[name].strip():
                left_out[f"{name} of a CSV file"] += 1
        variables = {name: value for name, value in cells.items() if not name.startswith("__")}
        yield {"vars": variables, "assert": [_written(assertion) for assertion in asserts]}


def _written(text: str) -> dict[str, Any]:
    """An assertion as a cell has it: `TYPE: VALUE`, or the text itself.

    >>> _written("contains: Paris"), _written("Paris")
    ({'type': 'contains', 'value': 'Paris'}, {'type': 'equals', 'value': 'Paris'})
    """
    kind, colon, value = text.partition(":")
    if colon and re.fullmatch(r"(not-)?[a-z]+(-[a-z]+)*(\(.*\))?", kind.strip()):
        many = kind.strip() in _MANY_FACTS
        return {"type": kind.strip(), "value": [fact.strip() for fact in value.split(",")] if many else value.strip()}
    return {"type": "equals", "value": text}


@shaped_by("promptfoo")
def promptfoo_bundles(path: str | Path) -> Bundles:
    """The prompts of a promptfoo configuration with each of its models: fields of a bundle per pair, by name."""
    config = _config(path)
    left, prompts, bundles = Counter[str](), dict[str, Mapping[str, str]](), dict[str, Mapping[str, Any]]()
    for number, entry in enumerate(_listed(config.get("prompts")), start=1):
        if texts := _prompt(entry, left):
            prompts[f"prompt{number}"] = texts
    providers = _listed(config.get("providers") or config.get("targets"))
    models = {f"model{n}": _model(entry, left) for n, entry in enumerate(providers, start=1)}
    models = {name: model for name, model in models.items() if model}
    for (prompt, texts), (model, fields) in itertools.product(prompts.items(), models.items()):
        bundles[prompt if len(models) == 1 else f"{prompt}_{model}"] = {**texts, **fields}
    return Bundles(fields=bundles, left_out=listed(left))


def promptfoo_case(case_id: str, test: Mapping[str, Any], left_out: Counter[str]) -> dict[str, Any]:
    """One test of promptfoo as the row of a case; what it cannot carry is counted in `left_out`."""
    inputs, expected = test.get("vars") or {"prompt": ""}, _asserted(test.get("assert") or (), left_out)
    left_out.update(f"`{key}` of a test" for key in set(test) - _OF_A_CASE if test[key])
    left_out["a variable that names a file (`file://`)"] += any(str(v).startswith("file://") for v in inputs.values())
    row = {"id": case_id, "inputs": inputs, "source": str(test.get("description") or "")}
    return row if expected is None else {**row, "expected": expected}


@shaped_by("LangSmith")
def langsmith_cases(path: str | Path) -> Cases:
    """The examples of a LangSmith data set, as its exports and its client write them."""
    left_out, rows = Counter[str](), list[Mapping[str, Any]]()
    for example in _items(document(path), ("examples", "data"), path):
        outputs, metadata = example.get("outputs") or {}, dict(example.get("metadata") or {})
        splits = metadata.pop("dataset_split", None) or example.get("split") or ()
        row = {"id": str(example.get("id") or f"q{len(rows) + 1}"), "inputs": _inputs(example.get("inputs"))}
        row["tags"] = [splits] if isinstance(splits, str) else list(splits)
        if outputs:
            single = isinstance(outputs, Mapping) and len(outputs) == 1
            row["expected"] = next(iter(outputs.values())) if single else outputs
        left_out.update(f"`{key}` of an example" for key in example if example[key] and key not in _OF_AN_EXAMPLE)
        left_out["`metadata` of an example"] += bool(metadata)
        left_out["attachments of an example"] += bool(example.get("attachments"))
        left_out[_BAR] += "|" in str(row.get("expected", ""))
        rows.append(row)
    return Cases(rows=tuple(rows), left_out=listed(left_out))


@shaped_by("Langfuse")
def langfuse_cases(path: str | Path) -> Cases:
    """The items of a Langfuse data set, as its API and its client write them; archived ones stay behind."""
    content, rows = document(path), list[Mapping[str, Any]]()
    left_out = Counter({"another page of the data set": _other_pages(content)})
    for item in _items(content, ("data", "items"), path):
        left_out.update(f"`{key}` of an item" for key in item if item[key] and _bare(key) not in _OF_AN_ITEM)
        item = {_bare(key): value for key, value in item.items()}
        if str(item.get("status", "")).upper() == "ARCHIVED":
            left_out["an archived item"] += 1
            continue
        row: dict[str, Any] = {"id": str(item.get("id") or f"q{len(rows) + 1}"), "inputs": _inputs(item.get("input"))}
        if item.get("expectedoutput") is not None:
            row["expected"] = item["expectedoutput"]
        row["source"] = str(item.get("sourcetraceid") or "")
        left_out[_BAR] += "|" in str(row.get("expected", ""))
        rows.append(row)
    return Cases(rows=tuple(rows), left_out=listed(left_out))


@shaped_by("DeepEval")
def deepeval_cases(path: str | Path) -> Cases:
    """The goldens of a DeepEval data set, as its `save_as` writes them; `context` is an input that a prompt may show.

    What a system said or fetched for a golden belongs to its answer, and stays behind.
    """
    left_out, rows = Counter[str](), list[Mapping[str, Any]]()
    for golden in _items(document(path), (), path):
        left_out.update(f"`{key}` of a golden" for key in golden if golden[key] and _bare(key) not in _OF_A_GOLDEN)
        golden = {_bare(key): value for key, value in golden.items()}
        if golden.get("input") is None:
            left_out["a golden of a conversation, without an input"] += 1
            continue
        context = {"context": golden["context"]} if golden.get("context") else {}
        row: dict[str, Any] = {"id": f"q{len(rows) + 1}", "inputs": {**_inputs(golden.get("input")), **context}}
        if golden.get("expectedoutput") is not None:
            row["expected"] = golden["expectedoutput"]
        row["source"] = str(golden.get("sourcefile") or "")
        left_out[_BAR] += "|" in str(row.get("expected", ""))
        rows.append(row)
    return Cases(rows=tuple(rows), left_out=listed(left_out))


@shaped_by("BEIR")
def beir_cases(folder: str | Path, *, split: str = "test") -> Cases:
    """The judged queries of a BEIR data set: a folder with `queries.jsonl` and `qrels/SPLIT.tsv`."""
    folder, left_out = Path(folder), Counter[str]()
    grades: dict[str, dict[str, float]] = {}
    qrels = folder / "qrels" / f"{split}.tsv"
    for number, line in enumerate(decoded(read_bytes(qrels), qrels).splitlines(), start=1):
        cells = line.split("\t")
        if (number == 1 and cells[-1].strip() == "score") or not line.strip():
            continue
        try:
            query, doc_id, grade = cells[0], cells[1], float(cells[2])
        except (IndexError, ValueError):
            raise FileRuleError("must be query-id, corpus-id and score", path=qrels, line=number) from None
        if grade < 0:
            left_out["a judgement below 0"] += 1
        else:
            grades.setdefault(query, {})[doc_id] = grade
    rows = []
    for _, query_row in json_lines(folder / "queries.jsonl"):
        query = str(query_row.get("_id"))
        left_out["`metadata` of a query"] += bool(query_row.get("metadata")) and query in grades
        if query not in grades:
            left_out[f"a query without a judgement in {split!r}"] += 1
            continue
        rows.append({"id": query, "inputs": {"question": query_row.get("text")}, "relevant": grades.pop(query)})
    left_out["a judged query that queries.jsonl lacks"] += len(grades)
    return Cases(rows=tuple(rows), left_out=listed(left_out))


def listed(left_out: Mapping[str, int]) -> tuple[str, ...]:
    """What was left out, the most frequent first: one sentence each."""
    ordered = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(f"not carried over: {reason} ({counted(n, 'time')})" for reason, n in ordered if n)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _prompt(prompt: Any, left_out: Counter[str]) -> dict[str, str]:
    """A prompt's text, or of a chat its system and user messages."""
    raw = prompt.get("raw") if isinstance(prompt, Mapping) else prompt
    if not isinstance(raw, str) or raw.startswith("file://"):
        left_out["a prompt in a file or made by code"] += 1
        return {}
    if not raw.lstrip().startswith("["):
        return {"template": raw, "system": ""}
    try:
        messages = [(message["role"], message["content"]) for message in json.loads(raw)]
    except (ValueError, TypeError, KeyError):
        return {"template": raw, "system": ""}
    if [role for role, _ in messages] not in (["user"], ["system", "user"]):
        left_out["a chat prompt with more than a system and a user message"] += 1
        return {}
    return {"template": messages[-1][1], "system": messages[0][1] if len(messages) == 2 else ""}


def _model(spec: Any, left_out: Counter[str]) -> dict[str, Any]:
    """`openai:chat:gpt-4o` as provider and model, with the sampling that a bundle has."""
    options = spec if isinstance(spec, Mapping) else {"id": spec}
    if "id" not in options and len(options) == 1:  # `- openai:gpt-4o: {config: ...}`
        ((provider_id, more),) = options.items()
        options = {**(more if isinstance(more, Mapping) else {}), "id": provider_id}
    provider_id, config = options.get("id"), options.get("config")
    provider, _, rest = str(provider_id).partition(":")
    first, _, model = rest.partition(":")
    model = model if first in _ENDPOINTS and model else rest
    if not model or provider in ("file", "http", "https", "exec", "python"):
        left_out[f"the provider {provider_id!r}, which names no model"] += 1
        return {}
    config = config if isinstance(config, Mapping) else {}
    left_out.update(f"`{key}` of a provider" for key in options if key not in ("id", "config"))
    left_out.update(f"`{key}` of a provider" for key in config if key not in _SAMPLING)
    return {"model": f"{provider}/{model}", **{key: value for key, value in config.items() if key in _SAMPLING}}


def _items(content: Any, names: Sequence[str], path: str | Path) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, Mapping):
        content = next((content[name] for name in names if isinstance(content.get(name), list)), [content])
    for number, item in enumerate(content, start=1):
        if not isinstance(item, Mapping):
            raise FileRuleError(f"item {number} is no object", path=path)
        yield item


def _bare(key: Any) -> str:
    return str(key).replace("_", "").lower()


def _other_pages(content: Any) -> int:
    """How many pages of Langfuse's API are not in the file, which holds one."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    pages = meta.get("totalPages") if isinstance(meta, Mapping) else None
    return max(0, pages - 1) if isinstance(pages, int) else 0


def _inputs(value: Any) -> Mapping[str, Any]:
    """A mapping as it stands; a text is the question."""
    if isinstance(value, Mapping):
        return value
    return {"question" if isinstance(value, str) else "input": value}


def _default(spec: Any, left_out: Counter[str]) -> Mapping[str, Any]:
    """What holds for every test; what is not of a case is counted once, and so is a default in a file."""
    default = spec if isinstance(spec, Mapping) else {}
    left_out["`defaultTest` in a file"] += bool(spec) and not default
    left_out.update(f"`{key}` of `defaultTest`" for key in default if key not in _OF_A_CASE and default[key])
    return default


def _with_defaults(test: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {**(default.get("vars") or {}), **(test.get("vars") or {})}
    return {**test, "vars": inputs, "assert": [*(default.get("assert") or ()), *(test.get("assert") or ())]}


def _expanded(variables: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One mapping per combination of the values of lists, as promptfoo runs them."""
    values = [value if isinstance(value, list) else [value] for value in variables.values()]
    return (dict(zip(variables, chosen, strict=True)) for chosen in itertools.product(*values))


def _asserted(checks: Sequence[Any], left_out: Counter[str]) -> Any:
    """What the assertions on a test expect as facts or one JSON value; the other assertions are counted."""
    facts: list[str] = []
    typed = [(c.get("type"), c.get("value")) if isinstance(c, Mapping) else (str(c), None) for c in checks]
    wholes = [place for place, (kind, value) in enumerate(typed) if kind == "equals" and isinstance(value, Mapping)]
    if wholes:
        left_out.update(f"an assertion of type {kind!r}" for place, (kind, _) in enumerate(typed) if place != wholes[0])
        return typed[wholes[0]][1]
    for kind, value in typed:
        many = [str(fact) for fact in value] if isinstance(value, list) else str(value).split(",")
        if kind in _WHOLE_FACTS and isinstance(value, (str, int, float)) and "|" not in str(value):
            facts.append(str(value))
        elif kind in _MANY_FACTS and value and not any("|" in fact for fact in many):
            many = [fact.strip() for fact in many]
            facts += many if kind.endswith("all") else ["|".join(many)]
        else:
            left_out[f"an assertion of type {kind!r}"] += 1
    return facts or None
