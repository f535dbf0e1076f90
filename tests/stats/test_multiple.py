"""Holm's adjustment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.stats.burdens import holm

BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip  # Benjamini and Hochberg 1995, section 3.2, myocardial infarction trial
STATSMODELS = [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, *[1.0] * 6]  # of these


def test_holm_rejects_three_of_the_fifteen_p_values_of_benjamini_and_hochberg():
    assert sum(p <= 0.05 for p in holm(BH_1995)) == 3


def test_adjustment_is_that_of_statsmodels():
    """`multipletests(BH_1995, method="holm")[1]`, kept, since statsmodels takes seconds to import; shuffled."""
    order = np.random.default_rng(0).permutation(15)
    assert np.array(holm(np.array(BH_1995)[order])) == pytest.approx(np.array(STATSMODELS)[order], abs=1e-12)


@given(p_values=st.lists(st.floats(0, 1), max_size=7))
def test_adjustment_is_that_of_the_closed_test(p_values):
    """The largest Bonferroni p of all families with the hypothesis in it (Marcus, Peritz and Gabriel 1976)."""
    families = [[i for i in range(len(p_values)) if subset >> i & 1] for subset in range(1, 2 ** len(p_values))]
    p_of = [(family, min(1.0, len(family) * min(p_values[i] for i in family))) for family in families]
    closed = [max(p for family, p in p_of if i in family) for i in range(len(p_values))]
    assert holm(p_values) == pytest.approx(tuple(closed), abs=1e-12)


@pytest.mark.parametrize("p_values", [[0.1, float("nan")], [1.2], [-0.1], [[0.1]]])
def test_what_is_no_p_value_is_refused(p_values):
    """NaN is not quietly a failure to reject."""
    with pytest.raises(ValueError, match="p values"):
        holm(p_values)
