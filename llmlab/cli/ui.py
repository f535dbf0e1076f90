"""`llmlab ui`: MLflow's pages on this project's store, bound to this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import click

from llmlab.display import plain
from llmlab.errors import StoreError
from llmlab.mlstore import Store, open_store
from llmlab.project import runs_folder

__all__ = ["ui"]

HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0  # MLflow imports for long on a busy machine
STOP_TIMEOUT_S = 5.0


@click.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(port: int) -> None:
    """Show the logged runs in MLflow's pages until you press Ctrl+C."""
    store = open_store()
    if store.uri.startswith("http"):
        click.echo(f"The tracking store is a server that runs already: {store.url()}")
        return
    _refuse_taken(port)
    log = runs_folder() / "ui.log"
    with log.open("wb") as messages:
        server = subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
            _command(store, port),
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # six more processes that nothing uses
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # Ctrl+C reaches this process only, which then stops the server and its worker
        )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_up(server, port, log)
        click.echo(_links(store, f"http://{HOST}:{port}"))
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt  # SIGTERM stops the server too, which lives in a session of its own


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it started."""
    import psutil

    try:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)[1]:
        process.kill()


def _command(store: Store, port: int) -> Sequence[str]:
    """The server on the store, one worker: it serves one person."""
    artifacts = [] if store.artifacts is None else ["--default-artifact-root", store.artifacts.as_uri()]
    places = ["--backend-store-uri", store.uri, *artifacts]
    served = ["--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "ui", *places, *served]


def _links(store: Store, address: str) -> str:
    """The home page, the table of runs of each experiment of ours, and the registry (which the default menu hides)."""
    runs = [
        f"  {plain(found.name)}: {address}/#/experiments/{found.experiment_id}/runs?compareRunsMode=CHART"
        for found in store.client.search_experiments(max_results=50)
        if found.experiment_id != "0"
    ]
    head = f"MLflow shows {plain(store.uri, None)} at {address}"
    return "\n".join([head, *runs, f"  registered models: {address}/#/models", "Stop with Ctrl+C."])


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StoreError(
                f"port {port} cannot be used ({error.strerror}); try `llmlab ui --port {port + 1}`"
            ) from None


def _wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends:
        if server.poll() is not None:
            raise StoreError(f"MLflow's server ended with code {server.returncode}; its messages are in {log}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):  # our own server
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise StoreError(f"MLflow's server did not answer on port {port} within {START_TIMEOUT_S:.0f} s")
