"""What unscored answers would have to be for a claim to fall: said with a claim that rests on what nothing bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.base.numbers import counted, with_unit
from llmlab.results.scores import ScoreTable, two_digits
from llmlab.stats.arrays import floats
from llmlab.stats.standard_error import standard_error, t_quantile


class Tipping(NamedTuple):
    """What the unscored answers of an arm would have to be, on average, for a claim to fall: above or below a value."""

    arm: str
    answers: int
    above: bool
    value: float

    def unless(self, unit: str) -> str:
        """What lost answers would have to be for a claim to fall, as a clause."""
        verb = {"s": "took", "USD": "cost"}.get(unit, "was" if self.answers == 1 else "were")
        more, lost = "over" if self.above else "under", counted(self.answers, "lost answer")
        value = with_unit(two_digits(self.value), f" {unit}" if unit else "")
        return f"it holds unless the {lost} of {self.arm} {verb} {more} {value} on average"


def tipping_of(
    table: ScoreTable,
    base: int,
    arm: int,
    chosen: NDArray[np.bool_],
    *,
    sign: float,
    above: float,
    alpha: float,
    times: float = 1.0,
) -> Tipping | None:
    """What lost answers would have to be, on average, for "sign * (arm - times * base) is above `above`" to fall.

    Those of `arm` where it has any that no bound of the metric's holds up, the base's then at their worst; else those
    of the base. None where nothing was lost, or what was is known to lie beyond the point.
    """
    if (ends := table.pessimistic([base, arm], chosen)) is None:
        return None
    factors = (-sign * times, sign)
    arms = [ends[1 if factors[column] < 0 else 0][:, column] for column in (0, 1)]
    for column in (1, 0):
        name, factor = (base, arm)[column], factors[column]
        tried, scored = table.attempted[chosen, name].clip(min=1), table.scored[chosen, name]
        held = table.metric.low if factor > 0 else table.metric.high  # the end that hurts the claim in this arm
        if held is None and (lost := int((tried - scored).sum())):
            arms[column] = np.where(scored > 0, table.values[chosen, name], 0.0) * scored / tried
            known, slopes = factors[0] * arms[0] + factors[1] * arms[1] - above, factor * (1 - scored / tried)
            value = _tipping_point(known, slopes, **table.design(chosen), alpha=alpha)
            kindest = ((ends[1 if factor > 0 else 0][:, column] - arms[column]) * tried).sum() / lost
            if value is None or factor * (kindest - value) < 0:
                return None
            return Tipping(table.variants[name], lost, factor < 0, value)
    return None


def _tipping_point(
    known: ArrayLike,
    slopes: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    alpha: float,
) -> float | None:
    """The x at which the mean of known + slopes * x, shape (n,), is no longer above 0 at a one-sided `alpha`.

    `slopes` have one sign: what is missing hurts the more, the larger (below 0) or the smaller (above 0) it is. None
    where the claim falls at any x, or at none. The mean is linear in x and its CR2 variance, whose degrees of freedom
    depend on the clusters alone, a square; so x is a root of mean^2 - t^2 se^2.

    >>> round(_tipping_point([1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 0.0], [0, 0, 0, 0, 0, 0, -1.0], alpha=0.025), 3)
    1.01
    """
    d, slope = floats(known, "known", at_least=2), floats(slopes, "slopes", at_least=2)
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    errors = [standard_error(values, clusters, weights=weights) for values in (d, slope, d + slope)]
    at_0, square, both = (error.se**2 for error in errors)
    mean, rise = (float(np.average(values, weights=w)) for values in (d, slope))
    t2 = t_quantile(1 - alpha, errors[0].df) ** 2
    parts = [rise**2 - t2 * square, 2 * mean * rise - t2 * (both - at_0 - square), mean**2 - t2 * at_0]
    # A double root, at alpha .5, is right to half the digits.
    real = [float(x.real) for x in np.roots(parts) if abs(float(x.imag)) < 1e-6 * (1 + abs(float(x.real)))]
    there = [x for x in real if mean + rise * x > -1e-6 * abs(mean)]
    return (max if rise < 0 else min)(there, default=None)
