"""`llmlab run NOTEBOOK`: a notebook as a job, with the exit code of its verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from llmlab import experiment
from llmlab.base.cells import plain
from llmlab.base.project import project_root
from llmlab.display.shown import text_table
from llmlab.notebook import (
    NotebookRun,
    keep_html,
    parse_parameters,
    read_notebook,
    read_parameters,
    run_notebook,
    template,
    to_junit,
    to_markdown,
)
from llmlab.notebook.outcome import check_reports, told_in

COMPARE = "01_compare_variants.ipynb"


@click.command("run")
@click.argument("notebook", metavar="NOTEBOOK|EXPERIMENT", type=click.Path(path_type=Path))
@click.option("-p", "--parameter", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="Repeatable.")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the executed notebook here (*.ipynb).")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a Markdown summary here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write one page without code here, to send to others.")
@click.option("--dry-run", is_flag=True, help="Say what its experiment would send and cost, ask nothing, and stop.")
@click.option("--list", "list_only", is_flag=True, help="List the notebook's parameters and stop.")
def run(
    notebook: Path,
    parameters: tuple[tuple[str, str], ...],
    *,
    output: Path | None,
    junit: Path | None,
    markdown: Path | None,
    report: Path | None,
    dry_run: bool,
    list_only: bool,
) -> None:
    """Execute NOTEBOOK from top to bottom and print its tables; for an EXPERIMENT's folder notebook 01.

    Exit code: 0 pass, 1 fail, 3 inconclusive, 2 broken, invalid or a mistake in the call.
    """
    texts = dict(parameters)
    if notebook.is_dir():
        ours = project_root() / "notebooks" / COMPARE  # else the one that comes with llmlab
        notebook, texts = ours if ours.exists() else template(COMPARE), {"experiment": str(notebook), **texts}
    if list_only:
        declared = read_parameters(read_notebook(notebook), path=notebook)
        rows = [{"name": p.name, "type": p.type, "default": repr(p.default), "help": p.help} for p in declared]
        click.echo(text_table(rows, longest=160) or f"{plain(notebook.name)} has no parameters")
        return
    if twice := [name for i, (name, _) in enumerate(parameters) if name in dict(parameters[:i])]:
        raise ValueError(f"parameter {twice[0]!r} is given twice")
    if dry_run:
        click.echo(str(_experiment(notebook, texts).dry_run()))
        return
    check_reports(junit, markdown, report)  # said before an hour of work, not after
    with told_in(junit, markdown, name=notebook.stem):
        notebook_run = run_notebook(notebook, texts, output=output, progress=sys.stderr.isatty())
    for path, text in ((junit, to_junit), (markdown, to_markdown)):
        if path is not None:
            path.write_text(text(notebook_run), encoding="utf-8")
    if report is not None:
        keep_html(notebook_run.executed, report=report)
    _print(notebook_run)
    if report is not None:
        click.echo(f"To send to others: {plain(report, None)}")
    raise SystemExit(notebook_run.exit_code)


@click.command("notebooks")
@click.argument("folder", type=click.Path(path_type=Path), default="notebooks")
def notebooks(folder: Path) -> None:
    """Copy the notebooks that come with llmlab into FOLDER (notebooks/); what is there already stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(template().glob("*.ipynb")):
        place = folder / source.name
        existed = place.exists()
        if not existed:
            place.write_bytes(source.read_bytes())
        click.echo(f"{plain(place, None)}{' is there already, and stays' if existed else ''}")


def _experiment(notebook: Path, texts: dict[str, str]) -> experiment.Experiment:
    """The experiment that the notebook would load with these parameters."""
    declared = read_parameters(read_notebook(notebook), path=notebook)
    values = {p.name: p.default for p in declared} | parse_parameters(declared, texts, path=notebook)
    overrides = {name: values[name] for name in experiment.Asked.__annotations__ if name in values}
    return experiment.Experiment.load(values["experiment"], **overrides)


def _print(done: NotebookRun) -> None:
    for table in done.tables:
        click.echo("\n".join(plain(line, None) for line in table.splitlines()) + "\n")
    failed = next((cell for cell in done.cells if cell.status == "failed"), None)
    where = f" (cell {failed.number}, {plain(failed.heading)})" if failed else ""
    why = " ".join(done.message.split()).removeprefix(f"{done.outcome}: ")  # the word is said before the place
    reason = f": {plain(why, 1000)}" if why else ""
    click.echo(f"{plain(done.notebook.name)}: {done.outcome}{where}{reason}", err=done.exit_code != 0)
    click.echo(f"Executed notebook: {plain(done.executed, None)}\nTo read in a browser: {plain(done.html, None)}")
