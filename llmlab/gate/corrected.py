"""Conditions on a judged metric that are decided on what people would say: the judge's scores, corrected by labels.

The corrected estimate (PPI++, labels on both arms) goes through the same burdens of proof as any other difference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from llmlab import stats
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, rounded_count
from llmlab.gate.policy import Arms, Rules
from llmlab.results.results import Results
from llmlab.stats.paired import PairedDifference
from llmlab.stats.power import POWER, Need, Spread, needed_cases


class Reading(NamedTuple):
    """A corrected figure as a gate reads it: as seen, and with what is unscored at its best and at its worst.

    `differences` is empty where the labels give no interval; then `why` says so.
    """

    differences: tuple[PairedDifference, ...]
    correction: stats.Correction
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledMetric:
    """A judged metric of results that carry people's labels."""

    results: Results
    metric: str

    def difference(self, *, baseline: str, candidate: str, case_ids: Collection[str]) -> Reading:
        """candidate - baseline over these cases."""
        scores, (low, high) = self.results.labelled(self.metric), self._bounds
        correction = scores.difference(baseline=baseline, candidate=candidate, case_ids=case_ids)
        return self._reading(correction, (baseline, candidate), case_ids, worst=low - high, best=high - low)

    def mean(self, candidate: str) -> Reading:
        """The candidate's mean."""
        correction, (low, high) = self.results.labelled(self.metric).mean(candidate), self._bounds
        return self._reading(correction, (candidate,), self.results.cells.case_ids, worst=low, best=high)

    @property
    def _bounds(self) -> tuple[float, float]:
        bounds = self.results.metric(self.metric).bounds
        assert bounds is not None  # noqa: S101  # `label_reasons` lets nothing else be read
        return bounds

    def _reading(
        self, correction: stats.Correction, arms: Sequence[str], case_ids: Collection[str], *, worst: float, best: float
    ) -> Reading:
        columns = ("variant", "case_id", "repeat", self.metric, f"{self.metric}_label")
        chosen, unscored, labelled = frozenset(case_ids), dict[tuple[str, int], bool](), set[str]()
        for variant, case_id, repeat, score, label in self.results.answers(*columns):
            if variant in arms and case_id in chosen:
                unscored[case_id, repeat] = unscored.get((case_id, repeat), False) or math.isnan(score)
                labelled |= set() if math.isnan(label) else {case_id}
        corrected, se, df = correction.corrected, correction.se, correction.df
        if corrected.value is None or se is None or df is None:
            return Reading((), correction, "; ".join(corrected.notes))
        by_id = {} if self.results.golden is None else self.results.golden.by_id
        weights = [by_id[case_id].weight if case_id in by_id else 1.0 for case_id, _ in unscored]
        lost = float(np.average(list(unscored.values()), weights=weights))
        blank = PairedDifference(
            value=corrected.value,
            low=corrected.value,
            high=corrected.value,
            level=corrected.level,
            se=se,
            df=df if math.isfinite(df) else max(1.0, correction.n_labelled - 1.0),  # t, a little wider
            p_value=1.0,
            n=len({case_id for case_id, _ in unscored}),
            n_clusters=len(labelled),
            method=corrected.method,
            bounded=correction.bounded,
            notes=corrected.notes,
        )
        ends = [(0.0, 0.0)] if not lost else [(0.0, 0.0), (lost, best), (lost, worst)]
        return Reading(tuple(_with_test(_with_lost(blank, u, end)) for u, end in ends), correction, "")


class MoreLabels(NamedTuple):
    """What would settle an open corrected condition: labels more, and cases in all where labels alone would not do."""

    labels: int
    cases: int | None
    truth: str

    @property
    def sentence(self) -> str:
        """What to do."""
        how = "half of them on each arm's answers to the same cases"
        if self.cases is not None:
            how = f"with about {self.cases:,} cases in all: labels alone would not do"
        labels = rounded_count(self.labels)
        return f"About {labels} more labels would settle it with {POWER:.0%} power if {self.truth}, {how}."


def more_labels(correction: stats.Correction, *, need: Need, n_cases: int) -> MoreLabels | None:
    """Labels still wanted for what a condition needs to show, at the truth that it plans for.

    >>> from llmlab.stats.correction import ppi_mean
    >>> ppi = ppi_mean([1, 0] * 200, [1, 0, 1, 1, 0, 0, 1, 0, 1, 1] * 10 + [None] * 300)
    >>> more_labels(ppi, need=Need(name="goal", distance=0.1, spread=Spread(sd=1), tail=0.025), n_cases=400).labels
    146
    """
    n, df = correction.n_labelled, correction.df
    if not correction.se or df is None:
        return None
    df, se = df if math.isfinite(df) else n - 1.0, correction.se
    spread = Spread(sd=se * math.sqrt(n), cases=n, df=df, bounded=correction.bounded, se=se)
    try:
        growth = needed_cases([replace(need, spread=spread)]).likely / n  # cases and labels in today's proportion
    except DataError:  # what lost answers may be leaves nothing of the bound
        return None
    if growth <= 1:
        return None
    if (needed := correction.labels_for(correction.se / math.sqrt(growth))) is not None:
        return MoreLabels(2 * (needed - n), None, need.truth)
    return MoreLabels(2 * math.ceil(n * (growth - 1)), math.ceil(n_cases * growth), need.truth)


def label_reasons(policy: Rules, results: Results, arms: Arms, *, judged: Collection[str]) -> Iterator[str]:
    """Why the corrected estimates that the policy asks for cannot be had; nothing where they can."""
    for kind, part in policy.readings:
        if policy.is_corrected(part, judged) and part.metric in results.metrics:
            read = [arm for arm in (arms.other(kind), arms.candidate) if arm is not None]
            yield from _why_not(policy, results, part.metric, judged=judged, arms=read)


def _why_not(
    policy: Rules, results: Results, name: str, *, judged: Collection[str], arms: Sequence[str]
) -> Iterator[str]:
    if name not in judged:
        yield f"{name} is to be decided on its corrected estimate, but no judge gave it: there is nothing to correct"
        return
    meaning = results.metric(name)
    if not meaning.bounded or not meaning.higher_is_better:
        yield f"{name} is to be corrected, for which it needs two bounds, the better one on top"
    if name in policy.relative_metrics:
        yield f"a margin in percent of {name} cannot be read off a corrected difference; give a number"
    if policy.aggregation != "mean":
        yield f"{name} can be corrected for the mean of the repeats, not for {policy.aggregation}"
    if name not in results.labels_digests:
        where = "add them with `judge.with_labels`, or name their file in the policy (judge: {labels: ...})"
        yield f"{name} is to be decided on its corrected estimate, and the results carry no labels of it: {where}"
        return
    yield from _too_few(policy, results, name, arms)


def _too_few(policy: Rules, results: Results, name: str, arms: Sequence[str]) -> Iterator[str]:
    scores = results.labelled(name)
    cells = [scores.cells(arm) for arm in arms]
    both = len({case_id for case_id, _ in set.intersection(*cells)}) if cells else 0
    if both >= policy.judge.labels_at_least:
        return
    stale = results.provenance.labels[name].stale if name in results.provenance.labels else 0
    gone = f"; {counted(stale, 'label')} fit no answer here (changed, or of other cases)" if stale else ""
    counts = {arm: len({case_id for case_id, _ in cell}) for arm, cell in zip(arms, cells, strict=True)}
    wanted = f"the policy wants {policy.judge.labels_at_least}"
    if len(arms) > 1 and 0 in counts.values() and any(counts.values()):
        missing, there = sorted(arms, key=lambda arm: counts[arm])
        yield (
            f"{name}: only answers of {there} are labelled, none of {missing}; a corrected difference needs labels on "
            f"both arms' answers to the same cases ({wanted}{gone})"
        )
    elif len(arms) > 1:
        per_arm = ", ".join(f"{arm} {count:,}" for arm, count in counts.items())
        yield f"{name}: {counted(both, 'case')} labelled in both arms ({per_arm}), {wanted}{gone}"
    else:
        yield f"{name}: {counted(both, 'answer')} of {arms[0]} labelled, {wanted}{gone}"


def _with_lost(d: PairedDifference, lost: float, end: float) -> PairedDifference:
    """The difference where a share of the answers is lost, and all of these lie at one end."""
    kept = 1 - lost
    bounded = None if d.bounded is None else d.bounded.moved(times=kept, by=lost * end)
    return replace(d, value=kept * d.value + lost * end, se=kept * d.se, bounded=bounded)


def _with_test(d: PairedDifference) -> PairedDifference:
    """With the two-sided p value and interval that its tests give."""
    low, high = d.ends(d.level)
    return replace(d, low=low, high=high, p_value=min(1.0, 2 * min(d.p_above(0), d.p_below(0))))
