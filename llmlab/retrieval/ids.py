"""Query and document ids as Arrow arrays, with codes for queries and eight-byte keys for (query, document) pairs.

Ids are most of the work in retrieval metrics (a million strings against a million numbers). Keys are a few array
operations where a hash table is a walk through memory; they may collide, so whoever uses one checks the ids it found.
Used by `trec` (ties, repeated judgements) and `ranking` (matching a run with its judgements).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.base.errors import DataError

__all__ = [
    "codes_in",
    "descending_places",
    "encode",
    "exact_pair_keys",
    "id_array",
    "on_cores",
    "pair_keys",
    "pairs_repeat",
    "require_same_type",
]

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(os.cpu_count() or 1, 4)

_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number, so that multiplying by it loses nothing
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)


def id_array(values: Any, *, what: str) -> pa.Array:
    """Ids as one Arrow array of strings or of 64-bit integers, without missing ones.

    Raises:
        DataError: a missing id, or ids that are neither text nor whole numbers.
    """
    try:
        ids = values if isinstance(values, pa.ChunkedArray) else pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{what} are of mixed types ({error}); make them all text, for example with .astype(str)"
        ) from None
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


def encode(ids: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """A code from 0 for each id, in order of first appearance, and the distinct ids."""
    values, length = _runs(ids)
    encoded = values.dictionary_encode()
    return np.repeat(encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), length), encoded.dictionary


def descending_places(ids: pa.Array) -> npt.NDArray[np.int64]:
    """A number for each id that rises as ids, compared byte by byte, fall; the same for equal ids."""
    code, distinct = encode(ids)
    place = np.empty(len(distinct), np.int64)
    place[pc.sort_indices(distinct, sort_keys=[("", "descending")]).to_numpy()] = np.arange(len(distinct))
    return place[code]


def codes_in(ids: pa.Array, known: pa.Array, *, what: str) -> npt.NDArray[np.int32]:
    """The position of each id in `known`, -1 where it is not there.

    Raises:
        DataError: text on one side and numbers on the other, which would match nowhere.
    """
    if len(ids) == 0 or len(known) == 0:
        return np.full(len(ids), -1, np.int32)
    require_same_type(ids, known, what=what)
    values, length = _runs(ids)
    found = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False)
    return np.repeat(found, length)


def require_same_type(in_run: pa.Array, in_judgements: pa.Array, *, what: str) -> None:
    """Nothing, where ids can match; DataError for text on one side and numbers on the other."""
    if len(in_run) and len(in_judgements) and in_run.type != in_judgements.type:
        raise DataError(
            f"{what} are {_kind(in_run)} in the run (such as {in_run[0].as_py()!r}) and {_kind(in_judgements)} in the "
            f"judgements (such as {in_judgements[0].as_py()!r}); make them the same type"
        )


def pair_keys(group: npt.NDArray[Any], ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Eight bytes for each (group, id) pair: equal for equal pairs, and almost always different for different ones."""
    key = _fingerprint(ids)
    key ^= key >> np.uint64(32)
    key *= _MIX
    key += group.astype(np.uint64) * _MIX_2
    return key


def exact_pair_keys(
    group: npt.NDArray[Any], ids: pa.Array, other_group: npt.NDArray[Any], other_ids: pa.Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A number for each pair of both sides, equal where and only where the pairs are: slower than `pair_keys`."""
    code, distinct = encode(pa.concat_arrays([ids, other_ids]) if len(other_ids) else ids)
    return group * len(distinct) + code[: len(ids)], other_group * len(distinct) + code[len(ids) :]


def pairs_repeat(group: npt.NDArray[Any], ids: pa.Array) -> bool:
    """Whether some (group, id) pair may come twice: False is certain, True is worth an exact look."""
    key = np.sort(pair_keys(group, ids))
    return bool((key[1:] == key[:-1]).any())


def _runs(ids: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Ids without those equal to the one before, and how often each stands there (rows of a query stand together)."""
    runs = pc.run_end_encode(ids, run_end_type=pa.int64())
    return runs.values, np.diff(runs.run_ends.to_numpy(), prepend=0)


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
    mixed: npt.NDArray[np.uint64] = words[
        np.maximum(end - 8, start + 8)
    ]  # the eight before the last, or from the start of a shorter text
    mixed *= _MIX
    mixed *= length > 8
    mixed ^= words[end] >> ((8 - np.minimum(length, 8)) * 8).view(np.uint64)
    mixed += length.view(np.uint64) * _MIX_2
    return mixed


def on_cores(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item, several at a time where there are several: Arrow and numpy let other threads run."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def _kind(ids: pa.Array) -> str:
    return "whole numbers" if pa.types.is_integer(ids.type) else "text"
