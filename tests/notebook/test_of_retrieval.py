"""Notebook 04 runs from end to end on the help desk, and again for nothing."""

import shutil
from pathlib import Path

import pytest

from llmlab.clients.call_store import CallStore
from llmlab.local.setup import package_file
from llmlab.local.vectors import TABLE
from llmlab.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
RETRIEVAL = ROOT / "notebooks" / "04_rag_retrieval.ipynb"
INDEX = ROOT / "notebooks" / "04b_index_freshness.ipynb"


def test_it_ends_with_a_verdict_and_a_second_run_pays_for_nothing(project):
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    settings = {"first": "24", "deepest": "4", "fused": "", "reader": ""}
    first = run_notebook(RETRIEVAL, settings)
    with CallStore(project / "mlruns" / "calls.sqlite") as store:
        calls = len(store)
    second = run_notebook(RETRIEVAL, settings)
    with CallStore(project / "mlruns" / "calls.sqlite") as store:
        assert len(store) == calls == 24 * 2
    assert first.exit_code == second.exit_code == 0
    assert first.verdict == second.verdict in ("PASS", "FAIL", "INCONCLUSIVE")
    assert Path(first.executed).stat().st_size < 5_000_000


@pytest.mark.local
@pytest.mark.skipif(package_file(*TABLE) is None, reason="`llmlab local setup` has not been run")
def test_vectors_and_a_small_model_of_this_machine_are_shown_or_left_out_with_a_sentence(project):
    shutil.copytree(ROOT / "experiments", project / "experiments")
    settings = {"first": "24", "deepest": "4", "reader_cases": "4"}
    shown = run_notebook(RETRIEVAL, settings)
    assert shown.exit_code == 0, shown.message
    told = "\n".join(shown.tables)
    assert "words and topics" in told
    assert "smollm2-135m-instruct" in told
    shutil.rmtree(project / "experiments" / "pandas_help" / "more")
    without = run_notebook(RETRIEVAL, settings)
    assert without.exit_code == 0, without.message
    assert "more/hybrid.yaml is not in pandas_help" in "\n".join(without.tables)


def test_the_index_notebook_ends_with_the_gates_word_on_the_index(project):
    """The help desk keeps the manifest of another pandas: stale. Without it the index of today is held to itself."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    stale = run_notebook(INDEX, {"require": "pass"})
    assert (stale.exit_code, stale.verdict) == (2, "INVALID"), stale.message
    (project / "experiments" / "pandas_help" / "manifest-other-pandas.json").unlink()
    fresh = run_notebook(INDEX, {"require": "pass"})
    assert (fresh.exit_code, fresh.verdict) == (0, "PASS"), fresh.message
