"""Which of a query's judged documents came back, and at which rank: all that any retrieval measure needs.

A run and its judgements are matched once, as whole Arrow arrays; what stays is small, since most of what a retriever
returns was never judged relevant. Ids are most of that work (a million strings against a million numbers), so each
(query, document) pair becomes a key of eight bytes: a few array operations, where a hash table is a walk through
memory. Keys may collide, so whoever uses one checks the ids it found. Used by `metrics` and `trec`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.base.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Ties: TypeAlias = Callable[[Ints, pa.Array], Ints]  # row numbers that tie, and the ids of all rows

_THREADS = min(os.cpu_count() or 1, 4)
_MOSTLY = 0.8
PART_ROWS = 1 << 16  # small enough for a processor's cache
_SLOT_BITS = 20  # slots that fit in the cache too, and of which a part's keys share few
SPARSE_AT = 8  # a rectangle of queries x depth may be this many times larger than the rows it holds

_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number, so that multiplying by it loses nothing
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)


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
    query, distinct_ids = encode(query_ids)
    n_given = len(query)
    first = first_of_pair(query, doc_ids)
    if (differs := relevance != relevance[first]).any():
        row = int(differs.argmax())
        raise DataError(
            f"document {doc_ids[row].as_py()!r} has two judgements for query {query_ids[row].as_py()!r}: "
            f"{relevance[first[row]]:g} and {relevance[row]:g}; keep one"
        )
    once = np.flatnonzero(first == np.arange(n_given))
    if len(once) < n_given:
        query, doc_ids, relevance = query[once], doc_ids.take(pa.array(once)), relevance[once]
    used = np.bincount(query[relevance > 0], minlength=len(distinct_ids)) > 0
    position = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    order = np.lexsort((-relevance, query))
    order = order[used[query[order]]]
    query = position[query[order]].astype(np.int64)
    return Judgements(
        query_ids=distinct_ids.filter(pa.array(used)),
        known_query_ids=distinct_ids,
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
    """Ties as trec_eval breaks them: a number for each row that rises as ids, compared byte by byte, fall."""
    code, distinct = encode(doc_ids.take(pa.array(rows)))
    place = np.empty(len(distinct), np.int64)
    place[pc.sort_indices(distinct, sort_keys=[("", "descending")]).to_numpy()] = np.arange(len(distinct))
    return place[code]


def judged_ranking(run: Any, judgements: Judgements, *, ties: Ties = keep_order) -> JudgedRanking:
    """Where the judged documents stand in a run: a DataFrame (query_id, doc_id and score, or rank, or neither), or
    a mapping of each query to its documents, best first, or to {document: score}.

    Higher scores come first; of tied documents those with the lower key of `ties`: by default they keep the order in
    which the retriever gave them.

    Raises:
        DataError: a missing column or id, a score that is not finite, or ids of another type than in the judgements.
    """
    query_ids, doc_ids, score, all_query_ids = _columns(run, number="score")
    # The run's queries are numbered as they come, and the judgements after them: cheaper than to sort the run's rows.
    query, distinct_ids = encode(query_ids)
    known = _codes_in(distinct_ids, judgements.known_query_ids, what="query ids")
    _require_same_type(doc_ids, judgements.doc_ids, what="document ids")
    # A query without judgements has code -1, and so reads the -1 at the end.
    own = np.append(judgements.position, -1)[known]
    n, judgements_of_run, judged = len(judgements.query_ids), _renumbered(judgements, own), own[query] >= 0
    if judged.sum() < _MOSTLY * len(query) or bool((query[1:] < query[:-1]).any()):
        rows = np.argsort(query, kind="stable")  # each query's together
        rows = rows[judged[rows]]
        query, doc_ids = query[rows], doc_ids.take(pa.array(rows))
        score = None if score is None else score[rows]

    def ranked(part: slice) -> tuple[Ints, Ints, Floats, Ints]:
        return _ranked_part(query[part], doc_ids[part], None if score is None else score[part], judgements_of_run, ties)

    none = np.zeros(0, np.int64)
    # a part of nothing ahead, because a run without judged queries has no other to join
    parts = [(none, none, np.zeros(0), none), *on_cores(ranked, _parts(query))]
    judged_query, rank, relevance, again = (np.concatenate(column) for column in zip(*parts, strict=True))
    again = own[again][own[again] >= 0]
    depth = np.zeros(n, np.int64)
    depth[own[own >= 0]] = np.bincount(query, minlength=len(own))[own >= 0]
    depth -= np.bincount(again, minlength=n)
    by_query = np.argsort(own[judged_query], kind="stable")
    n_named = n_returned = int((depth > 0).sum())
    if all_query_ids is not None:
        places = _codes_in(all_query_ids, judgements.known_query_ids, what="query ids")
        n_named = int((judgements.position[places[places >= 0]] >= 0).sum())
    return JudgedRanking(
        query=own[judged_query][by_query],
        rank=rank[by_query],
        relevance=relevance[by_query],
        depth=depth,
        n_missing=len(depth) - n_named,
        n_empty=n_named - n_returned,
        n_unjudged_queries=int((known < 0).sum()),
        n_repeated=len(again),
    )


def place_in_group(group: Ints) -> Ints:
    """0, 1, 2, ... within each run of equal values of a sorted array."""
    count = np.bincount(group)
    start = np.cumsum(count) - count
    return np.arange(len(group)) - start[group]


def id_array(values: Any, *, what: str) -> pa.Array:
    """Ids as one Arrow array of strings or of 64-bit integers, without missing ones.

    Raises:
        DataError: a missing id, or ids that are neither text nor whole numbers.
    """
    try:
        ids = values if isinstance(values, pa.ChunkedArray) else pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        hint = "make them all text, for example with .astype(str)"
        raise DataError(f"{what} are of mixed types ({error}); {hint}") from None
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if ids.null_count:
        where = int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{what}: row {where} has none; every row needs one")
    if pa.types.is_integer(ids.type):
        return ids.cast(pa.int64())
    if len(ids) == 0 or pa.types.is_string(ids.type) or pa.types.is_string_view(ids.type):
        return ids.cast(pa.large_string())
    if not pa.types.is_large_string(ids.type):
        raise DataError(f"{what} are {ids.type}, must be text or whole numbers")
    return ids


def encode(ids: pa.Array) -> tuple[Ints, pa.Array]:
    """A code from 0 for each id, in order of first appearance, and the distinct ids."""
    blocks = pc.run_end_encode(ids, run_end_type=pa.int64())  # rows of a query stand together
    encoded = blocks.values.dictionary_encode()
    starts = np.zeros(len(ids) + 1, np.int64)
    starts[blocks.run_ends.to_numpy()] = 1
    run = np.cumsum(starts[:-1])
    if len(encoded.dictionary) == len(encoded):  # no id comes back after another: the run is the code
        return run, encoded.dictionary
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)[run], encoded.dictionary


def _codes_in(ids: pa.Array, known: pa.Array, *, what: str) -> npt.NDArray[np.int32]:
    """The position of each id in `known`, -1 where it is not there; DataError for ids that would match nowhere."""
    if len(ids) == 0 or len(known) == 0:
        return np.full(len(ids), -1, np.int32)
    _require_same_type(ids, known, what=what)
    codes: npt.NDArray[np.int32] = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy(zero_copy_only=False)
    return codes


def _require_same_type(in_run: pa.Array, in_judgements: pa.Array, *, what: str) -> None:
    """Nothing, where ids can match; DataError for text on one side and numbers on the other."""
    if len(in_run) and len(in_judgements) and in_run.type != in_judgements.type:
        raise DataError(
            f"{what} are {_kind(in_run)} in the run (such as {in_run[0].as_py()!r}) and {_kind(in_judgements)} in the "
            f"judgements (such as {in_judgements[0].as_py()!r}); make them the same type"
        )


def _pair_keys(group: npt.NDArray[Any], ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Eight bytes for each (group, id) pair: equal for equal pairs, and almost always different for different ones."""
    key = _fingerprint(ids)
    key ^= key >> np.uint64(32)
    key *= _MIX
    key += group.astype(np.uint64) * _MIX_2
    return key


def _exact_pair_keys(group: Ints, ids: pa.Array, other_group: Ints, other_ids: pa.Array) -> tuple[Ints, Ints]:
    """A number for each pair of both sides, equal where and only where the pairs are: slower than `_pair_keys`."""
    code, distinct = encode(pa.concat_arrays([ids, other_ids]))
    return group * len(distinct) + code[: len(ids)], other_group * len(distinct) + code[len(ids) :]


def first_of_pair(group: Ints, ids: pa.Array) -> Ints:
    """For each row the first row with its (group, id)."""
    if not _any_twice(_pair_keys(group, ids)):  # no pair comes twice, for certain
        return np.arange(len(group))
    code, distinct = encode(ids)
    _, first, pair = np.unique(group * len(distinct) + code, return_index=True, return_inverse=True)
    rows: Ints = first[pair]
    return rows


def on_cores(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item, several at a time where there are several: Arrow and numpy let other threads run."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def _renumbered(judgements: Judgements, own: Ints) -> Judgements:
    """The judgements of the queries `own`, which become 0, 1, ...: cheaper than to sort the rows of the run."""
    number = np.full(len(judgements.query_ids), -1)
    number[own[own >= 0]] = np.flatnonzero(own >= 0)
    query = number[judgements.query]
    rows = np.argsort(query, kind="stable")[int((query < 0).sum()) :]
    doc_ids = judgements.doc_ids.take(pa.array(rows))
    return replace(judgements, query=query[rows], doc_ids=doc_ids, relevance=judgements.relevance[rows])


def _parts(query: Ints) -> list[slice]:
    """Slices of about PART_ROWS rows that cut no query in two, so that memory stays bounded."""
    cuts = [0]
    while cuts[-1] < len(query):
        last = min(cuts[-1] + PART_ROWS, len(query)) - 1
        cuts.append(int(np.searchsorted(query, query[last], side="right")))
    return [slice(*ends) for ends in pairwise(cuts)]


def _ranked_part(
    query: Ints, doc_ids: pa.Array, score: Floats | None, judgements: Judgements, ties: Ties
) -> tuple[Ints, Ints, Floats, Ints]:
    """Query, rank and relevance of the judged documents, best first; and the query of each document that came again."""
    first = int(query[0])
    part = slice(*np.searchsorted(judgements.query, [first, int(query[-1]) + 1]))
    group, judged_query = query - first, judgements.query[part] - first
    judged_ids = judgements.doc_ids[part]
    order = np.arange(len(group)) if score is None else _ranked(group, -score, lambda rows: ties(rows, doc_ids))
    again = group[:0]
    pairs = _pair_keys(group, doc_ids)[order]
    place, is_found = _places(_pair_keys(judged_query, judged_ids), pairs)
    same = (group[place] == judged_query[is_found]).all() and doc_ids.take(pa.array(order[place])).equals(
        judged_ids.filter(pa.array(is_found))
    )
    if not same or _any_twice(pairs):  # a document came twice, or two keys collided
        keys, wanted = _exact_pair_keys(group, doc_ids, judged_query, judged_ids)
        new = np.zeros(len(order), np.bool_)
        new[np.unique(keys[order], return_index=True)[1]] = True
        again, group, order = group[~new] + first, group[new], order[new]
        place, is_found = _places(wanted, keys[order])
    by_rank = np.argsort(place)
    place = place[by_rank]
    return group[place] + first, place_in_group(group)[place], judgements.relevance[part][is_found][by_rank], again


def _places(wanted: npt.NDArray[Any], keys: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where the wanted keys stand, for those that are there; and which are there."""
    slots = np.zeros(1 << 16, np.bool_)  # by the first two bytes: most keys are wanted by nobody, and need no place
    slots[wanted >> 48] = True
    near = np.flatnonzero(slots[keys >> 48])
    by_key = near[np.argsort(keys[near])]
    at = np.searchsorted(keys[by_key], wanted)
    is_found = np.append(keys[by_key], keys[:1])[at] == wanted
    is_found &= at < len(by_key)
    return by_key[at[is_found]], is_found


def _any_twice(keys: npt.NDArray[np.uint64]) -> bool:
    """Whether a key comes twice: each takes the place of its first bits, and only who lost it to another is sorted."""
    rows, slot = np.arange(len(keys), dtype=np.int32), keys >> np.uint64(64 - _SLOT_BITS)
    owner = np.empty(1 << _SLOT_BITS, np.int32)
    owner[slot] = rows
    lost = np.flatnonzero(owner[slot] != rows)
    in_order = np.sort(keys[lost])
    return bool((in_order[1:] == in_order[:-1]).any() or (keys[owner[slot[lost]]] == keys[lost]).any())


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
    all_ids = id_array(list(table), what="query ids")
    sizes = np.fromiter(map(len, table.values()), np.int64, len(table))
    query_ids = all_ids.take(pa.array(np.repeat(np.arange(len(table)), sizes)))
    doc_ids = id_array(list(chain.from_iterable(table.values())), what="document ids")
    scored = [isinstance(documents, Mapping) for documents in table.values()]
    if not all(scored):
        if any(scored):
            raise DataError("some queries have scores and others a plain list of documents; give all of them one form")
        if any(isinstance(documents, str) for documents in table.values()):
            raise TypeError("a query's documents are one text, must be a list of document ids")
        return query_ids, doc_ids, None, all_ids
    return query_ids, doc_ids, _finite(list(chain.from_iterable(map(dict.values, table.values()))), number), all_ids


def _finite(values: Any, name: str) -> Floats:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} holds something that is not a number; convert or remove those rows") from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{name} is {numbers[row]} in row {row}, must be a finite number")
    return numbers


def _fingerprint(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Eight bytes per id, equal for equal ids: a number itself, of a text its length and last sixteen bytes mixed."""
    if pa.types.is_integer(ids.type):
        return np.array(ids.to_numpy(zero_copy_only=False), np.int64).view(np.uint64)
    if len(ids) == 0:
        return np.zeros(0, np.uint64)
    _, offsets, text = ids.buffers()
    bounds = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    start, end = bounds[:-1] - bounds[0], bounds[1:] - bounds[0]
    padding = np.zeros(8, np.uint8)  # so that the eight bytes before every end can be read
    padded = np.concatenate([padding, np.frombuffer(text or b"", np.uint8)[bounds[0] : bounds[-1]], padding])
    words = np.ndarray(len(padded) - 7, np.dtype("<u8"), buffer=padded, strides=(1,))  # every eight bytes, overlapping
    length = end - start
    # The eight bytes before the last eight, or those from the start of a shorter text.
    mixed: npt.NDArray[np.uint64] = words[np.maximum(end - 8, start + 8)]
    mixed *= _MIX
    mixed *= length > 8
    mixed ^= words[end] >> ((8 - np.minimum(length, 8)) * 8).view(np.uint64)
    mixed += length.view(np.uint64) * _MIX_2
    return mixed


def _kind(ids: pa.Array) -> str:
    return "whole numbers" if pa.types.is_integer(ids.type) else "text"
