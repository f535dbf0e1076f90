"""Which of a query's judged documents came back, and at which rank: all that any retrieval measure needs.

A run and its judgements are matched once, as whole arrays; what stays is small, since most of what a retriever returns
was never judged relevant. Used by `metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.errors import DataError
from llmlab.retrieval.ids import THREADS, codes_in, encode, id_array, pairs_repeat

__all__ = ["JudgedRanking", "Judgements", "judged_ranking", "judgements_of", "place_in_group"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PART_ROWS = 1 << 18
SPARSE_AT = 8  # a rectangle of queries x depth may be this many times larger than the rows it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """Judged documents of the queries that have a relevant one; rows sorted by query, best first.

    Attributes:
        query_ids: the queries with a relevant document, in the order given.
        known_query_ids, position: all judged queries, and where each stands in query_ids (-1: nothing relevant).
        doc_ids: distinct judged documents.
        query, doc, relevance: one entry per judgement.
        rank: 0 for the best judged document of its query, 1 for the next: the ideal ranking.
        n_repeated: judgements given more than once.
    """

    query_ids: pa.Array
    known_query_ids: pa.Array
    position: npt.NDArray[np.int32]
    doc_ids: pa.Array
    query: Ints
    doc: Ints
    relevance: Floats
    rank: Ints
    n_repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRanking:
    """The judged documents that a run returned, rows sorted by query and rank.

    Attributes:
        query, rank, relevance: one entry per judged document returned; rank counts from 0.
        depth: number of documents returned for each query, each counted once.
        n_missing, n_empty: queries that the run does not name, and those for which it names no document.
        n_unjudged_queries: queries of the run without any judgement.
        n_repeated: documents returned again for the same query, and not counted again.
    """

    query: Ints
    rank: Ints
    relevance: Floats
    depth: Ints
    n_missing: int
    n_empty: int
    n_unjudged_queries: int
    n_repeated: int


def judgements_of(qrels: Any) -> Judgements:
    """Judgements from a DataFrame (query_id, doc_id, relevance) or a mapping {query: {document: relevance}}.

    Raises:
        DataError: a missing column or id, a relevance that is not finite, or two judgements that disagree.
    """
    query_ids, doc_ids, relevance, _ = _columns(qrels, number="relevance")
    if relevance is None:
        raise DataError("the judgements need a column relevance (1 or more = relevant)")
    query, known = encode(query_ids)
    doc, doc_ids = encode(doc_ids)
    first, n_repeated = _first_of_each(query, doc, relevance, known, doc_ids)
    query, doc, relevance = query[first], doc[first], relevance[first]
    used = np.bincount(query[relevance > 0], minlength=len(known)) > 0
    position = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    order = np.lexsort((-relevance, query))
    order = order[used[query[order]]]
    query = position[query[order]].astype(np.int64)
    return Judgements(
        query_ids=known.filter(pa.array(used)),
        known_query_ids=known,
        position=position,
        doc_ids=doc_ids,
        query=query,
        doc=doc[order],
        relevance=relevance[order],
        rank=place_in_group(query),
        n_repeated=n_repeated,
    )


def judged_ranking(run: Any, judgements: Judgements) -> JudgedRanking:
    """Where the judged documents stand in a run: a DataFrame (query_id, doc_id and score, or rank, or neither), or
    a mapping of each query to its documents, best first, or to {document: score}.

    Higher scores come first; tied documents keep the order in which the retriever gave them.

    Raises:
        DataError: a missing column or id, a score that is not finite, or ids of another type than in the judgements.
    """
    query_ids, doc_ids, score, named = _columns(run, number="score")
    known = codes_in(query_ids, judgements.known_query_ids, what="query ids")
    n_unjudged = pc.count_distinct(query_ids.filter(pa.array(known < 0))).as_py() if (known < 0).any() else 0
    query = np.append(judgements.position, np.int32(-1))[known]
    doc = codes_in(doc_ids, judgements.doc_ids, what="document ids")
    rows = _grouped_rows(query)
    if rows is not None:
        query, doc, doc_ids = query[rows], doc[rows], doc_ids.take(pa.array(rows))
        score = None if score is None else score[rows]
    lookup = _Lookup.of(judgements)

    def ranked(part: slice) -> tuple[Ints, Ints, Floats, Ints]:
        return _ranked_part(query[part], doc[part], doc_ids[part], None if score is None else score[part], lookup)

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(ranked, _parts(query)))
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    found, rank, relevance, again = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    depth = np.bincount(query, minlength=len(judgements.query_ids)) - np.bincount(
        again, minlength=len(judgements.query_ids)
    )
    n_named = int((depth > 0).sum()) if named is None else _n_known(named, judgements)
    return JudgedRanking(
        query=found,
        rank=rank,
        relevance=relevance,
        depth=depth,
        n_missing=len(depth) - n_named,
        n_empty=n_named - int((depth > 0).sum()),
        n_unjudged_queries=n_unjudged,
        n_repeated=len(again),
    )


def place_in_group(group: Ints) -> Ints:
    """0, 1, 2, ... within each run of equal values of a sorted array."""
    count = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    start = np.cumsum(count) - count
    return np.arange(len(group)) - start[group]


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Relevance by (query, document), as sorted keys `query * width + document`."""

    key: Ints
    relevance: Floats
    width: int

    @classmethod
    def of(cls, judgements: Judgements) -> _Lookup:
        width = max(len(judgements.doc_ids), 1)
        key = judgements.query * width + judgements.doc
        order = np.argsort(key)
        return cls(key[order], judgements.relevance[order], width)

    def find(self, query: Ints, doc: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which of the pairs are judged, and the relevance of those."""
        if not len(self.key):
            return np.zeros(len(query), np.bool_), np.zeros(0)
        key = query * self.width + doc
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        judged = self.key[at] == key
        return judged, self.relevance[at[judged]]


def _grouped_rows(query: npt.NDArray[np.int32]) -> Ints | None:
    """Row numbers that bring each query's rows together and leave out those marked -1; None where nothing moves."""
    if not len(query) or (query[0] >= 0 and bool((query[1:] >= query[:-1]).all())):
        return None
    return np.argsort(query, kind="stable")[int((query < 0).sum()) :]


def _parts(query: npt.NDArray[np.int32]) -> list[slice]:
    """Slices of about PART_ROWS rows that cut no query in two, so that memory stays bounded."""
    cuts = [0]
    while cuts[-1] < len(query):
        last = min(cuts[-1] + PART_ROWS, len(query)) - 1
        cuts.append(int(np.searchsorted(query, query[last], side="right")))
    return [slice(*ends) for ends in pairwise(cuts)]


def _ranked_part(
    query: npt.NDArray[np.int32], doc: npt.NDArray[np.int32], doc_ids: pa.Array, score: Floats | None, lookup: _Lookup
) -> tuple[Ints, Ints, Floats, Ints]:
    """Query, rank and relevance of the judged documents, best first; and the query of each document that came again."""
    first = int(query[0])
    group = query.astype(np.int64) - first
    order = _ranked(group, score)
    again = group[:0]
    if pairs_repeat(group, doc_ids):
        new = _first_seen(group, encode(doc_ids)[0][order])
        again, group, order = group[~new] + first, group[new], order[new]
    doc = doc[order]
    candidates = np.flatnonzero(doc >= 0)
    wanted = group[candidates] + first
    judged, relevance = lookup.find(wanted, doc[candidates])
    return wanted[judged], place_in_group(group)[candidates[judged]], relevance, again


def _ranked(group: Ints, score: Floats | None) -> Ints:
    """Row numbers by descending score within each group of rows; rows that tie keep their order."""
    order = np.arange(len(group))
    if score is None:
        return order
    descending = -score
    if bool(((group[1:] > group[:-1]) | (descending[1:] >= descending[:-1])).all()):
        return order
    depth = np.bincount(group)
    width = int(depth.max())
    if len(depth) * width > SPARSE_AT * len(group):  # a few very deep queries among shallow ones
        return np.lexsort((descending, group))
    rectangle = np.full((len(depth), width), np.inf)
    rectangle[group, place_in_group(group)] = descending
    column = np.argsort(rectangle, axis=1, kind="stable")
    column += (np.cumsum(depth) - depth)[:, None]
    return column[np.arange(width) < depth[:, None]]


def _first_seen(query: Ints, doc: Ints) -> npt.NDArray[np.bool_]:
    """True at the first of each (query, document)."""
    _, at = np.unique(query * (int(doc.max(initial=0)) + 1) + doc, return_index=True)  # the first of each: stable
    first = np.zeros(len(query), np.bool_)
    first[at] = True
    return first


def _first_of_each(
    query: Ints, doc: Ints, relevance: Floats, query_ids: pa.Array, doc_ids: pa.Array
) -> tuple[npt.NDArray[np.bool_], int]:
    """True at the first judgement of each (query, document), and how many say the same again."""
    key = query * max(len(doc_ids), 1) + doc
    unique, at, back = np.unique(key, return_index=True, return_inverse=True)
    differs = relevance != relevance[at][back]
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"document {doc_ids[doc[row]].as_py()!r} has two judgements for query {query_ids[query[row]].as_py()!r}: "
            f"{relevance[at][back][row]:g} and {relevance[row]:g}; keep one"
        )
    first = np.zeros(len(key), np.bool_)
    first[at] = True
    return first, len(key) - len(unique)


def _n_known(named: pa.Array, judgements: Judgements) -> int:
    known = codes_in(named, judgements.known_query_ids, what="query ids")
    return int((judgements.position[known[known >= 0]] >= 0).sum())


def _columns(table: Any, *, number: str) -> tuple[pa.Array, pa.Array, Floats | None, pa.Array | None]:
    """Query ids, document ids, scores or relevances (None for ranked lists), and the queries that a mapping names."""
    if isinstance(table, Mapping):
        return _from_mapping(table, number)
    if not hasattr(table, "columns"):
        raise TypeError(f"{type(table).__name__} is neither a DataFrame, a mapping nor the path of a TREC file")
    for name in ("query_id", "doc_id"):
        if name not in table.columns:
            raise DataError(f"no column {name} among {', '.join(map(str, table.columns))}; rename the one you have")
    query_ids = id_array(table["query_id"], what="query ids")
    doc_ids = id_array(table["doc_id"], what="document ids")
    if number in table.columns:
        return query_ids, doc_ids, _finite(table[number].to_numpy(), number), None
    if number == "score" and "rank" in table.columns:
        return query_ids, doc_ids, -_finite(table["rank"].to_numpy(), "rank"), None
    return query_ids, doc_ids, None, None


def _from_mapping(table: Mapping[Any, Any], number: str) -> tuple[pa.Array, pa.Array, Floats | None, pa.Array]:
    named = id_array(list(table), what="query ids")
    sizes = np.fromiter(map(len, table.values()), np.int64, len(table))
    query_ids = named.take(pa.array(np.repeat(np.arange(len(table)), sizes)))
    doc_ids = id_array(list(chain.from_iterable(table.values())), what="document ids")
    scored = [isinstance(documents, Mapping) for documents in table.values()]
    if not all(scored):
        if any(scored):
            raise DataError("some queries have scores and others a plain list of documents; give all of them one form")
        if any(isinstance(documents, str) for documents in table.values()):
            raise TypeError("a query's documents are one text, must be a list of document ids")
        return query_ids, doc_ids, None, named
    return query_ids, doc_ids, _finite(list(chain.from_iterable(map(dict.values, table.values()))), number), named


def _finite(values: Any, name: str) -> Floats:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} holds something that is not a number; convert or remove those rows") from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{name} is {numbers[row]} in row {row}, must be a finite number")
    return numbers
