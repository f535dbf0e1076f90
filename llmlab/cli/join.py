"""`llmlab join`: the parts of a run with shards as one, with what it says."""

from __future__ import annotations

from pathlib import Path

import click

from llmlab.results.results import Results

__all__ = ["join"]


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
