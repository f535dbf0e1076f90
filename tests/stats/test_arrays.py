"""Arrays as the statistics take them."""

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.arrays import codes, floats, paired_differences


@pytest.mark.parametrize("labels", [["a", None], np.array([1.0, np.nan])])
def test_a_row_without_a_label_is_refused(labels):
    with pytest.raises(DataError, match=r"task\[1\] is missing"):
        codes(labels, "task", length=2)


def test_floats_refuse_infinity_and_gaps_by_name():
    with pytest.raises(DataError, match=r"scores\[1\] is infinite"):
        floats([0.0, float("inf")], "scores", gaps=True)
    with pytest.raises(DataError, match=r"scores\[0\] is missing"):
        floats([None, 1.0], "scores")


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_what_only_rounding_tells_apart_is_a_tie_at_every_size_and_nothing_else_is(size):
    """0.1 + 0.2 against 0.3; a millionth of a millionth apart is no tie."""
    noisy, exact = size * (np.full(50, 0.1) + 0.2), size * np.full(50, 0.3)
    assert not paired_differences(noisy, exact).any()
    assert paired_differences(exact * (1 + 1e-11), exact).all()
    assert not paired_differences([1 - 0.9 - 0.1], [0.0], scale=1.0).any()


def test_small_numbers_beside_a_large_one_keep_their_differences():
    assert paired_differences([1e9, 2e-3], [1e9, 1e-3]).tolist() == [0.0, 1e-3]
