"""Texts and tables as Markdown that they cannot leave: for pull requests and MLflow's pages."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from llmlab.base.cells import CUT_AT_CHARS, cell_text, columns_of, is_numeric, plain

_MARKUP = frozenset(r"\`*_{}[]()#+!|~$")


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
    columns = columns_of(rows)
    lines = [[markdown(cell_text(row.get(column))) for column in columns] for row in rows]
    marks = ["---:" if is_numeric(rows, column) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ([markdown(c) for c in columns], marks, *lines))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
