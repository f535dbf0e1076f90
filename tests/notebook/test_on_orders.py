"""Notebooks on real tokens: the small model of this machine answers, nobody scripted what."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llmlab.local.server import hold
from llmlab.local.setup import LocalModel
from llmlab.notebook import run_notebook
from llmlab.results.results import Results
from tests.clients.test_local import busy
from tests.local.conftest import model as model  # the fixture
from tests.notebook.notebooks import ROOT

NOTEBOOKS = ROOT / "notebooks"
ORDERS = {"experiment": "experiments/orders", "first": "6"}
pytestmark = [pytest.mark.local, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def orders(project: Path, model: LocalModel) -> Path:
    """A project that holds the second experiment."""
    shutil.copytree(ROOT / "experiments" / "orders", project / "experiments" / "orders")
    return project


def stored(project: Path) -> int:
    """How many answers are on disk."""
    store = project / "mlruns" / "calls.sqlite"
    if not store.is_file():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as calls:
        if not calls.execute("SELECT count(*) FROM sqlite_master WHERE name = 'calls'").fetchone()[0]:
            return 0  # the file is there before its table
        return int(calls.execute("SELECT count(*) FROM calls").fetchone()[0])


def unanswered(project: Path) -> list[tuple[str, ...]]:
    """Status and error of every row without an answer in the results that were logged."""
    logged = [Results.load(path) for path in sorted((project / "mlruns").rglob("*.parquet"))]
    assert len(logged) >= 2
    rows = [row for results in logged for row in results.answers("variant", "case_id", "status", "error")]
    return [row for row in rows if row[2] in ("error", "timeout")]


def job(project: Path, first: int) -> subprocess.Popen[str]:
    """`llmlab run` of notebook 01 in a process of its own."""
    command = [sys.executable, "-m", "llmlab.cli", "run", str(NOTEBOOKS / "01_compare_variants.ipynb")]
    asked = ["-p", "experiment", "experiments/orders", "-p", "first", str(first)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*command, *asked], cwd=project, env=environment, text=True, **pipes)  # type: ignore[call-overload]


def holds(condition: Callable[[], bool], within_s: float) -> bool:
    ends_s = time.monotonic() + within_s
    while not (true := condition()) and time.monotonic() < ends_s:
        time.sleep(0.1)
    return true


def test_02_and_05_read_what_a_real_model_said(orders: Path) -> None:
    compared = run_notebook(NOTEBOOKS / "02_ab_significance.ipynb", {**ORDERS, "repeats": "2", "local": ""})
    assert (compared.exit_code, compared.message) == (0, "")
    answers = stored(orders)
    assert answers == 6 * 2 * (2 + 1)  # two bundles, two repeats at .8, one at 0
    gated = run_notebook(NOTEBOOKS / "05_gate_and_promote.ipynb", {**ORDERS, "first": "20", "require": "none"})
    assert gated.exit_code == 0, gated.message
    assert gated.verdict in ("PASS", "FAIL", "INCONCLUSIVE")
    assert unanswered(orders) == []
    assert stored(orders) == answers + 2 * (20 - 6)  # the release asks at temperature 0, as 02 did


@pytest.mark.nightly
def test_ctrl_c_ends_a_whole_job_in_mid_answer_and_the_next_one_goes_on(orders: Path, model: LocalModel) -> None:
    process = job(orders, first=40)
    try:
        assert holds(lambda: stored(orders) > 3, within_s=120)
        lease = hold(model)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode != 0
        assert holds(lambda: not busy(lease), within_s=1.0)
        lease.release()
    finally:
        process.kill()
        process.communicate()
    kept = stored(orders)
    time.sleep(3.0)
    assert stored(orders) == kept  # no kernel lives on
    done = run_notebook(NOTEBOOKS / "01_compare_variants.ipynb", {**ORDERS, "first": "2"})
    assert done.exit_code == 0, done.message


@pytest.mark.nightly
def test_two_kernels_at_once_share_one_server_and_lose_nothing(orders: Path, model: LocalModel) -> None:
    jobs = [job(orders, first=4), job(orders, first=4)]
    try:
        assert holds(lambda: stored(orders) > 0, within_s=120)
        lease = hold(model)
        told = [process.communicate(timeout=400)[0] for process in jobs]
        assert [process.returncode for process in jobs] == [0, 0], told
        assert not lease.lost
        lease.release()
    finally:
        for process in jobs:
            process.kill()
            process.communicate()
    assert stored(orders) == 4 * 3 * (1 + 2)


@pytest.mark.nightly
@pytest.mark.usefixtures("quick_desk", "model")
def test_03_refuses_a_real_model_that_grades_everything_alike() -> None:
    done = run_notebook(NOTEBOOKS / "03_judge_calibration.ipynb", {"second_cases": "4"})
    assert done.exit_code == 0, done.message
    second = "\n".join(done.tables)
    assert "AUC 0.50" in second
    assert "kappa is undefined" in second
    assert "the labels alone count" in second
