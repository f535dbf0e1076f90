"""Tables that people hand over, and CSV that a spreadsheet shows and does not run.

Spreadsheets run what begins with = + - @ (in their full width too), a tab or a line end as a formula, and what stands
in an answer or an id is anybody's (OWASP, "CSV Injection"): such cells are written after an apostrophe and a word
joiner, and lose both here; an apostrophe alone is somebody's own and stays. Numbers stay numbers. Golden sets, scores
and verdicts are read by the one reader, whose errors name file, line and rule:

- UTF-8, and UTF-16 with its mark; anything else is refused with what to do.
- Commas, semicolons or tabs. Beside the latter two a comma within a number is the decimal sign, unless points stand
  in the same column.
- An id is its text, and outer blanks do not count where ids are compared; a whole number in a column of floats is that
  number (1.0 is "1"), while "01", "1" and a "1.0" that stands in a CSV file are three.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.base.documents import decoded, json_lines, read_bytes, whole_file
from llmlab.base.errors import FileRuleError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS_SHOWN = 20
JSON_LINES = (".jsonl", ".ndjson")  # endings, in whatever case they are written
_LONGEST_HEADER_CHARS = 100_000  # the rest of a file is not looked through for its separator

_GUARD = "'\u2060"  # an apostrophe as spreadsheets ask for it, and a mark that nobody types
_FORMULA = re.compile(rf"(?:{_GUARD})*[=+\-@\t\r\n＝＋－＠]")
_DECIMAL_COMMA = r"\s*[+-]?\d+,\d+\s*"
_SEPARATOR = re.compile(r"\ufeff?\"?sep=([^\"\w\r\n])\"?(?:\r\n|\r|\n|$)", re.IGNORECASE)  # a first line of Excel's
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file: texts of CSV, values of Parquet and JSONL. `text` (of CSV) or `lines` place a row."""

    cells: pd.DataFrame
    path: Path
    text: str = ""
    lines: tuple[int, ...] = ()

    def with_columns(self, names: Sequence[str]) -> Table:
        """The table with these columns alone; FileRuleError where one is not there, is there twice, or holds bytes."""
        columns = [str(name) for name in self.cells.columns]
        for name in names:
            if columns.count(name) != 1:
                problem = "no column" if name not in columns else f"{columns.count(name)} columns called"
                more = f" and {len(columns) - _COLUMNS_SHOWN:,} more" if len(columns) > _COLUMNS_SHOWN else ""
                listed = ", ".join(columns[:_COLUMNS_SHOWN]) + more
                raise FileRuleError(f"{problem} {name!r} in the table (it has: {listed})", path=self.path)
        cells = self.cells[list(names)]
        for name in names:
            if rows := _rows_of_bytes(cells[name]):
                raise self.refused(
                    rows[0], f"column {name!r} holds bytes that are no UTF-8 text ({len(rows)} such rows)"
                )
        return replace(self, cells=cells)

    def with_numbers(self) -> Table:
        """The table with columns of nothing but numbers and empty cells as numbers, and empty cells as NaN."""
        import pandas as pd

        if not self.text:
            return self
        pointed = self.cells.apply(lambda column: with_points(column, self.text))
        return replace(self, cells=pd.read_csv(io.StringIO(pointed.to_csv(index=False))))

    def line_of(self, row: int) -> int | None:
        """The line on which the row (0 = the first one of data) begins; None for Parquet."""
        if self.lines:
            return self.lines[row]
        rows = islice(_numbered(self.text), row + 1, None)  # after the header
        return next((line for line, _ in rows), None)

    def refused(self, row: int, rule: str) -> FileRuleError:
        """The error that this row breaks the rule, with its line; row 1 is the first one of data for people."""
        return FileRuleError(f"row {row + 1}: {rule}", path=self.path, line=self.line_of(row))


def with_points(column: pd.Series[Any], text: str) -> pd.Series[Any]:
    """A column of a CSV file (its `text`) with points for decimal commas, where commas are no separators."""
    if not text or _separator_of(text) == ",":
        return column
    texts = column.fillna("").astype(str)
    numbers = texts.str.fullmatch(_DECIMAL_COMMA)
    if not numbers.any() or texts.str.fullmatch(r".*\d\.\d.*").any():
        return column
    return column.where(~numbers, texts.str.replace(",", "."))


def texts_of(column: pd.Series[Any]) -> pd.Series[str]:
    """A column of ids or labels as texts; whole numbers in a column of floats without a point."""
    if column.dtype.kind == "f" and not (column.dropna() % 1).any():
        column = column.astype("Int64")
    return column.astype(str)


def read_table(path: str | Path) -> Table:
    """A CSV file (also with ; or tabs) or, by its ending, a Parquet or JSONL file; FileRuleError for what is none."""
    readers = {".parquet": read_parquet, ".pq": read_parquet, **dict.fromkeys(JSON_LINES, _read_json_lines)}
    ending = Path(path).suffix.lower()
    if ending == ".json":
        raise FileRuleError(
            "is no table; write each row as an object on a line of its own into a .jsonl file", path=path
        )
    return readers.get(ending, read_csv)(path)


def _read_json_lines(path: str | Path) -> Table:
    """The objects of a JSONL file as rows; a key within an object is a column too, as `outer.inner`."""
    import pandas as pd

    numbered = list(json_lines(path))
    rows = [dict(row) for _, row in numbered]
    for row in rows:
        for name, part in [(name, part) for name, part in row.items() if isinstance(part, dict)]:
            row.update({f"{name}.{key}": value for key, value in part.items() if f"{name}.{key}" not in row})
    return Table(cells=pd.DataFrame(rows, dtype=object), path=Path(path), lines=tuple(line for line, _ in numbered))


def read_parquet(path: str | Path) -> Table:
    """The table in a Parquet file, bytes that are UTF-8 as text; FileRuleError for anything else."""
    import pandas as pd

    try:
        cells = pd.read_parquet(io.BytesIO(read_bytes(path)))
    except (ValueError, OSError, NotImplementedError, TypeError, KeyError) as error:  # pyarrow's own are such
        raise FileRuleError(f"is not a Parquet file ({error})", path=path) from None
    for name in [name for name in cells.columns if _rows_of_bytes(cells[name])]:
        cells[name] = cells[name].map(text_of_bytes)
    return Table(cells=cells, path=Path(path))


def text_of_bytes(cell: Any) -> Any:
    """Bytes as the text that they are in UTF-8, at any depth; everything else, and other bytes, as it is."""
    if isinstance(cell, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return cell.decode("utf-8")
    if (parts := _parts(cell)) is None:
        return cell
    texts = [text_of_bytes(part) for part in parts]
    return dict(zip(cell, texts, strict=True)) if isinstance(cell, Mapping) else texts


def _rows_of_bytes(column: pd.Series[Any]) -> list[int]:
    """The rows whose cells hold bytes: only a column of objects or of categories has any."""
    return [row for row, cell in enumerate(column) if _has_bytes(cell)] if column.dtype in (object, "category") else []


def _has_bytes(cell: Any) -> bool:
    parts = _parts(cell)
    return isinstance(cell, bytes) if parts is None else any(map(_has_bytes, parts))


def _parts(cell: Any) -> Iterable[Any] | None:
    """What a list or an object holds, None for every other cell."""
    if isinstance(cell, Mapping):
        return cell.values()
    return cell if isinstance(cell, (list, tuple)) or getattr(cell, "dtype", None) == "O" else None


def read_csv(path: str | Path) -> Table:
    """The table in a CSV file, every cell a text; FileRuleError, with its line, for one that is not whole."""
    import pandas as pd

    text = _decoded(read_bytes(path), path)
    if not text.strip():
        raise FileRuleError("is empty: its first line must name the columns", path=path)
    separator = _separator_of(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            below = io.StringIO(_SEPARATOR.sub("", text, count=1) if _SEPARATOR.match(text) else text)
            frame = pd.read_csv(below, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        line = _longer_than_the_header(text)
        why = "a row has more cells than the header" if line else str(error).strip()
        raise FileRuleError(f"is not a whole CSV file ({why})", path=path, line=line) from None
    _, header = next(_numbered(text))
    if len(header) == len(frame.columns):  # pandas numbers columns of one name
        frame.columns = pd.Index(header)
    return Table(cells=read_back(frame), path=Path(path), text=text)


def _decoded(raw: bytes, path: str | Path) -> str:
    """UTF-8, or UTF-16 that says so; FileRuleError with what to do for what spreadsheets write otherwise."""
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise FileRuleError('is an Excel workbook; save it as "CSV UTF-8"', path=path)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise FileRuleError(f"is torn UTF-16 ({error.reason})", path=path) from None
    if b"\0" in raw[:1000]:
        raise FileRuleError('is neither UTF-8 nor UTF-16 with its mark; save it as "CSV UTF-8"', path=path, line=1)
    try:
        return decoded(raw, path)
    except FileRuleError as error:
        advice = f'{error.rule}, maybe Windows-1252; save it as "CSV UTF-8"'
        raise FileRuleError(advice, path=path, line=error.line) from None


def _numbered(text: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which header and rows begin, and their cells; empty lines are no rows."""
    reader, begins = csv.reader(io.StringIO(text, newline=""), delimiter=_separator_of(text)), 1
    if _SEPARATOR.match(text):
        next(reader)
        begins = 2
    for cells in reader:
        if len(cells) > 1 or any(cell.strip() for cell in cells):
            yield begins, cells
        begins = reader.line_num + 1


def _longer_than_the_header(text: str) -> int | None:
    """The first line that is; None where none is, or the file tears before."""
    with contextlib.suppress(csv.Error):
        rows = _numbered(text)
        _, header = next(rows)
        return next((line for line, cells in rows if len(cells) > len(header)), None)
    return None


def csv_cell(value: Any) -> Any:
    """The value as a spreadsheet may read it: lists joined, texts that begin like a formula after `_GUARD`.

    >>> [csv_cell(value) for value in ("=1+1", "-0.5", -0.5, ("a", "b"), "'=1")]
    ["'\\u2060=1+1", '-0.5', -0.5, 'a; b', "'=1"]
    """
    if isinstance(value, (list, tuple)):
        value = "; ".join(map(str, value))
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = str(value)
    return f"{_GUARD}{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def read_back(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without the marks that `csv_cell` set, in cells and names of columns."""
    return frame.map(_unmarked).rename(columns=_unmarked)


def _separator_of(text: str) -> str:
    """What separates the columns of a CSV file: of comma, semicolon and tab the one that its header has most of.

    Where the comma is the decimal sign, spreadsheets write semicolons; a first line `sep=;` of Excel's names it.

    >>> _separator_of("question;expected\\nWhy, indeed?;so\\n"), _separator_of('"a;b;c",d\\n')
    (';', ',')
    """
    if declared := _SEPARATOR.match(text):
        return declared[1]
    header = text[:_LONGEST_HEADER_CHARS].lstrip("\ufeff\r\n").splitlines()[:1]
    return max(",;\t", key=lambda separator: len(next(csv.reader(header, delimiter=separator), [])))


def write_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """The table as a CSV file in UTF-8 (whole, or not at all); a missing value is an empty cell."""
    safe = frame.astype(object).map(csv_cell).set_axis([csv_cell(name) for name in frame.columns], axis="columns")
    with whole_file(path) as partial_path:
        safe.to_csv(partial_path, index=False, encoding="utf-8", errors="backslashreplace", lineterminator="\r\n")
    return Path(path)


def _unmarked(value: Any) -> Any:
    is_marked = isinstance(value, str) and value.startswith(_GUARD) and _FORMULA.match(value)
    return value[len(_GUARD) :] if is_marked else value
