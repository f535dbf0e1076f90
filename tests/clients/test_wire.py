"""Wire formats, read: whatever arrives is an answer with a status or a TransportError; and the rules of parameters.

What servers really send stands beside what is documented: endings, cuttings of a stream, tool calls in parts, usage.
"""

from __future__ import annotations

import contextlib
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import RequestRefusedError, TransportError
from llmlab.bundle.bundle import Sampling
from llmlab.clients import anthropic, openai, wire
from llmlab.clients.anthropic import StreamedMessage
from llmlab.clients.base import Generation
from llmlab.clients.openai import StreamedReply
from llmlab.clients.wire import (
    inner_error,
    parsed,
    read_json,
    refused_generation,
    sampling_rules,
    sse_data,
    text_of,
    whole_characters,
    wire_sampling,
    without_thought,
)
from tests.clients.made import MESSAGES, asking, put_together

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these fields, the optional ones only sometimes."""
    return st.fixed_dictionaries(required, optional=optional)


PART = some({}, content=JSON, refusal=JSON, tool_calls=JSON)
CHOICE = some({"message": PART | JSON}, finish_reason=JSON)
USAGE = some({}, prompt_tokens=JSON, prompt_tokens_details=JSON)
CHAT_REPLY = some({"choices": st.lists(CHOICE, max_size=2) | JSON}, usage=USAGE | JSON, model=JSON, error=JSON)
CHAT_EVENT = some({}, choices=st.lists(JSON | some({"delta": JSON | PART}), max_size=2), usage=JSON, error=JSON)
BLOCK = some({"type": st.sampled_from(["text", "tool_use", "thinking"]) | JSON}, text=JSON, name=JSON, input=JSON)
MESSAGE = some(
    {"content": st.lists(BLOCK | JSON, max_size=3) | JSON},
    stop_reason=JSON | st.just("refusal"),
    stop_details=JSON,
    usage=JSON,
    model=JSON,
)
DELTA = some({"type": st.sampled_from(["text_delta", "input_json_delta"]) | JSON}, text=JSON, partial_json=JSON)
KINDS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "ping", "message_stop"]
MESSAGE_EVENT = some(
    {"type": st.sampled_from(KINDS)},
    message=MESSAGE | JSON,
    index=JSON,
    content_block=BLOCK | JSON,
    delta=DELTA | JSON,
    usage=JSON,
)
FORMATS = [
    pytest.param(openai.read_answer, StreamedReply, CHAT_REPLY, CHAT_EVENT, id="chat"),
    pytest.param(anthropic.read_answer, StreamedMessage, MESSAGE, MESSAGE_EVENT, id="messages"),
]


@pytest.mark.parametrize(("read", "stream", "replies", "events"), FORMATS)
@settings(max_examples=150)
@given(data=st.data())
def test_any_json_and_any_events_are_an_answer_or_a_transport_error(
    read: Any, stream: Any, replies: Any, events: Any, data: st.DataObject
) -> None:
    with contextlib.suppress(TransportError):
        answer = Generation(**read(data.draw(replies)))
        assert answer.answered
        assert answer.from_json(answer.to_json()) == answer
    pieces = stream()
    with contextlib.suppress(TransportError):
        for event in data.draw(st.lists(events, max_size=5)):
            pieces.take(event)
        pieces.end()
        assert Generation(**read(pieces.reply())).answered


@settings(max_examples=60)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_json_object_or_a_transport_error(body: bytes) -> None:
    with contextlib.suppress(TransportError):
        assert isinstance(read_json(body), dict)


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, 80), max_size=6))
def test_events_come_out_however_the_stream_was_cut(cuts: list[int]) -> None:
    stream = b': hi\n\nevent: x\r\ndata: {"a": 1}\r\n\r\nid: 4\ndata:{"b": 2}\n\ndata:\n\ndata: [DONE]\n\n'
    found, rest, start = [], b"", 0
    for end in [*sorted(cuts), len(stream)]:
        values, rest = sse_data(stream[start:end], rest)
        found += values
        start = max(start, end)
    assert found == [b'{"a": 1}', b'{"b": 2}', b"[DONE]"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": "lost"}, TransportError),
        ({"object": "error", "message": "lost"}, TransportError),
        ({"type": "error"}, TransportError),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, RequestRefusedError),  # OpenAI
        ({"error": {"code": 402, "message": "Insufficient credits"}}, RequestRefusedError),  # OpenRouter
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, RequestRefusedError),  # LM Studio
    ],
)
def test_an_error_with_status_200_is_told_and_at_once_where_no_attempt_can_mend_it(
    error: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="status 200, but an error inside"):
        inner_error(error)


def test_keys_in_an_inner_error_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_NAME", "no usual shape")
    openai.OpenAIClient("http://a", api_key_env="OWN_NAME")
    with pytest.raises(TransportError) as raised:
        inner_error({"error": "wrong key: no usual shape"})
    assert "no usual shape" not in str(raised.value)


def test_what_is_no_text_or_json_is_handed_on_or_left_out() -> None:
    assert text_of([{"text": "a"}, 7, {"text": [{"text": "b"}]}]) == "ab"
    assert [parsed(text) for text in ('{"a": 1', "NaN", '{"a": 1}')] == ['{"a": 1', "NaN", {"a": 1}]


def sent(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


@pytest.mark.parametrize(
    ("stream", "received"),
    [
        pytest.param(StreamedReply, sent({"choices": [{"delta": {"content": "half an ans"}}]}), id="torn"),
        pytest.param(StreamedReply, b": ok\n\ndata: [DONE]\n\n", id="said nothing"),
        pytest.param(
            StreamedMessage, sent({"type": "message_start", "message": {}}) + b"data: [DONE]\n\n", id="no stop reason"
        ),
    ],
)
def test_a_stream_without_an_answers_end_is_no_answer(stream: Any, received: bytes) -> None:
    """A [DONE], as proxies send it, proves nothing."""
    with pytest.raises(TransportError, match="stopped before its end"):
        put_together(stream(), received).reply()


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
        put_together(StreamedReply(), sent({"choices": [{"delta": {"content": "half"}}]}), error, b"data: [DONE]\n\n")


def test_reasoning_is_neither_the_answer_nor_its_first_token() -> None:
    """vLLM and llama.cpp send it as `reasoning_content`, others as `reasoning`; a role-only chunk comes first."""
    deltas = [{"role": "assistant", "content": None}, {"reasoning_content": "Hm."}, {"reasoning": "Hm."}]
    stream = put_together(StreamedReply(), sent(*[{"choices": [{"delta": delta}]} for delta in deltas]))
    assert not stream.started
    stream.take({"choices": [{"delta": {"content": "Paris"}, "finish_reason": "stop"}]})
    assert stream.started
    answer = Generation(**openai.read_answer(stream.reply()))
    assert (answer.status, answer.text, answer.usage.input_tokens) == ("ok", "Paris", None)
    assert answer.thought == "Hm.Hm."


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
        ({"content": "Half"}, "content_filter: RECITATION", "refused", "Half"),
        ({"content": "Half"}, "CONTENT-FILTER", "refused", "Half"),
        ({"content": "Half"}, "SAFETY", "refused", "Half"),
        ({"content": "I'm sorry, but no."}, "stop", "ok", "I'm sorry, but no."),
    ],
)
def test_status_and_text_of_common_replies(message: dict[str, Any], finish: str | None, status: str, text: str) -> None:
    """An apology in words is for a scorer to judge; only what the protocol marks is a refusal here."""
    answer = chat(finish, **message)
    assert (answer.status, answer.text) == (status, text)


def test_counts_of_a_message_delta_replace_earlier_ones() -> None:
    """They are cumulative: https://platform.claude.com/docs/en/build-with-claude/streaming."""
    stream = StreamedMessage()
    stream.take({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}})
    for output, tokens in ((5, None), (15, 0), (0, None)):
        usage = {"output_tokens": output, "input_tokens": tokens}
        stream.take({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
    usage = anthropic.read_answer(stream.reply())["usage"]
    assert (usage.input_tokens, usage.output_tokens) == (25, 15)


def test_zeros_at_the_end_of_a_stream_replace_no_counts() -> None:
    stream = StreamedReply()
    for prompt, output in ((5, 1), (5, 2), (0, 0), (None, None)):
        usage = {"prompt_tokens": prompt, "completion_tokens": output}
        stream.take({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": usage})
        stream.take({"choices": [], "usage": None})
    usage = openai.read_answer(stream.reply())["usage"]
    assert (usage.input_tokens, usage.output_tokens) == (5, 2)


def test_input_of_a_tool_that_is_no_json_stays_as_the_model_wrote_it() -> None:
    stream = StreamedMessage()
    stream.take({"type": "message_start", "message": {}})
    block = {"type": "tool_use", "name": "f", "input": {}}
    stream.take({"type": "content_block_start", "index": 0, "content_block": block})
    delta = {"type": "input_json_delta", "partial_json": '{"a": 1'}
    stream.take({"type": "content_block_delta", "index": 0, "delta": delta})
    stream.take({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}})
    assert anthropic.read_answer(stream.reply())["tool_calls"] == ({"name": "f", "arguments": '{"a": 1'},)


def test_tools_in_the_shape_of_other_providers_are_translated() -> None:
    own = {"name": "f", "description": "Does.", "parameters": {"type": "object"}}
    wanted = [{"name": "f", "description": "Does.", "input_schema": {"type": "object"}}]
    for tool in (own, {"type": "function", "function": own}):
        assert anthropic.AnthropicClient().body(asking(wire=MESSAGES, tools=(tool,)))["tools"] == wanted


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
A, B = {"index": 0, "id": "x"}, {"index": 0, "id": "y"}
CALLS = {  # how the parts of the two come, or of the first alone
    "ids": [part('{"a": 1}', "f", **A), part('{"b": 2}', "g", **B)],
    "interleaved": [part('{"a"', "f", **A), part('{"b"', "g", **B), part(": 1}", **A), part(": 2}", **B)],
    "index 0, no id": [part('{"a": 1}', "f", index=0), part('{"b": 2}', "g", index=0)],
    "neither": [part('{"a": 1}', "f"), part('{"b": 2}', "g")],
    "a new id for each part": [part('{"a"', "f", **A), part(": 1}", index=0, id="z")],
    "the name again": [part('{"a"', "f", **A), part(": 1}", "f", **A)],
    "index out of order": [part('{"b"', "g", index=1, id="y"), part('{"a": 1}', "f", **A), part(": 2}", index=1)],
}


@pytest.mark.parametrize("parts", CALLS.values(), ids=CALLS)
def test_parts_of_tool_calls_are_joined_by_id_then_by_index(parts: list[dict[str, Any]]) -> None:
    stream = StreamedReply()
    for piece in parts:
        stream.take({"choices": [{"delta": {"tool_calls": [piece]}}]})
    stream.take({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    answer = Generation(**openai.read_answer(stream.reply()))
    calls = [(call["name"], call["arguments"]) for call in answer.tool_calls]
    begun = {piece["function"]["name"] for piece in parts}
    assert calls == [call for call in TWO if call[0] in begun]


def chat(finish: str | None, usage: Any = None, **message: Any) -> Generation:
    reply = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    return Generation(**openai.read_answer(reply))


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


@pytest.mark.parametrize("content", [["Par", "is"], ["Par", {"text": "is"}], {"text": "Paris"}, 7, [{"said": "Paris"}]])
def test_a_content_of_unknown_shape_is_no_empty_answer(content: Any) -> None:
    with pytest.raises(TransportError):
        chat("stop", content=content)
    stream = StreamedReply()
    with pytest.raises(TransportError):
        stream.take({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]})
    with pytest.raises(TransportError):
        anthropic.read_answer({"content": ["Paris"], "stop_reason": "end_turn"})
    assert chat("stop", content=[{"type": "text", "text": ""}]).status == "empty"
    StreamedReply().take({"choices": [{"delta": {"content": [{"type": "reference", "reference_ids": [1]}]}}]})


@pytest.mark.parametrize("said", [{"content": "Paris"}, {"content": "", "tool_calls": [{"id": "a", "function": CALL}]}])
def test_a_stream_of_one_whole_message_is_that_message(said: dict[str, Any]) -> None:
    """Some servers and gateways answer so where they cannot stream; others repeat the whole at a stream's end."""
    whole = {"choices": [{"message": said, "finish_reason": "stop"}]}
    stream, repeating = StreamedReply(), StreamedReply()
    stream.take(whole)
    assert stream.started
    for event in ({"choices": [{"delta": said}]}, whole):
        repeating.take(event)
    expected = Generation(**openai.read_answer(whole))
    assert expected.status == "ok"
    assert Generation(**openai.read_answer(stream.reply())) == expected
    assert Generation(**openai.read_answer(repeating.reply())) == expected


def test_a_stream_of_another_api_is_no_answer() -> None:
    with pytest.raises(TransportError):
        StreamedReply().take({"choices": [{"text": "Paris", "finish_reason": "stop"}]})


def test_an_old_call_of_a_function_is_read_from_a_stream_too() -> None:
    stream = StreamedReply()
    for function in ({"name": "f", "arguments": ""}, {"arguments": '{"id"'}, {"arguments": ": 7}"}):
        stream.take({"choices": [{"delta": {"function_call": function}}]})
    stream.take({"choices": [{"delta": {}, "finish_reason": "function_call"}]})
    assert openai.read_answer(stream.reply())["tool_calls"] == ({"name": "f", "arguments": {"id": 7}},)


def failed(code: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "Flagged by our policy.", "code": code, **more}}


@pytest.mark.parametrize("code", ["invalid_request_error", "invalid_prompt_template", "context_length_exceeded", ""])
def test_other_errors_stay_errors_whatever_they_say(code: str) -> None:
    assert refused_generation(400, json.dumps(failed(code))) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, failed("invalid_prompt")),
        (400, failed("content_policy_violation")),
        (400, failed("DataInspectionFailed")),
        pytest.param(400, failed("", innererror={"code": "ResponsibleAIPolicyViolation"}), id="Azure, inside"),
        pytest.param(400, failed("DataInspectionFailed")["error"], id="Alibaba, bare"),
        pytest.param(400, [failed("content_filter")], id="in a list, as Google's are"),
        pytest.param(403, failed("403", metadata={"flagged_input": "x"}), id="OpenRouter's moderation"),
    ],
)
def test_a_code_that_means_policy_is_a_refusal_in_the_providers_words(status: int, body: Any) -> None:
    answer = refused_generation(status, json.dumps(body))
    assert answer is not None
    assert (answer.status, answer.error.endswith("Flagged by our policy.")) == ("refused", True)


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


def test_what_a_model_does_not_take_and_what_still_passes_is_told_with_its_page() -> None:
    sentences, source = sampling_rules("anthropic_messages", "claude-opus-4-7")
    assert "no temperature: models from Opus 4.7 on take no sampling parameters" in sentences
    assert any(sentence.startswith("no seed: ") for sentence in sentences)
    assert source.startswith("https://platform.claude.com/")
    assert "no temperature but 1: a reasoning model" in sampling_rules("azure", "o3-2025-04-16")[0]
    assert "no temperature above 1: the Messages API takes 0 to 1" in sampling_rules("anthropic_messages", "x")[0]
    assert sampling_rules("vllm", "any") == ((), "")


@pytest.mark.parametrize(
    ("model", "highest"),
    [
        ("openai/gpt-4o-2024-08-06", 2),
        ("google/gemini-2.5-flash", 2),
        ("mistral/mistral-large-2411", 1.5),
        ("anthropic/claude-haiku-4-5-20251001", 1),
        ("x-ai/grok-4-0709", 2),
        ("qwen/qwen-max-2025-01-25", 2),
        ("cloudflare/@cf/meta/llama-3.1-8b-instruct", 5),
    ],
)
def test_a_temperature_out_of_a_providers_range_is_refused_before_any_call(model: str, highest: float) -> None:
    """The range's source stands with each rule in sampling_rules.yaml."""
    asked = [asking(model=model, sampling=Sampling(temperature=value)) for value in (highest, highest + 0.1)]
    assert wire_sampling(asked[0])["temperature"] == highest
    with pytest.raises(RequestRefusedError, match=f"temperature == {highest + 0.1}") as raised:
        wire_sampling(asked[1])
    assert raised.value.attempts == 0


@pytest.mark.parametrize("name", sorted(wire._all_rules()))
def test_rules_are_whole(name: str) -> None:
    """Every family names its page, every refusal its reason; patterns compile, references lead somewhere."""
    rules = wire._all_rules()
    family = rules[name]
    if "same_as" in family:
        assert rules[family["same_as"]]
        return
    assert family["source"].startswith("https://")
    assert "models_as" not in family or rules[family["models_as"]]["models"]
    for level in (family, *family.get("models", ())):
        assert all(rule["why"] for rule in level.get("refuse", {}).values())
        re.compile(level.get("match", ""))


@pytest.mark.parametrize(
    ("ids", "refused"),
    [
        ("opus-4-7 opus-4-8 sonnet-5 opus-5-5 haiku-5-5", True),
        ("opus-4-6 sonnet-4-6 haiku-4-5-20251001 opus-4-1-20250805 opus-4-20250514", False),
    ],
)
def test_models_from_opus_4_7_on_take_no_sampling_parameters(ids: str, refused: bool) -> None:
    """Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide."""
    for name in ids.split():
        for model_id in (f"claude-{name}", f"us.anthropic.claude-{name}"):
            sentences, _ = sampling_rules("anthropic_messages", model_id)
            assert any("take no sampling parameters" in sentence for sentence in sentences) == refused, model_id


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("<think>a</think>b", "b", "a"),
        ("  <THINK>\na\n</THINK>\n\nb", "b", "a"),
        ("[THINK]a[/THINK]b", "b", "a"),
        ("<think>a</think>\n<think>c</think>b", "b", "a\nc"),
        ("<think></think>\n\nb", "b", ""),
        ("<think>a", "", "a"),
        ("a\n</think>\n\nb", "b", "a"),
        ("a</think>\nb", "b", "a"),
        ("b", "b", ""),
        ("Write <think> first and </think> last.", "Write <think> first and </think> last.", ""),
        ("The tag `</think>` ends it.", "The tag `</think>` ends it.", ""),
        ("b <think>a</think>", "b <think>a</think>", ""),
        ("<thinker>b", "<thinker>b", ""),
    ],
)
def test_a_thought_in_tags_is_no_part_of_the_answer_and_talk_of_tags_is(text: str, answer: str, thought: str) -> None:
    assert without_thought(text) == (answer, thought)


@pytest.mark.parametrize("answer", ["", "Paris", "<b>Paris</b>"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_stream_has_begun_to_answer_at_the_first_character_after_the_thought(answer: str, size: int) -> None:
    """However its tags are cut into events."""
    whole = f"<think>{'2 > 1, ' * 40}so</think>\n{answer}"
    reply, began = StreamedReply(), None
    for at in range(0, len(whole), size):
        delta = {"content": whole[at : at + size], "reasoning": "beside" * (at == 0)}
        reply.take({"choices": [{"delta": delta}]})
        began = at if began is None and reply.started else began
    first = whole.rindex("\n") + 1
    assert began == (first // size * size if answer else None)


@pytest.mark.parametrize(
    ("sampling", "refused"),
    [
        ({"thinking": {"budget_tokens": 2000}, "max_tokens": 4000}, ""),
        ({"thinking": {"budget_tokens": 2000}, "max_completion_tokens": 4000, "temperature": 1.0}, ""),
        ({"thinking": {"budget_tokens": 1000}, "max_tokens": 4000}, "budget_tokens == 1,000"),
        ({"thinking": {"budget_tokens": 4000}, "max_tokens": 4000}, "less than max_tokens"),
        ({"thinking": {"budget_tokens": 2000}, "max_tokens": 4000, "temperature": 0.0}, "no temperature"),
        ({"thinking": {"type": "disabled"}, "max_tokens": 400, "temperature": 0.0}, ""),
        ({"reasoning_effort": "low", "max_tokens": 4000}, "budget_tokens"),
    ],
)
def test_a_thinking_budget_is_sent_to_messages_as_they_take_it(sampling: dict[str, Any], refused: str) -> None:
    request = asking(model="anthropic/claude-sonnet-4-5-20250929", sampling=Sampling(**sampling))
    if refused:
        with pytest.raises(RequestRefusedError, match=refused):
            anthropic.MESSAGES.body(request, name="m", stream=False)
        return
    body = anthropic.MESSAGES.body(request, name="m", stream=False)
    assert body["max_tokens"] == (sampling.get("max_tokens") or sampling["max_completion_tokens"])
    budget = sampling["thinking"].get("budget_tokens")
    assert body["thinking"] == ({"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"})
