"""Speed promises of traces: a million read and analysed in a minute of CPU and 4 GiB; what a recorded line costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

import llmlab as ll

pytestmark = pytest.mark.bench
START = datetime(2026, 3, 2, tzinfo=UTC)
READ = """
import json, sys, time
import llmlab as ll
from tests.bench.conftest import peak_bytes

traces = ll.Traces.load(sys.argv[1])
figures = [traces.figures(by) for by in (None, "day", "arm")]
found = {row["problem"]: row["count"] for row in traces.problems.rows}
said = [len(traces), time.process_time(), peak_bytes() / 2**30, found, figures[0]["feedback thumbs"].n]
print(json.dumps(said))
"""


def written(folder, *, files, lines):
    """Files of a day each, out of order, with a torn line and a thumb for every fiftieth request."""
    text = {name: json.dumps({name: "word " * 50}) for name in ("inputs", "tool")}
    for day in range(files):
        with (folder / f"help-desk-{day:02}.jsonl").open("w") as file:
            for i in range(lines):
                began = START + timedelta(days=day, seconds=i * 86_400 / lines - (5 if i % 7 == 0 else 0))
                line = {
                    "request_id": f"{day:02}{i:030}",
                    "time": began.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                    "service": "help-desk",
                    "unit_id": f"{i * 7919 % 120_000:016}",
                    "session_id": f"s{i // 3:015}",
                    "rollout": "r1",
                    "arm": ("baseline", "candidate")[i % 2],
                    "bundle": "c" * 64,
                    "inputs": text["inputs"],
                    "status": "error" if i % 90 == 0 else "ok",
                    "error_code": "429" if i % 90 == 0 else None,
                    "text": "word " * 60,
                    "attempts": 1,
                    "latency_s": 1 + i % 50 / 10,
                    "first_token_s": 0.4,
                    "cost_usd": 0.0017,
                    "prompt_tokens": 510,
                    "completion_tokens": 42,
                    "cached_tokens": 128,
                    "served_model": "gpt-4o-2024-08-06",
                    "retrieved": [{"id": f"doc{j}", "score": 7.5 - j} for j in range(5)],
                }
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
                if i % 50 == 0:
                    file.write(json.dumps({"request_id": line["request_id"], "signals": {"thumbs": i % 2}}) + "\n")
            file.write('{"request_id": "torn')


def test_a_million_traces_are_read_and_analysed_in_a_minute(measured, tmp_path):
    """Ten files of 100,000 lines of 1.1 kB, each with a torn one."""
    written(tmp_path, files=10, lines=100_000)
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)
    n, cpu_s, gib, problems, thumbs = json.loads(done.stdout)
    measured("a million traces read and analysed", cpu_s, 60.0, "s CPU")
    measured("memory for a million traces", gib, 4.0, "GiB")
    assert (n, thumbs, problems["torn line, or no JSON object"]) == (1_000_000, 20_000, 10)
    assert cpu_s <= 60
    assert gib <= 4


def test_a_line_is_recorded_in_150_microseconds(measured, tmp_path):
    """Of 2 kB, in the request; personal data is looked for beside it."""
    recorder = ll.Recorder(tmp_path, service="help-desk", key=b"k" * 32, personal="flag")
    bundle = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06")
    request, generation = bundle.request(question="word " * 100), ll.Generation(text="word " * 160, latency_s=1.0)
    spent = []
    for _ in range(2000):
        started = time.thread_time()
        with recorder.request(unit="anna", session="s1") as opened:
            opened.called(request, generation, time.perf_counter())
        spent.append(time.thread_time() - started)
    middle = sorted(spent)[1000] * 1e6
    measured("a line recorded in the request", middle, 150.0, "us CPU")
    assert middle <= 150
    assert recorder.lost == 0
