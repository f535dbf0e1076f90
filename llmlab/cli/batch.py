"""`llmlab batch`: an experiment's calls overnight at half the price; the same run replays them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmlab.engine.batch import Batches, read_batches, send_batches, write_batches
from llmlab.experiment import Experiment
from llmlab.results.results import Results

__all__ = ["batch", "join"]

FILE = click.Path(path_type=Path)


@click.group("batch")
def batch() -> None:
    """Ask a whole experiment through the provider's batch API: within a day, at half the price.

    write, send, read; then run the experiment as always: its calls are stored.
    """


@batch.command()
@click.argument("experiment", type=FILE)
@click.option("--folder", type=FILE, required=True, help="Where the files go; made, and never written over.")
@click.option("--store", type=FILE, help="The call store, by default mlruns/calls.sqlite.")
@click.option("--first", type=click.IntRange(min=1), help="Only the first so many cases.")
def write(experiment: Path, *, folder: Path, store: Path | None, first: int | None) -> None:
    """Write the calls that are not stored yet into files, with what they would cost."""
    exp = Experiment.load(experiment, first=first or 0)
    about: dict[str, Any] = {"endpoints": exp.endpoints, "base": exp.base, "store": store}
    _tell(write_batches(exp.variants, exp.explored, folder=folder, repeats=exp.repeats, **about))


@batch.command()
@click.argument("folder", type=FILE)
@click.option("--again", is_flag=True, help="Also a file that was being sent when the process ended.")
def send(folder: Path, *, again: bool) -> None:
    """Upload the files and start their batches. This costs money."""
    _tell(send_batches(folder, again=again))


@batch.command()
@click.argument("folder", type=FILE)
@click.option("--store", type=FILE, help="The call store, by default mlruns/calls.sqlite.")
@click.option("--wait", is_flag=True, help="Ask every half minute until all are done.")
def read(folder: Path, *, store: Path | None, wait: bool) -> None:
    """Fetch what is answered into the call store. Exit code 3 while something is still on its way."""
    batches = read_batches(folder, store=store, wait=wait)
    _tell(batches)
    if not batches.done:
        raise SystemExit(3)


def _tell(batches: Batches) -> None:
    click.echo(str(batches))


@click.command("join")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the whole run into this Parquet file.")
@click.option("--texts/--no-texts", default=True, show_default=True, help="Leave texts in the parts: for huge runs.")
def join(folder: Path, *, out: Path | None, texts: bool) -> None:
    """Join the shards under FOLDER (shard=01, shard=02, ...) and show the scores of the whole run.

    Exit code: 0 where all are there and whole, 2 where one is missing, doubled, of another run or incomplete.
    """
    results = Results.load(folder, texts=texts)
    click.echo(str(results.summary()))
    if out is not None:
        click.echo(f"written to {results.to_parquet(out)}")
