"""Notebooks 03 to 07 run from end to end on the help desk, and set the exit code when asked to."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.gate.passport import Limit
from llmlab.local.setup import package_file
from llmlab.local.vectors import TABLE
from llmlab.tracking.store import open_store
from tests.notebook.notebooks import n_stored, ran
from tests.production.made import traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RELEASE = "05_gate_and_promote"
POLICY = """
baseline: production
baseline_file: bundles/v1.yaml
goal: {metric: correctness, rule: no_shown_harm, margin: 0.1}
floors: [{metric: mentions_expected, at_least: 0.3}]
judge: {passport: required, decide_on: corrected, labels: labels_pointwise.jsonl}
"""


@pytest.mark.usefixtures("quick_desk")
def test_a_judge_that_fails_its_limits_fails_the_job_when_asked():
    """Every cell runs, and the last one sets the exit code."""
    done = ran("03_judge_calibration", kappa_at_least="0.99", second_model="", require="pass")
    assert (done.verdict, done.exit_code) == ("FAIL", 1)
    assert "must be at least 0.99" in done.message
    assert all(cell.status == "completed" for cell in done.cells[:-1])
    assert done.executed.stat().st_size < 5_000_000


def test_a_release_is_decided_on_a_judges_corrected_grades_and_needs_its_passport(help_desk, project):
    """With judge and passport it passes and is promoted; without the passport nothing moves, exit code 2."""
    labels = ll.judge.Labels.load(help_desk / "labels_pointwise.jsonl")
    golden = ll.GoldenSet.load(help_desk / "golden.jsonl").only(ids={label.case_id for label in labels})
    ll.GoldenSet(golden.cases).save(help_desk / "golden.jsonl")
    (help_desk / "gate.yaml").write_text(POLICY, encoding="utf-8")
    judge_file = "experiments/pandas_help/judges/correctness.yaml"
    bundles = {name: ll.Bundle.load(help_desk / "bundles" / f"{name}.yaml") for name in ("v1", "v2")}
    judge = ll.judge.Judge.load(judge_file)
    judged = ll.judge.score(ll.run(bundles, golden), judge)
    limits = {"kappa": Limit(at_least=0.4)}  # a stand-in: the limit of real judges it does not keep
    passport = ll.judge.passport(judge.calibrate(labels, judged), limits=limits, now=datetime.now(UTC))
    passport.save(project / "passport.json")

    refused = ran(RELEASE, judges=judge_file, promote="true")
    assert (refused.exit_code, refused.verdict) == (2, "INVALID"), refused.message
    assert "has no passport" in refused.message

    done = ran(RELEASE, judges=judge_file, passports="passport.json", promote="true")
    assert (done.exit_code, done.verdict) == (0, "PASS"), done.message
    version = ll.registry.load("pandas_help@production", require_receipt=True)
    assert version.bundle.digest == bundles["v2"].digest


@pytest.mark.parametrize(
    ("stem", "parameters"), [("03b_pairwise_judge", {"second_model": ""}), ("03c_label_answers", {})]
)
@pytest.mark.usefixtures("quick_desk")
def test_the_other_notebooks_of_judges_run_to_their_end(stem, parameters):
    """The chooser follows the order and fails its limits; answers without a label are left: neither is required."""
    done = ran(stem, **parameters)
    assert (done.exit_code, done.message) == (0, "")


def test_without_pairwise_labels_the_part_about_people_is_left_out(quick_desk):
    """The judge still chooses; nothing says yet how far it can be trusted."""
    (quick_desk / "labels_pairwise.jsonl").unlink()
    done = ran("03b_pairwise_judge", first=10)
    assert (done.exit_code, done.verdict) == (0, "INCONCLUSIVE"), done.message


@pytest.mark.usefixtures("quick_desk")
def test_retrieval_ends_with_a_verdict_and_a_second_run_pays_for_nothing(project):
    settings = {"first": "24", "deepest": "4", "fused": "", "reader": ""}
    first = ran("04_rag_retrieval", **settings)
    paid = n_stored(project)
    second = ran("04_rag_retrieval", **settings)
    assert n_stored(project) == paid == 24 * 2
    assert first.exit_code == second.exit_code == 0
    assert first.verdict == second.verdict in ("PASS", "FAIL", "INCONCLUSIVE")
    assert first.executed.stat().st_size < 5_000_000


@pytest.mark.local
@pytest.mark.skipif(package_file(*TABLE) is None, reason="`llmlab local setup` has not been run")
def test_vectors_and_a_small_model_of_this_machine_are_shown_or_left_out_with_a_sentence(help_desk):
    settings = {"first": "24", "deepest": "4", "reader_cases": "4"}
    shown = ran("04_rag_retrieval", **settings)
    assert shown.exit_code == 0, shown.message
    told = "\n".join(shown.tables)
    assert "words and topics" in told
    assert "smollm2-135m-instruct" in told
    shutil.rmtree(help_desk / "more")
    without = ran("04_rag_retrieval", **settings)
    assert without.exit_code == 0, without.message
    assert "more/hybrid.yaml is not in pandas_help" in "\n".join(without.tables)


def test_the_index_notebook_ends_with_the_gates_word_on_the_index(help_desk):
    """The help desk keeps the manifest of another pandas: stale. Without it the index of today is held to itself."""
    stale = ran("04b_index_freshness", require="pass")
    assert (stale.exit_code, stale.verdict) == (2, "INVALID"), stale.message
    (help_desk / "manifest-other-pandas.json").unlink()
    fresh = ran("04b_index_freshness", require="pass")
    assert (fresh.exit_code, fresh.verdict) == (0, "PASS"), fresh.message


@pytest.mark.usefixtures("help_desk")
def test_planted_errors_are_reverted_and_the_decision_is_one_run(project):
    """With a required SHIP the job ends with 1."""
    done = ran("06_canary", days="4", users_a_day="120", errors="[0.01, 0.3]", require="pass")
    assert (done.verdict, done.exit_code) == ("FAIL", 1), done.message
    assert "error_rate went from" in " ".join(done.tables)
    client = open_store(project).client
    runs = client.search_runs([client.get_experiment_by_name("pandas_help").experiment_id])
    (run,) = [run for run in runs if "action" in run.data.tags]
    assert run.data.tags["action"] == "REVERT"
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert pictures == {f"figures/{name}.png" for name in ("over_time", "outcomes", "boundary")}


@pytest.mark.usefixtures("help_desk")
def test_recorded_requests_of_ones_own_are_read():
    """A file of one day says what is missing, and needs no simulation."""
    rollout = ll.Experiment.load("experiments/pandas_help").rollout
    frame = traffic(seed=1, days=1, units_a_day=60, rollout=rollout.name).drop(columns="bundle")
    frame.to_json("requests.jsonl", orient="records", lines=True, date_format="iso")
    done = ran("06_canary", traces="requests.jsonl")
    assert (done.verdict, done.exit_code) == ("INCONCLUSIVE", 0), done.message


@pytest.mark.usefixtures("help_desk")
def test_a_planted_outage_is_named_with_its_page_and_fails_a_job_that_asks():
    done = ran("07_watch_and_grow", require="pass", users_a_day="120", n="30")
    assert (done.verdict, done.exit_code) == ("FAIL", 1), done.message
    report, harvest, *_ = done.tables
    assert "error_rate" in report
    assert "provider-outage" in report
    assert "drawn from" in harvest


@pytest.mark.usefixtures("help_desk")
def test_a_service_that_is_asked_nothing_new_still_hears_its_verdict():
    """Three requests, all in the golden set: nothing is left to draw, and the job ends with what the watch says."""
    asked = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl").cases[0].inputs
    hours = [f"2026-11-20T1{i}:00:00Z" for i in range(3)]
    lines = [{"time": hour, "request_id": hour, "unit_id": "u1", "inputs": dict(asked), "text": "?"} for hour in hours]
    Path("requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = ran("07_watch_and_grow", traces="requests.jsonl", require="pass", strong="")
    assert (done.verdict, done.exit_code) == ("INCONCLUSIVE", 3), done.message
