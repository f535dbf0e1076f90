"""Which of a query's judged documents came back, and at which rank: all that any retrieval measure needs.

A run and its judgements are matched once, as whole arrays; what stays is small, since most of what a retriever returns
was never judged relevant. Used by `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.base.errors import DataError
from llmlab.retrieval.ids import (
    codes_in,
    descending_places,
    encode,
    exact_pair_keys,
    id_array,
    on_cores,
    pair_keys,
    pairs_repeat,
    require_same_type,
)

__all__ = [
    "JudgedRanking",
    "Judgements",
    "by_descending_id",
    "judged_ranking",
    "judgements_of",
    "keep_order",
    "place_in_group",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Ties: TypeAlias = Callable[[Ints, pa.Array], Ints]  # row numbers that tie, and the ids of all rows

MOSTLY = 0.8
PART_ROWS = 1 << 16  # small enough for a processor's cache
SPARSE_AT = 8  # a rectangle of queries x depth may be this many times larger than the rows it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """Judged documents of the queries that have a relevant one; rows sorted by query, best first.

    Attributes:
        query_ids: the queries with a relevant document, in the order given.
        known_query_ids, position: all judged queries, and where each stands in query_ids (-1: nothing relevant).
        query, doc_ids, relevance: one entry per judgement.
        rank: 0 for the best judged document of its query, 1 for the next: the ideal ranking.
        n_repeated: judgements given more than once.
    """

    query_ids: pa.Array
    known_query_ids: pa.Array
    position: npt.NDArray[np.int32]
    query: Ints
    doc_ids: pa.Array
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
    n_given = len(query)
    if pairs_repeat(query, doc_ids):
        first = _first_judgements(query, doc_ids, relevance, known)
        query, doc_ids, relevance = query[first], doc_ids.take(pa.array(first)), relevance[first]
    used = np.bincount(query[relevance > 0], minlength=len(known)) > 0
    position = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    order = np.lexsort((-relevance, query))
    order = order[used[query[order]]]
    query = position[query[order]].astype(np.int64)
    return Judgements(
        query_ids=known.filter(pa.array(used)),
        known_query_ids=known,
        position=position,
        query=query,
        doc_ids=doc_ids.take(pa.array(order)),
        relevance=relevance[order],
        rank=place_in_group(query),
        n_repeated=n_given - len(relevance),
    )


def keep_order(rows: Ints, doc_ids: pa.Array) -> Ints:
    """Ties as the retriever gave them."""
    return rows


def by_descending_id(rows: Ints, doc_ids: pa.Array) -> Ints:
    """Ties as trec_eval breaks them."""
    return descending_places(doc_ids.take(pa.array(rows)))


def judged_ranking(run: Any, judgements: Judgements, *, ties: Ties = keep_order) -> JudgedRanking:
    """Where the judged documents stand in a run: a DataFrame (query_id, doc_id and score, or rank, or neither), or
    a mapping of each query to its documents, best first, or to {document: score}.

    Higher scores come first; of tied documents those with the lower key of `ties`: by default they keep the order in
    which the retriever gave them.

    Raises:
        DataError: a missing column or id, a score that is not finite, or ids of another type than in the judgements.
    """
    query_ids, doc_ids, score, named = _columns(run, number="score")
    known = codes_in(query_ids, judgements.known_query_ids, what="query ids")
    n_unjudged = pc.count_distinct(query_ids.filter(pa.array(known < 0))).as_py() if (known < 0).any() else 0
    query = np.append(judgements.position, np.int32(-1))[known]
    require_same_type(doc_ids, judgements.doc_ids, what="document ids")
    n = len(judgements.query_ids)
    own, asked = np.arange(n), judgements  # the number among the judgements of each group of rows
    if (blocks := _blocks(query, n)) is not None:
        own, query = blocks
        asked = _renumbered(judgements, own)
    elif (rows := _grouped_rows(query)) is not None:
        query, doc_ids = query[rows], doc_ids.take(pa.array(rows))
        score = None if score is None else score[rows]

    def ranked(part: slice) -> tuple[Ints, Ints, Floats, Ints]:
        return _ranked_part(query[part], doc_ids[part], None if score is None else score[part], asked, ties)

    parts = on_cores(ranked, _parts(query))
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    found, rank, relevance, again = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    again = own[again][own[again] >= 0]
    depth = np.zeros(n, np.int64)
    depth[own[own >= 0]] = np.bincount(query, minlength=len(own))[own >= 0]
    depth -= np.bincount(again, minlength=n)
    by_query = np.argsort(own[found], kind="stable")
    n_named = int((depth > 0).sum()) if named is None else _n_known(named, judgements)
    return JudgedRanking(
        query=own[found][by_query],
        rank=rank[by_query],
        relevance=relevance[by_query],
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


def _blocks(query: npt.NDArray[np.int32], n: int) -> tuple[Ints, npt.NDArray[np.int32]] | None:
    """The query of each block of equal rows, and each row's block; None where a query comes in two, or many are -1."""
    if not len(query):
        return None
    start = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
    own = query[start].astype(np.int64)
    judged = own[own >= 0]
    if len(judged) < MOSTLY * len(own) or np.bincount(judged, minlength=1).max() > 1:
        return None
    return own, np.repeat(np.arange(len(own), dtype=np.int32), np.diff(start, append=len(query)))


def _renumbered(judgements: Judgements, own: Ints) -> Judgements:
    """The judgements of the queries `own`, which become 0, 1, ...: cheaper than to sort the rows of the run."""
    number = np.full(len(judgements.query_ids), -1)
    number[own[own >= 0]] = np.flatnonzero(own >= 0)
    query = number[judgements.query]
    rows = np.argsort(query, kind="stable")[int((query < 0).sum()) :]
    doc_ids = judgements.doc_ids.take(pa.array(rows))
    return replace(judgements, query=query[rows], doc_ids=doc_ids, relevance=judgements.relevance[rows])


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
    query: npt.NDArray[np.int32], doc_ids: pa.Array, score: Floats | None, judgements: Judgements, ties: Ties
) -> tuple[Ints, Ints, Floats, Ints]:
    """Query, rank and relevance of the judged documents, best first; and the query of each document that came again."""
    first = int(query[0])
    part = slice(*np.searchsorted(judgements.query, [first, int(query[-1]) + 1]))
    group, asked = query.astype(np.int64) - first, judgements.query[part] - first
    asked_ids = judgements.doc_ids[part]
    order = np.arange(len(group)) if score is None else _ranked(group, -score, lambda rows: ties(rows, doc_ids))
    again = group[:0]
    place, found, repeats = _places(pair_keys(asked, asked_ids), pair_keys(group, doc_ids)[order])
    same = (group[place] == asked[found]).all() and doc_ids.take(pa.array(order[place])).equals(
        asked_ids.filter(pa.array(found))
    )
    if repeats or not same:  # a document came twice, or two keys collided
        keys, wanted = exact_pair_keys(group, doc_ids, asked, asked_ids)
        new = _first_seen(keys[order])
        again, group, order = group[~new] + first, group[new], order[new]
        place, found, _ = _places(wanted, keys[order])
    by_rank = np.argsort(place)
    place = place[by_rank]
    return group[place] + first, place_in_group(group)[place], judgements.relevance[part][found][by_rank], again


def _places(wanted: npt.NDArray[Any], keys: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[np.bool_], bool]:
    """Where the wanted keys stand, for those that are there; which are there; and whether any key comes twice."""
    slots = np.zeros(1 << 16, np.bool_)  # by the first two bytes: most keys are wanted by nobody, and need no place
    slots[wanted >> 48] = True
    near = np.flatnonzero(slots[keys >> 48])
    by_key = near[np.argsort(keys[near])]
    at = np.searchsorted(keys[by_key], wanted)
    found = np.append(keys[by_key], keys[:1])[at] == wanted
    found &= at < len(by_key)
    in_order = np.sort(keys)
    return by_key[at[found]], found, bool((in_order[1:] == in_order[:-1]).any())


def _ranked(group: Ints, descending: Floats, key: Callable[[Ints], Ints]) -> Ints:
    """Row numbers by rising value within each group of rows; rows that tie by their key."""
    depth = np.bincount(group)
    width = int(depth.max())
    if bool(((group[1:] > group[:-1]) | (descending[1:] >= descending[:-1])).all()):
        order = np.arange(len(group))
    elif len(depth) * width > SPARSE_AT * len(group):  # a few very deep queries among shallow ones
        order = np.lexsort((descending, group))
    elif width * len(depth) == len(group):
        order = (np.argsort(descending.reshape(-1, width), axis=1) + np.arange(0, len(group), width)[:, None]).ravel()
    else:
        rectangle = np.full((len(depth), width), np.inf)
        rectangle[group, place_in_group(group)] = descending
        column = np.argsort(rectangle, axis=1)
        column += (np.cumsum(depth) - depth)[:, None]
        order = column[np.arange(width) < depth[:, None]]
    in_order = descending[order]
    again = (in_order[1:] == in_order[:-1]) & (group[1:] == group[:-1])  # rows of a group stand together in any order
    if again.any():
        tied = np.flatnonzero(np.append(again, False) | np.append(False, again))
        first = np.append(True, ~again)[tied]
        order[tied] = order[tied][np.lexsort((key(order[tied]), np.cumsum(first)))]
    return order


def _first_seen(keys: Ints) -> npt.NDArray[np.bool_]:
    """True at the first of each key."""
    first = np.zeros(len(keys), np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _first_judgements(query: Ints, doc_ids: pa.Array, relevance: Floats, query_ids: pa.Array) -> Ints:
    """Rows of the first judgement of each (query, document); DataError where a later one says something else."""
    keys, _ = exact_pair_keys(query, doc_ids, query[:0], doc_ids[:0])
    _, at, back = np.unique(keys, return_index=True, return_inverse=True)
    differs = relevance != relevance[at][back]
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"document {doc_ids[row].as_py()!r} has two judgements for query {query_ids[query[row]].as_py()!r}: "
            f"{relevance[at][back][row]:g} and {relevance[row]:g}; keep one"
        )
    return np.sort(at)


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
