"""The speed promise of search: BM25 over 100,000 chunks answers 1,000 queries in under 10 s once indexed."""

import time

import numpy as np
import pytest

from llmlab.search.corpus import Chunk
from llmlab.search.index import retriever_for

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

CHUNKS, QUERIES, VOCABULARY = 100_000, 1_000, 30_000


def test_a_thousand_queries_over_a_hundred_thousand_chunks_take_under_ten_seconds(measured):
    """Words are drawn by Zipf's law, 120 per chunk and 8 per query, so that common words match many chunks."""
    rng = np.random.default_rng(9)
    names = np.array(["w" + "".join(chr(97 + i // 26**place % 26) for place in range(4)) for i in range(VOCABULARY)])
    share = 1 / (np.arange(VOCABULARY) + 2.7)
    drawn = rng.choice(VOCABULARY, (CHUNKS, 120), p=share / share.sum())
    chunks = [Chunk(doc_id=f"d{i}", position=0, text=" ".join(names[row])) for i, row in enumerate(drawn)]
    asked = rng.choice(VOCABULARY, (QUERIES, 8), p=share / share.sum())
    queries = [" ".join(names[row]) for row in asked]
    start = time.perf_counter()
    retriever = retriever_for("bm25", chunks)
    indexed_s = time.perf_counter() - start
    start = time.perf_counter()
    found = retriever.search(queries, 10)
    searched_s = time.perf_counter() - start
    print(f"{CHUNKS:,} chunks indexed in {indexed_s:.1f} s; {QUERIES:,} queries answered in {searched_s:.1f} s")
    measured("BM25, 1,000 queries over 100,000 chunks", searched_s, 10, "s")
    assert all(len(hits) == 10 for hits in found)
    assert searched_s < 10
