"""Retrievers: BM25, TF-IDF, latent semantic analysis, embeddings and their fusion, behind one method.

A retriever is anything with `search(queries, k)`; a vector database of one's own is one method away, and
`register_retriever` makes it a name that a bundle can use. Equal scores keep the order of the chunks.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from llmlab.base.words import words
from llmlab.search.corpus import Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_BATCH_QUERIES = 128


class Hit(NamedTuple):
    """What a search found: the document, how well it matches, and which chunk of the document matched."""

    doc_id: str
    score: float
    position: int = 0


class Retriever(Protocol):
    """Finds the chunks that match each query, best first, at most k. An empty query finds nothing."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """One list of hits for each query, in the order of the queries."""
        ...


class ByWords(NamedTuple):
    """Finds the chunks that share a word with the query, by the weight of each word in each chunk."""

    chunks: Sequence[Chunk]
    weights: csr_matrix  # words x chunks
    rows_of: Callable[[Sequence[str]], Iterator[csr_matrix]]  # queries as rows of their words, a batch at a time

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The chunks in which the query's words weigh most."""
        hits = []
        for rows in self.rows_of(queries):
            scores = (rows @ self.weights).tocsr()
            for start, end in zip(scores.indptr, scores.indptr[1:], strict=False):
                hits.append(best_hits(self.chunks, scores.indices[start:end], scores.data[start:end], k))
        return hits


def bm25(chunks: Sequence[Chunk], *, k1: float = 1.5, b: float = 0.75) -> ByWords:
    """BM25 as Lucene computes it (k1 1.5, b 0.75), by bm25s; Robertson and Zaragoza (2009)."""
    import bm25s
    from scipy.sparse import csr_matrix

    vocabulary, ids, ends = counted(tuple(chunks))
    token_ids = [part.tolist() for part in np.split(ids, ends[:-1])]
    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    index.index((token_ids, dict(vocabulary)), create_empty_token=False, show_progress=False)
    parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
    weights = csr_matrix(parts, shape=(len(vocabulary), len(chunks)))
    return ByWords(chunks, weights, partial(batches, vocabulary=vocabulary))


def tfidf(chunks: Sequence[Chunk]) -> ByWords:
    """Cosine similarity of TF-IDF vectors (sublinear term frequency), by scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)
    weights = vectorizer.fit_transform(map(indexed_text, chunks)).T.tocsr()
    return ByWords(chunks, weights, lambda queries: map(vectorizer.transform, cut(queries)))


class Hybrid:
    """Reciprocal rank fusion of other retrievers: sum of 1 / (c + rank); Cormack, Clarke and Buettcher (2009)."""

    def __init__(self, retrievers: Sequence[Retriever], *, c: float = 60.0, depth: int = 100) -> None:
        self._retrievers, self._c, self._depth = retrievers, c, depth

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks in the order of their fused ranks; equal ones in the order of the first retriever that found them."""
        depth = max(k, self._depth)
        rankings = zip(*(retriever.search(queries, depth) for retriever in self._retrievers), strict=True)
        return [self._fused(lists)[:k] for lists in rankings]

    def _fused(self, lists: Sequence[Sequence[Hit]]) -> list[Hit]:
        total: dict[tuple[str, int], float] = defaultdict(float)
        for hits in lists:
            for rank, hit in enumerate(hits, start=1):
                total[hit.doc_id, hit.position] += 1.0 / (self._c + rank)
        best = sorted(total.items(), key=lambda entry: -entry[1])
        return [Hit(doc_id, score, position) for (doc_id, position), score in best]


def indexed_text(chunk: Chunk) -> str:
    """What a retriever reads of a chunk: its title and its text."""
    return f"{chunk.title}\n{chunk.text}"


def indexed_words(chunk: Chunk) -> list[str]:
    return words(indexed_text(chunk))


class Counted(NamedTuple):
    """The indexed words of chunks as numbers: `ids[ends[i - 1]:ends[i]]` are those of chunk i, in their order."""

    vocabulary: Mapping[str, int]
    ids: NDArray[np.int32]
    ends: NDArray[np.int64]


@lru_cache(maxsize=1)  # variants of one experiment index the same chunks
def counted(chunks: tuple[Chunk, ...]) -> Counted:
    """Every chunk's words, read once for all the retrievers that index the same chunks."""
    vocabulary: dict[str, int] = {}
    ids, ends = array("i"), []
    for chunk in chunks:
        ids.extend([vocabulary.setdefault(word, len(vocabulary)) for word in indexed_words(chunk)])
        ends.append(len(ids))
    return Counted(vocabulary, np.array(ids, np.int32), np.array(ends, np.int64))


def cut(texts: Sequence[str], size: int = _BATCH_QUERIES) -> Iterator[Sequence[str]]:
    """The texts in their order, at most so many at a time."""
    return (texts[start : start + size] for start in range(0, len(texts), size))


def batches(queries: Sequence[str], vocabulary: Mapping[str, int]) -> Iterator[csr_matrix]:
    """Queries as rows of word counts, a batch at a time."""
    from scipy.sparse import csr_matrix

    for batch in cut(queries):
        word_columns = [[vocabulary[word] for word in words(query) if word in vocabulary] for query in batch]
        columns = np.fromiter(chain.from_iterable(word_columns), dtype=np.int32)
        ends = np.cumsum([0, *map(len, word_columns)])
        counts = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(batch), len(vocabulary)))
        counts.sum_duplicates()
        yield counts


def unit_rows(table: NDArray[Any]) -> NDArray[Any]:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(lengths == 0, 1, lengths), table.dtype)


def best_hits(chunks: Sequence[Chunk], places: NDArray[Any], scores: NDArray[Any], k: int) -> list[Hit]:
    """The k best of the chunks at `places`; equal scores in the order of the chunks."""
    if k < 1:
        raise ValueError(f"k == {k}, must be >= 1")
    if len(scores) > k:
        high = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        places, scores = places[high], scores[high]
    best = np.lexsort((places, -scores))[:k]
    return [
        Hit(chunks[place].doc_id, float(score), chunks[place].position)
        for place, score in zip(places[best].tolist(), scores[best].tolist(), strict=True)
    ]
