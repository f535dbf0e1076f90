"""The OpenAI-compatible client against a real server on this machine that misbehaves on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from llmlab.base.errors import CallError, CallTimeoutError, LlmlabError, RequestRefusedError, TransportError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Client, Generation, Request, Usage
from llmlab.clients.http import estimated_tokens
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import Price
from llmlab.clients.retry import RetryPolicy
from tests.loopback import Loopback

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
CANARY = "sk-canary-0123456789abcdef"
T = TypeVar("T")


def asking(content: str = "How?", **changes: Any) -> Request:
    """A request to a self-hosted model with one user message."""
    parts: dict[str, Any] = {"model": ModelRef.parse("vllm/tiny"), "messages": ({"role": "user", "content": content},)}
    return Request(**{**parts, "sampling": Sampling(), **changes})


def connected(loopback: Loopback, **settings: Any) -> OpenAIClient:
    return OpenAIClient(loopback.base_url, **{"api_key_env": None, "retry": QUICK, **settings})


def run(client: OpenAIClient, work: Coroutine[Any, Any, T]) -> T:
    async def and_close() -> T:
        try:
            return await work
        finally:
            await client.aclose()

    return asyncio.run(and_close())


def ask(client: OpenAIClient, request: Request | None = None) -> Generation:
    return run(client, client.complete(request or asking()))


def ask_all(client: OpenAIClient, requests: Sequence[Request]) -> list[Generation | BaseException]:
    async def gather() -> list[Generation | BaseException]:
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    return run(client, gather())


def test_an_answer_carries_text_usage_served_model_and_latency(loopback: Loopback) -> None:
    loopback.set(latency_s=0.05)
    answer = ask(connected(loopback), asking("one two three four"))
    assert (answer.status, answer.text) == ("ok", "echo: one two three four")
    assert answer.usage == Usage(input_tokens=4, output_tokens=5, cached_input_tokens=2)
    assert (answer.served_model, answer.system_fingerprint) == ("tiny", "fp_loopback")
    assert answer.latency_s is not None
    assert answer.latency_s >= 0.05
    assert (answer.attempts, answer.first_token_s, answer.cost_usd) == (1, None, None)


def test_it_is_a_client() -> None:
    assert isinstance(OpenAIClient("https://api.openai.com/v1"), Client)


def test_sampling_tools_and_seed_go_out_under_their_names(loopback: Loopback) -> None:
    sampling = Sampling(
        temperature=0.0,
        top_p=0.5,
        max_tokens=7,
        stop=("END",),
        seed=3,
        frequency_penalty=0.1,
        response_format={"type": "json_object"},
        extra={"min_p": 0.05},
    )
    tool = {"name": "look_up", "description": "Finds.", "parameters": {"type": "object"}}
    ask(connected(loopback), asking(sampling=sampling, tools=(tool,), seed=5))
    assert json.loads(loopback.stats()["log"][0]["body"]) == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "How?"}],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": 5,
        "frequency_penalty": 0.1,
        "response_format": {"type": "json_object"},
        "min_p": 0.05,
        "tools": [{"type": "function", "function": tool}],
    }


def test_what_is_not_set_is_not_sent(loopback: Loopback) -> None:
    ask(connected(loopback))
    assert set(json.loads(loopback.stats()["log"][0]["body"])) == {"model", "messages"}


@pytest.mark.parametrize(
    ("model", "sampling", "wanted"),
    [
        ("openai/gpt-4o-2024-08-06", {"max_tokens": 9, "temperature": 0.2}, {"max_tokens": 9, "temperature": 0.2}),
        ("openai/o3-2025-04-16", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("openai/o3-2025-04-16", {"temperature": 1.0}, {"temperature": 1.0}),
        ("openai/gpt-5-2025-08-07", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("openai/gpt-5-chat-latest", {"temperature": 0.3}, {"temperature": 0.3}),
        (
            "openai/gpt-5.2-2025-12-11",
            {"temperature": 0.0, "extra": {"reasoning_effort": "none"}},
            {"temperature": 0.0, "reasoning_effort": "none"},
        ),
        ("azure/o4-mini-2025-04-16", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("anthropic/claude-sonnet-4-5-20250929", {"temperature": 0.5}, {"temperature": 0.5}),
        ("vllm/any", {"top_k": 5}, {"top_k": 5}),
        ("unheard-of/any", {"top_k": 5}, {"top_k": 5}),
    ],
)
def test_parameters_take_the_name_that_the_model_knows(
    model: str, sampling: dict[str, Any], wanted: dict[str, Any]
) -> None:
    body = OpenAIClient("http://x/v1").body(asking(model=ModelRef.parse(model), sampling=Sampling(**sampling)))
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == wanted


def test_mistral_calls_its_seed_otherwise() -> None:
    body = OpenAIClient("http://x/v1").body(asking(model=ModelRef.parse("mistral/mistral-large-2411"), seed=4))
    assert body["random_seed"] == 4
    assert "seed" not in body


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("openai/o3-2025-04-16", {"sampling": Sampling(temperature=0.0)}),
        ("openai/o3-2025-04-16", {"sampling": Sampling(stop=("x",))}),
        ("openai/gpt-5-mini-2025-08-07", {"sampling": Sampling(top_p=0.5)}),
        ("openai/gpt-5.2-2025-12-11", {"sampling": Sampling(temperature=0.0)}),
        ("openai/gpt-4o-2024-08-06", {"sampling": Sampling(top_k=5)}),
        ("azure/o1-2024-12-17", {"sampling": Sampling(temperature=0.5)}),
        ("anthropic/claude-opus-4-7", {"sampling": Sampling(temperature=0.0)}),
        ("anthropic/claude-sonnet-4-5-20250929", {"sampling": Sampling(temperature=0.5, top_p=0.5)}),
        ("anthropic/claude-sonnet-4-5-20250929", {"sampling": Sampling(temperature=1.5)}),
        ("anthropic/claude-sonnet-4-5-20250929", {"seed": 1}),
        ("ollama/llama3:8b", {"sampling": Sampling(top_k=5)}),
        ("vllm/any", {"sampling": Sampling(extra={"messages": []})}),
        ("vllm/any", {"sampling": Sampling(temperature=0.0, extra={"temperature": 1})}),
        ("vllm/any", {"sampling": Sampling(extra={"n": 4})}),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_refused_before_any_call(
    loopback: Loopback, model: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(RequestRefusedError):
        ask(connected(loopback), asking(model=ModelRef.parse(model), **changes))
    assert loopback.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("ok", "ok", "echo: How?"),
        ("empty", "empty", ""),
        ("refusal", "refused", "I cannot help with that."),
        ("content_filter", "refused", "echo: How?"),
        ("content_filter_400", "refused", ""),
        ("length", "truncated", "echo: How?"),
        ("tool_calls", "ok", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_models_doing_becomes_a_status(loopback: Loopback, mode: str, status: str, text: str, stream: bool) -> None:
    """FAULTS 8: an empty reply is empty, not a refusal; none of these is asked again."""
    loopback.set(script=[mode])
    answer = ask(connected(loopback, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == (status, text, 1)
    assert loopback.stats()["requests"] == 1
    if mode == "tool_calls":
        assert answer.tool_calls == ({"name": "look_up", "arguments": {"id": 7}},)


BROKEN = ["500", "503", "429", "408", "reset", "truncate", "html", "bad_json", "error200", "array", "no_choices"]


@pytest.mark.parametrize("mode", BROKEN)
def test_what_is_no_answer_is_asked_again_and_counted(loopback: Loopback, mode: str) -> None:
    """FAULTS 7, 17, 21: never an answer, one retry layer, attempts reported."""
    loopback.set(script=[mode, mode])
    answer = ask(connected(loopback))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 3)
    assert loopback.stats()["requests"] == 3


@pytest.mark.parametrize("mode", BROKEN)
def test_what_stays_broken_ends_in_a_transport_error(loopback: Loopback, mode: str) -> None:
    loopback.set(faults={mode: 1.0})
    with pytest.raises(TransportError, match=r"gave up after 3 attempts") as raised:
        ask(connected(loopback))
    assert raised.value.attempts == 3
    assert loopback.stats()["requests"] == 3


@pytest.mark.parametrize("mode", ["truncate", "stop_stream", "reset", "html", "500"])
def test_a_stream_that_breaks_is_asked_again(loopback: Loopback, mode: str) -> None:
    loopback.set(script=[mode])
    answer = ask(connected(loopback, stream=True), asking("a b"))
    assert answer.attempts == 2
    assert answer.text.startswith("echo:")


def test_a_stream_measures_the_first_token_and_keeps_usage(loopback: Loopback) -> None:
    loopback.set(latency_s=0.02)
    answer = ask(connected(loopback, stream=True), asking("one two"))
    assert answer.first_token_s is not None
    assert answer.latency_s is not None
    assert 0.02 <= answer.first_token_s <= answer.latency_s
    assert answer.usage == Usage(input_tokens=2, output_tokens=3, cached_input_tokens=1)
    assert answer.served_model == "tiny"


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        ("400", "change the bundle"),
        ("401", "needs a key|wants a key"),
        ("403", "may not use this model"),
        ("404", "check the model id"),
        ("422", "change the bundle"),
        ("307", "write the final address"),
        ("no_credit", "no credit left"),
    ],
)
def test_what_cannot_get_better_is_refused_at_once_with_advice(loopback: Loopback, mode: str, advice: str) -> None:
    loopback.set(faults={mode: 1.0})
    with pytest.raises(RequestRefusedError, match=advice) as raised:
        ask(connected(loopback))
    assert raised.value.attempts == 1
    assert loopback.stats()["requests"] == 1


def test_a_hanging_attempt_is_cut_off_and_asked_again(loopback: Loopback) -> None:
    loopback.set(script=["hang"])
    policy = RetryPolicy(attempts=2, attempt_timeout_s=0.3, first_wait_s=0.01)
    assert ask(connected(loopback, retry=policy)).attempts == 2


def test_a_call_that_always_hangs_ends_at_the_bound_of_the_case(loopback: Loopback) -> None:
    """FAULTS 6: a bound per attempt alone would let 5 attempts of 0.3 s through."""
    loopback.set(faults={"hang": 1.0})
    policy = RetryPolicy(attempts=50, attempt_timeout_s=0.2, case_timeout_s=0.5, first_wait_s=0.01)
    with pytest.raises(CallTimeoutError) as raised:
        ask(connected(loopback, retry=policy))
    assert loopback.stats()["requests"] <= raised.value.attempts <= 3


def test_a_429_holds_every_call_back_for_as_long_as_it_says(loopback: Loopback) -> None:
    """FAULTS 4: after the first 429 nothing new goes out for Retry-After, from any call of this client."""
    loopback.set(script=["429"] * 2, retry_after="0.5")
    client = connected(loopback)

    async def some_then_more() -> None:
        first = [asyncio.create_task(client.complete(asking(str(i)))) for i in range(2)]
        while not loopback_saw(2):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await asyncio.gather(*first, *(client.complete(asking(f"later {i}")) for i in range(3)))

    def loopback_saw(count: int) -> bool:
        return bool(loopback.stats()["requests"] >= count)

    run(client, some_then_more())
    log = loopback.stats()["log"]
    last_429_s = max(entry["time_s"] for entry in log if entry["mode"] == "429")
    assert min(entry["time_s"] for entry in log if entry["mode"] == "ok") - last_429_s >= 0.49
    assert len(log) == 7


def test_rate_limits_everywhere_end_without_a_storm(loopback: Loopback) -> None:
    """FAULTS 5: at most rows x attempts requests, and an error that says why."""
    loopback.set(faults={"429": 1.0}, retry_after="0.01")
    outcomes = ask_all(connected(loopback), [asking(str(i)) for i in range(10)])
    assert all(isinstance(outcome, TransportError) and outcome.status_code == 429 for outcome in outcomes)
    assert loopback.stats()["requests"] == 10 * QUICK.attempts


def test_mixed_faults_all_end_in_answers_or_counted_errors(loopback: Loopback) -> None:
    """20% rate limits, 10% 5xx, 10% truncated, 5% resets, 1% hangs: the run ends and nothing false is an answer."""
    faults = {"429": 0.2, "500": 0.1, "truncate": 0.1, "reset": 0.05, "hang": 0.01}
    loopback.set(faults=faults, retry_after="0.01", seed=7)
    policy = RetryPolicy(attempts=6, attempt_timeout_s=1.0, first_wait_s=0.01, longest_wait_s=0.05)
    rows = 200
    outcomes = ask_all(connected(loopback, retry=policy), [asking(f"row {i}") for i in range(rows)])
    for i, outcome in enumerate(outcomes):
        assert isinstance(outcome, CallError) or (isinstance(outcome, Generation) and outcome.text == f"echo: row {i}")
    stats = loopback.stats()
    attempts = sum(outcome.attempts for outcome in outcomes)  # type: ignore[union-attr]  # both kinds count
    assert rows < stats["requests"] <= attempts <= rows * policy.attempts
    assert sum(isinstance(outcome, Generation) for outcome in outcomes) >= 0.97 * rows


def test_one_failing_call_does_not_disturb_the_others(loopback: Loopback) -> None:
    """FAULTS 9, at the client."""
    loopback.set(script=["400"])
    outcomes = ask_all(connected(loopback), [asking(str(i)) for i in range(8)])
    assert sum(isinstance(outcome, RequestRefusedError) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Generation) for outcome in outcomes) == 7


def test_a_missing_key_is_told_by_name_before_any_call(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)
    with pytest.raises(RequestRefusedError, match="set the environment variable LOOPBACK_KEY") as raised:
        ask(connected(loopback, api_key_env="LOOPBACK_KEY"))
    assert raised.value.attempts == 0
    assert loopback.stats()["requests"] == 0


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


@pytest.mark.parametrize("mode", ["401", "400", "500", "429"])
def test_the_key_is_sent_but_never_shown(loopback: Loopback, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """FAULTS 82: the server repeats the key in its error; neither error, repr nor curl does."""
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    loopback.set(faults={mode: 1.0})
    client = connected(loopback, api_key_env="LOOPBACK_KEY")
    with pytest.raises(LlmlabError) as raised:
        ask(client)
    assert loopback.stats()["log"][0]["headers"]["authorization"] == f"Bearer {CANARY}"
    error: BaseException | None = raised.value
    while error is not None:
        assert "canary" not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert "key removed" in str(raised.value)
    assert "canary" not in f"{client!r} {vars(client)} {client.curl(asking())}"
    assert "$LOOPBACK_KEY" in repr(client)
    if mode == "401":
        assert "the key in LOOPBACK_KEY is wrong or expired" in str(raised.value)


def test_the_key_is_read_at_each_call(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(loopback, api_key_env="LOOPBACK_KEY")
    for key in ("first-key", "second-key"):
        monkeypatch.setenv("LOOPBACK_KEY", key)
        ask(client)
    assert [entry["headers"]["authorization"] for entry in loopback.stats()["log"]] == [
        "Bearer first-key",
        "Bearer second-key",
    ]


def test_curl_shows_the_exact_request(loopback: Loopback) -> None:
    import shlex

    client = OpenAIClient("https://api.example.com/v1", api_key_env="SOME_KEY")
    request = asking("it's a 'quote'", sampling=Sampling(temperature=0.0))
    command = shlex.split(client.curl(request))
    assert command[:2] == ["curl", "https://api.example.com/v1/chat/completions"]
    assert "Authorization: Bearer ${SOME_KEY}" in command
    assert json.loads(command[-1]) == client.body(request)


def test_a_prompt_that_may_not_fit_is_refused_before_it_is_paid_for(loopback: Loopback) -> None:
    client = connected(loopback, context_tokens=100)
    with pytest.raises(RequestRefusedError, match="may not fit into the context of 100"):
        ask(client, asking("word " * 80))
    with pytest.raises(RequestRefusedError, match="90 for the answer"):
        ask(client, asking("word " * 10, sampling=Sampling(max_tokens=90)))
    assert loopback.stats()["requests"] == 0
    assert ask(client, asking("word " * 10, sampling=Sampling(max_tokens=50))).status == "ok"


def test_the_estimate_of_tokens_counts_bytes_not_letters() -> None:
    assert estimated_tokens(asking("漢字" * 30)) > estimated_tokens(asking("ab" * 30))
    assert estimated_tokens(asking("\udc80")) > 0


def test_own_prices_make_the_cost_known(loopback: Loopback) -> None:
    client = connected(loopback, prices=Price(input=Decimal(1), output=Decimal(10), cached_input=Decimal("0.5")))
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


def test_a_server_that_is_not_there_is_a_transport_error() -> None:
    client = OpenAIClient("http://127.0.0.1:9", api_key_env=None, retry=QUICK)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9"):
        ask(client)


def test_one_client_serves_one_event_loop_after_the_other(loopback: Loopback) -> None:
    client = connected(loopback)
    assert [ask(client).status, ask(client).status] == ["ok", "ok"]


def test_connections_are_reused(loopback: Loopback) -> None:
    client = connected(loopback)

    async def one_after_the_other() -> None:
        for i in range(5):
            await client.complete(asking(str(i)))

    run(client, one_after_the_other())
    assert loopback.stats()["connections"] == 1


def test_odd_characters_reach_the_server(loopback: Loopback) -> None:
    """FAULTS 15."""
    ask(connected(loopback), asking("a\x00b\udc80c"))
    assert json.loads(loopback.stats()["log"][0]["body"])["messages"][0]["content"] == "a\x00b\udc80c"


def test_the_fingerprint_has_one_spelling_and_no_secrets() -> None:
    assert OpenAIClient("HTTP://Host:80/v1/").fingerprint == OpenAIClient("http://host/v1").fingerprint
    assert OpenAIClient("http://host/v1", deployment="d").fingerprint != OpenAIClient("http://host/v1").fingerprint
    for secret in ("http://user:hunter2@host/v1", "http://host/v1?key=hunter2", "hunter2"):
        with pytest.raises(ValueError) as raised:
            OpenAIClient(secret)
        assert "hunter2" not in str(raised.value)
