"""How fast one endpoint may be asked: requests and tokens per minute, and a pause that all its calls share.

Used by `lanes`: one `RateLimits` per endpoint and key, which every call passes before every attempt.
"""

from __future__ import annotations

import asyncio
import random
import time

__all__ = ["RateLimits"]

BURST_S = 1.0  # at most this many seconds' worth may go out at once


class RateLimits:
    """Lets calls through in the order they came, at most so many requests and tokens per minute; None = no limit.

    >>> asyncio.run(RateLimits(requests_per_minute=600).enter(tokens=100)) < 1
    True
    """

    def __init__(self, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._requests = _Budget(requests_per_minute)
        self._tokens = _Budget(tokens_per_minute)
        self._resume_at_s = 0.0
        self._random = random.Random()

    async def enter(self, tokens: int) -> float:
        """Wait for this request's turn, and for a pause to end; returns the seconds waited."""
        asked_s = time.monotonic()
        if (wait_s := self._reserve(tokens, asked_s)) > 0:
            await asyncio.sleep(wait_s)
        while (pause_s := self._resume_at_s - time.monotonic()) > 0:
            await asyncio.sleep(
                pause_s + self._random.uniform(0, min(1.0, pause_s / 4))
            )  # so that not all wake at once
        return time.monotonic() - asked_s

    async def queue(self, tokens: int) -> None:
        """Wait for this request's turn, and not for a pause."""
        if (wait_s := self._reserve(tokens, time.monotonic())) > 0:
            await asyncio.sleep(wait_s)

    def _reserve(self, tokens: int, now_s: float) -> float:
        return max(self._requests.reserve(1, now_s=now_s), self._tokens.reserve(tokens, now_s=now_s))

    @property
    def rests_s(self) -> float:
        """How much longer the pause lasts, 0 without one."""
        return max(0.0, self._resume_at_s - time.monotonic())

    def wait_s(self) -> float:
        """How long a request that came now would wait."""
        now_s = time.monotonic()
        return max(self._requests.wait_s(now_s), self._tokens.wait_s(now_s), self._resume_at_s - now_s)

    def pause(self, seconds: float) -> None:
        """Hold back every call of this client for so long: one 429 speaks for all of them."""
        self._resume_at_s = max(self._resume_at_s, time.monotonic() + seconds)

    def correct(self, *, estimated: int, used: int) -> None:
        """Replace the estimate that `enter` reserved by what the endpoint counted."""
        self._tokens.give_back(estimated - used)


class _Budget:
    """A leaky bucket kept as one number: the time from which the next unit is free."""

    def __init__(self, per_minute: float | None) -> None:
        if per_minute is not None and per_minute <= 0:
            raise ValueError(f"{per_minute} per minute, must be > 0 (or None for no limit)")
        self._unit_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at_s = 0.0

    def reserve(self, amount: float, *, now_s: float) -> float:
        """Seconds to wait until `amount` units are free."""
        if not self._unit_s:
            return 0.0
        wait_s = self.wait_s(now_s)
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + amount * self._unit_s
        return wait_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next unit is free."""
        return max(0.0, self._free_at_s - now_s) if self._unit_s else 0.0

    def give_back(self, amount: float) -> None:
        self._free_at_s -= amount * self._unit_s
