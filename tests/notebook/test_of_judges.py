"""The notebooks with a judge, on the help desk: 03 gates when asked to, 05 releases on corrected grades."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.gate.passport import Limit
from llmlab.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "notebooks" / "03_judge_calibration.ipynb"
RELEASE = ROOT / "notebooks" / "05_gate_and_promote.ipynb"
POLICY = """
baseline: production
baseline_file: bundles/v1.yaml
goal: {metric: correctness, rule: no_shown_harm, margin: 0.1}
floors: [{metric: mentions_expected, at_least: 0.3}]
judge: {passport: required, decide_on: corrected, labels: labels_pointwise.jsonl}
"""


def test_a_judge_that_fails_its_limits_fails_the_job_when_asked(project):
    """Every cell runs, and the last one sets the exit code."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    done = run_notebook(JUDGE, {"kappa_at_least": "0.99", "second_model": "", "require": "pass"})
    assert (done.verdict, done.exit_code) == ("FAIL", 1)
    assert "must be at least 0.99" in done.message
    assert all(cell.status == "completed" for cell in done.cells[:-1])
    assert Path(done.executed).stat().st_size < 5_000_000


def test_a_release_is_decided_on_a_judges_corrected_grades_and_needs_its_passport(project):
    """With judge and passport it passes and is promoted; without the passport nothing moves, exit code 2."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    folder = project / "experiments" / "pandas_help"
    labels = ll.judge.Labels.load(folder / "labels_pointwise.jsonl")
    golden = ll.GoldenSet.load(folder / "golden.jsonl").only(ids={label.case_id for label in labels})
    ll.GoldenSet(golden.cases).save(folder / "golden.jsonl")
    (folder / "gate.yaml").write_text(POLICY, encoding="utf-8")
    judge_file = "experiments/pandas_help/judges/correctness.yaml"
    bundles = {name: ll.Bundle.load(folder / "bundles" / f"{name}.yaml") for name in ("v1", "v2")}
    judge = ll.judge.Judge.load(judge_file)
    judged = ll.judge.score(ll.run(bundles, golden), judge)
    limits = {"kappa": Limit(at_least=0.4)}  # a stand-in: the limit of real judges it does not keep
    passport = ll.judge.passport(judge.calibrate(labels, judged), limits=limits, now=datetime.now(UTC))
    passport.save(project / "passport.json")

    refused = run_notebook(RELEASE, {"judges": judge_file, "promote": "true"})
    assert (refused.exit_code, refused.verdict) == (2, "INVALID"), refused.message
    assert "has no passport" in refused.message

    done = run_notebook(RELEASE, {"judges": judge_file, "passports": "passport.json", "promote": "true"})
    assert (done.exit_code, done.verdict) == (0, "PASS"), done.message
    version = ll.registry.load("pandas_help@production", require_receipt=True)
    assert version.bundle.digest == bundles["v2"].digest


@pytest.mark.parametrize("name", ["03b_pairwise_judge", "03c_label_answers"])
def test_the_other_notebooks_of_judges_run_to_their_end(project, name):
    """The chooser follows the order and fails its limits; answers without a label are left: neither is required."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    done = run_notebook(ROOT / "notebooks" / f"{name}.ipynb", {"second_model": ""} if name.startswith("03b") else {})
    assert (done.exit_code, done.message) == (0, "")


def test_without_pairwise_labels_the_part_about_people_is_left_out(project):
    """The judge still chooses; nothing says yet how far it can be trusted."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    (project / "experiments" / "pandas_help" / "bundles" / "v3.yaml").unlink()  # its topic search takes long to build
    (project / "experiments" / "pandas_help" / "labels_pairwise.jsonl").unlink()
    done = run_notebook(ROOT / "notebooks" / "03b_pairwise_judge.ipynb", {"first": 10})
    assert (done.exit_code, done.verdict) == (0, "INCONCLUSIVE"), done.message
