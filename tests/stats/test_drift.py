"""Drift of one number: Kolmogorov-Smirnov as scipy has it, the stability index by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from llmlab.base.errors import DataError
from llmlab.stats.drift import distribution_drift, mix_drift


def test_ks_is_scipys():
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=80), rng.normal(0.5, size=60)
    found = distribution_drift(before, after)
    assert (found.ks, found.p_value) == pytest.approx(tuple(ks_2samp(before, after)))


def test_the_stability_index_by_hand():
    """Two bins cut at the median: 50/50 before, 20/80 after, half a value added to each bin."""
    before, after = [0.0] * 50 + [1.0] * 50, [0.0] * 20 + [1.0] * 80
    b, a = (50.5 / 101, 50.5 / 101), (20.5 / 101, 80.5 / 101)
    expected = sum((x - y) * math.log(x / y) for x, y in zip(a, b, strict=True))
    assert distribution_drift(before, after, bins=2).psi == pytest.approx(expected)


def test_a_shift_is_seen_and_a_second_sample_of_the_same_is_not():
    rng = np.random.default_rng(3)
    before = rng.normal(size=500)
    assert distribution_drift(before, rng.normal(0.8, size=500)).moved
    same = distribution_drift(before, rng.normal(size=500))
    assert not same.moved
    assert (same.size, same._sentence().split(" is")[0]) == ("", "No move")


@pytest.mark.parametrize(("before", "after"), [(20, 20), (100, 30), (300, 300)])
def test_where_nothing_moved_no_move_is_spoken_of(before, after):
    """A PSI of 0.1 is in most of the small draws; a size may be said of at most 5%."""
    rng = np.random.default_rng(4)
    found = [distribution_drift(rng.normal(size=before), rng.normal(size=after)) for _ in range(400)]
    shares = [1 / 6] * 6
    draws = [[dict(enumerate(rng.multinomial(n, shares).tolist())) for n in (before, after)] for _ in range(400)]
    for drifts in (found, [mix_drift(*draw) for draw in draws]):
        assert np.mean([drift.size != "" for drift in drifts]) <= 0.05


def test_what_psi_shows_by_chance_is_its_mean_where_nothing_moved():
    rng = np.random.default_rng(5)
    found = [distribution_drift(rng.normal(size=1000), rng.normal(size=800)) for _ in range(300)]
    assert np.mean([drift.psi for drift in found]) == pytest.approx(found[0].psi_by_chance, rel=0.1)


@given(*[st.lists(st.floats(-10, 10), min_size=2, max_size=30)] * 2)
def test_any_two_samples_give_finite_numbers_and_a_sample_against_itself_none(before, after):
    found = distribution_drift(before, after)
    assert all(map(math.isfinite, (found.ks, found.p_value, found.psi)))
    assert found.psi >= 0
    assert distribution_drift(before, before).psi == pytest.approx(0, abs=1e-12)


def test_too_little_is_refused():
    with pytest.raises(DataError, match="at least two"):
        distribution_drift([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="missing"):
        distribution_drift([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="bins == 1"):
        distribution_drift([1.0, 2.0], [1.0, 2.0], bins=1)
