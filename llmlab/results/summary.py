"""What each variant scored: every metric's mean with its interval, and how many rows it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from llmlab.base.display import Chip, Interval, Shown, number
from llmlab.base.errors import DataError
from llmlab.base.project import utc
from llmlab.results.cost import LATENCIES
from llmlab.results.scores import ScoreTable
from llmlab.stats.arrays import FloatArray
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate, mean_estimate

__all__ = ["Summary", "age_of", "best_variant", "case_mean", "summarise", "worst_case_mean"]

WORST_SHOWN = 6


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary(Shown):
    """One line per variant.

    Attributes:
        variants, metrics: rows and columns; the metrics are the scorers', then tokens, cost and latency.
        estimates: (variant, metric) -> mean over cases with its clustered interval.
        rows: (variant, metric) -> answers scored and attempted.
        errors: rows without an answer per variant.
        state: complete, partial or FAILED; a FAILED run shows no means.
        sources: what the numbers come from: golden digest, bundle digests, age.
        latencies: (variant, latency_s or first_token_s) -> p50, p95, p99; None where too few answers lie beyond it.
        corrected: (variant, metric) -> a judge's mean corrected by people's labels, where the results carry labels.
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

    def estimate(self, variant: str, metric: str) -> Estimate:
        """The mean of a metric for a variant."""
        return self.estimates[variant, metric]

    def _rows(self) -> list[dict[str, object]]:
        return [self._row(variant) for variant in self.variants]

    def lines(self) -> tuple[str, ...]:
        """What must be known to read the table, a sentence a line."""
        state = {
            "FAILED": "The run FAILED: too many rows have no answer, so no mean is shown.",
            "partial": "Partial results: run the same cell again to resume.",
        }
        unknown = [_RESOURCES[name] for name in self.metrics if name in _RESOURCES and self._unknown(name)]
        labelled = bool(self.corrected)
        few = "A quantile needs ten answers beyond it: p95 takes 200 answers, p99 1,000."
        reading = "Means over cases with 95% intervals; scored counts answers with a score of those attempted."
        return (
            *([state[self.state]] if self.state in state else []),
            *self.notes,
            *(["Corrected is what people would say, by the judge and some labels of theirs (PPI++)."] * labelled),
            reading + (f" Unknown for every variant: {', '.join(unknown)}." if unknown else ""),
            *([self._worst_line()] if self.at_worst and self.state != "FAILED" else []),
            *([few] if any(None in seconds for seconds in self.latencies.values()) else []),
            *(self._weak_lines() if self.state != "FAILED" else []),
            self.sources,
        )

    def _weak_lines(self) -> list[str]:
        """What weakens an interval, said once with every place that it is true of."""
        places: dict[str, list[str]] = {}
        for (variant, metric), found in self.estimates.items():
            for note in found.notes if found.low is None or found.low != found.high else ():
                places.setdefault(note, []).append(f"{_RESOURCES.get(metric, metric)} of {variant}")
        shown = [", ".join(where[:WORST_SHOWN]) + " ..." * (len(where) > WORST_SHOWN) for where in places.values()]
        return [f"{where}: {note}." for where, note in zip(shown, places, strict=True)]

    def _worst_line(self) -> str:
        said = [
            f"{_RESOURCES.get(metric, metric)} of {variant} {Interval(found.value, found.low, found.high)}"
            for (variant, metric), found in self.at_worst.items()
        ]
        more = f"; {len(said) - WORST_SHOWN} more in `at_worst`" if len(said) > WORST_SHOWN else ""
        return (
            f"The means leave unscored answers out; with those at their worst: {'; '.join(said[:WORST_SHOWN])}{more}."
        )

    def _row(self, variant: str) -> dict[str, object]:
        row: dict[str, object] = {"variant": variant}
        if self.state != "complete":
            row["state"] = Chip(self.state, "bad" if self.state == "FAILED" else "unsure")
        scored = {metric: self.rows[variant, metric] for metric in self.metrics if metric not in _RESOURCES}
        for metric in self.metrics:
            if metric in _RESOURCES and self._unknown(metric):
                continue
            found = self.estimates[variant, metric]
            shown = None if self.state == "FAILED" else Interval(found.value, found.low, found.high)
            row[_RESOURCES.get(metric, metric)] = shown
            if (fixed := self.corrected.get((variant, metric))) is not None and shown is not None:
                row[f"{metric}, corrected"] = Interval(fixed.value, fixed.low, fixed.high)
        for metric in dict.fromkeys(metric for _, metric in self.latencies if self.state != "FAILED"):
            seconds = self.latencies.get((variant, metric), (None,) * 3)
            row[f"{LATENCIES[metric]} p50 / p95 / p99 (s)"] = " / ".join(number(one, 2) for one in seconds)
        if self._scored_alike():  # one column says it for all scorers
            scored = {"": next(iter(scored.values()))}
        for metric, (known, attempted) in scored.items():
            row[f"scored ({metric})" if metric else "scored"] = f"{known:,}/{attempted:,}"
        return row | ({"errors": self.errors[variant]} if any(self.errors.values()) else {})

    def _scored_alike(self) -> bool:
        scorers = [metric for metric in self.metrics if metric not in _RESOURCES]
        return all(len({self.rows[variant, metric] for metric in scorers}) == 1 for variant in self.variants)

    def _unknown(self, metric: str) -> bool:
        return all(self.estimates[variant, metric].value is None for variant in self.variants)

    def _sentence(self) -> str:
        return "\n".join(self.lines())


_RESOURCES = {
    "output_tokens": "tokens out",
    "input_tokens": "tokens in",
    "cost_usd": "cost per answer (USD)",
    "latency_s": "latency (s)",
}


def summarise(
    tables: Mapping[str, ScoreTable],
    *,
    errors: Mapping[str, int],
    state: str,
    sources: str,
    notes: tuple[str, ...] = (),
    latencies: Mapping[tuple[str, str], tuple[float | None, ...]] | None = None,
    corrected: Mapping[tuple[str, str], Estimate] | None = None,
) -> Summary:
    """The summary of the scores of a run, by the same reduction of repeats that comparisons use.

    Args:
        tables: metric -> its scores, in the order of the columns.
        errors, state, sources, notes, latencies, corrected: see `Summary`.
    """
    variants = next(iter(tables.values())).variants
    estimates, rows, at_worst = {}, {}, {}
    for metric, table in tables.items():
        for column, variant in enumerate(variants):
            estimates[variant, metric] = case_mean(table, variant)
            if (worst := worst_case_mean(table, variant)) is not None:
                at_worst[variant, metric] = worst
            rows[variant, metric] = int(table.scored[:, column].sum()), int(table.attempted[:, column].sum())
    weighting = next(iter(tables.values())).weighting
    return Summary(
        variants=variants,
        metrics=tuple(tables),
        estimates=estimates,
        rows=rows,
        errors=errors,
        state=state,
        sources=sources,
        notes=(*notes, *([weighting] if weighting else [])),
        latencies=latencies or {},
        corrected=corrected or {},
        at_worst=at_worst,
    )


def case_mean(table: ScoreTable, variant: str) -> Estimate:
    """The mean of a variant over its scored cases; without an interval (or a value) where too few are scored."""
    column = table.column(variant)
    return _case_mean(table, column, table.values[:, column])


def worst_case_mean(table: ScoreTable, variant: str) -> Estimate | None:
    """The same with every unscored answer at its worst, which of one that nothing bounds is the worst of all variants.

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
    means = {name: (worst_case_mean(table, name) or case_mean(table, name)).value for name in table.variants}
    known = {name: mean for name, mean in means.items() if mean is not None}
    if not known:
        raise DataError(f"no variant has a score for {table.metric.name!r}")
    return max(known, key=lambda name: known[name] if table.metric.higher_is_better else -known[name])


def _case_mean(table: ScoreTable, column: int, values: FloatArray) -> Estimate:
    known, attempted = ~np.isnan(values), int((table.attempted[:, column] > 0).sum())
    design = table.design(known)
    if known.sum() < 2 or (design["clusters"] is not None and np.unique(design["clusters"]).size < 2):
        value = float(np.average(values[known], weights=design["weights"])) if known.any() else None
        return Estimate(value=value, n=int(known.sum()), n_attempted=attempted, method="too few cases for an interval")
    if (bounds := table.metric.bounds) is not None:
        return share_estimate(values[known], **design, bounds=bounds, n_attempted=attempted)
    found = mean_estimate(values[known], **design, n_attempted=attempted)
    if found.low is not None and (low := table.metric.low) is not None:
        found = replace(found, low=max(found.low, low))  # no latency is negative
    return found


def age_of(created_at: str) -> str:
    """How long ago an ISO 8601 moment was, in words."""
    if not created_at:
        return "made at an unknown time"
    seconds = (datetime.now(UTC) - utc(created_at)).total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"made {count} {unit}{'s' if count > 1 else ''} ago ({created_at})"
    return f"made just now ({created_at})"
