"""Messages, read: whatever arrives is an answer with a status, or a TransportError, and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import TransportError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.anthropic import AnthropicClient, StreamedMessage, read_answer
from llmlab.clients.base import Generation, Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
KIND = st.sampled_from(["text", "tool_use", "thinking"])
BLOCK = st.fixed_dictionaries({"type": KIND | JSON}, optional={"text": JSON, "name": JSON, "input": JSON})
REPLY = st.fixed_dictionaries(
    {"content": st.lists(BLOCK | JSON, max_size=3) | JSON},
    optional={"stop_reason": JSON | st.just("refusal"), "stop_details": JSON, "usage": JSON, "model": JSON},
)
DELTA = st.fixed_dictionaries(
    {"type": st.sampled_from(["text_delta", "input_json_delta"]) | JSON}, optional={"text": JSON, "partial_json": JSON}
)
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["message_start", "content_block_start", "content_block_delta", "message_delta", "ping"])},
    optional={
        "message": REPLY | JSON,
        "index": JSON,
        "content_block": BLOCK | JSON,
        "delta": DELTA | JSON,
        "usage": JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(reply=REPLY)
def test_any_json_is_an_answer_or_a_transport_error(reply: dict[str, Any]) -> None:
    try:
        answer = Generation(**read_answer(reply))
    except TransportError:
        return
    assert answer.answered
    assert answer.from_json(answer.to_json()) == answer


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENT, max_size=5))
def test_any_events_are_an_answer_or_a_transport_error(events: list[dict[str, Any]]) -> None:
    stream = StreamedMessage()
    with contextlib.suppress(TransportError):
        for event in [*events, {"type": "message_stop"}]:
            stream.take(event)
        assert Generation(**read_answer(stream.reply())).answered


def test_a_stream_that_ends_before_its_stop_reason_is_no_answer() -> None:
    stream = StreamedMessage()
    stream.take({"type": "message_start", "message": {"content": []}})
    stream.end()  # a proxy's [DONE] proves nothing
    with pytest.raises(TransportError, match="stopped before its end"):
        stream.reply()


def test_counts_of_a_message_delta_replace_earlier_ones() -> None:
    """They are cumulative: https://platform.claude.com/docs/en/build-with-claude/streaming."""
    stream = StreamedMessage()
    stream.take({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}})
    for output in (5, 15):
        usage = {"output_tokens": output, "input_tokens": None}
        stream.take({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
    usage = read_answer(stream.reply())["usage"]
    assert (usage.input_tokens, usage.output_tokens) == (25, 15)


def test_input_of_a_tool_that_is_no_json_stays_as_the_model_wrote_it() -> None:
    stream = StreamedMessage()
    stream.take({"type": "message_start", "message": {}})
    block = {"type": "tool_use", "name": "f", "input": {}}
    stream.take({"type": "content_block_start", "index": 0, "content_block": block})
    delta = {"type": "input_json_delta", "partial_json": '{"a": 1'}
    stream.take({"type": "content_block_delta", "index": 0, "delta": delta})
    stream.take({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}})
    assert read_answer(stream.reply())["tool_calls"] == ({"name": "f", "arguments": '{"a": 1'},)


def test_tools_in_the_shape_of_other_providers_are_translated() -> None:
    own = {"name": "f", "description": "Does.", "parameters": {"type": "object"}}
    wanted = [{"name": "f", "description": "Does.", "input_schema": {"type": "object"}}]
    for tool in (own, {"type": "function", "function": own}):
        model, sampling = ModelRef.parse("anthropic/claude-opus-4-7"), Sampling(max_tokens=9)
        request = Request(model=model, messages=(), sampling=sampling, tools=(tool,))
        assert AnthropicClient().body(request)["tools"] == wanted
