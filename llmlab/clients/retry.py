"""The ONE retry layer: which failures are tried again, how long to wait, and when to stop.

Back-off is exponential with jitter; a 429 holds back every call of the client, for as long as its Retry-After
says (up to a cap). Two bounds: each attempt, and the whole call with all its attempts. Used by `openai`.
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
from typing import Generic, TypeVar

from llmlab.clients.limits import RateLimits
from llmlab.errors import CallError, CallTimeoutError, TransportError

__all__ = ["RetryPolicy", "retry_after_s", "with_retries"]

Answer = TypeVar("Answer")
TOO_MANY_REQUESTS = 429
WORTH_ANOTHER = (TransportError, CallTimeoutError)


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


async def with_retries(
    attempt: Callable[[], Awaitable[Answer]], *, policy: RetryPolicy, limits: RateLimits, tokens: int = 0
) -> tuple[Answer, int]:
    """The answer of the first attempt that gives one, and how many attempts were sent.

    Raises:
        TransportError, CallTimeoutError: after the last attempt, or when the whole call took too long.
        CallError: at once, for anything that another attempt cannot mend.
    """
    call = _Call(attempt, policy, limits, tokens)
    try:
        async with asyncio.timeout(None) as call.bound:
            return await call.answer(), call.sent
    except TimeoutError:
        message = f"no answer within {policy.case_timeout_s:g} s (case_timeout_s)"
        raise CallTimeoutError(_after(message, call.sent), attempts=call.sent) from None
    except CallError as error:
        message = _after(str(error), call.sent) if isinstance(error, WORTH_ANOTHER) else str(error)
        raise type(error)(
            message, status_code=error.status_code, retry_after_s=error.retry_after_s, attempts=call.sent
        ) from None


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


class _Call(Generic[Answer]):
    """One call while it is retried: what was sent, and the deadline that moves with waiting for rate limits."""

    def __init__(
        self, attempt: Callable[[], Awaitable[Answer]], policy: RetryPolicy, limits: RateLimits, tokens: int
    ) -> None:
        self.attempt, self.policy, self.limits, self.tokens = attempt, policy, limits, tokens
        self.sent = 0
        self.bound: asyncio.Timeout
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + policy.case_timeout_s

    async def answer(self) -> Answer:
        while True:
            try:
                return await self._send()
            except WORTH_ANOTHER as error:
                wait_s = self._wait_s(error)
                too_late = self._loop.time() + wait_s >= self._deadline_s
                if self.sent >= self.policy.attempts or too_late:
                    raise
            await asyncio.sleep(wait_s)

    async def _send(self) -> Answer:
        self.bound.reschedule(None)
        self._deadline_s += await self.limits.enter(self.tokens)
        self.bound.reschedule(self._deadline_s)
        self.sent += 1
        try:
            async with asyncio.timeout(self.policy.attempt_timeout_s):
                return await self.attempt()
        except TimeoutError:
            message = f"no complete answer within {self.policy.attempt_timeout_s:g} s (attempt_timeout_s)"
            raise CallTimeoutError(message) from None

    def _wait_s(self, error: CallError) -> float:
        back_off_s = min(self.policy.longest_wait_s, self.policy.first_wait_s * 2.0 ** (self.sent - 1))
        wait_s = random.uniform(back_off_s / 2, back_off_s)
        asked_s = min(error.retry_after_s or 0.0, self.policy.retry_after_cap_s)
        if error.status_code == TOO_MANY_REQUESTS:
            self.limits.pause(max(asked_s, wait_s))
        return asked_s + wait_s if asked_s else wait_s


def _after(message: str, sent: int) -> str:
    return f"{message} (gave up after {sent} attempt{'s' * (sent != 1)})"
