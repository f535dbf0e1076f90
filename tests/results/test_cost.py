"""Cost per success, the bill and consistency: known answers, and what cannot be known is said."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from llmlab.golden.cases import GoldenSet
from llmlab.results.summary import latency_line, latency_quantiles
from llmlab.stats.bounded import share_estimate
from tests.made_results import made, with_numbers


@pytest.mark.parametrize("bad", [0.0, None])
def test_cost_per_success_counts_every_attempt(bad):
    """4 dollars for 20 answers of which half are good: 40 cents each; an unscored one costs and is no success."""
    results = with_numbers(made({"a": [1.0, bad] * 10}), cost_usd=[0.2] * 20)
    cost = results.cost_per_success("right").estimate("a")
    assert cost.value == pytest.approx(0.4)
    assert cost.low < 0.4 < cost.high


@pytest.mark.parametrize(
    ("scores", "costs", "said"), [([0.0] * 20, [0.2] * 20, "undefined"), ([1.0] * 20, [None] * 20, "unknown")]
)
def test_what_is_undefined_has_no_value_and_says_why(scores, costs, said):
    found = with_numbers(made({"a": scores}), cost_usd=costs).cost_per_success("right").estimate("a")
    assert found.value is None
    assert said in found.notes[0]


def test_a_metric_without_bounds_has_no_successes():
    with pytest.raises(ValueError, match="no bounds"):
        made({"a": [1.0, 2.0]}, low=None, high=None).cost_per_success("right")


def test_consistency_is_the_chance_that_two_answers_agree():
    """Per case 1, 0 and 1/3 of the pairs agree... here: always, never, always. Without repeats it says what to do."""
    scores = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0] * 5
    agree = made({"a": scores}, repeats=2).consistency("right").estimate("a")
    assert (agree.value, agree.n) == (pytest.approx(2 / 3), 15)
    once = made({"a": [1.0, 0.0]}).consistency("right").estimate("a")
    assert once.value is None
    assert "repeats=2" in once.notes[0]


def test_the_bill_is_a_ratio_with_its_interval_and_an_amount():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.001, 0.002, 100)
    results = made({"a": [1.0] * 100, "b": [1.0] * 100})
    cost = np.empty(200)
    first = (results.frame["variant"] == "a").to_numpy()
    cost[first], cost[~first] = base, 1.12 * base * rng.uniform(0.95, 1.05, 100)
    results = with_numbers(results, cost_usd=cost)
    said = str(results.compare("a", requests_per_day=50_000))
    extra = (cost[~first].mean() - cost[first].mean()) * 50_000 * 30
    assert (
        f"b costs {100 * (cost[~first].sum() / cost[first].sum() - 1):.2g}% more per answer than a (95% CI +1" in said
    )
    assert f"about ${extra:,.2f} more a month at 50,000 requests a day" in said


def test_an_unknown_cost_is_said_and_not_guessed():
    assert "Cost: unknown for a" in str(made({"a": [1.0] * 9, "b": [0.0] * 9}).compare("a", requests_per_day=1))


def test_costs_per_success_are_weighted_by_what_cases_stand_for():
    """Sums of weight x cost over sums of weight x success."""
    results = with_numbers(made({"v1": [1.0, 0.0, 1.0]}, weights=[1.0, 2.0, 5.0]), cost_usd=[1.0, 2.0, 3.0])
    found = results.cost_per_success("right").estimate("v1")
    assert found.value == pytest.approx((1 + 4 + 15) / (1 + 5))


@pytest.mark.parametrize("documents", [False, True])
def test_intervals_of_costs_cover_where_cases_weigh_unlike(documents):
    """The spread of weight x cost is not that of the weighted mean: read as such, too few intervals cover."""
    n, rng, true_cost, of_success, of_bill = 60, np.random.default_rng(5), math.exp(0.08), [], []
    first = np.arange(n) < 15 if documents else np.arange(n) < 4
    weights, clusters = np.where(first, 25.0, 1.0).tolist(), [f"d{i // 3}" for i in range(n)] if documents else None
    made_once = made({"a": [1.0] * n, "b": [1.0] * n}, weights=weights, clusters=clusters)
    for _ in range(120):
        cost = np.exp(rng.normal(0, 0.4, 2 * n)).tolist()
        right = (rng.random(2 * n) < 0.5).astype(float).tolist()
        results = made_once.with_columns(cost_usd=cost, right=right)
        each = results.cost_per_success("right").estimate("a")
        of_success.append(each.low is None or each.low <= true_cost / 0.5 <= each.high)
        low, high = (float(x) for x in re.findall(r"([+-][\d.]+)%", results.cost_line("a", "b")))
        of_bill.append(low <= 0 <= high)
    assert np.mean(of_success) >= 0.93
    assert np.mean(of_bill) >= 0.93


def test_the_share_of_successes_is_weighted_too():
    """Two heavy cases succeed and so do half of the light ones: what is known of the share is what two cases tell."""
    results = made({"a": [1.0, 1.0] + [1.0, 0.0] * 20}, weights=[50.0] * 2 + [1.0] * 40).with_columns(
        cost_usd=[0.01] * 42
    )
    found = results.cost_per_success("right").estimate("a")
    share = share_estimate([1, 1] + [1, 0] * 20, weights=[50] * 2 + [1] * 40)
    assert found.high >= 0.01 / share.low - 1e-12


def test_where_no_interval_can_be_had_costs_are_said_without_one():
    """One cluster, one case, or arms that were asked other cases: the gate's report is written all the same."""
    results = with_numbers(made({"a": [1.0] * 4, "b": [1.0] * 4}), cost_usd=[0.01, 0.02] * 4)
    together = GoldenSet(tuple(replace(case, cluster="one") for case in results.golden))
    one_cluster = replace(results, golden=together)
    other = results.frame[~((results.frame["variant"] == "a") & (results.frame["case_id"] == "q000"))]
    other = other[~((other["variant"] == "b") & (other["case_id"] == "q001"))]
    for some in (one_cluster, replace(results, frame=other.reset_index(drop=True))):
        assert some.cost_line("a", "b") == "Cost: an answer of b costs $0.02, one of a $0.01."
    found = one_cluster.cost_per_success("right").estimate("a")
    assert (found.value, found.low) == (0.01, None)
    assert "one cluster" in found.notes[0]


def timed(slower=0.0, n=400, **columns):
    """Two arms whose seconds differ by `slower`; rows alternate as in a sweep."""
    seconds = np.repeat(np.random.default_rng(1).lognormal(0, 0.5, n), 2)
    results = made({"a": [1.0] * n, "b": [1.0] * n})
    second = (results.frame["variant"] == "b").to_numpy()
    return with_numbers(results, latency_s=seconds + slower * second, **columns), second


def test_a_delay_shows_in_every_quantile_that_enough_answers_lie_beyond():
    results, _ = timed(slower=0.25)
    line = results.compare("a", metrics=["latency_s"]).notes[0]
    assert "p50 0.25 [0.25, 0.25] s; p95 0.25 [0.25, 0.25] s; p99 not told (1,000 answers are needed" in line


def timed_line(results, metric):
    """How much later b comes than a."""
    return latency_line(results.frame, results.table(metric), "a", "b")


def test_latencies_of_different_times_are_not_compared():
    results, second = timed()
    assert "not told, 400 of 400" in timed_line(with_numbers(results, cached=second), "latency_s")
    assert timed_line(results, "first_token_s") == "First token of b against a: not measured in both."


def test_lost_answers_lie_beyond_every_quantile():
    """5% lost: the p95 of what came would be the p90 of what was asked."""
    results, second = timed()
    late = second & (results.frame["latency_s"] > results.frame["latency_s"][second].quantile(0.95)).to_numpy()
    lost = replace(results, frame=results.frame.assign(status=np.where(late, "timeout", "ok")))
    (p50, p95, p99), whole = (latency_quantiles(one.frame, one.table("latency_s"), "b") for one in (lost, results))
    assert (p50, p95, p99) == (whole[0], whole[1], None)


@pytest.mark.parametrize(("n", "right"), [(10, 0.9), (20, 0.95), (40, 0.97), (50, 0.2)])
def test_few_failures_leave_the_cost_of_a_success_as_open_as_their_share(n, right):
    """The log ratio alone covers 60 to 86%; where all succeed it has no width."""
    covered = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        passed = (rng.random(n) < right).astype(float)
        if passed.any():
            each = (
                made({"a": passed.tolist()}).with_columns(cost_usd=[0.01] * n).cost_per_success("right").estimate("a")
            )
            covered.append(each.low - 1e-12 <= 0.01 / right <= each.high + 1e-12)
    assert np.mean(covered) >= 0.92
