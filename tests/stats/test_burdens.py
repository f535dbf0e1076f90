"""The burdens of proof: known answers, and what they let through and hold back on clustered data, simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.stats.burdens import holm, non_inferior, reaches, superior
from llmlab.stats.paired import mean_difference
from llmlab.stats.power import Spread, detectable

SETTINGS = {"asked": 0.95, "confidence": 0.95}


@pytest.mark.parametrize(
    ("rule", "mean", "asked_of_it", "word", "least", "most"),
    [
        (superior, 0.0, {"min_effect": 0.0}, "PASS", 0.0, 0.05),  # one side of a two-sided 95% interval: 2.5%
        (non_inferior, -0.05, {"margin": 0.05}, "PASS", 0.0, 0.08),
        (non_inferior, -0.05, {"margin": 0.05}, "FAIL", 0.0, 0.08),
        (reaches, 0.0, {"bound": 0.0}, "PASS", 0.0, 0.05),
        (superior, 0.15, {"min_effect": 0.02}, "PASS", 0.95, 1.0),
        (non_inferior, -0.25, {"margin": 0.05}, "FAIL", 0.95, 1.0),
    ],
)
def test_what_is_not_so_is_rarely_shown_and_what_plainly_is_nearly_always(rule, mean, asked_of_it, word, least, most):
    """400 gates on 20 documents x 10 questions with a document effect (ICC about .3)."""
    rng, codes = np.random.default_rng(7), np.repeat(np.arange(20), 10)
    draws = (rng.normal(mean, 0.2, (20, 10)) + rng.normal(0, 0.13, (20, 1)) for _ in range(400))
    words = [rule(mean_difference(d.ravel(), codes), **asked_of_it, **SETTINGS) for d in draws]
    assert least <= words.count(word) / 400 <= most


def test_harm_is_shown_where_all_of_the_interval_lies_beyond_the_margin():
    worse = mean_difference(np.linspace(-0.4, -0.2, 20))
    assert non_inferior(worse, margin=0.1) == "FAIL"
    with pytest.raises(ValueError, match=r"margin == -0\.1"):
        non_inferior(worse, margin=-0.1)
    with pytest.raises(ValueError, match="asked == 95"):
        non_inferior(worse, margin=0.1, asked=95)


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_ties_rule_a_margin_out_only_where_they_would_be_rare_under_it(margin):
    """PASS only when (1 - margin)^n <= .05: 59 cases at a margin of 5 points."""
    enough = math.ceil(math.log(0.05) / math.log(1 - margin))
    ties = {n: mean_difference([0.0] * n, bounds=(-1, 1)) for n in (5, enough - 1, enough)}
    words = [non_inferior(d, margin=margin) for d in ties.values()]
    assert words == ["INCONCLUSIVE", "INCONCLUSIVE", "PASS"]
    assert ties[enough].p_above(-margin) == pytest.approx((1 - margin) ** enough)
    assert non_inferior(mean_difference([-0.1] * 9, bounds=(-1, 1)), margin=0.02) == "INCONCLUSIVE"


def test_a_case_that_carries_all_weight_rules_nothing_out():
    """Fifty ties of which one stands for nearly all cases tell as much as one."""
    weights = [1.0] * 49 + [500.0]
    assert non_inferior(mean_difference([0.0] * 50, bounds=(-1, 1)), margin=0.1) == "PASS"
    assert non_inferior(mean_difference([0.0] * 50, weights=weights, bounds=(-1, 1)), margin=0.1) == "INCONCLUSIVE"


def test_a_small_difference_everywhere_shows_where_the_plan_says():
    """Graded, sd .1, 100 cases: t alone would promise .028, the bounds ask for about 4 / n more."""
    rng = np.random.default_rng(5)
    seen = detectable(Spread.of(mean_difference(rng.normal(0, 0.1, 100), bounds=(-1, 1))), tail=0.025)
    drawn = [mean_difference(rng.normal(seen, 0.1, 100), bounds=(-1, 1)).p_value < 0.05 for _ in range(300)]
    print(f"true difference {seen:.3f}: shown in {np.mean(drawn):.1%}")
    assert 0.04 < seen < 0.07
    assert np.mean(drawn) >= 0.78


# -- Holm's adjustment -------------------------------------------------------------------------------------------------


BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip  # Benjamini and Hochberg 1995, section 3.2, myocardial infarction trial
STATSMODELS = [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, *[1.0] * 6]  # of these


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
