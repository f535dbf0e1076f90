"""`llmlab check-model PROVIDER ID`: is this model id pinned, and why, and which sampling it does not take."""

from __future__ import annotations

import click

from llmlab.base.display import plain
from llmlab.bundle.pinning import judge_pin

__all__ = ["check_model"]


@click.command("check-model")
@click.argument("provider")
@click.argument("model_id", metavar="ID")
@click.option("--revision", help="Commit, tag or digest of self-hosted weights.")
def check_model(provider: str, model_id: str, *, revision: str | None) -> None:
    """Say whether ID of PROVIDER will keep naming the same weights, and which sampling parameters it does not take.

    Exit code: 0 pinned, 1 floating.
    """
    verdict = judge_pin(provider, model_id, revision=revision)
    click.echo(
        f"{plain(provider)}/{plain(model_id)} is {'pinned' if verdict else 'floating'}: {plain(verdict.reason, None)}"
    )
    if verdict.source:
        click.echo(f"Read from {plain(verdict.source, None)}")
    _tell_sampling(provider, model_id)
    raise SystemExit(0 if verdict else 1)


def _tell_sampling(provider: str, model_id: str) -> None:
    from llmlab.clients.sampling import sampling_rules

    rules = {"anthropic": "anthropic_messages"}.get(provider, provider)  # its own API is what a client asks
    refused, source = sampling_rules(rules, model_id)
    for sentence in refused:
        click.echo(f"Sampling: {sentence}")
    if refused and source:
        click.echo(f"Read from {source}")
