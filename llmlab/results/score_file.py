"""Anybody's scores as a score table: a CSV or Parquet file, wide (a column per variant) or tidy (a row per score).

Used by `llmlab compare` and notebook 02. An empty score is unscored and counted; anything else that is no number is
refused with its row, where row 1 is the first one after the header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.display import Shown
from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.tables import Table, read_table, texts_of, with_points
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import Comparison
from llmlab.results.scores import CaseGroups, Metric, ScoreTable, score_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Scores", "read_scores"]

EMPTY_WORDS = frozenset({"", "nan", "na", "n/a", "null", "none"})  # how other tools write "no score"
TRUTH_WORDS = {"true": 1.0, "false": 0.0}
NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scores(Shown):
    """The scores of a file on one metric, ready to be compared like those of a run."""

    table: ScoreTable

    def compare(
        self,
        baseline: str,
        *,
        candidates: Sequence[str] | None = None,
        by_category: bool = False,
        margin: float | None = None,
        level: float = 0.95,
    ) -> Comparison:
        """Each candidate (all other variants by default) against the baseline, as `Results.compare` does it.

        Args:
            baseline: the variant to compare with.
            candidates: variants to compare; all others by default.
            by_category: the same per category too, adjusted as a family of its own.
            margin: the harm that may be tolerated, in the score's own unit; adds a non-inferiority verdict.
            level: of the intervals.
        """
        margins = None if margin is None else {self.table.metric.name: margin}
        rows = compare_tables(
            [self.table], baseline, candidates=candidates or None, by_tag=by_category, margin=margins, level=level
        )
        return Comparison(rows=rows, baseline=baseline, notes=_how_read(self.table))

    def _rows(self) -> list[dict[str, object]]:
        means = np.nanmean(self.table.values, axis=0).tolist()
        return [{"variant": name, "mean": mean} for name, mean in zip(self.table.variants, means, strict=True)]

    def _sentence(self) -> str:
        return f"{counted(len(self.table.case_ids), 'case')} scored on {self.table.metric.name}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which column of a table is what; `variant` and `score` are given for a tidy table, None for a wide one."""

    id: str
    cluster: str | None = None
    category: str | None = None
    weight: str | None = None
    variant: str | None = None
    score: str | None = None
    repeat: str | None = None

    @property
    def tidy(self) -> bool:
        """Whether each row is one score of one variant."""
        return self.variant is not None

    @property
    def named(self) -> list[str]:
        """Every column that is named here."""
        every = (self.id, self.cluster, self.category, self.weight, self.variant, self.score, self.repeat)
        return [name for name in every if name is not None]


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

    Without `bounds` and `unit` scores are taken as shares where nothing else can be meant (`_are_shares`); others are
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
    columns = _Columns(
        id=id, cluster=cluster, category=category, weight=weight, variant=variant, score=score, repeat=repeat
    )
    wide = () if columns.tidy else (baseline, *candidates)
    named = [*columns.named, *wide]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"column {twice[0]!r} is named for two things")
    table = read_table(path).with_columns(named)
    if table.cells.empty:
        raise FileRuleError("has no rows", path=path)
    case_codes, case_ids = _cases(table, columns)
    if columns.tidy:
        variant_codes, variants = _variants(table, columns, wanted=(baseline, *candidates) if candidates else ())
        if baseline not in variants:
            raise FileRuleError(f"no variant {baseline!r} (there are: {_listed(variants)})", path=path)
        scores, kept = _numbers(table, str(columns.score)), variant_codes >= 0
        scores, rows, variant_codes = scores[kept], case_codes[kept], variant_codes[kept]
        _refuse_twice(table, columns, kept=kept, case_codes=rows, variant_codes=variant_codes)
    else:
        variants = wide
        scores = np.concatenate([_numbers(table, name) for name in variants])
        rows = np.tile(case_codes, len(variants))
        variant_codes = np.repeat(np.arange(len(variants)), len(table.cells))
    if np.isnan(scores).all():
        raise FileRuleError("no row has a score, so there is nothing to compare", path=path)
    low, high = bounds
    if bounds == (None, None) and not unit and _are_shares(scores, higher_is_better=higher_is_better):
        low, high = 0.0, 1.0
    least, most = float(np.nanmin(scores)), float(np.nanmax(scores))
    if (low is not None and least < low) or (high is not None and most > high):
        raise FileRuleError(f"scores reach from {least:g} to {most:g}, beyond the bounds that are named", path=path)
    table_of_scores = score_table(
        Metric(name=columns.score or "score", low=low, high=high, higher_is_better=higher_is_better, unit=unit),
        scores=scores,
        case_codes=rows,
        variant_codes=variant_codes,
        case_ids=case_ids,
        variants=variants,
        groups=_groups(table, columns, case_codes=case_codes, n_cases=len(case_ids)),
    )
    return Scores(table=table_of_scores)


def _how_read(table: ScoreTable) -> tuple[str, ...]:
    """A sentence where plain numbers between 0 and 1 may be shares, and may be dollars."""
    metric = table.metric
    if metric.unit or metric.low is not None or metric.high is not None:
        return ()
    if np.nanmin(table.values) < 0 or np.nanmax(table.values) > 1:
        return ()
    return ("These are read as plain numbers. Name --low 0 --high 1 if they are shares, and --unit for all others.",)


def _are_shares(scores: NDArray[np.float64], *, higher_is_better: bool) -> bool:
    """Whether all are 0 or 1, or lie in between and reach both ends; what should be low is a cost unless 0 or 1."""
    known = scores[~np.isnan(scores)]
    if np.isin(known, (0.0, 1.0)).all():
        return True
    return higher_is_better and bool(known.min() == 0 and known.max() == 1)


def _labels(table: Table, column: str) -> pd.Series[str]:
    """A column as texts without outer spaces; FileRuleError names the first row where there is none."""
    given = table.cells[column]
    texts = texts_of(given).str.strip()
    empty = (given.isna() | (texts == "")).to_numpy(dtype=bool)
    if empty.any():
        raise table.refused(_first(empty), f"column {column!r} is empty ({int(empty.sum())} such rows)")
    return texts


def _cases(table: Table, columns: _Columns) -> tuple[NDArray[np.int64], list[str]]:
    import pandas as pd

    codes, ids = pd.factorize(_labels(table, columns.id))
    if not columns.tidy:
        _refuse_repeated(codes, table, columns.id, "give each case one row, or name its variant column")
    return codes.astype(np.int64), ids.to_numpy(dtype=object).tolist()


def _variants(table: Table, columns: _Columns, *, wanted: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The variant of each row as a code, -1 for one that is not wanted."""
    import pandas as pd

    labels = _labels(table, str(columns.variant))
    there = tuple(str(name) for name in labels.unique())
    if absent := [name for name in wanted if name not in there]:
        raise FileRuleError(f"no variant {absent[0]!r} (there are: {_listed(there)})", path=table.path)
    names = tuple(wanted) or there
    return pd.Index(names).get_indexer(pd.Index(labels)).astype(np.int64), names


def _numbers(table: Table, column: str) -> NDArray[np.float64]:
    """A column of scores, NaN where it is empty; FileRuleError names the first row that is no finite number."""
    import pandas as pd

    given = with_points(table.cells[column], table.text)
    numbers = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
    for place in np.flatnonzero(np.isnan(numbers) & given.notna().to_numpy(dtype=bool)):
        word = str(given.iloc[place]).strip().lower()
        if word in TRUTH_WORDS:
            numbers[place] = TRUTH_WORDS[word]
        elif word not in EMPTY_WORDS:
            numbers[place] = np.inf
    wrong = np.isinf(numbers)
    if wrong.any():
        row = _first(wrong)
        must = "must be a number (0.5, not 0,5) or empty"
        rule = f"column {column!r} holds {given.iloc[row]!r}, {must} ({int(wrong.sum())} such rows)"
        raise table.refused(row, rule)
    return numbers


def _refuse_twice(
    table: Table,
    columns: _Columns,
    *,
    kept: NDArray[np.bool_],
    case_codes: NDArray[np.int64],
    variant_codes: NDArray[np.int64],
) -> None:
    import pandas as pd

    cells = case_codes * (int(variant_codes.max()) + 1) + variant_codes
    if columns.repeat is not None:
        repeats, labels = pd.factorize(_labels(table, columns.repeat)[kept])
        cells = cells * len(labels) + repeats
    advice = "name the column of repeats (--repeat-column), or keep one"
    _refuse_repeated(cells, table, columns.id, advice, kept=kept)


def _refuse_repeated(
    codes: NDArray[Any], table: Table, column: str, advice: str, *, kept: NDArray[np.bool_] | None = None
) -> None:
    import pandas as pd

    repeated = pd.Series(codes).duplicated().to_numpy()
    if repeated.any():
        at = int(np.argmax(repeated))
        before = int(np.flatnonzero(codes == codes[at])[0])
        rows = np.arange(len(table.cells)) if kept is None else np.flatnonzero(kept)
        first, second = int(rows[before]), int(rows[at])
        name, n = table.cells[column].iloc[second], int(repeated.sum())
        rule = f"rows {first + 1} and {second + 1} are both {name!r} ({n} duplicates): {advice}"
        raise FileRuleError(rule, path=table.path, line=table.line_of(second))


def _weights(
    table: Table, columns: _Columns, *, case_codes: NDArray[np.int64], n_cases: int
) -> NDArray[np.float64] | None:
    """The weight of each case; None where no column is named, or all weigh the same."""
    if columns.weight is None:
        return None
    given = _numbers(table, columns.weight)
    wrong = ~(given > 0)
    if wrong.any():
        row = _first(wrong)
        raise table.refused(
            row,
            f"column {columns.weight!r} holds {table.cells[columns.weight].iloc[row]!r}, must be a number above 0 "
            f"({int(wrong.sum())} such rows); leave out a case that stands for nothing",
        )
    weights = np.zeros(n_cases)
    weights[case_codes[::-1]] = given[::-1]  # so that the first row of a case counts
    differs = weights[case_codes] != given
    if differs.any():
        row = _first(differs)
        case, first = table.cells[columns.id].iloc[row], weights[case_codes[row]]
        rule = f"{case!r} weighs {given[row]:g}, and {first:g} in a row before: give a case one weight"
        raise table.refused(row, rule)
    return weights if np.ptp(weights) > 0 else None


def _groups(table: Table, columns: _Columns, *, case_codes: NDArray[np.int64], n_cases: int) -> CaseGroups:
    def per_case(column: str) -> tuple[NDArray[np.int64], list[str]]:
        import pandas as pd

        codes, labels = pd.factorize(_labels(table, column))
        of_case = np.zeros(n_cases, dtype=np.int64)
        of_case[case_codes[::-1]] = codes[::-1]  # so that the first row of a case counts
        differs = of_case[case_codes] != codes
        if differs.any():
            row = _first(differs)
            case, first = table.cells[columns.id].iloc[row], labels[of_case[case_codes[row]]]
            rule = f"{case!r} has {column!r} {labels[codes[row]]!r}, and {first!r} in a row before"
            raise table.refused(row, rule)
        return of_case, [str(label) for label in labels]

    clusters = np.arange(n_cases) if columns.cluster is None else per_case(columns.cluster)[0]
    tags: tuple[tuple[str, ...], ...] = ((),) * n_cases
    if columns.category is not None:
        codes, labels = per_case(columns.category)
        singles = [(label,) for label in labels]
        tags = tuple(singles[code] for code in codes.tolist())
    weights = _weights(table, columns, case_codes=case_codes, n_cases=n_cases)
    return CaseGroups(clusters=clusters, clustered=columns.cluster is not None, tags=tags, weights=weights)


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more
