"""What each rule of a watch reads of the traffic: quiet, WATCH, ALERT, or too little data.

ALERT when the bound crosses the limit, WATCH when the point does. Bounds are one-sided, over units (requests of one
person are alike), at a level that all looks of a week and all rules share. Totals and facts have no bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from llmlab.base.cells import Chip
from llmlab.base.numbers import counted, number
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Shown
from llmlab.gate.policy import relative_share
from llmlab.production.lines import SIGNAL
from llmlab.production.units import in_unit
from llmlab.results.scores import Metric
from llmlab.stats.arrays import FloatArray, GroupIndex
from llmlab.stats.bounded import effective_cases
from llmlab.stats.standard_error import StandardError, standard_error, t_quantile
from llmlab.watch.policy import DAY, FACTS, WatchPolicy, WatchRule, duration
from llmlab.watch.windows import Requests, Traffic, metric_named, values_named

MOST_ROWS = 300  # request ids that a reading names
FEWEST_UNITS = 5  # below, no bound is worth its name


class State(StrEnum):
    """What is said of a rule, the worst first."""

    ALERT = "ALERT"
    WATCH = "WATCH"
    UNKNOWN = "TOO LITTLE DATA"
    QUIET = "quiet"

    @property
    def chip(self) -> Chip:
        """The word in its colour."""
        return Chip(self.value, {"ALERT": "bad", "quiet": "good"}.get(self.value, "unsure"))

    @property
    def verdict(self) -> Verdict:
        """ALERT fails, too little data is no verdict; WATCH is nobody's alarm."""
        return {State.ALERT: Verdict.FAIL, State.UNKNOWN: Verdict.INCONCLUSIVE}.get(self, Verdict.PASS)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reading(Shown):
    """One rule as it stands.

    Attributes:
        metric: what was read, such as `latency_s p99`.
        value: of the last window, None = unknown; `bound` its end towards the limit, None = a total or a fact.
        limit: what it is held against; `baseline` the reference's own value.
        window: how long it is; `asked`: how long the rule asks for, where a small service gets a longer one.
        n, n_units: requests with a value, and the units that made them.
        what: value and limit in words.
        since: when it began, as far as the requests tell.
        runbook: the page that says what to do.
        rows: request ids of those that made it so, at most a few hundred.
    """

    metric: str
    state: State
    value: float | None = None
    bound: float | None = None
    limit: float | None = None
    baseline: float | None = None
    window: str = ""
    asked: str = ""
    n: int = 0
    n_units: int = 0
    what: str = ""
    since: datetime | None = None
    runbook: str = ""
    unit: str = ""
    rows: tuple[str, ...] = ()

    def _rows(self) -> list[dict[str, object]]:
        alarmed = self.state in (State.ALERT, State.WATCH)
        return [
            {
                "state": self.state.chip,
                "metric": self.metric,
                "what": self.what,
                "since (UTC)": f"{self.since:%Y-%m-%d %H:%M}" if self.since and alarmed else None,
                "window": self.window,
                "requests": self.n,
                "runbook": self.runbook if alarmed else None,
            }
        ]


def read_rule(rule: WatchRule, traffic: Traffic, policy: WatchPolicy) -> Iterator[Reading]:
    """What a rule reads; nothing where a usual rule asks for what nobody records."""
    if rule.budget_usd is not None:
        readings = list(_budget(rule, traffic))
    elif rule.metric in FACTS:
        readings = [_served(rule, traffic) if rule.metric == "served_model" else _lag(rule, traffic)]
    else:
        readings = [_spent(rule, traffic, policy) if rule.is_total else _measured(rule, traffic, policy)]
    yield from (reading for reading in readings if reading.n or policy.rules)


def share_bounds(values: FloatArray, units: GroupIndex, *, alpha: float) -> tuple[float, float]:
    """The two one-sided bounds of a share, each missed with the chance alpha, requests of one unit being alike.

    Clopper and Pearson's at the effective number of requests (Korn and Graubard 1998): normal ones are far too hopeful
    this far out. (0, 1) below five units.

    >>> low, high = share_bounds(np.array([1.0] * 3 + [0.0] * 97), np.arange(100), alpha=0.025)
    >>> round(low, 4), round(high, 4)
    (0.0062, 0.0852)
    """
    from scipy.stats import beta

    n = len(values)
    if n == 0 or units.max(initial=0) + 1 < FEWEST_UNITS:
        return 0.0, 1.0
    error = standard_error(values, units)
    sides = (values, 1 - values)
    size = effective_cases(values, None, of_case=units, variance=error.se**2, sides=sides)
    if error.n_clusters == n:
        size = float(n)  # nobody asked twice
    hits = float(values.mean()) * size
    low = float(beta.ppf(alpha, hits, size - hits + 1)) if hits > 0 else 0.0
    high = float(beta.isf(alpha, hits + 1, size - hits)) if hits < size else 1.0
    return low, high


def _blank(rule: WatchRule, now: _Sample, length: timedelta) -> Reading:
    return Reading(
        metric=rule.name,
        state=State.UNKNOWN,
        n=now.n,
        n_units=now.n_units,
        runbook=rule.page,
        window=duration(length),
        asked=duration(rule.length),
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The requests of a window that have a value, and the values."""

    requests: Requests
    values: FloatArray

    @classmethod
    def of(cls, name: str, requests: Requests) -> _Sample:
        some = requests.thinned() if name == "injection_markers" else requests
        values = values_named(name, some)
        known = ~np.isnan(values)
        return cls(some[known], values[known])

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def n_units(self) -> int:
        return int(self.requests.units.max(initial=-1)) + 1

    def statistic(self, q: float | None = None) -> float:
        """The mean, or the quantile that is asked for."""
        return float(self.values.mean() if q is None else np.quantile(self.values, q))

    def error(self) -> StandardError | None:
        return standard_error(self.values, self.requests.units) if self.n_units >= FEWEST_UNITS else None


def _measured(rule: WatchRule, traffic: Traffic, policy: WatchPolicy) -> Reading:
    """Over the rule's window, doubled up to a day until it holds requests enough: a small service has no busy hour."""
    least, lengths = rule.at_least or policy.at_least, [rule.length]
    while lengths[-1] < DAY and len(traffic.last(lengths[-1])) < least:
        lengths.append(min(2 * lengths[-1], DAY))
    alpha = policy.alpha(rule.length) / len(lengths)
    readings = [_over(rule, traffic, length, least=least, alpha=alpha) for length in lengths]
    return next((reading for reading in readings if reading.state is State.ALERT), readings[-1])


def _over(rule: WatchRule, traffic: Traffic, length: timedelta, *, least: int, alpha: float) -> Reading:
    metric = metric_named(rule.metric, higher_is_better=rule.higher_is_better)
    now = _Sample.of(rule.metric, traffic.last(length))
    before = _Sample.of(rule.metric, traffic.before(length)) if rule.above is None else None
    blank = _blank(rule, now, length)
    if before is not None and before.n < least:
        return replace(blank, what=f"{counted(before.n, 'request')} before it, at least {least} are needed")
    if not now.n:
        return replace(blank, what="no request of the window has a value")
    q, sign = rule.quantile, -1.0 if rule.worse_by is not None and metric.higher_is_better else 1.0
    value, baseline = now.statistic(q), None if before is None else before.statistic(q)
    limit, factor = _limit(rule, baseline, sign=sign)
    harm, harm_limit = sign * now.values, sign * limit
    if q is not None:  # it lies above a limit where more than 1 - q of the requests do: that share has an exact bound
        harm, harm_limit = (now.values > limit).astype(np.float64), 1 - q
        bound = value if share_bounds(harm, now.requests.units, alpha=alpha)[0] > 1 - q else None
    elif rule.worse_by is None and metric.bounded:
        bound = _share_bound(now, before, factor=factor, alpha=alpha)
    else:
        bound = _mean_bound(now, before, factor=factor, alpha=alpha, sign=sign)
    read = _Read(
        now=now, value=value, bound=bound, limit=limit, baseline=baseline, harm=harm, harm_limit=harm_limit, sign=sign
    )
    return _settled(blank, read, metric, least=least)


def _limit(rule: WatchRule, baseline: float | None, *, sign: float) -> tuple[float, float]:
    """The limit, and how often the baseline counts in it."""
    if baseline is None:
        return rule.above or 0.0, 0.0
    share = relative_share(rule.worse_by)
    if rule.worse_by is not None and share is None:
        return baseline + sign * float(rule.worse_by), 1.0
    factor = rule.factor if share is None else 1 + sign * share
    return factor * baseline, factor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A value with its bound against a limit; `harm` is each request's, whose mean crosses `harm_limit` with it."""

    now: _Sample
    value: float
    bound: float | None
    limit: float
    baseline: float | None
    harm: FloatArray
    harm_limit: float
    sign: float = 1.0


def _share_bound(now: _Sample, before: _Sample | None, *, factor: float, alpha: float) -> float:
    """Of a share; against a multiple of the baseline both errors count (MOVER; Zou and Donner 2008)."""
    value = now.statistic()
    reach = value - share_bounds(now.values, now.requests.units, alpha=alpha)[0]
    if before is not None:
        high = share_bounds(before.values, before.requests.units, alpha=alpha)[1]
        reach = math.hypot(reach, factor * (high - before.statistic()))
    return value - reach


def _mean_bound(now: _Sample, before: _Sample | None, *, factor: float, alpha: float, sign: float) -> float | None:
    """Of a mean; where the limit is made of the baseline's mean, its own error counts. None for too few units."""
    errors = [sample.error() for sample in (now, before) if sample is not None]
    if None in errors:
        return None
    known = [error for error in errors if error is not None]
    spread = math.hypot(*(weight * error.se for weight, error in zip((1.0, factor), known, strict=False)))
    return now.statistic() - sign * t_quantile(1 - alpha, min(error.df for error in known)) * spread


def _settled(blank: Reading, read: _Read, metric: Metric, *, least: int) -> Reading:
    crossed = read.sign * (read.value - read.limit) > 0
    if crossed and read.bound is not None and read.sign * (read.bound - read.limit) > 0:
        state = State.ALERT
    else:
        state = State.UNKNOWN if blank.n < least else State.WATCH if crossed else State.QUIET
    clauses = [
        f"{in_unit(read.value, metric)} of {counted(blank.n, 'request')}",
        f"limit {in_unit(read.limit, metric)}",
    ]
    if read.baseline is not None:
        clauses.append(f"before {in_unit(read.baseline, metric)}")
    if state is State.UNKNOWN:
        clauses.append(f"at least {least} requests are needed")
    return replace(
        blank,
        state=state,
        value=read.value,
        bound=read.bound,
        limit=read.limit,
        baseline=read.baseline,
        what="; ".join(clauses),
        since=_since(read) if crossed else None,
        unit="share" if metric.bounded else metric.unit,
        rows=_worst(read) if crossed else (),
    )


def _since(read: _Read) -> datetime | None:
    """Where the harm begins to add up (Page 1954): the lowest CUSUM, halfway from the limit to what is seen."""
    beyond = np.cumsum(read.harm - (read.harm_limit + float(read.harm.mean())) / 2)
    start = 0 if beyond.min(initial=0.0) >= 0 else int(beyond.argmin()) + 1
    return _time(read.now.requests, min(start, len(beyond) - 1))


def _worst(read: _Read) -> tuple[str, ...]:
    order = np.argsort(-read.harm, kind="stable")[:MOST_ROWS]
    harmful = order[read.harm[order] > read.harm_limit]
    return tuple(read.now.requests.rows["request_id"].iloc[harmful])


def _spent(rule: WatchRule, traffic: Traffic, policy: WatchPolicy) -> Reading:
    """What the requests of a window cost together, against the middle one of the same windows before.

    A total has no bound: the window is doubled until the windows before it hold requests enough as well.
    """
    least, length = rule.at_least or policy.at_least, rule.length
    while True:
        earlier = [_Sample.of("cost_usd", window) for window in traffic.same_windows_before(length)]
        n_before = int(np.median([sample.n for sample in earlier] or [0]))
        if length >= DAY or min(n_before, len(traffic.last(length))) >= least:
            break
        length = min(2 * length, DAY)
    now = _Sample.of("cost_usd", traffic.last(length))
    blank = _blank(rule, now, length)
    if now.n and n_before < least:
        return replace(blank, what=f"{counted(n_before, 'request')} in such a window before, {least} are needed")
    baseline = float(np.median([sample.values.sum() for sample in earlier])) if earlier else 0.0
    return _total(blank, now, limit=rule.factor * baseline, baseline=baseline, least=least)


def _budget(rule: WatchRule, traffic: Traffic) -> Iterator[Reading]:
    """Service by service, or all together: a budget needs no minimum of requests."""
    window, budget = traffic.last(rule.length), rule.budget_usd
    for service, limit in budget.items() if isinstance(budget, dict) else (("", budget or 0.0),):
        requests = window if not service else window[(window.rows["service"] == service).to_numpy(bool)]
        now = _Sample.of("cost_usd", requests)
        name = f"cost_usd of {service}" if service else "cost_usd, budget"
        yield _total(replace(_blank(rule, now, rule.length), metric=name), now, limit=limit, baseline=None, least=0)


def _total(blank: Reading, now: _Sample, *, limit: float, baseline: float | None, least: int) -> Reading:
    if not now.n:
        return replace(blank, what="no request of the window has a cost")
    total = float(now.values.sum())
    bound, each = total if now.n >= least else None, limit / now.n
    read = _Read(now=now, value=total, bound=bound, limit=limit, baseline=baseline, harm=now.values, harm_limit=each)
    return _settled(blank, read, metric_named("cost_usd"), least=least)


def _served(rule: WatchRule, traffic: Traffic) -> Reading:
    """Whether a bundle is answered for by a model that did not before; a new bundle may bring a new model."""
    now, before = _answered(traffic.last(rule.length)), _answered(traffic.all_before(rule.length))
    blank = _blank(rule, _Sample(now, np.zeros(len(now))), rule.length)
    if not len(now) or not len(before):
        return replace(blank, what="no request says which model served it, in the window or before it")
    key, known = (some.rows["bundle"] + " " + some.rows["served_model"] for some in (now, before))
    is_new = now.rows["bundle"].isin(before.rows["bundle"].unique()) & ~key.isin(known.unique())
    new = now[is_new.to_numpy(bool)]
    names = ", ".join((new if len(new) else now).rows["served_model"].unique())
    if not len(new):
        return replace(blank, state=State.QUIET, what=f"served by {names}, as before")
    earlier = before.rows["served_model"][before.rows["bundle"].isin(new.rows["bundle"].unique())].unique()
    return replace(
        blank,
        state=State.ALERT,
        value=float(len(new)),
        what=f"{names} answered {counted(len(new), 'request')}; before it was {', '.join(earlier)}",
        since=_time(new, 0),
        rows=tuple(new.rows["request_id"].iloc[-MOST_ROWS:]),
    )


def _answered(some: Requests) -> Requests:
    """Those that say which model served them, without those of a stand-in bundle."""
    stand_in = (some.rows["fallback"].fillna(0) > 0).to_numpy(bool)
    return some[(some.rows["served_model"] != "").to_numpy(bool) & ~stand_in]


def _lag(rule: WatchRule, traffic: Traffic) -> Reading:
    """How old the index was that the last request searched: the signal `index_lag_days`."""
    column, limit = f"{SIGNAL}index_lag_days", rule.above or 0.0
    sample = _Sample.of(column, traffic.last(timedelta(days=traffic.reference.days)))
    lately = _Sample.of(column, traffic.last(rule.length))
    blank = replace(_blank(rule, lately, rule.length), unit="days")
    if not lately.n:
        return replace(blank, what="no request says how old the index was (the signal index_lag_days)")
    lag, beyond = float(lately.values[-1]), sample.values > limit
    began = 0 if beyond.all() else len(beyond) - int(np.argmin(beyond[::-1]))
    old = lag > limit
    return replace(
        blank,
        state=State.ALERT if old else State.QUIET,
        value=lag,
        limit=limit,
        what=f"{number(lag, 3)} days old; limit {number(limit)} days",
        since=_time(sample.requests, began) if old else None,
        rows=tuple(lately.requests.rows["request_id"].iloc[-MOST_ROWS:]) if old else (),
    )


def _time(requests: Requests, place: int) -> datetime:
    moment: datetime = requests.rows["time"].iloc[place].to_pydatetime()
    return moment
