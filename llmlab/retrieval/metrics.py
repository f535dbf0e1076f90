"""How good a ranking is: P@k, R@k, hit rate, RR, AP and nDCG, per query and on average.

Definitions are trec_eval's, and agree with ir_measures and pytrec_eval. A query missing from the run scores 0
(`trec_eval -c`; pytrec_eval drops it). A query without relevant documents scores 0 where the judgements come from a
TREC file, as there, and is left out of what is computed from cases; the other mean always stands beside. A document
returned twice counts once (they refuse it or let the last one win). Tied documents keep the retriever's order; in
TREC run files they follow trec_eval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.display.shown import Shown, frame
from llmlab.retrieval.rankings import (
    JudgedRanking,
    Judgements,
    by_descending_id,
    judged_ranking,
    judgements_of,
    keep_order,
    on_cores,
    place_in_group,
)
from llmlab.retrieval.trec import read_qrels, read_run
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("P", "R", "HitRate", "Success", "RR", "AP", "nDCG", "nDCG_exp")
DEEPEST = np.iinfo(np.int64).max
_NEED_CUTOFF = frozenset({"P", "R", "HitRate", "Success"})

_ELSEWHERE = {  # as other tools call them
    **{"map": "AP", "mrr": "RR", "recip_rank": "RR", "precision": "P", "prec": "P", "recall": "R", "rec": "R"},
    **{"ndcg_cut": "nDCG", "hits": "HitRate", "hit": "HitRate", "acc": "HitRate", "accuracy": "HitRate"},
}

_SPELLING = re.compile(r"\s*([A-Za-z_]+)\s*(?:@\s*(-?\d+))?\s*")
DEFAULT_MEASURES = ("nDCG@10", "P@10", "R@10", "HitRate@10", "RR", "AP")

Floats = npt.NDArray[np.float64]
Topics = Literal["judged", "answerable"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A retrieval measure and how deep it looks.

    Attributes:
        name: P (precision), R (recall), HitRate or Success (the same: anything relevant in the top k), RR (reciprocal
            rank), AP (average precision), nDCG (gain = relevance) or nDCG_exp (gain = 2^relevance - 1).
        cutoff: the k of `@k`; None looks at all that was returned (RR, AP and nDCG only).

    Raises:
        ValueError: an unknown name, a cutoff below 1, or none where the measure needs one.

    >>> str(Measure("nDCG", 10))
    'nDCG@10'
    """

    name: str
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"measure {self.name!r} is unknown, must be one of {', '.join(NAMES)}{_hint(self.name)}")
        if self.cutoff is None and self.name in _NEED_CUTOFF:
            raise ValueError(f"measure {self.name!r} needs a cutoff, for example {self.name}@10")
        if self.cutoff is not None and self.cutoff < 1:
            raise ValueError(f"k == {self.cutoff} in {self.name}@{self.cutoff}, must be >= 1")

    def __str__(self) -> str:
        return self.name if self.cutoff is None else f"{self.name}@{self.cutoff}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class RetrievalMetrics(Shown):
    """Measures of one run, per query and averaged over queries.

    Attributes:
        measures: what was measured, one per column of `values`.
        query_ids: the queries used, in the order of the judgements.
        values: shape (queries, measures), each in [0, 1].
        clusters: the group (topic, article) of each query, or None where queries are independent.
        unjudged: per measure, the share of the documents it looked at that nobody judged (they count as not relevant).
        topics: "judged", all queries with a judgement, or "answerable", those with a relevant document.
        n_without_relevant: judged queries without a relevant document; they score 0, or are left out.
        n_missing: queries used that the run does not name; they score 0.
        n_empty: queries used for which the run names no document; they score 0.
        n_unjudged_queries: queries of the run without any judgement, left out.
        n_repeated_documents: documents returned again for the same query, counted once (the first).
        n_repeated_judgements: judgements given again, counted once.
    """

    measures: tuple[Measure, ...]
    query_ids: tuple[Any, ...]
    values: Floats
    clusters: tuple[Any, ...] | None
    level: float
    unjudged: tuple[float | None, ...]
    topics: Topics
    n_without_relevant: int
    n_missing: int
    n_empty: int
    n_unjudged_queries: int
    n_repeated_documents: int
    n_repeated_judgements: int

    @property
    def n_queries(self) -> int:
        """Number of queries used."""
        return len(self.query_ids)

    def column(self, measure: str | Measure) -> Floats:
        """The value of one measure for each query, in the order of `query_ids`."""
        wanted = parse_measure(measure)
        if wanted not in self.measures:
            raise ValueError(f"{wanted} was not measured, only {', '.join(map(str, self.measures))}")
        return self.values[:, self.measures.index(wanted)]

    def mean(self, measure: str | Measure) -> float | None:
        """The average of one measure over the queries used; None where there are none."""
        values = self.column(measure)
        return float(values.mean()) if len(values) else None

    @property
    def n_other(self) -> int:
        """Number of queries of `other_mean`."""
        return self.n_queries + (-1 if self.topics == "judged" else 1) * self.n_without_relevant

    def other_mean(self, measure: str | Measure) -> float | None:
        """The average over the other choice of `topics`; None where there are none."""
        return float(self.column(measure).sum()) / self.n_other if self.n_other else None

    def estimate(self, measure: str | Measure) -> Estimate:
        """The average with its interval within 0 and 1, cluster-robust (CR2) where queries have clusters."""
        values, n = self.column(measure), self.n_queries
        if n < 2 or (self.clusters is not None and len(set(self.clusters)) < 2):
            notes = ("an interval needs at least two independent queries",)
            value = self.mean(measure)
            return Estimate(value=value, level=self.level, n=n, n_attempted=n, method="mean", notes=notes)
        return share_estimate(values, self.clusters, level=self.level)

    def per_query(self) -> pd.DataFrame:
        """One row per query used, one column per measure."""
        columns = {str(measure): self.values[:, i] for i, measure in enumerate(self.measures)}
        return frame([]).assign(query_id=list(self.query_ids), **columns)

    def counts(self) -> dict[str, int]:
        """What was used, what scores 0 for want of a result, and what was left out or counted once."""
        return {
            "used": self.n_queries,
            "missing": self.n_missing,
            "empty": self.n_empty,
            "without_relevant": self.n_without_relevant,
            "unjudged": self.n_unjudged_queries,
            "repeated_documents": self.n_repeated_documents,
            "repeated_judgements": self.n_repeated_judgements,
        }

    def _rows(self) -> list[dict[str, object]]:
        rows = []
        for measure, unjudged in zip(self.measures, self.unjudged, strict=True):
            mean = self.estimate(measure)
            row = {"measure": str(measure), "mean": mean.interval(), "queries": mean.n, "unjudged": unjudged}
            if self.n_without_relevant:
                kind = "with a relevant document" if self.topics == "judged" else "judged, as trec_eval -c"
                row[f"mean over {self.n_other:,} {kind}"] = self.other_mean(measure)
            rows.append(row)
        return rows

    def _sentence(self) -> str:
        unanswerable = "without a relevant document, score 0 (the other mean leaves them out)"
        if self.topics == "answerable":
            unanswerable = "left out, without a relevant document"
        counts = (
            (self.n_missing, "missing from the run, score 0"),
            (self.n_empty, "with an empty result, score 0"),
            (self.n_without_relevant, unanswerable),
            (self.n_unjudged_queries, "of the run left out, without judgements"),
        )
        repeated = ((self.n_repeated_documents, "document"), (self.n_repeated_judgements, "judgement"))
        facts = [f"{self.n_queries:,} {'query' if self.n_queries == 1 else 'queries'}"]
        facts += [f"{count:,} {label}" for count, label in counts if count]
        facts += [f"{counted(count, noun)} given again, counted once" for count, noun in repeated if count]
        return "; ".join(facts) + "."


def evaluate(
    qrels: pd.DataFrame | Mapping[Any, Mapping[Any, float]] | str | Path,
    run: pd.DataFrame | Mapping[Any, Any] | str | Path,
    *,
    measures: Iterable[str | Measure] = DEFAULT_MEASURES,
    clusters: Mapping[Any, Any] | None = None,
    level: float = 0.95,
    topics: Topics | None = None,
) -> RetrievalMetrics:
    """The measures of a run against judgements.

    Args:
        qrels: a DataFrame (query_id, doc_id, relevance), {query: {document: relevance}}, or the path of a TREC file.
            Relevance above 0 is relevant; nDCG's gain is the relevance itself (negative counts as 0).
        run: a DataFrame (query_id, doc_id, and score or rank; with neither, rows stand best first), {query: [document,
            ...]} best first, {query: {document: score}}, or the path of a TREC file.
        measures: such as "nDCG@10", "P@5", "R@10", "HitRate@5" (or "Success@5"), "RR", "AP", "nDCG_exp@10".
        clusters: {query: group} for queries that are not independent, such as questions about one article.
        topics: "judged" takes every judged query, and one without a relevant document scores 0 (as trec_eval -c and
            ir_measures); "answerable" leaves those out. By default "judged" for a TREC file of judgements.

    Raises:
        ValueError: an unknown measure or choice of topics, or k below 1.
        DataError: input from which no honest number can be computed; FileRuleError where a file breaks a rule.

    >>> metrics = evaluate({"q1": {"a": 1, "b": 1}}, {"q1": ["a", "x"]}, measures=["P@5", "R@5", "RR"])
    >>> metrics.mean("P@5"), metrics.mean("R@5"), metrics.mean("RR")
    (0.2, 0.5, 1.0)
    """
    wanted = tuple(dict.fromkeys(map(parse_measure, measures)))
    if not 0 < level < 1:
        raise ValueError(f"level == {level}, must lie between 0 and 1")
    if not wanted:
        raise ValueError("no measure was asked for, give at least one such as nDCG@10")
    if topics is None:
        topics = "judged" if isinstance(qrels, (str, Path)) else "answerable"
    if topics not in ("judged", "answerable"):
        raise ValueError(f"topics == {topics!r}, must be 'judged' or 'answerable'")
    ties = by_descending_id if isinstance(run, (str, Path)) else keep_order
    read: list[Callable[[], Any]] = [
        lambda: judgements_of(read_qrels(qrels) if isinstance(qrels, (str, Path)) else qrels),
        lambda: read_run(run) if isinstance(run, (str, Path)) else run,
    ]
    judgements, table = on_cores(lambda reader: reader(), read)
    ranking = judged_ranking(table, judgements, ties=ties)
    values = np.column_stack([_values(measure, judgements, ranking) for measure in wanted])
    query_ids, n_answerable = tuple(judgements.query_ids.to_pylist()), len(judgements.query_ids)
    if topics == "judged":
        query_ids, place = tuple(judgements.known_query_ids.to_pylist()), judgements.position
        values = np.vstack([values, np.zeros((1, len(wanted)))])[np.where(place < 0, len(values), place)]
    return RetrievalMetrics(
        measures=wanted,
        query_ids=query_ids,
        values=values,
        clusters=_clusters_of(query_ids, clusters),
        level=level,
        unjudged=tuple(_unjudged_share(ranking, measure.cutoff) for measure in wanted),
        topics=topics,
        n_without_relevant=len(judgements.known_query_ids) - n_answerable,
        n_missing=ranking.n_missing,
        n_empty=ranking.n_empty,
        n_unjudged_queries=ranking.n_unjudged_queries,
        n_repeated_documents=ranking.n_repeated,
        n_repeated_judgements=judgements.n_repeated,
    )


def parse_measure(text: str | Measure) -> Measure:
    """The measure that `text` names; a Measure is given back as it is.

    Raises:
        ValueError: as Measure does, or where the text is not `name` or `name@k`.

    >>> parse_measure("R@10"), parse_measure("AP")
    (Measure(name='R', cutoff=10), Measure(name='AP', cutoff=None))
    """
    if isinstance(text, Measure):
        return text
    spelt = _SPELLING.fullmatch(text)
    if spelt is None:
        raise ValueError(f"measure {text!r} is not a name with an optional cutoff, such as nDCG@10 or RR")
    name, cutoff = spelt.groups()
    return Measure(name, None if cutoff is None else int(cutoff))


def _values(measure: Measure, judgements: Judgements, ranking: JudgedRanking) -> Floats:
    """One value per query, in [0, 1]."""
    n, cutoff = len(judgements.query_ids), measure.cutoff or DEEPEST
    relevant = (ranking.relevance > 0) & (ranking.rank < cutoff)
    query, rank = ranking.query[relevant], ranking.rank[relevant]
    hits = np.bincount(query, minlength=n).astype(float)
    n_relevant = np.bincount(judgements.query[judgements.relevance > 0], minlength=n)
    if measure.name == "P":
        return hits / cutoff
    if measure.name == "R":
        return hits / n_relevant
    if measure.name in ("HitRate", "Success"):
        return (hits > 0).astype(float)
    hit_number = place_in_group(query)  # 0 for the first relevant one of a query
    if measure.name == "RR":
        first = hit_number == 0
        return _sums(query[first], 1 / (rank[first] + 1), n)
    if measure.name == "AP":
        return _sums(query, (hit_number + 1) / (rank + 1), n) / n_relevant
    best = (judgements.relevance > 0) & (judgements.rank < cutoff)
    ideal = _dcg(measure, judgements.query[best], judgements.rank[best], judgements.relevance[best], n)
    gain = _dcg(measure, query, rank, ranking.relevance[relevant], n)
    return np.minimum(gain / ideal, 1.0)  # only rounding can lift it above 1


def _dcg(measure: Measure, query: Any, rank: Any, relevance: Floats, n: int) -> Floats:
    """Discounted cumulative gain, gain / log2(rank + 1) with rank from 1 (Järvelin and Kekäläinen 2002)."""
    if measure.name == "nDCG_exp" and relevance.max(initial=0) > 500:
        raise DataError(f"relevance {relevance.max():g} is too large for the gain 2^relevance - 1; use nDCG, or grades")
    gain = np.exp2(relevance) - 1 if measure.name == "nDCG_exp" else relevance
    return _sums(query, gain / np.log2(rank + 2.0), n)


def _sums(query: Any, weights: Floats, n: int) -> Floats:
    """The sum of the weights of each query."""
    return np.bincount(query, weights=weights, minlength=n).astype(float)


def _unjudged_share(ranking: JudgedRanking, cutoff: int | None) -> float | None:
    """Share of the documents in the top k, over all queries, that have no judgement; None where nothing came back."""
    deepest = cutoff or DEEPEST
    returned = int(np.minimum(ranking.depth, deepest).sum())
    return 1 - int((ranking.rank < deepest).sum()) / returned if returned else None


def _clusters_of(query_ids: tuple[Any, ...], clusters: Mapping[Any, Any] | None) -> tuple[Any, ...] | None:
    if clusters is None:
        return None
    lacking = [query for query in query_ids if query not in clusters]
    if lacking:
        raise DataError(
            f"{len(lacking):,} of {len(query_ids):,} queries have no cluster, such as {lacking[0]!r}; give each one"
        )
    return tuple(clusters[query] for query in query_ids)


def _hint(name: str) -> str:
    meant = next((known for known in NAMES if known.lower() == name.lower()), _ELSEWHERE.get(name.lower()))
    return f" (meant {meant}?)" if meant else ""
