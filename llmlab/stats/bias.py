"""What a pairwise judge is moved by besides quality: position, length, and who wrote the answer.

Verdicts name the winning output as 1, 2 or "tie", already mapped back: in order 1 output 1 was shown first, in order
2 output 2 was. None is a missing verdict. The regressions whose rows may come in clusters are here too: `logit_fit`,
and `clustered_contrast` for graded judges and for corrections by labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted, p_text
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray, GroupIndex, Values, cluster_sums, codes, floats, open_unit, places
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate
from llmlab.stats.standard_error import t_tail, two_sided

STEPS = 50
_NO_NOISE = 1e-9  # a standard error of rounding alone
_SEPARATED = 25.0  # a linear predictor beyond this means fitted probabilities of 0 or 1
_WINNERS = {1: 1, 2: 2, "1": 1, "2": 2, "tie": 0}
MISSING = -1


class LogitFit(NamedTuple):
    """Coefficients, standard errors and the degrees of freedom to read each with (infinite: normal), shape (K,).

    `alone` says which hang on one cluster, so that nothing tells how sure they are.
    """

    coefficients: FloatArray
    se: FloatArray
    df: FloatArray
    alone: NDArray[np.bool_]


def logit_fit(design: ArrayLike, *, outcomes: FloatArray, clusters: GroupIndex | None = None) -> LogitFit | str:
    """Maximum likelihood of P(outcome 1) = expit(design @ b); a sentence instead where there is no finite maximum.

    With `clusters` (numbered 0..G-1) the sandwich of cluster scores times G/(G-1) (N-1)/(N-K), as statsmodels'
    `Logit(...).fit(cov_type="cluster")`, read with the degrees of freedom that `clustered_contrast` gives each
    coefficient of the weighted least squares of the last step; else the inverse information.

    >>> fit = logit_fit([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]], outcomes=np.array([0.0, 1.0, 1.0, 1.0]))
    >>> fit
    'the outcome is settled by the covariates (separation): slopes are infinite'
    """
    x = np.asarray(design, dtype=float)
    if len(x) <= x.shape[1] or np.linalg.matrix_rank(x) < x.shape[1]:
        return "the covariates do not vary enough, or not apart from each other, to tell their slopes"
    if np.ptp(outcomes) == 0:
        return "every verdict is the same: slopes are undefined"
    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        predicted = x @ beta
        if np.abs(predicted).max() > _SEPARATED:
            return "the outcome is settled by the covariates (separation): slopes are infinite"
        fitted = special.expit(predicted)
        information = (x * (fitted * (1 - fitted))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (outcomes - fitted))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    fitted = special.expit(x @ beta)
    weights = fitted * (1 - fitted)
    covariance = np.linalg.inv((x * weights[:, None]).T @ x)
    if clusters is None:
        infinite, none = np.full(len(beta), np.inf), np.zeros(len(beta), dtype=bool)
        return LogitFit(beta, np.sqrt(np.diag(covariance)), df=infinite, alone=none)
    groups, (rows, terms) = int(clusters.max()) + 1, x.shape
    if groups < 2:
        return "one cluster only: nothing can be said about others"
    sums = _column_sums(x * (outcomes - fitted)[:, None], clusters)
    robust = covariance @ (sums.T @ sums) @ covariance * (groups / (groups - 1) * (rows - 1) / (rows - terms))
    least_squares = {"response": x @ beta + (outcomes - fitted) / weights, "clusters": clusters, "weights": weights}
    slopes = [clustered_contrast(x, one, **least_squares) for one in np.eye(terms)]
    df, alone = np.array([slope.df for slope in slopes]), np.array([slope.determined_by_one for slope in slopes])
    return LogitFit(beta, np.sqrt(np.diag(robust).clip(min=0)), df=df, alone=alone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A combination of coefficients; `se` 0 = no variation was seen, `determined_by_one` = it hangs on one cluster."""

    value: float
    se: float
    df: float
    low: float
    high: float
    determined_by_one: bool


def clustered_contrast(
    design: ArrayLike,
    combination: ArrayLike,
    *,
    response: FloatArray,
    clusters: GroupIndex,
    weights: FloatArray | None = None,
    level: float = 0.95,
) -> Contrast:
    """sum(combination * coefficients) of (weighted) least squares of `response` (N) on `design` (N, K).

    Rows are in `clusters` numbered 0..G-1. CR2 with an identity working model and Satterthwaite degrees of freedom:
    Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36. The K x K form of the adjustment,
    (I - Z_g Z_g')^(-1/2) Z_g = Z_g (I - Z_g' Z_g)^(-1/2), keeps it vectorised over clusters.

    Raises:
        DataError: columns of the design are linearly dependent.

    >>> fit = clustered_contrast([[1.0]] * 4, [1.0], response=np.array([0.0, 1.0, 1.0, 2.0]), clusters=np.arange(4))
    >>> round(fit.se, 6), round(fit.df, 6)
    (0.408248, 3.0)
    """
    matrix, combination = np.asarray(design, dtype=float), np.asarray(combination, dtype=float)
    if weights is not None:
        scale = np.sqrt(weights)
        matrix, response = matrix * scale[:, None], response * scale
    lengths = np.sqrt((matrix**2).sum(axis=0))
    lengths[lengths == 0] = 1.0
    left, singular, right = np.linalg.svd(matrix / lengths, full_matrices=False)
    if len(singular) < matrix.shape[1] or singular[-1] < 1e-10 * max(singular[0], 1e-300):
        raise DataError("columns of the design depend on each other: some effect cannot be told from the others")
    root = (right.T / singular) / lengths[:, None]  # coefficients = root @ those of the orthonormal columns
    orthonormal = left.T @ response
    terms = matrix.shape[1]
    residual = response - left @ orthonormal
    residual[np.abs(residual) < 1e-12 * np.abs(response).max()] = 0.0  # rounding is not variation
    products = (left[:, :, None] * left[:, None, :]).reshape(len(left), terms * terms)
    leverage = _column_sums(products, clusters).reshape(-1, terms, terms)
    values, vectors = np.linalg.eigh(np.eye(terms) - leverage)
    alone = values < 1e-9
    inverse = np.where(alone, 0.0, 1.0 / np.sqrt(np.where(alone, 1.0, values)))
    adjustment = (vectors * inverse[:, None, :]) @ vectors.transpose(0, 2, 1)
    scores = np.einsum("gij,gj->gi", adjustment, _column_sums(left * residual[:, None], clusters))
    direction = root.T @ combination
    value, df = float(combination @ (root @ orthonormal)), _freedom(adjustment @ direction, leverage)
    se = math.sqrt(float(((scores @ direction) ** 2).sum()))
    half = two_sided(level, df) * se
    along = np.abs(np.einsum("gij,i->gj", vectors, direction)) > 1e-9 * np.linalg.norm(direction)
    by_one = bool((alone & along).any())
    return Contrast(value=value, se=se, df=df, low=value - half, high=value + half, determined_by_one=by_one)


def _freedom(adjusted: FloatArray, leverage: FloatArray) -> float:
    """tr(M)^2 / tr(M M) with M = diag(|p_g|^2) - W W' for p_g = Z_g adj_g b and w_g = leverage_g adj_g b."""
    pulled = np.einsum("gij,gj->gi", leverage, adjusted)
    own = np.einsum("gi,gi->g", adjusted, pulled)
    shared = (pulled**2).sum(axis=1)
    trace = float((own - shared).sum())
    square = float((own**2 - 2 * own * shared).sum() + ((pulled.T @ pulled) ** 2).sum())
    return max(1.0, trace**2 / square) if square > 0 and trace > 0 else 1.0


def _column_sums(rows: FloatArray, clusters: GroupIndex) -> FloatArray:
    """The sum of each column in each cluster, shape (G, columns)."""
    return np.stack([cluster_sums(column, clusters) for column in rows.T], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PositionBias(Shown):
    """What swapping the order does.

    Attributes:
        first, second: pairs in which the judge named the output shown first, or second, in BOTH orders.
        consistency: share of all pairs with the same verdict in both orders (two ties agree).
        p_value: exact binomial test of first against second (with clusters the exact test that flips the sign of
            whole clusters, which is the binomial one where each holds one pair); None where there is neither.
        accuracy_order1, accuracy_order2, accuracy_both: shares of all pairs that name the human's winner; a tie or a
            missing verdict is not right. None without human labels.
        missing: pairs without a verdict in one order or both.
    """

    first: int
    second: int
    consistency: Estimate
    p_value: float | None
    accuracy_order1: Estimate | None
    accuracy_order2: Estimate | None
    accuracy_both: Estimate | None
    n: int
    missing: int

    def _sentence(self) -> str:
        if self.p_value is None:
            return f"No verdict followed the position in {counted(self.n, 'pair')}."
        followed = self.first + self.second
        if followed == self.n > 1 and 0 in (self.first, self.second):
            place = "first" if self.first else "second"
            return f"The judge named the {place} answer in all {self.n:,} pairs, whichever it was: it compares nothing."
        verdicts = f"{followed:,} verdict{'' if followed == 1 else 's'}"
        text = f"Of {verdicts} that followed the position, {self.first:,} went to the first "
        if self.p_value >= 0.05:
            return f"{text}(p {p_text(self.p_value)}): no leaning to one position is shown."
        favoured = "first" if self.first > self.second else "second"
        return f"{text}(p {p_text(self.p_value)}): this judge favours the {favoured} answer."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BiasSlope(Shown):
    """A slope on the log-odds that output 1 is picked, at equal human verdict; None where undefined, with a note.

    `gold` is the slope of the human verdict in the same model: a judge that follows quality has a large one.
    """

    what: str
    value: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    gold: float | None = None
    gold_p_value: float | None = None
    n: int
    n_attempted: int
    clusters: int
    level: float
    method: str
    note: str = ""

    def _rows(self) -> list[dict[str, object]]:
        interval = Interval(self.value, self.low, self.high)
        return [{"slope of": self.what, "log-odds": interval, "p": p_text(self.p_value), "human verdict": self.gold}]

    def _sentence(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"The slope of {self.what} is undefined: {self.note}."
        shown = f"(slope {Interval(self.value, self.low, self.high)})"
        if self.low <= 0 <= self.high:
            text = f"The judge is not shown to follow {self.what} {shown}."
        else:
            text = f"The judge {'follows' if self.value > 0 else 'goes against'} {self.what} {shown}."
        if self.gold_p_value is not None and self.gold_p_value >= 0.05:
            text += " It is not shown to follow the human verdict."
        return f"{text} {as_sentences([self.note])}".rstrip()


def position_bias(
    order1: Values,
    order2: Values,
    *,
    gold: Values | None = None,
    clusters: Values | None = None,
    level: float = 0.95,
) -> PositionBias:
    """Counts, consistency and accuracies of verdicts in both orders (N,); intervals are Wilson's, p is exact.

    With `clusters` of pairs that are not independent the intervals are Wilson's at the effective size.

    >>> swapped = position_bias([1, 1, 2, "tie"], [2, 1, 2, None], gold=[1, 1, 1, 1])
    >>> swapped.first, swapped.second, swapped.consistency.value, swapped.accuracy_both.value, swapped.missing
    (1, 0, 0.5, 0.25, 1)
    """
    winners_1, winners_2 = _verdicts(order1, "order1"), _verdicts(order2, "order2")
    n = len(winners_1)
    if n == 0 or len(winners_2) != n:
        raise DataError(f"{n} verdicts in order 1, {len(winners_2)} in order 2: one of each per pair is needed")
    groups = None if clusters is None else codes(clusters, "clusters", length=n)[0]
    leaning = 1.0 * ((winners_1 == 1) & (winners_2 == 2)) - ((winners_1 == 2) & (winners_2 == 1))
    accuracies: list[Estimate | None] = [None, None, None]
    if gold is not None:
        people = _gold(gold, n)
        right_1, right_2 = winners_1 == people, winners_2 == people
        accuracies = [share_estimate(right, groups, level=level) for right in (right_1, right_2, right_1 & right_2)]
    return PositionBias(
        first=int((leaning > 0).sum()),
        second=int((leaning < 0).sum()),
        consistency=share_estimate((winners_1 == winners_2) & (winners_1 != MISSING), groups, level=level),
        p_value=sign_flip_p(leaning if groups is None else cluster_sums(leaning, groups)) if leaning.any() else None,
        accuracy_order1=accuracies[0],
        accuracy_order2=accuracies[1],
        accuracy_both=accuracies[2],
        n=n,
        missing=int(((winners_1 == MISSING) | (winners_2 == MISSING)).sum()),
    )


def length_slope(
    order1: Values,
    order2: Values | None = None,
    *,
    gold: Values,
    lengths_1: Values,
    lengths_2: Values,
    clusters: Values | None = None,
    level: float = 0.95,
) -> BiasSlope:
    """Slope of length in logit P(pick 1) = b0 + b1 [gold 1] + b2 tanh((length_1 - length_2) / sd).

    sd (ddof 1, difference not centred) is taken over all pairs. With `order2` both verdicts on a pair enter, and
    standard errors are clustered by item (or by `clusters` of items); order 1 alone has model-based ones. Ties and
    missing verdicts are left out and counted.

    >>> picks, gold = [1, 1, 2, 2, 1, 2], [1, 2, 1, 2, 1, 2]
    >>> slope = length_slope(picks, gold=gold, lengths_1=[9, 8, 1, 2, 3, 4], lengths_2=[5] * 6)
    >>> slope.value is None, slope.note
    (True, 'the outcome is settled by the covariates (separation): slopes are infinite')
    """
    n = len(gold)
    design = np.stack([np.ones(n), 1.0 * (_gold(gold, n) == 1), _longer(lengths_1, lengths_2, n)], axis=1)
    orders = [_verdicts(order1, "order1")] + ([] if order2 is None else [_verdicts(order2, "order2")])
    by = clusters if clusters is not None else (None if order2 is None else range(n))
    which = "order 1" if order2 is None else "both orders"
    method = f"logit, {which}, {'model-based' if by is None else 'clustered'}"
    return _slope("length", design, orders, clusters=by, level=level, method=method)


def self_preference(
    verdicts: Values,
    *,
    gold: Values,
    judges: Values,
    authors_1: Values,
    authors_2: Values,
    items: Values,
    lengths_1: Values | None = None,
    lengths_2: Values | None = None,
    level: float = 0.95,
) -> BiasSlope:
    """Slope of [judge wrote output 1] - [judge wrote output 2]: the judge x author interaction, clustered by item.

    With several judges each author's general standing is in the model too; with one judge only the human verdict
    tells the author's quality from the judge's liking, and the note says so. Lengths, where given, are in the model.

    >>> one = dict(judges=["a"] * 4, authors_1=["a", "b"] * 2, authors_2=["b", "a"] * 2, items=range(4))
    >>> self_preference([1, 2, 1, 2], gold=[1, 2, 2, 1], **one).value is None
    True
    """
    n = len(gold)
    judge, names = codes(judges, "judges", length=n)
    numbers: dict[Any, int] = {name: i for i, name in enumerate(names)}
    wrote = [
        np.array([numbers.setdefault(author, len(numbers)) for author in column], dtype=np.intp)
        for column in (authors_1, authors_2)
    ]
    if any(len(column) != n for column in wrote):
        raise DataError(f"{len(wrote[0])} and {len(wrote[1])} authors for {n} verdicts: one of each per verdict")
    columns = [np.ones(n), 1.0 * (_gold(gold, n) == 1)]
    if lengths_1 is not None and lengths_2 is not None:
        columns.append(_longer(lengths_1, lengths_2, n))
    note = "One judge only: its liking is told from its quality by the human verdict alone."
    if len(names) > 1:
        columns += [(wrote[0] == author) * 1.0 - (wrote[1] == author) for author in range(1, len(numbers))]
        note = ""
    columns.append((wrote[0] == judge) * 1.0 - (wrote[1] == judge))
    varying = [column for column in columns[2:-1] if np.ptp(column) > 0]
    return _slope(
        "its own answers",
        np.stack([*columns[:2], *varying, columns[-1]], axis=1),
        [_verdicts(verdicts, "verdicts")],
        clusters=items,
        level=level,
        method="logit with judge x author, clustered by item",
        note=note,
    )


def _slope(
    what: str,
    design: FloatArray,
    orders: Sequence[NDArray[np.intp]],
    *,
    clusters: Values | range | None,
    level: float,
    method: str,
    note: str = "",
) -> BiasSlope:
    """The last column's slope; the second column is the human verdict."""
    open_unit(level, "level")
    n = len(design)
    if any(len(order) != n for order in orders):
        raise DataError(f"{[len(order) for order in orders]} verdicts for {n} pairs: one per pair and order is needed")
    picks, stacked = np.concatenate(orders), np.tile(design, (len(orders), 1))
    scored = picks > 0
    groups, n_groups = None, int(scored.sum())
    if clusters is not None:
        index = np.tile(codes(list(clusters), "clusters", length=n)[0], len(orders))[scored]
        groups = np.unique(index, return_inverse=True)[1].astype(np.intp)
        n_groups = int(groups.max(initial=-1)) + 1
    counts = {"n": int(scored.sum()), "n_attempted": len(picks), "clusters": n_groups}
    blank = BiasSlope(what=what, **counts, level=level, method=method, note=note)
    fit = logit_fit(stacked[scored], outcomes=(picks[scored] == 1).astype(float), clusters=groups)
    if isinstance(fit, str):
        return replace(blank, note=fit)
    if min(fit.se[-1], fit.se[1]) < _NO_NOISE:
        return replace(blank, note="no pair differs from another, as where every verdict follows the position")
    if fit.alone[-1]:
        return replace(blank, note="it hangs on one item, or on the items of one cluster")
    (value, se, df), (gold, gold_se, gold_df) = ([float(part[i]) for part in fit[:3]] for i in (-1, 1))
    half = two_sided(level, df) * se
    p_value, gold_p_value = 2 * t_tail(abs(value / se), df), 2 * t_tail(abs(gold / gold_se), gold_df)
    slope = replace(blank, value=value, se=se, low=value - half, high=value + half, p_value=p_value)
    return replace(slope, gold=gold, gold_p_value=gold_p_value)


def _verdicts(values: Values, name: str) -> NDArray[np.intp]:
    return places(values, _WINNERS, name=name, rule=", must be 1, 2, 'tie' or missing")


def _gold(gold: Values, n: int) -> NDArray[np.intp]:
    winners = _verdicts(gold, "gold")
    if len(winners) != n or not np.isin(winners, (1, 2)).all():
        raise DataError("gold must name output 1 or 2 for every pair: leave unlabelled pairs out")
    return winners


def _longer(lengths_1: Values, lengths_2: Values, n: int) -> FloatArray:
    """How much longer output 1 is, in standard deviations of that difference, squeezed between -1 and 1."""
    difference = floats(lengths_1, "lengths_1", length=n) - floats(lengths_2, "lengths_2", length=n)
    varies = n > 1 and np.ptp(difference) > 0
    return np.tanh(difference / difference.std(ddof=1)) if varies else np.zeros(n)


def sign_flip_p(sums: FloatArray) -> float:
    """The exact two-sided p of the sum under flips of each unit's sign, for whole numbers; of -1 and 1 McNemar's.

    The sum of n_s flips of size s has the characteristic function cos(s t)^n_s; the product over s is turned back into
    probabilities by FFT, exact to about 1e-15.
    """
    sizes, counts = np.unique(np.abs(sums[sums != 0]).astype(int), return_counts=True)
    total, seen = int(sizes @ counts), abs(int(sums.sum()))
    if not seen:
        return 1.0
    if sizes.tolist() == [1]:
        return float(min(1.0, 2 * special.bdtr((total - seen) // 2, total, 0.5)))
    angles = 2 * np.pi * np.arange(2 * total + 1) / (2 * total + 1)
    characteristic = np.ones(len(angles))
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angles) ** count
    chances = np.fft.ifft(characteristic).real  # of the sums 0, 1, .. total, -total, .. -1
    return float(min(1.0, max(0.0, 2 * chances[seen : total + 1].sum())))
