"""The standard error of a mean over cases that may come in clusters and carry weights: the one place for it.

Cases of one document, conversation or task resemble each other, so that 200 of them tell less than 200 unrelated ones.
CR2 with Bell-McCaffrey degrees of freedom stays honest for few and unequal clusters; independent cases are the special
case in which each is a cluster of its own. A weight says how many cases of production a case stands for; it is no claim
that the case was measured better. So the working model is one of equal variances (as clubSandwich has it for weighted
least squares), and twenty cases of which one carries nearly all weight tell about as much as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, GroupIndex, cluster_codes, cluster_sums, codes_and_sizes, floats, open_unit

FEW_DF = 10.0  # below: the interval is honest on average but leans on near-normal cluster means, so it is said
TOO_FEW_DF = 4.0  # below: a verdict should not rest on it
# Skewness of the mean from which it is said. Of 100 lognormal values of sigma 1.5 (t covers 84%) it says so in 83% of
# draws, of sigma 1 (92%) in 46%, of 100 exponential ones (95%) in 3%, of normal ones in none.
_SKEWED_FROM = 0.3
FLAT = 1e-10  # a standard error below this share of the largest value is rounding


def case_weights(weights: ArrayLike | None, *, n: int) -> FloatArray | None:
    """The weights scaled to a mean of 1; None where there are none or all are equal, so that nothing changes.

    Raises DataError for a weight that is not above 0, or for another number of them than `n`.

    >>> case_weights([2, 2], n=2), case_weights([1, 3], n=2)
    (None, array([0.5, 1.5]))
    """
    if weights is None:
        return None
    w = floats(weights, "weights", length=n)
    if n and w.min() <= 0:
        raise DataError(f"weights[{int(w.argmin())}] == {w.min():g}, must be above 0; leave such a case out")
    return None if not n or w.min() == w.max() else w / w.mean()


def effective_size(weights: ArrayLike) -> float:
    """How many equally weighted cases (or clusters, by their sums) tell as much: (sum w)^2 / sum w^2 (Kish 1965).

    >>> round(effective_size([1, 1, 1, 5]), 2)
    2.29
    """
    w = np.asarray(weights, dtype=np.float64)
    return float(w.sum() ** 2 / (w @ w))


def _weighted_cr2(residuals: FloatArray, weights: FloatArray, of_case: GroupIndex) -> tuple[float, float]:
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
    denominator = float(squares @ squares + every - own @ own)  # nearly all weight in one cluster cancels it out
    return min(max(1.0, float(q**2) / denominator), s.size - 1.0) if denominator > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardError:
    """The standard error of a mean.

    Attributes:
        se: standard error, in the unit of the values; exactly 0.0 where only rounding dust is left.
        df: degrees of freedom for Student's t.
        n, n_clusters: cases, and clusters they come in (equal to `n` for independent cases).
        effective: where cases are weighted, how many equal clusters tell as much (Kish); None = all count the same.
        notes: plain sentences on what weakens it.
    """

    se: float
    df: float
    n: int
    n_clusters: int
    effective: float | None = None
    notes: tuple[str, ...] = ()


def standard_error(
    values: ArrayLike, clusters: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> StandardError:
    """The cluster-robust standard error of `mean(values)`, shape (n,), with its degrees of freedom.

    With S_c the sum of residuals in cluster c of n_c cases, CR2 is sqrt(sum_c S_c^2 / (1 - n_c/n)) / n (Bell and
    McCaffrey 2002; Pustejovsky and Tipton 2018 for the intercept-only model) with their degrees of freedom. Without
    `clusters` it is sd / sqrt(n), n - 1; with `weights` that differ that of sum(w x) / sum(w), see `_weighted_cr2`.

    Raises DataError below two cases or clusters, for NaN or infinity, and for weights that are not above 0.

    >>> round(standard_error([0.2, 0.4, 0.1, 0.9]).se, 4)
    0.178
    >>> round(standard_error([0.2, 0.4, 0.1, 0.9], ["a", "a", "b", "b"]).se, 4)
    0.1
    """
    x = floats(values, "values", at_least=2)
    n, w = x.size, case_weights(weights, n=x.size)
    scale = max(float(x.max()), -float(x.min())) or 1.0  # squares of what is left neither overflow nor vanish
    of_case, sizes = (None, np.ones(n)) if clusters is None else codes_and_sizes(clusters, n=n)
    n_clusters = sizes.size
    if n_clusters < 2:
        raise DataError(f"all {n} cases are in one cluster: no standard error without a second independent one")
    residuals = x - np.average(x, weights=w)
    if w is not None:
        variance, df = _weighted_cr2(residuals / scale, w, np.arange(n) if of_case is None else of_case)
    else:
        scores = (residuals if of_case is None else cluster_sums(residuals, of_case)) / scale
        variance, df = float(np.sum(scores**2 / (1 - sizes / n))), bell_mccaffrey_df(sizes)
    se = variance**0.5 / n
    return StandardError(
        se=0.0 if se <= FLAT else se * scale,
        df=df,
        n=n,
        n_clusters=n_clusters,
        effective=None if w is None else effective_size(w if of_case is None else cluster_sums(w, of_case)),
        notes=_few_df_notes(df, n_clusters, "cases" if n_clusters == n else "clusters"),
    )


def bell_mccaffrey_df(sizes: ArrayLike) -> float:
    """The effective degrees of freedom tr(M)^2 / tr(M M) of CR2 for clusters of these sizes, in O(G).

    M_cd = k_c k_d (n_c [c = d] - n_c n_d / n) with k_c^2 = n / (n - n_c), so that M_cc = n_c and tr(M) = n; off the
    diagonal M_cd^2 = u_c u_d with u_c = n_c^2 / (n - n_c). Equal clusters give G - 1.

    >>> bell_mccaffrey_df([5, 5, 5, 5])
    3.0
    >>> round(bell_mccaffrey_df([200] + [20] * 9), 2)
    3.0
    """
    n_c = np.asarray(sizes, dtype=np.float64)
    if n_c.min() == n_c.max():
        return float(n_c.size - 1)
    n = n_c.sum()
    u = n_c**2 / (n - n_c)
    return float(n**2 / (n_c @ n_c + u.sum() ** 2 - u @ u))


def skew_notes(values: ArrayLike, clusters: ArrayLike | None = None) -> tuple[str, ...]:
    """A note where a few cases (clusters) carry the mean and Student's interval is too short on their side; else ().

    The mean of n values of skewness g has the skewness g / sqrt(n) (Cochran 1977, Sampling Techniques, section 2.15,
    asks that n be above 25 g^2, 0.2 here). For pass/fail values 0.3 is about ten of the rarer kind.

    >>> skew_notes([1.0] * 2 + [0.0] * 98) != (), skew_notes([1.0, 0.0] * 50)
    (True, ())
    """
    x = np.asarray(values, dtype=np.float64)
    x = x / max(float(np.abs(x).max(initial=0.0)), 1e-300)  # powers of what is left do not overflow
    d = x - x.mean()
    d = d if clusters is None else cluster_sums(d, cluster_codes(clusters, n=x.size))
    variance = float((d**2).mean())
    if d.size < 3 or variance <= FLAT**2:
        return ()
    skewness = abs(float(((d / variance**0.5) ** 3).mean())) / d.size**0.5
    if skewness <= _SKEWED_FROM:
        return ()
    few = "cases" if clusters is None else "clusters"
    return (f"very skewed: a few {few} carry the estimate, and the interval may be too short on their side",)


def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t with `df` degrees of freedom, which need not be whole; infinite: the normal one."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def t_tail(statistic: float, df: float) -> float:
    """P(T > statistic) for Student's t with `df` degrees of freedom; infinite: the normal one."""
    return float(special.ndtr(-statistic) if math.isinf(df) else special.stdtr(df, -statistic))


def two_sided(level: float, df: float = math.inf) -> float:
    """How many standard errors a two-sided interval at this level reaches to either side.

    >>> round(two_sided(0.95), 4), round(two_sided(0.95, 9), 4)
    (1.96, 2.2622)
    """
    return t_quantile(0.5 + open_unit(level, "level") / 2, df)


def _few_df_notes(df: float, units: int, of: str) -> tuple[str, ...]:
    """That there are few; of independent cases only where they are too few, for nobody takes five for many."""
    if df >= (FEW_DF if of == "clusters" else TOO_FEW_DF):
        return ()
    bound = TOO_FEW_DF if df < TOO_FEW_DF else FEW_DF
    advice = "too few for a verdict" if df < TOO_FEW_DF else "read the interval with care"
    return (f"fewer than {bound:g} effective degrees of freedom ({df:.1f} from {units:,} {of}): {advice}",)
