"""Planned and unplanned looks: published boundaries and error rates."""

import math

import numpy as np
import pytest

from llmlab.stats.spending import halving_levels, planned_looks, pocock_spending


def test_planned_looks_give_the_published_boundaries():
    """Five equal looks, two-sided .05: the tables of Lan & DeMets spending as printed by R's ldbounds."""
    fifths = [0.2, 0.4, 0.6, 0.8, 1.0]
    assert planned_looks(fifths).z == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)
    pocock = planned_looks(fifths, spending=pocock_spending)
    assert pocock.z == pytest.approx((2.4380, 2.4268, 2.4101, 2.3966, 2.3859), abs=2e-4)
    assert pocock.spent[-1] == pytest.approx(0.05)


def test_planned_looks_reject_a_true_null_at_the_nominal_rate():
    plan = planned_looks([0.4, 1.0], spending=pocock_spending)
    rng = np.random.default_rng(21)
    first, later = rng.normal(0, math.sqrt(0.4), 100_000), rng.normal(0, math.sqrt(0.6), 100_000)
    z = np.stack([first / math.sqrt(0.4), first + later])
    assert (np.abs(z) > np.array(plan.z)[:, None]).any(axis=0).mean() == pytest.approx(0.05, abs=0.003)


def test_one_look_costs_nothing_and_more_looks_cost_more():
    assert planned_looks([1.0]).levels[0] == pytest.approx(0.95)
    assert planned_looks([0.5, 1.0]).levels[1] < planned_looks([0.5, 0.75, 1.0]).levels[2]
    with pytest.raises(ValueError, match="must rise"):
        planned_looks([0.5, 0.5])


def test_unplanned_looks_together_spend_at_most_alpha():
    assert sum(1 - level for level in halving_levels(30)) <= 0.05
