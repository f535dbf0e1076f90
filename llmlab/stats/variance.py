"""Where the noise comes from: cases or repeats, and which of the two buys more certainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmlab.base.display import Shown, number
from llmlab.base.errors import DataError
from llmlab.stats.power import DetectableDifference, smallest_detectable_difference

__all__ = ["RepeatsOrCases", "VarianceParts", "repeats_or_cases", "variance_parts"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VarianceParts(Shown):
    """Variances of a paired comparison, in squared score units; None where the data cannot tell.

    Attributes:
        between: w2, variance over cases of the expected difference. Without repeats it contains the repeats' noise.
        within_baseline, within_candidate: s2, variance of repeats to the same case.
        repeats_baseline, repeats_candidate: mean number of scored repeats (harmonic over cases).
        cases: cases with at least one score in each arm.
        cases_attempted: cases that came in.
    """

    between: float | None
    within_baseline: float | None
    within_candidate: float | None
    repeats_baseline: float
    repeats_candidate: float
    cases: int
    cases_attempted: int
    note: str = ""

    def _sentence(self) -> str:
        return self.note


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RepeatsOrCases(Shown):
    """What twice the answers would buy: spent on more cases, or on more repeats of the same cases.

    The three differences are detectable with the same power; `floor` is what endless repeats would leave.
    `best_repeats` is the cheapest number of repeats per case for the price of a case that was asked about.
    """

    buys_more: str
    now: DetectableDifference
    twice_the_cases: DetectableDifference
    twice_the_repeats: DetectableDifference
    floor: DetectableDifference
    best_repeats: int | None
    power: float
    note: str = ""

    def _rows(self) -> list[dict[str, object]]:
        plans = (
            ("now", self.now),
            ("twice the cases", self.twice_the_cases),
            ("twice the repeats", self.twice_the_repeats),
            ("endless repeats", self.floor),
        )
        return [
            {"plan": name, "cases": plan.cases, "smallest difference": number(plan.value, 2)} for name, plan in plans
        ]

    def _sentence(self) -> str:
        if self.note:
            return self.note
        cases, repeats = (1 - plan.value / self.now.value for plan in (self.twice_the_cases, self.twice_the_repeats))
        text = (
            f"{self.now.cases:,} cases show a difference of {number(self.now.value, 2)} with {self.power:.0%} power. "
            f"Twice the cases brings that down by {cases:.0%}, twice the repeats by {repeats:.0%}: "
        )
        verdict = {
            "cases": "new cases buy more.",
            "repeats": "repeats buy almost as much, and need no new labels.",
        }[self.buys_more]
        return f"{text}{verdict} No number of repeats gets below {number(self.floor.value, 2)}."


def variance_parts(baseline: npt.ArrayLike, candidate: npt.ArrayLike) -> VarianceParts:
    """Variances between and within cases from scores shaped (cases, repeats); NaN = unscored.

    Method of moments: s2 is pooled over cases with two or more repeats; w2 = var(d) - mean(sA2/KA + sB2/KB), where d
    is the difference of case means (Miller 2024, arXiv 2411.00640). A negative w2 is reported as 0, with a note.

    >>> parts = variance_parts([[1, 0], [0, 0], [1, 1]], [[1, 1], [1, 0], [1, 1]])
    >>> round(parts.within_baseline, 4), parts.cases
    (0.1667, 3)
    """
    first, second = _table(baseline, "baseline"), _table(candidate, "candidate")
    if len(first) != len(second):
        raise DataError(f"baseline has {len(first)} cases, candidate {len(second)}: join them by case id first")
    paired = ~np.isnan(first).all(axis=1) & ~np.isnan(second).all(axis=1)
    first, second, attempted = first[paired], second[paired], len(first)
    n = len(first)
    within_a, within_b = _within(first), _within(second)
    repeats_a, repeats_b = _harmonic_repeats(first), _harmonic_repeats(second)
    between, note = None, "" if n >= 2 else f"{n} case(s) with scores in both arms: variances need at least 2"
    if n >= 2:
        between = float((np.nanmean(second, axis=1) - np.nanmean(first, axis=1)).var(ddof=1))
        unseen = [arm for arm, value in (("baseline", within_a), ("candidate", within_b)) if value is None]
        noise = (within_a or 0.0) / repeats_a + (within_b or 0.0) / repeats_b
        if unseen:
            note = f"no repeats in {' and '.join(unseen)}: their noise cannot be told from differences between cases"
        elif noise > between:
            note = "all the variance seen is noise between repeats; the variance between cases is estimated as 0"
        between = max(0.0, between - noise)
    return VarianceParts(
        between=between,
        within_baseline=within_a,
        within_candidate=within_b,
        repeats_baseline=repeats_a,
        repeats_candidate=repeats_b,
        cases=n,
        cases_attempted=attempted,
        note=note,
    )


def repeats_or_cases(
    parts: VarianceParts, *, case_price_in_answers: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> RepeatsOrCases | None:
    """Which buys more, repeats or cases; None where no repeats were made, since then nobody can tell.

    Per answer a new case is never worse than a repeat, so `repeats` are advised only where they buy at least 80% of
    what cases do, and `best_repeats` weighs in what a new case costs (`case_price_in_answers`: its label and review,
    in prices of one answer per arm): sqrt(price * (sA2 + sB2) / w2), the optimum of two-stage sampling
    (Cochran 1977, chapter 10).

    >>> parts = variance_parts([[1, 0], [0, 0], [1, 1]], [[1, 1], [1, 0], [1, 1]])
    >>> repeats_or_cases(parts).buys_more
    'repeats'
    """
    if parts.between is None or parts.within_baseline is None or parts.within_candidate is None:
        return None
    within = (parts.within_baseline, parts.within_candidate)
    repeats = (parts.repeats_baseline, parts.repeats_candidate)

    def plan(cases: int, factor: float) -> DetectableDifference:
        noise = sum(s2 / k for s2, k in zip(within, repeats, strict=True)) / factor
        return smallest_detectable_difference(cases, between=(parts.between or 0.0) + noise, alpha=alpha, power=power)

    now, more_cases, more_repeats = plan(parts.cases, 1), plan(2 * parts.cases, 1), plan(parts.cases, 2)
    gain = (now.value - more_repeats.value) / (now.value - more_cases.value) if now.value > 0 else 0.0
    best = math.sqrt(case_price_in_answers * sum(within) / parts.between) if parts.between > 0 else None
    return RepeatsOrCases(
        buys_more="repeats" if gain >= 0.8 else "cases",
        now=now,
        twice_the_cases=more_cases,
        twice_the_repeats=more_repeats,
        floor=plan(parts.cases, math.inf),
        best_repeats=None if best is None else max(1, round(best)),
        power=power,
        note="" if now.value > 0 else "no variance seen: every difference is the same, and neither would show more",
    )


def _table(scores: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or 0 in table.shape:
        raise DataError(f"{name} has shape {table.shape}, must be (cases, repeats)")
    if np.isinf(table).any():
        raise DataError(f"{name} has an infinite score in case {int(np.argwhere(np.isinf(table))[0, 0])}")
    return table


def _within(table: npt.NDArray[np.float64]) -> float | None:
    counts = (~np.isnan(table)).sum(axis=1)
    freedom = int((counts - 1).sum())
    if freedom < 1:
        return None
    return float(np.nansum((table - np.nanmean(table, axis=1, keepdims=True)) ** 2)) / freedom


def _harmonic_repeats(table: npt.NDArray[np.float64]) -> float:
    return float(1 / (1 / (~np.isnan(table)).sum(axis=1)).mean()) if len(table) else 0.0
