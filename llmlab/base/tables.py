"""CSV that a spreadsheet shows and does not run: cells that begin like a formula get an apostrophe, and lose it here.

Spreadsheets run what begins with = + - @ (in their full width too), a tab or a line end as a formula, and what stands
in an answer or an id is anybody's (OWASP, "CSV Injection"). Numbers stay numbers. Used by `Shown.to_csv`, and by
whatever reads CSV.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.base.documents import whole_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv_cell", "read_back", "separator_of", "write_csv"]

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def csv_cell(value: Any) -> Any:
    """The value as a spreadsheet may read it: lists joined, texts that begin like a formula after an apostrophe.

    >>> [csv_cell(value) for value in ("=1+1", "-0.5", -0.5, ("a", "b"), "'=1")]
    ["'=1+1", '-0.5', -0.5, 'a; b', "''=1"]
    """
    if isinstance(value, (list, tuple)):
        value = "; ".join(map(str, value))
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def read_back(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without the apostrophes that `csv_cell` set, in cells and names of columns."""
    if not frame.columns.is_unique:  # whoever reads it will refuse it
        return frame
    texts = {
        name: [_read(value) for value in frame[name].tolist()]
        for name in frame.columns
        if frame[name].map(lambda value: isinstance(value, str) and value.startswith("'")).any()
    }
    return frame.assign(**texts).rename(columns=_read) if texts or any(map(_is_marked, frame.columns)) else frame


def separator_of(text: str) -> str:
    """What separates the columns of a CSV file: of comma, semicolon and tab the one that its header has most of.

    Where the comma is the decimal sign, spreadsheets write semicolons.

    >>> separator_of("question;expected\\nWhy, indeed?;so\\n"), separator_of('"a;b;c",d\\n')
    (';', ',')
    """
    header = text.lstrip("\ufeff\r\n").splitlines()[:1]
    return max(",;\t", key=lambda one: len(next(csv.reader(header, delimiter=one), [])))


def write_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """The table as a CSV file in UTF-8 (whole, or not at all); a missing value is an empty cell."""
    safe = frame.astype(object).map(csv_cell).set_axis([csv_cell(name) for name in frame.columns], axis="columns")
    with whole_file(path) as part:
        safe.to_csv(part, index=False, encoding="utf-8", errors="backslashreplace", lineterminator="\r\n")
    return Path(path)


def _is_marked(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) is not None


def _read(value: Any) -> Any:
    return value[1:] if _is_marked(value) else value
