"""What each variant scored, took and cost: means with their intervals, quantiles, dollars per success, the bill.

Cost counts every attempt that was billed, failed ones too. Used by `Results`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmlab.base.cells import Chip
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted, number
from llmlab.base.private import excerpt
from llmlab.base.project import utc
from llmlab.display.shown import Shown
from llmlab.results.answers import explanations_of, raised_line
from llmlab.results.scores import CaseDesign, Cells, Metric, ScoreTable, two_digits
from llmlab.stats.agreement import consistency as repeat_consistency
from llmlab.stats.arrays import FloatArray
from llmlab.stats.bounded import carriers, share_estimate
from llmlab.stats.effects import quantile, quantile_difference, ratio_change, ratio_of_sums
from llmlab.stats.estimate import Estimate, mean_estimate

if TYPE_CHECKING:
    import pandas as pd

_CORRECTED = "Corrected is what people would say, by the judge and some labels of theirs (PPI++)."
_WORST_SHOWN = 6
_FEW_SUCCEED_OR_FAIL = 10  # cases or clusters: with fewer their share is not known by its spread
FEWEST_FAILING = 3  # answers, before a scorer is said to fail everywhere
_DAYS_PER_MONTH = 30
LATENCIES = {"latency_s": "latency", "first_token_s": "first token"}
_QUANTILES = (0.5, 0.95, 0.99)
_RESOURCES = {
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
    "cost_usd": "cost per answer (USD)",
    "latency_s": "latency (s)",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary(Shown):
    """One line per variant.

    Attributes:
        variants, metrics: rows and columns; the metrics are the scorers', then tokens, cost and latency.
        estimates: (variant, metric) -> mean over cases with its clustered interval.
        rows: (variant, metric) -> answers scored and attempted.
        errors: variant -> rows without an answer.
        state: complete, partial or FAILED; a FAILED run shows no means.
        sources: what the numbers come from: golden digest, bundle digests, age.
        latencies: (variant, latency_s or first_token_s) -> p50, p95, p99; None where too few answers lie beyond it.
        corrected: (variant, metric) -> a judge's mean corrected by people's labels, where the results carry labels.
        tags: tag -> the same of its cases alone, where it was asked for.
        at_worst: (variant, metric) -> the mean with every unscored answer at its worst, where some are unscored.
    """

    variants: tuple[str, ...]
    metrics: tuple[str, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    rows: Mapping[tuple[str, str], tuple[int, int]]
    errors: Mapping[str, int]
    state: str
    sources: str
    notes: tuple[str, ...] = ()
    latencies: Mapping[tuple[str, str], tuple[float | None, ...]] = field(default_factory=dict)
    corrected: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    at_worst: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    tags: Mapping[str, Summary] = field(default_factory=dict)

    def estimate(self, variant: str, metric: str) -> Estimate:
        """The mean of a metric for a variant."""
        return self.estimates[variant, metric]

    def _rows(self) -> list[dict[str, object]]:
        rows = [self._row(variant) for variant in self.variants]
        parts = [{"tag": tag, **row} for tag, part in self.tags.items() for row in part._rows()]
        return [*({"tag": "all cases", **row} for row in rows), *parts] if self.tags else rows

    def lines(self) -> tuple[str, ...]:
        """What must be known to read the table, a sentence a line."""
        state = {
            "FAILED": "The run FAILED: too many rows have no answer, so no mean is shown.",
            "partial": "Partial results: run the same cell again to resume.",
        }
        unknown, failed = [_RESOURCES[name] for name in self.metrics if self._unknown(name)], self.state == "FAILED"
        classes = ["`ll.results.classes(results)` has each class, and what was taken for what."]
        few = "A quantile needs ten answers beyond it: p95 takes 200 answers, p99 1,000."
        reading = "Means over cases with 95% intervals; scored counts answers with a score of those attempted."
        return (
            *([state[self.state]] if self.state in state else []),
            *self.notes,
            *([_CORRECTED] if self.corrected else []),
            reading + (f" Unknown for every variant: {', '.join(unknown)}." if unknown else ""),
            *self._fewer_line(),
            *([self._worst_line()] if self.at_worst and not failed else []),
            *([few] if any(None in seconds for seconds in self.latencies.values()) else []),
            *([] if failed else self._weak_lines()),
            *(classes if "label" in self.metrics else []),
            self.sources,
        )

    def _fewer_line(self) -> list[str]:
        """Of which tokens, costs and times fewer answers tell than have a score, which is what the column counts."""
        fewer = []
        for (variant, name), (known, attempted) in self.rows.items():
            scored = [n for (of, metric), (n, _) in self.rows.items() if of == variant and metric not in _RESOURCES]
            if name in _RESOURCES and 0 < known < max(scored, default=attempted):
                fewer.append(f"{_RESOURCES[name]} of {variant} {known:,}/{attempted:,}")
        return [f"Known of fewer answers: {', '.join(fewer)}."] if fewer else []

    def _weak_lines(self) -> list[str]:
        """What weakens an interval, said once with every place that it is true of."""
        places: dict[str, list[str]] = {}
        for (variant, metric), estimate in self.estimates.items():
            for note in estimate.notes if estimate.low is None or estimate.low != estimate.high else ():
                places.setdefault(note, []).append(f"{_RESOURCES.get(metric, metric)} of {variant}")
        shown = [", ".join(where[:_WORST_SHOWN]) + " ..." * (len(where) > _WORST_SHOWN) for where in places.values()]
        return [f"{where}: {note}." for where, note in zip(shown, places, strict=True)]

    def _worst_line(self) -> str:
        means = [f"{_RESOURCES.get(m, m)} of {variant} {mean}" for (variant, m), mean in self.at_worst.items()]
        more = f"; {len(means) - _WORST_SHOWN} more in `at_worst`" if len(means) > _WORST_SHOWN else ""
        shown = "; ".join(means[:_WORST_SHOWN])
        return f"The means leave unscored answers out; with those at their worst: {shown}{more}."

    def _row(self, variant: str) -> dict[str, object]:
        row: dict[str, object] = {"variant": variant}
        if self.state != "complete":
            row["state"] = Chip(self.state, "bad" if self.state == "FAILED" else "unsure")
        scored = {metric: self.rows[variant, metric] for metric in self.metrics if metric not in _RESOURCES}
        failed = self.state == "FAILED"
        for metric in self.metrics:
            if self._unknown(metric):
                continue
            row[_RESOURCES.get(metric, metric)] = None if failed else self.estimates[variant, metric].interval()
            if (corrected := self.corrected.get((variant, metric))) is not None and not failed:
                row[f"{metric}, corrected"] = corrected.interval()
        for metric in dict.fromkeys(metric for _, metric in self.latencies if not failed):
            seconds = self.latencies.get((variant, metric), (None,) * 3)
            # blanks that do not break: a cell of three lines would stretch its row
            row[f"{LATENCIES[metric]} p50 / p95 / p99 (s)"] = "\u00a0/\u00a0".join(number(s, 2) for s in seconds)
        if all(len({self.rows[name, metric] for metric in scored}) == 1 for name in self.variants):
            scored = {"": next(iter(scored.values()))}  # one column says it for all scorers
        for metric, (known, attempted) in scored.items():
            row[f"scored ({metric})" if metric else "scored"] = f"{known:,}/{attempted:,}"
        return row | ({"errors": self.errors[variant]} if any(self.errors.values()) else {})

    def _unknown(self, metric: str) -> bool:
        """Whether a column of tokens, cost or time is empty; a scorer's stays, with dashes."""
        return metric in _RESOURCES and all(self.estimates[name, metric].value is None for name in self.variants)

    def _sentence(self) -> str:
        return "\n".join(self.lines())


def summarise(results: Any) -> Summary:  # of `Results`, which imports this file
    """The summary of results, by the same reduction of repeats that comparisons use."""
    tables, frame = {name: results.table(name) for name in (*results.metrics, *_RESOURCES)}, results.frame
    estimates, rows, at_worst = {}, {}, {}
    for metric, table in tables.items():
        for column, variant in enumerate(results.variants):
            estimates[variant, metric] = case_mean(table, variant)
            if (worst := _mean_at_worst(table, variant)) is not None:
                at_worst[variant, metric] = worst
            rows[variant, metric] = int(table.scored[:, column].sum()), int(table.attempted[:, column].sum())
    errors, weighting = results.common_errors, tables["cost_usd"].weighting
    labelled = [results.labelled(name) for name in results.labels_digests if name in results.metrics]
    bundles = ", ".join(f"{name} {bundle.digest[:8]}" for name, bundle in results.bundles.items())
    golden = f"Golden set {results.golden_digest[:8] or 'unknown'}"
    return Summary(
        variants=results.variants,
        metrics=tuple(tables),
        estimates=estimates,
        rows=rows,
        at_worst=at_worst,
        errors={variant: results.n_answers(variant, status="error") for variant in results.variants},
        state=results.state,
        sources=f"{golden}; bundles {bundles}; {age_of(results.created_at)}.",
        notes=(
            *([f"Errors: {errors}."] if errors else []),
            *_failing_lines(frame, results.metrics.values()),
            *filter(None, (raised_line(frame, name) for name in results.metrics if frame[name].notna().any())),
            *results.notes,
            *([weighting] if weighting else []),
        ),
        latencies={
            (variant, table.metric.name): seconds
            for table in (results.table(name) for name in LATENCIES if name in results.columns)
            for variant in results.variants
            if (seconds := latency_quantiles(frame, table, variant)) is not None
        },
        corrected={(name, of.metric.name): of.mean(name).corrected for of in labelled for name in results.variants},
    )


def by_tag(results: Any, by: str) -> Summary:  # of `Results`, which imports this file
    """The summary of results, with that of each tag of their cases.

    Raises:
        ValueError: `by` is not "tags", or no case has one.
    """
    if by != "tags":
        raise ValueError(f"by == {by!r}, must be 'tags' or None")
    if not (categories := results.table("latency_s").categories()):
        raise ValueError("no case of these results has a tag")
    case_ids = np.array(results.cells.case_ids, dtype=object)
    tags = {tag: results.only(cases=case_ids[mask].tolist()).summary() for tag, mask in categories.items()}
    many = f"{counted(len(tags), 'tag')}, each with 95% intervals of its own: some lie apart by chance alone."
    whole: Summary = results.summary()
    return replace(whole, tags=tags, notes=(*whole.notes, many))


def why_unscored(results: Any, name: str) -> str:  # of `Results`, which imports this file
    """What is said most often of the answers without this score, as the end of a sentence; "" where nothing is."""
    unscored = np.isnan(results.scores(name))
    return _often(np.array(explanations_of(results.frame), dtype=object)[unscored], name)


def _often(explanations: Collection[str], name: str) -> str:
    """The reason that most of these explanations give for a score, as the end of a sentence; "" where none does."""
    reasons = Counter(json.loads(why).get(name, "") for why in explanations if why)
    reason, times = next(((why, n) for why, n in reasons.most_common() if why), ("", 0))
    return f"; most often ({times:,} of {len(explanations):,}): {excerpt(reason, limit=200)}" if reason else ""


def _failing_lines(frame: pd.DataFrame, metrics: Collection[Metric]) -> list[str]:
    """Of each scorer that gives no answer of a variant a point, or no score at all, what it says most often."""
    lines = []
    columns = ["variant", *(metric.name for metric in metrics), *frame.columns.intersection(["explanations"])]
    answered = frame.loc[~frame["status"].isin(["error", "timeout"]), columns]
    for metric in metrics:
        worst = metric.low if metric.higher_is_better else metric.high
        failing: dict[str, list[tuple[Any, pd.DataFrame]]] = {}
        for variant, rows in answered.groupby("variant", sort=False):
            scores, unscored = rows[metric.name], rows[metric.name].isna()
            if len(rows) >= FEWEST_FAILING and (unscored | (scores == worst)).all():
                what = "scores no answer" if unscored.all() else f"is {worst:g} for every answer"
                failing.setdefault(f"{metric.name} {what}", []).append((variant, rows))
        for what, parts in failing.items():
            explanations = [why for _, rows in parts for why in explanations_of(rows)]
            of = f"{what} of {', '.join(str(variant) for variant, _ in parts)}"
            lines.append(f"{of}{_often(explanations, metric.name)}.")
    return lines


def case_mean(table: ScoreTable, variant: str) -> Estimate:
    """The mean of a variant over its scored cases; without an interval (or a value) where too few are scored."""
    column = table.column(variant)
    return _case_mean(table, column, table.values[:, column])


def _mean_at_worst(table: ScoreTable, variant: str) -> Estimate | None:
    """The mean with every unscored answer at its worst, which of one that nothing bounds lies beyond any seen.

    None where nothing is unscored, or nothing scored.
    """
    column = table.column(variant)
    ends = table.pessimistic(range(len(table.variants)))
    scored = table.scored[:, column]
    if ends is None or (scored >= table.attempted[:, column].clip(min=1)).all() or not scored.any():
        return None
    return _case_mean(table, column, ends[0 if table.metric.higher_is_better else 1][:, column])


def best_variant(table: ScoreTable) -> str:
    """The variant with the best mean, unscored answers at their worst; DataError where none has a score."""
    means = {name: (_mean_at_worst(table, name) or case_mean(table, name)).value for name in table.variants}
    known = {name: mean for name, mean in means.items() if mean is not None}
    if not known:
        raise DataError(f"no variant has a score for {table.metric.name!r}")
    return max(known, key=lambda name: known[name] if table.metric.higher_is_better else -known[name])


def _case_mean(table: ScoreTable, column: int, values: FloatArray) -> Estimate:
    known, attempted = ~np.isnan(values), int((table.attempted[:, column] > 0).sum())
    design = table.design(known)
    if known.sum() < 2 or (design["clusters"] is not None and np.ptp(design["clusters"]) == 0):
        value = float(np.average(values[known], weights=design["weights"])) if known.any() else None
        return Estimate(value=value, n=int(known.sum()), n_attempted=attempted, method="too few cases for an interval")
    if (bounds := table.metric.bounds) is not None:
        return share_estimate(values[known], **design, bounds=bounds, n_attempted=attempted)
    estimate = mean_estimate(values[known], **design, n_attempted=attempted)
    if estimate.low is not None and (low := table.metric.low) is not None:
        estimate = replace(estimate, low=max(estimate.low, low))  # no latency is negative
    return estimate


def age_of(created_at: str) -> str:
    """How long ago an ISO 8601 moment was, in words."""
    if not created_at:
        return "made at an unknown time"
    seconds = (datetime.now(UTC) - utc(created_at)).total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return f"made {counted(int(seconds // size), unit)} ago ({created_at})"
    return f"made just now ({created_at})"


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
                self.name: estimate.interval(),
                "cases": f"{estimate.n:,}/{estimate.n_attempted:,}",
                "note": "; ".join(estimate.notes),
            }
            for variant, estimate in self.estimates.items()
        ]

    def _sentence(self) -> str:
        return self.reading


class Bill(NamedTuple):
    """What each answer cost, of which case and variant it is, and how cases were drawn."""

    costs: FloatArray
    cells: Cells
    table: ScoreTable

    def per_case(self, variant: str, counts: NDArray[Any]) -> tuple[FloatArray | None, FloatArray, CaseDesign]:
        """Cost (None = unknown) and count per case of a variant, and how the cases were drawn."""
        column = self.table.column(variant)
        asked = self.table.attempted[:, column] > 0
        known = not np.isnan(self.costs[self.cells.columns == column]).any()
        billed = self.cells.sums(self.costs)[asked, column] if known else None
        return billed, self.cells.sums(counts)[asked, column], self.table.design(asked)


def cost_per_success(metric: Metric, bill: Bill, *, scores: FloatArray) -> PerVariant:
    """Dollars per successful answer with a 95% interval: all that was billed over the answers that are good.

    An answer is good from the middle of the metric's range on; an unscored one is no success. A variant without any
    success, or with an unknown cost, has no value, and the note says why.
    """
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds, so no answer is a success by it; name another metric")
    middle = (metric.low + metric.high) / 2
    good = np.where(np.isnan(scores), False, scores >= middle if metric.higher_is_better else scores <= middle)
    estimates = {}
    for variant in bill.table.variants:
        billed, successes, design = bill.per_case(variant, good)
        if billed is None:
            note = "the cost of some answers is unknown"
            estimates[variant] = Estimate(value=None, n_attempted=successes.size, notes=(note,))
            continue
        try:
            estimates[variant] = _with_rare_failures(ratio_of_sums(billed, successes, **design), successes, design)
        except DataError as error:  # one case or cluster
            paid, gained = (float(np.average(part, weights=design["weights"])) for part in (billed, successes))
            ratio, n = paid / gained if gained else None, successes.size
            estimates[variant] = Estimate(value=ratio, n=n, n_attempted=n, notes=(str(error),))
    reading = f"Cost of all answers over those that {metric.name} rates {middle:g} or better, failed attempts included."
    return PerVariant(name=f"USD per success ({metric.name})", estimates=estimates, reading=reading)


def _with_rare_failures(cost: Estimate, successes: FloatArray, design: CaseDesign) -> Estimate:
    """A cost per success whose interval reaches as far as that of the share of successes alone.

    The log ratio's t interval reads the spread off the failures that were seen; of two or none it knows too little.
    """
    share = successes / successes.max(initial=1.0)
    clusters, weights = design["clusters"], design["weights"]
    of_case = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    few = min(carriers(side, weights, of_case) for side in (share, 1 - share)) < _FEW_SUCCEED_OR_FAIL
    if cost.value is None or cost.low is None or cost.high is None or not few:
        return cost
    rate = share_estimate(share, **design, level=cost.level)
    if not rate.value or not rate.low or not rate.high:
        return cost
    low, high = (cost.value * rate.value / end for end in (rate.high, rate.low))
    return replace(cost, low=min(cost.low, low), high=max(cost.high, high))


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


def cost_line(baseline: str, candidate: str, *, bill: Bill, requests_per_day: int | None = None) -> str:
    """How the cost per answer changes, and what that makes in a month, in one sentence."""
    if requests_per_day is not None and requests_per_day < 1:
        raise ValueError(f"requests_per_day == {requests_per_day}, must be >= 1")
    ones, table = np.ones(bill.costs.size), bill.table
    (cost_a, n_a, design), (cost_b, n_b, other) = (bill.per_case(name, ones) for name in (baseline, candidate))
    if cost_a is None or cost_b is None:
        return f"Cost: unknown for {baseline if cost_a is None else candidate}; give its price in endpoints.yaml."
    mean_a, mean_b = (
        float(np.average(cost, weights=w) / np.average(n, weights=w))
        for cost, n, w in ((cost_a, n_a, design["weights"]), (cost_b, n_b, other["weights"]))
    )
    asked = table.attempted[:, [table.column(baseline), table.column(candidate)]] > 0
    try:
        if not (asked[:, 0] == asked[:, 1]).all():
            raise DataError("the arms were asked other cases")
        change = ratio_change((cost_a, n_a), (cost_b, n_b), **design)
    except DataError:  # no pairs, one case or cluster, or an arm that cost nothing
        return f"Cost: an answer of {candidate} costs ${number(mean_b)}, one of {baseline} ${number(mean_a)}."
    ratio, low, high = (100 * ((end or 0.0) - 1) for end in (change.value, change.low, change.high))
    word = "more" if ratio >= 0 else "less"
    least, most = ("+" * (end >= 0) + two_digits(end) for end in (low, high))
    per_answer = f"{two_digits(abs(ratio))}% {word} per answer than {baseline} (95% CI {least}% to {most}%)"
    if requests_per_day is None:
        return f"Cost: {candidate} costs {per_answer}."
    extra = abs(mean_b - mean_a) * requests_per_day * _DAYS_PER_MONTH
    a_month = f"about ${extra:,.2f} {word} a month at {requests_per_day:,} requests a day"
    return f"Cost: {candidate} costs {per_answer}, {a_month}."


def latency_quantiles(frame: pd.DataFrame, table: ScoreTable, variant: str) -> tuple[float | None, ...] | None:
    """p50, p95 and p99 of a variant's seconds, lost answers beyond all that came; None = too few answers beyond it.

    None instead of the three where nothing was measured, as the first token of answers that did not stream.
    """
    rows = _seconds(frame, table, variant).dropna()
    seconds, weights = rows["seconds"].to_numpy(), None
    if not np.isfinite(seconds).any():
        return None
    if table.weights is not None:
        weights = table.weights[_places(table, rows["case_id"])]
    quantiles: list[float | None] = []
    for q in _QUANTILES:
        try:
            quantiles.append(quantile(seconds, q=q, weights=weights))
        except DataError:
            quantiles.append(None)
    return tuple(quantiles)


def latency_line(frame: pd.DataFrame, table: ScoreTable, baseline: str, candidate: str, *, level: float = 0.95) -> str:
    """How much later the candidate's p50, p95 and p99 come than the baseline's, in one sentence."""
    of_answer = ["case_id", "repeat"]
    arms = [_seconds(frame, table, name).set_index(of_answer)["seconds"] for name in (baseline, candidate)]
    pairs = arms[0].to_frame("a").join(arms[1].rename("b"), how="inner").dropna()
    what = f"{LATENCIES[table.metric.name].capitalize()} of {candidate} against {baseline}"
    if not len(pairs):
        return f"{what}: not measured in both."
    rows = [_rows_of(frame, name, "cached").set_index(of_answer) for name in (baseline, candidate)]
    cached = [of_arm["cached"].astype(bool).reindex(pairs.index) for of_arm in rows]
    if (apart := int((cached[0] != cached[1]).sum())) > 0:
        return f"{what}: not told, {apart:,} of {len(pairs):,} pairs were asked at different times."
    changes = []
    for q in _QUANTILES:
        try:
            later = quantile_difference(pairs["a"], pairs["b"], q=q, seed=0, level=level, **_of_rows(table, pairs))
            value, low, high = (round(end or 0.0, 6) for end in (later.value, later.low, later.high))  # microseconds
            changes.append(f"p{100 * q:g} {Interval(value, low, high)} s")
        except DataError as error:
            changes.append(f"p{100 * q:g} not told ({error})")
    return f"{what}, later by: {'; '.join(changes)} ({level:.0%} CI, {len(pairs):,} pairs, bootstrap over clusters)."


def _rows_of(frame: pd.DataFrame, variant: str, *columns: str) -> pd.DataFrame:
    """Case, repeat and these columns of a variant's answers: whole rows of millions would fill the memory."""
    return frame.loc[frame["variant"] == variant, ["case_id", "repeat", *columns]]


def _seconds(frame: pd.DataFrame, table: ScoreTable, variant: str) -> pd.DataFrame:
    """The `seconds` of each case and repeat, infinite for a lost answer, NaN where they were not measured."""
    rows = _rows_of(frame, variant, table.metric.name, "status")
    seconds = rows[table.metric.name].astype(float).mask(rows["status"].isin(["error", "timeout"]), math.inf)
    return rows[["case_id", "repeat"]].assign(seconds=seconds)


def _of_rows(table: ScoreTable, rows: pd.Series[float] | pd.DataFrame) -> dict[str, Any]:
    """Cluster and weight of the case of each (case, repeat)."""
    names, which = rows.index.levels[0], rows.index.codes[0]  # type: ignore[attr-defined]  # a MultiIndex
    chosen = _places(table, names)[which]
    weights = np.ones(len(table.case_ids)) if table.weights is None else table.weights
    return {"clusters": table.clusters[chosen], "weights": weights[chosen]}


def _places(table: ScoreTable, case_ids: pd.Index[str] | pd.Series[str]) -> NDArray[np.intp]:
    """Where in the table each of these cases stands."""
    import pandas as pd

    return pd.Index(table.case_ids, dtype=case_ids.dtype).get_indexer(pd.Index(case_ids))
