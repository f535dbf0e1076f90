"""Servers that are compatible but for a habit or two: vLLM, Ollama, llama.cpp and gateways."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmlab.base.errors import RequestRefusedError, TransportError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients import http
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.retry import RetryPolicy
from tests.loopback import Loopback

QUICK = RetryPolicy(attempts=2, first_wait_s=0.01)


def ask(loopback: Loopback, **settings: Any) -> Generation:
    client = OpenAIClient(loopback.base_url, api_key_env=None, retry=QUICK, **settings)
    messages = ({"role": "user", "content": "How?"},)

    async def once() -> Generation:
        try:
            request = Request(model=ModelRef.parse("vllm/tiny"), messages=messages, sampling=Sampling())
            return await client.complete(request)
        finally:
            await client.aclose()

    return asyncio.run(once())


@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_left_out_is_unknown_and_not_zero(loopback: Loopback, stream: bool) -> None:
    loopback.set(script=["no_usage"])
    answer = ask(loopback, stream=stream)
    assert (answer.text, answer.usage, answer.cost_usd) == ("echo: How?", Usage(), None)


@pytest.mark.parametrize("mode", ["no_done", "no_finish"])
def test_a_stream_may_lack_its_done_or_its_finish_reason_but_not_both(loopback: Loopback, mode: str) -> None:
    loopback.set(script=[mode])
    answer = ask(loopback, stream=True)
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 1)


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_kept_out_of_the_answer(loopback: Loopback, stream: bool) -> None:
    loopback.set(script=["reasoning"])
    assert ask(loopback, stream=stream).text == "echo: How?"


def test_an_error_in_the_middle_of_a_stream_is_asked_again(loopback: Loopback) -> None:
    """FAULTS 21: though [DONE] follows it."""
    loopback.set(script=["error_event"])
    assert ask(loopback, stream=True).attempts == 2
    loopback.set(faults={"error_event": 1.0})
    with pytest.raises(TransportError, match="the engine died"):
        ask(loopback, stream=True)


def test_an_error_with_status_200_instead_of_a_stream_is_asked_again(loopback: Loopback) -> None:
    loopback.set(script=["error200"])
    assert ask(loopback, stream=True).attempts == 2


def test_errors_in_vllms_own_shape_are_read(loopback: Loopback) -> None:
    loopback.set(faults={"vllm_400": 1.0})
    with pytest.raises(RequestRefusedError, match=r"answered 400: context is too long \("):
        ask(loopback)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_would_fill_the_memory_is_refused(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(http, "LARGEST_REPLY_BYTES", 5_000)
    loopback.set(words=2_000)
    with pytest.raises(RequestRefusedError, match="larger than 5,000 bytes"):
        ask(loopback, stream=stream)
    assert loopback.stats()["requests"] == 1
