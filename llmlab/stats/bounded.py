"""The mean of values between two bounds where harm may be rare: the score test over all that may have gone unseen.

Student's t reads the spread off the cases that were seen. Where few of them differ it has seen too little: of 100
answers of which 5% get worse, 12 draws in 100 show at most two, and then t rules the harm out. The score test asks the
other way round: of all distributions between the bounds with the mean that is tested, which one makes these cases the
likeliest, and how far are they from it? That one may put weight on a bound that no case has reached. For pass/fail
scores it is Tango's test (1998, Stat. Med. 17, 891-908); for graded ones the same by empirical likelihood (Owen 2001,
chapter 2). `paired` takes the larger p and the wider interval of this and of t, and t alone where enough cases differ.

Measured in percent on the 570 cells of `make nightly` (n 5 to 1,000): PASS at a true harm of the margin (nominal 5),
mean and most over the cells, and cover of the 95% interval, mean and least. Pass/fail is exact, the others are
simulated, and where this method is out at first drawn again ten times as often.

| cases | t: PASS | t: cover | Tango: PASS | Tango: cover | this: PASS | this: cover |
| --- | --- | --- | --- | --- | --- | --- |
| pass/fail | 14.7, 90.4 | 86.5, 9.6 | 3.6, 6.9 | 96.6, 93.3 | 3.3, 5.8 | 97.5, 94.7 |
| graded, repeats | 9.5, 62.6 | 89.1, 37.4 | - | - | 2.5, 5.7 | 98.2, 93.7 |
| clusters | 12.4, 68.2 | 89.1, 31.8 | 7.1, 22.2 | 93.6, 79.8 | 1.8, 6.1 | 98.7, 94.0 |
| weights | 26.3, 82.0 | 76.6, 18.0 | 9.1, 30.4 | 93.0, 74.6 | 1.3, 5.5 | 99.3, 95.8 |

Tango's of clusters and weights is at the design effect as seen. A deserved PASS comes as often as by Tango's (n 100,
margin .05, 2% up and 2% down: 63%; n 200: 92%).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.base.numbers import ROUNDING
from llmlab.stats.arrays import Bounds, FloatArray, GroupIndex, cluster_codes, cluster_sums
from llmlab.stats.estimate import Estimate, score_interval
from llmlab.stats.standard_error import StandardError, case_weights, standard_error, t_quantile, t_tail, two_sided

Sides = tuple[FloatArray, FloatArray]  # what each case gained, and what it lost; of shares hits and misses

_TALLIED_ABOVE = 4096  # values: from here on they are counted in as many cells, each at the mean of what it holds
ENOUGH = 7  # cases, or clusters, that differ on either side: from here on t alone holds what it promises
FAR = 3.0  # standard errors from the mean, where t alone is to hold
_SMALLEST_TAIL = 1e-12  # of a sum
_ALIKE_CLUSTERS = 2  # clusters that are joined to those seen, as if all cases of one were alike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundedMean:
    """A mean of values between two bounds, with the one-sided score tests and intervals of it.

    Attributes:
        values, weights, mean: the different values, their shares, which add up to 1, and their mean.
        low, high: the bounds of a value.
        size: how many independent cases tell as much.
        few: the same, were there few clusters that differ on a side, as at a truth at which nearly all gain.
        df: degrees of freedom of the t quantile that the score is held against.
        beside: the standard error of a part of the mean that lies beside these cases, as a judge's mean over cases
            without a label. The distances to the ends of the two parts are added in squares (MOVER, Zou and Donner
            2008, Stat. Med. 27, 1693-1702).
    """

    values: FloatArray
    weights: FloatArray
    mean: float
    low: float
    high: float
    size: float
    few: float = math.inf
    df: float
    beside: float = 0.0

    @property
    def mirrored(self) -> BoundedMean:
        """The mean of the negated values."""
        return replace(self, values=-self.values, mean=-self.mean, low=-self.high, high=-self.low)

    def shifted(self, by: float) -> BoundedMean:
        """The mean were the truth so much higher: every value is, up to the bound, and few clusters lose."""
        values = np.clip(self.values + by, self.low, self.high)
        return replace(self, values=values, mean=float(self.weights @ values), size=min(self.size, self.few))

    def p_above(self, bound: float) -> float:
        """One-sided p value against "the mean is `bound` or less"; 1 where what was seen does not lie above it.

        With the likeliest distribution of mean m that allows what was seen, weights w / (1 + t (x - m)), its variance
        is (mean - m) / t, so that the score is sqrt(size (mean - m) t). Where a bound that nothing has reached needs
        weight, t is 1 / (m - low). All values equal have no spread to go by: then it is the chance of never seeing
        a value at the bound, too.
        """
        reach = self.mean - bound
        if reach <= ROUNDING * (self.high - self.low):
            return 1.0
        if self.beside:
            return self._p_of_sum(reach)
        if bound <= self.low:
            return 0.0
        p = t_tail(math.sqrt(self.size * reach * self._tilt(bound)), self.df)
        return p if self.values.size > 1 else max(p, float((1 - reach / (self.mean - self.low)) ** self.size))

    def p_below(self, bound: float) -> float:
        """One-sided p value against "the mean is `bound` or more"."""
        return self.mirrored.p_above(-bound)

    def ends(self, tail: float) -> tuple[float, float]:
        """The interval that leaves this much out at either end: every mean that the tests above do not reject."""
        return self.mean - self._reach(tail), self.mean + self.mirrored._reach(tail)

    def moved(self, *, times: float, by: float) -> BoundedMean:
        """The mean of these values times a number above 0, plus another."""
        mean, low, high = (times * x + by for x in (self.mean, self.low, self.high))
        return replace(self, values=times * self.values + by, mean=mean, low=low, high=high, beside=times * self.beside)

    def se_at(self, bound: float) -> float:
        """The standard error of the mean, were the truth at `bound` below it."""
        reach = self.mean - bound
        own = math.sqrt(reach / (self.size * self._tilt(bound))) if reach > 0 and bound > self.low else 0.0
        return math.hypot(own, self.beside)

    def hazard(self, distance: float) -> float:
        """Where all values agree: n independent cases leave a mean at `distance` below unseen with exp(-hazard n)."""
        gap = self.mean - self.low
        return -math.log1p(-distance / gap) if self.values.size == 1 and distance < gap else 0.0

    def _tilt(self, bound: float) -> float:
        x, reach = self.values - bound, self.mean - bound
        start = reach / float(self.weights @ x**2)
        return _root(x, self.weights, base=1.0, top=1 / (bound - self.low), start=start)

    def _reach(self, tail: float) -> float:
        return math.hypot(self.mean - self._low_end(tail), t_quantile(1 - tail, self.df) * self.beside)

    def _p_of_sum(self, reach: float) -> float:
        """The tail that the lower end leaves out where it lies so far below the mean, at most one half."""
        from scipy import optimize

        def excess(quantile: float) -> float:
            return self._reach(t_tail(quantile, self.df)) - reach

        least, most = 1e-3, t_quantile(1 - _SMALLEST_TAIL, self.df)
        quantile = least if excess(least) >= 0 else most if excess(most) <= 0 else optimize.brentq(excess, least, most)
        return t_tail(quantile, self.df)

    def _low_end(self, tail: float) -> float:
        gap = self.mean - self.low
        if gap <= ROUNDING * (self.high - self.low):
            return self.low
        residuals, c = self.values - self.mean, t_quantile(1 - tail, self.df) ** 2 / self.size
        sd, top = math.sqrt(float(self.weights @ residuals**2)), (1 + c) / gap
        start = math.sqrt(c) / sd if sd > 0 else top
        low = self.mean - c / _root(residuals, self.weights, base=1 + c, top=top, start=start)
        return low if self.values.size > 1 else min(low, self.low + gap * tail ** (1 / self.size))


def bounded_mean(
    values: FloatArray,
    weights: FloatArray | None = None,
    *,
    low: float,
    high: float,
    size: float,
    df: float,
    beside: float = 0.0,
) -> BoundedMean:
    """What the score test reads of values between `low` and `high`, shape (n,); many values are counted in cells.

    Raises DataError for a value beyond the bounds.

    >>> found = bounded_mean(np.array([0.0] * 59), low=-1, high=1, size=59, df=58)  # 59 ties
    >>> round(found.p_above(-0.05), 3)
    0.048
    """
    smallest, largest, room = float(values.min()), float(values.max()), ROUNDING * (high - low)
    if smallest < low - room or largest > high + room:
        raise DataError(f"values from {smallest:g} to {largest:g}, must lie between {low:g} and {high:g}")
    if values.size > _TALLIED_ABOVE and largest > smallest:
        cells = ((values - smallest) * ((_TALLIED_ABOVE - 1) / (largest - smallest))).astype(np.intp)
        w = np.bincount(cells, weights=weights).astype(np.float64)
        sums, filled = np.bincount(cells, weights=values if weights is None else weights * values), w > 0
        different, w = sums[filled] / w[filled], w[filled]
    else:
        different, of_value = np.unique(values, return_inverse=True)
        w = np.bincount(of_value, weights=weights).astype(np.float64)
    w /= w.sum()
    if largest - smallest <= room:  # rounding is not variation
        different, w = np.array([float(w @ different)]), np.ones(1)
    different = np.clip(different, low, high)
    mean = float(w @ different)
    return BoundedMean(values=different, weights=w, mean=mean, low=low, high=high, size=size, df=df, beside=beside)


def enough_differ(
    values: FloatArray, weights: FloatArray | None, *, of_case: GroupIndex | None, bounds: Bounds, se: float
) -> bool:
    """Whether t alone holds: at least 7 cases (clusters) differ on either side, and they say enough of the bounds.

    The latter: three standard errors out the likeliest distribution with that mean needs no value that was not seen.
    Small differences everywhere say nothing of a rare fall to the bound.
    """
    for x, bound in ((values, bounds[0]), (-values, -bounds[1])):
        if carriers(np.maximum(-x, 0.0), weights, of_case) < ENOUGH - ROUNDING:
            return False
        room, reach = x - bound, float(np.average(x, weights=weights)) - FAR * se - bound
        if reach <= 0:
            return False
        if room.min() < 0 or (room.min() > 0 and reach * float(np.average(1 / room, weights=weights)) < 1):
            return False
    return True


def effective_cases(
    values: FloatArray, weights: FloatArray | None, *, of_case: GroupIndex | None, variance: float, sides: Sides | None
) -> float:
    """How many independent, equally weighted cases tell as much as these: n / design effect.

    The design effect is the CR2 `variance` of the mean over that of independent cases. Where few clusters differ it is
    hardly seen (one loss in 20 documents looks independent), so where fewer than 7 do on either of the `sides`, it is
    joined with that of clusters all alike, m = n sum of squared cluster shares, as if 2 more clusters had shown that;
    the K clusters seen count by how evenly the variation is spread over them, and by their size. Weights alone cost
    at least what Kish (1965) says. Without `sides` few clusters are taken to differ.

    `of_case` numbers the clusters 0 to G - 1.
    """
    n = values.size
    if of_case is None and weights is None:
        return float(n)
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    squares = share * (values - share @ values) ** 2
    iid, least = float(squares.sum()) / (n - 1), n * float(share @ share)
    of_cluster = np.arange(n) if of_case is None else of_case
    own, by_cluster = cluster_sums(share, of_cluster), cluster_sums(squares, of_cluster)
    alike = n * float(own @ own)
    if squares.sum() <= (ROUNDING * np.abs(values).max()) ** 2:  # rounding is not variation
        return n / alike
    effect = variance / iid
    if sides is None or min(carriers(side, weights, of_case) for side in sides) < ENOUGH - ROUNDING:
        part = by_cluster / by_cluster.sum()
        seen = n * float(part @ own) / (alike * float(part @ part))
        effect = (seen * effect + _ALIKE_CLUSTERS * alike) / (seen + _ALIKE_CLUSTERS)
    return n / max(least, effect)


def carriers(parts: FloatArray, weights: FloatArray | None, of_case: GroupIndex | None) -> float:
    """How many cases, or clusters, carry the squares of these parts: (sum q)^2 / sum q^2; 0 of nothing.

    >>> carriers(np.array([1.0, 1.0, 0.0]), None, None), round(carriers(np.array([9.0, 1.0, 1.0]), None, None), 2)
    (2.0, 1.05)
    """
    squares = (parts if weights is None else weights * parts) ** 2
    carried = squares if of_case is None else cluster_sums(squares, of_case)
    together = float(carried @ carried)  # 0 too where parts are too small to be squared twice
    return float(carried.sum()) ** 2 / together if together else 0.0


def _root(x: FloatArray, weights: FloatArray, *, base: float, top: float, start: float) -> float:
    """The s above 0 at which the mean of 1 / (base + s x) is 1, or `top` where it is not reached before.

    That mean is convex in s and below 1 on the way there: Newton's steps, halved where they leave the bracket.
    """
    if base + top * float(x.min()) > ROUNDING and float(weights @ (1 / (base + top * x))) <= 1:
        return top
    low, high, s = 0.0, top, min(start, top / 2)
    for _ in range(200):
        inverse = 1 / (base + s * x)
        excess, slope = float(weights @ inverse) - 1, -float((weights * x) @ inverse**2)
        low, high = (s, high) if excess < 0 else (low, s)
        step = s - excess / slope if slope > 0 else high
        following = step if low < step < high else (low + high) / 2
        if abs(following - s) <= 1e-11 * s:
            return following
        s = following
    return s


def share_estimate(
    scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    bounds: Bounds = (0.0, 1.0),
    level: float = 0.95,
    n_attempted: int | None = None,
) -> Estimate:
    """The mean of scores between two bounds, shape (n,), with Wilson's interval, which stays within them.

    Pass/fail scores without `clusters` give Wilson's interval itself. Otherwise n is replaced by the effective size
    (`bounded.effective_cases`; of graded scores times p (1 - p) / variance), and the normal quantile by Student's t
    with Bell-McCaffrey df (as Korn and Graubard 1998 do for the exact interval; Dean and Pagano 2015 find Wilson's to
    cover well). For pass/fail scores it never exceeds n; where all cases agree the number of clusters is taken. Of
    graded scores that say little of the bounds (`enough_differ`: all are near .9, and a fall to 0 may be rare) the
    interval reaches as far as that of `BoundedMean`. One cluster gives no interval. Raises DataError without a case or
    for values beyond the bounds.

    >>> print(share_estimate([1, 0, 1, 1]), share_estimate([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"]))
    0.75 [0.30, 0.95] 0.50 [0.04, 0.96]
    """

    def on_scale(share: float) -> float:
        return bounds[0] + share * (bounds[1] - bounds[0])

    read, name = _read(scores, clusters, weights, bounds), "share" if bounds == (0.0, 1.0) else "mean"
    tried = read.n if n_attempted is None else n_attempted
    blank = Estimate(value=on_scale(read.share), level=level, n=read.n, n_attempted=tried, method=name)
    if read.error is None:
        return replace(blank, notes=("all cases are in one cluster: no interval without a second independent one",))
    low, high = score_interval(read.share, read.size, two_sided(level, read.error.df))
    if read.bounded is not None:
        least, most = read.bounded.ends((1 - level) / 2)
        low, high = min(low, least), max(high, most)
    method = f"{'' if read.error.effective is None else 'weighted '}{name}, Wilson interval"
    if math.isfinite(read.error.df):
        method += f" with the effective size{'' if clusters is None else f' of {read.error.n_clusters:,} clusters'}"
    low, high = on_scale(max(0.0, low)), on_scale(min(1.0, high))
    return replace(blank, low=low, high=high, method=method, notes=read.error.notes)


def share_p_above(
    scores: ArrayLike,
    bound: float,
    *,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> float:
    """One-sided p value against "the mean is `bound` or less", of the score test that `share_estimate` inverts.

    >>> round(share_p_above([1] * 95 + [0] * 5, 0.9), 3)
    0.048
    """
    read, share = _read(scores, clusters, weights, bounds), (bound - bounds[0]) / (bounds[1] - bounds[0])
    if not 0 < share < 1 or read.error is None:
        return 0.0 if share < 0 else 1.0
    p = t_tail((read.share - share) / (share * (1 - share) / read.size) ** 0.5, read.error.df)
    return p if read.bounded is None else max(p, read.bounded.p_above(share))


class _Read(NamedTuple):
    """A share of n cases, how many independent ones they tell as much as, and its error and test."""

    share: float
    n: int
    size: float
    error: StandardError | None  # None: all in one cluster; of infinite df where independent cases are simply counted
    bounded: BoundedMean | None = None  # of graded scores that say little of the bounds


def _read(scores: ArrayLike, clusters: ArrayLike | None, weights: ArrayLike | None, bounds: Bounds) -> _Read:
    values, (low, high) = np.asarray(scores, dtype=np.float64), bounds
    if not values.size or not ((values >= low) & (values <= high)).all():
        raise DataError(f"a share needs at least one case, each between {low:g} and {high:g} ({values.size} given)")
    values = values if bounds == (0.0, 1.0) else (values - low) / (high - low)
    n, w = int(values.size), case_weights(weights, n=values.size)
    mean, passed = float(np.average(values, weights=w)), bool(np.isin(values, (0.0, 1.0)).all())
    if clusters is None and w is None and passed:
        return _Read(mean, n, n, StandardError(se=(mean * (1 - mean) / n) ** 0.5, df=math.inf, n=n, n_clusters=n))
    of_case = cluster_codes(np.arange(n) if clusters is None else clusters, n=n)
    if of_case.max() == 0:
        return _Read(mean, n, 1.0, None)
    error = standard_error(values, of_case, weights=w)
    groups, off = None if clusters is None else of_case, values - mean
    sides = np.maximum(off, 0.0), np.maximum(-off, 0.0)
    size = effective_cases(values, w, of_case=groups, variance=error.se**2, sides=sides)
    if passed:
        return _Read(mean, n, size, error)
    bounded = None
    if not enough_differ(off, w, of_case=groups, bounds=(-mean, 1 - mean), se=error.se):
        bounded = bounded_mean(values, w, low=0.0, high=1.0, size=size, df=error.df)
    spread = float(np.average(off**2, weights=w)) * n / (n - 1)
    is_constant = spread <= ROUNDING**2  # rounding is not variation: ten thirds are not certain
    return _Read(mean, n, size if is_constant else size * mean * (1 - mean) / spread, error, bounded)
