"""Weighted means: the standard error against matrices written out, statsmodels and a simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import mean_estimate
from llmlab.stats.paired import mean_difference, relative_margin_difference
from llmlab.stats.standard_error import case_weights, effective_size, standard_error


def by_matrices(x, codes, w):
    """CR2 and Bell-McCaffrey df of weighted least squares on an intercept, identity working model, nothing closed."""
    n, total = len(x), w.sum()
    rest = np.eye(n) - np.outer(np.ones(n), w) / total
    residuals, sides, scores = rest @ x, [], []
    for c in range(codes.max() + 1):
        chosen = codes == c
        values, vectors = np.linalg.eigh(rest[chosen] @ rest[chosen].T)
        pulled = vectors @ np.diag(values**-0.5) @ vectors.T @ w[chosen]
        scores.append(pulled @ residuals[chosen])
        sides.append(rest[chosen].T @ pulled)
    p = np.array(sides) @ np.array(sides).T
    return np.sqrt(np.sum(np.square(scores))) / total, np.trace(p) ** 2 / np.trace(p @ p)


def sample(seed, sizes):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(0.1, 1, codes.size) + rng.normal(0, 0.5, len(sizes))[codes]
    return x, codes, rng.gamma(1.0, 1.0, codes.size) + 0.1


@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 9), min_size=3, max_size=9))
def test_the_closed_form_is_the_definition(seed, sizes):
    x, codes, w = sample(seed, sizes)
    found = standard_error(x, codes, weights=w)
    se, df = by_matrices(x, codes, w)
    assert (found.se, found.df) == (pytest.approx(se, rel=1e-9), pytest.approx(df, rel=1e-9))


def test_independent_cases_are_clusters_of_one():
    """HC2 of the weighted mean; with weights equal within clusters the second axis vanishes."""
    x, _, w = sample(3, [1] * 12)
    assert standard_error(x, weights=w).se == pytest.approx(by_matrices(x, np.arange(12), w)[0], rel=1e-12)
    codes = np.repeat(np.arange(4), 3)
    even = np.repeat([1.0, 2.0, 5.0, 0.5], 3)
    assert standard_error(x, codes, weights=even).se == pytest.approx(by_matrices(x, codes, even)[0], rel=1e-12)


def test_where_clusters_weigh_alike_it_is_that_of_statsmodels_weighted_least_squares():
    """Equal clusters with the same weights in each: CR2 is CR1, which is CR0 times G / (G - 1)."""
    import statsmodels.api as sm

    x, codes, _ = sample(5, [4] * 6)
    w = np.tile([0.5, 1.0, 2.0, 4.0], 6)
    grouped = {"groups": codes, "use_correction": False}
    fit = sm.WLS(x, np.ones(x.size), weights=w).fit(cov_type="cluster", cov_kwds=grouped)
    found = mean_difference(x, codes, weights=w)
    assert (found.value, found.se) == pytest.approx((fit.params[0], fit.bse[0] * (6 / 5) ** 0.5))


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 2, 3, 4]])
def test_equal_weights_change_no_bit(clusters):
    x = np.array([0.1, -0.2, 0.4, 0.7, 0.0, 0.3, -0.1, 0.2])
    for weights in (np.full(8, 3.7), [1] * 8):
        assert mean_difference(x, clusters, weights=weights) == mean_difference(x, clusters)
        assert mean_estimate(x, clusters, weights=weights) == mean_estimate(x, clusters)
        assert share_estimate(abs(x), clusters, weights=weights) == share_estimate(abs(x), clusters)


def test_the_unit_of_the_weights_does_not_matter():
    x, codes, w = sample(9, [3, 4, 5])
    assert mean_difference(x, codes, weights=1_000 * w).se == pytest.approx(mean_difference(x, codes, weights=w).se)


def test_a_weighted_mean_says_how_many_equal_cases_it_is_worth():
    """Kish: (1 + 1 + 1 + 5)^2 / (1 + 1 + 1 + 25)."""
    found = mean_difference([0.1, 0.3, 0.2, 0.6], weights=[1, 1, 1, 5])
    assert found.value == pytest.approx((0.1 + 0.3 + 0.2 + 3.0) / 8)
    assert found.effective == pytest.approx(64 / 28)
    assert found.independent == found.effective
    assert found.method.startswith("weighted mean paired difference")
    assert effective_size([1, 1]) == 2.0


def test_a_relative_margin_is_weighted_too():
    base, cand, w = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.1, 3.6]), np.array([1.0, 1.0, 4.0])
    found = relative_margin_difference(base, cand, margin=0.1, weights=w)
    assert found.value == pytest.approx(np.average(cand - 1.1 * base, weights=w))


def test_a_weighted_share_stays_within_zero_and_one():
    found = share_estimate([1, 1, 1, 1, 0], weights=[9, 8, 7, 9, 0.1])
    assert 0 <= found.low < found.value < found.high <= 1
    assert "weighted" in found.method
    certain = share_estimate([1, 1, 1, 1], weights=[1, 1, 1, 5])
    assert certain.low < share_estimate([1, 1, 1, 1]).low


@pytest.mark.parametrize(
    ("weights", "said"),
    [([1, 0, 2], r"weights\[1\] == 0"), ([1, 2], "2 values where 3"), ([1, None, 2], r"weights\[1\] is missing")],
)
def test_weights_that_mean_nothing_are_refused(weights, said):
    with pytest.raises(DataError, match=said):
        case_weights(weights, n=3)


def test_weighted_intervals_cover_and_unclustered_ones_do_not():
    """1,000 samples of 25 clusters with unequal weights: nominal 5% is about 5%."""
    rng = np.random.default_rng(11)
    codes = np.repeat(np.arange(25), 4)
    w = rng.gamma(2.0, 1.0, 100)
    missed = np.zeros(2)
    for _ in range(1_000):
        x = rng.normal(0, 1, 100) + rng.normal(0, 0.8, 25)[codes]
        missed += [mean_difference(x, labels, weights=w).p_value < 0.05 for labels in (codes, None)]
    assert 0.035 < missed[0] / 1_000 < 0.065
    assert missed[1] / 1_000 > 0.09
