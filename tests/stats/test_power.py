"""Sample sizes and detectable differences against their papers, statsmodels and simulation."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.stats.power import (
    mcnemar_sample_size,
    miller_sample_size,
    non_inferiority_sample_size,
    settleable_margin,
    smallest_detectable_difference,
    t_test_sample_size,
)


@pytest.mark.parametrize(
    ("within", "repeats", "cases"), [(0, 1, 968.9975), (1 / 6, 1, 3875.99), (1 / 6, 10, 1259.6967)]
)
def test_miller_formula_gives_the_figures_of_his_paper(within, repeats, cases):
    """Miller 2024, arXiv 2411.00640: difference .03, w2 1/9."""
    size = miller_sample_size(
        0.03,
        between=1 / 9,
        within_baseline=within,
        within_candidate=within,
        repeats_baseline=repeats,
        repeats_candidate=repeats,
    )
    assert size.cases_exact == pytest.approx(cases, abs=1e-4)
    assert size.cases == math.ceil(cases)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    difference=st.floats(0.001, 0.5),
    between=st.floats(0.001, 1),
    within=st.floats(0, 1),
    repeats=st.integers(1, 20),
    power=st.floats(0.5, 0.99),
)
def test_smallest_detectable_difference_is_the_inverse_of_the_sample_size(difference, between, within, repeats, power):
    noise = {"within_baseline": within, "repeats_baseline": repeats}
    size = miller_sample_size(difference, between=between, power=power, **noise)
    found = smallest_detectable_difference(size.cases, between=between + within / repeats, power=power)
    assert found.value <= difference * (1 + 1e-9)
    assert found.value * math.sqrt(size.cases / size.cases_exact) == pytest.approx(difference)


def test_smallest_detectable_difference_always_says_its_power():
    found = smallest_detectable_difference(300, between=0.1)
    assert "with 80% power" in str(found)
    assert "with 80% power" in found._repr_html_()


def test_connor_formula_for_mcnemar_gives_the_known_answer():
    """Connor 1987: p10 .08, p01 .04."""
    assert mcnemar_sample_size(0.08, 0.04).cases_exact == pytest.approx(586.3026, abs=1e-4)


@pytest.mark.parametrize(("effect", "power"), [(0.2, 0.8), (0.5, 0.9), (-0.05, 0.8), (1.5, 0.95)])
def test_t_test_sample_size_agrees_with_statsmodels(effect, power):
    statsmodels = pytest.importorskip("statsmodels.stats.power")
    expected = statsmodels.TTestPower().solve_power(effect_size=abs(effect), alpha=0.05, power=power)
    assert t_test_sample_size(effect, power=power).cases_exact == pytest.approx(float(expected), rel=1e-5)


def test_t_test_sample_size_gives_the_known_answer():
    """statsmodels TTestPower: dz .2."""
    assert t_test_sample_size(0.2).cases_exact == pytest.approx(198.1508, abs=1e-4)


def test_non_inferiority_needs_thousands_of_cases_per_category():
    """Standard deviation .45, margin .02: about 3,100 per category, 6,400 for 80% joint power over eight."""
    assert non_inferiority_sample_size(0.02, sd=0.45).cases == pytest.approx(3100, rel=0.02)
    assert non_inferiority_sample_size(0.02, sd=0.45, conditions=8).cases == pytest.approx(6400, rel=0.01)
    assert settleable_margin(6430, sd=0.45, conditions=8).value == pytest.approx(0.02, abs=1e-5)


def test_arguments_outside_their_range_are_named():
    with pytest.raises(ValueError, match=r"power == 1\.2"):
        miller_sample_size(0.1, between=0.1, power=1.2)
    with pytest.raises(ValueError, match="difference == 0"):
        miller_sample_size(0, between=0.1)
    with pytest.raises(ValueError, match="repeats == 0"):
        miller_sample_size(0.1, between=0.1, repeats_baseline=0)
