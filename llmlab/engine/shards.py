"""The shards of a run: each the cases whose sha256 falls there, with a call store and a part of the results of its own.

Whatever starts processes (an array of jobs, a matrix in CI) starts one per shard; `Results.load` joins the parts. A
shard that is there already is not run again, and one that was cut off replays its store.

On Ray each shard is a task: `run(..., shard=...)` in a process somewhere. It gets bundles, cases, scorers and the
addresses of endpoints by value, never a live client or a key: keys are read from the environment of the machine it runs
on. A worker that dies is replaced. `out` must be a folder that every machine reaches.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmlab.base.errors import DataError, RunFailedError
from llmlab.bundle.bundle import Bundle
from llmlab.engine.progress import Progress, shown
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import check_cases
from llmlab.results.files import MANIFEST, PART, Manifest, write_part
from llmlab.results.files import Shard as Shard  # `run` asks for it here, once there are shards
from llmlab.results.results import Results
from llmlab.scorers.base import Scorer

_TELL_EVERY_S = 0.5
_STOPPED_WITHIN_S = 15.0
_ADDED_UP = ("done", "cached", "errors", "unpriced", "spent_usd")  # over the shards
RETRIES = 50  # of a task whose worker died; a shard's own errors are not tried again
_ANY_NODE = 1  # processor that a shard reserves: it waits for answers most of the time

Run = Callable[..., Results]


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

    `scorers` are digests by name.

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
        stored_manifest = Manifest.load(folder / MANIFEST)
        if other := whole.other_than(stored_manifest.model_copy(update={"indexes": {}})):
            raise DataError(f"{folder} is of another run: {other}; give another `out`, or move it away")
        if stored_manifest.complete:
            return Results.from_parquet(folder / PART)
    folder.mkdir(parents=True, exist_ok=True)
    mine = golden.only(ids=[case.id for case in golden if shard.holds(case.id)])
    results = answers(mine, folder / "calls.sqlite")
    places = {case.id: place for place, case in enumerate(golden)}
    attributes = {result_field.name: getattr(results, result_field.name) for result_field in fields(results)}
    write_part(folder, attributes, places=places, manifest=whole)
    return results


def run_on_ray(
    run: Run,
    bundles: Mapping[str, Bundle],
    golden: GoldenSet,
    *,
    scorers: Sequence[Scorer],
    shards: int,
    out: str | Path,
    progress: bool | Callable[[Progress], None],
    options: Mapping[str, Any],
) -> Results:
    """The joined results of all shards, run on the cluster that this process is connected to, else on this machine.

    `run` is `engine.run`, and `options` are its options for every shard: plain values only.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        RunFailedError: a shard broke, or was stopped before its end; what arrived is kept and the same call goes on.
        KeyboardInterrupt: once the cluster's tasks have stopped.
    """
    try:
        import ray  # an extra, and seconds of import
    except ModuleNotFoundError:
        raise ModuleNotFoundError("engine='ray' needs Ray: pip install 'llmlab[ray]'") from None

    if not ray.is_initialized():
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes longer than Ray expects
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    out = Path(out).absolute()
    job: dict[str, Any] = {
        "bundles": {name: bundle.model_dump(mode="json") for name, bundle in bundles.items()},
        "cases": [case.to_row() for case in golden],
        "golden": {"name": golden.name, "parent": golden.parent},
        "scorers": tuple(scorers),
        "options": dict(options),
        "out": str(out),
    }
    board: Any = ray.remote(num_cpus=0)(_Board).remote()
    task = ray.remote(num_cpus=_ANY_NODE, max_retries=RETRIES, retry_exceptions=False)(_shard)
    shared: Any = ray.put(job)
    numbered = [f"{number}/{shards}" for number in range(1, shards + 1)]
    tasks = {task.remote(run, shard, shared, board): shard for shard in numbered}
    state = Progress(total=len(golden) * len(bundles) * int(options.get("repeats", 1)))
    waiting, broken = list(tasks), dict[str, str]()
    with shown(state, show=progress) as refresh:
        try:
            while waiting:
                done, waiting = ray.wait(waiting, timeout=_TELL_EVERY_S)
                for ended in done:
                    try:
                        ray.get(ended)
                    except ray.exceptions.RayError as error:
                        broken[tasks[ended]] = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                figures = ray.get(board.told.remote())
                for name in _ADDED_UP:
                    setattr(state, name, sum(of_shard[name] for of_shard in figures))
                refresh()
        except KeyboardInterrupt:
            for task_id in waiting:
                ray.cancel(task_id)  # as Ctrl+C does in the task: it keeps what arrived
            ray.wait(waiting, num_returns=len(waiting), timeout=_STOPPED_WITHIN_S)
            raise
    if broken:
        first = next(iter(broken))
        others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise RunFailedError(
            f"shard {first}{others} broke: {broken[first]}; what arrived is kept in {out}, and the same call goes on"
        )
    return Results.load(out)


class _Board:
    """An actor that keeps how far each shard is."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Any]] = {}

    def tell(self, shard: str, figures: dict[str, Any]) -> None:
        self._of[shard] = figures

    def told(self) -> list[dict[str, Any]]:
        return list(self._of.values())


def _shard(run: Run, shard: str, job: Mapping[str, Any], board: Any) -> int:
    """One shard, in a worker of the cluster; how many rows it has."""
    golden = GoldenSet(tuple(Case.from_row(row) for row in job["cases"]), **job["golden"])
    bundles = {name: Bundle.model_validate(row) for name, row in job["bundles"].items()}
    told_at = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S or progress.done == progress.total:
            told_at = time.monotonic()
            board.tell.remote(shard, {name: getattr(progress, name) for name in _ADDED_UP})

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    results = run(bundles, golden, scorers=job["scorers"], shard=shard, out=job["out"], progress=tell, **job["options"])
    if not results.complete:
        raise RunFailedError(" ".join(results.notes) or "stopped before its end")
    return results.n_answers()
