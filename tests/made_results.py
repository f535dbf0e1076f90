"""Results with known scores, for the tests of everything that reads results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.scorers import Score, Scorer, scorer

HOSTILE = "<script>alert(1)</script>\x1b[31m$x_1$\"'&\x00"


def made(
    scores: Mapping[str, Sequence[float | None]],
    *,
    repeats: int = 1,
    clusters: Sequence[str] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    weights: Sequence[float] | None = None,
    low: float | None = 0.0,
    high: float | None = 1.0,
    higher_is_better: bool = True,
    name: str = "right",
) -> Results:
    """Results whose answers say their score: per variant one number per answer, cases in order, repeats inner.

    None = an answer that the scorer could not judge.
    """
    n_cases = len(next(iter(scores.values()))) // repeats
    golden = GoldenSet(
        tuple(
            Case(
                id=f"q{i:03}",
                inputs={"question": f"question {i}?"},
                expected=("yes",),
                cluster=clusters[i] if clusters else None,
                tags=tuple(tags[i]) if tags else (),
                weight=weights[i] if weights else 1.0,
            )
            for i in range(n_cases)
        )
    )
    rows = [
        {"variant": variant, "case_id": f"q{i // repeats:03}", "repeat": i % repeats, "text": f"{value}"}
        for variant, values in scores.items()
        for i, value in enumerate(values)
    ]
    return Results.from_frame(pd.DataFrame(rows), golden=golden, scorers=[reads(name, low, high, higher_is_better)])


def reads(name: str, low: float | None = 0.0, high: float | None = 1.0, higher_is_better: bool = True) -> Scorer:
    """A scorer that reads the number an answer consists of."""

    @scorer(name=name, low=low, high=high, higher_is_better=higher_is_better)
    def read(_case: Case, generation: object) -> Score:
        text = generation.text  # type: ignore[attr-defined]  # a Generation
        value = None if text == "None" else float(text)
        return Score(value=value, explanation=f"read {text}")

    return read


def with_cases(results: Results, change: Callable[[int, Case], Case]) -> Results:
    """The results with each case changed by its place, and the digest of the golden set that this gives."""
    assert results.golden is not None
    golden = GoldenSet(tuple(change(i, case) for i, case in enumerate(results.golden)))
    return replace(results, golden=golden, golden_digest=golden.digest)


def experiment(root: Path, policy: str, golden: GoldenSet | None) -> Path:
    """An experiment's folder with its policy and its cases."""
    folder = root / "experiment"
    folder.mkdir(exist_ok=True)
    (folder / "gate.yaml").write_text(policy, encoding="utf-8")
    assert golden is not None
    golden.save(folder / "golden.jsonl")
    return folder


def capitals(n: int) -> list[Case]:
    """Questions with one fact each."""
    return [Case(id=f"q{i}", inputs={"question": f"Capital {i}?"}, expected=(f"city {i}",)) for i in range(n)]


def experiment_folder(path: Path, bundles: Mapping[str, Bundle], cases: Sequence[Case]) -> Path:
    """A folder with these bundles by file name, these cases and nothing else."""
    (path / "bundles").mkdir(parents=True)
    for name, bundle in bundles.items():
        bundle.save(path / "bundles" / f"{name}.yaml")
    GoldenSet(tuple(cases)).save(path / "golden.jsonl")
    return path


def with_numbers(results: Results, **columns: Sequence[float | None]) -> Results:
    """The results with resource columns (tokens, cost, latency) filled in, in the frame's order."""
    filled = {name: [math.nan if value is None else value for value in values] for name, values in columns.items()}
    return replace(results, frame=results.frame.assign(**filled))
