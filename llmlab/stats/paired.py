"""Is B better than A on the same cases: the mean paired difference with its test and interval.

The mean decides, never a rank test: 27 small gains do not outvote 3 collapses. `results`, `gate` and the command
line read every interval they need off one `PairedDifference`. Between bounds a difference is known only as well as
both Student's t and the score test of `bounded` say: p is the larger of the two, the interval reaches as far as the
wider, so that p and interval agree at every level.

Where fewer than 7 cases (or clusters) differ at all, "no difference" is tested by their signs too (exact: all patterns;
of pass/fail scores McNemar's exact test). The border is `bounded.ENOUGH`. It was chosen by how often p <= .05 where so
many of 100 cases differ, each way as likely ("gains": where four of five gain, shown as gains), in percent by
enumeration of every pattern of signs; graded: all cases differ, by normal or evenly spread amounts, or all but one
by a tenth of that one.

| cases that differ | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 12 | 14 | 17 | 20 | 30 | 50 | 100 |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| pass/fail, t | 12.5 | 6.2 | 3.1 | 1.6 | 7.0 | 3.9 | 2.1 | 3.9 | 5.7 | 4.9 | 4.1 | 4.3 | 6.5 | 5.7 |
| McNemar's mid-p | 0 | 6.2 | 3.1 | 1.6 | 7.0 | 3.9 | 2.1 | 3.9 | 5.7 | 4.9 | 4.1 | 4.3 | 6.5 | 5.7 |
| signs, exact | 0 | 0 | 3.1 | 1.6 | 0.8 | 3.9 | 2.1 | 3.9 | 1.3 | 4.9 | 4.1 | 4.3 | 3.3 | 3.5 |
| gains, t | 41 | 33 | 26 | 21 | 50 | 44 | 38 | 56 | 70 | 76 | 80 | 94 | 100 | 100 |
| gains, signs | 0 | 0 | 26 | 21 | 17 | 44 | 38 | 56 | 45 | 76 | 80 | 94 | 99 | 100 |
| graded, t: normal | | 6.2 | 6.2 | 6.2 | 4.7 | 5.1 | 5.3 | 5.1 | 5.0 | | | | | |
| even | | 6.2 | 6.2 | 6.2 | 5.5 | 5.1 | 5.5 | 5.6 | 5.1 | | | | | |
| one far off | | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0.2 | | | | | |

Over all numbers that can differ by chance, t and the score test together reject in at most 5.9% (7 to 60 cases of which
up to 95% differ). Exact tests would reject in 3.5% on average from 7 on, and lose gains. Of skewed differences around 0
neither holds: t 8% and the signs 8% of 10 lognormal ones (sigma .5), for which there is a note.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from llmlab.base.cells import as_sentences
from llmlab.base.numbers import ROUNDING, Interval
from llmlab.display.shown import Shown
from llmlab.stats.arrays import Bounds, FloatArray, GroupIndex, cluster_codes, cluster_sums, floats, paired_differences
from llmlab.stats.bounded import ENOUGH, FAR, BoundedMean, bounded_mean, carriers, effective_cases, enough_differ
from llmlab.stats.standard_error import (
    TOO_FEW_DF,
    StandardError,
    skew_notes,
    standard_error,
    t_quantile,
    t_tail,
    two_sided,
)

_ENOUGH_FOR_T = 10  # cases: with fewer the degrees of freedom say it
_FEW_CARRY = 3  # cases: normal and gamma differences seldom come so uneven; of lognormal ones `skew_notes` says it
FAR_OFF = "one to three far-off cases make most of the variation: t may be too sure of the mean"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairedDifference(Shown):
    """A difference between two arms on the same cases, with its test. Any interval can be read off it.

    Attributes:
        value: candidate minus baseline.
        low, high: two-sided interval at `level`, its confidence.
        se, df: standard error, degrees of freedom of Student's t.
        p_value: two-sided, against no difference.
        n, n_clusters: cases, and clusters they come in (equal to `n` for independent cases).
        effective: where cases are weighted, how many equal cases (or clusters) tell as much; None = not weighted.
        bounded: the score test of the same differences, where they have bounds and few differ.
        bounds: of the differences, which no interval leaves; None = they have none.
        signs: one-sided p of the sign-flip test against "no difference" in the direction of `value`, where fewer than
            7 cases (clusters) differ.
        step: what a case changes by, where every case passes or fails; 0 where scores are graded.
        method, notes: the estimator in the field's words, and plain sentences on what weakens it.
    """

    value: float
    low: float
    high: float
    level: float
    se: float
    df: float
    p_value: float
    n: int
    n_clusters: int
    method: str
    effective: float | None = None
    bounded: BoundedMean | None = field(default=None, compare=False)
    bounds: Bounds | None = field(default=None, compare=False)
    signs: float | None = None
    step: float = 0.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{Interval(self.value, self.low, self.high)}, p = {self.p_value:.3g}"

    def _rows(self) -> list[dict[str, object]]:
        return [{name: getattr(self, name) for name, its in self.__dataclass_fields__.items() if its.compare}]

    def _sentence(self) -> str:
        return as_sentences(self.notes)

    @property
    def too_few_clusters(self) -> bool:
        """True where there are too few independent clusters (under 4 effective df) for a verdict to rest on."""
        return self.df < TOO_FEW_DF

    @property
    def independent(self) -> float:
        """How many equally weighted independent cases or clusters it rests on."""
        return self.n_clusters if self.effective is None else self.effective

    def interval(self, level: float) -> Interval:
        """The two-sided interval at another level, from the same estimate.

        >>> difference = mean_difference([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
        >>> print(difference.interval(0.90))
        0.8 [-0.3, 1.8]
        """
        return Interval(self.value, *self.ends(level))

    def ends(self, level: float) -> tuple[float, float]:
        """The two ends of that interval."""
        half = two_sided(level, self.df) * self.se
        low, high = self.value - half, self.value + half
        if self.bounded is not None:
            least, most = self.bounded.ends((1 - level) / 2)
            low, high = max(min(low, least), self.bounded.low), min(max(high, most), self.bounded.high)
        elif self.bounds is not None:
            low, high = max(low, self.bounds[0]), min(high, self.bounds[1])
        if self.signs is None or 2 * self.signs <= 1 - level:
            return low, high
        return min(low, 0.0), max(high, 0.0)

    def p_above(self, bound: float) -> float:
        """One-sided p value against "the difference is `bound` or less"; small = it lies above the bound."""
        reach, score = self.value - bound, None if self.bounded is None else self.bounded.p_above(bound)
        if self.se > 0:
            p = t_tail(reach / self.se, self.df)
            p = p if score is None or reach <= 0 else max(p, score)
        elif score is not None:
            p = score
        else:
            p = float(2.0**-self.n_clusters) if reach > 0 else 1.0
        return p if bound < 0 or self.signs is None or self.value <= 0 else max(p, self.signs)

    def p_below(self, bound: float) -> float:
        """One-sided p value against "the difference is `bound` or more"; small = it lies below the bound."""
        return self.turned.p_above(-bound)

    @property
    def turned(self) -> PairedDifference:
        """Baseline minus candidate."""
        mirrored = None if self.bounded is None else self.bounded.mirrored
        bounds = None if self.bounds is None else (-self.bounds[1], -self.bounds[0])
        return replace(self, value=-self.value, low=-self.high, high=-self.low, bounded=mirrored, bounds=bounds)


def mean_difference(
    differences: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """The mean of per-case differences (candidate minus baseline, shape (n,)) with a test and interval.

    Each case counts once: reduce its repeats first (`estimate.reduce_repeats`). Cases that share a cluster label are
    not taken as independent (CR2 with Bell-McCaffrey degrees of freedom; without clusters Student's paired t, Miller
    2024, arXiv 2411.00640). The estimand: the mean difference over cases drawn like these; with `weights`, over the
    production cases that they stand for (equal weights change nothing). `bounds` are those of a difference, -1 and 1
    for scores from 0 to 1: where given, rare harm that few cases show is reckoned with (`bounded`); without them a
    note says where a few cases carry the mean and t is too sure.

    Raises DataError below two cases or clusters, or beyond the bounds, ValueError for NaN.

    >>> print(mean_difference([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]))
    1.6 [0.7, 2.5], p = 0.00283
    >>> print(mean_difference([1, 1, 1, -1] + [0] * 96), mean_difference([1, 1, 1, -1] + [0] * 96, bounds=(-1, 1)))
    0.020 [-0.020, 0.060], p = 0.625 0.02 [-0.03, 0.08], p = 0.625
    """
    d = floats(differences, "differences", at_least=2)
    mean = _mean(d, clusters, weights=weights, bounds=bounds, level=level)
    units = d if mean.effective is None else d * np.asarray(weights, dtype=np.float64)
    if bounds is not None and np.isin(np.abs(d), (0.0, bounds[1])).all():
        mean = replace(mean, step=bounds[1])
    return _with_signs(mean, units if clusters is None else cluster_sums(units, cluster_codes(clusters, n=d.size)))


def _sign_flips(units: FloatArray) -> float:
    """The share of all patterns of signs in which the units, shape (n,), sum as far from 0 on their side as here.

    Under "no difference" the two arms of a case may be swapped, or those of a whole cluster, which flips its sign. One
    half of the two-sided p value.

    >>> _sign_flips(np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])) * 2  # Student's sleep data
    0.00390625
    """
    dust, sums = 1e-12 * float(np.abs(units).sum()), np.zeros(1)
    for unit in np.abs(units[np.abs(units) > dust]):
        sums = np.concatenate([sums + unit, sums - unit])
    return float((sums >= abs(float(units.sum())) - dust).mean())


def t_difference(
    value: float, error: StandardError, *, level: float, method: str, bounds: Bounds | None = None
) -> PairedDifference:
    """A PairedDifference from an estimate and its standard error; the degenerate cases are settled here."""
    unit, notes = "case" if error.n_clusters == error.n else "cluster", tuple[str, ...]()
    if error.se > 0:
        p_value = 2 * t_tail(abs(value) / error.se, error.df)
        if error.n == 2:
            p_value, notes = max(p_value, 0.5), ("two cases cannot show a difference: p is 0.5 or more",)
    elif value == 0:
        p_value, notes = 1.0, (f"no difference seen: the arms agree on every {unit}",)
    else:
        p_value = float(2.0 ** (1 - error.n_clusters))  # the smallest that flipping the signs of so many can give
        same = f"every {unit} differs by the same amount: the interval has no width, which is not certainty"
        notes = (f"{same}, and p is that of the sign-flip test",)
    blank = PairedDifference(
        value=value,
        low=value,
        high=value,
        level=level,
        se=error.se,
        df=error.df,
        p_value=p_value,
        n=error.n,
        n_clusters=error.n_clusters,
        method=method,
        effective=error.effective,
        bounds=bounds,
        notes=error.notes + notes,
    )
    low, high = blank.ends(level)
    return replace(blank, low=low, high=high)


def _mean(
    d: FloatArray, clusters: ArrayLike | None, *, weights: ArrayLike | None, bounds: Bounds | None, level: float
) -> PairedDifference:
    """The mean with the tests that hold at any bound; those of "no difference" alone are not among them."""
    error = standard_error(d, clusters, weights=weights)
    way = f"CR2 over {error.n_clusters:,} clusters" if clusters is not None else "cases independent"
    name = "mean" if error.effective is None else "weighted mean"
    w = None if error.effective is None else np.asarray(weights, dtype=np.float64)
    method = f"{name} paired difference, t test, {way}"
    value = float(np.average(d, weights=w))
    value = 0.0 if abs(value) <= ROUNDING * float(np.abs(d).max()) else value  # whatever the order of the cases
    by_t = t_difference(value, error, level=level, method=method, bounds=bounds)
    of_case = None if clusters is None else cluster_codes(clusters, n=d.size)
    if bounds is not None:
        return _with_bounds(by_t, d, of_case, w, bounds)
    if error.se == 0 or d.size < _ENOUGH_FOR_T:
        return by_t
    off = d - by_t.value
    few = carriers(off, w, of_case) < _FEW_CARRY
    notes = (FAR_OFF,) if few else skew_notes(off if w is None else w * off, of_case)
    return replace(by_t, notes=(*by_t.notes, *notes))


def _with_signs(mean: PairedDifference, units: FloatArray) -> PairedDifference:
    differ = int(np.count_nonzero(np.abs(units) > 1e-12 * np.abs(units).max()))
    if mean.value == 0 or not 0 < differ < ENOUGH:
        return mean
    signs = _sign_flips(units)
    both = replace(mean, signs=signs, p_value=max(mean.p_value, min(1.0, 2 * signs)))
    low, high = both.ends(mean.level)
    return replace(both, low=low, high=high, method=mean.method.replace("t test", "t test and signs"))


def _with_bounds(
    by_t: PairedDifference, d: FloatArray, of_case: GroupIndex | None, weights: FloatArray | None, bounds: Bounds
) -> PairedDifference:
    """The difference with the score test beside t's where few cases differ, and its p value and interval by both."""
    if of_case is not None and by_t.too_few_clusters and by_t.se > 0:
        return by_t  # no verdict rests on it
    if enough_differ(d, weights, of_case=of_case, bounds=bounds, se=by_t.se):
        return by_t
    sides = np.maximum(d, 0.0), np.maximum(-d, 0.0)
    size, few = (effective_cases(d, weights, of_case=of_case, variance=by_t.se**2, sides=of) for of in (sides, None))
    bounded = bounded_mean(d, weights, low=bounds[0], high=bounds[1], size=size, df=by_t.df)
    notes = by_t.notes if by_t.se > 0 or by_t.value == 0 else ()  # with bounds it has a width
    bounded = replace(bounded, few=few)
    both = replace(by_t, bounded=bounded, method=by_t.method.replace("t test", "t and score tests", 1), notes=notes)
    low, high = both.ends(by_t.level)
    return replace(both, low=low, high=high, p_value=min(1.0, 2 * min(both.p_above(0.0), both.p_below(0.0))))


def tables_above(gained: FloatArray, lost: FloatArray, *, n: int, bound: float, tail: float) -> NDArray[np.bool_]:
    """Whether p_above(bound) is below `tail` where of n independent cases so many gain and lose 1, shapes (k,).

    The tests of `mean_difference` between -1 and 1, all tables at once; the score test in Tango's closed form.

    >>> tables_above(np.array([7.0, 5.0]), np.array([0.0, 0.0]), n=100, bound=0.0, tail=0.025)
    array([ True, False])
    """
    q, bound = t_quantile(1 - tail, n - 1), max(bound, -1.0)
    mean, differ, reach = (gained - lost) / n, gained + lost, (gained - lost) / n - bound
    se = np.sqrt(np.maximum(differ - n * mean**2, 0.0) / (n - 1) / n)
    above = (reach > 1e-12) & (reach >= q * se)
    b = (2 * n - gained + lost) * bound - differ
    share_lost = (np.sqrt(np.maximum(b * b + 8 * n * lost * bound * (1 - bound), 0.0)) - b) / (4 * n)
    score = n * reach >= q * np.sqrt(n * np.maximum(2 * share_lost + bound * (1 - bound), 0.0))
    enough = (np.minimum(gained, lost) >= ENOUGH) & (np.abs(mean) + FAR * se < 1)
    above &= enough | score
    alike = (differ == 0) | (gained == n)
    above &= ~alike | ((1 - reach / np.maximum(mean + 1, 1e-12)).clip(0, 1) ** n <= tail)
    if bound >= 0:
        above &= (differ >= ENOUGH) | (special.bdtrc(gained - 1, differ.astype(np.intp), 0.5) <= tail)
    return above


def relative_margin_difference(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """The mean of candidate - (1 + margin) * baseline per case: below 0 where the change stays within the margin.

    "Cost up by at most 10%" is margin=0.10 and `p_below(0)`; "quality down by at most 5%" is margin=-0.05 and
    `p_above(0)`. The baseline's own noise is part of the test, unlike with a margin worked out from its mean.
    `bounds` are those of a score. Without them t alone is read, which is too sure where dear answers are rare. Share of
    1,500 draws (bootstrap: 500) with p_below(0) <= .05 where the true change is the margin (nominal 5), in percent.
    Hall's transformation (1992) and the bootstrap-t help where the differences themselves are lognormal, and not where
    a skewed baseline is multiplied by noise, so neither is used:

    | at the margin, of 30, 60, 100, 200 cases | t | larger p of t and Hall's | bootstrap-t, 30 and 100 |
    | --- | --- | --- | --- |
    | candidate lognormal, sigma 1; baseline constant | 15, 12, 12, 10 | 9, 9, 8, 6 | 11, 9 |
    | baseline lognormal, sigma 1, times lognormal, sigma .5 | 9, 8, 7, 9 | 9, 8, 7, 8 | 13, 9 |
    | baseline lognormal, sigma 1, times lognormal, sigma 1 | 18, 14, 15, 13 | 16, 12, 13, 12 | 18, 13 |
    | 5% of the candidate's answers three times as dear | 23, 13, 11, 7 | 23, 5, 3, 4 | 19, 4 |
    | two lognormal arms, sigma 1, independent | 6, 5, 5, 5 | 6, 5, 5, 5 | |

    >>> cost = relative_margin_difference([1.0, 2.0, 3.0, 4.0], [1.0, 2.1, 2.9, 4.1], margin=0.10)
    >>> round(cost.value, 3), round(cost.p_below(0), 3)
    (-0.225, 0.029)
    """
    base = floats(baseline, "baseline", at_least=2)
    cand = floats(candidate, "candidate", at_least=2)
    if base.shape != cand.shape:
        raise ValueError(f"baseline has {base.size} cases, candidate {cand.size}: pair them by id first")
    if bounds is not None:
        ends = [(1 + margin) * end for end in bounds]
        bounds = bounds[0] - max(ends), bounds[1] - min(ends)
    change = paired_differences(cand, (1 + margin) * base)
    result = _mean(floats(change, "change"), clusters, weights=weights, bounds=bounds, level=level)
    if result.se == 0 and not paired_differences(cand, base).any():  # "the same amount" would be the margin's
        result = replace(result, notes=(*result.notes[:-1], "no difference seen: the arms are equal in every case"))
    return replace(result, method=f"{result.method}, of candidate - {1 + margin:g} x baseline")
