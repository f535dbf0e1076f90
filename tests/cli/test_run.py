"""`llmlab run`: tables on the terminal, reports for CI, exit codes, and no open run after a signal."""

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from functools import partial

import pytest

from llmlab.tracking.store import open_store
from tests.cli.calling import llmlab
from tests.notebook.notebooks import code, text, write
from tests.registry.made import free_port

call = partial(llmlab, "run")


def test_parameters_can_be_listed_without_running(project):
    path = write(project / "01.ipynb", code("repeats: int = 3  # answers per case", "parameters"))
    shown = call(path, "--list").output
    assert "repeats  int   3        answers per case" in shown
    assert not (project / "mlruns" / "notebooks").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "repeats", "seven"], "must be a whole number"),
        (["-p", "repeats", "nan"], "must be a whole number"),
        (["-p", "repeat", "1"], "did you mean 'repeats'?"),
        (["-p", "repeats", "1", "-p", "repeats", "2"], "given twice"),
        (["--junit", "nowhere/x.xml"], "does not exist"),
        (["--junit", "x", "--markdown", "x"], "two reports"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(arguments, said, project):
    path = write(project / "01.ipynb", code("repeats: int = 3", "parameters"), code("open('ran', 'w')"))
    done = call(path, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (project / "ran").exists()


def test_what_ends_a_job_before_its_verdict_stands_in_its_reports(project, monkeypatch):
    """Else the comment of a pull request keeps the PASS of an older push."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    path = write(project / "05.ipynb", text("## Decide"), code("pass"))
    done = call(path, "--junit", "j.xml", "--markdown", "s.md")
    assert done.exit_code == 2
    assert ET.parse(project / "j.xml").getroot().attrib["errors"] == "1"
    assert "## 05: no verdict, it broke" in (project / "s.md").read_text()
    assert "127.0.0.1" in (project / "s.md").read_text()


@pytest.mark.slow
def test_a_job_prints_its_tables_and_writes_its_reports(project):
    path = write(
        project / "05.ipynb",
        text("## Decide"),
        code("print('v1  0.71 [0.66, 0.76]\\x1b[31m')", "report"),
        code("from llmlab.base.errors import GateError\nraise GateError('FAIL: worse by 0.1')"),
    )
    reports = ("--junit", "j.xml", "--markdown", "s.md", "--report", "r.html")
    done = call(path, *reports, "--output", "out/kept.ipynb")
    assert done.exit_code == 1
    assert "v1  0.71 [0.66, 0.76]\\x1b[31m" in done.stdout
    assert "05.ipynb: FAIL (cell 2, Decide): worse by 0.1" in done.stderr
    assert ET.parse(project / "j.xml").getroot().attrib["failures"] == "1"
    assert "05: FAIL" in (project / "s.md").read_text()
    page = (project / "r.html").read_text()
    assert "Decide" in page
    assert "0.71 [0.66, 0.76]" in page
    assert "import GateError" not in page
    assert (project / "out" / "kept.ipynb").exists()
    assert (project / "out" / "kept.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code_"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_job_and_leaves_no_run_open(sent, code_, project):
    """The kernel of a job that CI cancels goes too."""
    cell = """
import os, time
from pathlib import Path
Path("kernel.part").write_text(str(os.getpid()))
os.rename("kernel.part", "kernel")
time.sleep(600)
"""
    path = write(project / "01.ipynb", code(cell))
    job = subprocess.Popen(
        [sys.executable, "-m", "llmlab.cli", "run", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (project / "kernel").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    job.send_signal(sent)
    _, said = job.communicate()
    assert job.returncode == code_, said
    assert "interrupted" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "kernel").read_text()), 0)
    store = open_store()
    runs = store.client.search_runs([store.experiment_id("notebooks")])
    assert [run.info.status for run in runs] == ["KILLED"]


@pytest.mark.slow
def test_a_verdict_that_nothing_was_required_of_is_told_as_what_it_is(project):
    """And a notebook without a verdict has none."""
    ending = "from llmlab.results import Conclusion, Verdict\nConclusion(word=Verdict(verdict), sentence='because')"
    path = write(project / "01.ipynb", code('verdict: str = ""\nrequire: str = "none"', "parameters"), code(ending))
    said = call(path, "-p", "verdict", "INCONCLUSIVE")
    assert "01.ipynb: ran to its end; verdict INCONCLUSIVE, nothing was required" in said.output
    assert said.exit_code == 0
    assert "01.ipynb: ran to its end\n" in call(write(project / "01.ipynb", code("1 + 1"))).output
