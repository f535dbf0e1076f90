"""What a call is made of: the request that goes out, the generation that comes back, and who carries it.

A client is anything with a `fingerprint` and an async `complete(request) -> Generation`; so wrapping
an SDK takes a few lines. `engine` fills in variant, case and repeat; a client leaves them empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from decimal import Decimal
from itertools import pairwise
from json.encoder import encode_basestring_ascii
from numbers import Integral, Real
from operator import attrgetter
from typing import Any, Literal, Protocol, TypeVar, cast, get_args, runtime_checkable

from pydantic_core import from_json

from llmlab.base.private import Secrets, scrub
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.display.shown import Shown

Status = Literal["ok", "refused", "truncated", "empty", "timeout", "error"]
ANSWERED: frozenset[str] = frozenset({"ok", "refused", "truncated", "empty"})  # the model's doing: stored and scored
ANSWER_COLUMNS = (  # of every result, in their order
    *("variant", "case_id", "repeat", "status", "text", "thought", "retrieved", "tool_calls"),
    *("input_tokens", "output_tokens", "cached_input_tokens", "latency_s", "first_token_s", "cost_usd"),
    *("served_model", "system_fingerprint", "cached", "attempts", "error", "steps", "call_key", "bounds"),
)

Value = TypeVar("Value")
LARGEST_CACHE = 1_000
_BYTES_PER_PICTURE = 4_000  # about 1,000 tokens, what a picture of a megapixel comes to
FIRED = "guard:"  # begins the step that names a guard that fired
GUARDED = "guards="  # in the fingerprint of a client behind guards, before their digest

_STATUSES: tuple[str, ...] = get_args(Status)
_TOKENS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that the endpoint billed, None = not reported.

    `input_tokens` are all of them: those read from the provider's cache and those written into it are among them.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None

    def __post_init__(self) -> None:
        """Another library's whole numbers, such as numpy's, are Python's: an answer with them could not be stored."""
        for name in _TOKENS:
            if type(value := getattr(self, name)) is not int and isinstance(value, Integral):
                object.__setattr__(self, name, int(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that can change the answer, but for the endpoint (its client's `fingerprint`).

    `messages` are `{"role", "content"}` mappings in order; `seed` is the bundle's seed plus the repeat. `about`
    says what the request was made of (inputs, retrieved, bundle): neither sent nor in its JSON, for who records it.
    """

    model: ModelRef
    messages: tuple[Mapping[str, Any], ...]
    sampling: Sampling
    tools: tuple[Mapping[str, Any], ...] = ()
    seed: int | None = None
    repeat: int = 0
    about: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> str:
        """The request as compact JSON, always in one order: the part of the call key that a bundle decides.

        Every field is in it; what is not set is null or left out, so absent and zero differ.
        """
        messages = ",".join([_message_json(message) for message in self.messages])
        tools = _SORTED.encode(self.tools) if self.tools else "[]"
        return (
            f'{{"model":{_fixed(self.model, "identity")},"sampling":{_fixed(self.sampling, "sent")},'
            f'"messages":[{messages}],"repeat":{self.repeat},'
            f'"seed":{"null" if self.seed is None else self.seed},"tools":{tools}}}'
        )

    def in_turns(self) -> tuple[tuple[Mapping[str, Any], ...], ...]:
        """The messages cut where a user's words follow a user's: what comes before is answered first, by a run.

        >>> from llmlab.bundle.bundle import Sampling
        >>> twice = ({"role": "user", "content": "Hi"}, {"role": "user", "content": "And you?"})
        >>> len(Request(model=ModelRef.parse("openai/x"), messages=twice, sampling=Sampling()).in_turns())
        2
        """
        roles = [message.get("role") for message in self.messages]
        cuts = [i for i in range(1, len(roles)) if roles[i] == roles[i - 1] == "user"]
        return tuple(self.messages[start:end] for start, end in pairwise([0, *cuts, len(roles)]))

    def after(self, answer: Generation, *messages: Mapping[str, Any] | str) -> Request:
        """The request that goes on after an answer: with the results of its tool calls in order, or the user's words.

        A text is the result of the next tool call, or of the user where no call is left.

        >>> from llmlab.bundle.bundle import Sampling
        >>> request = Request(model=ModelRef.parse("openai/x"), messages=(), sampling=Sampling())
        >>> calls = ({"name": "add", "arguments": {"a": 1}},)
        >>> [m["role"] for m in request.after(Generation(tool_calls=calls), "2", "and now?").messages]
        ['assistant', 'tool', 'user']
        """
        calls = [
            {
                "id": f"call_{len(self.messages)}_{place}",  # ours: what a provider calls it is kept nowhere
                "type": "function",
                "function": {"name": call["name"], "arguments": _COMPACT.encode(call["arguments"])},
            }
            for place, call in enumerate(answer.tool_calls)
        ]
        reply = {"role": "assistant", "content": answer.text, **({"tool_calls": calls} if calls else {})}
        waiting, more = [call["id"] for call in calls], list[Mapping[str, Any]]()
        for message in messages:
            if isinstance(message, Mapping):
                more.append(message)
            elif waiting:
                more.append({"role": "tool", "tool_call_id": waiting.pop(0), "content": message})
            else:
                more.append({"role": "user", "content": message})
        if waiting:
            raise ValueError(f"{len(messages)} results for {len(calls)} tool calls; give each its own, in their order")
        return replace(self, messages=(*self.messages, reply, *more))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The request that `to_json` wrote, for example to show it as a command again."""
        record = json.loads(text)
        model, sampling = ModelRef(**record.pop("model")), Sampling(**record.pop("sampling"))
        messages, tools = tuple(record.pop("messages")), tuple(record.pop("tools"))
        return cls(model=model, sampling=sampling, messages=messages, tools=tools, **record)


def estimated_bytes(message: Mapping[str, Any]) -> int:
    """UTF-8 bytes of a message, for estimates of its tokens; a picture or file counts for 4,000, whatever its size.

    >>> picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    >>> estimated_bytes({"role": "user", "content": [{"type": "text", "text": "what?"}, picture]})
    4005
    """
    content, calls = message.get("content") or "", message.get("tool_calls")
    parts = [content] if isinstance(content, str) else content
    texts = [part if isinstance(part, str) else part.get("text") for part in parts]
    size = sum(_BYTES_PER_PICTURE if text is None else n_bytes(text) for text in texts)
    return size + (n_bytes(json.dumps(calls, ensure_ascii=False)) if calls else 0)


def n_bytes(text: str) -> int:
    """How long a text is in UTF-8, half a surrogate pair included.

    >>> n_bytes("price"), n_bytes("価格")
    (5, 6)
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def with_calls(text: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """A text, and below it each tool call as JSON on a line of its own; the text as it is where nothing is called.

    >>> with_calls("", [{"name": "weather", "arguments": {"city": "Köln"}}])
    '{"name": "weather", "arguments": {"city": "Köln"}}'
    """
    return "\n".join(filter(None, (text, *(json.dumps(call, ensure_ascii=False) for call in calls))))


def _message_json(message: Mapping[str, Any]) -> str:
    """The message as `_SORTED` writes it, in a third of the time where it is a role and a text."""
    content, role = message.get("content"), message.get("role")
    if len(message) == 2 and type(content) is str and type(role) is str:
        return f'{{"content":{encode_basestring_ascii(content)},"role":{encode_basestring_ascii(role)}}}'
    return _SORTED.encode(message)


def _fixed(value: ModelRef | Sampling, field_name: str) -> str:
    """The JSON of what all calls of a bundle share, written once."""
    cached = _FIXED.get(id(value))
    if cached is None:
        if len(_FIXED) >= LARGEST_CACHE:
            _FIXED.clear()
        cached = _FIXED[id(value)] = (value, _SORTED.encode(getattr(value, field_name)))
    return cached[1]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Generation(Shown):
    """One answer, or the reason why there is none.

    Attributes:
        variant, case_id, repeat: which cell of the experiment this is (filled in by the run).
        status: `ok`, `refused`, `truncated`, `empty` are answers; `timeout` and `error` are none.
        text: what the model said; "" where it said nothing.
        thought: what a reasoning model thought before, where it tells; no part of the text.
        retrieved: ids of the documents in the prompt, best first.
        tool_calls: `{"name", "arguments"}` mappings, arguments already parsed where they are JSON.
        usage: tokens billed.
        latency_s: seconds from sending the last attempt to its last byte; waiting for rate limits left out.
        first_token_s: seconds to the first token, None without streaming.
        cost_usd: None = unknown, never zero for unknown. Failed attempts that were billed are included.
        served_model, system_fingerprint: what the provider says answered.
        cached: True when this came from the call store; latency and cost are then the original ones.
        attempts: how many requests were sent for it, retries included.
        error: what went wrong, without keys.
        steps: names of the calls an application made, and `guard:NAME` of each guard that fired.
        call_key: where the call store keeps it.
        bounds: (name, lowest, highest) of those of latency_s, cost_usd, output_tokens and input_tokens that are not
            known but cannot be anything (filled in by the run).
    """

    variant: str = ""
    case_id: str = ""
    repeat: int = 0
    status: Status = "ok"
    text: str = ""
    thought: str = ""
    retrieved: tuple[str, ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    usage: Usage = field(default_factory=Usage)
    latency_s: float | None = None
    first_token_s: float | None = None
    cost_usd: Decimal | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None
    cached: bool = False
    attempts: int = 1
    error: str = ""
    steps: tuple[str, ...] = ()
    call_key: str = ""
    bounds: tuple[tuple[str, float, float], ...] = ()

    def __post_init__(self) -> None:
        """Of a client of one's own: None is nothing (an SDK's text of a tool call), and another type a TypeError.

        Seconds and dollars below zero (a clock was set back) or not finite are unknown: the answer is paid for.
        ValueError for a status that is none: "failed" would have counted as an answer.
        """
        if self.status not in _STATUSES:
            raise ValueError(f"status == {self.status!r}, must be one of {', '.join(_STATUSES)}")
        if self.text is None and self.status == "ok" and not self.tool_calls:
            object.__setattr__(self, "status", "empty")
        for name, (usual, kind, nothing) in _KINDS.items():
            if type(value := getattr(self, name)) is usual:  # an isinstance of an ABC takes ten times as long
                continue
            if value is None:
                object.__setattr__(self, name, nothing)
            elif not isinstance(value, kind):
                raise TypeError(f"{name} of a Generation is {type(value).__name__}, must be {kind.__name__}")
        if odd := [doc_id for doc_id in self.retrieved if not isinstance(doc_id, str)]:
            raise TypeError(f"retrieved of a Generation has {odd[0]!r}, must be ids as texts")
        if self.cost_usd is not None and not isinstance(self.cost_usd, Decimal):
            object.__setattr__(self, "cost_usd", Decimal(str(self.cost_usd)))
        for name in _AMOUNTS:
            if (value := getattr(self, name)) is not None and type(value) not in (float, int, Decimal):
                object.__setattr__(self, name, value := float(value))
            if value is not None and not _is_amount(value):
                object.__setattr__(self, name, None)

    @property
    def answered(self) -> bool:
        """Whether the model answered at all (refusals, empty and truncated texts are answers)."""
        return self.status in ANSWERED

    @property
    def shown(self) -> str:
        """What there is to read and to judge of it: `with_calls` of its text and its tool calls."""
        return with_calls(self.text, self.tool_calls)

    def to_json(self) -> str:
        """The answer as JSON, without the cell it belongs to: what the call store keeps. Defaults are left out."""
        record: dict[str, Any] = {"status": self.status, "text": self.text}
        for name, default in _KEPT_DEFAULTS.items():
            if (value := getattr(self, name)) != default:
                record[name] = value
        if "usage" in record:
            record["usage"] = [self.usage.input_tokens, self.usage.output_tokens, self.usage.cached_input_tokens]
            if self.usage.cache_write_tokens is not None:
                record["usage"].append(self.usage.cache_write_tokens)
        if "cost_usd" in record:
            record["cost_usd"] = str(self.cost_usd)
        return _COMPACT.encode(record)

    @classmethod
    def from_json(cls, text: str | bytes, **cell: Any) -> Generation:
        """The answer that `to_json` wrote, put into a cell; ValueError, KeyError or TypeError where it is torn."""
        try:
            record = from_json(text)
        except ValueError:
            record = json.loads(text)  # slower; it also takes half a surrogate pair, which a model may have said
        if "status" not in record or not isinstance(record.get("text"), str):
            raise KeyError("status or text")
        if (spent := record.get("usage")) is not None:
            record["usage"] = _filled(_OPEN_USAGE(*spent), Usage)
        if (cost := record.get("cost_usd")) is not None:
            record["cost_usd"] = Decimal(cost)
        for name in _AMOUNTS:  # of an earlier version
            if (value := record.get(name)) is not None and not _is_amount(value):
                record[name] = None
        for name in ("tool_calls", "steps"):
            if name in record:
                record[name] = tuple(record[name])
        record.update(cell)
        return _filled(_OPEN_GENERATION(**record), cls)

    def scrubbed(self, secrets: Secrets) -> Generation:
        """The answer without these secrets (of `secrets_now`): the same object where there is nothing to remove."""
        calls = json.dumps(self.tool_calls, default=str)
        texts = {name: value for name in _TEXTS if (value := getattr(self, name))}
        whole = "\n".join([*texts.values(), calls, *self.steps])
        if not any(spelling in whole for spelling, _ in secrets) and "://" not in self.error:
            return self
        clean: dict[str, Any] = {name: scrub(value, secrets=secrets) for name, value in texts.items()}
        clean["tool_calls"] = tuple(json.loads(scrub(calls, secrets=secrets)))
        return replace(self, **clean, steps=tuple(scrub(step, secrets=secrets) for step in self.steps))

    @classmethod
    def of_calls(cls, answers: Mapping[str, Generation]) -> Generation:
        """One answer of several calls in a row, each a step by its name: the last one's text, all of their amounts.

        What is unknown of one call is unknown of all. Its steps say what each call but the last answered, and which
        guards fired.

        >>> answers = {"turn 1": Generation(text="Hello", latency_s=1.0), "turn 2": Generation(text="4", latency_s=0.5)}
        >>> whole = Generation.of_calls(answers)
        >>> whole.text, whole.latency_s, whole.steps
        ('4', 1.5, ('turn 1: Hello', 'turn 2'))
        """
        if not answers:
            raise ValueError("of_calls of no answers; give at least one")
        *names, end = answers
        every, last = list(answers.values()), answers[end]
        usage = {count.name: _sum(getattr(answer.usage, count.name) for answer in every) for count in fields(Usage)}
        return replace(
            last,
            usage=Usage(**usage),
            latency_s=_sum(answer.latency_s for answer in every),
            first_token_s=every[0].first_token_s,
            cost_usd=_sum(answer.cost_usd for answer in every),
            cached=all(answer.cached for answer in every),
            attempts=sum(answer.attempts for answer in every),
            steps=(
                *(f"{name}: {_said(answers[name])}" for name in names),
                end,
                *(step for answer in every for step in answer.steps if step.startswith(FIRED)),
            ),
        )

    def placed(self, **cell: Any) -> Generation:
        """The same answer in a cell of the experiment: with `_CELL_FIELDS` filled in."""
        copy = _OPEN_GENERATION(*_VALUES(self))
        for name, value in cell.items():
            setattr(copy, name, value)
        return _filled(copy, Generation)


def _is_amount(value: Any) -> bool:
    """Whether seconds or dollars can be so many."""
    return value.is_finite() and value >= 0 if isinstance(value, Decimal) else 0 <= value < math.inf


def _sum(amounts: Iterable[Any]) -> Any:
    """Their sum; None where one is unknown."""
    values = list(amounts)
    return None if None in values else sum(values[1:], values[0])


def _said(answer: Generation) -> str:
    calls = (f"{call['name']}({_COMPACT.encode(call['arguments'])})" for call in answer.tool_calls)
    return " ".join(filter(None, (answer.text, *calls)))


def _open(frozen: type) -> Any:
    """A twin of a frozen class that can be filled: quick to make, where the frozen one's constructor is not."""
    parts = [
        (spec.name, spec.type, field(default=Usage() if spec.name == "usage" else spec.default))
        for spec in fields(frozen)
    ]
    return make_dataclass(f"_Open{frozen.__name__}", parts, bases=frozen.__bases__, slots=True)


def _filled(value: Any, frozen: type[Value]) -> Value:
    """The filled twin, frozen from now on."""
    value.__class__ = frozen
    return cast("Value", value)


_OPEN_GENERATION, _OPEN_USAGE = _open(Generation), _open(Usage)
_DEFAULTS = {part.name: part.default for part in fields(_OPEN_GENERATION)}
_VALUES = attrgetter(*_DEFAULTS)
_KINDS: dict[str, tuple[type, type, Any]] = {  # the usual type, what else it may be, and what None stands for
    **dict.fromkeys(("text", "thought", "error"), (str, str, "")),
    **dict.fromkeys(("tool_calls", "steps", "retrieved"), (tuple, Sequence, ())),
    **dict.fromkeys(("latency_s", "first_token_s"), (float, Real, None)),
    "usage": (Usage, Usage, Usage()),
}
_AMOUNTS = ("latency_s", "first_token_s", "cost_usd")
_TEXTS = ("text", "thought", "error", "served_model", "system_fingerprint")  # where a key may be repeated
_CELL_FIELDS = frozenset({"variant", "case_id", "repeat", "retrieved", "cached", "call_key", "bounds"})
_KEPT_DEFAULTS = {name: v for name, v in _DEFAULTS.items() if name not in _CELL_FIELDS | {"status", "text"}}
_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_FIXED: dict[int, tuple[ModelRef | Sampling, str]] = {}  # the value is kept, so that its id stays its own
_SORTED = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True)


@runtime_checkable
class Client(Protocol):
    """Carries one request to a model. Raises `CallError` (or a subclass) when there is no answer.

    `fingerprint` names the endpoint, without secrets: two endpoints that may answer differently differ in it.
    A client may also offer `price_usd(model, usage) -> Decimal | None`, used for budgets and dry runs, and
    `async aclose()`, called in the run's loop when it ends: it drops what belongs to that loop and no more, for the
    next run may use the client again.
    """

    fingerprint: str

    async def complete(self, request: Request) -> Generation:
        """The model's answer."""
