"""Has a distribution moved: two samples of one number, such as search scores of last month and of today."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmlab.display import Shown
from llmlab.errors import DataError
from llmlab.stats.arrays import FloatArray, Values, floats

__all__ = ["Drift", "distribution_drift"]

EXACT_AT_MOST = 200
MODERATE, LARGE = 0.10, 0.25  # the usual reading of PSI (Siddiqi 2006, Credit Risk Scorecards)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Drift(Shown):
    """How far a distribution moved, and whether that is more than chance.

    Attributes:
        ks: Kolmogorov-Smirnov statistic, the largest gap between the two cumulative distributions.
        p_value: of the two-sample test; takes the values as independent.
        psi: population stability index over the deciles of `before`; it says how much, not whether by chance.
        n_before, n_after: values in each sample.
        median_before, median_after: where the middle was and is.
    """

    ks: float
    p_value: float
    psi: float
    n_before: int
    n_after: int
    median_before: float
    median_after: float

    @property
    def moved(self) -> bool:
        """Whether the move is more than chance (p < .01) and not negligible (PSI from 0.1)."""
        return self.p_value < 0.01 and self.psi >= MODERATE

    def _sentence(self) -> str:
        size = "large" if self.psi >= LARGE else "moderate" if self.psi >= MODERATE else "small"
        chance = "more than chance" if self.p_value < 0.01 else "no more than chance would give"
        return f"A {size} move (PSI {self.psi:.2f}), {chance} (KS {self.ks:.2f}, p {self.p_value:.2g})."


def distribution_drift(before: Values, after: Values, *, bins: int = 10) -> Drift:
    """How far `after` moved from `before`, shapes (n,) and (m,).

    KS by scipy's `ks_2samp`. PSI = sum (a - b) ln(a / b) over bins between the quantiles of `before`, with half a value
    added to each bin so that an empty one is not infinite. Raises DataError below two values in either.

    >>> distribution_drift(range(100), range(50, 150)).ks
    0.5
    """
    from scipy.stats import ks_2samp

    old, new = floats(np.asarray(before), "before"), floats(np.asarray(after), "after")
    if min(len(old), len(new)) < 2:
        raise DataError(f"{len(old)} values before and {len(new)} after: drift needs at least two of each")
    if bins < 2:
        raise ValueError(f"bins == {bins}, must be >= 2")
    both = np.concatenate([old, new])
    exact = both.size <= EXACT_AT_MOST and np.unique(both).size == both.size  # with ties scipy's exact p is none
    test = ks_2samp(old, new, method="exact" if exact else "asymp")
    return Drift(
        ks=float(test.statistic),
        p_value=float(test.pvalue),
        psi=_psi(old, new, bins),
        n_before=len(old),
        n_after=len(new),
        median_before=float(np.median(old)),
        median_after=float(np.median(new)),
    )


def _psi(before: FloatArray, after: FloatArray, bins: int) -> float:
    cuts = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
    places = [np.bincount(np.searchsorted(cuts, x, side="left"), minlength=len(cuts) + 1) for x in (before, after)]
    b, a = ((count + 0.5) / (count.sum() + 0.5 * len(count)) for count in places)
    return float(((a - b) * np.log(a / b)).sum())
