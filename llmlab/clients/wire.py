"""What wire formats have in common: sampling parameters out, JSON and events in, what a status means.

A format is a `WireFormat`, a value of functions that `http` is given; each provider's file has its own. Sampling
parameters are renamed where they must be and refused where they cannot be sent: the rules are data
(`sampling_rules.yaml`, with the page each was read from), shown by `llmlab check-model`. Whatever is not a complete
answer is a TransportError, so that it is asked again and never stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from llmlab.base.errors import CallError, RequestRefusedError, TransportError, UnusableEndpointError
from llmlab.base.private import excerpt
from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.access import Access, KeyHeader
from llmlab.clients.base import Generation, Request, Status
from llmlab.clients.retry import retry_after_s

RULES_FILE = Path(__file__).with_name("sampling_rules.yaml")
RESERVED = frozenset({"model", "messages", "system", "stream", "stream_options", "tools", "n"})  # ours to set
_TRY_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "402"})
# codes that mean the provider's policy: OpenAI, Azure (with its inner code), Alibaba's Model Studio
POLICY = frozenset({"invalid_prompt", "content_policy_violation", "moderation_blocked", "content_filter"})
POLICY |= {"responsibleaipolicyviolation", "data_inspection_failed", "datainspectionfailed"}
_BROKEN_OFF = frozenset({"error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource"})
_HALVES = re.compile("[\ud800-\udfff]")
_EVENTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry|error)?:")
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_TAGS = ("<think>", "<thinking>", "<thought>", "<reasoning>", "[think]")
_OPENED = re.compile(rf"\s*({'|'.join(map(re.escape, _TAGS))})", re.IGNORECASE)
_CLOSED_LINE = re.compile(r"(?:^|(?<=\n))[ \t]*</think>|</think>(?=[ \t]*(?:\n|$))")
_PARAMETERS = ("stream_options", "tools", "tool_choice", "logprobs", *(Sampling.model_fields.keys() - {"extra"}))
_NOT_TAKEN = re.compile(
    r"(?i)un(?:supported|recogni[sz]ed|known|expected)|not (?:supported|permitted|allowed)|extra (?:inputs?|fields?)"
)
_ADVICE = {
    400: "the request breaks a rule of this endpoint; change the bundle as it says",
    402: "the account has no credit left",
    403: "the key may not use this model or region",
    404: "no such model or path; check the model id, deployment and base_url",
    407: "a proxy before it wants a name and a password",
    413: "the request is too large; shorten the prompt",
    422: "a value has the wrong form for this endpoint; change the bundle as it says",
}


class WithheldError(CallError):
    """A refusal of the provider's that came as an error; `http` makes it the answer that it is."""


class Stream(Protocol):
    """Events of one reply, put together."""

    started: bool

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event."""

    def end(self) -> None:
        """The stream said that it is over."""

    def reply(self) -> dict[str, Any]:
        """The reply that would have come in one piece; TransportError when it stopped before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """How requests look on their way out, and replies on their way in.

    Attributes:
        name: goes ahead of the addresses in a client's fingerprint, so that formats are told apart.
        url: where a request for a model goes.
        fields: header fields of every request, but for the key and the content's type.
        key_header: how the key is sent, where the access does not say.
        body: what is sent, with the model called `name`; RequestRefusedError for a parameter that cannot be.
        stream: makes what takes in the events of one streamed reply.
        read_answer: the fields of a Generation that a complete reply decides; TransportError for an error or a
            missing part.
    """

    name: str
    url: Callable[[Access, ModelRef], str]
    fields: Callable[[Access], Mapping[str, str]]
    key_header: Callable[[Access], KeyHeader]
    body: Callable[..., dict[str, Any]]  # (request, *, name, stream)
    stream: Callable[[], Stream]
    read_answer: Callable[[Mapping[str, Any]], dict[str, Any]]


def wire_sampling(request: Request, *, rules: str | None = None) -> dict[str, Any]:
    """The request's sampling parameters and seed under the names that its provider and model take.

    Args:
        rules: whose rules hold, by default those of the model's provider.

    Raises:
        RequestRefusedError: one of them cannot be sent there; nothing is ever left out in silence.

    >>> from llmlab.bundle.bundle import Sampling
    >>> o3 = ModelRef.parse("openai/o3-2025-04-16")
    >>> wire_sampling(Request(model=o3, messages=(), sampling=Sampling(max_tokens=200)))
    {'max_completion_tokens': 200}
    """
    model, extra = request.model, request.sampling.extra
    sent = {key: value for key, value in request.sampling.sent.items() if key != "extra"}
    if request.seed is not None:
        sent["seed"] = request.seed
    if clash := sorted((sent.keys() | RESERVED) & extra.keys()):
        raise RequestRefusedError(
            f"sampling.extra sets {', '.join(clash)}, which is set elsewhere; remove it there", attempts=0
        )
    sent |= extra
    renamed: dict[str, str] = {}
    for level in _rules_for(rules or model.provider, model.id):
        renamed |= level.get("rename", {})
        for name, rule in level.get("refuse", {}).items():
            if name in sent and not _passes(sent[name], rule, sent):
                raise _refusal(model, f"{name} == {sent[name]!r}", rule["why"])
        both = level.get("not_both", ())
        if both and all(name in sent for name in both):
            raise _refusal(model, " and ".join(both), "it takes only one of them")
    return {renamed.get(name, name): list(v) if isinstance(v, tuple) else v for name, v in sent.items()}


def sampling_rules(rules: str, model_id: str) -> tuple[tuple[str, ...], str]:
    """What a model does not take under these rules (a provider's, or "anthropic_messages"), one sentence each.

    Also the page this was read from, "" without rules.

    >>> sampling_rules("anthropic_messages", "claude-haiku-4-5-20251001")[0][-1]
    'not temperature and top_p together'
    """
    sentences: dict[str, str] = {}
    source = ""
    for level in _rules_for(rules, model_id):
        source = level.get("source", source)
        for name, rule in level.get("refuse", {}).items():
            but = f" but {', '.join(map(str, rule['only']))}" if "only" in rule else ""
            but = f" above {rule['at_most']}" if "at_most" in rule else but
            sentences[name] = f"no {name}{but}: {rule['why']}"
        if both := level.get("not_both"):
            sentences[" ".join(both)] = f"not {' and '.join(both)} together"
    return tuple(sentences.values()), source


def read_json(body: bytes, *, known: bool = False) -> dict[str, Any]:
    """The JSON object in a body that came with status 200; TransportError where it is none.

    A web page from an address that is not `known` to answer is an UnusableEndpointError.
    """
    try:
        reply = json.loads(body)
    except ValueError:  # a page, a torn body, bad UTF-8
        if _PAGE.match(body) and not known:
            problem = f"the address answers with a web page: {_excerpt(body)}"
            raise UnusableEndpointError(f"{problem} (check base_url; most servers want /v1 at its end)") from None
        raise TransportError(f"the reply is not JSON: {_excerpt(body)}") from None
    except RecursionError:
        raise TransportError("the reply is nested too deeply") from None
    if not isinstance(reply, dict):
        raise TransportError(f"the reply is no JSON object: {_excerpt(body)}")
    return reply


def begins_events(body: bytes) -> bool:
    """Whether a body begins as server-sent events do, with a field or a comment.

    >>> [begins_events(body) for body in (b'data: {"a": 1}', b": keep-alive", b'{"data": 1}', b"<html>")]
    [True, True, False, False]
    """
    return _EVENTS.match(body) is not None


def sse_data(received: bytes, rest: bytes) -> tuple[Iterator[bytes], bytes]:
    """The `data` of the server-sent events that are complete, and the bytes that are not yet.

    `error` fields, which llama.cpp sends instead of data, come out like data.
    Source: HTML standard, section 9.2.6. Lines may end in LF, CRLF or CR; data on several lines are joined where
    they are one JSON value, because some servers leave out the empty line between events.

    >>> values, rest = sse_data(b'data: {"a": 1}\\n\\ndata: [DO', b"")
    >>> list(values), rest
    ([b'{"a": 1}'], b'data: [DO')
    """
    whole = rest + received
    pending_cr = b"\r" if whole.endswith(b"\r") else b""  # LF may follow
    lines = whole[: len(whole) - len(pending_cr)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *events, rest = lines.split(b"\n\n")
    return (value for event in events for value in _data_of(event)), rest + pending_cr


def sse_end(rest: bytes) -> Iterator[bytes]:
    """The `data` of a last event that no empty line follows; a line that was cut is no data."""
    whole = rest.replace(b"\r", b"\n")
    return _data_of(whole[: whole.rfind(b"\n") + 1])


def whole_characters(value: Any) -> Any:
    """The same value with halves of characters joined in its texts, and a half on its own replaced.

    >>> whole_characters({"text": "\\ud83d\\ude00", "id": "a\\ud83d"})
    {'text': '😀', 'id': 'a\ufffd'}
    """
    if isinstance(value, str):
        halves = _HALVES.search(value)
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if halves else value
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(part) for key, part in value.items()}
    return type(value)(map(whole_characters, value)) if type(value) in (list, tuple) else value


def family_of(finish: Any) -> str:
    """A finish reason without what follows its first word; TransportError where the provider broke the answer off.

    >>> family_of("content_filter: RECITATION"), family_of(None)
    ('content_filter', '')
    """
    first = re.split(r"[:;\s]", str(finish or "").strip().lower().replace("-", "_"))[0]
    if first in _BROKEN_OFF:
        raise TransportError(f"the provider broke the answer off: {excerpt(str(finish))}")
    return first


def inner_error(reply: Mapping[str, Any]) -> None:
    """Raise the error of a reply or event that is one: `{"error": ...}`, or `{"object": "error", ...}`.

    A WithheldError where its code means the provider's policy, else a TransportError, or why no attempt can help.
    """
    error = reply.get("error") or (reply if "error" in (reply.get("object"), reply.get("type")) else None)
    if error:
        if (refused := refused_generation(200, json.dumps(reply))) is not None:
            raise WithheldError(refused.error)
        problem = f"status 200, but an error inside: {excerpt(str(error))}"
        if _code(error) in _NO_CREDIT:
            raise UnusableEndpointError(f"{problem} (the account has no credit left)")
        if "unexpected endpoint" in str(error).lower():  # LM Studio
            raise UnusableEndpointError(f"{problem} (check base_url; most servers want /v1 at its end)")
        raise TransportError(problem)


def status_of(finish: str, *, withheld: frozenset[str], cut_short: frozenset[str], text: str, acts: bool) -> Status:
    """What became of an answer that ended for this reason; one that calls a tool needs no text."""
    if finish in withheld:
        return "refused"
    if finish in cut_short:
        return "truncated"
    return "ok" if text.strip() or acts else "empty"


def text_of(content: Any) -> str:
    """A text, or the text parts of a list of parts; "" for anything else.

    >>> text_of([{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}])
    'Paris'
    """
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def without_thought(text: str) -> tuple[str, str]:
    """A text as (answer, thought), where it begins with thoughts in tags: told apart, never closed, or opened unseen.

    Opened unseen: the prompt's own template wrote `<think>`, so that only `</think>` on its line comes back.

    >>> without_thought("<think>2 + 2</think>\\n\\n4"), without_thought("2 + 2\\n</think>\\n4")
    (('4', '2 + 2'), ('4', '2 + 2'))
    >>> without_thought("<think>2 + 2 is"), without_thought("4")
    (('', '2 + 2 is'), ('4', ''))
    """
    thoughts = []
    while opened := _OPENED.match(text):
        tag = opened[1]  # which is closed as it was written
        thought, _, text = text[opened.end() :].partition(f"{tag[0]}/{tag[1:]}")
        thoughts.append(thought.strip())
        text = text.lstrip()
    closed = _CLOSED_LINE.search(text) if not thoughts and "</think>" in text else None
    if closed and "<think>" not in text[: closed.start()]:
        return text[closed.end() :].lstrip(), text[: closed.start()].strip()
    return text, "\n".join(filter(None, thoughts))


def is_thinking(text: str) -> bool:
    """Whether what came of a streamed text is no answer yet: the begin of a thought in tags, or a part of a tag.

    >>> [is_thinking(text) for text in ("<thi", "<think>2 +", "<think>2</think>", "<think>2</think>4", "<b>", "4")]
    [True, True, True, False, False, False]
    """
    begun = text.lstrip()
    if any(tag.startswith(begun.lower()) for tag in _TAGS):
        return True
    return _OPENED.match(text) is not None and not without_thought(text)[0]


def thought_of(message: Mapping[str, Any]) -> str:
    """The thought that a message carries beside its text: `reasoning_content` or `reasoning`, or parts of its content.

    >>> thought_of({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]}]})
    '2 + 2'
    """
    beside = text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))
    parts = content if isinstance(content := message.get("content"), list) else []
    return beside or "".join(text_of(part.get("thinking")) for part in parts if isinstance(part, dict))


def word(value: Any) -> str | None:
    """A text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def mapping_of(value: Any) -> Mapping[str, Any]:
    """A JSON object, {} for anything else."""
    return value if isinstance(value, Mapping) else {}


def count(value: Any) -> int | None:
    """A number of tokens, also written as a text or with a decimal point; else None."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and value < 1e15:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def larger_counts(before: Any, after: Any) -> Any:
    """What was used by two reports of one stream, which only grows: some servers end it with zeros.

    >>> larger_counts({"prompt_tokens": 5, "details": {"cached": 1}}, {"prompt_tokens": 0, "completion_tokens": 2})
    {'prompt_tokens': 5, 'details': {'cached': 1}, 'completion_tokens': 2}
    """
    if isinstance(before, Mapping):
        news = mapping_of(after).items()
        return {**before, **{name: larger_counts(before.get(name), value) for name, value in news}}
    old, new = count(before), count(after)
    return before if old is not None and (new is None or old > new) else after


def parsed(text: Any) -> Any:
    """Arguments of a tool parsed where they are JSON; else as the model wrote them, for a scorer to judge."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def refused_generation(status: int, text: str) -> Generation | None:
    """A refusal where the CODE of an error means the provider's policy, with the provider's words; else None.

    So it may come as an HTTP error, or inside status 200, where a stream has begun.
    """
    error, message = _error(text)
    if status not in (200, 400, 403) or not isinstance(error, dict):
        return None
    inner, more = error.get("innererror"), error.get("metadata")
    levels = [level for level in (error, inner) if isinstance(level, dict)]
    codes = {str(level.get(key)).lower() for level in levels for key in ("code", "type")}
    flagged = isinstance(more, dict) and "flagged_input" in more  # OpenRouter's moderation has no code of its own
    if not codes & POLICY and not flagged:
        return None
    words = excerpt(whole_characters(message))
    return Generation(status="refused", error=f"the provider's content filter refused the prompt: {words}")


def failure_of(status: int, text: str, *, headers: Mapping[str, str], access: Access) -> CallError:
    """The error to raise: TransportError where another attempt may help, RequestRefusedError with advice elsewhere."""
    error, message = _error(text)
    words = excerpt(message)
    failure = f"{access.base_url} answered {status}" + (f": {words}" if words else "")
    if status == 429 and _code(error) in _NO_CREDIT:
        return RequestRefusedError(f"{failure} (the account has no credit left)", status_code=status)
    if status in _TRY_AGAIN or status >= 500:
        return TransportError(failure, status_code=status, retry_after_s=retry_after_s(headers))
    advice = _ADVICE.get(status, "sending it again cannot help")
    if status in (400, 422) and (name := _not_taken(words)):
        advice = f"it does not take {name}: remove it from the bundle, or write drop: [{name}] in endpoints.yaml"
    if status == 401:
        wrong = f"the key in {access.key_env} is wrong or expired"
        unset = f"it wants a key: set the environment variable {access.key_env}"
        named = "this endpoint wants a key; name key_env, or what it wants in headers: {Authorization: VARIABLE}"
        advice = (wrong if access.key else unset) if access.key_env else named
    if 300 <= status < 400:
        advice = "it points elsewhere, and a key is not sent after it; write the final address as base_url"
    return RequestRefusedError(f"{failure} ({advice})", status_code=status)


def _passes(value: Any, rule: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    unless = rule.get("unless", {})
    if unless and all(sent.get(name) == wanted for name, wanted in unless.items()):
        return True
    return value in rule.get("only", ()) or ("at_most" in rule and value <= rule["at_most"])


def _refusal(model: ModelRef, what: str, why: str) -> RequestRefusedError:
    return RequestRefusedError(
        f"{model} cannot be sent {what}: {why}. Remove it from the bundle's sampling", attempts=0
    )


def _rules_for(name: str, model_id: str) -> Iterator[dict[str, Any]]:
    rules = _all_rules()
    family = rules.get(name, {})
    family = rules[family["same_as"]] if "same_as" in family else family
    yield family
    for rule in rules[family["models_as"]]["models"] if "models_as" in family else family.get("models", ()):
        if re.fullmatch(rule["match"], model_id):
            yield rule
            return


@cache
def _all_rules() -> Any:
    return read_yaml(RULES_FILE)[0]


def _not_taken(message: str) -> str:
    """The parameter that an endpoint says it does not take, "" where it says nothing of that kind.

    >>> _not_taken("Unsupported parameter: 'stream_options'"), _not_taken("temperature must be at most 1")
    ('stream_options', '')
    """
    parameter = re.search(rf"\b({'|'.join(_PARAMETERS)})\b", message)
    return parameter[1] if parameter and _NOT_TAKEN.search(message) else ""


def _code(error: Any) -> str:
    return str(error.get("code") or error.get("type") or "").lower() if isinstance(error, dict) else ""


def _error(text: str) -> tuple[Any, str]:
    """The error in a body, None where there is none, and what it says: its message, or the whole text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None, text
    body = body[0] if isinstance(body, list) and body else body  # Google's
    if not isinstance(body, dict):
        return None, text
    bare = body.get("object") == "error"  # vLLM's own shape, which has everything at the top, as Alibaba's
    error = body if bare else body.get("error", body.get("detail", body if "code" in body else None))
    message = error.get("message") if isinstance(error, dict) else error
    return error, message if isinstance(message, str) and message else text


def _data_of(event: bytes) -> Iterator[bytes]:
    fields = (line.removeprefix(b"\xef\xbb\xbf").partition(b":") for line in event.split(b"\n"))
    values = [value.strip() for name, _, value in fields if name in (b"data", b"error") and value.strip()]
    if len(values) < 2:
        return iter(values)
    joined = b"\n".join(values)
    try:
        json.loads(joined)
    except (ValueError, RecursionError):
        return iter(values)
    return iter([joined])


def _excerpt(body: bytes) -> str:
    return excerpt(body.decode("utf-8", "replace"), limit=120) or "(empty)"
