"""`llmlab register`, `promote`, `rollback`, `history`, `audit` and `export`: releases without a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from llmlab import gate, registry
from llmlab.base.cells import plain
from llmlab.base.errors import RegistryError
from llmlab.bundle.bundle import Bundle, load_bundles

ALIAS = click.option("--alias", default="production", show_default=True)
_REASON = click.option("--reason", required=True, help="Why, for those who read the history.")
FILE = click.Path(path_type=Path)


@click.command("register")
@click.argument("bundle", type=FILE)
@click.option("--receipt", type=FILE, help="A receipt that the gate wrote.")
def register(bundle: Path, *, receipt: Path | None) -> None:
    """Register the BUNDLE of a YAML file as a version in MLflow; the same digest is the same version."""
    click.echo(str(registry.register(Bundle.load(bundle), receipt=gate.Receipt.load(receipt) if receipt else None)))


@click.command("promote")
@click.argument("version")
@ALIAS
@click.option("--experiment", type=FILE, required=True, help="Folder with golden.jsonl and gate.yaml.")
@click.option("--passport", "passports", type=FILE, multiple=True, help="A judge's passport; repeatable.")
@click.option("--force", is_flag=True, help="Although its receipt does not hold; the history says so in capitals.")
@_REASON
def promote(
    version: str, *, alias: str, experiment: Path, passports: tuple[Path, ...], force: bool, reason: str
) -> None:
    """Point an alias at VERSION (NAME/NUMBER or NAME@ALIAS), if its receipt still holds.

    Exit code: 0 moved, 1 refused, 2 a mistake in the call.
    """
    with _refusals():
        move = registry.promote(
            version,
            alias=alias,
            experiment=experiment,
            reason=reason,
            passports=[gate.JudgePassport.load(path) for path in passports],
            force=force,
        )
    click.echo(plain(move._sentence(), None))


@click.command("rollback")
@click.argument("name")
@ALIAS
@click.option("--to", type=click.IntRange(min=1), help="A version; by default the newest earlier one that is good.")
@_REASON
def rollback(name: str, *, alias: str, to: int | None, reason: str) -> None:
    """Point an alias of NAME (or NAME@ALIAS) back at an earlier version; asks for nothing else.

    Exit code: 0 moved, 1 refused, 2 a mistake in the call.
    """
    name, _, alias_in_name = name.partition("@")
    with _refusals():
        move = registry.rollback(name, alias=alias_in_name or alias, to=to, reason=reason)
    click.echo(plain(move._sentence(), None))


@click.command("history")
@click.argument("name", metavar="NAME|EXPERIMENT")
def history(name: str) -> None:
    """List every move of the aliases of NAME, or of an experiment's bundles, oldest first."""
    for model in _names(name):
        click.echo(str(registry.history(model)))


@click.command("audit")
@click.argument("name", metavar="[NAME|EXPERIMENT]", required=False)
def audit(name: str | None) -> None:
    """Check registered bundles (all, or those of NAME) against digests, receipts and history. For CI and cron.

    Exit code: 0 nothing wrong, 1 something is.
    """
    wrong = False
    for model in [None] if name is None else _names(name):  # told one by one: a name that is not registered hides none
        report = registry.audit(model)
        for finding in report.findings:
            line = f"{finding.kind}: {finding.model} {finding.about}: {finding.what}"
            click.echo(plain(line, None), err=finding.kind == "wrong")
        click.echo(plain(report._sentence(), None))
        wrong = wrong or bool(report.wrong)
    raise SystemExit(1 if wrong else 0)


@click.command("export")
@click.argument("reference", metavar="NAME@ALIAS")
@click.argument("path", type=FILE)
@click.option("--require-receipt", is_flag=True, help="Write nothing unless its receipt was checked, and held.")
def export(reference: str, path: Path, *, require_receipt: bool) -> None:
    """Write the verified bundle of NAME@ALIAS and its receipt as one JSON file, which needs no MLflow to be read."""
    saved_path = registry.export(reference, path, require_receipt=require_receipt)
    click.echo(f"Written: {plain(saved_path, None)}")


def _names(text: str) -> list[str]:
    """A model's name, or those that the bundles of an experiment's folder have; its scorers are not run."""
    if not (Path(text) / "bundles").is_dir():
        return [text]
    return sorted({bundle.name for bundle in load_bundles(Path(text) / "bundles").values()})


@contextmanager
def _refusals() -> Iterator[None]:
    """Inside, a refusal is one line and exit code 1."""
    try:
        yield
    except RegistryError as error:
        click.echo(f"refused: {plain(' '.join(str(error).split()), None)}", err=True)
        raise SystemExit(1) from None
