"""CUPED: less variance for the same question, from a covariate that was fixed before the change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from llmlab.base.display import Shown, number
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, Values, floats, open_unit
from llmlab.stats.estimate import Estimate

__all__ = ["Cuped", "cuped", "cuped_difference"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cuped(Shown):
    """What a covariate explains.

    Attributes:
        theta: slope of the outcome on the covariate, 0 where the covariate does not vary.
        variance_ratio: variance after / before, 1 - r^2; None where the outcome does not vary.
        estimate: the adjusted mean, or difference of means, with its t interval.
        covariate_p: for two arms, p that the covariate's means are equal; a small one says that the covariate is not
            independent of the arm, and the adjusted difference must not be read.
    """

    theta: float
    variance_ratio: float | None
    estimate: Estimate
    covariate_p: float | None = None
    note: str = ""

    def _sentence(self) -> str:
        if self.note or self.variance_ratio is None:
            return self.note
        gain = number(1 / max(self.variance_ratio, 1e-12))
        return f"The covariate leaves {self.variance_ratio:.0%} of the variance: as good as {gain} times the units."


def cuped(outcome: Values, *, covariate: Values, level: float = 0.95) -> Cuped:
    """How much a covariate fixed before the change explains; the mean itself does not move.

    theta = cov(outcome, covariate) / var(covariate).
    Source: Deng, Xu, Kohavi & Walker 2013 (WSDM).

    >>> fit = cuped([1.0, 2.0, 4.0], covariate=[1.0, 2.0, 3.0])
    >>> fit.theta, round(fit.variance_ratio, 4)
    (1.5, 0.0357)
    """
    y, x, attempted = _pairs(outcome, covariate, "")
    theta = _slope([(y, x)])
    adjusted = y - theta * (x - x.mean())
    estimate = _t_estimate(float(adjusted.mean()), _mean_variances([adjusted], 1), level, attempted, "CUPED mean")
    note = "the covariate does not vary: it explains nothing" if np.ptp(x) == 0 else ""
    note = "the outcome does not vary: there is nothing to explain" if np.ptp(y) == 0 else note
    return Cuped(theta=theta, variance_ratio=_ratio(adjusted, y), estimate=estimate, note=note)


def cuped_difference(
    baseline: Values, candidate: Values, *, baseline_covariate: Values, candidate_covariate: Values, level: float = 0.95
) -> Cuped:
    """candidate - baseline over randomised units, one theta for both arms, Welch's t interval.

    >>> fit = cuped_difference([1, 2, 3.5], [2, 3, 4], baseline_covariate=[1, 2, 3], candidate_covariate=[1, 2, 3])
    >>> round(fit.estimate.value, 3)
    0.833
    """
    first, x_first, tried_first = _pairs(baseline, baseline_covariate, "baseline ")
    second, x_second, tried_second = _pairs(candidate, candidate_covariate, "candidate ")
    theta, centre = _slope([(first, x_first), (second, x_second)]), np.concatenate([x_first, x_second]).mean()
    arms = [first - theta * (x_first - centre), second - theta * (x_second - centre)]
    value = float(arms[1].mean() - arms[0].mean())
    estimate = _t_estimate(
        value, _mean_variances(arms, 1), level, tried_first + tried_second, "CUPED difference, Welch's t"
    )
    before = np.concatenate([first - first.mean(), second - second.mean()])
    after = np.concatenate([arm - arm.mean() for arm in arms])
    covariate_p = _welch_p(x_first, x_second)
    note = (
        "the covariate does not vary: it explains nothing" if np.ptp(np.concatenate([x_first, x_second])) == 0 else ""
    )
    if covariate_p is not None and covariate_p < 0.001:
        note = f"the covariate differs between the arms (p {number(covariate_p)}): it was not fixed before the change"
    return Cuped(
        theta=theta, variance_ratio=_ratio(after, before), estimate=estimate, covariate_p=covariate_p, note=note
    )


def _pairs(outcome: Values, covariate: Values, arm: str) -> tuple[FloatArray, FloatArray, int]:
    y = floats(outcome, f"{arm}outcome", gaps=True)
    x = floats(covariate, f"{arm}covariate", length=len(y), gaps=True)
    kept = ~np.isnan(y) & ~np.isnan(x)
    if kept.sum() < 2:
        raise DataError(f"{int(kept.sum())} {arm}units have outcome and covariate, at least 2 are needed")
    return y[kept], x[kept], len(y)


def _slope(arms: list[tuple[FloatArray, FloatArray]]) -> float:
    cross = sum(float(((x - x.mean()) * (y - y.mean())).sum()) for y, x in arms)
    square = sum(float(((x - x.mean()) ** 2).sum()) for _, x in arms)
    return cross / square if square > 0 else 0.0


def _ratio(after: FloatArray, before: FloatArray) -> float | None:
    return float(after.var() / before.var()) if before.var() > 0 else None


def _mean_variances(arms: list[FloatArray], ddof: int) -> list[tuple[float, int]]:
    return [(float(arm.var(ddof=ddof)) / len(arm), len(arm)) for arm in arms]


def _t_estimate(value: float, parts: list[tuple[float, int]], level: float, attempted: int, method: str) -> Estimate:
    open_unit(level, "level")
    half = math.sqrt(sum(part for part, _ in parts)) * float(special.stdtrit(_welch_df(parts), 0.5 + level / 2))
    n = sum(size for _, size in parts)
    return Estimate(
        value=value, low=value - half, high=value + half, level=level, n=n, n_attempted=attempted, method=method
    )


def _welch_df(parts: list[tuple[float, int]]) -> float:
    total = sum(part for part, _ in parts)
    spread = sum(part**2 / (size - 1) for part, size in parts)
    return total**2 / spread if spread > 0 else float(sum(size for _, size in parts) - len(parts))


def _welch_p(first: FloatArray, second: FloatArray) -> float | None:
    parts = _mean_variances([first, second], 1)
    se, gap = math.sqrt(sum(part for part, _ in parts)), abs(float(second.mean() - first.mean()))
    if se == 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * special.stdtr(_welch_df(parts), -gap / se))
