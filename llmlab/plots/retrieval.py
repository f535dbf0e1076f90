"""Figures of retrieval: precision and recall by k, and which step lost the cases."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.plots.drawing import CYCLE, Picture, arms, beside, picture, short_name, styled, titled, told_apart
from llmlab.retrieval.attribution import CELLS, Attribution
from llmlab.retrieval.variants import RunMetrics

NAMES = {"P": "precision", "R": "recall", "HitRate": "questions with a hit", "Success": "questions with a hit"}
LONGEST_NAME_CHARS = 24
_LEGEND_CHARS = 96  # side by side below a figure
_LABEL_GAP = 0.055  # of the panel's height, between the names at the ends of two lines


@styled()
def by_k(measured: RunMetrics) -> Picture:
    """Each measure against k, a line per variant with its 95% band; a dot stands at the k that the variant uses.

    `measured` is what `retrieval.by_k` gives. Raises ValueError for more variants than there are colours, or where
    nothing was measured at more than one k.
    """
    depths: dict[str, list[int]] = {}
    for measure in measured.measures:
        if measure.cutoff:
            depths.setdefault(measure.name, []).append(measure.cutoff)
    drawn = {name: sorted(ks) for name, ks in depths.items() if len(ks) > 1}
    variants = _few(measured.variants)
    if not drawn:
        raise ValueError("nothing to draw: measure at several k, as `retrieval.by_k` does")
    figure, panels = picture(height_inches=3.7, columns=len(drawn))
    for axes, (name, ks) in zip(panels, drawn.items(), strict=True):
        _draw_curves(axes, measured, name, ks)
        axes.set_title(NAMES.get(name, name), fontsize=10)
        axes.set_xlabel("k (dot: in use)", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.set_xlim(min(ks), max(ks) * 1.16)
        _label_ends(axes, measured, name, ks)
    estimates = [
        f"{plain(variant)}: " + ", ".join(f"{name}@{k} {measured.estimate(variant, f'{name}@{k}')}" for k in _some(ks))
        for variant in variants
        for name, ks in drawn.items()
    ]
    alt = f"Measures by k with {measured.level:.0%} bands. {'; '.join(estimates)}."
    return titled(figure, _curve_title(measured, "R" if "R" in drawn else next(iter(drawn))), alt=alt)


@styled()
def losses(attribution: Attribution) -> Picture:
    """The share of cases in each cell of the attribution, a mark per variant with its 95% interval."""
    variants = _few(attribution.variants)
    called = told_apart(variants, LONGEST_NAME_CHARS)
    figure, (axes,) = picture(height_inches=1.9 + 0.75 * len(CELLS) * max(1.0, len(variants) / 4))
    for i, variant in enumerate(variants):
        shares = [attribution.share(cell, variant) for cell in CELLS]
        label: str | None = called[variant]
        for place, (cell, share) in enumerate(zip(CELLS, shares, strict=True)):
            if share.value is None:
                continue
            at, high = place + 0.6 * ((i + 0.5) / len(variants) - 0.5), 1.0 if share.high is None else share.high
            reach = arms(share.value, share.low or 0.0, high, 100)
            axes.errorbar(100 * share.value, at, xerr=reach, fmt="o", capsize=3, color=CYCLE[i], label=label)
            beside(axes, f"{attribution.count(cell, variant):,}", (100 * high, at), colour=CYCLE[i])
            label = None  # one entry of the legend for each variant
    axes.set_yticks(range(len(CELLS)), [_CELL_LABELS[cell] for cell in CELLS], fontsize=9)
    axes.set_ylim(len(CELLS) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"share of the cases (%), with {attribution.level:.0%} intervals; numbers are cases")
    columns = _LEGEND_CHARS // (max(map(len, called.values())) + 6)
    figure.legend(loc="outside lower left", ncols=min(columns, len(variants)), fontsize=9, frameon=False)
    return titled(figure, _loss_title(attribution), alt=f"What became of the cases. {attribution._sentence()}")


_CELL_LABELS = {
    "right": "right\n(fetched, answered)",
    "generation failure": "generation failure\n(fetched, wrong)",
    "retrieval failure": "retrieval failure\n(not fetched, wrong)",
    "lucky": "lucky\n(not fetched, right)",
}


def _draw_curves(axes: Axes, measured: RunMetrics, name: str, ks: Sequence[int]) -> None:
    for colour, variant in zip(CYCLE, measured.variants, strict=False):
        estimates = [measured.estimate(variant, f"{name}@{k}") for k in ks]
        values = [estimate.value or 0.0 for estimate in estimates]
        axes.plot(ks, values, color=colour, linewidth=1.8)
        if all(estimate.low is not None for estimate in estimates):
            low, high = [e.low or 0.0 for e in estimates], [e.high or 0.0 for e in estimates]
            axes.fill_between(ks, low, high, color=colour, alpha=0.13, linewidth=0)
        used = measured.k_used.get(variant)
        if used is not None and used in ks:
            axes.plot([used], [values[list(ks).index(used)]], "o", color=colour, markersize=7, zorder=5)


def _label_ends(axes: Axes, measured: RunMetrics, name: str, ks: Sequence[int]) -> None:
    """Names at the right ends of the lines, pushed apart where they would cover each other."""
    top, called = axes.get_ylim()[1], told_apart(measured.variants, LONGEST_NAME_CHARS)
    ends = [
        (measured.estimate(variant, f"{name}@{max(ks)}").value or 0.0, variant, colour)
        for variant, colour in zip(measured.variants, CYCLE, strict=False)
    ]
    lowest = 0.0
    for value, variant, colour in sorted(ends):
        at = max(value, lowest)
        lowest = at + _LABEL_GAP * top
        beside(axes, called[variant], (max(ks), at), colour=colour, size=9)


def _curve_title(measured: RunMetrics, name: str) -> str:
    """What each variant reaches at the k it uses, the best first."""
    reached = [
        (measured.estimate(variant, f"{name}@{k}").value or 0.0, variant, k)
        for variant, k in measured.k_used.items()
        if any(str(measure) == f"{name}@{k}" for measure in measured.measures)
    ]
    if not reached:
        return f"{NAMES.get(name, name).capitalize()} by the number of documents fetched"
    called = told_apart(measured.variants, LONGEST_NAME_CHARS)
    (value, best, k), *others = sorted(reached, key=lambda entry: -entry[0])
    runners_up = ", ".join(f"{called[variant]} {other:.0%} at {at}" for other, variant, at in others[:3])
    quantity = "of the relevant documents" if name == "R" else NAMES.get(name, name)
    return f"{called[best]} fetches {value:.0%} {quantity} at its k of {k}{f' ({runners_up})' if runners_up else ''}"


def _loss_title(attribution: Attribution) -> str:
    counts = {v: [attribution.count(cell, v) for cell in CELLS] for v in attribution.variants}
    if not any(g or f for _, g, f, _ in counts.values()):
        return "No variant loses a case, to retrieval or to generation"
    if len(counts) == 1:
        ((variant, (_, g, f, _)),) = counts.items()
        return (
            f"{short_name(variant, LONGEST_NAME_CHARS)} loses {counted(f, 'case')} to retrieval and {g:,} to generation"
        )
    sides = {(f > g) - (f < g) for _, g, f, _ in counts.values()}
    if sides in ({1}, {-1}):
        more, less = ("retrieval", "generation") if sides == {1} else ("generation", "retrieval")
        return f"Every variant loses more cases to {more} than to {less}"
    return "Neither retrieval nor generation loses most with every variant"


def _some(ks: Sequence[int]) -> list[int]:
    return [k for k in ks if k in (1, 3, 5, 10, 20)] or [ks[0], ks[-1]]


def _few(variants: tuple[str, ...]) -> tuple[str, ...]:
    if len(variants) > len(CYCLE):
        raise ValueError(f"{len(variants)} variants are more than a figure can tell apart ({len(CYCLE)}); choose some")
    return variants
