"""Requests of a rollout as one value per randomised unit: who counts, and what each metric is of a request.

Requests of one person are alike, so whatever is tested is summed over a unit first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import number
from llmlab.production.lines import numbers_of, seconds_of
from llmlab.production.policy import AMOUNTS, BAD_SIGNALS, SHARES, Outcome, RolloutPolicy
from llmlab.results.scores import RESOURCE_METRICS, Metric, scale_of
from llmlab.stats.arrays import FloatArray
from llmlab.stats.sequential import SplitCheck, linearised_ratio, sequential_split_check

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["ArmUnits", "Enrolled", "PerUnit", "enrolled", "metric_of", "told", "values_of"]

DAY_S = 86_400
ARMS = ("baseline", "candidate")
NEEDED = ("time", "unit_id", "arm", "rollout")


def _negative(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Thumbs down, regenerated or edited: over all requests, as who says nothing differs between arms too."""
    thumbs, regenerated, edited = (numbers_of(frame, f"signals.{name}") for name in ("thumbs", "regenerated", "edited"))
    return (thumbs <= 0) | (regenerated > 0) | (edited > 0)


def _status(frame: pd.DataFrame, *words: str) -> Any:
    return frame["status"].isin(words) if "status" in frame else np.full(len(frame), np.nan)


def _retried(frame: pd.DataFrame) -> FloatArray:
    attempts = numbers_of(frame, "attempts")
    return np.where(np.isnan(attempts), np.nan, attempts > 1)


_SHARES: Mapping[str, Callable[[pd.DataFrame], Any]] = {
    "error_rate": lambda frame: _status(frame, "error", "timeout"),
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
        said, is_bad = outcome.higher_is_better, name.removeprefix("signals.") in BAD_SIGNALS
        return Metric(name=outcome.name, higher_is_better=not is_bad if said is None else said)
    high = 1.0 if outcome.per == "request" else None
    return Metric(name=outcome.name, low=0.0, high=high, higher_is_better=name == "response_rate")


def told(value: float, metric: Metric) -> str:
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
        threshold: what `quantile` and `over` came to, None without them.
    """

    baseline: ArmUnits
    candidate: ArmUnits
    young: int = 0
    unscored: int = 0
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @property
    def days(self) -> float:
        """Days from the first request to now."""
        return 0.0 if not len(self.time_s) else (self.now_s - float(self.time_s.min())) / DAY_S

    @property
    def silent_days(self) -> float:
        """Days since the last request."""
        return 0.0 if not len(self.time_s) else (self.now_s - float(self.time_s.max())) / DAY_S

    def bundles(self) -> list[dict[str, int]]:
        """Digest -> requests that it answered, where one is told, in baseline and candidate."""
        import pandas as pd

        if "bundle" not in self.frame:
            return [{}, {}]
        codes, digests = pd.factorize(self.frame["bundle"].fillna(""))
        codes, arm = codes[self.rows], self.candidate[self.units]
        counts = [np.bincount(codes[of], minlength=len(digests)).tolist() for of in (~arm, arm)]
        return [{str(d): n for d, n in zip(digests, some, strict=True) if d and n} for some in counts]

    def of(self, outcome: Outcome) -> PerUnit:
        """The outcome summed per unit."""
        values, young = values_of(self.frame, outcome)[self.rows], self.time_s > self.now_s - outcome.maturity_s
        known, arm = ~np.isnan(values) & ~young, self.candidate[self.units]
        threshold = None
        if outcome.quantile is not None:
            base = values[known & ~arm]
            threshold = outcome.factor * float(np.quantile(base, outcome.quantile)) if base.size else None
            values = np.where(np.isnan(values), np.nan, (values > (threshold or 0.0)).astype(float))
        if outcome.per == "unit":  # what was not seen of a mature unit is 0
            values, known = np.where(known, values, 0.0), ~young
        codes, n = self.units[known], len(self.candidate)
        sums = np.asarray(np.bincount(codes, weights=values[known], minlength=n), dtype=np.float64)
        counts = np.asarray(np.bincount(codes, minlength=n), dtype=np.float64)
        some = counts > 0
        counts = counts.clip(max=1.0) if outcome.per == "unit" else counts
        mature = np.bincount(self.units[~young], minlength=n) > 0
        arms = (ArmUnits(sums[keep], counts[keep]) for keep in (some & ~self.candidate, some & self.candidate))
        return PerUnit(
            **dict(zip(ARMS, arms, strict=True)),
            young=int(np.unique(self.units).size - mature.sum()) if young.any() else 0,
            unscored=0 if outcome.per == "unit" else int((~known & ~young).sum()),
            threshold=threshold,
        )


def enrolled(frame: pd.DataFrame, *, policy: RolloutPolicy, now: datetime) -> Enrolled:
    """The requests of a rollout up to a moment, by unit.

    Raises:
        DataError: a column that says who, when or which arm is missing.
    """
    import pandas as pd

    if absent := [name for name in NEEDED if name not in frame]:
        raise DataError(f"these traces have no column {absent[0]!r}: a rollout needs {', '.join(NEEDED)}")
    now_s, time_s = now.timestamp(), seconds_of(frame["time"])
    is_candidate = _equals(frame["arm"], "candidate")
    ours = _equals(frame["rollout"], policy.name) & (is_candidate | _equals(frame["arm"], "baseline"))
    units, future, timeless = frame["unit_id"].fillna(""), time_s > now_s, np.isnan(time_s)
    testers = [unit for some in policy.overrides.values() for unit in some]
    nobody, tester = _equals(units, ""), units.isin(testers).to_numpy(dtype=bool)
    keep = ours & ~future & ~nobody & ~tester & ~timeless
    left_out = {
        "of no unit": int((ours & ~future & nobody).sum()),
        "of testers": int((ours & ~future & tester).sum()),
        "without a time": int((ours & timeless).sum()),
        "dated later than the decision": int((ours & future).sum()),
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


def _newest(first_s: FloatArray, now_s: float) -> float:
    if not first_s.size:
        return 0.0
    window_s = min(7 * DAY_S, max(now_s - float(first_s.min()), 3600.0))
    return float((first_s > now_s - window_s).sum()) / window_s * DAY_S
