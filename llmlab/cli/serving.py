"""MLflow's server as a child that is bound to this machine and ends with the command that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from llmlab.base.errors import StoreError

__all__ = ["HOST", "run_server"]

HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0  # MLflow imports for long on a busy machine
STOP_TIMEOUT_S = 5.0


def run_server(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    say: Callable[[str], str],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a server until Ctrl+C or SIGTERM.

    Args:
        name: of the `llmlab` command, for the advice to take another port.
        log: where the server's own messages go.
        say: from its address to what is printed once it answers.
        environment: variables for it alone; a password belongs here, not into the command.

    Raises:
        StoreError: the port is taken, or the server ended or did not answer.
    """
    _refuse_taken(name, port)
    with log.open("wb") as messages:
        server = subprocess.Popen(  # noqa: S603  # our own interpreter, no shell
            command,
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six more processes that nothing uses
                **(environment or {}),
            },
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # Ctrl+C reaches this process only, which then stops the server and its worker
        )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_up(server, port, log)
        click.echo(say(f"http://{HOST}:{port}"))
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


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StoreError(
                f"port {port} cannot be used ({error.strerror}); try `llmlab {name} --port {port + 1}`"
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
