"""A guard is a scorer with a side and an action; `guarded` is a client that applies some, in a run and online alike.

On the input side it reads what users and tools wrote (the messages of these roles), on the output side the answer. It
fires where the score is not the best there is, or lies beyond its limit; an unscored text passes. A scorer that breaks
(its endpoint is down) lets the guard fire, unless told otherwise, and is named `NAME (broken)`. Guards that fired stand
in `Generation.steps` as `guard:NAME`, and in a trace where the recorder is around them:
`recorder.client(guarded(client, guards))`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from llmlab.base.errors import raised
from llmlab.clients.base import FIRED, GUARDED, Client, Generation, Request, Status, Usage
from llmlab.display.shown import Shown
from llmlab.golden.cases import Case
from llmlab.scorers.base import ScoreFunction, Scorer, as_scorers
from llmlab.scorers.source import code_digest

Side = Literal["input", "output"]
Action = Literal["refuse", "answer", "redact", "append", "flag"]
_REFUSAL = "I cannot help with this request."
_READ_ROLES = frozenset({"user", "tool"})  # the rest of a prompt is ours
_NO_TEXTS = frozenset({"type", "role", "image_url", "input_audio", "file"})  # in parts of messages
_OF_THE_CLIENT = frozenset({"aclose", "price_usd", "rests_s", "retry"})  # nothing that asks a model


class Ruling(NamedTuple):
    """What a guard says of one text: whether it fires, why, and whether its scorer gave no verdict or broke."""

    fires: bool
    why: str = ""
    unscored: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Guard(Shown):
    """A scorer with a side and an action (`guard` makes one).

    Attributes:
        scorer: reads the text.
        side: `input` (messages of users and tools) or `output` (the answer).
        then: what is done where it fires.
        limit: it fires where the score is worse than this.
        text: of the refusal, of the answer instead, or what is appended.
        when_broken: whether a scorer that raises lets it fire or the text pass.
        digest: sha256 over all of this and the scorer's own digest.
    """

    scorer: Scorer
    side: Side
    then: Action
    limit: float
    text: str = ""
    when_broken: Literal["fire", "pass"] = "fire"
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        about = [self.scorer.digest, self.side, self.then, self.limit, self.text, self.when_broken]
        if self.then == "redact" and self.scorer.redact is not None and not self.scorer.revision:
            about.append(code_digest(self.scorer.redact, []))
        object.__setattr__(self, "digest", hashlib.sha256(json.dumps(about).encode()).hexdigest())

    @property
    def name(self) -> str:
        """The scorer's."""
        return self.scorer.name

    async def judge(self, case: Case, generation: Generation) -> Ruling:
        """Whether it fires on a text; never raises."""
        try:
            score = await self.scorer.later(case, generation)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a scorer may raise anything; the rule for broken guards holds
            return Ruling(self.when_broken == "fire", raised(error), True, True)
        if score.value is None:
            return Ruling(False, score.explanation, True)
        worse = score.value < self.limit if self.scorer.higher_is_better else score.value > self.limit
        return Ruling(worse, score.explanation)

    def _rows(self) -> list[dict[str, object]]:
        sign = "<" if self.scorer.higher_is_better else ">"
        fires = f"{self.name} {sign} {self.limit:g}"
        return [{"guard": self.name, "side": self.side, "fires where": fires, "then": self.then, "text": self.text}]


def guard(
    scorer: Scorer | ScoreFunction,
    *,
    side: Side = "input",
    then: Action = "flag",
    text: str = "",
    limit: float | None = None,
    when_broken: Literal["fire", "pass"] = "fire",
) -> Guard:
    """A guard made of a scorer.

    Args:
        scorer: such as `ll.scorers.no_pii`, `no_keys`, `no_terms(...)`, `no_injection_markers`, `moderated()`,
            `json_schema(...)`, `citations_valid`, `grounded(corpus)`, or your own.
        side: `input` reads what users and tools wrote, before the call; `output` the answer.
        then: `flag` only counts; `redact` takes out what was found in the text (the scorer's `redact` does it; what
            still fires afterwards, as for what is in a tool call, is refused); `refuse` ends with status "refused";
            `answer` ends with `text` instead; `append` adds `text` below the answer. On the input side `refuse` and
            `answer` spare the call.
        text: of the refusal (by default a sentence), of the answer, or what is appended.
        limit: fires where the score is worse than this; by default where it is not the best that the scorer can give.
        when_broken: where the scorer raises: "fire" does what `then` says, "pass" lets the text pass; told either way.

    Raises:
        ValueError: the scorer needs expectations, which production has not; it has no `redact` or no best value; or a
            text is missing.

    >>> from llmlab.scorers.answers import no_pii
    >>> guard(no_pii, side="output", then="flag")
    Guard(guard=no_pii, side=output, fires where=no_pii < 1, then=flag, text=)
    """
    for what, value, known in (("side", side, get_args(Side)), ("then", then, get_args(Action))):
        if value not in known:
            raise ValueError(f"{what} == {value!r}, must be one of {', '.join(known)}")
    (scorer,) = as_scorers([scorer])
    if scorer.needs_expected:
        raise ValueError(f"{scorer.name} needs what a case expects, which a request of production has not")
    if then == "redact" and scorer.redact is None:
        raise ValueError(f"{scorer.name} cannot say what to take out; give it @scorer(redact=...), text -> text")
    if then in ("answer", "append") and not text.strip():
        raise ValueError(f"text == {text!r}, must say what to {then}")
    if limit is None:  # the best that it can give
        limit = scorer.high if scorer.higher_is_better else scorer.low
    if limit is None:
        raise ValueError(f"{scorer.name} has no best value; say from where on it fires: limit=...")
    if then in ("refuse", "redact"):
        text = text or _REFUSAL
    return Guard(scorer=scorer, side=side, then=then, limit=float(limit), text=text, when_broken=when_broken)


def guarded(client: Client, guards: Sequence[Guard]) -> Client:
    """The client behind these guards, in their order: for `ll.run(client=...)`, a service, or an application.

    The digest of the guards is part of its fingerprint, so guarded and unguarded answers never stand for each other in
    the call store; a recorder around it writes which guards fired, and the request as they let it through (one that was
    refused as it came). What a guard on the output withholds is gone: it is in no trace and no call store.

    >>> import asyncio
    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.bundle.bundle import Bundle
    >>> from llmlab.scorers.answers import no_pii
    >>> asked = Bundle.from_prompt("{{ q }}", model="offline/x").request(q="I am jo@firma.de")
    >>> client = guarded(FakeClient(lambda request: request.messages[-1]["content"]), [guard(no_pii, then="redact")])
    >>> asyncio.run(client.complete(asked)).text
    'I am [email address]'
    """
    if not guards:
        raise ValueError("no guard given; without one, use the client as it is")
    return _Guarded(client, tuple(guards))


class _Guarded:
    """A client behind guards."""

    def __init__(self, client: Client, guards: tuple[Guard, ...]) -> None:
        self._client, self._guards = client, guards
        self.guards_digest = hashlib.sha256(" ".join(guard.digest for guard in guards).encode()).hexdigest()
        self.fingerprint = f"{client.fingerprint} {GUARDED}{self.guards_digest}"

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_THE_CLIENT:  # what asks a model some other way would go around the guards
            raise AttributeError(name)
        return getattr(self._client, name)

    def limited_to(self, share: float) -> Client:
        """The same with a share of the rate limits, where the client has some."""
        limited = getattr(self._client, "limited_to", None)
        return self if limited is None else _Guarded(limited(share), self._guards)

    async def complete(self, request: Request) -> Generation:
        """The client's answer, or what a guard puts in its place."""
        return await self.complete_telling(request, lambda sent: None)

    async def complete_telling(self, request: Request, sent: Callable[[Request], object]) -> Generation:
        """The same, where a recorder is to be told what the guards made of the request before it goes out."""
        passing = _Passing(request)
        for guard in self._guards:
            if guard.side == "input" and (withheld := await passing.asked(guard)) is not None:
                return withheld
        sent(passing.request)
        answer = await self._client.complete(passing.request)
        for guard in self._guards:
            if guard.side == "output":
                answer = await passing.answered(guard, answer)
        text = "\n\n".join(filter(None, (answer.text, *passing.appended)))
        return replace(answer, text=text, steps=(*answer.steps, *passing.fired))


class _Passing:
    """One request on its way through the guards.

    Attributes:
        request: as it goes to the model.
        fired: `guard:NAME` of those that fired.
        appended: what comes below the answer.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.fired, self.appended = request, list[str](), list[str]()
        self._began_s = time.perf_counter()
        about = request.about or {}
        hits = about.get("retrieved") or ()
        self._retrieved = tuple(str(hit["id"]) if isinstance(hit, Mapping) else str(hit) for hit in hits)
        inputs = json.loads(json.dumps(about.get("inputs") or {"text": ""}, default=str))
        self._case = Case(id="request", inputs=inputs)

    async def asked(self, guard: Guard) -> Generation | None:
        """The guard on what is asked: the answer where there is to be no call."""
        verdict = await self._judged(guard, _texts(self.request))
        if self._goes_on(guard, verdict):
            return None
        if guard.then == "redact" and not verdict.broken:
            self.request = _redacted(self.request, guard)
            if not (await self._judged(guard, _texts(self.request))).fires:
                return None
        spent, took_s = Usage(input_tokens=0, output_tokens=0), time.perf_counter() - self._began_s
        unasked = Generation(usage=spent, cost_usd=Decimal(0), attempts=0, latency_s=took_s, steps=tuple(self.fired))
        return _instead(guard, unasked)

    async def answered(self, guard: Guard, answer: Generation) -> Generation:
        """The guard on the answer: the answer that it leaves."""
        verdict = await self._judged(guard, [answer])
        if self._goes_on(guard, verdict):
            return answer
        if guard.then == "redact" and (redact := guard.scorer.redact) is not None and not verdict.broken:
            cut = replace(answer, text=redact(answer.text), thought=redact(answer.thought))
            if not (await self._judged(guard, [cut])).fires:
                return cut
        return _instead(guard, answer)

    def _goes_on(self, guard: Guard, verdict: Ruling) -> bool:
        """Whether the text stays as it is; what fired is noted, and what is to be appended."""
        if verdict.fires or verdict.broken:
            self.fired.append(f"{FIRED}{guard.name}{' (broken)' if verdict.broken else ''}")
        if verdict.fires and guard.then == "append":
            self.appended.append(guard.text)
        return not verdict.fires or guard.then in ("flag", "append")

    async def _judged(self, guard: Guard, texts: Iterable[Generation]) -> Ruling:
        """The guard's verdict on several texts: the first on which it fires or breaks."""
        verdict = Ruling(False)
        for text in texts:
            verdict = await guard.judge(self._case, replace(text, retrieved=text.retrieved or self._retrieved))
            if verdict.fires or verdict.broken:
                break
        return verdict


def _instead(guard: Guard, answer: Generation) -> Generation:
    status: Status = "ok" if guard.then == "answer" else "refused"
    return replace(answer, status=status, text=guard.text, thought="", tool_calls=())


def _texts(request: Request) -> list[Generation]:
    """Every text that users and tools wrote."""
    contents = [message.get("content") for message in request.messages if message.get("role") in _READ_ROLES]
    parts = [part for content in contents for part in (content if isinstance(content, (list, tuple)) else [content])]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return [Generation(text=text) for text in texts if isinstance(text, str)]


def _redacted(request: Request, guard: Guard) -> Request:
    """The request without what the guard finds, in its messages and in what is told about it."""
    redact = guard.scorer.redact or str
    messages = tuple(
        {**message, "content": _each(message.get("content"), redact)} if message.get("role") in _READ_ROLES else message
        for message in request.messages
    )
    about = request.about and {**request.about, "inputs": _each(request.about.get("inputs"), redact)}
    return replace(request, messages=messages, about=about)


def _each(value: Any, redact: Callable[[str], str]) -> Any:
    """A JSON value with every text in it redacted; names of kinds, pictures and files are left alone."""
    if isinstance(value, str):
        return value if value.startswith("data:") else redact(value)
    if isinstance(value, Mapping):
        return {name: item if name in _NO_TEXTS else _each(item, redact) for name, item in value.items()}
    return [_each(item, redact) for item in value] if isinstance(value, (list, tuple)) else value
