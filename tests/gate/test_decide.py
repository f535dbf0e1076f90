"""Every rule says PASS, FAIL or INCONCLUSIVE where it should, and INVALID stands above them all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmlab as ll
from llmlab.base.errors import FileRuleError, FloatingModelError, GateError
from llmlab.bundle.bundle import Bundle
from llmlab.gate.passport import JudgePassport, Limit, Measured
from llmlab.stats.burdens import holm
from llmlab.stats.paired import mean_difference
from tests.gate.gating import decided, gateable, no_shown_harm, noisy, non_inferior, policy, superior
from tests.made_results import with_numbers

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("goal", "gain", "word"),
    [
        (superior(0.02), 0.10, "PASS"),
        (superior(0.02), 0.03, "PASS"),
        (superior(0.05), 0.04, "INCONCLUSIVE"),  # above 0, but it does not reach what counts
        (superior(0.02), 0.015, "INCONCLUSIVE"),
        (superior(0.10), 0.04, "FAIL"),  # real, too small
        (superior(0.0), -0.10, "FAIL"),
        (non_inferior(0.05), 0.0, "PASS"),
        (non_inferior(0.02), 0.0, "INCONCLUSIVE"),
        (non_inferior(0.02), -0.10, "FAIL"),
        (no_shown_harm(0.02), -0.03, "PASS"),  # not shown, though likely
        (no_shown_harm(0.02), -0.10, "FAIL"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["higher is better", "lower is better"])
def test_each_rule_reads_its_own_interval(goal, gain, word, turned):
    """200 cases, sd 0.2: the standard error is 0.014. Signs turn for lower-is-better."""
    results = noisy(-gain if turned else gain, higher_is_better=not turned)
    decision = decided(policy(goal=goal), results)
    assert decision.word == word
    assert decision.conditions[0].value == pytest.approx(-gain if turned else gain, abs=0.01)
    assert decision.exit_code == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[word]


def test_superior_reads_the_95_and_non_inferior_the_90_percent_interval():
    decision = decided(policy(goal=superior(), guards=[non_inferior()]), noisy(0.1))
    assert [c.level for c in decision.conditions] == [0.95, pytest.approx(0.90)]


@pytest.mark.parametrize(("at_least", "word"), [(0.40, "PASS"), (0.46, "INCONCLUSIVE"), (0.60, "FAIL")])
def test_a_floor_is_cleared_by_the_end_of_the_interval_and_not_by_the_mean(at_least, word):
    floors = [{"metric": "right", "at_least": at_least}]
    assert decided(policy(floors=floors), noisy(0.02)).word == word


def test_a_floor_reads_the_interval_that_the_summary_shows():
    """Clusters too: one of twenty fails as a whole; by t the interval would reach beyond 1."""
    scores, clusters = [0.0] * 4 + [1.0] * 76, [f"d{i // 4}" for i in range(80)]
    results = gateable({"v1": scores, "v2": scores}, clusters=clusters)
    (condition,) = decided(policy(floors=[{"metric": "right", "at_least": 0.8}]), results).conditions
    shown = results.summary().estimates["v2", "right"]
    assert (condition.value, condition.low, condition.high) == (shown.value, shown.low, shown.high)
    assert condition.high <= 1
    assert condition.verdict == ("PASS" if shown.low >= 0.8 else "INCONCLUSIVE")


@pytest.mark.parametrize(("rule", "word"), [("at_least", "PASS"), ("at_most", "FAIL")])
def test_a_floor_of_few_clusters_is_held_against_its_own_bound_and_not_against_0(rule, word):
    """Signs tell two arms apart; a mean of 7 with nothing to bound it is no difference."""
    seconds = [6.8, 7.1, 7.0, 7.2, 6.9, 7.1, 6.9, 7.0, 7.1, 6.9] * 2
    few = gateable({"v1": seconds, "v2": seconds}, clusters=[f"d{i % 5}" for i in range(20)], low=0.0, high=None)
    (condition,) = decided(policy(floors=[{"metric": "right", rule: 6.0}]), few).conditions
    shown = few.summary().estimate("v2", "right")
    assert (condition.low, condition.high) == pytest.approx((shown.low, shown.high))
    assert (condition.verdict, condition.low > 6.0) == (word, True)


def test_a_floor_of_a_cost_is_a_ceiling():
    results = with_numbers(noisy(0.1), cost_usd=[0.01, 0.012] * 200)
    assert decided(policy(floors=[{"metric": "cost_usd", "at_most": 0.02}]), results).word == "PASS"
    assert decided(policy(floors=[{"metric": "cost_usd", "at_most": 0.005}]), results).word == "FAIL"


def test_27_small_gains_do_not_outvote_3_collapses():
    """Wilcoxon says p about .001 better; the interval of the mean spans 0."""
    a, b = [0.5] * 27 + [0.9] * 3, [0.6] * 27 + [0.02] * 3
    decision = decided(policy(goal=superior(0.0)), gateable({"v1": a, "v2": b}))
    assert decision.word != "PASS"
    assert decision.conditions[0].low < 0 < decision.conditions[0].high


def test_an_interval_without_width_is_no_certainty():
    """Four cases that all gain 0.1: the sign-flip test cannot go below p = 1/8."""
    few = gateable({"v1": [0.5] * 5, "v2": [0.75] * 5})
    many = gateable({"v1": [0.5] * 40, "v2": [0.75] * 40})
    rules = policy(goal=superior(), minimum_cases=2)
    assert [decided(rules, results).word for results in (few, many)] == ["INCONCLUSIVE", "PASS"]


def test_all_ties_rule_out_harm_only_with_enough_cases():
    """No harmed case among G has the chance (1 - margin)^G where harm of the margin is real: .98^100 = .13."""
    rules = policy(goal=non_inferior(0.02))
    ties = {n: gateable({"v1": [1.0] * n, "v2": [1.0] * n}) for n in (100, 160)}
    assert [decided(rules, results).word for results in ties.values()] == ["INCONCLUSIVE", "PASS"]
    needed = decided(rules, ties[100]).needed_cases
    assert needed.likely == pytest.approx(np.log(0.05) / np.log(0.98), abs=2)


@pytest.mark.parametrize("goal", [superior(), non_inferior()])
def test_too_few_clusters_are_inconclusive_whatever_they_say(goal):
    """Three clusters of 40 cases each: under 4 effective degrees of freedom nothing is proved or refuted."""
    for gain in (0.2, -0.2):
        decision = decided(policy(goal=goal), noisy(gain, n=120, clusters=["a", "b", "c"] * 40))
        assert decision.word == "INCONCLUSIVE"
        assert decision.needed_cases is None
        assert any("too few for a verdict" in note for note in decision.conditions[0].notes)


def test_the_policy_names_what_repeats_become():
    """Majority of 0, 0, 1 is 0 and any of it is 1."""
    results = gateable({"v1": [0.0, 0.0, 0.0] * 30, "v2": [0.0, 0.0, 1.0] * 30}, repeats=3)
    words = {how: decided(policy(goal=superior(), aggregation=how), results).word for how in ("majority", "any")}
    assert words == {"majority": "INCONCLUSIVE", "any": "PASS"}


# -- missing rows ------------------------------------------------------------------------------------------------


def test_a_scorer_that_fails_on_the_bad_half_does_not_lift_into_pass():
    """The seen half is perfect; what is unscored is taken at its worst, and too much of it is INVALID."""
    results = gateable({"v1": [0.5] * 60, "v2": [None] * 30 + [1.0] * 30})
    assert decided(policy(goal=superior()), results).word == "INVALID"
    lenient = decided(policy(goal=superior(), unscored_at_most=1.0), results)
    assert (lenient.word, lenient.conditions[0].unscored) == ("INCONCLUSIVE", 30)


def test_a_few_missing_rows_are_taken_at_their_worst_for_the_candidate():
    """4 of 100 unscored: the gain of .06 is .96 * .06 - .04 * .5 at worst, which no longer reaches .04."""
    a, b = [0.5] * 100, [0.56, 0.55, 0.57, 0.56] * 25
    whole = decided(policy(goal=superior(0.04)), gateable({"v1": a, "v2": b}))
    holes = decided(policy(goal=superior(0.04)), gateable({"v1": a, "v2": [None] * 4 + b[4:]}))
    assert (whole.word, holes.word) == ("PASS", "INCONCLUSIVE")
    assert holes.conditions[0].value == pytest.approx((0.96 * 0.06) - 0.04 * 0.5, abs=1e-3)
    of_baseline = decided(policy(goal=superior()), gateable({"v1": [None] * 4 + a[4:], "v2": b}))  # at their best
    assert of_baseline.conditions[0].value == pytest.approx(0.06 - 0.04 * 0.5, abs=1e-3)


def test_one_missing_repeat_counts_as_one_answer_and_not_as_a_case():
    """A case with one of two repeats unscored is at worst half wrong."""
    a, b = [0.5] * 80, [None] + [0.9] * 79
    condition = decided(policy(goal=superior()), gateable({"v1": a, "v2": b}, repeats=2)).conditions[0]
    assert condition.value == pytest.approx((39 * 0.4 + (0.45 - 0.5)) / 40)
    assert (condition.unscored, condition.attempted, condition.n_cases) == (1, 160, 40)


def test_unbounded_metrics_are_invalid_above_the_share_and_taken_beyond_the_worst_seen_below():
    """Up to five of a hundred, counted exactly (2 of 40 are not more than .05): 1.5 sd below the baseline's 1.0."""
    scores = {"v1": [1.0, 2.0] * 50, "v2": [2.0, 3.1] * 50}
    rules = policy(goal=superior())
    scores["v2"][:5] = [None] * 5
    few = decided(rules, gateable(scores, low=None, high=None))
    scores["v2"][:6] = [None] * 6
    many = decided(rules, gateable(scores, low=None, high=None))
    assert (few.word, few.conditions[0].n_cases, many.word) == ("PASS", 100, "INVALID")
    assert few.conditions[0].value == pytest.approx((5 * (1.0 - 1.5 * 0.5) + 3.1 + 47 * 5.1) / 100 - 1.5)
    assert "the worst score seen" in few.conditions[0].notes[-2]
    forty = {"v1": [1.0, 2.0] * 20, "v2": [None, None, *[2.0, 3.1] * 19]}
    assert decided(rules, gateable(forty, low=None, high=None)).word == "PASS"
    late = gateable(
        {"v1": [9.0] * 40, "v2": [None, None, *[1.0, 1.1] * 19]}, low=0.0, high=None, higher_is_better=False
    )
    assert decided(policy(floors=[{"metric": "right", "at_most": 1.6}]), late).word == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("rule", "lost_in"),
    [(superior(0.0), "v2"), (superior(0.9), "v2"), (non_inferior(0.2), "v1"), (non_inferior(0.2), "v2")],
)
@pytest.mark.parametrize("turned", [False, True], ids=["higher is better", "lower is better"])
def test_a_proof_with_answers_that_nothing_bounds_falls_where_its_note_says(rule, lost_in, turned):
    """Read off the note, to two digits: a little short of it the condition passes, a little beyond it does not."""
    rng = np.random.default_rng(3)
    a = rng.normal(5, 1, 100)
    scores = {"v1": a.tolist(), "v2": (a + (-1 if turned else 1) * rng.normal(1, 0.5, 100)).tolist()}
    scores[lost_in][:3] = [None] * 3
    how = {"low": None, "high": None, "higher_is_better": not turned}
    if turned and lost_in == "v2" and "margin" in rule:
        how, rule = how | {"low": 0.0}, rule | {"margin": "4%"}
    rules = policy(goal=rule)
    (condition,) = decided(rules, gateable(scores, **how)).conditions
    assert condition.verdict == "PASS"
    note = condition.notes[-1]
    assert f"the 3 lost answers of {lost_in} were {'over' if (lost_in == 'v2') == turned else 'under'}" in note
    point = float(note.split("were ")[1].split()[1].replace(",", ""))
    beyond = 0.06 * abs(point) * (1 if "over" in note else -1)
    for value, verdict in ((point - beyond, "PASS"), (point + beyond, "INCONCLUSIVE")):
        taken = {name: [value if v is None else v for v in some] for name, some in scores.items()}
        assert decided(rules, gateable(taken, **how)).conditions[0].verdict == verdict


def test_a_category_whose_answers_are_lost_is_not_shown_harmless():
    """One answer of ten is scored, so that no pairs tell: nine that may all be wrong decide, and nobody knows them."""
    tags = [["a"] if i < 10 else ["b"] for i in range(300)]
    rules = policy(goal=non_inferior(0.1), categories={"rule": "no_shown_harm", "margin": 0.05})
    holes = gateable({"v1": [1.0, 0.9] * 150, "v2": [None] * 9 + [1.0] + [1.0, 0.9] * 145}, tags=tags)
    by_tag = {c.category: c.verdict for c in decided(rules, holes).conditions if c.kind == "category"}
    assert by_tag == {"a": "INCONCLUSIVE", "b": "PASS"}


def test_timeouts_are_failures_unless_the_policy_calls_them_missing():
    results = noisy(0.1)
    late = (results.frame["variant"] == "v2") & (results.frame["case_id"] < "q005")
    frame = results.frame.assign(status=np.where(late, "timeout", results.frame["status"]))
    frame.loc[late, "right"] = 0.0
    results = replace(results, frame=frame)
    failures = decided(policy(goal=superior()), results).conditions[0]
    missing = decided(policy(goal=superior(), timeouts="missing"), results).conditions[0]
    assert (failures.unscored, missing.unscored) == (0, 5)
    decision = decided(policy(goal=superior(), timeouts="missing"), results)
    assert decision.look.results_digest == decision.receipt().results_digest == results.digest  # as it is logged


# -- margins and categories --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "word"), [(1.05, "PASS"), (1.10, "INCONCLUSIVE"), (1.30, "FAIL")])
def test_a_relative_margin_compares_with_the_baselines_own_cost(factor, word):
    rng = np.random.default_rng(1)
    base = rng.uniform(0.01, 0.03, 200)
    cost = np.empty(400)
    results = noisy(0.1)
    first = (results.frame["variant"] == "v1").to_numpy()
    cost[first], cost[~first] = base, base * factor * rng.uniform(0.95, 1.05, 200)
    guards = [non_inferior("10%", metric="cost_usd")]
    decision = decided(policy(guards=guards), with_numbers(results, cost_usd=cost))
    condition = decision.conditions[0]
    assert decision.word == word
    assert condition.relative
    assert condition.value == pytest.approx(factor - 1, abs=0.01)
    assert (condition.high < 0.10) == (word == "PASS")  # the interval that is shown is the one that decides


def test_free_models_do_not_break_a_margin_in_percent():
    results = with_numbers(noisy(0.1), cost_usd=[0.0] * 400)
    for rule in ("non_inferior", "no_shown_harm"):
        assert decided(policy(guards=[non_inferior("10%", metric="cost_usd", rule=rule)]), results).word == "PASS"


@pytest.mark.parametrize("rule", ["no_shown_harm", "non_inferior"])
def test_categories_without_any_tag_are_no_pass(rule):
    decision = decided(policy(goal=superior(), categories={"rule": rule, "margin": 0.05}), noisy(0.2))
    assert decision.verdict == "INVALID"
    assert "no case has a tag" in str(decision)


def test_categories_are_adjusted_by_holm_and_say_what_they_could_have_missed():
    """One of eight tags is harmed beyond doubt; with eight families of noise no other one fails."""
    rng = np.random.default_rng(3)
    tags = [[f"t{i % 8}"] for i in range(400)]
    a = rng.integers(0, 2, 400).astype(float)
    b = np.where(np.arange(400) % 8 == 0, 0.0, rng.integers(0, 2, 400))
    a = np.where(np.arange(400) % 8 == 0, 1.0, a)
    rules = policy(goal=non_inferior(0.5), categories={"rule": "no_shown_harm", "margin": 0.05})
    decision = decided(rules, gateable({"v1": a.tolist(), "v2": b.tolist()}, tags=tags))
    parts = [c for c in decision.conditions if c.kind == "category"]
    assert [c.category for c in parts if c.verdict == "FAIL"] == ["t0"]
    assert all(c.missed > 0.05 for c in parts if c.verdict == "PASS")
    assert "could miss" in parts[1].reading


def test_a_category_of_one_case_is_shown_as_unseen_and_not_dropped():
    tags = [["big"]] * 199 + [["rare"]]
    decision = decided(policy(goal=superior(), categories={"margin": 0.05}), noisy(0.1, tags=tags))
    rare = decision.conditions[-1]
    assert (rare.category, rare.verdict, rare.n_cases) == ("rare", "PASS", 1)
    assert "no harm could have been seen" in rare.notes[0]


def test_an_anchor_stops_many_small_losses_from_adding_up():
    """v2 is no worse than v1 by 3 points, but 8 points worse than the frozen reference."""
    rng = np.random.default_rng(4)
    old = rng.uniform(0.4, 0.8, 400)
    scores = {"first": old, "v1": old - 0.06, "v2": old - 0.08 + rng.normal(0, 0.02, 400)}
    results = gateable({name: values.tolist() for name, values in scores.items()})
    rules = policy(goal=non_inferior(0.03), anchor={"bundle": "bundles/first.yaml", "margin": 0.05})
    decision = decided(rules, results)
    assert [(c.kind, c.verdict) for c in decision.conditions] == [("goal", "PASS"), ("anchor", "FAIL")]
    without = gateable({name: scores[name].tolist() for name in ("v1", "v2")})
    assert "anchor" in decided(rules, without).reasons[0]
    named = gateable({"anchor" if name == "first" else name: values.tolist() for name, values in scores.items()})
    assert decided(rules, named).word == decision.word  # as `registry.arms` calls it


def test_a_first_release_is_judged_by_its_floors_and_says_so():
    rules = policy(baseline="none", goal=superior(), floors=[{"metric": "right", "at_least": 0.3}])
    decision = rules.decide(noisy(0.1), candidate="v2")
    assert decision.word == "PASS"
    assert [c.verdict for c in decision.conditions] == ["NOT JUDGED", "PASS"]
    assert "no baseline" in str(decision)
    assert decision.receipt().baseline_digest == ""


# -- INVALID -----------------------------------------------------------------------------------------------------


def _floating(results):
    bundles = {name: Bundle.from_prompt(f"{name}", model="openai/gpt-4o") for name in results.variants}
    return replace(results, bundles=bundles)


def _served(results):
    served = ["one", "two"] * (len(results.frame) // 4) + ["one"] * (len(results.frame) // 2)
    frame = results.frame.sort_values("variant", ascending=False)
    return replace(results, frame=frame.assign(served_model=served))


def _one_arm_short(results):
    gone = (results.frame["variant"] == "v2") & (results.frame["case_id"] >= "q120")
    return replace(results, frame=results.frame[~gone])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: replace(r, complete=False), "the run is partial"),
        (lambda r: replace(r, frame=r.frame.assign(status="error")), "the run is FAILED"),
        (_floating, "is floating"),
        (lambda r: replace(r, provenance={"app": "desk:answer", "commit": "abc", "dirty": True}), "uncommitted"),
        (lambda r: replace(r, frame=r.frame[r.frame["case_id"] < "q010"]), "the policy wants 20"),
        (lambda r: replace(r, frame=r.frame[r.frame["case_id"] < "q150"]), "were never asked"),
        (_served, "the model changed under us"),
        (_one_arm_short, "not asked equally often"),
        (lambda r: replace(r, provenance={"judges": {"right": {"digest": "j" * 64}}}), "has no passport"),
        (lambda r: replace(r, provenance={"judges": {"right": {"digest": "j", "pinned": False}}}), "is floating"),
        (lambda r: replace(r, golden=None, golden_digest=""), "no golden set"),
    ],
)
def test_no_verdict_rests_on_such_results(change, reason):
    decision = decided(policy(goal=superior()), change(noisy(0.1)))
    assert (decision.word, decision.exit_code, decision.conditions) == ("INVALID", 2, ())
    assert reason in " ".join(decision.reasons)


def test_a_judged_metric_needs_a_passport_that_holds():
    judge = "j" * 64
    results = noisy(0.1)
    results = replace(results, metrics={"right": replace(results.metric("right"), judge=judge)})
    passport = JudgePassport(
        judge_digest=judge,
        labels_digest="l" * 64,
        metrics={"kappa": Measured(value=0.7, low=0.6, high=0.8, n=200)},
        limits={"kappa": Limit(at_least=0.6)},
        created_at="2026-01-01T00:00:00+00:00",
        expires_at="2026-12-31T00:00:00+00:00",
    )
    rules = policy(goal=superior())
    assert decided(rules, results, passports=[passport], now=NOW).word == "PASS"
    late = decided(rules, results, passports=[passport], now=NOW + timedelta(days=365))
    assert (late.word, "expired" in late.reasons[0]) == ("INVALID", True)
    without_limits = passport.model_copy(update={"limits": {}})
    assert "states no limits" in decided(rules, results, passports=[without_limits], now=NOW).sentence
    assert decided(policy(goal=superior(), judge={"passport": "not required"}), results).word == "PASS"


@pytest.mark.parametrize(
    ("candidate", "rule"), [("v9", "no variant 'v9' for the candidate"), ("v1", "both candidate and baseline")]
)
def test_unknown_variants_are_the_callers_mistake(candidate, rule):
    with pytest.raises(ValueError, match=rule):
        policy(goal=superior()).decide(noisy(0.1), baseline="v1", candidate=candidate)


# -- what would settle it, and how it is shown -------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "bound", "gain"), [(non_inferior, 0.04, 0.0), (superior, 0.04, 0.06)])
def test_what_lost_answers_take_off_more_cases_do_not_bring_back(rule, bound, gain):
    """As large a share is lost of more cases: so many settle it in 80%, and where all is taken off none are named."""

    def look(n, seed, *, lost=60, bound=bound, gain=gain):
        drawn = np.random.default_rng(seed)
        a = drawn.uniform(0.3, 0.6, n)
        b = np.clip(a + drawn.normal(gain, 0.2, n), 0, 1).tolist()
        found = gateable({"v1": a.tolist(), "v2": [None if i % lost == 0 else x for i, x in enumerate(b)]})
        return decided(policy(goal=rule(bound)), found)

    pilot = next(found for seed in range(9) if (found := look(120, seed)).needed_cases is not None)
    needed = pilot.needed_cases.likely
    assert [look(needed, seed).word for seed in range(20, 36)].count("PASS") >= 10
    lossy = look(120, 0, lost=24, bound=bound / 2.5, gain=gain / 3)
    assert lossy.word == "INCONCLUSIVE"
    assert lossy.needed_cases is None
    assert "more cases" not in lossy.sentence


def test_needed_cases_are_planned_at_the_margin_and_priced():
    """(1.645 + .842)^2 sd^2 / m^2, whatever the observed effect, at $0.03 a case for both arms."""
    results = with_numbers(noisy(-0.004), cost_usd=[0.01, 0.02] * 200)
    decision = decided(policy(goal=non_inferior(0.02)), results)
    assert decision.word == "INCONCLUSIVE"
    variance = decision.conditions[0].se ** 2 * 200
    assert decision.needed_cases.likely == pytest.approx((1.645 + 0.842) ** 2 * variance / 0.02**2, rel=0.01)
    assert decision.needed_cases.low < decision.needed_cases.likely < decision.needed_cases.high
    assert decision.cost_of_more_usd == pytest.approx((decision.needed_cases.likely - 200) * 0.03)
    assert "more cases would settle it" in decision.sentence
    assert decision.needed_with_repeats is None  # there were none: nobody can tell


def test_require_pass_raises_what_sets_the_exit_code():
    rules = policy(goal=superior(0.5))
    with pytest.raises(GateError, match=r"^FAIL: ") as caught:
        decided(rules, noisy(0.1)).require_pass()
    assert caught.value.decision.verdict == "FAIL"
    assert decided(rules, noisy(0.1)).require("none").word == "FAIL"
    with pytest.raises(ValueError, match="must be 'none' or 'pass'"):
        decided(rules, noisy(0.1)).require("maybe")


def test_a_decision_shows_itself_without_nan_and_says_what_was_proved():
    decision = decided(policy(goal=superior(), guards=[no_shown_harm()]), noisy(0.1))
    for shown in (str(decision), repr(decision), decision._repr_html_()):
        assert "nan" not in shown.lower().replace("finance", "")
        assert "Only not shown harmful, which is no proof: 1 condition" in shown
    assert len(decision.to_frame()) == 2


# -- baseline rows from an earlier run ---------------------------------------------------------------------------


def _parts(served="m-1"):
    results = noisy(0.1)
    whole = replace(results, frame=results.frame.assign(served_model=served), created_at="2026-05-30T00:00:00+00:00")
    rows = {name: whole.frame[whole.frame["variant"] == name] for name in ("v1", "v2")}
    return whole, *(replace(whole, frame=rows[name], bundles={name: whole.bundles[name]}) for name in rows)


def test_a_young_baseline_of_the_same_questions_stands_in():
    whole, earlier, today = _parts()
    rules = policy(goal=superior())
    decision = decided(rules, today, baseline_results=earlier, now=NOW)
    assert decision.conditions[0].low == pytest.approx(decided(rules, whole, now=NOW).conditions[0].low)
    assert decision.receipt().earlier_baseline["results_digest"] == earlier.digest
    assert "earlier run" in " ".join(decision.notes)


@pytest.mark.parametrize(
    ("served", "change", "reason"),
    [
        ("m-1", {"created_at": "2026-05-01T00:00:00+00:00"}, "older than 7 days"),
        ("m-1", {"golden_digest": "f" * 64}, "another golden set"),
        ("m-1", {"complete": False}, "is partial"),
        ("m-2", {}, "was served as m-2 then and as m-1 now"),
    ],
)
def test_an_earlier_baseline_that_does_not_fit_is_invalid(served, change, reason):
    earlier, today = _parts(served)[1], _parts("m-1")[2]
    decision = decided(policy(goal=superior()), today, baseline_results=replace(earlier, **change), now=NOW)
    assert decision.word == "INVALID"
    assert reason in " ".join(decision.reasons)


def test_the_gate_weighs_cases_by_what_they_stand_for():
    """The cases that matter most lose: unweighted a PASS, weighted a FAIL, and the decision says what it read."""
    worse = ([0.1] * 15 + [-0.4] * 5) * 10
    scores = {"v1": [0.5] * 200, "v2": [0.5 + d + 0.01 * (i % 3) for i, d in enumerate(worse)]}
    weights = ([1.0] * 15 + [9.0] * 5) * 10
    rules = policy(goal=superior(0.0), floors=[{"metric": "right", "at_least": 0.4}])
    assert decided(rules, gateable(scores)).word != "FAIL"
    decision = decided(rules, gateable(scores, weights=weights))
    assert decision.word == "FAIL"
    d = np.array(scores["v2"]) - 0.5
    assert decision.conditions[0].value == pytest.approx(np.average(d, weights=weights))
    assert decision.conditions[1].value == pytest.approx(np.average(d, weights=weights) + 0.5)
    assert any("Cases are weighted" in note for note in decision.notes)


def test_an_open_decision_says_what_repeats_would_give_instead_of_cases():
    """Cases alike, answers noisy: repeats help. Answers steady, cases unlike: they are not offered."""
    rng = np.random.default_rng(4)
    ability = rng.normal(0.5, 0.02, 60)
    noisy_answers = {
        name: np.clip(ability[:, None] + rng.normal(0, 0.15, (60, 2)), 0, 1).ravel().tolist() for name in ("v1", "v2")
    }
    decision = decided(policy(goal=non_inferior(0.02)), gateable(noisy_answers, repeats=2))
    assert decision.word == "INCONCLUSIVE"
    repeats, now, then = decision.needed_with_repeats
    assert (repeats, now) == (5, 2)
    assert then.likely == pytest.approx(decision.needed_cases.likely * 2 / 5, rel=0.15)
    assert "or 5 repeats instead of 2 and" in decision.sentence
    gains = rng.normal(0, 0.2, 60)
    steady = {"v1": [0.5] * 120, "v2": np.repeat(np.clip(0.5 + gains, 0, 1), 2).tolist()}
    plain = decided(policy(goal=non_inferior(0.02)), gateable(steady, repeats=2))
    assert plain.word == "INCONCLUSIVE"
    assert plain.needed_with_repeats is None


def test_what_would_be_invalid_is_said_before_anything_is_asked(tmp_path):
    """A floating model, a judge without a passport, labels that are not there; judges that decide nothing may float."""
    pinned = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06")
    floating = pinned.with_(model="openai/gpt-4o")
    rules = policy(goal=superior(), judge={"labels": ["people.jsonl"]})
    cases = ll.GoldenSet(tuple(ll.Case(id=f"q{i}", inputs={"question": f"{i}?"}) for i in range(30)))
    rules.require_ready(pinned, {"beside": floating}, cases)
    with pytest.raises(FloatingModelError):
        rules.require_ready(floating, {}, cases)
    with pytest.raises(FloatingModelError):
        rules.require_ready(pinned, {"right": floating}, cases)
    with pytest.raises(GateError, match=r"INVALID: right is judged by .*no passport"):
        rules.require_ready(pinned, {"right": pinned}, cases)
    with pytest.raises(FileRuleError, match=r"people\.jsonl"):
        rules.require_ready(pinned, {}, cases, folder=tmp_path)
    of_tags = policy(goal=superior(), minimum_cases=31, categories={"rule": "no_shown_harm", "margin": 0.05})
    with pytest.raises(GateError, match=r"INVALID: 30 cases, the policy wants 31.*no case has a tag"):
        of_tags.require_ready(pinned, {}, cases)


@pytest.mark.parametrize("cost", [0.0002, 0.1, 1 / 3, 7e-7])
def test_equal_costs_differ_by_nothing_and_not_by_a_rounding(cost):
    """Read against a margin in percent."""
    results = with_numbers(noisy(0.1), cost_usd=[cost] * 400)
    decision = decided(policy(guards=[non_inferior("10%", metric="cost_usd")]), results)
    assert decision.conditions[0].value == 0.0
    assert decision.conditions[0].notes == ("no difference seen: the arms are equal in every case",)


def test_a_fully_scored_category_shows_the_p_value_that_decided_it():
    """Not what Holm leaves of it once the other category's lost answers are at their worst, and harm there is clear."""
    tags, n_lost = [["lossy"]] * 60 + [["whole"]] * 100, 5
    candidate = [None] * n_lost + [0.0] * 7 + [1.0] * 48 + [0.0] * 14 + [1.0] * 86
    rules = policy(goal=non_inferior(0.6), categories={"rule": "no_shown_harm", "margin": 0.05})
    lossy, whole = decided(rules, gateable({"v1": [1.0] * 160, "v2": candidate}, tags=tags)).conditions[1:]
    p = [mean_difference([-1.0] * k + [0.0] * (n - k), bounds=(-1, 1)).p_below(-0.05) for k, n in ((7, 55), (14, 100))]
    assert (whole.unscored, whole.verdict, whole.p_value) == (0, "FAIL", pytest.approx(holm(p)[1]))
    assert (lossy.unscored, lossy.p_value < whole.p_value) == (n_lost, True)


def test_a_metric_without_scores_is_told_with_what_its_scorer_says():
    results = gateable({"v1": [None] * 30, "v2": [1.0] * 30})
    why = ['{"right": "the scorer raised KeyError: town"}' if v == "v1" else "" for (v,) in results.answers("variant")]
    decision = decided(policy(goal=non_inferior()), results.with_columns(explanations=why))
    assert decision.word == "INVALID"
    assert any("30 of 30" in reason and "KeyError: town" in reason for reason in decision.reasons)


def test_a_bundle_against_itself_is_told_and_plans_no_cases():
    results = noisy(0.0)
    same = replace(results, bundles=dict.fromkeys(("v1", "v2"), results.bundles["v1"]))
    decision = decided(policy(goal=superior()), same)
    assert decision.needed_cases is None
    assert any("one bundle" in note for note in decision.notes)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 1.0])] * 2), min_size=8, max_size=40),
    st.sets(st.integers(0, 39), max_size=2),
    st.booleans(),
)
def test_p_value_interval_and_verdict_of_every_condition_agree(pairs, lost, up):
    """PASS where p is small and the interval clears the bound, FAIL where all of it misses; p of harm is Holm's."""
    a, b = (list(column) for column in zip(*pairs, strict=True))
    b = [None if i in lost else x for i, x in enumerate(b)]
    tags = [["even"] if i % 2 else ["odd"] for i in range(len(a))]
    rules = policy(
        goal=superior(0.05),
        guards=[non_inferior(0.1), no_shown_harm(0.05)],
        floors=[{"metric": "right", "at_least" if up else "at_most": 0.5}],
        categories={"rule": "no_shown_harm", "margin": 0.05},
        unscored_at_most=0.5,
    )
    results = gateable({"v1": a, "v2": b}, tags=tags, higher_is_better=up)
    for c in decided(rules, results).conditions:
        if c.value is None or c.df is None or c.df < 4:
            continue
        low, high = (c.low, c.high) if up else (-c.high, -c.low)
        bound = c.bound if c.rule == "floor" and up else -c.bound
        if c.rule == "no_shown_harm":
            assert c.verdict != "FAIL" or (c.p_value < 0.025 and high < bound)
            assert c.verdict != "PASS" or c.p_value >= 0.025
        elif c.rule == "superior":
            assert (c.p_value < 0.05) == (not low <= 0 <= high)
            assert c.verdict != "PASS" or low > 0
            assert c.verdict != "FAIL" or high < c.bound
        else:
            tail = 0.025 if c.rule == "floor" else 0.05
            assert (c.p_value < tail) == (low > bound)
            assert c.verdict != "PASS" or low > bound
            assert c.verdict != "FAIL" or high < bound
