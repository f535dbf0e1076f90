"""The last window of the traffic, what it is held against, and what each request counts in a metric.

Times of the same weekdays: people ask other things on Sundays. Texts are read of at most 20,000 requests a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.production.lines import SIGNAL
from llmlab.production.policy import Outcome
from llmlab.production.units import metric_of, values_of
from llmlab.results.scores import Metric
from llmlab.scorers.safety import no_injection_markers
from llmlab.stats.arrays import FloatArray, GroupIndex
from llmlab.watch.policy import DAY, Reference

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_TEXTS_AT_MOST = 20_000
_OWN = {
    "quality": Metric(name="quality", higher_is_better=True),
    "injection_markers": Metric(name="injection_markers", low=0.0, high=1.0, higher_is_better=False),
}


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Some requests: their rows in order of time, and a code of each row's unit (of nobody, a unit of its own)."""

    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def units(self) -> GroupIndex:
        """(rows,) a number for each unit."""
        import pandas as pd

        codes, known = pd.factorize(self.rows["unit_id"])
        nobody = np.flatnonzero((self.rows["unit_id"] == "").to_numpy(bool))
        codes = codes.astype(np.intp)
        codes[nobody] = len(known) + np.arange(len(nobody))
        return np.unique(codes, return_inverse=True)[1].astype(np.intp)

    def first_of_each_unit(self) -> Requests:
        """One request of each unit, its first: requests of one person are alike."""
        return Requests(rows=self.rows.iloc[np.unique(self.units, return_index=True)[1]])

    def thinned(self) -> Requests:
        """At most 20,000 of them, evenly over time."""
        if len(self) <= _TEXTS_AT_MOST:
            return self
        positions = np.linspace(0, len(self) - 1, _TEXTS_AT_MOST).astype(np.intp)
        return Requests(rows=self.rows.iloc[positions])

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Requests:
        return Requests(rows=self.rows[chosen])


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """All requests up to a moment.

    Attributes:
        rows: one per request in order of time, as `Traces.frame`.
        now: the moment that windows end at.
        reference: what they are held against.
    """

    rows: pd.DataFrame
    now: datetime
    reference: Reference

    def last(self, length: timedelta, *, windows_ago: int = 0) -> Requests:
        """The last window of this length, or one so many windows before it."""
        end = self.now - windows_ago * length
        return self._between([(end - length, end)])

    def before(self, length: timedelta) -> Requests:
        """What the window is held against: the whole days that end with it on its weekday, or all days before."""
        return self._between(list(self._days(self.now, max(length, DAY))))

    def all_before(self, length: timedelta) -> Requests:
        """All requests of the reference's days before the window: a model that served on any weekday is no news."""
        end = self.now - length
        return self._between([(end - timedelta(days=self.reference.days), end)])

    def days_before(self, *, days_ago: int) -> list[Requests]:
        """What the day so many days ago is held against, day by day."""
        return [self._between([span]) for span in self._days(self.now - days_ago * DAY, DAY)]

    def same_windows_before(self, length: timedelta) -> list[Requests]:
        """Windows of this length that end a day, or a week, or more of them before now, where there were requests."""
        stops = [stop for _, stop in self._days(self.now, max(length, DAY))]
        return [window for stop in stops if len(window := self._between([(stop - length, stop)]))]

    def _days(self, end: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
        step = timedelta(days=7) if self.reference.same_weekdays else DAY
        step *= -(-length // step)
        for back in range(1, timedelta(days=self.reference.days) // step + 1):
            yield end - back * step - length, end - back * step

    def _between(self, spans: list[tuple[datetime, datetime]]) -> Requests:
        import pandas as pd

        key = tuple(spans)
        if key not in self._held:
            parts = []
            for span in sorted(spans):
                start, stop = self.rows["time"].searchsorted(list(span))
                parts.append(self.rows.iloc[start:stop])
            self._held[key] = Requests(rows=parts[0] if len(parts) == 1 else pd.concat(parts or [self.rows.iloc[:0]]))
        return self._held[key]

    @cached_property
    def _held(self) -> dict[tuple[tuple[datetime, datetime], ...], Requests]:
        """What was cut out, by its spans: rules share their windows."""
        return {}


def metric_named(name: str, *, higher_is_better: bool | None = None) -> Metric:
    """What the numbers of a metric mean, which way a signal is better where that is said."""
    if name in _OWN:
        return _OWN[name]
    return metric_of(Outcome(metric=name, rule="no_shown_harm", higher_is_better=higher_is_better))


def values_named(name: str, requests: Requests) -> FloatArray:
    """One number per request, NaN where it has none."""
    if name == "injection_markers":
        return np.array([_marked(text) for text in question_of(requests)], dtype=np.float64)
    column = f"{SIGNAL}quality" if name == "quality" else name
    return values_of(requests.rows, Outcome(metric=column, rule="no_shown_harm"))


def question_of(requests: Requests) -> list[str]:
    """What each request asked, all its inputs as one text."""
    return [_question(inputs) for inputs in requests.rows["inputs"]]


@lru_cache(maxsize=65_536)
def _question(inputs: str) -> str:
    try:
        value: Any = from_json(inputs) if inputs else ""
    except ValueError:
        value = inputs
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


@lru_cache(maxsize=65_536)
def _marked(text: str) -> float:
    """Whether one of the phrases of prompt injections stands in it."""
    score = no_injection_markers(_NO_CASE, Generation(text=text))
    return 1.0 - float(getattr(score, "value", 1.0) or 0.0)


_NO_CASE = Case(id="asked", inputs={"question": "-"})
