"""Estimates of one arm: means, rates, quantiles, cost per success, repeats of a case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.bounded import consistency
from llmlab.stats.estimate import (
    mean_estimate,
    quantile_difference,
    ratio_change,
    ratio_of_sums,
    reduce_repeats,
    wilson_rate,
)


@pytest.mark.parametrize(("successes", "n", "low", "high"), [(81, 263, 0.255289, 0.366210), (0, 20, 0.0, 0.161125)])
def test_wilson_gives_the_published_interval(successes, n, low, high):
    """Newcombe 1998 (81/263) and the zero case."""
    rate = wilson_rate(successes, n)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-7)
    assert rate.value == successes / n


@given(
    counts=st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    level=st.sampled_from([0.5, 0.8, 0.95, 0.99]),
)
def test_wilson_matches_statsmodels(counts, level):
    from statsmodels.stats.proportion import proportion_confint

    rate = wilson_rate(*counts, level=level)
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(*counts, 1 - level, "wilson"), abs=1e-9)
    assert 0 <= rate.low <= rate.value + 1e-12 <= rate.high + 2e-12 <= 1 + 2e-12


def test_impossible_counts_are_refused():
    with pytest.raises(DataError, match="at least one scored case"):
        wilson_rate(0, 0)
    with pytest.raises(ValueError, match="successes == 5"):
        wilson_rate(5, 4)
    with pytest.raises(ValueError, match="level == 95"):
        wilson_rate(1, 4, level=95)


def test_mean_matches_the_t_interval_of_scipy():
    from scipy import stats

    values = np.random.default_rng(0).normal(0.4, 0.2, 50)
    mean = mean_estimate(values, level=0.9)
    assert (mean.low, mean.high) == pytest.approx(stats.t.interval(0.9, 49, values.mean(), stats.sem(values)))
    assert (mean.n, mean.n_attempted) == (50, 50)


def test_clusters_widen_the_interval_of_the_mean():
    values = np.repeat(np.random.default_rng(1).normal(size=30), 10)
    alone, clustered = mean_estimate(values), mean_estimate(values, np.repeat(np.arange(30), 10))
    assert clustered.high - clustered.low > 2.5 * (alone.high - alone.low)
    assert "30 clusters" in clustered.method


def test_interval_widens_as_the_level_rises():
    values = [0.1, 0.5, 0.9, 0.3]
    widths = [mean_estimate(values, level=level).high for level in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)


def test_equal_values_are_said_not_to_be_certain():
    mean = mean_estimate([0.1] * 7, n_attempted=9)
    assert (mean.low, mean.high) == pytest.approx((0.1, 0.1))
    assert "not certainty" in mean.notes[0]
    assert mean.n_attempted == 9


def test_a_very_skewed_mean_carries_a_note_and_an_even_one_does_not():
    """Lognormal costs of sigma 2 against normal ones, n 100: t covers 73% of the first and 95% of the second."""
    rng = np.random.default_rng(7)
    noted = [bool(mean_estimate(rng.lognormal(0, 2, 100)).notes) for _ in range(200)]
    even = [bool(mean_estimate(rng.normal(0, 2, 100)).notes) for _ in range(200)]
    assert np.mean(noted) > 0.9
    assert not any(even)


# -- differences of quantiles by cluster bootstrap ---------------------------------------------------------------------


def latencies(seed, n=600, slower=0.0):
    rng = np.random.default_rng(seed)
    shared = rng.lognormal(0, 0.4, n)
    return shared + rng.exponential(0.2, n), shared + rng.exponential(0.2, n) + slower


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95])
def test_value_is_numpys_inverted_cdf_quantile(q):
    """The point estimate is `np.quantile(..., method="inverted_cdf")` of each arm, subtracted."""
    a, b = latencies(0)
    expected = np.quantile(b, q, method="inverted_cdf") - np.quantile(a, q, method="inverted_cdf")
    assert quantile_difference(a, b, q=q, seed=0, n_resamples=50).value == pytest.approx(expected)


def test_a_constant_delay_is_found_exactly():
    """The candidate is the baseline plus a second: so is every resample."""
    a, _ = latencies(1)
    result = quantile_difference(a, a + 1, q=0.95, seed=0, n_resamples=200)
    assert (result.value, result.low, result.high) == pytest.approx((1, 1, 1))


def test_interval_matches_a_plain_bootstrap():
    """Resampling pairs one by one, in a loop, gives the same interval within noise."""
    a, b = latencies(2, n=300)
    rng, drawn = np.random.default_rng(9), []
    for _ in range(2000):
        rows = rng.integers(0, 300, 300)
        drawn.append(np.subtract(*(np.quantile(x[rows], 0.9, method="inverted_cdf") for x in (b, a))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = quantile_difference(a, b, q=0.9, seed=3)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_repeats_share_a_cluster_and_widen_the_interval():
    a, b = latencies(3, n=200)
    rows, cases = np.repeat(np.arange(200), 4), np.repeat(np.arange(200), 4)
    clustered = quantile_difference(a[rows], b[rows], q=0.9, seed=0, clusters=cases, n_resamples=500)
    naive = quantile_difference(a[rows], b[rows], q=0.9, seed=0, n_resamples=500)
    assert clustered.high - clustered.low > 1.4 * (naive.high - naive.low)
    assert clustered.n == 200


def test_lost_answers_took_longer_than_any_and_are_told_where_they_decide():
    a, b = latencies(6, n=400)
    b[np.argsort(b)[-8:]] = np.inf  # the slowest, so that p90 stays what it was
    kept = quantile_difference(*latencies(6, n=400), q=0.9, seed=0)
    assert quantile_difference(a, b, q=0.9, seed=0) == kept
    with pytest.raises(DataError, match="lost"):
        quantile_difference(a, b, q=0.975, seed=0)


def test_weights_count_a_row_as_often_as_it_stands_for():
    a, b = latencies(7, n=300)
    weights = np.arange(300) % 3 + 1
    twice = np.repeat(np.arange(300), weights)
    weighted = quantile_difference(a, b, q=0.8, seed=0, clusters=np.arange(300), weights=weights)
    copied = quantile_difference(a[twice], b[twice], q=0.8, seed=0, clusters=twice)
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx((copied.value, copied.low, copied.high))


def test_too_few_points_beyond_the_quantile_are_refused():
    """p99 of 600 rows rests on six of them; the error says how many are needed."""
    a, b = latencies(5)
    with pytest.raises(DataError, match="1,000 answers are needed"):
        quantile_difference(a, b, q=0.99, seed=0)
    with pytest.raises(DataError, match="3 clusters"):
        quantile_difference(a, b, q=0.5, seed=0, clusters=np.arange(600) % 3)
    with pytest.raises(ValueError, match="pair them by id"):
        quantile_difference(a, b[:-1], q=0.5, seed=0)


@pytest.mark.slow
def test_interval_of_no_difference_covers_zero():
    """300 pairs, p90, 200 runs: about 95% of the intervals hold 0."""
    covered = 0
    for seed in range(200):
        result = quantile_difference(*latencies(seed, n=300), q=0.9, seed=seed, n_resamples=400)
        covered += result.low <= 0 <= result.high
    assert 0.90 <= covered / 200 <= 1.0


# -- cost per success: value, interval, comparison of two arms, and where it is undefined ------------------------------


def arm(seed, n=200, cost=1.0, rate=0.7):
    rng = np.random.default_rng(seed)
    return cost * rng.lognormal(0, 0.5, n), (rng.random(n) < rate).astype(float)


def test_failed_attempts_are_paid_for():
    """Ten calls at a dollar, four successes: $2.50 each."""
    assert ratio_of_sums([1.0] * 10, [1, 0, 1, 0, 1, 0, 1, 0, 0, 0]).value == 2.5


def test_standard_error_of_a_constant_cost_is_that_of_the_log_rate():
    """With equal costs the log ratio is -log(rate): SE = sqrt((1 - p) / (p n)), here with n - 1."""
    success = np.r_[np.ones(60), np.zeros(40)]
    result = ratio_of_sums(np.full(100, 0.02), success)
    from scipy import stats

    se = math.sqrt(0.4 / 0.6 / 99)
    assert result.high / result.value == pytest.approx(math.exp(stats.t.ppf(0.975, 99) * se))
    assert result.value / result.low == pytest.approx(result.high / result.value)


@given(seed=st.integers(0, 200), scale=st.floats(0.01, 100))
def test_currency_does_not_matter(seed, scale):
    """Costs in cents give the interval in cents."""
    cost, success = arm(seed, n=40)
    one, other = ratio_of_sums(cost, success), ratio_of_sums(cost * scale, success)
    assert (other.value, other.low, other.high) == pytest.approx((one.value * scale, one.low * scale, one.high * scale))


def test_change_between_an_arm_and_its_scaled_copy_is_exact():
    """Everything 12% dearer: the ratio is 1.12 without noise, since the cases are the same."""
    cost, success = arm(1)
    result = ratio_change((cost, success), (1.12 * cost, success))
    assert (result.value, result.low, result.high) == pytest.approx((1.12, 1.12, 1.12))


def test_pairing_narrows_the_comparison():
    cost, success = arm(4)
    near = cost * np.random.default_rng(5).normal(1.05, 0.05, cost.size)
    shuffled = np.random.default_rng(6).permutation(cost.size)
    paired = ratio_change((cost, success), (near, success))
    unpaired = ratio_change((cost, success), (near[shuffled], success[shuffled]))
    assert paired.high / paired.low < 0.5 * unpaired.high / unpaired.low + 0.5


def test_clusters_widen_the_interval():
    cost, success = (np.repeat(part, 5) for part in arm(7, n=60))
    alone, clustered = ratio_of_sums(cost, success), ratio_of_sums(cost, success, clusters=np.repeat(np.arange(60), 5))
    assert math.log(clustered.high / clustered.low) > 2 * math.log(alone.high / alone.low)


def test_no_success_is_undefined_and_no_cost_is_zero():
    undefined, free = ratio_of_sums([1.0, 2.0], [0, 0]), ratio_of_sums([0.0, 0.0], [1, 1])
    assert undefined.value is None
    assert undefined.low is None
    assert "undefined" in undefined.notes[0]
    assert (free.value, free.low) == (0.0, None)
    with pytest.raises(DataError, match="undefined"):
        ratio_change(([1.0, 2.0], [0, 0]), ([1.0, 2.0], [1, 1]))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="0 or more"):
        ratio_of_sums([-1.0, 2.0], [1, 1])
    with pytest.raises(DataError, match="denominator has 2 values where 3"):
        ratio_of_sums([1.0, 2.0, 3.0], [1, 1])
    with pytest.raises(ValueError, match="pair them by id"):
        ratio_change(([1.0, 2.0], [1, 1]), ([1.0, 2.0, 3.0], [1, 1, 1]))


@pytest.mark.parametrize("codes", [[0, 5], [-1, 0], [0.0, 1.0], [0]])
def test_wrong_case_codes_are_named(codes):
    with pytest.raises(ValueError, match="case codes"):
        reduce_repeats([0.5, 1.0], codes, n_cases=2)


@pytest.mark.slow
def test_interval_covers_the_true_cost_per_success():
    """30 documents x 5 cases with shared difficulty, 1,000 runs: about 95% cover."""
    rng, documents, covered = np.random.default_rng(8), np.repeat(np.arange(30), 5), 0
    truth = math.exp(0.5 * (0.3**2 + 0.5**2)) / 0.6
    for _ in range(1000):
        cost = np.exp(rng.normal(0, 0.3, 30)[documents] + rng.normal(0, 0.5, 150))
        success = rng.random(150) < np.clip(0.6 + rng.uniform(-0.3, 0.3, 30), 0, 1)[documents]
        result = ratio_of_sums(cost, success, clusters=documents)
        covered += result.low <= truth <= result.high
    assert 0.925 < covered / 1000 < 0.975


# -- repeats become one number per case --------------------------------------------------------------------------------


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("mean", [2 / 3, 0.5, 1]), ("majority", [1, 0, 1]), ("all", [0, 0, 1]), ("any", [1] * 3)],
)
def test_each_aggregation_answers_its_own_question(aggregation, expected):
    """Two of three, one of two (a draw is no majority), one of one."""
    got = reduce_repeats([1, 0, 1, 0, 1, 1], [0, 0, 0, 1, 1, 2], aggregation=aggregation)
    assert got.tolist() == pytest.approx(expected)


@given(rows=ROWS)
def test_reduction_matches_pandas_in_any_order(rows):
    """`groupby(...).mean()`, `min` and `max` are the oracle; shuffling rows changes nothing."""
    import pandas as pd

    codes, scores = (np.array(column) for column in zip(*rows, strict=True))
    grouped = pd.Series(scores).groupby(codes)
    for aggregation, oracle in (("mean", grouped.mean()), ("all", grouped.min()), ("any", grouped.max())):
        reduced = reduce_repeats(scores[::-1], codes[::-1], aggregation=aggregation, n_cases=6)
        assert reduced[oracle.index] == pytest.approx(oracle.to_numpy())
        assert np.isnan(np.delete(reduced, oracle.index)).all()


def test_votes_need_pass_or_fail():
    with pytest.raises(ValueError, match="needs scores of 0 and 1"):
        reduce_repeats([0.5, 1.0], [0, 0], aggregation="majority")
    with pytest.raises(ValueError, match="aggregation == 'median'"):
        reduce_repeats([0.5, 1.0], [0, 0], aggregation="median")


def test_consistency_is_the_share_of_equal_pairs():
    """Cases with answers 111, 110, 10: 3/3, 1/3 and 0/1 pairs agree; a case asked once is only counted."""
    result = consistency([1, 1, 1, 1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1, 2, 2, 3])
    assert result.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert (result.n, result.n_attempted) == (3, 4)


@given(seed=st.integers(0, 100), repeats=st.integers(2, 4))
def test_consistency_matches_counting_pairs(seed, repeats):
    """All pairs of repeats, one by one, on a three-point rubric."""
    scores = np.random.default_rng(seed).integers(0, 3, size=(6, repeats))
    upper = np.triu_indices(repeats, 1)
    expected = (scores[:, upper[0]] == scores[:, upper[1]]).mean(axis=1).mean()
    result = consistency(scores.ravel(), np.repeat(np.arange(6), repeats))
    assert result.value == pytest.approx(expected)


def test_consistency_without_repeats_is_refused():
    with pytest.raises(DataError, match="repeats=2"):
        consistency([1, 0, 1], [0, 1, 2])


def test_consistency_can_be_clustered():
    result = consistency([1, 1, 1, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 2, 3, 3, 4, 4], clusters=["a", "a", "b", "b", "c"])
    assert result.n == 4
    assert "3 clusters" in result.method


def test_steadiness_is_a_share_and_never_beyond_one():
    steady = consistency([1, 1] * 40, np.repeat(np.arange(40), 2))
    flaky = consistency([1, 1] * 38 + [1, 0] * 2, np.repeat(np.arange(40), 2))
    assert steady.high == 1.0
    assert steady.low == pytest.approx(0.91, abs=0.01)
    assert flaky.low < 0.9 < flaky.value < flaky.high < 1


def test_a_quantile_over_ten_clusters_keeps_its_interval():
    """Percentiles alone cover 83% of these: few clusters vary less among themselves than their population does."""
    documents, covered = np.repeat(np.arange(10), 20), []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        before, after = (np.exp(rng.normal(0, 0.6, 10)[documents] + rng.normal(0, 0.3, 200)) for _ in range(2))
        change = quantile_difference(before, after, q=0.9, seed=seed, clusters=documents, n_resamples=300)
        covered.append(change.low <= 0 <= change.high)
    assert np.mean(covered) >= 0.9
