"""What each factor of a grid of variants does (prompt x model x temperature): contrasts per case, and their means.

Every case answered every variant, so an effect is a contrast of a case's own scores, and its mean over cases has the
paired difference's interval, clusters and weights included. statsmodels' formula builds the design.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, p_text
from llmlab.display.shown import Shown
from llmlab.stats.arrays import ROUNDED_OFF, FloatArray
from llmlab.stats.burdens import holm
from llmlab.stats.paired import PairedDifference, mean_difference

__all__ = ["Effect", "Effects", "factor_effects"]

TERM = re.compile(r"C\((\w+), _centred\[.\w+.\]\)\[custom(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A level against the first of its factor, averaged over the others; or how far that differs between two levels.

    `term` and `reference` hold (factor, level) pairs: one for a main effect, two or more for an interaction. `undone`:
    whether it is shown of the answers that are scored, and no more with the unscored ones at their worst.
    """

    term: tuple[tuple[str, str], ...]
    reference: tuple[tuple[str, str], ...]
    difference: PairedDifference
    p_adjusted: float
    undone: bool = False

    @property
    def name(self) -> str:
        """For example `prompt=v2` or `prompt=v2 x temperature=0.7`."""
        return " x ".join(f"{factor}={level}" for factor, level in self.term)

    @property
    def reading(self) -> str:
        """The effect in words."""
        first, *rest = (f"{factor} {level}" for factor, level in self.term)
        base, *others = (f"{factor} {level}" for factor, level in self.reference)
        shown, up = self.p_adjusted <= 1 - self.difference.level, self.difference.value > 0
        if shown and self.difference.too_few_clusters:
            return "too few clusters"
        if self.undone:
            return "unscored answers could undo it"
        if not rest:
            return f"{first} scores {'higher' if up else 'lower'} than {base}" if shown else "no effect shown"
        if not shown:
            return "no interaction shown"
        gains = f"{first} against {base} gains {'more' if up else 'less'}"
        return f"{gains} with {' and '.join(rest)} than {' and '.join(others)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Effects(Shown):
    """The effects of a formula on one metric; p adjusted by Holm over all of them."""

    effects: tuple[Effect, ...]
    metric: str
    formula: str
    n_attempted: int

    def __getitem__(self, name: str) -> Effect:
        for effect in self.effects:
            if effect.name == name:
                return effect
        raise KeyError(f"no effect {name!r}; there are {', '.join(effect.name for effect in self.effects)}")

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "effect": effect.name,
                "against": ", ".join(level for _, level in effect.reference),
                "difference [CI]": Interval(effect.difference.value, effect.difference.low, effect.difference.high),
                "p (Holm)": p_text(effect.p_adjusted),
                "means": effect.reading,
            }
            for effect in self.effects
        ]

    def _sentence(self) -> str:
        d = self.effects[0].difference
        cases = f"{d.n:,} of {self.n_attempted:,} cases, scored by every variant, in {d.n_clusters:,} clusters"
        notes = dict.fromkeys(note for e in self.effects if e.difference.se > 0 for note in e.difference.notes)
        said = f"{self.metric} by {self.formula}: {cases}; contrasts per case, CR2, {d.level:.0%} intervals."
        return f"{said} {as_sentences(notes)}".rstrip()


def factor_effects(
    scores: FloatArray,
    *,
    factors: Mapping[str, Sequence[object]],
    formula: str,
    metric: str = "score",
    bounds: tuple[float, float] | None = None,
    unscored_at: tuple[FloatArray, FloatArray] | None = None,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Effects:
    """Main effects and interactions that a `formula` such as "prompt * temperature" names.

    The columns of a factor are centred (1[level] - 1/levels) against its first level, so that on a full grid a main
    effect is the difference of marginal means (of a two-level factor: the paired difference), and an interaction a
    difference of differences. The least-squares coefficients of one case's scores are contrasts of them; on the same
    cases in every variant their mean is the fit with a constant per case.

    Args:
        scores: (n_cases, n_variants); cases with a NaN are left out, and counted.
        bounds: of a score; rare harm that few cases show is reckoned with (`mean_difference`).
        unscored_at: the same scores with every unscored answer at its lowest and at its highest, None = none is.
        factors: name -> (n_variants,) levels; the level that comes first is the reference.

    Raises:
        ValueError: the formula names what is no factor, or has other than names, `*`, `:`, `+` and brackets.
        DataError: a factor with one level, or combinations of levels that no variant has.

    >>> from llmlab.stats.effects import factor_effects
    >>> grid = np.array([[0, 1, 0, 3], [1, 1, 1, 2], [0, 2, 1, 4]])
    >>> found = factor_effects(grid, factors={"prompt": "aabb", "model": "xyxy"}, formula="prompt * model")
    >>> [(effect.name, round(effect.difference.value, 3)) for effect in found.effects]
    [('prompt=b', 1.0), ('model=y', 1.667), ('prompt=b x model=y', 1.333)]
    """
    levels = {name: list(dict.fromkeys(map(str, column))) for name, column in factors.items()}
    _check(formula, levels)
    names, design = _design(formula, factors, levels)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise DataError(
            f"{formula}: {design.shape[0]} variants cannot tell {design.shape[1] - 1} effects apart; run the "
            "combinations that are missing (`ll.grid` makes them all), or ask for fewer effects: + in place of *"
        )
    values = np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(values).any(axis=1)
    weighing = np.linalg.pinv(design)[1:]  # of each effect, by variant; the first row is the constant
    contrasts = values[known] @ weighing.T
    contrasts[np.abs(contrasts) <= ROUNDED_OFF * np.abs(values[known]).max(initial=0.0)] = 0.0
    of_case, of_weight = (None if column is None else np.asarray(column)[known] for column in (clusters, weights))
    differences, worst = [], []
    for row, contrast in zip(weighing, contrasts.T, strict=True):
        span = 0.0 if bounds is None else (bounds[1] - bounds[0]) * float(np.abs(row).sum()) / 2
        d = mean_difference(
            contrast, of_case, weights=of_weight, level=level, bounds=None if bounds is None else (-span, span)
        )
        differences.append(d)
        worst.append(
            d.p_value if unscored_at is None else max(d.p_value, _p_at_worst(d, row, unscored_at, clusters, weights))
        )
    effects = []
    adjusted = zip(holm([d.p_value for d in differences]), holm(worst), strict=True)
    for name, d, (p, p_at_worst) in zip(names[1:], differences, adjusted, strict=True):
        parts = [(factor, int(i)) for factor, i in TERM.findall(name)]
        effects.append(
            Effect(
                term=tuple((factor, levels[factor][i + 1]) for factor, i in parts),
                reference=tuple((factor, levels[factor][0]) for factor, _ in parts),
                difference=d,
                p_adjusted=p,
                undone=p <= 1 - level < p_at_worst,
            )
        )
    return Effects(effects=tuple(effects), metric=metric, formula=formula, n_attempted=len(values))


def _p_at_worst(
    d: PairedDifference,
    row: FloatArray,
    unscored_at: tuple[FloatArray, FloatArray],
    clusters: ArrayLike | None,
    weights: ArrayLike | None,
) -> float:
    """The p value with every unscored answer where it speaks against what is seen; 1 where that turns it round."""
    against, rest = unscored_at if d.value > 0 else unscored_at[::-1]
    contrast = against @ np.maximum(row, 0) + rest @ np.minimum(row, 0)
    at_worst = mean_difference(contrast, clusters, weights=weights, level=d.level)
    return at_worst.p_value if at_worst.value * d.value > 0 else 1.0


def _check(formula: str, levels: Mapping[str, Sequence[str]]) -> None:
    named = re.findall(r"[A-Za-z_]\w*", formula)
    if not named or not re.fullmatch(r"[\w\s*:+()]+", formula):
        raise ValueError(f"formula == {formula!r}, must be factors joined by *, : or +, such as 'prompt * temperature'")
    for name in named:
        if name not in levels:
            raise ValueError(f"formula == {formula!r}: {name!r} is no factor here (there are: {', '.join(levels)})")
        if len(levels[name]) < 2:
            raise DataError(f"{name} is {levels[name][0]} in every variant: it has no effect that could be seen")


def _design(
    formula: str, factors: Mapping[str, Sequence[object]], levels: Mapping[str, Sequence[str]]
) -> tuple[list[str], FloatArray]:
    """Names and columns of the design, one row per variant; the first is the constant."""
    import pandas as pd
    from statsmodels.formula.api import ols

    _centred = {name: (np.eye(len(own)) - 1 / len(own))[:, 1:] for name, own in levels.items()}
    columns = {
        name: pd.Series([str(level) for level in column], dtype=pd.CategoricalDtype(pd.Index(levels[name])))
        for name, column in factors.items()
    }
    centred = re.sub(r"[A-Za-z_]\w*", lambda name: f"C({name[0]}, _centred['{name[0]}'])", formula)
    model = ols(f"score ~ {centred}", pd.DataFrame(columns).assign(score=0.0))
    return list(model.exog_names), np.asarray(model.exog, dtype=np.float64)
