"""The standard error of a mean over cases that may come in clusters: the one place where it is computed.

Cases of one document, conversation or task resemble each other, so that 200 of them tell less than 200 unrelated
ones. CR2 with Bell-McCaffrey degrees of freedom stays honest for few and unequal clusters; independent cases are
the special case in which each is a cluster of its own. `estimate`, `paired`, `ratios` and `repeats` build on this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, cluster_codes, cluster_sums, floats
from llmlab.stats.weighted import case_weights, effective_size, weighted_cr2

__all__ = [
    "FEW_DF",
    "TOO_FEW_DF",
    "Estimator",
    "StandardError",
    "bell_mccaffrey_df",
    "skew_notes",
    "standard_error",
    "t_quantile",
    "t_tail",
    "weighted_mean",
]

FEW_DF = 10.0  # below: the interval is honest on average but leans on near-normal cluster means, so it is said
TOO_FEW_DF = 4.0  # below: a verdict should not rest on it
# Skewness of the mean from which it is said. Of 100 lognormal values of sigma 1.5 (t covers 84%) it says so in 83% of
# draws, of sigma 1 (92%) in 46%, of 100 exponential ones (95%) in 3%, of normal ones in none.
SKEWED_FROM = 0.3
DUST = 1e-10  # a standard error below this share of the largest value is rounding

Estimator = Literal["CR0", "CR1", "CR2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardError:
    """The standard error of a mean.

    Attributes:
        se: standard error, in the unit of the values; exactly 0.0 where only rounding dust is left.
        df: degrees of freedom for Student's t.
        n, n_clusters: cases, and clusters they come in (equal to `n` for independent cases).
        effective: where cases are weighted, how many equal clusters tell as much (Kish); None = all count the same.
        estimator: CR0 (no correction), CR1 (times G / (G - 1)) or CR2 (Bell and McCaffrey).
        notes: plain sentences on what weakens it.
    """

    se: float
    df: float
    n: int
    n_clusters: int
    estimator: Estimator
    effective: float | None = None
    notes: tuple[str, ...] = ()


def standard_error(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    estimator: Estimator = "CR2",
) -> StandardError:
    """The cluster-robust standard error of `mean(values)`, shape (n,), with its degrees of freedom.

    With S_c the sum of residuals in cluster c of n_c cases, CR2 is sqrt(sum_c S_c^2 / (1 - n_c/n)) / n (Bell and
    McCaffrey 2002; Pustejovsky and Tipton 2018 for the intercept-only model) with their degrees of freedom; CR0 and
    CR1 leave the correction out or use G / (G - 1), and take G - 1. Without `clusters` CR2 is sd / sqrt(n), n - 1.
    With `weights` that differ it is the standard error of sum(w x) / sum(w), see `weighted`.

    Raises DataError below two cases or clusters, for NaN or infinity, and for weights that are not above 0.

    >>> round(standard_error([0.2, 0.4, 0.1, 0.9]).se, 4)
    0.178
    >>> round(standard_error([0.2, 0.4, 0.1, 0.9], ["a", "a", "b", "b"]).se, 4)
    0.1
    """
    if estimator not in ("CR0", "CR1", "CR2"):
        raise ValueError(f"estimator == {estimator!r}, must be CR0, CR1 or CR2")
    x = floats(values, "values", at_least=2)
    n, w = x.size, case_weights(weights, n=x.size)
    scale = max(float(x.max()), -float(x.min())) or 1.0  # squares of what is left neither overflow nor vanish
    of_case = None if clusters is None else cluster_codes(clusters, n=n)
    residuals = x - weighted_mean(x, w)
    scores = residuals if w is None else w * residuals
    scores = (scores if of_case is None else cluster_sums(scores, of_case)) / scale
    n_clusters = scores.size
    if n_clusters < 2:
        raise DataError(f"all {n} cases are in one cluster: no standard error without a second independent one")
    if estimator != "CR2":
        factor = n_clusters / (n_clusters - 1) if estimator == "CR1" else 1.0
        variance, df = float(scores @ scores) * factor, n_clusters - 1.0
    elif w is not None:
        variance, df = weighted_cr2(residuals / scale, w, np.arange(n) if of_case is None else of_case)
    else:
        sizes = np.ones(n) if of_case is None else np.bincount(of_case).astype(np.float64)
        variance, df = float(np.sum(scores**2 / (1 - sizes / n))), bell_mccaffrey_df(sizes)
    se = variance**0.5 / n
    return StandardError(
        se=0.0 if se <= DUST else se * scale,
        df=df,
        n=n,
        n_clusters=n_clusters,
        estimator=estimator,
        effective=None if w is None else effective_size(w if of_case is None else cluster_sums(w, of_case)),
        notes=_few_df_notes(df, n_clusters, "cases" if n_clusters == n else "clusters"),
    )


def weighted_mean(values: FloatArray, weights: FloatArray | None) -> float:
    """The mean; with weights sum(w x) / sum(w)."""
    return float(values.mean() if weights is None else np.average(values, weights=weights))


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
    d = x - x.mean()
    d = d if clusters is None else cluster_sums(d, cluster_codes(clusters, n=x.size))
    variance = float((d**2).mean())
    scale = max(float(np.abs(x).max(initial=0.0)), 1e-300)
    if d.size < 3 or variance <= (DUST * scale) ** 2:
        return ()
    skewness = abs(float(((d / variance**0.5) ** 3).mean())) / d.size**0.5
    if skewness <= SKEWED_FROM:
        return ()
    few = "cases" if clusters is None else "clusters"
    return (f"very skewed: a few {few} carry the estimate, and the interval may be too short on their side",)


def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t with `df` degrees of freedom, which need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def t_tail(statistic: float, df: float) -> float:
    """P(T > statistic) for Student's t with `df` degrees of freedom."""
    from scipy.special import stdtr

    return float(stdtr(df, -statistic))


def _few_df_notes(df: float, units: int, of: str) -> tuple[str, ...]:
    """That there are few; of independent cases only where they are too few, for nobody takes five for many."""
    if df >= (FEW_DF if of == "clusters" else TOO_FEW_DF):
        return ()
    bound = TOO_FEW_DF if df < TOO_FEW_DF else FEW_DF
    advice = "too few for a verdict" if df < TOO_FEW_DF else "read the interval with care"
    return (f"fewer than {bound:g} effective degrees of freedom ({df:.1f} from {units:,} {of}): {advice}",)
