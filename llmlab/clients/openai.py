"""Any endpoint that speaks chat completions, over aiohttp: OpenAI, Azure, vLLM, Ollama, llama.cpp and many more.

The client, and the wire format: a request's body, a reply's JSON in and an answer's fields out, a streamed reply put
together. Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Unpack
from urllib.parse import quote

import aiohttp

from llmlab.base.errors import TransportError
from llmlab.base.private import excerpt
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.access import Access, KeyHeader
from llmlab.clients.base import Request, Usage
from llmlab.clients.http import HttpClient, Settings, whole_body
from llmlab.clients.retry import Lane, with_retries
from llmlab.clients.wire import (
    WireFormat,
    count,
    failure_of,
    family_of,
    inner_error,
    is_thinking,
    larger_counts,
    mapping_of,
    parsed,
    read_json,
    status_of,
    text_of,
    thought_of,
    wire_sampling,
    without_thought,
    word,
)

CUT_SHORT = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_THOUGHT = "reasoning_content"
_LONGEST_TAG = 12  # characters of `</reasoning>`
WITHHELD = frozenset({"content_filter", "safety", "refusal", "recitation", "prohibited_content", "blocklist"})


class OpenAIClient(HttpClient):
    """Sends chat completions to one endpoint, or to several that are interchangeable.

    Args:
        base_url: up to and with the version, such as `https://api.openai.com/v1`; without credentials or query.
        api_key_env: NAME of the environment variable that holds the key; None for an endpoint without one.
        api_version: for Azure. With `base_url` `https://NAME.openai.azure.com` the path names the deployment; with
            `https://NAME.openai.azure.com/openai/v1` it does not, and the version may be left out.
        deployment, key_header, requests_per_minute, tokens_per_minute, max_in_flight, headers, drop: as of `Access`.
        in_turn: more endpoints or keys, each with its own limits. The freest is asked next; a 429 or a fault lets
            that one rest, a refused key or a model that only others serve takes it out with a warning.
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
        super().__init__(base_url, wire=_CHAT_COMPLETIONS, api_key_env=api_key_env, **settings)

    async def embed(self, model: ModelRef, texts: Sequence[str]) -> list[list[float]]:
        """The vector of each text, in their order, by one request to `/embeddings`; errors as of `complete`."""
        self._lanes.check_keys()

        async def attempt(lane: Lane, _: int) -> list[list[float]]:
            async def read(response: aiohttp.ClientResponse) -> list[list[float]]:
                content = await whole_body(response)
                if response.status != 200:
                    text = content.decode("utf-8", "replace")
                    raise failure_of(response.status, text, headers=response.headers, access=lane.access)
                return _read_vectors(read_json(content), n=len(texts))

            body = json.dumps({"model": lane.access.deployment or model.id, "input": list(texts)}).encode("ascii")
            return await self._send(_url(lane.access, model, "embeddings"), body, lane.access, read)

        tokens = sum(-(-len(text.encode("utf-8", "surrogatepass")) // 3) for text in texts)
        return await with_retries(attempt, policy=self.retry, lanes=self._lanes, tokens=tokens, model=str(model))


def read_answer(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Generation that a complete reply decides; TransportError for an error or a missing part.

    >>> read_answer({"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]})["status"]
    'ok'
    """
    inner_error(reply)
    choice = _choice(reply) or {}
    if not isinstance(message := choice.get("message"), dict):
        raise TransportError(f"the reply holds no choice with a message: {excerpt(str(reply))}")
    if choice.get("error"):
        raise TransportError(f"the answer ended in an error: {excerpt(str(choice.get('error')))}")
    refusal, (text, inline) = text_of(message.get("refusal")), without_thought(text_of(message.get("content")))
    old = message.get("function_call")  # of the years before tools
    tool_calls = _tool_calls(message.get("tool_calls") or ([{"function": old}] if old else None))
    if not refusal and not tool_calls:
        _check_content(message.get("content"))
    finish = family_of(choice.get("finish_reason"))
    status = status_of(finish, withheld=WITHHELD, cut_short=CUT_SHORT, text=text, acts=bool(tool_calls))
    return {
        "status": "refused" if refusal else status,
        "text": text or refusal,
        "thought": "\n".join(filter(None, (thought_of(message), inline))),
        "tool_calls": tool_calls,
        "usage": _usage(reply.get("usage")),
        "served_model": word(reply.get("model")),
        "system_fingerprint": word(reply.get("system_fingerprint")),
    }


def _read_vectors(reply: Mapping[str, Any], *, n: int) -> list[list[float]]:
    """The n vectors of a reply of `/embeddings`, in the order of the texts; TransportError for anything else.

    >>> _read_vectors({"data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": [1.0]}]}, n=2)
    [[1.0], [0.5]]
    """
    inner_error(reply)
    listed = reply.get("data")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    by_index = {row.get("index", place): row.get("embedding") for place, row in enumerate(rows)}
    vectors = [by_index.get(place) for place in range(n)]
    if len(rows) != n or not all(isinstance(vector, list) and vector for vector in vectors):
        raise TransportError(f"the reply has {len(rows)} vectors for {n} texts, or some are empty")
    return [[float(part) for part in vector or ()] for vector in vectors]


class StreamedReply:
    """Server-sent events put together into the reply that would have come in one piece.

    `take` the events as they arrive; `started` turns true at the first token of the answer (not of its reasoning);
    `reply` refuses what did not end properly.
    """

    def __init__(self) -> None:
        self.started = self._ended = False
        self._reply: dict[str, Any] = {}
        self._parts: dict[str, list[str]] = {name: [] for name in ("content", "refusal", _THOUGHT)}
        self._thinks = True  # until the content is more than a thought in tags
        self._tool_calls: list[dict[str, Any]] = []
        self._finish_reason: str | None = None
        self._choices = 0
        self._in_parts = False  # whether any choice had a delta

    def end(self) -> None:
        """`[DONE]` came, which some servers leave out."""
        self._ended = self._choices > 0

    def reply(self) -> dict[str, Any]:
        """The whole reply; TransportError when the stream stopped before its end."""
        if not self._ended and self._finish_reason is None:
            raise TransportError("the stream stopped before its end")
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._parts.items()}
        message["tool_calls"] = [{"function": call} for call in sorted(self._tool_calls, key=itemgetter("index"))]
        return {**self._reply, "choices": [{"message": message, "finish_reason": self._finish_reason}]}

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event; TransportError for one that is an error."""
        inner_error(event)
        for name in ("model", "system_fingerprint"):
            if event.get(name):
                self._reply[name] = event[name]
        self._reply["usage"] = larger_counts(self._reply.get("usage"), event.get("usage"))
        if (choice := _choice(event)) is None:
            return  # the last event holds usage only
        self._choices += 1
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = self._delta(choice)
        for name, parts in self._parts.items():
            if delta_text := thought_of(delta) if name == _THOUGHT else text_of(delta.get(name)):
                parts.append(delta_text)
                self.started = self.started or name == "refusal" or (name == "content" and self._answers(delta_text))
        calls = delta.get("tool_calls") or [{"index": 0, "function": delta.get("function_call")}]
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
                self._take_tool_call(call, function)

    def _delta(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a choice adds: its delta, or the message of a server that sends all in one piece.

        A message that comes after deltas repeats them.
        """
        if (delta := choice.get("delta")) is None and not self._in_parts:
            delta = choice.get("message")
            if delta is None and choice.get("text"):
                raise TransportError(f"the stream holds no choice with a delta: {excerpt(str(choice))}")
        elif delta is not None:
            self._in_parts = True
        delta = mapping_of(delta)
        if not delta.get("tool_calls"):
            _check_content(delta.get("content"))
        return delta

    def _answers(self, part: str) -> bool:
        """Whether the content has begun to answer; while it thinks, only the end of a tag can change that."""
        parts = self._parts["content"]
        if self._thinks and (len(parts) < _LONGEST_TAG or ">" in "".join(parts[-_LONGEST_TAG:])):
            self._thinks = is_thinking("".join(parts))
        return not self._thinks and bool(part.strip())

    def _take_tool_call(self, call: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        self.started = True
        whole = self._begun(word(call.get("id")), count(call.get("index")), word(function.get("name")))
        if whole is None:
            place = count(call.get("index"))
            whole = {"index": len(self._tool_calls) if place is None else place, "name": "", "arguments": ""}
            self._tool_calls.append(whole)
        whole["id"] = word(call.get("id")) or whole.get("id")
        for name in ("name", "arguments"):
            part = function.get(name)
            part = part if isinstance(part, str) else json.dumps(part) if part else ""
            if name == "arguments" or part != whole["name"]:  # some servers repeat the name
                whole[name] += part

    def _begun(self, call_id: str | None, index: int | None, name: str | None) -> dict[str, Any] | None:
        """The call that a part goes on with, by id, then by index; None where it begins another.

        Some servers give all calls index 0 and tell them apart by id; some give each part of one call a new id, but
        only its first a name; some give neither id nor index, and whole calls.
        """
        same = [call for call in self._tool_calls if call_id is not None and call["id"] == call_id]
        if same:
            return same[-1]
        near = [call for call in self._tool_calls if index is None or call["index"] == index]
        last = near[-1] if near else None
        if last is None or name is None:
            return last
        another = call_id is not None and last["id"] is not None
        complete = last["arguments"] != "" and isinstance(parsed(last["arguments"]), dict)
        return None if another or complete or index is None else last


def _check_content(content: Any) -> None:
    """TransportError for the content of a message that is no text and no list of parts: what it says is not known."""
    parts = content if isinstance(content, list) else []
    are_known = parts and all(isinstance(part, dict) and {"text", "thinking", "type"} & set(part) for part in parts)
    if content not in (None, []) and not isinstance(content, str) and not are_known:
        raise TransportError(f"the content is neither a text nor parts with one: {excerpt(str(content))}")


def _choice(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first choice of a reply or event; more than one is never asked for."""
    choices = reply.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def _url(access: Access, model: ModelRef, what: str = "chat/completions") -> str:
    """Where a request goes. Azure has two kinds of paths: `/openai/v1` like everybody, and one per deployment.

    >>> azure = Access(base_url="https://x.openai.azure.com", deployment="d", api_version="2024-10-21")
    >>> _url(azure, ModelRef.parse("azure/gpt-4o"))
    'https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21'
    """
    if access.api_version is None:
        return f"{access.base_url}/{what}"
    version = f"?api-version={quote(access.api_version, safe='')}"
    if access.base_url.endswith(("/openai/v1", "/models")):  # the latter of Azure AI Foundry
        return f"{access.base_url}/{what}{version}"
    name = quote(access.deployment or model.id, safe="")
    return f"{access.base_url}/openai/deployments/{name}/{what}{version}"


def _key_header(access: Access) -> KeyHeader:
    azure = access.api_version is not None or ".azure.com/" in f"{access.base_url}/"
    return "api-key" if azure else "bearer"


def _body(request: Request, *, name: str, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": name, "messages": list(request.messages), **wire_sampling(request)}
    if request.tools:
        body["tools"] = [
            dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in request.tools
        ]
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _tool_calls(calls: Any) -> tuple[dict[str, Any], ...]:
    listed = calls if isinstance(calls, list) else []
    return tuple(
        {"name": str(function.get("name", "")), "arguments": parsed(function.get("arguments"))}
        for call in listed
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict)
    )


def _usage(usage: Any) -> Usage:
    usage = mapping_of(usage)

    def tokens(*names: str) -> int | None:  # some gateways have the names of OpenAI's other API
        return next((n for name in names if (n := count(usage.get(f"{name}_tokens"))) is not None), None)

    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    prompt, output, total = tokens("prompt", "input"), tokens("completion", "output"), tokens("total")
    details = usage.get("completion_tokens_details", usage.get("output_tokens_details"))
    thought = count((details if isinstance(details, dict) else usage).get("reasoning_tokens"))
    if output is not None:
        output += _beside(prompt, output, total, thought)
    return Usage(input_tokens=prompt, output_tokens=output, cached_input_tokens=count(cached))


def _beside(prompt: int | None, output: int, total: int | None, thought: int | None) -> int:
    """Tokens of a thought that are not among the output: the total shows it, or that they are more than all of it.

    xAI and Google count so, and Google does not say how many they were.
    """
    if total is None:
        return thought if thought and thought > output else 0
    surplus = total - output - (prompt or 0)
    if thought is None:
        return max(surplus, 0) if prompt is not None else 0
    return thought if surplus >= thought else 0


_CHAT_COMPLETIONS = WireFormat(
    name="",  # keys of the call store are older than other formats
    url=_url,
    fields=lambda access: {},
    key_header=_key_header,
    body=_body,
    stream=StreamedReply,
    read_answer=read_answer,
)
