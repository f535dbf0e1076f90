"""Writes the frozen files by the public paths of the version it is run with: `python -m tests.frozen.write`.

They were written by version 0.1.0 at commit a76d032. A later version has no reason to write them again: the point is
that it still reads these. A fact that it changes on purpose is changed by hand, with its line in CHANGELOG.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import llmlab as ll
from tests.frozen import facts
from tests.frozen.facts import GIVEN, HERE, NOW

N_SCORED = 80
DOCUMENTS = ("dropna", "fillna", "sort", "merge", "groupby", "pivot", "rank", "unique", "cut", "rolling")


def main() -> None:
    """Everything, the facts last."""
    os.environ["LLMLAB_WHO"] = "somebody@example.org"  # who acts, in what MLflow is told
    golden().save(HERE / "golden.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        _results(Path(folder))
        _store(Path(folder) / "calls.sqlite")
    _judge_and_labels()
    _retrieval()
    for name, decision in facts.decisions().items():
        _check(name, decision)
        decision.receipt(**facts.MADE).save(HERE / f"{name}.json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").touch()
        (HERE / "tracking.json").write_text(_json(facts.tracked(Path(folder))))
        shutil.copy(Path(folder) / "exported.json", HERE / "exported.json")
    with tempfile.TemporaryDirectory() as folder:
        (HERE / "calls.json").write_text(_json(facts.calls(Path(folder) / "calls.sqlite")))
    for name, found in (("digests", facts.digests()), ("numbers", facts.numbers()), ("names", facts.names())):
        (HERE / f"{name}.json").write_text(_json(found))


def golden() -> ll.GoldenSet:
    """24 questions with all that a case may have."""
    return ll.GoldenSet(
        tuple(
            ll.Case(
                id=f"q{i}",
                inputs={"question": f"Question {i}? What about {DOCUMENTS[i % 10]} values", "n": i, "deep": {"a": [i]}},
                expected=(f"f{i % 4}", "what it is|that is what"),
                relevant={DOCUMENTS[i % 10]: 2, DOCUMENTS[(i + 3) % 10]: 1, DOCUMENTS[(i + 5) % 10]: 0},
                tags=("odd" if i % 2 else "even", *(["ünï <b>"] if i % 5 == 0 else [])),
                cluster=f"c{i % 9}" if i % 3 else None,
                weight=1.0 + (i % 4) / 2,
                source=f"line {i}",
            )
            for i in range(24)
        ),
        name="desk",
    )


def _results(folder: Path) -> None:
    """`answers`: every status, repeats, tools, retrieval. `scored`: complete, arms that differ, clusters, weights."""
    some = {name: bundle for name, bundle in facts.bundles().items() if name in ("plain", "retrieval", "tools")}
    means: dict[str, Any] = {"store": folder / "results.sqlite", "base": GIVEN, "progress": False}
    client = ll.FakeClient(facts.answer, fingerprint="frozen")
    asked = ll.scorers
    scorers = [asked.mentions_expected, asked.not_refused, asked.calls_tool("look_up"), asked.word_count]
    found = ll.run(some, ll.GoldenSet.load(HERE / "golden.jsonl"), client=client, repeats=2, scorers=scorers, **means)
    _kept(found, "answers")

    cases = tuple(
        ll.Case(
            id=f"s{i}",
            inputs={"question": f"Question {i}?"},
            expected=("yes",),
            cluster=f"c{i // 2}",
            tags=("even", "odd")[i % 2 : i % 2 + 1],
            weight=1.0 + i % 3,
        )
        for i in range(N_SCORED)
    )
    arms = {
        name: ll.Bundle.from_prompt(f"{name} {{{{ question }}}}", model=facts.MODEL, name="frozen", version=version)
        for name, version in (("old", "1.0.0"), ("new", "2.0.0"), ("third", "3.0.0"))
    }
    rng = np.random.default_rng(20260115)
    rights = {name: rng.random((N_SCORED, 2)) < share for name, share in (("old", 0.25), ("new", 0.95), ("third", 0.5))}
    words = rng.integers(3, 9, (3, N_SCORED, 2))

    def told(request: ll.Request) -> ll.Generation:
        asked = request.messages[-1]["content"]
        name, number = asked.split()[0], int(asked.split()[-1].rstrip("?"))
        right = rights[name][number, request.repeat]
        count = int(words[list(arms).index(name), number, request.repeat])
        text = " ".join(["yes" if right else "no", *["word"] * count])
        usage = ll.Usage(input_tokens=10, output_tokens=count + 1)
        return ll.Generation(text=text, usage=usage, latency_s=count / 8, served_model="gpt-4o-2024-08-06")

    @ll.scorer(name="right", low=0, high=1)
    def right(_case: ll.Case, generation: ll.Generation) -> float:
        return float(generation.text.startswith("yes"))

    @ll.scorer(name="words", low=0, high=None, higher_is_better=False)
    def count_words(_case: ll.Case, generation: ll.Generation) -> float:
        return len(generation.text.split())

    both = ll.run(
        arms,
        ll.GoldenSet(cases, name="frozen"),
        client=ll.FakeClient(told, fingerprint="frozen"),
        repeats=2,
        scorers=[right, count_words],
        **means,
    )
    price = both.frame["output_tokens"] * 1e-4
    _kept(replace(both, frame=both.frame.assign(cost_usd=price)), "scored")


def _kept(found: ll.Results, name: str) -> None:
    provenance = {key: value for key, value in found.provenance.items() if key not in ("commit", "dirty")}
    replace(found, created_at="2026-01-14T12:00:00+00:00", provenance=provenance).to_parquet(HERE / f"{name}.parquet")


def _store(path: Path) -> None:
    """A call store with a few answers, in one file without its log."""
    facts.replayed(path, ll.FakeClient(facts.answer, fingerprint="frozen"))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    shutil.copy(path, HERE / "calls.sqlite")


def _judge_and_labels() -> None:
    planted = ll.simulate.judged_results(90, labelled=60, seed=11, gain=0.6, kindness=(0.0, 0.3), noise=0.15)
    config = facts.bundles()["retrieval"].retrieval
    searching = planted.results.bundles["v2"].with_(template="{{ question }} {{ passages }}", retrieval=config)
    bundles = {**planted.results.bundles, "v2": searching}
    _kept(replace(planted.results, bundles=bundles), "judged")
    planted.labels.save(HERE / "labels.jsonl")
    planted.judge.save(HERE / "judge.yaml")
    ll.judge.passport(facts.calibration(), now=NOW, good_for_days=30).save(HERE / "passport.json")
    verdicts = ll.simulate.judged_verdicts(120, seed=3, position=0.8, length=0.5, own=0.3, missing=0.05)
    verdicts.to_csv(HERE / "verdicts.csv", index=False)
    ll.simulate.judged_grades(100, seed=4).to_csv(HERE / "grades.csv", index=False)


def _retrieval() -> None:
    config = facts.bundles()["retrieval"].retrieval
    assert config is not None
    built_at = NOW.replace(day=5)
    index = ll.retrieval.build_index(config, base=GIVEN)
    ll.retrieval.save_manifest(index, HERE / "manifest.json", golden=golden(), k=3, built_at=built_at)
    rng = np.random.default_rng(5)
    qrels = [f"q{q} 0 d{d} {rng.integers(0, 4)}" for q in range(12) for d in range(8) if rng.random() < 0.6]
    (HERE / "qrels.txt").write_text("\n".join(qrels) + "\n")
    for name in "ab":
        lines = [
            f"q{q} Q0 d{d} {rank} {round(float(rng.choice([0.5, 1.5, 2.5])), 1)} {name}"
            for q in range(1, 14)
            for rank, d in enumerate(rng.permutation(9)[:5], start=1)
        ]
        (HERE / f"run-{name}.txt").write_text("\n".join(lines) + "\n")


def _check(name: str, decision: Any) -> None:
    wanted = "FAIL" if name == "receipt-fail" else "PASS"
    if decision.word != wanted:
        raise SystemExit(f"{name} is {decision.word}, must be {wanted}: {decision}")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
