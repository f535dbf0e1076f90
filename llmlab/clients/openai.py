"""Any OpenAI-compatible endpoint, over aiohttp: OpenAI, Azure, vLLM, Ollama and providers' own compatible endpoints.

One POST per attempt, or server-sent events with `stream=True`. The key is read from the environment at each call,
by name; it is never kept, shown or logged. Retries live in `retry` and nowhere else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import time
import urllib.request
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

import aiohttp

from llmlab.bundle import ModelRef
from llmlab.clients.address import base_address
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.limits import RateLimits
from llmlab.clients.prices import Price, price_usd
from llmlab.clients.refusals import refused_generation, transport_or_refusal
from llmlab.clients.retry import RetryPolicy, with_retries
from llmlab.clients.sampling import wire_sampling
from llmlab.clients.scrub import scrub
from llmlab.clients.wire import StreamedReply, read_answer, read_json, read_vectors, wire_tools
from llmlab.errors import RequestRefusedError, TransportError

__all__ = ["OpenAIClient", "estimated_tokens"]

BYTES_PER_TOKEN = 3  # on the safe side: English has about four
TOKENS_PER_MESSAGE = 8
CONNECT_TIMEOUT_S = 30.0
_NOTHING = Usage(input_tokens=0, output_tokens=0)


def estimated_tokens(request: Request) -> int:
    """How many input tokens the request has at most, by its size: a token for every three bytes of UTF-8.

    >>> from llmlab.bundle import Sampling
    >>> messages = ({"role": "user", "content": "How do I drop rows?"},)
    >>> estimated_tokens(Request(model=ModelRef.parse("openai/x"), messages=messages, sampling=Sampling()))
    15
    """
    texts = [json.dumps(tool, ensure_ascii=False) for tool in request.tools]
    for message in request.messages:
        content = message.get("content", "")
        texts.append(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return -(-size // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(texts)


class OpenAIClient:
    """Sends chat completions to one endpoint.

    Args:
        base_url: up to and with the version, such as `https://api.openai.com/v1`; without credentials or query.
        api_key_env: NAME of the environment variable that holds the key; None for an endpoint without one.
        deployment: what the endpoint calls the model, where that is not the model's id.
        api_version: for Azure's deployment paths; `base_url` is then `https://NAME.openai.azure.com`.
        requests_per_minute, tokens_per_minute: what the endpoint allows; shared by all calls of this client.
        prices: US dollars per million tokens, where the public list does not know this endpoint's.
        context_tokens: the context window; a request that may not fit is refused before it is paid for.
        stream: measure the time to the first token.
        retry: bounds of attempts and time.

    >>> OpenAIClient("https://api.openai.com/v1/")
    OpenAIClient('https://api.openai.com/v1', key from $OPENAI_API_KEY)
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str | None = "OPENAI_API_KEY",
        deployment: str | None = None,
        api_version: str | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        prices: Price | None = None,
        context_tokens: int | None = None,
        stream: bool = False,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.base_url = base_address(base_url)
        self.api_key_env, self.deployment, self.api_version = api_key_env, deployment, api_version
        self.context_tokens, self.stream, self.retry = context_tokens, stream, retry or RetryPolicy()
        named = [part for part in (self.base_url, deployment, api_version) if part]
        self.fingerprint = " ".join(named)
        self._prices = prices
        self._limits = RateLimits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    def __repr__(self) -> str:
        key = f"key from ${self.api_key_env}" if self.api_key_env else "no key"
        return f"OpenAIClient({self.fingerprint!r}, {key})"

    async def complete(self, request: Request) -> Generation:
        """The model's answer, with usage, cost, latency of the last attempt, and how many attempts it took.

        Raises:
            RequestRefusedError: before sending, where the request cannot be sent as it is; or the endpoint refused it.
            TransportError, CallTimeoutError: no complete answer within the bounds of `retry`.
        """
        body = json.dumps(self.body(request)).encode("ascii")
        tokens = estimated_tokens(request) + (request.sampling.max_tokens or 0)
        self._refuse_too_long(request, tokens)
        headers = self._headers()  # read now, so that a missing key is told before anything is sent
        self.price_usd(request.model, _NOTHING)  # loads the price list now, and not while others wait for replies
        answer = await with_retries(
            lambda number: self._attempt(request.model, body, headers, number),
            policy=self.retry,
            limits=self._limits,
            tokens=tokens,
        )
        used = answer.usage
        if used.input_tokens is not None:
            self._limits.correct(estimated=tokens, used=used.input_tokens + (used.output_tokens or 0))
        return answer

    async def embed(self, model: ModelRef, texts: Sequence[str]) -> list[list[float]]:
        """The vector of each text, in their order, by one request to `/embeddings`; errors as of `complete`."""
        body = json.dumps({"model": self.deployment or model.id, "input": list(texts)}).encode("ascii")
        headers, tokens = self._headers(), sum(-(-len(text.encode("utf-8", "surrogatepass")) // 3) for text in texts)
        return await with_retries(
            lambda _: self._embedded(model, body, headers, len(texts)),
            policy=self.retry,
            limits=self._limits,
            tokens=tokens,
        )

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent, as plain JSON values; RequestRefusedError for a parameter that cannot be."""
        body: dict[str, Any] = {
            "model": self.deployment or request.model.id,
            "messages": list(request.messages),
            **wire_sampling(request),
        }
        if request.tools:
            body["tools"] = wire_tools(request.tools)
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def curl(self, request: Request) -> str:
        """The exact request as a shell command; the key is named as a variable, never written out."""
        header = f'-H "{self._key_header()[0]}: {self._key_header()[1]}${{{self.api_key_env}}}"'
        body = shlex.quote(json.dumps(self.body(request)))
        parts = ["curl", shlex.quote(self._url(request.model)), "-H 'Content-Type: application/json'"]
        return " ".join([*parts, *([header] if self.api_key_env else []), "-d", body])

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """The cost of so many tokens, None where the price is not known."""
        return price_usd(model, usage, overrides={str(model): self._prices} if self._prices else None)

    async def aclose(self) -> None:
        """Close the connections of the running loop, and drop those of loops that are gone."""
        for loop, session in list(self._sessions.items()):
            if loop is asyncio.get_running_loop() or loop.is_closed():
                await session.close()
                del self._sessions[loop]

    async def _attempt(self, model: ModelRef, body: bytes, headers: Mapping[str, str], number: int) -> Generation:
        secrets = self._secrets()
        sent_s = time.perf_counter()
        try:
            async with self._session().post(
                self._url(model), data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    return dataclasses.replace(await self._not_200(response, secrets), attempts=number)
                if self.stream and response.content_type == "text/event-stream":
                    reply, first_token_s = await _streamed(response, sent_s)
                else:
                    reply, first_token_s = read_json(await response.read(), secrets=secrets), None
        except aiohttp.ClientError as error:  # refused or reset connection, torn body, not HTTP
            raise TransportError(f"{self.base_url}: {_reason(error, secrets)}") from None
        latency_s = time.perf_counter() - sent_s
        answer = read_answer(reply, secrets=secrets)
        return Generation(
            **answer,
            latency_s=latency_s,
            first_token_s=first_token_s,
            cost_usd=self.price_usd(model, answer["usage"]),
            attempts=number,
        )

    async def _embedded(self, model: ModelRef, body: bytes, headers: Mapping[str, str], n: int) -> list[list[float]]:
        secrets = self._secrets()
        try:
            async with self._session().post(
                self._url(model, "embeddings"), data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    await self._not_200(response, secrets)
                return read_vectors(read_json(await response.read(), secrets=secrets), n=n, secrets=secrets)
        except aiohttp.ClientError as error:
            raise TransportError(f"{self.base_url}: {_reason(error, secrets)}") from None

    async def _not_200(self, response: aiohttp.ClientResponse, secrets: tuple[str, ...]) -> Generation:
        text = (await response.read()).decode("utf-8", "replace")
        if (refused := refused_generation(response.status, text)) is not None:
            return refused
        raise transport_or_refusal(
            response.status,
            text,
            headers=response.headers,
            where=self.base_url,
            key_env=self.api_key_env,
            secrets=secrets,
        )

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)  # as many as are in flight
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)  # `retry` bounds the rest
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                proxy=_proxy(self.base_url),
                cookie_jar=aiohttp.DummyCookieJar(),  # no call leaves anything behind for the next
            )
        return session

    def _url(self, model: ModelRef, what: str = "chat/completions") -> str:
        if self.api_version is None:
            return f"{self.base_url}/{what}"
        name = quote(self.deployment or model.id, safe="")
        path = f"/openai/deployments/{name}/{what}"
        return f"{self.base_url}{path}?api-version={quote(self.api_version, safe='')}"

    def _key_header(self) -> tuple[str, str]:
        return ("Authorization", "Bearer ") if self.api_version is None else ("api-key", "")

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key_env is None:
            return headers
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RequestRefusedError(
                f"no key for {self.base_url}: set the environment variable {self.api_key_env}", attempts=0
            )
        name, prefix = self._key_header()
        return headers | {name: prefix + key}

    def _secrets(self) -> tuple[str, ...]:
        return (os.environ.get(self.api_key_env, "").strip(),) if self.api_key_env else ()

    def _refuse_too_long(self, request: Request, tokens: int) -> None:
        if self.context_tokens is not None and tokens > self.context_tokens:
            answer = request.sampling.max_tokens or 0
            raise RequestRefusedError(
                f"about {tokens - answer:,} input tokens and {answer:,} for the answer may not fit into the context "
                f"of {self.context_tokens:,} (context_tokens); shorten the prompt, or retrieve fewer passages",
                attempts=0,
            )


async def _streamed(response: aiohttp.ClientResponse, sent_s: float) -> tuple[dict[str, Any], float | None]:
    streamed, first_token_s = StreamedReply(), None
    async for received in response.content.iter_any():
        streamed.feed(received)
        if first_token_s is None and streamed.started:
            first_token_s = time.perf_counter() - sent_s
    return streamed.reply(), first_token_s


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address (aiohttp's own look-up would also send netrc passwords)."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxies.get(parts.scheme)


def _reason(error: aiohttp.ClientError, secrets: tuple[str, ...]) -> str:
    return scrub(f"{type(error).__name__} {error}", secrets=secrets, limit=200)
