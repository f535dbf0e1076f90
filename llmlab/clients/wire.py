"""What wire formats have in common: the shape of one, JSON and server-sent events read safely, small readers of parts.

Whatever is not a complete answer is a TransportError, so that it is asked again and never stored. A format is one
module (`wire_openai`, `wire_anthropic`), which `http` is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from llmlab.base.errors import TransportError
from llmlab.base.private import excerpt
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.address import Access, KeyHeader
from llmlab.clients.base import Request

__all__ = ["Stream", "WireFormat", "count", "inner_error", "parsed", "read_json", "sse_data", "text_of", "word"]


class Stream(Protocol):
    """Events of one reply, put together."""

    started: bool

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        ...

    def end(self) -> None:
        """The stream said that it is over."""
        ...

    def reply(self) -> dict[str, Any]:
        """The reply that would have come in one piece; TransportError when it stopped before its end."""
        ...


class WireFormat(Protocol):
    """How requests look on their way out, and replies on their way in."""

    FINGERPRINT: str  # goes ahead of the addresses in a client's fingerprint, so that formats are told apart

    def url(self, access: Access, model: ModelRef) -> str:
        """Where a request for this model goes."""
        ...

    def fields(self, access: Access) -> Mapping[str, str]:
        """Header fields of every request, but for the key."""
        ...

    def key_header(self, access: Access) -> KeyHeader:
        """How the key is sent, where the access does not say."""
        ...

    def body(self, request: Request, *, name: str, stream: bool) -> dict[str, Any]:
        """What is sent, with the model called `name`; RequestRefusedError for a parameter that cannot be."""
        ...

    def new_stream(self, secrets: tuple[str, ...] = ()) -> Stream:
        """For the events of one streamed reply."""
        ...

    def read_answer(self, reply: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
        """The fields of a Generation that a complete reply decides; TransportError for an error or a missing part."""
        ...


def read_json(body: bytes, *, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON object in a body that came with status 200; TransportError where it is none."""
    try:
        reply = json.loads(body)
    except ValueError:  # HTML from a proxy, a torn body, bad UTF-8
        raise TransportError(f"the reply is not JSON: {_excerpt(body, secrets)}") from None
    except RecursionError:
        raise TransportError("the reply is nested too deeply") from None
    if not isinstance(reply, dict):
        raise TransportError(f"the reply is no JSON object: {_excerpt(body, secrets)}")
    return reply


def sse_data(received: bytes, rest: bytes) -> tuple[Iterator[bytes], bytes]:
    """The `data` of the server-sent events that are complete, and the bytes that are not yet.

    `error` fields, which llama.cpp sends instead of data, come out like data.
    Source: HTML standard, section 9.2.6; both wire formats keep an event's data on one line.

    >>> values, rest = sse_data(b'data: {"a": 1}\\n\\ndata: [DO', b"")
    >>> list(values), rest
    ([b'{"a": 1}'], b'data: [DO')
    """
    *lines, rest = (rest + received).split(b"\n")
    fields = (line.partition(b":") for line in lines)  # comments keep the line open; event names are in the data too
    return (value.strip() for name, _, value in fields if name in (b"data", b"error") and value.strip()), rest


def inner_error(reply: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> None:
    """Raise the TransportError of a reply or event that is one: `{"error": ...}`, or `{"object": "error", ...}`."""
    error = reply.get("error") or (reply if "error" in (reply.get("object"), reply.get("type")) else None)
    if error:
        raise TransportError(f"status 200, but an error inside: {excerpt(str(error), secrets=secrets)}")


def text_of(content: Any) -> str:
    """A text, or the text parts of a list of parts; "" for anything else.

    >>> text_of([{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}])
    'Paris'
    """
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def word(value: Any) -> str | None:
    """A text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A number of tokens, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def parsed(text: Any) -> Any:
    """Arguments of a tool parsed where they are JSON; else as the model wrote them, for a scorer to judge."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def _excerpt(body: bytes, secrets: tuple[str, ...]) -> str:
    return excerpt(body.decode("utf-8", "replace"), secrets=secrets, limit=120) or "(empty)"
