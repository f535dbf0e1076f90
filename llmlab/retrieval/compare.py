"""Which of two runs retrieves better: paired differences per measure over the same queries.

Queries are the cases and articles or topics the clusters, so that runs and prompts are judged by the same code.
"""

from __future__ import annotations

import numpy as np

from llmlab.base.errors import DataError
from llmlab.results.comparison import Comparison, compare_tables
from llmlab.results.scores import Metric, ScoreTable
from llmlab.retrieval.measure import Measure
from llmlab.retrieval.metrics import RetrievalMetrics

__all__ = ["compare_runs"]


def compare_runs(
    candidate: RetrievalMetrics,
    baseline: RetrievalMetrics,
    *,
    candidate_name: str = "candidate",
    baseline_name: str = "baseline",
    margin: float | None = None,
) -> Comparison:
    """A row per measure: candidate minus baseline over the same queries, clustered, Holm-adjusted over the measures.

    Raises:
        DataError: the two were judged on different queries or by different measures.

    >>> from llmlab.retrieval.metrics import evaluate
    >>> qrels = {f"q{i}": {"a": 1} for i in range(4)}
    >>> better = evaluate(qrels, {f"q{i}": ["a"] for i in range(4)}, measures=["RR"])
    >>> worse = evaluate(qrels, {f"q{i}": ["x"] * (i % 2) + ["a"] for i in range(4)}, measures=["RR"])
    >>> compare_runs(better, worse).row("RR").difference.value
    0.25
    """
    if candidate.query_ids != baseline.query_ids:
        raise DataError("the two runs were judged on different queries; evaluate both against the same judgements")
    if candidate.measures != baseline.measures:
        raise DataError("the two runs were judged by different measures; evaluate both with the same ones")
    names = (baseline_name, candidate_name)
    tables = [_score_table(measure, candidate, baseline, names) for measure in candidate.measures]
    rows = compare_tables(tables, baseline_name, margin=margin, level=candidate.level)
    return Comparison(rows=rows, baseline=baseline_name)


def _score_table(
    measure: Measure, candidate: RetrievalMetrics, baseline: RetrievalMetrics, names: tuple[str, str]
) -> ScoreTable:
    n = candidate.n_queries
    codes: dict[object, int] = {}
    labels = range(n) if candidate.clusters is None else candidate.clusters
    clusters = np.array([codes.setdefault(label, len(codes)) for label in labels], dtype=np.int64)
    once = np.ones((n, 2), np.int64)
    return ScoreTable(
        metric=Metric(name=str(measure), low=0.0, high=1.0),
        case_ids=tuple(map(str, candidate.query_ids)),
        variants=names,
        values=np.column_stack([baseline.column(measure), candidate.column(measure)]),
        scored=once,
        attempted=once,
        clusters=clusters,
        clustered=candidate.clusters is not None,
        tags=((),) * n,
    )
