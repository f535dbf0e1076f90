"""Repeats of the same case become one number per case before anything is compared; never more cases.

The four aggregations answer four questions: how good is an answer on average (mean), how good would a vote be
(majority), can users rely on it (all), can it be done at all (any). The policy names which one is asked.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, floats
from llmlab.stats.estimate import Estimate, mean_estimate

__all__ = ["Aggregation", "consistency", "reduce_repeats"]

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
    x, codes = floats(scores, "scores", at_least=0), _case_codes(case_codes, n_cases=n_cases)
    if x.size != codes.size:
        raise ValueError(f"{x.size} scores for {codes.size} case codes: one of each per row")
    if aggregation != "mean" and not np.isin(x, (0.0, 1.0)).all():
        raise ValueError(f"aggregation {aggregation!r} needs scores of 0 and 1: use the mean, or a pass mark first")
    counts = np.bincount(codes, minlength=n_cases or 0)
    sums = np.bincount(codes, weights=x, minlength=n_cases or 0)
    means: FloatArray = np.divide(sums, counts, out=np.full(counts.size, np.nan), where=counts > 0)
    if aggregation == "mean":
        return means
    bar = {"majority": means > 0.5, "all": sums == counts, "any": sums > 0}[aggregation]
    return np.where(counts > 0, bar.astype(np.float64), np.nan)


def consistency(
    scores: ArrayLike,
    case_codes: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """The chance that two answers to the same case score the same, mean over cases with its interval.

    Per case the share of equal pairs among its K repeats, sum_v m_v (m_v - 1) / (K (K - 1)) with m_v repeats at score
    v; cases with one repeat tell nothing and are only counted in `n_attempted`. `clusters` and
    `weights` have one element per case, in the order of the codes. Raises DataError where fewer than two cases have
    repeats.

    >>> consistency([1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2]).value
    0.6666666666666666
    """
    x, codes = floats(scores, "scores", at_least=0), _case_codes(case_codes, n_cases=None)
    if x.size != codes.size:
        raise ValueError(f"{x.size} scores for {codes.size} case codes: one of each per row")
    repeats = np.bincount(codes).astype(np.float64)
    values, value_codes = np.unique(x, return_inverse=True)
    pairs, same = np.unique(codes * values.size + value_codes, return_counts=True)
    equal = np.bincount(pairs // max(values.size, 1), weights=same * (same - 1.0), minlength=repeats.size)
    repeated = repeats >= 2
    if np.count_nonzero(repeated) < 2:
        raise DataError("fewer than two cases have repeats: run with repeats=2 or more to see how steady answers are")
    share = equal[repeated] / (repeats[repeated] * (repeats[repeated] - 1))
    labels, counts = (None if given is None else np.asarray(given)[repeated] for given in (clusters, weights))
    return mean_estimate(share, labels, weights=counts, level=level, n_attempted=int(np.count_nonzero(repeats)))


def _case_codes(case_codes: ArrayLike, *, n_cases: int | None) -> NDArray[np.intp]:
    codes = np.asarray(case_codes)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise ValueError("case codes must be a vector of integers 0 to n_cases - 1")
    if codes.size and (codes.min() < 0 or (n_cases is not None and codes.max() >= n_cases)):
        raise ValueError(f"case codes run from {codes.min()} to {codes.max()}, must lie within 0 to n_cases - 1")
    return codes.astype(np.intp, copy=False)
