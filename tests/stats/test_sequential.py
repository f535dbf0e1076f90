"""Sequential tests: known answers, error rates under daily peeking."""

import math

import numpy as np
import pytest
from scipy import special, stats

from llmlab.base.errors import DataError
from llmlab.stats.sequential import difference_sequence, linearised_ratio, sequential_split_check, split_check


def test_difference_sequence_is_the_mixture_sprt_inverted():
    """The e-value of x with variance v is sqrt(v / (v + tau2)) exp(tau2 x^2 / (2 v (v + tau2))) (Robbins 1970).

    Against a difference at the sequence's end it is 1 / alpha.
    """
    rng = np.random.default_rng(1)
    baseline, candidate, planned = rng.normal(0, 1, 700), rng.normal(0.2, 2, 900), 1600
    v = baseline.var(ddof=1) / 700 + candidate.var(ddof=1) / 900
    tau2 = v * 1600 * (2 * math.log(20) + math.log(2 * math.log(20)) + 1) / planned
    x = candidate.mean() - baseline.mean()
    by_hand = math.sqrt(v / (v + tau2)) * math.exp(tau2 * x**2 / (2 * v * (v + tau2)))
    sequence = difference_sequence(baseline, candidate, planned_units=planned)
    at_low = difference_sequence(baseline, candidate - sequence.low, planned_units=planned)
    assert math.exp(sequence.log_e_value) == pytest.approx(by_hand)
    assert math.exp(at_low.log_e_value) == pytest.approx(20, rel=1e-6)


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
    """By scipy's betaln; 60 of 100 would be e .9130497785."""
    check = sequential_split_check([60, 140], shares=[0.5, 0.5], concentration=2.0)
    evidence = special.betaln(61, 141) - special.betaln(1, 1) - 200 * math.log(0.5)
    assert check.p_value == pytest.approx(math.exp(-evidence))


def test_counts_that_shrink_or_shares_that_do_not_sum_are_refused():
    with pytest.raises(DataError, match="cumulated"):
        sequential_split_check([[10, 10], [9, 12]], shares=[0.5, 0.5])
    with pytest.raises(ValueError, match="sum to 1"):
        split_check([10, 10], shares=[0.5, 0.6])
