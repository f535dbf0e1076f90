"""Columns of other tools' tables."""

import pandas as pd
import pytest

from llmlab.base.errors import DataError
from llmlab.judge.calibration import calibrate_scores
from llmlab.judge.columns import lengths_of


@pytest.mark.parametrize(
    ("cell", "said"), [("", "is empty"), (None, "is empty"), ("long", "holds long"), ("inf", "inf")]
)
def test_a_length_that_is_no_number_is_refused_with_its_row(cell, said):
    """Not "SVD did not converge"; rows are counted in the whole table, also in a part of it."""
    rows = pd.DataFrame({"size": ["10", "2.5", cell]})
    with pytest.raises(DataError, match=rf"row 3: column 'size' .*{said}"):
        lengths_of(rows.iloc[1:], "size")
    assert lengths_of(rows.iloc[:2], "size").tolist() == [10, 2.5]


def test_a_row_without_a_human_label_needs_no_length():
    table = pd.DataFrame({"human": [1, 0, 1, 0, 1, None], "judge": [1, 0, 0, 1, 1, 1], "size": [3, 1, 2, 5, 4, None]})
    assert calibrate_scores(table, length="size", resamples=50).only.length is not None
