"""What statistics read of a run: per metric one matrix of cases x variants, repeats already averaged.

`Results` builds it from its rows, the command line from other tools' tables; comparisons, summaries and the gate
consume it. Repeats of a case become one number here, in one place, so that they are never counted as cases.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmlab.errors import DataError
from llmlab.stats.repeats import Aggregation, reduce_repeats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.golden import GoldenSet

__all__ = ["Aggregation", "CaseGroups", "Metric", "ScoreTable", "score_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number in a column means: its bounds (None = unbounded), its direction and its unit.

    `judge` is the digest of the judge's bundle where a judge gave the numbers, "" where rules did.
    """

    name: str
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    unit: str = ""
    judge: str = ""

    @property
    def bounded(self) -> bool:
        """Whether the pessimistic value of a missing row is known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGroups:
    """Which cases belong together.

    Attributes:
        clusters: (n_cases,) cluster codes; a case without a cluster is its own.
        clustered: whether any case was given a cluster that another one shares.
        tags: tags of each case.
    """

    clusters: NDArray[np.int64]
    clustered: bool
    tags: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, case_ids: Sequence[str], golden: GoldenSet | None) -> CaseGroups:
        """The clusters and tags that a golden set gives these cases; without one every case stands alone."""
        codes: dict[Hashable, int] = {}
        clusters, tags = [], []
        for case_id in case_ids:
            case = golden.by_id.get(case_id) if golden else None
            key = ("case", case_id) if case is None or case.cluster is None else ("cluster", case.cluster)
            clusters.append(codes.setdefault(key, len(codes)))
            tags.append(case.tags if case else ())
        return cls(clusters=np.array(clusters, dtype=np.int64), clustered=len(codes) < len(case_ids), tags=tuple(tags))


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
        lowest, highest: `values` with every unscored repeat at the metric's low or high; None = nothing is
            unscored, or the metric has no such bound.
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
    lowest: NDArray[np.float64] | None = None
    highest: NDArray[np.float64] | None = None

    def column(self, variant: str) -> int:
        """The column of a variant; ValueError names those there are."""
        if variant not in self.variants:
            raise ValueError(f"no variant {variant!r} in these results (there are: {', '.join(self.variants)})")
        return self.variants.index(variant)

    def rows_with(self, tag: str) -> NDArray[np.bool_]:
        """Which cases carry a tag."""
        return np.fromiter((tag in tags for tags in self.tags), dtype=bool, count=len(self.tags))

    def categories(self) -> dict[str, NDArray[np.bool_]]:
        """Which cases carry each tag, tags in order of first use."""
        kinds: dict[tuple[str, ...], int] = {}  # a million cases have few different sets of tags
        codes = np.fromiter((kinds.setdefault(tags, len(kinds)) for tags in self.tags), dtype=np.int64)
        every = dict.fromkeys(tag for tags in kinds for tag in tags)
        return {tag: np.array([tag in tags for tags in kinds])[codes] for tag in every}


def score_table(
    metric: Metric,
    *,
    scores: NDArray[np.float64],
    case_codes: NDArray[np.int64],
    variant_codes: NDArray[np.int64],
    case_ids: Sequence[str],
    variants: Sequence[str],
    groups: CaseGroups,
    aggregation: Aggregation = "mean",
) -> ScoreTable:
    """Rows of a run as one matrix. `scores` and the codes have one element per row; NaN = unscored.

    Raises:
        DataError: a score is infinite, or out of the metric's bounds.
        ValueError: majority, all or any of scores that are not 0 or 1.

    >>> table = score_table(
    ...     Metric(name="right", low=0, high=1), scores=np.array([1.0, 0.0, 1.0, np.nan]), case_ids=["q1", "q2"],
    ...     case_codes=np.array([0, 0, 0, 1]), variant_codes=np.array([0, 0, 1, 1]), variants=["v1", "v2"],
    ...     groups=CaseGroups.of(["q1", "q2"], None),
    ... )
    >>> table.values.tolist(), table.attempted.tolist()
    ([[0.5, 1.0], [nan, nan]], [[2, 1], [0, 1]])
    """
    _check_bounds(metric, scores)
    n_cells = len(case_ids) * len(variants)
    shape = (len(case_ids), len(variants))
    cells = case_codes * len(variants) + variant_codes
    known = ~np.isnan(scores)
    attempted = np.bincount(cells, minlength=n_cells)
    nothing_missing = bool(known.all() and (attempted > 0).all())

    def reduced(values: NDArray[np.float64], of: NDArray[np.int64]) -> NDArray[np.float64]:
        return reduce_repeats(values, of, aggregation=aggregation, n_cases=n_cells).reshape(shape)

    def filled(bound: float | None) -> NDArray[np.float64] | None:
        if bound is None or nothing_missing:
            return None
        cell_values = reduced(np.where(known, scores, bound), cells)
        return np.where(np.isnan(cell_values), bound, cell_values)

    return ScoreTable(
        metric=metric,
        case_ids=tuple(case_ids),
        variants=tuple(variants),
        values=reduced(scores[known], cells[known]),
        scored=np.bincount(cells[known], minlength=n_cells).reshape(shape),
        attempted=attempted.reshape(shape),
        clusters=groups.clusters,
        clustered=groups.clustered,
        tags=groups.tags,
        lowest=filled(metric.low),
        highest=filled(metric.high),
    )


def _check_bounds(metric: Metric, scores: NDArray[np.float64]) -> None:
    low = -np.inf if metric.low is None else metric.low
    high = np.inf if metric.high is None else metric.high
    wrong = np.isinf(scores) | (scores < low) | (scores > high)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{metric.name}: {int(wrong.sum())} score(s) are infinite or outside {metric.low} to {metric.high}, "
            f"the first is {scores[first]} in row {first + 1}; mark it unscored, or correct the bounds"
        )
