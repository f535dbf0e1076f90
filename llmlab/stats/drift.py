"""Has a mix moved, such as the topics of questions.

A test says whether; the population stability index (PSI) says how far, less what it shows of two samples of this size
that are from one distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import p_text
from llmlab.display.shown import Shown

FEWEST_EXPECTED = 5
MODERATE, LARGE = 0.10, 0.25  # the usual reading of PSI (Siddiqi 2006, Credit Risk Scorecards)
SHOWN_BELOW = 0.01  # p: drift is looked for again and again


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixDrift(Shown):
    """How far the shares of some kinds moved, and whether that is more than chance.

    Attributes:
        counts: kind -> how many before and after; rare kinds stay apart here, and are joined for the test.
        chi2, p_value: Pearson's test of homogeneity, items taken as independent; None where one kind is left, all rare
            ones counting as one.
        psi: population stability index over the kinds; it says how much, not whether by chance.
        psi_by_chance: what PSI is on average where nothing moved, (kinds - 1) (1 / n_before + 1 / n_after) (Yurdakul
            and Naranjo 2020, Journal of Risk Model Validation 14).
    """

    counts: Mapping[str, tuple[int, int]]
    chi2: float | None
    p_value: float | None
    psi: float
    psi_by_chance: float

    @property
    def size(self) -> str:
        """How far it moved: small, moderate or large; "" where no move is shown."""
        if self.p_value is None or self.p_value >= SHOWN_BELOW:
            return ""
        beyond = self.psi - self.psi_by_chance
        return "large" if beyond >= LARGE else "moderate" if beyond >= MODERATE else "small"

    @property
    def moved(self) -> bool:
        """Whether a move is shown that is not small."""
        return self.size in ("moderate", "large")

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
            if len(self.counts) == 1:
                return "There is only one kind, so its share cannot move."
            return "There are too few of each kind to tell whether the mix moved."
        by_chance = f"and about {self.psi_by_chance:.2f} where nothing moved"
        figures = f"chi-square p {p_text(self.p_value)}; PSI {self.psi:.2f}, {by_chance}"
        text = f"{f'A {self.size}' if self.size else 'No'} move of the mix is shown ({figures})."
        if not self.moved:
            return text
        rise = {kind: new - old for kind, (old, new) in self.shares.items()}
        more, less = max(rise, key=rise.__getitem__), min(rise, key=rise.__getitem__)
        shown = {kind: f"{kind} ({old:.0%} to {new:.0%})" for kind, (old, new) in self.shares.items()}
        return f"{text} Most more: {shown[more]}; most less: {shown[less]}."


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
        psi_by_chance=float((len(used) - 1) * (1 / table.sum(axis=1)).sum()),
    )
