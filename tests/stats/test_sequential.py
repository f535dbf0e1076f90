"""Sequential tests: known answers, error rates under daily peeking."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmlab.base.errors import DataError
from llmlab.stats.sequential import (
    beta_binomial_sequence,
    difference_sequence,
    linearised_ratio,
    mixture_sprt,
    running_mixture_sprt,
    sequential_split_check,
    split_check,
)


def test_mixture_sprt_gives_the_known_answer():
    assert mixture_sprt(0.05, n=400, variance=0.25, tau2=0.01) == pytest.approx(1.5932027, abs=1e-7)


def test_beta_binomial_sequence_gives_the_known_answer():
    """60 of 100 at p0 .5, from scipy's betaln."""
    sequence = beta_binomial_sequence(60, 100)
    assert sequence.e_value == pytest.approx(0.9130497785, abs=1e-9)
    assert (sequence.low, sequence.high) == pytest.approx((0.440774, 0.746036), abs=1e-6)
    assert sequence.p_value == 1.0


@given(trials=st.integers(0, 100_000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_beta_binomial_interval_holds_exactly_the_nulls_it_does_not_reject(trials, share, level):
    successes = round(trials * share)
    sequence = beta_binomial_sequence(successes, trials, level=level)
    assert 0 <= sequence.low <= sequence.high <= 1
    for null in (sequence.low, sequence.high):
        if 1e-9 < null < 1 - 1e-9:
            at_the_end = beta_binomial_sequence(successes, trials, null=null, level=level)
            assert at_the_end.log_e_value == pytest.approx(-math.log(1 - level), abs=1e-3)


def test_beta_binomial_sequence_is_wider_than_an_interval_for_one_look():
    sequence = beta_binomial_sequence(81, 263)
    one_look = stats.binomtest(81, 263).proportion_ci(method="wilson")
    assert sequence.low < one_look.low
    assert sequence.high > one_look.high


def test_running_e_values_end_at_the_single_one():
    values = np.random.default_rng(0).normal(0.1, 1, 500)
    running = running_mixture_sprt(values, variance=1.0, tau2=0.02)
    assert running[-1] == pytest.approx(mixture_sprt(float(values.mean()), n=500, variance=1.0, tau2=0.02))


def test_difference_sequence_is_the_mixture_sprt_inverted():
    rng = np.random.default_rng(1)
    baseline, candidate = rng.normal(0, 1, 700), rng.normal(0.2, 2, 900)
    sequence = difference_sequence(baseline, candidate, planned_units=5000)
    at_low = difference_sequence(baseline, candidate, planned_units=5000, null=sequence.low)
    assert at_low.e_value == pytest.approx(20, rel=1e-6)


@pytest.mark.slow
def test_daily_peeking_at_equal_arms_raises_few_false_alarms():
    """A/A with 28 daily looks: at most 6% of 1,000 trials ever exclude 0 at level .95 (a naive t-test: above 15%)."""
    rng = np.random.default_rng(2024)
    alarms = naive = 0
    for _ in range(1000):
        arms = rng.random((2, 28 * 60)) < 0.3
        looks = [60 * day for day in range(1, 29)]
        sequences = [difference_sequence(arms[0, :n], arms[1, :n], planned_units=28 * 120) for n in looks]
        alarms += any(one.low > 0 or one.high < 0 for one in sequences)
        shares = np.array([[arm[:n].mean() for n in looks] for arm in arms])
        se = np.sqrt((shares * (1 - shares)).sum(axis=0) / looks)
        naive += bool((np.abs(shares[1] - shares[0]) > 1.96 * se).any())
    assert alarms / 1000 <= 0.06
    assert naive / 1000 > 0.15


def test_a_stream_watched_after_every_answer_raises_few_false_alarms():
    """The mixture SPRT crosses 20 in at most 5% of null streams (Ville)."""
    rng = np.random.default_rng(8)
    crossed = [running_mixture_sprt(rng.normal(0, 1, 2000), variance=1, tau2=0.01).max() >= 20 for _ in range(1000)]
    assert np.mean(crossed) <= 0.06


def test_a_real_difference_is_found():
    rng = np.random.default_rng(4)
    sequence = difference_sequence(rng.random(3000) < 0.3, rng.random(3000) < 0.4, planned_units=6000)
    assert sequence.low > 0
    assert "differs from 0, whenever you look" in str(sequence)


def test_unscored_units_are_counted_and_few_units_say_nothing():
    sequence = difference_sequence([1.0, None, 0.0], [1.0, 0.0, 1.0], planned_units=1000)
    assert (sequence.n, sequence.n_attempted) == (5, 6)
    assert sequence.low is None
    assert "50 per arm" in str(sequence)
    assert difference_sequence([], [], planned_units=10).value is None


def test_arms_without_variance_have_no_interval():
    sequence = difference_sequence(np.ones(100), np.ones(100), planned_units=1000)
    assert (sequence.value, sequence.low) == (0, None)
    assert "no variance" in sequence.note


def test_a_linearised_ratio_has_the_ratio_as_mean_and_the_delta_method_as_variance():
    rng = np.random.default_rng(9)
    answers = rng.poisson(5, 4000) + 1
    cost = answers * rng.gamma(2, 1, 4000)
    linear = linearised_ratio(cost, answers)
    assert linear.mean() == pytest.approx(cost.sum() / answers.sum())
    draws = rng.integers(0, 4000, (1000, 4000))
    bootstrapped = (cost[draws].sum(axis=1) / answers[draws].sum(axis=1)).std()
    assert linear.std(ddof=1) / math.sqrt(4000) == pytest.approx(bootstrapped, rel=0.1)
    with pytest.raises(DataError, match="undefined"):
        linearised_ratio([1.0], [0.0])


@pytest.mark.parametrize("counts", [[5000, 5100], [300, 400, 290], [10, 12]])
def test_split_check_agrees_with_scipy(counts):
    shares = [1 / len(counts)] * len(counts)
    assert split_check(counts, shares=shares).p_value == pytest.approx(stats.chisquare(counts).pvalue)


def test_a_broken_split_blocks_and_a_small_one_says_that_it_cannot_tell():
    assert split_check([5000, 5400], shares=[0.5, 0.5]).blocks
    small = split_check([3, 4], shares=[0.5, 0.5])
    assert small.p_value is None
    assert not small.blocks
    assert "needs 5" in str(small)


def test_sequential_split_check_stays_quiet_on_right_splits_and_finds_wrong_ones():
    rng = np.random.default_rng(13)
    right = [rng.multinomial(500, [0.9, 0.1], 40).cumsum(axis=0) for _ in range(500)]
    wrong = [rng.multinomial(500, [0.88, 0.12], 40).cumsum(axis=0) for _ in range(50)]
    assert sum(sequential_split_check(looks, shares=[0.9, 0.1]).blocks for looks in right) <= 2
    assert all(sequential_split_check(looks, shares=[0.9, 0.1]).blocks for looks in wrong)


def test_sequential_split_check_of_two_arms_is_the_beta_binomial_e_value():
    check = sequential_split_check([60, 140], shares=[0.5, 0.5], concentration=2.0)
    assert check.p_value == pytest.approx(beta_binomial_sequence(60, 200).p_value)


def test_counts_that_shrink_or_shares_that_do_not_sum_are_refused():
    with pytest.raises(DataError, match="cumulated"):
        sequential_split_check([[10, 10], [9, 12]], shares=[0.5, 0.5])
    with pytest.raises(ValueError, match="sum to 1"):
        split_check([10, 10], shares=[0.5, 0.6])
