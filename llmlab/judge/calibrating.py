"""How far a judge can be trusted: its verdicts against people's, and what else moves it.

`calibrate_verdicts` and `calibrate_scores` take any table of verdicts that exist; `labels.calibrate` takes labels and
judged results. A tie or a missing verdict on a pair is not right and stays in n; a missing score is left out. Both are
counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from llmlab.base.cells import plain
from llmlab.base.errors import DataError
from llmlab.judge.calibration import Calibration, ScoreGroup, VerdictGroup
from llmlab.stats.agreement import agreement, cohen_kappa, confusion_matrix, judge_rates, kappa_bootstrap
from llmlab.stats.arrays import FloatArray
from llmlab.stats.bias import BiasSlope, PositionBias, clustered_contrast, length_slope, position_bias, self_preference
from llmlab.stats.estimate import Estimate, mean_estimate

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
Columns: TypeAlias = "dict[str, pd.Series[Any]]"  # a column for each part that it plays, under the table's own name
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>"})
_FEWEST_ITEMS = 10  # below: a bootstrap of kappa has too little to draw from


def calibrate_verdicts(
    frame: pd.DataFrame,
    *,
    label: str = "label",
    order1: str = "order1",
    order2: str = "order2",
    length1: str | None = None,
    length2: str | None = None,
    author1: str | None = None,
    author2: str | None = None,
    judge: str | None = None,
    cluster: str | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Pairwise verdicts of any tool against people: one row per pair, winners as 1, 2 or tie, already mapped back.

    In `order1` output 1 was shown first, in `order2` output 2 was. Rows without a label are left out and counted.

    Args:
        frame: the table; the other arguments name its columns.
        length1, length2: lengths of the two outputs, for the length slope.
        author1, author2, judge: who wrote the outputs and who judged, for self-preference.
        cluster: groups of pairs that are not independent; every interval and p counts whole groups.
        by: columns to split by; every combination that occurs is a group.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"label": [1, 2, 1, 2], "order1": [1, 2, 1, 1], "order2": [1, 2, 2, "tie"]})
    >>> calibrate_verdicts(table, resamples=100).only.position.consistency.value
    0.5
    """
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    names = {"label": label, "order1": order1, "order2": order2, "length1": length1, "length2": length2}
    names |= {"author1": author1, "author2": author2, "judge": judge, "cluster": cluster}
    return of_verdicts(frame, names, by=by, **how)


def of_verdicts(
    frame: pd.DataFrame,
    names: Mapping[str, str | None],
    *,
    by: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """As `calibrate_verdicts`, from the names of its columns: part -> column, None = not there.

    A part `pair` says which rows are labels of one pair, by several people: what the judge said of it counts once.
    """
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    return Calibration(groups=tuple(_verdict_group(*group, **how) for group in _groups(frame, by, names)))


def calibrate_scores(
    frame: pd.DataFrame,
    *,
    human: str = "human",
    judge: str = "judge",
    scale: Sequence[Any] | None = None,
    length: str | None = None,
    cluster: str | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Pointwise scores of any tool against people: one row per item.

    Args:
        human, judge: columns of the two labels; rows without a human one are left out and counted.
        scale: every level in its order; by default the levels that occur (whole numbers: all between them too).
        length: column of lengths, for what length adds to judge - human.
        cluster: groups of items that are not independent; every interval counts whole groups.
        by: columns to split by.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"human": [1, 2, 3, 3], "judge": [1, 3, 3, None]})
    >>> calibrate_scores(table, resamples=100).only.missing
    1
    """
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    groups = _groups(frame, by, {"human": human, "judge": judge, "length": length, "cluster": cluster})
    levels = _scale_of(frame, human, judge) if scale is None else list(map(_level, scale))
    return Calibration(groups=tuple(_score_group(*group, levels, **how) for group in groups))


def _verdict_group(group: Mapping[str, Any], columns: Columns, *, level: float, **boot: Any) -> VerdictGroup:
    gold, one, two = (_winners(columns[name]) for name in ("label", "order1", "order2"))
    decided = [i for i, human in enumerate(gold) if human in (1, 2)]
    labelled = [i for i, human in enumerate(gold) if human is not None]
    if not decided:
        raise DataError(f"{_called(group)}: no row has a human verdict of 1 or 2 in {columns['label'].name!r}")
    everything, by_rule = [gold[i] for i in labelled], [_by_rule(one[i], two[i]) for i in labelled]
    everywhere = _cells(columns, "cluster", labelled)
    rows, three = len(gold), {"labels": [1, 2, "tie"], "level": level, **boot}
    gold, one, two = ([values[i] for i in decided] for values in (gold, one, two))
    columns = {part: column.iloc[decided] for part, column in columns.items()}
    within: dict[str, Any] = {"clusters": _cells(columns, "cluster"), "level": level}
    sizes = {f"lengths_{n}": _lengths_of(columns[f"length{n}"]) for n in (1, 2) if f"length{n}" in columns}
    lengths: dict[str, Any] = sizes if len(sizes) == 2 else {}
    position = position_bias(one, two, gold=gold, **within)
    if "pair" in columns:
        position = _each_pair_once(position, columns, (one, two), level)
    wrong = [winner if winner in (1, 2) else 3 - human for winner, human in zip(one, gold, strict=True)]
    return VerdictGroup(
        group=group,
        n=len(gold),
        missing=position.missing,
        human_ties=len(labelled) - len(gold),
        unlabelled=rows - len(labelled),
        position=position,
        kappa=_kappa(gold, one, clusters=within["clusters"], **three),
        kappa_both=_kappa(everything, by_rule, clusters=everywhere, **three),
        matrix=confusion_matrix(everything, by_rule, labels=[1, 2, "tie"]),
        rates=judge_rates(gold, wrong, positive=1, **within),
        clusters=_count(within["clusters"]),
        length=length_slope(one, two, gold=gold, **lengths, **within) if lengths else None,
        own=_own(columns, (one, two), gold, lengths, level),
    )


def _each_pair_once(
    position: PositionBias, columns: Columns, verdicts: tuple[list[Any], list[Any]], level: float
) -> PositionBias:
    """The same with counts, consistency and p over distinct pairs; accuracies stay those of every label."""
    rows = np.flatnonzero(~columns["pair"].duplicated()).tolist()
    one, two = ([said[i] for i in rows] for said in verdicts)
    once = position_bias(one, two, clusters=_cells(columns, "cluster", rows), level=level)
    right = {name: getattr(position, name) for name in ("accuracy_order1", "accuracy_order2", "accuracy_both")}
    return replace(once, **right)


def _own(
    columns: Columns,
    verdicts: tuple[list[Any], list[Any]],
    gold: list[Any],
    lengths: Mapping[str, Any],
    level: float,
) -> BiasSlope | None:
    """Self-preference over both orders: in the second the outputs are named as they were shown.

    So that the intercept is the judge's liking of the first place and nothing else, even where one author wrote every
    first output.
    """
    if not {"judge", "author1", "author2"} <= columns.keys():
        return None
    judges, first, second = (columns[part].tolist() for part in ("judge", "author1", "author2"))
    items = _cells(columns, "cluster") or list(range(len(gold)))
    turned = {1: 2, 2: 1}
    swapped = zip(lengths.items(), [*lengths.values()][::-1], strict=True)
    sizes = {name: np.concatenate([size, other]) for (name, size), other in swapped}
    return self_preference(
        [*verdicts[0], *(turned.get(one, one) for one in verdicts[1])],
        gold=[*gold, *(turned[one] for one in gold)],
        judges=judges * 2,
        authors_1=first + second,
        authors_2=second + first,
        items=items * 2,
        level=level,
        **sizes,
    )


def _score_group(
    group: Mapping[str, Any], columns: Columns, levels: list[Any], *, level: float, **boot: Any
) -> ScoreGroup:
    people = _levels_of(columns["human"], levels)
    labelled = [i for i, label in enumerate(people) if label is not None]
    if not labelled:
        raise DataError(f"{_called(group)}: no row has a human label in {columns['human'].name!r}")
    gold, columns = [people[i] for i in labelled], {part: cells.iloc[labelled] for part, cells in columns.items()}
    judged, clusters = _levels_of(columns["judge"], levels), _cells(columns, "cluster")
    size = _lengths_of(columns["length"]) if "length" in columns else None
    numeric = all(isinstance(each, (int, float)) for each in levels)
    lean, slope = _undefined("levels are names, which have no order: leniency and length are not measured"), None
    if numeric:
        lean, slope = _leaning(gold, judged, clusters, size, level, span=float(levels[-1] - levels[0]))
    within: dict[str, Any] = {"clusters": clusters, "level": level}
    weights = "quadratic" if numeric and len(levels) > 2 else "unweighted"
    return ScoreGroup(
        group=group,
        n=len(gold),
        missing=sum(grade is None for grade in judged),
        unlabelled=len(people) - len(labelled),
        agreement=agreement(gold, judged, labels=levels, **within),
        kappa=_kappa(gold, judged, labels=levels, weights=weights, **within, **boot),
        kappa_unweighted=_kappa(gold, judged, labels=levels, **within, **boot),
        leaning=lean,
        matrix=confusion_matrix(gold, judged, labels=levels),
        rates=judge_rates(gold, judged, positive=levels[-1], **within) if len(levels) == 2 else None,
        clusters=_count(clusters),
        length=slope,
    )


def _cells(columns: Columns, part: str, rows: list[int] | None = None) -> list[Any] | None:
    """A column as a list, or these rows of it; None where the table has none."""
    if part not in columns:
        return None
    return (columns[part] if rows is None else columns[part].iloc[rows]).tolist()


def _count(clusters: list[Any] | None) -> int | None:
    """How many groups there are, None where every row is one of its own."""
    groups = len(set(clusters or ()))
    return groups if clusters and groups < len(clusters) else None


def _by_rule(one: Any, two: Any) -> Any:
    """The verdict of both orders: None where one is missing, a tie where they differ."""
    return None if one is None or two is None else one if one == two else "tie"


def _kappa(
    gold: Sequence[Any], judged: Sequence[Any], *, clusters: list[Any] | None, resamples: int, seed: int, **how: Any
) -> Estimate:
    if not resamples:
        return cohen_kappa(gold, judged, clusters=clusters, **how)
    kappa = kappa_bootstrap(gold, judged, clusters=clusters, resamples=resamples, seed=seed, **how)
    items = len(gold if clusters is None else set(clusters))
    return kappa if items >= _FEWEST_ITEMS else _without_interval(kappa, f"{items} independent items")


def _leaning(
    gold: Sequence[Any],
    judged: Sequence[Any],
    clusters: Sequence[Any] | None,
    lengths: Any,
    level: float,
    *,
    span: float,
) -> tuple[Estimate, Estimate | None]:
    """Mean of judge - human, and its slope on length; `span` is how far two grades can lie apart."""
    both = [i for i, grade in enumerate(judged) if grade is not None]
    excess = np.array([float(judged[i]) - float(gold[i]) for i in both])
    groups = None if clusters is None else [clusters[i] for i in both]
    if len(both) < 2 or (groups is not None and len(set(groups)) < 2):
        return _undefined("fewer than two independent items were scored by both"), None
    lean = _on_the_scale(mean_estimate(excess, groups, level=level, n_attempted=len(gold)), span)
    if lengths is None or np.ptp(lengths[both]) == 0 or len(both) < 4:
        return lean, None
    standard = (lengths[both] - lengths[both].mean()) / lengths[both].std(ddof=1)
    names = np.array(groups if groups is not None else both, dtype=object).astype(str)
    index = np.unique(names, return_inverse=True)[1].astype(np.intp)
    design = np.stack([np.ones(len(both)), standard], axis=1)
    slope = clustered_contrast(design, [0.0, 1.0], response=excess, clusters=index, level=level)
    ends: dict[str, Any] = {"value": slope.value, "low": slope.low, "high": slope.high, "level": level}
    estimate = Estimate(**ends, n=len(both), method="slope per sd of length")
    if slope.determined_by_one:
        return lean, _without_interval(estimate, "only one item, or the items of one cluster, have another length")
    return lean, _on_the_scale(estimate, span)


def _on_the_scale(estimate: Estimate, span: float) -> Estimate:
    """Without an interval that reaches beyond what two grades can differ by: it says nothing."""
    if estimate.low is None or estimate.high is None or (estimate.low >= -span and estimate.high <= span):
        return estimate
    return _without_interval(estimate, "too few independent items")


def _without_interval(estimate: Estimate, why: str) -> Estimate:
    if estimate.low is None:
        return estimate
    return replace(estimate, low=None, high=None, notes=(f"{why}: there is no honest interval",))


def _undefined(why: str) -> Estimate:
    return Estimate(value=None, notes=(why,))


def _groups(
    frame: pd.DataFrame, by: Sequence[str], names: Mapping[str, str | None]
) -> list[tuple[dict[str, Any], Columns]]:
    """The columns of these names (None = not there) for every combination of `by` that occurs; of all rows without.

    Raises:
        DataError: a column that is not there, or a table without rows.
    """
    import pandas as pd  # heavy

    columns = {part: name for part, name in names.items() if name is not None}
    if missing := [name for name in (*columns.values(), *by) if name not in frame.columns]:
        raise DataError(f"no column {missing[0]!r} in the table (it has: {', '.join(map(str, frame.columns))})")
    if not len(frame):
        raise DataError("the table has no rows")
    frame = frame.reset_index(drop=True)  # rows are named by their place in the table
    groups = []
    for key, rows in frame.groupby(list(by), sort=True, dropna=False) if by else [((), frame)]:
        cells: list[Any] = [cell.item() if hasattr(cell, "item") else cell for cell in key]
        group = {name: None if pd.isna(cell) else cell for name, cell in zip(by, cells, strict=True)}
        groups.append((group, {part: rows[name] for part, name in columns.items()}))
    return groups


def _called(group: Mapping[str, Any]) -> str:
    """A group as messages name it."""
    return ", ".join(f"{key} {plain(value, 40)}" for key, value in group.items()) or "the table"


def _lengths_of(column: pd.Series[Any]) -> FloatArray:
    """A column of lengths; DataError with the row (1 = the first of the table) for one that is empty or no number."""
    import pandas as pd  # heavy

    lengths = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(lengths))
    if wrong.size:
        row, value = column.index[wrong[0]] + 1, column.iloc[wrong[0]]
        said = "is empty" if _is_empty(value) else f"holds {plain(value, 40)}, which is no number"
        raise DataError(f"row {row}: column {column.name!r} {said}; fill it in, or leave the lengths out")
    return lengths


def _is_empty(value: Any) -> bool:
    return value is None or value != value or str(value).strip().lower() in _EMPTY


def _winners(column: pd.Series[Any]) -> list[Any]:
    """1, 2, "tie" or None, out of numbers and texts."""
    known = {None: None, "1": 1, "2": 2, "1.0": 1, "2.0": 2, "tie": "tie"}
    values = column.tolist()
    cells = [None if _is_empty(value) else str(value).strip().lower() for value in values]
    if strange := [row for row, cell in enumerate(cells) if cell not in known]:
        row, value = column.index[strange[0]] + 1, plain(values[strange[0]], 40)
        raise DataError(f"row {row}: column {column.name!r} holds {value!r}, must be 1, 2, tie or empty")
    return [known[cell] for cell in cells]


def _scale_of(frame: pd.DataFrame, human: str, judge: str) -> list[Any]:
    """The levels of a scale: those that occur, and for whole numbers all between them."""
    people, judged = ({_level(cell) for cell in frame[name] if not _is_empty(cell)} for name in (human, judge))
    if len(seen := people | judged) < 2:
        raise DataError(f"{human!r} and {judge!r} hold {len(seen)} different labels, two are the least to compare")
    if all(isinstance(level, (int, float)) for level in seen):
        return _evenly(sorted(seen))
    if people and judged and not people & judged:
        one, other = (", ".join(sorted(plain(level, 40) for level in levels)[:5]) for levels in (people, judged))
        raise DataError(f"{human!r} holds {one} and {judge!r} {other}: nothing in common; write what is the same alike")
    return sorted(seen, key=str)


def _evenly(levels: list[Any]) -> list[Any]:
    """Numbers with those between them that nobody gave, so that weights go by distance; as they are beyond a hundred.

    >>> _evenly([1, 1.5, 3])
    [1, 1.5, 2, 2.5, 3]
    """
    exact = [Fraction(str(level)) for level in levels]
    parts = math.lcm(*(each.denominator for each in exact))
    low, high = int(exact[0] * parts), int(exact[-1] * parts)
    return levels if high - low > 100 else [_level(part / parts) for part in range(low, high + 1)]


def _level(value: Any) -> Any:
    """A cell as a level: whole numbers as int, other numbers as float, anything else as words in small letters."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return " ".join(str(value).split()).casefold()
    if not math.isfinite(number):
        raise DataError(f"{plain(value, 40)!r} is no level: a scale ends somewhere")
    return int(number) if number == int(number) else number


def _levels_of(column: pd.Series[Any], levels: Sequence[Any]) -> list[Any]:
    """A column as levels of the scale, None where it is empty; DataError for anything off the scale."""
    known, cells = {None, *levels}, [None if _is_empty(value) else _level(value) for value in column.tolist()]
    if strange := [level for level in cells if level not in known]:
        raise DataError(f"{column.name}: {plain(strange[0], 40)!r} is not on the scale {list(levels)}")
    return cells
