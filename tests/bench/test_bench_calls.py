"""Speed promises of the call path: client and call store together, and the store's replay."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.call_store import CallStore, call_key
from llmlab.clients.openai import OpenAIClient
from tests.bench.conftest import Measured
from tests.loopback import Loopback

pytestmark = [pytest.mark.bench, pytest.mark.slow]

LATENCY_S = 0.05
CALLS = 2_000
STORED = 100_000
MODEL = ModelRef.parse("vllm/tiny")
SAMPLING = Sampling(temperature=0.0, max_tokens=200)


def asking(content: str) -> Request:
    message = {"role": "user", "content": f"{content} ".ljust(200, "x")}
    return Request(model=MODEL, messages=(message,), sampling=SAMPLING)


async def call_all(loopback: Loopback, store: CallStore, in_flight: int) -> None:
    """Every call: ask, and have the answer on disk before going on."""
    client = OpenAIClient(loopback.base_url, api_key_env=None)
    left = iter(range(CALLS))

    async def work() -> None:
        for i in left:
            request = asking(f"{in_flight} {i}")
            answer = await client.complete(request)
            await store.put(call_key(client.fingerprint, request), request, answer)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    await client.aclose()


async def call_all_barely(loopback: Loopback, in_flight: int) -> None:
    """The same requests over bare sockets, nothing parsed and nothing stored: what this machine can do right now."""
    left = iter(range(CALLS))

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(loopback.origin.rpartition(":")[2]))
        for i in left:
            body = json.dumps({"messages": list(asking(str(i)).messages)}).encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(work() for _ in range(in_flight)))


LIMITS = pytest.mark.parametrize(("in_flight", "most"), [(32, 1.15), (128, 1.5)])


def assert_near_the_limit(
    what: str,
    start: Callable[[CallStore], Coroutine[Any, Any, object]],
    *,
    loopback: Loopback,
    folder: Path,
    measured: Measured,
    in_flight: int,
    most: float,
) -> None:
    """All calls of `start`, each durable before use: at most so many times calls x latency / in flight, 1 ms of CPU.

    The wall time is that of the calls alone, as the server's latency bounds nothing else; the best of up to 6 rounds
    counts. Where bare sockets beside them lose more than a third of the margin, the machine is too busy to tell.
    """
    loopback.set(latency_s=LATENCY_S, log_bodies=False)
    limit_s = CALLS * LATENCY_S / in_flight
    best = bare = best_cpu_ms = float("inf")
    for attempt in range(6):
        with CallStore(folder / f"{attempt}.sqlite") as store:
            calls = start(store)
            started_s, cpu_s = time.perf_counter(), time.process_time()
            asyncio.run(calls)
            best = min(best, (time.perf_counter() - started_s) / limit_s)
            best_cpu_ms = min(best_cpu_ms, (time.process_time() - cpu_s) / CALLS * 1000)
            assert len(store) == CALLS
        if best <= most and best_cpu_ms <= 1:
            break
        started_s = time.perf_counter()
        asyncio.run(call_all_barely(loopback, in_flight))
        bare = min(bare, (time.perf_counter() - started_s) / limit_s)
    print(f"{in_flight} in flight: {best:.2f} x the limit (bare {bare:.2f} x), {best_cpu_ms:.2f} ms of CPU per call")
    measured(f"{what}, {in_flight} in flight: against the limit", best, most, "x")
    measured(f"{what}, {in_flight} in flight: CPU per call", best_cpu_ms, 1, "ms")
    if bare > 1 + (most - 1) / 3 and (best > most or best_cpu_ms > 1):
        pytest.skip(f"this machine is too busy: bare sockets take {bare:.2f} x the limit, llmlab {best:.2f} x")
    assert best_cpu_ms <= 1
    assert best <= most


@LIMITS
def test_calls_take_little_longer_than_the_physical_limit(
    loopback: Loopback, tmp_path: Path, measured: Measured, in_flight: int, most: float
) -> None:
    """2,000 calls of 50 ms by client and store."""
    how: dict[str, Any] = {"loopback": loopback, "folder": tmp_path, "measured": measured, "most": most}
    assert_near_the_limit(
        "client and store", lambda store: call_all(loopback, store, in_flight), in_flight=in_flight, **how
    )


def test_stored_calls_replay_fast(tmp_path: Path, measured: Measured) -> None:
    """100,000 stored calls with 200-character prompts: keys and look-up take at most 50 microseconds of CPU each."""
    answer = Generation(text="word " * 40, usage=Usage(input_tokens=50, output_tokens=40), latency_s=LATENCY_S)
    requests = [asking(str(i)) for i in range(STORED)]

    async def keep(store: CallStore) -> None:
        for start in range(0, STORED, 2_000):
            part = requests[start : start + 2_000]
            await asyncio.gather(*(store.put(call_key("here", request), request, answer) for request in part))

    with CallStore(tmp_path / "calls.sqlite") as store:
        asyncio.run(keep(store))
        best_us = float("inf")
        for _ in range(4):
            started_s = time.process_time()
            keys = [call_key("here", request) for request in requests]
            keyed_s = time.process_time()
            found = store.get_many(keys)
            done_s = time.process_time()
            assert len(found) == STORED
            best_us = min(best_us, (done_s - started_s) / STORED * 1e6)
            key_us, get_us = (keyed_s - started_s) / STORED * 1e6, (done_s - keyed_s) / STORED * 1e6
            if best_us <= 35:
                break
    print(f"per stored call: {key_us:.1f} us for the key, {get_us:.1f} us to read; best together {best_us:.1f} us")
    measured("a stored call, key and look-up, CPU", best_us, 50, "us")
    assert best_us <= 50
