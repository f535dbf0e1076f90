"""The one retry layer, rate limits, Retry-After and the scrubbing of error texts."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from llmlab.base.errors import CallError, TransportError
from llmlab.clients.access import Access, RetryPolicy
from llmlab.clients.retry import Lane, Lanes, NeverReachedError, retry_after_s, with_retries

QUICK = RetryPolicy(attempts=4, first_wait_s=0.001, longest_wait_s=0.002)


def one_lane(**limits: float) -> Lanes:
    return Lanes([Access(base_url="http://here", **limits)])  # type: ignore[arg-type]  # limits only


class Failing:
    """Raises the given errors one after the other, then answers."""

    def __init__(self, *errors: CallError) -> None:
        self.errors, self.calls = list(errors), 0

    async def __call__(self, lane: Lane, number: int) -> tuple[str, int]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer", number


def call(attempt: Failing, policy: RetryPolicy = QUICK) -> tuple[str, int]:
    async def go() -> tuple[str, int]:
        return await with_retries(attempt, policy=policy, lanes=one_lane())

    return asyncio.run(go())


def test_an_address_where_nothing_ever_answered_is_soon_given_up() -> None:
    """A server that is down is told within seconds; one of several lanes rests as after any failure."""
    attempt = Failing(*[NeverReachedError("nothing there") for _ in range(9)])
    with pytest.raises(NeverReachedError, match=r"nothing there \(gave up after 2 attempts\)"):
        call(attempt)
    assert attempt.calls == 2


def test_the_last_error_is_raised_with_the_number_of_attempts() -> None:
    attempt = Failing(*[TransportError(f"e{i}", status_code=503) for i in range(9)])
    with pytest.raises(TransportError, match=r"e3 \(gave up after 4 attempts\)") as raised:
        call(attempt)
    assert (attempt.calls, raised.value.attempts, raised.value.status_code) == (4, 4, 503)


def test_a_wait_that_would_pass_the_bound_of_the_case_is_not_begun() -> None:
    """FAULTS 5: told at once, instead of sleeping through a Retry-After that nobody will wait out."""
    policy = RetryPolicy(case_timeout_s=5, retry_after_cap_s=60)
    started_s = time.monotonic()
    with pytest.raises(TransportError, match="after 1 attempt"):
        call(Failing(TransportError("busy", status_code=429, retry_after_s=50)), policy)
    assert time.monotonic() - started_s < 4


def test_retry_after_is_waited_for_up_to_its_cap() -> None:
    policy = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.001, retry_after_cap_s=0.2)
    started_s = time.monotonic()
    call(Failing(TransportError("busy", status_code=503, retry_after_s=3600)), policy)
    assert time.monotonic() - started_s >= 0.2


def test_cancelling_a_call_cancels_it() -> None:
    """FAULTS 2: an interrupt is not mistaken for a timeout."""

    async def go() -> None:
        waiting = asyncio.create_task(with_retries(lambda *_: asyncio.sleep(3600), policy=QUICK, lanes=one_lane()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())


@pytest.mark.parametrize("setting", ["attempts", "attempt_timeout_s", "case_timeout_s"])
def test_a_bound_of_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} == 0, must be > 0"):
        RetryPolicy(**{setting: 0})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        *(({"retry-after": value}, float(value)) for value in ("7", " 0.5 ")),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, 0.0),
        *(({"retry-after": value}, None) for value in ("soon", "inf", "nan", "")),
        *(({"retry-after": f"Fri, 31 Dec 2026 23:59:59 +{zone}"}, None) for zone in ("99999999999999", "9999")),
        ({"Retry-After-Ms": "1500", "Retry-After": "2"}, 1.5),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_milliseconds_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """RFC 9110, section 10.2.3."""
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after_s(headers, now=now) == seconds


def test_tokens_per_minute_hold_calls_back_until_the_real_count_is_known() -> None:
    async def go() -> None:
        lane = Lane(Access(base_url="http://here", tokens_per_minute=60_000))  # a thousand a second
        await lane.enter(100_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.enter(10), 0.05)
        lane.correct(estimated=100_010, used=0)
        await asyncio.wait_for(lane.enter(10), 5)

    asyncio.run(go())
