"""What a test of a mean over cases like these can show, and how many cases would show it: one plan for every question.

Every test of a mean here is Student's t with a CR2 standard error, read at some one-sided `tail` (alpha / 2 for a
two-sided interval, divided by the rows of Holm's family). So a plan needs the spread of the cases, the cost of
clusters and weights in it, the tail, and the truth that is planned for: without that it says nothing.

Where independent cases pass or fail, the power is that of the very test that `paired` makes, summed up over all tables
of gains and losses. It rises with the number of cases in a sawtooth: planned is the smallest number from which on it
stays at 80%, and the power that is stated is the one which that number has, up to 93% where hardly a case differs.

In clusters 80% is about what comes. Of five fresh draws at the gain that each of 240 pilots was told, so many percent
showed it where graded scores vary by sd .1 to .15 (in brackets: planned as if nothing had gained): 6 clusters of 10: 95
(28), 10 of 8: 91 (64), 12 of 10: 89 (67), 16 of 6: 87 (60), 20 of 5: 88 (60), 30 of 5: 95 (84); the cases that they are
said to need are up to a fifth too many. Pass/fail scores vary too much from pilot to pilot (12 of 10: 69, 20 of 5: 73),
and so do margins of graded ones (16 of 6: 70).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from llmlab.base.errors import DataError
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray, open_unit
from llmlab.stats.bounded import ENOUGH, BoundedMean
from llmlab.stats.paired import PairedDifference, tables_above
from llmlab.stats.standard_error import TOO_FEW_DF

POWER = 0.8  # what "would show" and "would settle" promise
_MORE_REPEATS = 5  # of each case, that are offered instead of more cases
SAVED_AT_LEAST = 0.2  # share of the cases that repeats must save to be offered
_MOST_CASES = 1e12
_MOST_TABLES = 20_000  # of gains and losses that are summed up; beyond, so many cases differ that t's power is theirs
_NODES, _WEIGHTS = (x / 2 for x in np.polynomial.legendre.leggauss(64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far a mean over cases like these strays from the truth.

    Attributes:
        sd: standard deviation per case with the cost of clusters and weights in it: the mean of n cases has the
            standard error sd / sqrt(n).
        cases, df: so many cases came with so many degrees of freedom; n of them have (df + 1) n / cases - 1. By
            default cases are independent and weighted alike, and `sd` is known.
        noise: share of sd^2 that is noise between repeats, which more repeats of the same cases take away.
        bounded: the score test, where few cases differ between bounds: harm that none showed is reckoned with.
        se: the standard error that was seen.
        gains: whether the cases pass or fail, and those that differ because of the planned truth are in `sd`.
        half, shift, step: where independent cases pass or fail, by `step`: the share of them that by chance gain, and
            as many lose, and the share that gains because of the planned truth; `half` None elsewhere.
    """

    sd: float
    cases: float = 1.0
    df: float = 0.0
    noise: float = 0.0
    bounded: BoundedMean | None = field(default=None, compare=False, repr=False)
    se: float = 0.0
    gains: bool = False
    half: float | None = None
    shift: float = 0.0
    step: float = 1.0

    @classmethod
    def of(cls, d: PairedDifference, *, noise: float = 0.0, shift: float = 0.0) -> Spread:
        """As a difference shows it. An estimated standard error is too small on average, by c4(df); that is put right.

        A truth `shift` away makes so many more cases differ, where they pass or fail; graded ones all change by it.

        >>> from llmlab.stats.paired import mean_difference
        >>> round(Spread.of(mean_difference([0.1, 0.3, -0.2, 0.0, 0.4])).sd, 4)
        0.254
        """
        c4 = math.sqrt(2 / d.df) * float(special.poch(d.df / 2, 0.5))
        se, gains = d.se, bool(shift and d.step)
        if gains:
            se = math.sqrt(d.se**2 + max(0.0, shift * (d.step - shift)) / d.n * d.n_clusters / d.independent)
        bounded = None if gains else d.bounded
        if bounded is not None and shift:
            bounded = bounded.shifted(shift)
        spread = cls(sd=se * math.sqrt(d.n) / c4, cases=d.n, df=d.df, noise=noise, bounded=bounded, se=se, gains=gains)
        if not d.step or noise or d.effective is not None or d.n_clusters < d.n:
            return spread
        half = min(d.n * (d.se / c4 / d.step) ** 2, 1.0) / 2
        return replace(spread, half=half, shift=min(shift / d.step, 1 - 2 * half), step=d.step)

    def at_bound(self, distance: float) -> float:
        """The standard error that the test takes at a bound so far below the truth, in that at the truth; 1 for t."""
        if self.gains:
            return math.hypot(self.sd, distance) / self.sd
        return 1.0 if self.bounded is None or not self.se else _at_bound(self.bounded, distance, self.se)

    def hazard(self, distance: float) -> float:
        """Where nothing varies, n cases leave harm of `distance` unseen with the chance exp(-hazard n)."""
        return 0.0 if self.bounded is None else self.bounded.hazard(distance) * self.bounded.size / self.cases

    def with_repeats(self, times: float) -> Spread:
        """The spread if each case had `times` as many repeats (infinite: noiseless ones)."""
        left = 1 - self.noise + self.noise / times
        if left == 1:
            return self
        return replace(self, half=None, sd=self.sd * math.sqrt(left), noise=self.noise / times / left if left else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one condition of a policy has to show, and at which truth that is planned for.

    Attributes:
        distance: from the bound of the test to the planned truth: the margin, where nothing differs.
        spread: of the difference per case.
        tail: one-sided level: 0.025 reads the two-sided 95% interval, 0.05 the 90% one.
        least_value: what the mean must reach besides (`min_effect`). At a truth equal to it that is a coin toss with
            any number of cases, so `distance` must lie beyond.
        share: share of all cases that belong to the condition (a category), 1 for all.
        truth: the planned truth in words, after "if".
    """

    name: str
    distance: float
    spread: Spread
    tail: float
    least_value: float = 0.0
    share: float = 1.0
    truth: str = "nothing differs"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NeededCases(Shown):
    """Total cases for all conditions to hold together with the stated power, as a range.

    `low` holds if the conditions stand and fall together, `high` if they are independent; both also carry the
    uncertainty of estimated standard deviations. `likely` takes them as independent and gives `power`: what was asked,
    or more where pass/fail cases that hardly differ make it rise in steps.
    """

    low: int
    likely: int
    high: int
    power: float
    binding: str
    conditions: int
    truth: str

    def _sentence(self) -> str:
        together = "it" if self.conditions == 1 else f"all {self.conditions} conditions"
        return (
            f"About {self.likely:,} cases (between {self.low:,} and {self.high:,}) settle {together} "
            f"with {self.power:.0%} power if {self.truth}; {self.binding!r} needs most."
        )


def chance_to_show(need: Need, cases: float) -> float:
    """The power: the chance that `cases` cases show what is needed, were the planned truth the truth.

    The t test rejects where the mean exceeds t times its standard error, which is itself drawn (chi-square with df);
    its distribution is summed up by Gauss and Legendre's rule. Without `least_value` this is the noncentral t.

    >>> round(chance_to_show(Need(name="goal", distance=0.2, spread=Spread(sd=1.0), tail=0.025), 198.1508), 4)
    0.8
    """
    n, spread = cases * need.share, need.spread
    half = None if spread.noise else spread.half
    if half is not None:
        bound, least = spread.shift - need.distance / spread.step, need.least_value / spread.step
        chance = _of_tables(math.floor(n + 1e-9), half + spread.shift, half, bound, need.tail, least)
        if chance is not None:
            return chance
    if spread.sd == 0:
        hazard = spread.hazard(need.distance)
        return float(not hazard or hazard * n >= -math.log(need.tail) - 1e-9)
    df, se = min(max((spread.df + 1) * n / spread.cases - 1, 1e-3), 1e9), spread.sd / math.sqrt(n)
    wider = spread.at_bound(need.distance) if half is None else 1.0
    drawn, is_counted = _drawn(df), spread.bounded is not None and spread.bounded.size == spread.cases
    drawn = np.sqrt(drawn**2 + wider**2 - 1) if is_counted else drawn * wider  # else the effective size is drawn too
    reach = np.maximum(float(special.stdtrit(df, 1 - need.tail)) * drawn, need.least_value / se)
    return float(_WEIGHTS @ special.ndtr(need.distance / se - reach))


def detectable(
    spread: Spread, *, tail: float, cases: float = 0.0, least_value: float = 0.0, power: float = POWER
) -> float:
    """How far from its bound the truth must lie for these cases (or `cases` such ones) to show it with this power.

    >>> round(detectable(Spread(sd=1.0), cases=198.1508, tail=0.025), 4)
    0.2
    """
    n = cases or spread.cases
    need = Need(name="", distance=0.0, spread=spread, tail=open_unit(tail, "tail"), least_value=least_value)
    unit = spread.sd / math.sqrt(n)
    return unit and unit * _solved(lambda z: chance_to_show(replace(need, distance=z * unit), n) - power, start=1e-9)


def would_show(
    d: PairedDifference,
    *,
    tail: float,
    least_value: float = 0.0,
    cases: int | None = None,
    noise: float = 0.0,
    repeats: float = 1.0,
) -> float | None:
    """The true difference that the cases of `d` show with 80% power, some of them differing because of it.

    None where they could show none: scores can change by so much at most, and signs of so few cases tell less.

    Args:
        cases: so many cases like those of `d` instead.
        noise: share of the variance of `d` that is noise between repeats.
        repeats: each case with so many times the repeats.
    """
    n = d.n if cases is None else cases

    def spread_at(shift: float) -> Spread:
        """A truth that makes more cases differ adds to their spread, and nothing to the noise between repeats."""
        if repeats == 1:
            return Spread.of(d, shift=shift)
        spread = Spread.of(d, noise=noise, shift=shift)
        return replace(spread, noise=noise * (d.se / spread.se) ** 2).with_repeats(repeats)

    def excess(distance: float) -> float:
        need = Need(name="", distance=distance, spread=spread_at(distance), tail=tail, least_value=least_value)
        return chance_to_show(need, n) - POWER

    spread = spread_at(0.0)
    start = 1e-9 if spread.half is not None else detectable(spread, tail=tail, cases=n, least_value=least_value)
    beyond = d.bounds is not None and excess(max(d.bounds[1], least_value)) < 0
    if beyond or (d.n_clusters < ENOUGH and 2.0**-d.n_clusters > tail):
        return None
    return _solved(excess, start=start)


def needed_cases(needs: Sequence[Need], *, power: float = POWER, times_repeats: float = 1.0) -> NeededCases:
    """Cases in all for the conditions to hold jointly, as a range; with `times_repeats` as many repeats of each case.

    For positively dependent conditions the joint power lies between the product of the single powers (Slepian 1962)
    and the smallest of them; these give the range.

    Raises:
        DataError: no conditions, or one that no number of cases can settle: its truth lies at or short of the bound.

    >>> eight = [Need(name=f"category {i}", distance=0.02, spread=Spread(sd=0.45), tail=0.05, share=1/8)
    ...          for i in range(8)]
    >>> needed_cases(eight).likely  # 8 x 6,430
    51444
    """
    _check(needs, open_unit(power, "power"))
    needs = [replace(need, spread=need.spread.with_repeats(times_repeats)) for need in needs]
    alone = [_cases([need], power) for need in needs]
    likely = _cases(needs, power)
    low = max(_cases([_with_sd(need, 0.1)], power) for need in needs)
    high = _cases([_with_sd(need, 0.9) for need in needs], power)
    return NeededCases(
        low=min(low, likely),
        likely=likely,
        high=max(high, likely),
        power=_joint(needs, likely),
        binding=needs[int(np.argmax(alone))].name,
        conditions=len(needs),
        truth=" and ".join(dict.fromkeys(need.truth for need in needs)),
    )


def more_repeats(asked: float) -> tuple[int, int]:
    """How many repeats of each case to offer, and how many there are now.

    >>> more_repeats(2.0), more_repeats(4.0)
    ((5, 2), (8, 4))
    """
    now = max(1, round(asked))
    return max(_MORE_REPEATS, 2 * now), now


@functools.lru_cache(maxsize=64)  # a search asks for one number of cases at many distances
def _drawn(df: float) -> FloatArray:
    """What standard errors are drawn, in the true one, at the nodes."""
    return np.asarray(np.sqrt(special.chdtri(df, 0.5 - _NODES) / df))


@functools.lru_cache(maxsize=4096)
def _of_tables(n: int, up: float, down: float, bound: float, tail: float, least: float) -> float | None:
    """The power of n cases of which such shares gain and lose 1, over all tables; None where these are too many."""
    if n - 1 < TOO_FEW_DF:
        return 0.0
    gains, losses = _likely_counts(n, up), _likely_counts(n, down)
    if len(gains) * len(losses) > _MOST_TABLES:
        return None
    gained, lost = (counts.ravel() for counts in np.meshgrid(gains, losses))
    possible = gained + lost <= n
    gained, lost = gained[possible], lost[possible]
    alike = np.arange(max(0.0, n - gains[-1] - losses[-1]), n - gains[0] - losses[0] + 1)
    parts = (gained, gains, up), (lost, losses, down), (n - gained - lost, alike, max(0.0, 1 - up - down))
    chances = np.exp(special.gammaln(n + 1) + sum(_log_parts(*part) for part in parts))
    shown = tables_above(gained, lost, n=n, bound=bound, tail=tail) & ((gained - lost) / n - bound >= least - 1e-12)
    return float(chances[shown].sum())


def _likely_counts(n: int, share: float) -> FloatArray:
    """All but one in a million of the numbers of cases that can differ."""
    middle, sd = n * share, math.sqrt(n * share)
    return np.arange(max(0, math.floor(middle - 5 * sd)), min(n, math.ceil(middle + 5 * sd + 5)) + 1.0)


def _log_parts(counts: FloatArray, counted: FloatArray, share: float) -> FloatArray:
    """log(share^count / count!) of each of the `counts`, worked out once for each of the whole numbers `counted`."""
    logs = special.xlogy(counted, share) - special.gammaln(counted + 1)
    return np.asarray(logs[(counts - counted[0]).astype(np.intp)])


@functools.lru_cache(maxsize=64)
def _at_bound(bounded: BoundedMean, distance: float, se: float) -> float:
    return max(1.0, bounded.se_at(bounded.mean - distance) / se)


def _check(needs: Sequence[Need], power: float) -> None:
    if not needs:
        raise DataError("no conditions: name at least one")
    for need in needs:
        open_unit(need.tail, f"tail of {need.name!r}")
        if not (0 < need.share <= 1 and need.distance > max(need.least_value, 0.0) and 0 <= need.spread.sd < math.inf):
            raise DataError(
                f"condition {need.name!r} has distance {need.distance}, sd {need.spread.sd}, share {need.share}: no "
                f"number of cases settles it with {power:.0%} power; distance must be above {need.least_value:g}, "
                "share above 0 and at most 1, sd finite"
            )


def _cases(needs: Sequence[Need], power: float) -> int:
    """The smallest number of cases with which all conditions hold, taken as independent."""
    start = 0.0
    for need in needs:
        fewest = (TOO_FEW_DF + 1) * need.spread.cases / (need.spread.df + 1)  # with less df nothing is decided
        if need.spread.sd == 0 and (hazard := need.spread.hazard(need.distance)):
            fewest = max(fewest, -math.log(need.tail) / hazard)
        start = max(start, fewest / need.share)

    def excess(cases: float) -> float:
        return _joint(needs, cases) - power

    reached = math.ceil(_solved(excess, start=start) - 1e-6)
    if all(need.spread.half is None for need in needs):
        return reached
    step = max(1, reached // 100)
    enough = reached + reached // 4 + step
    while excess(enough) < 0:
        enough += step
    while enough - step >= start and excess(enough - step) >= 0:
        enough -= step
    return enough


def _joint(needs: Sequence[Need], cases: float) -> float:
    return math.prod(chance_to_show(need, cases) for need in needs)


def _with_sd(need: Need, probability: float) -> Need:
    """With the standard deviation at one end of its central 80% chi-square interval, where it was estimated."""
    spread = need.spread
    df = spread.df if spread.half is None else min(spread.df, 4 * spread.half * spread.cases)  # a count of so many
    square = df / float(special.chdtri(df, probability)) if df > 0 else 1.0
    half = None if spread.half is None else min(spread.half * square, (1 - spread.shift) / 2)
    return replace(need, spread=replace(spread, sd=spread.sd * math.sqrt(square), half=half))


def _solved(excess: Callable[[float], float], *, start: float) -> float:
    """Where a rising function crosses 0, at or above `start`."""
    from scipy import optimize

    if excess(start) >= 0:
        return start
    high = max(2 * start, 1.0)
    while excess(high) < 0:
        high *= 2
        if high > _MOST_CASES:
            raise DataError(f"more than {_MOST_CASES:.0e} cases would be needed: nothing that can be planned")
    return float(optimize.brentq(excess, start, high, xtol=1e-9, rtol=1e-12))
