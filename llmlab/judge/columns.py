"""Columns of other tools' tables as labels: what an empty cell is, what names a winner, which levels a scale has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.display import plain
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["called", "lengths_of", "levels_of", "require_columns", "scale_of", "split", "winners"]

_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>"})


def split(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The table's rows for every combination of the columns that occurs; all of it without columns."""
    if not by:
        yield {}, frame
        return
    for key, rows in frame.groupby(list(by), sort=True, dropna=False):
        yield dict(zip(by, (_plain_cell(one) for one in key), strict=True)), rows


def _plain_cell(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def called(group: Mapping[str, Any]) -> str:
    """A group as messages name it."""
    return ", ".join(f"{key} {plain(value, 40)}" for key, value in group.items()) or "the table"


def require_columns(frame: pd.DataFrame, names: Sequence[str | None]) -> None:
    """DataError for a column that is not there, or a table without rows."""
    missing = [name for name in names if name is not None and name not in frame.columns]
    if missing:
        raise DataError(f"no column {missing[0]!r} in the table (it has: {', '.join(map(str, frame.columns))})")
    if not len(frame):
        raise DataError("the table has no rows")


def lengths_of(rows: pd.DataFrame, name: str) -> FloatArray:
    """A column of lengths; DataError with the row (1 = the first of the table) for one that is empty or no number."""
    found = np.array([_length(value) for value in rows[name].tolist()], dtype=float)
    wrong = np.flatnonzero(~np.isfinite(found))
    if wrong.size:
        row, value = rows.index[wrong[0]] + 1, rows[name].iloc[wrong[0]]
        said = "is empty" if _is_empty(value) else f"holds {plain(value, 40)}, which is no number"
        raise DataError(f"row {row}: column {name!r} {said}; fill it in, or leave the lengths out")
    return found


def _length(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _is_empty(value: Any) -> bool:
    return value is None or value != value or str(value).strip().lower() in _EMPTY


def winners(column: Any, name: str) -> list[Any]:
    """1, 2, "tie" or None, out of numbers and texts."""
    known = {"1": 1, "2": 2, "1.0": 1, "2.0": 2, "tie": "tie"}
    found: list[Any] = []
    for row, value in enumerate(column.tolist(), start=1):
        if _is_empty(value):
            found.append(None)
            continue
        winner = known.get(str(value).strip().lower())
        if winner is None:
            raise DataError(f"{name}, row {row} of its group: {plain(value, 40)!r} must be 1, 2, tie or empty")
        found.append(winner)
    return found


def scale_of(frame: pd.DataFrame, human: str, judge: str) -> list[Any]:
    """The levels of a scale: those that occur, and for whole numbers all between them."""
    seen = {_level(value) for name in (human, judge) for value in frame[name].tolist() if not _is_empty(value)}
    if len(seen) < 2:
        raise DataError(f"{human!r} and {judge!r} hold {len(seen)} different labels, two are the least to compare")
    if all(isinstance(one, int) for one in seen) and max(seen) - min(seen) <= 100:
        return list(range(min(seen), max(seen) + 1))
    if all(isinstance(one, (int, float)) for one in seen):
        return sorted(seen)
    return sorted(seen, key=str)


def _level(value: Any) -> Any:
    """A cell as a level: whole numbers as int, other numbers as float, anything else as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value).strip()
    return int(number) if number == int(number) else number


def levels_of(column: Any, levels: Sequence[Any], name: str) -> list[Any]:
    """A column as levels of the scale, None where it is empty; DataError for anything off the scale."""
    known = set(levels)
    found = [None if _is_empty(value) else _level(value) for value in column.tolist()]
    strange = next((one for one in found if one is not None and one not in known), None)
    if strange is not None:
        raise DataError(f"{name}: {plain(strange, 40)!r} is not on the scale {list(levels)}")
    return found
