"""Which cases of a run to look at first: those that flipped between two variants, and those that score worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmlab.base.display import Chip, Interval, Shown, number, plain
from llmlab.results.scores import Metric
from llmlab.results.wording import counted
from llmlab.stats.arrays import paired_differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.results.results import Results
    from llmlab.results.scores import ScoreTable

__all__ = ["Flip", "Flips", "Worst", "flips", "good_cells", "worst"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Flip(Shown):
    """A case that one variant gets right and the other does not, with both answers (their first repeat)."""

    case_id: str
    question: str
    became: str  # good or bad
    before: float
    after: float
    before_text: str
    after_text: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Flips(Shown):
    """The cases that changed sides between two variants, the harmed ones first.

    Attributes:
        good_when: the score from which on a case counts as good; from which down with `good_below`.
        n_cases, n_unscored: cases that both variants have a score for, and those they have not.
    """

    metric: str
    before: str
    after: str
    good_when: float
    n_cases: int
    flips: tuple[Flip, ...]
    n_unscored: int = 0
    good_below: bool = False

    @property
    def harmed(self) -> tuple[Flip, ...]:
        """Cases that went from good to bad."""
        return tuple(flip for flip in self.flips if flip.became == "bad")

    @property
    def mended(self) -> tuple[Flip, ...]:
        """Cases that went from bad to good."""
        return tuple(flip for flip in self.flips if flip.became == "good")

    def __len__(self) -> int:
        return len(self.flips)

    def __repr__(self) -> str:
        return f"Flips({plain(self._sentence(), None)})"

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "case": flip.case_id,
                "question": flip.question,
                "became": Chip(flip.became, flip.became),
                "score": f"{number(flip.before)} → {number(flip.after)}",
                f"answer of {self.before}": flip.before_text,
                f"answer of {self.after}": flip.after_text,
            }
            for flip in self.flips
        ]

    def _sentence(self) -> str:
        kept = self.n_cases - len(self.flips)
        lost = f" {counted(self.n_unscored, 'case')} without a score in both are left out." if self.n_unscored else ""
        return (
            f"From {self.before} to {self.after}, {counted(len(self.mended), 'case')} became good, "
            f"{len(self.harmed):,} became bad and {kept:,} stayed on their side ({self.metric}, good from "
            f"{self.good_when:g}{' down' if self.good_below else ''}).{lost}"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Worst(Shown):
    """The lowest-scored answers of a run, worst first."""

    metric: str
    rows: tuple[Mapping[str, object], ...]
    n_unscored: int = 0

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Ids of the cases, worst first, each once."""
        return tuple(dict.fromkeys(str(row["case"]) for row in self.rows))

    def _rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.rows]

    def _sentence(self) -> str:
        left_out = f" {counted(self.n_unscored, 'unscored answer')} cannot be ranked." if self.n_unscored else ""
        return f"The {counted(len(self.rows), 'answer')} that {self.metric} rates worst.{left_out}"


def flips(results: Results, before: str, after: str, *, metric: str | None = None) -> Flips:
    """Cases on different sides of the middle of the metric's range (repeats averaged)."""
    name = _quality_metric(results, metric)
    table, meaning = results.table(name), results.metric(name)
    good_when = _threshold(meaning)
    places = [table.column(before), table.column(after)]
    a, b = (table.values[:, place] for place in places)
    both = ~(np.isnan(a) | np.isnan(b))
    was, now = good_cells(table)[:, places].T
    texts = _first_texts(results)
    found = [
        Flip(
            case_id=table.case_ids[i],
            question=_question(results, table.case_ids[i]),
            became="good" if now[i] else "bad",
            before=float(a[i]),
            after=float(b[i]),
            before_text=texts.get((before, table.case_ids[i]), ""),
            after_text=texts.get((after, table.case_ids[i]), ""),
        )
        for i in np.flatnonzero(both & (was != now))
    ]
    found.sort(key=lambda flip: (flip.became != "bad", -abs(flip.after - flip.before)))
    return Flips(
        metric=name,
        before=before,
        after=after,
        good_when=good_when,
        n_cases=int(both.sum()),
        flips=tuple(found),
        n_unscored=int((~both).sum()),
        good_below=not meaning.higher_is_better,
    )


def worst(results: Results, n: int, *, variant: str | None = None, metric: str | None = None) -> Worst:
    """The n lowest-scored answers, of one variant or of all; unscored ones are not among them."""
    if n < 1:
        raise ValueError(f"n == {n}, must be >= 1")
    name = _quality_metric(results, metric)
    frame = results.frame
    if variant is not None:
        results.table(name).column(variant)
        frame = frame[frame["variant"] == variant]
    lowest_first = results.metric(name).higher_is_better
    ordered = frame[frame[name].notna()].sort_values(name, ascending=lowest_first, kind="stable").head(n)
    rows = tuple(
        {
            "case": row["case_id"],
            "variant": row["variant"],
            "score": Interval(row[name]),
            "question": _question(results, row["case_id"]),
            "answer": row["text"],
            "status": row["status"],
        }
        for row in ordered.to_dict("records")
    )
    unscored = int(frame[name].isna().sum())
    return Worst(metric=name, rows=rows, n_unscored=unscored)


def good_cells(table: ScoreTable) -> NDArray[np.bool_]:
    """Shape (cases, variants): whether the mean score lies in the better half of the metric's range; NaN is not good.

    Raises:
        ValueError: the metric has no bounds, so nobody knows which half is better.
    """
    above = paired_differences(table.values, np.full(table.values.shape, _threshold(table.metric)))
    good: NDArray[np.bool_] = above >= 0 if table.metric.higher_is_better else above <= 0
    return good


def _quality_metric(results: Results, metric: str | None) -> str:
    if metric is not None:
        return results.metric(metric).name
    if not results.metrics:
        raise ValueError("these results have no scorer; name a metric")
    return next(iter(results.metrics))


def _threshold(metric: Metric) -> float:
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds, so no case of it is good or bad; name another metric")
    return (metric.low + metric.high) / 2


def _first_texts(results: Results) -> dict[tuple[str, str], str]:
    first = results.frame[results.frame["repeat"] == 0]
    return dict(zip(zip(first["variant"], first["case_id"], strict=True), first["text"], strict=True))


def _question(results: Results, case_id: str) -> str:
    case = results.golden.by_id.get(case_id) if results.golden else None
    return case.asked if case else ""
