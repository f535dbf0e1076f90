"""Carrying a plan out: workers in one background event loop, every answer on disk before it is used.

Answers that are stored already are replayed without a call. An interrupt, a reached budget or a full disk stops
before the next call and gives back what there is.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

from llmlab.callstore import CallStore
from llmlab.clients.base import Generation
from llmlab.display import plain
from llmlab.errors import CallError, CallTimeoutError, StoreError
from llmlab.plan import Call, Plan

__all__ = ["Progress", "execute"]

LONGEST_ERROR_CHARS = 500
HOPELESS_AFTER = 20  # failures without a single answer: a wrong key or address, not bad luck


@dataclass(kw_only=True)
class Progress:
    """What a run has done so far; written by the loop's thread alone, read by whoever shows it."""

    total: int
    done: int = 0
    cached: int = 0
    errors: int = 0
    spent_usd: Decimal = Decimal(0)
    stopped: str = ""  # why no further call is sent, "" while running
    store_error: StoreError | None = None
    generations: list[Generation] = field(default_factory=list)


def execute(
    plan: Plan,
    store: CallStore,
    progress: Progress,
    *,
    concurrency: int,
    budget_usd: Decimal | None,
    case_timeout_s: float | None,
    stop: threading.Event,
) -> None:
    """Run the plan to its end or to `stop`, in the calling thread's own new event loop; fills `progress`."""
    run = _Run(plan, store, progress, budget_usd=budget_usd, case_timeout_s=case_timeout_s, stop=stop)
    asyncio.run(run.all(concurrency))


class _Run:
    def __init__(
        self,
        plan: Plan,
        store: CallStore,
        progress: Progress,
        *,
        budget_usd: Decimal | None,
        case_timeout_s: float | None,
        stop: threading.Event,
    ) -> None:
        self.plan, self.store, self.progress, self.stop = plan, store, progress, stop
        self.budget_usd, self.case_timeout_s = budget_usd, case_timeout_s
        self.in_flight: dict[str, asyncio.Future[Generation | None]] = {}

    async def all(self, concurrency: int) -> None:
        queue: asyncio.Queue[Call | None] = asyncio.Queue(maxsize=2 * concurrency)
        workers = [asyncio.create_task(self._work(queue)) for _ in range(min(concurrency, len(self.plan)))]
        feeder = asyncio.create_task(self._feed(queue, len(workers)))
        watcher = asyncio.create_task(self._watch([feeder, *workers]))
        try:
            await asyncio.gather(feeder, *workers)
        except asyncio.CancelledError:
            pass  # the watcher saw the stop signal; what is there is given back
        finally:
            for task in (watcher, feeder, *workers):
                task.cancel()
            await asyncio.gather(watcher, feeder, *workers, return_exceptions=True)
            for client in {id(client): client for client in self.plan.clients.values()}.values():
                close = getattr(client, "aclose", None)
                if close is not None:
                    await close()

    async def _feed(self, queue: asyncio.Queue[Call | None], n_workers: int) -> None:
        """Hand out calls that are not stored; replay those that are."""
        batches = self.plan.batches()
        while (batch := await asyncio.to_thread(self._prepared, batches)) is not None:
            calls, stored = batch
            for call in calls:
                if self.progress.stopped:
                    break
                found = stored.get(call.key)
                if found is not None:
                    self._keep(call, replace(found, cached=True))
                else:
                    await queue.put(call)
            if self.progress.stopped:
                break
        for _ in range(n_workers):
            await queue.put(None)

    def _prepared(self, batches: Iterator[list[Call]]) -> tuple[list[Call], dict[str, Generation]] | None:
        calls = next(batches, None)
        return None if calls is None else (calls, self.store.get_many([call.key for call in calls]))

    async def _work(self, queue: asyncio.Queue[Call | None]) -> None:
        while (call := await queue.get()) is not None:
            if not self.progress.stopped:
                await self._one(call)

    async def _one(self, call: Call) -> None:
        """One call. Two cells with the same key (two variants that are the same bundle) share one paid answer."""
        shared = self.in_flight.get(call.key)
        if shared is not None:
            first = await asyncio.shield(shared)
            if first is not None:
                return self._keep(call, replace(first, cached=True))
        future = self.in_flight[call.key] = asyncio.get_running_loop().create_future()
        generation = None
        try:
            generation = await self._answer(call)
            if generation.answered:
                await self.store.put(call.key, call.request, generation)
        except StoreError as error:
            self.progress.store_error, self.progress.stopped = error, str(error)
        finally:
            self.in_flight.pop(call.key, None)
            future.set_result(generation if generation is not None and generation.answered else None)
        if generation is not None:
            self._keep(call, generation)
            if generation.cost_usd is not None:
                self.progress.spent_usd += generation.cost_usd
            self._check_limits()
        return None

    async def _answer(self, call: Call) -> Generation:
        try:
            async with asyncio.timeout(self.case_timeout_s):
                if call.request is not None:
                    return await self.plan.clients[call.variant].complete(call.request)
                return await self._ask_app(call)
        except (TimeoutError, CallTimeoutError) as error:
            text = plain(error, LONGEST_ERROR_CHARS) or f"no answer within {self.case_timeout_s} s"
            return Generation(status="timeout", error=text, attempts=getattr(error, "attempts", 1))
        except CallError as error:
            return Generation(status="error", error=plain(error, LONGEST_ERROR_CHARS), attempts=error.attempts)
        except Exception as error:  # noqa: BLE001  # a user's client or app may raise anything; one row must not end the others
            return Generation(status="error", error=plain(f"{type(error).__name__}: {error}", LONGEST_ERROR_CHARS))

    async def _ask_app(self, call: Call) -> Generation:
        app, bundle = self.plan.app, self.plan.bundles[call.variant]
        if app is None:
            raise ValueError("a call without a request needs an application")
        if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004  # the method itself is wanted
            answer = await app(call.case, bundle)  # type: ignore[misc]  # a coroutine function, as just checked
        else:
            answer = await asyncio.to_thread(app, call.case, bundle)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, Generation):
            return answer
        if isinstance(answer, str):
            return Generation(text=answer, status="ok" if answer.strip() else "empty")
        raise TypeError(f"the application returned {type(answer).__name__}, must be Generation or str")

    def _keep(self, call: Call, generation: Generation) -> None:
        cell = {"variant": call.variant, "case_id": call.case.id, "repeat": call.repeat, "call_key": call.key}
        retrieved = generation.retrieved if call.request is None else call.retrieved
        self.progress.generations.append(replace(generation, **cell, retrieved=retrieved))
        self.progress.done += 1
        self.progress.cached += generation.cached
        self.progress.errors += generation.status == "error"

    def _check_limits(self) -> None:
        progress = self.progress
        if self.budget_usd is not None and progress.spent_usd >= self.budget_usd and progress.done < progress.total:
            progress.stopped = f"The budget of ${self.budget_usd} is used up (${progress.spent_usd} spent)."
        if progress.errors >= HOPELESS_AFTER and progress.errors == progress.done:
            progress.stopped = f"The first {progress.errors} calls all failed, so the rest were not sent."

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> None:
        while not self.stop.is_set():
            await asyncio.sleep(0.1)
        self.progress.stopped = self.progress.stopped or "The run was interrupted."
        for task in tasks:
            task.cancel()
