"""Notebook 03 runs from end to end on the help desk, and gates when asked to."""

import shutil
from pathlib import Path

import pytest

from llmlab.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[1]
JUDGE = ROOT / "notebooks" / "03_judge_calibration.ipynb"


def test_a_judge_that_fails_its_limits_fails_the_job_when_asked(project):
    """Every cell runs, and the last one sets the exit code."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    done = run_notebook(JUDGE, {"kappa_at_least": "0.99", "require": "pass"})
    assert (done.verdict, done.exit_code) == ("FAIL", 1)
    assert "must be at least 0.99" in done.message
    assert all(cell.status == "completed" for cell in done.cells[:-1])
    assert Path(done.executed).stat().st_size < 5_000_000
