"""The shards of a run as tasks of a Ray cluster: each is `run(..., shard=...)` in a process somewhere.

A task gets bundles, cases, scorers and the addresses of endpoints by value, never a live client or a key: keys are read
from the environment of the machine it runs on. A worker that dies is replaced, and its shard replays its call store.
`out` must be a folder that every machine reaches.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmlab.base.errors import RunFailedError
from llmlab.bundle.bundle import Bundle
from llmlab.engine.progress import Progress, shown
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.files import Shard
from llmlab.results.results import Results
from llmlab.scorers.base import Scorer

__all__ = ["run_on_ray"]

TELL_EVERY_S = 0.5
STOPPED_WITHIN_S = 15.0
ADDED_UP = ("done", "cached", "errors", "unpriced")
RETRIES = 50  # of a task whose worker died; a shard's own errors are not tried again
ANY_NODE = 1  # processor that a shard reserves: it waits for answers most of the time

Run = Callable[..., Results]


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

    Args:
        run: `engine.run`.
        options: of it, for every shard: plain values only.

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
    task = ray.remote(num_cpus=ANY_NODE, max_retries=RETRIES, retry_exceptions=False)(_shard)
    shared: Any = ray.put(job)
    every = [Shard(number, shards) for number in range(1, shards + 1)]
    tasks = {task.remote(run, str(shard), shared, board): shard for shard in every}
    state = Progress(total=len(golden) * len(bundles) * int(options.get("repeats", 1)))
    waiting, broken = list(tasks), dict[str, str]()
    with shown(state, show=progress) as refresh:
        try:
            while waiting:
                done, waiting = ray.wait(waiting, timeout=TELL_EVERY_S)
                for of in done:
                    try:
                        ray.get(of)
                    except ray.exceptions.RayError as error:
                        broken[str(tasks[of])] = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                _add_up(state, ray.get(board.told.remote()))
                refresh()
        except KeyboardInterrupt:
            for of in waiting:
                ray.cancel(of)  # as Ctrl+C does in the task: it keeps what arrived
            ray.wait(waiting, num_returns=len(waiting), timeout=STOPPED_WITHIN_S)
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
        if time.monotonic() - told_at >= TELL_EVERY_S or progress.done == progress.total:
            told_at = time.monotonic()
            figures = {name: getattr(progress, name) for name in ADDED_UP}
            board.tell.remote(shard, {**figures, "spent_usd": str(progress.spent_usd)})

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    results = run(bundles, golden, scorers=job["scorers"], shard=shard, out=job["out"], progress=tell, **job["options"])
    if not results.complete:
        raise RunFailedError(" ".join(results.notes) or "stopped before its end")
    return results.n_answers()


def _add_up(state: Progress, figures: Sequence[Mapping[str, Any]]) -> None:
    for name in ADDED_UP:
        setattr(state, name, sum(of[name] for of in figures))
    state.spent_usd = sum((Decimal(of["spent_usd"]) for of in figures), Decimal(0))
