"""Names, templates, YAML and pickles that attack: everything that is read or written stays inside and runs nothing."""

from __future__ import annotations

import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest

from llmlab import registry, tracking
from llmlab.base.errors import LlmlabError
from llmlab.base.yamlfile import read_model
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.catalogue import Catalogue
from llmlab.bundle.export import Exported
from llmlab.bundle.template import fill
from llmlab.clients.endpoints import load_endpoints
from llmlab.gate import GatePolicy, Receipt
from llmlab.gate.passport import JudgePassport
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.labels import Labels
from llmlab.judge.judges import Judge
from llmlab.results.results import Results
from llmlab.retrieval.trec import read_qrels, read_run
from llmlab.search.corpus import Corpus
from tests.bundle.test_prompt import ESCAPES, GROWING
from tests.made_results import made
from tests.registry.made import bundle

PACKAGE = Path(__file__).parents[2] / "llmlab"
PATHS = ("../evil", "../../../../tmp/evil", "/tmp/evil", "..\\evil", "a/../../evil", "%2e%2e%2fevil", "evil\0.txt")
PATHS += ("~/evil", "C:\\evil", "file:///tmp/evil", "....//evil", "-rf", ".", "..")
TEMPLATES = (*ESCAPES, *GROWING[:5], "{{ range(10**9)|list }}", "{{ namespace.__init__.__globals__ }}")
_PAIRS = list(zip("abcdefgh", "bcdefghi", strict=True))
YAMLS = (
    "x: !!python/object/apply:os.system ['touch evil']",
    "x: !!python/name:os.system",
    "!!python/module:os",
    "a: &a [1]\nb: *a",
    "a: &a {x: 1}\nb: {<<: *a}",
    "a: &a ['lol']\n" + "\n".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]" for p, c in _PAIRS),
    "x: !include /etc/passwd",
    "[" * 5000,
    "a: " + "{a: " * 2000,
    "%YAML 1.1\n%TAG ! tag:evil.invalid,2026:\n---\nx: !y z",
    "a: 1\na: 2",
    "x: .nan",
    "? [1, 2]\n: x",
    "x: " + "9" * 5000,
    "x: " + "y" * 2_000_000,
)
YAML_READERS = {
    "bundle": Bundle.load,
    "endpoints": load_endpoints,
    "gate": GatePolicy.load,
    "models": lambda path: read_model(Catalogue, path),
    "judge": Judge.load,
}
JSON_READERS: dict[str, Any] = {
    "receipt": lambda path: Receipt.from_json(path.read_text(), path=path),
    "passport": lambda path: JudgePassport.from_json(path.read_text(), path=path),
    "export": Exported.load,
    "golden": GoldenSet.load,
    "labels": Labels.load,
    "corpus": Corpus.from_jsonl,
    "results": Results.from_parquet,
    "qrels": read_qrels,
    "run": read_run,
}
BROKEN = (
    b"[" * 200_000,
    b'{"id": ' * 20_000,
    b"\xff\xfe\x00",
    b"\0" * 100,
    b"NaN",
    b'{"__proto__": {"x": 1}, "__class__": "os.system"}',
    b'{"id": 1e999}',
    b"PAR1garbagePAR1",
    b"",
)


class _Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("text", TEMPLATES)
def test_a_hostile_template_is_refused_or_gives_text_in_no_time(text: str) -> None:
    """Row 83: neither attributes nor globals are reached, nor is the memory filled."""
    started = time.process_time()
    try:
        said = fill(text, {"question": "q", "x": "y"})
    except ValueError:
        said = ""
    assert time.process_time() - started < 5
    assert not re.search(r"<class|<function|root:|uid=|__globals__'", said)


def outside(project: Path) -> list[Path]:
    """What lies beside the project."""
    return sorted(file for file in project.parent.rglob("*") if not file.is_relative_to(project))


@pytest.mark.parametrize("path", PATHS)
def test_no_name_leads_out_of_its_folder(path: str, project: Path) -> None:
    """Row 84: bundles, models, variants, experiments, figures, corpora, spool and exports."""
    before = outside(project)
    for make in (
        lambda: bundle(name=path),
        lambda: registry.register(bundle(name=path)),
        lambda: registry.load(f"{path}@production"),
        lambda: registry.load(f"qa@{path}"),
        lambda: registry.rollback(path, reason="x"),
        lambda: Corpus.load(bundle().with_(retrieval={"corpus": {"jsonl": path}}).retrieval.corpus, base=project),
        lambda: Corpus.load(bundle().with_(retrieval={"corpus": {"folder": path}}).retrieval.corpus, base=project),
        lambda: tracking.load(path, experiment=path),
    ):
        with pytest.raises((ValueError, LlmlabError)):
            make()
    assert outside(project) == before


def test_hostile_variants_cases_experiments_and_figures_are_logged_inside(project: Path) -> None:
    """Names that a run may have are anybody's: each is kept as a text, none is a path."""
    from matplotlib.figure import Figure

    before = outside(project)
    results = made({f"v{path}": [1.0, 0.0] for path in PATHS[:6]})
    logged = tracking.log(results, figures=dict.fromkeys(PATHS[:6], Figure()), experiment="../../evil")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.warns(RuntimeWarning, match="kept in"):
            tracking.log(results, figures=dict.fromkeys(PATHS[:6], Figure()), experiment="../../evil")
    assert outside(project) == before
    assert set(tracking.load(logged.sweep_id, experiment="../../evil").variants) == set(results.variants)
    assert len(tracking.sync()) == 1


@pytest.mark.parametrize("reader", YAML_READERS)
@pytest.mark.parametrize("text", YAMLS, ids=range(len(YAMLS)))
def test_hostile_yaml_is_refused_quickly_and_runs_nothing(
    reader: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 85: tags, aliases, bombs, depth, size, whoever reads the file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "v1.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises((LlmlabError, ValueError)):
        YAML_READERS[reader](path)
    assert time.process_time() - started < 10
    assert [file.name for file in tmp_path.iterdir()] == ["v1.yaml"]


@pytest.mark.parametrize("reader", JSON_READERS)
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_broken_or_hostile_documents_are_refused_by_name(reader: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{'parquet' if reader == 'results' else 'jsonl'}"
    path.write_bytes(content)
    if content == b"" and reader in ("qrels", "run"):
        return
    with pytest.raises((LlmlabError, ValueError)):
        JSON_READERS[reader](path)


@pytest.mark.parametrize("reader", [*YAML_READERS, *JSON_READERS])
def test_a_pickle_is_never_loaded(reader: str, tmp_path: Path) -> None:
    """Row 86, by trial: no reader of llmlab runs what a pickle asks for."""
    made_by_it = tmp_path / "evil"
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(_Evil(made_by_it)))
    with pytest.raises((LlmlabError, ValueError)):
        {**YAML_READERS, **JSON_READERS}[reader](path)
    assert not made_by_it.exists()


def test_nothing_in_the_package_can_load_a_pickle_or_run_somebody_elses_code() -> None:
    """Row 86 and 67, by reading: no pickle, no remote scripts of data sets, no eval, no shell."""
    forbidden = re.compile(
        r"\bpickle\b.*\bloads?\b|\bimport (?:pickle|dill|cloudpickle|marshal|shelve)\b|\bjoblib\b|read_pickle|"
        r"allow_pickle\s*=\s*True|trust_remote_code\s*=\s*True|\beval\(|(?<![\w.])exec\(|yaml\.(?:load|unsafe_load|full_load)\(|"
        r"shell\s*=\s*True|os\.system|os\.popen|pyfunc|torch\.load|load_dataset\(|extractall|unpack_archive"
    )
    for path in PACKAGE.rglob("*.py"):
        found = forbidden.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.name}: {found and found[0]}"


def test_a_dataset_with_a_script_is_not_run(tmp_path: Path) -> None:
    """Row 67: `datasets` itself refuses scripts; llmlab takes a data set that is there and loads none by name."""
    import datasets

    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(Exception):  # noqa: B017  # whatever it raises, nothing may run
        datasets.load_dataset(str(tmp_path / "evil.py"))
    assert not (tmp_path / "ran").exists()
    golden = GoldenSet((Case(id="q1", inputs={"question": "?"}),))
    assert GoldenSet.from_hf(golden.to_hf()).digest == golden.digest
