"""A share of cases with an interval that stays between 0 and 1, also where cases come in clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmlab.errors import DataError
from llmlab.stats.arrays import open_unit
from llmlab.stats.estimate import Estimate, wilson_rate
from llmlab.stats.standard_error import standard_error, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["share_estimate"]


def share_estimate(hits: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """The share of ones among `hits`, shape (n,), of 0 and 1, with Wilson's score interval.

    With `clusters` n is replaced by the effective sample size p (1 - p) / se^2, se being CR2, and the normal quantile
    by Student's t with Bell-McCaffrey df (as Korn and Graubard 1998 do for the exact interval; Dean and Pagano 2015
    find Wilson's to cover well). The effective size never exceeds n; where all cases agree there is no se, and the
    number of clusters is taken. One cluster gives no interval. Raises DataError without a case or for other values.

    >>> print(share_estimate([1, 0, 1, 1]), share_estimate([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"]))
    0.75 [0.30, 0.95] 0.50 [0.04, 0.96]
    """
    values = np.asarray(hits, dtype=np.float64)
    if not values.size or not np.isin(values, (0.0, 1.0)).all():
        raise DataError(f"a share needs at least one case, each 0 or 1 ({values.size} given)")
    n, n_hits = int(values.size), int(values.sum())
    if clusters is None:
        return wilson_rate(n_hits, n, level=level)
    labels = np.asarray(clusters)
    n_clusters, share = int(np.unique(labels).size), n_hits / n
    plain = Estimate(value=share, level=level, n=n, n_attempted=n, method="share")
    if n_clusters < 2:
        return replace(plain, notes=("all cases are in one cluster: no interval without a second independent one",))
    error = standard_error(values, labels)
    size = float(n_clusters) if error.se == 0 else min(float(n), share * (1 - share) / error.se**2)
    z2 = t_quantile(0.5 + open_unit(level, "level") / 2, error.df) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = (z2 * (share * (1 - share) / size + z2 / (4 * size**2))) ** 0.5 / (1 + z2 / size)
    return replace(
        plain,
        low=0.0 if n_hits == 0 else max(0.0, centre - half),
        high=1.0 if n_hits == n else min(1.0, centre + half),
        method=f"share, Wilson interval with the effective size of {n_clusters:,} clusters",
        notes=error.notes,
    )
