"""A corrected decision from the command line to the registry: promotion recomputes it from the logged cases."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

import llmlab as ll
from llmlab import tracking
from llmlab.base.errors import RegistryError
from llmlab.gate import GatePolicy
from llmlab.registry import promote, register
from llmlab.simulate import judged_results
from tests.cli.calling import llmlab
from tests.made_results import experiment

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
    folder = experiment(tmp_path, POLICY, planted.results.golden)
    planted.labels.save(folder / "labels.jsonl")
    planted.results.to_parquet(folder / "results.parquet")
    return folder


def run(folder, *more):
    asked = (folder / "results.parquet", "--policy", folder / "gate.yaml", "--candidate", "v2", "--baseline", "v1")
    return llmlab("gate", *asked, *more)


def test_the_command_reads_the_labels_that_the_policy_names(folder):
    """Exit code 0, with the corrected numbers in the receipt."""
    done = run(folder, "--receipt", str(folder / "receipt.json"))
    assert done.exit_code == 0, done.output
    assert "guard: correctness, corrected" in done.output
    assert '"labels": {' in (folder / "receipt.json").read_text()


def test_labels_may_be_named_on_the_command_line(folder, planted):
    few = ll.judge.Labels(planted.labels.labels[:10]).save(folder / "few.jsonl")
    done = run(folder, "--labels", str(few))
    assert done.exit_code == 2
    assert "the policy wants 30" in done.output
    (folder / "labels.jsonl").unlink()
    missing = run(folder)
    assert missing.exit_code == 2
    assert "labels.jsonl" in missing.output


def test_promotion_recomputes_the_corrected_verdict_from_what_was_logged(project, planted, folder):
    """The labels lie beside the answers that were logged: their file may go, but no receipt may name others."""
    policy = GatePolicy.load(folder / "gate.yaml")
    results = policy.labelled(planted.results, folder)
    decision = policy.decide(results, baseline="v1", candidate="v2")
    assert decision.word == "PASS"
    tracking.log(results, decision)
    (folder / "labels.jsonl").unlink()
    forged = decision.receipt().model_copy(update={"labels": {"correctness": "0" * 64}})
    with pytest.raises(RegistryError, match="the logged cases give another labels"):
        promote(register(results.bundles["v2"], receipt=forged), experiment=folder, reason="r")
    version = register(results.bundles["v2"], receipt=decision.receipt())
    assert promote(version, experiment=folder, reason="people like it better").version == 1


def grown(planted, folder, *, better, labelled=True):
    """What the bundles of a released candidate say on 30 cases added since, `better` levels apart; logged."""
    more = judged_results(30, labelled=10, seed=2, gain=better, kindness=(0.0, 0.0)).results
    renamed = {f"q{i}": f"new{i}" for i in range(30)}
    cases = tuple(replace(case, id=renamed[case.id]) for case in more.golden)
    only = replace(more.golden, cases=cases)
    frame = more.frame.assign(case_id=more.frame["case_id"].map(renamed))
    if labelled:
        frame = frame.assign(correctness_label=frame["correctness"], correctness_inclusion=float("nan"))
    planted.results.golden.grown(cases).save(folder / "golden.jsonl")
    facts = {"labels": {"correctness": {"digest": "1" * 64}}} if labelled else {}
    added = replace(more, frame=frame, golden=only, golden_digest=only.digest)
    tracking.log(replace(added, provenance={**more.provenance, **facts}))


def released(planted, folder, *, decide_on):
    """A judged candidate that passed with its judge's passport: version and passports."""
    text = POLICY.replace("passport: not required", "passport: required").replace("corrected", decide_on)
    (folder / "gate.yaml").write_text(text, encoding="utf-8")
    policy = GatePolicy.load(folder / "gate.yaml")
    results = policy.labelled(planted.results, folder)
    measured = ll.judge.passport(ll.judge.calibrate(planted.labels, results), now=datetime.now(UTC))
    decision = policy.decide(results, baseline="v1", candidate="v2", passports=[measured])
    assert decision.word == "PASS", decision
    tracking.log(results, decision)
    return register(results.bundles["v2"], receipt=decision.receipt()), [measured]


@pytest.mark.parametrize(
    ("decide_on", "added", "refused"),
    [
        ("raw", {"better": 0.5}, None),
        ("corrected", {"better": 0.5}, None),
        ("raw", {"better": -0.8}, "v2 against v1 breaks 1 condition"),
        ("corrected", {"better": -0.8}, "v2 against v1 breaks 1 condition"),
        ("corrected", {"better": 0.5, "labelled": False}, ".*carry no labels"),
    ],
)
def test_judged_cases_added_since_are_judged_as_the_receipt_was(project, folder, decide_on, added, refused):
    """With its passports: those that pass leave it standing, harm voids it, and no verdict on them is no pass."""
    planted = judged_results(200, labelled=80, seed=1, gain=0.5)
    version, passports = released(planted, folder, decide_on=decide_on)
    grown(planted, folder, **added)
    if refused is None:
        assert promote(version, experiment=folder, reason="still better", passports=passports).version == 1
        return
    with pytest.raises(RegistryError, match=f"on the 30 cases added since: {refused}"):
        promote(version, experiment=folder, reason="r", passports=passports)
