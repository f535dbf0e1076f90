"""How quick a comparison is, and how much memory it needs: seconds of CPU (nothing here waits) and GiB."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.results.scores import Metric

pytestmark = pytest.mark.bench


def results(n_variants, n_metrics, n_cases):
    """Scored results without answers: what a comparison reads, clusters of ten cases, eight tags."""
    golden = GoldenSet(
        tuple(Case(id=f"q{i}", inputs={"q": "?"}, cluster=f"c{i // 10}", tags=(f"t{i % 8}",)) for i in range(n_cases))
    )
    names = [f"v{i}" for i in range(n_variants)]
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "variant": np.tile(names, n_cases),
            "case_id": np.repeat([case.id for case in golden], n_variants),
            "status": "ok",
            "error": "",
            **{f"m{i}": rng.random(n_cases * n_variants).round(2) for i in range(n_metrics)},
        }
    )
    bundle = Bundle.from_prompt("{{ q }}", model="openai/gpt-4o-2024-08-06")
    metrics = {f"m{i}": Metric(name=f"m{i}", low=0.0, high=1.0) for i in range(n_metrics)}
    return Results(frame=frame, metrics=metrics, bundles=dict.fromkeys(names, bundle), golden=golden)


def seconds(work):
    """How long a call takes, in seconds of CPU: neighbours on a loaded machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def test_twelve_variants_by_five_metrics_by_ten_thousand_cases(measured):
    """55 comparisons, and 440 more by tag, of 600,000 scores: under 3 s."""
    run = results(12, 5, 10_000)
    whole = seconds(lambda: run.compare("v0"))
    by_tag = seconds(lambda: run.compare("v0", by="tags"))
    print(f"12 variants x 5 metrics x 10,000 cases: compare {whole:.2f} s, with 8 tags {by_tag:.2f} s (bound 3 s)")
    measured("12 variants x 5 metrics x 10,000 cases, compared", whole, 3, "s")
    measured("the same by 8 tags", by_tag, 3, "s")
    assert whole < 3
    assert by_tag < 3


SCRIPT = """
import sys, time
from pathlib import Path
from click.testing import CliRunner
from llmlab.cli import main
from tests.bench.conftest import peak_bytes
start = time.process_time()
arguments = ["compare", sys.argv[1], "--baseline", "a", "--candidate", "b", "--id", "id", "--cluster", "doc"]
done = CliRunner().invoke(main, [*arguments, "--by", "tag", *sys.argv[2:]])
assert done.exit_code == 0, done.output
print(time.process_time() - start, peak_bytes() / 2**30)
"""


@pytest.mark.parametrize("form", ["wide.csv", "tidy.parquet"])
def test_a_million_rows_from_the_command_line(tmp_path, measured, form):
    """Read, checked, joined and compared, by cluster and by category: under 10 s and 2 GiB."""
    n, rng = 1_000_000, np.random.default_rng(2)
    place = np.arange(n)
    if form == "wide.csv":
        scores = {"a": rng.integers(0, 2, n), "b": rng.random(n).round(3)}
        table = pd.DataFrame({"id": place, "doc": place // 20, "tag": place % 8, **scores})
        table.to_csv(tmp_path / form, index=False)
        extra = []
    else:
        half = place // 2
        arm = np.where(place % 2 == 0, "a", "b")
        table = pd.DataFrame({"id": half, "doc": half // 20, "tag": half % 8, "arm": arm, "score": rng.random(n)})
        table.to_parquet(tmp_path / form)
        extra = ["--variant-column", "arm", "--score-column", "score"]
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / form), *extra], check=True, capture_output=True, text=True
    ).stdout
    took_s, peak_gib = map(float, out.split())
    print(f"1,000,000 rows, {form}: {took_s:.1f} s, peak {peak_gib:.2f} GiB (bounds 10 s, 2 GiB)")
    measured(f"1,000,000 rows through llmlab compare, {form}", took_s, 10, "s")
    measured(f"the same, peak memory, {form}", peak_gib, 2, "GiB")
    assert took_s < 10
    assert peak_gib < 2


def test_a_million_rows_of_results(measured):
    """10 variants x 20,000 cases x 5 repeats: summarised and compared under 10 s."""
    run = results(10, 1, 20_000)
    frame = pd.concat([run.frame.assign(repeat=i) for i in range(5)], ignore_index=True)
    resources = dict.fromkeys(("cost_usd", "latency_s", "output_tokens", "input_tokens"), 1.0)
    million = Results(frame=frame.assign(**resources), metrics=run.metrics, bundles=run.bundles, golden=run.golden)
    took_s = seconds(lambda: (million.compare("v0"), million.summary()))
    print(f"1,000,000 rows of results: compare and summary {took_s:.1f} s (bound 10 s)")
    measured("1,000,000 rows of results, compare and summary", took_s, 10, "s")
    assert took_s < 10
