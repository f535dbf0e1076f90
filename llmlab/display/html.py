"""The one place where values become escaped HTML.

Whatever reaches a page passes `escape`; nothing else in llmlab builds HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from llmlab.base.cells import (
    CUT_AT_CHARS,
    ROW_LIMIT,
    Chip,
    Folded,
    Marked,
    cell_text,
    columns_of,
    is_numeric,
    more_rows,
    printable,
)
from llmlab.display.diff import both_sides

_WORDY_CHARS = 40  # longer cells are never squeezed to a word a line
LONGEST_NAME_CHARS = 120  # a first column of such texts names the rows, and stays in sight
_SHORT_CHARS = 20  # shorter texts are never broken
_HTML_TEXT_LIMIT_CHARS = 20_000  # what one cell may put into a notebook file at most
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
_AS_IT_IS = "mathjax_ignore tex2jax_ignore"  # classes that keep MathJax 3 and 2 away: `$` in an answer is a dollar
_MARKS = {
    "gone": ("del", "background:#fde3df;color:#8f1d14"),
    "came": ("ins", "background:#d8f3e8;color:#0b6b50;text-decoration:underline 1px;text-underline-offset:2px"),
    "good": ("b", "background:#d8f3e8;color:#0b6b50;border-radius:.3em;padding:0 .25em"),
    "strong": ("b", ""),
    "quiet": ("span", f"color:{_QUIET}"),
}


class Html(str):
    """HTML that this module made: `html_of` and the widget take it as it is, and escape every other text."""

    __slots__ = ()


def escape(value: object) -> str:
    """Text that is safe inside HTML elements and quoted attributes; at most 20,000 characters of it.

    >>> escape('<script>alert("x")</script>')
    '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;'
    """
    text = str(value)
    if len(text) > _HTML_TEXT_LIMIT_CHARS:
        text = f"{text[:_HTML_TEXT_LIMIT_CHARS]}… ({len(text):,} characters in all)"
    return html.escape(printable(text, keep="\n\t"), quote=True)


def html_table(
    rows: Sequence[Mapping[str, object]], *, caption: str = "", most_rows: int = ROW_LIMIT, even: bool = False
) -> Html:
    """Rows as a compact escaped HTML table that follows Jupyter's light and dark themes, captions below it.

    With `even` it is as wide as the page, and all columns but the first, which names the rows, share the width.
    """
    note = html_captions(caption)
    if not rows:
        return Html(f"<div class='{_AS_IT_IS}'>{note}</div>" if note else "<p>(no rows)</p>")
    columns = columns_of(rows)
    stays = {column: _STAYS for column in columns[:1] if _names_rows(rows, column)}
    looks = [(column, is_numeric(rows, column), stays.get(column, "")) for column in columns]
    head = "".join(
        f"<th style='{_aligned(numeric)}{_heading(column)}{stay}'>{escape(column)}</th>"
        for column, numeric, stay in looks
    )
    body = "".join(
        f"<tr>{''.join(_html_cell(row.get(column), numeric, stay) for column, numeric, stay in looks)}</tr>"
        for row in rows[:most_rows]
    )
    more = f"<p>{more_rows(rows, most_rows)}</p>" if len(rows) > most_rows else ""
    named = f"<thead><tr>{head}</tr></thead>" if any(column.strip() for column in columns) else ""
    wide = f"table-layout:fixed;width:100%;min-width:{12 * len(columns)}em" if even else ""
    first = "<colgroup><col style='width:12em'></colgroup>" if even else ""
    return Html(
        f"<div class='{_AS_IT_IS}'><div style='overflow-x:auto'><table style='{_TABLE}{wide}'>{first}"
        f"{named}<tbody>{body}</tbody></table>{more}</div>{note}</div>"
    )


def html_diff(before: str, after: str, *, before_name: str = "before", after_name: str = "after") -> Html:
    """Two texts side by side, word by word: what went is struck through, what came is underlined."""
    sides = zip((before_name, after_name), both_sides(before, after), strict=True)
    style = f"{_CELL}width:50%;white-space:pre-wrap;text-align:left"
    cells = "".join(f"<td style='{style}'><b>{escape(name)}</b><br>{_html_marked(side)}</td>" for name, side in sides)
    return Html(f"<table class='{_AS_IT_IS}' style='{_TABLE}width:100%'><tbody><tr>{cells}</tr></tbody></table>")


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


def html_page(title: str, *parts: str) -> str:
    """A whole page around pieces that are HTML already."""
    style = "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em}"
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{style}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def html_captions(text: str) -> str:
    lines = [line for line in text.split("\n") if line]
    return "".join(f"<p class='{_AS_IT_IS}' style='margin:.3em 0;max-width:70em'>{escape(line)}</p>" for line in lines)


def _names_rows(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    """Whether a first column is short texts, which stay in sight while the others are scrolled under them."""
    texts = [row.get(column) for row in rows]
    return len(rows[0]) > 2 and all(isinstance(text, str) and len(text) <= LONGEST_NAME_CHARS for text in texts)


def _heading(column: str) -> str:
    """A heading is broken between its words first, and never overlaps the next one."""
    longest = max(map(len, column.split()), default=0)
    return f"font-weight:600;min-width:{min(longest, 22) * 0.65 + 0.5:.1f}em;overflow-wrap:anywhere;"


def _html_cell(value: object, numeric: bool, stays: str) -> str:
    text, width, shown = cell_text(value), "", None
    if isinstance(value, Chip):
        shown = _html_chip(value)
    elif isinstance(value, Marked):
        width, shown = "white-space:pre-wrap;overflow-wrap:break-word", _html_marked(value)
    elif isinstance(value, Folded):
        shown = _html_folded(f"{len(text):,} characters", text)
    elif stays:
        width = "white-space:nowrap" if len(text) <= _SHORT_CHARS else _LONG_NAME
    elif numeric:
        width = "white-space:nowrap;font-variant-numeric:tabular-nums"
    elif len(text) > CUT_AT_CHARS:
        width = "min-width:12em;max-width:40em;overflow-wrap:anywhere"
        shown = _html_folded(f"{text[:CUT_AT_CHARS]}…", text)
    elif len(text) <= _SHORT_CHARS:  # "448/448" in a crowded table would stretch its row over two lines
        width = "white-space:nowrap"
    else:
        width = f"{'min-width:12em;' if len(text) > _WORDY_CHARS else ''}max-width:40em;overflow-wrap:break-word"
    return f"<td style='{_aligned(numeric)}{stays}{width}'>{escape(text) if shown is None else shown}</td>"


def _aligned(numeric: bool) -> str:
    return f"{_CELL}text-align:{'right' if numeric else 'left'};"


def _html_folded(head: str, text: str) -> str:
    shown = f"<div style='white-space:pre-wrap;overflow-wrap:anywhere'>{escape(text)}</div>"
    return f"<details><summary>{escape(head)}</summary>{shown}</details>"


def _html_chip(chip: Chip) -> str:
    ink, paper = _CHIP_COLOURS[chip.kind]
    whole = "white-space:nowrap;" if len(chip.word) <= _SHORT_CHARS else ""
    style = f"border-radius:.8em;padding:.05em .6em;font-weight:600;{whole}color:{ink};background:{paper}"
    return f"<span style='{style}'>{escape(chip.word)}</span>"


def _html_marked(text: Marked) -> str:
    return "".join(_html_piece(piece, *_MARKS[kind]) if kind else escape(piece) for piece, kind in text.pieces)


def _html_piece(text: str, tag: str, style: str) -> str:
    """A piece that stands out, without the white space at its end."""
    bare = text.rstrip()
    return f"<{tag} style='{style}'>{escape(bare)}</{tag}>{escape(text[len(bare) :])}"
