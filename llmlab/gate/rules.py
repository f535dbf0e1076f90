"""The four burdens of proof as functions of one difference: what PASS and what FAIL ask of it.

A difference is turned beforehand so that more is better. `asked` is the confidence of claims that let a candidate
through (the price of looking is in it), `confidence` the policy's own, at which a failure is shown. Unscored answers
give three differences, as seen and at their worst and best for the candidate; a verdict needs all of them to agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmlab.base.verdict import Verdict
from llmlab.stats.paired import PairedDifference, non_inferiority

__all__ = ["PLANNED_GAIN", "harm_p", "non_inferior", "reaches", "superior", "unanimous"]

PLANNED_GAIN = 1.5  # times min_effect: were that itself the truth, `superior` would PASS half the time at any n
DUST = 1e-12


def superior(
    d: PairedDifference, *, min_effect: float, asked: float, confidence: float, span: float | None = None
) -> Verdict:
    """PASS: the interval lies above 0 and the value reaches `min_effect`. FAIL: the interval lies below `min_effect`.

    An interval without width (nothing varies) is not certainty: PASS needs the sign-flip test's p too, and FAIL that
    a mean effect of `min_effect` would have shown itself. Fewer than 4 effective df: INCONCLUSIVE.

    >>> from llmlab.stats.paired import mean_difference
    >>> superior(mean_difference([0.3, 0.1, 0.2, 0.4] * 5), min_effect=0.02, asked=0.95, confidence=0.95)
    'PASS'
    """
    if d.too_few_clusters:
        return Verdict.INCONCLUSIVE
    low = d.interval(asked).low
    if low is not None and low > 0 and d.value >= min_effect - DUST and d.p_value < 1 - asked:
        return Verdict.PASS
    return Verdict.FAIL if _below(d, min_effect, span) < (1 - confidence) / 2 else Verdict.INCONCLUSIVE


def non_inferior(
    d: PairedDifference, *, margin: float, asked: float, confidence: float, span: float | None = None
) -> Verdict:
    """PASS: harm of `margin` or more is ruled out (one-sided). FAIL: the whole interval lies beyond the margin."""
    if d.too_few_clusters:
        return Verdict.INCONCLUSIVE
    if non_inferiority(d, margin=margin, confidence=asked, span=span).shown:
        return Verdict.PASS
    return Verdict.FAIL if d.p_below(-margin) < 1 - confidence else Verdict.INCONCLUSIVE


def reaches(d: PairedDifference, *, asked: float, confidence: float, span: float | None = None) -> Verdict:
    """A floor, `d` being the mean's distance above it. PASS: the two-sided interval clears it. FAIL: it lies below."""
    if d.too_few_clusters:
        return Verdict.INCONCLUSIVE
    above = d.p_above(0.0)
    if d.se == 0 and span is not None and d.value > 0:
        above = float(max(0.0, 1 - d.value / span) ** d.independent)
    if above < (1 - asked) / 2:
        return Verdict.PASS
    return Verdict.FAIL if _below(d, 0.0, span) < (1 - confidence) / 2 else Verdict.INCONCLUSIVE


def harm_p(d: PairedDifference, *, margin: float) -> float:
    """One-sided p of "the harm is `margin` or less"; no_shown_harm FAILs where it is small (after Holm)."""
    return d.p_below(-margin)


def unanimous(words: Sequence[Verdict]) -> Verdict:
    """The word that all readings share, else INCONCLUSIVE: then the unscored answers decide, and nobody knows them.

    >>> unanimous([Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.PASS])
    'INCONCLUSIVE'
    """
    return words[0] if len(set(words)) == 1 else Verdict.INCONCLUSIVE


def _below(d: PairedDifference, bound: float, span: float | None) -> float:
    """P value against "the truth is `bound` or more"; without variance by the chance that nobody showed it."""
    if d.se == 0 and span is not None and d.value < bound:
        return float(max(0.0, 1 - (bound - d.value) / span) ** d.independent)
    return d.p_below(bound)
