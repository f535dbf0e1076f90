"""Floors: what a candidate must reach by itself, whatever the baseline does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.display import Interval
from llmlab.base.errors import DataError
from llmlab.base.verdict import Verdict
from llmlab.gate import rules
from llmlab.gate.condition import Condition
from llmlab.gate.corrected import LabelledMetric, Reading, more_labels
from llmlab.gate.policy import Floor
from llmlab.results.scores import CaseDesign, ScoreTable
from llmlab.results.wording import counted, scale_of
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import wilson_bounds
from llmlab.stats.paired import PairedDifference, mean_difference

if TYPE_CHECKING:
    from llmlab.gate.looks import Price
    from llmlab.stats.correction import Correction

__all__ = ["described", "judge_floor", "unscored_note"]


def judge_floor(
    floor: Floor,
    table: ScoreTable,
    *,
    candidate: str,
    baseline: str | None = None,
    price: Price,
    labelled: LabelledMetric | None = None,
) -> Condition:
    """The candidate's mean against a bound: the two-sided interval must clear it (a rate: Wilson's).

    An unscored answer that nothing bounds is taken at the worst that either arm has.
    """
    lower, arm = floor.at_least is not None, table.column(candidate)
    arms = [arm] if baseline is None else [arm, table.column(baseline)]
    bound = float(floor.at_least if floor.at_least is not None else floor.at_most or 0.0)
    attempted = int(np.maximum(table.attempted[:, arm], 1).sum())
    unscored = attempted - int(table.scored[:, arm].sum())
    scale, unit = scale_of(table.metric)
    about: dict[str, Any] = {
        **{"kind": "floor", "metric": table.metric.name, "rule": "floor", "bound": bound, "level": price.asked},
        **{"scale": scale, "unit": unit, "higher_is_better": lower, "unscored": unscored, "attempted": attempted},
    }
    if labelled is not None:
        return _corrected_floor(
            Condition(verdict=Verdict.INCONCLUSIVE, **about), labelled.mean(candidate), lower, price
        )
    found = [_read(table, values, codes, bound, lower, price) for values, codes in _values(table, arms, lower)]
    read = [one for one in found if one is not None]
    if len(read) < len(found):
        return Condition(verdict=Verdict.INCONCLUSIVE, notes=("fewer than two cases or clusters are scored",), **about)
    words, (mean, low, high, d) = [one[0] for one in read], read[-1][1]
    return Condition(
        verdict=rules.unanimous(words),
        value=mean,
        low=low,
        high=high,
        p_value=d.p_above(0.0),
        se=d.se,
        df=d.df,
        n_cases=d.n,
        n_clusters=d.n_clusters,
        notes=(*d.notes, *unscored_note(unscored, attempted, assumed=table.assumed([arm]))),
        **about,
    )


def _corrected_floor(blank: Condition, found: Reading, lower: bool, price: Price) -> Condition:
    """The same for what people would say of the candidate's answers."""
    blank = described(blank, found)
    if not found.differences:
        return replace(blank, notes=(*blank.notes, found.why))
    sign = 1.0 if lower else -1.0
    above = [replace(d, value=sign * (d.value - blank.bound)) for d in found.differences]
    d, above_last = found.differences[-1], above[-1]
    interval = d.interval(price.asked)
    return replace(
        blank,
        verdict=rules.unanimous([rules.reaches(a, asked=price.asked, confidence=price.confidence) for a in above]),
        value=d.value,
        low=interval.low,
        high=interval.high,
        p_value=above_last.p_above(0.0),
        se=d.se,
        df=d.df,
        n_cases=d.n,
        n_clusters=d.n_clusters,
        notes=(*blank.notes, *d.notes, *unscored_note(blank.unscored, blank.attempted, assumed=False)),
    )


def described(condition: Condition, found: Reading) -> Condition:
    """The condition as one on a corrected estimate: how, on how many labels, beside what, and what would settle it.

    An open one is planned in further labels, not in cases.
    """
    correction, more = found.correction, None
    if condition.verdict == Verdict.INCONCLUSIVE and condition.plan is not None:
        more = more_labels(correction, need=condition.plan, n_cases=condition.n_cases)
    return replace(
        condition,
        estimate="corrected",
        method=correction.corrected.method,
        labelled=correction.n_labelled,
        judge_alone=correction.raw.value,
        more_labels=more,
        plan=None,
        notes=(*condition.notes, _beside(condition, correction)),
    )


def _beside(condition: Condition, correction: Correction) -> str:
    people = counted(correction.n_labelled, "labelled answer" if condition.kind == "floor" else "case")
    both = "" if condition.kind == "floor" else " labelled in both arms"
    raw, scale = correction.raw, condition.scale
    value, low, high = (None if end is None else end * scale for end in (raw.value, raw.low, raw.high))
    alone = Interval(value, low, high)
    return f"corrected by {people}{both}; the judge alone says {alone}{condition.unit}"


def unscored_note(unscored: int, attempted: int, *, assumed: bool) -> tuple[str, ...]:
    """What became of answers without a score."""
    if not unscored:
        return ()
    worst = ", which for those that nothing bounds is the worst score seen" if assumed else ""
    return (f"{unscored:,} of {attempted:,} answers are unscored and taken at their worst for the candidate{worst}",)


def _values(table: ScoreTable, arms: list[int], lower: bool) -> Iterator[tuple[FloatArray, CaseDesign]]:
    """The first arm as seen, and where something is unscored with it at its best and at its worst."""
    known = ~np.isnan(table.values[:, arms[0]])
    yield table.values[known, arms[0]], table.design(known)
    low_high = table.pessimistic(arms) or ()
    for filled in reversed(low_high) if lower else low_high:
        yield filled[:, 0], table.design()


def _read(
    table: ScoreTable, values: FloatArray, design: CaseDesign, bound: float, lower: bool, price: Price
) -> tuple[Verdict, tuple[float, float, float, PairedDifference]] | None:
    try:
        d = mean_difference(values - bound if lower else bound - values, **design, level=price.asked)
    except DataError:
        return None
    mean, metric = float(np.average(values, weights=design["weights"])), table.metric
    if not table.clustered and table.weights is None and np.isin(values, (0.0, 1.0)).all():
        low, high = wilson_bounds(int(values.sum()), values.size, level=price.asked)
        wide = wilson_bounds(int(values.sum()), values.size, level=price.confidence)
        clears, misses = (low >= bound, wide[1] < bound) if lower else (high <= bound, wide[0] > bound)
        return Verdict.PASS if clears else Verdict.FAIL if misses else Verdict.INCONCLUSIVE, (mean, low, high, d)
    span = None if metric.low is None or metric.high is None else metric.high - metric.low
    word = rules.reaches(d, asked=price.asked, confidence=price.confidence, span=span)
    ends = (d.low + bound, d.high + bound) if lower else (bound - d.high, bound - d.low)
    return word, (mean, *ends, d)
