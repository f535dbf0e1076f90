"""Traces of other tools become the same requests: files that the tools wrote, else the examples of their documentation.

`exports/` holds what opentelemetry-sdk 1.45 (its own JSON, and OTLP by its encoder) and litellm 1.110 wrote.
"""

import gzip
import json
import re
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import FileRuleError
from llmlab.clients import anthropic, openai
from llmlab.production.formats import CUT_SHORT, REFUSED
from llmlab.production.reading import folded
from llmlab.tracking.store import open_store

EXPORTS = Path(__file__).with_name("exports")
QUESTION, ANSWER, MODEL = "How do I drop NaN rows?", "Use dropna().", "gpt-4o-2024-08-06"
MESSAGES = [{"role": "user", "content": QUESTION}]
BEGAN, ENDED = "2026-11-20T10:00:00", "2026-11-20T10:00:01.2"
PHOENIX = {
    "openinference.span.kind": "LLM",
    "llm.model_name": MODEL,
    "input.value": QUESTION,
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": QUESTION,
    "llm.output_messages.0.message.content": ANSWER,
    "llm.token_count.prompt": 510,
    "llm.token_count.completion": 42,
    "llm.cost.total": 0.0017,
    "user.id": "u7",
    "session.id": "s1",
}
SPAN = {"parent_id": None, "name": "chat", "start_time": BEGAN, "end_time": ENDED, "status_code": "OK"}
LANGFUSE = {
    "id": "o1",
    "trace_id": "t1",
    "type": "GENERATION",
    "parent_observation_id": "",
    "start_time": "2026-11-20 10:00:00.000000",
    "end_time": "2026-11-20 10:00:01.200000",
    "input": json.dumps(MESSAGES),
    "output": ANSWER,
    "provided_model_name": MODEL,
    "usage_details": {"input": 510, "output": 42, "total": 552},
    "total_cost": 0.0017,
    "user_id": "u7",
    "session_id": "s1",
    "level": "DEFAULT",
}
LANGFUSE_API = {
    **{re.sub("_(.)", lambda after: after[1].upper(), name): value for name, value in LANGFUSE.items()},
    "startTime": f"{BEGAN}.000Z",
    "endTime": f"{ENDED}00Z",
    "input": MESSAGES,
    "output": {"role": "assistant", "content": ANSWER},
    "providedModelName": None,
    "model": MODEL,
    "totalCost": None,
    "costDetails": {"total": 0.0017},
}
LANGSMITH = {
    "id": "0191a",
    "trace_id": "0191a",
    "parent_run_id": None,
    "run_type": "llm",
    "start_time": BEGAN,
    "end_time": ENDED,
    "inputs": {"messages": MESSAGES},
    "outputs": {"generations": [[{"text": ANSWER}]]},
    "status": "success",
    "prompt_tokens": 510,
    "completion_tokens": 42,
    "total_cost": "0.0017",
    "extra": {"metadata": {"ls_model_name": MODEL, "thread_id": "s1", "user_id": "u7"}},
    "feedback_stats": {"thumbs": {"n": 1, "avg": 0.0}},
}
HELICONE = {
    "request_id": "r1",
    "request_created_at": f"{BEGAN}Z",
    "response_status": 200,
    "request_model": MODEL,
    "response_model": MODEL,
    "request_body": {"messages": MESSAGES},
    "response_body": {"choices": [{"message": {"content": ANSWER}}]},
    "delay_ms": 1200,
    "time_to_first_token": 410,
    "prompt_tokens": 510,
    "completion_tokens": 42,
    "costUSD": 0.0017,
    "request_user_id": "u7",
    "request_properties": {"Helicone-Session-Id": "s1"},
    "feedback_rating": False,
}
SCORE = {"id": "s", "trace_id": "t1", "name": "thumbs", "value": 0, "data_type": "BOOLEAN", "source": "API"}
WORDS = {"feedback_stats": {"tone": {"n": 1, "avg": None, "values": {"polite": 1}}, "x": {"n": 0, "avg": None}}}
FEEDBACK = {"run_id": "0191a", "key": "edited", "score": 1}
COLUMNS = {**{f"attributes.{name}": value for name, value in PHOENIX.items()}, **SPAN}


@pytest.mark.parametrize(
    ("tool", "rows", "signals"),
    [
        ("OpenTelemetry", [{**SPAN, "context": {"trace_id": "5b8e", "span_id": "e1"}, "attributes": PHOENIX}], {}),
        ("Phoenix", [{**COLUMNS, "context.trace_id": "5b8e", "context.span_id": "e1"}], {}),
        ("Langfuse", [LANGFUSE], {}),
        ("Langfuse", [LANGFUSE_API], {}),
        ("LangSmith", [LANGSMITH], {"thumbs": 0.0}),
        ("Helicone", [HELICONE], {"thumbs": 0.0}),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_one_request_reads_alike_from_every_tool(tmp_path, tool, rows, signals, as_list):
    """From lines, and from the one JSON list or page of an API."""
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"data": rows}, indent=1) if as_list else "\n".join(map(json.dumps, rows)))
    read = ll.Traces.load(path)
    (trace,) = read
    answer = trace.answer
    assert (read.source, read.problems.rows) == (f"read as {tool} (1 file)", ())
    assert (trace.inputs, answer.text, answer.served_model) == ({"question": QUESTION}, ANSWER, MODEL)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, float(answer.cost_usd)) == (510, 42, 0.0017)
    assert (answer.latency_s, answer.status, trace.unit_id, trace.session_id) == (1.2, "ok", "u7", "s1")
    assert (f"{trace.time:%Y-%m-%dT%H:%M:%S}", trace.messages, trace.signals) == (BEGAN, tuple(MESSAGES), signals)


@pytest.mark.parametrize("name", ["otlp", "opentelemetry_sdk"])
def test_spans_of_opentelemetry_in_all_three_conventions_are_requests(name):
    """Messages in attributes, in events, and in the oldest attributes; a failed call is an attempt."""
    new, events, oldest = ll.Traces.load(EXPORTS / f"{name}.jsonl")
    for trace in (new, events, oldest):
        assert (trace.inputs, trace.answer.text) == ({"question": QUESTION}, ANSWER)
        assert (trace.answer.usage.input_tokens, trace.answer.usage.output_tokens) == (510, 42)
        assert (trace.service, trace.answer.served_model) == ("help-desk", MODEL)
    assert (new.answer.attempts, new.answer.status, new.answer.latency_s) == (2, "ok", 3.0)
    assert (new.answer.first_token_s, new.answer.usage.cached_input_tokens) == (1.25, 128)
    assert (new.answer.retrieved, new.scores) == (("dropna", "fillna"), (0.9, 0.4))
    assert (new.unit_id, new.session_id, new.signals) == ("u7", "s1", {"grounded": 1.0})
    assert [(step.kind, step.error) for step in new.steps] == [("retriever", ""), ("llm", "rate limit"), ("llm", "")]


def test_what_litellm_logs_is_read():
    """A call that went well, and one that was refused by a rate limit."""
    good, bad = ll.Traces.load(EXPORTS / "litellm.jsonl")
    assert (good.inputs, good.answer.text, good.unit_id) == ({"question": QUESTION}, ANSWER, "u7")
    assert (good.answer.served_model, good.answer.status) == (MODEL, "ok")
    assert float(good.answer.cost_usd) > 0
    assert good.answer.usage.output_tokens > 0
    assert (bad.answer.status, bad.unit_id) == ("error", "u8")
    assert ll.Traces.load(EXPORTS / "litellm.jsonl").frame["error_code"].tolist() == ["", "429"]


@pytest.mark.parametrize(
    "files", [{"a": [LANGFUSE], "b": [SCORE], "c": [LANGSMITH, FEEDBACK]}, {"a": [LANGFUSE, SCORE]}]
)
def test_scores_join_the_traces_that_they_are_about(tmp_path, files):
    """Langfuse's scores and LangSmith's feedback, in files of their own or among the observations."""
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = ll.Traces.load(tmp_path)
    signals = [{"thumbs": 0.0}, {"thumbs": 0.0, "edited": 1.0}][: len(read)]
    assert ([trace.signals for trace in read], read.problems.rows) == (signals, ())
    assert ("Langfuse scores (1 file)" in read.source) == ("b" in files)


@pytest.mark.parametrize(
    ("request_of", "first", "second"),
    [
        (LANGFUSE, {**SCORE, "value": 1, "timestamp": "2026-11-21 10:00:00"}, {**SCORE, "timestamp": f"{BEGAN}Z"}),
        (
            {**LANGSMITH, "feedback_stats": None},
            {"run_id": "0191a", "key": "thumbs", "score": 1, "modified_at": "2026-11-22T10:00:00"},
            {"run_id": "0191a", "key": "thumbs", "score": 0, "created_at": "2026-11-21T10:00:00"},
        ),
    ],
)
def test_the_latest_score_of_a_name_counts(tmp_path, request_of, first, second):
    """By its own time, and not by its place in a file."""
    for scores in ((first, second), (second, first)):
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, (request_of, *scores))))
        (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
        assert trace.signals == {"thumbs": 1.0}


@pytest.mark.parametrize(
    ("score", "value"),
    [
        ({"data_type": "NUMERIC", "value": 0.7}, 0.7),
        ({"data_type": "BOOLEAN", "value": 1, "string_value": "True"}, 1.0),
        ({"data_type": "BOOLEAN", "value": None, "string_value": "False"}, 0.0),
        ({"data_type": "CATEGORICAL", "value": 0, "string_value": "polite"}, None),
        ({"data_type": "CATEGORICAL", "value": None, "string_value": "1"}, None),
        ({"data_type": "TEXT", "value": 0, "string_value": "well said"}, None),
    ],
)
def test_a_category_is_no_number(tmp_path, score, value):
    """Of Langfuse's, whose `value` is 0, or the place of the category among others; left out, and counted."""
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, (LANGFUSE, {**SCORE, **score}))))
    (trace,) = (read := ll.Traces.load(tmp_path / "a.jsonl"))
    assert trace.signals == ({} if value is None else {"thumbs": value})
    assert read.wrong == (["score that is no number, left out: 1"] if value is None else [])


def test_feedback_of_langsmith_in_words_is_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({**LANGSMITH, **WORDS}))
    ((trace,), wrong) = (read := ll.Traces.load(tmp_path / "a.jsonl")), read.wrong
    assert (trace.signals, wrong) == ({}, ["signals.tone that is none, taken as missing: 1"])


def test_calls_that_contain_calls_are_not_added_up_twice():
    """A framework's span and the client's below it are one call."""
    at = ll.Traces.load(EXPORTS / "otlp.jsonl").frame["time"].iloc[0].to_pydatetime()
    spent = {"kind": "llm", "trace_id": "t", "time": at, "prompt_tokens": 10, "cost_usd": 0.1}
    spans = [
        {"trace_id": "t", "span_id": "root", "time": at, "kind": "chain"},
        {**spent, "span_id": "outer", "parent_id": "root"},
        {**spent, "span_id": "inner", "parent_id": "outer"},
        {**spent, "span_id": "inner", "parent_id": "outer"},  # exported twice
        {**spent, "span_id": "second", "parent_id": "root"},
        {"span_id": "nobody's", "time": at},
    ]
    (request,), wrong = folded(spans)
    assert (request["prompt_tokens"], request["cost_usd"], +wrong) == (20, 0.2, {"span without a trace or a time": 1})
    circle = [{**spent, "span_id": "a", "parent_id": "b"}, {**spent, "span_id": "b", "parent_id": "a"}]
    assert len(folded(circle)[0]) == 1


def test_an_amount_is_of_the_innermost_call_that_has_it():
    """Tokens in the middle, costs at the client; a cost that is known of one call alone is none of the request."""
    at = ll.Traces.load(EXPORTS / "otlp.jsonl").frame["time"].iloc[0].to_pydatetime()
    parts = {"root": "", "agent": "root", "outer": "agent", "inner": "outer", "second": "agent"}
    kinds = {"root": "chain", "agent": "agent"}
    spans = {
        name: {"trace_id": "t", "span_id": name, "parent_id": above, "time": at, "kind": kinds.get(name, "llm")}
        for name, above in parts.items()
    }
    spans["outer"] |= {"prompt_tokens": 10, "cost_usd": 0.1}
    spans["agent"] |= {"prompt_tokens": 99, "completion_tokens": 7}
    ((request,), _) = folded(list(spans.values()))
    assert (request["prompt_tokens"], request["completion_tokens"], "cost_usd" in request) == (10, 7, False)
    spans["second"] |= {"cost_usd": 0.2, "prompt_tokens": 5}
    ((request,), _) = folded(list(spans.values()))
    assert (request["prompt_tokens"], request["cost_usd"]) == (15, pytest.approx(0.3))


def test_a_trace_without_a_model_is_no_request(tmp_path):
    """A collector holds health checks too; nobody may take them for requests that went well."""
    chat = otlp(attribute("gen_ai.operation.name", "chat"))
    database = otlp(attribute("db.system", "sqlite"), span_id="e3") | {"status": {"code": 2}}
    (tmp_path / "a.jsonl").write_text(batch(chat, otlp(attribute("http.route", "/healthz"), span_id="e2"), database))
    read = ll.Traces.load(tmp_path / "a.jsonl")
    left_out = "trace without anything of a model, left out: 1"
    assert (len(read), read.wrong) == (1, [left_out, f"failed {left_out}"])


def test_a_second_root_of_a_trace_is_counted(tmp_path):
    """Two turns in one trace, which no span says are two requests."""
    turns = [otlp(attribute("output.value", ANSWER), span_id=f"e{i}") | {"traceId": "t"} for i in range(2)]
    (tmp_path / "a.jsonl").write_text(batch(*turns))
    read = ll.Traces.load(tmp_path / "a.jsonl")
    assert len(read) == 1
    assert read.wrong == ["further root of a trace (its parent may be missing), read as part of one request: 1"]


def otlp(*attributes, span_id="e1"):
    """A span of OTLP with these attributes, as its JSON has them."""
    times = {"startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001200000000"}
    return {"traceId": f"t-{span_id}", "spanId": span_id, "name": "chat", **times, "attributes": list(attributes)}


def attribute(name, value):
    return {"key": name, "value": {"stringValue": value if isinstance(value, str) else json.dumps(value)}}


def batch(*spans):
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]})


@pytest.mark.parametrize("value", [None, "", "1.0"])
def test_an_attribute_that_is_none_costs_itself_alone(tmp_path, value):
    """The other spans of its line are there, and it is counted."""
    known = (attribute("user.id", "u7"), attribute("gen_ai.operation.name", "chat"))
    spans = [otlp(*known, span_id=f"e{i}") for i in range(50)]
    odd = otlp({"key": "x", "value": {"intValue": value}}, *known, span_id="odd")
    (tmp_path / "a.jsonl").write_text(batch(*spans, odd, 7))
    read = ll.Traces.load(tmp_path / "a.jsonl")
    assert [trace.unit_id for trace in read] == ["u7"] * 51
    assert [row["count"] for row in read.problems.rows] == [1, 1]


@pytest.mark.parametrize(("failed", "attempts"), [([True], 1), ([True, False], 2), ([True, True], 2), ([False], 1)])
def test_a_failed_call_was_tried_again_where_another_follows(tmp_path, failed, attempts):
    """One call that failed, and its request with it, is no retry."""
    calls = [otlp(KIND, span_id=f"c{i}") | {"status": {"code": 2 * one}} for i, one in enumerate(failed)]
    root = otlp() | {"status": {"code": 2 * failed[-1]}}
    below = {"traceId": root["traceId"], "parentSpanId": "e1"}
    (tmp_path / "a.jsonl").write_text(batch(root, *(call | below for call in calls)))
    (trace,) = ll.Traces.load(tmp_path)
    assert trace.answer.attempts == attempts


def test_a_request_of_opentelemetry_says_its_rollout(tmp_path):
    named = {"llmlab.rollout": "r1", "llmlab.arm": "candidate", "llmlab.bundle": "b" * 64}
    (tmp_path / "a.jsonl").write_text(batch(otlp(*(attribute(*one) for one in named.items()))))
    span = {"span_id": "e1", "name": "chat", "start_time_unix_nano": 1790000000000000000, "attributes": {}}
    mlflow = {"info": {"trace_id": "t2", "tags": named}, "data": {"spans": [span]}}
    (tmp_path / "b.jsonl").write_text(json.dumps(mlflow))
    (tmp_path / "c.jsonl").write_text(json.dumps({**LANGFUSE, "metadata": named}))
    (tmp_path / "d.jsonl").write_text(json.dumps({**LANGFUSE, "trace_id": "t3", "metadata": {"attributes": named}}))
    (tmp_path / "e.jsonl").write_text(json.dumps({**LANGSMITH, "extra": {"metadata": named}}))
    for trace in ll.Traces.load(tmp_path):
        assert (trace.rollout, trace.arm, trace.bundle) == tuple(named.values())


CALLS = [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
CALLING = {"role": "assistant", "content": None, "tool_calls": CALLS}
PART = {"type": "tool_call", "id": "c1", "name": "look_up", "arguments": {}}
OTEL_MESSAGES = [{"role": "assistant", "parts": [PART], "finish_reason": "tool_call"}]
KIND = attribute("gen_ai.operation.name", "chat")


@pytest.mark.parametrize(
    ("row", "calls"),
    [
        (json.loads(batch(otlp(KIND, attribute("gen_ai.output.messages", OTEL_MESSAGES)))), [PART]),
        (json.loads(batch(otlp(KIND, attribute("mlflow.spanOutputs", {"choices": [{"message": CALLING}]})))), CALLS),
        ({**LANGFUSE, "output": json.dumps(CALLING)}, CALLS),
        ({**LANGSMITH, "outputs": {"generations": [[{"text": "", "message": {"kwargs": CALLING}}]]}}, CALLS),
        ({**HELICONE, "response_body": {"choices": [{"message": CALLING}]}}, CALLS),
        (
            {
                "call_type": "completion", "id": "1", "startTime": 1790000000.0, "endTime": 1790000001.0,
                "status": "success", "response": {"id": "x", "choices": [{"message": CALLING}]},
            },
            CALLS,
        ),
    ],
)  # fmt: skip
def test_an_answer_that_only_calls_a_tool_is_not_empty(tmp_path, row, calls):
    """Whoever wrote it; the body around it is no text."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    ((trace,), problems) = (read := ll.Traces.load(tmp_path / "a.jsonl")), read.problems.rows
    assert (trace.answer.status, trace.answer.text, list(trace.answer.tool_calls), problems) == ("ok", "", calls, ())


def test_the_body_of_an_error_is_no_answer(tmp_path):
    body = {"error": {"message": "rate limit", "type": "x"}}
    (tmp_path / "a.jsonl").write_text(json.dumps({**HELICONE, "response_status": 429, "response_body": body}))
    (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
    assert (trace.answer.status, trace.answer.text, trace.answer.error) == ("error", "", "rate limit")


def of_choice(reason, **message):
    return {"choices": [{"message": {"role": "assistant", "content": ANSWER, **message}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("reason", "status"),
    [("stop", "ok"), ("length", "truncated"), ("content-filter", "refused"), ("FinishReason.MAX_TOKENS", "truncated")],
)
def test_the_reason_why_an_answer_ended_is_its_status(tmp_path, reason, status):
    """Whoever wrote it, and wherever: a refusal that is read as an answer hides harm."""
    said = [{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]}]
    reasons = {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": reason}]}}}
    event = {"name": "gen_ai.choice", "attributes": [attribute("message", said[0]), attribute("finish_reason", reason)]}
    rows = [
        json.loads(batch(otlp(KIND, reasons, attribute("gen_ai.output.messages", said)))),
        json.loads(batch(otlp(KIND, attribute("gen_ai.output.messages", [{**said[0], "finish_reason": reason}])))),
        json.loads(batch(otlp(KIND) | {"events": [event]})),
        json.loads(batch(otlp(KIND, attribute("output.value", of_choice(reason))))),
        json.loads(batch(otlp(KIND, attribute("mlflow.spanOutputs", of_choice(reason))))),
        json.loads(batch(otlp(KIND, attribute("llm.finish_reason", reason), attribute("output.value", ANSWER)))),
        {**LANGFUSE, "output": json.dumps(of_choice(reason))},
        {**LANGSMITH, "outputs": {"generations": [[{"text": ANSWER, "generation_info": {"finish_reason": reason}}]]}},
        {**HELICONE, "response_body": of_choice(reason)},
        {"call_type": "x", "id": "1", "startTime": 1790000000, "status": "success", "response": of_choice(reason)},
    ]
    for row in rows:
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
        assert (trace.answer.status, trace.answer.text) == (status, ANSWER), row


def test_the_words_of_the_clients_are_known_to_the_readers():
    assert openai.WITHHELD | anthropic.WITHHELD <= REFUSED
    assert openai.CUT_SHORT | anthropic.CUT_SHORT <= CUT_SHORT


def test_a_refusal_is_its_own_text(tmp_path):
    """OpenAI's, beside a content of null; a JSON answer with a word of its own is none."""
    for body, told in (
        (of_choice("stop", content=None, refusal="I cannot."), ("refused", "I cannot.")),
        (of_choice("stop", content='{"refusal": "x", "finish_reason": "length"}'), ("ok", "x")),
    ):
        (tmp_path / "a.jsonl").write_text(json.dumps({**HELICONE, "response_body": body}))
        (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
        assert (trace.answer.status, trace.answer.text) == told


PARTS = "llm.output_messages.0.message.contents"
SUMMARY = [{"type": "summary_text", "text": "hidden"}]
RESPONSES = [
    {"type": "reasoning", "summary": SUMMARY, "content": [{"type": "reasoning_text", "text": "hidden"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]},
]
GEMINI = {"role": "model", "parts": [{"text": "hidden", "thought": True}, {"text": ANSWER}]}


THINKING = {
    "role": "assistant",
    "parts": [{"type": "reasoning", "content": "hidden"}, {"type": "text", "content": ANSWER}],
}
FLAT = {"0.message_content.type": "reasoning", "0.message_content.text": "hidden", "1.message_content.text": ANSWER}
CLAUDE = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "hidden", "text": "hidden"}, {"text": ANSWER}],
}


@pytest.mark.parametrize(
    "row",
    [
        json.loads(batch(otlp(KIND, attribute("gen_ai.output.messages", [THINKING])))),
        json.loads(batch(otlp(KIND, *(attribute(f"{PARTS}.{name}", value) for name, value in FLAT.items())))),
        {**HELICONE, "response_body": {"object": "response", "output": RESPONSES}},
        {**HELICONE, "response_body": {"candidates": [{"content": GEMINI}]}},
        {**LANGFUSE, "output": json.dumps(CLAUDE)},
    ],
)
def test_a_thought_is_no_part_of_an_answer(tmp_path, row):
    """Nor is it one where nothing was said beside it."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
    assert (trace.answer.status, trace.answer.text) == ("ok", ANSWER)


@pytest.mark.parametrize("body", [{"output": RESPONSES[:1]}, {"type": "reasoning", "content": "hidden"}])
def test_a_thought_alone_is_an_empty_answer(tmp_path, body):
    (tmp_path / "a.jsonl").write_text(json.dumps({**HELICONE, "response_body": body}))
    (trace,) = ll.Traces.load(tmp_path / "a.jsonl")
    assert (trace.answer.status, trace.answer.text) == ("empty", "")


OURS = {"request_id": "r1", "time": f"{BEGAN}Z", "text": ANSWER, "inputs": {"question": QUESTION}}


@pytest.mark.parametrize(
    "text",
    [
        "\n\n" + json.dumps([HELICONE], indent=1),
        '{"resourceSpans":[\n' + batch(otlp(attribute("output.value", ANSWER))).removeprefix('{"resourceSpans": ['),
        json.dumps({"data": [LANGFUSE], "meta": {"page": 1}}),
        json.dumps({"data": {"x": 1}, "traces": [HELICONE]}),
        "\ufeff" + json.dumps([OURS], indent=1),
        json.dumps(OURS, indent=1),
    ],
)
def test_a_file_of_one_json_value_is_read_however_it_is_laid_out(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    read = ll.Traces.load(tmp_path / "a.json")
    assert ([trace.answer.text for trace in read], read.problems.rows) == ([ANSWER], ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b"{}", mtime=0), "unpack"),
        (b"PK\x03\x04..", "unpack"),
        (b"\0\1\2", "no text"),
        (b"", "nothing in it"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_that_cannot_be_read_says_why(tmp_path, content, told, name):
    """An error where it is all there is, also in a folder; a problem among others."""
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(FileRuleError, match=told):
            ll.Traces.load(path)
    (tmp_path / "b.jsonl").write_text(json.dumps(HELICONE))
    read = ll.Traces.load([tmp_path / name, tmp_path / "b.jsonl"])
    assert len(read) == 1
    assert told in read.problems.rows[0]["problem"]


def test_hostile_lines_are_counted(tmp_path):
    """Of the wrong shape everywhere, deep, or endless."""
    odd = ['{"resourceSpans": 7}', '{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}', "[" * 5000, "null"]
    lines = [*(EXPORTS / "otlp.jsonl").read_text().splitlines(), *odd]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    read = ll.Traces.load(tmp_path / "a.jsonl")
    assert len(read) == 3
    assert sum(row["count"] for row in read.problems.rows) == 4


def of_mlflow(trace_id, began=1790000000, *, failed=False, rating=None, **info):
    """A trace as MLflow's `Trace.to_dict` gives it: one call of a model, rated by a judge."""
    span = {
        "trace_id": trace_id, "span_id": "e1", "name": "call",
        "start_time_unix_nano": began * 10**9, "end_time_unix_nano": (began + 1) * 10**9,
        "status": {"code": "STATUS_CODE_ERROR" if failed else "STATUS_CODE_OK"},
        "attributes": {
            "mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanOutputs": json.dumps(ANSWER),
            "mlflow.chat.tokenUsage": json.dumps({"input_tokens": 510, "output_tokens": 42}),
        },
    }  # fmt: skip
    rated = [{"assessment_name": "correct", "feedback": {"value": rating}}]
    return json.dumps({"info": {"trace_id": trace_id, "assessments": rated, **info}, "data": {"spans": [span]}})


def test_a_judge_of_mlflow_says_yes_or_no(tmp_path):
    """Its `CategoricalRating`: 1 and 0; any other word is counted."""
    lines = [of_mlflow(f"t{i}", rating=rating) for i, rating in enumerate(("yes", "No", "unknown", 0.5, None))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    read = ll.Traces.load(tmp_path / "a.jsonl")
    assert [trace.signals for trace in read] == [{"correct": 1.0}, {"correct": 0.0}, {}, {"correct": 0.5}, {}]
    (wrong,) = read.problems.rows
    assert (wrong["problem"], wrong["first"]) == ("signals.correct that is none, taken as missing", "a.jsonl:3")


LEFT_OUT = "trace that is not finished, or without its spans, left out"


def test_the_latest_assessment_of_mlflow_counts(tmp_path):
    trace = json.loads(of_mlflow("t1"))
    days = [("2026-11-22", 1), ("2026-11-21", 0)]
    rated = [{"assessment_name": "q", "feedback": {"value": v}, "create_time": f"{day}T10:00:00Z"} for day, v in days]
    trace["info"]["assessments"] = rated
    bare = json.dumps({"info": {"trace_id": "t2"}, "data": {"spans": []}})
    running = [of_mlflow("t3", state="IN_PROGRESS"), of_mlflow("t4", status="IN_PROGRESS")]
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(trace), bare, *running]))
    ((trace,), wrong) = (read := ll.Traces.load(tmp_path / "a.jsonl")), read.wrong
    assert (trace.signals, wrong) == ({"q": 1.0}, [f"{LEFT_OUT}: 3"])


LEFT = {"name": "exception", "attributes": [attribute("exception.type", "asyncio.exceptions.CancelledError")]}


@pytest.mark.parametrize(
    "row",
    [
        json.loads(batch(otlp(KIND) | {"status": {"code": 2}, "events": [LEFT]})),
        json.loads(batch(otlp(KIND, attribute("error.type", "499")) | {"status": {"code": 2}})),
        {**HELICONE, "response_status": 499, "response_body": {}},
        {**HELICONE, "response_status": 499.0, "response_body": {}},  # as a column with gaps has it
        {**LANGSMITH, "status": "error", "error": "CancelledError('Cancelled by cancel scope')"},
        {**LANGFUSE, "level": "ERROR", "status_message": "CancelledError: "},
        {
            "call_type": "x", "id": "1", "startTime": 1790000000, "status": "failure",
            "error_information": {"error_class": "CancelledError"},
        },
        {"request_id": "r1", "time": f"{BEGAN}Z", "status": "error", "error_code": "CancelledError"},
        {"request_id": "r1", "time": f"{BEGAN}Z", "status": "error", "error_code": "ClientConnectionResetError"},
        {"request_id": "r1", "time": f"{BEGAN}Z", "status": "cancelled"},
    ],
)  # fmt: skip
def test_who_leaves_is_no_error(tmp_path, row):
    """Wherever a format says so: in no error rate, and told apart."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    figures = (read := ll.Traces.load(tmp_path / "a.jsonl")).figures()
    assert (figures["error rate"].n, figures["cancelled"].value, read.wrong) == (0, 1.0, [])
    assert "1 request cancelled before an answer" in str(figures)


@pytest.mark.parametrize("newest_first", [True, False])
def test_what_a_client_tried_again_is_the_last_try(tmp_path, newest_first):
    """By time, as a store gives the newest first; its tokens are its own."""
    tries = [
        of_mlflow("t1", failed=True, client_request_id="order-7"),
        of_mlflow("t2", 1790000060, client_request_id="order-7"),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(tries[::-1] if newest_first else tries))
    (trace,) = (read := ll.Traces.load(tmp_path / "a.jsonl"))
    assert (trace.request_id, trace.answer.status, trace.answer.usage.input_tokens) == ("order-7", "ok", 510)
    assert "request that came twice, the last one kept: 1" in read.wrong


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # of MLflow's own
def test_traces_that_live_in_mlflow_are_read_whole(project):
    """Longer than its previews, with feedback, user and session."""
    import mlflow
    from mlflow.entities import AssessmentSource

    store, long = open_store(project), "word " * 1000
    mlflow.set_tracking_uri(store.uri)
    where = {"experiment_id": store.experiment_id("served")}
    root = mlflow.start_span_no_context("answer", inputs={"question": long}, span_type="CHAIN", **where)
    found = mlflow.start_span_no_context("search", parent_span=root, span_type="RETRIEVER")
    found.end(outputs=[{"page_content": "x", "metadata": {"doc_uri": "dropna"}}])
    call = mlflow.start_span_no_context("call", parent_span=root, span_type="CHAT_MODEL", inputs={"messages": MESSAGES})
    call.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 510, "output_tokens": 42, "total_tokens": 552})
    call.end(outputs={"choices": [{"message": {"content": ANSWER}}]})
    root.end(outputs=long)
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=root.trace_id, name="thumbs", value=False, source=AssessmentSource("HUMAN", "x"))
    read = ll.Traces.from_mlflow("served", root=project)
    (trace,) = read
    assert (trace.request_id, trace.inputs, trace.answer.text) == (root.trace_id, {"question": long}, long)
    assert (trace.answer.retrieved, trace.answer.usage.input_tokens) == (("dropna",), 510)
    assert trace.signals == {"thumbs": 0.0}
    assert read.problems.rows == ()
