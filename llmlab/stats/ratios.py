"""Cost per success and other ratios of sums: sum(cost) / sum(success), failed and repeated attempts billed too.

Intervals are those of the log ratio by the delta method over clusters.
"""

from __future__ import annotations

import math
from dataclasses import replace

from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, floats, open_unit
from llmlab.stats.estimate import Estimate
from llmlab.stats.standard_error import StandardError, standard_error, t_quantile

__all__ = ["ratio_change", "ratio_of_sums"]


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
    blank = Estimate(value=None, level=open_unit(level, "level"), n=x.size, n_attempted=x.size, method=_method("ratio"))
    if not y.any():
        return _noted(blank, None, "the denominators add up to 0 (no success): the ratio is undefined")
    if not x.any():
        return _noted(blank, 0.0, "the numerators add up to 0: there is no interval around a ratio of 0")
    error = standard_error(_linearised(x, y), clusters)
    return _exp_interval(float(x.sum() / y.sum()), error, level=level, method=_method("ratio"))


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
    (x_a, y_a), (x_b, y_b) = _arms(baseline, candidate)
    error = standard_error(_linearised(x_b, y_b) - _linearised(x_a, y_a), clusters)
    change = float(x_b.sum() / y_b.sum()) / float(x_a.sum() / y_a.sum())
    return _exp_interval(change, error, level=level, method=_method("ratio of two paired ratios"))


def _pair(numerator: ArrayLike, denominator: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x = floats(numerator, "numerator", at_least=2)
    y = floats(denominator, "denominator", at_least=2)
    if x.shape != y.shape:
        raise ValueError(f"{x.size} numerators for {y.size} denominators: one of each per case")
    if (x < 0).any() or (y < 0).any():
        raise ValueError("numerators and denominators must be 0 or more")
    return x, y


def _arms(
    baseline: tuple[ArrayLike, ArrayLike], candidate: tuple[ArrayLike, ArrayLike]
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    arm_a, arm_b = _pair(*baseline), _pair(*candidate)
    if arm_a[0].shape != arm_b[0].shape:
        raise ValueError(f"baseline has {arm_a[0].size} cases, candidate {arm_b[0].size}: pair them by id first")
    if not all(part.any() for part in (*arm_a, *arm_b)):
        raise DataError("costs or successes of an arm add up to 0: the change of the ratio is undefined")
    return arm_a, arm_b


def _linearised(x: FloatArray, y: FloatArray) -> FloatArray:
    """Each case's pull on log(sum(x) / sum(y)); their mean is 0."""
    pull: FloatArray = x / x.mean() - y / y.mean()
    return pull


def _exp_interval(value: float, error: StandardError, *, level: float, method: str) -> Estimate:
    reach = math.exp(t_quantile(0.5 + open_unit(level, "level") / 2, error.df) * error.se)
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


def _method(what: str) -> str:
    return f"{what} of sums, log ratio by the delta method"


def _noted(blank: Estimate, value: float | None, note: str) -> Estimate:
    return replace(blank, value=value, notes=(note,))
