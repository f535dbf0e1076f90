"""A shadow: the candidate answers the same request a second time, off the request's path, and nobody is shown it.

Its pairs are the same request twice, so that the paired comparison of a run answers, and not the two arms of a rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation
from llmlab.production.policy import Outcome, require_known
from llmlab.production.recorder import Arm, Recorder
from llmlab.production.units import metric_of, values_of
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import Comparison
from llmlab.results.scores import CaseGroups, ScoreTable, score_table

if TYPE_CHECKING:
    import pandas as pd

_SUFFIX = ":shadow"  # of the request id of the second answer
_METRICS = ("error_rate", "refusal_rate", "cost_usd", "latency_s", "output_tokens")
Tools = Mapping[str, Callable[..., Any]]


def stubbed(tools: Tools, *, side_effects: Collection[str]) -> Tools:
    """The tools, of which those with side effects do nothing and say so.

    >>> stubbed({"refund": print, "look_up": len}, side_effects=["refund"])["refund"](order=7)
    {'stubbed': 'refund'}
    """
    if unknown := set(side_effects) - set(tools):
        raise ValueError(f"no tool {sorted(unknown)[0]!r} (there are: {', '.join(tools)})")

    def stub(name: str) -> Callable[..., Any]:
        return lambda *_, **__: {"stubbed": name}

    return {name: stub(name) if name in side_effects else tool for name, tool in tools.items()}


class Shadow:
    """Second answers, in the background of a service.

    Args:
        recorder: writes them, with the arm `shadow`.
        tools: of the service; those of `side_effects` are stubbed.
        at_most: in flight at once; more are left out and counted in `dropped`, so that a slow candidate slows nobody.
    """

    def __init__(
        self, recorder: Recorder, *, tools: Tools | None = None, side_effects: Collection[str] = (), at_most: int = 8
    ) -> None:
        self.tools = stubbed(tools or {}, side_effects=side_effects)
        self.recorder, self.at_most, self.dropped, self.failed = recorder, at_most, 0, 0
        self._running: set[asyncio.Task[None]] = set()

    def answer(
        self, arm: Arm, answer: Callable[[Bundle, Tools], Awaitable[Generation]], *, unit: str, request_id: str
    ) -> None:
        """Start the second answer to a request, where its arm has a shadow; returns at once and never raises.

        Args:
            answer: how the service answers with a bundle and its tools.
            request_id: of the request that was answered; the pair is found by it.
        """
        if arm.shadow is None:
            return
        if len(self._running) >= self.at_most:
            self.dropped += 1
            return
        mirrored = Arm(name="shadow", bundle=arm.shadow, enrolled=True, rollout=arm.rollout)

        async def second() -> None:
            with self.recorder.request(unit=unit, arm=mirrored, request_id=request_id + _SUFFIX):
                await answer(mirrored.bundle, self.tools)

        task = asyncio.get_running_loop().create_task(second())
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def ended(self) -> None:
        """Wait for what is in flight, before a service stops."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.failed += not task.cancelled() and task.exception() is not None


def compare_shadow(frame: pd.DataFrame, *, rollout: str, metrics: Collection[str] = _METRICS) -> Comparison:
    """The candidate's second answers against the baseline's to the same requests, paired, clustered by unit.

    Args:
        frame: one row per request, as `Traces.frame`.
        metrics: of `production.units`, or `signals.NAME` such as a judge's scores.

    Raises:
        DataError: no request of the rollout was answered twice. ValueError: no such metric.
    """
    for name in metrics:
        require_known(name)
    ours = frame[(frame["rollout"] == rollout) & frame["arm"].isin(("baseline", "shadow"))]
    is_shadow = (ours["arm"] == "shadow").to_numpy(dtype=bool)
    base_ids = ours["request_id"].str.removesuffix(_SUFFIX)
    twice = base_ids.isin(base_ids[is_shadow]) & base_ids.isin(base_ids[~is_shadow])
    alone = int((is_shadow & ~twice).sum())
    pairs, ids, second = ours[twice], base_ids[twice], is_shadow[twice.to_numpy(dtype=bool)]
    if pairs.empty:
        raise DataError(f"no request of {rollout!r} was answered twice in these traces")
    tables = [_table(pairs, ids, second, Outcome(metric=name, rule="no_shown_harm")) for name in metrics]
    scored = [table for table in tables if not np.isnan(table.values).all()]
    notes = (f"{counted(alone, 'second answer')} without a first one in these traces",) if alone else ()
    return Comparison(rows=compare_tables(scored, "baseline"), baseline="baseline", notes=notes)


def _table(pairs: pd.DataFrame, ids: pd.Series[str], second: np.ndarray[Any, Any], outcome: Outcome) -> ScoreTable:
    import pandas as pd

    codes, known = pd.factorize(ids)
    clusters = np.zeros(len(known), dtype=np.int64)
    clusters[codes] = pd.factorize(pairs["unit_id"])[0]
    tags: tuple[tuple[str, ...], ...] = ((),) * len(known)
    return score_table(
        metric_of(outcome),
        scores=values_of(pairs, outcome),
        case_codes=codes.astype(np.int64),
        variant_codes=second.astype(np.int64),
        case_ids=list(known),
        variants=("baseline", "candidate"),
        groups=CaseGroups(clusters=clusters, clustered=True, tags=tags),
    )
