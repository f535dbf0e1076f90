"""The client that is shipped for users' tests."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from llmlab.base.errors import RequestRefusedError, TransportError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Client, Generation, Request
from llmlab.clients.fake import FakeClient, Replies


def asking(content: str, repeat: int = 0) -> Request:
    """A request with a system message and one question."""
    messages = ({"role": "system", "content": "gaps"}, {"role": "user", "content": content})
    return Request(model=ModelRef.parse("offline/x"), messages=messages, sampling=Sampling(), repeat=repeat)


def reply(replies: Replies, content: str = "How?", repeat: int = 0) -> Generation:
    return asyncio.run(FakeClient(replies).complete(asking(content, repeat)))


def test_a_text_answers_everything() -> None:
    answer = reply("always this")
    assert (answer.text, answer.status, answer.usage.output_tokens) == ("always this", "ok", 2)


def test_a_mapping_answers_by_a_part_of_the_last_user_message() -> None:
    replies = {"gaps": "dropna", "sort": "sort_values"}
    assert reply(replies, "How do I sort?").text == "sort_values"


def test_a_question_that_no_part_fits_is_refused_by_name() -> None:
    with pytest.raises(RequestRefusedError, match="no reply for 'What else\\?'"):
        reply({"gaps": "dropna"}, "What else?")


def test_a_sequence_answers_by_repeat_whatever_the_order_of_calls() -> None:
    assert [reply(["a", "b"], repeat=repeat).text for repeat in (3, 0, 1, 2)] == ["b", "a", "b", "a"]


def test_a_function_answers_or_raises() -> None:
    def failing(request: Request) -> str:
        raise TransportError(f"down for {request.repeat}")

    assert reply(lambda request: request.messages[-1]["content"].upper()).text == "HOW?"
    with pytest.raises(TransportError, match="down for 0"):
        reply(failing)


def test_a_generation_is_handed_out_as_it_is() -> None:
    refused = Generation(status="refused", text="No.")
    assert reply({"How": refused}) is refused


def test_an_empty_text_is_an_empty_answer() -> None:
    assert reply("").status == "empty"


def test_it_remembers_what_it_was_asked_and_is_a_client() -> None:
    client = FakeClient("x", price_usd=Decimal("0.01"))
    answer = asyncio.run(client.complete(asking("How?")))
    assert answer.cost_usd == Decimal("0.01")
    assert [request.messages[-1]["content"] for request in client.requests] == ["How?"]
    assert isinstance(client, Client)
