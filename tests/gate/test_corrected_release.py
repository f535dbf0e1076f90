"""A corrected decision from the command line to the registry: promotion recomputes it from the logged cases."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

import llmlab as ll
from llmlab import tracking
from llmlab.cli import main
from llmlab.errors import RegistryError
from llmlab.gate import GatePolicy
from llmlab.registry import promote, register
from llmlab.simulate import judged_results

POLICY = """
baseline: production
baseline_file: none
floors: [{metric: correctness, at_least: 2.0}]
guards: [{metric: correctness, rule: non_inferior, margin: 0.4}]
judge: {passport: not required, decide_on: corrected, labels: labels.jsonl}
"""


@pytest.fixture(scope="module")
def planted():
    """People see a gain of half a level, the judge is kinder to v1."""
    return judged_results(200, labelled=80, seed=1, gain=0.5, kindness=(0.6, 0.0))


@pytest.fixture
def folder(planted, tmp_path):
    """An experiment with its policy, its cases and its labels."""
    made = tmp_path / "experiment"
    made.mkdir()
    (made / "gate.yaml").write_text(POLICY, encoding="utf-8")
    planted.labels.save(made / "labels.jsonl")
    planted.results.golden.save(made / "golden.jsonl")
    planted.results.to_parquet(made / "results.parquet")
    return made


def run(folder, *more):
    asked = ["gate", str(folder / "results.parquet"), "--policy", str(folder / "gate.yaml"), "--candidate", "v2"]
    return CliRunner().invoke(main, [*asked, "--baseline", "v1", *more])


def test_the_command_reads_the_labels_that_the_policy_names(folder):
    """Exit code 0, with the corrected numbers in the receipt."""
    done = run(folder, "--receipt", str(folder / "receipt.json"))
    assert done.exit_code == 0, done.output
    assert "guard: correctness, corrected" in done.output
    assert '"labels": {' in (folder / "receipt.json").read_text()


def test_labels_may_be_named_on_the_command_line(folder, planted):
    """Another file is another set of labels: too few here."""
    few = ll.judge.Labels(planted.labels.labels[:10]).save(folder / "few.jsonl")
    done = run(folder, "--labels", str(few))
    assert done.exit_code == 2
    assert "the policy wants 30" in done.output
    (folder / "labels.jsonl").unlink()
    missing = run(folder)
    assert missing.exit_code == 2
    assert "labels.jsonl" in missing.output


def test_promotion_recomputes_the_corrected_verdict_from_what_was_logged(project, planted, folder):
    """The labels lie beside the answers that were logged, so their file may grow, or go."""
    policy = GatePolicy.load(folder / "gate.yaml")
    results = policy.labelled(planted.results, folder)
    decision = policy.decide(results, baseline="v1", candidate="v2")
    assert decision.word == "PASS"
    tracking.log(results, decision)
    version = register(results.bundles["v2"], receipt=decision.receipt())
    (folder / "labels.jsonl").unlink()
    assert promote(version, experiment=folder, reason="people like it better").version == 1


def test_a_verdict_on_other_labels_than_the_logged_ones_is_not_promoted(project, planted, folder):
    """The receipt names labels under which the logged answers say something else."""
    policy = GatePolicy.load(folder / "gate.yaml")
    results = policy.labelled(planted.results, folder)
    tracking.log(results, decision := policy.decide(results, baseline="v1", candidate="v2"))
    forged = replace(decision, facts={**decision.facts, "labels": {"correctness": "0" * 64}})
    version = register(results.bundles["v2"], receipt=forged.receipt())
    with pytest.raises(RegistryError, match="the logged cases give another labels"):
        promote(version, experiment=folder, reason="r")
