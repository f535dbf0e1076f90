"""The Messages API of the loopback server: replies, events and errors as Anthropic documents them.

Pure functions from a request to plain values; `tests.loopback` does the HTTP, the faults and the counting.
"""

from __future__ import annotations

import json
import re
from typing import Any

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
STOP_REASONS = {
    "length": "max_tokens",
    "window": "model_context_window_exceeded",
    "pause": "pause_turn",
    "refusal": "refusal",
    "refusal_with_text": "refusal",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
}
KNOWN_FIELDS = {"model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences"}
KNOWN_FIELDS |= {"stream", "tools", "tool_choice", "metadata", "thinking", "output_config", "cache_control"}
KNOWN_FIELDS |= {"service_tier"}


def error(status: int, headers: dict[str, str], message: str = "") -> dict[str, Any]:
    """The body of an error. Like some real gateways, it repeats the key it was given."""
    key = headers.get("x-api-key", headers.get("authorization", "")).removeprefix("Bearer ")
    told = {"type": ERROR_TYPES.get(status, "api_error"), "message": message or f"status {status} for key {key}"}
    return {"type": "error", "error": told, "request_id": "req_1"}


def mistake(headers: dict[str, str], request: dict[str, Any]) -> str:
    """What the API would refuse about this request with status 400, "" where nothing."""
    if headers.get("anthropic-version") != "2023-06-01":
        return "anthropic-version: header is required"
    for name in ("model", "messages", "max_tokens"):
        if name not in request:
            return f"{name}: Field required"
    if extra := sorted(request.keys() - KNOWN_FIELDS):
        return f"{extra[0]}: Extra inputs are not permitted"
    if any(message["role"] not in ("user", "assistant") for message in request["messages"]):
        return "messages: Unexpected role"
    return ""


def message(mode: str, request: dict[str, Any], *, text: str) -> dict[str, Any]:
    """A whole reply that says this text."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if mode in ("empty", "refusal"):
        content = []
    if mode == "thinking":
        content.insert(0, {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"})
    if mode == "tool_calls":
        content = [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"id": 7}}]
    why = STOP_REASONS.get(mode, "end_turn")
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": why,
        "stop_sequence": "END" if why == "stop_sequence" else None,
        "usage": {
            "input_tokens": sum(len(str(part["content"]).split()) for part in request["messages"]),
            "cache_creation_input_tokens": 3 if mode == "cached" else 0,
            "cache_read_input_tokens": 2 if mode == "cached" else 0,
            "output_tokens": len(text.split()),
        },
    }
    if mode == "refusal":
        reply["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "I cannot help with that."}
    return reply


def events(mode: str, reply: dict[str, Any]) -> list[str]:
    """The same reply as server-sent events."""
    final = {key: reply.get(key) for key in ("stop_reason", "stop_sequence", "stop_details") if key in reply}
    start = {**reply, "content": [], "stop_reason": None, "stop_sequence": None}
    start.pop("stop_details", None)
    sent: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**start, "usage": {**reply["usage"], "output_tokens": 1}}},
        {"type": "ping"},
    ]
    for index, block in enumerate(reply["content"]):
        sent += _block(index, block)
    if mode == "error_event":
        sent.append(error(529, {}, "Overloaded"))
    sent.append({"type": "an_event_of_a_later_version"})
    sent.append({"type": "message_delta", "delta": final, "usage": {"output_tokens": reply["usage"]["output_tokens"]}})
    sent.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in sent]


def _block(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    pieces: list[dict[str, Any]] = []
    empty = dict(block)
    if block["type"] == "text":
        empty["text"] = ""
        pieces = [{"type": "text_delta", "text": part} for part in re.findall(r"\s*\S+|\s+$", block["text"])]
    elif block["type"] == "thinking":
        empty |= {"thinking": "", "signature": ""}
        pieces = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        pieces.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "tool_use":
        empty["input"] = {}
        text = json.dumps(block["input"])
        pieces = [{"type": "input_json_delta", "partial_json": part} for part in ("", text[:3], text[3:])]
    deltas = [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    return [start, *deltas, {"type": "content_block_stop", "index": index}]
