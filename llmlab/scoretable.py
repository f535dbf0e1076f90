"""What statistics read of a run: per metric one matrix of cases x variants, repeats already averaged.

`Results` builds it from its rows; comparisons, summaries and the gate consume it. Repeats of a case become
one number here, in one place, so that they are never counted as cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.golden import GoldenSet

__all__ = ["AGGREGATIONS", "Aggregation", "Metric", "ScoreTable", "score_table"]

Aggregation = Literal["mean", "majority", "all", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number in a column means: its bounds (None = unbounded), its direction and its unit."""

    name: str
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    unit: str = ""

    @property
    def bounded(self) -> bool:
        """Whether the pessimistic value of a missing row is known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """One metric of a run as arrays.

    Attributes:
        metric: what the numbers mean.
        case_ids: n_cases ids.
        variants: n_variants names.
        values: (n_cases, n_variants) scores, repeats aggregated; NaN where no repeat was scored.
        scored, attempted: (n_cases, n_variants) counts of repeats.
        clusters: (n_cases,) cluster codes; a case without a cluster is its own.
        clustered: whether any two cases share a cluster.
        tags: tags of each case.
    """

    metric: Metric
    case_ids: tuple[str, ...]
    variants: tuple[str, ...]
    values: NDArray[np.float64]
    scored: NDArray[np.int64]
    attempted: NDArray[np.int64]
    clusters: NDArray[np.int64]
    clustered: bool
    tags: tuple[tuple[str, ...], ...]

    def column(self, variant: str) -> int:
        """The column of a variant; ValueError names those there are."""
        if variant not in self.variants:
            raise ValueError(f"no variant {variant!r} in these results (there are: {', '.join(self.variants)})")
        return self.variants.index(variant)

    def rows_with(self, tag: str) -> NDArray[np.bool_]:
        """Which cases carry a tag."""
        return np.fromiter((tag in tags for tags in self.tags), dtype=bool, count=len(self.tags))


def score_table(
    metric: Metric,
    *,
    scores: NDArray[np.float64],
    case_codes: NDArray[np.int64],
    variant_codes: NDArray[np.int64],
    case_ids: Sequence[str],
    variants: Sequence[str],
    golden: GoldenSet | None,
    aggregation: Aggregation = "mean",
) -> ScoreTable:
    """Rows of a run as one matrix. `scores` and the codes have one element per row; NaN = unscored."""
    n_cases, n_variants = len(case_ids), len(variants)
    cell = case_codes * n_variants + variant_codes
    known = ~np.isnan(scores)
    attempted = np.bincount(cell, minlength=n_cases * n_variants)
    scored = np.bincount(cell[known], minlength=n_cases * n_variants)
    totals = np.bincount(cell[known], weights=scores[known], minlength=n_cases * n_variants)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(scored > 0, totals / scored, np.nan)
    clusters, clustered = _clusters(case_ids, golden)
    shape = (n_cases, n_variants)
    return ScoreTable(
        metric=metric,
        case_ids=tuple(case_ids),
        variants=tuple(variants),
        values=AGGREGATIONS[aggregation](values).reshape(shape),
        scored=scored.reshape(shape),
        attempted=attempted.reshape(shape),
        clusters=clusters,
        clustered=clustered,
        tags=tuple(_tags(case_id, golden) for case_id in case_ids),
    )


def _keep_missing(values: NDArray[np.float64], passed: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(np.isnan(values), np.nan, passed.astype(float))


# What the repeats of one case become; the last three read pass/fail scores, whose mean is the share that passed.
AGGREGATIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "mean": lambda shares: shares,
    "majority": lambda shares: _keep_missing(shares, shares > 0.5),
    "all": lambda shares: _keep_missing(shares, shares >= 1.0),
    "any": lambda shares: _keep_missing(shares, shares > 0.0),
}


def _clusters(case_ids: Sequence[str], golden: GoldenSet | None) -> tuple[NDArray[np.int64], bool]:
    codes: dict[tuple[str, str], int] = {}
    found = []
    for case_id in case_ids:
        case = golden.by_id.get(case_id) if golden else None
        key = ("cluster", case.cluster) if case and case.cluster is not None else ("case", case_id)
        found.append(codes.setdefault(key, len(codes)))
    return np.array(found, dtype=np.int64), len(codes) < len(case_ids)


def _tags(case_id: str, golden: GoldenSet | None) -> tuple[str, ...]:
    case = golden.by_id.get(case_id) if golden else None
    return case.tags if case else ()
