"""Embedding similarity to the expected answer, for answers that say the same in other words."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Sequence
from operator import mul
from typing import TypeAlias

from llmlab.base.errors import CallTimeoutError, TransportError
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.base import Score, Scorer, scorer, texts_of

__all__ = ["Embed", "similar_to_expected"]

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

LARGEST_CACHE = 100_000  # texts whose vectors are kept
TIMEOUT_S = 60.0


def similar_to_expected(
    embed: str | Embed, model: str = "", *, api_key_env: str | None = None, name: str = "similar_to_expected"
) -> Scorer:
    """Cosine of the answer's embedding with that of the closest expected text, 0 to 1 (below 0 counts as 0).

    Args:
        embed: base URL of an endpoint with `/embeddings` (`http://localhost:8000/v1`), or an async function
            from texts to vectors.
        model: the embedding model's id at that endpoint.
        api_key_env: name of the environment variable that holds the key, read at the call.

    The scorer is async (`score_all_async`). A text is embedded once per scorer; a failed call is an unscored row.
    """
    if isinstance(embed, str) and not model:
        raise ValueError("model == '', must name the embedding model at this endpoint")
    source = embed if isinstance(embed, str) else getattr(embed, "__qualname__", type(embed).__qualname__)
    call = _endpoint(embed, model, api_key_env) if isinstance(embed, str) else embed
    vectors: dict[str, Sequence[float]] = {}
    described = f"{source} {model}".strip()  # in the closure, so that it is part of the digest

    @scorer(name=name, needs_expected=True, revision=1)
    async def similar(case: Case, generation: Generation) -> Score:
        texts = [generation.text, *texts_of(case)]
        if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
            if len(vectors) + len(missing) > LARGEST_CACHE:
                vectors.clear()
                missing = list(dict.fromkeys(texts))
            vectors.update(zip(missing, await call(missing), strict=True))
        answer, *expected = (vectors[text] for text in texts)
        best = max(_cosine(answer, vector) for vector in expected)
        return Score(value=min(1.0, max(0.0, best)), explanation=f"cosine {best:.3f} by {described}")

    return similar


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
