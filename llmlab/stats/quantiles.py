"""Quantiles of one arm and their difference between two (p95 latency and the like), by a bootstrap over clusters.

`summary` and `compare` show them. An answer that was lost took longer than any that came: infinity stands for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, cluster_codes, open_unit
from llmlab.stats.estimate import Estimate
from llmlab.stats.weighted import case_weights

__all__ = ["quantile", "quantile_difference"]

LEAST_BEYOND = 10  # rows beyond the quantile, per arm; with fewer the bootstrap of a quantile is fiction
LEAST_CLUSTERS = 10
CHUNK_BYTES = 1 << 24


def quantile(values: ArrayLike, *, q: float, weights: ArrayLike | None = None) -> float:
    """The smallest value with at least a share q at or below it, shape (n,).

    Raises DataError where fewer than 10 rows lie beyond it, or where it falls among the lost ones.

    >>> quantile(range(1, 201), q=0.95)
    190.0
    """
    x = np.asarray(values, dtype=np.float64)
    _refuse_thin_tails(x.size, q=q)
    found = float(_weighted_quantiles(x, _weights(weights, x.size)[None], q)[0])
    if math.isinf(found):
        raise DataError(f"more than {1 - q:.2g} of the answers are lost")
    return found


def quantile_difference(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    q: float,
    seed: int,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2_000,
) -> Estimate:
    """The candidate's q-quantile minus the baseline's, shapes (n,) in the same order, with a percentile interval.

    Rows are pairs; repeats of a case stay rows and share a cluster. Whole clusters are resampled, both arms together.
    Raises DataError where fewer than 10 rows lie beyond the quantile, in fewer than 10 clusters, or where so many
    answers are lost that the interval reaches them.

    >>> fast = np.linspace(0.5, 2.5, 400)
    >>> quantile_difference(fast, fast + 1.0, q=0.95, seed=0).value
    1.0
    """
    a, b = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"baseline has {a.size} rows, candidate {b.size}: pair them by id first")
    value = quantile(b, q=q, weights=weights) - quantile(a, q=q, weights=weights)
    codes = np.arange(a.size) if clusters is None else cluster_codes(clusters, n=a.size)
    n_clusters, of_row = int(codes.max()) + 1, _weights(weights, a.size)
    if n_clusters < LEAST_CLUSTERS:
        raise DataError(f"{n_clusters} clusters, at least {LEAST_CLUSTERS} are needed to resample them")
    tail = (1 - open_unit(level, "level")) / 2
    rng, ends = np.random.default_rng(seed), np.empty((2, n_resamples))
    rows = max(1, CHUNK_BYTES // (8 * a.size))
    for start in range(0, n_resamples, rows):
        part = ends[:, start : start + rows]
        drawn = _cluster_weights(rng, part.shape[1], n_clusters=n_clusters)[:, codes] * of_row
        part[:] = _weighted_quantiles(a, drawn, q), _weighted_quantiles(b, drawn, q)
    if np.isinf(ends).any(axis=0).mean() > tail / 2:
        raise DataError(f"with the answers that are lost the {100 * q:g}% quantile may lie anywhere")
    kept = ends[:, np.isfinite(ends).all(axis=0)]
    low, high = np.quantile(kept[1] - kept[0], [tail, 1 - tail]).tolist()
    units = "cases" if clusters is None else "clusters"
    return Estimate(
        value=value,
        low=low,
        high=high,
        level=level,
        n=n_clusters,
        n_attempted=n_clusters,
        method=f"difference of {100 * q:g}% quantiles, percentile bootstrap over {n_clusters:,} {units}",
    )


def _weights(weights: ArrayLike | None, n: int) -> FloatArray:
    found = case_weights(weights, n=n)
    return np.ones(n) if found is None else found


def _refuse_thin_tails(n: int, *, q: float) -> None:
    beyond = int(n * min(open_unit(q, "q"), 1 - q) + 1e-9)
    if beyond < LEAST_BEYOND:
        need = int(np.ceil(LEAST_BEYOND / min(q, 1 - q) - 1e-9))
        raise DataError(f"{need:,} answers are needed, there are {n:,}")


def _cluster_weights(rng: np.random.Generator, n_resamples: int, *, n_clusters: int) -> FloatArray:
    """How often each cluster was drawn, shape (n_resamples, n_clusters)."""
    draws = rng.integers(0, n_clusters, size=(n_resamples, n_clusters))
    draws += np.arange(n_resamples)[:, None] * n_clusters
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n_clusters)
    return counts.reshape(n_resamples, n_clusters).astype(np.float64)


def _weighted_quantiles(values: FloatArray, weights: FloatArray, q: float) -> FloatArray:
    """The q-quantile of the values under each row of weights (inverse of the distribution function)."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    below = np.count_nonzero(reached < q * reached[:, -1:] - 1e-9, axis=1)
    quantiles: FloatArray = values[order][below]
    return quantiles
