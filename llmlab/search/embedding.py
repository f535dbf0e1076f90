"""Search by embeddings from any OpenAI-compatible `/v1/embeddings`, each vector kept in the call store.

A text is embedded once: building the index again, or asking the same question in another run, costs nothing, and a
killed build resumes with what had arrived. Vectors are float32 and compared by cosine.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from llmlab.base.errors import BudgetError, DataError
from llmlab.base.project import runs_folder
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Client, Generation, Request, Usage
from llmlab.clients.call_store import CallStore, call_key
from llmlab.clients.endpoints import client_for
from llmlab.search.corpus import Chunk
from llmlab.search.retrievers import Hit, best_hits, cut, indexed_text, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEXTS_PER_REQUEST = 64
_TEXTS_PER_ROUND = 2_048  # held in memory as stored answers at once
_REQUESTS_AT_ONCE = 8
BYTES_PER_TOKEN = 4  # the rule of thumb, of UTF-8: a letter of another script is nearly a token


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
        client: by default the model's own endpoint (see endpoints.yaml).
        store: the call store or its path, by default mlruns/calls.sqlite of the project.
        budget_usd: texts that would cost more than what is left of it (by their estimated tokens) are not sent.

    Raises:
        ValueError: the model's client cannot embed.
    """

    keeps = True  # an index of these vectors may serve again

    def __init__(
        self,
        model: ModelRef,
        *,
        client: EmbeddingClient | Client | None = None,
        store: str | Path | CallStore | None = None,
        budget_usd: Decimal | None = None,
    ) -> None:
        resolved = client or client_for(model)
        if not isinstance(resolved, EmbeddingClient):
            raise ValueError(f"{model} cannot embed texts: name a model behind an OpenAI-compatible /v1/embeddings")
        self.model, self.client, self._store = model, resolved, store
        self.fingerprint = f"{resolved.fingerprint} /embeddings"
        self.budget_usd, self.spent_usd = budget_usd, Decimal(0)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (texts, dimensions), each row of length 1 (or 0); works inside a running loop.

        Raises:
            CallError: the endpoint gave no vectors; those that had arrived are kept.
            BudgetError: they would cost more than what is left of the budget, or nobody knows what they cost.
            DataError: the vectors differ in length, or are not finite.
        """
        with self._opened() as store:
            return self._all(texts, store)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The texts whose vectors are not stored yet, each once."""
        keys = self._keys(texts)
        with self._opened() as store:
            stored = {key for part in cut([*keys.values()], _TEXTS_PER_ROUND) for key in store.get_many(part)}
        return [text for text, key in keys.items() if key not in stored]

    def cost_usd(self, texts: Sequence[str]) -> Decimal | None:
        """What embedding these texts costs, by their estimated tokens; None where the model's price is not known."""
        price = getattr(self.client, "price_usd", None)
        tokens = sum(-(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for text in texts)
        usd = None if price is None else price(self.model, Usage(input_tokens=tokens, output_tokens=0))
        return usd if usd is None else Decimal(str(usd))  # a float of a client of one's own

    def afford(self, texts: Sequence[str]) -> None:
        """Count what these texts cost; BudgetError where there is a budget that they would exceed."""
        cost = self.cost_usd(texts)
        self.spent_usd += cost or 0
        if self.budget_usd is None or not texts:
            return
        if cost is None:
            raise BudgetError(
                f"the price of the embedding model {self.model} is unknown, so a budget cannot be kept. "
                "Give its price under `prices` in endpoints.yaml (output: 0), or run without budget_usd"
            )
        if self.spent_usd > self.budget_usd:
            raise BudgetError(
                f"embedding {len(texts):,} texts with {self.model} costs about ${cost:.6f}, which takes embeddings to "
                f"${self.spent_usd:.6f}, more than the budget of ${self.budget_usd}; raise it, or index less"
            )

    @contextmanager
    def _opened(self) -> Iterator[CallStore]:
        if isinstance(self._store, CallStore):
            yield self._store
            return
        with CallStore(self._store or runs_folder() / "calls.sqlite") as store:
            yield store

    def _all(self, texts: Sequence[str], store: CallStore) -> NDArray[np.float32]:
        parts = []
        for batch in cut(texts, _TEXTS_PER_ROUND):
            keys = self._keys(batch)
            stored = store.get_many(set(keys.values()))
            vectors = {key: _vector(answer) for key, answer in stored.items()}
            if missing := [text for text, key in keys.items() if key not in vectors]:
                self.afford(missing)
                with ThreadPoolExecutor(1) as thread:  # its own loop, so that a running one is left alone
                    arrived = thread.submit(asyncio.run, self._asked(missing, store)).result()
                vectors |= {keys[text]: vector for text, vector in zip(missing, arrived, strict=True)}
            parts.append(_stacked([vectors[keys[text]] for text in batch], self.model))
        return unit_rows(_stacked([row for part in parts for row in part], self.model))

    async def _asked(self, texts: Sequence[str], store: CallStore) -> list[NDArray[np.float32]]:
        places = asyncio.Semaphore(_REQUESTS_AT_ONCE)

        async def embedded(batch: Sequence[str]) -> list[NDArray[np.float32]]:
            async with places:
                vectors = [np.asarray(row, dtype="<f4") for row in await self.client.embed(self.model, batch)]
            # checked before any is kept, for what is stored is never asked for again
            _stacked(vectors, self.model)
            pairs = zip(batch, vectors, strict=True)
            return await asyncio.gather(*(self._kept(text, vector, store) for text, vector in pairs))

        try:
            batches = await asyncio.gather(*map(embedded, cut(texts, _TEXTS_PER_REQUEST)))
            return [row for rows in batches for row in rows]
        finally:
            if (close := getattr(self.client, "aclose", None)) is not None:
                await close()

    async def _kept(self, text: str, vector: NDArray[np.float32], store: CallStore) -> NDArray[np.float32]:
        request = self._request(text)
        answer = Generation(text=base64.b64encode(vector.tobytes()).decode("ascii"), served_model=self.model.id)
        return _vector(await store.put(call_key(self.fingerprint, request), request, answer))

    def _keys(self, texts: Sequence[str]) -> dict[str, str]:
        return {text: call_key(self.fingerprint, self._request(text)) for text in texts}

    def _request(self, text: str) -> Request:
        return Request(model=self.model, messages=({"role": "user", "content": text},), sampling=Sampling())


def _vector(answer: Generation) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(answer.text), dtype="<f4")


class EstimatingEmbedder(Embedder):
    """Sends nothing: counts the texts that would be sent, for a dry run.

    Where vectors are missing they are made up, so that searches find texts of middling length and prompts are about as
    long as they will be.
    """

    keeps = False

    def __init__(
        self, model: ModelRef, *, client: EmbeddingClient | None = None, store: str | Path | CallStore | None = None
    ) -> None:
        super().__init__(model, client=client, store=store)
        self.fingerprint += " estimated"
        self.counted: dict[str, None] = {}
        self._real = Embedder(model, client=client, store=store)
        self._middle: NDArray[np.float32] | None = None
        self._made_up = False

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (texts, dimensions): the stored vectors, or made-up ones; the first call is taken for the corpus."""
        missing = self._real.missing(texts)
        self.counted |= dict.fromkeys(missing)
        if self._middle is not None and (missing or self._made_up):
            return np.tile(self._middle, (len(texts), 1))
        self._made_up = bool(missing)
        if missing:
            longest = max(map(len, texts)) + 1
            vectors = unit_rows(np.array([[1.0, len(text) / longest] for text in texts], np.float32))
        else:
            vectors = self._real(texts)
        if self._middle is None and len(vectors):
            self._middle = unit_rows(vectors.mean(axis=0, keepdims=True))[0]
        return vectors


class Embedding:
    """Cosine similarity of embeddings.

    Some models want to be told which is which: `query_prefix` and `document_prefix` (such as "query: ") are put ahead.
    Of each passage the first `chars` are read; the mean of a long text's words is near that of any other.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        *,
        embedder: Embedder,
        query_prefix: str = "",
        document_prefix: str = "",
        chars: int | None = None,
    ) -> None:
        if chars is not None and (type(chars) is not int or chars < 1):
            raise ValueError(f"chars == {chars!r}, must be a whole number >= 1")
        self._chunks, self._embedder, self._query_prefix = chunks, embedder, query_prefix
        self._vectors = embedder([document_prefix + indexed_text(chunk)[:chars] for chunk in chunks])

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The k nearest chunks whose cosine is above zero; an empty query finds nothing."""
        distinct_queries = list(dict.fromkeys(query for query in queries if query.strip()))
        hits: dict[str, list[Hit]] = {}
        for batch in cut(distinct_queries):
            similar = self._embedder([self._query_prefix + query for query in batch]) @ self._vectors.T
            for query, row in zip(batch, similar.round(6), strict=True):
                near = np.flatnonzero(row > 0)
                hits[query] = best_hits(self._chunks, near, row[near], k)
        return [list(hits.get(query, ())) for query in queries]


def _stacked(rows: Sequence[NDArray[np.float32]], model: ModelRef) -> NDArray[np.float32]:
    sizes = {row.size for row in rows}
    if len(sizes) > 1 or 0 in sizes:
        raise DataError(f"{model} gave vectors of {sorted(sizes)} numbers; all must have the same length above 0")
    table = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    if not np.isfinite(table).all():
        raise DataError(f"{model} gave a vector with a number that is not finite")
    return table
