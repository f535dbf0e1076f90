"""Speed promises of the paired statistics: ratios within one run, the best of a few repetitions on our side."""

from __future__ import annotations

import time

import numpy as np
import pytest

from llmlab.stats.bootstrap import bca_mean
from llmlab.stats.paired import mean_difference
from llmlab.stats.permutation import sign_flip_test
from llmlab.stats.standard_error import standard_error

pytestmark = pytest.mark.bench


def best_of(repetitions, work):
    """The last result and the least time in seconds."""
    least_s = float("inf")
    for _ in range(repetitions):
        start_s = time.perf_counter()
        result = work()
        least_s = min(least_s, time.perf_counter() - start_s)
    return result, least_s


def report(measured, what, ours_s, theirs_s, bar):
    measured(f"{what} takes", theirs_s / ours_s, bar, "x", least=True)
    return theirs_s / ours_s


def scipy_bca(baseline, candidate):
    from scipy import stats

    return stats.bootstrap(
        (baseline, candidate),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        paired=True,
        method="BCa",
        n_resamples=10_000,
        batch=500,
        rng=1,
    ).confidence_interval


def test_paired_bca_is_at_least_four_times_faster_than_scipy(measured):
    """10,000 cases, 10,000 resamples of scipy's against the computed interval; the two agree."""
    rng = np.random.default_rng(0)
    baseline = rng.normal(0.6, 0.2, 10_000)
    candidate = baseline + rng.gamma(0.3, 0.1, 10_000) - 0.02
    theirs, theirs_s = best_of(1, lambda: scipy_bca(baseline, candidate))
    ours, ours_s = best_of(3, lambda: bca_mean(candidate - baseline))
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)
    assert report(measured, "paired BCa, 10,000 cases: scipy", ours_s, theirs_s, 4) > 4


@pytest.mark.parametrize("scores", ["pass or fail", "rubric of five"])
def test_bca_of_few_distinct_values_takes_milliseconds(measured, scores):
    """Promised: under 10 ms for 10,000 cases."""
    rng = np.random.default_rng(1)
    choices = [0, 1] if scores == "pass or fail" else [1, 2, 3, 4, 5]
    d = rng.choice(choices, 10_000) - rng.choice(choices, 10_000)
    _, ours_s = best_of(15, lambda: bca_mean(d))
    measured(f"BCa of {scores} scores, 10,000 cases", 1000 * ours_s, 10, "ms")
    assert ours_s < 0.010


def test_sign_flips_are_at_least_forty_times_faster_than_scipy(measured):
    """1,000 cases, 10,000 flips each."""
    from scipy import stats

    d = np.random.default_rng(2).normal(0.04, 1, 1_000)
    theirs, theirs_s = best_of(
        1,
        lambda: stats.permutation_test(
            (d,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, batch=500, rng=1
        ),
    )
    ours, ours_s = best_of(5, lambda: sign_flip_test(d, seed=0, n_resamples=9_999))
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.03)
    assert report(measured, "sign flips, 1,000 cases: scipy", ours_s, theirs_s, 40) > 40


def test_clustered_standard_error_is_at_least_twenty_times_faster_than_statsmodels(measured):
    """100,000 rows in 5,000 clusters; CR1 equal to 8 digits."""
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 5_000, 100_000)
    d = rng.normal(0, 0.3, 5_000)[clusters] + rng.normal(0.01, 1, 100_000)
    constant = np.ones(100_000)
    theirs, theirs_s = best_of(
        3, lambda: sm.OLS(d, constant).fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0]
    )
    ours, ours_s = best_of(10, lambda: standard_error(d, clusters, estimator="CR1"))
    assert ours.se == pytest.approx(theirs, rel=1e-8)
    assert report(measured, "clustered standard error, 100,000 rows: statsmodels", ours_s, theirs_s, 20) > 20


def test_a_million_rows_cost_about_what_a_million_rows_must(measured):
    """Ten times the rows take well under thirty times as long: no step is worse than linear."""
    rng = np.random.default_rng(4)
    d, clusters = rng.normal(size=1_000_000), rng.integers(0, 20_000, 1_000_000)
    small_s = best_of(5, lambda: mean_difference(d[:100_000], clusters[:100_000]))[1]
    large_s = best_of(3, lambda: mean_difference(d, clusters))[1]
    measured("mean difference, ten times the rows", large_s / max(small_s, 0.001), 30, "x")
    assert large_s < 30 * max(small_s, 0.001)
