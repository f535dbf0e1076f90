"""One shard of a run: the cases whose sha256 falls there, with a call store and a part of the results of its own.

Whatever starts processes (an array of jobs, a matrix in CI, Ray) starts one per shard; `Results.load` joins the parts.
A shard that is there already is not run again, and one that was cut off replays its store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import GoldenSet
from llmlab.golden.checks import check_cases
from llmlab.results.files import MANIFEST, PART, Manifest, Shard, write_part
from llmlab.results.results import Results

__all__ = ["Shard", "run_shard"]


def run_shard(
    answers: Callable[[GoldenSet, Path], Results],
    bundles: Mapping[str, Bundle],
    golden: GoldenSet,
    *,
    shard: Shard,
    out: str | Path,
    scorers: Mapping[str, str],
    repeats: int,
) -> Results:
    """The results of one shard, kept under `out`; `answers` makes them of its cases and of the path of its call store.

    Args:
        scorers: digest by name.

    Raises:
        ValueError: there are more shards than the cases fill.
        DataError: another run has this shard in `out` already.
    """
    whole = Manifest(
        shard=str(shard),
        bundles={name: bundle.digest for name, bundle in bundles.items()},
        golden=golden.digest,
        parent=golden.parent,
        n_cases=len(golden),
        scorers=dict(scorers),
        repeats=repeats,
    )
    for name, bundle in bundles.items():  # an example may be a case of another shard
        check_cases(bundle, golden, variant=name)
    numbers = {Shard.of_case(case.id, shard.of) for case in golden}
    if len(numbers) < shard.of:
        raise ValueError(f"{len(golden)} cases leave {shard.of - len(numbers)} of {shard.of} shards empty; take fewer")
    folder = Path(out) / shard.folder
    if (folder / MANIFEST).exists():
        known = Manifest.load(folder / MANIFEST)
        if other := whole.other_than(known.model_copy(update={"indexes": {}})):
            raise DataError(f"{folder} is of another run: {other}; give another `out`, or move it away")
        if known.complete:
            return Results.from_parquet(folder / PART)
    folder.mkdir(parents=True, exist_ok=True)
    mine = golden.only(ids=[case.id for case in golden if shard.holds(case.id)])
    results = answers(mine, folder / "calls.sqlite")
    places = {case.id: place for place, case in enumerate(golden)}
    attributes = {part.name: getattr(results, part.name) for part in fields(results)}
    write_part(folder, attributes, places=places, manifest=whole)
    return results
