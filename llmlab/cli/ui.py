"""`llmlab ui`: MLflow's pages on this project's store, bound to this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from llmlab.base.display import plain
from llmlab.base.project import runs_folder
from llmlab.cli.serving import HOST, run_server
from llmlab.tracking.store import Store, open_store

__all__ = ["ui"]


@click.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(port: int) -> None:
    """Show the logged runs in MLflow's pages until you press Ctrl+C."""
    store = open_store()
    if store.uri.startswith("http"):
        click.echo(f"The tracking store is a server that runs already: {store.url()}")
        return
    log = runs_folder() / "ui.log"
    run_server("ui", _command(store, port), port=port, log=log, say=lambda address: _links(store, address))


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
