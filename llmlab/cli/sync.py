"""`llmlab sync`: log what was kept while the tracking store was away."""

from __future__ import annotations

import click

__all__ = ["sync"]


@click.command("sync")
def sync() -> None:
    """Log the results that wait in mlruns/spool/; what is logged leaves it, and nothing is logged twice."""
    from llmlab import tracking

    done = tracking.sync()
    for sweep in done:
        click.echo(sweep._sentence())
    click.echo(f"{len(done)} waiting results were logged." if done else "Nothing was waiting.")
