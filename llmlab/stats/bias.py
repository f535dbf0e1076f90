"""What a pairwise judge is moved by besides quality: position, length, and who wrote the answer.

Verdicts name the winning output as 1, 2 or "tie", already mapped back: in order 1 output 1 was shown first, in order
2 output 2 was. None is a missing verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from llmlab.base.cells import as_sentences
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, p_text
from llmlab.display.shown import Shown
from llmlab.stats.arrays import (
    FloatArray,
    GroupIndex,
    Values,
    cluster_sums,
    codes,
    column_sums,
    floats,
    open_unit,
    places,
)
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate
from llmlab.stats.standard_error import t_tail, two_sided

__all__ = ["BiasSlope", "LogitFit", "PositionBias", "length_slope", "logit_fit", "position_bias", "self_preference"]

_STEPS = 50
_NO_NOISE = 1e-9  # a standard error of rounding alone
_SEPARATED = 25.0  # a linear predictor beyond this means fitted probabilities of 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitFit:
    """Coefficients, standard errors and the degrees of freedom to read them with (infinite: normal)."""

    coefficients: FloatArray
    se: FloatArray
    df: float


def logit_fit(design: npt.ArrayLike, *, outcomes: FloatArray, clusters: GroupIndex | None = None) -> LogitFit | str:
    """Maximum likelihood of P(outcome 1) = expit(design @ b); a sentence instead where there is no finite maximum.

    With `clusters` (numbered 0..G-1) the sandwich of cluster scores times G/(G-1) (N-1)/(N-K) and t with G - 1
    degrees of freedom, as statsmodels' `Logit(...).fit(cov_type="cluster")`; else the inverse information.

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
    for _ in range(_STEPS):
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
    covariance = np.linalg.inv((x * (fitted * (1 - fitted))[:, None]).T @ x)
    if clusters is None:
        return LogitFit(coefficients=beta, se=np.sqrt(np.diag(covariance)), df=np.inf)
    groups, (rows, terms) = int(clusters.max()) + 1, x.shape
    if groups < 2:
        return "one cluster only: nothing can be said about others"
    scores = x * (outcomes - fitted)[:, None]
    sums = column_sums(scores, clusters)
    robust = covariance @ (sums.T @ sums) @ covariance * (groups / (groups - 1) * (rows - 1) / (rows - terms))
    return LogitFit(coefficients=beta, se=np.sqrt(np.diag(robust).clip(min=0)), df=groups - 1.0)


_CODES = {1: 1, 2: 2, "1": 1, "2": 2, "tie": 0}
_MISSING = -1


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
            return f"No verdict followed the position in {self.n:,} pairs."
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
    one, two = _verdicts(order1, "order1"), _verdicts(order2, "order2")
    n = len(one)
    if n == 0 or len(two) != n:
        raise DataError(f"{n} verdicts in order 1, {len(two)} in order 2: one of each per pair is needed")
    first, second = int(((one == 1) & (two == 2)).sum()), int(((one == 2) & (two == 1)).sum())
    groups = None if clusters is None else codes(clusters, "clusters", length=n)[0]
    leaning = np.where((one == 1) & (two == 2), 1.0, 0.0) - np.where((one == 2) & (two == 1), 1.0, 0.0)
    right: list[Estimate | None] = [None, None, None]
    if gold is not None:
        wanted = _gold(gold, n)
        hits = (one == wanted, two == wanted, (one == wanted) & (two == wanted))
        right = [share_estimate(hit, groups, level=level) for hit in hits]
    return PositionBias(
        first=first,
        second=second,
        consistency=share_estimate((one == two) & (one != _MISSING), groups, level=level),
        p_value=_flipped_p(leaning if groups is None else cluster_sums(leaning, groups)) if first + second else None,
        accuracy_order1=right[0],
        accuracy_order2=right[1],
        accuracy_both=right[2],
        n=n,
        missing=int(((one == _MISSING) | (two == _MISSING)).sum()),
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
    place: dict[Any, int] = {name: i for i, name in enumerate(names)}
    wrote = [
        np.array([place.setdefault(author, len(place)) for author in column], dtype=np.intp)
        for column in (authors_1, authors_2)
    ]
    if any(len(column) != n for column in wrote):
        raise DataError(f"{len(wrote[0])} and {len(wrote[1])} authors for {n} verdicts: one of each per verdict")
    columns = [np.ones(n), 1.0 * (_gold(gold, n) == 1)]
    if lengths_1 is not None and lengths_2 is not None:
        columns.append(_longer(lengths_1, lengths_2, n))
    note = "One judge only: its liking is told from its quality by the human verdict alone."
    if len(names) > 1:
        columns += [(wrote[0] == author) * 1.0 - (wrote[1] == author) for author in range(1, len(place))]
        note = ""
    columns.append((wrote[0] == judge) * 1.0 - (wrote[1] == judge))
    kept = [column for i, column in enumerate(columns) if i < 2 or np.ptp(column) > 0 or i == len(columns) - 1]
    return _slope(
        "its own answers",
        np.stack(kept, axis=1),
        [_verdicts(verdicts, "verdicts")],
        clusters=items,
        level=level,
        method="logit with judge x author, clustered by item",
        note=note,
    )


def _slope(
    what: str,
    design: FloatArray,
    orders: Sequence[npt.NDArray[np.intp]],
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
    groups, count = None, int(scored.sum())
    if clusters is not None:
        index = np.tile(codes(list(clusters), "clusters", length=n)[0], len(orders))[scored]
        groups = np.unique(index, return_inverse=True)[1].astype(np.intp)
        count = int(groups.max()) + 1 if len(groups) else 0
    about = {"n": int(scored.sum()), "n_attempted": len(picks), "clusters": count}
    blank = BiasSlope(what=what, **about, level=level, method=method, note=note)
    fit = logit_fit(stacked[scored], outcomes=(picks[scored] == 1).astype(float), clusters=groups)
    if isinstance(fit, str):
        return replace(blank, note=fit)
    if min(fit.se[-1], fit.se[1]) < _NO_NOISE:
        return replace(blank, note="no pair differs from another, as where every verdict follows the position")
    value, se, gold, gold_se = (float(part[i]) for i in (-1, 1) for part in (fit.coefficients, fit.se))
    half = two_sided(level, fit.df) * se
    p_value, gold_p_value = (2 * t_tail(abs(statistic), fit.df) for statistic in (value / se, gold / gold_se))
    read = replace(blank, value=value, se=se, low=value - half, high=value + half, p_value=p_value)
    return replace(read, gold=gold, gold_p_value=gold_p_value)


def _verdicts(values: Values, name: str) -> npt.NDArray[np.intp]:
    return places(values, _CODES, name=name, rule=", must be 1, 2, 'tie' or missing")


def _gold(gold: Values, n: int) -> npt.NDArray[np.intp]:
    winners = _verdicts(gold, "gold")
    if len(winners) != n or not np.isin(winners, (1, 2)).all():
        raise DataError("gold must name output 1 or 2 for every pair: leave unlabelled pairs out")
    return winners


def _longer(lengths_1: Values, lengths_2: Values, n: int) -> FloatArray:
    """How much longer output 1 is, in standard deviations of that difference, squeezed between -1 and 1."""
    difference = floats(lengths_1, "lengths_1", length=n) - floats(lengths_2, "lengths_2", length=n)
    varies = n > 1 and np.ptp(difference) > 0
    return np.tanh(difference / difference.std(ddof=1)) if varies else np.zeros(n)


def _flipped_p(sums: FloatArray) -> float:
    """The exact two-sided p of the sum under flips of each unit's sign, for whole numbers.

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
