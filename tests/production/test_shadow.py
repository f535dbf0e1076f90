"""The same request twice, off its path, tools without effect, and read as pairs."""

import asyncio
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.production import Shadow, compare_shadow, stubbed
from llmlab.production.rollout import decide
from tests.production.made import DIGESTS, on_day, policy
from tests.production.test_rollout import V2, rollout

ARM = next(arm for arm in map(rollout(mode="shadow").assign, map(str, range(9))) if arm.enrolled)


class Notes:
    """What a recorder would write: who, which arm, which id."""

    def __init__(self):
        self.kept = []

    @contextmanager
    def request(self, *, unit, arm, request_id):
        self.kept.append((unit, arm.name, arm.bundle.digest, request_id))
        yield


def test_the_second_answer_comes_after_the_first_and_reaches_nobody():
    """The caller waits for nothing; an answer that fails is counted."""
    notes, seen = Notes(), []

    async def answer(bundle, tools):
        await asyncio.sleep(0)
        seen.append((bundle.digest, tools["refund"](order=7)))
        if len(seen) == 2:
            raise RuntimeError("the candidate is broken")
        return ll.Generation(text="twice")

    async def serve():
        shadow = Shadow(notes, tools={"refund": lambda order: pytest.fail("money went out")}, side_effects=["refund"])
        for i in range(2):
            shadow.answer(ARM, answer, unit="u1", request_id=f"q{i}")
        assert seen == []
        await shadow.ended()
        return shadow

    shadow = asyncio.run(serve())
    assert seen == [(V2.digest, {"stubbed": "refund"})] * 2
    assert (shadow.failed, shadow.dropped) == (1, 0)
    assert notes.kept == [("u1", "shadow", V2.digest, f"q{i}:shadow") for i in range(2)]


def test_a_slow_candidate_slows_nobody():
    """Beyond so many in flight, second answers are left out and counted; without a shadow nothing happens."""

    async def never(bundle, tools):
        await asyncio.sleep(60)

    async def serve():
        shadow = Shadow(Notes(), at_most=3)
        for i in range(5):
            shadow.answer(ARM, never, unit="u", request_id=str(i))
        shadow.answer(rollout().assign("u"), never, unit="u", request_id="none")
        return shadow.dropped

    assert asyncio.run(serve()) == 2


def test_a_tool_that_is_not_there_cannot_be_stubbed():
    """A misspelt name would let money out."""
    with pytest.raises(ValueError, match="refnd"):
        stubbed({"refund": print}, side_effects=["refnd"])


def test_pairs_are_compared_as_the_same_request_twice():
    """A candidate that costs a tenth more is seen from few pairs, although requests differ tenfold."""
    rng = np.random.default_rng(1)
    cost = rng.lognormal(0, 1, 300)
    first = pd.DataFrame(
        {
            "request_id": [f"q{i}" for i in range(300)],
            "unit_id": [f"u{i // 3}" for i in range(300)],
            "rollout": "r1",
            "arm": "baseline",
            "status": "ok",
            "cost_usd": cost,
        }
    )
    second = first.assign(arm="shadow", request_id=first["request_id"] + ":shadow", cost_usd=cost * 1.1)
    lost = second.assign(request_id="lost:shadow").head(1)
    found = compare_shadow(pd.concat([first, second, lost]), rollout="r1")
    row = found.row("cost_usd")
    assert (row.n_pairs, row.n_clusters, row.reading) == (300, 100, "worse")
    assert row.difference.value == pytest.approx(0.1 * cost.mean())
    assert found.row("error_rate").difference.value == 0
    assert "1 second answer" in found.notes[0]
    with pytest.raises(DataError, match="answered twice"):
        compare_shadow(first, rollout="r1")
    with pytest.raises(ValueError, match="compare_shadow"):
        decide(policy(mode="shadow"), first, digests=DIGESTS, now=on_day(1))
