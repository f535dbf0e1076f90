"""What is compared besides the mean of two arms: costs per success, latencies, and the factors of a grid.

Ratios (cost per success, failed and repeated attempts billed too) have intervals of the log ratio by the delta method
over clusters. Quantiles (p95 latency) have a bootstrap over clusters; an answer that was lost took longer than any that
came: infinity stands for it. On a grid (prompt x model x temperature) every case answered every variant, so an effect
is a contrast of a case's own scores, and its mean over cases has the paired difference's interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, p_text
from llmlab.display.shown import Shown
from llmlab.stats.arrays import ROUNDED_OFF, Bounds, FloatArray, cluster_codes, floats, open_unit, over_resamples
from llmlab.stats.burdens import holm
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import PairedDifference, mean_difference
from llmlab.stats.standard_error import StandardError, case_weights, standard_error, two_sided

_OF_SUMS = "of sums, log ratio by the delta method"
_LEAST_BEYOND = 10  # rows beyond the quantile, per arm; with fewer the bootstrap of a quantile is fiction
_LEAST_CLUSTERS = 10
_TERM = re.compile(r"C\((\w+), _centred\[.\w+.\]\)\[custom(\d+)\]")


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
        text = f"{self.metric} by {self.formula}: {cases}; contrasts per case, CR2, {d.level:.0%} intervals."
        return f"{text} {as_sentences(notes)}".rstrip()


def ratio_of_sums(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """sum(numerator) / sum(denominator) over cases, shapes (n,), for example cost in dollars per success.

    With `weights` of the sums over the production cases that they stand for.

    Interval: exp of a t interval of the log ratio, linearised per case as x_i / mean(x) - y_i / mean(y), CR2 over
    clusters. No success at all: value None, and said. Raises DataError below two cases, ValueError for negatives.

    >>> print(ratio_of_sums([1.0, 2.0, 3.0, 1.0, 2.0, 4.0] * 5, [1, 0, 1, 1, 0, 1] * 5))
    3.2 [2.4, 4.4]
    """
    x, y = _pair(numerator, denominator)
    w = _weights(weights, x.size)
    method = f"ratio {_OF_SUMS}"
    blank = Estimate(value=None, level=open_unit(level, "level"), n=x.size, n_attempted=x.size, method=method)
    if not y.any():
        return replace(blank, notes=("the denominators add up to 0 (no success): the ratio is undefined",))
    if not x.any():
        note = "the numerators add up to 0: there is no interval around a ratio of 0"
        return replace(blank, value=0.0, notes=(note,))
    error = standard_error(_linearised(x, y, w), clusters, weights=w)
    return _exp_interval(_ratio(x, y, w), error, level=level, method=method)


def ratio_change(
    baseline: tuple[ArrayLike, ArrayLike],
    candidate: tuple[ArrayLike, ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """The candidate's ratio over the baseline's (1.12 = 12% more per success), paired by case.

    Each arm is its (numerator, denominator). Raises DataError where a sum is 0: the change is undefined then.

    >>> arm_a, arm_b = ([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 1]), ([1.1, 2.0, 3.5, 4.2], [1, 1, 0, 1])
    >>> print(ratio_change(arm_a, arm_b))
    1.08 [0.97, 1.21]
    """
    (x_a, y_a), (x_b, y_b) = _pair(*baseline), _pair(*candidate)
    if x_a.size != x_b.size:
        raise ValueError(f"baseline has {x_a.size} cases, candidate {x_b.size}: pair them by id first")
    if not (x_a.any() and y_a.any() and x_b.any() and y_b.any()):
        raise DataError("costs or successes of an arm add up to 0: the change of the ratio is undefined")
    w = _weights(weights, x_a.size)
    error = standard_error(_linearised(x_b, y_b, w) - _linearised(x_a, y_a, w), clusters, weights=w)
    change = _ratio(x_b, y_b, w) / _ratio(x_a, y_a, w)
    return _exp_interval(change, error, level=level, method=f"ratio of two paired ratios {_OF_SUMS}")


def _pair(numerator: ArrayLike, denominator: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x = floats(numerator, "numerator", at_least=2)
    y = floats(denominator, "denominator", length=x.size)
    if (x < 0).any() or (y < 0).any():
        raise ValueError("numerators and denominators must be 0 or more")
    return x, y


def _ratio(x: FloatArray, y: FloatArray, w: FloatArray) -> float:
    return float((w * x).sum() / (w * y).sum())


def _linearised(x: FloatArray, y: FloatArray, w: FloatArray) -> FloatArray:
    """Each case's pull on log(sum(w x) / sum(w y)), weights of mean 1; their weighted mean is 0."""
    return np.asarray(x / (w * x).mean() - y / (w * y).mean())


def _exp_interval(value: float, error: StandardError, *, level: float, method: str) -> Estimate:
    reach = math.exp(two_sided(level, error.df) * error.se)
    return Estimate(
        value=value,
        low=value / reach,
        high=value * reach,
        level=level,
        n=error.n,
        n_attempted=error.n,
        method=method,
        notes=error.notes,
    )


def quantile(values: ArrayLike, *, q: float, weights: ArrayLike | None = None) -> float:
    """The smallest value with at least a share q at or below it, shape (n,).

    Raises DataError where fewer than 10 rows lie beyond it, or where it falls among the lost ones.

    >>> quantile(range(1, 201), q=0.95)
    190.0
    """
    x = np.asarray(values, dtype=np.float64)
    beyond = min(open_unit(q, "q"), 1 - q)
    if int(x.size * beyond + 1e-9) < _LEAST_BEYOND:
        raise DataError(f"{int(np.ceil(_LEAST_BEYOND / beyond - 1e-9)):,} answers are needed, there are {x.size:,}")
    value = float(_weighted_quantiles(x, _weights(weights, x.size)[None], q)[0])
    if math.isinf(value):
        raise DataError(f"more than {1 - q:.2g} of the answers are lost")
    return value


def quantile_difference(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    q: float,
    seed: int,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2_000,
) -> Estimate:
    """The candidate's q-quantile minus the baseline's, shapes (n,) in the same order, with a percentile interval.

    Rows are pairs; repeats of a case stay rows and share a cluster. Whole clusters are resampled, both arms together,
    and the interval is stretched as Student's t of G clusters is (t(G - 1) / z times sqrt(G / (G - 1))).
    Raises DataError where fewer than 10 rows lie beyond the quantile, in fewer than 10 clusters, or where so many
    answers are lost that the interval reaches them.

    >>> fast = np.linspace(0.5, 2.5, 400)
    >>> quantile_difference(fast, fast + 1.0, q=0.95, seed=0).value
    1.0
    """
    a, b = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"baseline has {a.size} rows, candidate {b.size}: pair them by id first")
    value = quantile(b, q=q, weights=weights) - quantile(a, q=q, weights=weights)
    codes = np.arange(a.size) if clusters is None else cluster_codes(clusters, n=a.size)
    n_clusters, of_row = int(codes.max()) + 1, _weights(weights, a.size)
    if n_clusters < _LEAST_CLUSTERS:
        raise DataError(f"{n_clusters} clusters, at least {_LEAST_CLUSTERS} are needed to resample them")
    tail = (1 - open_unit(level, "level")) / 2

    def of_both(counts: FloatArray) -> FloatArray:
        drawn = counts[:, codes] * of_row
        return np.stack([_weighted_quantiles(arm, drawn, q) for arm in (a, b)], axis=1)

    ends = over_resamples(of_both, resamples=n_resamples, n_clusters=n_clusters, width=a.size, seed=seed)
    lost = np.isinf(ends).any(axis=1)
    if lost.mean() > tail / 2:
        raise DataError(f"with the answers that are lost the {100 * q:g}% quantile may lie anywhere")
    low, high = np.quantile(np.diff(ends[~lost]), [tail, 1 - tail]).tolist()
    if clusters is not None:  # few of them vary less among themselves than the quantile of a resample knows
        stretch = two_sided(level, n_clusters - 1) / two_sided(level) * (n_clusters / (n_clusters - 1)) ** 0.5
        low, high = value - (value - low) * stretch, value + (high - value) * stretch
    units = "cases" if clusters is None else "clusters"
    return Estimate(
        value=value,
        low=low,
        high=high,
        level=level,
        n=n_clusters,
        n_attempted=n_clusters,
        method=f"difference of {100 * q:g}% quantiles, percentile bootstrap over {n_clusters:,} {units}",
    )


def _weights(weights: ArrayLike | None, n: int) -> FloatArray:
    scaled = case_weights(weights, n=n)
    return np.ones(n) if scaled is None else scaled


def _weighted_quantiles(values: FloatArray, weights: FloatArray, q: float) -> FloatArray:
    """The q-quantile of the values under each row of weights (inverse of the distribution function)."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    below = np.count_nonzero(reached < q * reached[:, -1:] - 1e-9, axis=1)
    return np.asarray(values[order][below])


def factor_effects(
    scores: FloatArray,
    *,
    factors: Mapping[str, Sequence[object]],
    formula: str,
    metric: str = "score",
    bounds: Bounds | None = None,
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

    >>> grid = np.array([[0, 1, 0, 3], [1, 1, 1, 2], [0, 2, 1, 4]])
    >>> shown = factor_effects(grid, factors={"prompt": "aabb", "model": "xyxy"}, formula="prompt * model")
    >>> [(effect.name, round(effect.difference.value, 3)) for effect in shown.effects]
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
        parts = [(factor, int(i)) for factor, i in _TERM.findall(name)]
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
