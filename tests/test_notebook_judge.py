"""Notebook 03 runs from end to end on the help desk, again for nothing, and gates when asked to."""

import shutil
from pathlib import Path

import pytest

from llmlab.callstore import CallStore
from llmlab.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[1]
JUDGE = ROOT / "notebooks" / "03_judge_calibration.ipynb"


def test_a_judge_that_fails_its_limits_fails_the_job_only_when_asked_and_the_second_run_is_free(project):
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    first = run_notebook(JUDGE, {"kappa_at_least": "0.99"})
    with CallStore(project / "mlruns" / "calls.sqlite") as store:
        calls = len(store)
    second = run_notebook(JUDGE, {"kappa_at_least": "0.99", "require": "pass"})
    with CallStore(project / "mlruns" / "calls.sqlite") as store:
        assert len(store) == calls
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "kappa is" in second.message
    assert Path(first.executed).stat().st_size < 5_000_000
