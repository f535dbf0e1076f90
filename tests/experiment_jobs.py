"""Runs in processes of their own, for tests that interrupt, kill or starve them: `-m tests.experiment_jobs JOB ...`.

Each job writes one JSON line when it is through.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import llmlab as ll
from llmlab.base.errors import StoreError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Generation, Request
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import TokenPrices
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results

BUNDLE = Bundle.from_prompt("{{ question }}", model="vllm/tiny")
PRICES = TokenPrices(input=1.0, output=2.0)


def golden(n: int) -> GoldenSet:
    return GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"question {i}?"}) for i in range(n)))


def client(base_url: str) -> OpenAIClient:
    return OpenAIClient(
        base_url, api_key_env=None, prices=PRICES, retry=RetryPolicy(attempt_timeout_s=3000.0, case_timeout_s=3000.0)
    )


def run(base_url: str, store: str, n: int, concurrency: int = 4) -> Results:
    return ll.run(BUNDLE, golden(n), client=client(base_url), store=store, concurrency=concurrency)


def totals(results: Results) -> dict[str, Any]:
    frame = results.frame
    return {
        "rows": len(frame),
        "different": int(frame["case_id"].nunique()),
        "ok": int((frame["status"] == "ok").sum()),
        "cached": int(frame["cached"].sum()),
        "cost": round(float(frame["cost_usd"].sum()), 9),
        "tokens": int(frame["output_tokens"].sum()),
        "complete": results.complete,
        "notes": list(results.notes),
    }


def whole(base_url: str, store: str, n: str, concurrency: str = "4") -> Any:
    return totals(run(base_url, store, int(n), int(concurrency)))


def hanging_app(store: str) -> Any:
    def hang(case: Case, bundle: Bundle) -> str:
        Path(f"{store}.asked").touch()
        time.sleep(3600)
        return ""

    return totals(ll.run(BUNDLE, golden(4), app=hang, store=store))


def killed(base_url: str, store: str, n: str, kills: str) -> Any:
    """Start the run again and again and kill -9 it at a random moment; then let it end."""
    rng, was_killed = random.Random(7), 0
    run(base_url, f"{store}.other", 1)  # whatever is loaded at the first call is loaded now
    started_s = time.monotonic()
    run(base_url, f"{store}.second", 1)
    window_s = max(0.25, 3 * (time.monotonic() - started_s))  # a busy machine needs longer to its first answer
    for _ in range(int(kills)):
        child = os.fork()
        if child == 0:
            run(base_url, store, int(n))
            os._exit(0)
        time.sleep(rng.uniform(0.0, window_s))
        os.kill(child, signal.SIGKILL)
        was_killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return {"killed": was_killed, **totals(run(base_url, store, int(n)))}


class Wordy:
    """Answers of 20 kB."""

    fingerprint = "wordy"
    asked = 0

    async def complete(self, request: Request) -> Generation:
        self.asked += 1
        return Generation(text=f"{self.asked} " * 5_000)


def full_disk(store: str) -> Any:
    """A disk that is full after 2 MB, and then has room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before, after = Wordy(), Wordy()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    try:
        ll.run(BUNDLE, golden(1_000), client=before, store=store, concurrency=4)
    except StoreError as error:
        said, partial = str(error), error.results
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {
        "said": said,
        "partial": partial.complete,
        "received": len(partial.frame),
        "asked": before.asked,
        **totals(ll.run(BUNDLE, golden(1_000), client=after, store=store)),
        "again": after.asked,
    }


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (whole, hanging_app, killed, full_disk)}
    print(json.dumps(jobs[sys.argv[1]](*sys.argv[2:])))
