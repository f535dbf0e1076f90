"""How rows of a comparison are made of score tables: paired cells, Holm over the family, margins, tipping points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmlab.base.errors import DataError
from llmlab.base.verdict import Verdict
from llmlab.results.comparison import PairedRow, missing_notes
from llmlab.results.scores import ScoreTable
from llmlab.results.tipping import Tipping, tipping_of
from llmlab.stats.arrays import FloatArray, paired_differences
from llmlab.stats.burdens import holm, non_inferior, unanimous
from llmlab.stats.paired import PairedDifference, mean_difference
from llmlab.stats.power import SAVED_AT_LEAST, Need, Spread, more_repeats, needed_cases, would_show


def compare_tables(
    tables: Sequence[ScoreTable],
    baseline: str,
    *,
    candidates: Sequence[str] | None = None,
    by_tag: bool = False,
    margin: float | Mapping[str, float] | None = None,
    level: float = 0.95,
) -> tuple[PairedRow, ...]:
    """A row per table (metric) and candidate; with `by_tag` one per tag too, adjusted as a family of their own.

    `margin` is the harm that may be tolerated, in the metric's own unit: one number for the bounded metrics, or a
    number per metric name.
    """
    margins = _margins_of(tables, margin)
    whole, parts = list[tuple[_Pairs, PairedRow]](), list[tuple[_Pairs, PairedRow]]()
    for table in tables:
        base, tolerated = table.column(baseline), margins.get(table.metric.name)
        everything = np.ones(len(table.case_ids), dtype=bool)
        categories = table.categories() if by_tag else {}
        for arm in map(table.column, _candidates(table, baseline, candidates)):
            for tag, chosen in [(None, everything), *categories.items()]:
                pairs = _Pairs(table, base, arm, chosen)
                row = _judged(_row(pairs, category=tag, level=level), tolerated)
                (whole if tag is None else parts).append((pairs, row))
    return (*_as_family(whole), *_as_family(parts))


def _candidates(table: ScoreTable, baseline: str, candidates: Sequence[str] | None) -> Sequence[str]:
    if candidates is None:
        return [name for name in table.variants if name != baseline]
    if baseline in candidates:
        others = ", ".join(name for name in table.variants if name != baseline) or "none: add a bundle, or a column"
        raise ValueError(f"{baseline!r} is the baseline itself; name another candidate (there are: {others})")
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"a candidate is named twice: {', '.join(candidates)}")
    return candidates


class _Pairs(NamedTuple):
    """The cells that one row compares."""

    table: ScoreTable
    base: int
    arm: int
    chosen: NDArray[np.bool_]

    def tipping(self, row: PairedRow) -> Tipping | None:
        """What would undo what the row claims; None where it claims nothing, or it holds whatever was lost."""
        d, up = row.difference, 1.0 if row.metric.higher_is_better else -1.0
        if d is None or not (row.assumed or row.undone):
            return None
        if row.verdict in ("PASS", "FAIL"):
            sign, above = (up, -(row.margin or 0.0)) if row.verdict == "PASS" else (-up, row.margin or 0.0)
            return tipping_of(*self, sign=sign, above=above, alpha=1 - row.level)
        if row.verdict is not None or not row.significant:
            return None
        left_by_holm = d.p_value / row.p_adjusted if row.p_adjusted else 1.0
        sign = 1.0 if d.value > 0 else -1.0
        return tipping_of(*self, sign=sign, above=0.0, alpha=(1 - row.level) / 2 * left_by_holm)


def _row(pairs: _Pairs, *, category: str | None, level: float) -> PairedRow:
    table, base, arm, chosen = pairs
    columns = [base, arm]
    a, b = table.values[chosen][:, columns].T
    tried = table.attempted[chosen][:, columns].clip(min=1).sum(axis=0)
    scored = table.scored[chosen][:, columns].sum(axis=0)
    paired = ~(np.isnan(a) | np.isnan(b))
    both = chosen.copy()
    both[chosen] = paired
    difference = _difference(table, b[paired], a[paired], both, level)
    lowest = highest = None
    if (ends := table.pessimistic(columns, chosen)) is not None:
        low, high = ends
        lowest = _difference(table, low[:, 1], high[:, 0], chosen, level)
        highest = _difference(table, high[:, 1], low[:, 0], chosen, level)
    row = PairedRow(
        metric=table.metric,
        baseline=table.variants[base],
        candidate=table.variants[arm],
        category=category,
        difference=difference,
        lowest=lowest,
        highest=highest,
        assumed=table.assumed(columns, chosen),
        p_adjusted=None if difference is None else difference.p_value,
        n_pairs=int(paired.sum()),
        n_attempted=int(chosen.sum()),
        n_clusters=min(1, int(paired.sum())) if difference is None else difference.n_clusters,
        scored=(int(scored[0]), int(scored[1])),
        attempted=(int(tried[0]), int(tried[1])),
        level=level,
    )
    if difference and difference.se and (known := table.repeat_noise(both, columns)):
        noise, repeats = known
        row = replace(row, repeats=repeats, noise=min(1.0, noise / (difference.n * difference.se**2)))
    same_lost = bool((np.isnan(a) == np.isnan(b)).all())
    return replace(row, notes=missing_notes(row, same_cases_lost=same_lost))


def _difference(
    table: ScoreTable, candidate: FloatArray, baseline: FloatArray, chosen: NDArray[np.bool_], level: float
) -> PairedDifference | None:
    """Of the scores that two arms have for the chosen cases; None below two cases or clusters."""
    design = table.design(chosen)
    clusters = design["clusters"]
    if candidate.size < 2 or (clusters is not None and clusters.min() == clusters.max()):
        return None
    values = paired_differences(candidate, baseline, scale=table.metric.span)
    return mean_difference(values, **design, bounds=table.metric.change_bounds, level=level)


def _as_family(family: Sequence[tuple[_Pairs, PairedRow]]) -> list[PairedRow]:
    """Holm's p of each row, again at worst, and what it would show if it alone differed: then held to alpha / rows."""
    tested = [row for _, row in family if row.p_adjusted is not None]
    adjusted = iter(holm([row.p_adjusted or 0.0 for row in tested]))
    at_worst, rows = iter(holm([_p_at_worst(row) for row in tested])), []
    for pairs, row in family:
        d, shown = row.difference, None
        if d is not None and d.se > 0 and not d.too_few_clusters:
            shown = would_show(d, tail=(1 - row.level) / 2 / len(tested))
        if row.p_adjusted is not None:
            row = replace(row, p_adjusted=next(adjusted), p_at_worst=next(at_worst))
        rows.append(replace(row, detectable=shown, tipping=pairs.tipping(row)))
    return rows


def _p_at_worst(row: PairedRow) -> float:
    """The p value that is left of a difference with the unscored answers at their worst for it; 1 where it turns."""
    d, worst, p = row.difference, row.at_worst, row.p_adjusted or 0.0
    if not row.unscored or d is None:
        return p
    return 1.0 if worst is None or worst.value * d.value <= 0 or worst.too_few_clusters else max(p, worst.p_value)


def _margins_of(tables: Sequence[ScoreTable], margin: float | Mapping[str, float] | None) -> Mapping[str, float]:
    """The margin per metric name: one number is for every bounded metric.

    Raises:
        ValueError: a margin that is not above 0, for no metric here, or one number where no metric has bounds.
    """
    names = {table.metric.name for table in tables}
    if margin is None:
        return {}
    if not isinstance(margin, Mapping):
        margin = {table.metric.name: margin for table in tables if table.metric.bounded}
        if not margin:
            raise ValueError("no metric here has bounds: give the margin per metric, {name: margin}")
    for name, tolerated in margin.items():
        if name not in names:
            raise ValueError(f"a margin for {name!r}, which is not compared (there are: {', '.join(sorted(names))})")
        if not 0 < tolerated < math.inf:
            raise ValueError(f"margin == {tolerated}, must be > 0")
    return margin


def _judged(row: PairedRow, margin: float | None) -> PairedRow:
    """The row with its verdict on the margin; unscored answers are taken at their worst for each verdict."""
    if margin is None:
        return row
    d = row.difference
    if d is None or row.too_many_unscored:
        return replace(row, margin=margin, verdict=Verdict.INCONCLUSIVE)
    ends = [d, row.lowest or d, row.highest or d]
    turned = ends if row.metric.higher_is_better else [end.turned for end in ends]
    words = [non_inferior(end, margin=margin, asked=row.level, confidence=row.level) for end in turned]
    verdict = unanimous(words)
    if verdict != Verdict.INCONCLUSIVE or words[0] != verdict:  # or open for the unscored answers, not for the cases
        return replace(row, margin=margin, verdict=verdict)
    worst = min(turned, key=lambda end: end.value)  # more cases lose as many answers, and these count against it too
    distance, spread = margin + worst.value - turned[0].value, Spread.of(worst, noise=row.noise or 0.0)
    need = [Need(name=row.metric.name, distance=distance, spread=spread, tail=1 - row.level)]
    try:
        needed, instead = needed_cases(need).likely, None
    except DataError:  # next to nothing is left of the margin: more cases than anybody has
        return replace(row, margin=margin, verdict=verdict)
    if row.repeats is not None and row.noise is not None:
        repeats, now = more_repeats(row.repeats)
        then = needed_cases(need, times_repeats=repeats / now).likely
        instead = (repeats, now, then) if then < (1 - SAVED_AT_LEAST) * needed else None
    return replace(row, margin=margin, verdict=verdict, needed_cases=needed, needed_with_repeats=instead)
