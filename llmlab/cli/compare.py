"""`llmlab compare scores.csv`: judge any table of scores, whoever made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from llmlab.results.comparison import Comparison
from llmlab.results.elsewhere import read_scores


@click.command("compare")
@click.argument("scores", type=click.Path(path_type=Path))
@click.option("--baseline", required=True, help="Variant to compare with.")
@click.option("--candidate", "candidates", multiple=True, help="Variant to judge; repeatable. Tidy: all by default.")
@click.option("--id", required=True, help="Column that names the case.")
@click.option("--cluster", help="Column of groups of cases (document, task) that are not independent.")
@click.option("--by", "category", help="Column of categories to compare within, too.")
@click.option("--weight", help="Column of how many cases of production each case stands for; the same in all its rows.")
@click.option("--margin", type=float, help="Harm that may be tolerated; adds a verdict by the non-inferior rule.")
@click.option("--variant-column", "variant", help="For a tidy table (a row per score): column that names the variant.")
@click.option("--score-column", "score", help="For a tidy table: column of the score.")
@click.option("--repeat-column", "repeat", help="For a tidy table: column that numbers several answers to one case.")
@click.option("--low", type=float, help="The lowest score there can be; with --high 1, 0 makes shares of scores.")
@click.option("--high", type=float, help="The highest score there can be.")
@click.option("--unit", default="", help="What the scores are counted in (USD, s, tokens).")
@click.option("--lower-is-better", is_flag=True, help="The score is a cost, a latency or an error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(
    scores: Path,
    *,
    baseline: str,
    candidates: tuple[str, ...],
    margin: float | None,
    low: float | None,
    high: float | None,
    unit: str,
    lower_is_better: bool,
    as_json: bool,
    **columns: Any,
) -> None:
    """Is a candidate better than the baseline, by how much, and how sure is that?

    SCORES is a CSV, TSV or Parquet file. Wide: a row per case, columns named after the variants. Tidy: a row per
    score, with --variant-column and --score-column. Cases are joined by id; difference = candidate - baseline, with
    its 95% interval, by cluster and weighted where such columns are named; p values are adjusted by Holm. Empty
    scores are counted and left out; a duplicate id, or a cell that is no number, is refused with its row. Scores of 0
    and 1, and others that reach from 0 to 1, are said in points of 100; all else in its own unit.
    """
    _check_usage(candidates, columns)
    if low is not None and high is not None and not low < high:
        raise click.UsageError(f"--low {low:g} must be below --high {high:g}")
    about: dict[str, Any] = {"higher_is_better": not lower_is_better, "bounds": (low, high), "unit": unit}
    stored_scores = read_scores(scores, baseline=baseline, candidates=candidates, **about, **columns)
    by_category = columns["category"] is not None
    comparison = stored_scores.compare(baseline, candidates=candidates, by_category=by_category, margin=margin)
    click.echo(_json(comparison) if as_json else str(comparison))


def _check_usage(candidates: tuple[str, ...], columns: Mapping[str, Any]) -> None:
    if (columns["variant"] is None) != (columns["score"] is None):
        raise click.UsageError("a tidy table needs both --variant-column and --score-column")
    if columns["variant"] is None and not candidates:
        raise click.UsageError("name at least one --candidate: a column of the table")
    if columns["variant"] is None and columns["repeat"] is not None:
        raise click.UsageError("--repeat-column is for tidy tables: name --variant-column and --score-column too")


def _json(comparison: Comparison) -> str:
    notes = list(dict.fromkeys(note for row in comparison for note in row.notes))
    return json.dumps({"comparisons": comparison.records(), "notes": notes}, allow_nan=False, indent=1)
