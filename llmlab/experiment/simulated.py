"""Traffic of a service with a known truth, through the real path: assignment, client, recorder. For 06 and 07.

Answers come from the experiment's own client, each asked once; what goes wrong, how long it takes and who complains is
planted per arm, so that a decision can be held against what is true.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from llmlab.base.background import run_in_background
from llmlab.base.errors import TransportError
from llmlab.clients.base import Client, Generation, Request
from llmlab.engine.plan import request_of
from llmlab.production.recorder import Recorder
from llmlab.production.rollout import Rollout
from llmlab.production.traces import Traces

WEEK = (1.15, 1.2, 1.2, 1.15, 1.1, 0.6, 0.6)  # traffic by day of the week, Monday first
_RETURNING = 0.4  # of a day's users came before
_REPLIES = 0.05  # of all requests get a thumb, up or down


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is planted in an arm: the share of errors, what multiplies latency, and the share with thumbs down."""

    errors: float = 0.01
    slower: float = 1.0
    unhappy: float = 0.02


class _Planted:
    """A client that asks another each thing once, and fails as often as is planted."""

    def __init__(self, client: Client, rng: np.random.Generator) -> None:
        self.fingerprint = f"{client.fingerprint} with planted errors"
        self.truth = Truth()
        self._client, self._rng, self._known = client, rng, dict[tuple[str, str], Generation]()

    async def complete(self, request: Request) -> Generation:
        key = (str(request.model), str(request.messages))
        if key not in self._known:
            self._known[key] = await self._client.complete(request)
        if self._rng.random() < self.truth.errors:
            raise TransportError("planted", status_code=503)
        return self._known[key]


def simulate(
    rollout: Rollout,
    client: Client,
    *,
    questions: Sequence[str | Mapping[str, Any]],
    baseline: Truth,
    candidate: Truth,
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC),
    days: int = 14,
    units_a_day: int = 600,
    last_day: Truth | None = None,
    base: str | Path = ".",
    seed: int,
) -> Traces:
    """What a service wrote that served these questions under a rollout, with each arm's truth planted.

    Args:
        client: asked once for each question and bundle.
        questions: texts, or the inputs of a case where a prompt takes others than `question`.
        start, days, units_a_day: from when on, how long, and how many users come on an average day.
        last_day: what is true of both arms on the last day, an incident; None = the same as before.
        base: the folder that corpus paths of the bundles start from, `Experiment.base` of those in a folder.
    """
    rng = np.random.default_rng(seed)
    truths, planted = {"baseline": baseline, "candidate": candidate}, _Planted(client, rng)
    begins = start + timedelta(days=days - 1)
    visits = _visits(rng, start=start, days=days, units_a_day=units_a_day)
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder:
        recorder = Recorder(folder, service="simulated", key=b"simulated")
        recorded, requests = recorder.client(planted), dict[tuple[str, int], Request]()

        async def serve() -> None:
            for moment, user in visits:
                arm, place = rollout.assign(user, now=moment), int(rng.integers(len(questions)))
                planted.truth = last_day if last_day and moment >= begins else truths[arm.name]
                if (key := (arm.bundle.digest, place)) not in requests:
                    question = questions[place]
                    inputs = question if isinstance(question, Mapping) else {"question": question}
                    requests[key] = request_of(arm.bundle, inputs, base=base)
                with suppress(TransportError), recorder.request(unit=user, arm=arm) as opened:
                    opened.line["time"] = moment.isoformat()
                    opened.line["latency_s"] = float(rng.lognormal(-0.5, 0.5)) * planted.truth.slower
                    await recorded.complete(requests[key])
                if rng.random() < _REPLIES:
                    unhappy = rng.random() < planted.truth.unhappy / _REPLIES
                    recorder.signal(opened.request_id, thumbs=float(not unhappy))

        run_in_background(serve)
        recorder.flush()
        return Traces.load(folder)


def _visits(
    rng: np.random.Generator, *, start: datetime, days: int, units_a_day: int
) -> Iterator[tuple[datetime, str]]:
    """Moments and users in order: a weekly cycle, users who return, one request or a few per visit."""
    so_far = 0
    for day in range(days):
        today = rng.poisson(units_a_day * WEEK[(start + timedelta(days=day)).weekday()])
        new = today if not so_far else int(today * (1 - _RETURNING))
        users = [*range(so_far, so_far + new), *rng.integers(0, so_far, today - new)] if so_far else list(range(new))
        so_far += new
        visits = np.repeat(users, 1 + rng.poisson(0.6, len(users)))
        for at, user in zip(np.sort(rng.uniform(0, 86_400, len(visits))), rng.permutation(visits), strict=True):
            yield start + timedelta(days=day, seconds=float(at)), f"user-{user}"
