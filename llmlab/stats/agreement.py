"""How well a judge agrees with people, and repeats with each other: kappa, error rates, labels needed, consistency.

What the judge is biased by is in `bias`; what the error does to a score, and how it is corrected, in `correction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, number
from llmlab.display.shown import Shown
from llmlab.stats.arrays import (
    FloatArray,
    GroupIndex,
    Values,
    cluster_sums,
    codes,
    codes_and_sizes,
    floats,
    is_missing,
    open_unit,
    over_resamples,
    places,
)
from llmlab.stats.bias import sign_flip_p
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate, mean_estimate, rows_of_cases, wilson_rate
from llmlab.stats.standard_error import bell_mccaffrey_df, two_sided

FEW_LABELS = 30  # below, a normal interval of kappa is rough, and it is said
_POWERS = {
    "unweighted": 0,
    "linear": 1,
    "quadratic": 2,
}  # of the distance between two labels, as it is held against them


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConfusionMatrix(Shown):
    """Counts of (human, judge) pairs over a fixed label set: rows are the human's labels, columns the judge's.

    `n_attempted` also counts pairs in which one of the two gave no label.
    """

    labels: tuple[Any, ...]
    counts: tuple[tuple[int, ...], ...]
    n: int
    n_attempted: int

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"human": str(label), **{f"judge {other}": count for other, count in zip(self.labels, row, strict=True)}}
            for label, row in zip(self.labels, self.counts, strict=True)
        ]

    def _sentence(self) -> str:
        same = sum(row[i] for i, row in enumerate(self.counts))
        lacking = self.n_attempted - self.n
        return f"Same label in {same:,} of {counted(self.n, 'pair')}; {lacking:,} without a label from both."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JudgeRates(Shown):
    """A pass/fail judge against people: how often it passes what they pass, and fails what they fail.

    `youden` = sensitivity + specificity - 1: 1 is a perfect judge, 0 one that knows nothing. Where its interval
    reaches 0 no score of this judge can be corrected by its error rates.
    """

    sensitivity: Estimate
    specificity: Estimate
    youden: Estimate

    def _rows(self) -> list[dict[str, object]]:
        return [{"sensitivity": self.sensitivity, "specificity": self.specificity, "Youden's J": self.youden}]

    def _sentence(self) -> str:
        if self.youden.low is None:
            return as_sentences(self.youden.notes)
        if self.youden.low <= 0:
            return "This judge is not shown to know passes from fails."
        return f"This judge knows passes from fails (Youden's J {self.youden})."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LabelsNeeded(Shown):
    """How many labelled items give an interval of the wanted half-width."""

    labels: int
    half_width: float
    level: float
    expected: float
    clustered: bool = False

    def _sentence(self) -> str:
        where = ", in clusters like these," if self.clustered else ""
        return (
            f"About {self.labels:,} labels{where} give kappa to within ±{number(self.half_width)} "
            f"({self.level:.0%} interval) if it is about {self.expected:.2g}."
        )


def confusion_matrix(human: Values, judge: Values, *, labels: Sequence[Any]) -> ConfusionMatrix:
    """Counts of label pairs over the whole scale `labels`, in its order; None and NaN are unscored and counted.

    Raises:
        DataError: a label outside the scale, unequal lengths, or a scale with fewer than two labels.

    >>> confusion_matrix([1, 1, 2, None], [1, 2, 2, 2], labels=[1, 2, 3]).counts
    ((1, 1, 0), (0, 1, 0), (0, 0, 0))
    """
    cells, scored, size = _cells(human, judge, labels)
    counts = np.bincount(cells[scored], minlength=size * size).reshape(size, size).tolist()
    return ConfusionMatrix(
        labels=tuple(labels), counts=tuple(map(tuple, counts)), n=int(scored.sum()), n_attempted=len(cells)
    )


def agreement(
    human: Values, judge: Values, *, labels: Sequence[Any], clusters: Values | None = None, level: float = 0.95
) -> Estimate:
    """The share of pairs with the same label, with Wilson's interval (with `clusters` at the effective size).

    >>> agreement([1, 1, 2], [1, 2, 2], labels=[1, 2]).value
    0.6666666666666666
    """
    cells, scored, size = _cells(human, judge, labels)
    same = cells[scored] // size == cells[scored] % size
    share = _rate(same, _groups(clusters, scored), level, "share of equal labels")
    return replace(share, n_attempted=len(cells))


def cohen_kappa(
    human: Values,
    judge: Values,
    *,
    labels: Sequence[Any],
    weights: str = "unweighted",
    clusters: Values | None = None,
    level: float = 0.95,
) -> Estimate:
    """Cohen's kappa: agreement beyond what chance would give, with its large-sample interval.

    Standard error of Fleiss, Cohen & Everitt 1969, Psychological Bulletin 72 (statsmodels' `cohens_kappa`); with
    `clusters` the CR2 standard error of its influence values. Where nothing varies (all agree) the interval comes
    from Wilson's lower end of the agreement. None, with a note why, where one of the two used a single label.

    Args:
        labels: the whole scale in its order, used or not; weighted kappa depends on it.
        weights: `unweighted` for names, `linear` or `quadratic` for ordered scales.

    >>> kappa = cohen_kappa(["a"] * 25 + ["b"] * 25, ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15, labels="ab")
    >>> round(kappa.value, 3), round(kappa.low, 3), round(kappa.high, 3)
    (0.4, 0.151, 0.649)
    """
    cells, scored, size = _cells(human, judge, labels)
    n, credit = int(scored.sum()), _credit(size, weights)
    shares = np.bincount(cells[scored], minlength=size * size).reshape(size, size) / max(n, 1)
    name = f"Cohen's kappa, {weights}"
    blank = Estimate(value=None, level=open_unit(level, "level"), n=n, n_attempted=len(cells), method=name)
    if why := _undefined(shares, n):
        return replace(blank, notes=(why,))
    value, influence = _kappa(shares, credit)
    groups = _groups(clusters, scored)
    rough = (f"{counted(n, 'label')} only: the interval is rough",) if n < FEW_LABELS else ()
    if np.trace(shares) > 1 - 1e-12:
        chance = float((credit * np.outer(shares.sum(axis=1), shares.sum(axis=0))).sum())
        alone = n if groups is None else len(np.unique(groups))
        low = ((wilson_rate(alone, alone, level=level).low or 0.0) - chance) / (1 - chance)
        note = "all labels agree: the lower end is Wilson's bound of the agreement"
        return replace(blank, value=1.0, low=low, high=1.0, notes=(*rough, note))
    half, notes = _half_width(influence.ravel()[cells[scored]], groups, level)
    if half is None:
        return replace(blank, value=value, notes=notes)
    return replace(blank, value=value, low=max(-1.0, value - half), high=min(1.0, value + half), notes=rough + notes)


def kappa_bootstrap(
    human: Values,
    judge: Values,
    *,
    labels: Sequence[Any],
    weights: str = "unweighted",
    clusters: Values | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Cohen's kappa with a percentile bootstrap interval over pairs, or over clusters.

    Pairs are resampled through the table of counts (a multinomial draw per resample: exact, and quick). Resamples
    in which kappa is undefined are left out, and said. Of G clusters the interval is stretched as Student's t is
    (t / z, at the Bell-McCaffrey degrees of freedom of their sizes, times sqrt(G / (G - 1))).

    >>> kappa_bootstrap([1, 1, 2, 2] * 10, [1, 2, 2, 2] * 10, labels=[1, 2]).value
    0.5
    """
    cells, scored, size = _cells(human, judge, labels)
    plain = cohen_kappa(human, judge, labels=labels, weights=weights, clusters=clusters, level=level)
    if plain.value is None or plain.low is None or plain.value == 1.0:
        return plain  # undefined, or Wilson's bound: resamples of equal labels would all be equal
    stretch = 1.0
    if (groups := _groups(clusters, scored)) is None:
        counts = np.bincount(cells[scored], minlength=size**2)
        tables = np.random.default_rng(seed).multinomial(plain.n, counts / plain.n, size=resamples).astype(float)
    else:
        of_pair, sizes = codes_and_sizes(groups, n=len(groups))
        n_clusters = len(sizes)
        stretch = two_sided(level, bell_mccaffrey_df(sizes)) / two_sided(level) * (n_clusters / (n_clusters - 1)) ** 0.5
        counts = np.bincount(of_pair * size**2 + cells[scored], minlength=n_clusters * size**2)
        per_cluster = counts.reshape(n_clusters, size**2).astype(float)
        tables = over_resamples(
            lambda drawn: drawn @ per_cluster, resamples=resamples, n_clusters=n_clusters, width=n_clusters, seed=seed
        )
    values = _kappas(tables.reshape(resamples, size, size), _credit(size, weights))
    defined = values[~np.isnan(values)]
    notes = plain.notes
    if len(defined) < resamples:
        notes += (f"{resamples - len(defined):,} of {resamples:,} resamples held one label only and were left out",)
    ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    low, high = (plain.value + stretch * (ends - plain.value)).clip(-1.0, 1.0).tolist()
    method = f"Cohen's kappa, {weights}, percentile bootstrap"
    return replace(plain, low=low, high=high, method=method, notes=notes)


def judge_rates(
    human: Values, judge: Values, *, positive: Any, clusters: Values | None = None, level: float = 0.95
) -> JudgeRates:
    """Sensitivity, specificity (Wilson) and Youden's J (Newcombe's hybrid interval of a difference, 1998, method 10).

    Every label other than `positive` is a negative; None and NaN are unscored. A rate without any case is undefined.
    With `clusters` both rates have Wilson's interval at the effective size, and J's takes in how the two move together
    from cluster to cluster (Zou & Donner 2008, Statistics in Medicine 27, with their correlation).

    >>> rates = judge_rates([1, 1, 0, 0, 0], [1, 0, 0, 0, 1], positive=1)
    >>> rates.sensitivity.value, round(rates.specificity.value, 3)
    (0.5, 0.667)
    """
    _require_pairs(human, judge)
    scored = np.array([not (is_missing(h) or is_missing(j)) for h, j in zip(human, judge, strict=True)], dtype=bool)
    passed, by_judge = (np.array([bool(x == positive) for x in side], dtype=bool)[scored] for side in (human, judge))
    groups = _groups(clusters, scored)
    right = passed == by_judge
    sensitivity, specificity = (
        _rate(right[kind], None if groups is None else groups[kind], level, what)
        for kind, what in ((passed, "sensitivity"), (~passed, "specificity"))
    )
    method = "Youden's J, Newcombe's hybrid interval"
    blank = Estimate(value=None, level=level, n=len(right), n_attempted=len(human), method=method)
    together = 0.0 if groups is None else _together(right, passed, groups)
    youden = _youden(blank, sensitivity, specificity, together=together)
    return JudgeRates(sensitivity=sensitivity, specificity=specificity, youden=youden)


def consistency(
    scores: ArrayLike,
    case_codes: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """The chance that two answers to the same case score the same, mean over cases with the interval of a share.

    Per case the share of equal pairs among its K repeats, sum_v m_v (m_v - 1) / (K (K - 1)) with m_v repeats at score
    v; cases with one repeat tell nothing and are only counted in `n_attempted`. `clusters` and
    `weights` have one element per case, in the order of the codes. Raises DataError where fewer than two cases have
    repeats.

    >>> consistency([1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2]).value
    0.6666666666666666
    """
    x, case = rows_of_cases(scores, case_codes)
    repeats = np.bincount(case).astype(np.float64)
    values, value_codes = np.unique(x, return_inverse=True)
    pairs, same = np.unique(case * values.size + value_codes, return_counts=True)
    equal = np.bincount(pairs // max(values.size, 1), weights=same * (same - 1.0), minlength=repeats.size)
    repeated = repeats >= 2
    if np.count_nonzero(repeated) < 2:
        raise DataError("fewer than two cases have repeats: run with repeats=2 or more to see how steady answers are")
    share = equal[repeated] / (repeats[repeated] * (repeats[repeated] - 1))
    of_case, counts = (None if design is None else np.asarray(design)[repeated] for design in (clusters, weights))
    return share_estimate(share, of_case, weights=counts, level=level, n_attempted=int(np.count_nonzero(repeats)))


def labels_for_kappa(
    half_width: float,
    *,
    expected: float,
    shares: Sequence[float] = (0.5, 0.5),
    weights: str = "unweighted",
    level: float = 0.95,
) -> LabelsNeeded:
    """Labels that give kappa to within `half_width`, for an expected kappa and the shares of the labels.

    The Fleiss-Cohen-Everitt variance at the table expected * diag(shares) + (1 - expected) * shares x shares.

    >>> print(labels_for_kappa(0.1, expected=0.6)._sentence())
    About 246 labels give kappa to within ±0.1 (95% interval) if it is about 0.6.
    """
    margin = np.asarray(shares, dtype=float)
    if len(margin) < 2 or (margin <= 0).any() or not math.isclose(float(margin.sum()), 1.0, abs_tol=1e-9):
        raise ValueError(f"shares == {list(shares)}, must be above 0 and sum to 1")
    if not 0 <= expected < 1 or half_width <= 0:
        raise ValueError(f"expected == {expected} must lie in [0, 1), half_width == {half_width} above 0")
    table = expected * np.diag(margin) + (1 - expected) * np.outer(margin, margin)
    _, influence = _kappa(table, _credit(len(margin), weights))
    centre = float((table * influence).sum())
    variance = float((table * (influence - centre) ** 2).sum())
    n = math.ceil((two_sided(level) / half_width) ** 2 * variance)
    return LabelsNeeded(labels=max(2, n), half_width=half_width, level=level, expected=expected)


def _cells(human: Values, judge: Values, labels: Sequence[Any]) -> tuple[GroupIndex, NDArray[np.bool_], int]:
    """The cell human * size + judge of every pair, which pairs are scored, and the size of the scale."""
    place = {label: i for i, label in enumerate(labels)}
    if len(place) < 2 or len(place) < len(labels):
        raise DataError(f"labels == {list(labels)}: the scale needs at least two labels, each once")
    _require_pairs(human, judge)
    rule = f" is not on the scale {list(place)}"
    first, second = places(human, place, name="human", rule=rule), places(judge, place, name="judge", rule=rule)
    scored = (first >= 0) & (second >= 0)
    return first * len(place) + second, scored, len(place)


def _require_pairs(human: Values, judge: Values) -> None:
    if len(human) != len(judge):
        raise DataError(f"human has {len(human)} labels, judge {len(judge)}: one of each per item is needed")


def _groups(clusters: Values | None, scored: NDArray[np.bool_]) -> GroupIndex | None:
    """The clusters of the scored pairs, numbered over all pairs."""
    return None if clusters is None else codes(clusters, "clusters", length=len(scored))[0][scored]


def _credit(size: int, weights: str) -> FloatArray:
    """What a pair of labels counts as agreement, shape (size, size): 1 for the same."""
    if weights not in _POWERS:
        raise ValueError(f"weights == {weights!r}, must be one of {list(_POWERS)}")
    if not _POWERS[weights]:
        return np.eye(size)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / (size - 1)
    return np.asarray(1.0 - distance ** _POWERS[weights])


def _kappa(shares: FloatArray, credit: FloatArray) -> tuple[float, FloatArray]:
    """Kappa and the influence of one pair in each cell, up to a constant."""
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    chance = float(rows @ credit @ columns)
    value = (float((credit * shares).sum()) - chance) / (1 - chance)
    typical = (credit @ columns)[:, None] + (rows @ credit)[None, :]
    influence: FloatArray = (credit - typical * (1 - value)) / (1 - chance)
    return value, influence


def _half_width(influence: FloatArray, groups: GroupIndex | None, level: float) -> tuple[float | None, tuple[str, ...]]:
    """Half the interval of a mean influence; None, with the reason, where there is no honest one."""
    if float(np.ptp(influence)) < 1e-12:
        return None, ("no variation among the pairs: there is no interval",)
    if groups is None:
        return two_sided(level) * float(influence.std()) / math.sqrt(len(influence)), ()
    if len(np.unique(groups)) < 2:
        return None, ("one cluster only: there is no interval",)
    clustered = mean_estimate(influence, groups, level=level)
    return ((clustered.high or 0.0) - (clustered.low or 0.0)) / 2, clustered.notes


def _kappas(tables: FloatArray, credit: FloatArray) -> FloatArray:
    """Kappa of each table, NaN where it is undefined."""
    totals = tables.sum(axis=(1, 2))
    seen = np.einsum("tij,ij->t", tables, credit) / totals
    chance = np.einsum("ti,ij,tj->t", tables.sum(axis=2), credit, tables.sum(axis=1), optimize=True) / totals**2
    defined = chance < 1 - 1e-12
    return np.where(defined, (seen - chance) / np.where(defined, 1 - chance, 1.0), np.nan)


def _undefined(shares: FloatArray, n: int) -> str:
    if n < 2:
        return f"{n} labelled {'pair' if n == 1 else 'pairs'}: kappa needs at least 2"
    advice = "; label items of the other kind too"
    for rater, margin, then in (("people", shares.sum(axis=1), advice), ("the judge", shares.sum(axis=0), "")):
        if (margin > 0).sum() < 2:
            return f"{rater} gave every item the same label: kappa is undefined{then}"
    return ""


def _rate(hits: NDArray[np.bool_], groups: GroupIndex | None, level: float, what: str) -> Estimate:
    if not len(hits):
        return Estimate(value=None, level=level, method=what, notes=(f"no items to take the {what} from",))
    share = share_estimate(hits, groups, level=level)
    return replace(share, method=f"{what}, {share.method.removeprefix('share, ')}")


def _together(right: NDArray[np.bool_], passed: NDArray[np.bool_], groups: GroupIndex) -> float:
    """The correlation of sensitivity and specificity over clusters, from the cluster sums of their residuals."""
    if passed.all() or not passed.any():
        return 0.0
    of_passes, of_fails = (
        cluster_sums(np.where(kind, right - right[kind].mean(), 0.0), groups) for kind in (passed, ~passed)
    )
    spread = math.sqrt(float(of_passes @ of_passes) * float(of_fails @ of_fails))
    return float(of_passes @ of_fails) / spread if spread > 0 else 0.0


def _youden(blank: Estimate, sensitivity: Estimate, specificity: Estimate, *, together: float) -> Estimate:
    if sensitivity.value is None or specificity.value is None:
        return replace(blank, notes=("people passed all or failed all items: labels of both kinds are needed",))
    value = sensitivity.value + specificity.value - 1
    if None in (sensitivity.low, specificity.low):
        return replace(blank, value=value, notes=tuple(dict.fromkeys((*sensitivity.notes, *specificity.notes))))
    ends = np.array([(rate.low, rate.high) for rate in (sensitivity, specificity)], dtype=float)
    a, b = np.abs(ends - np.array([[sensitivity.value], [specificity.value]]))
    down, up = np.sqrt(np.maximum(a**2 + b**2 + 2 * together * a * b, 0.0))
    return replace(blank, value=value, low=max(-1.0, value - float(down)), high=min(1.0, value + float(up)))


def mcnemar(baseline: ArrayLike, candidate: ArrayLike) -> float:
    """McNemar's exact p (1947) of two vectors of passes over the same cases: do as many get better as get worse?

    Two-sided binomial over the cases on which the arms disagree; without one it is 1.

    >>> round(mcnemar([1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]), 4)
    0.2188
    """
    before, after = floats(baseline, "baseline"), floats(candidate, "candidate")
    if before.shape != after.shape:
        raise ValueError(f"baseline has {before.size} cases, candidate {after.size}: pair them by id first")
    if not np.isin((before, after), (0.0, 1.0)).all():
        raise ValueError("mcnemar needs 0 and 1, one answer per case: use `mean_difference` for other scores")
    return sign_flip_p(after - before)
