"""What a comparison means, in words that somebody who does not read p values can act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmlab.display import Interval, number

if TYPE_CHECKING:
    from llmlab.comparison import PairedRow
    from llmlab.scoretable import Metric
    from llmlab.stats.paired import PairedDifference

__all__ = ["paired_sentence", "rounded_count", "scale_of"]


def paired_sentence(row: PairedRow) -> str:
    """One sentence on one row: the size and interval, and whether that is more than noise or within the margin."""
    place = row.metric.name if row.category is None else f"{row.metric.name} in {row.category}"
    d = row.difference
    if d is None:
        return (
            f"{row.candidate} against {row.baseline} on {place}: fewer than two cases or clusters are scored in both."
        )
    scale, unit = scale_of(row.metric)
    size = f"{_size(d, scale)}{unit} {'higher' if d.value > 0 else 'lower'}"
    interval = f"{d.level:.0%} CI {_ends(d, scale)}"
    if row.verdict is not None:
        return f"{row.candidate} is {size} on {place} ({interval}): {_margin_reading(row, scale, unit)}."
    if row.p_adjusted is not None and row.p_adjusted < 1 - d.level:
        return (
            f"{row.candidate} is {size} than {row.baseline} on {place} ({interval}), larger than case-sampling noise."
        )
    missed = f"a true difference under {_two_digits((row.detectable or 0) * scale)}{unit} is easily missed"
    return (
        f"Not enough evidence that {row.candidate} differs from {row.baseline} on {place} ({interval}); "
        f"with {row.n_pairs} cases {missed}."
    )


def scale_of(metric: Metric) -> tuple[float, str]:
    """How a metric's numbers are said: shares as points of 100, others in their unit."""
    if metric.low == 0 and metric.high == 1:
        return 100.0, " points"
    return 1.0, f" {metric.unit}" if metric.unit else ""


def rounded_count(count: float) -> str:
    """A count with two significant digits, for "about so many": 237 becomes 240.

    >>> rounded_count(237.2)
    '240'
    """
    digits = max(0, math.floor(math.log10(max(count, 1))) - 1)
    return f"{round(math.ceil(count), -digits):,}"


def _margin_reading(row: PairedRow, scale: float, unit: str) -> str:
    margin = f"{number((row.margin or 0) * scale)}{unit}"
    if row.verdict == "PASS":
        return f"harm of {margin} or more is ruled out"
    if row.verdict == "FAIL":
        return f"it is worse by more than the margin of {margin}"
    more = rounded_count(max(1, (row.needed_cases or 0) - row.n_pairs))
    return f"not enough evidence on the margin of {margin}; about {more} more cases would do"


def _size(d: PairedDifference, scale: float) -> str:
    return str(Interval(abs(d.value) * scale, d.low * scale, d.high * scale)).partition(" [")[0]


def _ends(d: PairedDifference, scale: float) -> str:
    ends = str(Interval(d.value * scale, d.low * scale, d.high * scale)).partition("[")[2]
    return ends.rstrip("]").replace(", ", " to ")


def _two_digits(value: float) -> str:
    return number(float(f"{value:.2g}"))
