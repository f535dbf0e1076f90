"""Chat completions, read: whatever arrives is an answer with a status, or a TransportError, and nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import TransportError
from llmlab.clients.base import Generation
from llmlab.clients.openai import StreamedReply, read_answer
from llmlab.clients.wire import read_json, sse_data

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


def streamed(*parts: bytes) -> StreamedReply:
    """The stream put together from bytes as they arrived."""
    stream, rest = StreamedReply(), b""
    for part in parts:
        values, rest = sse_data(part, rest)
        for value in values:
            if value == b"[DONE]":
                stream.end()
            else:
                stream.take(read_json(value))
    return stream


def data(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


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


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=30), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_stream_reads_the_same_however_it_is_cut(text: str, cuts: list[int]) -> None:
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": letter}}]} for letter in text]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    whole = data(*events).replace(b"\n", b"\r\n") + b"data: [DONE]\n\n"
    ends = [*sorted(cuts), len(whole)]
    parts = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read_generation(streamed(*parts).reply()).text == text


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "choices": st.lists(JSON | st.fixed_dictionaries({"delta": JSON | MESSAGE}), max_size=2),
                "usage": JSON,
                "error": JSON,
            },
        ),
        max_size=4,
    )
)
def test_any_events_are_an_answer_or_a_transport_error(events: list[dict[str, Any]]) -> None:
    with contextlib.suppress(TransportError):
        assert read_generation(streamed(data(*events), b"data: [DONE]\n\n").reply()).answered


def test_a_stream_without_its_end_is_no_answer() -> None:
    with pytest.raises(TransportError, match="stopped before its end"):
        streamed(data({"choices": [{"delta": {"content": "half an ans"}}]})).reply()


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error": {"message": "lost"}}\n\n',
        b'data: {"object": "error", "message": "lost", "type": "BadRequestError", "code": 400}\n\n',
        b'error: {"error": {"code": 500, "message": "lost"}}\n\n',
        b'event: error\ndata: {"error": "lost"}\n\n',
    ],
    ids=["OpenAI", "vLLM", "llama.cpp", "gateways"],
)
def test_an_error_inside_a_stream_is_no_answer(error: bytes) -> None:
    """Several servers send [DONE] after it as after any answer."""
    with pytest.raises(TransportError, match="lost"):
        streamed(data({"choices": [{"delta": {"content": "half"}}]}), error, b"data: [DONE]\n\n")


def test_the_end_of_a_stream_that_said_nothing_is_no_answer() -> None:
    with pytest.raises(TransportError, match="stopped before its end"):
        streamed(b": ok\n\ndata: [DONE]\n\n").reply()


def test_tool_calls_streamed_in_pieces_are_put_together() -> None:
    pieces = ({"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ": 1}"})
    events = [{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": piece}]}}]} for piece in pieces]
    reply = streamed(data(*events), b"data: [DONE]\n\n").reply()
    assert read_generation(reply).tool_calls == ({"name": "f", "arguments": {"a": 1}},)


def test_reasoning_is_neither_the_answer_nor_its_first_token() -> None:
    """vLLM and llama.cpp send it as `reasoning_content`, others as `reasoning`; a role-only chunk comes first."""
    deltas = [{"role": "assistant", "content": None}, {"reasoning_content": "Hm."}, {"reasoning": "Hm."}]
    stream = streamed(data(*[{"choices": [{"delta": delta}]} for delta in deltas]))
    assert not stream.started
    stream.take({"choices": [{"delta": {"content": "Paris"}, "finish_reason": "stop"}]})
    assert stream.started
    answer = read_generation(stream.reply())
    assert (answer.status, answer.text, answer.usage.input_tokens) == ("ok", "Paris", None)


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
