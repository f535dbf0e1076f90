"""The clustered standard error against its definition, statsmodels and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.arrays import cluster_codes
from llmlab.stats.paired import mean_difference
from llmlab.stats.standard_error import bell_mccaffrey_df, standard_error, t_quantile

SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=12)


def df_by_the_full_matrix(sizes):
    """tr(M)^2 / tr(M M) with the G x G matrix written out."""
    n_c = np.asarray(sizes, float)
    n = n_c.sum()
    k = (1 - n_c / n) ** -0.5
    matrix = np.outer(k, k) * (np.diag(n_c) - np.outer(n_c, n_c) / n)
    return np.trace(matrix) ** 2 / np.trace(matrix @ matrix)


def clustered_values(seed, sizes, icc=0.15):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(0, icc**0.5, len(sizes))[codes] + rng.normal(0, (1 - icc) ** 0.5, codes.size), codes


@given(sizes=SIZES)
def test_degrees_of_freedom_equal_those_of_the_full_matrix_and_unequal_clusters_only_lose_some(sizes):
    """The O(G) closed form is the trace formula, for any cluster sizes."""
    assert bell_mccaffrey_df(sizes) == pytest.approx(df_by_the_full_matrix(sizes), rel=1e-9)
    assert 1 - 1e-9 <= bell_mccaffrey_df(sizes) <= len(sizes) - 1 + 1e-9


@pytest.mark.parametrize("n_clusters", [2, 7, 100])
def test_equal_clusters_give_one_degree_of_freedom_less_than_clusters(n_clusters):
    """METHODS: equal clusters give G - 1."""
    assert bell_mccaffrey_df([4] * n_clusters) == n_clusters - 1
    assert df_by_the_full_matrix([4] * n_clusters) == pytest.approx(n_clusters - 1)


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


def test_cr2_matches_the_general_sandwich():
    """CR2 by its definition: residuals of each cluster times (I - H_cc)^(-1/2), with H the hat matrix of the mean."""
    values, codes = clustered_values(5, [2, 9, 4, 30])
    n, residuals = values.size, values - values.mean()
    total = 0.0
    for cluster in range(4):
        size = int((codes == cluster).sum())
        eigenvalues, vectors = np.linalg.eigh(np.eye(size) - np.ones((size, size)) / n)
        root = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
        total += float(np.ones(size) @ root @ residuals[codes == cluster]) ** 2
    assert standard_error(values, codes).se == pytest.approx(total**0.5 / n, rel=1e-10)


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
    values, codes = clustered_values(1, [5] * 8)
    assert "read the interval with care" in standard_error(values, codes).notes[0]
    values, codes = clustered_values(1, [5] * 4)
    assert "too few for a verdict" in standard_error(values, codes).notes[0]
    values, codes = clustered_values(1, [5] * 11)
    assert standard_error(values, codes).notes == ()
