"""Holm and Benjamini-Hochberg."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.stats.multiple import benjamini_hochberg, holm

BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip  # Benjamini and Hochberg 1995, section 3.2, myocardial infarction trial
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_the_fifteen_p_values_of_benjamini_and_hochberg():
    """Holm rejects 3; BH rejects 4, the fourth adjusted to .035625."""
    assert sum(holm(BH_1995).rejected) == 3
    adjusted = benjamini_hochberg(BH_1995)
    assert sum(adjusted.rejected) == 4
    assert adjusted.p_adjusted[3] == pytest.approx(0.035625)


@pytest.mark.parametrize(("adjust", "name"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@given(p_values=P_VALUES)
@settings(max_examples=50, deadline=None)
def test_adjustment_matches_statsmodels(adjust, name, p_values):
    """`multipletests` is the oracle, for any order and any ties."""
    from statsmodels.stats.multitest import multipletests

    rejected, adjusted, *_ = multipletests(p_values, alpha=0.05, method=name)
    ours = adjust(p_values)
    assert ours.p_adjusted == pytest.approx(tuple(adjusted), abs=1e-12)
    assert all(
        one == other or abs(p - 0.05) < 1e-9
        for one, other, p in zip(ours.rejected, rejected.tolist(), adjusted, strict=True)
    )


@given(p_values=P_VALUES)
@settings(max_examples=50, deadline=None)
def test_adjusted_p_values_only_rise_and_holm_is_the_stricter(p_values):
    """p <= BH <= Holm <= 1 for every member of the family."""
    loose, strict = benjamini_hochberg(p_values).p_adjusted, holm(p_values).p_adjusted
    for p, bh, h in zip(p_values, loose, strict, strict=True):
        assert p - 1e-12 <= bh <= h + 1e-12
        assert h <= 1


def test_one_or_no_p_value_needs_no_adjustment():
    """A family of one keeps its p; an empty one stays empty."""
    assert holm([0.03]).p_adjusted == benjamini_hochberg([0.03]).p_adjusted == (0.03,)
    assert holm([]).p_adjusted == ()


@pytest.mark.parametrize("p_values", [[0.1, float("nan")], [1.2], [-0.1], [[0.1]]])
def test_what_is_no_p_value_is_refused(p_values):
    """NaN is not quietly a failure to reject."""
    with pytest.raises(ValueError, match="p values"):
        holm(p_values)


def test_family_shows_itself_with_its_rule():
    """The correction is stated where the numbers are shown."""
    assert "1 of 2 rejected at 0.05 (Holm)" in str(holm([0.001, 0.5]))
