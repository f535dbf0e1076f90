"""Repeats become one number per case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.estimate import consistency, reduce_repeats

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
