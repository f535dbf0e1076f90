"""Speed promises of `ll.run` as a whole: calls, replay and memory, with prompts, scoring frames and all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import llmlab as ll
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.call_store import CallStore
from llmlab.clients.openai import OpenAIClient
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.execution import Scoring, execute
from llmlab.engine.plan import make_plan
from llmlab.engine.progress import Progress
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import AnswerSheet
from tests.bench.conftest import Measured
from tests.bench.test_bench_calls import CALLS, LIMITS, assert_near_the_limit
from tests.loopback import Loopback

pytestmark = [pytest.mark.bench, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STORED = 100_000
BUNDLE = Bundle.from_prompt("{{ question }}", model="vllm/tiny")
LARGEST_BYTES = 1024**3


class Ready:
    """Answers at once; `chars` long."""

    fingerprint = "ready"

    def __init__(self, chars: int) -> None:
        self.words = chars // 5

    async def complete(self, request: Request) -> Generation:
        usage = Usage(input_tokens=50, output_tokens=self.words)
        return Generation(
            text=f"{request.messages[-1]['content'][:10]}{'word ' * self.words}", usage=usage, latency_s=1.0
        )


def questions(n: int, name: str = "") -> GoldenSet:
    return GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{name} {i} ".ljust(200, "x")}) for i in range(n)))


@LIMITS
def test_a_run_takes_little_longer_than_the_physical_limit(
    loopback: Loopback, tmp_path: Path, measured: Measured, in_flight: int, most: float
) -> None:
    """2,000 calls of 50 ms by `ll.run`, from the first request to the last answer on disk."""
    golden = questions(CALLS)

    def start(store: CallStore) -> Coroutine[Any, Any, object]:
        client = OpenAIClient(loopback.base_url, api_key_env=None)
        setup = CallSetup(client=client, concurrency=in_flight)
        plan = make_plan(BUNDLE, golden, setup)
        return execute(plan, store, Progress(total=CALLS), Scoring(AnswerSheet(CALLS)), setup)

    how: dict[str, Any] = {"loopback": loopback, "folder": tmp_path, "measured": measured, "most": most}
    assert_near_the_limit("a run", start, in_flight=in_flight, **how)


def test_stored_calls_replay_at_twenty_thousand_per_second(tmp_path: Path, measured: Measured) -> None:
    """100,000 stored calls with 200-character prompts, by `ll.run` from the golden set to the frame: 50 us each."""
    golden, client = questions(STORED), Ready(200)
    best_us = float("inf")
    for attempt in range(4):
        started_s = time.process_time()
        results = ll.run(BUNDLE, golden, client=client, store=tmp_path / "calls.sqlite", progress=False)
        if attempt:
            assert results.frame["cached"].all()
            best_us = min(best_us, (time.process_time() - started_s) / STORED * 1e6)
    measured("a run, a stored call replayed, CPU", best_us, 50, "us")
    assert best_us <= 50


MEMORY = """
import sys
from tests.bench.conftest import peak_bytes
from tests.bench.test_bench_run import *
results = ll.run(BUNDLE, questions(STORED), client=Ready(2_000), store=sys.argv[1], progress=False, concurrency=128)
assert results.complete and len(results.frame) == STORED and results.frame["text"].str.len().min() >= 2_000
print(peak_bytes())
"""


def test_a_hundred_thousand_answers_of_two_kilobytes_fit_into_a_gibibyte(tmp_path: Path, measured: Measured) -> None:
    """The whole process, from the first call to the frame; and once more when they are replayed."""
    for what in ("asked", "replayed"):
        command = [sys.executable, "-c", MEMORY, str(tmp_path / "calls.sqlite")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=280)
        peak = int(done.stdout)
        measured(f"100,000 answers of 2 kB {what}, peak memory", peak / 1024**2, LARGEST_BYTES / 1024**2, "MiB")
        assert peak < LARGEST_BYTES
