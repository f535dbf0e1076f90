"""Carrying a plan out: workers in one event loop, every answer on disk before it is used, then scored.

Answers that are stored already are replayed without a call. A reached budget, a full disk or an endpoint that
answers nobody stops before the next call; a cancelled run leaves in its sheet what there is. Used by `runs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from llmlab import engine
from llmlab.base.background import collecting_rarely, in_thread
from llmlab.base.cells import plain
from llmlab.base.errors import CallError, CallTimeoutError, StoreError, UnusableEndpointError, raised
from llmlab.base.private import Secrets, secrets_now
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Client, Generation, Request, Usage
from llmlab.clients.call_store import CallStore, call_key
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.plan import Call, Plan, price_of
from llmlab.engine.progress import Progress
from llmlab.golden.cases import Case
from llmlab.results.answers import SCORING_AT_ONCE, AnswerSheet, storable
from llmlab.scorers.base import Score, Scorer, score_all, score_all_async

LONGEST_ERROR_CHARS = 500
HOPELESS_AFTER = 20  # failures without a single answer: a wrong key or address, not bad luck
_DENIED = frozenset({401, 402})  # the key or the account, whatever the row
_SCORED_EVERY_S = 0.05  # what arrived in the meantime is scored together
_SCORED_TOGETHER, _MOST_WAITING = 256, 1_024
_CLAIMED_AGAIN_S = 0.02  # how often it is asked whether another process has an answer
_CASE_TIMEOUT_S = 600.0  # for applications, and for clients that set no bound themselves


class _Arrived(NamedTuple):
    """An answer that is in its place, and in the call store where it may be kept."""

    place: int
    case: Case
    generation: Generation


class Scoring:
    """Answers go into the sheet as they arrive, and are scored beside the calls; `waiting` are those not scored yet.

    Plain scorers run in one thread at a time, so that no call waits for them and no latency counts them; async ones in
    the loop.
    """

    def __init__(self, sheet: AnswerSheet) -> None:
        self.sheet, self.waiting = sheet, deque[_Arrived]()
        self._plain = [scorer for scorer in sheet.scorers if not scorer.is_async]
        self._async = [scorer for scorer in sheet.scorers if scorer.is_async]
        self._turn, self._at_once = asyncio.Lock(), asyncio.Semaphore(SCORING_AT_ONCE)

    def take(self, arrived: _Arrived) -> None:
        """The answer is in the results from now on."""
        self.sheet.put(arrived.place, arrived.generation)
        if self.sheet.scorers:
            self.waiting.append(arrived)

    async def go_on(self, until: asyncio.Event) -> None:
        """Score what arrives until the event is set and nothing waits any more."""
        while self.sheet.scorers:
            last = until.is_set()
            while self.waiting:
                await self.some()
            if last:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCORED_EVERY_S):
                    await until.wait()

    async def some(self) -> None:
        """Score those that have waited longest; where that is cut off, they wait on."""
        async with self._turn:
            batch = [self.waiting[i] for i in range(min(_SCORED_TOGETHER, len(self.waiting)))]
            plain = await in_thread(_scored, self._plain, batch) if self._plain else [{} for _ in batch]
            later = await asyncio.gather(*map(self._later, batch)) if self._async else plain
            for arrived, now, then in zip(batch, plain, later, strict=True):
                scores = now | then
                self.sheet.score(arrived.place, {scorer.name: scores[scorer.name] for scorer in self.sheet.scorers})
                self.waiting.popleft()

    async def _later(self, arrived: _Arrived) -> dict[str, Score]:
        async with self._at_once:
            return await score_all_async(self._async, arrived.case, arrived.generation)


def _scored(scorers: Sequence[Scorer], batch: Sequence[_Arrived]) -> list[dict[str, Score]]:
    return [score_all(scorers, arrived.case, arrived.generation) for arrived in batch]


async def execute(
    plan: Plan,
    store: CallStore,
    progress: Progress,
    scoring: Scoring,
    setup: CallSetup,
    *,
    budget_usd: Decimal | None = None,
) -> None:
    """Run the plan to its end. Cancelling it gives up what is in flight and nothing else.

    `progress` is filled; the sheet of `scoring` has a place for each call; none is sent once all cost `budget_usd`.
    """
    timeouts_s = {name: setup.case_timeout_s or _own_bound(plan.clients.get(name)) for name in plan.bundles}
    run = _Run(plan, store, progress, scoring, budget_usd, timeouts_s)
    queue: asyncio.Queue[Call | None] = asyncio.Queue(maxsize=2 * setup.concurrency)
    workers = [asyncio.create_task(run.work(queue)) for _ in range(min(setup.concurrency, len(plan)))]
    feeder, answered = asyncio.create_task(run.feed(queue, len(workers))), asyncio.Event()
    scorer = asyncio.create_task(scoring.go_on(answered))
    try:
        with collecting_rarely():
            await asyncio.gather(feeder, *workers)
            answered.set()
            await scorer
    finally:
        for task in (feeder, *workers, scorer):
            task.cancel()
        await asyncio.gather(feeder, *workers, scorer, return_exceptions=True)
        for client in {id(client): client for client in plan.clients.values()}.values():
            if (close := getattr(client, "aclose", None)) is not None:
                await close()


@dataclass
class _Run:
    plan: Plan
    store: CallStore
    progress: Progress
    scoring: Scoring
    budget_usd: Decimal | None
    timeouts_s: Mapping[str, float | None]  # of each variant
    in_flight: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)  # keys that this run has stored
    turns: dict[str, list[str]] = field(default_factory=dict)  # key of a conversation -> of its turns, until it is kept
    secrets: Secrets = field(default_factory=secrets_now)
    answers: int = 0  # of calls that were sent, as are failures and denials
    failures: int = 0
    denials: int = 0
    waits: bool = True  # for what other processes have claimed, until one of them took too long

    async def feed(self, queue: asyncio.Queue[Call | None], n_workers: int) -> None:
        """Hand out the calls that are not stored; replay those that are. One batch is prepared ahead."""
        batches = self.plan.batches()
        ahead = asyncio.create_task(in_thread(self._prepared, batches))
        try:
            while not self.progress.stopped and (batch := await ahead) is not None:
                ahead = asyncio.create_task(in_thread(self._prepared, batches))
                await self._hand_out(queue, *batch)
                # replayed faster than scored, they would fill the memory
                while len(self.scoring.waiting) > _MOST_WAITING:
                    await self.scoring.some()
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        for _ in range(n_workers):
            await queue.put(None)

    async def _hand_out(
        self, queue: asyncio.Queue[Call | None], calls: list[Call], stored: dict[str, Generation]
    ) -> None:
        for call in calls:
            if call.problem:
                self._keep(call, Generation(status="error", error=_short(call.problem), attempts=0))
            elif (answer := stored.get(call.key)) is not None:
                self._keep(call, answer)
            elif self.progress.stopped:
                break
            else:
                await queue.put(call)

    def _prepared(self, batches: Iterator[list[Call]]) -> tuple[list[Call], dict[str, Generation]] | None:
        calls = next(batches, None)
        return None if calls is None else (calls, self.store.get_many([call.key for call in calls if call.key]))

    async def work(self, queue: asyncio.Queue[Call | None]) -> None:
        """Carry out calls until there are no more."""
        while (call := await queue.get()) is not None:
            while (same := self.in_flight.get(call.key)) is not None:  # two variants may be the same bundle
                await asyncio.wait([same])
            if self.progress.stopped:
                continue
            self.in_flight[call.key] = asyncio.get_running_loop().create_future()
            try:
                await self._claimed(call)
                if not self.progress.stopped:
                    await self._one(call)
            except StoreError as error:
                self.progress.store_error, self.progress.stopped = error, str(error)
            finally:
                self.store.release(call.key)
                self.in_flight.pop(call.key).set_result(None)

    async def _claimed(self, call: Call) -> None:
        """Wait while another process asks for the same, as long as a case may take: one that hangs stops no other."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + (self.timeouts_s[call.variant] or _CASE_TIMEOUT_S)
        while self.waits and not self.progress.stopped and not self.store.claim(call.key):
            await asyncio.sleep(_CLAIMED_AGAIN_S)
            self.waits = self.waits and loop.time() < give_up_s

    async def _one(self, call: Call) -> None:
        """One answer: that of an earlier cell with the same key, or a new one, on disk before it is counted."""
        may_be_stored = call.key in self.kept or self.store.may_hold_more()
        if may_be_stored and (earlier := self.store.get_many([call.key]).get(call.key)) is not None:
            return self._keep(call, earlier)
        self.store.check()
        generation = stored = await self._answer(call)
        try:
            generation = stored = generation.scrubbed(self.secrets)
            if generation.answered:
                stored = await self.store.put(call.key, call.request, generation)
                self.kept.add(call.key)
                if turns := self.turns.pop(call.key, None):
                    await in_thread(lambda: self.store.forget(keys=turns))
        except (TypeError, ValueError, AttributeError) as error:  # made by a user's client or application
            generation = stored = Generation(status="error", error=_short(f"the answer cannot be stored: {error}"))
        except StoreError:
            self._keep(call, generation)  # it was paid for, so the partial results have it; then no more is asked
            raise
        self._keep(call, stored)  # another process's, where that was first: a rerun gives the same numbers
        return self._count(generation)

    async def _answer(self, call: Call) -> Generation:
        limit_s = self.timeouts_s[call.variant]
        bound = asyncio.timeout(limit_s)
        try:
            async with bound:
                return await self._asked(call)
        except (TimeoutError, CallTimeoutError) as error:
            late = f"no answer within {limit_s:g} s" if bound.expired() else "the client ran into a timeout of its own"
            text, waited_s = _short(error) or late, getattr(error, "waited_s", 0.0)
            if bound.expired() and _own_bound(self.plan.clients.get(call.variant)):  # else for its rate limit, perhaps
                waited_s = limit_s
            return _lost(error, status="timeout", error=text, bounds=_waited(waited_s))
        except CallError as error:
            self.denials += error.status_code in _DENIED or isinstance(error, UnusableEndpointError)
            return _lost(error, status="error", error=_short(error), bounds=_waited(error.waited_s))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Generation(status="error", error="CancelledError: the call cancelled itself")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's client or app may raise anything; one row must not end the others
            return Generation(status="error", error=_short(raised(error)))

    async def _asked(self, call: Call) -> Generation:
        if call.request is not None:
            one_turn = len(call.request.in_turns()) == 1
            return await (self._sent if one_turn else self._conversed)(call, call.request)
        assert self.plan.app is not None  # noqa: S101  # no other plan has calls without a request
        asking = engine.app.Asking(self.store, call.repeat, self.plan.fresh, self.secrets)
        return await engine.app.ask(self.plan.app, call.case, self.plan.bundles[call.variant], asking=asking)

    async def _conversed(self, call: Call, request: Request) -> Generation:
        """The answer to the last of the user's turns, each sent with the answers to those before it."""
        first, *later = request.in_turns()
        request = replace(request, messages=first)
        answers: dict[str, Generation] = {}
        for place, turn in enumerate([*later, ()], start=1):
            answer = await self._turn(call, request, last=not turn)
            answers[f"turn {place}"] = answer
            if not (turn and answer.answered):
                break
            request = request.after(answer, *turn)
        return Generation.of_calls(answers)

    async def _turn(self, call: Call, request: Request, *, last: bool) -> Generation:
        """One answer within a conversation, on disk until all of it is: whoever asks again pays for none twice."""
        if last:
            return await self._sent(call, request)
        key = call_key(self.plan.answered_by(call.variant), request)
        if (earlier := self.store.get_many([key]).get(key)) is not None:
            return earlier
        answer = (await self._sent(call, request)).scrubbed(self.secrets)
        if answer.answered:
            answer = await self.store.put(key, request, answer)
            self.turns.setdefault(call.key, []).append(key)
        return answer

    async def _sent(self, call: Call, request: Request) -> Generation:
        answer = await self.plan.clients[call.variant].complete(request)
        if not isinstance(answer, Generation):
            raise TypeError(f"the client returned {type(answer).__name__}, must be a Generation")
        return answer

    def _keep(self, call: Call, generation: Generation) -> None:
        progress = self.progress
        placed = generation.placed(
            variant=call.variant,
            case_id=call.case.id,
            repeat=call.repeat,
            text=storable(generation.text),
            thought=storable(generation.thought),
            retrieved=call.retrieved if call.request is not None else generation.retrieved,
            call_key=call.key,
            bounds=tuple(self._bounds(call, generation)),
        )
        self.scoring.take(_Arrived(call.place, call.case, placed))
        progress.done += 1
        progress.cached += generation.cached
        if generation.cached and (owner := self.store.borrowed.get(call.key)):
            progress.borrowed[owner] += 1
        progress.errors += not generation.answered

    def _bounds(self, call: Call, generation: Generation) -> Iterator[tuple[str, float, float]]:
        """The lowest and highest that each unknown number of an answer can have been, where that is known."""
        client, bundle = self.plan.clients.get(call.variant), self.plan.bundles[call.variant]
        if generation.latency_s is None:
            retry, limit_s = getattr(client, "retry", None), self.timeouts_s[call.variant] or math.inf
            if isinstance(retry, RetryPolicy):
                limit_s = min(limit_s, retry.attempt_timeout_s, retry.case_timeout_s)
            if math.isfinite(limit_s):
                waited_s = next((low for _, low, _ in generation.bounds), 0.0)
                yield "latency_s", min(waited_s, limit_s), limit_s
        if call.request is None or bundle.sampling.tokens_at_most is None or client is None:
            return  # an application makes calls of its own
        n_turns = len(call.request.in_turns())
        most_out, usage = n_turns * bundle.sampling.tokens_at_most, generation.usage
        one_token = Usage(input_tokens=1, output_tokens=1)
        priced = generation.cost_usd is None and price_of(client, bundle, one_token) is not None
        if usage.output_tokens is None:
            yield "output_tokens", 0.0, float(most_out)
        if usage.input_tokens is not None and not priced:
            return  # before the request is written out
        most_tokens = len(call.request.to_json())  # a token is a byte or more, and the JSON has every byte and role
        most_in = n_turns * (most_tokens + (n_turns - 1) * bundle.sampling.tokens_at_most)
        if usage.input_tokens is None:
            yield "input_tokens", 0.0, float(most_in)
        price = price_of(client, bundle, Usage(input_tokens=most_in, output_tokens=most_out)) if priced else None
        if price is not None:
            yield "cost_usd", 0.0, float(price) * max(1, generation.attempts)

    def _count(self, generation: Generation) -> None:
        """What a new answer cost, and whether another one may be asked for."""
        progress, budget_usd = self.progress, self.budget_usd
        self.answers += generation.answered
        self.failures += not generation.answered
        progress.spent_usd += 0 if generation.cached else generation.cost_usd or 0
        progress.unpriced += generation.answered and generation.cost_usd is None
        if progress.done == progress.total or progress.stopped:
            return
        if budget_usd is not None and generation.answered and generation.cost_usd is None:
            progress.stopped = (
                "An answer came without its cost, so the budget could not be kept: no more were asked for."
            )
        elif budget_usd is not None and progress.spent_usd >= budget_usd:
            progress.stopped = f"The budget of ${budget_usd} is used up (${progress.spent_usd} spent)."
        elif max(self.denials, 0 if self.answers else self.failures) >= HOPELESS_AFTER:
            last = f" The last said: {generation.error}" if generation.error else ""
            progress.stopped = f"{self.failures} calls got no answer, so the rest were not sent.{last}"


def _own_bound(client: Client | None) -> float | None:
    """None for a client that bounds its calls itself, and leaves waiting for its rate limit out of it."""
    return None if getattr(client, "retry", None) is not None else _CASE_TIMEOUT_S


def _lost(failure: BaseException, **about: Any) -> Generation:
    """No answer, with what the calls took that an application had made before."""
    before = getattr(failure, "partly", None) or Generation(attempts=0)
    return replace(before, attempts=before.attempts + getattr(failure, "attempts", 1), **about)


def _waited(waited_s: float) -> tuple[tuple[str, float, float], ...]:
    """The bounds of a latency that was not the whole one."""
    return (("latency_s", waited_s, math.inf),)


def _short(error: object) -> str:
    return plain(error, LONGEST_ERROR_CHARS)
