"""What other tools call the fields of a request: the tables of `formats.yaml`, and what their converters do.

A JSON text on the way of a path is read. Formats of spans are folded into requests by `reading`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from llmlab.base.project import utc
from llmlab.base.yamlfile import read_yaml
from llmlab.production.lines import AMOUNTS, EARLIEST, LATEST

Field = tuple[tuple[str, ...], Callable[[Any], Any]]
What = Literal["requests", "spans", "signals"]
OWN = "llmlab"  # the format of our own lines
TABLES = Path(__file__).with_name("formats.yaml")
LONGEST_NUMBER_CHARS = 40
DEEPEST = 12
_WRAPPINGS = (
    *("choices", "generations", "candidates", "messages", "message", "parts", "content", "contents", "message_content"),
    *("text", "output", "answer", "response", "outputs", "result", "kwargs", "value", "refusal"),
)
_OF_A_MODEL = ("choices", "tool_calls", "generations", "candidates", "role", "error")
_RATINGS = {"yes": 1.0, "no": 0.0}  # of MLflow's judges
_TOOL_PARTS = ("tool_call", "tool_use", "function_call")
_THOUGHTS = ("reasoning", "thinking", "redacted_thinking", "thought")
_FINISHES = ("finish_reasons", "finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
_AROUND_FINISHES = (*_WRAPPINGS, "generation_info", "response_metadata")
REFUSED = frozenset(  # the words of `clients.openai` and `clients.anthropic`, and what else Gemini says
    (
        *("content_filter", "content_filtered", "safety", "refusal", "recitation", "prohibited_content", "blocklist"),
        *("guardrail_intervened", "spii", "language", "image_safety"),
    )
)
CUT_SHORT = frozenset(
    (
        *("length", "max_tokens", "model_length", "max_output_tokens", "model_context_window_exceeded", "pause_turn"),
        "max_length",
    )
)


Unpack = Callable[[Mapping[str, Any]], Iterator[Mapping[str, Any] | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a tool writes.

    Attributes:
        sign: fields that an object of it has, each at one of the paths.
        what: whether an object is a request, a span of one, or a signal.
        fields: our field -> (their paths, converter).
        unpack: an object of the file -> the objects that the paths are of; a text says what of it cannot be read.
    """

    name: str
    sign: tuple[str, ...]
    what: What
    fields: Mapping[str, Field]
    unpack: Unpack

    def read(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Our fields of an object, and the names of those whose value could not be understood."""
        read, wrong = {}, []
        for name, (paths, convert) in self.fields.items():
            for path in paths:
                value = _value_at(row, path)
                if value is None or (value != value and name not in AMOUNTS):  # NaN is no number, and else nothing
                    continue
                if isinstance(value, bytes):  # those of UTF-8 were read as text
                    wrong.append(name)
                    continue
                try:
                    if (converted := convert(value)) is not None:
                        read[name] = converted
                        break
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                    wrong.append(name)
        return read, wrong


def _value_at(value: Any, path: str) -> Any:
    """What stands at a path, None where there is nothing."""
    for part in path.split("/"):
        value = _opened(value)
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return None if isinstance(value, (str, dict)) and not value else value


def _opened(value: Any) -> Any:
    """A JSON text as its value, anything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text(value: Any) -> str:
    """Objects, lists and numbers as JSON (7.0 as 7: beside gaps tables have no whole numbers), else the text of it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_json = value is None or isinstance(value, (Mapping, list, tuple, int, float))
    return json.dumps(value, default=str, ensure_ascii=False) if is_json else str(value)


def json_text(value: Any) -> str:
    """JSON of a value, which may be JSON already."""
    return json.dumps(_opened(value), default=str, ensure_ascii=False)


def amount(value: Any) -> float:
    """A number, from a number or its text; ValueError for one that is endless or NaN.

    >>> amount("0.0017"), amount(True)
    (0.0017, 1.0)
    """
    if isinstance(value, str) and len(value) > LONGEST_NUMBER_CHARS:
        raise ValueError("too long for a number")
    word = value.strip().lower() if isinstance(value, str) else ""
    number = float(word == "true" if word in ("true", "false") else value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def moment(value: Any) -> datetime:
    """A moment in UTC: ISO 8601 (without an offset: UTC), or seconds, milliseconds, micro- or nanoseconds since 1970.

    >>> moment("2026-11-20 10:00:00.5").isoformat(), moment("1790000000000000000") == moment(1790000000.0)
    ('2026-11-20T10:00:00.500000+00:00', True)

    Raises:
        ValueError: it is none, or none of a request to a model: before 2000, or after 2199. OverflowError: nor any.
    """
    if isinstance(value, datetime):
        when = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    elif isinstance(value, date) or (isinstance(value, str) and not value.lstrip("-").replace(".", "", 1).isdigit()):
        when = utc(str(value).strip().removesuffix(" UTC"))
    elif len(day := str(value)) == len("20260131") and day.isdigit():  # a date: so few seconds end in 1973
        when = utc(day)
    else:
        number = amount(value)
        scale = next((scale for scale in (1, 1e3, 1e6, 1e9) if abs(number) / scale < 1e11), math.nan)
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number / scale)
    if not EARLIEST <= when < LATEST:
        raise ValueError(f"{value!r} is no moment of a request")
    return when


def _answer_text(value: Any, depth: int = 0) -> str:
    """The text of an answer in whatever it is wrapped: choices, generations, messages with parts.

    >>> _answer_text({"choices": [{"message": {"content": "Yes"}}]}), _answer_text([{"role": "user", "parts": ["No"]}])
    ('Yes', 'No')
    """
    value = _opened(value)
    if isinstance(value, str):
        return value
    if depth > DEEPEST:
        return ""
    if isinstance(value, list):
        texts = list(filter(None, (_answer_text(part, depth + 1) for part in value)))
        return "\n".join(texts[-1:] if _are_messages(value) else texts)
    if isinstance(value, Mapping):
        if value.get("type") in _THOUGHTS or value.get("thought") is True:
            return ""
        inner = filter(None, (_answer_text(value[name], depth + 1) for name in _WRAPPINGS if value.get(name)))
        # a body without an answer is none
        silent = depth or any(value.get(name) for name in _OF_A_MODEL) or isinstance(value.get("output"), list)
        return next(inner, "" if silent else text(value))
    return "" if value is None else str(value)


def _are_messages(parts: Sequence[Any]) -> bool:
    """Whether a list is a conversation, of which the last message is the answer; else they are parts of one."""
    return any(isinstance(part, Mapping) and "role" in part for part in parts)


def _calls_json(value: Any) -> str | None:
    """The calls of tools that an answer consists of, as a JSON list, in whatever it is wrapped; None without one.

    >>> _calls_json({"choices": [{"message": {"content": None, "tool_calls": [{"id": "c1"}]}}]})
    '[{"id": "c1"}]'
    """
    calls = list(_calls(value))
    return json.dumps(calls, default=str, ensure_ascii=False) if calls else None


def _calls(value: Any, depth: int = 0) -> Iterator[Any]:
    value = _opened(value)
    if depth > DEEPEST:
        return
    if isinstance(value, list):
        for part in value[-1:] if _are_messages(value) else value:
            yield from _calls(part, depth + 1)
    elif isinstance(value, Mapping):
        if value.get("type") in _TOOL_PARTS:
            yield value
        elif calls := _opened(value.get("tool_calls")):
            yield from calls if isinstance(calls, list) else [calls]
        else:
            for name in _WRAPPINGS:
                yield from _calls(value.get(name), depth + 1)


def _finish_status(value: Any) -> str | None:
    """What an answer is by the reason why it ended, in whatever it is wrapped: refused, truncated, None = as it seems.

    >>> _finish_status({"choices": [{"finish_reason": "length"}]}), _finish_status({"finish_reasons": ["stop"]})
    ('truncated', None)
    """
    reasons = [re.split(r"[:;\s]", reason.lower().replace("-", "_"))[0] for reason in _finishes(value)]
    families = (("refused", REFUSED), ("truncated", CUT_SHORT))
    return next((status for status, words in families if words.intersection(reasons)), None)


def _finishes(value: Any, depth: int = 0) -> Iterator[str]:
    value = value if depth else _opened(value)  # an answer may be JSON, with such names of its own
    if depth > DEEPEST:
        return
    if isinstance(value, list):
        for part in value[-1:] if _are_messages(value) else value:
            yield from _finishes(part, depth + 1)
    elif isinstance(value, Mapping):
        for name in _FINISHES:
            said = _opened(value.get(name))
            yield from (str(part).rpartition(".")[2] for part in (said if isinstance(said, list) else [said or ""]))
        yield str(_value_at(value, "incomplete_details/reason") or "")
        if value.get("refusal") and ("role" in value or value.get("type") == "refusal"):
            yield "refusal"
        for name in _AROUND_FINISHES:
            yield from _finishes(value.get(name), depth + 1)


def _messages_json(value: Any) -> str | None:
    """Messages as a JSON list of {"role", "content"}; None where there are none."""
    value = _opened(value)
    value = value.get("messages") if isinstance(value, Mapping) else value
    value = value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        return None
    messages = []
    for outer in value:
        message = outer["message"] if isinstance(outer.get("message"), Mapping) else outer
        role = str(message.get("role") or message.get("type") or "")
        held = (message.get(name) for name in ("content", "parts", "contents", "kwargs"))
        content = _answer_text(next(filter(None, held), ""))
        messages.append({"role": role, "content": content})
    return json.dumps(messages, ensure_ascii=False)


def _inputs_json(value: Any) -> str:
    """Inputs as a JSON object: what is one stays, of messages the last of the user is the question."""
    value = _opened(value)
    messages = json.loads(_messages_json(value) or "[]")
    users = [message["content"] for message in messages if message["role"] in ("user", "human", "HumanMessage")]
    if users:
        value = {"question": users[-1]}
    return text(value if isinstance(value, Mapping) else {"question": _answer_text(value)})


def _status(value: Any) -> str:
    """The status of an answer: by a word, or by a code of HTTP."""
    word = text(value).lower()
    if word.isdigit():
        word = (
            word if int(word) < 100 else "ok" if int(word) < 400 else "timeout" if int(word) in (408, 504) else "error"
        )
    said = {"success": "ok", "succeeded": "ok", "completed": "ok", "failure": "error", "failed": "error"}
    return said.get(word, word)


def _raised(value: Any) -> str | None:
    """The class or code that an error's text begins with, or is; None for another text.

    >>> [_raised(text) for text in ("CancelledError()", "RateLimitError: 429", "too many requests")]
    ['CancelledError', 'RateLimitError', None]
    """
    found = re.match(r"([\w.]+)(?:[(:]|$)", str(value))
    return found and found[1]


def _kind(value: Any) -> str:
    """What a span is of, in one word for all conventions: llm, retriever, tool, guardrail, ..."""
    word = str(value).lower()
    llm = ("chat", "text_completion", "generate_content", "chat_model", "generation", "completion", "llm")
    return "llm" if word in llm else {"retrieval": "retriever", "execute_tool": "tool"}.get(word, word)


def _guards(value: Any) -> list[str]:
    """Names of the checks that fired, of a list of names or of LiteLLM's guardrails."""
    value = _opened(value)
    listed = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [value]
    names = []
    for guard in listed:
        if not isinstance(guard, Mapping):
            names.append(str(guard))
        elif str(guard.get("guardrail_status", "")).lower() not in ("", "success", "not_run"):
            names.append(str(guard.get("guardrail_name", "guard")))
    return list(filter(None, names))


def documents(value: Any) -> list[dict[str, Any]]:
    """Retrieved documents as {"id", "score"}, of ids or of objects that have one."""
    retrieved = []
    value = _opened(value)
    for listed in value if isinstance(value, list) else []:
        document = listed.get("document", listed) if isinstance(listed, Mapping) else {"id": listed}
        document = {name.rpartition(".")[2]: part for name, part in document.items()}
        about = document.get("metadata")
        meta: Mapping[str, Any] = about if isinstance(about, Mapping) else {}
        names = (document.get("id"), *(meta.get(name) for name in ("id", "doc_id", "doc_uri", "source")))
        score = document.get("score", meta.get("score"))
        retrieved.append(
            {
                "id": next((str(name) for name in names if name is not None), ""),
                "score": None if score is None or score != score else amount(score),
            }
        )
    return retrieved


def tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with dots in their names as nested objects; numbered parts as lists.

    >>> tree({"a.b": 1, "m.0.role": "user", "m.1.role": "tool"})
    {'a': {'b': 1}, 'm': [{'role': 'user'}, {'role': 'tool'}]}
    """
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *outer, last = str(name).split(".")[:DEEPEST]
        place = nested
        for part in outer:
            child = place.setdefault(part, {})
            if not isinstance(child, dict):
                child = place[part] = {"": child}
            place = child
        value = tree(value) if isinstance(value, Mapping) else value
        if isinstance(value, list):
            value = [tree(part) if isinstance(part, Mapping) else part for part in value]
        child = place.get(last)
        if isinstance(child, dict):
            child |= value if isinstance(value, dict) else {"": value}
        else:
            place[last] = value
    listed: dict[str, Any] = _listed(nested)
    return listed


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    parts = {name: _listed(part) for name, part in value.items()}
    if parts and all(name.isdigit() for name in parts):
        return [parts[name] for name in sorted(parts, key=int)]
    return parts


def _otlp(line: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | str]:
    """The spans of a line of OTLP as JSON; a span or an attribute that is none costs itself alone."""
    unread = list[str]()
    for group in line.get("resourceSpans") or ():
        resource = tree(_attributes((group.get("resource") or {}).get("attributes"), unread))
        for scope in group.get("scopeSpans") or group.get("instrumentationLibrarySpans") or ():
            for span in scope.get("spans") or ():
                try:
                    events = [
                        (e.get("name"), _attributes(e.get("attributes"), unread)) for e in span.get("events") or ()
                    ]
                    attributes = _attributes(span.get("attributes"), unread)
                    yield {**span, "resource": resource, **_with_events(attributes, events)}
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    unread.append("span that cannot be read")
    yield from unread


def _attributes(listed: Any, unread: list[str]) -> dict[str, Any]:
    values = {}
    for attribute in listed or ():
        try:
            values[attribute["key"]] = _any_value(attribute.get("value") or {}, unread)
        except (ValueError, TypeError, KeyError, AttributeError):
            unread.append("attribute that cannot be read, taken as missing")
    return values


def _any_value(typed: Mapping[str, Any], unread: list[str]) -> Any:
    """A value of OTLP, whose type is its name; whole numbers come as texts."""
    for kind, value in typed.items():
        if kind == "arrayValue":
            return [_any_value(part, unread) for part in value.get("values") or ()]
        if kind == "kvlistValue":
            return _attributes(value.get("values"), unread)
        return int(value) if kind == "intValue" else value
    return None


def _span_json(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A span as OpenTelemetry's SDK, OpenInference's exporters and Phoenix write it, nested or as columns."""
    row = {**row, **tree({k: v for k, v in row.items() if "." in str(k)})}
    events = [(e.get("name"), e.get("attributes") or {}) for e in _opened(row.get("events")) or ()]
    ids = {name: (row.get("context") or {}).get(name) for name in ("trace_id", "span_id")}
    ids["parent_id"] = row.get("parent_id")
    yield {
        **row,
        **{name: value.removeprefix("0x") if isinstance(value, str) else value for name, value in ids.items()},
        "resource": tree((row.get("resource") or {}).get("attributes") or {}),
        **_with_events(row.get("attributes") or {}, events),
    }


def _with_events(attributes: Mapping[str, Any], events: Sequence[tuple[Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """Attributes as a tree `a`, with the messages and the scores that conventions put into events."""
    sent, answered = list[Any](), list[Any]()
    signals, more = dict[str, Any](), dict[str, Any]()
    for name, fields in events:
        if name == "gen_ai.client.inference.operation.details":
            more |= fields
        elif name == "gen_ai.choice":
            answered.append(_opened(fields.get("message") or fields.get("content") or ""))
            more.setdefault("gen_ai.response.finish_reasons", [fields.get("finish_reason")])
        elif name == "gen_ai.content.prompt":
            sent.append({"role": "user", "content": fields.get("gen_ai.prompt")})
        elif name == "gen_ai.content.completion":
            answered.append(fields.get("gen_ai.completion"))
        elif name == "gen_ai.evaluation.result":
            score = (fields.get(f"gen_ai.evaluation.score.{kind}") for kind in ("value", "label"))
            signals[str(fields.get("gen_ai.evaluation.name"))] = next((s for s in score if s is not None), None)
        elif str(name).startswith("gen_ai.") and str(name).endswith(".message"):
            sent.append({"role": str(name).split(".")[1], "content": _opened(fields.get("content"))})
        elif name == "exception":
            more.setdefault("error.type", fields.get("exception.type"))
    nested = tree({**more, **attributes})
    for side, messages in (("input", sent), ("output", answered)):
        if messages:
            nested.setdefault("gen_ai", {}).setdefault(side, {}).setdefault("messages", messages)
    return {"a": nested, "signals": signals or None}


def _mlflow(trace: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | str]:
    """The spans of a trace as MLflow's `Trace.to_dict` gives it; user, session, feedback and tags are its root's."""
    about = trace.get("info") or {}
    meta = {**(about.get("trace_metadata") or about.get("request_metadata") or {}), **(about.get("tags") or {})}
    known = ("mlflow.trace.user", "mlflow.trace.session", "llmlab.rollout", "llmlab.arm", "llmlab.bundle")
    of_root = {name: meta[name] for name in known if name in meta}
    signals = {}
    assessments = about.get("assessments") or ()
    for assessment in sorted(assessments, key=lambda a: str(a.get("last_update_time") or a.get("create_time") or "")):
        value = (assessment.get("feedback") or {}).get("value")
        if assessment.get("valid", True):
            value = _RATINGS.get(value.lower(), value) if isinstance(value, str) else value
            signals[str(assessment.get("assessment_name") or assessment.get("name"))] = value
    spans = (trace.get("data") or {}).get("spans") or ()
    if not spans or "IN_PROGRESS" in (about.get("state"), about.get("status")):  # now, and before MLflow 3
        yield "trace that is not finished, or without its spans, left out"
        return
    for span in spans:
        root = not span.get("parent_span_id") and not span.get("parent_id")
        attributes = {name: _opened(value) for name, value in (span.get("attributes") or {}).items()}
        attributes = {n: json.loads(v) if isinstance(v, str) and v[:1] == '"' else v for n, v in attributes.items()}
        events = [(event.get("name"), event.get("attributes") or {}) for event in span.get("events") or ()]
        nested = _with_events({**attributes, **(of_root if root else {})}, events)["a"]
        if str(nested.get("mlflow", {}).get("spanType")).upper() == "RETRIEVER":  # its outputs are the documents
            nested["documents"] = nested["mlflow"].get("spanOutputs")
        trace_id, client_id = about.get("trace_id") or about.get("request_id"), about.get("client_request_id")
        # the client's is the same for what it tried again
        ids = {"trace_id": trace_id or client_id, "client_request_id": client_id}
        yield {**span, **ids, "a": nested, "signals": signals if root else None}


def _langfuse_score(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A score, whose value is a number where its type says so: of a category it is 0, or its place among others."""
    kind, word = row.get("data_type", row.get("dataType")), row.get("string_value", row.get("stringValue"))
    numbers = {"BOOLEAN": (row.get("value"), word), "CATEGORICAL": (), "TEXT": (), "CORRECTION": ()}
    said = numbers.get(str(kind).upper(), (row.get("value"),))
    yield {**row, "value": next((value for value in said if value not in (None, "")), None)}


def _average(stats: Mapping[str, Any]) -> Any:
    """The mean of a feedback; of words their numbers, which are none, so that they are counted."""
    return stats["avg"] if stats["avg"] is not None else stats.get("values") or None


def _alone(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield row


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "text": text,
    "json": json_text,
    "amount": amount,
    "milliseconds": lambda value: amount(value) / 1000,
    "moment": moment,
    "answer": _answer_text,
    "calls": _calls_json,
    "finish": _finish_status,
    "inputs": _inputs_json,
    "messages": _messages_json,
    "documents": documents,
    "guards": _guards,
    "kind": _kind,
    "status": _status,
    "code": lambda value: "" if (code := text(value)).isdigit() and int(code) < 400 else code,
    "raised": _raised,
    "flag": bool,
    "failed": lambda code: str(code) == "2" or str(code).upper().endswith("ERROR"),
    "error_level": lambda value: value == "ERROR",
    "retries": lambda value: 1 + amount(value),
    "any": lambda value: float(amount(value) > 0),
    "object": _opened,
    "averages": lambda value: {name: _average(stats) for name, stats in _opened(value).items()},
}
_KNOWN: tuple[tuple[str, What, tuple[str, ...], Unpack], ...] = (
    ("OTLP", "spans", ("resourceSpans",), _otlp),
    ("MLflow", "spans", ("info", "data"), _mlflow),
    ("Phoenix", "spans", ("context.trace_id",), _span_json),
    ("OpenTelemetry", "spans", ("context", "attributes"), _span_json),
    ("LangSmith", "spans", ("run_type",), _alone),
    ("LangSmith feedback", "signals", ("run_id", "key", "score"), _alone),
    ("Langfuse scores", "signals", ("data_type", "name"), _langfuse_score),
    ("Langfuse scores", "signals", ("dataType", "name"), _langfuse_score),
    ("LiteLLM", "requests", ("call_type", "startTime"), _alone),
    ("Langfuse", "spans", ("id", "type", "start_time"), _alone),
    ("Langfuse", "spans", ("id", "type", "startTime"), _alone),
    ("Helicone", "requests", ("request_created_at",), _alone),
    (OWN, "requests", ("request_id",), _alone),
)


@cache
def formats() -> tuple[Format, ...]:
    """All that are known, in the order in which an object is tried; our own is the last."""
    tables, _ = read_yaml(TABLES)
    fields = {
        name: {field: (tuple(paths), _CONVERTERS[convert]) for field, (convert, *paths) in table.items()}
        for name, table in tables.items()
    }
    return tuple(
        Format(name=name, sign=sign, what=what, fields=fields.get(name, fields["spans"]), unpack=unpack)
        for name, what, sign, unpack in _KNOWN
    )


def sniffed(row: Mapping[str, Any]) -> Format | None:
    """The format that an object is of, None for none that is known."""
    return next((known for known in formats() if all(name in row for name in known.sign)), None)
