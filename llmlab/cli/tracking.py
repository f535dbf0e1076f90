"""`llmlab ui`, `server` and `sync`: MLflow's pages, a server for a team, and what waits to be logged.

MLflow's server is a child that is bound to this machine and ends with the command that started it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from llmlab import tracking
from llmlab.base.cells import plain
from llmlab.base.errors import StoreError
from llmlab.base.private import scrub
from llmlab.base.project import runs_folder
from llmlab.tracking.page import VIEW, VIEW_TAG
from llmlab.tracking.reach import with_driver
from llmlab.tracking.store import UI_PORT, Store, open_store, settle_here, ui_runs

_HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0  # MLflow imports for long on a busy machine
_SLOW_START_S = 5.0  # after which the server's own errors are told
_ERROR = re.compile(r"\b\w*(Error|refused|FATAL)\b")
_STOP_TIMEOUT_S = 5.0


@click.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=UI_PORT, show_default=True)
def ui(port: int) -> None:
    """Show the logged runs in MLflow's pages until you press Ctrl+C."""
    store = open_store()
    if store.uri.startswith("http"):
        click.echo(f"The tracking store is a server that runs already: {store.url()}")
        return
    with ui_runs(port):
        _run_server("ui", _ui_options(store), port=port, database=store.uri, say=partial(_links, store))


@click.command("server")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Folder of the artifacts that it hands on.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="HOST", help="A name under which a proxy reaches it; repeatable."
)
def server(port: int, *, workers: int, artifacts: Path | None, hosts: tuple[str, ...]) -> None:
    """Start MLflow's server for a team until you press Ctrl+C.

    The database is what MLFLOW_BACKEND_STORE_URI says (postgresql://user:password@host/database; that needs the
    package psycopg2), by default mlruns/server.db. It listens on this machine only and answers only under the names
    that are allowed. People set MLFLOW_TRACKING_URI to its address and change nothing else.
    """
    folder = runs_folder()
    artifacts = (artifacts or folder / "server-artifacts").resolve()
    artifacts.mkdir(parents=True, exist_ok=True)
    backend = with_driver(os.environ.get("MLFLOW_BACKEND_STORE_URI", "") or f"sqlite:///{folder / 'server.db'}")
    allowed = ",".join([f"{_HOST}:{port}", f"localhost:{port}", *hosts])
    options = ["--workers", str(workers), "--artifacts-destination", artifacts.as_uri(), "--allowed-hosts", allowed]
    _run_server("server", options, port=port, database=backend, say=partial(_server_text, artifacts))


@click.command("sync")
@click.option("--here", is_flag=True, help="First point the store of a copied or moved project to the files beside it.")
def sync(*, here: bool) -> None:
    """Log the results that wait in mlruns/spool/; what is logged leaves it, and nothing is logged twice."""
    if here:
        click.echo(f"{settle_here():,} places in the store now name this folder.")
    sweeps = tracking.sync()
    for sweep in sweeps:
        click.echo(sweep._sentence())
    click.echo(f"{len(sweeps)} waiting results were logged." if sweeps else "Nothing was waiting.")


def _ui_options(store: Store) -> list[str]:
    artifacts = [] if store.artifacts is None else ["--default-artifact-root", store.artifacts.as_uri()]
    return ["--workers", "1", *artifacts]  # it serves one person


def _links(store: Store, address: str) -> str:
    """The home page, the table of runs of each experiment of ours, and the registry (which the default menu hides)."""
    run_tables = [
        f"  {plain(mlflow_experiment.name)}: {address}/#/experiments/{mlflow_experiment.experiment_id}/runs?"
        + (f"viewStateShareKey={VIEW}" if VIEW_TAG in mlflow_experiment.tags else "compareRunsMode=CHART")
        for mlflow_experiment in store.client.search_experiments(max_results=50)
        if mlflow_experiment.experiment_id != "0"
    ]
    head = f"MLflow shows {plain(scrub(store.uri), None)} at {address}"
    return "\n".join([head, *run_tables, f"  registered models: {address}/#/models", "Stop with Ctrl+C."])


def _server_text(artifacts: Path, address: str) -> str:
    kind = "PostgreSQL" if os.environ.get("MLFLOW_BACKEND_STORE_URI", "").startswith("postgresql") else "a local file"
    return "\n".join(
        [
            f"MLflow's server runs at {address} ({kind}; artifacts in {plain(artifacts, None)}).",
            f"  export MLFLOW_TRACKING_URI={address}",
            f"  registered models: {address}/#/models",
            "It is bound to this machine: put TLS and sign-in in front of it. Stop with Ctrl+C.",
        ]
    )


def _run_server(name: str, options: Sequence[str], *, port: int, database: str, say: Callable[[str], str]) -> None:
    """Run `mlflow ui` or `mlflow server`, called like our command, until Ctrl+C or SIGTERM.

    Its own messages are in a log in mlruns/; `say` gives what is printed once it answers.
    """
    _refuse_taken(name, port)
    log, calm = (
        runs_folder() / f"{name}.log",
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # else six processes more
    hidden = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_TRACKING_URI": ""}  # a password stays out of `ps`
    with log.open("wb") as messages:
        server = subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
            [sys.executable, "-m", "mlflow", name, "--host", _HOST, "--port", str(port), *options],
            env={**os.environ, **calm, **hidden},
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # Ctrl+C reaches this process only, which then stops the server and its worker
        )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_up(server, port, log)
        click.echo(say(f"http://{_HOST}:{port}"))
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)
        server.wait()
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt  # SIGTERM stops the server too, which lives in a session of its own


def _stop(server: subprocess.Popen[bytes]) -> None:
    import psutil

    try:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)[1]:
        process.kill()


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise StoreError(
                f"port {port} cannot be used ({error.strerror}); try `llmlab {name} --port {port + 1}`"
            ) from None


def _wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    began_s = time.monotonic()
    last_told = ""
    while (waited_s := time.monotonic() - began_s) < START_TIMEOUT_S:
        if server.poll() is not None:
            why = f": {last}" if (last := _last_error(log)) else ""
            raise StoreError(f"MLflow's server ended with code {server.returncode}{why}; its messages are in {log}")
        if waited_s > _SLOW_START_S and (last := _last_error(log)) != last_told:
            last_told = last
            click.echo(f"The server is not up yet; its last message of an error: {last}", err=True)
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=2):  # our own server
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    why = f": {last_told}" if last_told else ""
    raise StoreError(f"MLflow's server did not answer on port {port} within {START_TIMEOUT_S:.0f} s{why}")


def _last_error(log: Path) -> str:
    """The last line of a server's messages that tells an error, "" where there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((plain(scrub(line.strip()), 300) for line in reversed(lines) if _ERROR.search(line)), "")
