"""The one place where values become escaped HTML, terminal tables and pandas frames.

Model output, ids, tags and file names are untrusted: whatever reaches a screen passes `escape`
(HTML) or `plain` (terminal). Nothing else in llmlab builds HTML.
"""

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, ClassVar

from llmlab.base.documents import write_whole
from llmlab.base.numbers import MISSING, Interval, number
from llmlab.base.tables import write_csv

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__all__ = [
    "Chip",
    "Folded",
    "Html",
    "Interval",
    "Marked",
    "Rows",
    "Shown",
    "as_sentences",
    "both_sides",
    "diffed",
    "escape",
    "frame",
    "html_diff",
    "html_heading",
    "html_image",
    "html_note",
    "html_of",
    "html_table",
    "html_widget",
    "markdown",
    "markdown_block",
    "markdown_code",
    "markdown_table",
    "number",
    "plain",
    "text_table",
]

WORDY_CHARS = 40  # longer cells are never squeezed to a word a line
LONGEST_NAME_CHARS = 120  # a first column of such texts names the rows, and stays in sight
SHORT_CHARS = 20  # shorter texts are never broken
CUT_AT_CHARS = 160  # longer cells are cut, with the whole text one click away
HTML_TEXT_LIMIT_CHARS = 20_000  # what one cell may put into a notebook file at most
MOST_FIELDS_ABREAST = 4
ROW_LIMIT = 60
COMPARED_CHARS = 20_000  # of each text that is compared with another
SHARED_AT_LEAST = 0.25  # of the words of the shorter text: below, marking each change would hide both
LONG_WORDS = 5  # up to so many every change is marked

_CHIP_COLOURS = {
    "good": ("#0b6b50", "#d8f3e8"),
    "bad": ("#8f1d14", "#fde3df"),
    "unsure": ("#6b4a00", "#fdf0c8"),
    "neutral": ("#3d4450", "#e8eaee"),
}
_QUIET = "var(--jp-content-font-color2,#777)"  # read on white and on black
_CELL = "padding:.25em .7em;border-bottom:1px solid var(--jp-border-color2,#8886);vertical-align:top;"
_STAYS = "position:sticky;left:0;z-index:1;background:var(--jp-layout-color0,var(--vscode-editor-background,Canvas));"
_LONG_NAME = "min-width:12em;max-width:18em;overflow-wrap:anywhere"
_TABLE = (
    "border-collapse:collapse;font-size:13px;line-height:1.45;margin:.4em 0;"
    "color:var(--jp-content-font-color1,inherit);background:var(--jp-layout-color0,transparent);"
)
_MARKUP = frozenset(r"\`*_{}[]()#+!|~$")
_AS_IT_IS = "mathjax_ignore tex2jax_ignore"  # classes that keep MathJax 3 and 2 away: `$` in an answer is a dollar
_MARKS = {
    "gone": ("del", "background:#fde3df;color:#8f1d14"),
    "came": ("ins", "background:#d8f3e8;color:#0b6b50;text-decoration:underline 1px;text-underline-offset:2px"),
    "good": ("b", "background:#d8f3e8;color:#0b6b50;border-radius:.3em;padding:0 .25em"),
    "strong": ("b", ""),
    "quiet": ("span", f"color:{_QUIET}"),
}


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


class Html(str):
    """HTML that this module made: `html_of` and the widget take it as it is, and escape every other text."""

    __slots__ = ()


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
        head = ", ".join(f"{plain(key, 60)}={plain(_cell_text(value), 60)}" for key, value in first)
        more = f", ... {len(rows)} rows" if len(rows) > 1 else ""
        return f"{type(self).__name__}({head}{more})"

    def _table(self) -> list[dict[str, object]]:
        """The rows as they are shown: what is one record of many fields has a line per field."""
        rows = self._rows()
        if type(self)._rows is Shown._rows and len(rows[0]) > MOST_FIELDS_ABREAST:
            return [{"field": name, "value": value} for name, value in rows[0].items()]
        return rows

    def __str__(self) -> str:
        table = text_table(self._table(), most_rows=self._most_rows)
        sentences = [plain(line, None) for line in self._sentence().split("\n")]
        return "\n".join(filter(None, (table, *sentences)))

    def _repr_html_(self) -> str:
        return html_table(self._table(), caption=self._sentence(), most_rows=self._most_rows)

    def to_frame(self) -> pd.DataFrame:
        """The same rows as a pandas DataFrame."""
        return frame(self._rows())

    def to_csv(self, path: str | Path) -> Path:
        """Write `to_frame()` as CSV, in which no cell is a formula; llmlab reads such cells back as they were."""
        return write_csv(self._csv_frame(), path)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page, without scripts, to send to a colleague; of results every answer is in it."""
        rows = [] if type(self)._csv_frame is Shown._csv_frame else self._csv_frame().to_dict("records")
        named = [{str(name): value for name, value in row.items()} for row in rows]
        every = html_table(named, most_rows=len(named)) if named else ""
        return write_whole(path, _html_page(type(self).__name__, self._repr_html_(), every))

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


def escape(value: object) -> str:
    """Text that is safe inside HTML elements and quoted attributes; at most 20,000 characters of it.

    >>> escape('<script>alert("x")</script>')
    '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;'
    """
    text = str(value)
    if len(text) > HTML_TEXT_LIMIT_CHARS:
        text = f"{text[:HTML_TEXT_LIMIT_CHARS]}… ({len(text):,} characters in all)"
    return html.escape(_printable(text, keep="\n\t"), quote=True)


def as_sentences(notes: Iterable[str]) -> str:
    """Notes, which begin small and end without a full stop, as sentences.

    >>> as_sentences(["30 labels only: it is rough", "all labels agree", "Is so."])
    '30 labels only: it is rough. All labels agree. Is so.'
    """
    return " ".join(f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}" for note in notes if note)


def plain(value: object, limit: int | None = CUT_AT_CHARS) -> str:
    r"""Text that is safe in a terminal: control characters (ANSI escapes too) are shown, not obeyed.

    >>> plain("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    text = _printable(str(value), keep="")
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a pandas DataFrame (pandas is imported here, on first use)."""
    import pandas as pd

    def flat(value: object) -> object:
        return str(value) if isinstance(value, (Chip, Interval)) else value

    return pd.DataFrame([{key: flat(value) for key, value in row.items()} for row in rows])


def html_table(
    rows: Sequence[Mapping[str, object]], *, caption: str = "", most_rows: int = ROW_LIMIT, even: bool = False
) -> Html:
    """Rows as a compact escaped HTML table that follows Jupyter's light and dark themes, captions below it.

    With `even` it is as wide as the page, and all columns but the first, which names the rows, share the width.
    """
    note = _captions(caption)
    if not rows:
        return Html(f"<div class='{_AS_IT_IS}'>{note}</div>" if note else "<p>(no rows)</p>")
    columns = _columns(rows)
    stays = {column: _STAYS for column in columns[:1] if _names_rows(rows, column)}
    looks = [(column, _is_numeric(rows, column), stays.get(column, "")) for column in columns]
    head = "".join(
        f"<th style='{_aligned(numeric)}{_heading(column)}{stay}'>{escape(column)}</th>"
        for column, numeric, stay in looks
    )
    body = "".join(
        f"<tr>{''.join(_html_cell(row.get(column), numeric, stay) for column, numeric, stay in looks)}</tr>"
        for row in rows[:most_rows]
    )
    more = f"<p>{_more(rows, most_rows)}</p>" if len(rows) > most_rows else ""
    named = f"<thead><tr>{head}</tr></thead>" if any(column.strip() for column in columns) else ""
    wide = f"table-layout:fixed;width:100%;min-width:{12 * len(columns)}em" if even else ""
    first = "<colgroup><col style='width:12em'></colgroup>" if even else ""
    return Html(
        f"<div class='{_AS_IT_IS}'><div style='overflow-x:auto'><table style='{_TABLE}{wide}'>{first}"
        f"{named}<tbody>{body}</tbody></table>{more}</div>{note}</div>"
    )


def markdown(value: object, limit: int | None = CUT_AT_CHARS) -> str:
    """Text on one line that is neither Markdown nor HTML and names nobody: for a pull request or MLflow's pages.

    >>> markdown("<b>*5* | 6</b>")
    '&lt;b&gt;\\\\*5\\\\* \\\\| 6&lt;/b&gt;'
    """
    text = html.escape(" ".join(plain(value, limit).split()), quote=False)
    return "".join(f"\\{char}" if char in _MARKUP else char for char in text).replace("@", "@\u200b")


def markdown_code(text: str) -> str:
    """Text as it is, in a code span that it cannot leave.

    >>> markdown_code("a`b")
    '`` a`b ``'
    """
    shown = " ".join(plain(text, None).split())
    ticks = "`" * (_longest_run(shown) + 1)
    return f"{ticks}{shown}{ticks}" if len(ticks) == 1 else f"{ticks} {shown} {ticks}"


def markdown_block(text: str, *, language: str = "") -> str:
    """Lines as they are, in a fenced block that they cannot leave."""
    shown = "\n".join(plain(line, None) for line in text.splitlines())
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a Markdown table, every text escaped; "" for no rows."""
    if not rows:
        return ""
    columns = _columns(rows)
    lines = [[markdown(_cell_text(row.get(column))) for column in columns] for row in rows]
    marks = ["---:" if _is_numeric(rows, column) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ([markdown(c) for c in columns], marks, *lines))


def html_diff(before: str, after: str, *, before_name: str = "before", after_name: str = "after") -> Html:
    """Two texts side by side, word by word: what went is struck through, what came is underlined."""
    sides = zip((before_name, after_name), both_sides(before, after), strict=True)
    style = f"{_CELL}width:50%;white-space:pre-wrap;text-align:left"
    cells = "".join(f"<td style='{style}'><b>{escape(name)}</b><br>{_html_marked(side)}</td>" for name, side in sides)
    return Html(f"<table class='{_AS_IT_IS}' style='{_TABLE}width:100%'><tbody><tr>{cells}</tr></tbody></table>")


def diffed(before: str, after: str) -> Marked:
    """The text after: what is new in it came, what it lacks is gone, in place.

    A text that shares little with the one before is not marked word by word: that would hide both.

    >>> diffed("drop rows", "drop columns").pieces
    (('drop ', ''), ('rows', 'gone'), ('columns', 'came'))
    """
    changes = list(_changes(before, after))
    shorter = min(len(before.split()), len(after.split()))
    shared = sum(len(came.split()) for kind, _, came in changes if kind == "equal")
    if shorter > LONG_WORDS and shared < SHARED_AT_LEAST * shorter:
        return Marked((("(little in common)\n", "quiet"), (after, "")))
    both = ([(came, "")] if kind == "equal" else [(gone, "gone"), (came, "came")] for kind, gone, came in changes)
    return Marked(tuple(piece for pieces in both for piece in pieces if piece[0]))


def both_sides(before: str, after: str) -> tuple[Marked, Marked]:
    """The text before with what is gone, and the text after with what came.

    >>> both_sides("drop rows", "drop columns")[0].pieces
    (('drop ', ''), ('rows', 'gone'))
    """
    changes = list(_changes(before, after))
    old = tuple((gone, "" if kind == "equal" else "gone") for kind, gone, _ in changes if gone)
    new = tuple((came, "" if kind == "equal" else "came") for kind, _, came in changes if came)
    return Marked(old), Marked(new)


def html_heading(text: str, *, note: str = "") -> Html:
    """A line of text that stands out, with a quiet line above it."""
    quiet = f"<div style='font-size:12px;line-height:1.4;color:{_QUIET}'>{escape(note)}</div>" if note else ""
    style = "font-size:16px;line-height:1.4;font-weight:600;white-space:pre-wrap;overflow-wrap:anywhere"
    return Html(f"<div class='{_AS_IT_IS}'>{quiet}<div style='{style}'>{escape(text)}</div></div>")


def html_note(text: str, *, chip: Chip | None = None) -> Html:
    """One line of text behind a chip, for what a form says in place."""
    head = f"{_html_chip(chip)} " if chip is not None else ""
    style = "line-height:1.6;font-size:13px;margin-top:.4em"
    return Html(f"<div class='{_AS_IT_IS}' style='{style}'>{head}{escape(text)}</div>")


def html_image(png_base64: str, *, alt: str) -> Html:
    """A picture with its text for those who do not see it; of the data what is base64.

    >>> html_image('aGk="', alt="A > B")
    '<img alt="A &gt; B" src="data:image/png;base64,aGk=">'
    """
    data = re.sub(r"[^A-Za-z0-9+/=]", "", png_base64)
    return Html(f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">')


def html_of(*parts: object) -> Html:
    """Parts below each other: what this module made and values that show themselves as they are, the rest escaped.

    >>> html_of("1 < 2")
    "<p class='mathjax_ignore tex2jax_ignore' style='margin:.3em 0;max-width:70em'>1 &lt; 2</p>"
    """
    own = (Html(part._repr_html_()) if isinstance(part, Shown) else part for part in parts)
    return Html("".join(part if isinstance(part, Html) else _captions(str(part)) for part in own))


def html_widget(*parts: object) -> Any:
    """The one HTML widget, for parts as `html_of` takes them; what it shows is set by `.value = html_of(...)`.

    ipywidgets is imported here, on first use; its HTML widget shows what it is given unescaped.
    """
    import ipywidgets

    return ipywidgets.HTML(html_of(*parts))


def text_table(rows: Sequence[Mapping[str, object]], *, most_rows: int = ROW_LIMIT, longest: int = 60) -> str:
    """Rows as an aligned table for a terminal, control characters escaped, cells cut at so many characters."""
    if not rows:
        return ""
    columns = _columns(rows)
    cells = [[plain(_cell_text(row.get(column)), longest) for column in columns] for row in rows[:most_rows]]
    more = [_more(rows, most_rows)] if len(rows) > most_rows else []
    names = [plain(column, 60) for column in columns]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    right = [_is_numeric(rows, column) for column in columns]

    def line(parts: Sequence[str]) -> str:
        padded = (
            part.rjust(width) if is_right else part.ljust(width)
            for part, width, is_right in zip(parts, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), line(["─" * width for width in widths]), *map(line, cells), *more])


def _html_page(title: str, *parts: str) -> str:
    """A whole page around pieces that are HTML already."""
    style = "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em}"
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{style}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _changes(before: str, after: str) -> Iterator[tuple[str, str, str]]:
    """(equal, replace, insert or delete; piece before; piece after)."""
    old, new = (re.findall(r"\S+\s*|\s+", text[:COMPARED_CHARS]) for text in (before, after))
    bare_old, bare_new = ([word.rstrip() for word in words] for words in (old, new))
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, bare_old, bare_new, autojunk=False).get_opcodes():
        yield kind, "".join(old[i1:i2]), "".join(new[j1:j2])


def _captions(text: str) -> str:
    lines = [line for line in text.split("\n") if line]
    return "".join(f"<p class='{_AS_IT_IS}' style='margin:.3em 0;max-width:70em'>{escape(line)}</p>" for line in lines)


def _more(rows: Sequence[object], most_rows: int) -> str:
    return f"… and {len(rows) - most_rows:,} more rows (to_frame() has them all)"


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _is_numeric(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(value, Interval) or (hasattr(value, "__float__") and not isinstance(value, (str, bool)))
        for value in values
    )


def _cell_text(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, (str, Chip, Interval, Marked)):
        return str(value)
    if isinstance(value, bool) or hasattr(value, "__float__"):
        return number(value)
    if isinstance(value, (tuple, list, frozenset, set)):
        return ", ".join(map(_cell_text, value)) or MISSING
    return str(value)


def _names_rows(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    """Whether a first column is short texts, which stay in sight while the others are scrolled under them."""
    texts = [row.get(column) for row in rows]
    return len(rows[0]) > 2 and all(isinstance(text, str) and len(text) <= LONGEST_NAME_CHARS for text in texts)


def _heading(column: str) -> str:
    """A heading is broken between its words first, and never overlaps the next one."""
    longest = max(map(len, column.split()), default=0)
    return f"font-weight:600;min-width:{min(longest, 22) * 0.65 + 0.5:.1f}em;overflow-wrap:anywhere;"


def _html_cell(value: object, numeric: bool, stays: str) -> str:
    text, width, shown = _cell_text(value), "", None
    if isinstance(value, Chip):
        shown = _html_chip(value)
    elif isinstance(value, Marked):
        width, shown = "white-space:pre-wrap;overflow-wrap:break-word", _html_marked(value)
    elif isinstance(value, Folded):
        shown = _html_folded(f"{len(text):,} characters", text)
    elif stays:
        width = "white-space:nowrap" if len(text) <= SHORT_CHARS else _LONG_NAME
    elif numeric:
        width = "white-space:nowrap;font-variant-numeric:tabular-nums"
    elif len(text) > CUT_AT_CHARS:
        width = "min-width:12em;max-width:40em;overflow-wrap:anywhere"
        shown = _html_folded(f"{text[:CUT_AT_CHARS]}…", text)
    elif len(text) <= SHORT_CHARS:  # "448/448" in a crowded table would stretch its row over two lines
        width = "white-space:nowrap"
    else:
        width = f"{'min-width:12em;' if len(text) > WORDY_CHARS else ''}max-width:40em;overflow-wrap:break-word"
    return f"<td style='{_aligned(numeric)}{stays}{width}'>{escape(text) if shown is None else shown}</td>"


def _aligned(numeric: bool) -> str:
    return f"{_CELL}text-align:{'right' if numeric else 'left'};"


def _html_folded(head: str, text: str) -> str:
    shown = f"<div style='white-space:pre-wrap;overflow-wrap:anywhere'>{escape(text)}</div>"
    return f"<details><summary>{escape(head)}</summary>{shown}</details>"


def _html_chip(chip: Chip) -> str:
    ink, paper = _CHIP_COLOURS[chip.kind]
    style = f"border-radius:.8em;padding:.05em .6em;font-weight:600;color:{ink};background:{paper}"
    return f"<span style='{style}'>{escape(chip.word)}</span>"


def _html_marked(text: Marked) -> str:
    return "".join(_html_piece(piece, *_MARKS[kind]) if kind else escape(piece) for piece, kind in text.pieces)


def _html_piece(text: str, tag: str, style: str) -> str:
    """A piece that stands out, without the white space at its end."""
    bare = text.rstrip()
    return f"<{tag} style='{style}'>{escape(bare)}</{tag}>{escape(text[len(bare) :])}"


def _printable(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _visible(char) for char in text)


def _visible(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode("ascii")


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
