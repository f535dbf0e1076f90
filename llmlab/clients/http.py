"""What every client over HTTP shares: sessions, keys, limits, retries, sizes, prices; a wire format makes the rest.

One POST per attempt with aiohttp, or server-sent events with `stream=True`. A key is read from the environment at
each call, by name; it is never kept, shown or logged. Retries live in `retry` and nowhere else. Used by `openai` and
`anthropic`.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import json
import os
import re
import shlex
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar, Unpack
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import pydantic

from llmlab.base.documents import broken_rule
from llmlab.base.errors import CallError, RequestRefusedError, TransportError, UnusableEndpointError
from llmlab.base.private import Secret, excerpt
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.access import Access, AccessSettings, RetryPolicy
from llmlab.clients.base import Generation, Request, Usage, estimated_bytes, n_bytes
from llmlab.clients.prices import TokenPrices, price_usd
from llmlab.clients.retry import Lane, Lanes, NeverReachedError, with_retries
from llmlab.clients.wire import (
    Stream,
    WireFormat,
    WithheldError,
    begins_events,
    failure_of,
    read_json,
    refused_generation,
    sse_data,
    sse_end,
    whole_characters,
)

BYTES_PER_TOKEN = 3  # on the safe side: English has about four
_TOKENS_PER_MESSAGE = 8
_CONNECT_TIMEOUT_S = 30.0
_PROXY_REFUSED = 407  # RFC 9110, section 15.5.8: said by proxies alone
LARGEST_REPLY_BYTES = 64_000_000
Read = TypeVar("Read")


def input_tokens_at_most(request: Request) -> int:
    """How many input tokens the request has at most, by its size: a token for every three bytes of UTF-8.

    >>> from llmlab.bundle.bundle import Sampling
    >>> messages = ({"role": "user", "content": "How do I drop rows?"},)
    >>> input_tokens_at_most(Request(model=ModelRef.parse("openai/x"), messages=messages, sampling=Sampling()))
    15
    """
    sizes = [n_bytes(json.dumps(tool, ensure_ascii=False)) for tool in request.tools]
    sizes += map(estimated_bytes, request.messages)
    return -(-sum(sizes) // BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(sizes)


async def whole_body(response: aiohttp.ClientResponse) -> bytes:
    """The body; RequestRefusedError for one that would fill the memory."""
    length = response.content_length
    if length is not None and length <= LARGEST_REPLY_BYTES and "Content-Encoding" not in response.headers:
        return await response.read()
    parts, size = [], 0
    async for received in response.content.iter_any():
        parts.append(received)
        size = _bounded(size + len(received))
    return b"".join(parts)


class Settings(AccessSettings, total=False):
    """What every client may be given besides address and key; the docstring of `OpenAIClient` says what each is."""

    in_turn: Sequence[Access]
    group: str | None
    prices: TokenPrices | None
    context_tokens: int | None
    stream: bool
    retry: RetryPolicy | None


class HttpClient:
    """Sends requests to one endpoint, or to several that are interchangeable, in one wire format.

    Attributes:
        fingerprint: names what answers, without secrets; the same whichever of several endpoints or keys is asked.
            It is the address (with deployment and API version); of several different ones all of them, sorted; or
            `group`, where that is given, so that endpoints can be added without paying for stored answers again.
        wire: how requests look on their way out, and replies on their way in.
    """

    def __init__(
        self,
        base_url: str,
        *,
        wire: WireFormat,
        api_key_env: str | None,
        in_turn: Sequence[Access] = (),
        group: str | None = None,
        prices: TokenPrices | None = None,
        context_tokens: int | None = None,
        stream: bool = False,
        retry: RetryPolicy | None = None,
        **access_settings: Unpack[AccessSettings],
    ) -> None:
        try:
            first = Access.model_validate({"base_url": base_url, "key_env": api_key_env, **access_settings})
        except pydantic.ValidationError as error:  # shorter, and with the argument's own name
            raise ValueError(re.sub("^key_env", "api_key_env", broken_rule(error))) from None
        self.accesses, self.wire, self._prices = (first, *in_turn), wire, prices
        self.context_tokens, self.stream, self.retry = context_tokens, stream, retry or RetryPolicy()
        self.fingerprint = _fingerprint(self.accesses, wire, group)
        self._shapes = {(access.deployment, access.drop) for access in self.accesses}
        self._lanes, self._reached = Lanes(self.accesses), False
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()
        self._proxies: dict[str, _Proxy] = {}

    def __repr__(self) -> str:
        names = " or ".join(f"${access.key_env}" for access in self.accesses if access.key_env)
        return f"{type(self).__name__}({self.fingerprint!r}, {f'key from {names}' if names else 'no key'})"

    def check(self, request: Request) -> None:
        """RequestRefusedError for what `complete` refuses before it sends anything, but for a missing key."""
        for shape in self._shapes:
            self._encoded(request, *shape)
        self._tokens_that_fit(request)

    async def complete(self, request: Request) -> Generation:
        """The model's answer, with usage, cost, latency of the last attempt, and how many attempts it took.

        Raises:
            RequestRefusedError: before sending, where the request cannot be sent as it is; or the endpoint refused it.
            TransportError, CallTimeoutError: no complete answer within the bounds of `retry`.
        """
        bodies = {shape: self._encoded(request, *shape) for shape in self._shapes}
        tokens = self._tokens_that_fit(request)
        self._lanes.check_keys()  # so that a missing key is told before anything is sent
        # loads the price list now, and not while others wait for replies
        self.price_usd(request.model, Usage(input_tokens=0, output_tokens=0))

        async def attempt(lane: Lane, number: int) -> Generation:
            answer = await self._attempt(request.model, bodies[lane.access.deployment, lane.access.drop], lane, number)
            if (used := answer.usage).input_tokens is not None:
                lane.correct(estimated=tokens, used=used.input_tokens + (used.output_tokens or 0))
            return answer

        return await with_retries(
            attempt, policy=self.retry, lanes=self._lanes, tokens=tokens, model=str(request.model)
        )

    def limited_to(self, share: float) -> HttpClient:
        """The same client with this share of its rate limits, for one of several processes that ask at once."""
        client = copy.copy(self)
        client.accesses = tuple(access.limited_to(share) for access in self.accesses)
        client._lanes, client._reached = Lanes(client.accesses), False
        client._sessions, client._proxies = WeakKeyDictionary(), {}
        return client

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent, as plain JSON values; RequestRefusedError for a parameter that cannot be."""
        return self._body(request, self.accesses[0].deployment, self.accesses[0].drop)

    def curl(self, request: Request) -> str:
        """The exact request as a shell command; the key is named as a variable, never written out."""
        access = self.accesses[0]
        plain = {"Content-Type": "application/json", **self.wire.fields(access)}
        fields = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in plain.items()]
        if access.key_env:
            header = access.key_header or self.wire.key_header(access)
            name, prefix = ("Authorization", "Bearer ") if header == "bearer" else (header, "")
            fields.append(f'-H "{name}: {prefix}${{{access.key_env}}}"')
        fields += [f'-H "{name}: ${{{variable}}}"' for name, variable in access.headers]
        body = shlex.quote(json.dumps(self.body(request)))
        return " ".join(["curl", shlex.quote(self.wire.url(access, request.model)), *fields, "-d", body])

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """The cost of so many tokens, None where the price is not known."""
        return price_usd(model, usage, own=self._prices)

    @property
    def rests_s(self) -> float:
        """How much longer no call is sent, because the provider asked for it; 0 while calls are."""
        return self._lanes.rests_s

    async def fetch(
        self, method: str, path: str, *, data: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """What the first endpoint answers under another path, with its key; CallError where it is not status 200."""
        access = self.accesses[0]

        async def read(response: aiohttp.ClientResponse) -> bytes:
            body = await response.read()
            if response.status != 200:
                text = body.decode("utf-8", "replace")
                raise failure_of(response.status, text, headers=response.headers, access=access)
            return body

        return await self._send(
            f"{access.base_url}{path}", data, access, read, method=method, content_type=content_type
        )

    async def aclose(self) -> None:
        """Close the connections of the running loop, and drop those of loops that are gone.

        Endpoints that were taken out because their key was refused are asked again by the next run.
        """
        self._lanes.reopen()
        for loop, session in list(self._sessions.items()):
            if loop is asyncio.get_running_loop() or loop.is_closed():
                await session.close()
                del self._sessions[loop]

    def _body(self, request: Request, deployment: str | None, drop: tuple[str, ...]) -> dict[str, Any]:
        body = self.wire.body(request, name=deployment or request.model.id, stream=self.stream)
        return {name: value for name, value in body.items() if name not in drop} if drop else body

    def _encoded(self, request: Request, deployment: str | None, drop: tuple[str, ...]) -> bytes:
        body = self._body(request, deployment, drop)
        encoded = json.dumps(body).encode("ascii")
        # every emoji is two \ud... escapes too: only a comparison tells, and most bodies are spared it
        if b"\\ud" in encoded and whole_characters(body) != body:
            flaw = "half of a character (a lone surrogate)"
            raise RequestRefusedError(f"the request holds {flaw}; mend the question or the prompt", attempts=0)
        return encoded

    async def _attempt(self, model: ModelRef, body: bytes, lane: Lane, number: int) -> Generation:
        started_s, first_token_s = time.perf_counter(), None

        async def read(response: aiohttp.ClientResponse) -> dict[str, Any]:
            nonlocal first_token_s
            if response.status != 200:
                text = (await whole_body(response)).decode("utf-8", "replace")
                if (refused := refused_generation(response.status, text)) is not None:
                    raise WithheldError(refused.error)
                raise failure_of(response.status, text, headers=response.headers, access=lane.access)
            begun = await _begun(response) if self.stream else b""
            if self.stream and (response.content_type == "text/event-stream" or begins_events(begun)):
                stream = self.wire.stream()
                first_token_s = await _streamed(begun, response, stream, started_s)
                return stream.reply()
            return read_json(begun + await whole_body(response), known=lane.known)

        try:
            reply = await self._send(self.wire.url(lane.access, model), body, lane.access, read)
            latency_s = time.perf_counter() - started_s
            answer = whole_characters(self.wire.read_answer(reply))
        except WithheldError as error:
            return Generation(status="refused", error=str(error), attempts=number)
        return Generation(
            **answer,
            latency_s=latency_s,
            first_token_s=first_token_s,
            cost_usd=self.price_usd(model, answer["usage"]),
            attempts=number,
        )

    async def _send(
        self,
        url: str,
        body: bytes | None,
        access: Access,
        read: Callable[[aiohttp.ClientResponse], Awaitable[Read]],
        *,
        method: str = "POST",
        content_type: str = "application/json",
    ) -> Read:
        """What `read` makes of the response; TransportError for a refused or reset connection, a torn body, no HTTP."""
        headers = {"Content-Type": content_type, **self.wire.fields(access), **access.more_fields}
        headers |= access.key_fields(self.wire.key_header(access))
        try:
            session = self._session()
            proxy = self._proxies.get(access.base_url) or _proxy(access.base_url)
            self._proxies[access.base_url] = proxy
            async with session.request(
                method, url, data=body, headers=headers, allow_redirects=False, proxy=proxy.url
            ) as response:
                if response.status == _PROXY_REFUSED and proxy.url:  # which aiohttp leaves to us where the way is http
                    raise proxy.refusal(response.status, access.base_url)
                self._reached = True
                return await read(response)
        except aiohttp.ClientConnectorCertificateError:
            advice = "name your authority's file in SSL_CERT_FILE, or mend base_url"
            raise UnusableEndpointError(f"the certificate of {access.base_url} is not trusted here; {advice}") from None
        except aiohttp.InvalidURL:  # whose text is the address
            address = f"the proxy that {proxy.named} names" if proxy.url else access.base_url
            raise UnusableEndpointError(f"{address} is no address that can be asked; mend it", attempts=0) from None
        except aiohttp.ClientHttpProxyError as error:  # its text holds the address
            raise proxy.refusal(error.status, access.base_url) from None
        except aiohttp.ClientConnectorError as error:
            why = os.strerror(number) if (number := error.errno or 0) > 0 else error.strerror
            kind = TransportError if self._reached or number != errno.ECONNREFUSED else NeverReachedError
            where = f"the proxy that {proxy.named} names for {access.base_url}" if proxy.url else access.base_url
            raise kind(f"nothing answers at {where} ({why}); is the server running?") from None
        except aiohttp.ClientError as error:
            problem = excerpt(f"{type(error).__name__} {error}", limit=200)
            raise TransportError(f"{access.base_url}: {problem}") from None

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            self._proxies = {}
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)  # as many as are in flight
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)  # `retry` bounds the rest
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),  # no call leaves anything behind for the next
            )
        return session

    def _tokens_that_fit(self, request: Request) -> int:
        """About how many tokens request and answer have; RequestRefusedError where the context may not hold them."""
        n_input, n_output = input_tokens_at_most(request), request.sampling.tokens_at_most or 0
        if self.context_tokens is not None and n_input + n_output > self.context_tokens:
            raise RequestRefusedError(
                f"about {n_input:,} input tokens and {n_output:,} for the answer may not fit into the context "
                f"of {self.context_tokens:,} (context_tokens); shorten the prompt, or retrieve fewer passages",
                attempts=0,
            )
        return n_input + n_output


class _Proxy(NamedTuple):
    """Where calls go through, None for none, and what says so: the name of its variable, for messages."""

    url: str | None
    named: str

    def refusal(self, status: int, base_url: str) -> CallError:
        problem = f"the proxy that {self.named} names answered {status} when asked for {base_url}"
        return TransportError(problem) if status >= 500 else UnusableEndpointError(problem, status_code=status)


def _fingerprint(accesses: Sequence[Access], wire: WireFormat, group: str | None) -> str:
    different = sorted({access.fingerprint for access in accesses})
    address = f"group {group}" if group else different[0] if len(different) == 1 else f"one of {' | '.join(different)}"
    return f"{wire.name} {address}".strip()


async def _begun(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of the body: many proxies lose its type, and these tell events from JSON."""
    begun = b""
    while len(begun) < len("event:") and (received := await response.content.readany()):
        begun += received
    return begun


async def _streamed(
    received: bytes, response: aiohttp.ClientResponse, stream: Stream, started_s: float
) -> float | None:
    """Seconds to the first token, None where there was none, of what was `received` already and what follows."""
    incomplete, size, first_token_s = b"", 0, None
    while received:
        size = _bounded(size + len(received))
        values, incomplete = sse_data(received, incomplete)
        _take(values, stream)
        if first_token_s is None and stream.started:
            first_token_s = time.perf_counter() - started_s
        received = await response.content.readany()
    _take(sse_end(incomplete), stream)
    return first_token_s


def _take(values: Iterable[bytes], stream: Stream) -> None:
    for value in values:
        if value == b"[DONE]":
            stream.end()
        else:
            stream.take(read_json(value))


def _bounded(size: int) -> int:
    if size > LARGEST_REPLY_BYTES:
        raise RequestRefusedError(
            f"the reply is larger than {LARGEST_REPLY_BYTES:,} bytes; give the bundle a max_tokens, or check base_url"
        )
    return size


def _proxy(url: str) -> _Proxy:
    """The proxy that the environment names for this address (aiohttp's own look-up would also send netrc passwords).

    As curl takes it: without a scheme it is http. UnusableEndpointError for one that is no such address.
    """
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
    if not proxy:
        return _Proxy(None, named="")
    source = next((f"${key}" for key in (name, name.upper()) if os.environ.get(key)), "the system's settings")
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:  # of the port
        usable = False
    if not usable:
        rule = "write it as http://host:port, or name the host in no_proxy"
        raise UnusableEndpointError(f"the proxy that {source} names for {url} is no http address: {rule}", attempts=0)
    return _Proxy(Secret(address.geturl()), named=source)
