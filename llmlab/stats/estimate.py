"""A number with its uncertainty, and the estimates of one arm: means, rates, ratios of sums, quantiles.

`Estimate` is what every statistic in llmlab returns or contains. Ratios (cost per success, failed and repeated attempts
billed too) have intervals of the log ratio by the delta method over clusters. Quantiles (p95 latency) have a bootstrap
over clusters; an answer that was lost took longer than any that came: infinity stands for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray, GroupIndex, cluster_codes, floats, open_unit, over_resamples
from llmlab.stats.standard_error import (
    StandardError,
    case_weights,
    skew_notes,
    standard_error,
    two_sided,
    weighted_mean,
)

__all__ = [
    "Aggregation",
    "Estimate",
    "mean_estimate",
    "quantile",
    "quantile_difference",
    "ratio_change",
    "ratio_of_sums",
    "reduce_repeats",
    "rows_of_cases",
    "score_interval",
    "wilson_rate",
]


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
    mean = weighted_mean(np.asarray(values, dtype=np.float64), w)
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


def ratio_of_sums(
    numerator: ArrayLike, denominator: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """sum(numerator) / sum(denominator) over cases, shapes (n,), for example cost in dollars per success.

    Interval: exp of a t interval of the log ratio, linearised per case as x_i / mean(x) - y_i / mean(y), CR2 over
    clusters. No success at all: value None, and said. Raises DataError below two cases, ValueError for negatives.

    >>> print(ratio_of_sums([1.0, 2.0, 3.0, 1.0, 2.0, 4.0] * 5, [1, 0, 1, 1, 0, 1] * 5))
    3.2 [2.4, 4.4]
    """
    x, y = _pair(numerator, denominator)
    method = f"ratio {OF_SUMS}"
    blank = Estimate(value=None, level=open_unit(level, "level"), n=x.size, n_attempted=x.size, method=method)
    if not y.any():
        return replace(blank, notes=("the denominators add up to 0 (no success): the ratio is undefined",))
    if not x.any():
        note = "the numerators add up to 0: there is no interval around a ratio of 0"
        return replace(blank, value=0.0, notes=(note,))
    error = standard_error(_linearised(x, y), clusters)
    return _exp_interval(float(x.sum() / y.sum()), error, level=level, method=method)


def ratio_change(
    baseline: tuple[ArrayLike, ArrayLike],
    candidate: tuple[ArrayLike, ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """The candidate's ratio over the baseline's (1.12 = 12% more per success), paired by case.

    Each arm is its (numerator, denominator). Raises DataError where a sum is 0: the change is undefined then.

    >>> arm_a, arm_b = ([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 1]), ([1.1, 2.0, 3.5, 4.2], [1, 1, 0, 1])
    >>> print(ratio_change(arm_a, arm_b))
    1.08 [0.97, 1.21]
    """
    (x_a, y_a), (x_b, y_b) = _pair(*baseline), _pair(*candidate)
    if x_a.size != x_b.size:
        raise ValueError(f"baseline has {x_a.size} cases, candidate {x_b.size}: pair them by id first")
    if not (x_a.any() and y_a.any() and x_b.any() and y_b.any()):
        raise DataError("costs or successes of an arm add up to 0: the change of the ratio is undefined")
    error = standard_error(_linearised(x_b, y_b) - _linearised(x_a, y_a), clusters)
    change = float(x_b.sum() / y_b.sum()) / float(x_a.sum() / y_a.sum())
    return _exp_interval(change, error, level=level, method=f"ratio of two paired ratios {OF_SUMS}")


def _pair(numerator: ArrayLike, denominator: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x = floats(numerator, "numerator", at_least=2)
    y = floats(denominator, "denominator", length=x.size)
    if (x < 0).any() or (y < 0).any():
        raise ValueError("numerators and denominators must be 0 or more")
    return x, y


def _linearised(x: FloatArray, y: FloatArray) -> FloatArray:
    """Each case's pull on log(sum(x) / sum(y)); their mean is 0."""
    pull: FloatArray = x / x.mean() - y / y.mean()
    return pull


def _exp_interval(value: float, error: StandardError, *, level: float, method: str) -> Estimate:
    reach = math.exp(two_sided(level, error.df) * error.se)
    return Estimate(
        value=value,
        low=value / reach,
        high=value * reach,
        level=level,
        n=error.n,
        n_attempted=error.n,
        method=method,
        notes=error.notes,
    )


OF_SUMS = "of sums, log ratio by the delta method"
LEAST_BEYOND = 10  # rows beyond the quantile, per arm; with fewer the bootstrap of a quantile is fiction
LEAST_CLUSTERS = 10


def quantile(values: ArrayLike, *, q: float, weights: ArrayLike | None = None) -> float:
    """The smallest value with at least a share q at or below it, shape (n,).

    Raises DataError where fewer than 10 rows lie beyond it, or where it falls among the lost ones.

    >>> quantile(range(1, 201), q=0.95)
    190.0
    """
    x = np.asarray(values, dtype=np.float64)
    beyond = min(open_unit(q, "q"), 1 - q)
    if int(x.size * beyond + 1e-9) < LEAST_BEYOND:
        raise DataError(f"{int(np.ceil(LEAST_BEYOND / beyond - 1e-9)):,} answers are needed, there are {x.size:,}")
    value = float(_weighted_quantiles(x, _weights(weights, x.size)[None], q)[0])
    if math.isinf(value):
        raise DataError(f"more than {1 - q:.2g} of the answers are lost")
    return value


def quantile_difference(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    q: float,
    seed: int,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2_000,
) -> Estimate:
    """The candidate's q-quantile minus the baseline's, shapes (n,) in the same order, with a percentile interval.

    Rows are pairs; repeats of a case stay rows and share a cluster. Whole clusters are resampled, both arms together,
    and the interval is stretched as Student's t of G clusters is (t(G - 1) / z times sqrt(G / (G - 1))).
    Raises DataError where fewer than 10 rows lie beyond the quantile, in fewer than 10 clusters, or where so many
    answers are lost that the interval reaches them.

    >>> fast = np.linspace(0.5, 2.5, 400)
    >>> quantile_difference(fast, fast + 1.0, q=0.95, seed=0).value
    1.0
    """
    a, b = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"baseline has {a.size} rows, candidate {b.size}: pair them by id first")
    value = quantile(b, q=q, weights=weights) - quantile(a, q=q, weights=weights)
    codes = np.arange(a.size) if clusters is None else cluster_codes(clusters, n=a.size)
    n_clusters, of_row = int(codes.max()) + 1, _weights(weights, a.size)
    if n_clusters < LEAST_CLUSTERS:
        raise DataError(f"{n_clusters} clusters, at least {LEAST_CLUSTERS} are needed to resample them")
    tail = (1 - open_unit(level, "level")) / 2

    def of_both(counts: FloatArray) -> FloatArray:
        drawn = counts[:, codes] * of_row
        return np.stack([_weighted_quantiles(arm, drawn, q) for arm in (a, b)], axis=1)

    ends = over_resamples(of_both, resamples=n_resamples, n_clusters=n_clusters, width=a.size, seed=seed)
    lost = np.isinf(ends).any(axis=1)
    if lost.mean() > tail / 2:
        raise DataError(f"with the answers that are lost the {100 * q:g}% quantile may lie anywhere")
    low, high = np.quantile(np.diff(ends[~lost]), [tail, 1 - tail]).tolist()
    if clusters is not None:  # few of them vary less among themselves than the quantile of a resample knows
        stretch = two_sided(level, n_clusters - 1) / two_sided(level) * (n_clusters / (n_clusters - 1)) ** 0.5
        low, high = value - (value - low) * stretch, value + (high - value) * stretch
    units = "cases" if clusters is None else "clusters"
    return Estimate(
        value=value,
        low=low,
        high=high,
        level=level,
        n=n_clusters,
        n_attempted=n_clusters,
        method=f"difference of {100 * q:g}% quantiles, percentile bootstrap over {n_clusters:,} {units}",
    )


def _weights(weights: ArrayLike | None, n: int) -> FloatArray:
    scaled = case_weights(weights, n=n)
    return np.ones(n) if scaled is None else scaled


def _weighted_quantiles(values: FloatArray, weights: FloatArray, q: float) -> FloatArray:
    """The q-quantile of the values under each row of weights (inverse of the distribution function)."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    below = np.count_nonzero(reached < q * reached[:, -1:] - 1e-9, axis=1)
    quantiles: FloatArray = values[order][below]
    return quantiles


Aggregation = Literal["mean", "majority", "all", "any"]


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
