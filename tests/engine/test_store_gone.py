"""A call store that is deleted in the middle of a run: the run ends before more is paid for, and says so."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import StoreError
from llmlab.clients.openai import OpenAIClient
from tests.loopback import Loopback

CASES, IN_FLIGHT = 300, 4
GOLDEN = ll.GoldenSet(tuple(ll.Case(id=f"q{i}", inputs={"question": f"question {i}"}) for i in range(CASES)))
BUNDLE = ll.Bundle.from_prompt("{{ question }}", model="vllm/tiny")


def test_a_whole_run_stops_where_its_store_went(loopback: Loopback, tmp_path: Path) -> None:
    """At most the calls that were in flight are paid beyond it, and the next run with a store asks them all again."""
    loopback.set(latency_s=0.02)
    store, asked = tmp_path / "calls.sqlite", [0]

    def delete() -> None:
        while loopback.stats()["requests"] < 40:
            time.sleep(0.005)
        for path in tmp_path.glob("calls.sqlite*"):
            path.unlink()
        asked[0] = loopback.stats()["requests"]

    thread = threading.Thread(target=delete)
    thread.start()
    with pytest.raises(StoreError, match="deleted or replaced"):
        ll.run(BUNDLE, GOLDEN, client=client(loopback), store=store, progress=False, concurrency=IN_FLIGHT)
    thread.join()
    assert loopback.stats()["requests"] <= asked[0] + 2 * IN_FLIGHT
    again = ll.run(BUNDLE, GOLDEN, client=client(loopback), store=store, progress=False, concurrency=IN_FLIGHT)
    assert again.complete


def client(loopback: Loopback) -> OpenAIClient:
    return OpenAIClient(loopback.base_url, api_key_env=None)
