"""A notebook as a job: executed in this interpreter, its MLflow run always closed, its verdict told."""

import json

import pytest

from llmlab.base.errors import FileRuleError, StoreError
from llmlab.notebook import run_notebook
from llmlab.tracking.store import COMPLETION_TAG, open_store
from tests.notebook.notebooks import code, text, write

CANARY = "canary-4711-do-not-write"
SHOW = """
import os, sys
from llmlab.bundle.pinning import judge_pin
print(repeats, show, sys.executable == interpreter, os.getcwd() == root)
judge_pin("openai", "gpt-4o")
"""
GATE = """
from types import SimpleNamespace
from llmlab.base.errors import GateError
if verdict == "broken":
    1 / 0
raise GateError("not good enough", decision=SimpleNamespace(verdict=verdict))
"""


HIDDEN = """
import os
from IPython.display import HTML, display
os.environ["DEPLOY_TOKEN"] = "-".join(["qv7", "mint", "8813", "harbour"])  # a key that only this kernel knows
print("printed", os.environ["DEPLOY_TOKEN"])
display(HTML(f"<b>{os.environ['DEPLOY_TOKEN']}</b>"))
{"value": os.environ["DEPLOY_TOKEN"]}
"""


@pytest.mark.slow
def test_a_key_that_only_the_kernel_knew_is_in_nothing_that_is_kept(project):
    raising = code("raise ValueError(os.environ['DEPLOY_TOKEN'])")
    done = run_notebook(write(project / "02.ipynb", code("x: int = 1", "parameters"), code(HIDDEN, "report"), raising))
    assert done.exit_code == 2
    assert "DEPLOY_TOKEN removed" in done.executed.read_text(encoding="utf-8")
    for path in project.rglob("*"):
        assert not path.is_file() or b"qv7-mint-8813-harbour" not in path.read_bytes(), path
    assert "qv7-mint" not in repr(done.tables) + done.message


@pytest.mark.slow
def test_a_notebook_that_runs_to_its_end_passes_and_is_kept_without_keys(project, monkeypatch):
    """Types of parameters, interpreter, folder, tables for the terminal, copies, artifacts: one run shows all."""
    import sys

    monkeypatch.setenv("SOME_API_KEY", CANARY)
    path = write(
        project / "01.ipynb",
        text("# Which?"),
        code("repeats: int = 1\nshow: bool = True\ninterpreter: str = ''\nroot: str = ''", "parameters"),
        text("## Read"),
        code(SHOW, "report"),
        code("print('x' * 9_000_000, os.environ['SOME_API_KEY'])"),
        code("1 / 0", "skip-execution"),
    )
    done = run_notebook(path, {"repeats": "7", "show": "false", "interpreter": sys.executable, "root": str(project)})
    assert (done.verdict, done.exit_code, done.outcome) == (None, 0, "ran to its end")
    assert done.tables[0] == "7 False True True"
    assert "floating" in done.tables[1]  # a table and not the one-line repr
    assert done.executed.parent == project / "mlruns" / "notebooks"
    assert done.executed.stat().st_size < 5_000_000
    assert 'src="http' not in done.html.read_text()
    assert [path for path in project.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()] == []
    store = open_store()
    run = store.client.get_run(done.run_id)
    assert (run.info.status, run.data.tags[COMPLETION_TAG]) == ("FINISHED", "whole")
    assert run.data.params["repeats"] == "7"
    kept = {artifact.path for artifact in store.client.list_artifacts(done.run_id, "notebook")}
    assert kept == {f"notebook/{done.executed.name}", f"notebook/{done.html.name}"}


@pytest.mark.slow
@pytest.mark.parametrize(("verdict", "code_"), [("FAIL", 1), ("INCONCLUSIVE", 3), ("broken", 2)])
def test_a_notebook_ends_with_the_verdict_of_its_gate(verdict, code_, project):
    path = write(project / "05.ipynb", code("verdict: str = ''", "parameters"), code(GATE), code("never = 1"))
    done = run_notebook(path, {"verdict": verdict})
    assert done.exit_code == code_
    assert done.verdict == verdict.replace("broken", "BROKEN")
    assert [cell.status for cell in done.cells] == ["completed", "completed", "failed", "skipped"]
    assert open_store().client.get_run(done.run_id).info.status == "FAILED"
    assert done.executed.exists()
    assert done.html.exists()


def test_parameters_are_checked_before_anything_is_started(project):
    path = write(project / "01.ipynb", code("repeats: int = 1", "parameters"))
    for wrong in ({"repeats": "seven"}, {"repeat": "1"}):
        with pytest.raises(ValueError, match="repeats"):
            run_notebook(path, wrong)
    assert open_store().client.get_experiment_by_name("notebooks") is None


@pytest.mark.parametrize("content", ["", "not json", "{}", '{"cells": 3}', json.dumps({"cells": [], "metadata": {}})])
def test_a_file_that_is_no_notebook_is_refused(content, project):
    (project / "01.ipynb").write_text(content)
    with pytest.raises(FileRuleError, match=r"01\.ipynb"):
        run_notebook(project / "01.ipynb")


@pytest.mark.parametrize("leaving", ["import sys; sys.exit()", "raise SystemExit(0)"])
def test_a_notebook_that_leaves_before_its_end_is_not_green(project, leaving):
    """What would have decided never ran."""
    done = run_notebook(write(project / "05.ipynb", code("1"), code(leaving), code("never = 1")))
    assert (done.exit_code, done.verdict) == (2, "BROKEN")
    assert "never ran" in done.message


def test_a_missing_notebook_is_refused_and_those_beside_it_are_named(project):
    write(project / "01.ipynb", code("1"))
    with pytest.raises(FileRuleError, match=r"cannot be read .*01\.ipynb"):
        run_notebook(project / "nowhere.ipynb")


def test_the_notebook_itself_is_never_overwritten(project):
    path = write(project / "01.ipynb", code("1"))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="must be another file"):
        run_notebook(path, output=path)
    assert path.read_bytes() == before
    runs = open_store().client.search_runs([open_store().experiment_id("notebooks")])
    assert [run.info.status for run in runs] == ["FAILED"]


def test_without_a_tracking_store_nothing_is_run(project, monkeypatch):
    """A store that cannot be written to is said before the first call is paid for."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="does not answer"):
        run_notebook(write(project / "01.ipynb", code("open('ran', 'w')")))
    assert not (project / "ran").exists()
