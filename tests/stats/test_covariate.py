"""CUPED on Student's sleep data, against statsmodels, and in simulation."""

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.covariate import cuped, cuped_difference

FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]  # hours of extra sleep, Student 1908
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_cuped_on_sleep_data_gives_the_known_answer():
    fit = cuped(SECOND, covariate=FIRST)
    assert fit.theta == pytest.approx(0.889950, abs=1e-6)
    assert fit.variance_ratio == pytest.approx(0.367704, abs=1e-6)
    assert fit.estimate.value == pytest.approx(np.mean(SECOND))
    assert "37% of the variance" in str(fit)


def test_difference_agrees_with_regression_on_arm_and_covariate():
    """The pooled within-arm slope is the covariate's coefficient in statsmodels' OLS."""
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 300)
    arm = np.arange(300) % 2
    y = 0.2 * arm + 0.8 * x + rng.normal(0, 0.5, 300)
    fit = cuped_difference(y[arm == 0], y[arm == 1], baseline_covariate=x[arm == 0], candidate_covariate=x[arm == 1])
    expected = api.OLS(y, np.column_stack([np.ones(300), arm, x])).fit()
    assert fit.theta == pytest.approx(expected.params[2])
    assert fit.estimate.value == pytest.approx(expected.params[1])


def test_interval_of_the_difference_covers_the_truth_at_its_level():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        x = rng.normal(0, 1, (2, 40))
        y = x + rng.normal(0, 0.5, (2, 40)) + [[0.0], [0.3]]
        fit = cuped_difference(y[0], y[1], baseline_covariate=x[0], candidate_covariate=x[1])
        covered += fit.estimate.low <= 0.3 <= fit.estimate.high
    assert covered / 1000 == pytest.approx(0.95, abs=0.02)


def test_a_covariate_that_differs_between_arms_is_reported():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 1, 200), rng.normal(1, 1, 200)
    fit = cuped_difference(first, second, baseline_covariate=first, candidate_covariate=second)
    assert "not fixed before the change" in fit.note


def test_constant_input_gives_no_nan():
    same = cuped([1, 2, 3], covariate=[5, 5, 5])
    assert (same.theta, same.variance_ratio) == (0.0, 1.0)
    assert "explains nothing" in str(same)
    assert "nothing to explain" in str(cuped([1, 1, 1], covariate=[1, 2, 3]))
    flat = cuped_difference([1, 1], [1, 1], baseline_covariate=[2, 2], candidate_covariate=[2, 2])
    assert flat.variance_ratio is None
    assert (flat.estimate.value, flat.estimate.low) == (0, 0)


def test_missing_values_are_counted_and_too_few_refused():
    assert cuped([1, 2, None, 4], covariate=[1, 2, 3, 5]).estimate.n == 3
    assert cuped([1, 2, None, 4], covariate=[1, 2, 3, 5]).estimate.n_attempted == 4
    with pytest.raises(DataError, match="at least 2"):
        cuped([1.0], covariate=[1.0])
