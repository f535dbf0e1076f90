"""Speed promises of the paired statistics: ratios within one run, the best of a few repetitions on our side."""

from __future__ import annotations

import time

import numpy as np
import pytest

from llmlab.stats.paired import mean_difference
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


def test_clustered_standard_error_is_at_least_twenty_times_faster_than_statsmodels(measured):
    """100,000 rows in 5,000 clusters of equal size, where CR2 is their CR1: equal to 8 digits."""
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    clusters = rng.permutation(np.repeat(np.arange(5_000), 20))
    d = rng.normal(0, 0.3, 5_000)[clusters] + rng.normal(0.01, 1, 100_000)
    constant = np.ones(100_000)
    theirs, theirs_s = best_of(
        3, lambda: sm.OLS(d, constant).fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0]
    )
    ours, ours_s = best_of(10, lambda: standard_error(d, clusters))
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
