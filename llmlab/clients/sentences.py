"""Passages into the sentences that the offline reader quotes, each with the name of what it is about.

Docstrings in numpy's format are read by their sections: the first sentence weighs most, descriptions of parameters
less, an entry of "See Also" is a sentence about the function it names, and code examples are left out. Any other
text is split at full stops. Markup is reduced to plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from llmlab.base.words import words

__all__ = ["Sentence", "plain_text", "sentences_of"]

SUMMARY_WEIGHT, BODY_WEIGHT, SEE_ALSO_WEIGHT, DETAIL_WEIGHT = 1.0, 0.8, 0.7, 0.5
LONGEST_SENTENCE_CHARS = 400

_SECTION = re.compile(r"^(\S[^\n]*)\n-{3,}[ \t]*$", re.MULTILINE)
_SKIPPED = frozenset({"examples", "references"})
_PROSE = frozenset({"", "notes"})
_DIRECTIVE = re.compile(r"^([ \t]*)\.\. [^\n]*(?:\n(?:\1[ \t]+\S[^\n]*|[ \t]*(?=\n\1[ \t]+\S)))*", re.MULTILINE)
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_SEE_ALSO = re.compile(r"^([A-Za-z_][\w.]*)[ \t]*:[ \t]*(\S[^\n]*(?:\n[ \t]+\S[^\n]*)*)", re.MULTILINE)
_BREAK = re.compile(r"\n\s*\n|\n\s*(?=[*-] )")
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'`(]?[A-Z])")
_FUNCTION = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_PLACE = re.compile(r"^(?:[a-z_]+\.)+(?=[A-Z])")


class Sentence(NamedTuple):
    """A sentence: its plain text, the words it is found by, whose it is ("" = nobody's), and what it weighs."""

    text: str
    words: frozenset[str]
    name: str
    weight: float


@lru_cache(maxsize=16_384)
def sentences_of(doc_id: str, passage: str) -> tuple[frozenset[str], tuple[Sentence, ...]]:
    """The words of a passage (name included) and its sentences, in order.

    >>> [(s.name, s.text) for s in sentences_of("DataFrame.dropna", "Remove missing values. See ``fillna``.")[1]]
    [('DataFrame.dropna', 'Remove missing values.'), ('DataFrame.dropna', 'See `fillna`.')]
    """
    title = frozenset(words(doc_id))
    found = tuple(
        Sentence(
            text, frozenset(words(text)) | (title if name == _name(doc_id) else frozenset(words(name))), name, weight
        )
        for name, text, weight in _said(doc_id, passage)
    )
    return title.union(*(sentence.words for sentence in found)), found


def plain_text(text: str) -> str:
    """Text without reStructuredText directives and roles, white space made single.

    >>> plain_text("See :func:`~pandas.read_csv` and\\n``sep``.")
    'See `pandas.read_csv` and `sep`.'
    """
    text = _ROLE.sub(r"`\1`", text.replace("``", "`"))
    return " ".join(text.split())


def _said(doc_id: str, passage: str) -> Iterator[tuple[str, str, float]]:
    first = True
    for section, body in _sections(_DIRECTIVE.sub("", passage)):
        if section == "see also":
            for entry in _SEE_ALSO.finditer(body):
                yield _name(entry[1]), plain_text(entry[2]), SEE_ALSO_WEIGHT
        elif section not in _SKIPPED:
            is_prose = section in _PROSE
            for text in _split(body if is_prose else _descriptions(body)):
                weight = SUMMARY_WEIGHT if first else BODY_WEIGHT if is_prose else DETAIL_WEIGHT
                first = False
                yield _name(doc_id), text, weight


def _sections(passage: str) -> Iterator[tuple[str, str]]:
    heads = list(_SECTION.finditer(passage))
    starts = [*(head.start() for head in heads), len(passage)]
    yield "", passage[: starts[0]]
    for head, end in zip(heads, starts[1:], strict=True):
        yield head[1].strip().lower(), passage[head.end() : end]


def _descriptions(body: str) -> str:
    """The indented parts of a section: what is said of each parameter, without its name and type."""
    return "\n".join(line if line[:1].isspace() else "" for line in body.split("\n"))


def _split(body: str) -> Iterator[str]:
    for paragraph in _BREAK.split(body):
        text = plain_text(paragraph).lstrip("*- ")
        if ">>>" not in text:
            yield from (part for part in _END.split(text) if 8 <= len(part) <= LONGEST_SENTENCE_CHARS)


def _name(doc_id: str) -> str:
    """How the prose names a function: `api.typing.Rolling.mean` is Rolling.mean; "" for what is no function."""
    return _PLACE.sub("", doc_id) if _FUNCTION.fullmatch(doc_id) else ""
