"""How many cases a gate with several conditions needs: all of them have to hold at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from llmlab.base.display import Shown
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, open_unit

__all__ = ["Need", "NeededCases", "needed_cases"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Need(Shown):
    """What one condition has to show, on the scale of the paired difference.

    Attributes:
        name: the condition as the policy calls it.
        distance: from the bound to the truth that is planned for: the margin of a non-inferiority guard when nothing
            changed, the `min_effect` of a superiority goal.
        sd: standard deviation over cases of the difference (times the root of the design effect for clusters).
        sd_cases: cases from which `sd` was estimated; 0 where it is known.
        share: share of all cases that belong to the condition (a category), 1 for all.
        noise: share of sd^2 that is noise between repeats, which more repeats of the same cases take away.
        alpha: one-sided level: 0.025 reads the two-sided 95% interval, 0.05 the 90% one.
    """

    name: str
    distance: float
    sd: float
    sd_cases: int = 0
    share: float = 1.0
    noise: float = 0.0
    alpha: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NeededCases(Shown):
    """Total cases for all conditions to hold together with the stated power, as a range.

    `low` holds if the conditions stand and fall together, `high` if they are independent; both also carry the
    uncertainty of estimated standard deviations. `likely` takes them as independent.
    """

    low: int
    likely: int
    high: int
    power: float
    binding: str
    conditions: int

    def _sentence(self) -> str:
        together = "it" if self.conditions == 1 else f"all {self.conditions} conditions"
        return (
            f"About {self.likely:,} cases (between {self.low:,} and {self.high:,}) settle {together} "
            f"with {self.power:.0%} power; {self.binding!r} needs most."
        )


def needed_cases(needs: Sequence[Need], *, power: float = 0.8, times_repeats: float = 1.0) -> NeededCases:
    """Cases in all that the conditions need jointly, as a range. Normal approximation.

    With `times_repeats` as many repeats of each case, the noise between repeats shrinks by that factor.

    For positively dependent conditions the joint power lies between the product of the single powers (Slepian 1962)
    and the smallest of them; these give the range.

    Raises:
        DataError: no conditions, or one that no number of cases can settle (distance or share not above 0).

    >>> eight = [Need(name=f"category {i}", distance=0.02, sd=0.45, share=1 / 8) for i in range(8)]
    >>> needed_cases(eight)  # 8 x 6,430
    NeededCases(low=25,040, likely=51,433, high=51,433, power=0.8, binding=category 0, conditions=8)
    """
    open_unit(power, "power")
    _check(needs)
    left = [1 - need.noise + need.noise / times_repeats for need in needs]
    needs = [replace(need, sd=need.sd * math.sqrt(share)) for need, share in zip(needs, left, strict=True)]
    scale, critical = _cases_per_unit(needs), _critical(needs)
    alone = scale * np.maximum(critical + float(special.ndtri(power)), 0.0) ** 2
    low = float((alone * _sd_factor(needs, 0.1)).max())
    likely = _independent(scale, critical, power)
    high = max(likely, _independent(scale * _sd_factor(needs, 0.9), critical, power))
    return NeededCases(
        low=_whole(min(low, likely)),
        likely=_whole(likely),
        high=_whole(high),
        power=power,
        binding=needs[int(alone.argmax())].name,
        conditions=len(needs),
    )


def _check(needs: Sequence[Need]) -> None:
    if not needs:
        raise DataError("no conditions: name at least one")
    for need in needs:
        open_unit(need.alpha, f"alpha of {need.name!r}")
        if not (0 < need.share <= 1 and need.distance > 0 and 0 <= need.sd < math.inf):
            raise DataError(
                f"condition {need.name!r} has distance {need.distance}, sd {need.sd}, share {need.share}: "
                "no number of cases settles it; distance and share must be above 0, share at most 1, sd finite"
            )


def _cases_per_unit(needs: Sequence[Need]) -> FloatArray:
    """Cases n at which the test statistic's mean, sqrt(n / unit), is 1."""
    return np.array([(need.sd / need.distance) ** 2 / need.share for need in needs])


def _critical(needs: Sequence[Need]) -> FloatArray:
    return np.array([float(special.ndtri(1 - need.alpha)) for need in needs])


def _sd_factor(needs: Sequence[Need], probability: float) -> FloatArray:
    """Factor on each variance at one end of its central 80% chi-square interval."""
    freedom = np.array([need.sd_cases - 1.0 for need in needs])
    safe = np.maximum(freedom, 1.0)
    return np.where(freedom >= 1, safe / special.chdtri(safe, probability), 1.0)


def _independent(scale: FloatArray, critical: FloatArray, power: float) -> float:
    """Smallest n with prod(Phi(sqrt(n / scale) - critical)) = power."""
    from scipy import optimize

    kept = scale > 0
    if not kept.any():
        return 0.0
    scale, critical = scale[kept], critical[kept]

    def excess(root: float) -> float:
        return float(special.ndtr(root / np.sqrt(scale) - critical).prod()) - power

    quantile = float(special.ndtri(power ** (1 / len(scale))))
    highest = float((np.sqrt(scale) * np.maximum(critical + quantile, 0.0)).max()) + 1e-9
    return 0.0 if excess(0.0) >= 0 else float(optimize.brentq(excess, 0.0, highest * 1.0001, xtol=1e-9)) ** 2


def _whole(cases: float) -> int:
    return max(2, math.ceil(cases - 1e-6))
