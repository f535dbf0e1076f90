"""The harm that may be tolerated in a comparison: the verdict of the non-inferior rule, and what would settle it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmlab.base.verdict import Verdict
from llmlab.stats.burdens import non_inferior, unanimous
from llmlab.stats.power import Need, Spread, needed_cases

if TYPE_CHECKING:
    from llmlab.results.comparison import PairedRow
    from llmlab.results.scores import ScoreTable

__all__ = ["SAVED_AT_LEAST", "UNSCORED_AT_MOST", "judged", "margins_of", "more_repeats"]

UNSCORED_AT_MOST = 0.05  # share of an arm's answers that may be taken at the worst seen, where nothing bounds them
MORE_REPEATS = 5  # of each case, that are offered instead of more cases
SAVED_AT_LEAST = 0.2  # share of the cases that repeats must save to be offered


def margins_of(tables: Sequence[ScoreTable], margin: float | Mapping[str, float] | None) -> Mapping[str, float]:
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


def more_repeats(asked: float) -> tuple[int, int]:
    """How many repeats of each case to offer, and how many there are now.

    >>> more_repeats(2.0), more_repeats(4.0)
    ((5, 2), (8, 4))
    """
    now = max(1, round(asked))
    return max(MORE_REPEATS, 2 * now), now


def judged(row: PairedRow, margin: float | None) -> PairedRow:
    """The row with its verdict on the margin; unscored answers are taken at their worst for each verdict."""
    if margin is None:
        return row
    d = row.difference
    if d is None or row.too_many_unscored:
        return replace(row, margin=margin, verdict=Verdict.INCONCLUSIVE)
    found = [d, row.lowest or d, row.highest or d]
    turned = found if row.metric.higher_is_better else [one.turned for one in found]
    words = [non_inferior(one, margin=margin, asked=row.level, confidence=row.level) for one in turned]
    if (verdict := unanimous(words)) != Verdict.INCONCLUSIVE:
        return replace(row, margin=margin, verdict=verdict)
    if words[0] != Verdict.INCONCLUSIVE:  # what is open is the unscored answers, not the cases
        return replace(row, margin=margin, verdict=verdict)
    spread = Spread.of(turned[0], noise=row.noise or 0.0)
    need = [Need(name=row.metric.name, distance=margin, spread=spread, tail=1 - row.level)]
    needed, instead = needed_cases(need).likely, None
    if row.repeats is not None and row.noise is not None:
        repeats, now = more_repeats(row.repeats)
        then = needed_cases(need, times_repeats=repeats / now).likely
        instead = (repeats, now, then) if then < (1 - SAVED_AT_LEAST) * needed else None
    open_ = replace(row, margin=margin, verdict=Verdict.INCONCLUSIVE, needed_cases=needed)
    return replace(open_, needed_with_repeats=instead)
