"""Logistic regression against statsmodels."""

import numpy as np
import pytest

from llmlab.stats.bias import logit_fit


def test_logit_agrees_with_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(6)
    design = np.column_stack([np.ones(300), rng.normal(0, 1, (300, 2))])
    outcomes = (rng.random(300) < 1 / (1 + np.exp(-design @ [0.2, 1.0, -0.5]))).astype(float)
    clusters = rng.integers(0, 40, 300)
    plain, robust = logit_fit(design, outcomes=outcomes), logit_fit(design, outcomes=outcomes, clusters=clusters)
    oracle = api.Logit(outcomes, design)
    assert plain.coefficients == pytest.approx(oracle.fit(disp=0).params)
    assert plain.se == pytest.approx(oracle.fit(disp=0).bse)
    clustered = oracle.fit(disp=0, cov_type="cluster", cov_kwds={"groups": clusters})
    assert robust.se == pytest.approx(clustered.bse)
