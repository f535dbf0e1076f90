"""A number with its uncertainty: the value that every statistic in llmlab returns or contains."""

from __future__ import annotations

from dataclasses import dataclass

from llmlab.display import Interval, Shown

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Estimate(Shown):
    """A point estimate with its interval.

    Attributes:
        value: the estimate, None when it is undefined (never NaN).
        low, high: the interval's ends, None when there is no honest interval.
        level: confidence level of the interval, for example 0.95.
        n: independent cases that were scored.
        n_attempted: cases that were tried, scored or not.
        method: the estimator in the field's words.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int = 0
    n_attempted: int = 0
    method: str = ""

    def __str__(self) -> str:
        return str(Interval(self.value, self.low, self.high))
