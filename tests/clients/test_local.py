"""Provider `local` against the model itself: what no stand-in can show."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import llmlab as ll
from llmlab.base.errors import RequestRefusedError
from llmlab.clients.base import Generation, Request
from llmlab.clients.endpoints import client_for
from llmlab.clients.local import LocalClient
from llmlab.local.server import Lease, hold
from llmlab.local.setup import LocalModel
from tests.local.conftest import model as model  # the fixture

pytestmark = pytest.mark.local
SMALL = "local/smollm2-135m-instruct"
LONG = "Tell me a very long story about a ship, with all its sailors."
LABEL = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}
GOLDEN = ll.GoldenSet(tuple(ll.Case(id=f"c{n}", inputs={"question": f"What is {n} + 1?"}) for n in range(8)))


def asked(question: str, **sampling: Any) -> Request:
    bundle = ll.Bundle.from_prompt("{{ question }}", model=SMALL, **{"max_tokens": 24, "temperature": 0.0, **sampling})
    messages = ({"role": "user", "content": question},)
    return Request(model=bundle.model, messages=messages, sampling=bundle.sampling, seed=sampling.get("seed"))


async def answers(*requests: Request) -> list[Generation]:
    client = client_for(requests[0].model)
    assert isinstance(client, LocalClient)
    try:
        return list(await asyncio.gather(*map(client.complete, requests)))
    finally:
        await client.aclose()


def busy(lease: Lease) -> bool:
    request = urllib.request.Request(f"{lease.url[:-3]}/slots", headers={"Authorization": f"Bearer {lease.key}"})
    with urllib.request.urlopen(request) as reply:
        return any(slot["is_processing"] for slot in json.load(reply))


@pytest.mark.slow
def test_an_answer_is_streamed_free_and_names_the_file_that_gave_it(model: LocalModel) -> None:
    [answer] = asyncio.run(answers(asked("What is the capital of France?", max_tokens=48)))
    assert answer.first_token_s is not None
    assert answer.latency_s is not None
    assert 0 < answer.first_token_s < answer.latency_s
    assert answer.text.strip()
    assert (answer.cost_usd, answer.served_model) == (0, model.alias)


@pytest.mark.slow
def test_seeds_truncation_and_json_by_schema_hold_at_a_temperature(model: LocalModel) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "label", "schema": LABEL}}
    same = [asked(LONG, temperature=0.8, seed=7)] * 2
    label = [asked("Red or green?", temperature=0.8, max_tokens=60, response_format=schema, seed=n) for n in range(3)]
    first, second, *labels = asyncio.run(answers(*same, *label))
    assert first.text == second.text
    assert first.status == "truncated"
    assert first.usage.output_tokens == 24
    assert {json.loads(answer.text)["colour"] for answer in labels if answer.status == "ok"} <= {"red", "green"}
    assert any(answer.status == "ok" for answer in labels)


def test_a_context_that_is_too_long_is_refused_with_its_size(model: LocalModel) -> None:
    with pytest.raises(RequestRefusedError, match=r"context"):
        asyncio.run(answers(asked("ship " * 3_000)))


def test_tools_are_refused_because_the_template_would_leave_them_out() -> None:
    request = asked("What is the weather?")
    with_tool = Request(
        model=request.model, messages=request.messages, sampling=request.sampling, tools=({"name": "weather"},)
    )
    with pytest.raises(RequestRefusedError, match="no tools"):
        asyncio.run(answers(with_tool))


def test_a_cancelled_answer_leaves_the_server_idle_within_a_second(model: LocalModel) -> None:
    lease = hold(model)

    async def cancelled() -> bool:
        task = asyncio.create_task(answers(asked(LONG, max_tokens=1_500)))
        while not await asyncio.to_thread(busy, lease):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        ends_s = time.monotonic() + 1.0
        while (works := await asyncio.to_thread(busy, lease)) and time.monotonic() < ends_s:
            await asyncio.sleep(0.02)
        return works

    assert not asyncio.run(cancelled())
    assert not lease.lost
    lease.release()


class Killing:
    """The client, which kills its server before the calls of these numbers."""

    def __init__(self, *kills: int) -> None:
        self.client, self.asked, self.kills = LocalClient(LocalModel.of(SMALL.partition("/")[2])), 0, kills
        self.fingerprint = self.client.fingerprint

    async def complete(self, request: Request) -> Generation:
        self.asked += 1
        if self.asked in self.kills:
            os.kill(hold(self.client.model).pid, signal.SIGKILL)
        return await self.client.complete(request)

    async def aclose(self) -> None:
        await self.client.aclose()


def run(store: Path, client: Killing, concurrency: int = 1) -> ll.Results:
    bundle = ll.Bundle.from_prompt("{{ question }}", model=SMALL, temperature=0.0, max_tokens=8)
    return ll.run({"bare": bundle}, GOLDEN, client=client, store=store, concurrency=concurrency, progress=False)


def statuses(results: ll.Results) -> set[str]:
    return set(results.frame["status"])


@pytest.mark.slow
def test_a_server_that_is_killed_in_a_run_is_started_again(model: LocalModel, tmp_path: Path) -> None:
    assert "error" not in statuses(run(tmp_path / "calls.sqlite", Killing(3), concurrency=8))


@pytest.mark.slow
def test_a_server_that_is_killed_twice_is_given_up_at_once_and_nothing_is_lost(
    model: LocalModel, tmp_path: Path
) -> None:
    broken = run(tmp_path / "calls.sqlite", Killing(3, 5))
    assert list(broken.frame["status"] == "error") == [False] * 4 + [True] * 4
    assert broken.frame["error"].str.contains("ended twice").sum() == 4
    resumed = Killing()
    assert "error" not in statuses(run(tmp_path / "calls.sqlite", resumed))
    assert resumed.asked == 4
