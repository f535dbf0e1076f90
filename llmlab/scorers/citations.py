"""Scorers for citations: `[id]` in the answer, where id is that of a document in the prompt.

What stands in brackets is a citation when it names a document that is known, or is unmistakably an id: it has a mark
inside (`guide/start.md`, `DataFrame.dropna`), or it is spelt as the retrieved documents are (numbers, `doc-7`, plain
words). So a made-up document is found, and `[index, columns]` is prose. In a list one such part makes all of them ids.
"""

from __future__ import annotations

import re
from collections.abc import Container

from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.base import Score, scorer

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_BRACKETS = re.compile(  # not df[0], x = [a.b], 'x' -> [a.b], [text](link), [text][ref]
    r"(?<![\w\])=])(?<!->)(?<!-> )(?<!= )\[([^\[\]\n]{1,300})\](?![(\[:])"
)
_ID = re.compile(r"[^\W_][\w./:#@+-]*")
_MARK = re.compile(r"\w[./:#@]\w")
NUMBER, MARKED, DIGITS, _HYPHENED, PLAIN = "number", "with a mark", "with digits", "hyphened", "plain word"


def cited_ids(text: str, *, known: tuple[str, ...] = (), corpus: Container[str] = ()) -> tuple[str, ...]:
    """Ids that a text cites as `[id]` or `[id, id]`, in order of first use; code and links are none.

    `known` are the retrieved documents, whose ids show how ids are spelt; `corpus` holds all that exist.

    >>> cited_ids("Use dropna [DataFrame.dropna]. See [the guide](https://example.org) and df[0], by [index, columns].")
    ('DataFrame.dropna',)
    >>> cited_ids("Rows go [drop], columns stay [axis, level].", known=("concat", "merge"))
    ('drop',)
    """
    spellings = {_spelling(doc_id) for doc_id in known} | ({MARKED} if known else {MARKED, DIGITS, NUMBER})
    cited: dict[str, None] = {}
    for match in _BRACKETS.finditer(_CODE.sub(" ", text)):
        inside = match[1].strip()
        parts = [inside] if inside in known else [part.strip() for part in re.split("[,;]", inside)]
        rest = [_spelling(part) for part in parts if part not in known and part not in corpus]
        clear = len(rest) < len(parts) or any(how in spellings and (how != PLAIN or len(parts) == 1) for how in rest)
        if clear and all(how in spellings or how not in (NUMBER, "") for how in rest):
            cited.update(dict.fromkeys(parts))
    return tuple(cited)


@scorer(revision=1)
def cites_source(case: Case, generation: Generation) -> bool:
    """1 when the answer cites a source as `[id]`, whichever."""
    return bool(cited_ids(generation.text, known=generation.retrieved))


@scorer(revision=1)
def citations_valid(case: Case, generation: Generation) -> Score:
    """1 when every cited id is that of a retrieved document; unscored when nothing is cited."""
    cited = cited_ids(generation.text, known=generation.retrieved)
    if not cited:
        return Score(value=None, explanation="nothing is cited")
    wrong = [doc_id for doc_id in cited if doc_id not in generation.retrieved]
    return Score(value=not wrong, explanation=f"not retrieved: {', '.join(wrong)}" if wrong else "")


def _spelling(part: str) -> str:
    """How a word in brackets is spelt, "" where it cannot be an id."""
    if part.isdigit():
        return NUMBER
    if len(part) < 2 or _ID.fullmatch(part) is None or not any(map(str.isalpha, part)):
        return ""  # one letter is a ticked box: [x]
    if _MARK.search(part):
        return MARKED
    if any(map(str.isdigit, part)):
        return DIGITS
    return _HYPHENED if "-" in part or "_" in part else PLAIN
