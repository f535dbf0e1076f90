"""A model server on 127.0.0.1, in a process of its own, that misbehaves on request.

It speaks chat completions as OpenAI, Azure and self-hosted servers do, embeddings, moderations (`kill` is flagged), and
Anthropic's Messages API (`tests.loopback_anthropic`), by the path that is asked.

Answers are deterministic (`echo: ` and the last user message). Faults are set over HTTP, as shares of the requests
(chosen by a hash of seed, body and how often that body came, so that the order of calls does not matter) or as a
script for the next requests. Written on bare asyncio, so that speed tests measure the client and not the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import selectors
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests import loopback_anthropic

MODEL_SNAPSHOT = "loopback-2026-01-01"
AZURE_FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering a content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}
THINKING_INLINE = {
    "think_tags": "<think>\nHm.\n</think>\n\n{}",
    "think_unopened": "Hm.\n</think>\n\n{}",
    "think_unclosed": "<think>\nHm.",
}
STREAM_TYPES = {  # as proxies change them
    "untyped": "",
    "typed_json": "Content-Type: application/json\r\n",
    "typed_plain": "Content-Type: text/plain\r\n",
}
STATUS_WORDS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 429: "Too Many Requests"}


class Loopback:
    """The server as tests see it: start, `set` its behaviour, read its `stats`, stop."""

    def __init__(self) -> None:
        root = Path(__file__).parents[1]
        command = [sys.executable, "-m", "tests.loopback"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=root)
        assert self._process.stdout is not None
        self.origin = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.base_url = f"{self.origin}/v1"

    def set(self, **behaviour: Any) -> None:
        """Replace the behaviour and clear the log. Keys: latency_s, faults {mode: share}, script [mode, ...], seed,
        retry_after (header text), hang_s, words (the answer's length), words_400 (an error's text), answers
        ([[texts, answer], ...]: the first whose texts all stand in the request), system_fingerprint, log_bodies, and
        by_key {key: mode} for what happens to all requests with that key."""
        body = json.dumps(behaviour).encode()
        with urllib.request.urlopen(f"{self.origin}/control", data=body, timeout=10):
            pass

    def stats(self) -> dict[str, Any]:
        """Counts of `requests`, `connections` and `faults` {mode: count}; `in_flight_most`; and the `log`, one
        {time_s, mode, path, headers, body} per request."""
        with urllib.request.urlopen(f"{self.origin}/stats", timeout=30) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def stop(self) -> None:
        """End the process; it also ends by itself when its standard input closes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Server:
    """Behaviour and counters, shared by all connections."""

    def __init__(self) -> None:
        self.behave({})

    def behave(self, behaviour: dict[str, Any]) -> None:
        self.latency_s = float(behaviour.get("latency_s", 0.0))
        self.faults: dict[str, float] = behaviour.get("faults", {})
        self.script: list[str] = list(behaviour.get("script", []))
        self.by_key: dict[str, str] = behaviour.get("by_key", {})
        self.seed = behaviour.get("seed", 0)
        self.retry_after = behaviour.get("retry_after", "0")
        self.hang_s = float(behaviour.get("hang_s", 3600.0))
        self.words = behaviour.get("words")
        self.words_400 = str(behaviour.get("words_400", ""))
        self.answers: list[tuple[list[str], str]] = behaviour.get("answers", [])
        self.system_fingerprint = behaviour.get("system_fingerprint", "fp_loopback")
        self.log_bodies = bool(behaviour.get("log_bodies", True))
        self.requests = self.connections = self.in_flight = self.in_flight_most = 0
        self.counts: Counter[str] = Counter()
        self.seen: Counter[bytes] = Counter()
        self.log: list[dict[str, Any]] = []

    def mode_for(self, body: bytes, key: str) -> str:
        if key in self.by_key:
            return self.by_key[key]
        if self.script:
            return self.script.pop(0)
        if not self.faults:
            return "ok"
        digest = hashlib.sha256(body).digest()
        self.seen[digest] += 1
        drawn = hashlib.sha256(b"%d %d " % (self.seed, self.seen[digest]) + digest).digest()
        share = int.from_bytes(drawn[:8], "big") / 2**64
        for mode, part in self.faults.items():
            if (share := share - part) < 0:
                return mode
        return "ok"

    def answer(self, request: dict[str, Any]) -> str:
        """The answer that is set for such a request, else a text of so many words, else the last user message."""
        told = [request.get("system", ""), *(message["content"] for message in request["messages"])]
        known = (text for needles, text in self.answers if all(any(n in str(t) for t in told) for n in needles))
        if (text := next(known, None)) is not None:
            return text
        asked = [message["content"] for message in request["messages"] if message["role"] == "user"]
        return f"echo: {asked[-1] if asked else ''}"[:2000] if self.words is None else "word " * self.words

    def stats(self) -> dict[str, Any]:
        shown = ("requests", "connections", "in_flight", "in_flight_most", "log")
        return {name: getattr(self, name) for name in shown} | {"faults": dict(self.counts)}


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length bodies, one request after the other."""

    def __init__(self, server: Server) -> None:
        self.server, self.received, self.used = server, b"", False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        body, self.received = rest[:length], rest[length:]
        self.route(first.split(" ")[1], headers, body)

    def route(self, path: str, headers: dict[str, str], body: bytes) -> None:
        server, loop = self.server, asyncio.get_running_loop()
        if path == "/control":
            server.behave(json.loads(body))
            self.transport.write(_http(200, {}))
            return
        if path == "/stats":
            self.transport.write(_http(200, server.stats()))
            return
        mode = server.mode_for(body, _key(headers))
        due_s = loop.time() + (server.hang_s if mode == "hang" else server.latency_s)
        server.requests += 1
        server.connections += not self.used
        server.in_flight += 1
        server.in_flight_most = max(server.in_flight_most, server.in_flight)
        server.counts[mode] += 1
        self.used = True
        if server.log_bodies:
            entry = {"time_s": time.monotonic(), "mode": mode, "path": path, "headers": headers}
            server.log.append(entry | {"body": body.decode("utf-8", "replace")})
        loop.call_at(due_s, self.respond, mode, _reply(server, mode, path, headers, json.loads(body)))

    def respond(self, mode: str, reply: bytes) -> None:
        self.server.in_flight -= 1
        if self.transport.is_closing():
            return
        if mode == "reset":
            self.transport.abort()
            return
        self.transport.write(reply)
        if mode == "truncate" or b"\r\nConnection: close" in reply:
            self.transport.close()


def _reply(server: Server, mode: str, path: str, headers: dict[str, str], request: dict[str, Any]) -> bytes:
    messages = path.endswith("/v1/messages")
    if messages and (mistake := loopback_anthropic.mistake(headers, request)):
        return _http(400, loopback_anthropic.error(400, headers, mistake))
    if mode.isdigit():
        told = loopback_anthropic.error(int(mode), headers) if messages else _error_for(int(mode), path, headers)
        return _http(int(mode), told, retry_after=server.retry_after)
    if mode == "html":
        return _http(200, b"<html><body>Please sign in</body></html>", content_type="text/html")
    overloaded = {"message": "upstream overloaded", "code": 502}
    fixed: dict[str, tuple[int, Any]] = {
        "error200": (200, {"type": "error", "error": overloaded} if messages else {"error": overloaded}),
        "array": (200, [1, 2]),
        "says_400": (400, {"error": {"message": server.words_400, "code": None}}),
        "policy200": (200, {"error": {"code": "data_inspection_failed", "message": "inappropriate content"}}),
        "no_choices": (200, {"id": "x", "choices": []}),
        "content_filter_400": (400, AZURE_FILTERED),
        "no_credit": (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}),
        "vllm_400": (
            400,
            {"object": "error", "message": "context is too long", "type": "BadRequestError", "code": 400},
        ),
    }
    if mode in fixed:
        status, body = fixed[mode]
        return _http(status, body)
    if path.endswith("/embeddings"):
        return _http(200, _embeddings(request))
    if path.endswith("/moderations"):
        hit = "kill" in request["input"]
        verdict = {"flagged": hit, "categories": {"violence": hit, "hate": False}}
        return _http(200, {"id": "modr-1", "model": request["model"], "results": [verdict]})
    reply = _completion(server, mode, request)
    if messages:
        reply = loopback_anthropic.message(mode, request, text=server.answer(request))
    if request.get("stream"):
        sent = loopback_anthropic.events(mode, reply) if messages else _events(mode, path, reply)
        cut = sent[:3] if mode in ("truncate", "stop_stream") else sent
        sort = STREAM_TYPES.get(mode, "Content-Type: text/event-stream\r\n")
        return f"HTTP/1.1 200 OK\r\n{sort}Connection: close\r\n\r\n{''.join(cut)}".encode()
    whole = json.dumps(reply).encode()
    half = whole[: len(whole) // 2]
    if mode == "truncate":  # announces more than it sends
        return _http(200, half, length=len(whole))
    return _http(200, half if mode == "bad_json" else whole)


def _events(mode: str, path: str, reply: dict[str, Any]) -> list[str]:
    """The reply as server-sent events, with the gaps and additions that other servers than OpenAI's are known for."""
    choice, kept = reply["choices"][0], {key: reply[key] for key in ("model", "system_fingerprint")}
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if mode == "reasoning":
        deltas += [{"reasoning_content": "Hm.", "reasoning": "Hm."}]
    texts = {name: re.findall(r"\s*\S+|\s+$", message.get(name) or "") for name in ("content", "refusal")}
    deltas += [{name: part} for name, parts in texts.items() for part in parts]
    deltas += [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(message.get("tool_calls", ()))]
    events = [{**kept, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if "/deployments/" in path:
        events.insert(0, {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]})
    if mode == "error_event":
        events.append({"error": {"message": "the engine died", "type": "server_error", "code": 500}})
    finish = None if mode == "no_finish" else choice["finish_reason"]
    events.append({**kept, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if mode != "no_usage":
        events.append({**kept, "choices": [], "usage": reply["usage"]})
    sent = [f"data: {json.dumps(event)}\n\n" for event in events] + [": keep-alive\n\n"]
    return sent if mode == "no_done" else [*sent, "data: [DONE]\n\n"]


def _http(
    status: int,
    body: Any,
    *,
    content_type: str = "application/json",
    length: int | None = None,
    retry_after: str | None = None,
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {STATUS_WORDS.get(status, 'Status')}\r\nContent-Type: {content_type}\r\n"
    head += f"Content-Length: {len(content) if length is None else length}\r\n"
    if retry_after and status in (429, 503):
        head += f"Retry-After: {retry_after}\r\n"
    if status == 307:
        head += "Location: http://127.0.0.1:9/elsewhere\r\n"
    return head.encode() + b"\r\n" + content


def _completion(server: Server, mode: str, request: dict[str, Any]) -> dict[str, Any]:
    text = server.answer(request)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    finish = {"length": "length", "content_filter": "content_filter"}.get(mode, "stop")
    if mode == "empty":
        message["content"] = ""
    if mode == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    if mode == "reasoning":
        message["reasoning_content"] = "Hm."
    if mode in THINKING_INLINE:
        message["content"] = THINKING_INLINE[mode].format(text)
    if mode == "tool_calls":
        function = {"name": "look_up", "arguments": '{"id": 7}'}
        message |= {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        finish = "tool_calls"
    prompt_tokens = sum(len(str(message["content"]).split()) for message in request["messages"])
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(text.split())}
    details = {"prompt_tokens_details": {"cached_tokens": prompt_tokens // 2}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "another-model" if mode == "wrong_model" else request.get("model", MODEL_SNAPSHOT),
        "system_fingerprint": server.system_fingerprint,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": None if mode == "no_usage" else usage | details,
    }


def _key(headers: dict[str, str]) -> str:
    names = ("authorization", "api-key", "x-api-key")
    return next((headers[name] for name in names if name in headers), "").removeprefix("Bearer ")


def _error_for(status: int, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """Like some real providers, it repeats the key it was given."""
    message = f"status {status} for key {_key(headers)}"
    if "/deployments/" in path:
        return {"error": {"code": {404: "DeploymentNotFound"}.get(status, str(status)), "message": message}}
    return {"error": {"message": message, "type": "error", "code": None}}


def _embeddings(request: dict[str, Any], dimensions: int = 256) -> dict[str, Any]:
    """Each text as the normalised sum of its hashed words: alike texts lie near each other. Listed last first."""
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    vectors = []
    for text in texts:
        vector = [0.0] * dimensions
        for word in text.lower().split():
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            vector[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] % 2 else -1.0
        norm = math.sqrt(sum(part * part for part in vector)) or 1.0
        vectors.append([part / norm for part in vector])
    usage = {"prompt_tokens": sum(len(text.split()) for text in texts)}
    listed = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"object": "list", "data": listed[::-1], "model": request.get("model"), "usage": usage}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    behaviour = Server()
    server = await loop.create_server(lambda: Connection(behaviour), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent_is_gone = loop.run_in_executor(None, sys.stdin.buffer.read)
    await parent_is_gone


def _precise_loop() -> asyncio.AbstractEventLoop:
    """select() waits to the microsecond; epoll rounds up to whole milliseconds, which is 2% of a 50 ms call."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_precise_loop) as runner:
        runner.run(_serve())
