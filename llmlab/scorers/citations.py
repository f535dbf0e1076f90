"""Scorers for citations: `[id]` in the answer, where id is that of a document in the prompt."""

from __future__ import annotations

import re

from llmlab.clients.base import Generation
from llmlab.golden import Case
from llmlab.scorers.base import Score, scorer

__all__ = ["citations_valid", "cited_ids", "cites_source"]

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_BRACKETS = re.compile(r"(?<![\w\])])\[([^\[\]\n]{1,300})\](?![(\[:])")  # not df[0], [text](link), [text][ref]
_ID = re.compile(r"[^\W_][\w./:#@+-]*")


def cited_ids(text: str, *, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Ids that a text cites as `[id]` or `[id, id]`, in order of first use; code and links are none.

    A bare number is a citation only where documents are numbered (or none are `known`).

    >>> cited_ids("Use dropna [DataFrame.dropna]. See [the guide](https://example.org) and df[0].")
    ('DataFrame.dropna',)
    """
    numbered = not known or any(doc_id.isdigit() for doc_id in known)
    found: dict[str, None] = {}
    for match in _BRACKETS.finditer(_CODE.sub(" ", text)):
        inside = match[1].strip()
        parts = [inside] if inside in known else [part.strip() for part in re.split("[,;]", inside)]
        if all(part in known or _is_id(part, numbered) for part in parts):
            found.update(dict.fromkeys(parts))
    return tuple(found)


@scorer
def cites_source(case: Case, generation: Generation) -> bool:
    """1 when the answer cites a source as `[id]`, whichever."""
    return bool(cited_ids(generation.text, known=generation.retrieved))


@scorer
def citations_valid(case: Case, generation: Generation) -> Score:
    """1 when every cited id is that of a retrieved document; unscored when nothing is cited."""
    cited = cited_ids(generation.text, known=generation.retrieved)
    if not cited:
        return Score(value=None, explanation="nothing is cited")
    wrong = [doc_id for doc_id in cited if doc_id not in generation.retrieved]
    return Score(value=not wrong, explanation=f"not retrieved: {', '.join(wrong)}" if wrong else "")


def _is_id(part: str, numbered: bool) -> bool:
    if part.isdigit():
        return numbered
    return len(part) > 1 and _ID.fullmatch(part) is not None  # one letter is a ticked box: [x]
