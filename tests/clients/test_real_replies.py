"""What servers really send, beside what is documented: endings, cuttings of a stream, tool calls in parts, usage."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import RequestRefusedError, TransportError
from llmlab.clients import anthropic, openai
from llmlab.clients.anthropic import StreamedMessage
from llmlab.clients.base import Generation
from llmlab.clients.openai import StreamedReply
from llmlab.clients.wire import inner_error, refused_generation, whole_characters
from tests.clients.made import WIRES as CLIENTS
from tests.clients.made import Wire, ask, asking, connected, put_together
from tests.loopback import Loopback

USED = {"prompt_tokens": 3, "completion_tokens": 5}
CALL = {"name": "f", "arguments": '{"id": 7}'}
CHAT_EVENTS: list[Any] = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Grüße \ud83d"}}]},
    {"choices": [{"delta": {"content": "\ude00"}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"id'}}]}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '": 7}'}}]}}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USED},
]
MESSAGE_EVENTS: list[Any] = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 3}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße \ud83d"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ude00"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"id": 7}'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
STREAMS = [
    pytest.param(CHAT_EVENTS, StreamedReply, openai.read_answer, id="chat"),
    pytest.param(MESSAGE_EVENTS, StreamedMessage, anthropic.read_answer, id="messages"),
]


@pytest.mark.parametrize(("events", "stream", "read"), STREAMS)
@settings(max_examples=120)
@given(data=st.data())
def test_any_legal_cutting_of_a_stream_is_the_same_answer(
    events: list[Any], stream: Any, read: Any, data: st.DataObject
) -> None:
    """Any line ends, comments, a BOM, data on two lines, no empty line at the end, cut at any byte.

    Source: HTML standard, 9.2.6; comments as of DeepSeek (": keep-alive") and OpenRouter (": OPENROUTER PROCESSING").
    """
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    lines = [b"\xef\xbb\xbf: begins"] if data.draw(st.booleans()) else []
    for event in events:
        lines += data.draw(st.sampled_from([[], [b": keep-alive"], [b": OPENROUTER PROCESSING", b""]]))
        parts = data.draw(st.sampled_from([[json.dumps(event)], json.dumps(event, indent=1).split("\n")]))
        lines += [b"data: " + part.encode() for part in parts] + [b""]
    body = end.join([*lines, *data.draw(st.sampled_from([[], [b"data: [DONE]", b""], [b"data: [DONE]", b"", b""]]))])
    body = body + end if not lines[-1] else body
    if stream is StreamedMessage:
        body = body.replace(b"data: [DONE]", b"")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    parts = [body[start:stop] for start, stop in pairwise([0, *cuts, len(body)])]
    answer = Generation(**whole_characters(read(put_together(stream(), *parts).reply())))
    assert (answer.status, answer.text) == ("ok", "Grüße 😀")
    assert answer.tool_calls == ({"name": "f", "arguments": {"id": 7}},)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)


def part(arguments: str, name: str | None = None, **place: Any) -> dict[str, Any]:
    return {**place, "function": {"name": name, "arguments": arguments}}


TWO = [("f", {"a": 1}), ("g", {"b": 2})]
CALLS = [
    pytest.param([part('{"a": 1}', "f", index=0, id="x"), part('{"b": 2}', "g", index=0, id="y")], TWO, id="ids"),
    pytest.param(
        [
            part('{"a"', "f", index=0, id="x"),
            part('{"b"', "g", index=0, id="y"),
            part(": 1}", index=0, id="x"),
            part(": 2}", index=0, id="y"),
        ],
        TWO,
        id="interleaved",
    ),
    pytest.param([part('{"a": 1}', "f", index=0), part('{"b": 2}', "g", index=0)], TWO, id="index 0, no id"),
    pytest.param([part('{"a": 1}', "f"), part('{"b": 2}', "g")], TWO, id="neither"),
    pytest.param(
        [part('{"a"', "f", index=0, id="x"), part(": 1}", index=0, id="z")], TWO[:1], id="a new id for each part"
    ),
    pytest.param(
        [part('{"a"', "f", index=0, id="x"), part(": 1}", "f", index=0, id="x")], TWO[:1], id="the name again"
    ),
    pytest.param(
        [part('{"b"', "g", index=1, id="y"), part('{"a": 1}', "f", index=0, id="x"), part(": 2}", index=1)],
        TWO,
        id="index out of order",
    ),
]


@pytest.mark.parametrize(("parts", "calls"), CALLS)
def test_parts_of_tool_calls_are_joined_by_id_then_by_index(
    parts: list[dict[str, Any]], calls: list[tuple[str, Any]]
) -> None:
    stream = StreamedReply()
    for one in parts:
        stream.take({"choices": [{"delta": {"tool_calls": [one]}}]})
    stream.take({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    answer = Generation(**openai.read_answer(stream.reply()))
    assert [(call["name"], call["arguments"]) for call in answer.tool_calls] == calls


def chat(finish: str, usage: Any = None, **message: Any) -> Generation:
    return Generation(
        **openai.read_answer({"choices": [{"message": message, "finish_reason": finish}], "usage": usage})
    )


@pytest.mark.parametrize("finish", ["content_filter", "content_filter: RECITATION", "CONTENT-FILTER", "SAFETY"])
def test_an_ending_is_read_by_its_family(finish: str) -> None:
    assert chat(finish, content="Half").status == "refused"


@pytest.mark.parametrize("finish", ["error", "abort", "network_error", "insufficient_system_resource"])
def test_an_answer_that_its_provider_broke_off_is_no_answer(finish: str) -> None:
    """Source: https://api-docs.deepseek.com/api/create-chat-completion for the last of them."""
    with pytest.raises(TransportError):
        chat(finish, content="Half an")


@pytest.mark.parametrize("content", [None, "", []])
@pytest.mark.parametrize("calls", [{"function_call": CALL}, {"tool_calls": [{"function": CALL}]}])
def test_calls_of_tools_old_and_new_are_answers_without_any_text(content: Any, calls: dict[str, Any]) -> None:
    answer = chat("function_call", content=content, **calls)
    assert (answer.status, answer.tool_calls) == ("ok", ({"name": "f", "arguments": {"id": 7}},))


def test_an_old_call_of_a_function_is_read_from_a_stream_too() -> None:
    stream = StreamedReply()
    for function in ({"name": "f", "arguments": ""}, {"arguments": '{"id"'}, {"arguments": ": 7}"}):
        stream.take({"choices": [{"delta": {"function_call": function}}]})
    stream.take({"choices": [{"delta": {}, "finish_reason": "function_call"}]})
    assert openai.read_answer(stream.reply())["tool_calls"] == ({"name": "f", "arguments": {"id": 7}},)


def failed(code: str, **more: Any) -> str:
    return json.dumps({"error": {"message": "Flagged by our policy.", "code": code, **more}})


@pytest.mark.parametrize(
    "code", ["invalid_prompt", "content_policy_violation", "content_filter", "DataInspectionFailed"]
)
def test_an_error_whose_code_means_policy_is_a_refusal_in_the_providers_words(code: str) -> None:
    answer = refused_generation(400, failed(code))
    assert answer is not None
    assert (answer.status, "Flagged by our policy." in (answer.error or "")) == ("refused", True)


@pytest.mark.parametrize("code", ["invalid_request_error", "invalid_prompt_template", "context_length_exceeded", ""])
def test_other_errors_stay_errors_whatever_they_say(code: str) -> None:
    assert refused_generation(400, failed(code)) is None


AZURES = failed("", innererror={"code": "ResponsibleAIPolicyViolation"})
FLAGGED = {
    "message": "Flagged by our policy.",
    "code": 403,
    "metadata": {"reasons": ["violence"], "flagged_input": "x"},
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, json.loads(AZURES), id="Azure, inside"),
        pytest.param(400, {"code": "DataInspectionFailed", "message": "Flagged by our policy."}, id="Alibaba, bare"),
        pytest.param(400, [json.loads(failed("content_filter"))], id="in a list, as Google's are"),
        pytest.param(403, {"error": FLAGGED}, id="OpenRouter's moderation"),
    ],
)
def test_a_code_that_means_policy_is_found_in_every_shape_of_errors(status: int, body: Any) -> None:
    answer = refused_generation(status, json.dumps(body))
    assert answer is not None
    assert answer.error.endswith("Flagged by our policy.")


@pytest.mark.parametrize("wire", CLIENTS, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_code_inside_status_200_is_a_refusal_and_asked_for_once(
    loopback: Loopback, wire: Wire, stream: bool
) -> None:
    """Alibaba says so once its stream has begun: https://www.alibabacloud.com/help/en/model-studio/error-code"""
    loopback.set(script=["policy200"])
    answer = ask(connected(loopback, wire=wire, stream=stream))
    assert (answer.status, answer.text, answer.attempts) == ("refused", "", 1)
    assert "inappropriate" in answer.error


USAGES = [
    pytest.param(5, {"reasoning_tokens": 200}, 208, 205, id="beside (xAI)"),
    pytest.param(205, {"reasoning_tokens": 200}, 208, 205, id="inside (OpenAI)"),
    pytest.param(205, {"reasoning_tokens": 200}, None, 205, id="no total"),
    pytest.param(5, {"reasoning_tokens": 200}, None, 205, id="no total, and more than all"),
    pytest.param(5, None, 208, 205, id="beside, and not said how many (Google)"),
    pytest.param(5, {"reasoning_tokens": 0}, 208, 5, id="a total that nothing explains"),
    pytest.param(1e300, None, None, None, id="more than anybody can count"),
    pytest.param("5", None, "8", 5, id="texts"),
    pytest.param(5.0, None, 8.0, 5, id="decimal points"),
    pytest.param("five", None, 8, None, id="words"),
]


@pytest.mark.parametrize(("completion", "details", "total", "output"), USAGES)
def test_thoughts_beside_the_text_are_counted_once(completion: Any, details: Any, total: Any, output: Any) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": total}
    assert chat("stop", {**usage, "completion_tokens_details": details}, content="a").usage.output_tokens == output


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": "insufficient_quota", "message": "pay"}},
        {"error": {"code": 402, "message": "Insufficient credits"}},
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
    ],
    ids=["OpenAI", "OpenRouter", "LM Studio"],
)
def test_what_another_attempt_cannot_mend_is_named_at_once_though_the_status_is_200(error: dict[str, Any]) -> None:
    with pytest.raises(RequestRefusedError):
        inner_error(error)


@pytest.mark.parametrize("wire", CLIENTS, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_a_web_page_in_place_of_an_answer_is_asked_for_once(loopback: Loopback, wire: Wire, stream: bool) -> None:
    loopback.set(faults={"html": 1.0})
    with pytest.raises(RequestRefusedError, match="base_url"):
        ask(connected(loopback, wire=wire, stream=stream))
    assert loopback.stats()["requests"] == 1


@pytest.mark.parametrize("wire", CLIENTS, ids=str)
def test_half_a_character_in_a_question_is_refused_before_it_is_sent(loopback: Loopback, wire: Wire) -> None:
    loopback.set()
    client = connected(loopback, wire=wire)
    with pytest.raises(RequestRefusedError) as raised:
        ask(client, asking("a\udc80", wire=wire))
    assert (raised.value.attempts, loopback.stats()["requests"]) == (0, 0)
