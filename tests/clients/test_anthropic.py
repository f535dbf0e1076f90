"""The Messages API client against a server on this machine that answers as Anthropic documents."""

from __future__ import annotations

import asyncio
import json
import shlex
import traceback
from decimal import Decimal
from typing import Any

import pytest

from llmlab.base.errors import LlmlabError, RequestRefusedError, TransportError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.base import Client, Generation, Request, Usage
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.retry import RetryPolicy
from tests.loopback import Loopback

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
CANARY = "canary-of-no-known-shape-0123456789"
OLD, NEW = "anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-opus-4-7"


def asking(content: str = "How?", *, model: str = NEW, sampling: Sampling | None = None, **changes: Any) -> Request:
    parts: dict[str, Any] = {"messages": ({"role": "user", "content": content},)}
    return Request(model=ModelRef.parse(model), sampling=sampling or Sampling(max_tokens=50), **{**parts, **changes})


def connected(loopback: Loopback, **settings: Any) -> AnthropicClient:
    return AnthropicClient(loopback.origin, **{"api_key_env": None, "retry": QUICK, **settings})


def ask(client: AnthropicClient, request: Request | None = None) -> Generation:
    async def once() -> Generation:
        try:
            return await client.complete(request or asking())
        finally:
            await client.aclose()

    return asyncio.run(once())


def sent(loopback: Loopback) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(loopback.stats()["log"][0]["body"])
    return body


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_carries_text_usage_served_model_and_latency(loopback: Loopback, stream: bool) -> None:
    loopback.set(latency_s=0.05)
    answer = ask(connected(loopback, stream=stream), asking("one two three four"))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: one two three four", 1)
    assert answer.usage == Usage(input_tokens=4, output_tokens=5, cached_input_tokens=0)
    assert (answer.served_model, answer.system_fingerprint) == ("claude-opus-4-7", None)
    assert answer.latency_s is not None
    assert answer.latency_s >= 0.05
    assert (answer.first_token_s is not None) == stream
    assert answer.cost_usd == Decimal("0.000145")  # (4 x 5 + 5 x 25) / 1,000,000


def test_it_is_a_client_that_does_not_embed() -> None:
    assert isinstance(AnthropicClient(), Client)
    assert not hasattr(AnthropicClient(), "embed")


def test_a_whole_request_goes_out_as_the_api_wants_it(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How?"},
    )
    tool = {"name": "look_up", "description": "Finds.", "parameters": {"type": "object"}}
    sampling = Sampling(temperature=0.0, top_k=5, max_tokens=7, stop=("END",), extra={"thinking": {"type": "disabled"}})
    request = asking(model=OLD, messages=messages, tools=(tool,), sampling=sampling)
    ask(connected(loopback, api_key_env="LOOPBACK_KEY"), request)
    entry = loopback.stats()["log"][0]
    assert entry["path"] == "/v1/messages"
    assert (entry["headers"]["x-api-key"], entry["headers"]["anthropic-version"]) == (CANARY, "2023-06-01")
    assert "authorization" not in entry["headers"]
    assert json.loads(entry["body"]) == {
        "model": "claude-sonnet-4-5-20250929",
        "system": "Be brief.",
        "messages": [dict(message) for message in messages[1:]],
        "temperature": 0.0,
        "top_k": 5,
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "thinking": {"type": "disabled"},
        "tools": [{"name": "look_up", "description": "Finds.", "input_schema": {"type": "object"}}],
    }


def test_a_schema_goes_out_as_output_config_beside_the_effort(loopback: Loopback) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    sampling = Sampling(max_tokens=9, response_format=wanted, extra={"output_config": {"effort": "low"}})
    ask(connected(loopback), asking(sampling=sampling))
    assert sent(loopback)["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        (NEW, {"temperature": 0.0}, r"opus-4-7 cannot be sent temperature == 0\.0: models from Opus 4\.7.*Remove it"),
        (NEW, {"top_p": 0.5}, "cannot be sent top_p"),
        (NEW, {"top_k": 5}, "cannot be sent top_k"),
        ("anthropic/claude-sonnet-5", {"temperature": 0.5}, "take no sampling parameters"),
        ("bedrock/us.anthropic.claude-opus-4-8", {"temperature": 0.5}, "take no sampling parameters"),
        (OLD, {"temperature": 0.5, "top_p": 0.5}, "temperature and top_p: it takes only one of them"),
        (OLD, {"temperature": 1.5}, "0 to 1"),
        (OLD, {"frequency_penalty": 0.1}, "does not have it"),
        (OLD, {"response_format": {"type": "json_object"}}, "json_schema"),
        (OLD, {"extra": {"response_format": "json"}}, "json_schema"),
        ("anthropic/claude-3-5-haiku-20241022", {"response_format": {"type": "json_schema"}}, "begin with generation"),
        (OLD, {"max_tokens": None}, "wants max_tokens"),
        (OLD, {"extra": {"system": "x"}}, "set elsewhere"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_any_call_and_told(
    loopback: Loopback, model: str, changes: dict[str, Any], told: str
) -> None:
    sampling = Sampling(**{"max_tokens": 9, **changes})
    with pytest.raises(RequestRefusedError, match=told) as raised:
        ask(connected(loopback), asking(model=model, sampling=sampling))
    assert raised.value.attempts == 0
    assert loopback.stats()["requests"] == 0


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-20250514", "claude-sonnet-4-20250514", "claude-3-7-sonnet-20250219", "claude-opus-4-0"],
)
def test_older_models_take_temperature_and_top_p_together(model: str) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.5, max_tokens=9)
    body = AnthropicClient().body(asking(model=f"anthropic/{model}", sampling=sampling))
    assert (body["temperature"], body["top_p"]) == (0.5, 0.5)


def test_a_seed_is_refused_because_the_api_has_none() -> None:
    with pytest.raises(RequestRefusedError, match="seed == 4: the Messages API has no seed"):
        ask(AnthropicClient("http://127.0.0.1:9", api_key_env=None), asking(seed=4))


def test_a_system_message_among_others_is_refused() -> None:
    messages = ({"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."})
    with pytest.raises(RequestRefusedError, match="put it first"):
        AnthropicClient().body(asking(messages=messages))


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("ok", "ok", "echo: How?"),
        ("stop_sequence", "ok", "echo: How?"),
        ("thinking", "ok", "echo: How?"),
        ("length", "truncated", "echo: How?"),
        ("window", "truncated", "echo: How?"),
        ("pause", "truncated", "echo: How?"),
        ("refusal", "refused", "I cannot help with that."),
        ("refusal_with_text", "refused", "echo: How?"),
        ("empty", "empty", ""),
        ("tool_calls", "ok", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_stop_reason_becomes_a_status(loopback: Loopback, mode: str, status: str, text: str, stream: bool) -> None:
    """Source: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons."""
    loopback.set(script=[mode])
    answer = ask(connected(loopback, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == (status, text, 1)
    assert answer.tool_calls == (({"name": "look_up", "arguments": {"id": 7}},) if mode == "tool_calls" else ())


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_read_from_and_written_into_the_cache_are_input_tokens(loopback: Loopback, stream: bool) -> None:
    """The API counts the three apart; prices of the list for Sonnet 4.5 are 3, 0.30, 3.75 and 15 dollars."""
    loopback.set(script=["cached"])
    answer = ask(connected(loopback, stream=stream), asking("one two three", model=OLD))
    assert answer.usage == Usage(input_tokens=8, output_tokens=4, cached_input_tokens=2, cache_write_tokens=3)
    assert answer.cost_usd == Decimal("0.00008085")  # (3 x 3 + 2 x 0.3 + 3 x 3.75 + 4 x 15) / 1,000,000
    assert Generation.from_json(answer.to_json()).usage == answer.usage


BROKEN = ["500", "504", "529", "429", "reset", "truncate", "html", "error200", "array"]


@pytest.mark.parametrize("mode", BROKEN)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_answer_is_asked_again_and_counted(loopback: Loopback, mode: str, stream: bool) -> None:
    """FAULTS 7, 21."""
    loopback.set(script=[mode, mode])
    answer = ask(connected(loopback, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 3)
    assert loopback.stats()["requests"] == 3


@pytest.mark.parametrize("mode", ["stop_stream", "error_event"])
def test_a_stream_that_tears_or_turns_into_an_error_is_never_an_answer(loopback: Loopback, mode: str) -> None:
    loopback.set(faults={mode: 1.0})
    with pytest.raises(TransportError, match=r"stopped before its end|Overloaded.*gave up after 3"):
        ask(connected(loopback, stream=True))


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        ("400", "change the bundle"),
        ("401", "wants a key"),
        ("402", "no credit left"),
        ("403", "may not use this model"),
        ("404", "check the model id"),
        ("413", "shorten the prompt"),
    ],
)
def test_what_cannot_get_better_is_refused_at_once_with_advice(loopback: Loopback, mode: str, advice: str) -> None:
    loopback.set(faults={mode: 1.0})
    with pytest.raises(RequestRefusedError, match=f"status {mode}.*{advice}") as raised:
        ask(connected(loopback))
    assert (raised.value.attempts, raised.value.status_code) == (1, int(mode))


def test_a_rate_limit_is_waited_out(loopback: Loopback) -> None:
    """FAULTS 4."""
    loopback.set(script=["429"], retry_after="0.3")
    ask(connected(loopback))
    first, second = loopback.stats()["log"]
    assert second["time_s"] - first["time_s"] >= 0.29


@pytest.mark.parametrize("mode", ["401", "400", "500", "error200"])
@pytest.mark.parametrize("header", [None, "bearer"])
def test_the_key_is_sent_but_never_shown(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, mode: str, header: str | None
) -> None:
    """FAULTS 82: not in the error that repeats it, its traceback with locals, the repr, the client or curl."""
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    loopback.set(faults={mode: 1.0})
    client = connected(loopback, api_key_env="LOOPBACK_KEY", key_header=header)
    with pytest.raises(LlmlabError) as raised:
        ask(client)
    name = "x-api-key" if header is None else "authorization"
    assert loopback.stats()["log"][0]["headers"][name].endswith(CANARY)
    client_told = f"{client!r} {vars(client)} {client.curl(asking())}"
    assert CANARY not in f"{everything(raised.value)} {raised.value!r} {vars(raised.value)} {client_told}"


def everything(error: BaseException) -> str:
    """The traceback with every local variable, of the error and of all that came before it."""
    told = ""
    before: BaseException | None = error
    while before is not None:
        told += "".join(traceback.TracebackException.from_exception(before, capture_locals=True).format())
        before = before.__cause__ or before.__context__
    return told


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_call_that_breaks_for_another_reason_shows_no_key_in_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 82: a bug of ours, or of aiohttp, while the header fields lie in a local variable."""
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    client = AnthropicClient("http://127.0.0.1:9", api_key_env="LOOPBACK_KEY", retry=QUICK)
    client._proxies = {}
    monkeypatch.setattr(AnthropicClient, "_session", lambda self: None)
    with pytest.raises(KeyError) as raised:
        ask(client)
    told = everything(raised.value)
    assert "headers = " in told
    assert CANARY not in told


def test_curl_shows_the_exact_request() -> None:
    client = AnthropicClient(api_key_env="SOME_KEY")
    command = shlex.split(client.curl(asking("it's")))
    assert command[:2] == ["curl", "https://api.anthropic.com/v1/messages"]
    assert {"x-api-key: ${SOME_KEY}", "anthropic-version: 2023-06-01"} <= set(command)
    assert json.loads(command[-1]) == client.body(asking("it's"))


def test_the_fingerprint_tells_wire_formats_apart_and_has_one_spelling() -> None:
    native, compatible = AnthropicClient(), OpenAIClient("https://api.anthropic.com")
    assert native.fingerprint == AnthropicClient("https://api.anthropic.com/v1/").fingerprint
    assert native.fingerprint != compatible.fingerprint
    assert native.fingerprint != AnthropicClient(api_version="2024-01-01").fingerprint
