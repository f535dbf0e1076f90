"""A share of cases with an interval that stays between 0 and 1, also where cases come in clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmlab.base.errors import DataError
from llmlab.stats.arrays import open_unit
from llmlab.stats.estimate import Estimate, score_interval, wilson_rate
from llmlab.stats.standard_error import standard_error, t_quantile, weighted_mean
from llmlab.stats.weighted import case_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["share_estimate"]


def share_estimate(
    scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    n_attempted: int | None = None,
) -> Estimate:
    """The mean of scores between 0 and 1, shape (n,), with Wilson's interval, which stays within 0 and 1.

    Pass/fail scores without `clusters` give Wilson's interval itself. Otherwise n is replaced by the effective size
    p (1 - p) / se^2, se being CR2, and the normal quantile by Student's t with Bell-McCaffrey df (as Korn and Graubard
    1998 do for the exact interval; Dean and Pagano 2015 find Wilson's to cover well). For pass/fail scores it never
    exceeds n; where all cases agree there is no se, and the number of clusters is taken. One cluster gives no
    interval. Raises DataError without a case or for other values.

    >>> print(share_estimate([1, 0, 1, 1]), share_estimate([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"]))
    0.75 [0.30, 0.95] 0.50 [0.04, 0.96]
    """
    values = np.asarray(scores, dtype=np.float64)
    if not values.size or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"a share needs at least one case, each between 0 and 1 ({values.size} given)")
    n, w = int(values.size), case_weights(weights, n=values.size)
    mean = weighted_mean(values, w)
    attempted = n if n_attempted is None else n_attempted
    passed = bool(np.isin(values, (0.0, 1.0)).all())
    labels = np.arange(n) if clusters is None else np.asarray(clusters)
    n_clusters = int(np.unique(labels).size)
    if (clusters is None or n_clusters == n > 1) and w is None and passed:
        return replace(wilson_rate(int(values.sum()), n, level=level), n_attempted=attempted)
    plain = Estimate(value=mean, level=level, n=n, n_attempted=attempted, method="share")
    if n_clusters < 2:
        return replace(plain, notes=("all cases are in one cluster: no interval without a second independent one",))
    error = standard_error(values, labels, weights=w)
    variance = error.se**2
    size = (error.effective or float(n_clusters)) if variance == 0 else mean * (1 - mean) / variance
    size = min(size, n) if passed else size
    low, high = score_interval(mean, size, t_quantile(0.5 + open_unit(level, "level") / 2, error.df))
    over = "" if clusters is None else f" of {n_clusters:,} clusters"
    method = f"{'share' if w is None else 'weighted share'}, Wilson interval with the effective size{over}"
    return replace(plain, low=max(0.0, low), high=min(1.0, high), method=method, notes=error.notes)
