"""Cases that several conditions need together: bounds, simulation and single formulas agree."""

import numpy as np
import pytest

from llmlab.errors import DataError
from llmlab.stats.joint import Need, joint_power, needed_cases
from llmlab.stats.power import (
    miller_sample_size,
)


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
