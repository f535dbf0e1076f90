"""A colleague in a hurry who may write to the store: what was edited is not promoted, adopted, served or exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmlab import scorers, tracking
from llmlab.base.errors import RegistryError
from llmlab.bundle.export import Exported
from llmlab.gate import GatePolicy, JudgePassport, Receipt
from llmlab.gate.passport import Limit, Measured
from llmlab.golden.cases import GoldenSet
from llmlab.registry import audit, export, history, load, promote, register
from llmlab.registry.connection import open_registry
from llmlab.results.results import Results
from llmlab.tracking.runs import ORIGIN_TAG, signed_text
from tests.made_results import experiment, made
from tests.registry.made import POLICY, artifact, bundle, gated, judged


def resealed(receipt: Receipt, **edits: object) -> Receipt:
    """The receipt with these fields edited, and a digest that fits them."""
    content = json.loads(receipt.to_json()) | edits
    del content["digest"]
    return Receipt.model_validate_json(json.dumps(content))


def failed(project: Path) -> tuple[Receipt, Path]:
    """A FAIL that somebody edited to PASS and sealed again, conditions too, registered; and the experiment's folder."""
    results, decision, folder = judged(project, better=-1)
    assert decision.word == "FAIL"
    receipt = decision.receipt()
    passing = [json.loads(c.model_dump_json()) | {"verdict": "PASS"} for c in receipt.conditions]
    forged = resealed(receipt, verdict="PASS", conditions=passing)
    register(results.bundles["new"], receipt=forged)
    return forged, folder


@pytest.mark.parametrize(
    "text", ["5", "[]", "{", "{}", '{"ci": 3}', '{"verdict": "PASS"}', '{"dirty": false, "signature": 5}']
)
def test_what_the_gate_logged_of_its_decision_is_read_strictly(project: Path, text: str) -> None:
    """As found: some ended promotion, force and audit with a traceback; and `ci: 3` was a CI run."""
    version, folder = gated(project, policy=f"{POLICY}promotion: {{ci: true}}\n")
    client = open_registry().store.client
    for run in open_registry().store.whole_runs("variant", "new"):
        (tag,) = [tag for tag in run.data.tags if tag.startswith(ORIGIN_TAG)]
        client.set_tag(run.info.run_id, tag, text)
    with pytest.raises(RegistryError, match=f"the tag {ORIGIN_TAG}.* was edited: gate again"):
        promote(version, experiment=folder, reason="r")
    assert promote(version, experiment=folder, reason="r", force=True).forced
    assert audit("qa").wrong == ()


@pytest.mark.parametrize("role", ["candidate", "baseline"])
def test_a_receipt_that_names_a_variant_nobody_ran_is_told_and_hides_no_other_finding(project: Path, role: str) -> None:
    """As found: promotion, force and the whole audit ended with a KeyError or a ValueError."""
    version, folder = gated(project, receipt={role: "nobody"})
    with pytest.raises(RegistryError, match=r"no variant 'nobody'"):
        promote(version, experiment=folder, reason="r")
    assert promote(version, experiment=folder, reason="r", force=True).forced
    by_hand()
    open_registry().client.set_registered_model_alias("qa", "staging", "1")
    assert "staging" in {finding.about for finding in audit("qa").wrong}


def by_hand(number: int = 1) -> None:
    """Production set in MLflow's pages."""
    open_registry().client.set_registered_model_alias("qa", "production", str(number))


def test_a_fail_edited_to_pass_is_not_promoted_adopted_served_or_exported(project: Path, tmp_path: Path) -> None:
    """Through every door; by force it goes, in capitals, and is not served to those who ask for a receipt."""
    forged, folder = failed(project)
    with pytest.raises(RegistryError, match=r"logged cases give another verdict"):
        promote("qa/1", experiment=folder, reason="r")
    by_hand()
    with pytest.raises(RegistryError, match="nobody checked"):
        load("qa@production", require_receipt=True)
    (finding,) = audit("qa").wrong
    assert "the logged cases say FAIL" in finding.what
    assert history("qa").moves == ()
    assert Exported.load(export("qa@production", tmp_path / "qa.json")).receipt is None
    with pytest.raises(RegistryError, match="it is not exported"):
        export("qa@production", tmp_path / "no.json", require_receipt=True)
    open_registry().client.delete_registered_model_alias("qa", "production")
    move = promote("qa/1", experiment=folder, reason="a fire", force=True)
    assert (move.outcome, move.receipt) == ("does not hold", forged.digest)
    with pytest.raises(RegistryError, match="did not hold"):
        load("qa@production", require_receipt=True)
    assert Exported.load(export("qa@production", tmp_path / "forced.json")).receipt is None


def shown(number: int = 1) -> tuple[str, str]:
    """The tag and the description that MLflow's page of a version shows."""
    held = open_registry().client.get_model_version("qa", str(number))
    return held.tags["gate"], held.description.split("\n\n")[1]


def test_a_page_says_of_a_pass_whether_somebody_checked_it(project: Path) -> None:
    """A forged receipt that was registered is not one; what was checked is; a tag written by hand is noted."""
    failed(project)
    tag, told = shown()
    assert tag == "PASS, not checked"
    assert "has yet to check" in told
    open_registry().client.set_model_version_tag("qa", "1", "gate", "PASS")
    assert any("nobody has checked" in finding.what for finding in audit("qa").findings)


def test_a_later_receipt_is_not_checked_by_the_move_that_checked_the_one_before(project: Path) -> None:
    results, decision, folder = judged(project)
    receipt = decision.receipt()
    promote(register(results.bundles["new"], receipt=receipt), experiment=folder, reason="r")
    later = receipt.decided_at() + timedelta(seconds=30)
    register(results.bundles["new"], receipt=resealed(receipt, created_at=later.isoformat()))
    assert shown()[0] == "PASS, not checked"
    open_registry().client.set_model_version_tag("qa", "1", "gate", "PASS")
    assert any("nobody has checked" in finding.what for finding in audit("qa").findings)


def test_a_receipt_of_a_date_yet_to_come_keeps_no_other_out(project: Path) -> None:
    results, decision, folder = judged(project)
    new, receipt = results.bundles["new"], decision.receipt()
    register(new, receipt=resealed(receipt, created_at="2999-01-01T00:00:00+00:00"))
    assert register(new, receipt=receipt).receipt == receipt.digest
    assert promote("qa/1", experiment=folder, reason="r").outcome == "holds"


def test_a_promotion_and_an_adoption_write_on_the_page_that_they_checked(project: Path) -> None:
    version, folder = gated(project)
    assert shown()[0] == version.gate == "PASS, not checked"
    by_hand()
    assert [finding.kind for finding in audit("qa").findings] == ["adopted"]
    move = history("qa").last("production")
    assert (move.kind, move.version, move.receipt) == ("adopt", 1, version.receipt)
    assert shown()[0] == "PASS"
    assert "has yet to check" not in shown()[1]
    promote(version, alias="staging", experiment=folder, reason="r")
    assert shown()[0] == "PASS"
    assert audit("qa").findings == ()


def test_a_checked_release_is_served_exported_and_checked_again(project: Path, tmp_path: Path) -> None:
    """One digest all the way; the move names receipt, policy, golden set, folder and what was read."""
    version, folder = gated(project)
    move = promote(version, experiment=folder, reason="r")
    assert (move.version, move.before, move.digest) == (1, None, bundle(k=200).digest)
    assert (move.outcome, move.held, move.experiment) == ("holds", True, "experiment")
    assert move.policy == GatePolicy.load(folder / "gate.yaml").digest
    assert move.golden == GoldenSet.load(folder / "golden.jsonl").digest
    assert load("qa@production", require_receipt=True).bundle.digest == move.digest
    held = Exported.load(export("qa@production", tmp_path / "qa.json", require_receipt=True)).receipt
    assert held is not None
    assert (held["policy_digest"], held["digest"]) == (move.policy, move.receipt)
    assert audit("qa").findings == ()


def test_a_receipt_that_is_edited_after_the_check_is_not_served(project: Path) -> None:
    """A better one, resealed, under the version's tag: the move rests on another; the audit says what is wrong."""
    version, folder = gated(project)
    promote(version, experiment=folder, reason="r")
    registry, file = open_registry(), artifact(project, f"{version.receipt}.json")
    better = resealed(Receipt.load(file), author="nobody")
    better.save(file.with_name(f"{better.digest}.json"))
    file.unlink()
    registry.client.set_model_version_tag("qa", "1", "receipt", better.digest)
    with pytest.raises(Exception, match="cannot be read"):
        load("qa@production", require_receipt=True)
    assert any("check of move 1 does not hold any more" in finding.what for finding in audit("qa").wrong)


def edited_scores(project: Path) -> None:
    file = artifact(project, "cases.parquet")
    Results.from_parquet(file).with_columns(right=0.0).to_parquet(file)


def edited_policy(project: Path) -> None:
    file = artifact(project, "policy-*.json")
    file.write_text(file.read_text(encoding="utf-8").replace("0.3", "0.0"), encoding="utf-8")


def edited_scorers(_project: Path) -> None:
    store = open_registry().store
    (run,) = store.search("tags.variant = 'new'")
    store.client.set_tag(run.info.run_id, "measured_by", "0" * 64)


@pytest.mark.parametrize("edit", [edited_scores, edited_policy, edited_scorers])
def test_the_audit_checks_again_what_a_release_rests_on(project: Path, edit: Callable[[Path], None]) -> None:
    version, folder = gated(project)
    promote(version, experiment=folder, reason="r")
    edit(project)
    assert any("check of move 1 does not hold any more" in finding.what for finding in audit("qa").wrong)


@pytest.mark.parametrize(
    ("edits", "rule", "message"),
    [
        ({"author": "somebody else"}, "approver_not_author: true", r"an approver other than the author \(me\)"),
        ({"dirty": False, "commit": "f" * 40}, "clean_commit: true", "asks for a clean commit"),
        ({"ci": {"system": "CI"}}, "ci: true", "asks for a CI run"),
        ({"created_at": "2099-01-01T00:00:00+00:00"}, "ci: false", "no gate logged this decision"),
        ({"created_at": (datetime.now(UTC) - timedelta(days=40)).isoformat()}, "ci: false", "is 40 days old"),
        ({"created_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "ci: false", "yet to come"),
    ],
)
def test_what_a_receipt_says_of_its_origin_is_what_the_gate_logged(
    project: Path, monkeypatch: pytest.MonkeyPatch, edits: dict[str, object], rule: str, message: str
) -> None:
    """Author, commit, CI and dates; a clock may be five minutes fast."""
    monkeypatch.setenv("LLMLAB_WHO", "me")
    monkeypatch.delenv("CI", raising=False)
    version, folder = gated(project, receipt=edits, policy=f"{POLICY}promotion: {{{rule}}}\n")
    with pytest.raises(RegistryError, match=message):
        promote(version, experiment=folder, reason="r")


@pytest.mark.parametrize(
    ("scorer", "line"),
    [
        (scorers.exact, "exact"),
        (scorers.length_between(low_words=50, high_words=60), "length_between: {low_words: 50, high_words: 60}"),
    ],
)
def test_scores_that_a_shipped_scorer_does_not_give_for_the_logged_answers_are_told(
    project: Path, scorer: scorers.Scorer, line: str
) -> None:
    """Answers that are wrong, under scores, digests and a receipt that all agree; arguments are the folder's."""
    results = replace(made({"old": [0.0] * 60, "new": [0.0] * 60}), bundles={"old": bundle(k=1), "new": bundle(k=2)})
    scored = results.scored_by([scorer])
    forged = scored.with_columns(**{scorer.name: [float(name == "new") for name in scored.frame["variant"]]})
    folder = experiment(project, POLICY.replace("metric: right", f"metric: {scorer.name}"), results.golden)
    (folder / "experiment.yaml").write_text(f"scorers: [{{{line}}}]\n" if ":" in line else f"scorers: [{line}]\n")
    decision = GatePolicy.load(folder / "gate.yaml").decide(forged, baseline="old", candidate="new")
    assert decision.word == "PASS"
    tracking.log(forged, decision)
    version = register(forged.bundles["new"], receipt=decision.receipt())
    with pytest.raises(RegistryError, match=f"60 logged scores of {scorer.name} are not what it gives"):
        promote(version, experiment=folder, reason="r")


def test_a_passport_is_the_one_that_the_receipt_names(project: Path) -> None:
    """Another one of the same judge does not stand in for it; the audit reads the one that was logged."""
    results, judge = made({"old": [0.0] * 60, "new": [1.0] * 60}), "j" * 64
    metrics = {"right": replace(results.metric("right"), judge=judge)}
    results = replace(results, bundles={"old": bundle(k=1), "new": bundle(k=2)}, metrics=metrics)
    folder = experiment(project, POLICY.replace("not required", "required"), results.golden)
    passport = JudgePassport(
        judge_digest=judge,
        labels_digest="l" * 64,
        metrics={"kappa": Measured(value=0.7)},
        limits={"kappa": Limit(at_least=0.6)},
        created_at=(datetime.now(UTC) - timedelta(days=1)).isoformat(),
        expires_at=(datetime.now(UTC) + timedelta(days=9)).isoformat(),
    )
    policy = GatePolicy.load(folder / "gate.yaml")
    decision = policy.decide(results, baseline="old", candidate="new", passports=[passport])
    tracking.log(results, decision)
    version = register(results.bundles["new"], receipt=decision.receipt())
    kinder = passport.model_copy(update={"limits": {"kappa": Limit(at_least=0.1)}})
    with pytest.raises(RegistryError, match=r"rests on the passport .* which was not shown"):
        promote(version, experiment=folder, reason="r", passports=[kinder])
    promote(version, experiment=folder, reason="r", passports=[passport])
    assert audit("qa").findings == ()


@pytest.mark.parametrize("signature", ["", "é" * 64], ids=["unsigned", "signed by another"])
def test_with_the_key_of_ci_a_move_without_its_signature_is_not_believed(
    project: Path, monkeypatch: pytest.MonkeyPatch, signature: str
) -> None:
    """Where the key is not, nothing can tell; where it is, the audit checks anew, and signs what holds."""
    monkeypatch.setenv("LLMLAB_SIGNING_KEY", "a key that CI alone has")
    version, folder = gated(project, policy=f"{POLICY}promotion: {{signed: true}}\n")
    promote(version, experiment=folder, reason="r")
    assert load("qa@production", require_receipt=True, max_age_s=0).version.number == 1
    assert audit("qa").findings == ()
    open_registry().client.set_model_version_tag("qa__history", "1", "signature", signature)
    assert (history("qa").moves[0].forged, history("qa").moves[0].held) == (True, False)
    (finding,) = audit("qa").findings
    assert (finding.kind, "not signed by this key" in finding.what) == ("adopted", True)
    assert audit("qa").findings == ()


def test_a_decision_that_ci_did_not_sign_is_not_promoted_in_ci(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made without the key: refused with it; and without it where the policy asks for signatures."""
    version, folder = gated(project, policy=f"{POLICY}promotion: {{signed: true}}\n")
    with pytest.raises(RegistryError, match="LLMLAB_SIGNING_KEY is not here"):
        promote(version, experiment=folder, reason="r")
    monkeypatch.setenv("LLMLAB_SIGNING_KEY", "a key that CI alone has")
    with pytest.raises(RegistryError, match="its decision is not signed"):
        promote(version, experiment=folder, reason="r")


def test_a_signed_decision_whose_commit_was_edited_is_not_promoted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's tag and in the receipt both: the signature is of what CI saw."""
    monkeypatch.setenv("LLMLAB_SIGNING_KEY", "a key that CI alone has")
    version, folder = gated(project, receipt={"commit": "f" * 40, "author": "CI itself"})
    store = open_registry().store
    (run,) = store.search("tags.variant = 'new'")
    (tag,) = [key for key in run.data.tags if key.startswith("decided.")]
    forged = json.loads(run.data.tags[tag]) | {"commit": "f" * 40, "author": "CI itself"}
    store.client.set_tag(run.info.run_id, tag, json.dumps(forged))
    with pytest.raises(RegistryError, match="its decision is not signed"):
        promote(version, experiment=folder, reason="r")


def test_how_true_an_index_was_is_part_of_what_ci_signs(project: Path) -> None:
    """A stale index that was edited to a fresh one has no signature; without an index nothing changes."""
    _, decision, _ = judged(project)
    receipt = decision.receipt()
    stale, fresh = (
        receipt.model_copy(update={"index_freshness": {"lag_s": s, "stale_share": 0.0}}) for s in (9e6, 0.0)
    )
    assert len({signed_text(receipt), signed_text(stale), signed_text(fresh)}) == 3


def test_history_and_audit_tell_a_release_under_another_policy_or_golden_set(project: Path) -> None:
    first, folder = gated(project)
    promote(first, experiment=folder, reason="r")
    second, folder = gated(project, better=0.45, k=1, n=100, policy=POLICY.replace("0.05", "0.5"))
    promote(second, experiment=folder, reason="r")
    past = history("qa")
    assert [past.changed(move) for move in past.moves] == ["", "another policy, another golden set"]
    (finding,) = audit("qa").findings
    assert (finding.kind, "under another policy, another golden set" in finding.what) == ("noted", True)


def test_a_move_says_who_made_it_and_who_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI whoever started the job; a name that anybody may set is called what it is."""
    monkeypatch.setenv("LLMLAB_WHO", "the boss")
    version, folder = gated(project)
    assert promote(version, experiment=folder, reason="r").by == "the boss, as LLMLAB_WHO says"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_ACTOR", "anna")
    move = promote(version, alias="staging", experiment=folder, reason="r")
    assert move.by == "anna, as GITHUB_ACTOR says"
    assert "the boss, as LLMLAB_WHO says" in str(history("qa"))
