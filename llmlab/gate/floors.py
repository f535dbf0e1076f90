"""Floors: what a candidate must reach by itself, whatever the baseline does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from llmlab.errors import DataError
from llmlab.gate import rules
from llmlab.gate.condition import Condition
from llmlab.gate.policy import Floor
from llmlab.scoretable import ScoreTable
from llmlab.sentences import scale_of
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import wilson_bounds
from llmlab.stats.paired import PairedDifference, mean_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.gate.looks import Price

__all__ = ["judge_floor", "unscored_note"]


def judge_floor(floor: Floor, table: ScoreTable, *, candidate: str, price: Price) -> Condition:
    """The candidate's mean against a bound: the two-sided interval must clear it (a rate: Wilson's)."""
    lower, arm = floor.at_least is not None, table.column(candidate)
    bound = float(floor.at_least if floor.at_least is not None else floor.at_most or 0.0)
    attempted = int(np.maximum(table.attempted[:, arm], 1).sum())
    unscored = attempted - int(table.scored[:, arm].sum())
    scale, unit = scale_of(table.metric)
    about = {
        **{"kind": "floor", "metric": table.metric.name, "rule": "floor", "bound": bound, "level": price.asked},
        **{"scale": scale, "unit": unit, "higher_is_better": lower, "unscored": unscored, "attempted": attempted},
    }
    read = [_read(table, values, codes, bound, lower, price) for values, codes in _values(table, arm, lower, unscored)]
    if any(one is None for one in read):
        return Condition(verdict="INCONCLUSIVE", notes=("fewer than two cases or clusters are scored",), **about)  # type: ignore[arg-type]  # plain facts
    words, (mean, low, high, d) = [one[0] for one in read if one], read[-1][1]  # type: ignore[index]  # none is None
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
        notes=(*d.notes, *unscored_note(unscored, attempted, bounded=table.metric.bounded)),
        **about,  # type: ignore[arg-type]  # plain facts
    )


def unscored_note(unscored: int, attempted: int, *, bounded: bool) -> tuple[str, ...]:
    """What became of answers without a score."""
    if not unscored:
        return ()
    how = "taken at their worst for the candidate" if bounded else "left out, for the metric has no bounds"
    return (f"{unscored:,} of {attempted:,} answers are unscored and {how}",)


def _values(table: ScoreTable, arm: int, lower: bool, unscored: int) -> Iterator[tuple[FloatArray, NDArray[np.int64]]]:
    """As seen, and where something is unscored with it at its best and at its worst."""
    known = ~np.isnan(table.values[:, arm])
    yield table.values[known, arm], table.clusters[known]
    filled = [table.highest, table.lowest] if lower else [table.lowest, table.highest]
    for matrix in filled if unscored and None not in (table.metric.low, table.metric.high) else ():
        if matrix is not None:
            yield matrix[:, arm], table.clusters


def _read(
    table: ScoreTable, values: FloatArray, clusters: NDArray[np.int64], bound: float, lower: bool, price: Price
) -> tuple[str, tuple[float, float, float, PairedDifference]] | None:
    try:
        d = mean_difference(
            values - bound if lower else bound - values, clusters if table.clustered else None, level=price.asked
        )
    except DataError:
        return None
    mean, metric = float(values.mean()), table.metric
    if not table.clustered and np.isin(values, (0.0, 1.0)).all():
        low, high = wilson_bounds(int(values.sum()), values.size, level=price.asked)
        wide = wilson_bounds(int(values.sum()), values.size, level=price.confidence)
        clears, misses = (low >= bound, wide[1] < bound) if lower else (high <= bound, wide[0] > bound)
        return "PASS" if clears else "FAIL" if misses else "INCONCLUSIVE", (mean, low, high, d)
    span = None if metric.low is None or metric.high is None else metric.high - metric.low
    word = rules.reaches(d, asked=price.asked, confidence=price.confidence, span=span)
    ends = (d.low + bound, d.high + bound) if lower else (bound - d.high, bound - d.low)
    return word, (mean, *ends, d)
