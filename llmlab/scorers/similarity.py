"""Embedding similarity to the expected answer, for answers that say the same in other words."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import mul
from typing import Any, TypeAlias

from llmlab.base.errors import CallTimeoutError, TransportError
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.base import Score, Scorer, scorer, texts_of
from llmlab.search.embedding import Embedder

Vectors: TypeAlias = Iterable[Any]  # one row of numbers a text: lists, or an array
Embed: TypeAlias = Callable[[Sequence[str]], Vectors | Awaitable[Vectors]]

LARGEST_CACHE = 100_000  # texts whose vectors are kept
TIMEOUT_S = 60.0


def similar_to_expected(
    embed: str | Embed, model: str = "", *, api_key_env: str | None = None, name: str = "similar_to_expected"
) -> Scorer:
    """Cosine of the answer's embedding with that of the closest expected text, 0 to 1 (below 0 counts as 0).

    Args:
        embed: base URL of an endpoint with `/embeddings` (`http://localhost:8000/v1`), an embedding model by
            provider/id (`local/wordllama-256`) at its provider's own address, whose vectors the call store keeps, or a
            function from texts to vectors, async or not (an `Embedder`).
        model: the embedding model's id at that base URL.
        api_key_env: name of the environment variable that holds the key, read at the call.

    The scorer is async (`score_all_async`). A text is embedded once per scorer; a failed call is an unscored row.
    """
    at_url = isinstance(embed, str) and "://" in embed
    if at_url and not model:
        raise ValueError("model == '', must name the embedding model at this endpoint")
    if not at_url and (model or api_key_env):
        raise ValueError(f"model and api_key_env belong to a base URL (http://...), and embed is {embed!r}")
    call: Embed
    if isinstance(embed, str):
        call = _endpoint(embed, model, api_key_env) if at_url else Embedder(ModelRef.parse(embed))
        source = embed
    else:
        call = embed
        source = getattr(embed, "__qualname__", "") or str(getattr(embed, "model", type(embed).__qualname__))
    vectors: dict[str, Sequence[float]] = {}
    described = f"{source} {model}".strip()  # in the closure, so that it is part of the digest

    @scorer(name=name, needs_expected=True, revision=1)
    async def similar(case: Case, generation: Generation) -> Score:
        texts = [generation.text, *texts_of(case)]
        if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
            if len(vectors) + len(missing) > LARGEST_CACHE:
                vectors.clear()
                missing = list(dict.fromkeys(texts))
            vectors.update(zip(missing, await _called(call, missing), strict=True))
        answer, *expected = (vectors[text] for text in texts)
        best = max(_cosine(answer, vector) for vector in expected)
        return Score(value=min(1.0, max(0.0, best)), explanation=f"cosine {best:.3f} by {described}")

    return similar


async def _called(embed: Embed, texts: Sequence[str]) -> Vectors:
    """The vectors by a function that may be async; what is not would hold up the other scorers, so it gets a thread."""
    is_async = inspect.iscoroutinefunction(embed) or inspect.iscoroutinefunction(type(embed).__call__)
    vectors = embed(texts) if is_async else await asyncio.to_thread(embed, texts)
    return await vectors if inspect.isawaitable(vectors) else vectors


def _endpoint(base_url: str, model: str, api_key_env: str | None) -> Embed:
    url = f"{base_url.rstrip('/')}/embeddings"

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        import aiohttp

        key = os.environ.get(api_key_env, "") if api_key_env else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
                session.post(url, json={"model": model, "input": clean}, headers=headers) as response,
            ):
                if response.status != 200:
                    raise TransportError(f"{url}: HTTP {response.status}", status_code=response.status)
                body = await response.json(content_type=None)
            return [item["embedding"] for item in sorted(body["data"], key=lambda item: int(item["index"]))]
        except TimeoutError:
            raise CallTimeoutError(f"{url}: no answer in {TIMEOUT_S:.0f} s") from None
        except (aiohttp.ClientError, KeyError, TypeError, ValueError) as error:
            raise TransportError(f"{url}: no embeddings ({type(error).__name__})") from None

    return embed


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) != len(b):
        raise ValueError(f"vectors of {len(a)} and {len(b)} dimensions: the endpoint changed its model")
    length = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(map(mul, a, b)) / length if length else 0.0
