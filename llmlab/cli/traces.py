"""`llmlab traces`: the figures of trace files, and a person's deletion; `llmlab watch`: is all as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from llmlab.base.documents import write_whole
from llmlab.base.numbers import counted
from llmlab.experiment.folder import Experiment
from llmlab.notebook.outcome import check_reports
from llmlab.production.traces import Traces, forget

_FILE = click.Path(path_type=Path)


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


@click.command("watch")
@click.argument("experiment", type=_FILE)
@click.argument("paths", metavar="TRACES...", nargs=-1, required=True)
@click.option("--until", type=click.DateTime(), help="Where the last window ends (UTC); by default now.")
@click.option("--junit", type=_FILE, help="Write JUnit XML here.")
@click.option("--markdown", type=_FILE, help="Write the report for a chat or an issue here.")
@click.option("--prometheus", type=_FILE, help="Write a file for Prometheus' text file collector here (*.prom).")
def watch(
    experiment: Path,
    paths: tuple[str, ...],
    *,
    until: datetime | None,
    junit: Path | None,
    markdown: Path | None,
    prometheus: Path | None,
) -> None:
    """Is production as it was, by the rules in EXPERIMENT's watch.yaml? For cron: reads traces, and asks no model.

    Exit code: 0 quiet, 1 alert, 3 too little data, 2 broken or a mistake in the call.
    """
    check_reports(junit, markdown, prometheus)
    now = datetime.now(UTC) if until is None else until.replace(tzinfo=UTC)
    report = Experiment.load(experiment).watch.report(Traces.load(paths), now=now)
    texts = {junit: report.to_junit, markdown: report.to_markdown, prometheus: report.to_prometheus}
    for path, text in texts.items():
        if path is not None:
            write_whole(path, text())
    click.echo(str(report))
    raise SystemExit(report.exit_code)
