"""BCa bootstrap intervals of a mean or a ratio of sums, over cases or clusters, without drawing a single resample.

The resampled sum of n draws from n deviations has a distribution that can be computed: the n-fold convolution of
their frequency table, which is one power in Fourier space. That is what 10,000 random resamples approximate; computed,
it carries no noise of its own, needs no seed, takes milliseconds, and pass/fail scores are just a short table.
For clusters of unequal sizes "mean <= t" is "sum of (S_c - t n_c) <= 0", the same computation at each t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmlab.base.errors import DataError
from llmlab.stats.arrays import FloatArray, cluster_codes, cluster_sums, floats, open_unit
from llmlab.stats.estimate import Estimate

__all__ = ["bca_mean", "bca_ratio"]

FEW_CASES = 20
TOO_FEW_SUCCESSES = "some resamples come with a denominator of 0: too few successes for a bootstrap interval"
SPAN_SDS = 24  # the lattice reaches 12 standard deviations of the sum to either side
CELLS_PER_SD = 8  # of one deviation
LEAST_CELLS = 1 << 14
NEGLIGIBLE = 1e-18  # of a characteristic function


def bca_mean(values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """The mean of per-case values or differences, shape (n,), with its BCa interval (Efron 1987).

    Cases are resampled, or whole clusters; never repeats (reduce them first). All values equal: no width, and said.
    Raises DataError below two cases or clusters, ValueError for NaN.

    >>> print(bca_mean([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]))
    1.6 [1.1, 2.6]
    """
    x = floats(values, "values", at_least=2)
    return _bca(x, np.ones(x.size), clusters=clusters, level=level, what="mean")


def bca_ratio(
    numerator: ArrayLike, denominator: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """sum(numerator) / sum(denominator) over cases, with its BCa interval; denominators are 0 or more.

    Raises DataError where the denominators are all 0, or so few are not that resamples come without any.

    >>> print(bca_ratio([1.0, 2.0, 3.0, 1.0, 2.0, 4.0] * 5, [1, 0, 1, 1, 0, 1] * 5))
    3.2 [2.4, 4.4]
    """
    x = floats(numerator, "numerator", at_least=2)
    y = floats(denominator, "denominator", at_least=2)
    if x.shape != y.shape or (y < 0).any():
        raise ValueError("numerator and denominator must be one number each per case, denominators 0 or more")
    if not y.any():
        raise DataError("every denominator is 0: the ratio is undefined")
    return _bca(x, y, clusters=clusters, level=level, what="ratio of sums")


def _bca(tops: FloatArray, bottoms: FloatArray, *, clusters: ArrayLike | None, level: float, what: str) -> Estimate:
    open_unit(level, "level")
    n = tops.size
    if clusters is not None:
        codes = cluster_codes(clusters, n=n)
        tops, bottoms = cluster_sums(tops, codes), cluster_sums(bottoms, codes)
    if tops.size < 2:
        raise DataError(f"all {n} cases are in one cluster: nothing to resample")
    value = float(tops.sum() / bottoms.sum())
    units = "cases" if clusters is None else "clusters"
    notes: tuple[str, ...] = ()
    if tops.size < FEW_CASES:
        notes = (f"fewer than {FEW_CASES} {units}: the interval tends to be too narrow",)
    residuals = tops - value * bottoms
    if float(np.abs(residuals).max()) <= 1e-10 * float(np.abs(tops).max()):
        low = high = value
        notes += (f"all {units} have the same value: the interval has no width, which is not certainty",)
    else:
        low, high = _bca_ends(tops, bottoms, value=value, level=level)
        if (bottoms > 0).all():  # a resampled ratio lies between those of single units; the grid may miss by a step
            ratios = tops / bottoms
            low, high = max(low, float(ratios.min())), min(high, float(ratios.max()))
    method = f"{what}, BCa bootstrap over {units}"
    return Estimate(value=value, low=low, high=high, level=level, n=n, n_attempted=n, method=method, notes=notes)


def _bca_ends(tops: FloatArray, bottoms: FloatArray, *, value: float, level: float) -> tuple[float, float]:
    from scipy.special import ndtr, ndtri

    residuals = tops - value * bottoms
    at_value = _ResampledSum.of(residuals)
    bias = float(ndtri(at_value.share_below(0.0)))
    acceleration = _acceleration(tops, bottoms)
    shifted = [bias + float(ndtri((1 + side * level) / 2)) for side in (-1, 1)]
    shares = [float(ndtr(bias + z / (1 - acceleration * z))) for z in shifted]
    if bottoms.min() == bottoms.max():
        low, high = (value + at_value.quantile(share) / float(bottoms.sum()) for share in shares)
        return low, high
    if float(np.mean(bottoms == 0)) ** bottoms.size > 1e-4:
        raise DataError(TOO_FEW_SUCCESSES)
    scale = float(np.std(residuals)) * tops.size**0.5 / float(bottoms.sum())
    low, high = (_quantile_of_ratio(tops, bottoms, share=share, start=value, scale=scale) for share in shares)
    return low, high


def _acceleration(tops: FloatArray, bottoms: FloatArray) -> float:
    """Efron's acceleration from the jackknife."""
    rest = bottoms.sum() - bottoms
    if not rest.all():
        raise DataError("one case or cluster holds the whole denominator: no interval without a second")
    left_out = (tops.sum() - tops) / rest
    pulls = left_out.mean() - left_out
    return float((pulls**3).sum() / (6 * (pulls**2).sum() ** 1.5))


def _quantile_of_ratio(tops: FloatArray, bottoms: FloatArray, *, share: float, start: float, scale: float) -> float:
    """The t at which a share of resampled ratios lies below t."""
    from scipy.optimize import brentq

    def excess(t: float) -> float:
        residuals = tops - t * bottoms
        return _ResampledSum.of(residuals).share_below(-float(residuals.sum())) - share

    ends = []
    for side in (-1.0, 1.0):
        reach = 3.0
        while side * excess(start + side * reach * scale) < 0:
            reach *= 2
            if reach > 1e6:
                raise DataError(TOO_FEW_SUCCESSES)
        ends.append(start + side * reach * scale)
    return float(brentq(excess, ends[0], ends[1], xtol=1e-4 * scale))


@dataclass(frozen=True, slots=True)
class _ResampledSum:
    """The distribution of sum(draws - mean) over n draws with replacement, on a lattice around 0."""

    edges: FloatArray
    shares: FloatArray  # cumulative, at the edges

    @classmethod
    def of(cls, values: FloatArray) -> _ResampledSum:
        n, sd = values.size, float(np.std(values))
        cells = max(LEAST_CELLS, 1 << math.ceil(math.log2(SPAN_SDS * CELLS_PER_SD * n**0.5)))
        step = SPAN_SDS * sd * n**0.5 / cells
        places = (values - values.mean()) / step
        lower = np.floor(places)
        upper_share = places - lower  # split between two cells, so that the mean is kept exactly
        cell = lower.astype(np.intp) % cells
        table = np.bincount(cell, weights=1 - upper_share, minlength=cells)
        table += np.bincount((cell + 1) % cells, weights=upper_share, minlength=cells)
        summed = np.fft.irfft(_power(np.fft.rfft(table / n), n), cells)
        shares = np.cumsum(np.maximum(np.roll(summed, cells // 2), 0.0))
        split_variance = float(upper_share @ (1 - upper_share)) / n  # what the splitting added, taken out again
        step *= (1 + split_variance * (step / sd) ** 2) ** -0.5
        return cls((np.arange(cells) - cells // 2 + 0.5) * step, shares / shares[-1])

    def share_below(self, bound: float) -> float:
        """The share of resamples below the bound, half of those at it."""
        return float(np.interp(bound, self.edges, self.shares))

    def quantile(self, share: float) -> float:
        return float(np.interp(share, self.shares, self.edges))


def _power(spectrum: NDArray[np.complex128], n: int) -> NDArray[np.complex128]:
    """spectrum ** n, computed only where the result is not negligible (a few dozen places, as a rule)."""
    matters = np.abs(spectrum) > NEGLIGIBLE ** (1 / n)
    power = np.zeros_like(spectrum)
    power[matters] = spectrum[matters] ** n
    return power
