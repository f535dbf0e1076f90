"""Documents cut into chunks that know their document: by size with overlap, and at headings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmlab.bundle.bundle import Chunking
from llmlab.search.corpus import Document

__all__ = ["Chunk", "chunked"]

_MARKDOWN_HEADING = re.compile(r"^#{1,6}\s+\S.*$", re.MULTILINE)
_UNDERLINED_HEADING = re.compile(r"^\S.*\n[-=~^]{3,}[ \t]*$", re.MULTILINE)  # the sections of a numpy docstring


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document: its text as it stands there, and its position (0, 1, ...) in the document."""

    doc_id: str
    position: int
    text: str
    title: str = ""
    group: str = ""


def chunked(documents: Iterable[Document], chunking: Chunking | None = None) -> tuple[Chunk, ...]:
    """Every document as one chunk, or cut as `chunking` says; in the order of the documents.

    A chunk holds at most `size_words` words and begins with the last `overlap_words` of the one before it.
    With `by_heading` a heading (Markdown, or underlined as in docstrings) begins a new chunk, without overlap.

    >>> from llmlab.search.corpus import Document
    >>> text = " ".join(f"w{i}" for i in range(25))
    >>> pieces = chunked([Document(id="d", text=text)], Chunking(size_words=10, overlap_words=2))
    >>> [(piece.position, piece.text.split()[0], piece.text.split()[-1]) for piece in pieces]
    [(0, 'w0', 'w9'), (1, 'w8', 'w17'), (2, 'w16', 'w24')]
    """
    return tuple(
        Chunk(doc_id=document.id, position=position, text=text, title=document.title, group=document.group)
        for document in documents
        for position, text in enumerate([document.text] if chunking is None else _pieces(document.text, chunking))
    )


def _pieces(text: str, chunking: Chunking) -> Iterator[str]:
    for section in _sections(text) if chunking.by_heading else [text]:
        spans = [match.span() for match in re.finditer(r"\S+", section)]
        step = chunking.size_words - chunking.overlap_words
        for start in range(0, max(1, len(spans) - chunking.overlap_words), step):
            last = spans[min(start + chunking.size_words, len(spans)) - 1]
            yield section[spans[start][0] : last[1]]


def _sections(text: str) -> list[str]:
    starts = {match.start() for pattern in (_MARKDOWN_HEADING, _UNDERLINED_HEADING) for match in pattern.finditer(text)}
    cuts = sorted({0, len(text), *starts})
    return [part for start, end in itertools.pairwise(cuts) if (part := text[start:end]).strip()] or [text]
