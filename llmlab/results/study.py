"""Questions that a single comparison leaves open, for notebook 02.

What ignoring pairs or clusters would have said, how many cases a difference needs, in which category harm can be ruled
out, and whether repeats would help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmlab.base.display import Shown, number
from llmlab.base.errors import DataError
from llmlab.results.scores import CaseDesign, ScoreTable
from llmlab.results.wording import counted, scale_of
from llmlab.stats.arrays import FloatArray, paired_differences
from llmlab.stats.paired import PairedDifference, mean_difference, non_inferiority
from llmlab.stats.power import miller_sample_size, smallest_detectable_difference
from llmlab.stats.standard_error import standard_error, t_quantile, t_tail
from llmlab.stats.variance import repeats_or_cases as buys_more
from llmlab.stats.variance import variance_parts

if TYPE_CHECKING:
    from llmlab.results.results import Results

__all__ = ["Study", "cases_needed", "harm_by_category", "repeats_or_cases", "three_readings"]


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
    paired = mean_difference(paired_differences(b, a, scale=table.metric.span), weights=design["weights"])
    se = math.hypot(*(standard_error(arm, weights=design["weights"]).se for arm in (a, b)))
    rows = [_reading("two samples", paired.value, se, 2.0 * a.size - 2), _of("pairs, cases independent", paired)]
    last = paired
    if table.clustered:
        last = mean_difference(paired_differences(b, a, scale=table.metric.span), **design)
        rows.append(_of("pairs in clusters (CR2)", last))
    changed = table.clustered and (paired.p_value < 0.05) != (last.p_value < 0.05)
    answer = "The clusters change the decision." if changed else "All that counts is the last line."
    return Study(
        rows=tuple(rows), answer=f"{answer} {counted(a.size, 'case')} in {counted(last.n_clusters, 'cluster')}."
    )


def cases_needed(table: ScoreTable, baseline: str, candidate: str, *, differences: Sequence[float]) -> Study:
    """How many cases like these show a true difference of each size with 80% power, clusters' cost included."""
    d = _difference(table, baseline, candidate)
    between = (d.se * math.sqrt(d.n)) ** 2
    if between == 0:
        return Study(rows=(), answer="Nothing varies between these cases, so that nothing can be planned from them.")
    scale, unit = scale_of(table.metric)
    rows = [
        {
            f"true difference{f' ({unit.strip()})' if unit else ''}": number(size * scale),
            "cases needed": (needed := miller_sample_size(size, between=between).cases),
            "you have": d.n,
            "missing": max(0, needed - d.n),
        }
        for size in differences
    ]
    seen = smallest_detectable_difference(d.n, between=between).value
    answer = (
        f"The {counted(d.n, 'case')} you have show a true difference of {number(float(f'{seen * scale:.2g}'))}{unit}"
    )
    return Study(rows=tuple(rows), answer=f"{answer} with 80% power; smaller ones are easily missed.")


def harm_by_category(table: ScoreTable, baseline: str, candidate: str, *, margin: float) -> Study:
    """Per category the difference, and whether harm of `margin` or more is ruled out, with and without clusters."""
    a, b = table.values[:, table.column(baseline)], table.values[:, table.column(candidate)]
    known = ~(np.isnan(a) | np.isnan(b))
    sign = 1.0 if table.metric.higher_is_better else -1.0
    rows, ruled_out = [], 0
    for tag, mask in table.categories().items():
        chosen = mask & known
        try:
            design = table.design(chosen)
            gains = sign * paired_differences(b[chosen], a[chosen], scale=table.metric.span)
            iid = mean_difference(gains, weights=design["weights"])
            d = mean_difference(gains, **design)
        except DataError:
            rows.append({"category": tag, "cases": int(chosen.sum()), "verdict": "too few cases or clusters"})
            continue
        shown = non_inferiority(d, margin=margin).shown and not d.too_few_clusters
        ruled_out += shown
        rows.append(
            {
                "category": tag,
                "cases": d.n,
                "clusters": d.n_clusters,
                "difference [90% CI]": d.interval(0.90),
                "p (cases independent)": _p(iid.p_above(-margin)),
                "p (clustered)": _p(d.p_above(-margin)),
                "verdict": "harm ruled out" if shown else "too few clusters" if d.too_few_clusters else "open",
            }
        )
    scale, unit = scale_of(table.metric)
    answer = f"Harm of {number(margin * scale)}{unit} is ruled out in {ruled_out} of {counted(len(rows), 'category')}."
    return Study(rows=tuple(rows), answer=answer.replace("categorys", "categories"))


def repeats_or_cases(results: Results | None, metric: str, *, baseline: str, candidate: str) -> Study:
    """Whether twice the repeats or twice the cases would show more."""
    if results is None:
        return Study(rows=(), answer="One score per case: without repeats nobody can tell whether they would help.")
    frame = results.frame[results.frame["variant"].isin([baseline, candidate])]
    wide = frame.pivot_table(index="case_id", columns=["variant", "repeat"], values=metric, dropna=False)
    parts = variance_parts(*(wide[variant].to_numpy(float) for variant in (baseline, candidate)))
    found = buys_more(parts)
    if found is None:
        return Study(rows=(), answer="One answer per case: run with repeats=2 or more to see whether they help.")
    return Study(rows=tuple(found._rows()), answer=found._sentence())


def _pairs(table: ScoreTable, baseline: str, candidate: str) -> tuple[FloatArray, FloatArray, CaseDesign]:
    a, b = table.values[:, table.column(baseline)], table.values[:, table.column(candidate)]
    known = ~(np.isnan(a) | np.isnan(b))
    return a[known], b[known], table.design(known)


def _difference(table: ScoreTable, baseline: str, candidate: str) -> PairedDifference:
    a, b, design = _pairs(table, baseline, candidate)
    return mean_difference(paired_differences(b, a, scale=table.metric.span), **design)


def _of(name: str, d: PairedDifference) -> dict[str, object]:
    return _reading(name, d.value, d.se, d.df)


def _reading(name: str, value: float, se: float, df: float) -> dict[str, object]:
    half = t_quantile(0.975, df) * se
    return {
        "read as": name,
        "difference": number(value),
        "standard error": number(se),
        "df": number(df),
        "p": _p(2 * t_tail(abs(value) / se, df) if se > 0 else 1.0),
        "95% CI": f"{number(value - half)} to {number(value + half)}",
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value)
