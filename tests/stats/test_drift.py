"""Drift of a mix: chi-square as scipy has it, the stability index by hand."""

import math

import numpy as np
import pytest
from scipy.stats import PermutationMethod, chi2_contingency

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


def test_with_rare_kinds_the_p_value_is_that_of_the_same_items_dealt_out_at_random():
    """As scipy deals them, whatever the order of the kinds: 0.01, where the distribution of chi-square says 5e-9."""
    table = np.array([[400, 300, 1, 0, 9], [8, 7, 0, 1, 1]])
    theirs = chi2_contingency(table, correction=False, method=PermutationMethod(n_resamples=5_000, rng=1))
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        found = mix_drift(*(dict(zip(map(str, order), side[order].tolist(), strict=True)) for side in table))
        assert found.chi2 == pytest.approx(theirs.statistic)
        assert found.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert mix_drift({"a": 5}, {"a": 9}).p_value is None


def test_with_rare_kinds_a_move_is_shown_by_chance_at_its_level_and_psi_says_what_chance_makes():
    """Shares from Dirichlet(0.5 .. 0.5) over 60 kinds, 2000 before and 60 now; (kinds - 1) (1/2000 + 1/60) is .9."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(150):
        shares = rng.dirichlet([0.5] * 60)
        found.append(mix_drift(*(dict(enumerate(rng.multinomial(n, shares).tolist())) for n in (2000, 60))))
    p_values = np.array([one.p_value for one in found])
    assert 0.02 <= np.mean(p_values < 0.05) <= 0.08
    assert np.mean([one.psi_by_chance for one in found]) == pytest.approx(np.mean([one.psi for one in found]), rel=0.05)


def test_a_kind_that_grows_is_shown_though_few_of_each_are_there():
    """Ten kinds, 200 before and 30 now; one goes from 5% to 40%."""
    rng, shares = np.random.default_rng(7), np.array([[0.05] + [0.95 / 9] * 9, [0.4] + [0.6 / 9] * 9])
    draws = (
        [dict(enumerate(rng.multinomial(n, p).tolist())) for n, p in zip((200, 30), shares, strict=True)]
        for _ in range(20)
    )
    assert np.mean([mix_drift(*draw).moved for draw in draws]) >= 0.85


def test_it_says_where_even_a_large_move_would_hardly_be_shown():
    """One of four kinds falls from 25% to 7.4%, a PSI of .25: shown in 80% of draws of 125 on each side."""
    rng, even, moved = np.random.default_rng(8), [0.25] * 4, [0.074] + [0.926 / 3] * 3
    draws = ([dict(enumerate(rng.multinomial(125, p).tolist())) for p in (even, moved)] for _ in range(400))
    assert np.mean([mix_drift(*draw).size != "" for draw in draws]) == pytest.approx(0.8, abs=0.06)
    few, many = (str(mix_drift(*[dict.fromkeys("abcd", n // 4)] * 2)) for n in (100, 140))
    assert few.endswith("so few may not show even a large one.")
    assert many.endswith("where nothing moved).")


@pytest.mark.parametrize(("before", "after"), [({}, {"a": 1}), ({"a": 5}, {})])
def test_a_side_without_any_is_refused(before, after):
    with pytest.raises(DataError, match="needs some of each"):
        mix_drift(before, after)
