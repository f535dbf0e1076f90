"""A value that shows itself: as one line, as an escaped table, as a frame and as a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from llmlab import display as room
from llmlab.base.cells import ROW_LIMIT, Chip, cell_text, columns_of, columns_wide, is_numeric, more_rows, plain
from llmlab.base.documents import write_whole
from llmlab.base.numbers import Interval
from llmlab.base.verdict import Verdict, required

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_MOST_FIELDS_ABREAST = 4


class Shown:
    """Mixin: a value that shows itself as one line, as an escaped table and as a frame.

    Override `_rows` for values that are tables, and `_sentence` for what they mean, one sentence a line.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]  # every value that is shown is a dataclass
    _most_rows: ClassVar[int] = ROW_LIMIT  # shown at once; `to_frame()` has them all

    def _rows(self) -> list[dict[str, object]]:
        return [{field.name: getattr(self, field.name) for field in dataclasses.fields(self)}]

    def _sentence(self) -> str:
        return ""

    def __repr__(self) -> str:
        rows = self._rows()
        first = (rows[0] if rows else {}).items()
        head = ", ".join(f"{plain(key, 60)}={plain(cell_text(value), 60)}" for key, value in first)
        more = f", ... {len(rows)} rows" if len(rows) > 1 else ""
        return f"{type(self).__name__}({head}{more})"

    def _table(self) -> list[dict[str, object]]:
        """The rows as they are shown: what is one record of many fields has a line per field."""
        rows = self._rows()
        if type(self)._rows is Shown._rows and len(rows[0]) > _MOST_FIELDS_ABREAST:
            return [{"field": name, "value": value} for name, value in rows[0].items()]
        return rows

    def __str__(self) -> str:
        table = text_table(self._table(), most_rows=self._most_rows)
        sentences = [plain(line, None) for line in self._sentence().split("\n")]
        return "\n".join(filter(None, (table, *sentences)))

    def _repr_html_(self) -> str:
        return room.html.html_table(self._table(), caption=self._sentence(), most_rows=self._most_rows)

    def to_frame(self) -> pd.DataFrame:
        """The same rows as a pandas DataFrame."""
        return frame(self._rows())

    def to_csv(self, path: str | Path) -> Path:
        """Write `to_frame()` as CSV, in which no cell is a formula; llmlab reads such cells back as they were."""
        return room.write_csv(self._csv_frame(), path)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page, without scripts, to send to a colleague; of results every answer is in it."""
        rows = [] if type(self)._csv_frame is Shown._csv_frame else self._csv_frame().to_dict("records")
        named = [{str(name): value for name, value in row.items()} for row in rows]
        every = room.html.html_table(named, most_rows=len(named)) if named else ""
        return write_whole(path, room.html.html_page(type(self).__name__, self._repr_html_(), every))

    def _csv_frame(self) -> pd.DataFrame:
        return self.to_frame()


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Rows(Shown):
    """Single cases or answers as a table, with the sentence that reads it."""

    rows: tuple[Mapping[str, object], ...]
    sentence: str = ""

    @property
    def answer(self) -> str:
        """The sentence, by the name that studies had for it in 0.2."""
        return self.sentence

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Ids of the cases in the table, in its order, each once."""
        return tuple(dict.fromkeys(str(row["case"]) for row in self.rows if "case" in row))

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.rows]

    def _sentence(self) -> str:
        return self.sentence


def frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a pandas DataFrame (pandas is imported here, on first use)."""
    import pandas as pd

    def flat(value: object) -> object:
        return str(value) if isinstance(value, (Chip, Interval)) else value

    return pd.DataFrame([{key: flat(value) for key, value in row.items()} for row in rows])


def text_table(rows: Sequence[Mapping[str, object]], *, most_rows: int = ROW_LIMIT, longest: int = 60) -> str:
    """Rows as an aligned table for a terminal, control characters escaped, cells cut at so many characters."""
    if not rows:
        return ""
    columns = columns_of(rows)
    cells = [[plain(cell_text(row.get(column)), longest) for column in columns] for row in rows[:most_rows]]
    more = [more_rows(rows, most_rows)] if len(rows) > most_rows else []
    names = [plain(column, 60) for column in columns]
    widths = [max(columns_wide(name), *(columns_wide(row[i]) for row in cells)) for i, name in enumerate(names)]
    right = [is_numeric(rows, column) for column in columns]

    def line(parts: Sequence[str]) -> str:
        padded = (
            " " * (width - columns_wide(part)) + part if is_right else part + " " * (width - columns_wide(part))
            for part, width, is_right in zip(parts, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), line(["─" * width for width in widths]), *map(line, cells), *more])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Conclusion(Shown):
    """How a notebook ends: PASS, FAIL or INCONCLUSIVE, and why in one sentence."""

    word: Verdict
    sentence: str

    def require(self, how: str) -> Self:
        """This conclusion; with `how` "pass" a GateError unless it is PASS: the exit code of `llmlab run`."""
        required(self.word, how, sentence=self.sentence, decision=self)
        return self

    def _rows(self) -> list[dict[str, object]]:
        return [{"verdict": self.word.chip}]

    def _sentence(self) -> str:
        return self.sentence
