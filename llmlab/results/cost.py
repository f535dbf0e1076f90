"""What quality costs: dollars per successful answer, the change of the bill, seconds, and how steady answers are.

Cost counts every attempt that was billed, failed ones too. `Results` calls these; the gate's report uses the bill.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmlab.base.display import Interval, Shown, number
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Estimate
from llmlab.stats.quantiles import quantile, quantile_difference
from llmlab.stats.ratios import ratio_change, ratio_of_sums
from llmlab.stats.repeats import consistency as repeat_consistency

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.results.results import Results

__all__ = [
    "LATENCIES",
    "PerVariant",
    "consistency",
    "cost_line",
    "cost_per_success",
    "latency_line",
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


def cost_per_success(results: Results, metric: str) -> PerVariant:
    """Dollars per successful answer with a 95% interval: all that was billed over the answers that are good.

    An answer is good from the middle of the metric's range on; an unscored one is no success. A variant without any
    success, or with an unknown cost, has no value, and the note says why.
    """
    meaning = results.metric(metric)
    if meaning.low is None or meaning.high is None:
        raise ValueError(f"{metric} has no bounds, so no answer is a success by it; name another metric")
    middle = (meaning.low + meaning.high) / 2
    scores = results.frame[metric].to_numpy(float)
    good = np.where(np.isnan(scores), False, scores >= middle if meaning.higher_is_better else scores <= middle)
    found = {}
    for variant in results.variants:
        costs, successes, clusters = _per_case(results, variant, good.astype(float))
        if costs is None:
            note = "the cost of some answers is unknown"
            found[variant] = Estimate(value=None, n_attempted=successes.size, notes=(note,))
            continue
        try:
            found[variant] = ratio_of_sums(costs, successes, clusters=clusters)
        except DataError as error:  # one case or cluster
            ratio = float(costs.sum() / successes.sum()) if successes.any() else None
            found[variant] = Estimate(value=ratio, n=successes.size, n_attempted=successes.size, notes=(str(error),))
    reading = f"Cost of all answers over those that {metric} rates {middle:g} or better, failed attempts included."
    return PerVariant(name=f"USD per success ({metric})", estimates=found, reading=reading)


def consistency(results: Results, metric: str) -> PerVariant:
    """The chance that two answers of a variant to the same case score the same, with a 95% interval over cases."""
    results.metric(metric)
    table = results.table(metric)
    place = {case_id: i for i, case_id in enumerate(table.case_ids)}
    found = {}
    for variant in results.variants:
        rows = results.frame[(results.frame["variant"] == variant) & results.frame[metric].notna()]
        cases = rows["case_id"].map(place).to_numpy(dtype=np.int64)
        present, codes = np.unique(cases, return_inverse=True)
        design = table.design(np.isin(np.arange(len(table.case_ids)), present))
        try:
            found[variant] = repeat_consistency(rows[metric].to_numpy(float), codes, **design)
        except DataError as error:
            found[variant] = Estimate(value=None, n_attempted=present.size, notes=(str(error),))
    reading = "1 = every repeat of a case scores the same. Repeats show steadiness; they are never counted as cases."
    return PerVariant(name=f"consistency ({metric})", estimates=found, reading=reading)


def cost_line(results: Results, baseline: str, candidate: str, *, requests_per_day: int | None = None) -> str:
    """How the cost per answer changes, and what that makes in a month, in one sentence."""
    if requests_per_day is not None and requests_per_day < 1:
        raise ValueError(f"requests_per_day == {requests_per_day}, must be >= 1")
    ones = np.ones(len(results.frame))
    (cost_a, n_a, clusters), (cost_b, n_b, _) = (_per_case(results, v, ones) for v in (baseline, candidate))
    if cost_a is None or cost_b is None:
        return f"Cost: unknown for {baseline if cost_a is None else candidate}; give its price in endpoints.yaml."
    asked = results.table("cost_usd").attempted > 0
    try:
        if not (asked[:, results.variants.index(baseline)] == asked[:, results.variants.index(candidate)]).all():
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


def latency_quantiles(results: Results, metric: str, variant: str) -> tuple[float | None, ...] | None:
    """p50, p95 and p99 of a variant's seconds, lost answers beyond all that came; None = too few answers beyond it.

    None instead of the three where nothing was measured, as the first token of answers that did not stream.
    """
    seconds = _seconds(results, metric, variant).dropna()
    if not np.isfinite(seconds).any():
        return None
    weights = _row_weights(results, seconds.index.get_level_values("case_id"))
    found: list[float | None] = []
    for q in QUANTILES:
        try:
            found.append(quantile(seconds.to_numpy(), q=q, weights=weights))
        except DataError:
            found.append(None)
    return tuple(found)


def latency_line(results: Results, metric: str, baseline: str, candidate: str, *, level: float = 0.95) -> str:
    """How much later the candidate's p50, p95 and p99 come than the baseline's, in one sentence."""
    arms = [_seconds(results, metric, name) for name in (baseline, candidate)]
    pairs = arms[0].to_frame("a").join(arms[1].rename("b"), how="inner").dropna()
    what = f"{LATENCIES[metric].capitalize()} of {candidate} against {baseline}"
    if not len(pairs):
        return f"{what}: not measured in both."
    asked = [_cells(results, name)["cached"].astype(bool).reindex(pairs.index) for name in (baseline, candidate)]
    if (apart := int((asked[0] != asked[1]).sum())) > 0:
        return f"{what}: not told, {apart:,} of {len(pairs):,} pairs were asked at different times."
    case_ids = pairs.index.get_level_values("case_id")
    table = results.table(metric)
    place = {case_id: i for i, case_id in enumerate(table.case_ids)}
    clusters, weights = table.clusters[[place[case_id] for case_id in case_ids]], _row_weights(results, case_ids)
    told = []
    for q in QUANTILES:
        try:
            found = quantile_difference(
                pairs["a"], pairs["b"], q=q, seed=0, clusters=clusters, weights=weights, level=level
            )
            value, low, high = (round(end or 0.0, 6) for end in (found.value, found.low, found.high))  # microseconds
            told.append(f"p{100 * q:g} {Interval(value, low, high)} s")
        except DataError as error:
            told.append(f"p{100 * q:g} not told ({error})")
    return f"{what}, later by: {'; '.join(told)} ({level:.0%} CI, {len(pairs):,} pairs, bootstrap over clusters)."


def _cells(results: Results, variant: str) -> pd.DataFrame:
    return results.frame[results.frame["variant"] == variant].set_index(["case_id", "repeat"])


def _seconds(results: Results, metric: str, variant: str) -> pd.Series[float]:
    """Seconds per (case, repeat), infinite for a lost answer, NaN where they were not measured."""
    rows = _cells(results, variant)
    return rows[metric].astype(float).mask(rows["status"].isin(["error", "timeout"]), math.inf)


def _row_weights(results: Results, case_ids: Iterable[str]) -> list[float]:
    by_id = {} if results.golden is None else results.golden.by_id
    return [by_id[case_id].weight if case_id in by_id else 1.0 for case_id in case_ids]


def _per_case(
    results: Results, variant: str, counted: FloatArray
) -> tuple[FloatArray | None, FloatArray, NDArray[np.int64] | None]:
    """Cost (None = unknown) and count per case of a variant, times the case's weight, and the cases' clusters."""
    table = results.table("cost_usd")
    chosen = (results.frame["variant"] == variant).to_numpy()
    place = {case_id: i for i, case_id in enumerate(table.case_ids)}
    codes = results.frame["case_id"].map(place).to_numpy(dtype=np.int64)[chosen]
    costs = results.frame["cost_usd"].to_numpy(float)[chosen]
    asked = np.bincount(codes, minlength=len(table.case_ids)) > 0
    design = table.design(asked)
    weights = np.ones(1) if design["weights"] is None else design["weights"]

    def per_case(values: FloatArray) -> FloatArray:
        return np.bincount(codes, weights=values, minlength=asked.size)[asked] * weights

    known = None if np.isnan(costs).any() else per_case(costs)
    return known, per_case(counted[chosen]), design["clusters"]


def _two_digits(value: float) -> str:
    return number(float(f"{value:.2g}"))


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{_two_digits(abs(value))}"
