"""Query and document ids as Arrow arrays: codes to count with, and a quick proof that nothing comes twice.

Ids are most of the work in retrieval metrics (a million strings against a million numbers), so each id is hashed once.
Used by `trec` (ties, repeated judgements) and `ranking` (matching a run with its judgements).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmlab.errors import DataError

__all__ = ["THREADS", "codes_in", "encode", "id_array", "pairs_repeat"]

THREADS = min(os.cpu_count() or 1, 4)
SLICE_ROWS = 100_000

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
    encoded = ids.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary


def codes_in(ids: pa.Array, known: pa.Array, *, what: str) -> npt.NDArray[np.int32]:
    """The position of each id in `known`, -1 where it is not there.

    Raises:
        DataError: text on one side and numbers on the other, which would match nowhere.
    """
    if len(ids) == 0 or len(known) == 0:
        return np.full(len(ids), -1, np.int32)
    if ids.type != known.type:
        raise DataError(
            f"{what} are {_kind(ids)} in the run (such as {ids[0].as_py()!r}) and {_kind(known)} in the judgements "
            f"(such as {known[0].as_py()!r}); make them the same type"
        )

    def look_up(start: int) -> npt.NDArray[np.int32]:
        found = pc.index_in(ids.slice(start, size), value_set=known)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]  # pyarrow is untyped

    size = max(-(-len(ids) // THREADS), SLICE_ROWS)
    with ThreadPoolExecutor(THREADS) as pool:  # Arrow and numpy let other threads run
        return np.concatenate(list(pool.map(look_up, range(0, len(ids), size))))


def pairs_repeat(group: npt.NDArray[Any], ids: pa.Array) -> bool:
    """Whether some (group, id) pair may come twice: False is certain, True is worth an exact look."""
    key = _fingerprint(ids)
    key ^= key >> np.uint64(32)
    key *= _MIX
    key += group.astype(np.uint64) * _MIX_2
    key.sort()
    return bool((key[1:] == key[:-1]).any())


def _fingerprint(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Eight bytes per id, equal for equal ids: mixed from length, first and last eight bytes of a text."""
    if pa.types.is_integer(ids.type):
        return np.array(ids.to_numpy(zero_copy_only=False), np.int64).view(np.uint64)
    if len(ids) == 0:
        return np.zeros(0, np.uint64)
    _, offsets, text = ids.buffers()
    bounds = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    start, end = bounds[:-1] - bounds[0], bounds[1:] - bounds[0]
    used = np.frombuffer(text or b"", np.uint8)[bounds[0] : bounds[-1]]
    padding = np.zeros(8, np.uint8)  # so that eight bytes can be read before and after every id
    padded = np.concatenate([padding, used, padding])
    words = np.ndarray(len(padded) - 7, np.dtype("<u8"), buffer=padded, strides=(1,))  # every eight bytes, overlapping
    length = end - start
    short = (8 - np.minimum(length, 8)).astype(np.uint64) * np.uint64(8)
    last = words[end] >> short
    first = np.where(length >= 8, words[start + 8], np.uint64(0))
    mixed: npt.NDArray[np.uint64] = last ^ (first * _MIX) ^ (length.astype(np.uint64) * _MIX_2)
    return mixed


def _kind(ids: pa.Array) -> str:
    return "whole numbers" if pa.types.is_integer(ids.type) else "text"
