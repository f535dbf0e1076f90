"""A share of cases with an interval that stays between its bounds, also with clusters and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmlab.base.errors import DataError
from llmlab.stats.arrays import cluster_codes, open_unit
from llmlab.stats.bounded import effective_cases
from llmlab.stats.estimate import Estimate, score_interval, wilson_rate
from llmlab.stats.standard_error import StandardError, standard_error, t_quantile, t_tail, weighted_mean
from llmlab.stats.weighted import case_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["share_estimate", "share_p_above"]


def share_estimate(
    scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    n_attempted: int | None = None,
) -> Estimate:
    """The mean of scores between two bounds, shape (n,), with Wilson's interval, which stays within them.

    Pass/fail scores without `clusters` give Wilson's interval itself. Otherwise n is replaced by the effective size
    (`bounded.effective_cases`; of graded scores times p (1 - p) / variance), and the normal quantile by Student's t
    with Bell-McCaffrey df (as Korn and Graubard 1998 do for the exact interval; Dean and Pagano 2015 find Wilson's to
    cover well). For pass/fail scores it never exceeds n; where all cases agree the number of clusters is taken. One
    cluster gives no interval. Raises DataError without a case or for values beyond the bounds.

    >>> print(share_estimate([1, 0, 1, 1]), share_estimate([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"]))
    0.75 [0.30, 0.95] 0.50 [0.04, 0.96]
    """
    read = _read(scores, clusters, weights, bounds)
    n, attempted = read.n, read.n if n_attempted is None else n_attempted
    if read.independent_hits:
        found = wilson_rate(round(read.share * n), n, level=level)
    elif read.error is None:
        method, note = "share", "all cases are in one cluster: no interval without a second independent one"
        found = Estimate(value=read.share, level=level, n=n, method=method, notes=(note,))
    else:
        low, high = score_interval(read.share, read.size, read.quantile(0.5 + open_unit(level, "level") / 2))
        over = "" if clusters is None else f" of {read.error.n_clusters:,} clusters"
        name = "share" if read.error.effective is None else "weighted share"
        found = Estimate(
            value=read.share,
            low=max(0.0, low),
            high=min(1.0, high),
            level=level,
            n=n,
            method=f"{name}, Wilson interval with the effective size{over}",
            notes=read.error.notes,
        )
    if bounds != (0.0, 1.0):
        value, low_end, high_end = (_unscaled(end, bounds) for end in (found.value, found.low, found.high))
        method = found.method.replace("share", "mean", 1)
        found = replace(found, value=value, low=low_end, high=high_end, method=method)
    return replace(found, n_attempted=attempted)


def share_p_above(
    scores: ArrayLike,
    bound: float,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> float:
    """One-sided p value against "the mean is `bound` or less", of the score test that `share_estimate` inverts.

    >>> round(share_p_above([1] * 95 + [0] * 5, 0.9), 3)
    0.048
    """
    read, share = _read(scores, clusters, weights, bounds), (bound - bounds[0]) / (bounds[1] - bounds[0])
    if not 0 < share < 1 or (read.error is None and not read.independent_hits):
        return 0.0 if share < 0 else 1.0
    return read.tail((read.share - share) / (share * (1 - share) / read.size) ** 0.5)


class _Read(NamedTuple):
    """A share, how many independent cases it rests on, and the standard error where they are not simply counted."""

    n: int
    share: float
    size: float
    independent_hits: bool
    error: StandardError | None

    def quantile(self, probability: float) -> float:
        from scipy.special import ndtri

        return float(ndtri(probability)) if self.error is None else t_quantile(probability, self.error.df)

    def tail(self, statistic: float) -> float:
        from scipy.special import ndtr

        return float(ndtr(-statistic)) if self.error is None else t_tail(statistic, self.error.df)


def _read(
    scores: ArrayLike, clusters: ArrayLike | None, weights: ArrayLike | None, bounds: tuple[float, float]
) -> _Read:
    values, (low, high) = np.asarray(scores, dtype=np.float64), bounds
    if not values.size or not ((values >= low) & (values <= high)).all():
        raise DataError(f"a share needs at least one case, each between {low:g} and {high:g} ({values.size} given)")
    values = values if bounds == (0.0, 1.0) else (values - low) / (high - low)
    n, w = int(values.size), case_weights(weights, n=values.size)
    mean, passed = weighted_mean(values, w), bool(np.isin(values, (0.0, 1.0)).all())
    if clusters is None and w is None and passed:
        return _Read(n, mean, n, True, None)
    of_case = cluster_codes(np.arange(n) if clusters is None else clusters, n=n)
    if of_case.max() == 0:
        return _Read(n, mean, 1.0, False, None)
    error = standard_error(values, of_case, weights=w)
    groups, sides = None if clusters is None else of_case, (values, 1 - values)
    size = effective_cases(values, w, of_case=groups, variance=error.se**2, sides=sides)
    spread = weighted_mean((values - mean) ** 2, w) * n / (n - 1)
    return _Read(n, mean, size if passed or spread == 0 else size * mean * (1 - mean) / spread, False, error)


def _unscaled(share: float | None, bounds: tuple[float, float]) -> float | None:
    return None if share is None else bounds[0] + share * (bounds[1] - bounds[0])
