"""Retrievers: BM25, TF-IDF, latent semantic analysis, embeddings and their fusion, behind one method.

A retriever is anything with `search(queries, k)`; a vector database of one's own is one method away, and
`register_retriever` makes it a name that a bundle can use. Equal scores keep the order of the chunks.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from llmlab.base.words import words
from llmlab.search.chunking import Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = [
    "RETRIEVERS",
    "Counted",
    "Hit",
    "Retriever",
    "batches",
    "best_hits",
    "counted",
    "indexed_text",
    "register_retriever",
    "retriever_for",
]

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
        self._vocabulary, ids, ends = counted(tuple(chunks))
        token_ids = [part.tolist() for part in np.split(ids, ends[:-1])]
        index = bm25s.BM25(k1=k1, b=b, method="lucene")
        index.index((token_ids, dict(self._vocabulary)), create_empty_token=False, show_progress=False)
        parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
        self._scores = csr_matrix(parts, shape=(len(self._vocabulary), len(chunks)))

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks that share a word with the query."""
        return list(_best_of_sparse(self._chunks, batches(queries, self._vocabulary), self._scores, k))


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


def _lsa(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    from llmlab.search.latent import Lsa

    return Lsa(chunks, **options)


def _embedding(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    from llmlab.search.embedding import Embedding

    if "embedder" not in options:
        raise ValueError("the retriever 'embedding' needs a model: add `embedding: {provider: ..., id: ...}`")
    return Embedding(chunks, **options)


RETRIEVERS: dict[str, Builder] = {
    "bm25": lambda chunks, options: BM25(chunks, **options),
    "embedding": _embedding,
    "hybrid": _hybrid,
    "lsa": _lsa,
    "tfidf": lambda chunks, options: TfIdf(chunks, **options),
}


def indexed_text(chunk: Chunk) -> str:
    """What a retriever reads of a chunk: its title and its text."""
    return f"{chunk.title}\n{chunk.text}"


def _indexed_words(chunk: Chunk) -> list[str]:
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
        ids.extend([vocabulary.setdefault(word, len(vocabulary)) for word in _indexed_words(chunk)])
        ends.append(len(ids))
    return Counted(vocabulary, np.array(ids, np.int32), np.array(ends, np.int64))


def _cut(queries: Sequence[str]) -> Iterator[Sequence[str]]:
    return (queries[start : start + BATCH_QUERIES] for start in range(0, len(queries), BATCH_QUERIES))


def batches(queries: Sequence[str], vocabulary: Mapping[str, int]) -> Iterator[csr_matrix]:
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
