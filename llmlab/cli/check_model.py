"""`llmlab check-model PROVIDER ID`: is this model id pinned, and why."""

from __future__ import annotations

import click

from llmlab.display import plain
from llmlab.pinning import judge_pin

__all__ = ["check_model"]


@click.command("check-model")
@click.argument("provider")
@click.argument("model_id", metavar="ID")
@click.option("--revision", help="Commit, tag or digest of self-hosted weights.")
def check_model(provider: str, model_id: str, *, revision: str | None) -> None:
    """Say whether ID of PROVIDER will keep naming the same weights.

    Exit code: 0 pinned, 1 floating.
    """
    verdict = judge_pin(provider, model_id, revision=revision)
    click.echo(
        f"{plain(provider)}/{plain(model_id)} is {'pinned' if verdict else 'floating'}: {plain(verdict.reason, None)}"
    )
    if verdict.source:
        click.echo(f"Read from {plain(verdict.source, None)}")
    raise SystemExit(0 if verdict else 1)
