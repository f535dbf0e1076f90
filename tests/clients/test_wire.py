"""Reading replies: whatever arrives is an answer with a status, or a TransportError, and nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.clients.base import Generation
from llmlab.clients.wire import StreamedReply, read_answer, read_json
from llmlab.errors import TransportError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON, "tool_calls": JSON})
CHOICE = st.fixed_dictionaries({"message": MESSAGE | JSON}, optional={"finish_reason": JSON})
USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": JSON, "prompt_tokens_details": JSON})
REPLY = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2) | JSON}, optional={"usage": USAGE | JSON, "model": JSON, "error": JSON}
)


def read_generation(reply: dict[str, Any]) -> Generation:
    return Generation(**read_answer(reply))


def reply_with(message: dict[str, Any], finish_reason: str | None = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


@settings(max_examples=150, deadline=None)
@given(reply=REPLY)
def test_any_json_is_an_answer_or_a_transport_error(reply: dict[str, Any]) -> None:
    try:
        answer = read_generation(reply)
    except TransportError:
        return
    assert answer.answered
    assert answer.from_json(answer.to_json()) == answer


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_json_object_or_a_transport_error(body: bytes) -> None:
    with contextlib.suppress(TransportError):
        assert isinstance(read_json(body), dict)


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=30), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_stream_reads_the_same_however_it_is_cut(text: str, cuts: list[int]) -> None:
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": letter}}]} for letter in text]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events) + b"data: [DONE]\n\n"
    streamed, start = StreamedReply(), 0
    for cut in [*sorted(cuts), len(stream)]:
        streamed.feed(stream[start:cut])
        start = max(start, cut)
    assert read_generation(streamed.reply()).text == text


def test_a_stream_without_its_end_is_no_answer() -> None:
    streamed = StreamedReply()
    streamed.feed(b'data: {"choices": [{"delta": {"content": "half an ans"}}]}\n\n')
    with pytest.raises(TransportError, match="stopped before its end"):
        streamed.reply()


def test_an_error_inside_a_stream_is_no_answer() -> None:
    streamed = StreamedReply()
    streamed.feed(b'data: {"choices": [{"delta": {"content": "half"}}]}\n\ndata: {"error": {"message": "lost"}}\n\n')
    with pytest.raises(TransportError, match="lost"):
        read_generation(streamed.reply())


def test_tool_calls_streamed_in_pieces_are_put_together() -> None:
    streamed = StreamedReply()
    for piece in ({"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ": 1}"}):
        delta = {"tool_calls": [{"index": 0, "function": piece}]}
        streamed.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    streamed.feed(b"data: [DONE]\n\n")
    assert read_generation(streamed.reply()).tool_calls == ({"name": "f", "arguments": {"a": 1}},)


@pytest.mark.parametrize(
    ("message", "finish", "status", "text"),
    [
        ({"content": "Paris"}, "stop", "ok", "Paris"),
        ({"content": "Paris"}, None, "ok", "Paris"),
        ({"content": [{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]}, "stop", "ok", "Paris"),
        ({"content": "Par"}, "length", "truncated", "Par"),
        ({"content": ""}, "length", "truncated", ""),
        ({"content": " \n"}, "stop", "empty", " \n"),
        ({"content": None}, "stop", "empty", ""),
        ({"content": None, "refusal": "No."}, "stop", "refused", "No."),
        ({"content": None}, "content_filter", "refused", ""),
        ({"content": "I'm sorry, but no."}, "stop", "ok", "I'm sorry, but no."),
    ],
)
def test_status_and_text_of_common_replies(message: dict[str, Any], finish: str | None, status: str, text: str) -> None:
    """An apology in words is for a scorer to judge; only what the protocol marks is a refusal here."""
    answer = read_generation(reply_with(message, finish))
    assert (answer.status, answer.text) == (status, text)


def test_arguments_that_are_no_json_stay_as_the_model_wrote_them() -> None:
    calls = [{"function": {"name": "f", "arguments": text}} for text in ('{"a": 1', "NaN", '{"a": 1}')]
    answer = read_generation(reply_with({"content": None, "tool_calls": calls}))
    assert [call["arguments"] for call in answer.tool_calls] == ['{"a": 1', "NaN", {"a": 1}]
