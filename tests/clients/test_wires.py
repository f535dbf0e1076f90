"""Clients of both wire formats against a real server on this machine that misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import shlex
from decimal import Decimal
from typing import Any

import pytest

from llmlab.base.errors import (
    CallError,
    CallTimeoutError,
    LlmlabError,
    RequestRefusedError,
    TransportError,
    UnusableEndpointError,
)
from llmlab.bundle.bundle import Sampling
from llmlab.clients import http
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Client, Generation, Usage
from llmlab.clients.http import HttpClient, input_tokens_at_most
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import TokenPrices
from tests.clients.made import CHAT, MESSAGES, QUICK, WIRES, Wire, ask, ask_all, asking, connected, everything, run
from tests.loopback import Loopback

CANARY = "canary-of-no-known-shape-0123456789"


@pytest.fixture(params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Chat completions, then messages."""
    value: Wire = request.param
    return value


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_carries_text_usage_served_model_and_latency(loopback: Loopback, wire: Wire, stream: bool) -> None:
    loopback.set(latency_s=0.05)
    client = connected(loopback, wire=wire, stream=stream)
    assert isinstance(client, Client)
    answer = ask(client, asking("one two three four", wire=wire))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: one two three four", 1)
    cached = 2 if wire is CHAT else 0
    assert answer.usage == Usage(input_tokens=4, output_tokens=5, cached_input_tokens=cached)
    assert answer.served_model == wire.model.partition("/")[2]
    assert answer.system_fingerprint == ("fp_loopback" if wire is CHAT else None)
    assert answer.latency_s is not None
    assert answer.latency_s >= 0.05
    assert (answer.first_token_s is not None) == stream
    assert 0.05 <= (answer.first_token_s or 0.05) <= answer.latency_s
    assert answer.cost_usd == (None if wire is CHAT else Decimal("0.000145"))  # (4 x 5 + 5 x 25) / 1,000,000


ECHO = "echo: How?"
ENDINGS = [  # wire, what the server does, and the status, text and thought of it
    (CHAT, "ok", "ok", ECHO, ""),
    (CHAT, "empty", "empty", "", ""),
    (CHAT, "refusal", "refused", "I cannot help with that.", ""),
    (CHAT, "content_filter", "refused", ECHO, ""),
    (CHAT, "content_filter_400", "refused", "", ""),
    (CHAT, "length", "truncated", ECHO, ""),
    (CHAT, "tool_calls", "ok", "", ""),
    (CHAT, "reasoning", "ok", ECHO, "Hm."),
    (CHAT, "think_tags", "ok", ECHO, "Hm."),
    (CHAT, "think_unopened", "ok", ECHO, "Hm."),
    (CHAT, "think_unclosed", "empty", "", "Hm."),
    (MESSAGES, "ok", "ok", ECHO, ""),
    (MESSAGES, "stop_sequence", "ok", ECHO, ""),
    (MESSAGES, "thinking", "ok", ECHO, "Hm."),
    (MESSAGES, "length", "truncated", ECHO, ""),
    (MESSAGES, "window", "truncated", ECHO, ""),
    (MESSAGES, "pause", "truncated", ECHO, ""),
    (MESSAGES, "refusal", "refused", "I cannot help with that.", ""),
    (MESSAGES, "refusal_with_text", "refused", ECHO, ""),
    (MESSAGES, "empty", "empty", "", ""),
    (MESSAGES, "tool_calls", "ok", "", ""),
]


@pytest.mark.parametrize(("wire", "mode", "status", "text", "thought"), ENDINGS, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_the_models_doing_becomes_a_status_and_its_thought_is_kept_apart(
    loopback: Loopback, wire: Wire, mode: str, status: str, text: str, thought: str, stream: bool
) -> None:
    """An empty reply is empty, not a refusal; none is asked again; a key that a thought repeats is cut out of it.

    Source: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
    """
    loopback.set(script=[mode])
    answer = ask(connected(loopback, wire=wire, stream=stream))
    assert (answer.status, answer.text, answer.thought, answer.attempts) == (status, text, thought, 1)
    assert answer.tool_calls == (({"name": "look_up", "arguments": {"id": 7}},) if mode == "tool_calls" else ())
    assert loopback.stats()["requests"] == 1
    assert Generation.from_json(answer.to_json()) == answer
    assert ("thought" in json.loads(answer.to_json())) == bool(thought)
    assert answer.scrubbed([("Hm", "KEY")]).thought == thought.replace("Hm", "[KEY removed]")


BROKEN = {
    False: ["500", "503", "529", "429", "408", "reset", "truncate", "bad_json", "error200", "array"],
    True: ["truncate", "stop_stream", "error_event", "reset", "error200", "500"],
}


@pytest.mark.parametrize(("stream", "mode"), [(stream, mode) for stream, modes in BROKEN.items() for mode in modes])
def test_what_is_no_answer_is_asked_again_and_counted_and_ends_in_a_transport_error(
    loopback: Loopback, wire: Wire, stream: bool, mode: str
) -> None:
    """Never an answer, one retry layer, attempts reported."""
    loopback.set(script=[mode, mode])
    answer = ask(connected(loopback, wire=wire, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 3)
    assert loopback.stats()["requests"] == 3
    loopback.set(faults={mode: 1.0})
    with pytest.raises(TransportError) as raised:
        ask(connected(loopback, wire=wire, stream=stream))
    assert (raised.value.attempts, loopback.stats()["requests"]) == (3, 3)


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        ("400", "change the bundle"),
        ("401", "wants a key"),
        ("402", "no credit left"),
        ("403", "may not use this model"),
        ("404", "check the model id, deployment and base_url"),
        ("413", "shorten the prompt"),
        ("422", "change the bundle"),
        ("307", "write the final address"),
        ("no_credit", "no credit left"),  # which is no rate limit, though its status is one's
    ],
)
def test_what_cannot_get_better_is_refused_at_once_with_advice(
    loopback: Loopback, wire: Wire, mode: str, advice: str
) -> None:
    loopback.set(faults={mode: 1.0})
    with pytest.raises(RequestRefusedError, match=advice) as raised:
        ask(connected(loopback, wire=wire))
    assert (raised.value.attempts, raised.value.status_code) == (1, 429 if mode == "no_credit" else int(mode))
    assert loopback.stats()["requests"] == 1


OLD, NEW = "anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-opus-4-7"
NOT_SENT = [  # wire, model, sampling, and what is told
    (CHAT, "openai/o3-2025-04-16", {"temperature": 0.0}, ""),
    (CHAT, "openai/o3-2025-04-16", {"stop": ("x",)}, ""),
    (CHAT, "openai/o3-2025-04-16", {"thinking": {"budget_tokens": 2000}}, ""),
    (CHAT, "openai/gpt-5-mini-2025-08-07", {"top_p": 0.5}, ""),
    (CHAT, "openai/gpt-5.2-2025-12-11", {"temperature": 0.0}, ""),
    (CHAT, "openai/gpt-4o-2024-08-06", {"top_k": 5}, ""),
    (CHAT, "azure/o1-2024-12-17", {"temperature": 0.5}, ""),
    (CHAT, NEW, {"temperature": 0.0}, ""),
    (CHAT, OLD, {"temperature": 0.5, "top_p": 0.5}, ""),
    (CHAT, OLD, {"temperature": 1.5}, ""),
    (CHAT, OLD, {"seed": 1}, ""),
    (CHAT, "ollama/llama3:8b", {"top_k": 5}, ""),
    (CHAT, "vllm/any", {"extra": {"messages": []}}, ""),
    (CHAT, "vllm/any", {"temperature": 0.0, "extra": {"temperature": 1}}, ""),
    (CHAT, "vllm/any", {"extra": {"n": 4}}, ""),
    (MESSAGES, NEW, {"temperature": 0.0}, r"sent temperature == 0\.0: models from Opus 4\.7.*Remove it"),
    (MESSAGES, NEW, {"top_p": 0.5}, "cannot be sent top_p"),
    (MESSAGES, NEW, {"top_k": 5}, "cannot be sent top_k"),
    (MESSAGES, "anthropic/claude-sonnet-5", {"temperature": 0.5}, "take no sampling parameters"),
    (MESSAGES, "bedrock/us.anthropic.claude-opus-4-8", {"temperature": 0.5}, "take no sampling parameters"),
    (MESSAGES, OLD, {"temperature": 0.5, "top_p": 0.5}, "temperature and top_p: it takes only one of them"),
    (MESSAGES, OLD, {"temperature": 1.5}, "0 to 1"),
    (MESSAGES, OLD, {"frequency_penalty": 0.1}, "does not have it"),
    (MESSAGES, OLD, {"response_format": {"type": "json_object"}}, "json_schema"),
    (MESSAGES, OLD, {"extra": {"response_format": "json"}}, "json_schema"),
    (MESSAGES, "anthropic/claude-3-5-haiku-20241022", {"response_format": {"type": "json_schema"}}, "begin with gen"),
    (MESSAGES, OLD, {"max_tokens": None}, "wants max_tokens"),
    (MESSAGES, OLD, {"extra": {"system": "x"}}, "set elsewhere"),
    (MESSAGES, OLD, {"seed": 4}, "seed == 4: the Messages API has no seed"),
]


@pytest.mark.parametrize(("wire", "model", "changes", "told"), NOT_SENT, ids=str)
def test_a_parameter_that_cannot_be_sent_is_refused_before_any_call_and_told(
    loopback: Loopback, wire: Wire, model: str, changes: dict[str, Any], told: str
) -> None:
    sampling = wire.sampling.model_copy(update=changes)
    with pytest.raises(RequestRefusedError, match=told or None) as raised:
        ask(connected(loopback, wire=wire), asking(wire=wire, model=model, sampling=sampling, seed=changes.get("seed")))
    assert (raised.value.attempts, loopback.stats()["requests"]) == (0, 0)


def test_a_hanging_attempt_is_cut_off_and_a_call_ends_at_the_bound_of_the_case(loopback: Loopback, wire: Wire) -> None:
    """A bound per attempt alone would let 50 attempts of 0.2 s through."""
    loopback.set(script=["hang"])
    policy = RetryPolicy(attempts=2, attempt_timeout_s=0.3, first_wait_s=0.01)
    assert ask(connected(loopback, wire=wire, retry=policy)).attempts == 2
    loopback.set(faults={"hang": 1.0})
    policy = RetryPolicy(attempts=50, attempt_timeout_s=0.2, case_timeout_s=0.5, first_wait_s=0.01)
    with pytest.raises(CallTimeoutError, match="case_timeout_s") as raised:
        ask(connected(loopback, wire=wire, retry=policy))
    assert loopback.stats()["requests"] <= raised.value.attempts <= 3


def test_two_429_hold_every_call_back_for_as_long_as_they_say(loopback: Loopback, wire: Wire) -> None:
    """After the second within one Retry-After nothing new goes out for as long, from any call of this client."""
    loopback.set(script=["429"] * 2, retry_after="0.5")
    client = connected(loopback, wire=wire)

    async def some_then_more() -> None:
        first = [asyncio.create_task(client.complete(asking(str(i), wire=wire))) for i in range(2)]
        while loopback.stats()["requests"] < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await asyncio.gather(*first, *(client.complete(asking(f"later {i}", wire=wire)) for i in range(3)))

    run(client, some_then_more())
    log = loopback.stats()["log"]
    last_429_s = max(entry["time_s"] for entry in log if entry["mode"] == "429")
    assert min(entry["time_s"] for entry in log if entry["mode"] == "ok") - last_429_s >= 0.49
    assert len(log) == 7


def test_one_failing_call_does_not_disturb_the_others(loopback: Loopback, wire: Wire) -> None:
    loopback.set(script=["400"])
    outcomes = ask_all(connected(loopback, wire=wire), [asking(str(i), wire=wire) for i in range(8)])
    assert sum(isinstance(outcome, RequestRefusedError) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Generation) for outcome in outcomes) == 7


@pytest.mark.parametrize("mode", ["401", "400", "500", "429", "error200"])
@pytest.mark.parametrize("header", [None, "bearer", "api-key"])
def test_the_key_is_sent_but_never_shown(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch, mode: str, header: str | None
) -> None:
    """Not in the error that repeats it, its traceback with locals, the repr, the client or curl."""
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    loopback.set(faults={mode: 1.0})
    client = connected(loopback, wire=wire, api_key_env="LOOPBACK_KEY", key_header=header)
    with pytest.raises(LlmlabError) as raised:
        ask(client)
    told = f"{everything(raised.value)} {client!r} {vars(client)} {client.curl(asking(wire=wire))}"
    assert CANARY not in told
    name = {None: wire.key_field, "bearer": "authorization"}.get(header, header)
    sent = loopback.stats()["log"][0]["headers"]
    assert sent[name] == (f"Bearer {CANARY}" if name == "authorization" else CANARY)
    assert len({"authorization", "api-key", "x-api-key"} & sent.keys()) == 1
    assert "$LOOPBACK_KEY" in repr(client)
    assert ("the key in LOOPBACK_KEY is wrong or expired" in str(raised.value)) == (mode == "401")


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_call_that_breaks_for_another_reason_shows_no_key_in_its_traceback(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, or of aiohttp, while the header fields lie in a local variable."""
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    client = wire.client("http://127.0.0.1:9", api_key_env="LOOPBACK_KEY", retry=QUICK)
    monkeypatch.setattr(HttpClient, "_session", lambda self: None)
    with pytest.raises(AttributeError) as raised:
        ask(client)
    told = everything(raised.value)
    assert "headers = " in told
    assert CANARY not in told


def test_a_missing_key_is_told_by_name_before_any_call(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)
    with pytest.raises(RequestRefusedError, match="set the environment variable LOOPBACK_KEY") as raised:
        ask(connected(loopback, wire=wire, api_key_env="LOOPBACK_KEY"))
    assert raised.value.attempts == 0
    assert loopback.stats()["requests"] == 0


def test_a_key_with_a_line_break_inside_is_told_by_name_and_not_sent(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", f"{CANARY}\n{CANARY}")
    with pytest.raises(RequestRefusedError, match="LOOPBACK_KEY") as raised:
        ask(connected(loopback, wire=wire, api_key_env="LOOPBACK_KEY"))
    assert CANARY not in everything(raised.value)
    assert loopback.stats()["requests"] == 0


def test_the_key_is_read_at_each_call(loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(loopback, wire=wire, api_key_env="LOOPBACK_KEY")
    for key in ("first-key", "second-key"):
        monkeypatch.setenv("LOOPBACK_KEY", key)
        ask(client)
    sent = [entry["headers"][wire.key_field] for entry in loopback.stats()["log"]]
    assert [text.removeprefix("Bearer ") for text in sent] == ["first-key", "second-key"]


def test_a_server_on_this_machine_is_asked_without_a_key_where_nobody_named_one(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ollama and vLLM want none; where one does, the error names the variable to set."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    unnamed = OpenAIClient(loopback.base_url, retry=QUICK)
    assert isinstance(ask(unnamed), Generation)
    loopback.set(faults={"401": 1.0})
    with pytest.raises(RequestRefusedError, match="it wants a key: set the environment variable OPENAI_API_KEY"):
        ask(unnamed)
    with pytest.raises(RequestRefusedError, match="set the environment variable OPENAI_API_KEY") as raised:
        ask(OpenAIClient("https://api.example.com/v1", retry=QUICK))
    assert raised.value.attempts == 0


@pytest.mark.parametrize(
    ("wire", "address", "fields"),
    [
        (CHAT, "https://api.example.com/v1/chat/completions", ("Authorization: Bearer ${SOME_KEY}",)),
        (
            MESSAGES,
            "https://api.example.com/v1/messages",
            ("x-api-key: ${SOME_KEY}", "anthropic-version: 2023-06-01"),
        ),
    ],
    ids=str,
)
def test_curl_shows_the_exact_request(wire: Wire, address: str, fields: tuple[str, ...]) -> None:
    client = wire.client("https://api.example.com/v1", api_key_env="SOME_KEY")
    request = asking("it's a 'quote'", wire=wire)
    command = shlex.split(client.curl(request))
    assert command[:2] == ["curl", address]
    assert set(fields) <= set(command)
    assert json.loads(command[-1]) == client.body(request)


def test_a_prompt_that_may_not_fit_is_refused_before_it_is_paid_for(loopback: Loopback, wire: Wire) -> None:
    client = connected(loopback, wire=wire, context_tokens=140)
    for words, answer in ((80, 50), (10, 120)):
        sampling = Sampling(max_tokens=answer)
        with pytest.raises(RequestRefusedError, match=f"and {answer} for the answer may not fit into the context of"):
            ask(client, asking("word " * words, wire=wire, sampling=sampling))
    assert loopback.stats()["requests"] == 0
    assert ask(client, asking("word " * 10, wire=wire, sampling=Sampling(max_tokens=50))).status == "ok"


def test_the_estimate_of_tokens_counts_bytes_not_letters() -> None:
    assert input_tokens_at_most(asking("漢字" * 30)) > input_tokens_at_most(asking("ab" * 30))
    assert input_tokens_at_most(asking("\udc80")) > 0
    calls = [{"function": {"name": "f", "arguments": "x" * 300}}]
    assert input_tokens_at_most(asking(messages=({"role": "assistant", "content": "", "tool_calls": calls},))) > 100


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_would_fill_the_memory_is_refused(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(http, "LARGEST_REPLY_BYTES", 5_000)
    loopback.set(words=2_000)
    with pytest.raises(RequestRefusedError, match="larger than 5,000 bytes"):
        ask(connected(loopback, wire=wire, stream=stream))
    assert loopback.stats()["requests"] == 1


def test_own_prices_make_the_cost_known(loopback: Loopback) -> None:
    client = connected(loopback, prices=TokenPrices(input=Decimal(1), output=Decimal(10), cached_input=Decimal("0.5")))
    answer = ask(client, asking("one two three four"))
    assert answer.cost_usd == Decimal("0.000053")  # (2 x 1 + 2 x 0.5 + 5 x 10) / 1,000,000


def test_requests_per_minute_are_kept_and_latency_leaves_the_waiting_out(loopback: Loopback) -> None:
    client = connected(loopback, requests_per_minute=60)  # one a second; a second's worth may go at once
    outcomes = ask_all(client, [asking(str(i)) for i in range(3)])
    times_s = sorted(entry["time_s"] for entry in loopback.stats()["log"])
    assert times_s[-1] - times_s[0] >= 0.7
    assert max(outcome.latency_s or 9.0 for outcome in outcomes if isinstance(outcome, Generation)) < 0.7


def test_another_served_model_is_reported_as_served(loopback: Loopback) -> None:
    loopback.set(script=["wrong_model"])
    assert ask(connected(loopback)).served_model == "another-model"


def test_a_server_that_is_not_there_is_a_transport_error(wire: Wire) -> None:
    client = wire.client("http://127.0.0.1:9", api_key_env=None, retry=QUICK)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9"):
        ask(client)


@pytest.fixture
def _no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_other_proxy")
def test_a_proxy_is_taken_with_and_without_a_scheme(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """As curl takes it. The server stands for the proxy, which is sent its own password alone."""
    host = loopback.origin.removeprefix("http://")
    for proxy in (f"anna:Tr0ub4dorX@{host}", f"http://anna:Tr0ub4dorX@{host}"):
        monkeypatch.setenv("http_proxy", proxy)
        assert ask(OpenAIClient("http://nowhere.invalid/v1", api_key_env=None, retry=QUICK)).status == "ok"
    assert all("proxy-authorization" in entry["headers"] for entry in loopback.stats()["log"])


@pytest.mark.usefixtures("_no_other_proxy")
@pytest.mark.parametrize(
    ("variable", "value", "attempts"),
    [
        ("http_proxy", "anna:Tr0ub4dorX@127.0.0.1:9", 2),
        ("HTTP_PROXY", "http://anna:Tr0ub4dorX@127.0.0.1:9", 2),
        ("http_proxy", "http://anna:Tr0ub4dorX@proxy.invalid:port", 0),
        ("http_proxy", "anna:Tr0ub4#dorX@proxy.invalid:3128", 0),
        ("http_proxy", "http://anna:Tr0ub4dorX@pro xy:3128", 3),
        ("http_proxy", "socks5://anna:Tr0ub4dorX@proxy.invalid:3128", 0),
    ],
)
def test_a_proxy_that_does_not_serve_is_told_by_its_variable_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, variable: str, value: str, attempts: int
) -> None:
    monkeypatch.setenv(variable, value)
    client = wire.client("http://nowhere.invalid", api_key_env=None, retry=QUICK)
    with pytest.raises(CallError, match=rf"\${variable}") as raised:
        ask(client)
    assert "Tr0ub4" not in str(raised.value)
    assert isinstance(raised.value, TransportError if attempts else RequestRefusedError)
    assert raised.value.attempts == max(attempts, 1)


@pytest.mark.usefixtures("_no_other_proxy")
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_that_wants_a_password_is_told_by_its_variable(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, wire: Wire, variable: str
) -> None:
    """Asked for an address without TLS, it answers in the endpoint's place."""
    loopback.set(faults={"407": 1.0})
    monkeypatch.setenv(variable, f"anna:Tr0ub4dorX@{loopback.origin.removeprefix('http://')}")
    with pytest.raises(UnusableEndpointError, match=rf"the proxy that \${variable} names answered 407") as raised:
        ask(wire.client("http://nowhere.invalid", api_key_env=None, retry=QUICK))
    assert "Tr0ub4" not in str(raised.value)
    monkeypatch.delenv(variable)
    with pytest.raises(RequestRefusedError, match=r"answered 407.*a proxy before it"):
        ask(connected(loopback, wire=wire))


def test_connections_are_reused_and_one_client_serves_one_loop_after_the_other(loopback: Loopback, wire: Wire) -> None:
    client = connected(loopback, wire=wire)

    async def one_after_the_other() -> None:
        for i in range(5):
            await client.complete(asking(str(i), wire=wire))

    run(client, one_after_the_other())
    assert loopback.stats()["connections"] == 1
    assert ask(client).status == "ok"


def test_odd_characters_reach_the_server(loopback: Loopback, wire: Wire) -> None:
    ask(connected(loopback, wire=wire), asking("a\x00b😀c", wire=wire))
    assert json.loads(loopback.stats()["log"][0]["body"])["messages"][0]["content"] == "a\x00b😀c"


@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_code_inside_status_200_is_a_refusal_and_asked_for_once(
    loopback: Loopback, wire: Wire, stream: bool
) -> None:
    """Alibaba says so once its stream has begun: https://www.alibabacloud.com/help/en/model-studio/error-code"""
    loopback.set(script=["policy200"])
    answer = ask(connected(loopback, wire=wire, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == ("refused", "", 1)
    assert "inappropriate" in answer.error


@pytest.mark.parametrize("mode", ["untyped", "typed_json", "typed_plain"])
def test_a_stream_is_read_whatever_a_proxy_made_of_its_type(loopback: Loopback, wire: Wire, mode: str) -> None:
    loopback.set(script=[mode])
    answer = ask(connected(loopback, wire=wire, stream=True))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 1)
    assert answer.first_token_s is not None


@pytest.mark.parametrize("stream", [False, True])
def test_a_web_page_in_place_of_an_answer_is_asked_for_once(loopback: Loopback, wire: Wire, stream: bool) -> None:
    loopback.set(faults={"html": 1.0})
    with pytest.raises(RequestRefusedError, match="base_url"):
        ask(connected(loopback, wire=wire, stream=stream))
    assert loopback.stats()["requests"] == 1


def test_half_a_character_in_a_question_is_refused_before_it_is_sent(loopback: Loopback, wire: Wire) -> None:
    loopback.set()
    client = connected(loopback, wire=wire)
    with pytest.raises(RequestRefusedError) as raised:
        ask(client, asking("a\udc80", wire=wire))
    assert (raised.value.attempts, loopback.stats()["requests"]) == (0, 0)


def test_the_fingerprint_has_one_spelling_and_tells_wire_formats_apart(wire: Wire) -> None:
    def fingerprint(url: str, **settings: Any) -> Any:
        return wire.client(url, **settings).fingerprint

    assert fingerprint("HTTP://Host:80/v1/") == fingerprint("http://host/v1")
    assert fingerprint("http://host/v1", deployment="d") != fingerprint("http://host/v1")
    assert fingerprint("http://host/v1", api_version="2024-01-01") != fingerprint("http://host/v1")
    assert len({other.client("http://host").fingerprint for other in WIRES}) == 2
