"""Cost per success: value, interval, comparison of two arms, and where it is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.estimate import ratio_change, ratio_of_sums


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
