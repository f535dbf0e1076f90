"""Looking again and choosing among many have a price; the same look is free."""

from dataclasses import replace

import pytest

from llmlab import tracking
from llmlab.base.errors import DataError
from llmlab.gate import Look
from llmlab.gate.looks import price_of_looking
from tests.gate.gating import decided, gateable, noisy, non_inferior, policy, superior


def look(results="r", *, candidate="c", day=1, verdict="INCONCLUSIVE", rules="p"):
    return Look(
        results_digest=results,
        policy_digest=rules,
        candidate_digest=candidate,
        golden_digest="g",
        verdict=verdict,
        made_at=f"2026-02-{day:02}T00:00:00+00:00",
    )


def asked(before, this=None, **settings):
    return price_of_looking(before, this or look("now", day=28), confidence=0.95, **settings).asked


def test_later_looks_at_one_candidate_halve_what_is_left():
    """alpha, then alpha / 4, alpha / 8: all looks together spend at most 1.5 alpha."""
    before = [look(f"r{i}", day=i + 1) for i in range(3)]
    found = [asked(before[:n]) for n in range(4)]
    assert found == [0.95, *map(pytest.approx, (0.9875, 0.99375, 0.996875))]
    assert sum(1 - level for level in found) <= 1.5 * 0.05


def test_alpha_is_divided_by_the_candidates_that_were_tried():
    """Those of the same results, and those of the ledger, each once; the baseline is none."""
    assert asked([], others=["c", "d", "base"], baselines=["base"]) == pytest.approx(1 - 0.05 / 2)
    before = [look("r1", candidate="d"), look("r2", candidate="d", day=2), look("r3", candidate="e", day=3)]
    assert asked(before, others=["c", "d"]) == pytest.approx(1 - 0.05 / 3)


def test_the_same_results_by_the_same_policy_are_the_same_look():
    """Whatever came later: a promotion that decides again finds what the gate found."""
    first = look("now", day=5)
    before = [look("r0", day=1), first, look("r9", candidate="d", day=9)]
    assert asked(before) == asked([before[0]])
    assert asked([*before, look("now", day=10, rules="other policy")]) == asked([before[0]])
    assert asked(before, look("now", day=28, rules="other policy")) > asked(before)


def test_a_look_that_told_nothing_is_free():
    assert asked([look("r0", verdict="INVALID")]) == 0.95


def test_a_second_look_may_turn_pass_into_inconclusive():
    """A gain at 2.3 standard errors passes once and not after an inconclusive look."""
    results = noisy(0.0325)
    rules = policy(goal=superior())
    first = decided(rules, results)
    earlier = replace(first.look, results_digest="0" * 32, verdict="INCONCLUSIVE", made_at="2026-01-01T00:00:00+00:00")
    second = decided(rules, results, looks=[earlier])
    assert (first.word, second.word, second.price.look) == ("PASS", "INCONCLUSIVE", 2)
    assert "look 2 at this candidate" in str(second)
    assert decided(rules, results, looks=[replace(earlier, golden_digest="another set")]).word == "PASS"


def test_the_price_is_not_a_present_to_a_harmful_candidate():
    """A failure is shown at the policy's own confidence, however often one looks."""
    results, rules = noisy(-0.083), policy(goal=non_inferior(0.05))
    first = decided(rules, results)
    before = [replace(first.look, results_digest=str(i), made_at=f"2026-01-0{i}T00:00:00+00:00") for i in range(1, 6)]
    assert [decided(rules, results, looks=looks).word for looks in ([], before)] == ["FAIL", "FAIL"]


def test_variants_of_the_same_results_were_tried_too():
    scores = {name: [0.5, 0.6] * 20 for name in ("v1", "v2", "v3", "v4")}
    assert decided(policy(goal=superior()), gateable(scores)).price.candidates == 3


def test_candidates_that_a_bundle_was_chosen_among_in_the_playground_were_tried_too():
    """The saved bundle says so itself, outside its digest; what was tried on other questions does not count."""
    results = noisy(0.1, n=40)
    name = results.variants[-1]
    digest = results.bundles[name].digest
    for golden, candidates in ((results.golden_digest, 4), ("f" * 64, 1)):
        chosen = results.bundles[name].model_copy(update={"metadata": {"tried": {golden: ["a", "b", "c", digest]}}})
        judged = replace(results, bundles={**results.bundles, name: chosen})
        assert decided(policy(goal=superior()), judged).price.candidates == candidates


def test_an_entry_that_is_no_look_is_refused():
    with pytest.raises(DataError, match="ledger"):
        Look.from_record({"results_digest": "r"})
    assert Look.from_record(look().to_record()) == look()


@pytest.mark.usefixtures("project")
def test_the_ledger_lives_in_the_tracking_store():
    """Logged decisions are found by golden set from any checkout; the same one twice is one entry."""
    results = noisy(0.1, n=40)
    rules = policy(goal=superior())
    decision = decided(rules, results)
    tracking.log(results, decision)
    tracking.log(results, decided(rules, results))
    (kept,) = tracking.looks(results.golden_digest)
    assert kept == decision.look
    assert tracking.looks("f" * 64) == ()
    assert decided(rules, results, looks=[kept]).price.asked == 0.95
