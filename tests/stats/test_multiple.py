"""Holm's adjustment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.stats.burdens import holm

BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip  # Benjamini and Hochberg 1995, section 3.2, myocardial infarction trial


def test_holm_rejects_three_of_the_fifteen_p_values_of_benjamini_and_hochberg():
    assert sum(p <= 0.05 for p in holm(BH_1995)) == 3


@given(p_values=st.lists(st.floats(0, 1), max_size=20))
def test_adjustment_matches_statsmodels(p_values):
    """`multipletests` is the oracle, for any order and any ties; a family of one keeps its p, an empty one is empty."""
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p_values, method="holm")[1] if p_values else ()
    assert holm(p_values) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("p_values", [[0.1, float("nan")], [1.2], [-0.1], [[0.1]]])
def test_what_is_no_p_value_is_refused(p_values):
    """NaN is not quietly a failure to reject."""
    with pytest.raises(ValueError, match="p values"):
        holm(p_values)
