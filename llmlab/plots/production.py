"""Figures of a rollout: every outcome with its margin, and how an interval closes in on its boundary day by day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from llmlab.base.cells import plain
from llmlab.base.verdict import Verdict
from llmlab.plots.comparisons import forest
from llmlab.plots.drawing import COLOURS, Picture, picture, styled, titled
from llmlab.production.decision import Action, Reading, RolloutDecision
from llmlab.results.comparison import Comparison
from llmlab.results.scores import scale_of

__all__ = ["boundary", "outcomes"]

_MARKS = {Action.SHIP: ("^", "blue"), Action.REVERT: ("v", "vermillion"), Action.INVALID: ("x", "black")}
_RIGHT = ("axes fraction", "data")
_ABOVE: dict[str, Any] = {"ha": "right", "va": "bottom"}


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
    name = outcome or _most_telling(decisions[-1])
    looks = [(d, r) for d in decisions for r in d.readings if r.name == name and r.effect is not None]
    if not looks:
        raise ValueError(f"no look has an interval of {name!r}")
    figure, (axes,) = picture(height_inches=3.4)
    _draw_looks(axes, looks)
    last, first = looks[-1][1], next((d for d, r in looks if _settles(d, r)), None)
    when = f"{first.action.value} on day {first.days:.0f}" if first else f"no decision by day {looks[-1][0].days:.0f}"
    ends = [f"day {d.days:.1f}: {d.action.value}, {r._rows()[0]['candidate']}" for d, r in looks]
    alt = f"Difference of {name} over {len(looks)} looks with its margin. {'; '.join(ends)}."
    return titled(figure, f"{plain(name)}: {when}; {last.reading}", alt=alt)


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
    for action, (shape, colour) in _MARKS.items():
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


def _most_telling(decision: RolloutDecision) -> str:
    return next((r.name for r in decision.readings if r.verdict == Verdict.FAIL), decision.readings[0].name)


def _short(decision: RolloutDecision) -> str:
    reverted = [r.name for r in decision.readings if r.reverts]
    names = " and ".join((reverted or [r.name for r in decision.readings if not r.holds])[:3])
    return {
        Action.INVALID: "nothing may be concluded",
        Action.REVERT: f"{names} got worse",
        Action.SHIP: "every margin is ruled out or no harm was shown",
        Action.KEEP_GOING: f"{names} not settled yet",
    }[decision.action]
