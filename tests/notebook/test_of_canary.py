"""Notebook 06 runs on simulated traffic and on recorded files, logs one run per decision, and says the verdict."""

import shutil
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.notebook import run_notebook
from llmlab.tracking.store import open_store
from tests.production.made import traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
CANARY = ROOT / "notebooks" / "06_canary.ipynb"


def test_planted_errors_are_reverted_and_the_decision_is_one_run(project):
    """With a required SHIP the job ends with 1."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    done = run_notebook(CANARY, {"days": "4", "users_a_day": "120", "errors": "[0.01, 0.3]", "require": "pass"})
    assert (done.verdict, done.exit_code) == ("FAIL", 1), done.message
    assert "error_rate went from" in " ".join(done.tables)
    client = open_store(project).client
    (run,) = [
        run
        for run in client.search_runs([client.get_experiment_by_name("pandas_help").experiment_id])
        if "action" in run.data.tags
    ]
    assert run.data.tags["action"] == "REVERT"
    assert {file.path for file in client.list_artifacts(run.info.run_id, "figures")} == {
        f"figures/{name}.png" for name in ("over_time", "outcomes", "boundary")
    }


def test_recorded_requests_of_ones_own_are_read(project):
    """A file of one day says what is missing, and needs no simulation."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    rollout = ll.Experiment.load("experiments/pandas_help").rollout
    frame = traffic(seed=1, days=1, units_a_day=60, rollout=rollout.name).drop(columns="bundle")
    frame.to_json("requests.jsonl", orient="records", lines=True, date_format="iso")
    done = run_notebook(CANARY, {"traces": "requests.jsonl"})
    assert (done.verdict, done.exit_code) == ("INCONCLUSIVE", 0), done.message
