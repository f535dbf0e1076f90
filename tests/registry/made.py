"""Bundles, moves and stores for the registry's tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from llmlab import tracking
from llmlab.bundle.bundle import Bundle
from llmlab.gate import Decision, GatePolicy, Look
from llmlab.registry.connection import HISTORY, Registry, Version, open_registry
from llmlab.registry.moves import Move, make_move, now, settle
from llmlab.registry.registering import register
from llmlab.registry.release import ledger
from llmlab.registry.rollbacks import pointed
from llmlab.registry.versions import sha256
from llmlab.results.results import Results
from tests.made_results import experiment, made

HOSTILE = "</code>`` <img src=x onerror=alert(1)> [x](javascript:alert(1)) | ![y](http://evil.example/z.png) \x1b[31m"
RECORD = {  # of a move, as a history holds it
    **{"alias": "production", "kind": "promote", "before": 1, "version": 2, "digest": "d", "follows": 1},
    **{"who": "w", "when": "2026-01-01T00:00:00Z", "reason": "r"},
}
URIS = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"}
Asked = ParamSpec("Asked")
Built = TypeVar("Built")


def built_once(build: Callable[Asked, Built]) -> Callable[Asked, Built]:
    """What `build(root, ...)` makes of an empty project is kept, and copied for the next test that asks for the same.

    The same is also said of the environment, which is in receipts and tags; on a store that is in use, or is not the
    project's own, it is built.
    """
    kept: dict[str, tuple[Path, Built]] = {}

    def copied(source: Path, target: Path) -> None:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db*"))
        with (
            closing(sqlite3.connect(source / "mlruns" / "mlflow.db")) as ours,
            closing(sqlite3.connect(target / "mlruns" / "mlflow.db")) as theirs,
        ):
            ours.backup(theirs)  # into the file that MLflow's client holds open

    @wraps(build)
    def build_or_copy(*args: Asked.args, **options: Asked.kwargs) -> Built:
        root: Any = args[0]
        if (root / "mlruns" / "artifacts").exists() or "looks" in options or URIS & set(os.environ):
            return build(*args, **options)
        key = repr((args, options, sorted((k, v) for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST")))
        if key in kept:
            copied(kept[key][0], root)
        else:
            built, place = build(*args, **options), root.parent / f"{build.__name__}_{len(kept)}"
            copied(root, place)
            kept[key] = place, built
        return kept[key][1]

    return build_or_copy


def bundle(*, k: int = 0, name: str = "qa", template: str = "{{ question }}") -> Bundle:
    """A pinned bundle; another `k` is another behaviour."""
    first = Bundle.from_prompt(template, model="openai/gpt-4o-2024-08-06", name=name, temperature=0.0)
    return first.with_(max_tokens=100 + k)


@built_once
def registered(root: Path, n: int, *, name: str = "qa") -> tuple[Registry, list[Version]]:
    """A registry with `n` versions of one model."""
    versions = [register(bundle(k=k, name=name), root=root) for k in range(n)]
    return open_registry(root), versions


def moved(registry: Registry, version: Version, *, alias: str = "production", follows: int | None = None) -> Move:
    """The alias moved as `promote` does once its checks are done."""
    past = settle(registry, version.name)
    facts = {"who": "somebody"} | ({} if follows is None else {"follows": follows})
    before = pointed(registry, version.name).get(alias)
    return make_move(registry, past, alias, kind="promote", to=version, before=before, reason="a test", **facts)


@built_once
def released(root: Path, n: int, *, name: str = "qa") -> tuple[Registry, list[Version]]:
    """A registry with `n` versions of one model, each of which was production in its turn."""
    registry, versions = registered(root, n, name=name)
    for version in versions:
        moved(registry, version)
    return registry, versions


@built_once
def gated(root: Path, *, receipt: Mapping[str, object] | None = None, **options: Any) -> tuple[Version, Path]:
    """The candidate of `judged(root, **options)`, registered with its receipt (some facts replaced), and the folder."""
    results, decision, folder = judged(root, **options)
    replaced = decision.receipt().model_copy(update=dict(receipt or {}))
    return register(results.bundles["new"], receipt=replaced), folder


def half(registry: Registry, version: int, *, follows: int, **facts: Any) -> None:
    """A move as its process writes it before it dies; other `facts` as an older, newer or bent llmlab writes them."""
    row(registry, json.dumps({**RECORD, "version": version, "follows": follows, "when": now(), **facts}))


def row(registry: Registry, record: str) -> None:
    """A version of the history with this record, and the digest that belongs to it."""
    source = registry.version("qa", 1)
    registry.client.create_model_version(
        f"qa{HISTORY}",
        source=source.source,
        run_id=source.run_id,
        tags={"move": record, "move_digest": sha256(record)},
        await_creation_for=0,
    )


def version_of(registry: Registry, number: int) -> Version:
    """A version of the model as it is now."""
    version = registry.version("qa", number)
    assert version is not None
    return version


def artifact(root: Path, pattern: str, *, run_id: str = "") -> Path:
    """A file that the store keeps of a run, or of any."""
    return next((root / "mlruns" / "artifacts").rglob(f"{run_id}/**/{pattern}" if run_id else pattern))


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(*command: str, root: Path, port: int, **environment: str) -> subprocess.Popen[bytes]:
    """A command that serves MLflow's pages, once it answers at this port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmlab.cli", *command, "--port", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        cwd=root,
    )
    ends = time.monotonic() + 240
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return process
        log = root / "mlruns" / "server.log"
        assert process.poll() is None, log.read_text() if log.exists() else command
        assert time.monotonic() < ends
        time.sleep(0.3)


def alias_now(registry: Registry, name: str = "qa", alias: str = "production") -> int:
    """Where MLflow says that the alias points."""
    return int(registry.client.get_model_version_by_alias(name, alias).version)


POLICY = """
baseline: production
baseline_file: none
goal: {metric: right, rule: superior, min_effect: 0.02}
guards: [{metric: right, rule: non_inferior, margin: 0.05}]
floors: [{metric: right, at_least: 0.3}]
judge: {passport: not required}
"""


@built_once
def judged(
    root: Path,
    *,
    better: float = 0.4,
    n: int = 40,
    policy: str = POLICY,
    name: str = "qa",
    k: int = 0,
    looks: Sequence[Look] | None = None,
) -> tuple[Results, Decision, Path]:
    """Logged results of two pinned bundles, the gate's decision on the second, and the experiment's folder.

    Of `n` cases the baseline has half right, the candidate `better` more of them.
    """
    half = n // 2
    right = [1.0] * half + [0.0] * (n - half)
    gained = right[:half] + [1.0] * round(better * n) + [0.0] * (n - half - round(better * n))
    scores = {"old": right, "new": gained if better >= 0 else [0.0] * n}
    bundles = {"old": bundle(k=100 + k, name=name), "new": bundle(k=200 + k, name=name)}
    results = replace(made(scores), bundles=bundles)
    folder = experiment(root, policy, results.golden)
    rules = GatePolicy.load(folder / "gate.yaml")
    known = ledger(rules, bundles["new"], root=root) if looks is None else looks
    decision = rules.decide(results, baseline="old", candidate="new", looks=known)
    tracking.log(results, decision, root=root)
    return results, decision, folder
