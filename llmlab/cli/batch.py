"""`llmlab batch` and `join`: runs that go elsewhere and come back in parts; `llmlab calls`: stored answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from llmlab.base.documents import broken_rule
from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.project import runs_folder
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.call_store import CallStore, StoredCalls
from llmlab.clients.endpoints import Endpoint
from llmlab.display.shown import text_table
from llmlab.engine.batch import LIST, Batches, read_batches, send_batches, write_batches
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.plan import make_plan
from llmlab.experiment import Addresses, Experiment
from llmlab.results.results import Results

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
    click.echo(str(write_batches(exp.variants, exp.explored, folder=folder, repeats=exp.repeats, **about)))


@batch.command()
@click.argument("folder", type=FILE)
@click.option("--again", is_flag=True, help="Also a file that was being sent when the process ended.")
def send(folder: Path, *, again: bool) -> None:
    """Upload the files and start their batches. This costs money."""
    _require_own_keys(folder)
    click.echo(str(send_batches(folder, again=again)))


@batch.command()
@click.argument("folder", type=FILE)
@click.option("--store", type=FILE, help="The call store, by default mlruns/calls.sqlite.")
@click.option("--wait", is_flag=True, help="Ask every half minute until all are done.")
def read(folder: Path, *, store: Path | None, wait: bool) -> None:
    """Fetch what is answered into the call store. Exit code 3 while something is still on its way."""
    _require_own_keys(folder)
    batches = read_batches(folder, store=store, wait=wait)
    click.echo(str(batches))
    if not batches.done:
        raise SystemExit(3)


def _require_own_keys(folder: Path) -> None:
    """Nothing, where the folder, which may come from somebody else, sends no well-known key to an address of theirs."""
    addresses = Addresses.of(folder)
    for file in Batches.load(folder).files:
        try:
            access = Endpoint(base_url=file.base_url, key_env=file.key_env, headers=tuple(file.headers.items()))
            model = ModelRef.parse(file.model)
        except ValueError as error:  # pydantic's too
            raise FileRuleError(broken_rule(error), path=folder / LIST) from None
        addresses.require_own_keys(folder / LIST, model, access)


@click.command("join")
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, help="Write the whole run into this Parquet file.")
@click.option("--texts/--no-texts", default=True, show_default=True, help="Leave texts in the parts: for huge runs.")
def join(folder: Path, *, out: Path | None, texts: bool) -> None:
    """Join the shards under FOLDER (shard=01, shard=02, ...) and show the scores of the whole run.

    Exit code: 0 where all are there and whole, 2 where one is missing, doubled, of another run or incomplete.
    """
    results = Results.load(folder, texts=texts)
    click.echo(str(results.summary()))
    if out is not None:
        click.echo(f"written to {results.to_parquet(out)}")


@click.group("calls", invoke_without_command=True)
@click.option("--store", type=FILE, help="The call store, by default mlruns/calls.sqlite.")
@click.pass_context
def calls(context: click.Context, *, store: Path | None) -> None:
    """What answers are stored, of which models, since when, and what they cost."""
    if store is not None and not store.is_file():
        raise FileRuleError("is not there; name a call store, or leave --store out for the project's own", path=store)
    context.obj = store or runs_folder() / "calls.sqlite"
    if context.invoked_subcommand is not None:
        return
    with CallStore(context.obj) as call_store:
        stored = call_store.by_model()
    rows = [
        {
            "model": of.model or "(applications)",
            "answers": f"{of.answers:,}",
            "cost (USD)": f"{of.cost_usd:,.4f}{_unknown(of)}",
            "MB": f"{of.n_bytes / 1e6:,.1f}",
            "first": _day(of.first_at),
            "last": _day(of.last_at),
        }
        for of in stored
    ]
    click.echo(text_table(rows) if rows else "Nothing is stored yet.")
    total, answers = sum(of.cost_usd for of in stored), sum(of.answers for of in stored)
    unknown = sum(of.unpriced for of in stored)
    spent = f", of which {answers - unknown:,} cost ${total:,.4f} and {unknown:,} have an unknown cost"
    cost_note = spent if unknown else f" that cost ${total:,.4f}"
    click.echo(f"{counted(answers, 'answer')}{cost_note}; a run that asks the same again pays nothing.")


@calls.command()
@click.argument("experiment", type=FILE, required=False)
@click.option("--variant", help="Answers of this bundle of EXPERIMENT, as it is now.")
@click.option("--model", help="Answers of this model, provider/id.")
@click.option("--since", type=click.DateTime(), help="Asked at this time (UTC) or later.")
@click.pass_obj
def forget(
    store: Path, *, experiment: Path | None, variant: str | None, model: str | None, since: datetime | None
) -> None:
    """Delete answers, so that the next run asks, and pays, for them again."""
    if (experiment is None) != (variant is None):
        raise ValueError("--variant needs the experiment's folder, and the folder needs --variant")
    keys = None
    if experiment is not None and variant is not None:
        exp = Experiment.load(experiment)
        setup = CallSetup(endpoints=exp.endpoints, base=exp.base, store=store)
        parts = (f"{variant}@", f"{variant} · ")  # at several temperatures, on several models
        chosen = {name: of for name, of in exp.variants.items() if name == variant or name.startswith(parts)}
        if not chosen:
            raise ValueError(f"no variant {variant!r} in {experiment} (there are: {', '.join(exp.variants)})")
        plan = make_plan(chosen, exp.golden, setup, repeats=exp.repeats)
        keys = [call.key for batch in plan.batches() for call in batch if call.key]
    with CallStore(store) as call_store:
        gone = call_store.forget(keys=keys, model=model, since=since.replace(tzinfo=UTC) if since else None)
    click.echo(f"{counted(gone, 'answer')} forgotten; the next run asks for them again.")


def _unknown(of: StoredCalls) -> str:
    """Answers whose cost is not known, and why."""
    reasons = {"without a price": of.unpriced - of.uncounted, "without usage": of.uncounted}
    return "".join(f" and {number:,} {why}" for why, number in reasons.items() if number)


def _day(seconds: int | None) -> str:
    return "before 0.2" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
