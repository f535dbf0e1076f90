"""Where noise comes from: planted variances, and what repeats can buy."""

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.variance import repeats_or_cases, variance_parts


def test_variance_parts_recover_planted_variances_with_unequal_repeats():
    rng = np.random.default_rng(11)
    cases = 4000
    ability, gain = rng.normal(0, 1, (cases, 1)), rng.normal(0.1, 0.3, (cases, 1))
    baseline = ability + rng.normal(0, 0.5, (cases, 4))
    candidate = ability + gain + rng.normal(0, 0.8, (cases, 3))
    candidate[: cases // 2, 2] = np.nan
    parts = variance_parts(baseline, candidate)
    assert parts.within_baseline == pytest.approx(0.25, rel=0.05)
    assert parts.within_candidate == pytest.approx(0.64, rel=0.05)
    assert parts.between == pytest.approx(0.09, abs=0.03)
    assert parts.repeats_candidate == pytest.approx(2.4)


def test_variance_parts_without_repeats_say_what_cannot_be_told():
    parts = variance_parts([[1], [0], [1]], [[1], [1], [0]])
    assert parts.within_baseline is None
    assert "cannot be told" in parts.note
    assert repeats_or_cases(parts) is None


def test_variance_parts_count_cases_that_one_arm_lacks():
    parts = variance_parts([[1, 0], [np.nan, np.nan], [1, 1]], [[1, 0], [1, 1], [0, 0]])
    assert (parts.cases, parts.cases_attempted) == (2, 3)


def test_variance_parts_never_give_nan_or_a_negative_variance():
    one = variance_parts([[1, 0]], [[1, 1]])
    assert one.between is None
    assert "at least 2" in one.note
    noisy = variance_parts([[0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]])
    assert noisy.between == 0
    assert "noise between repeats" in noisy.note
    assert variance_parts([[np.nan]], [[1.0]]).cases == 0


def test_variance_parts_refuse_unequal_numbers_of_cases():
    with pytest.raises(DataError, match="join them by case id"):
        variance_parts([[1, 0]], [[1, 0], [0, 0]])


def test_cases_buy_more_where_cases_differ_and_repeats_where_repeats_do():
    rng = np.random.default_rng(5)
    gain = rng.normal(0, 1, (300, 1))
    steady = variance_parts(rng.normal(0, 0.1, (300, 2)), gain + rng.normal(0, 0.1, (300, 2)))
    shaky = variance_parts(rng.normal(0, 2, (300, 2)), 0.1 * gain + rng.normal(0, 2, (300, 2)))
    assert repeats_or_cases(steady).buys_more == "cases"
    assert repeats_or_cases(shaky).buys_more == "repeats"
    assert "Twice the cases" in str(repeats_or_cases(steady))
    assert repeats_or_cases(steady, case_price_in_answers=10_000).best_repeats > 1


def test_repeats_never_beat_cases_and_never_pass_the_floor():
    rng = np.random.default_rng(6)
    advice = repeats_or_cases(variance_parts(rng.normal(0, 1, (50, 3)), rng.normal(0, 1, (50, 3))))
    assert advice.floor.value <= advice.twice_the_repeats.value
    assert advice.twice_the_cases.value <= advice.twice_the_repeats.value + 1e-12


def test_identical_scores_say_that_no_variance_was_seen():
    advice = repeats_or_cases(variance_parts(np.ones((5, 2)), np.ones((5, 2))))
    assert "no variance" in str(advice)
