"""Retrievers: BM25, TF-IDF, latent semantic analysis, embeddings and their fusion, behind one method.

A retriever is anything with `search(queries, k)`; a vector database of one's own is one method away, and
`register_retriever` makes it a name that a bundle can use. Equal scores keep the order of the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from llmlab.retrieval.chunking import Chunk
from llmlab.words import words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = ["RETRIEVERS", "Hit", "Retriever", "best_hits", "indexed_text", "register_retriever", "retriever_for"]

BATCH_QUERIES = 128
BY_WORDS = frozenset({"bm25", "lsa", "tfidf"})  # these cannot index a text without a Latin letter or digit


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


Builder = Callable[[Sequence[Chunk], Mapping[str, Any]], Retriever]


class BM25:
    """BM25 as Lucene computes it (k1 1.5, b 0.75), by bm25s; Robertson and Zaragoza (2009)."""

    def __init__(self, chunks: Sequence[Chunk], *, k1: float = 1.5, b: float = 0.75) -> None:
        import bm25s
        from scipy.sparse import csr_matrix

        self._chunks = chunks
        self._vocabulary, token_ids = _token_ids(map(_indexed_words, chunks))
        index = bm25s.BM25(k1=k1, b=b, method="lucene")
        index.index((token_ids, dict(self._vocabulary)), create_empty_token=False, show_progress=False)
        parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
        self._scores = csr_matrix(parts, shape=(len(self._vocabulary), len(chunks)))

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks that share a word with the query."""
        return list(_best_of_sparse(self._chunks, _batches(queries, self._vocabulary), self._scores, k))


class TfIdf:
    """Cosine similarity of TF-IDF vectors (sublinear term frequency), by scikit-learn."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._chunks = chunks
        self._vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)
        self._vectors = self._vectorizer.fit_transform(map(indexed_text, chunks)).T.tocsr()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks that share a word with the query."""
        batches = (self._vectorizer.transform(batch) for batch in _cut(queries))
        return list(_best_of_sparse(self._chunks, batches, self._vectors, k))


class Lsa:
    """Cosine similarity after a truncated SVD of TF-IDF; Deerwester et al. (1990), by scikit-learn."""

    def __init__(self, chunks: Sequence[Chunk], *, dimensions: int = 200) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize

        self._chunks, self._normalize = chunks, normalize
        self._vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)
        vectors = self._vectorizer.fit_transform(map(indexed_text, chunks))
        self._svd = TruncatedSVD(max(1, min(dimensions, min(vectors.shape) - 1)), random_state=0)
        self._vectors: NDArray[np.float64] = normalize(self._svd.fit_transform(vectors)).T

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks whose direction in the reduced space is near the query's; a query of unknown words finds nothing."""
        found: list[list[Hit]] = []
        for batch in _cut(queries):
            known = self._vectorizer.transform(batch)
            similar = self._normalize(self._svd.transform(known)) @ self._vectors
            found += [
                best_hits(self._chunks, np.flatnonzero(row > 0), row[row > 0], k) if is_known else []
                for row, is_known in zip(similar.round(9), known.getnnz(axis=1), strict=True)
            ]
        return found


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
        total: dict[tuple[str, int], float] = {}
        for hits in lists:
            for rank, hit in enumerate(hits, start=1):
                key = (hit.doc_id, hit.position)
                total[key] = total.get(key, 0.0) + 1.0 / (self._c + rank)
        best = sorted(total.items(), key=lambda entry: -entry[1])
        return [Hit(doc_id, score, position) for (doc_id, position), score in best]


def register_retriever(name: str, build: Builder) -> None:
    """Make `build(chunks, options) -> Retriever` available to bundles as `retriever: name`."""
    if name in RETRIEVERS:
        raise ValueError(f"there is a retriever {name!r} already; choose another name")
    RETRIEVERS[name] = build


def retriever_for(name: str, chunks: Sequence[Chunk], *, options: Mapping[str, Any] | None = None) -> Retriever:
    """The retriever of that name over the chunks; ValueError for an unknown name or option.

    >>> chunks = [Chunk(doc_id="a", position=0, text="drop missing rows"), Chunk(doc_id="b", position=0, text="sort")]
    >>> [[hit.doc_id for hit in hits] for hits in retriever_for("bm25", chunks).search(["missing row", ""], 2)]
    [['a'], []]
    """
    if name not in RETRIEVERS:
        raise ValueError(f"retriever == {name!r}, must be one of {', '.join(sorted(RETRIEVERS))}")
    if name in BY_WORDS and "embedder" in (options or {}):
        raise ValueError(f"the retriever {name!r} searches by words; drop `embedding`, or use 'embedding' or 'hybrid'")
    if name in BY_WORDS and not any(_indexed_words(chunk) for chunk in chunks):
        raise ValueError("no chunk has a word to index")
    try:
        return RETRIEVERS[name](chunks, options or {})
    except TypeError as error:
        raise ValueError(f"the options {dict(options or {})} do not fit the retriever {name!r}: {error}") from None


def _hybrid(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    rest = {key: value for key, value in options.items() if key not in ("of", "embedder")}
    embedder = {"embedder": options["embedder"]} if "embedder" in options else {}
    fused = options.get("of", ("bm25", "embedding" if embedder else "lsa"))
    if embedder and "embedding" not in fused:
        raise ValueError(f"`embedding` is set, but the hybrid fuses {', '.join(fused)}; drop it, or add it to `of`")
    parts = [retriever_for(name, chunks, options=embedder if name == "embedding" else None) for name in fused]
    return Hybrid(parts, **rest)


def _embedding(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    from llmlab.retrieval.embedding import Embedding

    if "embedder" not in options:
        raise ValueError("the retriever 'embedding' needs a model: add `embedding: {provider: ..., id: ...}`")
    return Embedding(chunks, **options)


RETRIEVERS: dict[str, Builder] = {
    "bm25": lambda chunks, options: BM25(chunks, **options),
    "embedding": _embedding,
    "hybrid": _hybrid,
    "lsa": lambda chunks, options: Lsa(chunks, **options),
    "tfidf": lambda chunks, options: TfIdf(chunks, **options),
}


def indexed_text(chunk: Chunk) -> str:
    """What a retriever reads of a chunk: its title and its text."""
    return f"{chunk.title}\n{chunk.text}"


def _indexed_words(chunk: Chunk) -> list[str]:
    return words(indexed_text(chunk))


def _token_ids(texts: Iterator[list[str]]) -> tuple[dict[str, int], list[list[int]]]:
    vocabulary: dict[str, int] = {}
    token_ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in text] for text in texts]
    return vocabulary, token_ids


def _cut(queries: Sequence[str]) -> Iterator[Sequence[str]]:
    return (queries[start : start + BATCH_QUERIES] for start in range(0, len(queries), BATCH_QUERIES))


def _batches(queries: Sequence[str], vocabulary: Mapping[str, int]) -> Iterator[csr_matrix]:
    """Queries as rows of word counts, a batch at a time."""
    from scipy.sparse import csr_matrix

    for batch in _cut(queries):
        known = [[vocabulary[word] for word in words(query) if word in vocabulary] for query in batch]
        columns = np.fromiter(chain.from_iterable(known), dtype=np.int32)
        ends = np.cumsum([0, *map(len, known)])
        counts = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(batch), len(vocabulary)))
        counts.sum_duplicates()
        yield counts


def _best_of_sparse(
    chunks: Sequence[Chunk], batches: Iterator[csr_matrix], weights: csr_matrix, k: int
) -> Iterator[list[Hit]]:
    for batch in batches:
        scores = (batch @ weights).tocsr()
        for start, end in zip(scores.indptr, scores.indptr[1:], strict=False):
            yield best_hits(chunks, scores.indices[start:end], scores.data[start:end], k)


def best_hits(chunks: Sequence[Chunk], places: NDArray[Any], scores: NDArray[Any], k: int) -> list[Hit]:
    """The k best of the chunks at `places`; equal scores in the order of the chunks."""
    if k < 1:
        raise ValueError(f"k == {k}, must be >= 1")
    if len(scores) > k:
        kept = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        places, scores = places[kept], scores[kept]
    best = np.lexsort((places, -scores))[:k]
    return [
        Hit(chunks[place].doc_id, float(score), chunks[place].position)
        for place, score in zip(places[best].tolist(), scores[best].tolist(), strict=True)
    ]
