"""Search: the corpus of an experiment cut into passages, indexed, and found again for a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.search import latent as latent
    from llmlab.search.corpus import Corpus as Corpus
    from llmlab.search.embedding import Embedder as Embedder
    from llmlab.search.embedding import Embedding as Embedding
    from llmlab.search.embedding import EmbeddingClient as EmbeddingClient
    from llmlab.search.embedding import EstimatingEmbedder as EstimatingEmbedder
    from llmlab.search.index import Index as Index
    from llmlab.search.index import build_index as build_index
    from llmlab.search.index import register_retriever as register_retriever

__all__, __getattr__, __dir__ = face(__name__)
