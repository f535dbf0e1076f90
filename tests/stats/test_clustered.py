"""Cluster-robust least squares against its definition, statsmodels and simulation."""

import math

import numpy as np
import pytest

from llmlab.stats.standard_error import clustered_contrast


def test_heteroscedastic_rows_alone_in_their_clusters_give_statsmodels_hc2():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(60), rng.normal(0, 1, 60), rng.random(60)])
    response = design @ [1.0, 2.0, 3.0] + rng.normal(0, 1 + design[:, 2], 60)
    oracle = api.OLS(response, design).fit(cov_type="HC2")
    for term, row in enumerate(np.eye(3)):
        fit = clustered_contrast(design, row, response=response, clusters=np.arange(60))
        assert (fit.value, fit.se) == pytest.approx((oracle.params[term], oracle.bse[term]))


def test_clustered_errors_match_the_definition_of_cr2_written_out():
    """Bell & McCaffrey with explicit N x N matrices, weighted, unequal clusters."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(7), [1, 2, 3, 5, 8, 4, 9])
    n = len(clusters)
    weights = rng.random(n) + 0.5
    design = np.column_stack([np.ones(n), rng.normal(0, 1, n)])
    response = rng.normal(0, 1, n)
    fit = clustered_contrast(design, [0.0, 1.0], response=response, clusters=clusters, weights=weights)
    x, y = design * np.sqrt(weights)[:, None], response * np.sqrt(weights)
    bread = np.linalg.inv(x.T @ x)
    annihilator = np.eye(n) - x @ bread @ x.T
    columns = []
    for cluster in range(7):
        own = clusters == cluster
        values, vectors = np.linalg.eigh(annihilator[np.ix_(own, own)])
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        columns.append(annihilator[own].T @ root @ x[own] @ bread[:, 1])
    matrix = np.array(columns) @ np.array(columns).T
    residual = annihilator @ y
    variance = sum(float(residual @ column) ** 2 for column in columns)
    assert fit.se == pytest.approx(math.sqrt(variance))
    assert fit.df == pytest.approx(np.trace(matrix) ** 2 / (matrix**2).sum())


def test_false_positives_stay_nominal_with_few_unequal_clusters():
    """Nominal 5% with one cluster of 100 cases and nine of 10 (ICC about .15): between 3% and 7% of 1,000 trials."""
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(10), [100] + [10] * 9)
    design = np.ones((len(clusters), 1))
    shown = 0
    for _ in range(1000):
        response = rng.normal(0, math.sqrt(0.15), 10)[clusters] + rng.normal(0, math.sqrt(0.85), len(clusters))
        fit = clustered_contrast(design, [1.0], response=response, clusters=clusters)
        shown += not fit.low <= 0 <= fit.high
    assert 0.03 <= shown / 1000 <= 0.07
