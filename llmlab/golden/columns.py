"""Cases out of the columns of a table: each row's cells as the plain values of a case, whoever made the table."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pandas as pd

from llmlab.base.errors import FileRuleError
from llmlab.base.tables import Table, read_csv, read_parquet, read_table, text_of_bytes, texts_of, with_points

if TYPE_CHECKING:
    import datasets

ExpectedIs: TypeAlias = Literal["facts", "text", "json"]
Inputs: TypeAlias = Sequence[str] | Mapping[str, str]  # names of columns, or placeholder -> name


class RowError(ValueError):
    """A row of a table that is no case."""

    def __init__(self, row: int, rule: str) -> None:
        self.row, self.rule = row, rule
        super().__init__(f"row {row + 1}: {rule}")


def rows_of(
    frame: pd.DataFrame,
    *,
    inputs: Inputs,
    columns: Mapping[str, str | None],
    id: str | None,
    expected_is: ExpectedIs,
) -> Iterator[dict[str, Any]]:
    """The plain values of each row's case; `columns`: field of a case -> column, None where the table has none.

    Raises:
        ValueError: the table lacks a column, or `inputs` names none. RowError: a cell is empty, or none of its kind.
    """
    used = {key: column for key, column in columns.items() if column is not None}
    fills = _fills(inputs)
    id_column = id or ("id" if "id" in frame.columns and "id" not in fills.values() else None)
    for column in [*fills.values(), *used.values(), *([id_column] if id_column else [])]:
        if column not in frame.columns:
            raise ValueError(f"no column {column!r} in the table (it has: {', '.join(map(str, frame.columns))})")
    ids = texts_of(frame[id_column]).tolist() if id_column and frame[id_column].dtype.kind == "f" else None
    for place, record in enumerate(frame.to_dict("records")):
        try:
            row: dict[str, Any] = {key: _cell(record[column], key, expected_is) for key, column in used.items()}
            row["id"] = f"q{place + 1}"
            if id_column:
                text = str(_present(record[id_column], id_column))
                row["id"] = text if ids is None else ids[place]
            row["inputs"] = {name: _present(record[column], column) for name, column in fills.items()}
        except ValueError as error:
            raise RowError(place, str(error)) from None
        yield row


def of_file(path: str | Path, kind: str, inputs: Inputs, columns: Mapping[str, Any]) -> tuple[Table, pd.DataFrame]:
    """A file ("csv", "parquet", "" = by its ending, JSONL too), and what is asked of it without its empty rows.

    FileRuleError where no row is left.
    """
    table = {"csv": read_csv, "parquet": read_parquet}.get(kind, read_table)(path)
    frame = table.with_columns(_named(inputs, columns, table.cells.columns)).cells
    if table.text:
        frame = frame[~table.cells.map(is_missing).all(axis="columns")]
    if frame.empty:
        raise FileRuleError("has no cases", path=table.path)
    weight = columns.get("weight")
    return table, frame.assign(**{weight: with_points(frame[weight], table.text)}) if weight else frame


def of_dataset(dataset: datasets.Dataset, inputs: Inputs, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The columns of a Hugging Face dataset as a person reads them: a class by its name, a picture as a part."""
    needed = _named(inputs, columns, dataset.column_names)
    some = dataset.with_format(None).select_columns([name for name in dataset.column_names if name in needed])
    rows = [_as_read(row, some.features) for row in some]
    return pd.DataFrame(rows, columns=some.column_names or None, dtype=object)


def _fills(inputs: Inputs) -> Mapping[str, str]:
    """Placeholder -> column; ValueError for one text, whose letters would be columns, and for none."""
    if isinstance(inputs, str) or not inputs:
        raise ValueError(f"inputs == {inputs!r}, must be a list of columns, such as ['question']")
    return inputs if isinstance(inputs, Mapping) else {column: column for column in inputs}


def _named(inputs: Inputs, columns: Mapping[str, Any], there: Iterable[str]) -> list[str]:
    """The columns that inputs, fields and ids of cases are read from, each once; `there`: all of the table."""
    fields = [column for key, column in columns.items() if column and key not in ("expected_is", "name")]
    own_id = [] if columns.get("id") or "id" not in there else ["id"]
    return list(dict.fromkeys([*_fills(inputs).values(), *fields, *own_id]))


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing, whatever the table calls that."""
    return not value.strip() if isinstance(value, str) else bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _present(value: Any, column: str) -> Any:
    if is_missing(value):
        raise ValueError(f"column {column!r} is empty")
    value = native(value)
    if isinstance(value, bytes):
        raise ValueError(f"column {column!r} holds bytes that are no UTF-8 text")
    return value if isinstance(value, (str, bool, int, float, list, dict)) else str(value)


def native(value: Any) -> Any:
    """A cell of any depth as plain values: arrays are lists, decimals floats, days, times and bytes in UTF-8 texts."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): native(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [native(item) for item in value]
    return str(value) if hasattr(value, "isoformat") else text_of_bytes(value)


def _as_read(value: Any, feature: Any) -> Any:
    """A value of a Hugging Face dataset as a person reads it, by the type that the library has for it."""
    if value is None:
        return None
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if value >= 0 else None  # -1: nobody labelled it
    if type(feature).__name__ == "Image":
        value.save(png := BytesIO(), format="PNG")
        url = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(feature, Mapping):
        return {name: _as_read(value[name], inner) for name, inner in feature.items()}
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return [_as_read(item, inner) for item in value] if inner is not None and isinstance(value, list) else value


def _cell(value: Any, key: str, expected_is: ExpectedIs) -> Any:
    if is_missing(value):
        return None
    if key == "expected" and isinstance(value, str) and expected_is != "facts":
        return value.strip() if expected_is == "text" else _json(value)
    if isinstance(value, Mapping):
        # Elsewhere Parquet fills the keys of other rows with null.
        null_counts = key == "expected" and expected_is == "json"
        return {name: native(item) for name, item in value.items() if null_counts or item is not None}
    if key in ("expected", "tags", "relevant") and isinstance(value, str):
        return [part.strip() for part in value.split(";") if part.strip()]
    if key == "weight":
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"weight == {value!r}, must be a number") from None
    return str(native(value)) if key == "cluster" else native(value)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected == {text[:80]!r} is not JSON ({error})") from None
