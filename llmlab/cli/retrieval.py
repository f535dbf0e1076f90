"""`llmlab retrieval qrels.txt run.txt`: judge any search engine's run, and compare it with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from llmlab.base.cells import plain
from llmlab.base.documents import decoded, read_bytes
from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.tables import csv_cell
from llmlab.results.comparison import Comparison
from llmlab.retrieval.metrics import DEFAULT_MEASURES, RetrievalMetrics, evaluate
from llmlab.retrieval.trec import read_qrels
from llmlab.retrieval.variants import compare_runs

_HEADER_WORDS = ("query_id", "query", "qid", "id")


@click.command("retrieval")
@click.argument("qrels", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-m", "--measure", "measures", multiple=True, help="nDCG@10, P@5, R@10, HitRate@5, RR, AP; repeatable.")
@click.option("--per-query", is_flag=True, help="Each query's values too.")
@click.option("--cluster", type=click.Path(path_type=Path), help="File of query id and group on each line.")
@click.option("--baseline", type=click.Path(path_type=Path), help="TREC run to compare with (difference = run - this).")
@click.option("--level", type=float, default=0.95, show_default=True, help="Confidence level of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def retrieval(
    qrels: Path,
    run: Path,
    *,
    measures: tuple[str, ...],
    per_query: bool,
    cluster: Path | None,
    baseline: Path | None,
    level: float,
    as_json: bool,
) -> None:
    """Judge a TREC run against TREC judgements, as trec_eval -c does, with intervals.

    QRELS has lines `query 0 document relevance`, or BEIR's three columns under their header; RUN has lines
    `query Q0 document rank score tag`. Both may be gzipped. Ties go by descending document id; queries that are missing
    from the run score 0, and so do queries without a relevant document: the mean without those stands beside.
    """
    judged = read_qrels(qrels)
    settings: dict[str, Any] = {
        "measures": measures or DEFAULT_MEASURES,
        "clusters": None if cluster is None else _read_clusters(cluster),
        "level": level,
        "topics": "judged",
    }
    metrics = evaluate(judged, run, **settings)
    if metrics.n_queries == metrics.n_without_relevant:
        raise DataError(f"{qrels}: no query has a relevant document, so there is nothing to measure")
    compared = None
    if baseline is not None:
        names = _names(run, baseline)
        base = evaluate(judged, baseline, **settings)
        compared = compare_runs(metrics, base, candidate_name=names[0], baseline_name=names[1])
    click.echo(_json(metrics, compared, per_query) if as_json else _text(metrics, compared, per_query))


def _json(found: RetrievalMetrics, compared: Comparison | None, per_query: bool) -> str:
    metrics: dict[str, dict[str, Any]] = {}
    for measure, unjudged in zip(found.measures, found.unjudged, strict=True):
        mean = found.estimate(measure)
        ci = None if mean.low is None else [mean.low, mean.high]
        metrics[str(measure)] = {"value": mean.value, "ci": ci, "n_queries": mean.n, "unjudged": unjudged}
        if found.n_without_relevant:
            metrics[str(measure)]["with_relevant"] = {"value": found.other_mean(measure), "n_queries": found.n_other}
    record: dict[str, Any] = {"metrics": metrics, "queries": found.counts()}
    if compared is not None:
        record["comparisons"] = compared.records()
    if per_query:
        names = [str(measure) for measure in found.measures]
        rows = zip(found.query_ids, found.values.tolist(), strict=True)
        record["per_query"] = {str(query): dict(zip(names, values, strict=True)) for query, values in rows}
    return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)


def _text(found: RetrievalMetrics, compared: Comparison | None, per_query: bool) -> str:
    parts = [str(found)] if compared is None else [str(found), str(compared)]
    if per_query:
        head = "\t".join(["query_id", *map(str, found.measures)])
        rows = zip(found.query_ids, found.values.tolist(), strict=True)
        lines = (
            "\t".join([csv_cell(plain(query, None)), *(f"{value:.6f}" for value in values)]) for query, values in rows
        )
        parts.insert(0, "\n".join([head, *lines]))
    return "\n\n".join(parts)


def _read_clusters(path: Path) -> dict[str, str]:
    """The group of each query: two fields a line, apart by a comma or spaces; a header may stand first."""
    groups: dict[str, str] = {}
    for number, line in enumerate(decoded(read_bytes(path), path).splitlines(), start=1):
        fields = [field.strip() for field in (line.split(",") if "," in line else line.split())]
        if not line.strip() or (number == 1 and fields[0].lower() in _HEADER_WORDS):
            continue
        if len(fields) != 2 or not all(fields):
            raise FileRuleError(
                f"{counted(len(fields), 'field')}, must be 2: query id and group", path=path, line=number
            )
        if groups.setdefault(fields[0], fields[1]) != fields[1]:
            raise FileRuleError(f"query {fields[0]!r} has a second group; keep one", path=path, line=number)
    return groups


def _names(run: Path, baseline: Path) -> tuple[str, str]:
    """Short names of the two runs: their files' stems, or whole paths where the stems are the same."""
    if run.stem != baseline.stem:
        return run.stem, baseline.stem
    if str(run) != str(baseline):
        return str(run), str(baseline)
    raise ValueError(f"{run} is compared with itself; name another run as the baseline")
