"""Every condition of a policy, evaluated on score tables: what was read, against which bound, and what that shows.

Goals, guards, categories and anchors read a difference, floors the candidate alone, whatever the baseline does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmlab import gate as room
from llmlab import stats
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted
from llmlab.base.verdict import Verdict
from llmlab.gate.condition import Condition
from llmlab.gate.looks import Price
from llmlab.gate.policy import Arms, Categories, Floor, Requirement, Rules, relative_share
from llmlab.results.scores import BEYOND_SEEN, CaseDesign, ScoreTable, scale_of, tipping_of
from llmlab.stats import burdens
from llmlab.stats.arrays import FloatArray, paired_differences
from llmlab.stats.bounded import share_estimate, share_p_above
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import PairedDifference, mean_difference, relative_margin_difference
from llmlab.stats.power import Need, Spread, would_show
from llmlab.stats.standard_error import TOO_FEW_DF, StandardError, standard_error

__all__ = ["evaluate"]


def evaluate(
    policy: Rules,
    tables: Mapping[str, ScoreTable],
    arms: Arms,
    *,
    price: Price,
    labelled: Mapping[str, room.corrected.LabelledMetric],
    judged: Collection[str],
) -> tuple[Condition, ...]:
    """Every condition of the policy, in the order of the file; `labelled` holds the metrics that are corrected."""
    conditions: list[Condition] = []
    for kind, metric, part in policy.readings:
        people = labelled.get(metric) if policy.is_corrected(metric, part, judged) else None
        if isinstance(part, Floor):
            conditions.append(_floor(part, tables[metric], arms, price=price, labelled=people))
            continue
        reader = _Reader(tables[metric], arms.candidate, arms.other(kind), price=price, labelled=people)
        if isinstance(part, Requirement):
            conditions.append(reader.judged(part, kind=kind))
        elif isinstance(part, Categories):
            conditions += reader.by_category(Requirement(metric=metric, rule=part.rule, margin=part.margin))
        else:
            required = Requirement(metric=metric, rule="non_inferior", margin=part.margin)
            conditions.append(reader.judged(required, kind="anchor"))
    return tuple(conditions)


class _Reader:
    """One metric of a candidate against one other variant."""

    def __init__(
        self,
        table: ScoreTable,
        candidate: str,
        baseline: str | None,
        *,
        price: Price,
        labelled: room.corrected.LabelledMetric | None,
    ) -> None:
        self.table, self.metric, self.price, self.labelled = table, table.metric, price, labelled
        self.candidate = table.column(candidate)
        self.baseline = None if baseline is None else table.column(baseline)
        self.columns = [self.candidate] if self.baseline is None else [self.baseline, self.candidate]
        self.corrected: dict[bytes, room.corrected.Reading] = {}  # by the chosen cases

    def judged(self, part: Requirement, *, kind: str) -> Condition:
        """A goal, guard or anchor."""
        everything = np.ones(len(self.table.case_ids), dtype=bool)
        return self._finished(self._begun(part, kind, None, everything), part, everything, tests=1)

    def by_category(self, part: Requirement) -> Iterator[Condition]:
        """The same within every tag; the p values of shown harm adjusted by Holm."""
        chosen = self.table.categories()
        adjusted: Sequence[Sequence[float] | None] = [None] * len(chosen)
        if part.rule == "no_shown_harm" and self.baseline is not None:
            adjusted = self._holm([self._differences(part, mask) for mask in chosen.values()], part)
        for (tag, mask), harm in zip(chosen.items(), adjusted, strict=True):
            yield self._finished(self._begun(part, "category", tag, mask), part, mask, tests=len(chosen), harm=harm)

    # -- differences ---------------------------------------------------------------------------------------------

    def _differences(self, part: Requirement, chosen: NDArray[np.bool_]) -> list[PairedDifference | None]:
        """As seen, and with what is unscored at its best and at its worst; turned so that more is better."""
        if (reading := self._corrected(chosen)) is not None:
            return list(reading.differences) or [None]
        return [self._turned(part, *arms) for arms in self._pairs(chosen)]

    def _corrected(self, chosen: NDArray[np.bool_]) -> room.corrected.Reading | None:
        """The corrected difference, where that is what is read; a judge's scale has its best level on top."""
        if self.labelled is None or self.baseline is None:
            return None
        if (key := chosen.tobytes()) not in self.corrected:
            arms = {"baseline": self.table.variants[self.baseline], "candidate": self.table.variants[self.candidate]}
            some = {self.table.case_ids[i] for i in np.flatnonzero(chosen)}
            self.corrected[key] = self.labelled.difference(**arms, case_ids=some)
        return self.corrected[key]

    def _pairs(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[Any, Any, Any]]:
        table, base, arm = self.table, self.baseline, self.candidate
        a, b = table.values[:, base], table.values[:, arm]
        known = chosen & ~(np.isnan(a) | np.isnan(b))
        yield a[known], b[known], table.design(known)
        if (ends := table.pessimistic(self.columns, chosen)) is not None:
            low, high = ends
            pairs = [(low[:, 0], high[:, 1]), (high[:, 0], low[:, 1])]
            for first, second in pairs if self.metric.higher_is_better else reversed(pairs):
                yield first, second, table.design(chosen)

    def _turned(self, part: Requirement, base: Any, arm: Any, design: CaseDesign) -> PairedDifference | None:
        share = relative_share(part.margin)
        up, level = self.metric.higher_is_better, self.price.confidence
        try:
            if share is None:
                better, worse = (arm, base) if up else (base, arm)
                d = paired_differences(better, worse, scale=self.metric.span)
                return mean_difference(d, **design, bounds=self.metric.change_bounds, level=level)
            change, bounds = -share if up else share, self.metric.bounds
            relative = relative_margin_difference(base, arm, margin=change, **design, bounds=bounds, level=level)
        except DataError:  # fewer than two cases or clusters
            return None
        return relative if up else relative.turned

    def _holm(self, families: Sequence[Sequence[PairedDifference | None]], part: Requirement) -> list[list[float]]:
        """Adjusted p of shown harm per category, for each way to take the unscored answers."""
        margin = 0.0 if relative_share(part.margin) is not None else float(part.margin or 0.0)
        width = max(len(ds) for ds in families)
        columns = []
        for way in range(width):
            d_of = [ds[min(way, len(ds) - 1)] for ds in families]
            columns.append(burdens.holm([1.0 if d is None else d.p_below(-margin) for d in d_of]))
        return [list(row) for row in zip(*columns, strict=True)]

    # -- conditions ----------------------------------------------------------------------------------------------

    def _begun(self, part: Requirement, kind: str, category: str | None, chosen: NDArray[np.bool_]) -> Condition:
        """The condition before anything is read."""
        share, (scale, unit), asked = relative_share(part.margin), scale_of(self.metric), self.price.asked
        attempted = int(np.maximum(self.table.attempted[chosen][:, self.columns], 1).sum())
        bound = part.min_effect if part.rule == "superior" else share if share is not None else float(part.margin or 0)
        return Condition(
            kind=kind,
            metric=self.metric.name,
            rule=part.rule,
            category=category,
            verdict=Verdict.NOT_JUDGED,
            level={"superior": asked, "non_inferior": 2 * asked - 1}.get(part.rule, self.price.confidence),
            bound=bound,
            relative=share is not None,
            scale=scale if share is None else 100.0,
            unit=unit,
            higher_is_better=self.metric.higher_is_better,
            unscored=attempted - int(self.table.scored[chosen][:, self.columns].sum()),
            attempted=attempted,
        )

    def _finished(
        self,
        begun: Condition,
        part: Requirement,
        chosen: NDArray[np.bool_],
        *,
        tests: int,
        harm: Sequence[float] | None = None,
    ) -> Condition:
        """The condition as the cases decide it, open where some way to take the unscored answers leaves too few."""
        if self.baseline is None:
            return replace(begun, notes=("there is no baseline to compare with",))
        ways, corrected = self._differences(part, chosen), self._corrected(chosen)
        margin = 0.0 if begun.relative else begun.bound
        harms = [None] * len(ways) if harm is None else harm
        seen = [(d, self._word(part, d, margin, p)) for d, p in zip(ways, harms, strict=False) if d is not None]
        words = [word for _, word in seen]
        if len(seen) < len(ways):
            blank = _of_too_few(begun, int(chosen.sum()), harmed=Verdict.FAIL in words)
            return blank if corrected is None else _described(replace(blank, notes=(corrected.why,)), corrected)
        d, _ = seen[-1]  # the least kind way to take what is unscored is the one that is shown
        decided = replace(begun, verdict=burdens.unanimous(words))
        p_value, tail = self._p(part, d, margin, harm, tests)
        shown = self._shown(self._noted(decided, part, d, chosen, p_value), d, self._last_pair(chosen), tail)
        return self._with_noise(shown, chosen) if corrected is None else _described(shown, corrected)

    def _noted(
        self, decided: Condition, part: Requirement, d: PairedDifference, chosen: NDArray[np.bool_], p_value: float
    ) -> Condition:
        """The condition with what its difference rests on, and what is to be said of it."""
        assumed = self.table.assumed(self.columns, chosen)
        verdict, base, arm = decided.verdict, *self._last_pair(chosen)[:2]
        notes = (*d.notes, *_unscored_note(decided.unscored, decided.attempted, assumed=assumed))
        if assumed and verdict == Verdict.PASS:
            notes += self._unless(part, chosen)
        if decided.relative and not base.any() and not arm.any():
            verdict, notes = Verdict.PASS, ("both are 0 in every case",)
        noted = replace(decided, verdict=verdict, notes=notes, p_value=p_value)
        return replace(noted, se=d.se, df=d.df, n_cases=d.n, n_clusters=d.n_clusters)

    def _last_pair(self, chosen: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
        return list(self._pairs(chosen))[-1]

    def _unless(self, part: Requirement, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        """What lost answers that nothing bounds would have to be for the proof to fall."""
        assert self.baseline is not None  # noqa: S101  # without one nothing passes
        share = relative_share(part.margin)
        sign, asked = 1.0 if self.metric.higher_is_better else -1.0, self.price.asked
        claims = {
            "superior": [(0.0, (1 - asked) / 2), (part.min_effect, 0.5)],  # the interval, and the value itself
            "non_inferior": [(0.0 if share is not None else -float(part.margin or 0.0), 1 - asked)],
        }.get(part.rule, [])
        times, arms = 1.0 - sign * (share or 0.0), (self.table, self.baseline, self.candidate, chosen)
        points = [tipping_of(*arms, sign=sign, above=above, alpha=alpha, times=times) for above, alpha in claims]
        known = (point for point in points if point is not None)
        first = min(known, key=lambda point: point.value if point.above else -point.value, default=None)
        return () if first is None else (first.unless(self.metric.unit),)

    def _with_noise(self, shown: Condition, chosen: NDArray[np.bool_]) -> Condition:
        """The condition with what more repeats could take away of its variance, where repeats let that be told."""
        known = chosen & (self.table.scored[:, self.columns] > 0).all(axis=1)
        told = self.table.repeat_noise(known, self.columns) if known.any() and not shown.relative else None
        if told is None or shown.plan is None or not shown.se:
            return shown
        variance, repeats = told
        noise = min(1.0, variance / (shown.n_cases * shown.se**2))
        plan = replace(shown.plan, spread=replace(shown.plan.spread, noise=noise))
        return replace(shown, repeats=repeats, plan=plan)

    def _word(self, part: Requirement, d: PairedDifference, margin: float, harm: float | None) -> Verdict:
        asked = {"asked": self.price.asked, "confidence": self.price.confidence}
        if part.rule == "superior":
            return burdens.superior(d, min_effect=part.min_effect, **asked)
        if part.rule == "non_inferior":
            return burdens.non_inferior(d, margin=margin, **asked)
        p = d.p_below(-margin) if harm is None else harm
        return Verdict.FAIL if p < (1 - self.price.confidence) / 2 else Verdict.PASS

    def _p(
        self, part: Requirement, d: PairedDifference, margin: float, harm: Sequence[float] | None, tests: int
    ) -> tuple[float, float]:
        """The p value to show, and the one-sided alpha of the test whose power says what could have been missed."""
        if part.rule == "superior":
            return d.p_value, (1 - self.price.asked) / 2
        if part.rule == "non_inferior":
            return d.p_above(-margin), 1 - self.price.asked
        p = d.p_below(-margin) if harm is None else harm[-1]
        return p, (1 - self.price.confidence) / 2 / tests

    def _shown(self, begun: Condition, d: PairedDifference, pairs: tuple[Any, Any, Any], tail: float) -> Condition:
        """Value, interval and what could be missed, in the unit that people read."""
        base_mean = float(np.average(pairs[0], weights=pairs[2]["weights"]))
        up, span, rule = self.metric.higher_is_better, self.metric.span, begun.rule
        read = d if up else d.turned
        value, (low, high) = read.value, read.ends(begun.level)
        reach = would_show(d, tail=tail, least_value=begun.bound if rule == "superior" else 0.0) if d.se else None
        planned = replace(begun, plan=self._plan(begun, d, tail, begun.bound * (base_mean if begun.relative else 1.0)))
        if begun.relative:
            if base_mean == 0:
                return planned
            margin = begun.bound if up else -begun.bound
            shares = paired_differences(np.array([value, low, high]) / base_mean, np.full(3, margin))
            value, low, high = shares.tolist()
            reach = None if reach is None else reach / base_mean
        if reach is not None:
            reach += begun.bound if rule == "no_shown_harm" else 0.0
            if rule == "non_inferior" or (span is not None and reach > span):
                reach = None  # not asked, or beyond what can happen
        return replace(planned, value=value, low=low, high=high, missed=reach)

    def _plan(self, begun: Condition, d: PairedDifference, tail: float, bound: float) -> Need | None:
        """What would settle it: a margin if nothing differs; a goal if the gain lies beyond `min_effect`.

        Where nothing varied it is the cases without which harm (or a gain) of `bound` may have gone unseen.
        """
        if begun.rule == "no_shown_harm" or bound <= 0:
            return None
        need = Need(name=begun.name, distance=bound, spread=Spread.of(d), tail=tail)
        if d.se == 0 and not need.spread.hazard(bound):
            return None
        if begun.rule != "superior" or d.se == 0:
            return need
        gain = burdens.PLANNED_GAIN * bound
        truth = f"the true gain on {self.metric.name} is {begun._amount(gain)}"
        return replace(need, distance=gain, spread=Spread.of(d, shift=gain), least_value=bound, truth=truth)


def _floor(
    floor: Floor, table: ScoreTable, arms: Arms, *, price: Price, labelled: room.corrected.LabelledMetric | None
) -> Condition:
    """The candidate's mean against a bound: the two-sided interval must clear it, of shares the one `summary` shows.

    An unscored answer that nothing bounds is taken beyond the worst that either arm has.
    """
    lower, arm = floor.at_least is not None, table.column(arms.candidate)
    columns = [arm] if arms.baseline is None else [arm, table.column(arms.baseline)]
    bound = float(floor.at_least if floor.at_least is not None else floor.at_most or 0.0)
    attempted = int(np.maximum(table.attempted[:, arm], 1).sum())
    unscored = attempted - int(table.scored[:, arm].sum())
    scale, unit = scale_of(table.metric)
    about: dict[str, Any] = {
        **{"kind": "floor", "metric": table.metric.name, "rule": "floor", "bound": bound, "level": price.asked},
        **{"scale": scale, "unit": unit, "higher_is_better": lower, "unscored": unscored, "attempted": attempted},
    }
    blank = Condition(verdict=Verdict.INCONCLUSIVE, **about)
    if labelled is not None:
        corrected = labelled.mean(arms.candidate)
        blank = _described(blank, corrected)
        if not corrected.differences:
            return replace(blank, notes=(*blank.notes, corrected.why))
        means = [_of_difference(d, bound, lower, price) for d in corrected.differences]
    else:
        readings = [
            _of_values(table, values, design, bound, lower, price) for values, design in _values(table, columns, lower)
        ]
        means = [mean for mean in readings if mean is not None]
        if len(means) < len(readings):
            return replace(blank, notes=("fewer than two cases or clusters are scored",))
    last, assumed = means[-1], labelled is None and table.assumed([arm])
    return replace(
        blank,
        verdict=burdens.unanimous([mean.word for mean in means]),
        value=last.mean,
        low=last.low,
        high=last.high,
        p_value=last.p_value,
        se=last.error.se,
        df=last.error.df,
        n_cases=last.error.n,
        n_clusters=last.error.n_clusters,
        notes=(*blank.notes, *last.error.notes, *_unscored_note(unscored, attempted, assumed=assumed)),
    )


def _of_too_few(begun: Condition, n_cases: int, *, harmed: bool) -> Condition:
    """The condition where fewer than two cases or clusters are scored in both: harm is not shown, nor anything else."""
    of_harm = begun.rule == "no_shown_harm"
    note = f"fewer than two cases or clusters are scored in both{', so that no harm could have been seen' * of_harm}"
    verdict = Verdict.PASS if of_harm and not harmed else Verdict.INCONCLUSIVE
    return replace(begun, verdict=verdict, n_cases=n_cases, n_clusters=min(n_cases, 1), notes=(note,))


def _described(condition: Condition, reading: room.corrected.Reading) -> Condition:
    """The condition as one on a corrected estimate: how, on how many labels, beside what, and what would settle it.

    An open one is planned in further labels, not in cases.
    """
    correction, more = reading.correction, None
    if condition.verdict == Verdict.INCONCLUSIVE and condition.plan is not None:
        more = room.corrected.more_labels(correction, need=condition.plan, n_cases=condition.n_cases)
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


def _beside(condition: Condition, correction: stats.Correction) -> str:
    people = counted(correction.n_labelled, "labelled answer" if condition.kind == "floor" else "case")
    both = "" if condition.kind == "floor" else " labelled in both arms"
    raw = correction.raw
    value, low, high = (None if end is None else end * condition.scale for end in (raw.value, raw.low, raw.high))
    return f"corrected by {people}{both}; the judge alone says {Interval(value, low, high)}{condition.unit}"


def _unscored_note(unscored: int, attempted: int, *, assumed: bool) -> tuple[str, ...]:
    """What became of answers without a score."""
    if not unscored:
        return ()
    beyond = f", which for those that nothing bounds is {BEYOND_SEEN:g} standard deviations beyond the worst score seen"
    worst = beyond if assumed else ""
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
    error: StandardError | PairedDifference


def _of_difference(d: PairedDifference, bound: float, lower: bool, price: Price) -> _Mean:
    above, at = (d, bound) if lower else (d.turned, -bound)
    word = burdens.reaches(above, at, asked=price.asked, confidence=price.confidence)
    return _Mean(word, d.value, *d.ends(price.asked), above.p_above(at), d)


def _of_values(
    table: ScoreTable, values: FloatArray, design: CaseDesign, bound: float, lower: bool, price: Price
) -> _Mean | None:
    try:
        error = standard_error(values, **design)
    except DataError:  # fewer than two cases or clusters
        return None
    if (bounds := table.metric.bounds) is None:
        return _of_difference(mean_difference(values, **design), bound, lower, price)._replace(error=error)
    (mean, low, high), (_, least, most) = (
        _ends(share_estimate(values, **design, bounds=bounds, level=level)) for level in (price.asked, price.confidence)
    )
    clears, misses = (low >= bound, most < bound) if lower else (high <= bound, least > bound)
    word = Verdict.PASS if clears else Verdict.FAIL if misses else Verdict.INCONCLUSIVE
    sign, turned = (1.0, bounds) if lower else (-1.0, (-bounds[1], -bounds[0]))
    p_value = share_p_above(sign * values, sign * bound, **design, bounds=turned)
    return _Mean(Verdict.INCONCLUSIVE if error.df < TOO_FEW_DF else word, mean, low, high, p_value, error)


def _ends(share: Estimate) -> tuple[float, float, float]:
    if share.value is None or share.low is None or share.high is None:
        raise DataError(f"no interval: {'; '.join(share.notes)}")
    return share.value, share.low, share.high
