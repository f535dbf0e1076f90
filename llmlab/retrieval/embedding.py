"""Search by embeddings from any OpenAI-compatible `/v1/embeddings`, each vector kept in the call store.

A text is embedded once: building the index again, or asking the same question in another run, costs nothing, and a
killed build resumes with what had arrived. Vectors are float32 and compared by cosine.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from llmlab.bundle import ModelRef, Sampling
from llmlab.callstore import CallStore, call_key
from llmlab.clients.base import Generation, Request
from llmlab.clients.endpoints import client_for
from llmlab.errors import DataError
from llmlab.project import runs_folder
from llmlab.retrieval.chunking import Chunk
from llmlab.retrieval.lexical import BATCH_QUERIES, Hit, best_hits, indexed_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Embedder", "Embedding", "EmbeddingClient"]

TEXTS_PER_REQUEST = 64
TEXTS_PER_ROUND = 2_048  # held in memory as stored answers at once
REQUESTS_AT_ONCE = 8


@runtime_checkable
class EmbeddingClient(Protocol):
    """Turns texts into vectors; `fingerprint` names the endpoint, as for any client."""

    fingerprint: str

    async def embed(self, model: ModelRef, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in their order."""
        ...


class Embedder:
    """The vectors of texts by one model, from the call store where they are known.

    Args:
        model: which embedding model.
        client: by default the model's own endpoint (see endpoints.yaml).
        store: the call store or its path, by default mlruns/calls.sqlite of the project.

    Raises:
        ValueError: the model's client cannot embed.
    """

    def __init__(
        self, model: ModelRef, *, client: EmbeddingClient | None = None, store: str | Path | CallStore | None = None
    ) -> None:
        found = client or client_for(model)
        if not isinstance(found, EmbeddingClient):
            raise ValueError(f"{model} cannot embed texts: name a model behind an OpenAI-compatible /v1/embeddings")
        self.model, self.client, self._store = model, found, store
        self.fingerprint = f"{found.fingerprint} /embeddings"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (texts, dimensions), each row of length 1 (or 0); works inside a running loop.

        Raises:
            CallError: the endpoint gave no vectors; those that had arrived are kept.
            DataError: the vectors differ in length, or are not finite.
        """
        if isinstance(self._store, CallStore):
            return self._all(texts, self._store)
        with CallStore(self._store or runs_folder() / "calls.sqlite") as store:
            return self._all(texts, store)

    def _all(self, texts: Sequence[str], store: CallStore) -> NDArray[np.float32]:
        waiting, parts = iter(texts), []
        while some := list(islice(waiting, TEXTS_PER_ROUND)):
            keys = {text: call_key(self.fingerprint, self._request(text)) for text in some}
            known = {key: _decoded(kept.text) for key, kept in store.get_many(set(keys.values())).items()}
            if missing := [text for text, key in keys.items() if key not in known]:
                with ThreadPoolExecutor(1) as thread:  # its own loop, so that a running one is left alone
                    arrived = thread.submit(asyncio.run, self._asked(missing, store)).result()
                known |= {keys[text]: vector for text, vector in zip(missing, arrived, strict=True)}
            parts.append(_stacked([known[keys[text]] for text in some], self.model))
        return _normalised(_stacked([row for part in parts for row in part], self.model))

    async def _asked(self, texts: Sequence[str], store: CallStore) -> list[NDArray[np.float32]]:
        places = asyncio.Semaphore(REQUESTS_AT_ONCE)

        async def one(batch: Sequence[str]) -> list[NDArray[np.float32]]:
            async with places:
                found = [np.asarray(row, dtype="<f4") for row in await self.client.embed(self.model, batch)]
            _stacked(found, self.model)
            await asyncio.gather(*(self._keep(text, row, store) for text, row in zip(batch, found, strict=True)))
            return found

        batches = [texts[start : start + TEXTS_PER_REQUEST] for start in range(0, len(texts), TEXTS_PER_REQUEST)]
        try:
            return [row for rows in await asyncio.gather(*map(one, batches)) for row in rows]
        finally:
            if (close := getattr(self.client, "aclose", None)) is not None:
                await close()

    async def _keep(self, text: str, vector: NDArray[np.float32], store: CallStore) -> None:
        request = self._request(text)
        answer = Generation(text=base64.b64encode(vector.tobytes()).decode("ascii"), served_model=self.model.id)
        await store.put(call_key(self.fingerprint, request), request, answer)

    def _request(self, text: str) -> Request:
        return Request(model=self.model, messages=({"role": "user", "content": text},), sampling=Sampling())


class Embedding:
    """Cosine similarity of embeddings.

    Some models want to be told which is which: `query_prefix` and `document_prefix` (such as "query: ") are put ahead.
    """

    def __init__(
        self, chunks: Sequence[Chunk], *, embedder: Embedder, query_prefix: str = "", document_prefix: str = ""
    ) -> None:
        self._chunks, self._embedder, self._query_prefix = chunks, embedder, query_prefix
        self._vectors = embedder([document_prefix + indexed_text(chunk) for chunk in chunks])

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The k nearest chunks whose cosine is above zero; an empty query finds nothing."""
        asked = list(dict.fromkeys(query for query in queries if query.strip()))
        found: dict[str, list[Hit]] = {}
        for start in range(0, len(asked), BATCH_QUERIES):
            batch = asked[start : start + BATCH_QUERIES]
            similar = self._embedder([self._query_prefix + query for query in batch]) @ self._vectors.T
            for query, row in zip(batch, similar.round(6), strict=True):
                near = np.flatnonzero(row > 0)
                found[query] = best_hits(self._chunks, near, row[near], k)
        return [list(found.get(query, ())) for query in queries]


def _decoded(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def _stacked(rows: Sequence[NDArray[np.float32]], model: ModelRef) -> NDArray[np.float32]:
    sizes = {row.size for row in rows}
    if len(sizes) > 1 or 0 in sizes:
        raise DataError(f"{model} gave vectors of {sorted(sizes)} numbers; all must have the same length above 0")
    table = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    if not np.isfinite(table).all():
        raise DataError(f"{model} gave a vector with a number that is not finite")
    return table


def _normalised(table: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(table, axis=1, keepdims=True) if table.size else np.ones((0, 1), np.float32)
    found: NDArray[np.float32] = (table / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found
