"""The sign-flip permutation test: exact for few cases or clusters, seeded draws for many.

Under "no difference" the two arms' labels may be swapped within a case (a cluster swaps as a whole), which flips the
sign of its difference. No normality is needed: what `paired`'s t test is checked against when cases are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.display import Shown
from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, cluster_codes, cluster_sums, floats

__all__ = ["SignFlipTest", "sign_flip_test"]

EXACT_UP_TO = 20  # 2^19 patterns, half of them by symmetry
CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignFlipTest(Shown):
    """A sign-flip test of the mean paired difference.

    Attributes:
        value: mean difference.
        p_value: two-sided; exact, or (hits + 1) / (n_resamples + 1).
        n, n_clusters: cases, and clusters whose signs flip together (equal to `n` for independent cases).
        n_resamples: sign patterns that were looked at.
        method: "exact" or "random" sign flips, in words.
    """

    value: float
    p_value: float
    n: int
    n_clusters: int
    n_resamples: int
    method: str


def sign_flip_test(
    differences: ArrayLike, clusters: ArrayLike | None = None, *, seed: int, n_resamples: int = 10_000
) -> SignFlipTest:
    """The two-sided sign-flip test of the mean of per-case differences, shape (n,).

    All patterns where at most 20 cases (clusters) differ, else `n_resamples` random ones; the observed pattern counts
    as one of them (Phipson and Smyth 2010). Memory is bounded. Raises DataError below two cases or clusters.

    >>> sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    >>> sign_flip_test(sleep, seed=0).p_value
    0.00390625
    """
    d = floats(differences, "differences", at_least=2)
    sums = d if clusters is None else cluster_sums(d, cluster_codes(clusters, n=d.size))
    if sums.size < 2:
        raise DataError(f"all {d.size} cases are in one cluster: nothing to flip against")
    if n_resamples < 1:
        raise ValueError(f"n_resamples == {n_resamples}, must be >= 1")
    dust = 1e-12 * float(np.abs(d).sum())
    units = sums[np.abs(sums) > dust]  # a sum of zero stays what it is
    if units.size <= EXACT_UP_TO:
        flipped, extra = _all_sums(units), 0
    else:
        flipped, extra = _random_sums(units, rng=np.random.default_rng(seed), n_resamples=n_resamples), 1
    hits = int(np.count_nonzero(np.abs(flipped) >= abs(float(units.sum())) - dust))
    way = "exact" if not extra else f"{n_resamples:,} random"
    what = "cases" if clusters is None else "clusters"
    return SignFlipTest(
        value=float(d.mean()),
        p_value=(hits + extra) / (flipped.size + extra),
        n=d.size,
        n_clusters=sums.size,
        n_resamples=flipped.size,
        method=f"sign-flip permutation over {what}, {way} flips",
    )


def _all_sums(units: FloatArray) -> FloatArray:
    """The sums under every sign pattern, the first sign held (the other half mirrors it)."""
    sums = units[:1].copy() if units.size else np.zeros(1)
    for unit in units[1:]:
        sums = np.concatenate([sums + unit, sums - unit])
    return sums


def _random_sums(units: FloatArray, *, rng: np.random.Generator, n_resamples: int) -> FloatArray:
    """Sums under random signs: one random byte flips eight units, looked up in a table of its 256 sums."""
    padded = np.zeros(-(-units.size // 8) * 8)
    padded[: units.size] = units
    signs = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1
    tables = padded.reshape(-1, 8) @ signs.T  # (groups of eight, 256)
    sums = np.zeros(n_resamples)
    per_chunk = max(1, CHUNK_BYTES // n_resamples)
    for start in range(0, len(tables), per_chunk):
        some = tables[start : start + per_chunk]
        flips = rng.integers(0, 256, size=(len(some), n_resamples), dtype=np.uint8)
        for table, row in zip(some, flips, strict=True):
            sums += table[row]
    return sums
