"""`llmlab import FILE`: another tool's data set, configuration or log as files of an experiment."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import click

from llmlab.base.cells import plain
from llmlab.base.errors import LlmlabError
from llmlab.base.numbers import counted
from llmlab.bundle.bundle import Bundle
from llmlab.foreign.datasets import kind_of, promptfoo_bundles
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results

_CASES: dict[str, Callable[[Path], GoldenSet]] = {
    "beir": GoldenSet.from_beir,
    "deepeval": GoldenSet.from_deepeval,
    "langfuse": GoldenSet.from_langfuse,
    "langsmith": GoldenSet.from_langsmith,
    "promptfoo": GoldenSet.from_promptfoo,
}
_RESULTS = {"inspect": Results.from_inspect, "promptfoo results": Results.from_promptfoo}


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="The folder to write, imported/FILE by default.")
@click.option("--input", "inputs", multiple=True, help="Of a table: NAME=COLUMN or COLUMN, once per placeholder.")
@click.option("--expected", help="Of a table: the column of what is expected.")
@click.option("--id", help="Of a table: the column that names the case.")
@click.option("--tags", help="Of a table: the column of categories.")
@click.option("--cluster", help="Of a table: the column of what cases share.")
def import_file(
    source: Path,
    *,
    to: Path | None,
    inputs: tuple[str, ...],
    **columns: str | None,
) -> None:
    """Write what FILE holds: golden.jsonl, and bundles/ or results.parquet where it has them.

    promptfoo, LangSmith, Langfuse, DeepEval, Inspect and BEIR are known by what is in the file; any other CSV, JSONL or
    Parquet file is a table whose columns are named here. What cannot be carried over is listed.
    """
    folder = to or Path("imported") / source.stem
    if folder.exists():
        raise ValueError(f"{folder} exists already; name another folder with --to")
    kind = kind_of(source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = _RESULTS[kind](source) if kind in _RESULTS else None
        golden = results.golden if results is not None else _golden(source, kind, inputs, columns)
    notes = [str(warning.message).partition(": ")[2] for warning in caught] if results is None else list(results.notes)
    bundles = _bundles(source, folder.name, notes) if kind == "promptfoo" else {}
    if golden is None:
        raise ValueError(f"{source} holds no cases")
    folder.mkdir(parents=True)
    golden.save(folder / "golden.jsonl")
    outputs = [f"golden.jsonl: {counted(len(golden), 'case')}"]
    for name, bundle in bundles.items():
        (folder / "bundles").mkdir(exist_ok=True)
        bundle.save(folder / "bundles" / f"{name}.yaml")
        outputs.append(f"bundles/{name}.yaml: {bundle.model}")
    if results is not None:
        results.to_parquet(folder / "results.parquet")
        answers, variants = counted(results.n_answers(), "answer"), counted(len(results.variants), "variant")
        outputs.append(f"results.parquet: {answers} of {variants}")
    lines = [f"{source.name} is of {kind}; written to {folder}:" if kind != "table" else f"Written to {folder}:"]
    lines += [f"  {line}" for line in outputs]
    lines += [sentence for note in notes for sentence in note.split("; ")]
    click.echo("\n".join(plain(line, None) for line in lines))


def _golden(source: Path, kind: str, inputs: tuple[str, ...], columns: dict[str, str | None]) -> GoldenSet:
    if kind in _CASES:
        return _CASES[kind](source)
    if not inputs:
        raise ValueError(f"{source} is a table; say which column fills which placeholder: --input question=COLUMN")
    columns_of = {name: column or name for name, _, column in (option.partition("=") for option in inputs)}
    return GoldenSet.from_table(source, inputs=columns_of, **columns)


def _bundles(source: Path, name: str, notes: list[str]) -> dict[str, Bundle]:
    """The bundles of a promptfoo configuration; those that a bundle's rules refuse are noted."""
    imported, bundles = promptfoo_bundles(source), {}
    notes += imported.left_out
    for stem, fields in imported.fields.items():
        sampling = {key: value for key, value in fields.items() if key not in ("template", "system", "model")}
        try:
            bundle = Bundle.from_prompt(fields["template"], model=fields["model"], name=name)
            bundles[stem] = bundle.with_(system=fields["system"], **sampling)
        except (LlmlabError, ValueError) as error:
            notes.append(f"not carried over: {stem} ({error})")
    return bundles
