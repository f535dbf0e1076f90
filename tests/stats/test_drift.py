"""Drift of a mix: chi-square as scipy has it, the stability index by hand."""

import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from llmlab.base.errors import DataError
from llmlab.stats.drift import mix_drift


@pytest.mark.parametrize(("before", "after"), [(20, 20), (100, 30), (300, 300)])
def test_where_nothing_moved_no_move_is_spoken_of(before, after):
    """A PSI of 0.1 is in most of the small draws; a size may be said of at most 5%."""
    rng = np.random.default_rng(4)
    shares = [1 / 6] * 6
    draws = [[dict(enumerate(rng.multinomial(n, shares).tolist())) for n in (before, after)] for _ in range(400)]
    assert np.mean([mix_drift(*draw).size != "" for draw in draws]) <= 0.05


def test_what_psi_shows_by_chance_is_its_mean_where_nothing_moved():
    rng = np.random.default_rng(5)
    draws = [[dict(enumerate(rng.multinomial(n, [0.2] * 5).tolist())) for n in (1000, 800)] for _ in range(300)]
    found = [mix_drift(*draw) for draw in draws]
    assert np.mean([drift.psi for drift in found]) == pytest.approx(found[0].psi_by_chance, rel=0.1)


def test_the_stability_index_by_hand():
    """50/50 before, 20/80 after, half a case added to each kind; chi-square by scipy."""
    found = mix_drift({"a": 50, "b": 50}, {"a": 20, "b": 80})
    b, a = (50.5 / 101, 50.5 / 101), (20.5 / 101, 80.5 / 101)
    assert found.psi == pytest.approx(sum((x - y) * math.log(x / y) for x, y in zip(a, b, strict=True)))
    assert found.p_value == pytest.approx(chi2_contingency([[50, 50], [20, 80]], correction=False).pvalue)
    assert found.moved


def test_rare_kinds_are_joined_for_the_test_and_stay_apart_in_the_counts():
    found = mix_drift({"a": 60, "b": 30, "c": 2}, {"a": 30, "b": 60, "d": 3})
    assert found.p_value == pytest.approx(chi2_contingency([[60, 30, 2], [30, 60, 3]], correction=False).pvalue)
    assert found.counts["d"] == (0, 3)
    assert mix_drift({"a": 5}, {"a": 9}).p_value is None


@pytest.mark.parametrize(("before", "after"), [({}, {"a": 1}), ({"a": 5}, {})])
def test_a_side_without_any_is_refused(before, after):
    with pytest.raises(DataError, match="needs some of each"):
        mix_drift(before, after)
