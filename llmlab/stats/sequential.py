"""Tests that may be looked at every day: anytime-valid e-values, confidence sequences and split checks.

An e-value is evidence against the null hypothesis that a gambler could have won by betting on it: over all looks
together it exceeds 1/alpha with probability at most alpha (Ville's inequality), so looking costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from llmlab.base.errors import DataError
from llmlab.base.numbers import ROUNDING, Interval, number
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray, Values, floats, open_unit

_SRM_ALPHA = 0.001  # a split that fails at this level blocks every verdict on it
_Z_OF_80_PERCENT = 0.84
FEWEST_UNITS = 50  # per arm, below which the asymptotic sequence says nothing


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConfidenceSequence(Shown):
    """A value with an interval that holds at every look at once.

    `log_e_value`, of the e-value against no difference, is kept because e-values outgrow floats; `p_value` = min(1,
    1 / e) is valid at any stopping time. Ends are None where nothing can be said yet, with the reason in `note`.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float
    log_e_value: float | None = None
    p_value: float | None = None
    n: int
    n_attempted: int
    method: str
    note: str = ""

    def _sentence(self) -> str:
        if self.low is None or self.high is None or self.log_e_value is None:
            return self.note
        differs = self.log_e_value >= -math.log1p(-self.level)
        verdict = "differs from 0, whenever you look" if differs else "is not shown to differ from 0"
        return f"{Interval(self.value, self.low, self.high)} {verdict}. {self.note}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SplitCheck(Shown):
    """Whether units were split as configured; `blocks` is true when they were not (sample ratio mismatch)."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float | None
    blocks: bool
    method: str
    note: str = ""

    def _sentence(self) -> str:
        if self.note:
            return self.note
        seen, wanted = "/".join(f"{n:,}" for n in self.counts), "/".join(f"{n:,.0f}" for n in self.expected)
        how, then = ("is not", ": compare nothing on it") if self.blocks else ("agrees with", "")
        return f"The split {seen} {how} the configured {wanted} (p {number(self.p_value)}){then}."


def difference_sequence(
    baseline: Values, candidate: Values, *, planned_units: int, level: float = 0.95
) -> ConfidenceSequence:
    """candidate - baseline over randomised units, with an interval that may be looked at every day.

    Asymptotic confidence sequence: with t units in all and rho fixed before the first look so that the interval is
    tightest at `planned_units`, value +- se * sqrt(2 (t rho2 + 1) / (t rho2) * log(sqrt(t rho2 + 1) / alpha)).
    One value per unit (a ratio metric goes through `linearised_ratio` first); None or NaN is unscored and counted.
    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Annals of Statistics 52.

    >>> day = difference_sequence([0, 1] * 400, [1, 1, 1, 0] * 200, planned_units=2000)
    >>> round(day.value, 2), round(day.low, 3), round(day.high, 3)
    (0.25, 0.179, 0.321)
    """
    if planned_units < 2:
        raise ValueError(f"planned_units == {planned_units}, must be >= 2")
    open_unit(level, "level")
    arms = _scored(baseline, candidate)
    sizes = [len(arm) for arm in arms]
    n, tried, method = sum(sizes), len(baseline) + len(candidate), "asymptotic confidence sequence of the difference"
    value = float(arms[1].mean() - arms[0].mean()) if min(sizes) else None
    blank = ConfidenceSequence(value=value, level=level, n=n, n_attempted=tried, method=method)
    if value is None or min(sizes) < FEWEST_UNITS:
        note = f"{sizes[0]:,} and {sizes[1]:,} units: the sequence starts at {FEWEST_UNITS} per arm"
        return replace(blank, note=note)
    variance = sum(float(arm.var(ddof=1)) / len(arm) for arm in arms)
    if math.sqrt(variance) <= ROUNDING * max(float(np.abs(arm).max()) for arm in arms):
        return replace(blank, note="every unit of an arm has the same value: no variance to judge by")
    half = math.sqrt(variance * _radius2(n, level, planned_units))
    information = n * _tightest_rho2(1 - level, planned_units)  # of a normal mixture, on the z scale
    evidence = 0.5 * (value**2 / variance * (information / (1 + information)) - math.log1p(information))
    p_value = math.exp(min(0.0, -evidence))
    return replace(blank, low=value - half, high=value + half, log_e_value=evidence, p_value=p_value)


def ratio_sequence(
    baseline: Values, candidate: Values, *, planned_units: int, level: float = 0.95
) -> tuple[float, float, float] | None:
    """candidate / baseline - 1 with the interval of all changes that `difference_sequence` does not reject.

    (c - r b)^2 <= k (v_c + r^2 v_b) solved for r = 1 + change. None where it is too early, where nothing varies, or
    where the baseline itself is not shown to be above 0, so that no share of it is known.
    Source: Fieller 1954, with the sequence's k (its squared half width over the variance) for a squared t.

    >>> [round(x, 3) for x in ratio_sequence([1, 3] * 200, [1, 2, 3, 4] * 100, planned_units=800)]
    [0.25, 0.129, 0.385]
    """
    arms = _scored(baseline, candidate)
    sizes = [len(arm) for arm in arms]
    if min(sizes) < FEWEST_UNITS:
        return None
    (b, c), (v_b, v_c) = [float(arm.mean()) for arm in arms], [float(arm.var(ddof=1)) / len(arm) for arm in arms]
    k = _radius2(sum(sizes), level, planned_units)
    square, constant = b * b - k * v_b, c * c - k * v_c
    if b <= 0 or square <= 0 or v_b + v_c == 0:
        return None
    spread = math.sqrt(max((b * c) ** 2 - square * constant, 0.0))
    return c / b - 1, (b * c - spread) / square - 1, (b * c + spread) / square - 1


def units_to_settle(sequence: ConfidenceSequence, *, margin: float, planned_units: int) -> float:
    """Units in all after which a sequence of no difference would rule `margin` out, with 80% power; inf beyond 1e9.

    >>> day = difference_sequence([0, 1] * 400, [1, 1, 1, 0] * 200, planned_units=2000)
    >>> round(units_to_settle(day, margin=0.05, planned_units=2000), -2)
    5500.0
    """
    if sequence.low is None or sequence.high is None or margin <= 0:
        return math.inf
    half2 = ((sequence.high - sequence.low) / 2) ** 2
    spread2 = half2 / _radius2(sequence.n, sequence.level, planned_units) * sequence.n  # variance times units
    units = float(sequence.n)
    while units < 1e9:
        reach = math.sqrt(_radius2(units, sequence.level, planned_units)) + _Z_OF_80_PERCENT
        if math.sqrt(spread2 / units) * reach <= margin:
            return units
        units *= 1.02
    return math.inf


def linearised_ratio(numerator: Values, denominator: Values) -> FloatArray:
    """One value per unit whose mean is sum(numerator) / sum(denominator) and whose variance is the delta method's.

    r + (numerator - r denominator) / mean(denominator), for metrics such as cost per answer of users.
    Source: Deng, Knoblich & Lu 2018 (KDD); Budylin et al. 2018 (WSDM).

    >>> linearised_ratio([1, 3], [1, 1]).mean()
    np.float64(2.0)
    """
    top = floats(numerator, "numerator")
    bottom = floats(denominator, "denominator", length=len(top))
    if not len(top) or bottom.sum() == 0:
        raise DataError("the denominators sum to 0: the ratio is undefined")
    ratio = top.sum() / bottom.sum()
    return np.asarray(ratio + (top - ratio * bottom) / bottom.mean())


def split_check(counts: Values, *, shares: Values) -> SplitCheck:
    """Chi-square test of counts per arm against configured shares, for ONE look; blocks at p < 0.001.

    >>> split_check([50_000, 51_000], shares=[0.5, 0.5]).blocks
    False
    >>> split_check([50_000, 52_000], shares=[0.5, 0.5]).blocks
    True
    """
    seen, wanted = _split(np.asarray(counts), shares)
    expected = wanted * seen.sum()
    if expected.min() < 5:
        note = f"{number(float(expected.min()))} units expected in the smallest arm, the test needs 5: no check yet"
        return _split_result(seen, expected, None, "chi-square", note)
    p = float(special.chdtrc(len(seen) - 1, ((seen - expected) ** 2 / expected).sum()))
    return _split_result(seen, expected, p, "chi-square", "")


def sequential_split_check(counts: ArrayLike, *, shares: Values, concentration: float = 10_000.0) -> SplitCheck:
    """Split check for many looks: cumulated counts (looks, arms), or one look (arms,); anytime-valid, blocks at 0.001.

    Bayes factor of a Dirichlet(concentration * shares) mixture against the configured multinomial; p is
    1 / its largest value over the looks. Large `concentration` looks for small mismatches.
    Source: Lindon & Malek 2022, "Anytime-valid inference for multinomial count data" (NeurIPS).

    >>> sequential_split_check([[500, 480], [5000, 5600]], shares=[0.5, 0.5]).blocks
    True
    """
    if concentration <= 0:
        raise ValueError(f"concentration == {concentration}, must be > 0")
    looks = np.atleast_2d(np.asarray(counts, dtype=float))
    if len(looks) == 0 or (np.diff(looks, axis=0) < 0).any():
        raise DataError("counts must be cumulated over at least one look: a later look cannot count fewer units")
    seen, wanted = _split(looks[-1], shares)
    prior, totals = concentration * wanted, looks.sum(axis=1)
    log_e = special.gammaln(concentration) - special.gammaln(concentration + totals)
    log_e = log_e + (special.gammaln(prior + looks) - special.gammaln(prior) - special.xlogy(looks, wanted)).sum(axis=1)
    p = math.exp(min(0.0, -float(log_e.max())))
    note = "" if seen.sum() else "no units yet"
    return _split_result(seen, wanted * seen.sum(), p, "sequential multinomial test", note)


def _scored(baseline: Values, candidate: Values) -> list[FloatArray]:
    arms = (floats(arm, name, gaps=True) for arm, name in ((baseline, "baseline"), (candidate, "candidate")))
    return [arm[~np.isnan(arm)] for arm in arms]


def _radius2(units: float, level: float, planned_units: int) -> float:
    """The squared half width of the sequence over the variance of the difference."""
    t_rho2 = units * _tightest_rho2(1 - level, planned_units)
    return 2 * (t_rho2 + 1) / t_rho2 * (0.5 * math.log(t_rho2 + 1) - math.log1p(-level))


def _tightest_rho2(alpha: float, planned: int) -> float:
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned if alpha < 0.6 else 1 / planned


def _split(counts: NDArray[np.generic], shares: Values) -> tuple[FloatArray, FloatArray]:
    seen, wanted = floats(counts, "counts"), floats(shares, "shares", length=len(counts))
    if len(seen) < 2 or (seen < 0).any() or (seen % 1 != 0).any():
        raise DataError(f"counts == {seen.tolist()}, must be whole numbers >= 0 for at least 2 arms")
    if (wanted <= 0).any() or not math.isclose(float(wanted.sum()), 1.0, abs_tol=1e-9):
        raise ValueError(f"shares == {wanted.tolist()}, must be above 0 and sum to 1")
    return seen, wanted


def _split_result(seen: FloatArray, expected: FloatArray, p: float | None, method: str, note: str) -> SplitCheck:
    return SplitCheck(
        counts=tuple(map(int, seen)),
        expected=tuple(map(float, expected)),
        p_value=p,
        blocks=p is not None and p < _SRM_ALPHA,
        method=method,
        note=note,
    )
