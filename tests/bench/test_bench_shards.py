"""The join of a huge run: rows of scores in 64 shards read, summarised and compared, and how that grows."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import llmlab as ll
from llmlab.results import files
from llmlab.results.scores import Metric

SHARDS = 64
BUNDLES = {name: ll.Bundle.from_prompt(f"{name} {{{{ question }}}}", model="vllm/tiny") for name in ("v1", "v2")}
JOIN = """
import json, sys, time
import llmlab as ll
from tests.bench.conftest import peak_bytes

results = ll.Results.load(sys.argv[1], texts=False)
said = str(results.summary()), str(results.compare("v1"))
assert len(results.frame) == int(sys.argv[2]) and "v2" in said[1]
print(json.dumps({"cpu_s": time.process_time(), "gib": peak_bytes() / 2**30}))
"""


def write_run(folder, n_rows):
    """Parts as a run leaves them, but for the texts, which nobody reads here."""
    rng, n = np.random.default_rng(1), n_rows // 2
    ids = np.array([f"case-{i:08}" for i in range(n)], dtype=object)
    where = np.fromiter((files.Shard.of_case(case_id, SHARDS) for case_id in ids), dtype=np.int64, count=n)
    digests = {name: bundle.digest for name, bundle in BUNDLES.items()}
    for number in range(1, SHARDS + 1):
        mine = np.flatnonzero(where == number)
        m = 2 * len(mine)
        frame = pd.DataFrame(
            {
                "variant": np.tile(["v1", "v2"], len(mine)),
                "case_id": np.repeat(ids[mine], 2),
                "repeat": 0,
                "status": "ok",
                "input_tokens": rng.integers(50, 90, m).astype(float),
                "output_tokens": rng.integers(5, 40, m).astype(float),
                "cached_input_tokens": 0.0,
                "latency_s": rng.gamma(2, 0.3, m),
                "first_token_s": np.nan,
                "cost_usd": rng.random(m) / 1000,
                "served_model": "tiny",
                "cached": False,
                "attempts": 1,
                "error": "",
                "call_key": rng.integers(1, 2**60, m),
                "bounds": "",
                "right": rng.integers(0, 2, m).astype(float),
            }
        )
        results = ll.Results(
            frame=frame,
            metrics={"right": Metric(name="right", low=0, high=1)},
            bundles=BUNDLES,
            created_at="2026-12-01T00:00:00+00:00",
        )
        place = folder / files.Shard(number, SHARDS).folder
        place.mkdir(parents=True)
        about = files._about({name: getattr(results, name) for name in results.__dataclass_fields__})
        files._write_frame(frame, place / files.SCORES, about=about)
        cases = {"case_id": pa.array(ids[mine]), "place": mine, "weight": np.ones(len(mine))}
        cases["cluster"] = pa.array([f"c{i // 2}" for i in mine], pa.string())
        cases["tags"] = pa.array(["[]"] * len(mine)).dictionary_encode()
        pq.write_table(pa.table(cases), place / files.CASES)
        files.Manifest(
            shard=f"{number}/{SHARDS}",
            bundles=digests,
            golden="0" * 64,
            n_cases=n,
            scorers={"right": "s"},
            repeats=1,
            rows=m,
            complete=True,
        ).save(place / files.MANIFEST)


def joined(folder, n_rows):
    write_run(folder, n_rows)
    ended = subprocess.run(
        [sys.executable, "-c", JOIN, str(folder), str(n_rows)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.bench
def test_a_million_rows_in_shards_are_joined_summarised_and_compared(tmp_path, measured):
    """A tenth of the promise for ten million: 12 CPU seconds and 0.6 GiB, and 8 seconds of imports."""
    used = joined(tmp_path, 1_000_000)
    measured("1,000,000 rows in 64 shards joined and compared, CPU", used["cpu_s"], 20, "s")
    measured("the same, peak memory", used["gib"], 1.5, "GiB")
    assert used["cpu_s"] < 20
    assert used["gib"] < 1.5


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_ten_million_rows_in_shards_take_two_minutes_of_cpu_and_six_gib(tmp_path):
    """How it grows, from a hundred thousand on."""
    for n_rows in (100_000, 1_000_000, 10_000_000):
        used = joined(tmp_path / str(n_rows), n_rows)
        print(f"{n_rows:,} rows: {used['cpu_s']:.0f} CPU s, {used['gib']:.2f} GiB")
    assert used["cpu_s"] < 120
    assert used["gib"] < 6
