"""Sample sizes and detectable differences against their papers, statsmodels and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import DataError
from llmlab.stats.joint import Need, joint_power, needed_cases
from llmlab.stats.power import (
    cluster_design,
    mcnemar_sample_size,
    miller_sample_size,
    non_inferiority_sample_size,
    settleable_margin,
    smallest_detectable_difference,
    t_test_sample_size,
)
from llmlab.stats.variance import repeats_or_cases, variance_parts


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


@settings(max_examples=40)
@given(
    difference=st.floats(0.001, 0.5),
    between=st.floats(0.001, 1),
    within=st.floats(0, 1),
    repeats=st.integers(1, 20),
    power=st.floats(0.5, 0.99),
)
def test_smallest_detectable_difference_is_the_inverse_of_the_sample_size(difference, between, within, repeats, power):
    settings_ = {"between": between, "within_baseline": within, "repeats_baseline": repeats, "power": power}
    size = miller_sample_size(difference, **settings_)
    found = smallest_detectable_difference(size.cases, **settings_)
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


def test_design_effect_of_whole_copies_is_the_cluster_size():
    design = cluster_design(np.repeat([0.0, 1.0, 3.0, 4.0], 5), clusters=np.repeat(np.arange(4), 5))
    assert design.intraclass_correlation == pytest.approx(1.0)
    assert design.design_effect == pytest.approx(5.0)
    assert design.effective_cases == pytest.approx(4.0)


def test_design_effect_recovers_a_planted_correlation_with_unequal_clusters():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(400), rng.integers(1, 20, 400))
    values = rng.normal(0, math.sqrt(0.3), 400)[clusters] + rng.normal(0, math.sqrt(0.7), len(clusters))
    assert cluster_design(values, clusters=clusters).intraclass_correlation == pytest.approx(0.3, abs=0.05)


def test_one_cluster_says_that_nothing_can_be_told():
    design = cluster_design([0.0, 1.0], clusters=["a", "a"])
    assert design.intraclass_correlation is None
    assert "one cluster" in str(design)


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


def test_one_condition_needs_what_the_single_formula_says():
    needed = needed_cases([Need(name="goal", distance=0.03, sd=0.4, alpha=0.025)])
    assert needed.low == needed.likely == needed.high == miller_sample_size(0.03, between=0.16).cases


def test_a_small_category_binds():
    needs = [Need(name="goal", distance=0.05, sd=0.4, alpha=0.025), Need(name="rare", distance=0.05, sd=0.4, share=0.1)]
    needed = needed_cases(needs)
    assert needed.binding == "rare"
    assert needed.low <= needed.likely <= needed.high
    assert "'rare' needs most" in str(needed)


def test_joint_need_by_simulation_meets_the_product_when_independent_and_the_single_need_when_identical():
    needs = [Need(name=f"{i}", distance=0.05, sd=0.4) for i in range(4)]
    bounds = needed_cases(needs)
    independent = needed_cases(needs, correlation=np.eye(4), draws=100_000)
    identical = needed_cases(needs, correlation=np.ones((4, 4)), draws=100_000)
    assert independent.likely == pytest.approx(bounds.likely, rel=0.02)
    assert identical.likely == pytest.approx(bounds.low, rel=0.02)


def test_joint_power_at_the_needed_cases_is_the_power_asked_for():
    needs = [Need(name=f"{i}", distance=0.02 + i / 100, sd=0.3, share=0.5) for i in range(3)]
    low, high = joint_power(needs, cases=needed_cases(needs, power=0.9).likely)
    assert low == pytest.approx(0.9, abs=2e-3)
    assert high > low


def test_an_estimated_standard_deviation_widens_the_range():
    known = needed_cases([Need(name="goal", distance=0.05, sd=0.4)])
    guessed = needed_cases([Need(name="goal", distance=0.05, sd=0.4, sd_cases=20)])
    assert guessed.low < known.low
    assert guessed.high > known.high


def test_a_condition_that_no_number_of_cases_settles_is_named():
    with pytest.raises(DataError, match="'tone'"):
        needed_cases([Need(name="tone", distance=0.0, sd=0.4)])


def test_arguments_outside_their_range_are_named():
    with pytest.raises(ValueError, match=r"power == 1\.2"):
        miller_sample_size(0.1, between=0.1, power=1.2)
    with pytest.raises(ValueError, match="difference == 0"):
        miller_sample_size(0, between=0.1)
    with pytest.raises(ValueError, match="repeats == 0"):
        miller_sample_size(0.1, between=0.1, repeats_baseline=0)
