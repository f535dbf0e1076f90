"""`llmlab gate-init`: a first gate.yaml with margins that this golden set can settle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmlab.base.display import plain

if TYPE_CHECKING:
    from llmlab.gate.proposal import Proposal

__all__ = ["gate_init"]


@click.command("gate-init")
@click.argument("source", metavar="RESULTS.parquet|EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--goal", help="Metric that a change is for; by default the first one.")
@click.option("--baseline", help="Variant to compare with; by default the first one.")
@click.option("--candidate", help="Variant whose noise is read; by default the last one.")
@click.option("--output", type=click.Path(path_type=Path), help="Write here; by default gate.yaml of the experiment.")
def gate_init(
    source: Path, *, goal: str | None, baseline: str | None, candidate: str | None, output: Path | None
) -> None:
    """Write a gate for an experiment, with what it can detect.

    From results the noise is measured; from an experiment's folder it is assumed to be that of pass/fail scores.
    """
    path = output or (source / "gate.yaml" if source.is_dir() else Path("gate.yaml"))
    if path.exists():
        raise ValueError(f"{path} exists; name another file with --output, and compare")
    proposal = _from_folder(source, goal) if source.is_dir() else _from_results(source, goal, baseline, candidate)
    path.write_text(proposal.to_yaml(), encoding="utf-8")
    for metric, said in proposal.remarks:
        click.echo(plain(f"{metric}: {said}", None))
    click.echo(f"Written to {plain(path, None)}: read it, and change what your users would not forgive.")


def _from_folder(folder: Path, goal: str | None) -> Proposal:
    from llmlab.gate.proposal import propose_for_cases
    from llmlab.golden.cases import GoldenSet

    golden = GoldenSet.load(folder / "golden.jsonl")
    files = sorted((folder / "bundles").glob("*.yaml"))
    baseline = f"bundles/{files[0].name}" if files else "bundles/v1.yaml"
    return propose_for_cases(golden, metric=goal or "mentions_expected", baseline=baseline)


def _from_results(source: Path, goal: str | None, baseline: str | None, candidate: str | None) -> Proposal:
    from llmlab.gate.proposal import propose
    from llmlab.results.results import Results

    results = Results.from_parquet(source)
    first, last = baseline or results.variants[0], candidate or results.variants[-1]
    if first == last:
        raise ValueError(f"{first!r} cannot be compared with itself; name --baseline and --candidate")
    return propose(results, baseline=first, candidate=last, goal=goal)
