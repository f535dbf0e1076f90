"""Cases that several conditions need together: bounds, simulation and single formulas agree."""

import math
from statistics import NormalDist

import pytest

from llmlab.base.errors import DataError
from llmlab.stats.joint import Need, needed_cases
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


def test_the_conditions_hold_together_with_the_power_asked_for():
    """The product of the single powers at the cases needed."""
    needs = [Need(name=f"c{i}", distance=0.02, sd=0.3 + 0.05 * i) for i in range(4)]
    cases = needed_cases(needs, power=0.9).likely
    single = [
        NormalDist().cdf(need.distance / need.sd * math.sqrt(cases) - NormalDist().inv_cdf(0.95)) for need in needs
    ]
    assert math.prod(single) == pytest.approx(0.9, abs=0.001)


def test_an_estimated_standard_deviation_widens_the_range():
    known = needed_cases([Need(name="goal", distance=0.05, sd=0.4)])
    guessed = needed_cases([Need(name="goal", distance=0.05, sd=0.4, sd_cases=20)])
    assert guessed.low < known.low
    assert guessed.high > known.high


def test_a_condition_that_no_number_of_cases_settles_is_named():
    with pytest.raises(DataError, match="'tone'"):
        needed_cases([Need(name="tone", distance=0.0, sd=0.4)])
