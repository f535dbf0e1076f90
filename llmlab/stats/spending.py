"""The price of another look: alpha spent over planned looks (group sequential), or over looks nobody planned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from llmlab.display import Shown
from llmlab.stats.arrays import FloatArray, open_unit

__all__ = ["LookPlan", "halving_levels", "obrien_fleming_spending", "planned_looks", "pocock_spending"]

Spending = Callable[[float, float], float]
_STEP = 0.02  # of the integration grid, in standard errors of the increment


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LookPlan(Shown):
    """Two-sided tests at looks with these shares of the final cases.

    Attributes:
        fractions: share of the final number of cases at each look, increasing, at most 1.
        spent: cumulated two-sided alpha after each look.
        z: critical value of each look.
        levels: confidence level of the interval to be read at each look.
    """

    fractions: tuple[float, ...]
    spent: tuple[float, ...]
    z: tuple[float, ...]
    levels: tuple[float, ...]

    def _rows(self) -> list[dict[str, object]]:
        columns = zip(self.fractions, self.spent, self.z, self.levels, strict=True)
        return [{"share of cases": t, "alpha spent": a, "z": z, "read the interval at": c} for t, a, z, c in columns]


def obrien_fleming_spending(fraction: float, alpha: float) -> float:
    """Alpha spent at this share of the cases, one-sided: very little early (Lan & DeMets 1983, Biometrika 70).

    >>> round(obrien_fleming_spending(0.5, 0.025), 5)
    0.00153
    """
    return float(2 * special.ndtr(special.ndtri(alpha / 2) / math.sqrt(fraction)))


def pocock_spending(fraction: float, alpha: float) -> float:
    """Alpha spent at this share of the cases, one-sided: about evenly (Lan & DeMets 1983, Biometrika 70).

    >>> round(pocock_spending(0.5, 0.025), 5)
    0.0155
    """
    return alpha * math.log1p((math.e - 1) * fraction)


def planned_looks(
    fractions: Sequence[float], *, alpha: float = 0.05, spending: Spending = obrien_fleming_spending
) -> LookPlan:
    """Critical values of two-sided tests at planned looks, so that all looks together reject at most `alpha`.

    Recursive numerical integration (Armitage, McPherson & Rowe 1969); alpha / 2 is spent on each side.

    >>> [round(z, 3) for z in planned_looks([0.2, 0.4, 0.6, 0.8, 1.0]).z]
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    shares = [float(share) for share in fractions]
    open_unit(alpha, "alpha")
    if not shares or any(b <= a for a, b in zip([0.0, *shares], shares, strict=False)) or shares[-1] > 1:
        raise ValueError(f"fractions == {shares}, must rise from above 0 to at most 1")
    spent = [min(spending(share, alpha / 2), alpha / 2) for share in shares]
    bounds = _bounds(shares, spent)
    return LookPlan(
        fractions=tuple(shares),
        spent=tuple(2 * part for part in spent),
        z=tuple(bounds),
        levels=tuple(float(1 - 2 * special.ndtr(-z)) for z in bounds),
    )


def halving_levels(looks: int, *, alpha: float = 0.05) -> tuple[float, ...]:
    """Confidence levels for looks nobody planned: look k spends alpha / 2^k, so all together spend at most `alpha`.

    Bonferroni over the looks: valid whatever was looked at in between, and for every later look.

    >>> halving_levels(3)
    (0.975, 0.9875, 0.99375)
    """
    if looks < 1:
        raise ValueError(f"looks == {looks}, must be >= 1")
    return tuple(1 - open_unit(alpha, "alpha") / 2**look for look in range(1, looks + 1))


def _bounds(shares: list[float], spent: list[float]) -> list[float]:
    """Critical z values: the density of the score process that has not stopped yet is carried from look to look."""
    bounds = [float(-special.ndtri(spent[0]))]
    grid, density = _normal_grid(bounds[0] * math.sqrt(shares[0]), math.sqrt(shares[0]))
    for before, share, used, total in zip(shares, shares[1:], spent, spent[1:], strict=False):
        bound = _exit(grid, density, math.sqrt(share - before), total - used)
        bounds.append(bound / math.sqrt(share))
        grid, density = _carry(grid, density, bound, math.sqrt(share - before))
    return bounds


def _normal_grid(edge: float, sd: float) -> tuple[FloatArray, FloatArray]:
    grid = np.linspace(-edge, edge, _points(edge, sd))
    return grid, _trapezoid(grid) * np.exp(-0.5 * (grid / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def _exit(grid: FloatArray, density: FloatArray, sd: float, spend: float) -> float:
    from scipy import optimize

    def excess(bound: float) -> float:
        return float((density * special.ndtr((grid - bound) / sd)).sum()) - spend

    return float(optimize.brentq(excess, -20.0, grid[-1] + 20.0, xtol=1e-10)) if spend > 0 else float(grid[-1] + 20.0)


def _carry(grid: FloatArray, density: FloatArray, bound: float, sd: float) -> tuple[FloatArray, FloatArray]:
    later = np.linspace(-bound, bound, _points(bound, sd))
    kernel = np.exp(-0.5 * ((later[:, None] - grid[None, :]) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    return later, _trapezoid(later) * (kernel @ density)


def _points(edge: float, sd: float) -> int:
    return int(min(4001, max(401, 2 * edge / (_STEP * sd)))) | 1


def _trapezoid(grid: FloatArray) -> FloatArray:
    weights = np.full(len(grid), grid[1] - grid[0])
    weights[[0, -1]] /= 2
    return weights
