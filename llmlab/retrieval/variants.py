"""How well each variant of a run retrieves: measures per case out of `Results`, or straight from indexes for every k.

Judgements are the golden set's `relevant`. Cases are compared in pairs, by cluster, by the same code as answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted
from llmlab.bundle.bundle import Bundle, RetrievalConfig
from llmlab.bundle.template import fill
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import GoldenSet
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import Comparison
from llmlab.results.results import Results
from llmlab.results.scores import CaseGroups, Metric, ScoreTable, score_table
from llmlab.retrieval.metrics import Measure, RetrievalMetrics, evaluate, parse_measure
from llmlab.search.index import Index, build_index
from llmlab.stats.arrays import codes
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate

NO_ANSWER = frozenset({"error", "timeout"})
Fetched = tuple[str, str, Sequence[str]]  # variant, case id, document ids best first


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RunMetrics(Shown):
    """Retrieval measures of several variants over the same cases.

    Attributes:
        tables: per measure a matrix of cases x variants, repeats averaged.
        fetched: (variant, case id) -> document ids, best first (of the first repeat).
        unjudged: (variant, measure) -> share of the documents it looked at that nobody judged; they count as not
            relevant.
        n_without_relevant: cases without a relevant document; undefined, left out.
        n_unknown: answers of which nobody knows what they retrieved (an application failed), left out.
        k_used: how many documents each variant's own config puts into the prompt.
    """

    golden: GoldenSet
    tables: Mapping[Measure, ScoreTable]
    fetched: Mapping[tuple[str, str], tuple[str, ...]]
    unjudged: Mapping[tuple[str, Measure], float | None]
    level: float = 0.95
    n_without_relevant: int = 0
    n_unknown: int = 0
    k_used: Mapping[str, int] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What was measured."""
        return tuple(self.tables)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants."""
        return next(iter(self.tables.values())).variants

    def table(self, measure: str | Measure) -> ScoreTable:
        """One measure as a matrix of cases x variants; ValueError where it was not measured."""
        wanted = parse_measure(measure)
        if wanted not in self.tables:
            raise ValueError(f"{wanted} was not measured, only {', '.join(map(str, self.tables))}")
        return self.tables[wanted]

    def estimate(self, variant: str, measure: str | Measure) -> Estimate:
        """The mean over cases with its interval, clustered where the golden set names clusters."""
        table = self.table(measure)
        values = table.values[:, table.column(variant)]
        scored = ~np.isnan(values)
        design = table.design(scored)
        if scored.sum() < 2 or (design["clusters"] is not None and np.unique(design["clusters"]).size < 2):
            value = float(np.average(values[scored], weights=design["weights"])) if scored.any() else None
            return Estimate(value=value, level=self.level, n=int(scored.sum()), method="too few cases for an interval")
        return share_estimate(values[scored], **design, level=self.level, n_attempted=len(values))

    def compare(
        self,
        baseline: str,
        *,
        candidates: Sequence[str] | None = None,
        measures: Iterable[str | Measure] | None = None,
        by: str | None = None,
        margin: float | Mapping[str, float] | None = None,
    ) -> Comparison:
        """Each candidate against the baseline, as `Results.compare`: paired, clustered, Holm over the rows."""
        if by not in (None, "tags"):
            raise ValueError(f"by == {by!r}, must be 'tags' or None")
        chosen = [self.table(measure) for measure in (self.tables if measures is None else measures)]
        rows = compare_tables(
            chosen, baseline, candidates=candidates, by_tag=by is not None, margin=margin, level=self.level
        )
        return Comparison(rows=rows, baseline=baseline)

    def best(self, measure: str | Measure) -> str:
        """The variant with the highest mean: a place to look first, not evidence. What is not measured counts as 0."""
        table = self.table(measure)
        means = np.average(np.nan_to_num(table.values), axis=0, weights=table.weights)
        return self.variants[int(np.argmax(means))]

    def worst(self, n: int = 10, *, variant: str, measure: str | Measure) -> Rows:
        """The n lowest cases of a variant: what it fetched, and what it should have fetched and did not."""
        if n < 1:
            raise ValueError(f"n == {n}, must be >= 1")
        table = self.table(measure)
        values = table.values[:, table.column(variant)]
        order = np.argsort(values, kind="stable")  # NaN last
        rows = []
        for i in order[: min(n, int((~np.isnan(values)).sum()))]:
            case, got = self.golden.by_id[table.case_ids[i]], self.fetched.get((variant, table.case_ids[i]), ())
            wanted = sorted(case.relevant_ids, key=case.relevant.__getitem__, reverse=True)
            rows.append(
                {
                    "case": case.id,
                    "question": case.asked,
                    str(parse_measure(measure)): Interval(float(values[i])),
                    "fetched": ", ".join(got) or "nothing",
                    "relevant, not fetched": ", ".join(d for d in wanted if d not in got) or "none",
                    "relevant, fetched": ", ".join(d for d in wanted if d in got) or "none",
                }
            )
        sentence = f"The {counted(len(rows), 'case')} of {variant} with the lowest {parse_measure(measure)}."
        return Rows(rows=tuple(rows), sentence=sentence)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"variant": name, **{str(measure): self.estimate(name, measure).interval() for measure in self.tables}}
            for name in self.variants
        ]

    def _sentence(self) -> str:
        table = next(iter(self.tables.values()))
        deepest = max(self.tables, key=lambda measure: measure.cutoff or 10**9)
        shares = [(name, self.unjudged[name, deepest]) for name in self.variants]
        blind = ", ".join(f"{share:.0%} of {name}'s" for name, share in shares if share)
        lines = [f"Means over {counted(len(table.case_ids), 'case')} with {self.level:.0%} intervals."]
        if self.n_without_relevant:
            lines.append(f"{counted(self.n_without_relevant, 'case')} without a relevant document are left out.")
        if self.n_unknown:
            lines.append(f"{counted(self.n_unknown, 'answer')} without a record of what was retrieved are left out.")
        if blind:
            lines.append(f"Nobody judged {blind} documents ({deepest}); they count as not relevant.")
        return " ".join(lines)


def of_results(
    results: Results, measures: Iterable[str | Measure] = ("P@5", "R@5", "nDCG@5", "RR"), *, level: float = 0.95
) -> RunMetrics:
    """Retrieval measures of every variant of a run, from what its answers say they retrieved.

    Repeats of a case are averaged. An empty result scores 0; a row that failed before it said what it retrieved is
    left out and counted.

    Raises:
        DataError: there is no golden set, or no case of it names a relevant document.
        ValueError: an unknown measure, or k below 1.
    """
    if results.golden is None:
        raise DataError("these results carry no golden set, so nobody knows what should have been retrieved")
    rows, n_unknown = list[Fetched](), 0
    for variant, case_id, ids, status in results.answers("variant", "case_id", "retrieved", "status"):
        if len(ids) == 0 and status in NO_ANSWER:
            n_unknown += 1
        else:
            rows.append((variant, case_id, tuple(ids)))
    wanted = tuple(dict.fromkeys(map(parse_measure, measures)))
    if not wanted:
        raise ValueError("no measure was asked for, give at least one such as nDCG@10")
    k_used = {name: bundle.retrieval.k for name, bundle in results.bundles.items() if bundle.retrieval}
    about = {"n_unknown": n_unknown, "k_used": k_used}
    return _measured([(wanted, rows)], results.golden, results.variants, level=level, **about)


def by_k(
    variants: Mapping[str, Bundle | RetrievalConfig | Index],
    golden: GoldenSet,
    *,
    measures: Sequence[str] = ("P", "R"),
    k: int = 20,
    base: str | Path | None = None,
    level: float = 0.95,
) -> RunMetrics:
    """Each measure at 1, 2, ..., k of every variant's index, without generating an answer.

    Each value is what a config with that k would score: the first k hits, a document that comes twice counted once.

    Raises:
        DataError: no case names a relevant document, or one names a document that no variant's corpus has.
        ValueError: k below 1, or a variant without retrieval.
    """
    if k < 1:
        raise ValueError(f"k == {k}, must be >= 1")
    names = dict.fromkeys(name.partition("@")[0] for name in measures)
    indexes = {variant: _index(variant, setting, base) for variant, setting in variants.items()}
    _require_documents(golden, {name for index in indexes.values() for name in index.corpus.by_id})
    fetched: dict[tuple[str, str], list[str]] = {}
    for variant, index in indexes.items():
        queries = [fill(index.config.query, case.inputs) for case in golden]
        for case, hits in zip(golden, index.search(queries, k), strict=True):
            fetched[variant, case.id] = [hit.doc_id for hit in hits]
    rankings = []
    for depth in range(1, k + 1):
        rows = [(*cell, tuple(dict.fromkeys(ids[:depth]))) for cell, ids in fetched.items()]
        rankings.append(([Measure(name, depth) for name in names], rows))
    k_used = {variant: index.config.k for variant, index in indexes.items()}
    return _measured(rankings, golden, tuple(variants), level=level, k_used=k_used)


def compare_runs(
    candidate: RetrievalMetrics,
    baseline: RetrievalMetrics,
    *,
    candidate_name: str = "candidate",
    baseline_name: str = "baseline",
    margin: float | None = None,
) -> Comparison:
    """A row per measure: candidate minus baseline over the same queries, clustered, Holm-adjusted over the measures.

    Raises:
        DataError: the two were judged on different queries or by different measures.

    >>> from llmlab.retrieval.metrics import evaluate
    >>> qrels = {f"q{i}": {"a": 1} for i in range(4)}
    >>> better = evaluate(qrels, {f"q{i}": ["a"] for i in range(4)}, measures=["RR"])
    >>> worse = evaluate(qrels, {f"q{i}": ["x"] * (i % 2) + ["a"] for i in range(4)}, measures=["RR"])
    >>> compare_runs(better, worse).row("RR").difference.value
    0.25
    """
    if candidate.query_ids != baseline.query_ids:
        raise DataError("the two runs were judged on different queries; evaluate both against the same judgements")
    if candidate.measures != baseline.measures:
        raise DataError("the two runs were judged by different measures; evaluate both with the same ones")
    names = (baseline_name, candidate_name)
    tables = [_score_table(measure, candidate, baseline, names) for measure in candidate.measures]
    rows = compare_tables(tables, baseline_name, margin=margin, level=candidate.level)
    return Comparison(rows=rows, baseline=baseline_name)


def _index(variant: str, source: Bundle | RetrievalConfig | Index, base: str | Path | None) -> Index:
    config = source.retrieval if isinstance(source, Bundle) else source
    if config is None:
        raise ValueError(f"the variant {variant!r} retrieves nothing: its bundle has no `retrieval`")
    return config if isinstance(config, Index) else build_index(config, base=base)


def _require_documents(golden: GoldenSet, known: set[str]) -> None:
    """DataError for a relevant document that is nowhere: nothing could ever fetch it, and every variant would lose."""
    for case in golden:
        for name in case.relevant_ids:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(f"case {case.id!r} names {name!r} as relevant, which is in no document{hint}")


def _measured(
    rankings: Sequence[tuple[Sequence[Measure], Sequence[Fetched]]],
    golden: GoldenSet,
    variants: tuple[str, ...],
    **about: Any,
) -> RunMetrics:
    """The measures of these rankings; where rankings differ in depth, the last are the deepest."""
    case_ids, groups = golden.judged_ids, CaseGroups.of(golden.judged_ids, golden)
    judged = {case_id: dict(golden.by_id[case_id].relevant) for case_id in case_ids}
    tables, unjudged = dict[Measure, ScoreTable](), dict[tuple[str, Measure], float | None]()
    for measures, rows in rankings:
        cells = [row for row in rows if row[1] in judged]
        scored = {variant: _evaluated(variant, cells, judged, measures) for variant in variants}
        for i, measure in enumerate(measures):
            unjudged |= {
                (v, measure): None if metrics is None else metrics.unjudged[i] for v, metrics in scored.items()
            }
            scores = {v: iter(metrics.values[:, i]) for v, metrics in scored.items() if metrics is not None}
            tables[measure] = score_table(
                Metric(name=str(measure), low=0.0, high=1.0),
                scores=np.array([next(scores[variant]) for variant, *_ in cells], dtype=np.float64),
                case_codes=_codes([case for _, case, _ in cells], case_ids),
                variant_codes=_codes([variant for variant, *_ in cells], variants),
                case_ids=case_ids,
                variants=variants,
                groups=groups,
            )
    fetched: dict[tuple[str, str], tuple[str, ...]] = {}
    for variant, case_id, ids in rankings[-1][1]:
        fetched.setdefault((variant, case_id), tuple(ids))
    return RunMetrics(
        golden=golden,
        tables=tables,
        fetched=fetched,
        unjudged=unjudged,
        n_without_relevant=len(golden) - len(judged),
        **about,
    )


def _evaluated(
    variant: str, cells: Sequence[Fetched], judged: Mapping[str, Mapping[str, float]], measures: Sequence[Measure]
) -> RetrievalMetrics | None:
    """Each row judged as a query of its own, in the order of the rows; None where the variant has none."""
    answered = [(case_id, ids) for name, case_id, ids in cells if name == variant]
    if not answered:
        return None
    qrels = {str(i): judged[case_id] for i, (case_id, _) in enumerate(answered)}
    return evaluate(qrels, {str(i): list(ids) for i, (_, ids) in enumerate(answered)}, measures=measures)


def _codes(labels: Sequence[str], known: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    place = {label: i for i, label in enumerate(known)}
    return np.fromiter((place[label] for label in labels), dtype=np.int64, count=len(labels))


def _score_table(
    measure: Measure, candidate: RetrievalMetrics, baseline: RetrievalMetrics, names: tuple[str, str]
) -> ScoreTable:
    n = candidate.n_queries
    once = np.ones((n, 2), np.int64)
    return ScoreTable(
        metric=Metric(name=str(measure), low=0.0, high=1.0),
        case_ids=tuple(map(str, candidate.query_ids)),
        variants=names,
        values=np.column_stack([baseline.column(measure), candidate.column(measure)]),
        scored=once,
        attempted=once,
        clusters=codes(range(n) if candidate.clusters is None else candidate.clusters, "clusters", length=n)[0],
        clustered=candidate.clusters is not None,
        tags=((),) * n,
    )
