"""Has a mix moved, such as the topics of questions.

A test says whether; the population stability index (PSI) says how far, less what it shows of two samples of this size
that are from one distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from llmlab.base.errors import DataError
from llmlab.base.numbers import p_text
from llmlab.display.shown import Shown
from llmlab.stats.arrays import FloatArray

_FEWEST_EXPECTED = 5
MODERATE, LARGE = 0.10, 0.25  # the usual reading of PSI (Siddiqi 2006, Credit Risk Scorecards)
_SHOWN_BELOW = 0.01  # p: drift is looked for again and again
POWER = 0.8
_DRAWS, _MOST_DRAWS = 2_000, 100_000  # at a time, and at most: a watch asks for a p of 1e-4
ENOUGH = 50  # draws as far apart as what was seen: more change p little


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MixDrift(Shown):
    """How far the shares of some kinds moved, and whether that is more than chance.

    Attributes:
        counts: kind -> how many before and after.
        chi2, p_value: Pearson's test of homogeneity, items taken as independent; None where there is one kind only.
        psi: population stability index over the kinds; it says how much, not whether by chance.
        psi_by_chance: what PSI is on average where nothing moved.
    """

    counts: Mapping[str, tuple[int, int]]
    chi2: float | None
    p_value: float | None
    psi: float
    psi_by_chance: float

    @property
    def size(self) -> str:
        """How far it moved: small, moderate or large; "" where no move is shown."""
        if self.p_value is None or self.p_value >= _SHOWN_BELOW:
            return ""
        beyond = self.psi - self.psi_by_chance
        return "large" if beyond >= LARGE else "moderate" if beyond >= MODERATE else "small"

    @property
    def moved(self) -> bool:
        """Whether a move is shown that is not small."""
        return self.size in ("moderate", "large")

    @property
    def _is_telling(self) -> bool:
        """Whether a large move would be shown with 80% power, by the noncentral chi-square test."""
        n_before, n_after = (sum(pair[side] for pair in self.counts.values()) for side in (0, 1))
        df, beyond = len(self.counts) - 1, LARGE / (1 / n_before + 1 / n_after)
        return df > 0 and bool(special.chndtr(special.chdtri(df, _SHOWN_BELOW), df, beyond) <= 1 - POWER)

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
        by_chance = f"and about {self.psi_by_chance:.2f} where nothing moved"
        figures = f"chi-square p {p_text(self.p_value)}; PSI {self.psi:.2f}, {by_chance}"
        missed = "" if self.size or self._is_telling else "; so few may not show even a large one"
        text = f"{f'A {self.size}' if self.size else 'No'} move of the mix is shown ({figures}){missed}."
        if not self.moved:
            return text
        rise = {kind: new - old for kind, (old, new) in self.shares.items()}
        more, less = max(rise, key=rise.__getitem__), min(rise, key=rise.__getitem__)
        shown = {kind: f"{kind} ({old:.0%} to {new:.0%})" for kind, (old, new) in self.shares.items()}
        return f"{text} Most more: {shown[more]}; most less: {shown[less]}."


def mix_drift(before: Mapping[str, int], after: Mapping[str, int], *, seed: int = 0) -> MixDrift:
    """How far the counts of `after` moved from those of `before`, kind by kind.

    scipy's `chi2_contingency` without continuity correction, and (kinds - 1) (1 / n_before + 1 / n_after) as the PSI
    by chance (Yurdakul and Naranjo 2020, Journal of Risk Model Validation 14). Where fewer than five of a kind are
    expected on a side neither holds: p and PSI are then those of the same items dealt out to both sides at random.
    Raises DataError where a side is empty.

    >>> mix_drift({"a": 50, "b": 50}, {"a": 50, "b": 50}).p_value
    1.0
    """
    kinds = [kind for kind in dict.fromkeys([*before, *after]) if before.get(kind) or after.get(kind)]
    table = np.array([[side.get(kind, 0) for kind in kinds] for side in (before, after)])
    if not kinds or (table < 0).any() or (table.sum(axis=1) == 0).any():
        raise DataError(f"{sum(before.values())} before and {sum(after.values())} after: a mix needs some of each")
    sizes, df = table.sum(axis=1, keepdims=True), len(kinds) - 1
    expected = sizes * (table.sum(axis=0) / table.sum())
    chi2 = float(_chi2(table, expected))
    p_value, by_chance = float(special.chdtrc(df, chi2)), float(df * (1 / sizes).sum())
    if df and expected.min() < _FEWEST_EXPECTED:
        p_value, by_chance = _by_draws(table, expected, seed=seed)
    return MixDrift(
        counts={kind: (int(old), int(new)) for kind, (old, new) in zip(kinds, table.T, strict=True)},
        chi2=chi2 if df else None,
        p_value=p_value if df else None,
        psi=float(_psi(table)),
        psi_by_chance=by_chance,
    )


def _by_draws(table: NDArray[np.intp], expected: FloatArray, *, seed: int) -> tuple[float, float]:
    """The p-value and the mean PSI where the items are dealt out to sides of these sizes at random.

    Draws go on until enough are as far apart as the table (Besag and Clifford 1991, Biometrika 78).
    """
    rng, seen, totals = np.random.default_rng(seed), _chi2(table, expected) * (1 - 1e-9), table.sum(axis=0)
    as_far, drawn, by_chance = 0, 0, 0.0
    while as_far < ENOUGH and drawn < _MOST_DRAWS:
        after = rng.multivariate_hypergeometric(totals, table[1].sum(), size=_DRAWS, method="marginals")
        both = np.stack([totals - after, after])
        by_chance = by_chance if drawn else float(_psi(both).mean())
        as_far, drawn = as_far + int((_chi2(both, expected[:, None]) >= seen).sum()), drawn + _DRAWS
    return (as_far + 1) / (drawn + 1), by_chance


def _chi2(counts: NDArray[np.intp], expected: FloatArray) -> FloatArray:
    """Pearson's statistic of tables, shape (2, ..., kinds)."""
    return np.asarray(((counts - expected) ** 2 / expected).sum(axis=(0, -1)))


def _psi(counts: NDArray[np.intp]) -> FloatArray:
    """The stability index of tables, shape (2, ..., kinds), half an item added to each cell."""
    before, after = (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
    return np.asarray(((after - before) * np.log(after / before)).sum(axis=-1))
