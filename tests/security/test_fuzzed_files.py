"""Every reader of files ends in a value or in an LlmlabError, whatever stands in the file.

Good files of each kind are broken at random, by seed: bytes and lines as a bad disk or a merge would, and single values
as people and their tools would (a number for a text, half an emoji, 900 levels of lists).
"""

from __future__ import annotations

import io
import json
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from llmlab.base.errors import LlmlabError
from llmlab.base.tables import read_table
from llmlab.base.yamlfile import parse_yaml, read_model
from llmlab.bundle.bundle import Bundle, load_bundles
from llmlab.bundle.catalogue import Catalogue
from llmlab.bundle.export import Exported
from llmlab.clients.endpoints import load_endpoints
from llmlab.engine.batch import Batches
from llmlab.engine.freshness import load_manifest
from llmlab.experiment.folder import Experiment, Settings
from llmlab.gate import GatePolicy, Receipt
from llmlab.gate.passport import JudgePassport
from llmlab.golden.cases import GoldenSet
from llmlab.golden.labels import Labels
from llmlab.judge.judges import Judge
from llmlab.notebook.parameters import read_parameters
from llmlab.notebook.run import read_notebook
from llmlab.production.policy import RolloutPolicy
from llmlab.results.elsewhere import read_scores
from llmlab.results.results import Results
from llmlab.retrieval.metrics import evaluate
from llmlab.retrieval.trec import read_qrels, read_run
from llmlab.search.corpus import Corpus

ROOT = Path(__file__).parents[2]
FROZEN, HELP = ROOT / "tests" / "frozen", ROOT / "experiments" / "pandas_help"
ENDPOINTS = """
endpoints:
  openai: {base_url: "https://api.openai.com/v1", key_env: SOME_NAME, attempts: 4, stream: true}
  anthropic: {group: two, in_turn: [{base_url: "http://127.0.0.1:8000"}, {base_url: "http://127.0.0.1:8001"}]}
"""
SETTINGS = (
    "scorers: [json_equal, {length_between: {low_words: 5, high_words: 60}}]\nrepeats: 2\ntemperatures: [0.0, 0.7]\n"
)
CATALOGUE = """
models:
  - {provider: openai, id: gpt-4o-2024-08-06, deployed_to: [desk], scores: {f1: 0.5}, deployed_at: "2026-01-31"}
"""
ROLLOUT = """
name: r1
baseline: v1.yaml
candidate: v2.yaml
planned_units: 6000
guards:
  - {metric: error_rate, margin: 0.01}
  - {metric: cost_usd, rule: no_shown_harm, margin: 10%}
  - {metric: latency_s, quantile: 0.99, over: 2x, margin: 0.01}
"""
SCORES = "id,old,new,kind,weight\n" + "".join(f"q{i},{i % 2},{0.5},k{i % 3},{1 + i % 2}\n" for i in range(12))
QRELS = "".join(f"q{i % 5} 0 d{i} {i % 3}\n" for i in range(20))
RUN = "".join(f"q{i % 5} Q0 d{i} {i} {20 - i}.5 tag\n" for i in range(20))
BEIR = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i % 5}\td{i}\t{i % 3}\n" for i in range(20))
CORPUS = "".join(json.dumps({"id": f"d{i}", "text": f"text {i}", "title": "t"}) + "\n" for i in range(4))
BATCH = {
    "file": "001.jsonl",
    "calls": 2,
    "model": "openai/gpt-4o-2024-08-06",
    "wire": "chat",
    "base_url": "https://api.openai.com/v1",
    "key_env": "SOME_NAME",
    "key_header": "bearer",
}
DEEP = "900 levels"
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 2**63, 10**400, 0.5, -1e308, "", " ", "x", "\0", "\u2028", "a" * 5_000, "1.10", "=1+1"),
    *("{{ a.b() }}", "{{", "../x", [], [[]], {}, {"": 1}, {"a": {"b": [None]}}, ["x", 1], "\ud800", "2024-13-45", "é"),
    *("NaN", "q1", DEEP, DEEP, "sk-" + "a1B2" * 12),
)
BYTES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\t",
    b'"',
    b"'",
    b"{",
    b"]",
    b",",
    b";",
    b": ",
)
BYTES += (
    b"[" * 900,
    b'{"a":' * 900,
    b"- " * 200,
    b"9" * 5_000,
    b"NaN",
    b"1e999",
    b"-",
    b"null",
    b"\\ud800",
    b"\x1f\x8b",
)
BYTES += (b"\xe2\x80\xa8", b"&a ", b"*a", b"!!python/name:os.system ", b"? ", b"| ", b"#", b"\x00" * 50, b" " * 99)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def changed(value: Any, rng: random.Random) -> Any:
    """One value in it replaced, taken out, or put under another name."""
    at = rng.choice(list(places(value)))
    new = rng.choice(VALUES)
    if not at:
        return new
    inside = value
    for key in at[:-1]:
        inside = inside[key]
    if rng.random() < 0.2:
        inside.pop(at[-1])
    elif isinstance(inside, dict) and rng.random() < 0.2:
        inside[rng.choice(["x", "", "id", "\ud800", "__class__"])] = inside.pop(at[-1])
    else:
        inside[at[-1]] = new
    return value


def mangled(content: bytes, rng: random.Random) -> bytes:
    """A few bytes or lines taken out, put in, repeated or changed."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.randint(0, 40))
        part = rng.choice([b"", rng.choice(BYTES), content[start:end] * 2, bytes([rng.randrange(256)])])
        content = content[:start] + part + content[end:]
        if rng.random() < 0.2:
            lines = content.split(b"\n")
            rng.shuffle(lines)
            content = b"\n".join(lines)
    return content


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True).replace(f'"{DEEP}"', "[" * 900 + "]" * 900)


def of_json(content: bytes, rng: random.Random) -> bytes:
    return json_text(changed(json.loads(content), rng)).encode()


def of_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.strip().split(b"\n")[:6]
    place = rng.randrange(len(lines))
    lines[place] = of_json(lines[place], rng)
    return b"\n".join(lines)


def of_yaml(content: bytes, rng: random.Random) -> bytes:
    """As JSON, which is YAML too, or as YAML writes it."""
    value = changed(parse_yaml(content.decode(), path="x")[0], rng)
    try:
        return (json_text(value) if rng.random() < 0.5 else yaml.safe_dump(value, allow_unicode=True)).encode()
    except (UnicodeEncodeError, RecursionError, yaml.YAMLError):
        return json_text(value).encode()


def of_table(content: bytes, rng: random.Random) -> bytes:
    """Single cells of a table in text."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    cells = lines[place].split(b",")
    cells[rng.randrange(len(cells))] = str(rng.choice(VALUES)).encode("utf-8", "surrogatepass")
    lines[place] = b",".join(cells)
    return b"\n".join(lines)


def of_parquet(content: bytes, rng: random.Random) -> bytes:
    """A column of another type, or other words in what the file says of itself."""
    table = pq.read_table(io.BytesIO(content))
    about = table.schema.metadata or {}
    if b"llmlab" in about and rng.random() < 0.6:
        about = {**about, b"llmlab": of_json(about[b"llmlab"], rng)}
    elif rng.random() < 0.2:
        table = table.drop_columns([rng.choice(table.column_names)])
    else:
        n, place = len(table), rng.randrange(table.num_columns)
        columns = [
            pa.nulls(n),
            pa.array([[1, None]] * n),
            pa.array([{"a": [1]}] * n),
            pa.array([b"\xff"] * n),
            pa.array([np.nan] * n),
            pa.array([-1] * n),
            pa.array([10**18] * n),
            pa.array([rng.choice(["", "x", "\0", "q1"])] * n),
            pa.array(pd.to_datetime(["2024-01-01"] * n)),
            pa.array([True] * n),
        ]
        table = table.set_column(place, table.column_names[place], rng.choice(columns))
    written = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), written)
    return written.getvalue()


def parquet_of_scores() -> bytes:
    written = io.BytesIO()
    pd.read_csv(io.StringIO(SCORES)).to_parquet(written)
    return written.getvalue()


def bundle_folder(path: Path) -> Any:
    return [bundle.digest for bundle in load_bundles(path.parent).values()]


def experiment(path: Path) -> Any:
    (path.parent / "golden.jsonl").write_bytes((HELP / "golden.jsonl").read_bytes())
    return Experiment.load(path.parent).settings.scorers


def scores(path: Path) -> Any:
    return repr(read_scores(path, id="id", baseline="old", candidates=["new"], category="kind", weight="weight"))


def golden_table(path: Path) -> Any:
    columns = {"id": "id", "inputs": ["old", "new"], "tags": "kind", "weight": "weight"}
    return (GoldenSet.from_csv if path.suffix == ".csv" else GoldenSet.from_parquet)(path, **columns).digest


def digest_of(load: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """What is read, and the digest that everybody asks it for next."""
    return lambda path: load(path).digest


Reader = tuple[str, bytes, Callable[[Path], Any], Callable[[bytes, random.Random], bytes]]
READERS: dict[str, Reader] = {
    "bundle": ("v1.yaml", (FROZEN / "given/bundles/tools.yaml").read_bytes(), digest_of(Bundle.load), of_yaml),
    "examples": ("v1.yaml", (FROZEN / "given/bundles/examples.yaml").read_bytes(), digest_of(Bundle.load), of_yaml),
    "bundles": ("v1.yaml", (FROZEN / "given/bundles/retrieval.yaml").read_bytes(), bundle_folder, of_yaml),
    "gate": ("gate.yaml", (FROZEN / "given/gate-full.yaml").read_bytes(), digest_of(GatePolicy.load), of_yaml),
    "endpoints": ("endpoints.yaml", ENDPOINTS.encode(), load_endpoints, of_yaml),
    "catalogue": ("models.yaml", CATALOGUE.encode(), lambda path: read_model(Catalogue, path), of_yaml),
    "judge": ("judge.yaml", (FROZEN / "judge.yaml").read_bytes(), digest_of(Judge.load), of_yaml),
    "settings": ("experiment.yaml", SETTINGS.encode(), lambda path: read_model(Settings, path), of_yaml),
    "rollout": ("rollout.yaml", ROLLOUT.encode(), digest_of(RolloutPolicy.load), of_yaml),
    "experiment": ("experiment.yaml", SETTINGS.encode(), experiment, of_yaml),
    "golden": ("golden.jsonl", (FROZEN / "golden.jsonl").read_bytes(), digest_of(GoldenSet.load), of_lines),
    "labels": ("labels.jsonl", (FROZEN / "labels.jsonl").read_bytes(), Labels.load, of_lines),
    "corpus": ("corpus.jsonl", CORPUS.encode(), digest_of(Corpus.from_jsonl), of_lines),
    "receipt": ("receipt.json", (FROZEN / "receipt-judged.json").read_bytes(), digest_of(Receipt.load), of_json),
    "passport": ("passport.json", (FROZEN / "passport.json").read_bytes(), digest_of(JudgePassport.load), of_json),
    "export": ("exported.json", (FROZEN / "exported.json").read_bytes(), Exported.load, of_json),
    "manifest": ("manifest.json", (FROZEN / "manifest.json").read_bytes(), load_manifest, of_json),
    "batches": (
        "batches.json",
        json_text({"batches": [BATCH]}).encode(),
        lambda path: Batches.load(path.parent),
        of_json,
    ),
    "notebook": (
        "a.ipynb",
        (ROOT / "notebooks/01_compare_variants.ipynb").read_bytes(),
        lambda path: read_parameters(read_notebook(path), path=path),
        of_json,
    ),
    "results": ("answers.parquet", (FROZEN / "answers.parquet").read_bytes(), digest_of(Results.load), of_parquet),
    "judged": ("judged.parquet", (FROZEN / "judged.parquet").read_bytes(), digest_of(Results.load), of_parquet),
    "scores": ("scores.csv", SCORES.encode(), scores, of_table),
    "scores, parquet": ("scores.parquet", parquet_of_scores(), scores, of_parquet),
    "cases": ("cases.csv", SCORES.encode(), golden_table, of_table),
    "cases, parquet": ("cases.parquet", parquet_of_scores(), golden_table, of_parquet),
    "table": ("table.csv", SCORES.encode(), lambda path: read_table(path).with_numbers(), of_table),
    "judgements": ("qrels.txt", QRELS.encode(), read_qrels, of_table),
    "judgements, BEIR": ("qrels.tsv", BEIR.encode(), read_qrels, of_table),
    "run": ("run.txt", RUN.encode(), read_run, of_table),
    "evaluation": ("qrels.txt", QRELS.encode(), lambda path: repr(evaluate(path, FROZEN / "run-a.txt")), of_table),
}


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """What a library logs of a broken file may hold half an emoji, which a report to another process cannot."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("n", [60, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", READERS)
def test_a_broken_file_is_a_value_or_a_refusal(kind: str, n: int, tmp_path: Path) -> None:
    name, good, load, one_value = READERS[kind]
    rng, read = random.Random(kind), 0
    path = tmp_path / name
    for _ in range(n):
        content = mangled(good, rng) if rng.random() < 0.5 else one_value(good, rng)
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(path)
            read += 1
        except LlmlabError:
            continue
    assert read < n


@pytest.mark.parametrize("kind", READERS)
def test_the_good_file_is_read(kind: str, tmp_path: Path) -> None:
    """Otherwise refusing its variants would say nothing."""
    name, good, load, _ = READERS[kind]
    (tmp_path / name).write_bytes(good)
    load(tmp_path / name)
