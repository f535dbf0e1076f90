"""What other tools call the fields of a request: one table per format, our field -> (their paths, converter).

A path names the parts of a nested object with `/` between them; a JSON text on the way is read. The first path that
has a value is taken. Formats of spans are folded into requests by `spans`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from llmlab.base.project import utc

__all__ = ["FORMATS", "Format", "amount", "asked", "json_text", "moment", "said", "sniffed", "text", "value_at"]

Field = tuple[tuple[str, ...], Callable[[Any], Any]]
LONGEST_NUMBER_CHARS = 40
DEEPEST = 12
_WRAPPINGS = (
    *("choices", "generations", "candidates", "messages", "message", "parts", "content", "text", "output", "answer"),
    *("response", "outputs", "result", "kwargs", "value"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a tool writes.

    Attributes:
        name: the tool.
        sign: fields that an object of it has, each at one of the paths.
        what: whether an object is a request, a span of one, or a signal.
        fields: our field -> (their paths, converter).
        unpack: an object of the file -> the objects that the paths are of.
    """

    name: str
    sign: tuple[str, ...]
    what: Literal["requests", "spans", "signals"]
    fields: Mapping[str, Field]
    unpack: Callable[[Mapping[str, Any]], Iterator[Mapping[str, Any]]] = lambda row: iter((row,))

    def read(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Our fields of an object, and the names of those whose value could not be understood."""
        read, wrong = {}, []
        for name, (paths, convert) in self.fields.items():
            for path in paths:
                if (value := value_at(row, path)) is None:
                    continue
                try:
                    read[name] = convert(value)
                    break
                except (ValueError, TypeError, OverflowError):
                    wrong.append(name)
        return read, wrong


def value_at(value: Any, path: str) -> Any:
    """What stands at a path, None where there is nothing."""
    for part in path.split("/"):
        value = _opened(value)
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return None if value in ("", [], {}) or value != value else value


def _opened(value: Any) -> Any:
    """A JSON text as its value, anything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def json_text(value: Any) -> str:
    """JSON of a value, which may be JSON already."""
    return json.dumps(_opened(value), default=str, ensure_ascii=False)


def amount(value: Any) -> float:
    """A number, from a number or its text.

    >>> amount("0.0017"), amount(True)
    (0.0017, 1.0)
    """
    if isinstance(value, str) and len(value) > LONGEST_NUMBER_CHARS:
        raise ValueError("too long for a number")
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    return float(value)


def _ms(value: Any) -> float:
    return amount(value) / 1000


def moment(value: Any) -> datetime:
    """A moment in UTC: ISO 8601 (without an offset: UTC), or seconds, milliseconds, micro- or nanoseconds since 1970.

    >>> moment("2026-11-20 10:00:00.5").isoformat(), moment("1790000000000000000") == moment(1790000000.0)
    ('2026-11-20T10:00:00.500000+00:00', True)
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, str) and not value.lstrip("-").replace(".", "", 1).isdigit():
        return utc(value)
    number = amount(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no moment")
    scale = next(scale for scale in (1, 1e3, 1e6, 1e9, math.inf) if abs(number) / scale < 1e11)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number / scale)


def said(value: Any, depth: int = 0) -> str:
    """The text of an answer in whatever it is wrapped: choices, generations, messages with parts.

    >>> said({"choices": [{"message": {"content": "Use dropna()."}}]}), said([{"role": "assistant", "parts": ["Yes"]}])
    ('Use dropna().', 'Yes')
    """
    value = _opened(value)
    if isinstance(value, str):
        return value
    if depth > DEEPEST:
        return ""
    if isinstance(value, list):
        texts = [one for one in (said(part, depth + 1) for part in value) if one]
        roles = any(isinstance(part, Mapping) and "role" in part for part in value)
        return (texts[-1] if roles else "\n".join(texts)) if texts else ""
    if isinstance(value, Mapping):
        found = (said(value[name], depth + 1) for name in _WRAPPINGS if value.get(name))
        return next((one for one in found if one), "" if depth else json.dumps(value, default=str, ensure_ascii=False))
    return "" if value is None else str(value)


def conversation(value: Any) -> str:
    """Messages as a JSON list of {"role", "content"}; ValueError where there are none."""
    value = _opened(value)
    value = value.get("messages") if isinstance(value, Mapping) else value
    value = value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise ValueError("no messages")
    inner = [one["message"] if isinstance(one.get("message"), Mapping) else one for one in value]
    told = [
        {
            "role": str(one.get("role") or one.get("type") or ""),
            "content": said(one.get("content") or one.get("parts") or one.get("kwargs")),
        }
        for one in inner
    ]
    return json.dumps(told, ensure_ascii=False)


def asked(value: Any) -> str:
    """Inputs as a JSON object: what is one stays, of messages the last of the user is the question."""
    value = _opened(value)
    try:
        users = [
            one["content"]
            for one in json.loads(conversation(value))
            if one["role"] in ("user", "human", "HumanMessage")
        ]
    except ValueError:
        users = []
    if users:
        value = {"question": users[-1]}
    elif not isinstance(value, Mapping):
        value = {"question": said(value)}
    return json.dumps(value, default=str, ensure_ascii=False)


def _succeeded(value: Any) -> str:
    """The status of an answer: by a word, or by a code of HTTP."""
    word = str(value).lower()
    if word.isdigit():
        word = "ok" if int(word) < 400 else "timeout" if int(word) in (408, 504) else "error"
    return {"success": "ok", "failure": "error", "ok": "ok", "completed": "ok"}.get(word, word)


def _failed_code(value: Any) -> str:
    return str(value) if not str(value).isdigit() or int(value) >= 400 else ""


def _guards(value: Any) -> list[str]:
    """Names of the checks that fired, of a list of names or of LiteLLM's guardrails."""
    value = _opened(value)
    listed = value if isinstance(value, list) else str(value).split(",") if isinstance(value, str) else [value]
    names = []
    for one in listed:
        if isinstance(one, Mapping):
            if str(one.get("guardrail_status", "")).lower() not in ("", "success", "not_run"):
                names.append(str(one.get("guardrail_name", "guard")))
        elif str(one):
            names.append(str(one))
    return names


def documents(value: Any) -> list[dict[str, Any]]:
    """Retrieved documents as {"id", "score"}, of ids or of objects that have one."""
    found = []
    value = _opened(value)
    for one in value if isinstance(value, list) else []:
        one = one.get("document", one) if isinstance(one, Mapping) else {"id": one}
        kept = {name.rpartition(".")[2]: part for name, part in one.items()}
        about = kept.get("metadata")
        meta: Mapping[str, Any] = about if isinstance(about, Mapping) else {}
        name = next(
            (
                n
                for n in (kept.get("id"), meta.get("id"), meta.get("doc_id"), meta.get("doc_uri"), meta.get("source"))
                if n is not None
            ),
            "",
        )
        score = kept.get("score", meta.get("score"))
        found.append({"id": str(name), "score": None if score is None else amount(score)})
    return found


_OWN: dict[str, Field] = {
    "time": (("time",), moment),
    **{
        name: ((name,), text)
        for name in (
            *("request_id", "unit_id", "session_id", "service", "rollout", "arm", "bundle", "status", "error"),
            *("error_code", "served_model", "text"),
        )
    },
    "inputs": (("inputs",), asked),
    **{name: ((name,), json_text) for name in ("messages", "tool_calls", "steps")},
    **{
        name: ((name,), amount)
        for name in (
            *("attempts", "latency_s", "first_token_s", "cost_usd", "prompt_tokens", "completion_tokens"),
            *("cached_tokens", "context_tokens", "fallback"),
        )
    },
    "guards": (("guards",), _guards),
    "retrieved": (("retrieved",), documents),
    "signals": (("signals",), lambda value: _opened(value)),
}
_LITELLM: dict[str, Field] = {
    "request_id": (("id", "litellm_call_id", "trace_id"), text),
    "time": (("startTime",), moment),
    "end": (("endTime",), moment),
    "first_token_at": (("completionStartTime",), moment),
    "latency_s": (("response_time",), amount),
    "status": (("status",), _succeeded),
    "error": (("error_str", "error_information/error_message"), text),
    "error_code": (("error_information/error_code", "error_information/error_class"), text),
    "attempts": (("metadata/attempted_retries",), lambda value: 1 + amount(value)),
    "fallback": (("metadata/attempted_fallbacks",), lambda value: float(amount(value) > 0)),
    "served_model": (("model",), text),
    "text": (("response",), said),
    "inputs": (("messages",), asked),
    "messages": (("messages",), conversation),
    "tool_calls": (("response/choices/0/message/tool_calls",), json_text),
    "prompt_tokens": (("prompt_tokens",), amount),
    "completion_tokens": (("completion_tokens",), amount),
    "cached_tokens": (
        (
            "metadata/usage_object/prompt_tokens_details/cached_tokens",
            "metadata/usage_object/cache_read_input_tokens",
        ),
        amount,
    ),
    "cost_usd": (("response_cost",), amount),
    "unit_id": (("end_user", "metadata/user_api_key_end_user_id", "metadata/user_api_key_user_id"), text),
    "session_id": (("session_id", "metadata/session_id", "trace_id"), text),
    "service": (("metadata/service", "model_group"), text),
    "guards": (("guardrail_information",), _guards),
}
_HELICONE: dict[str, Field] = {
    "request_id": (("request_id",), text),
    "time": (("request_created_at",), moment),
    "latency_s": (("delay_ms",), _ms),
    "first_token_s": (("time_to_first_token",), _ms),
    "status": (("response_status",), _succeeded),
    "error_code": (("response_status",), _failed_code),
    "error": (("response_body/error/message", "response_body/error"), text),
    "served_model": (("response_model", "request_model"), text),
    "text": (("response_body",), said),
    "inputs": (("request_body",), asked),
    "messages": (("request_body",), conversation),
    "tool_calls": (("response_body/choices/0/message/tool_calls",), json_text),
    "prompt_tokens": (("prompt_tokens",), amount),
    "completion_tokens": (("completion_tokens",), amount),
    "cached_tokens": (("prompt_cache_read_tokens",), amount),
    "cost_usd": (("cost", "costUSD", "cost_usd"), amount),
    "unit_id": (("request_user_id",), text),
    "session_id": (("request_properties/Helicone-Session-Id",), text),
    "bundle": (("prompt_version",), text),
    "signals.thumbs": (("feedback_rating",), amount),
    "signals": (("scores",), lambda value: _opened(value)),
}

FORMATS = (
    Format(name="LiteLLM", sign=("call_type", "startTime"), what="requests", fields=_LITELLM),
    Format(name="Helicone", sign=("request_created_at",), what="requests", fields=_HELICONE),
    Format(name="llmlab", sign=("request_id",), what="requests", fields=_OWN),
)


@cache
def own_format() -> Format:
    """The format of our own lines."""
    return FORMATS[-1]


def sniffed(row: Mapping[str, Any]) -> Format | None:
    """The format that an object is of, None for none that is known."""
    return next((one for one in FORMATS if all(name in row for name in one.sign)), None)
