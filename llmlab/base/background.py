"""Work beside the calling thread: a coroutine in a loop of its own, a blocking function in a thread of its own.

So `run` works in a plain script and inside Jupyter's running loop, which is left alone, and the thread that waits
stays awake for Ctrl+C, SIGTERM and an event that another thread sets. All threads are daemons: one that hangs
cannot keep the process from ending. Meanwhile cycles may be collected less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
_TICK_S = 0.1
_STOP_WITHIN_S = 4.0  # after an interrupt; what does not end by then is left behind

_OBJECTS_PER_COLLECTION = 20_000  # Python's own 700 cost a run a sixth of its time: it makes much, and few cycles

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextlib.contextmanager
def stopped_by(event: threading.Event | None) -> Iterator[None]:
    """Inside, whatever waits in `run_in_background` is interrupted as by Ctrl+C once the event is set."""
    before = _stop.set(event)
    try:
        yield
    finally:
        _stop.reset(before)


def run_in_background(make: Callable[[], Coroutine[Any, Any, T]], *, on_tick: Callable[[], None] = lambda: None) -> T:
    """What the coroutine returns, run to its end in a new loop in one background thread.

    Whatever interrupts the wait (KeyboardInterrupt, SystemExit of a signal handler, an error in `on_tick`) cancels
    the coroutine, waits some seconds for its end, and is raised again.

    >>> async def three() -> int:
    ...     return 3
    >>> run_in_background(three)
    3
    """
    _raise_if_stopped()
    loop, outcome, given_up = asyncio.new_event_loop(), Future[T](), threading.Event()
    tasks: list[asyncio.Task[Any] | None] = []

    async def main() -> T:
        tasks.append(asyncio.current_task())
        if given_up.is_set():
            raise asyncio.CancelledError
        return await make()

    def work() -> T:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())

    def cancel() -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    try:
        _start(work, outcome, name="llmlab-background")  # interrupted here, too, it is cancelled
        while not outcome.done():
            _raise_if_stopped()
            wait([outcome], _TICK_S)  # no `thread.join`: once interrupted, Python 3.11 takes the thread for ended
            on_tick()
    except BaseException:
        given_up.set()
        with contextlib.suppress(RuntimeError):  # the loop has closed: nothing is left to cancel
            loop.call_soon_threadsafe(cancel)
        wait([outcome], _STOP_WITHIN_S)
        raise
    return outcome.result()


def _raise_if_stopped() -> None:
    if (event := _stop.get()) is not None and event.is_set():
        raise KeyboardInterrupt


class _Collector:
    """How many runs at once want fewer collections, and the thresholds from before the first of them."""

    lock, runs, before = threading.Lock(), 0, gc.get_threshold()


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Inside, the garbage collector looks for cycles less often, in the whole process; then as before.

    >>> before = gc.get_threshold()
    >>> with collecting_rarely():
    ...     gc.get_threshold()[0]
    20000
    >>> gc.get_threshold() == before
    True
    """
    with _Collector.lock:
        _Collector.runs += 1
        if _Collector.runs == 1:
            _Collector.before = gc.get_threshold()
            if 0 < _Collector.before[0] < _OBJECTS_PER_COLLECTION:  # 0: somebody has switched it off
                gc.set_threshold(_OBJECTS_PER_COLLECTION, *_Collector.before[1:])
    try:
        yield
    finally:
        with _Collector.lock:
            _Collector.runs -= 1
            if _Collector.runs == 0:
                gc.set_threshold(*_Collector.before)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What a blocking function returns, computed in a new daemon thread.

    Unlike `asyncio.to_thread` as many run at once as are asked for, and none keeps the process from ending.
    """
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            loop.call_soon_threadsafe(over.set)

    answer = beside(partial(function, *arguments), name="llmlab-call")
    answer.add_done_callback(tell)
    await over.wait()
    return answer.result()


def beside(ask: Callable[[], T], *, name: str) -> Future[T]:
    """What `ask()` will have returned or raised in a thread of its own, which the process does not wait for."""
    answer: Future[T] = Future()
    _start(ask, answer, name=name)
    return answer


def _start(ask: Callable[[], T], answer: Future[T], *, name: str) -> None:
    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            answer.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
