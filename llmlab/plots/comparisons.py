"""Figures of a comparison: every difference with its interval, and quality against what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.base.verdict import Verdict
from llmlab.guards.escalating import Frontier
from llmlab.plots.drawing import (
    COLOURS,
    CYCLE,
    LONGEST_LABEL_CHARS,
    WIDTH_INCHES,
    Picture,
    arms,
    picture,
    short_name,
    styled,
    titled,
    told_apart,
    wrapped,
)
from llmlab.results.comparison import Comparison, PairedRow
from llmlab.results.results import Results
from llmlab.results.scores import Metric, ScoreTable, scale_of
from llmlab.results.summary import case_mean
from llmlab.stats.estimate import Estimate

_LONGEST_METRIC_CHARS = 90
_LABEL_LINE_CHARS = 32
_LONGEST_CANDIDATE_CHARS = 60  # fits in three lines wherever they break
_TITLE_NAME_CHARS = 32
_MOST_DIRECT_LABELS = 6  # more points than this, or longer names, get numbers and a key below
_LONGEST_DIRECT_LABEL_CHARS = 24
Point = tuple[str, Estimate, Estimate]


def forest(comparison: Comparison, *, margin: float | None = None, most_rows: int = 30) -> Picture:
    """Every difference with its interval, in the table's order; metrics in different units get panels of their own.

    Shares are drawn in points of 100. Filled marks are decided, hollow ones on a shaded row are not. `margin` is
    drawn as a band; by default it is the one that the comparison was made with. Where no row has a difference (too
    few cases, or no candidate), the picture says so.

    >>> from llmlab.retrieval.variants import compare_runs
    >>> from llmlab.retrieval.metrics import evaluate
    >>> qrels = {f"q{i}": {"a": 1} for i in range(8)}
    >>> runs = [evaluate(qrels, {f"q{i}": ["x"] * (i % n) + ["a"] for i in range(8)}) for n in (1, 3)]
    >>> forest(compare_runs(*runs)).alt.startswith("Forest plot. ")
    True
    """
    drawable = [row for row in comparison if row.difference is not None]
    rows = drawable[:most_rows]
    if not rows:
        return _nothing_drawn(comparison)
    panels: dict[str, list[PairedRow]] = {}
    for row in rows:
        panels.setdefault(scale_of(row.metric)[1] or row.metric.name, []).append(row)
    lines = 1 + max(_label(row, rows).count("\n") for row in rows)
    heights = [len(group) + 1.6 for group in panels.values()]
    height_inches = 0.8 + (0.2 + 0.16 * lines) * sum(heights)
    figure, axes = picture(height_inches=height_inches, rows=len(heights), height_ratios=heights)
    with styled():
        for place, group in zip(axes, panels.values(), strict=True):
            _draw_panel(place, group, rows=rows, margin=margin)
        axes[0].annotate(
            "no difference", (0, 1.0), xycoords=("data", "axes fraction"), fontsize=8, ha="center", va="bottom"
        )
        left_out = {"further rows": len(drawable) - len(rows), "with too few cases": len(comparison) - len(drawable)}
        if notes := [f"{count} {reason}" for reason, count in left_out.items() if count]:
            figure.supxlabel(f"Not drawn: {' and '.join(notes)}.", fontsize=9)
    sentences = " ".join(row.sentence for row in rows)
    return titled(figure, _forest_title(rows, comparison.baseline), alt=f"Forest plot. {sentences}")


def _nothing_drawn(comparison: Comparison) -> Picture:
    """A picture of words, so that a first try on three cases runs to the end of its notebook."""
    figure = Picture(figsize=(WIDTH_INCHES, 0.8), dpi=120)
    why = "two cases, in different clusters, must be scored in both variants" if len(comparison) else "no candidate"
    sentence = f"No difference from {short_name(comparison.baseline, _TITLE_NAME_CHARS)} can be drawn: {why}"
    return titled(figure, sentence, alt=f"{sentence}.")


@styled()
def quality_against(results: Results, *, metric: str | None = None, against: str = "output_tokens") -> Picture:
    """Quality against what it costs (tokens, USD or seconds) per variant, both with 95% intervals."""
    quality = metric or next(iter(results.metrics))
    cost, up = results.table(against), results.table(quality)
    scale, _ = scale_of(up.metric)
    shown = _points(cost, up, {name: name for name in results.variants})
    if not shown:
        raise ValueError(f"nothing to draw: no variant has both {quality} and {against}")
    names = [name for name, *_ in shown]
    direct = len(names) <= _MOST_DIRECT_LABELS and all(len(name) <= _LONGEST_DIRECT_LABEL_CHARS for name in names)
    key_columns = max(1, min(4, len(names), 100 // (max(len(short_name(name)) for name in names) + 8)))
    key_lines = 0 if direct else -(-len(names) // key_columns)
    figure, (axes,) = picture(height_inches=4.2 + 0.2 * key_lines)
    named_apart = told_apart(names, LONGEST_LABEL_CHARS)
    for i, point in enumerate(shown):
        key = "" if direct else f"{i + 1}  {named_apart[point[0]]}"
        _draw_point(axes, point, scale, colour=CYCLE[i % len(CYCLE)], key=key)
    words = against.replace("_usd", " (USD)").replace("_s", " (s)").replace("_", " ")
    _name_axes(axes, words, up.metric)
    values = ", ".join(f"{name}: {quality} {y}, {against} {x}" for name, x, y in shown)
    missing = [name for name in results.variants if name not in names]
    lost = f" Without a value: {', '.join(missing)}." if missing else ""
    alt = f"{quality} against {against} per variant, with 95% intervals. {values}.{lost}"
    titled(figure, _best_and_cheapest(shown, up.metric, words), alt=alt)  # first, for it takes room from the labels
    if left_out := sum(int((table.attempted.clip(min=1) - table.scored).sum()) for table in (cost, up)):
        without = f"Left out: {counted(left_out, 'unknown number')}"
        figure.supxlabel(f"{without}. The summary has the means with them at their worst.", fontsize=9)
    if direct:
        _label_points(figure, axes, shown, scale)
    else:
        figure.legend(loc="outside lower left", ncols=key_columns, fontsize=8, frameon=False, handlelength=1)
    return figure


@styled()
def frontier(found: Frontier) -> Picture:
    """Quality against cost of the two bundles and the cascades between them, with 95% intervals.

    The dashed line is what sending answers to the strong bundle at random would give: a check that is worth its calls
    lies above it.
    """
    scale, _ = scale_of(found.quality.metric)
    alone = {name: name for name in (found.cheap, found.strong)}
    shown = _points(found.cost, found.quality, {name: f"{share:.0%}" for name, share in found.shares.items()} | alone)
    figure, (axes,) = picture(height_inches=4.2)
    ends = [(_value(x), _value(y) * scale) for name, x, y in shown if name in alone]
    axes.plot(*zip(*ends, strict=True), linestyle="--", color=COLOURS["grey"], linewidth=1)
    for point in shown:
        _draw_point(axes, point, scale, colour=COLOURS["black" if point[0] in alone else "blue"], key="")
    figure.supxlabel(f"Blue: cascades, with the share of answers that {found.strong} gives", fontsize=9)
    _name_axes(axes, found.cost.metric.name.replace("_", " "), found.quality.metric)
    values = "; ".join(f"{name}: {y} at {x}" for name, x, y in shown)
    alt = f"Quality against cost of {found.cheap}, {found.strong} and cascades between. {values}."
    titled(figure, found._sentence().split("\n")[0], alt=alt)
    _label_points(figure, axes, shown, scale)
    return figure


def _points(cost: ScoreTable, quality: ScoreTable, called: Mapping[str, str]) -> list[Point]:
    """What each variant is called, its mean cost and its mean quality, where it has both."""
    points = [(word, case_mean(cost, name), case_mean(quality, name)) for name, word in called.items()]
    return [point for point in points if point[1].value is not None and point[2].value is not None]


def _name_axes(axes: Axes, words: str, quality: Metric) -> None:
    axes.margins(0.15)
    axes.set_xlabel(f"{words} per answer, with 95% intervals")
    axes.set_ylabel(f"{plain(quality.name, 40)}{_in_unit(scale_of(quality)[1])}")


def _best_and_cheapest(shown: Sequence[Point], metric: Metric, words: str) -> str:
    """Who has the best mean and who the lowest cost; nobody where all are alike."""
    metric_name = plain(metric.name, 40)
    best = max(shown, key=lambda point: _value(point[2]) * (1 if metric.higher_is_better else -1))
    least = min(shown, key=lambda point: (_value(point[1]), point is not best))
    called = {
        name: short_name(name) if len(name) <= _TITLE_NAME_CHARS else f"Variant {i}"
        for i, (name, *_) in enumerate(shown, 1)
    }
    head = f"{called[best[0]]} has the {'highest' if metric.higher_is_better else 'lowest'} mean {metric_name}"
    tail = f" and the lowest {words}" if best is least else f"; {called[least[0]]} the lowest {words}"
    if len(shown) > 1 and len({_value(y) for _, _, y in shown}) == 1:
        head, tail = f"All have the same mean {metric_name}", f"; {called[least[0]]} the lowest {words}"
    if len(shown) > 1 and len({_value(x) for _, x, _ in shown}) == 1:
        tail = f"; all take the same {words}"
    return f"{head}{tail}"


def _in_unit(unit: str) -> str:
    return f" ({unit.strip()})" if unit else ""


def _draw_panel(axes: Axes, group: Sequence[PairedRow], *, rows: Sequence[PairedRow], margin: float | None) -> None:
    scale, unit = scale_of(group[0].metric)
    for place, row in enumerate(reversed(group)):
        _draw_row(axes, row, place)
    axes.axvline(0, color=COLOURS["black"], linewidth=1)
    margins = {row.margin for row in group}
    band = margin if margin is not None else margins.pop() if len(margins) == 1 else None
    for place, row in enumerate(reversed(group) if band is None else ()):  # each has its own
        if row.margin is not None:
            bound = row.margin * scale * (-1 if row.metric.higher_is_better else 1)
            axes.plot([bound, bound], [place - 0.3, place + 0.3], color=COLOURS["blue"], linestyle=":")
            axes.annotate(" margin", (bound, place + 0.3), fontsize=8, color=COLOURS["blue"], va="top")
    if band is not None:
        axes.axvspan(-band * scale, band * scale, color=COLOURS["sky"], alpha=0.15, linewidth=0)
        at = (-band * scale, 0.01)
        axes.annotate(" margin", at, xycoords=("data", "axes fraction"), fontsize=8, color=COLOURS["blue"])
    axes.set_yticks(range(len(group)), [_label(row, rows) for row in reversed(group)], fontsize=9)
    axes.set_ylim(-0.7, len(group) - 0.3)
    about = f"difference from {short_name(group[0].baseline, 40)}{_in_unit(unit)}"
    axes.set_xlabel(wrapped(f"{about}{_power_of_ten(axes)}, {group[0].level:.0%} interval", 60))


def _power_of_ten(axes: Axes) -> str:
    """What very large or small numbers are divided by: in the label, for the corner of the axes is under a long one."""
    power = math.floor(math.log10(max(map(abs, axes.get_xlim()))))
    if -5 < power < 6:
        return ""
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 10.0**power:g}".replace("-", "\N{MINUS SIGN}"))
    return f" in 1e{power}"


_COLOURS = {"better": "blue", Verdict.PASS: "blue", "worse": "vermillion", Verdict.FAIL: "vermillion"}  # else undecided


def _draw_row(axes: Axes, row: PairedRow, place: int) -> None:
    d = row.difference
    if d is None:
        return
    scale, _ = scale_of(row.metric)
    word = row.verdict or row.reading
    decided = word in _COLOURS
    colour = COLOURS[_COLOURS.get(word, "grey")]
    if not decided:
        axes.axhspan(place - 0.4, place + 0.4, color="#f4f1e8", linewidth=0)
    axes.errorbar(
        d.value * scale,
        place,
        xerr=arms(d.value, d.low, d.high, scale),
        fmt="o",
        color=colour,
        markerfacecolor=colour if decided else "white",
        capsize=3,
    )
    shown, across = word if decided else "undecided", ("axes fraction", "data")
    axes.annotate(shown, (1.01, place), xycoords=across, fontsize=8, va="center", color=colour)


def _draw_point(axes: Axes, point: Point, scale: float, *, colour: str, key: str) -> None:
    _, x, y = point
    at = (_value(x), _value(y) * scale)
    axes.errorbar(
        *at,
        xerr=arms(_value(x), x.low, x.high),
        yerr=arms(_value(y), y.low, y.high, scale),
        fmt="o",
        color=colour,
        capsize=3,
        markersize=13 if key else 6,
        label=key or "_",
    )
    if key:
        ink = "black" if colour in (COLOURS["orange"], COLOURS["sky"], COLOURS["purple"]) else "white"
        axes.annotate(key.split()[0], at, ha="center", va="center", fontsize=8, color=ink, fontweight="bold", zorder=5)


def _label_points(figure: Picture, axes: Axes, shown: Sequence[Point], scale: float) -> None:
    """Each name beside its point, at the first of several places where it covers nothing."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    places = [axes.transData.transform((_value(x), _value(y) * scale)) for _, x, y in shown]
    taken: list[Bbox] = [Bbox.from_bounds(px - 8, py - 8, 16, 16) for px, py in places]
    for name, x, y in shown:
        at = (_value(x), _value(y) * scale)
        for right, above in [(1, 6), (1, -14), (-1, 6), (-1, -14), (1, 20), (1, -28), (-1, 20), (-1, -28)]:
            label = axes.annotate(
                short_name(name),
                at,
                xytext=(7 * right, above),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                fontsize=9,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],  # read over another point's interval
            )
            box = label.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        else:
            axes.add_artist(label)
        taken.append(box)


def _value(estimate: Estimate) -> float:
    return float("nan") if estimate.value is None else estimate.value


def _label(row: PairedRow, rows: Sequence[PairedRow]) -> str:
    candidates = [*dict.fromkeys(other.candidate for other in rows)]
    parts = [told_apart(candidates, _LONGEST_CANDIDATE_CHARS)[row.candidate]]
    if len({other.metric.name for other in rows}) > 1:
        parts.append(plain(row.metric.name, _LONGEST_METRIC_CHARS))
    if row.category is not None:
        parts.append(short_name(row.category))
    return wrapped(" · ".join(parts), _LABEL_LINE_CHARS, lines=3)


def _forest_title(rows: Sequence[PairedRow], baseline: str) -> str:
    """What was found, in names where they are few and in numbers where they are many."""
    whole = [row for row in rows if row.category is None] or rows
    findings = []
    for word in ("better", "worse"):
        names = list(dict.fromkeys(row.candidate for row in whole if row.reading == word))
        if names:
            few = len(names) <= 2 and all(len(name) <= _TITLE_NAME_CHARS for name in names)
            who = " and ".join(plain(name, None) for name in names) if few else counted(len(names), "variant")
            findings.append(f"{who} {'is' if len(names) == 1 else 'are'} {word}")
    if not findings:
        return f"Not enough evidence that anything differs from {short_name(baseline, _TITLE_NAME_CHARS)}"
    metrics = {row.metric.name for row in whole}
    where = f" on {plain(metrics.pop(), 40)}" if len(metrics) == 1 else ""
    return f"{' and '.join(findings)} than {short_name(baseline, _TITLE_NAME_CHARS)}{where}"
