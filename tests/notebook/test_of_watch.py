"""Notebook 07 finds what is planted in a simulated month, and turns requests into cases."""

import shutil
from pathlib import Path

import pytest

from llmlab.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
WATCH = ROOT / "notebooks" / "07_watch_and_grow.ipynb"


def test_a_planted_outage_is_named_with_its_page_and_fails_a_job_that_asks(project):
    shutil.copytree(ROOT / "experiments", project / "experiments")
    done = run_notebook(WATCH, {"require": "pass", "users_a_day": "120", "n": "30"})
    assert (done.verdict, done.exit_code) == ("FAIL", 1), done.message
    report, harvest, *_ = done.tables
    assert "error_rate" in report
    assert "provider-outage" in report
    assert "drawn from" in harvest
