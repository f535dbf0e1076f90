"""Any OpenAI-compatible endpoint, over aiohttp: OpenAI, Azure, vLLM, Ollama and providers' own compatible endpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Unpack

import aiohttp

from llmlab.bundle.bundle import ModelRef
from llmlab.clients import wire_openai
from llmlab.clients.http import HttpClient, Settings, whole_body
from llmlab.clients.lanes import Lane
from llmlab.clients.retry import with_retries
from llmlab.clients.wire import read_json

__all__ = ["OpenAIClient"]


class OpenAIClient(HttpClient):
    """Sends chat completions to one endpoint, or to several that are interchangeable.

    Args:
        base_url: up to and with the version, such as `https://api.openai.com/v1`; without credentials or query.
        api_key_env: NAME of the environment variable that holds the key; None for an endpoint without one.
        deployment: what the endpoint calls the model, where that is not the model's id.
        api_version: for Azure. With `base_url` `https://NAME.openai.azure.com` the path names the deployment; with
            `https://NAME.openai.azure.com/openai/v1` it does not, and the version may be left out.
        key_header: how the key is sent: "bearer", or "api-key" as Azure wants it (the default there).
        requests_per_minute, tokens_per_minute, max_in_flight: what the endpoint allows; shared by all calls of this
            client.
        in_turn: more endpoints or keys, each with its own limits. The freest is asked next; a 429 or a fault lets
            that one rest, a refused key takes it out with a warning, and the others go on.
        group: a name for these interchangeable endpoints, which stands for them in the fingerprint.
        prices: US dollars per million tokens, where the public list does not know this endpoint's.
        context_tokens: the context window; a request that may not fit is refused before it is paid for.
        stream: measure the time to the first token.
        retry: bounds of attempts and time.

    >>> OpenAIClient("https://api.openai.com/v1/")
    OpenAIClient('https://api.openai.com/v1', key from $OPENAI_API_KEY)
    """

    def __init__(
        self, base_url: str, *, api_key_env: str | None = "OPENAI_API_KEY", **settings: Unpack[Settings]
    ) -> None:
        super().__init__(base_url, wire=wire_openai, api_key_env=api_key_env, **settings)

    async def embed(self, model: ModelRef, texts: Sequence[str]) -> list[list[float]]:
        """The vector of each text, in their order, by one request to `/embeddings`; errors as of `complete`."""
        self._lanes.check_keys()
        secrets = self._lanes.secrets

        async def attempt(lane: Lane, _: int) -> list[list[float]]:
            async def read(response: aiohttp.ClientResponse) -> list[list[float]]:
                content = await whole_body(response)
                if response.status != 200:
                    raise self._failure(response, content.decode("utf-8", "replace"), lane.access)
                return wire_openai.read_vectors(read_json(content, secrets=secrets), n=len(texts), secrets=secrets)

            body = json.dumps({"model": lane.access.deployment or model.id, "input": list(texts)}).encode("ascii")
            return await self._send(wire_openai.url(lane.access, model, "embeddings"), body, lane.access, read)

        tokens = sum(-(-len(text.encode("utf-8", "surrogatepass")) // 3) for text in texts)
        return await with_retries(attempt, policy=self.retry, lanes=self._lanes, tokens=tokens)
