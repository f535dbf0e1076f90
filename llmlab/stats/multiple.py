"""Many p values at once: Holm for a decision, Benjamini-Hochberg for exploring.

`compare` and the gate use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.base.display import Shown
from llmlab.stats.arrays import FloatArray, open_unit

__all__ = ["AdjustedPValues", "benjamini_hochberg", "holm"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AdjustedPValues(Shown):
    """P values of one family, adjusted together, in the order they came in.

    Attributes:
        p_values, p_adjusted: as given, and adjusted; compare the latter with `alpha`.
        rejected: p_adjusted <= alpha.
        alpha: familywise error rate (Holm) or false discovery rate (Benjamini-Hochberg).
        method: which of the two.
    """

    p_values: tuple[float, ...]
    p_adjusted: tuple[float, ...]
    rejected: tuple[bool, ...]
    alpha: float
    method: str

    def _rows(self) -> list[dict[str, object]]:
        columns = zip(self.p_values, self.p_adjusted, self.rejected, strict=True)
        return [{"p": p, "p adjusted": adjusted, "rejected": rejected} for p, adjusted, rejected in columns]

    def _sentence(self) -> str:
        return f"{sum(self.rejected)} of {len(self.p_values)} rejected at {self.alpha:g} ({self.method})"


def holm(p_values: ArrayLike, *, alpha: float = 0.05) -> AdjustedPValues:
    """Holm's step-down adjustment (1979): the chance of one false rejection or more in the family is <= alpha.

    >>> holm([0.01, 0.04, 0.03]).p_adjusted
    (0.03, 0.06, 0.06)
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return _adjusted(p, stepped, order, alpha=alpha, method="Holm")


def benjamini_hochberg(p_values: ArrayLike, *, alpha: float = 0.05) -> AdjustedPValues:
    """Benjamini and Hochberg's step-up adjustment (1995): false rejections are <= alpha of all, on average.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).p_adjusted
    (0.03, 0.04, 0.04)
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    return _adjusted(p, stepped, order, alpha=alpha, method="Benjamini-Hochberg")


def _p_values(p_values: ArrayLike) -> FloatArray:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p values must be a vector of numbers from 0 to 1: leave undefined ones out and count them")
    return p


def _adjusted(
    p: FloatArray, stepped: FloatArray, order: NDArray[np.intp], *, alpha: float, method: str
) -> AdjustedPValues:
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return AdjustedPValues(
        p_values=tuple(p.tolist()),
        p_adjusted=tuple(adjusted.tolist()),
        rejected=tuple((adjusted <= open_unit(alpha, "alpha")).tolist()),
        alpha=alpha,
        method=method,
    )
