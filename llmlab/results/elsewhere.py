"""What was made elsewhere: answers in the rows of a table or of another tool's log, and anybody's scores in a file.

A file of scores (CSV, TSV or Parquet) is wide, a column per variant, or tidy, a row per score; it becomes a score table
for `llmlab compare` and notebook 02. An empty score is unscored and counted; anything else that is no number is refused
with its row, where row 1 is the first one after the header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.tables import Table, read_table, texts_of, with_points
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Usage
from llmlab.display.shown import Shown
from llmlab.results.answers import TOKEN_COLUMNS
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import Comparison
from llmlab.results.scores import CaseGroups, Metric, ScoreTable, score_table
from llmlab.results.summary import case_mean
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_EMPTY_WORDS = frozenset({"", "nan", "na", "n/a", "null", "none"})  # how other tools write "no score"
_TRUTH_WORDS = {
    **dict.fromkeys(("true", "yes", "pass", "passed"), 1.0),
    **dict.fromkeys(("false", "no", "fail", "failed"), 0.0),
}
_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scores(Shown):
    """The scores of a file on one metric, ready to be compared like those of a run; `baseline` as it was read with."""

    table: ScoreTable
    baseline: str = ""

    def compare(
        self,
        baseline: str | None = None,
        *,
        candidates: Sequence[str] | None = None,
        by_category: bool = False,
        margin: float | None = None,
        level: float = 0.95,
    ) -> Comparison:
        """Each candidate (all other variants by default) against the baseline (the one of `read_scores` by default).

        `by_category` adds the same per category, adjusted as a family of its own, and `margin`, the harm that may be
        tolerated in the score's own unit, a non-inferiority verdict.
        """
        baseline = self.baseline if baseline is None else baseline
        margins = None if margin is None else {self.table.metric.name: margin}
        rows = compare_tables(
            [self.table], baseline, candidates=candidates or None, by_tag=by_category, margin=margins, level=level
        )
        return Comparison(rows=rows, baseline=baseline, notes=_how_read(self.table))

    def _rows(self) -> list[dict[str, object]]:
        return [{"variant": name, "mean": case_mean(self.table, name).value} for name in self.table.variants]

    def _sentence(self) -> str:
        return f"{counted(len(self.table.case_ids), 'case')} scored on {self.table.metric.name}."


def read_scores(
    path: str | Path,
    *,
    id: str,
    baseline: str,
    candidates: Sequence[str] = (),
    cluster: str | None = None,
    category: str | None = None,
    weight: str | None = None,
    variant: str | None = None,
    score: str | None = None,
    repeat: str | None = None,
    higher_is_better: bool = True,
    bounds: tuple[float | None, float | None] = (None, None),
    unit: str = "",
) -> Scores:
    """The scores of baseline and candidates (tidy: of all variants where none is named), joined by id.

    Without `bounds` and `unit` scores are taken as shares where nothing else can be meant (`_bounds_of`); others are
    plain numbers without bounds, which dollars and seconds below 1 are too.

    Args:
        path: a CSV, TSV or Parquet file.
        id, cluster, category, weight: columns that name the case, its group, its category and how many cases of
            production it stands for.
        baseline, candidates: variants; in a wide table the columns of their scores.
        variant, score, repeat: for a tidy table, the columns of the variant, its score, and the number of the answer.
        higher_is_better: False for a cost, a latency or an error.
        bounds, unit: lowest and highest value that a score can have, and its unit (USD, s), for what is no share.

    Raises:
        FileRuleError: no such file, column or variant; an empty or duplicate id; a score that is no number, or beyond
            the bounds; a weight that is not above 0, or that differs within a case.
    """
    import pandas as pd

    wide = () if variant is not None else (baseline, *candidates)
    optional = (cluster, category, weight, variant, score, repeat)
    named = [id, *(name for name in optional if name is not None), *wide]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"column {twice[0]!r} is named for two things")
    table = read_table(path).with_columns(named)
    if table.cells.empty:
        raise FileRuleError("has no rows", path=path)
    case_codes, case_ids = pd.factorize(_labels(table, id))
    if variant is not None:
        variants = _variants(table, variant, baseline=baseline, candidates=candidates)
        of_variant = pd.Index(variants).get_indexer(pd.Index(_labels(table, variant)))
        compared = np.flatnonzero(of_variant >= 0)
        of_case, of_variant = case_codes[compared], of_variant[compared]
        scores = _numbers(table, str(score))[compared]
        cells = of_case * len(variants) + of_variant
        if repeat is not None:
            repeats, labels = pd.factorize(_labels(table, repeat).iloc[compared])
            cells = cells * len(labels) + repeats
        advice = "name the column of repeats (--repeat-column), or keep one"
        _refuse_repeated(table, id, cells, advice=advice, rows=compared)
    else:
        _refuse_repeated(table, id, case_codes, advice="give each case one row, or name its variant column")
        variants, scores = wide, np.concatenate([_numbers(table, name) for name in wide])
        of_case, of_variant = np.tile(case_codes, len(wide)), np.repeat(np.arange(len(wide)), len(table.cells))
    low, high = _bounds_of(scores, bounds, guess=not unit, higher_is_better=higher_is_better, path=table.path)
    scored = score_table(
        Metric(name=score or "score", low=low, high=high, higher_is_better=higher_is_better, unit=unit),
        scores=scores,
        case_codes=of_case,
        variant_codes=of_variant,
        case_ids=case_ids.to_numpy(dtype=object).tolist(),
        variants=variants,
        groups=_groups(table, case_codes, id=id, cluster=cluster, category=category, weight=weight),
    )
    return Scores(table=scored, baseline=baseline)


def _how_read(table: ScoreTable) -> tuple[str, ...]:
    """A sentence where plain numbers between 0 and 1 may be shares, and may be dollars."""
    metric = table.metric
    named = metric.unit or metric.low is not None or metric.high is not None
    if named or np.nanmin(table.values) < 0 or np.nanmax(table.values) > 1:
        return ()
    return ("These are read as plain numbers. Name --low 0 --high 1 if they are shares, and --unit for all others.",)


def _bounds_of(
    scores: FloatArray,
    bounds: tuple[float | None, float | None],
    *,
    guess: bool,
    higher_is_better: bool,
    path: Path,
) -> tuple[float | None, float | None]:
    """The bounds that are named; else, with `guess`, those of shares where all are 0 or 1, or reach from 0 to 1.

    What should be low and lies between 0 and 1 is a cost. FileRuleError where there is no score, one is beyond, or sums
    would be infinite.
    """
    known = scores[~np.isnan(scores)]
    if not known.size:
        raise FileRuleError("no row has a score, so there is nothing to compare", path=path)
    (low, high), least, most = bounds, float(known.min()), float(known.max())
    if max(most - least, abs(least), abs(most)) * known.size == float("inf"):  # their sum or difference is none
        raise FileRuleError(f"scores reach from {least:g} to {most:g}, too far to reckon with", path=path)
    reaches = higher_is_better and (least, most) == (0, 1)
    if guess and bounds == (None, None) and (reaches or np.isin(known, (0.0, 1.0)).all()):
        low, high = 0.0, 1.0
    if (low is not None and least < low) or (high is not None and most > high):
        raise FileRuleError(f"scores reach from {least:g} to {most:g}, beyond the bounds that are named", path=path)
    return low, high


def _labels(table: Table, column: str) -> pd.Series[str]:
    """A column as texts without outer spaces; FileRuleError names the first row where there is none."""
    texts = texts_of(table.cells[column]).str.strip()
    empty = (table.cells[column].isna() | (texts == "")).to_numpy(dtype=bool)
    if empty.any():
        raise table.refused(int(np.argmax(empty)), f"column {column!r} is empty ({int(empty.sum())} such rows)")
    return texts


def _numbers(table: Table, column: str) -> FloatArray:
    """A column of numbers, NaN where it is empty; FileRuleError names the first row that is no finite number."""
    import pandas as pd

    cells = with_points(table.cells[column], table.text)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
    for place in np.flatnonzero(np.isnan(numbers) & cells.notna().to_numpy(dtype=bool)):
        word = str(cells.iloc[place]).strip().lower()
        numbers[place] = np.nan if word in _EMPTY_WORDS else _TRUTH_WORDS.get(word, np.inf)
    _refuse_cells(table, column, np.isinf(numbers), must="must be a number (0.5, not 0,5) or empty")
    return numbers


def _refuse_cells(table: Table, column: str, wrong: NDArray[np.bool_], *, must: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        rule = f"column {column!r} holds {_cell(table, column, row)}, {must} ({wrong.sum()} such rows)"
        raise table.refused(row, rule)


def _cell(table: Table, column: str, row: int) -> str:
    """What stands there, as Python writes it: a number of a Parquet file is one of numpy, which names its type."""
    cell = table.cells[column].iloc[row]
    return repr(cell.item() if isinstance(cell, np.generic) else cell)


def _variants(table: Table, column: str, *, baseline: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """The variants that are named, or all where no candidate is; FileRuleError for one that is not there."""
    there = tuple(str(name) for name in _labels(table, column).unique())
    if absent := [name for name in (baseline, *candidates) if name not in there]:
        more = f" and {len(there) - _NAMES_SHOWN:,} more" if len(there) > _NAMES_SHOWN else ""
        listed = ", ".join(there[:_NAMES_SHOWN]) + more
        raise FileRuleError(f"no variant {absent[0]!r} (there are: {listed})", path=table.path)
    return (baseline, *candidates) if candidates else there


def _refuse_repeated(
    table: Table, column: str, codes: NDArray[Any], *, advice: str, rows: NDArray[np.intp] | None = None
) -> None:
    """FileRuleError where two of these rows (None = all) have the same code."""
    import pandas as pd

    repeated = pd.Series(codes).duplicated().to_numpy()
    if repeated.any():
        at = int(np.argmax(repeated))
        pair = np.array([int(np.argmax(codes == codes[at])), at])
        first, second = map(int, pair if rows is None else rows[pair])
        both = f"rows {first + 1} and {second + 1} are both {_cell(table, column, second)}"
        rule = f"{both} ({repeated.sum()} duplicates): {advice}"
        raise FileRuleError(rule, path=table.path, line=table.line_of(second))


def _groups(
    table: Table,
    case_codes: NDArray[np.int64],
    *,
    id: str,
    cluster: str | None,
    category: str | None,
    weight: str | None,
) -> CaseGroups:
    """Cluster, category and weight of each case, which all of its rows must agree on."""
    first_row = np.unique(case_codes, return_index=True)[1]

    def per_case(values: NDArray[Any], rule: Callable[[Any, Any], str]) -> NDArray[Any]:
        differs = values[first_row][case_codes] != values
        if differs.any():
            row = int(np.argmax(differs))
            before = values[first_row[case_codes[row]]]
            raise table.refused(row, f"{table.cells[id].iloc[row]!r} {rule(values[row], before)}")
        return values[first_row]

    def labels(column: str) -> list[str]:
        def rule(later: str, before: str) -> str:
            return f"has {column!r} {later!r}, and {before!r} in a row before"

        of_case: list[str] = per_case(_labels(table, column).to_numpy(dtype=object), rule).tolist()
        return of_case

    n_cases = len(first_row)
    clusters = [None] * n_cases if cluster is None else labels(cluster)
    tags = [()] * n_cases if category is None else [(label,) for label in labels(category)]
    weights = np.ones(n_cases)
    if weight is not None:
        numbers = _numbers(table, weight)
        _refuse_cells(table, weight, ~(numbers > 0), must="must be a number above 0; leave out what stands for nothing")
        weights = per_case(
            numbers, lambda later, before: f"weighs {later:g}, and {before:g} in a row before: give a case one weight"
        )
    return replace(CaseGroups.of_columns(clusters, tags=tags, weights=weights), clustered=cluster is not None)


def answers_of(
    frame: pd.DataFrame, *, case_ids: Collection[str], columns: tuple[str, str, str, str]
) -> list[Generation]:
    """Answers made elsewhere, out of the named columns for variant, case, text and (may be absent) repeat.

    Raises:
        DataError: a column is missing, a case id is unknown, or two rows are the same variant, case and repeat.
    """
    variant, case_id, text, repeat = columns
    if missing := [column for column in (variant, case_id, text) if column not in frame.columns]:
        raise DataError(f"the table has no column {missing[0]!r} (it has: {', '.join(map(str, frame.columns))})")
    repeats = frame[repeat].tolist() if repeat in frame.columns else [0] * len(frame)
    by_text = {name.strip(): name for name in case_ids}  # no two differ in outer blanks alone
    asked = [by_text.get(name.strip(), name) for name in texts_of(frame[case_id])]
    cells = list(zip(frame[variant].astype(str), asked, map(_whole, repeats), strict=True))
    if unknown := sorted({case for _, case, _ in cells if case not in case_ids}):
        raise DataError(f"the golden set has no case {unknown[0]!r} (ids that it lacks: {len(unknown):,})")
    _refuse_twice(cells, repeat)
    answers = []
    for (name, case, number), answer, absent in zip(cells, frame[text].tolist(), frame[text].isna(), strict=True):
        fields: dict[str, Any] = {"text": str(answer)} if str(answer).strip() else {"status": "empty"}
        if absent:
            fields = {"status": "error", "error": "no answer in the table"}
        answers.append(Generation(variant=name, case_id=case, repeat=number, **fields))
    return answers


def logged_answers(rows: Iterable[Mapping[str, Any]]) -> list[Generation]:
    """The answers of another tool's log; DataError where two are the same variant, case and repeat."""
    answers = []
    for fields in rows:
        rest = dict(fields)
        usage = Usage(**{name: rest.pop(name) for name in TOKEN_COLUMNS if name in rest})
        cost = rest.pop("cost_usd", None)
        answers.append(Generation(**rest, usage=usage, cost_usd=None if cost is None else Decimal(str(cost))))
    _refuse_twice(((answer.variant, answer.case_id, answer.repeat) for answer in answers), "repeat")
    return answers


def logged_scores(
    answers: Sequence[Generation], scores: Sequence[Mapping[str, float]], *, frame: pd.DataFrame
) -> Iterator[tuple[Metric, FloatArray]]:
    """Each metric of another tool's log, and its score of each row of a frame with the same answers, NaN = unscored.

    Scores that all lie between 0 and 1 are shares.
    """
    of_cell = {(a.variant, a.case_id, a.repeat): known for a, known in zip(answers, scores, strict=True)}
    of_row = [of_cell[cell] for cell in frame[["variant", "case_id", "repeat"]].itertuples(index=False, name=None)]
    for name in dict.fromkeys(name for known in scores for name in known):
        values = np.array([known.get(name, np.nan) for known in of_row])
        low, high = (None, None) if ((values < 0) | (values > 1)).any() else (0.0, 1.0)
        yield Metric(name=name, low=low, high=high), values


def unknown_bundle(name: str) -> Bundle:
    """Stands for whatever wrote answers that were made elsewhere: explorable, never pinned."""
    safe = re.sub("[^A-Za-z0-9]", "_", name)[:80]
    if safe != name:  # so that two names never become one
        safe = f"{safe}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return Bundle.from_prompt("(made elsewhere)", model=f"elsewhere/{safe}", name=f"v_{safe}")


def stand_ins(answers: Iterable[Generation]) -> dict[str, Bundle]:
    """An `unknown_bundle` for each variant of answers that were made elsewhere."""
    return {name: unknown_bundle(name) for name in dict.fromkeys(answer.variant for answer in answers)}


def _whole(repeat: Any) -> int:
    if isinstance(repeat, bool) or not isinstance(repeat, (int, float)) or repeat < 0 or repeat != int(repeat):
        raise DataError(f"repeat == {repeat!r}, must be 0, 1, 2, ...")
    return int(repeat)


def _refuse_twice(cells: Iterable[tuple[str, str, int]], repeat: str) -> None:
    seen: dict[tuple[str, str, int], int] = {}
    for number, cell in enumerate(cells, start=1):
        if (first := seen.setdefault(cell, number)) != number:
            raise DataError(
                f"rows {first} and {number} both are the answer of {cell[0]!r} to {cell[1]!r}, repeat {cell[2]}; "
                f"number repeated answers in a column {repeat!r}, or keep one"
            )
