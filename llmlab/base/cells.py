"""What stands in a cell: its words, chips and marks, and its text, safe in a terminal.

Model output, ids, tags and file names are untrusted: whatever reaches a terminal passes `plain` here, whatever
reaches a page passes `escape` in `display.html`.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from llmlab.base.numbers import MISSING, Interval, number

CUT_AT_CHARS = 160  # longer cells are cut, with the whole text one click away
ROW_LIMIT = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Chip:
    """A word in a coloured chip; the word carries the meaning, the colour only helps."""

    word: str
    kind: str = "neutral"  # good, bad, unsure or neutral

    def __str__(self) -> str:
        return self.word


@dataclasses.dataclass(frozen=True, slots=True)
class Marked:
    """Pieces of text, each with how it stands out ("" or gone, came, good, strong, quiet); the text alone as str."""

    pieces: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "".join(text for text, _ in self.pieces)


@dataclasses.dataclass(frozen=True, slots=True)
class Folded:
    """A text of which HTML shows only its length until it is opened."""

    text: str

    def __str__(self) -> str:
        return self.text


def as_sentences(notes: Iterable[str]) -> str:
    """Notes, which begin small and end without a full stop, as sentences.

    >>> as_sentences(["30 labels only: it is rough", "all labels agree", "Is so."])
    '30 labels only: it is rough. All labels agree. Is so.'
    """
    return " ".join(f"{note[:1].upper()}{note[1:]}{'' if note.endswith(('.', '?')) else '.'}" for note in notes if note)


def plain(value: object, limit: int | None = CUT_AT_CHARS) -> str:
    r"""Text that is safe in a terminal: control characters (ANSI escapes too) are shown, not obeyed.

    >>> plain("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    text = printable(str(value), keep="")
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def more_rows(rows: Sequence[object], most_rows: int) -> str:
    return f"… and {len(rows) - most_rows:,} more rows (to_frame() has them all)"


def columns_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def columns_wide(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian signs and emoji two, what combines none.

    >>> columns_wide("日本"), columns_wide("e\u0301")
    (4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(0 if _combines(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def is_numeric(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(value, Interval) or (hasattr(value, "__float__") and not isinstance(value, (str, bool)))
        for value in values
    )


def cell_text(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, (str, Chip, Interval, Marked)):
        return str(value)
    if isinstance(value, bool) or hasattr(value, "__float__"):
        return number(value)
    if isinstance(value, (tuple, list, frozenset, set)):
        return ", ".join(map(cell_text, value)) or MISSING
    return str(value)


def printable(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _visible(char) for char in text)


def _visible(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode("ascii")


def _combines(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me", "Cf")
