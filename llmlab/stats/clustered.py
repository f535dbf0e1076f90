"""Least squares with standard errors that hold for few and unequal clusters (CR2, Bell-McCaffrey degrees of freedom).

Used by the grid model and by corrected judge scores. With an intercept alone it is the clustered mean; with every
row its own cluster it is HC2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, GroupIndex

__all__ = ["ClusteredFit", "Contrast", "clustered_fit", "contrast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteredFit:
    """Coefficients and what their uncertainty is made of, in the basis where the design is orthonormal."""

    coefficients: FloatArray
    root: FloatArray  # (K, K): coefficients = root @ orthonormal coefficients
    scores: FloatArray  # (G, K): adjusted score of each cluster
    leverage: FloatArray  # (G, K, K)
    adjustment: FloatArray  # (G, K, K): (I - leverage)^(-1/2)
    determined_by_one: bool  # a coefficient hangs on a single cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A linear combination of coefficients; `se` 0 means no variation was seen; `p` None where undefined."""

    value: float
    se: float
    df: float
    low: float
    high: float
    p_value: float | None


def clustered_fit(
    design: npt.ArrayLike, *, response: FloatArray, clusters: GroupIndex, weights: FloatArray | None = None
) -> ClusteredFit:
    """(Weighted) least squares of `response` (N) on `design` (N, K) with rows in `clusters` numbered 0..G-1.

    CR2 with an identity working model: Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36.
    A design that was demeaned within cases is right where clusters hold whole cases. The K x K form of the
    adjustment, (I - Z_g Z_g')^(-1/2) Z_g = Z_g (I - Z_g' Z_g)^(-1/2), keeps it vectorised over clusters.

    Raises:
        DataError: columns of the design are linearly dependent.

    >>> fit = clustered_fit([[1.0]] * 4, response=np.array([0.0, 1.0, 1.0, 2.0]), clusters=np.arange(4))
    >>> round(contrast(fit, [1.0]).se, 6), round(contrast(fit, [1.0]).df, 6)
    (0.408248, 3.0)
    """
    matrix = np.asarray(design, dtype=float)
    if weights is not None:
        scale = np.sqrt(weights)
        matrix, response = matrix * scale[:, None], response * scale
    lengths = np.sqrt((matrix**2).sum(axis=0))
    lengths[lengths == 0] = 1.0
    left, singular, right = np.linalg.svd(matrix / lengths, full_matrices=False)
    if len(singular) < matrix.shape[1] or singular[-1] < 1e-10 * max(singular[0], 1e-300):
        raise DataError("columns of the design depend on each other: some effect cannot be told from the others")
    root = (right.T / singular) / lengths[:, None]
    orthonormal = left.T @ response
    groups, terms = int(clusters.max()) + 1, matrix.shape[1]
    residual = response - left @ orthonormal
    residual[np.abs(residual) < 1e-12 * np.abs(response).max()] = 0.0  # rounding is not variation
    scores = _cluster_sums(left * residual[:, None], clusters, groups)
    products = (left[:, :, None] * left[:, None, :]).reshape(len(left), terms * terms)
    leverage = _cluster_sums(products, clusters, groups).reshape(groups, terms, terms)
    values, vectors = np.linalg.eigh(np.eye(terms) - leverage)
    alone = values < 1e-9
    inverse = np.where(alone, 0.0, 1.0 / np.sqrt(np.where(alone, 1.0, values)))
    adjustment = (vectors * inverse[:, None, :]) @ vectors.transpose(0, 2, 1)
    return ClusteredFit(
        coefficients=root @ orthonormal,
        root=root,
        scores=np.einsum("gij,gj->gi", adjustment, scores),
        leverage=leverage,
        adjustment=adjustment,
        determined_by_one=bool(alone.any()),
    )


def contrast(fit: ClusteredFit, weights: npt.ArrayLike, *, level: float = 0.95) -> Contrast:
    """Value, CR2 standard error, Satterthwaite degrees of freedom and t interval of sum(weights * coefficients)."""
    combination = np.asarray(weights, dtype=float)
    value = float(combination @ fit.coefficients)
    direction = fit.root.T @ combination
    se = math.sqrt(float(((fit.scores @ direction) ** 2).sum()))
    df = _freedom(fit, direction)
    half = float(special.stdtrit(df, 0.5 + level / 2)) * se
    p = float(2 * special.stdtr(df, -abs(value) / se)) if se > 0 else (1.0 if value == 0 else None)
    return Contrast(value=value, se=se, df=df, low=value - half, high=value + half, p_value=p)


def _freedom(fit: ClusteredFit, direction: FloatArray) -> float:
    """tr(M)^2 / tr(M M) with M = diag(|p_g|^2) - W W' for p_g = Z_g adj_g b and w_g = leverage_g adj_g b."""
    adjusted = fit.adjustment @ direction
    pulled = np.einsum("gij,gj->gi", fit.leverage, adjusted)
    own = np.einsum("gi,gi->g", adjusted, pulled)
    shared = (pulled**2).sum(axis=1)
    trace = float((own - shared).sum())
    square = float((own**2 - 2 * own * shared).sum() + ((pulled.T @ pulled) ** 2).sum())
    return max(1.0, trace**2 / square) if square > 0 and trace > 0 else 1.0


def _cluster_sums(rows: FloatArray, clusters: GroupIndex, groups: int) -> FloatArray:
    return np.stack([np.bincount(clusters, weights=column, minlength=groups) for column in rows.T], axis=1)
