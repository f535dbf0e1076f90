"""Requests of a rollout as one value per randomised unit: who counts, and what each metric is of a request.

Requests of one person are alike, so whatever is tested is summed over a unit first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import number
from llmlab.base.project import utc
from llmlab.production.lines import FAILED, cancelled_in, numbers_of, seconds_of
from llmlab.production.policy import AMOUNTS, BAD_SIGNALS, SHARES, Outcome, RolloutPolicy
from llmlab.results.scores import RESOURCE_METRICS, Metric, scale_of
from llmlab.stats.arrays import FloatArray
from llmlab.stats.bounded import carriers
from llmlab.stats.sequential import FEWEST_UNITS, SplitCheck, linearised_ratio, sequential_split_check

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DAY_S = 86_400
ARMS = ("baseline", "candidate")
BEGUN_UNITS = 5  # of each arm: the rollout runs; fewer may be of a wrong clock
_FEEDBACK = ("signals.thumbs", "signals.regenerated", "signals.edited")
_NEEDED = ("time", "unit_id", "arm", "rollout")


def _negative(frame: pd.DataFrame) -> Any:
    """Thumbs down, regenerated or edited: over all requests, as who says nothing differs between arms too.

    NaN where none of the three is recorded at all.
    """
    if not any(name in frame for name in _FEEDBACK):
        return np.full(len(frame), np.nan)
    thumbs, regenerated, edited = (numbers_of(frame, name) for name in _FEEDBACK)
    return (thumbs <= 0) | (regenerated > 0) | (edited > 0)


def _status(frame: pd.DataFrame, *words: str) -> Any:
    return frame["status"].isin(words) if "status" in frame else np.full(len(frame), np.nan)


def _failed(frame: pd.DataFrame) -> FloatArray:
    """NaN where it was cancelled: no error that is known, and no answer either."""
    return np.where(cancelled_in(frame), np.nan, np.asarray(_status(frame, *FAILED), dtype=np.float64))


def _retried(frame: pd.DataFrame) -> FloatArray:
    attempts = numbers_of(frame, "attempts")
    return np.where(np.isnan(attempts), np.nan, attempts > 1)


_SHARES: Mapping[str, Callable[[pd.DataFrame], Any]] = {
    "error_rate": _failed,
    "refusal_rate": lambda frame: _status(frame, "refused"),
    "guard_rate": lambda frame: ~_equals(frame["guards"].fillna(""), ""),
    "retry_rate": _retried,
    "negative_signals": _negative,
    "response_rate": lambda frame: ~np.isnan(numbers_of(frame, "signals.thumbs")),
}
_COLUMNS = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}  # where they are called otherwise


def metric_of(outcome: Outcome) -> Metric:
    """What the numbers of an outcome mean; a share where it counts requests beyond a quantile."""
    name = outcome.metric
    if outcome.quantile is not None:
        return Metric(name=outcome.name, low=0.0, high=1.0, higher_is_better=False)
    if name in AMOUNTS:
        return replace(RESOURCE_METRICS[name], name=outcome.name)
    if name not in SHARES:
        usual = name.removeprefix("signals.") not in BAD_SIGNALS
        is_better = usual if outcome.higher_is_better is None else outcome.higher_is_better
        return Metric(name=outcome.name, higher_is_better=is_better)
    high = 1.0 if outcome.per == "request" else None
    return Metric(name=outcome.name, low=0.0, high=high, higher_is_better=name == "response_rate")


def in_unit(value: float, metric: Metric) -> str:
    """A value of a metric in its unit, a share in percent."""
    scale, unit = scale_of(metric)
    return number(scale * value, 3) + ("%" if scale == 100 else unit)


def values_of(frame: pd.DataFrame, outcome: Outcome) -> FloatArray:
    """One number per request, NaN where it has none."""
    if outcome.metric in _SHARES:
        return np.asarray(_SHARES[outcome.metric](frame), dtype=np.float64)
    return numbers_of(frame, _COLUMNS.get(outcome.metric, outcome.metric))


class ArmUnits(NamedTuple):
    """A metric's sum and count of each unit of an arm."""

    sums: FloatArray
    counts: FloatArray

    @property
    def mean(self) -> float | None:
        """Over all requests; None where nothing is known."""
        return float(self.sums.sum() / self.counts.sum()) if self.counts.sum() else None

    def linearised(self, *, share: bool) -> FloatArray:
        """One value per unit whose mean is the arm's; of a share with one more success and failure in either arm.

        Without them nothing could be said of arms without an error. Source: Agresti & Caffo 2000.
        """
        more = ([0.0, 1.0], [1.0, 1.0]) if share else ([], [])
        return linearised_ratio(np.append(self.sums, more[0]), np.append(self.counts, more[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """An outcome in both arms.

    Attributes:
        baseline, candidate: of the units with at least one value.
        young: units left out because all their requests are younger than the outcome's maturity.
        unscored: requests without a value.
        gaps: of each arm's units, how many requests that must have a value have none, of how many; None where all have.
        threshold: what `quantile` and `over` came to, None without them.
    """

    baseline: ArmUnits
    candidate: ArmUnits
    young: int = 0
    unscored: int = 0
    gaps: tuple[ArmUnits, ArmUnits] | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """The requests that are analysed, and those that are not, counted.

    Attributes:
        frame: all requests; `rows` are the places of those of enrolled units that were in one arm only.
        units: (rows,) code of each row's unit.
        candidate: (units,) whether a unit is in the candidate's arm; False of one in neither, which no row names.
        time_s: (rows,) seconds since 1970.
        now_s: when it is looked at.
        split: the check of the split over daily looks.
        n_units: in baseline and candidate; `n_seen`: of all, those in both arms included, which `crossed` counts.
        left_out: reason -> number of requests.
        newest_per_day: new units a day over the last week, or what there is of it.
        begin_s: when the rollout began. Without a `start` that is its first request; where that came over a day before
            both arms had 5 units, the moment when they had: a clock may have been wrong, or a request sent again.
    """

    frame: pd.DataFrame
    rows: NDArray[np.int64]
    units: NDArray[np.int64]
    candidate: NDArray[np.bool_]
    time_s: FloatArray
    now_s: float
    split: SplitCheck
    n_units: tuple[int, int]
    n_seen: int
    crossed: int
    left_out: Mapping[str, int]
    newest_per_day: float
    begin_s: float

    @property
    def days(self) -> float:
        """Days from its begin to now."""
        return 0.0 if not len(self.time_s) else (self.now_s - self.begin_s) / DAY_S

    @property
    def longest_silence_days(self) -> float:
        """The longest time since its begin in which no request came, until the last one."""
        since = np.sort(self.time_s[self.time_s >= self.begin_s])
        return float(np.diff(since).max(initial=0.0)) / DAY_S

    @property
    def silent_days(self) -> float:
        """Days since the last request."""
        return 0.0 if not len(self.time_s) else (self.now_s - float(self.time_s.max())) / DAY_S

    @property
    def carriers(self) -> float | None:
        """How many units carry the squared requests of the arm where they are fewest; None without units in both."""
        requests = np.bincount(self.units, minlength=len(self.candidate)).astype(np.float64)
        arms = [arm.counts for arm in self._by_arm(requests, requests)]
        return min(carriers(arm, None, None) for arm in arms) if min(map(len, arms)) >= FEWEST_UNITS else None

    def bundles(self) -> list[dict[Any, int]]:
        """Digest -> requests that it answered, where one is told, in baseline and candidate."""
        if "bundle" not in self.frame:
            return [{}, {}]
        arm, digests = self.candidate[self.units], self.frame["bundle"].iloc[self.rows].replace("", None)
        return [digests[chosen].value_counts().to_dict() for chosen in (~arm, arm)]

    def of(self, outcome: Outcome) -> PerUnit:
        """The outcome summed per unit."""
        values, young = values_of(self.frame, outcome)[self.rows], self.time_s > self.now_s - outcome.maturity_s
        if outcome.metric == "negative_signals" and not self._has_feedback:
            values = np.full(len(values), np.nan)  # recorded elsewhere, and never in this rollout
        known, arm = ~np.isnan(values) & ~young, self.candidate[self.units]
        gaps, threshold = self._gaps(outcome, known, young), None
        if outcome.quantile is not None:
            base = values[known & ~arm]
            threshold = outcome.factor * float(np.quantile(base, outcome.quantile)) if base.size else None
            values = np.where(np.isnan(values), np.nan, (values > (threshold or 0.0)).astype(float))
        if outcome.per == "unit" and known.any():  # what was not seen of a mature unit is 0
            values, known = np.where(known, values, 0.0), ~young
        counts = self._summed(known).clip(max=1.0 if outcome.per == "unit" else np.inf)
        return PerUnit(
            **dict(zip(ARMS, self._by_arm(self._summed(known, values), counts), strict=True)),
            young=int(np.unique(self.units).size - (self._summed(~young) > 0).sum()) if young.any() else 0,
            unscored=0 if outcome.per == "unit" else int((~known & ~young).sum()),
            gaps=gaps,
            threshold=threshold,
        )

    def _summed(self, chosen: NDArray[np.bool_], values: FloatArray | None = None) -> FloatArray:
        """(units,) the sum of the values of each unit's chosen rows, or how many they are."""
        weights = None if values is None else values[chosen]
        return np.bincount(self.units[chosen], weights=weights, minlength=len(self.candidate)).astype(np.float64)

    def _by_arm(self, sums: FloatArray, counts: FloatArray) -> tuple[ArmUnits, ArmUnits]:
        """Of baseline and candidate the units that count anything."""
        arms = [(counts > 0) & of for of in (~self.candidate, self.candidate)]
        return ArmUnits(sums[arms[0]], counts[arms[0]]), ArmUnits(sums[arms[1]], counts[arms[1]])

    @cached_property
    def _has_feedback(self) -> bool:
        return any(
            bool(self.frame[name].notna().to_numpy()[self.rows].any()) for name in _FEEDBACK if name in self.frame
        )

    def _gaps(
        self, outcome: Outcome, known: NDArray[np.bool_], young: NDArray[np.bool_]
    ) -> tuple[ArmUnits, ArmUnits] | None:
        """Requests without a value; a failed or cancelled one has nothing but its time to tell."""
        failed = np.asarray(_status(self.frame, *FAILED), dtype=np.float64)[self.rows] > 0
        expected = ~young if outcome.metric in ("latency_s", "error_rate") else ~young & ~failed
        if outcome.per == "unit" or not (expected & ~known).any():
            return None
        return self._by_arm(self._summed(expected & ~known), self._summed(expected))


def enrolled(frame: pd.DataFrame, *, policy: RolloutPolicy, now: datetime) -> Enrolled:
    """The requests of a rollout up to a moment, by unit.

    Raises:
        DataError: a column that says who, when or which arm is missing.
    """
    import pandas as pd

    if absent := [name for name in _NEEDED if name not in frame]:
        raise DataError(f"these traces have no column {absent[0]!r}: a rollout needs {', '.join(_NEEDED)}")
    now_s, time_s = now.timestamp(), seconds_of(frame["time"])
    is_candidate = _equals(frame["arm"], "candidate")
    ours = _equals(frame["rollout"], policy.name) & (is_candidate | _equals(frame["arm"], "baseline"))
    units, future, timeless = frame["unit_id"].fillna(""), time_s > now_s, np.isnan(time_s)
    early = time_s < (utc(policy.start).timestamp() if policy.start else -np.inf)  # of wrong clocks: none was enrolled
    testers = [unit for members in policy.overrides.values() for unit in members]
    nobody, tester = _equals(units, ""), units.isin(testers).to_numpy(dtype=bool)
    keep = ours & ~future & ~early & ~nobody & ~tester & ~timeless
    left_out = {
        "of no unit": int((ours & ~future & nobody).sum()),
        "of testers": int((ours & ~future & tester).sum()),
        "without a time": int((ours & timeless).sum()),
        "dated later than the decision": int((ours & future).sum()),
        "dated before the rollout's start": int((ours & early & ~nobody & ~tester).sum()),
    }
    codes, known = pd.factorize(units[keep])
    codes, time_s = codes.astype(np.int64), time_s[keep]
    n = len(known)
    requests, of_candidate = np.bincount(codes, minlength=n), np.bincount(codes[is_candidate[keep]], minlength=n)
    candidate = of_candidate > 0
    crossed = candidate & (of_candidate < requests)
    first_s = np.full(n, np.inf)
    np.minimum.at(first_s, codes, time_s)
    stays = ~crossed[codes]
    return Enrolled(
        frame=frame,
        rows=np.flatnonzero(keep)[stays],
        units=codes[stays],
        candidate=candidate & ~crossed,
        time_s=time_s[stays],
        now_s=now_s,
        split=_split(first_s[~crossed], candidate[~crossed], now_s=now_s, planned=policy.planned_units),
        n_units=(int((~crossed & ~candidate).sum()), int((~crossed & candidate).sum())),
        n_seen=n,
        crossed=int(crossed.sum()),
        left_out=left_out,
        newest_per_day=_newest(first_s, now_s),
        begin_s=_begin(time_s[stays], [first_s[~crossed & arm] for arm in (~candidate, candidate)], start=policy.start),
    )


def _equals(column: Any, word: str) -> NDArray[np.bool_]:
    return np.asarray((column == word).fillna(value=False), dtype=bool)


def _split(first_s: FloatArray, candidate: NDArray[np.bool_], *, now_s: float, planned: int) -> SplitCheck:
    """Units by day of their first request and arm, cumulated: one look a day.

    A tenth of the planned units as concentration looks for mismatches of the size that so many units can show.
    """
    days = np.ceil((now_s - first_s) / DAY_S).astype(np.int64)
    last = int(days.max(initial=1))
    new = np.stack([np.bincount(last - days[arm], minlength=last + 1) for arm in (~candidate, candidate)], axis=1)
    return sequential_split_check(new.cumsum(axis=0), shares=[0.5, 0.5], concentration=planned / 10)


def _begin(time_s: FloatArray, arms: list[FloatArray], *, start: str | None) -> float:
    """See `Enrolled.begin_s`; `arms` are the first requests of the units of each."""
    first = float(time_s.min(initial=np.inf))
    if start or min(map(len, arms)) < BEGUN_UNITS:
        return first
    enough = max(float(np.sort(arm)[BEGUN_UNITS - 1]) for arm in arms)
    return enough if enough - first > DAY_S else first


def _newest(first_s: FloatArray, now_s: float) -> float:
    if not first_s.size:
        return 0.0
    window_s = min(7 * DAY_S, max(now_s - float(first_s.min()), 3600.0))
    return float((first_s > now_s - window_s).sum()) / window_s * DAY_S
