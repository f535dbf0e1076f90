"""Answers as columns of a frame, and columns as answers again: the two directions of one mapping."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.clients.base import Generation, Usage

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["frame_of", "generations_of", "storable"]

_PLAIN_COLUMNS = ("variant", "case_id", "repeat", "status", "cached", "attempts")
_TEXT_COLUMNS = ("text", "served_model", "system_fingerprint", "error", "call_key")
_NUMBER_COLUMNS = ("latency_s", "first_token_s", "cost_usd")
_TOKEN_COLUMNS = ("input_tokens", "output_tokens", "cached_input_tokens")
_FRAME_COLUMNS = (
    *("variant", "case_id", "repeat", "status", "text", "retrieved", "tool_calls"),
    *_TOKEN_COLUMNS,
    *_NUMBER_COLUMNS,
    *("served_model", "system_fingerprint", "cached", "attempts", "error", "steps", "call_key"),
)


def frame_of(generations: Sequence[Generation]) -> pd.DataFrame:
    """One row per answer, one column per field; NaN in a number column = unknown."""
    import pandas as pd

    columns: dict[str, Any] = {name: [getattr(g, name) for g in generations] for name in _PLAIN_COLUMNS}
    columns |= {name: [storable(getattr(g, name) or "") for g in generations] for name in _TEXT_COLUMNS}
    columns |= {name: _numbers([getattr(g, name) for g in generations]) for name in _NUMBER_COLUMNS}
    columns |= {name: _numbers([getattr(g.usage, name) for g in generations]) for name in _TOKEN_COLUMNS}
    columns["retrieved"] = pd.Series([g.retrieved for g in generations], dtype=object)
    columns["tool_calls"] = [storable(json.dumps(g.tool_calls)) if g.tool_calls else "" for g in generations]
    columns["steps"] = [json.dumps(g.steps) if g.steps else "" for g in generations]
    return pd.DataFrame({name: columns[name] for name in _FRAME_COLUMNS})


def generations_of(frame: pd.DataFrame) -> Iterator[Generation]:
    """The answers of a frame's rows, in its order."""
    columns = {name: frame[name].tolist() for name in _FRAME_COLUMNS}
    for values in zip(*columns.values(), strict=True):
        yield _generation(dict(zip(columns, values, strict=True)))


def _generation(row: Mapping[str, Any]) -> Generation:
    cost = _number(row["cost_usd"])
    tokens = {name: _number(row[name]) for name in _TOKEN_COLUMNS}
    return Generation(
        **{name: row[name] for name in (*_PLAIN_COLUMNS, *_TEXT_COLUMNS, "retrieved")},
        latency_s=_number(row["latency_s"]),
        first_token_s=_number(row["first_token_s"]),
        cost_usd=None if cost is None else Decimal(repr(cost)),
        usage=Usage(**{name: None if count is None else int(count) for name, count in tokens.items()}),
        tool_calls=tuple(json.loads(row["tool_calls"] or "[]")),
        steps=tuple(json.loads(row["steps"] or "[]")),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=float)


def storable(text: str) -> str:
    """Text that Parquet and databases can hold: a lone surrogate is written as its escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
