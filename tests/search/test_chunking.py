"""Documents cut into chunks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.bundle.bundle import Chunking
from llmlab.search.chunking import chunked
from llmlab.search.corpus import Document


def test_without_chunking_a_document_is_one_chunk() -> None:
    (chunk,) = chunked([Document(id="d", text="a b", title="t", group="g")])
    assert (chunk.doc_id, chunk.position, chunk.text, chunk.title, chunk.group) == ("d", 0, "a b", "t", "g")


@settings(max_examples=60)
@given(n=st.integers(1, 200), size=st.integers(10, 40), overlap=st.integers(0, 9))
def test_every_word_is_in_a_chunk_and_neighbours_share_the_overlap(n: int, size: int, overlap: int) -> None:
    text = " ".join(f"w{i}" for i in range(n))
    pieces = [
        c.text.split() for c in chunked([Document(id="d", text=text)], Chunking(size_words=size, overlap_words=overlap))
    ]
    assert all(len(piece) <= size for piece in pieces)
    rebuilt = pieces[0] + [word for piece in pieces[1:] for word in piece[overlap:]]
    assert rebuilt == text.split()
    assert all(a[-overlap:] == b[:overlap] for a, b in pairwise(pieces) if overlap)


def test_headings_begin_a_chunk_in_markdown_and_in_docstrings() -> None:
    text = "Intro.\n\n# One\nfirst part\n\nReturns\n-------\nsecond part"
    pieces = chunked([Document(id="d", text=text)], Chunking(size_words=50, by_heading=True))
    assert [piece.text.split()[0] for piece in pieces] == ["Intro.", "#", "Returns"]
    assert [piece.position for piece in pieces] == [0, 1, 2]


def test_line_breaks_inside_a_chunk_are_kept() -> None:
    (piece,) = chunked([Document(id="d", text="a\n  b\n")], Chunking(size_words=10))
    assert piece.text == "a\n  b"
