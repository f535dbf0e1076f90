"""Figures in one style: intervals always drawn, titles that state the finding, alt text carried along.

Every function returns a `Picture` (a matplotlib Figure) and shows nothing by itself; a notebook shows it as the
last value of a cell, with its alt text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from llmlab.display import plain
from llmlab.sentences import scale_of
from llmlab.summary import case_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llmlab.comparison import Comparison, PairedRow
    from llmlab.results import Results

__all__ = ["COLOURS", "Picture", "forest", "picture", "quality_against"]

# Okabe & Ito (2008): told apart with any common colour blindness, and in grey print
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#000000",
    "grey": "#767676",
}
CYCLE = tuple(COLOURS[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky", "black"))
STYLE: Mapping[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a variant called $x$ is a name, not a formula
}
WIDTH_INCHES = 7.0
LONGEST_LABEL_CHARS = 48


class Picture(Figure):
    """A figure that shows itself in a notebook as a PNG with its alt text."""

    alt: str = ""

    def png(self) -> bytes:
        """The figure as PNG bytes, 700 pixels wide and up."""
        target = io.BytesIO()
        FigureCanvasAgg(self).print_png(target, metadata={"Description": self.alt, "Software": "llmlab"})
        return target.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        import base64

        png = base64.b64encode(self.png()).decode()
        return {"image/png": png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def picture(*, height_inches: float, columns: int = 1) -> tuple[Picture, Sequence[Axes]]:
    """An empty picture in the house style, with its axes side by side."""
    with mpl.rc_context(dict(STYLE)):
        figure = Picture(figsize=(WIDTH_INCHES, height_inches), dpi=120, layout="constrained")
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def forest(comparison: Comparison, *, margin: float | None = None, most_rows: int = 30) -> Picture:
    """Every difference with its interval, best reading first; the margin band is drawn where one is given.

    Bounded scores are drawn in points of 100. Filled marks are larger than noise (Holm), hollow ones are undecided.
    """
    rows = [row for row in comparison if row.difference is not None][:most_rows]
    if not rows:
        raise ValueError("nothing to draw: no row of this comparison has two scored cases")
    figure, (axes,) = picture(height_inches=1.5 + 0.34 * len(rows))
    with mpl.rc_context(dict(STYLE)):
        for place, row in enumerate(reversed(rows)):
            _draw_row(axes, row, place)
        axes.axvline(0, color=COLOURS["black"], linewidth=1)
        axes.annotate(
            "no difference", (0, 1.0), xycoords=("data", "axes fraction"), fontsize=8, ha="center", va="bottom"
        )
        if margin is not None:
            scale, _ = scale_of(rows[0].metric)
            axes.axvspan(-margin * scale, margin * scale, color=COLOURS["sky"], alpha=0.15, linewidth=0)
            where = (-margin * scale, 0.01)
            axes.annotate("margin", where, xycoords=("data", "axes fraction"), fontsize=8, color=COLOURS["blue"])
        axes.set_yticks(range(len(rows)), [_label(row, rows) for row in reversed(rows)])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        units = {scale_of(row.metric)[1].strip() or "score" for row in rows}
        axes.set_xlabel(f"difference from {_name(comparison.baseline)} ({', '.join(sorted(units))}), 95% interval")
        axes.set_title(_forest_title(rows, comparison.baseline), pad=18)
    figure.alt = f"Forest plot. {' '.join(row.sentence for row in rows)}"
    return figure


def quality_against(results: Results, *, metric: str | None = None, against: str = "output_tokens") -> Picture:
    """Quality against what it costs (tokens, USD or seconds) per variant, both with 95% intervals."""
    quality = metric or next(iter(results.metrics))
    across, up = results.table(against), results.table(quality)
    scale, unit = scale_of(up.metric)
    points = [(name, case_mean(across, name), case_mean(up, name)) for name in results.variants]
    shown = [(name, x, y) for name, x, y in points if x.value is not None and y.value is not None]
    if not shown:
        raise ValueError(f"nothing to draw: no variant has both {quality} and {against}")
    figure, (axes,) = picture(height_inches=4.2)
    with mpl.rc_context(dict(STYLE)):
        for i, (name, x, y) in enumerate(shown):
            axes.errorbar(
                x.value,
                y.value * scale,
                xerr=_arms(x.value, x.low, x.high, 1.0),
                yerr=_arms(y.value, y.low, y.high, scale),
                fmt="o",
                color=CYCLE[i % len(CYCLE)],
                capsize=3,
            )
            axes.annotate(
                _name(name), (x.value, y.value * scale), xytext=(7, 6), textcoords="offset points", fontsize=9
            )
        axes.set_xlabel(
            f"{against} per answer{f' ({across.metric.unit})' if across.metric.unit not in against else ''}"
        )
        axes.set_ylabel(f"{quality}{f' ({unit.strip()})' if unit else ''}")
        axes.margins(0.18)
        best = max(shown, key=lambda point: point[2].value if up.metric.higher_is_better else -point[2].value)[0]
        least = min(shown, key=lambda point: point[1].value)[0]
        axes.set_title(
            f"{_name(best)} scores best on {quality}"
            + (" and needs least" if best == least else f"; {_name(least)} needs the fewest {against}")
        )
    values = ", ".join(f"{name}: {quality} {y}, {against} {x}" for name, x, y in shown)
    figure.alt = f"{quality} against {against} per variant, with 95% intervals. {values}."
    return figure


def _draw_row(axes: Axes, row: PairedRow, place: int) -> None:
    d = row.difference
    if d is None:
        return
    scale, _ = scale_of(row.metric)
    decided = row.p_adjusted is not None and row.p_adjusted < 1 - d.level
    better = (d.value > 0) == row.metric.higher_is_better
    colour = COLOURS["grey"] if not decided else COLOURS["blue"] if better else COLOURS["vermillion"]
    if not decided:
        axes.axhspan(place - 0.4, place + 0.4, color="#f4f1e8", linewidth=0)
    axes.errorbar(
        d.value * scale,
        place,
        xerr=_arms(d.value, d.low, d.high, scale),
        fmt="o",
        color=colour,
        markerfacecolor=colour if decided else "white",
        capsize=3,
    )
    word = "undecided" if not decided else "better" if better else "worse"
    axes.annotate(word, (1.01, place), xycoords=("axes fraction", "data"), fontsize=8, va="center", color=colour)


def _arms(value: float, low: float | None, high: float | None, scale: float) -> list[list[float]] | None:
    if low is None or high is None:
        return None
    return [[(value - low) * scale], [(high - value) * scale]]


def _label(row: PairedRow, rows: Sequence[PairedRow]) -> str:
    parts = [_name(row.candidate)]
    if len({other.metric.name for other in rows}) > 1:
        parts.append(row.metric.name)
    if row.category is not None:
        parts.append(_name(row.category))
    return " · ".join(parts)


def _name(text: str) -> str:
    return plain(text, LONGEST_LABEL_CHARS)


def _forest_title(rows: Sequence[PairedRow], baseline: str) -> str:
    decided = [
        (row, (row.difference.value > 0) == row.metric.higher_is_better)
        for row in rows
        if row.difference is not None and row.p_adjusted is not None and row.p_adjusted < 1 - row.difference.level
    ]
    better = list(dict.fromkeys(f"{_name(row.candidate)}" for row, good in decided if good))
    worse = list(dict.fromkeys(f"{_name(row.candidate)}" for row, good in decided if not good))
    if not decided:
        return f"Not enough evidence that anything differs from {_name(baseline)}"
    found = [f"{', '.join(names[:3])} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
    return f"Than {_name(baseline)}: {'; '.join(found)}"
