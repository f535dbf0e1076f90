"""A number with its uncertainty, which every statistic returns or contains: means, rates, repeats as one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray, GroupIndex, floats
from llmlab.stats.standard_error import skew_notes, standard_error, two_sided

Aggregation = Literal["mean", "majority", "all", "any"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Estimate(Shown):
    """A point estimate with its interval.

    Attributes:
        value: the estimate, None when it is undefined (never NaN).
        low, high: the ends of the interval at `level`, None when there is no honest interval.
        n, n_attempted: independent cases that were scored, and that were tried.
        method, notes: the estimator in the field's words, and plain sentences on what weakens it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int = 0
    n_attempted: int = 0
    method: str = ""
    notes: tuple[str, ...] = ()

    def interval(self, unit: str = "") -> Interval:
        """Value and ends, as a table shows them."""
        return Interval(self.value, self.low, self.high, unit)

    def __str__(self) -> str:
        return str(self.interval())

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

    `values` holds one number per case (see `reduce_repeats`); `n_attempted` counts cases that were
    tried, unscored ones included. Raises DataError below two cases or clusters, ValueError for NaN.

    >>> print(mean_estimate([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
    0.7 [0.1, 1.2]
    """
    error = standard_error(values, clusters, weights=weights)
    w = None if error.effective is None else np.asarray(weights, dtype=np.float64)
    mean = float(np.average(np.asarray(values, dtype=np.float64), weights=w))
    half = two_sided(level, error.df) * error.se
    all_equal = ("all cases have the same value: the interval has no width, which is not certainty",)
    return Estimate(
        value=mean,
        low=mean - half,
        high=mean + half,
        level=level,
        n=error.n,
        n_attempted=error.n if n_attempted is None else n_attempted,
        method=("mean" if w is None else "weighted mean")
        + (", t interval" if clusters is None else f", t interval, CR2 over {error.n_clusters:,} clusters"),
        notes=error.notes + (all_equal if error.se == 0 else skew_notes(values, clusters)),
    )


def wilson_rate(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """The share successes / n with Wilson's score interval (Wilson 1927; statsmodels `proportion_confint`).

    >>> print(wilson_rate(81, 263))
    0.31 [0.26, 0.37]
    """
    if n < 1:
        raise DataError(f"n == {n}: a rate needs at least one scored case")
    if not 0 <= successes <= n:
        raise ValueError(f"successes == {successes}, must lie between 0 and n == {n}")
    low, high = score_interval(successes / n, n, two_sided(level))
    method = "share, Wilson interval"
    return Estimate(value=successes / n, low=low, high=high, level=level, n=n, n_attempted=n, method=method)


def score_interval(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval for a rate seen in n (effective) cases, at the normal or t quantile z."""
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return 0.0 if rate == 0 else centre - half, 1.0 if rate == 1 else centre + half


def reduce_repeats(
    scores: ArrayLike, case_codes: ArrayLike, *, aggregation: Aggregation = "mean", n_cases: int | None = None
) -> FloatArray:
    """One number per case, shape (n_cases,), from scores in any order, shape (rows,), and the case of each.

    `case_codes` are integers 0 to n_cases - 1. A case without a single row gives NaN: it is unscored, and whoever
    pairs the arms counts it. Majority is strict (a draw is not one); all but the mean need scores of 0 and 1.

    >>> reduce_repeats([1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1], aggregation="majority").tolist()
    [1.0, 0.0]
    """
    if aggregation not in ("mean", "majority", "all", "any"):
        raise ValueError(f"aggregation == {aggregation!r}, must be mean, majority, all or any")
    x, codes = rows_of_cases(scores, case_codes, n_cases)
    if aggregation != "mean" and not np.isin(x, (0.0, 1.0)).all():
        raise ValueError(f"aggregation {aggregation!r} needs scores of 0 and 1: use the mean, or a pass mark first")
    counts = np.bincount(codes, minlength=n_cases or 0)
    sums = np.bincount(codes, weights=x, minlength=n_cases or 0)
    means: FloatArray = np.divide(sums, counts, out=np.full(counts.size, np.nan), where=counts > 0)
    if aggregation == "mean":
        return means
    bar = {"majority": means > 0.5, "all": sums == counts, "any": sums > 0}[aggregation]
    return np.where(counts > 0, bar.astype(np.float64), np.nan)


def rows_of_cases(
    scores: ArrayLike, case_codes: ArrayLike, n_cases: int | None = None
) -> tuple[FloatArray, GroupIndex]:
    x, codes = floats(scores, "scores"), np.asarray(case_codes)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise ValueError("case codes must be a vector of integers 0 to n_cases - 1")
    if codes.size and (codes.min() < 0 or (n_cases is not None and codes.max() >= n_cases)):
        raise ValueError(f"case codes run from {codes.min()} to {codes.max()}, must lie within 0 to n_cases - 1")
    if x.size != codes.size:
        raise ValueError(f"{x.size} scores for {codes.size} case codes: one of each per row")
    return x, codes.astype(np.intp, copy=False)
