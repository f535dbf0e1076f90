"""Floors: what a candidate must reach by itself, whatever the baseline does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.base.display import Interval
from llmlab.base.errors import DataError
from llmlab.base.verdict import Verdict
from llmlab.gate.condition import Condition
from llmlab.gate.corrected import LabelledMetric, Reading, more_labels
from llmlab.gate.policy import Floor
from llmlab.results.scores import CaseDesign, ScoreTable
from llmlab.results.wording import counted, scale_of
from llmlab.stats import burdens
from llmlab.stats.arrays import FloatArray
from llmlab.stats.bounded import share_estimate, share_p_above
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import mean_difference
from llmlab.stats.standard_error import TOO_FEW_DF, StandardError, standard_error

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
    """The candidate's mean against a bound: the two-sided interval must clear it, of shares the one `summary` shows.

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
    last = read[-1]
    return Condition(
        verdict=burdens.unanimous([one.word for one in read]),
        value=last.mean,
        low=last.low,
        high=last.high,
        p_value=last.p_value,
        se=last.error.se,
        df=last.error.df,
        n_cases=last.error.n,
        n_clusters=last.error.n_clusters,
        notes=(*last.error.notes, *unscored_note(unscored, attempted, assumed=table.assumed([arm]))),
        **about,
    )


def _corrected_floor(blank: Condition, found: Reading, lower: bool, price: Price) -> Condition:
    """The same for what people would say of the candidate's answers."""
    blank = described(blank, found)
    if not found.differences:
        return replace(blank, notes=(*blank.notes, found.why))
    bound, asked = blank.bound if lower else -blank.bound, {"asked": price.asked, "confidence": price.confidence}
    turned = found.differences if lower else [d.turned for d in found.differences]
    d, (low, high) = found.differences[-1], found.differences[-1].ends(price.asked)
    return replace(
        blank,
        verdict=burdens.unanimous([burdens.reaches(one, bound, **asked) for one in turned]),
        value=d.value,
        low=low,
        high=high,
        p_value=turned[-1].p_above(bound),
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
    what = "is unscored and taken at its" if unscored == 1 else "are unscored and taken at their"
    return (f"{unscored:,} of {counted(attempted, 'answer')} {what} worst for the candidate{worst}",)


def _values(table: ScoreTable, arms: list[int], lower: bool) -> Iterator[tuple[FloatArray, CaseDesign]]:
    """The first arm as seen, and where something is unscored with it at its best and at its worst."""
    known = ~np.isnan(table.values[:, arms[0]])
    yield table.values[known, arms[0]], table.design(known)
    low_high = table.pessimistic(arms) or ()
    for filled in reversed(low_high) if lower else low_high:
        yield filled[:, 0], table.design()


class _Mean(NamedTuple):
    """A candidate's mean as a floor reads it: the interval at the confidence asked, and what that shows."""

    word: Verdict
    mean: float
    low: float
    high: float
    p_value: float
    error: StandardError


def _read(
    table: ScoreTable, values: FloatArray, design: CaseDesign, bound: float, lower: bool, price: Price
) -> _Mean | None:
    try:
        error = standard_error(values, **design)
    except DataError:  # fewer than two cases or clusters
        return None
    if (bounds := table.metric.bounds) is None:
        d = mean_difference(values, **design, level=price.asked)
        above, at = (d, bound) if lower else (d.turned, -bound)
        word = burdens.reaches(above, at, asked=price.asked, confidence=price.confidence)
        return _Mean(word, d.value, d.low, d.high, above.p_above(at), error)
    (mean, low, high), (_, least, most) = (
        _ends(share_estimate(values, **design, bounds=bounds, level=level)) for level in (price.asked, price.confidence)
    )
    clears, misses = (low >= bound, most < bound) if lower else (high <= bound, least > bound)
    word = Verdict.PASS if clears else Verdict.FAIL if misses else Verdict.INCONCLUSIVE
    sign, turned = (1.0, bounds) if lower else (-1.0, (-bounds[1], -bounds[0]))
    p_value = share_p_above(sign * values, sign * bound, **design, bounds=turned)
    return _Mean(Verdict.INCONCLUSIVE if error.df < TOO_FEW_DF else word, mean, low, high, p_value, error)


def _ends(found: Estimate) -> tuple[float, float, float]:
    value, low, high = found.value, found.low, found.high
    if value is None or low is None or high is None:
        raise DataError(f"no interval: {'; '.join(found.notes)}")
    return value, low, high
