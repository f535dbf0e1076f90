"""Clients of both wire formats that are connected to the loopback server, and what they are asked."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.access import RetryPolicy
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.base import Generation, Request
from llmlab.clients.http import HttpClient, _take
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.wire import Stream, sse_data, sse_end
from tests.loopback import Loopback

T = TypeVar("T")
S = TypeVar("S", bound=Stream)
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)


@dataclass(frozen=True)
class Wire:
    """A wire format: its client, where it is on the server, the model that is asked, and where the key goes."""

    name: str
    client: Any
    path: str
    model: str
    sampling: Sampling
    key_field: str

    def __str__(self) -> str:
        return self.name


CHAT = Wire("chat", OpenAIClient, "/v1", "vllm/tiny", Sampling(), "authorization")
MESSAGES = Wire("messages", AnthropicClient, "", "anthropic/claude-opus-4-7", Sampling(max_tokens=50), "x-api-key")
WIRES = (CHAT, MESSAGES)


def asking(content: str = "How?", *, wire: Wire = CHAT, **changes: Any) -> Request:
    """A request with one user message."""
    if isinstance(changes.get("model"), str):
        changes["model"] = ModelRef.parse(changes["model"])
    parts = {"model": ModelRef.parse(wire.model), "messages": ({"role": "user", "content": content},)}
    return Request(**{**parts, "sampling": wire.sampling, **changes})


def connected(loopback: Loopback, *, wire: Wire = CHAT, **settings: Any) -> Any:
    """A client without a key, and quick to try again."""
    return wire.client(f"{loopback.origin}{wire.path}", **{"api_key_env": None, "retry": QUICK, **settings})


def run(client: HttpClient, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; the client is closed."""

    async def and_close() -> T:
        try:
            return await work
        finally:
            await client.aclose()

    return asyncio.run(and_close())


def ask(client: HttpClient, request: Request | None = None) -> Generation:
    """One answer."""
    wire = MESSAGES if isinstance(client, AnthropicClient) else CHAT
    return run(client, client.complete(request or asking(wire=wire)))


def ask_all(client: HttpClient, requests: Sequence[Request]) -> list[Generation | BaseException]:
    """Answers and errors of requests that are sent at once."""

    async def gather() -> list[Generation | BaseException]:
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    return run(client, gather())


def put_together(stream: S, *parts: bytes) -> S:
    """The stream, after it took in what arrived in these parts."""
    rest = b""
    for part in parts:
        values, rest = sse_data(part, rest)
        _take(values, stream)
    _take(sse_end(rest), stream)
    return stream


def everything(error: BaseException) -> str:
    """The traceback with every local variable, of the error and of all that came before it."""
    text = ""
    before: BaseException | None = error
    while before is not None:
        text += f"{before!r} {vars(before)}"
        text += "".join(traceback.TracebackException.from_exception(before, capture_locals=True).format())
        before = before.__cause__ or before.__context__
    return text
