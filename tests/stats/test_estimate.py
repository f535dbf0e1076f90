"""Estimates of one arm: means, rates, repeats of a case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.estimate import mean_estimate, reduce_repeats, wilson_rate


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


def test_equal_values_are_said_not_to_be_certain():
    mean = mean_estimate([0.1] * 7, n_attempted=9)
    assert (mean.low, mean.high) == pytest.approx((0.1, 0.1))
    assert "not certainty" in mean.notes[0]
    assert mean.n_attempted == 9


def test_a_very_skewed_mean_carries_a_note_and_an_even_one_does_not():
    """Lognormal costs of sigma 2 against normal ones, n 100: t covers 73% of the first and 95% of the second."""
    rng = np.random.default_rng(7)
    assert np.mean([mean_estimate(rng.lognormal(0, 2, 100)).notes != () for _ in range(200)]) > 0.9
    assert not any(mean_estimate(rng.normal(0, 2, 100)).notes for _ in range(200))


# -- repeats become one number per case --------------------------------------------------------------------------------


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("mean", [2 / 3, 0.5, 1]), ("majority", [1, 0, 1]), ("all", [0, 0, 1]), ("any", [1] * 3)],
)
def test_each_aggregation_answers_its_own_question(aggregation, expected):
    """Two of three, one of two (a draw is no majority), one of one."""
    per_case = reduce_repeats([1, 0, 1, 0, 1, 1], [0, 0, 0, 1, 1, 2], aggregation=aggregation)
    assert per_case.tolist() == pytest.approx(expected)


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


@pytest.mark.parametrize("codes", [[0, 5], [-1, 0], [0.0, 1.0], [0]])
def test_wrong_case_codes_are_named(codes):
    with pytest.raises(ValueError, match="case codes"):
        reduce_repeats([0.5, 1.0], codes, n_cases=2)
