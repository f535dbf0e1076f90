"""The difference between two arms' quantiles (p95 latency and the like), by a bootstrap over clusters.

Only for arms that were interleaved in one sweep, with our own waiting for rate limits left out of the times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, cluster_codes, floats, open_unit
from llmlab.stats.estimate import Estimate

__all__ = ["quantile_difference"]

LEAST_BEYOND = 10  # rows beyond the quantile, per arm; with fewer the bootstrap of a quantile is fiction
LEAST_CLUSTERS = 10
CHUNK_BYTES = 1 << 24


def quantile_difference(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    q: float,
    seed: int,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2_000,
) -> Estimate:
    """The candidate's q-quantile minus the baseline's, shapes (n,) in the same order, with a percentile interval.

    Rows are pairs; repeats of a case stay rows and share a cluster. Whole clusters are resampled, both arms together.
    A quantile is the smallest value with at least a share q at or below it. Raises DataError where fewer than 10 rows
    lie beyond the quantile, or in fewer than 10 clusters.

    >>> fast = np.linspace(0.5, 2.5, 400)
    >>> quantile_difference(fast, fast + 1.0, q=0.95, seed=0).value
    1.0
    """
    a, b = floats(baseline, "baseline"), floats(candidate, "candidate")
    if a.shape != b.shape:
        raise ValueError(f"baseline has {a.size} rows, candidate {b.size}: pair them by id first")
    codes = np.arange(a.size) if clusters is None else cluster_codes(clusters, n=a.size)
    n_clusters = int(codes.max()) + 1
    _refuse_thin_tails(a.size, n_clusters, q=open_unit(q, "q"))
    tail = (1 - open_unit(level, "level")) / 2
    value = _weighted_quantiles(b, np.ones((1, a.size)), q)[0] - _weighted_quantiles(a, np.ones((1, a.size)), q)[0]
    rng, drawn = np.random.default_rng(seed), np.empty(n_resamples)
    rows = max(1, CHUNK_BYTES // (8 * a.size))
    for start in range(0, n_resamples, rows):
        part = drawn[start : start + rows]
        weights = _cluster_weights(rng, part.size, n_clusters=n_clusters)[:, codes]
        part[:] = _weighted_quantiles(b, weights, q) - _weighted_quantiles(a, weights, q)
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
    units = "cases" if clusters is None else "clusters"
    return Estimate(
        value=float(value),
        low=low,
        high=high,
        level=level,
        n=n_clusters,
        n_attempted=n_clusters,
        method=f"difference of {100 * q:g}% quantiles, percentile bootstrap over {n_clusters:,} {units}",
    )


def _refuse_thin_tails(n: int, n_clusters: int, *, q: float) -> None:
    beyond = int(n * min(q, 1 - q) + 1e-9)
    if beyond < LEAST_BEYOND:
        need = int(np.ceil(LEAST_BEYOND / min(q, 1 - q) - 1e-9))
        raise DataError(
            f"{beyond} of {n} rows lie beyond the {100 * q:g}% quantile, {LEAST_BEYOND} are needed: "
            f"measure {need:,} rows, or ask for a less extreme quantile"
        )
    if n_clusters < LEAST_CLUSTERS:
        raise DataError(f"{n_clusters} clusters, at least {LEAST_CLUSTERS} are needed to resample them")


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
