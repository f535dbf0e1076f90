"""`llmlab calibrate verdicts.csv`: measure any judge's verdicts against human labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from llmlab.base.errors import FileRuleError
from llmlab.base.tables import read_table
from llmlab.experiment.folder import Experiment
from llmlab.judge.calibrating import calibrate_scores, calibrate_verdicts

_JUDGE = "\0judge"  # a column's name that no table has


@click.command("calibrate")
@click.argument("verdicts", metavar="VERDICTS|EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--label", help="Pairwise: column of the human verdict (1 or 2).")
@click.option("--order1", help="Pairwise: column of the winner where output 1 was shown first (1, 2 or tie).")
@click.option("--order2", help="Pairwise: column of the winner where output 2 was shown first, mapped back.")
@click.option("--length1", help="Pairwise: column of output 1's length.")
@click.option("--length2", help="Pairwise: column of output 2's length.")
@click.option("--author1", help="Pairwise: column of who wrote output 1, for self-preference.")
@click.option("--author2", help="Pairwise: column of who wrote output 2.")
@click.option("--judge-author", help="Pairwise: the judge's name among the authors, or the column that holds it.")
@click.option("--human", help="Pointwise: column of the human label.")
@click.option(
    "--judge", "judge_column", help="Pointwise: column of the judge's score; of an experiment the judge's name."
)
@click.option("--length", help="Pointwise: column of the answer's length.")
@click.option("--cluster", help="Column of groups of rows that are not independent.")
@click.option("--by", multiple=True, help="Column to split by; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def calibrate(
    verdicts: Path,
    *,
    judge_author: str | None,
    human: str | None,
    judge_column: str | None,
    length: str | None,
    cluster: str | None,
    by: tuple[str, ...],
    as_json: bool,
    **pairwise: Any,
) -> None:
    """How far do a judge's verdicts agree with people's, and what else moves the judge?

    VERDICTS is a CSV, TSV or Parquet file of any tool's verdicts. Pairwise: --label, --order1 and --order2, winners
    as 1, 2 or tie, already mapped back to the outputs; with authors also whether the judge prefers its own.
    Pointwise: --human and --judge. A tie or a missing verdict on a pair is not right and stays in n, a missing score
    is left out; rows without a human label are left out, and all of them are counted. Of an EXPERIMENT's folder a
    judge is measured against its labels_pointwise.jsonl.
    """
    winners = [pairwise[name] for name in ("label", "order1", "order2")]
    authorship = [pairwise["author1"], pairwise["author2"], judge_author]
    lengths = [pairwise["length1"], pairwise["length2"]]
    whole = all(all(group) or not any(group) for group in (authorship, lengths))
    if not verdicts.exists():
        raise FileRuleError("is not there; name a table of verdicts or an experiment's folder", path=verdicts)
    if verdicts.is_dir():
        exp = Experiment.load(verdicts)
        judge, labels = exp.judge(judge_column or ""), exp.labels["pointwise"]  # what is missing is told before a call
        answers = exp.run(exp.bundles, exp.golden, repeats=1).require_complete()
        calibration = judge.calibrate(labels, answers, endpoints=exp.endpoints)
    elif all(winners) and not any([human, judge_column, length]) and whole:
        table = read_table(verdicts).with_numbers().cells
        if judge_author is not None and judge_author not in table.columns:
            table, judge_author = table.assign(**{_JUDGE: judge_author}), _JUDGE
        calibration = calibrate_verdicts(table, judge=judge_author, cluster=cluster, by=by, **pairwise)
    elif human and judge_column and not any([*winners, *lengths, *authorship]):
        table = read_table(verdicts).with_numbers().cells
        calibration = calibrate_scores(table, human=human, judge=judge_column, length=length, cluster=cluster, by=by)
    else:
        raise click.UsageError(
            "name --label, --order1 and --order2 for pairwise verdicts (with both of --length1 and --length2 or "
            "neither, and --author1, --author2 and --judge-author together or not at all), or --human and --judge "
            "for scores"
        )
    records = {"groups": calibration.records()}
    click.echo(json.dumps(records, allow_nan=False, indent=1) if as_json else str(calibration))
