"""The index: a corpus, cut and indexed as a bundle's retrieval config says, with a digest and a manifest.

`engine` asks it for passages; results, receipts and registered versions carry its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from llmlab import display, search
from llmlab.base.cells import plain
from llmlab.bundle.bundle import RetrievalConfig
from llmlab.search.corpus import Chunk, Corpus, chunked
from llmlab.search.retrievers import Hit, Hybrid, Retriever, bm25, indexed_words, tfidf

_BY_WORDS = frozenset({"bm25", "lsa", "tfidf"})  # these cannot index a text without a Latin letter or digit
_OF_VECTORS = ("embedder", "query_prefix", "document_prefix", "chars")  # a hybrid's options for its vectors
_FETCHED_PER_KEPT = 4  # how many more chunks are asked for where some will be dropped as repetitions

_Builder = Callable[[Sequence[Chunk], Mapping[str, Any]], Retriever]


@dataclass(frozen=True, kw_only=True, repr=False)
class Index:
    """A corpus that can be searched: `config` says how it is cut, searched and shown."""

    corpus: Corpus
    config: RetrievalConfig
    chunks: tuple[Chunk, ...]
    retriever: Retriever
    built_at: datetime | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over corpus content, chunking, retriever with its options, and embedding model."""
        return _digest(self.corpus, self.config)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the index was made of, as plain values: recipe, digests, and a short hash of each document's text."""
        return {
            **_recipe(self.corpus, self.config),
            "digest": self.digest,
            "corpus_name": self.corpus.name,
            "corpus_version": self.corpus.version,
            "n_chunks": len(self.chunks),
            "documents": {document.id: document.short_hash for document in self.corpus},
        }

    def search(self, queries: Sequence[str], k: int | None = None) -> list[list[Hit]]:
        """For each query its hits, best first, at most k (the config's own by default); none for an empty query.

        `distinct_by` keeps the best chunk of each document, or the best document of each group.
        """
        n_hits = self.config.k if k is None else k
        if n_hits < 1:
            raise ValueError(f"k == {n_hits}, must be >= 1")
        if self.config.distinct_by is None:
            return self.retriever.search(queries, n_hits)
        complete: dict[int, list[Hit]] = {}
        waiting, depth = list(range(len(queries))), n_hits * _FETCHED_PER_KEPT
        # chunks of one document may fill the first hits: queries that lack others are searched again, deeper
        while waiting:
            for place, hits in zip(waiting, self.retriever.search([queries[i] for i in waiting], depth), strict=True):
                distinct = self._distinct(hits)[:n_hits]
                if len(distinct) == n_hits or len(hits) < depth or depth >= len(self.chunks):
                    complete[place] = distinct
            waiting = [place for place in waiting if place not in complete]
            depth = min(len(self.chunks), depth * _FETCHED_PER_KEPT)
        return [complete[place] for place in range(len(queries))]

    def passages(self, hits: Iterable[Hit]) -> str:
        """The hits as they stand in a prompt: `[doc_id] text`, separated by blank lines, cut to `passage_chars`."""
        limit = self.config.passage_chars
        texts = ((hit.doc_id, self._texts.get((hit.doc_id, hit.position), "")) for hit in hits)
        return "\n\n".join(f"[{doc_id}] {_cut(text, limit)}" for doc_id, text in texts)

    @cached_property
    def _texts(self) -> dict[tuple[str, int], str]:
        return {(chunk.doc_id, chunk.position): chunk.text for chunk in self.chunks}

    def _distinct(self, hits: Iterable[Hit]) -> list[Hit]:
        by_group, best = self.config.distinct_by == "group", dict[str, Hit]()
        for hit in hits:
            document = self.corpus.by_id.get(hit.doc_id) if by_group else None
            best.setdefault((document.group if document else "") or hit.doc_id, hit)
        return list(best.values())

    def __repr__(self) -> str:
        name, size = plain(self.corpus.name), f"{len(self.chunks):,} chunks"
        return f"Index({name}, {self.config.retriever}, {size}, {self.digest[:8]})"

    def _repr_html_(self) -> str:
        rows = [{"field": key, "value": value} for key, value in self.manifest.items() if key != "documents"]
        return display.html.html_table(rows, caption=f"{len(self.corpus):,} documents in {len(self.chunks):,} chunks.")


def build_index(
    config: RetrievalConfig | None, *, base: str | Path | None = None, embedder: search.Embedder | None = None
) -> Index:
    """The index that a bundle's retrieval config describes; what it shares with an earlier one is built once.

    Paths in the config are relative to `base` (by default the working directory) and may not leave it. `embedder`
    gives the vectors of the config's `embedding` model; by default from the model's own endpoint.

    Raises:
        ValueError: None, as of a bundle that retrieves nothing.
    """
    if config is None:
        raise ValueError("the bundle retrieves nothing: it has no `retrieval`, so there is no index of it")
    corpus = Corpus.load(config.corpus, base="." if base is None else base)
    key, options = _digest(corpus, config), dict(config.options)
    if config.embedding is not None:
        embedder = options["embedder"] = embedder or search.Embedder(config.embedding)
        key += f" {embedder.fingerprint}"
    built = _BUILT.get(key)
    if built is None:
        chunks = chunked(corpus, config.chunking)
        built = (chunks, retriever_for(config.retriever, chunks, options=options), datetime.now(UTC))
        if embedder is None or embedder.keeps:
            _BUILT[key] = built
    chunks, retriever, built_at = built
    return Index(corpus=corpus, config=config, chunks=chunks, retriever=retriever, built_at=built_at)


_BUILT: dict[str, tuple[tuple[Chunk, ...], Retriever, datetime]] = {}


def _recipe(corpus: Corpus, config: RetrievalConfig) -> dict[str, Any]:
    chosen = config.model_dump(mode="json", include={"chunking", "retriever", "options", "embedding"})
    return {"corpus": corpus.digest, **chosen}


def _digest(corpus: Corpus, config: RetrievalConfig) -> str:
    recipe = json.dumps(_recipe(corpus, config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(recipe.encode()).hexdigest()


def _cut(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    return text[:limit].rsplit(maxsplit=1)[0] + " …"


def register_retriever(name: str, build: _Builder) -> None:
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
    if name in _BY_WORDS and "embedder" in (options or {}):
        raise ValueError(f"the retriever {name!r} searches by words; drop `embedding`, or use 'embedding' or 'hybrid'")
    if name in _BY_WORDS and not any(indexed_words(chunk) for chunk in chunks):
        raise ValueError("no chunk has a word to index")
    try:
        return RETRIEVERS[name](chunks, options or {})
    except TypeError as error:
        raise ValueError(f"the options {dict(options or {})} do not fit the retriever {name!r}: {error}") from None


def _hybrid(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    fusion_options = {key: value for key, value in options.items() if key not in ("of", *_OF_VECTORS)}
    embedder = {key: options[key] for key in _OF_VECTORS if key in options} if "embedder" in options else {}
    fused = options.get("of", ("bm25", "embedding" if embedder else "lsa"))
    if embedder and "embedding" not in fused:
        raise ValueError(f"`embedding` is set, but the hybrid fuses {', '.join(fused)}; drop it, or add it to `of`")
    parts = [retriever_for(name, chunks, options=embedder if name == "embedding" else None) for name in fused]
    return Hybrid(parts, **fusion_options)


def _embedding(chunks: Sequence[Chunk], options: Mapping[str, Any]) -> Retriever:
    if "embedder" not in options:
        raise ValueError("the retriever 'embedding' needs a model: add `embedding: {provider: ..., id: ...}`")
    return search.Embedding(chunks, **options)


RETRIEVERS: dict[str, _Builder] = {
    "bm25": lambda chunks, options: bm25(chunks, **options),
    "embedding": _embedding,
    "hybrid": _hybrid,
    "lsa": lambda chunks, options: search.latent.Lsa(chunks, **options),
    "tfidf": lambda chunks, options: tfidf(chunks, **options),
}
