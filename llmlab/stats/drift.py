"""Has a distribution moved: of one number, such as search scores, or of a mix, such as the topics of questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmlab.base.display import Shown
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, Values, floats

__all__ = ["Drift", "MixDrift", "distribution_drift", "mix_drift"]

EXACT_AT_MOST = 200
FEWEST_EXPECTED = 5
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixDrift(Shown):
    """How far the shares of some kinds moved, and whether that is more than chance.

    Attributes:
        counts: kind -> how many before and after; rare kinds stay apart here, and are joined for the test.
        chi2, p_value: Pearson's test of homogeneity, items taken as independent; None where one kind is left.
        psi: population stability index over the kinds, as in `Drift`.
    """

    counts: Mapping[str, tuple[int, int]]
    chi2: float | None
    p_value: float | None
    psi: float

    @property
    def moved(self) -> bool:
        """Whether the move is more than chance (p < .01) and not negligible (PSI from 0.1)."""
        return self.p_value is not None and self.p_value < 0.01 and self.psi >= MODERATE

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Kind -> its share before and after."""
        totals = [max(1, sum(pair[side] for pair in self.counts.values())) for side in (0, 1)]
        return {kind: (old / totals[0], new / totals[1]) for kind, (old, new) in self.counts.items()}

    def _rows(self) -> list[dict[str, object]]:
        shares = sorted(self.shares.items(), key=lambda item: item[1][0] - item[1][1])
        return [
            {"kind": kind, "before": f"{old:.0%}", "after": f"{new:.0%}", "n after": self.counts[kind][1]}
            for kind, (old, new) in shares
        ]

    def _sentence(self) -> str:
        if self.p_value is None:
            return "There is only one kind, so its share cannot move."
        chance = "more than chance" if self.p_value < 0.01 else "no more than chance would give"
        size = "large" if self.psi >= LARGE else "moderate" if self.psi >= MODERATE else "small"
        said = f"A {size} move of the mix (PSI {self.psi:.2f}), {chance} (chi-square p {self.p_value:.2g})."
        if not self.moved:
            return said
        rise = {kind: new - old for kind, (old, new) in self.shares.items()}
        more, less = max(rise, key=rise.__getitem__), min(rise, key=rise.__getitem__)
        (old, new), (old_less, new_less) = self.shares[more], self.shares[less]
        return (
            f"{said} Most more: {more} ({old:.0%} to {new:.0%}); most less: {less} ({old_less:.0%} to {new_less:.0%})."
        )


def mix_drift(before: Mapping[str, int], after: Mapping[str, int]) -> MixDrift:
    """How far the counts of `after` moved from those of `before`, kind by kind.

    scipy's `chi2_contingency` without continuity correction; kinds of which fewer than five are expected on a side are
    joined, as its approximation needs. Raises DataError where a side is empty.

    >>> mix_drift({"a": 50, "b": 50}, {"a": 50, "b": 50}).p_value
    1.0
    """
    from scipy.stats import chi2_contingency

    kinds = list(dict.fromkeys([*before, *after]))
    table = np.array([[before.get(kind, 0) for kind in kinds], [after.get(kind, 0) for kind in kinds]], dtype=float)
    if not kinds or (table < 0).any() or (table.sum(axis=1) == 0).any():
        raise DataError(f"{sum(before.values())} before and {sum(after.values())} after: a mix needs some of each")
    table, used = table[:, table.sum(axis=0) > 0], [kind for kind in kinds if before.get(kind) or after.get(kind)]
    expected = table.sum(axis=0) * table.sum(axis=1, keepdims=True).min() / table.sum()
    rare = expected < FEWEST_EXPECTED
    joined = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    test = chi2_contingency(joined, correction=False) if joined.shape[1] > 1 else None
    shares = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    return MixDrift(
        counts={kind: (int(old), int(new)) for kind, (old, new) in zip(used, table.T, strict=True)},
        chi2=None if test is None else float(test.statistic),
        p_value=None if test is None else float(test.pvalue),
        psi=float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()),
    )


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
