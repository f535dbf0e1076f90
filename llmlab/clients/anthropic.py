"""The Messages API of Anthropic, and of those who offer it as well (Azure Foundry, gateways, vLLM), over aiohttp.

The client, and the wire format: requests out, replies and streamed events in.
Source: https://platform.claude.com/docs/en/api/messages and https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from llmlab.base.errors import RequestRefusedError, TransportError
from llmlab.base.private import excerpt
from llmlab.clients.base import Request, Usage
from llmlab.clients.http import HttpClient, Settings
from llmlab.clients.wire import (
    WireFormat,
    count,
    family_of,
    inner_error,
    larger_counts,
    mapping_of,
    parsed,
    status_of,
    text_of,
    thought_of,
    wire_sampling,
    word,
)

_DELTAS = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
_LEAST_BUDGET_TOKENS = 1_024
API_VERSION = "2023-06-01"
WITHHELD = frozenset({"refusal", "guardrail_intervened", "content_filtered"})  # the last two are Bedrock's
CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "pause_turn"})


class AnthropicClient(HttpClient):
    """Sends messages to one endpoint, or to several that are interchangeable.

    A bundle's `max_tokens` is required, a `seed` is refused (the API has none), and so is every sampling parameter
    that the model does not take: `llmlab check-model anthropic ID` lists them. A `response_format` with a JSON schema
    is sent as `output_config`, `thinking: {budget_tokens: 2000}` as the API wants it; `sampling.extra` passes as it is
    (`tool_choice`, `cache_control`, ...).

    Args:
        base_url: where `/v1/messages` is (a `/v1` at its end is the same); without credentials or query.
        api_key_env: NAME of the environment variable that holds the key; None for an endpoint without one.
        settings: as of `OpenAIClient`. `api_version` is the `anthropic-version`, by default 2023-06-01; `key_header`
            is "x-api-key" by default, or "bearer".

    >>> AnthropicClient()
    AnthropicClient('messages https://api.anthropic.com', key from $ANTHROPIC_API_KEY)
    """

    def __init__(
        self,
        base_url: str = "https://api.anthropic.com",
        *,
        api_key_env: str | None = "ANTHROPIC_API_KEY",
        **settings: Unpack[Settings],
    ) -> None:
        others = settings.get("in_turn", ())
        settings["in_turn"] = [
            access.model_copy(update={"base_url": _without_version(access.base_url)}) for access in others
        ]
        super().__init__(_without_version(base_url), wire=MESSAGES, api_key_env=api_key_env, **settings)


def read_answer(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Generation that a complete reply decides; TransportError for an error or a missing part.

    >>> read_answer({"content": [{"type": "text", "text": "Paris"}], "stop_reason": "end_turn"})["status"]
    'ok'
    """
    inner_error(reply)
    blocks = reply.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise TransportError(f"the reply holds no content, or none in blocks: {excerpt(str(reply))}")
    text = "".join(text_of(block.get("text")) for block in blocks if block.get("type") == "text")
    calls = tuple(
        {"name": str(block.get("name", "")), "arguments": parsed(block.get("input"))}
        for block in blocks
        if block.get("type") == "tool_use"
    )
    why = reply.get("stop_reason")
    refusal = text_of(mapping_of(reply.get("stop_details")).get("explanation")) if why == "refusal" else ""
    return {
        "status": status_of(family_of(why), withheld=WITHHELD, cut_short=CUT_SHORT, text=text, acts=bool(calls)),
        "text": text or refusal,
        "thought": thought_of({"content": blocks}),
        "tool_calls": calls,
        "usage": _usage(reply.get("usage")),
        "served_model": word(reply.get("model")),
        "system_fingerprint": None,
    }


class StreamedMessage:
    """Events of one message put together into the reply that would have come in one piece.

    `take` them as they arrive; `started` turns true at the first token of the answer (not of its thinking); `reply`
    refuses what did not end properly. Events and deltas of kinds that are not known are passed over, as the API asks.
    """

    def __init__(self) -> None:
        self.started = self._ended = False
        self._reply: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, list[str]] = {}

    def end(self) -> None:
        """Other formats end so; here `message_stop` does."""

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event; TransportError for one that is an error."""
        inner_error(event)
        kind, index = event.get("type"), count(event.get("index")) or 0
        if kind == "message_start":
            self._reply = dict(mapping_of(event.get("message")))
        elif kind == "content_block_start":
            self._blocks[index], self._parts[index] = dict(mapping_of(event.get("content_block"))), []
        elif kind == "content_block_delta":
            self._take_delta(index, mapping_of(event.get("delta")))
        elif kind == "message_delta" and self._reply is not None:
            usage = larger_counts(mapping_of(self._reply.get("usage")), event.get("usage"))  # cumulative
            self._reply |= {**mapping_of(event.get("delta")), "usage": usage}
        elif kind == "message_stop":
            self._ended = True

    def reply(self) -> dict[str, Any]:
        """The whole reply; TransportError when the stream stopped before its end."""
        if self._reply is None or not (self._ended or self._reply.get("stop_reason")):
            raise TransportError("the stream stopped before its end")
        for index, block in self._blocks.items():
            whole = "".join(self._parts[index])
            if block.get("type") == "text":
                block["text"] = text_of(block.get("text")) + whole
            elif block.get("type") == "thinking":
                block["thinking"] = text_of(block.get("thinking")) + whole
            elif block.get("type") == "tool_use" and whole:
                block["input"] = whole
        return {**self._reply, "content": [block for _, block in sorted(self._blocks.items())]}

    def _take_delta(self, index: int, delta: Mapping[str, Any]) -> None:
        part = delta.get(_DELTAS.get(str(delta.get("type")), ""))
        if isinstance(part, str) and index in self._parts:
            self._parts[index].append(part)
            self.started = self.started or (bool(part) and delta["type"] != "thinking_delta")


def _without_version(base_url: str) -> str:
    """One spelling of an address that is also written with its version."""
    return base_url.rstrip("/").removesuffix("/messages").removesuffix("/v1")


def _body(request: Request, *, name: str, stream: bool) -> dict[str, Any]:
    # system messages go into `system`, pictures and tool calls into blocks of the API's own, stop texts into
    # `stop_sequences`, a response format into `output_config`
    sampling = wire_sampling(request, rules="anthropic_messages")
    if "max_tokens" not in sampling:
        raise RequestRefusedError(
            f"the Messages API wants max_tokens for {request.model}: add it to the bundle's sampling", attempts=0
        )
    if (thinking := sampling.get("thinking")) is not None:
        sampling["thinking"] = _thinking(request, thinking, most_tokens=sampling["max_tokens"])
    system, messages = _without_system(request.messages)
    body: dict[str, Any] = {"model": name, "messages": messages, **system, **sampling}
    if (response_format := body.pop("response_format", None)) is not None:
        body["output_config"] = {**body.get("output_config", {}), "format": _output_format(response_format)}
    if request.tools:
        body["tools"] = _wire_tools(request.tools)
    return body | {"stream": True} if stream else body


def _thinking(request: Request, thinking: Mapping[str, Any], *, most_tokens: int) -> dict[str, Any]:
    """`{budget_tokens: 2000}` as the API wants it; RequestRefusedError for what it refuses beside a budget."""
    budget = thinking.get("budget_tokens")
    if budget is None:
        return dict(thinking)
    if not _LEAST_BUDGET_TOKENS <= budget < most_tokens:
        rule = f"from {_LEAST_BUDGET_TOKENS:,} to less than max_tokens == {most_tokens:,}, which counts the thought too"
        raise RequestRefusedError(f"thinking.budget_tokens == {budget:,}, must be {rule}", attempts=0)
    if request.sampling.temperature not in (None, 1) or request.sampling.top_k is not None:
        raise RequestRefusedError(
            f"{request.model} takes no temperature but 1 and no top_k while it thinks: remove them from the bundle's "
            "sampling, or thinking",
            attempts=0,
        )
    return {"type": "enabled", **thinking}


def _wire_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools as the API wants them: name, description and `input_schema`.

    >>> _wire_tools([{"name": "f", "description": "", "parameters": {"type": "object"}}])
    [{'name': 'f', 'input_schema': {'type': 'object'}}]
    """
    functions = [tool.get("function", tool) for tool in tools]
    return [
        {key: tool[key] for key in ("name", "description", "strict") if tool.get(key)}
        | {"input_schema": tool["parameters"]}
        for tool in functions
    ]


def _without_system(messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    system = [message for message in messages if message.get("role") in ("system", "developer")]
    if list(messages[: len(system)]) != system:
        raise RequestRefusedError("a system message comes after others; put it first", attempts=0)
    text = "\n\n".join(text_of(message.get("content")) for message in system)
    sent: list[Mapping[str, Any]] = []
    for message in map(_wire_message, messages[len(system) :]):
        if sent and message["role"] == sent[-1]["role"] == "user" and _holds_results(sent[-1]):
            more = message["content"]
            more = [{"type": "text", "text": more}] if isinstance(more, str) else more
            sent[-1] = {"role": "user", "content": [*sent[-1]["content"], *more]}  # all results go in one message
        else:
            sent.append(message)
    return {"system": text} if text else {}, sent


def _holds_results(message: Mapping[str, Any]) -> bool:
    content = message["content"]
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)


def _wire_message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message in OpenAI's form as the API wants it; one that has its form already stays as it is.

    >>> _wire_message({"role": "tool", "tool_call_id": "call_1", "content": "4"})
    {'role': 'user', 'content': [{'type': 'tool_result', 'tool_use_id': 'call_1', 'content': '4'}]}
    """
    content = message.get("content")
    blocks = [_block(part) for part in content] if isinstance(content, (list, tuple)) else content
    if message.get("role") == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": blocks}
        return {"role": "user", "content": [result]}
    if not (calls := message.get("tool_calls")):
        return message if blocks is content else {**message, "content": blocks}
    texts = [{"type": "text", "text": blocks}] if isinstance(blocks, str) and blocks.strip() else blocks or []
    used = []
    for call in calls:
        function = mapping_of(call.get("function"))
        arguments = parsed(function.get("arguments") or "{}")
        used.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments})
    return {"role": message.get("role"), "content": [*(texts if isinstance(texts, list) else []), *used]}


def _block(part: Any) -> Any:
    """A part of a message as a block; RequestRefusedError for sound and files in OpenAI's form."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("input_audio", "file"):
        raise RequestRefusedError(f"a part of type {kind} cannot be sent to the Messages API", attempts=0)
    if kind != "image_url":
        return part
    url = str(mapping_of(part["image_url"]).get("url"))
    head, comma, data = url.partition(";base64,")
    if not comma:
        return {"type": "image", "source": {"type": "url", "url": url}}
    source = {"type": "base64", "media_type": head.removeprefix("data:").partition(";")[0], "data": data}
    return {"type": "image", "source": source}


def _output_format(response_format: Any) -> dict[str, Any]:
    """`response_format` as other providers know it, or the API's own `{type: json_schema, schema: ...}`."""
    outer = mapping_of(response_format)
    spec = mapping_of(outer.get("json_schema")) or outer
    allowed = {"type", "name", "description", "strict", "schema"}
    if outer.get("type") != "json_schema" or "schema" not in spec or set(spec) - allowed or spec.get("strict") is False:
        raise RequestRefusedError(
            f"response_format {json.dumps(response_format)[:200]} cannot be sent to the Messages API: it takes "
            "{type: json_schema, json_schema: {schema: ...}} and always keeps to the schema",
            attempts=0,
        )
    return {"type": "json_schema", "schema": spec["schema"]}


def _usage(usage: Any) -> Usage:
    """All input tokens; the API counts those that it read from or wrote into its cache apart."""
    usage = mapping_of(usage)
    fresh, output = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    cache_read, cache_written = (count(usage.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
    return Usage(
        input_tokens=None if fresh is None else fresh + (cache_read or 0) + (cache_written or 0),
        output_tokens=output,
        cached_input_tokens=cache_read,
        cache_write_tokens=cache_written or None,
    )


MESSAGES = WireFormat(
    name="messages",
    url=lambda access, model: f"{access.base_url}/v1/messages",
    fields=lambda access: {"anthropic-version": access.api_version or API_VERSION},
    key_header=lambda access: "x-api-key",
    body=_body,
    stream=StreamedMessage,
    read_answer=read_answer,
)
