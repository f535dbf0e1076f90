"""The standard error of a weighted mean over cases that may come in clusters, by CR2 in closed form.

A weight says how many cases of production a case stands for; it is no claim that the case was measured better. So the
working model is one of equal variances (as clubSandwich has it for weighted least squares), and twenty cases of which
one carries nearly all weight tell about as much as one. `standard_error` calls this where weights differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, GroupIndex, cluster_sums, floats

__all__ = ["case_weights", "effective_size", "weighted_cr2"]


def case_weights(weights: ArrayLike | None, *, n: int) -> FloatArray | None:
    """The weights scaled to a mean of 1; None where there are none or all are equal, so that nothing changes.

    Raises DataError for a weight that is not above 0, or for another number of them than `n`.

    >>> case_weights([2, 2], n=2), case_weights([1, 3], n=2)
    (None, array([0.5, 1.5]))
    """
    if weights is None:
        return None
    given = floats(weights, "weights", length=n)
    if n and given.min() <= 0:
        raise DataError(f"weights[{int(given.argmin())}] == {given.min():g}, must be above 0; leave such a case out")
    return None if not n or given.min() == given.max() else given / given.mean()


def effective_size(weights: ArrayLike) -> float:
    """How many equally weighted cases (or clusters, by their sums) tell as much: (sum w)^2 / sum w^2 (Kish 1965).

    >>> round(effective_size([1, 1, 1, 5]), 2)
    2.29
    """
    w = np.asarray(weights, dtype=np.float64)
    return float(w.sum() ** 2 / (w @ w))


def weighted_cr2(residuals: FloatArray, weights: FloatArray, of_case: GroupIndex) -> tuple[float, float]:
    """Variance of sum(w residual) and degrees of freedom, from residuals of the weighted mean, shape (n,).

    CR2 of weighted least squares with an intercept alone and an identity working model: cluster c has the score
    w_c' A_c e_c with A_c = B_c^(-1/2) and B_c = I - (1 w_c' + w_c 1') / W + 1 1' Q / W^2, for W = sum w, Q = sum w^2
    (Pustejovsky and Tipton 2018, J. Bus. Econ. Stat. 36; Bell and McCaffrey 2002 for the df). B_c leaves everything
    but the span of 1 and w_c alone, so that a 2 x 2 root in that basis does, vectorised over clusters.
    """
    sizes = np.bincount(of_case).astype(np.float64)
    own, squares = cluster_sums(weights, of_case), cluster_sums(weights**2, of_case)
    total, q = own.sum(), squares.sum()
    root = np.sqrt(sizes)
    along = own / root  # w_c = along * 1 / root + across * (what is left, of length 1)
    across = np.sqrt(np.maximum(squares - along**2, 0.0))
    across[across <= 1e-9 * np.sqrt(squares)] = 0.0
    # B_c = [[b11, b12], [b12, 1]] in that basis, and its inverse root
    b11, b12 = 1 - 2 * own / total + sizes * q / total**2, -root * across / total
    det = np.sqrt(np.maximum(b11 - b12**2, 0.0))
    if det.min() <= 0:  # a cluster that holds all the weight determines the mean alone
        raise DataError("one cluster has all the weight: no standard error without a second independent one")
    norm = det * np.sqrt(b11 + 1 + 2 * det)
    first = ((1 + det) * along - b12 * across) / norm
    second = ((b11 + det) * across - b12 * along) / norm
    sums, weighted = (cluster_sums(part, of_case) for part in (residuals, weights * residuals))
    rest = np.divide(weighted - own / sizes * sums, across, out=np.zeros_like(own), where=across > 0)
    scores = first * sums / root + second * rest
    return float(scores @ scores), _satterthwaite(first * root, first * along + second * across, squares, total)


def _satterthwaite(s: FloatArray, t: FloatArray, squares: FloatArray, total: float) -> float:
    """tr(P)^2 / tr(P P): P_cc = sum of squared weights, P_cd = (s_c s_d Q / W - s_c t_d - t_c s_d) / W off it.

    s = 1' A w and t = w' A w per cluster.
    """
    q = squares.sum()
    x, y = (s * q / total - t) / total, -s / total
    every = (s @ s) * (x @ x) + 2 * (s @ t) * (x @ y) + (t @ t) * (y @ y)
    own = s * x + t * y
    return float(q**2 / (squares @ squares + every - own @ own))
