"""Arrays as the statistics need them: one-dimensional floats of equal length, infinities refused, gaps as NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlab.base.errors import DataError

FloatArray = npt.NDArray[np.float64]
GroupIndex = npt.NDArray[np.intp]
Values = Sequence[Any] | npt.NDArray[Any]
Bounds = tuple[float, float]  # the least and the most that a value can be

ROUNDED_OFF = 1e-12  # of the two numbers: what a few operations on them lose
MOST_CELLS = 1 << 21  # of the arrays that a chunk of resamples is made of
_ROUNDED_OFF_SCALE = 16 * float(np.finfo(np.float64).eps)  # of the whole scale: what is lost of small ones beside large


def floats(
    values: npt.ArrayLike, name: str, *, length: int | None = None, at_least: int = 0, gaps: bool = False
) -> FloatArray:
    """The values as a 1-D float array; None becomes NaN, which is refused unless `gaps` are allowed.

    Raises:
        DataError: not one-dimensional, not of the `length` asked for, fewer than `at_least`, infinite, or with gaps
            that are not allowed.

    >>> floats([1, None, 0], "scores", gaps=True)
    array([ 1., nan,  0.])
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"{name} has {array.ndim} dimensions, must have 1")
    if length is not None and len(array) != length:
        raise DataError(f"{name} has {len(array)} values where {length} are needed: one per row")
    if len(array) < at_least:
        cases = "case" if len(array) == 1 else "cases"
        raise DataError(f"{len(array)} {cases} in {name}: at least {at_least} are needed; add cases")
    if np.isfinite(array).all():
        return array
    if len(infinite := np.flatnonzero(np.isinf(array))):
        raise DataError(f"{name}[{infinite[0]}] is infinite: leave it out or mark it unscored")
    if not gaps:
        raise DataError(f"{name}[{np.isnan(array).argmax()}] is missing: leave the row out and count it")
    return array


def paired_differences(candidate: npt.ArrayLike, baseline: npt.ArrayLike, *, scale: float | None = None) -> FloatArray:
    """candidate - baseline, exactly 0 where the two are equal but for rounding.

    0.1 + 0.2 is not 0.3 in binary, and a difference of 5.6e-17 in every case is no finding. Rounding is what is below
    1e-12 of the two numbers, or below 16 units in the last place of the scale: the largest number of both arms, or the
    `scale` of the metric where that is larger.

    >>> paired_differences([0.1 + 0.2, 0.5], [0.3, 0.4]).round(3).tolist()
    [0.0, 0.1]
    """
    b, a = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    differences: FloatArray = b - a
    sizes = np.maximum(np.abs(b), np.abs(a))
    largest = max(float(np.fmax.reduce(sizes, axis=None, initial=0.0)), scale or 0.0)
    differences[np.abs(differences) <= np.maximum(ROUNDED_OFF * sizes, _ROUNDED_OFF_SCALE * largest)] = 0.0
    return differences


def is_missing(label: Any) -> bool:
    """Whether a row carries no label: None or NaN."""
    return label is None or (isinstance(label, float) and math.isnan(label))


def places(labels: Values, known: Mapping[Any, int], *, name: str, rule: str) -> GroupIndex:
    """The number that `known` has for each label, -1 where it is missing (None or NaN); DataError for another label."""
    plain = _plain(labels)
    index = [-1 if is_missing(label) else known.get(label, -2) for label in plain]
    if -2 in index:
        row = index.index(-2)
        raise DataError(f"{name}[{row}] == {plain[row]!r}{rule}")
    return np.array(index, dtype=np.intp)


def codes(labels: Values, name: str, *, length: int) -> tuple[GroupIndex, list[Any]]:
    """Group numbers 0..G-1 in order of first appearance, and the groups' labels.

    Raises:
        DataError: not one label per row, or a row without a label (None or NaN).

    >>> codes(["b", "a", "b"], "task", length=3)
    (array([0, 1, 0]), ['b', 'a'])
    """
    plain = _plain(labels)
    if len(plain) != length:
        raise DataError(f"{name} has {len(plain)} values where {length} are needed: one per row")
    gone = [row for row, label in enumerate(plain) if is_missing(label)]
    if gone:
        raise DataError(f"{name}[{gone[0]}] is missing: give every row a label (rows without one: {len(gone):,})")
    numbers: dict[Any, int] = {}
    index = np.fromiter((numbers.setdefault(label, len(numbers)) for label in plain), dtype=np.intp, count=length)
    return index, list(numbers)


def cluster_codes(labels: npt.ArrayLike, *, n: int) -> GroupIndex:
    """Cluster labels (strings, integers, ...) as codes 0 to G - 1, none of them empty, shape (n,).

    Integers that already are such codes come back quickly; code text once and reuse it where many metrics share it.

    >>> cluster_codes(["b", "a", "b"], n=3).tolist()
    [0, 1, 0]
    """
    return codes_and_sizes(labels, n=n)[0]


def codes_and_sizes(labels: npt.ArrayLike, *, n: int) -> tuple[GroupIndex, npt.NDArray[np.intp]]:
    """Cluster labels as `cluster_codes`, and the number of cases in each cluster, shape (G,)."""
    numbers: npt.NDArray[Any] = np.asarray(labels)
    of_case = numbers
    if numbers.ndim != 1 or len(numbers) != n or numbers.dtype.kind not in "iu":
        of_case = codes(numbers, "clusters", length=n)[0]
    elif not n or numbers.min() < 0 or numbers.max() >= n:
        of_case = np.unique(numbers, return_inverse=True)[1]
    sizes = np.bincount(of_case)
    if n and not sizes.all():
        of_case, sizes = (np.cumsum(sizes > 0) - 1)[of_case], sizes[sizes > 0]
    return of_case.astype(np.intp, copy=False), sizes


def cluster_sums(values: FloatArray, of_case: GroupIndex) -> FloatArray:
    """The sum of the values in each cluster, shape (G,)."""
    return np.bincount(of_case, weights=values).astype(np.float64, copy=False)


def over_resamples(
    statistic: Callable[[FloatArray], FloatArray], *, resamples: int, n_clusters: int, width: int, seed: int
) -> FloatArray:
    """The statistic of resamples in which as many clusters are drawn as there are, one row each.

    It is given how often each cluster was drawn, shape (rows, n_clusters), for as many rows at a time as arrays of
    `width` columns leave memory for.
    """
    rng, rows, parts = np.random.default_rng(seed), max(1, MOST_CELLS // width), []
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        draws = rng.integers(0, n_clusters, size=(n, n_clusters)) + np.arange(n)[:, None] * n_clusters
        counts = np.bincount(draws.ravel(), minlength=n * n_clusters).reshape(n, n_clusters)
        parts.append(statistic(counts.astype(np.float64)))
    return np.concatenate(parts)


def open_unit(value: float, name: str) -> float:
    """The value, which must lie strictly between 0 and 1 (a level, a power, a share)."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} == {value}, must lie between 0 and 1")
    return float(value)


def _plain(values: Values) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
