"""Promotion: what a receipt must show before an alias moves, and what stands in the history when it is forced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llmlab import tracking
from llmlab.base.errors import RegistryError
from llmlab.bundle.bundle import ModelRef, PinOverride
from llmlab.gate import Decision, GatePolicy
from llmlab.gate.policy import Floor
from llmlab.golden.cases import Case, GoldenSet
from llmlab.registry import audit, history, load, promote, register, rollback
from llmlab.registry.connection import open_registry
from llmlab.registry.evidence import _floor_mean
from llmlab.registry.release import ledger
from llmlab.results.results import Results
from tests.made_results import made, with_numbers
from tests.registry.made import POLICY, alias_now, artifact, bundle, gated, judged


def test_a_floating_model_that_is_vouched_for_after_its_first_gate_is_promoted_and_served_so(project: Path) -> None:
    """The same answers, hence the same digests: what was logged before does not stand for what somebody vouches for."""
    made_before, _, folder = judged(project)

    def asked_of(**model: Any) -> tuple[Results, Decision]:
        ref = ModelRef(provider="vllm", id="my-model", **model)
        bundles = {name: one.with_(model=ref) for name, one in made_before.bundles.items()}
        results = replace(made_before, bundles=bundles)
        policy = GatePolicy.load(folder / "gate.yaml")
        looks = ledger(policy, bundles["new"], root=project)
        decision = policy.decide(results, baseline="old", candidate="new", looks=looks)
        tracking.log(results, decision, root=project)
        return results, decision

    assert asked_of()[1].word == "INVALID"
    results, decision = asked_of(pin_override=PinOverride(who="anna", why="our own server"))
    version = register(results.bundles["new"], receipt=decision.receipt())
    promote(version, alias="production", experiment=folder, reason="better")
    asked_of()  # a colleague's run without the line takes nothing back
    assert load("qa@production", require_receipt=True).bundle.model.pinned.overridden_by == "anna"


def test_a_bundle_without_a_receipt_is_promoted_by_force_alone_which_stands_in_the_history(project: Path) -> None:
    """In capitals, with what spoke against it; it is served only to those who do not ask for a receipt."""
    results, _, folder = judged(project)
    version = register(results.bundles["new"])
    with pytest.raises(RegistryError, match="has no receipt: gate it"):
        promote(version, experiment=folder, reason="r")
    assert history("qa").moves == ()
    with pytest.raises(ValueError, match="reason is empty"):
        promote(version, experiment=folder, reason=" ", force=True)
    move = promote(version, experiment=folder, reason="the old one is down", force=True)
    assert move.forced
    assert "FORCED PROMOTE" in str(history("qa"))
    assert "AGAINST: it has no receipt" in history("qa").last("production").reason
    assert load("qa@production").bundle.digest == version.digest
    with pytest.raises(RegistryError, match="has no receipt"):
        load("qa@production", require_receipt=True)
    for _ in range(2):  # it is no error, and it does not vanish
        (finding,) = audit("qa").findings
        assert (finding.kind, "the old one is down" in finding.what) == ("noted", True)


def test_a_receipt_for_another_bundle_is_refused(project: Path) -> None:
    _, decision, _ = judged(project)
    with pytest.raises(RegistryError, match="the receipt is for the bundle"):
        register(bundle(k=7), receipt=decision.receipt())


def test_baseline_rows_of_an_earlier_run_are_read_again_at_promotion(project: Path) -> None:
    """The receipt names the earlier run: promoted where that is logged too, refused with advice where it is not."""
    both, _, folder = judged(project)
    earlier, alone = both.only(variants=["old"]), both.only(variants=["new"])
    earlier = replace(earlier, created_at=datetime.now(UTC).isoformat())
    policy, known = GatePolicy.load(folder / "gate.yaml"), tracking.looks(both.golden_digest)
    decision = policy.decide(alone, baseline="old", candidate="new", baseline_results=earlier, looks=known)
    assert decision.word == "PASS"
    tracking.log(alone, decision)
    version = register(alone.bundles["new"], receipt=decision.receipt())
    with pytest.raises(RegistryError, match="borrowed"):
        promote(version, experiment=folder, reason="better")
    tracking.log(earlier)
    assert promote(version, experiment=folder, reason="better").version == version.number


@pytest.mark.parametrize(("right", "passes"), [(1.0, True), (0.0, False)])
def test_a_golden_set_that_has_only_grown_voids_nothing_when_the_added_cases_pass(
    project: Path, right: float, passes: bool
) -> None:
    results, decision, folder = judged(project)
    version = register(results.bundles["new"], receipt=decision.receipt())
    assert results.golden is not None
    added = tuple(Case(id=f"z{i}", inputs={"question": f"new {i}?"}, expected=("yes",)) for i in range(3))
    GoldenSet((*results.golden, *added)).save(folder / "golden.jsonl")
    with pytest.raises(RegistryError, match="grown by 3 cases that this bundle has not answered"):
        promote(version, experiment=folder, reason="r")
    rows = made({"old": [right] * 3, "new": [right] * 3})
    names = {f"q{i:03}": f"z{i}" for i in range(3)}
    only = GoldenSet(added)
    frame = rows.frame.assign(case_id=rows.frame["case_id"].map(names))
    more = replace(rows, frame=frame, golden=only, golden_digest=only.digest, bundles=results.bundles)
    tracking.log(more)
    if passes:
        assert promote(version, experiment=folder, reason="r").version == 1
    else:
        with pytest.raises(RegistryError, match="on the 3 cases added since"):
            promote(version, experiment=folder, reason="r")


@pytest.mark.parametrize(
    ("options", "receipt", "message"),
    [
        ({"better": -1}, {}, "its receipt says FAIL"),
        ({}, {"results_digest": "0" * 32}, "is not in the store; log it"),
        ({"policy": f"{POLICY}promotion: {{after_alias: staging}}\n"}, {}, "asks for staging first"),
    ],
)
def test_what_a_receipt_or_the_policy_lacks_is_told_and_nothing_moves(
    project: Path, options: dict[str, Any], receipt: dict[str, object], message: str
) -> None:
    """A FAIL, cases that are not there, an alias that comes first; what else policies ask for: `test_attacks`."""
    version, folder = gated(project, receipt=receipt, **options)
    with pytest.raises(RegistryError, match=message):
        promote(version, experiment=folder, reason="r")
    assert "production" not in open_registry().model("qa").aliases


def changed_policy(folder: Path) -> None:
    (folder / "gate.yaml").write_text(POLICY.replace("0.3", "0.4"), encoding="utf-8")


def changed_case(folder: Path) -> None:
    cases = GoldenSet.load(folder / "golden.jsonl")
    GoldenSet(tuple(replace(c, expected=("no",)) if c.id == "q000" else c for c in cases)).save(folder / "golden.jsonl")


def changed_receipt(folder: Path) -> None:
    file = artifact(folder.parent, "receipts/*.json")
    file.write_text(file.read_text(encoding="utf-8").replace("non_inferior", "no_shown_harm"), encoding="utf-8")
    assert [finding.kind for finding in audit("qa").findings] == ["wrong"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_policy, r"gate\.yaml changed"),
        (changed_case, r"1 case of golden\.jsonl changed .*'q000'"),
        (changed_receipt, "was changed after it was written"),
    ],
)
def test_a_changed_policy_case_or_receipt_is_refused(
    project: Path, change: Callable[[Path], None], message: str
) -> None:
    version, folder = gated(project)
    change(folder)
    with pytest.raises(RegistryError, match=message):
        promote(version, experiment=folder, reason="r")


def test_staging_first_then_production(project: Path) -> None:
    version, folder = gated(project, policy=f"{POLICY}promotion: {{after_alias: staging}}\n")
    promote(version, alias="staging", experiment=folder, reason="r")
    assert promote("qa@staging", alias="production", experiment=folder, reason="r").version == 1


def test_a_second_release_moves_production_on_and_back(project: Path) -> None:
    first, folder = gated(project)
    promote(first, experiment=folder, reason="r")
    before = load("qa@production", max_age_s=0).bundle.model_dump_json()
    second, _ = gated(project, better=0.45, k=1)
    promote(second, experiment=folder, reason="r")
    assert alias_now(open_registry()) == 2
    rollback("qa", reason="complaints")
    assert load("qa@production", max_age_s=0).bundle.model_dump_json() == before
    with pytest.raises(RegistryError, match="is version 1 already"):
        promote(first, experiment=folder, reason="again")


def test_a_floor_on_added_cases_takes_what_is_unscored_at_its_worst_and_cases_by_their_weight():
    """At most so much harm is not kept by an answer that nobody could judge; costs are averaged whatever repeats do."""
    policy = GatePolicy.model_validate(
        {"baseline": "none", "aggregation": "majority", "floors": [{"metric": "right", "at_most": 0.1}]}
    )
    at_most, at_least = Floor(metric="right", at_most=0.1), Floor(metric="right", at_least=0.9)
    results = made({"v1": [0.0, None, 1.0, 0.0]})
    assert _floor_mean(policy, results, at_most, "v1") == 0.5
    assert _floor_mean(policy, results, at_least, "v1") == 0.25
    heavy = GoldenSet(tuple(replace(case, weight=1.0 + 4 * (case.id == "q002")) for case in results.golden))
    assert _floor_mean(policy, replace(results, golden=heavy), at_least, "v1") == 5 / 8
    paid = with_numbers(results, cost_usd=[0.01, 0.02, 0.03, 0.04])
    assert _floor_mean(policy, paid, Floor(metric="cost_usd", at_most=1.0), "v1") == pytest.approx(0.025)
    unknown = with_numbers(results, cost_usd=[0.01, float("nan"), 0.03, 0.04])
    assert _floor_mean(policy, unknown, Floor(metric="cost_usd", at_most=1.0), "v1") == float("inf")
