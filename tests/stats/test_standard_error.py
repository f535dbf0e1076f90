"""The standard error of a mean, clustered and weighted: its definition, statsmodels and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.arrays import cluster_codes
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import mean_estimate
from llmlab.stats.paired import mean_difference, relative_margin_difference
from llmlab.stats.standard_error import case_weights, effective_size, skew_notes, standard_error, t_quantile

SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=12)


def clustered_values(seed, sizes, icc=0.15):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(0, icc**0.5, len(sizes))[codes] + rng.normal(0, (1 - icc) ** 0.5, codes.size), codes


@given(values=st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 9)), min_size=2, max_size=40))
def test_singleton_clusters_are_independent_cases(values):
    """Each case in a cluster of its own is the textbook standard error with n - 1 degrees of freedom."""
    alone, singly = standard_error(values), standard_error(values, [f"case {i}" for i in range(len(values))])
    assert singly.se == alone.se
    assert singly.df == alone.df == len(values) - 1
    expected = np.std(values, ddof=1) / len(values) ** 0.5
    assert alone.se == pytest.approx(expected, rel=1e-9, abs=1e-10 * np.abs(values).max())


@given(sizes=SIZES, seed=st.integers(0, 1000))
def test_standard_error_depends_on_neither_order_nor_names_of_clusters(sizes, seed):
    """Shuffled rows and renamed clusters are the same data."""
    values, codes = clustered_values(seed, sizes)
    order = np.random.default_rng(seed).permutation(values.size)
    names = np.array([f"doc-{97 * code}" for code in codes])
    one, other = standard_error(values, codes), standard_error(values[order], names[order])
    assert other.se == pytest.approx(one.se, rel=1e-9, abs=1e-15)
    assert other.df == pytest.approx(one.df)


@pytest.mark.slow
def test_cr2_keeps_its_level_where_cr1_does_not():
    """One cluster of 200 and nine of 20, ICC .15: CR1 with t(G-1) rejects about 19%, CR2 about 5% (METHODS)."""
    sizes, runs = [200] + [20] * 9, 2000
    rejected = np.zeros(2)
    for seed in range(runs):
        values, codes = clustered_values(seed, sizes)
        cr1 = (10 / 9 * np.square(np.bincount(codes, values - values.mean())).sum()) ** 0.5 / values.size
        rejected += abs(values.mean()) > t_quantile(0.975, 9) * cr1, mean_difference(values, codes).p_value < 0.05
    assert rejected[0] / runs > 0.14
    assert 0.03 < rejected[1] / runs < 0.07


@pytest.mark.parametrize("labels", [["x", "y", "x"], [7, -1, 7], [1000, 3, 1000], [0.5, 0.1, 0.5], [2, 0, 2]])
def test_cluster_codes_have_no_gaps(labels):
    """Any kind of label becomes 0 to G - 1, equal labels and no others alike."""
    codes = cluster_codes(labels, n=len(labels))
    assert sorted(set(codes.tolist())) == [0, 1]
    assert codes[0] == codes[2] != codes[1]
    assert len(set(cluster_codes(np.array([1, "1", "one"], dtype=object), n=3).tolist())) == 3


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [
        ([1.0], None, "1 case in values"),
        ([1.0, 2.0, 3.0], ["a", "a", "a"], "all 3 cases are in one cluster"),
        ([], None, "0 cases"),
        ([1.0, np.nan, 2.0], None, r"values\[1\] is missing"),
        ([1.0, np.inf, 2.0], None, "infinite"),
        ([[1.0, 2.0], [3.0, 4.0]], None, "2 dimensions"),
        ([1.0, 2.0, 3.0], [0, 1], "2 values where 3"),
        ([1.0, 2.0, 3.0], [0.0, np.nan, 1.0], r"clusters\[1\] is missing"),
        ([1.0, 2.0, 3.0], np.array([1, "1", None], dtype=object), r"clusters\[2\] is missing"),
    ],
)
def test_too_little_data_gaps_and_wrong_shapes_are_refused_with_their_place(values, clusters, said):
    with pytest.raises(DataError, match=said):
        standard_error(values, clusters)


def test_few_degrees_of_freedom_are_said():
    """Under 10 the interval is to be read with care, under 4 it is too little for a verdict."""
    notes = {clusters: standard_error(*clustered_values(1, [5] * clusters)).notes for clusters in (4, 8, 11)}
    assert "too few for a verdict" in notes[4][0]
    assert "read the interval with care" in notes[8][0]
    assert notes[11] == ()


# -- weighted means: the standard error against matrices written out, statsmodels and a simulation ---------------------


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
    x, codes = clustered_values(seed, sizes)
    return x, codes, np.random.default_rng(seed).gamma(1.0, 1.0, codes.size) + 0.1


@pytest.mark.parametrize("weights_of", [lambda w, codes: w, lambda w, codes: w[codes], lambda w, codes: None])
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 9), min_size=3, max_size=9))
@example(seed=3, sizes=[1] * 12)  # independent cases: HC2
@example(seed=4, sizes=[3] * 4)
def test_the_closed_form_is_the_definition(weights_of, seed, sizes):
    """Of weights, of equal ones within each cluster, and of none; unequal clusters only lose degrees of freedom."""
    x, codes, w = sample(seed, sizes)
    weights = weights_of(w, codes)
    se, df = by_matrices(x, codes, np.ones(x.size) if weights is None else weights)
    for clusters in (codes, None) if max(sizes) == 1 else (codes,):
        found = standard_error(x, clusters, weights=weights)
        assert (found.se, found.df) == (pytest.approx(se, rel=1e-9), pytest.approx(df, rel=1e-9))
    assert 1 - 1e-9 <= found.df <= len(sizes) - 1 + 1e-9


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


@pytest.mark.parametrize("heavy", [1e3, 1e5, 1e6, 1e9])
def test_one_case_with_nearly_all_the_weight_is_about_one_degree_of_freedom(heavy):
    """The trace cancels out in floating point: never infinite, negative or 0."""
    rng = np.random.default_rng(0)
    error = standard_error(rng.random(40), weights=[heavy] + [1.0] * 39)
    assert 1.0 <= error.df < 1.3


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e200, 1e308])
def test_whether_a_mean_is_skewed_has_no_unit(scale):
    assert skew_notes(np.array([0.5] * 11 + [-1.0]) * scale) != ()
    assert skew_notes(np.array([0.5, -0.5] * 20) * scale) == ()
