"""Differences of quantiles by cluster bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.estimate import quantile_difference


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
