"""How many cases settle a question, and what a given number of cases could have missed.

Normal approximations throughout (Miller 2024, arXiv 2411.00640), but for `t_test_sample_size`, which is exact. A
smallest detectable difference always says its power. Needs of several conditions at once are in `joint`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from llmlab.base.display import Shown, number
from llmlab.stats.arrays import open_unit

__all__ = [
    "DetectableDifference",
    "SampleSize",
    "mcnemar_sample_size",
    "miller_sample_size",
    "non_inferiority_sample_size",
    "settleable_margin",
    "smallest_detectable_difference",
    "t_test_sample_size",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SampleSize(Shown):
    """How many cases are needed: `cases` is the formula's `cases_exact`, rounded up."""

    cases: int
    cases_exact: float
    difference: float
    power: float
    alpha: float
    method: str

    def _sentence(self) -> str:
        return (
            f"About {self.cases:,} cases show a difference of {number(self.difference)} "
            f"with {self.power:.0%} power ({self.method}, alpha {number(self.alpha)})."
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DetectableDifference(Shown):
    """The smallest true difference that this many cases show with the stated power."""

    value: float
    cases: int
    power: float
    alpha: float

    def _sentence(self) -> str:
        shown = f"{self.cases:,} cases show a difference of {number(self.value)} with {self.power:.0%} power"
        return f"{shown}; smaller ones may be missed."


def miller_sample_size(
    difference: float,
    *,
    between: float,
    within_baseline: float = 0.0,
    within_candidate: float = 0.0,
    repeats_baseline: int = 1,
    repeats_candidate: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> SampleSize:
    """Cases that show a paired `difference`: (z_{alpha/2} + z_power)^2 (w2 + sA2/KA + sB2/KB) / difference^2.

    Args:
        difference: the true mean difference to be found, in the score's units.
        between: w2, variance over cases of the expected difference.
        within_baseline, within_candidate: s2, variance of repeats to the same case.

    Source: Miller 2024, arXiv 2411.00640.

    >>> round(miller_sample_size(0.03, between=1 / 9).cases_exact, 4)
    968.9975
    """
    variance = _variance(between, within_baseline, within_candidate, repeats_baseline, repeats_candidate)
    exact = _two_sided_z(alpha, power) ** 2 * variance / _not_zero(difference, "difference") ** 2
    return _sample_size(exact, difference, power, alpha, "Miller's formula")


def smallest_detectable_difference(
    cases: int,
    *,
    between: float,
    alpha: float = 0.05,
    power: float = 0.8,
) -> DetectableDifference:
    """The inverse of `miller_sample_size`: what `cases` cases can show, always with its power.

    `between` is the variance over cases of the difference, the noise of however many repeats included.

    >>> print(smallest_detectable_difference(969, between=1 / 9)._sentence())
    969 cases show a difference of 0.03 with 80% power; smaller ones may be missed.
    """
    if cases < 1:
        raise ValueError(f"cases == {cases}, must be >= 1")
    value = _two_sided_z(alpha, power) * math.sqrt(_not_negative(between, "between") / cases)
    return DetectableDifference(value=value, cases=cases, power=power, alpha=alpha)


def mcnemar_sample_size(p10: float, p01: float, *, alpha: float = 0.05, power: float = 0.8) -> SampleSize:
    """Pairs of pass/fail answers that McNemar's test needs; p10 and p01 are the two shares of discordant pairs.

    Source: Connor 1987, Biometrics 43, 207-211.

    >>> round(mcnemar_sample_size(0.08, 0.04).cases_exact, 4)
    586.3026
    """
    if min(p10, p01) < 0 or p10 + p01 > 1:
        raise ValueError(f"p10 == {p10}, p01 == {p01}, must be shares that sum to at most 1")
    discordant, difference = p10 + p01, _not_zero(p10 - p01, "p10 - p01")
    z_alpha, z_power = _z(1 - open_unit(alpha, "alpha") / 2), _z(open_unit(power, "power"))
    root = z_alpha * math.sqrt(discordant) + z_power * math.sqrt(discordant - difference**2)
    return _sample_size((root / difference) ** 2, difference, power, alpha, "Connor's formula for McNemar's test")


def t_test_sample_size(effect_size: float, *, alpha: float = 0.05, power: float = 0.8) -> SampleSize:
    """Pairs that a two-sided paired t-test needs; `effect_size` is mean(d) / sd(d). Exact (noncentral t).

    Source: Cohen 1988; the same equation as statsmodels' `TTestPower`.

    >>> round(t_test_sample_size(0.2).cases_exact, 4)
    198.1508
    """
    from scipy import optimize

    size = abs(_not_zero(effect_size, "effect_size"))
    open_unit(alpha, "alpha")
    open_unit(power, "power")

    def excess(cases: float) -> float:
        critical, shift = special.stdtrit(cases - 1, 1 - alpha / 2), size * math.sqrt(cases)
        tails = special.nctdtr(cases - 1, shift, np.array([-critical, critical]))
        below, not_above = np.nan_to_num(tails, nan=0.0)  # scipy gives NaN for tails too small to compute
        return float(1 - not_above + below - power)

    highest = 10 * (_two_sided_z(alpha, power) / size) ** 2 + 100
    exact = 2.0 if excess(2.0) >= 0 else float(optimize.brentq(excess, 2.0, highest, xtol=1e-9))
    return _sample_size(exact, effect_size, power, alpha, "exact power of the paired t-test")


def non_inferiority_sample_size(
    margin: float, *, sd: float, conditions: int = 1, alpha: float = 0.05, power: float = 0.8
) -> SampleSize:
    """Cases per condition that rule out a loss beyond `margin` when there is none.

    (z_alpha + z_power)^2 sd^2 / margin^2 with a one-sided `alpha`. With several
    `conditions`, which all must hold, each needs power^(1/conditions), so that all hold together with `power` when
    they are independent.

    >>> non_inferiority_sample_size(0.02, sd=0.45).cases, non_inferiority_sample_size(0.02, sd=0.45, conditions=8).cases
    (3130, 6430)
    """
    exact = (_one_sided_z(alpha, power, conditions) * _not_negative(sd, "sd") / _not_zero(margin, "margin")) ** 2
    return _sample_size(exact, margin, power, alpha, f"one-sided non-inferiority, {conditions} condition(s) jointly")


def settleable_margin(
    cases: int, *, sd: float, conditions: int = 1, alpha: float = 0.05, power: float = 0.8
) -> DetectableDifference:
    """The inverse of `non_inferiority_sample_size`: the smallest margin that `cases` cases per condition can settle.

    >>> round(settleable_margin(3130, sd=0.45).value, 4)
    0.02
    """
    if cases < 1:
        raise ValueError(f"cases == {cases}, must be >= 1")
    value = _one_sided_z(alpha, power, conditions) * _not_negative(sd, "sd") / math.sqrt(cases)
    return DetectableDifference(value=value, cases=cases, power=power, alpha=alpha)


def _variance(between: float, within_a: float, within_b: float, repeats_a: int, repeats_b: int) -> float:
    if min(repeats_a, repeats_b) < 1:
        raise ValueError(f"repeats == {min(repeats_a, repeats_b)}, must be >= 1")
    parts = (_not_negative(between, "between"), _not_negative(within_a, "within_baseline") / repeats_a)
    return sum(parts) + _not_negative(within_b, "within_candidate") / repeats_b


def _sample_size(exact: float, difference: float, power: float, alpha: float, method: str) -> SampleSize:
    cases = max(1, math.ceil(exact - 1e-9))
    return SampleSize(cases=cases, cases_exact=exact, difference=difference, power=power, alpha=alpha, method=method)


def _two_sided_z(alpha: float, power: float) -> float:
    return _z(1 - open_unit(alpha, "alpha") / 2) + _z(open_unit(power, "power"))


def _one_sided_z(alpha: float, power: float, conditions: int) -> float:
    if conditions < 1:
        raise ValueError(f"conditions == {conditions}, must be >= 1")
    return _z(1 - open_unit(alpha, "alpha")) + _z(open_unit(power, "power") ** (1 / conditions))


def _z(probability: float) -> float:
    return float(special.ndtri(probability))


def _not_zero(value: float, name: str) -> float:
    if value == 0 or not math.isfinite(value):
        raise ValueError(f"{name} == {value}, must be a finite number other than 0")
    return value


def _not_negative(value: float, name: str) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} == {value}, must be finite and >= 0")
    return value
