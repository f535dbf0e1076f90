"""Arrays as the statistics take them."""

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.arrays import codes, floats


def test_codes_number_groups_in_order_of_appearance():
    index, labels = codes(np.array(["b", "a", "b"]), "task", length=3)
    assert (index.tolist(), labels) == ([0, 1, 0], ["b", "a"])


@pytest.mark.parametrize("labels", [["a", None], np.array([1.0, np.nan])])
def test_a_row_without_a_label_is_refused(labels):
    with pytest.raises(DataError, match=r"task\[1\] is missing"):
        codes(labels, "task", length=2)


def test_floats_refuse_infinity_gaps_and_wrong_lengths_by_name():
    with pytest.raises(DataError, match=r"scores\[1\] is infinite"):
        floats([0.0, float("inf")], "scores", gaps=True)
    with pytest.raises(DataError, match=r"scores\[0\] is missing"):
        floats([None, 1.0], "scores")
    with pytest.raises(DataError, match="2 values where 3"):
        floats([0.0, 1.0], "scores", length=3)
    with pytest.raises(DataError, match="2 dimensions"):
        floats([[0.0]], "scores")
