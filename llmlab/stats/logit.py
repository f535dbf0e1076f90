"""Logistic regression with model-based or cluster-robust standard errors, by Newton's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from llmlab.stats.arrays import FloatArray, GroupIndex

__all__ = ["LogitFit", "logit_fit"]

_STEPS = 50
_SEPARATED = 25.0  # a linear predictor beyond this means fitted probabilities of 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitFit:
    """Coefficients, standard errors and the degrees of freedom to read them with (infinite: normal)."""

    coefficients: FloatArray
    se: FloatArray
    df: float


def logit_fit(design: npt.ArrayLike, *, outcomes: FloatArray, clusters: GroupIndex | None = None) -> LogitFit | str:
    """Maximum likelihood of P(outcome 1) = expit(design @ b); a sentence instead where there is no finite maximum.

    With `clusters` (numbered 0..G-1) the sandwich of cluster scores times G/(G-1) (N-1)/(N-K) and t with G - 1
    degrees of freedom, as statsmodels' `Logit(...).fit(cov_type="cluster")`; else the inverse information.

    >>> fit = logit_fit([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]], outcomes=np.array([0.0, 1.0, 1.0, 1.0]))
    >>> fit
    'the outcome is settled by the covariates (separation): slopes are infinite'
    """
    x = np.asarray(design, dtype=float)
    if len(x) <= x.shape[1] or np.linalg.matrix_rank(x) < x.shape[1]:
        return "the covariates do not vary enough, or not apart from each other, to tell their slopes"
    if np.ptp(outcomes) == 0:
        return "every verdict is the same: slopes are undefined"
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        predicted = x @ beta
        if np.abs(predicted).max() > _SEPARATED:
            return "the outcome is settled by the covariates (separation): slopes are infinite"
        fitted = special.expit(predicted)
        information = (x * (fitted * (1 - fitted))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (outcomes - fitted))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    fitted = special.expit(x @ beta)
    covariance = np.linalg.inv((x * (fitted * (1 - fitted))[:, None]).T @ x)
    if clusters is None:
        return LogitFit(coefficients=beta, se=np.sqrt(np.diag(covariance)), df=np.inf)
    groups, (rows, terms) = int(clusters.max()) + 1, x.shape
    if groups < 2:
        return "one cluster only: nothing can be said about others"
    scores = x * (outcomes - fitted)[:, None]
    sums = np.stack([np.bincount(clusters, weights=column, minlength=groups) for column in scores.T], axis=1)
    robust = covariance @ (sums.T @ sums) @ covariance * (groups / (groups - 1) * (rows - 1) / (rows - terms))
    return LogitFit(coefficients=beta, se=np.sqrt(np.diag(robust)), df=groups - 1.0)
