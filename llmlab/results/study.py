"""Questions that a single comparison leaves open, for notebook 02.

What ignoring pairs or clusters would have said, how many cases a difference needs, in which category harm can be ruled
out, and whether repeats would help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmlab.base.display import Shown, number
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, with_unit
from llmlab.results.comparing import compare_tables
from llmlab.results.results import Results
from llmlab.results.scores import CaseDesign, ScoreTable, scale_of
from llmlab.stats.arrays import FloatArray, paired_differences
from llmlab.stats.paired import PairedDifference, mean_difference, t_difference
from llmlab.stats.power import POWER, Need, Spread, detectable, needed_cases, would_show
from llmlab.stats.standard_error import StandardError, standard_error

__all__ = ["Study", "cases_needed", "harm_by_category", "repeats_or_cases", "three_readings"]

TAIL = 0.025  # of the two-sided 95% interval of one comparison
WORTH_IT = 0.8  # of what cases buy, that repeats must buy to be advised


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Study(Shown):
    """A table that answers one question, and the answer in a sentence."""

    rows: tuple[Mapping[str, object], ...]
    answer: str

    def _rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.rows]

    def _sentence(self) -> str:
        return self.answer


def three_readings(table: ScoreTable, baseline: str, candidate: str) -> Study:
    """The same difference read three ways: as two samples, as pairs, and as pairs in clusters."""
    a, b, design = _pairs(table, baseline, candidate)
    d, bounds = paired_differences(b, a, scale=table.metric.span), table.metric.change_bounds
    paired = mean_difference(d, weights=design["weights"], bounds=bounds)
    se = math.hypot(*(standard_error(arm, weights=design["weights"]).se for arm in (a, b)))
    unpaired = StandardError(se=se, df=2.0 * a.size - 2, n=a.size, n_clusters=a.size, estimator="CR2")
    alone = t_difference(paired.value, unpaired, level=0.95, method="two samples, t test")
    rows = [_reading("two samples", alone), _reading("pairs, cases independent", paired)]
    last = paired
    if table.clustered:
        last = mean_difference(d, **design, bounds=bounds)
        rows.append(_reading("pairs in clusters (CR2)", last))
    changed = table.clustered and (paired.p_value < 0.05) != (last.p_value < 0.05)
    answer = "The clusters change the decision." if changed else "All that counts is the last line."
    return Study(
        rows=tuple(rows), answer=f"{answer} {counted(a.size, 'case')} in {counted(last.n_clusters, 'cluster')}."
    )


def cases_needed(table: ScoreTable, baseline: str, candidate: str, *, differences: Sequence[float]) -> Study:
    """How many cases like these show a true difference of each size with 80% power, clusters and weights included."""
    d = _difference(table, baseline, candidate)
    if d.se == 0:
        return Study(rows=(), answer="Nothing varies between these cases, so that nothing can be planned from them.")
    scale, unit = scale_of(table.metric)
    rows = [
        {
            f"true difference{f' ({unit.strip()})' if unit else ''}": number(size * scale),
            "cases needed": (needed := _needed(d, size)),
            "you have": d.n,
            "missing": max(0, needed - d.n),
        }
        for size in differences
    ]
    have = f"the {counted(d.n, 'case')} you have"
    if (seen := would_show(d, tail=TAIL)) is None:
        return Study(rows=tuple(rows), answer=f"{have[0].upper()}{have[1:]} are too few for any difference to show.")
    shown = f"{number(float(f'{seen * scale:.2g}'))}{unit}"
    answer = f"If the true difference is {shown}, {have} show it with {POWER:.0%} power"
    return Study(rows=tuple(rows), answer=f"{answer}; smaller ones are easily missed.")


def _needed(d: PairedDifference, difference: float) -> int:
    need = Need(name="", distance=difference, spread=Spread.of(d, shift=difference), tail=TAIL)
    return needed_cases([need]).likely


def harm_by_category(table: ScoreTable, baseline: str, candidate: str, *, margin: float) -> Study:
    """Per category the difference, and whether harm of `margin` or more is ruled out, with and without clusters."""
    a, b = table.values[:, table.column(baseline)], table.values[:, table.column(candidate)]
    known = ~(np.isnan(a) | np.isnan(b))
    sign = 1.0 if table.metric.higher_is_better else -1.0
    rows, ruled_out = [], 0
    margins = {table.metric.name: margin}
    compared = compare_tables([table], baseline, candidates=[candidate], by_tag=True, margin=margins)
    by_tag = {row.category: row for row in compared}
    for tag, mask in table.categories().items():
        chosen = mask & known
        try:
            design = table.design(chosen)
            gains = sign * paired_differences(b[chosen], a[chosen], scale=table.metric.span)
            iid = mean_difference(gains, weights=design["weights"], bounds=table.metric.change_bounds)
            d = mean_difference(gains, **design, bounds=table.metric.change_bounds)
        except DataError:
            rows.append({"category": tag, "cases": int(chosen.sum()), "verdict": "too few cases or clusters"})
            continue
        shown, lost = by_tag[tag].verdict == "PASS", by_tag[tag].unscored
        open_ = f"open; {counted(lost, 'unscored answer')} at their worst" if lost else "open"
        ruled_out += shown
        rows.append(
            {
                "category": tag,
                "cases": d.n,
                "clusters": d.n_clusters,
                "difference [90% CI]": d.interval(0.90),
                "p (cases independent)": _p(iid.p_above(-margin)),
                "p (clustered)": _p(d.p_above(-margin)),
                "verdict": "harm ruled out" if shown else "too few clusters" if d.too_few_clusters else open_,
            }
        )
    scale, unit = scale_of(table.metric)
    harm = with_unit(number(margin * scale), unit)
    answer = f"Harm of {harm} is ruled out in {ruled_out} of {counted(len(rows), 'category')}."
    return Study(rows=tuple(rows), answer=answer)


def repeats_or_cases(results: Results | None, metric: str, *, baseline: str, candidate: str) -> Study:
    """Whether twice the repeats or twice the cases would show more, with the clusters and weights that the cases have.

    Per answer a new case is never worse than a repeat; repeats are advised where they buy at least 80% of what cases
    do, since they need no new labels.
    """
    if results is None:
        return Study(rows=(), answer="One score per case: without repeats nobody can tell whether they would help.")
    table = results.table(metric)
    columns = [table.column(name) for name in (baseline, candidate)]
    first, second = table.values[:, columns].T
    noise = table.repeat_noise(~(np.isnan(first) | np.isnan(second)), columns)
    if noise is None:
        return Study(rows=(), answer="One answer per case: run with repeats=2 or more to see whether they help.")
    d = _difference(table, baseline, candidate)
    if d.se == 0:
        return Study(rows=(), answer="Every difference is the same: neither repeats nor cases would show more.")
    spread = Spread.of(d, noise=min(1.0, noise[0] / (d.n * d.se**2)))
    plans = {
        "now": (d.n, spread),
        "twice the cases": (2 * d.n, spread),
        "twice the repeats": (d.n, spread.with_repeats(2)),
        "endless repeats": (d.n, spread.with_repeats(math.inf)),
    }
    seen = {name: detectable(part, tail=TAIL, cases=n) for name, (n, part) in plans.items()}
    now, cases, repeats, least = seen.values()
    scale, unit = scale_of(table.metric)
    shown, limit = (with_unit(number(size * scale, 2), unit) for size in (now, least))
    answer = (
        f"{counted(d.n, 'case')} show a true difference of {shown} with {POWER:.0%} power. "
        f"Twice the cases brings that down by {1 - cases / now:.0%}, twice the repeats by {1 - repeats / now:.0%}: "
    )
    worth_it = now - repeats >= WORTH_IT * (now - cases)
    answer += "repeats buy almost as much, and need no new labels." if worth_it else "new cases buy more."
    return Study(
        rows=tuple(
            {"plan": name, "cases": n, f"shows{unit and f' ({unit.strip()})'}": number(seen[name] * scale, 2)}
            for name, (n, _) in plans.items()
        ),
        answer=answer + (f" No number of repeats gets below {limit}." if least else ""),
    )


def _pairs(table: ScoreTable, baseline: str, candidate: str) -> tuple[FloatArray, FloatArray, CaseDesign]:
    a, b = table.values[:, table.column(baseline)], table.values[:, table.column(candidate)]
    known = ~(np.isnan(a) | np.isnan(b))
    return a[known], b[known], table.design(known)


def _difference(table: ScoreTable, baseline: str, candidate: str) -> PairedDifference:
    a, b, design = _pairs(table, baseline, candidate)
    gains = paired_differences(b, a, scale=table.metric.span)
    return mean_difference(gains, **design, bounds=table.metric.change_bounds)


def _reading(name: str, d: PairedDifference) -> dict[str, object]:
    return {
        "read as": name,
        "difference": number(d.value),
        "standard error": number(d.se),
        "df": number(d.df),
        "p": _p(d.p_value),
        "95% CI": f"{number(d.low)} to {number(d.high)}",
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value)
