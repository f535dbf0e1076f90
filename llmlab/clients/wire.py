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

from llmlab.base.errors import CallError, RequestRefusedError, TransportError
from llmlab.base.private import excerpt
from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.access import Access, KeyHeader
from llmlab.clients.base import LARGEST_CACHE, Generation, Request
from llmlab.clients.retry import retry_after_s

__all__ = [
    "Stream",
    "WireFormat",
    "count",
    "failure_of",
    "inner_error",
    "is_thinking",
    "parsed",
    "read_json",
    "refused_generation",
    "sampling_rules",
    "sse_data",
    "text_of",
    "thought_of",
    "wire_sampling",
    "without_thought",
    "word",
]

RULES_FILE = Path(__file__).with_name("sampling_rules.yaml")
RESERVED = frozenset({"model", "messages", "system", "stream", "stream_options", "tools", "n"})  # ours to set
TRY_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx
NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TAGS = ("<think>", "<thinking>", "<thought>", "<reasoning>", "[think]")
_OPENED = re.compile(rf"\s*({'|'.join(map(re.escape, _TAGS))})", re.IGNORECASE)
_CLOSED_LINE = re.compile(r"(?:^|(?<=\n))[ \t]*</think>|</think>(?=[ \t]*(?:\n|$))")
_ADVICE = {
    400: "the request breaks a rule of this endpoint; change the bundle as it says",
    402: "the account has no credit left",
    403: "the key may not use this model or region",
    404: "no such model or path; check the model id, deployment and base_url",
    413: "the request is too large; shorten the prompt",
    422: "a value has the wrong form for this endpoint; change the bundle as it says",
}


class Stream(Protocol):
    """Events of one reply, put together."""

    started: bool

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        ...

    def end(self) -> None:
        """The stream said that it is over."""
        ...

    def reply(self) -> dict[str, Any]:
        """The reply that would have come in one piece; TransportError when it stopped before its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """How requests look on their way out, and replies on their way in.

    Attributes:
        name: goes ahead of the addresses in a client's fingerprint, so that formats are told apart.
        url: where a request for a model goes.
        fields: header fields of every request, but for the key.
        key_header: how the key is sent, where the access does not say.
        body: what is sent, with the model called `name`; RequestRefusedError for a parameter that cannot be.
        stream: made with the secrets, it takes in the events of one streamed reply.
        read_answer: the fields of a Generation that a complete reply decides; TransportError for an error or a
            missing part.
    """

    name: str
    url: Callable[[Access, ModelRef], str]
    fields: Callable[[Access], Mapping[str, str]]
    key_header: Callable[[Access], KeyHeader]
    body: Callable[..., dict[str, Any]]  # (request, *, name, stream)
    stream: Callable[[tuple[str, ...]], Stream]
    read_answer: Callable[..., dict[str, Any]]  # (reply, *, secrets)


def wire_sampling(request: Request, *, rules: str | None = None) -> dict[str, Any]:
    """The request's sampling parameters and seed under the names that its provider and model take; not to be changed.

    Args:
        rules: whose rules hold, by default those of the model's provider.

    Raises:
        RequestRefusedError: one of them cannot be sent there; nothing is ever left out in silence.

    >>> from llmlab.bundle.bundle import Sampling
    >>> o3 = ModelRef.parse("openai/o3-2025-04-16")
    >>> wire_sampling(Request(model=o3, messages=(), sampling=Sampling(max_tokens=200)))
    {'max_completion_tokens': 200}
    """
    name = rules or request.model.provider
    if request.seed is not None:
        return _sent(request.model, request.sampling, request.seed, name)
    place = (id(request.model), id(request.sampling), name)  # all calls of a bundle share both
    known = _KNOWN.get(place)
    if known is None:
        sent = _sent(request.model, request.sampling, None, name)
        if len(_KNOWN) >= LARGEST_CACHE:
            _KNOWN.clear()
        known = _KNOWN[place] = (request.model, request.sampling, sent)
    return known[2]


def sampling_rules(rules: str, model_id: str) -> tuple[tuple[str, ...], str]:
    """What a model does not take under these rules (a provider's, or "anthropic_messages"), one sentence each.

    Also the page this was read from, "" without rules.

    >>> sampling_rules("anthropic_messages", "claude-haiku-4-5-20251001")[0][-1]
    'not temperature and top_p together'
    """
    told: dict[str, str] = {}
    source = ""
    for level in _rules_for(rules, model_id):
        source = level.get("source", source)
        for name, rule in level.get("refuse", {}).items():
            but = f" but {', '.join(map(str, rule['only']))}" if "only" in rule else ""
            but = f" above {rule['at_most']}" if "at_most" in rule else but
            told[name] = f"no {name}{but}: {rule['why']}"
        if both := level.get("not_both"):
            told[" ".join(both)] = f"not {' and '.join(both)} together"
    return tuple(told.values()), source


def read_json(body: bytes, *, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON object in a body that came with status 200; TransportError where it is none."""
    try:
        reply = json.loads(body)
    except ValueError:  # HTML from a proxy, a torn body, bad UTF-8
        raise TransportError(f"the reply is not JSON: {_excerpt(body, secrets)}") from None
    except RecursionError:
        raise TransportError("the reply is nested too deeply") from None
    if not isinstance(reply, dict):
        raise TransportError(f"the reply is no JSON object: {_excerpt(body, secrets)}")
    return reply


def sse_data(received: bytes, rest: bytes) -> tuple[Iterator[bytes], bytes]:
    """The `data` of the server-sent events that are complete, and the bytes that are not yet.

    `error` fields, which llama.cpp sends instead of data, come out like data.
    Source: HTML standard, section 9.2.6; both wire formats keep an event's data on one line.

    >>> values, rest = sse_data(b'data: {"a": 1}\\n\\ndata: [DO', b"")
    >>> list(values), rest
    ([b'{"a": 1}'], b'data: [DO')
    """
    *lines, rest = (rest + received).split(b"\n")
    fields = (line.partition(b":") for line in lines)  # comments keep the line open; event names are in the data too
    return (value.strip() for name, _, value in fields if name in (b"data", b"error") and value.strip()), rest


def inner_error(reply: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> None:
    """Raise the TransportError of a reply or event that is one: `{"error": ...}`, or `{"object": "error", ...}`."""
    error = reply.get("error") or (reply if "error" in (reply.get("object"), reply.get("type")) else None)
    if error:
        raise TransportError(f"status 200, but an error inside: {excerpt(str(error), secrets=secrets)}")


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
        thought, _, text = text[opened.end() :].partition(_closing(opened))
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


def count(value: Any) -> int | None:
    """A number of tokens, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def parsed(text: Any) -> Any:
    """Arguments of a tool parsed where they are JSON; else as the model wrote them, for a scorer to judge."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def refused_generation(status: int, text: str) -> Generation | None:
    """Azure answers a filtered prompt with status 400: to whoever asked, that is a refusal. Else None."""
    if status == 400 and _code(text) == "content_filter":
        return Generation(status="refused", error="the provider's content filter refused the prompt")
    return None


def failure_of(
    status: int, text: str, *, headers: Mapping[str, str], where: str, key_env: str | None, secrets: tuple[str, ...]
) -> CallError:
    """The error to raise: TransportError where another attempt may help, RequestRefusedError with advice elsewhere."""
    said = excerpt(_message(text), secrets=secrets)
    told = f"{where} answered {status}" + (f": {said}" if said else "")
    if status == 429 and _code(text) in NO_CREDIT:
        return RequestRefusedError(f"{told} (the account has no credit left)", status_code=status)
    if status in TRY_AGAIN or status >= 500:
        return TransportError(told, status_code=status, retry_after_s=retry_after_s(headers))
    advice = _ADVICE.get(status, "sending it again cannot help")
    if status == 401:
        wrong = f"the key in {key_env} is wrong or expired"
        unset = f"it wants a key: set the environment variable {key_env}"
        advice = (wrong if secrets else unset) if key_env else "this endpoint wants a key; name key_env"
    if 300 <= status < 400:
        advice = "it points elsewhere, and a key is not sent after it; write the final address as base_url"
    return RequestRefusedError(f"{told} ({advice})", status_code=status)


def _sent(model: ModelRef, sampling: Sampling, seed: int | None, rules: str) -> dict[str, Any]:
    given = {key: value for key, value in sampling.sent.items() if key != "extra"}
    if seed is not None:
        given["seed"] = seed
    extra = sampling.extra
    if clash := sorted((given.keys() | RESERVED) & extra.keys()):
        raise RequestRefusedError(
            f"sampling.extra sets {', '.join(clash)}, which is set elsewhere; remove it there", attempts=0
        )
    given.update(extra)
    renamed: dict[str, str] = {}
    for level in _rules_for(rules, model.id):
        renamed.update(level.get("rename", {}))
        for name, rule in level.get("refuse", {}).items():
            if name in given and not _passes(given[name], rule, given):
                raise _refusal(model, f"{name} == {given[name]!r}", rule["why"])
        both = level.get("not_both", ())
        if both and all(name in given for name in both):
            raise _refusal(model, " and ".join(both), "it takes only one of them")
    return {renamed.get(name, name): _plain(value) for name, value in given.items()}


def _passes(value: Any, rule: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    unless = rule.get("unless", {})
    if unless and all(given.get(name) == wanted for name, wanted in unless.items()):
        return True
    return value in rule.get("only", ()) or ("at_most" in rule and value <= rule["at_most"])


def _refusal(model: ModelRef, what: str, why: str) -> RequestRefusedError:
    return RequestRefusedError(
        f"{model} cannot be sent {what}: {why}. Remove it from the bundle's sampling", attempts=0
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


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
def _all_rules() -> dict[str, dict[str, Any]]:
    rules: dict[str, dict[str, Any]]
    rules, _ = read_yaml(RULES_FILE)
    return rules


def _message(text: str) -> str:
    error = _error(text)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else text


def _code(text: str) -> str:
    error = _error(text)
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


def _error(text: str) -> Any:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    return body if body.get("object") == "error" else body.get("error", body.get("detail"))  # vLLM's own shape first


def _closing(opened: re.Match[str]) -> str:
    """The tag that ends a thought, as the one that began it is written."""
    return f"{opened[1][0]}/{opened[1][1:]}"


def _excerpt(body: bytes, secrets: tuple[str, ...]) -> str:
    return excerpt(body.decode("utf-8", "replace"), secrets=secrets, limit=120) or "(empty)"


# the values are kept, so that their ids stay their own
_KNOWN: dict[tuple[int, int, str], tuple[ModelRef, Sampling, dict[str, Any]]] = {}
