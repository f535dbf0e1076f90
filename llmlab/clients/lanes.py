"""Several ways into one model, taken in turn: which one the next call goes through, which rest, and which are out.

A lane is one endpoint with one key and its own limits. The freest lane is next. A 429, 5xx or broken connection lets
that lane rest while the others go on; a refused key takes it out with a warning until the run ends. Used by `retry`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence

from llmlab.base.errors import CallError, RequestRefusedError
from llmlab.base.private import remember
from llmlab.clients.address import Access
from llmlab.clients.limits import RateLimits

__all__ = ["Lane", "Lanes"]

TOO_MANY_REQUESTS = 429
KEY_REFUSED = frozenset({401, 402, 403, TOO_MANY_REQUESTS})  # as a RequestRefusedError, 429 means: no credit left


class Lane:
    """One access with its limits, and how it fares.

    Attributes:
        in_flight: calls that are under way or wait for this lane's limits.
        failures: failures since its last answer; those that happen while it rests do not count.
        out: why it is not used any more, "" while it is.
    """

    __slots__ = ("access", "failures", "in_flight", "limits", "out", "turn")

    def __init__(self, access: Access) -> None:
        self.access = access
        self.limits = RateLimits(
            requests_per_minute=access.requests_per_minute, tokens_per_minute=access.tokens_per_minute
        )
        self.in_flight = self.failures = self.turn = 0
        self.out = ""

    @property
    def full(self) -> bool:
        """Whether as many calls are in flight as the access allows."""
        return self.access.max_in_flight is not None and self.in_flight >= self.access.max_in_flight


class Lanes:
    """The lanes of one client.

    >>> lanes = Lanes([Access(base_url="http://a"), Access(base_url="http://b")])
    >>> asyncio.run(lanes.enter(100))[0].access.base_url, asyncio.run(lanes.enter(100))[0].access.base_url
    ('http://a', 'http://b')
    """

    def __init__(self, accesses: Sequence[Access]) -> None:
        if not accesses:
            raise ValueError("no access given, must be one or more")
        for name in filter(None, (access.api_key_env for access in accesses)):
            remember(name)
        self.all = tuple(Lane(access) for access in accesses)
        self._keyed = tuple(lane for lane in self.all if lane.access.api_key_env)
        first = self.all[0]
        self._alone = first if len(self.all) == 1 and first.access.max_in_flight is None else None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turns = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key there is now, for scrubbing."""
        return tuple([key for lane in self._keyed if (key := lane.access.key)])

    def check_keys(self) -> None:
        """Take out lanes whose key is not set; RequestRefusedError when none is left (of one lane: its own error)."""
        for lane in self._keyed:
            if not lane.out and lane.access.lacks_key:
                if len(self.all) == 1:
                    lane.access.key_fields("bearer")  # raises
                self._take_out(lane, "the environment variable is not set")
        if self._keyed and all(lane.out for lane in self.all):
            raise self._none_left(None)

    async def enter(self, tokens: int, attempts: int = 0) -> tuple[Lane, float]:
        """The lane for the next request, once its turn has come, and the seconds waited for it.

        RequestRefusedError when no lane is left, after so many `attempts` of this call.
        """
        if self._alone is not None:
            return self._alone, await self._alone.limits.enter(tokens)
        asked_s = time.monotonic()
        while True:
            lane = self._freest(attempts)
            if lane is None or lane.limits.rests_s > 0:
                await self._change(None if lane is None else lane.limits.rests_s)
                continue
            lane.in_flight += 1
            self._turns += 1
            lane.turn = self._turns
            with contextlib.ExitStack() as unless_entered:
                unless_entered.callback(self.leave, lane)
                await lane.limits.queue(tokens)
                if not lane.out and lane.limits.rests_s <= 0:
                    unless_entered.pop_all()
                    return lane, time.monotonic() - asked_s
                lane.limits.correct(estimated=tokens, used=0)  # it failed others meanwhile: look again

    def leave(self, lane: Lane) -> None:
        """The request is over, however it ended."""
        if lane is not self._alone:
            lane.in_flight -= 1
            self._wake()

    def rest(
        self, lane: Lane, error: CallError, *, number: int, asked_s: float, back_off_s: Callable[[int], float]
    ) -> float:
        """What a failed attempt means for its lane; returns the seconds until the call may be tried again.

        A lane alone is paused for all its calls by a 429 only. One of several rests after any failure, longer each
        time (`back_off_s` of the failures in a row), and the call goes to another at once where one does not rest.
        """
        if len(self.all) == 1:
            wait_s = back_off_s(number)
            if error.status_code == TOO_MANY_REQUESTS:
                lane.limits.pause(max(asked_s, wait_s))
            return asked_s + wait_s
        lane.failures += lane.limits.rests_s <= 0
        lane.limits.pause(max(asked_s, back_off_s(lane.failures)))
        return min((other.limits.rests_s for other in self.all if not other.out), default=0.0)

    def without(self, lane: Lane, error: CallError) -> CallError | None:
        """None where the error speaks against the lane and not the request, which may then go through another.

        The lane is out from now on. Else the error to end with: this one, or that no lane is left.
        """
        if len(self.all) == 1 or error.status_code not in KEY_REFUSED:
            return error
        self._take_out(lane, str(error))
        return self._none_left(error) if all(other.out for other in self.all) else None

    def reopen(self) -> None:
        """Give lanes that were taken out another chance: a key may have been set right since."""
        for lane in self.all:
            lane.out = ""

    def _take_out(self, lane: Lane, why: str) -> None:
        if lane.out:
            return
        lane.out = why
        self._wake(len(self._waiting))
        left = sum(not other.out for other in self.all)
        goes_on = f"{left} other{'s' * (left != 1)} go{'es' * (left == 1)} on" if left else "none is left"
        warnings.warn(f"{lane.access.shown} is out for this run ({goes_on}): {why}", RuntimeWarning, stacklevel=2)

    def _none_left(self, error: CallError | None, attempts: int = 0) -> RequestRefusedError:
        told = "; ".join(f"{lane.access.shown}: {lane.out}" for lane in self.all)
        return RequestRefusedError(
            f"none of {len(self.all)} endpoints or keys is left ({told})",
            status_code=error.status_code if error else 401,
            attempts=attempts,
        )

    def _freest(self, attempts: int) -> Lane | None:
        """The lane that can be asked soonest, of several the least loaded; None where all are full."""
        usable = [lane for lane in self.all if not lane.out]
        if not usable:
            raise self._none_left(None, attempts)
        free = [lane for lane in usable if not lane.full]
        return min(free, key=lambda lane: (lane.limits.wait_s(), lane.in_flight, lane.turn), default=None)

    async def _change(self, timeout_s: float | None) -> None:
        """Wait until a lane has a place again, or for so long (a little longer each, so that not all go at once)."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            longest_s = None if timeout_s is None else timeout_s * (1 + random.random() / 10)
            await asyncio.wait([waiter], timeout=longest_s)
        except asyncio.CancelledError:
            self._wake()  # it may have been this one's turn
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _wake(self, n: int = 1) -> None:
        for _ in range(min(n, len(self._waiting))):
            waiter = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.get_loop().call_soon_threadsafe(_settle, waiter)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
