"""Every condition of a policy, read off results: what was read, against which bound, and what that shows.

Goals, guards, categories and anchors read a difference, floors the candidate alone, whatever the baseline does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmlab import gate as room
from llmlab import results as measured
from llmlab import stats
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted
from llmlab.base.verdict import Verdict
from llmlab.gate.condition import Condition
from llmlab.gate.looks import Price
from llmlab.gate.policy import Arms, Floor, Requirement, Rules, relative_share
from llmlab.gate.validity import judges_of
from llmlab.results.results import Results
from llmlab.results.scores import BEYOND_SEEN, CaseDesign, ScoreTable, scale_of
from llmlab.stats import burdens
from llmlab.stats.arrays import FloatArray, paired_differences
from llmlab.stats.bounded import share_estimate, share_p_above
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import PairedDifference, mean_difference, relative_margin_difference, t_difference
from llmlab.stats.power import Need, Spread, would_show
from llmlab.stats.standard_error import TOO_FEW_DF, StandardError, standard_error

Chosen = NDArray[np.bool_]  # which cases


def evaluate(policy: Rules, results: Results, arms: Arms, *, price: Price) -> tuple[Condition, ...]:
    """Every condition of the policy, in the order of the file."""
    judged, conditions = judges_of(policy, results), list[Condition]()
    tables = {  # cost, tokens and latency are always averaged
        name: results.table(name, aggregation=policy.aggregation if name in results.metrics else "mean")
        for name in policy.metrics
    }
    for kind, part in policy.readings:
        table, labelled = tables[part.metric], None
        if policy.is_corrected(part, judged):
            labelled = room.corrected.LabelledMetric(results=results, metric=part.metric)
        if isinstance(part, Floor):
            conditions.append(_floor(part, table, arms, price=price, labelled=labelled))
            continue
        reader = _Reader(part, table, arms, kind=kind, price=price, labelled=labelled)
        everything = [(None, np.ones(len(table.case_ids), dtype=bool))]
        conditions += reader.conditions([*table.categories().items()] if kind == "category" else everything)
    return tuple(conditions)


class _Reader:
    """What is required of one metric of the candidate against one other variant."""

    def __init__(
        self,
        part: Requirement,
        table: ScoreTable,
        arms: Arms,
        *,
        kind: str,
        price: Price,
        labelled: room.corrected.LabelledMetric | None,
    ) -> None:
        self.part, self.kind, self.price, self.labelled = part, kind, price, labelled
        self.table, self.metric, other = table, table.metric, arms.other(kind)
        self.candidate = table.column(arms.candidate)
        self.baseline = None if other is None else table.column(other)
        self.columns = [self.candidate] if self.baseline is None else [self.baseline, self.candidate]
        self.share = relative_share(part.margin)
        self.margin = 0.0 if self.share is not None else float(part.margin or 0.0)  # a share: `_turned` takes it off

    def conditions(self, parts: Sequence[tuple[str | None, Chosen]]) -> Iterator[Condition]:
        """The condition on each part of the cases; the p values of shown harm adjusted by Holm over all of them."""
        begun = [self._begun(category, chosen) for category, chosen in parts]
        if self.baseline is None:
            yield from (replace(blank, notes=("there is no baseline to compare with",)) for blank in begun)
            return
        readings = [self._corrected(chosen) for _, chosen in parts]
        ways = [self._ways(chosen, read) for (_, chosen), read in zip(parts, readings, strict=True)]
        for blank, (_, chosen), read, ds, harm in zip(begun, parts, readings, ways, self._harm(ways), strict=True):
            yield self._finished(blank, chosen, read, ds, harm, tests=len(parts))

    # -- differences ---------------------------------------------------------------------------------------------

    def _corrected(self, chosen: Chosen) -> room.corrected.Reading | None:
        """The corrected difference, where that is what is read; a judge's scale has its best level on top."""
        if self.labelled is None or self.baseline is None:
            return None
        arms = {"baseline": self.table.variants[self.baseline], "candidate": self.table.variants[self.candidate]}
        return self.labelled.difference(**arms, case_ids={self.table.case_ids[i] for i in np.flatnonzero(chosen)})

    def _ways(self, chosen: Chosen, reading: room.corrected.Reading | None) -> list[PairedDifference | None]:
        """As seen, and with what is unscored at its best and at its worst; turned so that more is better."""
        if reading is not None:
            return list(reading.differences) or [None]
        return [self._turned(*arms) for arms in self._pairs(chosen)]

    def _pairs(self, chosen: Chosen) -> Iterator[tuple[Any, Any, CaseDesign]]:
        table, base, arm = self.table, self.baseline, self.candidate
        a, b = table.values[:, base], table.values[:, arm]
        known = chosen & ~(np.isnan(a) | np.isnan(b))
        yield a[known], b[known], table.design(known)
        if (ends := table.pessimistic(self.columns, chosen)) is not None:
            low, high = ends
            pairs = [(low[:, 0], high[:, 1]), (high[:, 0], low[:, 1])]
            for first, second in pairs if self.metric.higher_is_better else reversed(pairs):
                yield first, second, table.design(chosen)

    def _turned(self, base: Any, arm: Any, design: CaseDesign) -> PairedDifference | None:
        up, level = self.metric.higher_is_better, self.price.confidence
        try:
            if self.share is None:
                better, worse = (arm, base) if up else (base, arm)
                d = paired_differences(better, worse, scale=self.metric.span)
                return mean_difference(d, **design, bounds=self.metric.change_bounds, level=level)
            change, bounds = -self.share if up else self.share, self.metric.bounds
            relative = relative_margin_difference(base, arm, margin=change, **design, bounds=bounds, level=level)
        except DataError:  # fewer than two cases or clusters
            return None
        return relative if up else relative.turned

    def _harm(self, families: Sequence[Sequence[PairedDifference | None]]) -> list[list[float]]:
        """Per part of the cases, adjusted p of harm beyond the margin for each way to take the unscored answers."""
        columns = []
        for way in range(max(map(len, families))):
            d_of = [ds[min(way, len(ds) - 1)] for ds in families]
            columns.append(burdens.holm([1.0 if d is None else d.p_below(-self.margin) for d in d_of]))
        return [list(row[: len(ds)]) for row, ds in zip(zip(*columns, strict=True), families, strict=True)]

    # -- conditions ----------------------------------------------------------------------------------------------

    def _begun(self, category: str | None, chosen: Chosen) -> Condition:
        """The condition before anything is read."""
        rule, (scale, unit) = self.part.rule, scale_of(self.metric)
        margin = self.margin if self.share is None else self.share
        attempted, unscored = _answers(self.table, self.columns, chosen)
        return Condition(
            kind=self.kind,
            metric=self.metric.name,
            rule=rule,
            category=category,
            verdict=Verdict.NOT_JUDGED,
            level=self._level(self.price.asked),
            bound=self.part.min_effect if rule == "superior" else margin,
            relative=self.share is not None,
            scale=scale if self.share is None else 100.0,
            unit=unit,
            higher_is_better=self.metric.higher_is_better,
            unscored=unscored,
            attempted=attempted,
        )

    def _finished(
        self,
        begun: Condition,
        chosen: Chosen,
        reading: room.corrected.Reading | None,
        ways: Sequence[PairedDifference | None],
        harm: Sequence[float],
        *,
        tests: int,
    ) -> Condition:
        """The condition as the cases decide it, open where some way to take the unscored answers leaves too few."""
        seen = [(d, self._word(d, p)) for d, p in zip(ways, harm, strict=True) if d is not None]
        words = [word for _, word in seen]
        if len(seen) < len(ways):
            few = _of_too_few(begun, int(chosen.sum()), harmed=Verdict.FAIL in words)
            return few if reading is None else _described(replace(few, notes=(reading.why,)), reading)
        d, _ = seen[-1]  # the least kind way to take what is unscored is the one that is shown
        base, arm, design = list(self._pairs(chosen))[-1]
        verdict = burdens.unanimous(words)
        notes = self._notes(begun, d, chosen, verdict)
        if begun.relative and not base.any() and not arm.any():
            verdict, notes = Verdict.PASS, ("both are 0 in every case",)
        p_value, tail = self._p(d, harm[-1], tests)
        # looks make proof dearer, never harm: a FAIL shows the interval that it was read off
        level = self._level(self.price.confidence) if verdict == Verdict.FAIL else begun.level
        decided = replace(_resting_on(d, begun), verdict=verdict, level=level, p_value=p_value, notes=notes)
        lost = max(0.0, seen[0][0].value - d.value)
        shown = self._shown(decided, d, float(np.average(base, weights=design["weights"])), tail, lost=lost)
        return self._with_noise(shown, chosen) if reading is None else _described(shown, reading)

    def _notes(self, begun: Condition, d: PairedDifference, chosen: Chosen, verdict: Verdict) -> tuple[str, ...]:
        assumed = self.table.assumed(self.columns, chosen)
        unless = self._unless(chosen) if assumed and verdict == Verdict.PASS else ()
        return (*d.notes, *_unscored_note(begun.unscored, begun.attempted, assumed=assumed), *unless)

    def _unless(self, chosen: Chosen) -> tuple[str, ...]:
        """What lost answers that nothing bounds would have to be for the proof to fall."""
        assert self.baseline is not None  # noqa: S101  # without one nothing passes
        sign, asked = 1.0 if self.metric.higher_is_better else -1.0, self.price.asked
        claims = {
            "superior": [(0.0, (1 - asked) / 2), (self.part.min_effect, 0.5)],  # the interval, and the value itself
            "non_inferior": [(-self.margin, 1 - asked)],
        }.get(self.part.rule, [])
        arms, times = (self.table, self.baseline, self.candidate, chosen), 1.0 - sign * (self.share or 0.0)
        points = [
            measured.tipping.tipping_of(*arms, sign=sign, above=above, alpha=alpha, times=times)
            for above, alpha in claims
        ]
        known = (point for point in points if point is not None)
        first = min(known, key=lambda point: point.value if point.above else -point.value, default=None)
        return () if first is None else (first.unless(self.metric.unit),)

    def _with_noise(self, shown: Condition, chosen: Chosen) -> Condition:
        """The condition with what more repeats could take away of its variance, where repeats let that be told."""
        known = chosen & (self.table.scored[:, self.columns] > 0).all(axis=1)
        noise = self.table.repeat_noise(known, self.columns) if known.any() and not shown.relative else None
        if noise is None or shown.plan is None or not shown.se:
            return shown
        variance, repeats = noise
        share = min(1.0, variance / (shown.n_cases * shown.se**2))
        return replace(shown, repeats=repeats, plan=replace(shown.plan, spread=replace(shown.plan.spread, noise=share)))

    def _word(self, d: PairedDifference, harm: float) -> Verdict:
        levels = {"asked": self.price.asked, "confidence": self.price.confidence}
        if self.part.rule == "superior":
            return burdens.superior(d, min_effect=self.part.min_effect, **levels)
        if self.part.rule == "non_inferior":
            return burdens.non_inferior(d, margin=self.margin, **levels)
        return Verdict.FAIL if harm < (1 - self.price.confidence) / 2 else Verdict.PASS

    def _level(self, confidence: float) -> float:
        """Of the interval that the rule is read off at this confidence."""
        rules = {"superior": confidence, "non_inferior": 2 * confidence - 1}
        return rules.get(self.part.rule, self.price.confidence)

    def _p(self, d: PairedDifference, harm: float, tests: int) -> tuple[float, float]:
        """The p value to show, and the one-sided alpha of the test whose power says what could have been missed."""
        if self.part.rule == "superior":
            return d.p_value, (1 - self.price.asked) / 2
        if self.part.rule == "non_inferior":
            return d.p_above(-self.margin), 1 - self.price.asked
        return harm, (1 - self.price.confidence) / 2 / tests

    def _shown(
        self, decided: Condition, d: PairedDifference, base_mean: float, tail: float, *, lost: float
    ) -> Condition:
        """With value, interval and what could be missed, in the unit that people read, and what would settle it."""
        up, span, rule, bound = self.metric.higher_is_better, self.metric.span, decided.rule, decided.bound
        read = d if up else d.turned
        value, (low, high) = read.value, read.ends(decided.level)
        reach = would_show(d, tail=tail, least_value=bound if rule == "superior" else 0.0) if d.se else None
        bound_of_d = bound * (base_mean if decided.relative else 1.0)
        planned = replace(decided, plan=self._plan(decided, d, tail, bound_of_d, lost=lost))
        if decided.relative:
            if base_mean == 0:
                return planned
            shares = paired_differences(np.array([value, low, high]) / base_mean, np.full(3, bound if up else -bound))
            value, low, high = shares.tolist()
            reach = None if reach is None else reach / base_mean
        if reach is not None:
            reach += bound if rule == "no_shown_harm" else 0.0
            if rule == "non_inferior" or (span is not None and reach > span):
                reach = None  # not asked, or beyond what can happen
        return replace(planned, value=value, low=low, high=high, missed=reach)

    def _plan(self, begun: Condition, d: PairedDifference, tail: float, bound: float, *, lost: float) -> Need | None:
        """What would settle it: a margin if nothing differs; a goal if the gain lies beyond `min_effect`.

        Where nothing varied it is the cases without which harm (or a gain) of `bound` may have gone unseen. More cases
        lose as large a share of their answers, which take `lost` off at their worst: all of it, and none are enough.
        """
        if begun.rule == "no_shown_harm" or bound <= 0:
            return None
        need = Need(name=begun.name, distance=bound - lost, spread=Spread.of(d), tail=tail)
        if d.se == 0 and not need.spread.hazard(need.distance):
            return None
        if begun.rule != "superior" or d.se == 0:
            return need
        gain = burdens.PLANNED_GAIN * bound
        truth = f"the true gain on {self.metric.name} is {begun._amount(gain)}"
        left = max(0.0, gain - lost)
        return replace(need, distance=left, spread=Spread.of(d, shift=left), least_value=bound, truth=truth)


def _floor(
    floor: Floor, table: ScoreTable, arms: Arms, *, price: Price, labelled: room.corrected.LabelledMetric | None
) -> Condition:
    """The candidate's mean against a bound: the two-sided interval must clear it, of shares the one `summary` shows.

    An unscored answer that nothing bounds is taken beyond the worst that either arm has.
    """
    arm = table.column(arms.candidate)
    columns = [arm] if arms.baseline is None else [arm, table.column(arms.baseline)]
    (scale, unit), (attempted, unscored) = scale_of(table.metric), _answers(table, [arm])
    blank = Condition(
        kind="floor",
        metric=table.metric.name,
        rule=floor.rule,
        verdict=Verdict.INCONCLUSIVE,
        level=price.asked,
        bound=float(floor.at_least if floor.at_least is not None else floor.at_most or 0.0),
        scale=scale,
        unit=unit,
        higher_is_better=floor.at_least is not None,
        unscored=unscored,
        attempted=attempted,
    )
    if labelled is not None:
        corrected = labelled.mean(arms.candidate)
        blank = _described(blank, corrected)
        if not corrected.differences:
            return replace(blank, notes=(*blank.notes, corrected.why))
        ways = [_of_difference(blank, d, price) for d in corrected.differences]
    else:
        try:
            ways = [_of_values(blank, table, *way, price) for way in _values(table, columns, blank.higher_is_better)]
        except DataError:
            return replace(blank, notes=("fewer than two cases or clusters are scored",))
    read, assumed = ways[-1], labelled is None and table.assumed([arm])
    notes = (*blank.notes, *read.notes, *_unscored_note(unscored, attempted, assumed=assumed))
    return replace(read, verdict=burdens.unanimous([way.verdict for way in ways]), notes=notes)


def _answers(table: ScoreTable, columns: Sequence[int], chosen: Chosen | None = None) -> tuple[int, int]:
    """How many answers of these columns were attempted, and how many of them have no score."""
    rows = slice(None) if chosen is None else chosen
    attempted = int(np.maximum(table.attempted[rows][:, columns], 1).sum())
    return attempted, attempted - int(table.scored[rows][:, columns].sum())


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


def _resting_on(error: StandardError | PairedDifference, condition: Condition) -> Condition:
    return replace(condition, se=error.se, df=error.df, n_cases=error.n, n_clusters=error.n_clusters, notes=error.notes)


def _of_difference(blank: Condition, d: PairedDifference, price: Price) -> Condition:
    """The floor under a mean that is no share, or that was corrected."""
    above, bound = (d, blank.bound) if blank.higher_is_better else (d.turned, -blank.bound)
    word = burdens.reaches(above, bound, asked=price.asked, confidence=price.confidence)
    level = price.confidence if word == Verdict.FAIL else price.asked
    low, high = d.ends(level)
    p_value = above.p_above(bound)
    return _resting_on(d, replace(blank, verdict=word, value=d.value, low=low, high=high, level=level, p_value=p_value))


def _of_values(blank: Condition, table: ScoreTable, values: FloatArray, design: CaseDesign, price: Price) -> Condition:
    """The floor under these values; DataError where there are fewer than two cases or clusters."""
    error, lower, bound = standard_error(values, **design), blank.higher_is_better, blank.bound
    if (bounds := table.metric.bounds) is None:
        value = float(np.average(values, weights=design["weights"]))  # no difference, which signs could tell from 0
        by_t = t_difference(value, error, level=price.asked, method="mean, t test")
        return _resting_on(error, _of_difference(blank, by_t, price))
    (mean, low, high), (_, least, most) = (
        _ends(share_estimate(values, **design, bounds=bounds, level=level)) for level in (price.asked, price.confidence)
    )
    clears, misses = (low >= bound, most < bound) if lower else (high <= bound, least > bound)
    word = Verdict.PASS if clears else Verdict.FAIL if misses else Verdict.INCONCLUSIVE
    word = Verdict.INCONCLUSIVE if error.df < TOO_FEW_DF else word
    if word == Verdict.FAIL:
        blank, low, high = replace(blank, level=price.confidence), least, most
    sign, turned = (1.0, bounds) if lower else (-1.0, (-bounds[1], -bounds[0]))
    p_value = share_p_above(sign * values, sign * bound, **design, bounds=turned)
    return _resting_on(error, replace(blank, verdict=word, value=mean, low=low, high=high, p_value=p_value))


def _ends(share: Estimate) -> tuple[float, float, float]:
    if share.value is None or share.low is None or share.high is None:
        raise DataError(f"no interval: {'; '.join(share.notes)}")
    return share.value, share.low, share.high
