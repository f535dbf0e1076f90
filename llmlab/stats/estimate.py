"""A number with its uncertainty: the value that every statistic in llmlab returns or contains.

Also the estimates of one sample: a mean over cases (clustered or not) and a rate (Wilson).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlab.base.display import Interval, Shown, as_sentences
from llmlab.base.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Estimate", "mean_estimate", "score_interval", "wilson_bounds", "wilson_rate"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Estimate(Shown):
    """A point estimate with its interval.

    Attributes:
        value: the estimate, None when it is undefined (never NaN).
        low, high: the interval's ends, None when there is no honest interval.
        level: confidence level of the interval, for example 0.95.
        n: independent cases that were scored.
        n_attempted: cases that were tried, scored or not.
        method: the estimator in the field's words.
        notes: plain sentences on what weakens it, usually none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int = 0
    n_attempted: int = 0
    method: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(Interval(self.value, self.low, self.high))

    def _sentence(self) -> str:
        return as_sentences(self.notes)


def mean_estimate(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    n_attempted: int | None = None,
) -> Estimate:
    """The mean over cases, shape (n,), with a t interval from the CR2 standard error.

    `values` holds one number per case (reduce repeats first, see `repeats`); `n_attempted` counts cases that were
    tried, unscored ones included. Raises DataError below two cases or clusters, ValueError for NaN.

    >>> print(mean_estimate([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
    0.7 [0.1, 1.2]
    """
    import numpy as np

    from llmlab.stats.arrays import open_unit
    from llmlab.stats.standard_error import skew_notes, standard_error, t_quantile, weighted_mean

    error = standard_error(values, clusters, weights=weights)
    w = None if error.effective is None else np.asarray(weights, dtype=np.float64)
    mean = weighted_mean(np.asarray(values, dtype=np.float64), w)
    half = t_quantile(0.5 + open_unit(level, "level") / 2, error.df) * error.se
    all_equal = ("all cases have the same value: the interval has no width, which is not certainty",)
    return Estimate(
        value=mean,
        low=mean - half,
        high=mean + half,
        level=level,
        n=error.n,
        n_attempted=error.n if n_attempted is None else n_attempted,
        method=_mean_method(error.n_clusters, clustered=clusters is not None, weighted=w is not None),
        notes=error.notes + (all_equal if error.se == 0 else skew_notes(values, clusters)),
    )


def wilson_rate(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """The share successes / n with Wilson's score interval (Wilson 1927; statsmodels `proportion_confint`).

    >>> print(wilson_rate(81, 263))
    0.31 [0.26, 0.37]
    """
    low, high = wilson_bounds(successes, n, level=level)
    return Estimate(
        value=successes / n,
        low=low,
        high=high,
        level=level,
        n=n,
        n_attempted=n,
        method="share, Wilson interval",
    )


def wilson_bounds(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """The two ends of Wilson's score interval for the share successes / n.

    >>> [round(end, 4) for end in wilson_bounds(0, 20)]
    [0.0, 0.1611]
    """
    from scipy.special import ndtri

    from llmlab.stats.arrays import open_unit

    _check_counts(successes, n)
    return score_interval(successes / n, n, float(ndtri(0.5 + open_unit(level, "level") / 2)))


def score_interval(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval for a rate seen in n (effective) cases, at the normal or t quantile z."""
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return 0.0 if rate == 0 else centre - half, 1.0 if rate == 1 else centre + half


def _check_counts(successes: int, n: int) -> None:
    if n < 1:
        raise DataError(f"n == {n}: a rate needs at least one scored case")
    if not 0 <= successes <= n:
        raise ValueError(f"successes == {successes}, must lie between 0 and n == {n}")


def _mean_method(n_clusters: int, *, clustered: bool, weighted: bool) -> str:
    mean = "weighted mean" if weighted else "mean"
    return f"{mean}, t interval, CR2 over {n_clusters:,} clusters" if clustered else f"{mean}, t interval"
