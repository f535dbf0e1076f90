"""What quality costs: dollars per successful answer, the change of the bill, seconds, and how steady answers are.

Cost counts every attempt that was billed, failed ones too. Used by `Results`. Every function takes the same: `cells`
and `table` say which row is of which case and variant and how cases were drawn, `costs` what each row cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.display import Interval, Shown, number
from llmlab.base.errors import DataError
from llmlab.results.scores import Cells, Metric, ScoreTable
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Estimate, quantile, quantile_difference, ratio_change, ratio_of_sums
from llmlab.stats.estimate import consistency as repeat_consistency

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "LATENCIES",
    "PerVariant",
    "consistency",
    "cost_line",
    "cost_per_success",
    "latencies",
    "latency_line",
    "latency_lines",
    "latency_quantiles",
]

DAYS_PER_MONTH = 30
LATENCIES = {"latency_s": "latency", "first_token_s": "first token"}
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PerVariant(Shown):
    """One estimate per variant: what it is of, and what it rests on."""

    name: str
    estimates: Mapping[str, Estimate]
    reading: str

    def estimate(self, variant: str) -> Estimate:
        """The estimate of a variant."""
        return self.estimates[variant]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                self.name: Interval(found.value, found.low, found.high),
                "cases": f"{found.n:,}/{found.n_attempted:,}",
                "note": "; ".join(found.notes),
            }
            for variant, found in self.estimates.items()
        ]

    def _sentence(self) -> str:
        return self.reading


def cost_per_success(
    metric: Metric, *, scores: FloatArray, costs: FloatArray, cells: Cells, table: ScoreTable
) -> PerVariant:
    """Dollars per successful answer with a 95% interval: all that was billed over the answers that are good.

    An answer is good from the middle of the metric's range on; an unscored one is no success. A variant without any
    success, or with an unknown cost, has no value, and the note says why.
    """
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds, so no answer is a success by it; name another metric")
    middle = (metric.low + metric.high) / 2
    good = np.where(np.isnan(scores), False, scores >= middle if metric.higher_is_better else scores <= middle)
    estimates = {}
    for variant in cells.variants:
        billed, successes, clusters = _per_case(variant, good, costs=costs, cells=cells, table=table)
        if billed is None:
            note = "the cost of some answers is unknown"
            estimates[variant] = Estimate(value=None, n_attempted=successes.size, notes=(note,))
            continue
        try:
            estimates[variant] = ratio_of_sums(billed, successes, clusters=clusters)
        except DataError as error:  # one case or cluster
            ratio = float(billed.sum() / successes.sum()) if successes.any() else None
            n, notes = successes.size, (str(error),)
            estimates[variant] = Estimate(value=ratio, n=n, n_attempted=n, notes=notes)
    reading = f"Cost of all answers over those that {metric.name} rates {middle:g} or better, failed attempts included."
    return PerVariant(name=f"USD per success ({metric.name})", estimates=estimates, reading=reading)


def consistency(*, scores: FloatArray, cells: Cells, table: ScoreTable) -> PerVariant:
    """The chance that two answers of a variant to the same case score the same, with a 95% interval over cases."""
    estimates = {}
    for column, variant in enumerate(cells.variants):
        rows = (cells.columns == column) & ~np.isnan(scores)
        present, codes = np.unique(cells.cases[rows], return_inverse=True)
        design = table.design(np.isin(np.arange(len(cells.case_ids)), present))
        try:
            estimates[variant] = repeat_consistency(scores[rows], codes, **design)
        except DataError as error:
            estimates[variant] = Estimate(value=None, n_attempted=present.size, notes=(str(error),))
    reading = "1 = every repeat of a case scores the same. Repeats show steadiness; they are never counted as cases."
    return PerVariant(name=f"consistency ({table.metric.name})", estimates=estimates, reading=reading)


def cost_line(
    baseline: str,
    candidate: str,
    *,
    requests_per_day: int | None = None,
    costs: FloatArray,
    cells: Cells,
    table: ScoreTable,
) -> str:
    """How the cost per answer changes, and what that makes in a month, in one sentence."""
    if requests_per_day is not None and requests_per_day < 1:
        raise ValueError(f"requests_per_day == {requests_per_day}, must be >= 1")
    ones = np.ones(costs.size)
    arms = [_per_case(name, ones, costs=costs, cells=cells, table=table) for name in (baseline, candidate)]
    (cost_a, n_a, clusters), (cost_b, n_b, _) = arms
    if cost_a is None or cost_b is None:
        return f"Cost: unknown for {baseline if cost_a is None else candidate}; give its price in endpoints.yaml."
    asked = table.attempted[:, [table.column(baseline), table.column(candidate)]] > 0
    try:
        if not (asked[:, 0] == asked[:, 1]).all():
            raise DataError("the arms were asked other cases")
        change = ratio_change((cost_a, n_a), (cost_b, n_b), clusters=clusters)
    except DataError:  # no pairs, one case or cluster, or an arm that cost nothing
        mean_a, mean_b = (float(cost.sum() / n.sum()) for cost, n in ((cost_a, n_a), (cost_b, n_b)))
        return f"Cost: an answer of {candidate} costs ${number(mean_b)}, one of {baseline} ${number(mean_a)}."
    ratio, low, high = (100 * ((end or 0.0) - 1) for end in (change.value, change.low, change.high))
    word = "more" if ratio >= 0 else "less"
    said = f"Cost: {candidate} costs {_two_digits(abs(ratio))}% {word} per answer than {baseline}"
    said += f" (95% CI {_signed(low)}% to {_signed(high)}%)"
    if requests_per_day is None:
        return f"{said}."
    extra = (float(cost_b.sum() / n_b.sum()) - float(cost_a.sum() / n_a.sum())) * requests_per_day * DAYS_PER_MONTH
    return f"{said}, about ${abs(extra):,.2f} {word} a month at {requests_per_day:,} requests a day."


def latencies(frame: pd.DataFrame, tables: Iterable[ScoreTable]) -> dict[tuple[str, str], tuple[float | None, ...]]:
    """(variant, latency_s or first_token_s) -> `latency_quantiles`, where something was measured."""
    cells = ((table, name) for table in tables for name in table.variants)
    known = {(name, table.metric.name): latency_quantiles(frame, table, name) for table, name in cells}
    return {cell: seconds for cell, seconds in known.items() if seconds is not None}


def latency_quantiles(frame: pd.DataFrame, table: ScoreTable, variant: str) -> tuple[float | None, ...] | None:
    """p50, p95 and p99 of a variant's seconds, lost answers beyond all that came; None = too few answers beyond it.

    None instead of the three where nothing was measured, as the first token of answers that did not stream.
    """
    seconds = _seconds(frame, table, variant).dropna()
    if not np.isfinite(seconds).any():
        return None
    weights = _of_rows(table, seconds)["weights"]
    quantiles: list[float | None] = []
    for q in QUANTILES:
        try:
            quantiles.append(quantile(seconds.to_numpy(), q=q, weights=weights))
        except DataError:
            quantiles.append(None)
    return tuple(quantiles)


def latency_lines(
    frame: pd.DataFrame, tables: Iterable[ScoreTable], baseline: str, candidates: Iterable[str], *, level: float = 0.95
) -> list[str]:
    """A `latency_line` for each of these tables that is of a latency, and each candidate."""
    timed = [table for table in tables if table.metric.name in LATENCIES]
    return [latency_line(frame, table, baseline, name, level=level) for table in timed for name in candidates]


def latency_line(frame: pd.DataFrame, table: ScoreTable, baseline: str, candidate: str, *, level: float = 0.95) -> str:
    """How much later the candidate's p50, p95 and p99 come than the baseline's, in one sentence."""
    arms = [_seconds(frame, table, name) for name in (baseline, candidate)]
    pairs = arms[0].to_frame("a").join(arms[1].rename("b"), how="inner").dropna()
    what = f"{LATENCIES[table.metric.name].capitalize()} of {candidate} against {baseline}"
    if not len(pairs):
        return f"{what}: not measured in both."
    cached = [_rows_of(frame, name)["cached"].astype(bool).reindex(pairs.index) for name in (baseline, candidate)]
    if (apart := int((cached[0] != cached[1]).sum())) > 0:
        return f"{what}: not told, {apart:,} of {len(pairs):,} pairs were asked at different times."
    told = []
    for q in QUANTILES:
        try:
            later = quantile_difference(pairs["a"], pairs["b"], q=q, seed=0, level=level, **_of_rows(table, pairs))
            value, low, high = (round(end or 0.0, 6) for end in (later.value, later.low, later.high))  # microseconds
            told.append(f"p{100 * q:g} {Interval(value, low, high)} s")
        except DataError as error:
            told.append(f"p{100 * q:g} not told ({error})")
    return f"{what}, later by: {'; '.join(told)} ({level:.0%} CI, {len(pairs):,} pairs, bootstrap over clusters)."


def _rows_of(frame: pd.DataFrame, variant: str) -> pd.DataFrame:
    return frame[frame["variant"] == variant].set_index(["case_id", "repeat"])


def _seconds(frame: pd.DataFrame, table: ScoreTable, variant: str) -> pd.Series[float]:
    """Seconds per (case, repeat), infinite for a lost answer, NaN where they were not measured."""
    rows = _rows_of(frame, variant)
    return rows[table.metric.name].astype(float).mask(rows["status"].isin(["error", "timeout"]), math.inf)


def _of_rows(table: ScoreTable, rows: pd.Series[float] | pd.DataFrame) -> dict[str, Any]:
    """Cluster and weight of the case of each (case, repeat)."""
    place = {case_id: i for i, case_id in enumerate(table.case_ids)}
    chosen = [place[case_id] for case_id in rows.index.get_level_values("case_id")]
    weights = np.ones(len(table.case_ids)) if table.weights is None else table.weights
    return {"clusters": table.clusters[chosen], "weights": weights[chosen]}


def _per_case(
    variant: str, counted: NDArray[Any], *, costs: FloatArray, cells: Cells, table: ScoreTable
) -> tuple[FloatArray | None, FloatArray, NDArray[np.int64] | None]:
    """Cost (None = unknown) and count per case of a variant, times the case's weight, and the cases' clusters."""
    column = table.column(variant)
    asked = table.attempted[:, column] > 0
    design = table.design(asked)
    weights = np.ones(1) if design["weights"] is None else design["weights"]
    known = not np.isnan(costs[cells.columns == column]).any()
    billed = cells.sums(costs)[asked, column] * weights if known else None
    return billed, cells.sums(counted)[asked, column] * weights, design["clusters"]


def _two_digits(value: float) -> str:
    return number(float(f"{value:.2g}"))


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{_two_digits(abs(value))}"
