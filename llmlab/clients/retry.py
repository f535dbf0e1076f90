"""The ONE retry layer: which failures are tried again, how long to wait, and when to stop.

Back-off is exponential with jitter; a 429 holds back every call to that endpoint and key, for as long as its
Retry-After says (up to a cap). Two bounds: each attempt, and the whole call with all its attempts. Used by `http`.
A plain loop: a retry library costs a tenth of a millisecond for each call that needs none.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from llmlab.base.errors import CallError, CallTimeoutError, TransportError
from llmlab.clients.lanes import Lane, Lanes

__all__ = ["NeverReachedError", "RetryPolicy", "retry_after_s", "with_retries"]

Answer = TypeVar("Answer")
WORTH_ANOTHER = (TransportError, CallTimeoutError)
ATTEMPTS_UNREACHED = 2  # a server that is not there does not come while one waits


class NeverReachedError(TransportError):
    """A connection was refused at an address where nothing has answered yet: soon given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of one call.

    Attributes:
        attempts: requests sent for one call at most.
        attempt_timeout_s: one attempt, from sending to its last byte.
        case_timeout_s: the whole call with its attempts and back-off; waiting for our own rate limit is left out.
        first_wait_s, longest_wait_s: back-off doubles from the first to the longest, each with jitter.
        retry_after_cap_s: a longer Retry-After is cut to this.
    """

    attempts: int = 5
    attempt_timeout_s: float = 120.0
    case_timeout_s: float = 300.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    retry_after_cap_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("attempts", "attempt_timeout_s", "case_timeout_s", "longest_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} == {getattr(self, name)}, must be > 0")

    def back_off_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, with jitter."""
        longest_s = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1))
        return random.uniform(longest_s / 2, longest_s)


async def with_retries(
    attempt: Callable[[Lane, int], Awaitable[Answer]], *, policy: RetryPolicy, lanes: Lanes, tokens: int = 0
) -> Answer:
    """What the first attempt that gives an answer returns; each is told its lane and its number, from 1.

    Raises:
        TransportError, CallTimeoutError: after the last attempt, or when the whole call took too long.
        CallError: at once, for anything that another attempt cannot mend.
    """
    loop = asyncio.get_running_loop()
    deadline_s, number = loop.time() + policy.case_timeout_s, 0
    while True:
        lane, waited_s = await lanes.enter(tokens, number)
        deadline_s += waited_s  # our own waiting is not the endpoint's time
        number += 1
        sent_s = loop.time()
        try:
            answer = await _bounded(attempt, lane, number, policy=policy, deadline_s=deadline_s)
            lane.failures = 0
            return answer
        except CallError as error:
            failed, waited_s = error, loop.time() - sent_s
        finally:
            lanes.leave(lane)
        wait_s, final = _after(failed, lane, number, policy=policy, lanes=lanes)
        if final is not None or loop.time() + wait_s >= deadline_s:  # raised out here: what was received is not shown
            raise _told(final or failed, attempts=number, waited_s=waited_s)
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
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


async def _bounded(
    attempt: Callable[[Lane, int], Awaitable[Answer]],
    lane: Lane,
    number: int,
    *,
    policy: RetryPolicy,
    deadline_s: float,
) -> Answer:
    attempt_ends_s = asyncio.get_running_loop().time() + policy.attempt_timeout_s
    try:
        async with asyncio.timeout_at(min(attempt_ends_s, deadline_s)):
            return await attempt(lane, number)
    except TimeoutError:
        bound = "attempt_timeout_s" if attempt_ends_s <= deadline_s else "case_timeout_s"
        raise CallTimeoutError(f"no complete answer within {getattr(policy, bound):g} s ({bound})") from None


def _after(
    error: CallError, lane: Lane, number: int, *, policy: RetryPolicy, lanes: Lanes
) -> tuple[float, CallError | None]:
    """Seconds until the next attempt, and the error to end with instead where there is to be none."""
    if not isinstance(error, WORTH_ANOTHER):
        return 0.0, lanes.without(lane, error)
    asked_s = min(error.retry_after_s or 0.0, policy.retry_after_cap_s)
    wait_s = lanes.rest(lane, error, number=number, asked_s=asked_s, back_off_s=policy.back_off_s)
    unreached = isinstance(error, NeverReachedError) and len(lanes.all) == 1
    most = min(policy.attempts, ATTEMPTS_UNREACHED) if unreached else policy.attempts
    return wait_s, error if number >= most else None


def _told(error: CallError, *, attempts: int, waited_s: float) -> CallError:
    """The same error with the number of attempts, and how long the last was waited for."""
    message = str(error)
    if isinstance(error, WORTH_ANOTHER):
        message += f" (gave up after {attempts} attempt{'s' * (attempts != 1)})"
    return type(error)(
        message,
        status_code=error.status_code,
        retry_after_s=error.retry_after_s,
        attempts=attempts,
        waited_s=waited_s,
    )
