"""`llmlab server`: a tracking server for a team, bound to this machine; TLS and sign-in belong in front of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import click

from llmlab.base.display import plain
from llmlab.base.errors import StoreError
from llmlab.base.project import runs_folder
from llmlab.cli.serving import HOST, run_server

__all__ = ["server"]


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
    backend = _with_driver(os.environ.get("MLFLOW_BACKEND_STORE_URI", "") or f"sqlite:///{folder / 'server.db'}")
    allowed = [f"{name}:{port}" for name in (HOST, "localhost")] + list(hosts)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", str(workers), "--artifacts-destination", artifacts.as_uri()]
    command += ["--allowed-hosts", ",".join(allowed)]
    run_server(
        "server",
        command,
        port=port,
        log=folder / "server.log",
        say=lambda address: _said(address, artifacts),
        environment={"MLFLOW_BACKEND_STORE_URI": backend, "MLFLOW_TRACKING_URI": ""},  # a password stays out of `ps`
    )


def _with_driver(uri: str) -> str:
    """A PostgreSQL address with the driver that is installed; SQLAlchemy's own choice changes with its version."""
    prefix, bare, rest = uri.partition("postgresql://")
    if prefix or not bare:
        return uri
    drivers = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)]
    if not drivers:
        raise StoreError("no driver for PostgreSQL is installed; `pip install psycopg2-binary`")
    return f"postgresql+{drivers[0]}://{rest}"


def _said(address: str, artifacts: Path) -> str:
    kind = "PostgreSQL" if os.environ.get("MLFLOW_BACKEND_STORE_URI", "").startswith("postgresql") else "a local file"
    return "\n".join(
        [
            f"MLflow's server runs at {address} ({kind}; artifacts in {plain(artifacts, None)}).",
            f"  export MLFLOW_TRACKING_URI={address}",
            f"  registered models: {address}/#/models",
            "It is bound to this machine: put TLS and sign-in in front of it. Stop with Ctrl+C.",
        ]
    )
