"""Which step lost a case: was enough relevant text retrieved, and was the answer right.

The 2 x 2 of both questions says what to change. Right and retrieved: nothing. Wrong although retrieved is a generation
failure (prompt, model); wrong and not retrieved a retrieval failure (search, chunks, corpus); right without support is
luck, or missing judgements. Reads `Results`; notebooks and reports show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmlab.base.cells import plain
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import shown_in
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import Comparison
from llmlab.results.results import Results
from llmlab.results.scores import CaseGroups, Metric, ScoreTable
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate, mean_estimate

CELLS = ("right", "generation failure", "retrieval failure", "lucky")  # a cell's number is its place here
UNKNOWN = -1  # no judged document, or no score
ADVICE = {
    "right": "fetched and answered",
    "generation failure": "fetched, answered wrong: look at prompt and model",
    "retrieval failure": "not fetched, answered wrong: look at search, chunks and corpus",
    "lucky": "not fetched, answered right: unsupported, or the judgements are incomplete",
}
Enough = Callable[[Case, Sequence[str]], bool]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Attribution(Shown):
    """The cell of each case for each variant, with counts, shares and the cases behind them.

    Attributes:
        metric, good_from: an answer is right when its case's mean score reaches `good_from` (stays at or below it
            where lower is better).
        cells: shape (cases, variants), a place in CELLS; -1 where a case has no judged document or no score.
        case_ids, variants: what rows and columns stand for.
        groups: clusters and tags of the cases.
        n_without_relevant: cases without a judged relevant document, left out.
        notes: what a reader must know, such as a variant that retrieves nothing.
    """

    results: Results
    metric: str
    good_from: float
    cells: NDArray[np.int64]
    case_ids: tuple[str, ...]
    variants: tuple[str, ...]
    groups: CaseGroups
    level: float = 0.95
    n_without_relevant: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def outcomes(self) -> Mapping[tuple[str, str], str]:
        """(variant, case id) -> cell, of all that can be attributed: what single cases are shown and looked for by."""
        return {
            (self.variants[column], self.case_ids[row]): CELLS[self.cells[row, column]]
            for row, column in zip(*np.nonzero(self.cells != UNKNOWN), strict=True)
        }

    def count(self, cell: str, variant: str | None = None) -> int:
        """How many cases of a variant lie in a cell."""
        return int((self._column(variant) == _place(cell)).sum())

    def share(self, cell: str, variant: str | None = None) -> Estimate:
        """The share of a variant's cases in a cell: Wilson's interval, with the effective size where clustered."""
        column = self._column(variant)
        attributed = column != UNKNOWN
        if not attributed.any():
            return Estimate(value=None, level=self.level, n_attempted=len(column), method="no case can be attributed")
        return self._share(cell, column, attributed)

    def _share(self, cell: str, column: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Estimate:
        return share_estimate(column[chosen] == _place(cell), **self.groups.design(chosen), level=self.level)

    def cases(self, cell: str, variant: str | None = None) -> Rows:
        """The cases in a cell: what was asked, fetched, should have been fetched, and answered."""
        name = self._variant(variant)
        chosen = [self.case_ids[i] for i in np.flatnonzero(self._column(variant) == _place(cell))]
        rows = _case_rows(self.results, chosen, [name], self.metric)
        return Rows(rows=rows, sentence=f"{counted(len(chosen), 'case')} of {name}: {cell} ({ADVICE[cell]}).")

    def by_tag(self, variant: str | None = None) -> Rows:
        """The share of each cell per tag, those with most failures first. A case with two tags counts in both."""
        name, column = self._variant(variant), self._column(variant)
        rows, wrong = [], {}
        for tag in dict.fromkeys(tag for tags in self.groups.tags for tag in tags):
            chosen = np.array([tag in tags for tags in self.groups.tags]) & (column != UNKNOWN)
            if chosen.any():
                wrong[tag] = float(np.isin(column[chosen], (1, 2)).mean())
                shares = {cell: self._share(cell, column, chosen).interval("%") for cell in CELLS}
                rows.append({"tag": tag, "cases": int(chosen.sum()), **shares})
        rows.sort(key=lambda row: -wrong[str(row["tag"])])
        sentence = f"Where the cases of {name} are, per tag, most failures first." if rows else "No case has a tag."
        return Rows(rows=tuple(rows), sentence=sentence)

    def quality(self, metric: str) -> Rows:
        """The mean of any metric of the run where enough was fetched and where it was not, per variant."""
        table = self.results.table(metric)
        rows = []
        for name in self.variants:
            column, values = self._column(name), table.values[:, table.column(name)]
            fetched = np.isin(column, (0, 1))
            row: dict[str, object] = {"variant": name}
            for label, chosen in (("fetched", fetched), ("not fetched", ~fetched & (column != UNKNOWN))):
                scored = chosen & ~np.isnan(values)
                mean = _mean(values[scored], self.groups, scored, self.level, table.metric.bounds)
                row[f"{metric}, {label}"] = mean.interval()
                row[f"cases, {label}"] = int(scored.sum())
            rows.append(row)
        sentence = f"{metric} where enough relevant text was fetched, and where it was not; {self.level:.0%} intervals."
        return Rows(rows=tuple(rows), sentence=sentence)

    def transition(self, before: str, after: str) -> Transition:
        """Where the cases went between two variants."""
        moves = np.stack([self._column(before), self._column(after)])
        return Transition(attribution=self, before=before, after=after, moves=moves)

    def _variant(self, variant: str | None) -> str:
        if variant is None and len(self.variants) == 1:
            return self.variants[0]
        if variant not in self.variants:
            raise ValueError(f"variant == {variant!r}, must be one of {', '.join(self.variants)}")
        return variant

    def _column(self, variant: str | None) -> NDArray[np.int64]:
        column: NDArray[np.int64] = self.cells[:, self.variants.index(self._variant(variant))]
        return column

    def _rows(self) -> list[dict[str, object]]:
        rows = []
        for name in self.variants:
            column = self._column(name)
            attributed = column != UNKNOWN
            row: dict[str, object] = {"variant": name}
            for cell in CELLS:
                row[cell] = f"{self.count(cell, name):,} ({self.share(cell, name).interval('%')})"
            row["cases"] = int(attributed.sum())
            if unscored := self._unscored(name):
                row["unscored"] = unscored
            rows.append(row)
        return rows

    def _unscored(self, variant: str) -> int:
        return int((self._column(variant) == UNKNOWN).sum()) - self.n_without_relevant

    def _sentence(self) -> str:
        lines = [self._failures(name) for name in self.variants]
        if self.n_without_relevant:
            lines.append(f"{counted(self.n_without_relevant, 'case')} without a judged relevant document are left out.")
        return "\n".join([*lines, f"Right means {self.metric} from {self.good_from:g}.", *self.notes])

    def _failures(self, name: str) -> str:
        generation, retrieval, lucky = (self.count(cell, name) for cell in CELLS[1:])
        wrong, n = generation + retrieval, int((self._column(name) != UNKNOWN).sum())
        if not n:
            return f"{name}: no case can be attributed."
        unscored = self._unscored(name)
        lost = f" {counted(unscored, 'case')} without a score are left out." if unscored else ""
        if not wrong:
            return f"{name} answers all of {counted(n, 'case')} right, {lucky:,} without support.{lost}"
        where = "both alike" if retrieval == generation else "retrieval" if retrieval > generation else "generation"
        return (
            f"{name} answers {wrong:,} of {counted(n, 'case')} wrong: {counted(retrieval, 'retrieval failure')} and "
            f"{counted(generation, 'generation failure')}, so most is to be gained in {where}; "
            f"{lucky:,} right without support.{lost}"
        )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Transition(Shown):
    """Where the cases of one variant's cells are with another variant.

    Attributes:
        moves: shape (2, cases), the cell before and after; -1 = unknown.
    """

    attribution: Attribution
    before: str
    after: str
    moves: NDArray[np.int64]

    def count(self, before: str, after: str) -> int:
        """How many cases went from one cell to another."""
        return int(self._went(before, after).sum())

    def cases(self, before: str, after: str) -> Rows:
        """The cases that went from one cell to another, with both answers."""
        parent = self.attribution
        chosen = [parent.case_ids[i] for i in np.flatnonzero(self._went(before, after))]
        rows = _case_rows(parent.results, chosen, [self.before, self.after], parent.metric)
        moved = f"{before} with {self.before}, {after} with {self.after}"
        return Rows(rows=rows, sentence=f"{counted(len(chosen), 'case')}: {moved}.")

    @property
    def comparison(self) -> Comparison:
        """Whether the share of each cell changed by more than noise: paired, clustered, Holm over the four."""
        parent = self.attribution
        both_known = np.where((self.moves == UNKNOWN).any(axis=0), np.nan, 1.0)
        once = np.ones(self.moves.T.shape, np.int64)
        tables = [
            ScoreTable(
                metric=Metric(name=cell, low=0.0, high=1.0, higher_is_better=cell == "right"),
                case_ids=parent.case_ids,
                variants=(self.before, self.after),
                values=(self.moves == i).T * both_known[:, None],
                scored=once * ~np.isnan(both_known)[:, None],
                attempted=once,
                clusters=parent.groups.clusters,
                clustered=parent.groups.clustered,
                tags=parent.groups.tags,
                weights=parent.groups.weights,
            )
            for i, cell in enumerate(CELLS)
        ]
        return Comparison(rows=compare_tables(tables, self.before, level=parent.level), baseline=self.before)

    def _went(self, before: str, after: str) -> NDArray[np.bool_]:
        went: NDArray[np.bool_] = (self.moves[0] == _place(before)) & (self.moves[1] == _place(after))
        return went

    def _rows(self) -> list[dict[str, object]]:
        return [
            {f"{self.before} ↓   {self.after} →": before, **{after: self.count(before, after) for after in CELLS}}
            for before in CELLS
        ]

    def _sentence(self) -> str:
        answered = ("right", "lucky")
        failures = ("retrieval failure", "generation failure")
        fixed = [counted(sum(self.count(cell, to) for to in answered), cell) for cell in failures]
        new = [counted(sum(self.count(was, cell) for was in answered), f"new {cell}") for cell in failures]
        moved = self.count(*failures)
        found_now = f" {counted(moved, 'case')} found now are still answered wrong." if moved else ""
        lost = int((self.moves == UNKNOWN).any(axis=0).sum()) - self.attribution.n_without_relevant
        unscored = f" {counted(lost, 'case')} without a score in both are left out." if lost else ""
        return (
            f"From {self.before} to {self.after}: {fixed[0]} and {fixed[1]} fixed, {new[0]} and {new[1]}."
            f"{found_now}{unscored}"
        )


def attribute(
    results: Results,
    *,
    metric: str | None = None,
    good_from: float | None = None,
    enough: Enough | None = None,
    level: float = 0.95,
) -> Attribution:
    """The 2 x 2 of "enough relevant text retrieved" by "answered right", for each case and variant of a run.

    Args:
        metric: what says that an answer is right; the first scorer by default. Repeats of a case are averaged.
        good_from: from which score on it is; by default the middle of the metric's range.
        enough: `(case, retrieved ids) -> bool`; by default `_any_relevant`. Of repeats that fetched different texts
            the majority counts.

    Raises:
        DataError: there is no golden set, or no case of it names a relevant document.
        ValueError: an unknown metric, or one without bounds and no `good_from`.

    >>> from llmlab import Bundle, Case, Generation, GoldenSet, Results, scorers
    >>> case = Case(id="q", inputs={"question": "?"}, expected=("dropna",), relevant={"DataFrame.dropna": 1})
    >>> answer = Generation(variant="v1", case_id="q", text="Use fillna.", retrieved=("DataFrame.dropna",))
    >>> bundles = {"v1": Bundle.from_prompt("{{ question }}", model="offline/extractive-1")}
    >>> results = Results.from_generations([answer], golden=GoldenSet((case,)), bundles=bundles)
    >>> attribute(results.scored_by([scorers.mentions_expected])).count("generation failure")
    1
    """
    if results.golden is None:
        raise DataError("these results carry no golden set, so nobody knows what should have been retrieved")
    name = metric or next(iter(results.metrics), None)
    if name is None:
        raise ValueError("these results have no scorer; name a metric that says whether an answer is right")
    table, meaning = results.table(name), results.metric(name)
    good = _middle(meaning) if good_from is None else good_from
    judged = np.isin(table.case_ids, results.golden.judged_ids)
    if not judged.any():
        raise DataError("no case that was answered names a relevant document; run those that do")
    fetched = _fetched(results, results.golden, enough or _any_relevant)
    right = table.values >= good if meaning.higher_is_better else table.values <= good
    cells = np.where(right, np.where(fetched >= 0.5, 0, 3), np.where(fetched >= 0.5, 1, 2))
    cells[np.isnan(table.values) | np.isnan(fetched) | ~judged[:, None]] = UNKNOWN
    retrieving = {variant for variant, ids in results.answers("variant", "retrieved") if ids}
    silent = (plain(variant) for variant in table.variants if variant not in retrieving)
    return Attribution(
        results=results,
        metric=name,
        good_from=good,
        cells=cells,
        case_ids=table.case_ids,
        variants=table.variants,
        groups=CaseGroups.of(table.case_ids, results.golden),
        level=level,
        n_without_relevant=int((~judged).sum()),
        notes=tuple(f"{variant} retrieved nothing for any case." for variant in silent),
    )


def _any_relevant(case: Case, retrieved: Sequence[str]) -> bool:
    """Whether any document judged relevant (grade above 0) is among those retrieved.

    >>> from llmlab.golden.cases import Case
    >>> _any_relevant(Case(id="q", inputs={"question": "?"}, relevant={"a": 2, "b": 0}), ["b", "x"])
    False
    """
    return any(case.relevant.get(doc_id, 0) > 0 for doc_id in retrieved)


def grade_at_least(grade: float) -> Enough:
    """Enough = a document of at least this grade was retrieved."""

    def enough(case: Case, retrieved: Sequence[str]) -> bool:
        return any(case.relevant.get(doc_id, 0) >= grade for doc_id in retrieved)

    return enough


def recall_at_least(share: float) -> Enough:
    """Enough = at least this share of the relevant documents was retrieved, for answers that need several.

    >>> from llmlab.golden.cases import Case
    >>> recall_at_least(1.0)(Case(id="q", inputs={"question": "?"}, relevant={"a": 1, "b": 1}), ["a"])
    False
    """
    if not 0 < share <= 1:
        raise ValueError(f"share == {share}, must be above 0 and at most 1")

    def enough(case: Case, retrieved: Sequence[str]) -> bool:
        relevant = set(case.relevant_ids)
        return len(relevant & set(retrieved)) >= share * len(relevant)

    return enough


def _fetched(results: Results, golden: GoldenSet, enough: Enough) -> NDArray[np.float64]:
    """Shape (cases, variants): the share of repeats that fetched enough; NaN where a variant has no row."""
    fetched = [enough(golden.by_id[case_id], ids) for case_id, ids in results.answers("case_id", "retrieved")]
    enough_of, tried = results.cells.sums(np.array(fetched, dtype=float)), results.cells.sums(np.ones(len(fetched)))
    share: NDArray[np.float64] = np.divide(enough_of, tried, out=np.full(enough_of.shape, np.nan), where=tried > 0)
    return share


def _case_rows(
    results: Results, case_ids: Sequence[str], variants: Sequence[str], metric: str
) -> tuple[dict[str, object], ...]:
    """A row per case and variant: what its first answer fetched and said, and its score.

    The question stands in a case's first row only.
    """
    first = results.rows_of()
    by_id = results.golden.by_id if results.golden else {}
    rows = []
    for case_id in case_ids:
        relevant, question = by_id[case_id].relevant, by_id[case_id].asked
        wanted = ", ".join(sorted(relevant, key=lambda doc_id: -relevant[doc_id]))
        for place, variant in enumerate(variants):
            answer = first.get((variant, case_id))
            row: dict[str, object] = {"case": case_id, "question": "" if place else question}
            row["should be fetched"] = "" if place else wanted
            if len(variants) > 1:
                row["variant"] = variant
            row["fetched"] = (", ".join(answer["retrieved"]) or "nothing") if answer else None
            row["answer"] = (shown_in(answer) or answer["error"]) if answer else None
            row["score"] = Interval(answer[metric]) if answer else None
            rows.append(row)
    return tuple(rows)


def _mean(
    values: NDArray[np.float64],
    groups: CaseGroups,
    chosen: NDArray[np.bool_],
    level: float,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    design = groups.design(chosen)
    if len(values) < 2 or (design["clusters"] is not None and np.unique(design["clusters"]).size < 2):
        value = float(np.average(values, weights=design["weights"])) if len(values) else None
        return Estimate(value=value, level=level, n=len(values))
    if bounds is not None:
        return share_estimate(values, **design, level=level, bounds=bounds)
    return mean_estimate(values, **design, level=level)


def _middle(metric: Metric) -> float:
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds; say from which score on an answer is right (good_from=...)")
    return (metric.low + metric.high) / 2


def _place(cell: str) -> int:
    if cell not in CELLS:
        raise ValueError(f"cell == {cell!r}, must be one of {', '.join(CELLS)}")
    return CELLS.index(cell)
