"""What each factor of a prompt x model x temperature grid does, with case fixed effects and clustered errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmlab.base.display import Interval, Shown, number
from llmlab.base.errors import DataError
from llmlab.base.numbers import p_text
from llmlab.stats.arrays import FloatArray, GroupIndex, Values, codes, floats, open_unit
from llmlab.stats.clustered import Contrast, clustered_fit, contrast
from llmlab.stats.standard_error import FEW_DF

__all__ = ["GridEffect", "GridEffects", "grid_effects"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GridEffect(Shown):
    """One coefficient: a level against its factor's first level, or a difference of such differences.

    `term` names factor and level pairs: one for a main effect, two or more for an interaction.
    """

    term: tuple[tuple[str, str], ...]
    reference: tuple[str, ...]
    value: float
    se: float
    df: float
    low: float
    high: float
    p_value: float | None
    level: float

    @property
    def name(self) -> str:
        """For example `model=b` or `prompt=v2 x model=b`."""
        return " x ".join(f"{factor}={chosen}" for factor, chosen in self.term)

    def _rows(self) -> list[dict[str, object]]:
        interval = Interval(self.value, self.low, self.high)
        return [
            {
                "effect": self.name,
                "against": ", ".join(self.reference),
                "difference": interval,
                "p": p_text(self.p_value),
            }
        ]

    def _sentence(self) -> str:
        chosen = [f"{factor} {level}" for factor, level in self.term]
        against = [f"{factor} {level}" for (factor, _), level in zip(self.term, self.reference, strict=True)]
        shown = f"({self.level:.0%} CI {number(self.low)} to {number(self.high)})"
        if self.se == 0:
            shown = "(the same in every case, so no interval)"
        unsure = self.low <= 0 <= self.high
        if len(self.term) == 1:
            if unsure:
                return f"No difference shown between {chosen[0]} and {against[0]}: {number(self.value)} {shown}."
            direction = "raises" if self.value > 0 else "lowers"
            by = f"by {number(abs(self.value))}, averaged over any other factors"
            return f"{chosen[0]} instead of {against[0]} {direction} the mean score {by} {shown}."
        others = " and ".join(chosen[1:])
        instead = " and ".join(against[1:])
        change = f"what {chosen[0]} changes against {against[0]}"
        if unsure:
            return f"Not shown to differ: {change} with {others} and with {instead}: {number(self.value)} {shown}."
        more = "higher" if self.value > 0 else "lower"
        return f"{change} is {number(abs(self.value))} {more} with {others} than with {instead} {shown}."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GridEffects(Shown):
    """Main effects and interactions of a grid; p-values are not adjusted for their number."""

    effects: tuple[GridEffect, ...]
    cases: int
    clusters: int
    rows: int
    rows_attempted: int
    balanced: bool
    note: str = ""

    def __getitem__(self, name: str) -> GridEffect:
        for effect in self.effects:
            if effect.name == name:
                return effect
        raise KeyError(f"no effect {name!r}; there are {[effect.name for effect in self.effects]}")

    def _rows(self) -> list[dict[str, object]]:
        return [{**effect._rows()[0], "in words": effect._sentence()} for effect in self.effects]

    def _sentence(self) -> str:
        counted = (
            f"{self.cases:,} cases in {self.clusters:,} clusters, {self.rows:,} of {self.rows_attempted:,} scores."
        )
        return f"{counted} {self.note}".rstrip()


def grid_effects(
    scores: Values,
    *,
    cases: Values,
    factors: Mapping[str, Values],
    clusters: Values | None = None,
    order: int = 2,
    level: float = 0.95,
) -> GridEffects:
    """Main effects and interactions up to `order` from one row per score (repeats are rows; None = unscored).

    Each level's column is centred (1[level] - 1/levels) against the factor's first level, so on a balanced grid a
    main effect is the difference of marginal means and a two-level factor equals the paired difference; an
    interaction is a difference of differences. Case fixed effects by demeaning within cases, CR2 standard errors
    over clusters (cases where none are given) with Bell-McCaffrey degrees of freedom.

    Args:
        scores: (N,) one score per row.
        cases: (N,) case ids; every cluster must hold whole cases.
        factors: name -> (N,) levels; the level that comes first in the rows is the reference.

    Raises:
        DataError: a factor with one level, a case in two clusters, fewer than two clusters, or combinations of
            levels that were never scored, so that effects cannot be told apart.

    >>> fit = grid_effects([1, 2, 2, 4, 0, 1], cases=[1, 1, 2, 2, 3, 3], factors={"prompt": ["v1", "v2"] * 3})
    >>> print(fit["prompt=v2"]._sentence())
    No difference shown between prompt v2 and prompt v1: 1.333 (95% CI -0.1009 to 2.768).
    """
    open_unit(level, "level")
    response = floats(scores, "scores", gaps=True)
    attempted, kept = len(response), ~np.isnan(response)
    case_of, _ = codes(cases, "cases", length=attempted)
    case_of = _renumbered(case_of[kept])
    cluster_of = case_of if clusters is None else _renumbered(codes(clusters, "clusters", length=attempted)[0][kept])
    _check_nesting(case_of, cluster_of)
    levels = {name: _levels(name, column, kept) for name, column in factors.items()}
    terms = _terms(levels, order)
    design = np.stack([_column(levels, term) for term in terms], axis=1)
    within, target = _demeaned(design, case_of), _demeaned(response[kept][:, None], case_of)[:, 0]
    try:
        fit = clustered_fit(within, response=target, clusters=cluster_of)
    except DataError as error:
        raise DataError(f"{error}. Scored combinations are missing: lower `order`, or {_missing(levels)}") from error
    contrasts = [contrast(fit, row, level=level) for row in np.eye(len(terms))]
    balanced = _is_balanced(levels, case_of)
    return GridEffects(
        effects=tuple(_effect(term, levels, one, level) for term, one in zip(terms, contrasts, strict=True)),
        cases=int(case_of.max()) + 1,
        clusters=int(cluster_of.max()) + 1,
        rows=int(kept.sum()),
        rows_attempted=attempted,
        balanced=balanced,
        note=_note(balanced, min(one.df for one in contrasts), fit.determined_by_one),
    )


_Levels = Mapping[str, tuple[GroupIndex, list[str]]]
_Term = tuple[tuple[str, int], ...]


def _levels(name: str, column: Values, kept: np.ndarray) -> tuple[GroupIndex, list[str]]:
    index, labels = codes(column, f"factor {name!r}", length=len(kept))
    scored = set(index[kept].tolist())
    if len(scored) < 2 or len(scored) < len(labels):
        empty = [str(label) for number_, label in enumerate(labels) if number_ not in scored]
        raise DataError(
            f"factor {name!r} has {len(scored)} scored level(s), needs 2 or more; nothing scored for {empty}"
        )
    return index[kept], [str(label) for label in labels]


def _terms(levels: _Levels, order: int) -> list[_Term]:
    if not levels or order < 1:
        raise ValueError(f"order == {order} for {len(levels)} factors: at least one factor, and order >= 1")
    choices = {name: [(name, number_) for number_ in range(1, len(labels))] for name, (_, labels) in levels.items()}
    combinations = itertools.chain.from_iterable(
        itertools.combinations(levels, size) for size in range(1, min(order, len(levels)) + 1)
    )
    return [term for names in combinations for term in itertools.product(*(choices[name] for name in names))]


def _column(levels: _Levels, term: _Term) -> FloatArray:
    parts = [(levels[name][0] == chosen) - 1 / len(levels[name][1]) for name, chosen in term]
    product: FloatArray = np.prod(parts, axis=0)
    return product


def _demeaned(columns: FloatArray, case_of: GroupIndex) -> FloatArray:
    counts = np.bincount(case_of)
    means = np.stack([np.bincount(case_of, weights=column) / counts for column in columns.T], axis=1)
    centred: FloatArray = columns - means[case_of]
    return centred


def _renumbered(index: GroupIndex) -> GroupIndex:
    return np.unique(index, return_inverse=True)[1].astype(np.intp)


def _check_nesting(case_of: GroupIndex, cluster_of: GroupIndex) -> None:
    if not len(case_of) or int(cluster_of.max()) == 0:
        raise DataError(f"{len(case_of)} scored rows in fewer than 2 clusters: nothing can be said about other cases")
    first = np.zeros(int(case_of.max()) + 1, dtype=np.intp)
    first[case_of[::-1]] = cluster_of[::-1]
    if (first[case_of] != cluster_of).any():
        row = int(np.flatnonzero(first[case_of] != cluster_of)[0])
        raise DataError(f"the case of scored row {row} lies in two clusters: a cluster must hold whole cases")


def _cells(levels: _Levels) -> tuple[GroupIndex, int]:
    sizes = [len(labels) for _, labels in levels.values()]
    index = np.ravel_multi_index(tuple(index for index, _ in levels.values()), sizes)
    return index.astype(np.intp), math.prod(sizes)


def _is_balanced(levels: _Levels, case_of: GroupIndex) -> bool:
    cell, cells = _cells(levels)
    counts = np.bincount(case_of * cells + cell, minlength=(int(case_of.max()) + 1) * cells)
    return bool((counts == counts[0]).all() and counts[0] > 0)


def _missing(levels: _Levels) -> str:
    cell, cells = _cells(levels)
    empty = np.setdiff1d(np.arange(cells), cell)
    if not len(empty):
        return "score every combination on the same cases"
    chosen = np.unravel_index(int(empty[0]), [len(labels) for _, labels in levels.values()])
    named = [f"{name}={labels[number_]}" for (name, (_, labels)), number_ in zip(levels.items(), chosen, strict=True)]
    return f"score {', '.join(named)}" + (f" and {len(empty) - 1} more" if len(empty) > 1 else "")


def _note(balanced: bool, df: float, determined_by_one: bool) -> str:
    notes = [] if balanced else ["The grid is not balanced: effects are adjusted for what is missing, not plain means."]
    if determined_by_one:
        notes.append("An effect hangs on a single cluster: its standard error is too small.")
    if df < FEW_DF:
        notes.append(f"Few clusters ({number(df)} effective degrees of freedom): read the intervals with care.")
    return " ".join(notes)


def _effect(term: _Term, levels: _Levels, one: Contrast, level: float) -> GridEffect:
    return GridEffect(
        term=tuple((name, levels[name][1][chosen]) for name, chosen in term),
        reference=tuple(levels[name][1][0] for name, _ in term),
        value=one.value,
        se=one.se,
        df=one.df,
        low=one.low,
        high=one.high,
        p_value=one.p_value,
        level=level,
    )
