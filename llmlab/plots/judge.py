"""Figures of a judge: agreement, what swapping and length do, raw and corrected scores."""

from __future__ import annotations

import numpy as np

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.golden.labels import Labels
from llmlab.judge.against_people import graded_frame
from llmlab.judge.calibration import Calibration, Corrected, VerdictGroup
from llmlab.plots.drawing import COLOURS, Picture, arms, picture, styled, titled
from llmlab.results.results import Results
from llmlab.stats.estimate import Estimate, mean_estimate, wilson_rate

_LENGTH_BINS = 4


@styled()
def agreement_matrix(calibration: Calibration) -> Picture:
    """Counts of people's labels against the judge's, darker for more; the diagonal is agreement."""
    matrix = calibration.only.matrix
    counts = np.array(matrix.counts)
    same = wilson_rate(int(np.trace(counts)), int(counts.sum()))
    figure, (axes,) = picture(height_inches=0.55 * len(matrix.labels) + 1.6)
    axes.imshow(counts, cmap="Blues", vmin=0, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else "black", weight=weight)
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(range(len(matrix.labels)), [plain(label, 16) for label in matrix.labels])
    axes.set_xlabel("judge")
    axes.set_ylabel("people")
    axes.grid(visible=False)
    rows = [
        f"people {label}: {', '.join(map(str, row))}" for label, row in zip(matrix.labels, matrix.counts, strict=True)
    ]
    title = f"Judge and people give the same label in {_percent(same)} of {counted(matrix.n, 'pair')}"
    return titled(figure, title, alt=f"Counts of labels, judge's labels {matrix.labels} across. {'; '.join(rows)}.")


@styled()
def swap_consistency(calibration: Calibration) -> Picture:
    """What became of each pair when its order was swapped, as shares with their 95% intervals."""
    group = calibration.only
    if not isinstance(group, VerdictGroup):
        raise ValueError("these are grades of single answers; swapping the order is for preferences")
    place = group.position
    steady = round((place.consistency.value or 0.0) * place.n)
    other = place.n - steady - place.first - place.second - place.missing
    kinds = {
        "same verdict in both orders": steady,
        "the first answer, twice": place.first,
        "the second answer, twice": place.second,
        "a tie in one order": other,
        "no verdict in some order": place.missing,
    }
    shares = {name: wilson_rate(count, place.n) for name, count in kinds.items()}
    colours = [COLOURS[name] for name in ("blue", "vermillion", "orange", "grey", "black")]
    figure, (axes,) = picture(height_inches=2.9)
    for i, (share, count, colour) in enumerate(zip(shares.values(), kinds.values(), colours, strict=True)):
        value, low, high = (100 * (end or 0.0) for end in (share.value, share.low, share.high))
        reach = arms(value, min(low, value), max(high, value))
        axes.barh(i, value, color=colour, height=0.6, alpha=0.85)
        axes.errorbar(value, i, xerr=reach, color=COLOURS["black"], capsize=3, linewidth=1)
        axes.text(max(high, value) + 1.5, i, f"{count:,}", va="center", fontsize=9)
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("% of pairs, with 95% intervals")
    outcomes = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    alt = f"Swap consistency of {counted(place.n, 'pair')}: {outcomes}."
    return titled(figure, group.sentences[0].rstrip("."), alt=alt)


@styled()
def score_against_length(labels: Labels, results: Results, *, metric: str | None = None) -> Picture:
    """judge - people for each labelled answer against its words, with the mean and its 95% interval per quarter.

    Fewer than eight answers have no quarters, and the title says so.
    """
    table = graded_frame(labels, results, metric=metric).dropna(subset=["human", "judge"])
    words = table["words"].to_numpy(dtype=float)
    excess = (table["judge"].astype(float) - table["human"].astype(float)).to_numpy()
    enough = len(table) >= 2 * _LENGTH_BINS
    edges = np.unique(np.quantile(words, np.linspace(0, 1, _LENGTH_BINS + 1))) if enough else np.array([])
    bins = np.clip(np.searchsorted(edges, words, side="right") - 1, 0, max(0, len(edges) - 2))
    figure, (axes,) = picture(height_inches=3.8)
    means = []
    jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(table))
    axes.scatter(words, excess + jitter, s=14, color=COLOURS["sky"], alpha=0.6, linewidth=0)
    axes.axhline(0, color=COLOURS["black"], linewidth=1)
    for bin_number in np.unique(bins) if enough else ():
        of = bins == bin_number
        if of.sum() < 2:
            continue
        groups = table["cluster"].to_numpy()[of]
        mean = mean_estimate(excess[of], groups if len(set(groups)) > 1 else None)
        value = mean.value or 0.0
        reach = arms(value, mean.low, mean.high)
        axes.errorbar(words[of].mean(), value, yerr=reach, fmt="o", color=COLOURS["blue"], capsize=4)
        means.append(f"about {words[of].mean():.0f} words {mean}")
    axes.set_xlabel("words of the answer")
    axes.set_ylabel("judge - people, in levels")
    axes.annotate("as people", (1, 0), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    if not enough:
        title = f"{counted(len(table), 'labelled answer')}: too few to show what length adds"
        return titled(figure, title, alt=f"judge minus people by length: {title}.")
    rises = excess[bins == bins.max()].mean() - excess[bins == bins.min()].mean()
    title = f"With length, judge - people changes by {rises:+.1f} levels (shortest quarter to longest)"
    return titled(figure, title, alt=f"judge minus people by length, means with 95% intervals: {'; '.join(means)}.")


@styled()
def raw_and_corrected(corrected: Corrected) -> Picture:
    """Per variant the judge's own mean, the labels' and the corrected one, each with its 95% interval."""
    kinds = [("judge alone", "raw", "vermillion", "o"), ("labels alone", "labels_only", "grey", "s")]
    kinds += [("corrected", "corrected", "blue", "D")]
    variants, estimates, named = list(corrected.by_variant), list[str](), set[str]()
    figure, (axes,) = picture(height_inches=1.6 + 0.8 * len(variants))
    for row, variant in enumerate(variants):
        for i, (name, attribute, colour, mark) in enumerate(kinds):
            mean = getattr(corrected[variant], attribute)
            if mean.value is None or mean.low is None or mean.high is None:
                continue
            at, reach = row + 0.24 * (i - 1), arms(mean.value, mean.low, mean.high)
            label = None if name in named else name
            axes.errorbar(mean.value, at, xerr=reach, fmt=mark, color=COLOURS[colour], capsize=3, label=label)
            named.add(name)
            estimates.append(f"{variant}, {name}: {mean}")
    axes.set_yticks(range(len(variants)), [plain(name, 32) for name in variants])
    axes.invert_yaxis()
    axes.set_xlabel(f"mean {plain(corrected.metric, 40)}, 95% intervals")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    ends = {v: (corrected[v].raw.value, corrected[v].corrected.value) for v in variants}
    gaps = {v: abs(raw - fit) for v, (raw, fit) in ends.items() if raw is not None and fit is not None}
    title = "Too few labels to correct the judge's score"
    if gaps:
        worst = max(gaps, key=lambda name: gaps[name])
        title = f"Labels move the judge's score most for {plain(worst, 32)}: by {gaps[worst]:.2g}"
    return titled(figure, title, alt=f"Raw and corrected scores. {'; '.join(estimates)}.")


def _percent(share: Estimate) -> str:
    return "–" if share.value is None else f"{100 * share.value:.0f}%"
