"""`llmlab traces`: the figures of trace files, and the deletion of a person's lines."""

from __future__ import annotations

from pathlib import Path

import click

from llmlab.base.numbers import counted
from llmlab.production.recorder import forget
from llmlab.production.traces import Traces

__all__ = ["traces"]


@click.group("traces")
def traces() -> None:
    """What a service recorded."""


@traces.command("figures")
@click.argument("paths", nargs=-1, required=True)
@click.option("--by", default="", help="day, hour, service, bundle, arm or another column; by default all together.")
def figures(paths: tuple[str, ...], by: str) -> None:
    """Read trace files of any known tool and show what the field watches, each figure with its n."""
    click.echo(str(Traces.load(paths).figures(by=by or None)))


@traces.command("forget")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--unit", required=True, help="The person, as the service calls them, or their pseudonym.")
def forget_unit(folder: Path, unit: str) -> None:
    """Delete every line about a person from the trace files under FOLDER, signals included."""
    gone = forget(folder, unit)
    click.echo(
        f"deleted: {counted(gone, 'line')}" if gone else "nothing is there of this person (or of this project's key)"
    )
