"""The computed BCa interval against scipy's simulated one, and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.bootstrap import bca_mean, bca_ratio
from llmlab.stats.ratios import ratio_of_sums

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def samples():
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(0.1, 1, 400),
        "pass or fail": rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.7, 0.2]),
        "rubric": rng.integers(1, 6, 120) - rng.integers(1, 6, 120),
        "rare": np.r_[np.zeros(95), np.ones(5)],
        "skewed": rng.lognormal(0, 1.5, 200),
        "outlier": np.r_[rng.normal(0, 0.01, 99), 10.0],
    }


def oracle(data, statistic, *, n_resamples=20_000, level=0.95):
    from scipy import stats

    result = stats.bootstrap(
        data,
        statistic,
        paired=len(data) > 1,
        method="BCa",
        confidence_level=level,
        n_resamples=n_resamples,
        batch=500,
        rng=1,
    )
    return result.confidence_interval


def test_sleep_data_give_the_known_interval():
    """METHODS: [1.05, 2.64] +- .06."""
    result = bca_mean(SLEEP)
    assert (result.low, result.high) == pytest.approx((1.05, 2.64), abs=0.06)
    assert result.value == pytest.approx(1.58)
    assert "fewer than 20 cases" in result.notes[0]


@pytest.mark.parametrize("kind", samples())
def test_interval_matches_scipys_resampling(kind):
    """20,000 random resamples come within their own noise of what is computed here."""
    values = samples()[kind]
    result, simulated = bca_mean(values), oracle((values,), np.mean)
    width = simulated.high - simulated.low
    atom = {"pass or fail": 1 / 300, "rubric": 1 / 120, "rare": 1 / 100, "outlier": 10 / 100}.get(kind, 0.0)
    tolerance = max(0.03 * width, 1.01 * atom)  # resampled means of few distinct values jump by one atom
    assert result.low == pytest.approx(simulated.low, abs=tolerance)
    assert result.high == pytest.approx(simulated.high, abs=tolerance)


def test_clusters_of_unequal_sizes_match_resampling_whole_clusters():
    """Sixty clusters of 1 to 29 cases; the mean of a resample is a ratio of two sums."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(60), rng.integers(1, 30, 60))
    values = rng.normal(0, 0.5, 60)[codes] + rng.normal(0.2, 1, codes.size)
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes).astype(float)
    simulated = oracle((sums, sizes), lambda s, n, axis: s.sum(axis) / n.sum(axis))
    result = bca_mean(values, codes)
    width = simulated.high - simulated.low
    assert (result.low, result.high) == pytest.approx((simulated.low, simulated.high), abs=0.03 * width)
    assert width > 1.5 * (bca_mean(values).high - bca_mean(values).low)


def test_ratio_matches_resampling_and_the_delta_method():
    """Cost per success of 300 cases: scipy's BCa within its noise, the log delta method nearby."""
    rng = np.random.default_rng(2)
    cost, success = rng.lognormal(0, 0.7, 300), (rng.random(300) < 0.7).astype(float)
    result, delta = bca_ratio(cost, success), ratio_of_sums(cost, success)
    simulated = oracle((cost, success), lambda c, s, axis: c.sum(axis) / s.sum(axis))
    width = simulated.high - simulated.low
    assert (result.low, result.high) == pytest.approx((simulated.low, simulated.high), abs=0.03 * width)
    assert (result.low, result.high) == pytest.approx((delta.low, delta.high), abs=0.1 * width)


def test_equal_clusters_are_the_resampling_of_their_means():
    """With equal sizes, a cluster is one value."""
    means = np.random.default_rng(3).normal(size=25)
    clustered, alone = bca_mean(np.repeat(means, 4), np.repeat(np.arange(25), 4)), bca_mean(means)
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high), rel=1e-6)
    assert clustered.n == 100


@given(values=st.lists(st.floats(-3, 3), min_size=3, max_size=40).filter(lambda x: np.std(x) > 1e-3))
@settings(max_examples=40, deadline=None)
def test_interval_moves_and_stretches_with_the_values(values):
    """Shifted, scaled and turned round data give the shifted, scaled and turned round interval."""
    x = np.array(values)
    one, moved, turned = bca_mean(x), bca_mean(2 * x + 5), bca_mean(-x)
    width = one.high - one.low
    assert (moved.low, moved.high) == pytest.approx((2 * one.low + 5, 2 * one.high + 5), abs=0.02 * width + 1e-9)
    assert (turned.low, turned.high) == pytest.approx((-one.high, -one.low), abs=0.02 * width + 1e-9)
    assert x.min() <= one.low <= one.high <= x.max()


@pytest.mark.parametrize("n", [50, 1_000, 100_000])
def test_large_symmetric_samples_approach_the_normal_interval(n):
    """BCa of a symmetric sample is the mean -+ 1.96 sd / sqrt(n), closer as n grows."""
    half = np.random.default_rng(4).exponential(size=n // 2)
    values = np.r_[half, -half]
    se = values.std() / n**0.5
    result = bca_mean(values)
    assert (result.low, result.high) == pytest.approx((-1.96 * se, 1.96 * se), abs=se * (0.002 + 2 / n))


def test_equal_values_are_said_so():
    """No width, and a sentence why; never NaN."""
    result = bca_mean([0.3 - 0.2, 0.9 - 0.8] * 15)
    assert result.low == result.high == pytest.approx(0.1)
    assert "not certainty" in result.notes[-1]
    assert bca_mean([0.0] * 30).low == 0


@pytest.mark.slow
def test_interval_covers_the_truth_of_skewed_scores():
    """Exponential values, 60 cases, 1,000 runs: the 95% interval covers about 94%."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        result = bca_mean(rng.exponential(1.0, 60))
        covered += result.low <= 1.0 <= result.high
    assert 0.915 < covered / 1000 < 0.965


def test_unfit_input_is_refused():
    """One case, one cluster, NaN, a level in percent, denominators that are no denominators."""
    with pytest.raises(DataError, match="at least 2"):
        bca_mean([1.0])
    with pytest.raises(DataError, match="one cluster"):
        bca_mean([1.0, 2.0], ["a", "a"])
    with pytest.raises(DataError, match="is missing"):
        bca_mean([1.0, np.nan])
    with pytest.raises(ValueError, match="level == 95"):
        bca_mean([1.0, 2.0], level=95)
    with pytest.raises(DataError, match="every denominator is 0"):
        bca_ratio([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="denominators 0 or more"):
        bca_ratio([1.0, 2.0], [1, -1])
    with pytest.raises(DataError, match="whole denominator"):
        bca_ratio([1.0, 2.0, 3.0], [0, 0, 1])
    with pytest.raises(DataError, match="too few successes"):
        bca_ratio([1.0, 2.0, 3.0, 1.0, 5.0], [0, 0, 0, 1, 1])
