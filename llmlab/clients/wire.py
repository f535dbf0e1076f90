"""The OpenAI-compatible wire format: a reply's JSON in, an answer's fields out; and a streamed reply put together.

Whatever is not a complete answer is a TransportError, so that it is asked again and never stored. Used by `openai`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmlab.clients.base import Status, Usage
from llmlab.clients.scrub import scrub
from llmlab.errors import TransportError

__all__ = ["StreamedReply", "read_answer", "read_json", "read_vectors", "wire_tools"]

CUT_SHORT = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
WITHHELD = frozenset({"content_filter", "safety", "refusal", "recitation", "prohibited_content", "blocklist"})


def wire_tools(tools: tuple[Mapping[str, Any], ...]) -> list[dict[str, Any]]:
    """Tools as the protocol wants them: each a `function` with name, description and parameters.

    >>> wire_tools(({"name": "f", "parameters": {}},))
    [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
    """
    return [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in tools]


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


def read_answer(reply: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a Generation that a complete reply decides; TransportError for an error or a missing part.

    >>> read_answer({"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]})["status"]
    'ok'
    """
    if reply.get("error"):
        raise TransportError(f"status 200, but an error inside: {scrub(str(reply['error']), secrets=secrets)}")
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise TransportError(f"the reply holds no choice with a message: {scrub(str(reply), secrets=secrets)}")
    if choice.get("error") or choice.get("finish_reason") == "error":
        raise TransportError(f"the answer ended in an error: {scrub(str(choice.get('error')), secrets=secrets)}")
    refusal, text = _text(message.get("refusal")), _text(message.get("content"))
    tool_calls = _tool_calls(message.get("tool_calls"))
    finish = str(choice.get("finish_reason") or "").lower()
    return {
        "status": "refused" if refusal else _status(finish, text=text, acts=bool(tool_calls)),
        "text": text or refusal,
        "tool_calls": tool_calls,
        "usage": _usage(reply.get("usage")),
        "served_model": _word(reply.get("model")),
        "system_fingerprint": _word(reply.get("system_fingerprint")),
    }


def read_vectors(reply: Mapping[str, Any], *, n: int, secrets: tuple[str, ...] = ()) -> list[list[float]]:
    """The n vectors of a reply of `/embeddings`, in the order of the texts; TransportError for anything else.

    >>> read_vectors({"data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": [1.0]}]}, n=2)
    [[1.0], [0.5]]
    """
    if reply.get("error"):
        raise TransportError(f"status 200, but an error inside: {scrub(str(reply['error']), secrets=secrets)}")
    listed = reply.get("data")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    found = {row.get("index", place): row.get("embedding") for place, row in enumerate(rows)}
    vectors = [found.get(place) for place in range(n)]
    if len(rows) != n or not all(isinstance(vector, list) and vector for vector in vectors):
        raise TransportError(f"the reply has {len(rows)} vectors for {n} texts, or some are empty")
    return [[float(part) for part in vector or ()] for vector in vectors]


class StreamedReply:
    """Server-sent events put together into the reply that would have come in one piece.

    `feed` bytes as they arrive; `started` turns true at the first token; `reply` refuses what did not end properly.
    """

    def __init__(self) -> None:
        self.started = False
        self._rest = b""
        self._ended = False
        self._reply: dict[str, Any] = {}
        self._parts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._tool_calls: dict[int, dict[str, str]] = {}
        self._finish_reason: str | None = None

    def feed(self, received: bytes) -> None:
        """Take in more bytes; TransportError for an event that is not JSON."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name != b"data":  # comments that keep the line open, event names, empty lines
                continue
            if value.strip() == b"[DONE]":
                self._ended = True
            else:
                self._take(read_json(value))

    def reply(self) -> dict[str, Any]:
        """The whole reply; TransportError when the stream stopped before its end."""
        if self._reply.get("error"):
            return self._reply
        if not self._ended and self._finish_reason is None:
            raise TransportError("the stream stopped before its end")
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._parts.items()}
        message["tool_calls"] = [{"function": call} for _, call in sorted(self._tool_calls.items())]
        return {**self._reply, "choices": [{"message": message, "finish_reason": self._finish_reason}]}

    def _take(self, event: dict[str, Any]) -> None:
        for name in ("model", "system_fingerprint", "usage", "error"):
            if event.get(name):
                self._reply[name] = event[name]
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return  # the last event holds usage only
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        for name, parts in self._parts.items():
            if part := _text(delta.get(name)):
                parts.append(part)
                self.started = True
        for index, call in enumerate(delta.get("tool_calls") or ()):
            self._take_tool_call(index, call)

    def _take_tool_call(self, index: int, call: Mapping[str, Any]) -> None:
        self.started = True
        whole = self._tool_calls.setdefault(call.get("index", index), {"name": "", "arguments": ""})
        function = call.get("function") or {}
        for name in whole:
            whole[name] += function.get(name) or ""


def _status(finish: str, *, text: str, acts: bool) -> Status:
    if finish in WITHHELD:
        return "refused"
    if finish in CUT_SHORT:
        return "truncated"
    return "ok" if text.strip() or acts else "empty"


def _text(content: Any) -> str:
    """A text, or the text parts of a list of parts; "" for anything else."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _tool_calls(calls: Any) -> tuple[dict[str, Any], ...]:
    found = [call.get("function") for call in calls or () if isinstance(call, dict)] if isinstance(calls, list) else []
    return tuple(
        {"name": str(function.get("name", "")), "arguments": _arguments(function.get("arguments"))}
        for function in found
        if isinstance(function, dict)
    )


def _arguments(text: Any) -> Any:
    """Arguments parsed where they are JSON; else as the model wrote them, for a scorer to judge."""
    try:
        parsed = json.loads(text) if isinstance(text, str) else text
        json.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return parsed


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_input_tokens=_count(cached),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _excerpt(body: bytes, secrets: tuple[str, ...]) -> str:
    return scrub(body.decode("utf-8", "replace"), secrets=secrets, limit=120) or "(empty)"
