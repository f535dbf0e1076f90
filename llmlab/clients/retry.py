"""The ONE retry layer: which endpoint is asked next and how fast, which failures are tried again, and when to stop.

A lane is one endpoint with one key and its own limits; a client has one or several, taken in turn. The freest is next.
A 5xx or broken connection lets one of several lanes rest while the others go on; a refused key takes it out with a
warning until the run ends, as does a model that another serves and it does not, for that model. Back-off is exponential
with jitter. One stray 429 delays its own call, by its Retry-After (up to a cap); a second within that time holds back
every call of the lane, until a call that was sent after the first is answered after all. Two bounds: each attempt, and
the whole call with all its attempts. Used by `http`.
A plain loop: a retry library costs a tenth of a millisecond for each call that needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from llmlab.base.errors import CallError, CallTimeoutError, RequestRefusedError, TransportError, UnusableEndpointError
from llmlab.base.private import remember
from llmlab.clients.access import Access, RetryPolicy

Answer = TypeVar("Answer")
_WORTH_ANOTHER = (TransportError, CallTimeoutError)
_ATTEMPTS_UNREACHED = 2  # a server that is not there does not come while one waits
_BURST_S = 1.0  # at most this many seconds' worth may go out at once
LOOK_AGAIN_S = 0.1  # a pause may end early
TOO_MANY_REQUESTS = 429
KEY_REFUSED = frozenset({401, 402, TOO_MANY_REQUESTS})  # as a RequestRefusedError, 429 means: no credit left
NOT_SERVED = frozenset({301, 302, 303, 307, 308, 403, 404, 405, 410})  # not this model, not with this key, not here


class NeverReachedError(TransportError):
    """A connection was refused at an address where nothing has answered yet: soon given up."""


class Lane:
    """One access, which lets calls through in the order they came and within its limits, and how it fares.

    Attributes:
        in_flight: calls that are under way or wait for this lane's limits.
        failures: failures since its last answer; those that happen while it rests do not count.
        known: whether it has answered.
        unreached: whether the last that happened here is a connection refused, where no lane ever answered.
        out: why it is not used any more, "" while it is.

    >>> asyncio.run(Lane(Access(base_url="http://a", requests_per_minute=600)).enter(tokens=100)) < 1
    True
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._requests, self._tokens = _Budget(access.requests_per_minute), _Budget(access.tokens_per_minute)
        self._resume_at_s = self._spread_s = 0.0
        self.in_flight = self.failures = self.turn = 0
        self.out, self.known, self.unreached = "", False, False
        self._refused_at_s = self._before_s = self._refused_until_s = 0.0  # of the last 429, and of the one before

    async def enter(self, tokens: int) -> float:
        """Wait for this request's turn, and for a pause to end; returns the seconds waited."""
        asked_s = time.monotonic()
        await self.queue(tokens)
        later = random.random()  # so that not all wake at once
        while (pause_s := self._resume_at_s + later * self._spread_s - time.monotonic()) > 0:
            await asyncio.sleep(min(pause_s, LOOK_AGAIN_S))
        return time.monotonic() - asked_s

    async def queue(self, tokens: int) -> None:
        """Wait for this request's turn, and not for a pause."""
        now_s = time.monotonic()
        wait_s = max(self._requests.reserve(1, now_s=now_s), self._tokens.reserve(tokens, now_s=now_s))
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def correct(self, *, estimated: int, used: int) -> None:
        """Replace the estimate that `enter` reserved by what the endpoint counted."""
        self._tokens.give_back(estimated - used)

    @property
    def rests_s(self) -> float:
        """How much longer the pause lasts, 0 without one."""
        return max(0.0, self._resume_at_s - time.monotonic())

    @property
    def asks_s(self) -> float:
        """How much longer a call waits that this lane has refused: until its pause ends, and the last 429's time."""
        return max(self.rests_s, self._refused_until_s - time.monotonic())

    @property
    def wait_s(self) -> float:
        """How long a request that came now would wait."""
        now_s = time.monotonic()
        return max(self._requests.wait_s(now_s), self._tokens.wait_s(now_s), self._resume_at_s - now_s)

    def pause(self, seconds: float) -> None:
        """Hold back every call for so long."""
        self._resume_at_s = max(self._resume_at_s, time.monotonic() + seconds)
        self._spread_s = min(1.0, seconds / 4)

    def answered(self, *, sent_s: float) -> bool:
        """Whether an answer ends a pause: it was sent after the last 429 but one, so both were strays."""
        self.failures, self.known = 0, True
        if sent_s <= self._before_s or self.rests_s <= 0:
            return False
        self._refused_until_s = self._resume_at_s = self._spread_s = 0.0
        return True

    def limit_reached(self, seconds: float) -> bool:
        """Whether a 429 that asks for so long speaks for all calls: it is the second within one such time."""
        now_s = time.monotonic()
        reached = now_s < self._refused_until_s
        self._before_s, self._refused_at_s = self._refused_at_s, now_s
        self._refused_until_s = max(self._refused_until_s, now_s + seconds)
        return reached


class Lanes:
    """The lanes of one client.

    >>> lanes = Lanes([Access(base_url="http://a"), Access(base_url="http://b")])
    >>> asyncio.run(lanes.enter(100))[0].access.base_url, asyncio.run(lanes.enter(100))[0].access.base_url
    ('http://a', 'http://b')
    """

    def __init__(self, accesses: Sequence[Access]) -> None:
        for access in accesses:
            for variable in access.secret_variables:
                remember(variable)
        self.all = tuple(Lane(access) for access in accesses)
        first = self.all[0]
        self._alone = first if len(self.all) == 1 and first.access.max_in_flight is None else None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lacking: defaultdict[str, dict[Lane, CallError]] = defaultdict(dict)  # by model
        self._turns = 0

    def check_keys(self) -> None:
        """Take out lanes whose key is not set; RequestRefusedError when none is left (of one lane: its own error)."""
        for lane in self.all:
            if not lane.out and lane.access.lacks_key:
                if len(self.all) == 1:
                    lane.access.key_fields("bearer")  # raises
                self._take_out(lane, "the environment variable is not set")
        if all(lane.out for lane in self.all):
            raise self._none_left(None)

    @property
    def rests_s(self) -> float:
        """How much longer every lane rests, 0 while one does not."""
        return min((lane.rests_s for lane in self.all if not lane.out), default=0.0)

    async def enter(self, tokens: int, *, attempts: int = 0, but: Collection[Lane] = ()) -> tuple[Lane, float]:
        """The lane for the next request, once its turn has come, and the seconds waited for it.

        Args:
            attempts: how many this call has made.
            but: lanes that refused this call, or do not serve its model; not asked where there is another.

        Raises:
            RequestRefusedError: no lane is left.
        """
        if self._alone is not None:
            return self._alone, await self._alone.enter(tokens)
        asked_s = time.monotonic()
        while True:
            lane = self._freest(attempts, but)
            if lane is None or lane.rests_s > 0:
                await self._change(None if lane is None else lane.rests_s)
                continue
            lane.in_flight += 1
            self._turns += 1
            lane.turn = self._turns
            with contextlib.ExitStack() as unless_entered:
                unless_entered.callback(self.leave, lane)
                await lane.queue(tokens)
                if not lane.out and lane.rests_s <= 0:
                    unless_entered.pop_all()
                    return lane, time.monotonic() - asked_s
                lane.correct(estimated=tokens, used=0)  # it failed others meanwhile: look again

    def leave(self, lane: Lane) -> None:
        """The request is over, however it ended."""
        if lane is not self._alone:
            lane.in_flight -= 1
            self._wake()

    def answered(self, lane: Lane, *, sent_s: float) -> None:
        """A request that was sent then has its answer."""
        if lane.answered(sent_s=sent_s):
            self._wake(len(self._waiting))

    def lacking(self, model: str, also: Mapping[Lane, CallError] | None = None) -> dict[Lane, CallError]:
        """The lanes that do not serve a model, which another does, with what they said; `also` these from now on."""
        lanes = self._lacking[model]
        for lane, error in (also or {}).items():
            if lane not in lanes:
                lanes[lane] = error
                self._warn_out(lane, str(error), n_left=sum(not (other.out or other in lanes) for other in self.all))
        return dict(lanes)

    def rest(
        self,
        lane: Lane,
        error: CallError,
        *,
        number: int,
        elsewhere: Collection[Lane],
        asked_s: float,
        back_off_s: Callable[[int], float],
    ) -> float:
        """What a failed attempt means for its lane; returns the seconds until the call may be tried again.

        A stray 429 delays its own call alone; a second pauses its lane. One of several lanes rests after any other
        failure, longer each time (`back_off_s` of the failures in a row), and the call goes to another at once where
        one does not rest. Where nothing listens at any, they fare as one.
        """
        limited = error.status_code == TOO_MANY_REQUESTS
        usable = [other for other in self.all if not other.out and other not in elsewhere]
        if len(self.all) == 1 or self.unreached(lane, error):
            wait_s = back_off_s(number)
            if limited and lane.limit_reached(max(asked_s, wait_s)):
                lane.pause(max(asked_s, wait_s))
            return asked_s + wait_s
        rest_s = max(asked_s, back_off_s(lane.failures + 1))
        if limited and not lane.limit_reached(rest_s):
            return min((other.asks_s for other in usable), default=rest_s)
        lane.failures += lane.rests_s <= 0
        lane.pause(rest_s)
        return self.rests_s

    def unreached(self, lane: Lane, error: CallError) -> bool:
        """Whether with this error every lane is one where nothing listens: no other is worth asking."""
        lane.unreached = isinstance(error, NeverReachedError)
        return lane.unreached and all(other.unreached or other.out for other in self.all)

    def without(self, lane: Lane, error: CallError, elsewhere: dict[Lane, CallError]) -> CallError | None:
        """None where the error speaks against the lane and not the request, which may then go through another.

        The lane is out from now on; where it may not serve the model, it is one of those `elsewhere`, until an answer
        of another tells. Else the error to end with: this one, or that no lane is left.
        """
        unusable = isinstance(error, UnusableEndpointError) or error.status_code in KEY_REFUSED
        if error.status_code in NOT_SERVED and not unusable:
            elsewhere[lane] = error
            return error if all(other.out or other in elsewhere for other in self.all) else None
        if len(self.all) == 1 or not unusable:
            return error
        self._take_out(lane, str(error))
        return self._none_left(error) if all(other.out for other in self.all) else None

    def reopen(self) -> None:
        """Give every lane another chance: a key may have been set right since, a server started."""
        self._lacking.clear()
        for lane in self.all:
            lane.out, lane.unreached = "", False

    def _take_out(self, lane: Lane, why: str) -> None:
        if lane.out:
            return
        lane.out = why
        self._wake(len(self._waiting))
        self._warn_out(lane, why, n_left=sum(not other.out for other in self.all))

    def _warn_out(self, lane: Lane, why: str, *, n_left: int) -> None:
        goes_on = f"{n_left} other{'s' * (n_left != 1)} go{'es' * (n_left == 1)} on" if n_left else "none is left"
        warnings.warn(f"{lane.access.shown} is out for this run ({goes_on}): {why}", RuntimeWarning, stacklevel=3)

    def _none_left(self, error: CallError | None, attempts: int = 0) -> RequestRefusedError:
        reasons = "; ".join(f"{lane.access.shown}: {lane.out}" for lane in self.all)
        return RequestRefusedError(
            f"none of {len(self.all)} endpoints or keys is left ({reasons})",
            status_code=error.status_code if error else 401,
            attempts=attempts,
        )

    def _freest(self, attempts: int, but: Collection[Lane]) -> Lane | None:
        """The lane that can be asked soonest, of several the least loaded; None where all are full."""
        usable = [lane for lane in self.all if not lane.out]
        if not usable:
            raise self._none_left(None, attempts)
        usable = [lane for lane in usable if lane not in but] or usable
        free = [lane for lane in usable if lane.in_flight < (lane.access.max_in_flight or math.inf)]
        return min(free, key=lambda lane: (lane.wait_s, lane.in_flight, lane.turn), default=None)

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


async def with_retries(
    attempt: Callable[[Lane, int], Awaitable[Answer]],
    *,
    policy: RetryPolicy,
    lanes: Lanes,
    tokens: int = 0,
    model: str = "",
) -> Answer:
    """What the first attempt that gives an answer returns; each is told its lane and its number, from 1.

    Raises:
        TransportError, CallTimeoutError: after the last attempt, or when the whole call took too long.
        CallError: at once, for anything that another attempt cannot mend.
    """
    loop = asyncio.get_running_loop()
    deadline_s, number, elsewhere = loop.time() + policy.case_timeout_s, 0, lanes.lacking(model)
    refused_by: tuple[Lane, ...] = ()
    while True:
        lane, waited_s = await lanes.enter(tokens, attempts=number, but=(*elsewhere, *refused_by))
        deadline_s += waited_s  # our own waiting is not the endpoint's time
        number += 1
        sent_s = loop.time()
        attempt_ends_s = sent_s + policy.attempt_timeout_s
        failed: CallError
        try:
            async with asyncio.timeout_at(min(attempt_ends_s, deadline_s)):
                answer = await attempt(lane, number)
            lanes.answered(lane, sent_s=sent_s)
            lanes.lacking(model, elsewhere)
            return answer
        except TimeoutError:
            bound = "attempt_timeout_s" if attempt_ends_s <= deadline_s else "case_timeout_s"
            failed = CallTimeoutError(f"no complete answer within {getattr(policy, bound):g} s ({bound})")
        except CallError as error:
            failed = error
        finally:
            lanes.leave(lane)
        took_s = loop.time() - sent_s
        refused = failed.status_code == TOO_MANY_REQUESTS or isinstance(failed, NeverReachedError)
        refused_by = (lane,) if refused else ()
        wait_s, final = _after(failed, lane, number, policy=policy, lanes=lanes, elsewhere=elsewhere)
        if final is not None or loop.time() + wait_s >= deadline_s:  # raised out here: what was received is not shown
            raise _told(final or failed, attempts=number, waited_s=took_s)
        await asyncio.sleep(wait_s)


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a reply asks us to wait: `retry-after-ms`, or Retry-After as seconds or as an HTTP date.

    Source: RFC 9110, section 10.2.3. None where there is none, or none that can be read.

    >>> retry_after_s({"Retry-After": "7"})
    7.0
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(lower.get(name, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        at = parsedate_to_datetime(lower.get("retry-after", ""))
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, OverflowError):  # the latter of a time zone that is no such thing
        return None


def _after(
    error: CallError,
    lane: Lane,
    number: int,
    *,
    policy: RetryPolicy,
    lanes: Lanes,
    elsewhere: dict[Lane, CallError],
) -> tuple[float, CallError | None]:
    """Seconds until the next attempt, and the error to end with instead where there is to be none."""
    if not isinstance(error, _WORTH_ANOTHER):
        return 0.0, lanes.without(lane, error, elsewhere)
    asked_s = min(error.retry_after_s or 0.0, policy.retry_after_cap_s)
    wait_s = lanes.rest(lane, error, number=number, elsewhere=elsewhere, asked_s=asked_s, back_off_s=policy.back_off_s)
    most = min(policy.attempts, _ATTEMPTS_UNREACHED) if lanes.unreached(lane, error) else policy.attempts
    return wait_s, error if number >= most else None


def _told(error: CallError, *, attempts: int, waited_s: float) -> CallError:
    """The same error with the number of attempts, and how long the last was waited for."""
    message = str(error)
    if isinstance(error, _WORTH_ANOTHER):
        message += f" (gave up after {attempts} attempt{'s' * (attempts != 1)})"
    return type(error)(
        message,
        status_code=error.status_code,
        retry_after_s=error.retry_after_s,
        attempts=attempts,
        waited_s=waited_s,
    )


class _Budget:
    """A leaky bucket kept as one number: the time from which the next unit is free."""

    def __init__(self, per_minute: float | None) -> None:
        self._unit_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at_s = 0.0

    def reserve(self, amount: float, *, now_s: float) -> float:
        """Seconds to wait until `amount` units are free."""
        wait_s = self.wait_s(now_s)
        self._free_at_s = max(self._free_at_s, now_s - _BURST_S) + amount * self._unit_s
        return wait_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next unit is free."""
        return max(0.0, self._free_at_s - now_s)

    def give_back(self, amount: float) -> None:
        self._free_at_s -= amount * self._unit_s


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
