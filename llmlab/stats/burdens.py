"""The burdens of proof as functions of one difference: what PASS and what FAIL ask of it, wherever a margin is read.

`compare(margin=)`, the reading of harm by category and the gate all ask here. A difference is turned beforehand so that
more is better (`PairedDifference.turned`). `asked` is the confidence of claims that let a candidate through (the price
of looking is in it), `confidence` the one at which a failure is shown. Unscored answers give three differences, as seen
and at their worst and best for the candidate; a verdict needs all of them to agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.numbers import ROUNDING
from llmlab.base.verdict import Verdict
from llmlab.stats.paired import PairedDifference

PLANNED_GAIN = 1.5  # times min_effect: were that itself the truth, `superior` would PASS half the time at any n


def superior(d: PairedDifference, *, min_effect: float, asked: float, confidence: float) -> Verdict:
    """PASS: the interval lies above 0 and the value reaches `min_effect`. FAIL: the interval lies below `min_effect`.

    Fewer than 4 effective df: INCONCLUSIVE.

    >>> from llmlab.stats.paired import mean_difference
    >>> superior(mean_difference([0.3, 0.1, 0.2, 0.4] * 5), min_effect=0.02, asked=0.95, confidence=0.95)
    'PASS'
    """
    passes = d.p_above(0.0) < (1 - asked) / 2 and d.value >= min_effect - ROUNDING
    return _word(d, passes=passes, fails=d.p_below(min_effect) < (1 - confidence) / 2)


def non_inferior(d: PairedDifference, *, margin: float, asked: float = 0.95, confidence: float = 0.95) -> Verdict:
    """PASS: harm of `margin` or more is ruled out. FAIL: the whole interval lies beyond the margin.

    Read off the lower end of the two-sided interval at level 2 * confidence - 1. Several such conditions that must all
    hold need no adjustment (intersection-union test, Berger 1982). Fewer than 4 effective df: INCONCLUSIVE.

    >>> from llmlab.stats.paired import mean_difference
    >>> [non_inferior(mean_difference([0.0] * n, bounds=(-1, 1)), margin=0.05) for n in (5, 58, 59)]
    ['INCONCLUSIVE', 'INCONCLUSIVE', 'PASS']
    """
    if not margin >= 0:
        raise ValueError(f"margin == {margin}, must be 0 or more (the harm that is tolerated)")
    for name, level in (("asked", asked), ("confidence", confidence)):
        if not 0.5 < level < 1:
            raise ValueError(f"{name} == {level}, must lie between 0.5 and 1")
    return _word(d, passes=d.p_above(-margin) < 1 - asked, fails=d.p_below(-margin) < 1 - confidence)


def reaches(d: PairedDifference, bound: float, *, asked: float, confidence: float) -> Verdict:
    """A floor under a mean that is no share. PASS: the two-sided interval lies above it. FAIL: it lies below."""
    return _word(d, passes=d.p_above(bound) < (1 - asked) / 2, fails=d.p_below(bound) < (1 - confidence) / 2)


def _word(d: PairedDifference, *, passes: bool, fails: bool) -> Verdict:
    if d.too_few_clusters:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if passes else Verdict.FAIL if fails else Verdict.INCONCLUSIVE


def unanimous(words: Sequence[Verdict]) -> Verdict:
    """The word that all readings share, else INCONCLUSIVE: then the unscored answers decide, and nobody knows them.

    >>> unanimous([Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.PASS])
    'INCONCLUSIVE'
    """
    return words[0] if len(set(words)) == 1 else Verdict.INCONCLUSIVE


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
