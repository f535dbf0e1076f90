"""What a service did over time, as small pictures beside each other, with releases as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.plots.drawing import COLOURS, CYCLE, Picture, picture, styled, titled
from llmlab.production.policy import Outcome
from llmlab.production.traces import Traces
from llmlab.production.units import values_of
from llmlab.stats.estimate import score_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["over_time"]

Z_95 = 1.959964
HOURLY_DAYS = 3.0  # traces of fewer days are drawn by the hour
_RATES = {
    "errors (%)": ("error_rate",),
    "refusals, guards (%)": ("refusal_rate", "guard_rate"),
    "complaints, replies (%)": ("negative_signals", "response_rate"),
}


@styled()
def over_time(traces: Traces, *, releases: Mapping[str, datetime] | None = None) -> Picture:
    """Requests, errors, latency, cost, tokens, signals and guards by day (by hour where there are few days).

    Rates have 95% intervals over requests, which are too short where one person makes many. What was never recorded is
    said to be not known.

    Args:
        releases: name -> when (with its time zone).

    Raises:
        ValueError: there is no request.
    """
    frame = traces.to_frame()
    if frame.empty:
        raise ValueError("there is no request to draw")
    days = (frame["time"].max() - frame["time"].min()).total_seconds() / 86_400
    hourly = days < HOURLY_DAYS
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
    failed = float(np.nanmean(values_of(frame, Outcome(metric="error_rate", rule="no_shown_harm"))))
    title = f"{counted(len(frame), 'request')} in {max(days, 1 / 24):.1f} days, {failed:.1%} of them failed"
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
            values = by[column].quantile(q) if q else by[column].sum(min_count=1)
            _draw_line(axes, values, place, label=label)


def _draw_line(axes: Axes, values: pd.Series[Any], place: int, *, label: str) -> None:
    if values.isna().all():
        axes.annotate("not known", (0.5, 0.5), xycoords="axes fraction", ha="center", color=COLOURS["grey"], fontsize=8)
        return
    axes.plot(values.index, values, ".-", color=CYCLE[place], linewidth=1, markersize=3)
    last, above = (values.index[-1], values.iloc[-1]), 4 if place else -4  # apart where two lines end as one
    axes.annotate(label, last, (3, above), textcoords="offset points", fontsize=7, color=CYCLE[place], va="center")


def _draw_rate(axes: Axes, frame: pd.DataFrame, period: pd.Series[Any], metric: str, *, place: int) -> None:
    by = frame.assign(value=values_of(frame, Outcome(metric=metric, rule="no_shown_harm"))).groupby(period)["value"]
    mean, n = by.mean(), by.count()
    ends = np.array([score_interval(rate, count, Z_95) for rate, count in zip(mean, n, strict=True) if count]).reshape(
        -1, 2
    )
    axes.fill_between(mean.index[n > 0], *(100 * ends.T), color=CYCLE[place], alpha=0.15, linewidth=0)
    _draw_line(axes, 100 * mean, place, label=metric.partition("_")[0])
