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


@pytest.mark.parametrize(
    ("replies", "texts"),
    [
        ("always this", ["always this", "always this", "always this"]),
        ({"gaps": "dropna", "sort": "sort_values"}, ["sort_values", "sort_values", "sort_values"]),
        (["a", "b"], ["b", "a", "b"]),
        (lambda request: request.messages[-1]["content"].upper(), ["HOW DO I SORT?"] * 3),
    ],
)
def test_a_text_a_part_of_the_last_user_message_the_repeat_or_a_function_gives_the_answer(
    replies: Replies, texts: list[str]
) -> None:
    """By repeat whatever the order of calls."""
    answers = [reply(replies, "How do I sort?", repeat) for repeat in (3, 0, 1)]
    assert [answer.text for answer in answers] == texts
    assert all(answer.usage.output_tokens == len(answer.text.split()) for answer in answers)


def test_a_question_that_no_part_fits_is_refused_by_name_and_a_function_may_raise() -> None:
    def failing(request: Request) -> str:
        raise TransportError(f"down for {request.repeat}")

    with pytest.raises(RequestRefusedError, match="no reply for 'What else\\?'"):
        reply({"gaps": "dropna"}, "What else?")
    with pytest.raises(TransportError, match="down for 0"):
        reply(failing)


def test_a_generation_is_handed_out_as_it_is_and_an_empty_text_is_an_empty_answer() -> None:
    refused = Generation(status="refused", text="No.")
    assert reply({"How": refused}) is refused
    assert reply("").status == "empty"


def test_it_remembers_what_it_was_asked_and_is_a_client() -> None:
    client = FakeClient("x", price_usd=Decimal("0.01"))
    answer = asyncio.run(client.complete(asking("How?")))
    assert answer.cost_usd == Decimal("0.01")
    assert [request.messages[-1]["content"] for request in client.requests] == ["How?"]
    assert isinstance(client, Client)
