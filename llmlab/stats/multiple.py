"""Many p values at once: Holm's adjustment. `compare` and the gate use it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["holm"]


def holm(p_values: ArrayLike) -> tuple[float, ...]:
    """P values of one family, adjusted by Holm's step-down (1979), in the order they came in.

    Rejecting where the adjusted p is <= alpha, the chance of one false rejection or more in the family is <= alpha.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p values must be a vector of numbers from 0 to 1: leave undefined ones out and count them")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return tuple(adjusted.tolist())
