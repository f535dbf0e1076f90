"""Figures of what is in production: its versions, the rollout of a new one, and what the service did over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.base.verdict import Verdict
from llmlab.plots.comparisons import forest
from llmlab.plots.drawing import COLOURS, CYCLE, Picture, picture, styled, titled
from llmlab.production.decision import Action, Reading, RolloutDecision
from llmlab.production.policy import Outcome
from llmlab.production.service_metrics import fewest
from llmlab.production.traces import Traces
from llmlab.production.units import values_of
from llmlab.registry.moves import History, Move
from llmlab.results.comparison import Comparison
from llmlab.results.scores import scale_of
from llmlab.stats.estimate import score_interval

if TYPE_CHECKING:
    import pandas as pd

_MOST_MOVES = 40
_MOVES = {"promote": ("o", "blue"), "rollback": ("v", "vermillion"), "adopt": ("s", "purple"), "FORCED": ("X", "black")}
_Z_95 = 1.959964
_HOURLY_DAYS = 3.0  # traces of fewer days are drawn by the hour
_RATES = {
    "errors (%)": ("error_rate",),
    "refusals, guards (%)": ("refusal_rate", "guard_rate"),
    "complaints, replies (%)": ("negative_signals", "response_rate"),
}
_ACTIONS = {Action.SHIP: ("^", "blue"), Action.REVERT: ("v", "vermillion"), Action.INVALID: ("x", "black")}
_RIGHT = ("axes fraction", "data")
_ABOVE: dict[str, Any] = {"ha": "right", "va": "bottom"}


def timeline(history: History, *, alias: str = "production") -> Picture:
    """The versions that an alias pointed to, move by move; the newest moves where there are many.

    Promotions, rollbacks, adopted and FORCED moves have their own marks, with their day and who made them.

    Raises:
        ValueError: the alias was never moved.
    """
    moves = history.valid(alias)[-_MOST_MOVES:]
    if not moves:
        raise ValueError(f"{alias!r} of {history.name} was never moved (there are: {', '.join(history.aliases)})")
    figure, (axes,) = picture(height_inches=3.0)
    _draw_moves(axes, moves)
    listed = "; ".join(f"{move.when[:10]} {move.word} to version {move.version} by {move.who}" for move in moves)
    title = _moves_title(moves, plain(history.name), plain(alias))
    return titled(figure, title, alt=f"Moves of {alias} of {history.name}: {listed}.")


@styled()
def _draw_moves(axes: Axes, moves: tuple[Move, ...]) -> None:
    places = list(range(len(moves)))
    heights = [*(move.version for move in moves), moves[-1].version]
    axes.step([*places, len(moves) - 0.4], heights, where="post", color=COLOURS["grey"])
    for place, move in zip(places, moves, strict=True):
        shape, colour = _MOVES["FORCED" if move.forced else move.kind]
        axes.plot(place, move.version, shape, color=COLOURS[colour], markersize=8, zorder=3)
        if len(moves) <= 12:
            note = f"{move.word}\n{plain(move.who, 14)}"
            how: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": COLOURS[colour]}
            axes.annotate(note, (place, move.version), (5, 6), **how)
    axes.set_xlim(-0.4, len(moves) + 0.1)
    axes.set_xticks(places, [move.when[:10] for move in moves], rotation=0 if len(moves) <= 6 else 60, fontsize=8)
    versions = sorted({move.version for move in moves})
    axes.set_yticks(versions, [f"version {version}" for version in versions])
    axes.margins(y=0.35)
    axes.grid(visible=False, axis="x")


def _moves_title(moves: tuple[Move, ...], name: str, alias: str) -> str:
    counts = {"rolled back": sum(m.kind == "rollback" for m in moves), "FORCED": sum(m.forced for m in moves)}
    noted = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    after = f"after {counted(len(moves), 'move')}{f' ({noted})' if noted else ''}"
    return f"{alias} of {name} is version {moves[-1].version} {after}"


def outcomes(decision: RolloutDecision) -> Picture:
    """Every outcome of a rollout with its interval and its margin, as the forest plot of a comparison.

    Raises:
        ValueError: no outcome has an interval yet.
    """
    figure = forest(Comparison(rows=decision.paired_rows(), baseline="baseline"))
    alt = f"Forest plot of a rollout, candidate minus baseline. {decision.sentence}"
    return titled(figure, f"{decision.action.value}: {_short(decision)}", alt=alt)


def boundary(decisions: Sequence[RolloutDecision], outcome: str | None = None) -> Picture:
    """The difference of one outcome at every look, with its interval, the margin, and the first decision.

    Args:
        decisions: of the same rollout, in order of time.
        outcome: its name; by default the first one that reverts at last, else the first.

    Raises:
        ValueError: no decision has an interval of this outcome.
    """
    last = decisions[-1].readings
    name = outcome or next((r.name for r in last if r.verdict == Verdict.FAIL), last[0].name)
    looks = [(d, r) for d in decisions for r in d.readings if r.name == name and r.effect is not None]
    if not looks:
        raise ValueError(f"no look has an interval of {name!r}")
    figure, (axes,) = picture(height_inches=3.4)
    _draw_looks(axes, looks)
    latest, first = looks[-1][1], next((d for d, r in looks if _settles(d, r)), None)
    when = f"{first.action.value} on day {first.days:.0f}" if first else f"no decision by day {looks[-1][0].days:.0f}"
    ends = [f"day {d.days:.1f}: {d.action.value}, {r._rows()[0]['candidate']}" for d, r in looks]
    alt = f"Difference of {name} over {counted(len(looks), 'look')} with its margin. {'; '.join(ends)}."
    return titled(figure, f"{plain(name)}: {when}; {latest.reading}", alt=alt)


@styled()
def _draw_looks(axes: Axes, looks: Sequence[tuple[RolloutDecision, Reading]]) -> None:
    reading = looks[-1][1]
    scale, unit = (100.0, "%") if reading.relative else scale_of(reading.metric)
    days = [decision.days for decision, _ in looks]
    values, lows, highs = ([ends[i] * scale for _, r in looks if (ends := r.effect) is not None] for i in range(3))
    axes.fill_between(days, lows, highs, color=COLOURS["sky"], alpha=0.3, linewidth=0)
    axes.plot(days, values, "-", color=COLOURS["blue"])
    axes.axhline(0, color=COLOURS["black"], linewidth=1)
    if reading.margin is not None:
        bound = reading.margin * scale * (-1 if reading.metric.higher_is_better else 1)
        axes.axhline(bound, color=COLOURS["vermillion"], linestyle="--", linewidth=1)
        axes.annotate("margin ", (1, bound), xycoords=_RIGHT, fontsize=8, color=COLOURS["vermillion"], **_ABOVE)
    axes.annotate("no difference ", (1, 0), xycoords=_RIGHT, fontsize=8, **_ABOVE)
    for action, (shape, colour) in _ACTIONS.items():
        at = next((i for i, (d, r) in enumerate(looks) if d.action == action and _settles(d, r)), None)
        if at is not None:
            axes.plot(days[at], values[at], shape, color=COLOURS[colour], markersize=9, zorder=3)
            axes.annotate(action.value, (days[at], values[at]), (4, 8), textcoords="offset points", fontsize=8)
    axes.set_ylim(*_limits(lows, highs, values))
    axes.set_xlabel(f"days since the first request ({reading.level:.0%} interval that holds at every look)")
    axes.set_ylabel(f"candidate - baseline ({unit.strip() or 'difference'})")
    axes.set_xlim(0, days[-1] * 1.02)


def _settles(decision: RolloutDecision, reading: Reading) -> bool:
    """Whether there is a decision, and a REVERT because of this outcome."""
    return decision.action != Action.KEEP_GOING and (decision.action != Action.REVERT or reading.reverts)


def _limits(lows: Sequence[float], highs: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Room for the last three quarters of the looks: the first intervals are as wide as a house."""
    settled = slice(len(values) // 4, None)
    low, high = min(*lows[settled], *values, 0.0), max(*highs[settled], *values, 0.0)
    return low - 0.08 * (high - low), high + 0.08 * (high - low)


def _short(decision: RolloutDecision) -> str:
    reverted = [r.name for r in decision.readings if r.reverts]
    names = " and ".join((reverted or [r.name for r in decision.readings if not r.holds])[:3])
    return {
        Action.INVALID: "nothing may be concluded",
        Action.REVERT: f"{names} got worse",
        Action.SHIP: "every margin is ruled out or no harm was shown",
        Action.KEEP_GOING: f"{names} not settled yet",
    }[decision.action]


@styled()
def over_time(traces: Traces, *, releases: Mapping[str, datetime] | None = None) -> Picture:
    """Requests, errors, latency, cost, tokens, signals and guards by day (by hour where there are few days).

    Rates have 95% intervals over requests, which are too short where one person makes many. A p99 is drawn where 100
    requests have it, a p95 where 20 do. What was never recorded is said to be not known. Second
    answers of a shadow are left out.

    Args:
        releases: name -> when (with its time zone).

    Raises:
        ValueError: there is no request.
    """
    is_shadow = (traces.to_frame()["arm"] == "shadow").to_numpy(bool)
    frame = traces.to_frame()[~is_shadow]
    if frame.empty:
        raise ValueError("there is no request to draw")
    days = (frame["time"].max() - frame["time"].min()).total_seconds() / 86_400
    hourly = days < _HOURLY_DAYS
    period = frame["time"].dt.floor("h" if hourly else "D")
    figure, places = picture(height_inches=6.6, rows=4, columns=2, sharex=True)
    _draw_amounts(places, frame, period, hourly=hourly)
    for axes, (title, metrics) in zip(places[5:], _RATES.items(), strict=True):
        for place, metric in enumerate(metrics):
            _draw_rate(axes, frame, period, metric, place=place)
        axes.set_title(title, fontsize=9)
    for axes in places:
        _finish(axes, releases or {})
    every = "hour" if hourly else "day"
    errors = values_of(frame, Outcome(metric="error_rate", rule="no_shown_harm"))
    errors = errors[~np.isnan(errors)]
    span = f"in {days:.1f} days" if days >= 1 else "within a day"
    title = f"{counted(len(frame), 'request')} {span}"
    title += f", {errors.mean():.1%} of them failed" if len(errors) else ""
    title += f"; {counted(int(is_shadow.sum()), 'answer')} of a shadow left out" if is_shadow.any() else ""
    marked = "; ".join(f"{name} at {moment:%Y-%m-%d %H:%M}" for name, moment in (releases or {}).items())
    drawn = "requests, latency, time to first token, cost, tokens, errors, refusals and guards, complaints"
    return titled(figure, title, alt=f"By {every}: {drawn}. Releases: {marked or 'none'}.")


def _finish(axes: Axes, releases: Mapping[str, datetime]) -> None:
    for i, (name, moment) in enumerate(releases.items()):
        at, height = float(mdates.date2num(moment)), 0.98 - 0.1 * (i % 4)  # two on one day are told apart
        axes.axvline(at, color=COLOURS["vermillion"], linestyle="--", linewidth=1)
        axes.annotate(f" {plain(name, 20)}", (at, height), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.xaxis.get_offset_text().set_fontsize(7)
    axes.tick_params(labelsize=7)
    axes.set_ylim(bottom=0)


def _draw_amounts(places: Sequence[Axes], frame: pd.DataFrame, period: pd.Series[Any], *, hourly: bool) -> None:
    by = frame.groupby(period)
    places[0].bar(by.size().index, by.size(), width=0.8 / (24 if hourly else 1), color=COLOURS["blue"])
    places[0].set_title("requests", fontsize=9)
    shown: dict[str, list[tuple[str, str, float]]] = {
        "latency (s)": [(f"p{100 * q:g}", "latency_s", q) for q in (0.5, 0.95, 0.99)],
        "time to first token (s)": [(f"p{100 * q:g}", "first_token_s", q) for q in (0.5, 0.95)],
        "cost (USD)": [("", "cost_usd", 0.0)],
        "tokens per request, medians": [("in", "prompt_tokens", 0.5), ("out", "completion_tokens", 0.5)],
    }
    for axes, (title, lines) in zip(places[1:], shown.items(), strict=False):
        axes.set_title(title, fontsize=9)
        for place, (label, column, q) in enumerate(lines):
            values, n = by[column].quantile(q) if q else by[column].sum(min_count=1), by[column].count()
            enough = n >= fewest(q)
            if enough.any() or not n.any():
                _draw_line(axes, values.where(enough), place, label=label)


def _draw_line(axes: Axes, values: pd.Series[Any], place: int, *, label: str) -> None:
    if values.isna().all():
        axes.annotate("not known", (0.5, 0.5), xycoords="axes fraction", ha="center", color=COLOURS["grey"], fontsize=8)
        return
    axes.plot(values.index, values, ".-", color=CYCLE[place], linewidth=1, markersize=3)
    last, above = values.last_valid_index(), 4 if place else -4  # apart where two lines end as one
    axes.annotate(
        label, (last, values[last]), (3, above), textcoords="offset points", fontsize=7, color=CYCLE[place], va="center"
    )


def _draw_rate(axes: Axes, frame: pd.DataFrame, period: pd.Series[Any], metric: str, *, place: int) -> None:
    by = frame.assign(value=values_of(frame, Outcome(metric=metric, rule="no_shown_harm"))).groupby(period)["value"]
    mean, n = by.mean(), by.count()
    if not n.any():  # nobody records it
        return
    ends = np.array([score_interval(rate, count, _Z_95) for rate, count in zip(mean, n, strict=True) if count]).reshape(
        -1, 2
    )
    axes.fill_between(mean.index[n > 0], *(100 * ends.T), color=CYCLE[place], alpha=0.15, linewidth=0)
    _draw_line(axes, 100 * mean, place, label=metric.partition("_")[0])
