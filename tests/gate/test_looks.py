"""Looking again and choosing among many have a price; the same look is free."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from llmlab import registry, tracking
from llmlab.base.errors import DataError, FileRuleError
from llmlab.gate import Ledger, Look, explored
from llmlab.gate.looks import level_of_look, price_of_looking
from llmlab.golden import GoldenSet
from tests.gate.gating import decided, gateable, noisy, non_inferior, policy, superior


def look(results="r", *, candidate="c", day=1, verdict="INCONCLUSIVE", rules="p", **more):
    return Look(
        results_digest=results,
        policy_digest=rules,
        bundle_digest=candidate,
        golden_digest="g",
        verdict=verdict,
        made_at=f"2026-02-{day:02}T00:00:00+00:00",
        **more,
    )


def number(before, this=None, *, baseline="", promotions=()):
    """Which of the looks and candidates of its cycle this is."""
    this = this or look("now", day=28)
    known = Ledger(looks=tuple(before), promotions=promotions).cycle(this, baseline=baseline)
    return price_of_looking(known, this, confidence=0.95).counted


def test_the_second_look_and_the_second_candidate_pay_and_all_together_stay_under_their_bound():
    """alpha, alpha / 4, alpha / 9...: whether the same candidate is looked at again or another one."""
    levels = [level_of_look(k, confidence=0.95) for k in range(1, 1001)]
    assert levels[:3] == [0.95, *map(pytest.approx, (0.9875, 1 - 0.05 / 9))]
    assert sum(1 - level for level in levels) < 1.65 * 0.05
    again, other = [look("r1")], [look("r1", candidate="d")]
    assert [number(again), number(other), number([*again, *other])] == [2, 2, 3]
    declared = [level_of_look(k, confidence=0.95, declared=10) for k in range(1, 1001)]
    assert declared[:10] == [pytest.approx(0.995)] * 10
    assert sum(1 - level for level in declared) < 1.1 * 0.05


def test_candidates_that_stood_beside_the_chosen_one_count_in_later_looks_too():
    """The best of three was looked at three times over; and what was tried before there were results, once."""
    three = look("r1", beside="dddddddd eeeeeeee")
    assert price_of_looking([], three, confidence=0.95).counted == 3
    assert number([three]) == 4
    other = look("r1", candidate="dddddddd", day=2, beside="c eeeeeeee")
    assert [number([three, other]), number([three, replace(other, results_digest="r2")])] == [4, 7]
    assert number([look("r1", tried="aaaaaaaa bbbbbbbb")], look("now", day=28, tried="aaaaaaaa")) == 4


def test_a_cycle_ends_with_a_promotion_and_with_a_pass_of_what_is_the_baseline_now():
    before = [look("r1"), look("r2", candidate="d", day=3, verdict="PASS"), look("r3", day=5)]
    assert [number(before), number(before, baseline="d"), number(before, baseline="c")] == [4, 2, 4]
    assert number(before, promotions=("2026-02-04T00:00:00+00:00",)) == 2
    assert number(before, promotions=("2026-03-04T00:00:00+00:00",)) == 4  # what came later ended nothing


def test_a_cycle_is_of_one_name_and_alias_and_of_golden_sets_that_share_half_of_their_cases():
    """Whatever ids they have: added cases change nothing, fresh ones begin anew. Entries of 0.1 have no name."""
    this = look("now", day=28, name="desk", alias="production", cases=frozenset("abcd"))
    sets = {"abcd": 2, "ab": 2, "abcdefghijkl": 2, "abxy": 2, "axyz": 1, "": 1}
    others = {cases: replace(look("r1", cases=frozenset(cases)), golden_digest="another") for cases in sets}
    assert {cases: number([other], this) for cases, other in others.items()} == sets
    names = [({}, 2), ({"name": "desk", "alias": "production"}, 2), ({"name": "shop"}, 1), ({"alias": "staging"}, 1)]
    assert [number([look("r1", **one)], this) for one, _ in names] == [expected for _, expected in names]


def test_the_same_results_by_the_same_policy_are_the_same_look_and_an_invalid_one_is_none():
    """Whatever came later: a promotion that decides again finds what the gate found."""
    first = look("now", day=5)
    before = [look("r0", day=1), first, look("r9", candidate="d", day=9)]
    assert number(before) == number([before[0]]) == 2
    assert number([*before, look("now", day=10, rules="other policy")]) == 2
    assert number(before, look("now", day=28, rules="other policy")) == 4
    assert number([look("r0", verdict="INVALID")]) == 1  # it told nothing, and is free


@pytest.mark.parametrize(
    ("beside", "declared", "bound"), [(0, None, 1.65), (2, None, 1.65), (0, 10, 1.1), (4, 10, 1.1)]
)
def test_a_candidate_that_is_no_better_passes_no_oftener_in_a_whole_cycle_than_is_promised(beside, declared, bound):
    """Thirty rounds at a truth on the margin, the luckiest of each round's candidates judged: fresh answers, seeded.

    Exact for independent rounds: 1 - prod(1 - alpha / k^2), 7.5% at alpha .05, is the whole cycle's for one a round.
    """
    looks, levels = [], []
    for day in range(1, 29):
        names = [f"{day:04}{i:04}" for i in range(beside + 1)]
        looks.append(look(f"r{day}", candidate=names[0], day=day, beside=" ".join(names[1:])))
        levels.append(price_of_looking(looks[:-1], looks[-1], confidence=0.95, declared=declared).asked)
    rng = np.random.default_rng(beside)
    best = rng.standard_normal((20_000, len(levels), beside + 1)).max(axis=2)
    passed = (best > stats.norm.ppf(levels)).any(axis=1).mean()
    se = 3 * (0.08 * 0.92 / 20_000) ** 0.5
    assert passed < bound * 0.05 + se
    if not beside and declared is None:
        assert passed == pytest.approx(1 - np.prod(levels), abs=se)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_a_set_that_grows_from_look_to_look_keeps_the_promise(rho):
    """Looks at growing sets are correlated, which only helps: the same candidate, each look with 1 / rho more cases."""
    levels = [level_of_look(k, confidence=0.95) for k in range(1, 16)]
    n = np.cumsum([1.0, *(1 / rho ** np.arange(1, 15) - 1 / rho ** np.arange(14))])
    steps = np.diff(n, prepend=0) ** 0.5
    z = np.cumsum(np.random.default_rng(1).standard_normal((20_000, 15)) * steps, axis=1) / n**0.5
    assert (z > stats.norm.ppf(levels)).any(axis=1).mean() < 1.65 * 0.05


def test_a_second_look_may_turn_pass_into_inconclusive():
    """A gain at 2.3 standard errors passes once and not after an inconclusive look."""
    results = noisy(0.0325)
    rules = policy(goal=superior())
    first = decided(rules, results)
    earlier = replace(first.look, results_digest="0" * 32, verdict="INCONCLUSIVE", made_at="2026-01-01T00:00:00+00:00")
    second = decided(rules, results, looks=[earlier])
    assert (first.word, second.word, second.price.look) == ("PASS", "INCONCLUSIVE", 2)
    assert "look 2 of this release cycle" in str(second)
    fresh = replace(earlier, golden_digest="another set", cases=frozenset({"other cases"}))
    assert decided(rules, results, looks=[fresh]).word == "PASS"
    grown = replace(earlier, golden_digest="a set that this one was grown from")  # of the same cases
    assert decided(rules, results, looks=[grown]).word == "INCONCLUSIVE"


def test_the_price_is_not_a_present_to_a_harmful_candidate():
    """A failure is shown at the policy's own confidence, however often one looks."""
    results, rules = noisy(-0.083), policy(goal=non_inferior(0.05))
    first = decided(rules, results)
    before = [replace(first.look, results_digest=str(i), made_at=f"2026-01-0{i}T00:00:00+00:00") for i in range(1, 6)]
    later = decided(rules, results, looks=before)
    assert (first.word, later.word) == ("FAIL", "FAIL")
    assert later.price.asked > 0.99
    assert later.conditions[0].high == first.conditions[0].high < -0.05  # the interval that it was read off


@pytest.mark.parametrize("low", [0.0, None])
def test_a_broken_floor_shows_the_interval_that_it_was_read_off(low):
    results = gateable({"v1": [0.5, 0.6] * 40, "v2": [0.5, 0.6, 0.4, 0.5] * 20}, low=low)
    rules = policy(floors=[{"metric": "right", "at_least": 0.53}])
    first = decided(rules, results)
    before = [replace(first.look, results_digest=str(i), made_at=f"2026-01-0{i}T00:00:00+00:00") for i in range(1, 6)]
    ends = [decided(rules, results, looks=looks).conditions[0].high for looks in ([], before)]
    assert ends[0] == ends[1] < 0.53


def test_variants_of_the_same_results_were_tried_too():
    scores = {name: [0.5, 0.6] * 20 for name in ("v1", "v2", "v3", "v4")}
    price = decided(policy(goal=superior()), gateable(scores)).price
    assert (price.look, price.candidates, price.counted) == (1, 3, 3)


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
    assert kept.cases == decision.look.cases == {case.content for case in results.golden}
    assert tracking.looks(name="desk") == (kept,)
    assert tracking.looks("f" * 64, name="another") == ()
    assert decided(rules, results, looks=[kept]).price.asked == 0.95


@pytest.mark.usefixtures("project")
def test_the_ledger_counts_after_cases_were_added_and_not_after_a_promotion(project):
    """What INCONCLUSIVE advises is to add cases: a larger set, unrelated by digest or parent, is the same cycle."""
    rules = policy(goal=superior())
    small, large = noisy(0.1, n=40), noisy(0.1, n=60, seed=1)
    for name, results in (("small", small), ("large", large)):
        decision = decided(rules, results, looks=registry.ledger(rules, results.bundles["v2"]))
        assert (name, decision.price.look, decision.receipt().ledger) == (name, 1 + (name == "large"), "counted")
        tracking.log(results, decision)
    version = registry.register(large.bundles["v2"])
    registry.promote(version, experiment=project, reason="a test", force=True)
    after = decided(rules, noisy(0.1, n=80, seed=2), looks=registry.ledger(rules, large.bundles["v2"]))
    assert after.price.look == 1


def test_a_holdout_is_chosen_by_content_and_only_the_gate_reads_it():
    """The same cases under other ids and among others fall on the same side; the rest is what exploring reads."""
    golden = noisy(0.1, n=200).golden
    held, rest = golden.holdout(0.3), golden.explored(0.3)
    assert (len(held) + len(rest), len(held)) == (200, pytest.approx(60, abs=20))
    renamed = GoldenSet(tuple(replace(case, id=f"x{case.id}", tags=("new",)) for case in golden if case.id > "q050"))
    assert {f"x{case.id}" for case in held if case.id > "q050"} == {case.id for case in renamed.holdout(0.3)}
    with pytest.raises(ValueError, match="empty"):
        GoldenSet(held.cases[:3]).explored(0.3)


def test_exploring_an_experiment_leaves_the_holdout_of_its_gate_alone(tmp_path):
    golden = noisy(0.1, n=60).golden
    golden.save(tmp_path / "golden.jsonl")
    assert explored(tmp_path).digest == golden.digest
    (tmp_path / "gate.yaml").write_text(policy(goal=superior(), holdout=0.25).to_yaml(), encoding="utf-8")
    assert explored(tmp_path).digest == golden.explored(0.25).digest
    (tmp_path / "gate.yaml").write_text("baseline: none\nholdout: most\n", encoding="utf-8")
    with pytest.raises(FileRuleError, match="10%"):
        explored(tmp_path)


def test_a_policy_with_a_holdout_judges_it_alone_and_ends_the_cycle():
    """What was looked at on the other cases does not count, and losing on those does not either."""
    results = noisy(0.1)
    shown, hidden = policy(goal=superior()), policy(goal=superior(), holdout="30%")
    before = decided(shown, results.only(cases=results.golden.explored(0.3).by_id))
    fresh = decided(hidden, results, looks=[replace(before.look, made_at="2026-01-01T00:00:00+00:00")])
    assert (fresh.price.look, fresh.n_cases) == (1, len(results.golden.holdout(0.3)))
    assert fresh.facts["results_digest"] == results.digest  # of what was logged
    alone = results.only(cases=results.golden.holdout(0.3).by_id)
    assert decided(hidden, alone).conditions == fresh.conditions
    second = decided(hidden, alone, looks=[replace(fresh.look, verdict="FAIL", made_at="2026-01-02T00:00:00+00:00")])
    assert second.price.look == 2
    assert (
        shown.digest == "27210e74e0583f6b7fa064c05793c2597885db11efbbe4a30f0b4b981fd30a32"
    )  # as in 0.1: rules that came later are left out
