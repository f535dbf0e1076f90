"""Which cases of a run to look at: those that changed sides, those that score worst, those that match what you ask for.

`Results.flips` and `Results.worst` come here. `widgets.Explorer` calls `matching`; so can anybody:
`[results.show(case_id) for case_id in matching(results, tag="dates")]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmlab.base.display import Chip, Interval, Rows, Shown, number, plain
from llmlab.base.errors import DataError
from llmlab.results.scores import Metric
from llmlab.results.wording import counted
from llmlab.stats.arrays import paired_differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.results.results import Results
    from llmlab.results.scores import ScoreTable

__all__ = [
    "FLIPS",
    "ORDERS",
    "Choices",
    "Flip",
    "Flipped",
    "Flips",
    "Order",
    "choices",
    "flips",
    "matching",
    "questions",
    "worst",
]

Flipped = Literal["good to bad", "bad to good", "either way"]
Order = Literal["as asked", "lowest first", "highest first"]
FLIPS: tuple[Flipped, ...] = ("good to bad", "bad to good", "either way")
ORDERS: tuple[Order, ...] = ("as asked", "lowest first", "highest first")


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
        side = "its side" if kept == 1 else "their side"
        return (
            f"From {self.before} to {self.after}, {counted(len(self.mended), 'case')} became good, "
            f"{len(self.harmed):,} became bad and {kept:,} stayed on {side} ({self.metric}, good from "
            f"{self.good_when:g}{' down' if self.good_below else ''}).{lost}"
        )


def flips(results: Results, before: str, after: str, *, metric: str | None = None) -> Flips:
    """Cases on different sides of the middle of the metric's range (repeats averaged)."""
    name = _quality_metric(results, metric)
    if why := results.not_comparable(name, (before, after)):
        raise DataError(why)
    table, meaning = results.table(name), results.metric(name)
    good_when = _threshold(meaning)
    places = [table.column(before), table.column(after)]
    a, b = (table.values[:, place] for place in places)
    both = ~(np.isnan(a) | np.isnan(b))
    was, now = _good_cells(table)[:, places].T
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


def worst(results: Results, n: int, *, variant: str | None = None, metric: str | None = None) -> Rows:
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
    left_out = f" {counted(unscored, 'unscored answer')} cannot be ranked." if unscored else ""
    answers = "answer" if len(rows) == 1 else counted(len(rows), "answer")
    return Rows(rows=rows, sentence=f"The {answers} that {name} rates worst.{left_out}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What there is to filter by in a run."""

    variants: tuple[str, ...]
    tags: tuple[str, ...]
    statuses: tuple[str, ...]
    metrics: tuple[str, ...]
    flippable: tuple[str, ...]  # metrics with bounds: of the others nobody knows what is good
    repeats: int
    n_cases: int
    ranges: Mapping[str, tuple[float, float]]  # of each metric; of the scores that occur where it has no bounds


def choices(results: Results) -> Choices:
    """Variants, tags, statuses and metrics that occur, most frequent statuses first."""
    frame, tags = results.frame, dict.fromkeys(tag for case in results.golden or () for tag in case.tags)
    return Choices(
        variants=results.variants,
        tags=tuple(tags),
        statuses=tuple(map(str, frame["status"].value_counts().index)),
        metrics=tuple(results.metrics),
        flippable=tuple(name for name, metric in results.metrics.items() if metric.bounded),
        repeats=int(frame["repeat"].max()) + 1 if len(frame) else 0,
        n_cases=int(frame["case_id"].nunique()),
        ranges={name: _range(metric, frame[name].to_numpy(dtype=float)) for name, metric in results.metrics.items()},
    )


def matching(
    results: Results,
    *,
    variant: str | None = None,
    tag: str | None = None,
    status: str | None = None,
    metric: str | None = None,
    low: float | None = None,
    high: float | None = None,
    order: Order = "as asked",
    flipped: Flipped | None = None,
    baseline: str | None = None,
    text: str = "",
    outcome: str | None = None,
    outcomes: Mapping[tuple[str, str], str] | None = None,
) -> tuple[str, ...]:
    """Ids of the cases for which one and the same variant meets all of these; None and "" ask nothing.

    Args:
        variant: the one that has to; any by default.
        tag, status: of the case; of any of the variant's answers.
        metric: what `low`, `high`, `order` and `flipped` read, the mean over repeats; the first scorer by default.
        low, high: the score lies between them, both included; an unscored case lies nowhere.
        order: by the variant's score, by the lowest (highest) of any variant's without one; unscored cases last.
        flipped: crossed the middle of the metric's range against `baseline`, the first variant by default.
        text: occurs in the question, what is expected, the id, a tag or the variant's answer, in any case of letters.
        outcome: what became of the variant's answer, such as "retrieval failure", by `outcomes`: (variant, case id) ->
            outcome, of an attribution (`ll.retrieval.attribute(results).outcomes`).

    Raises:
        ValueError: an unknown variant, metric, tag, status or outcome, or `flipped` of a metric without bounds.

    >>> import pandas as pd
    >>> from llmlab import Case, GoldenSet, Results
    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Gaps?"}), Case(id="q2", inputs={"question": "Dates?"})))
    >>> table = pd.DataFrame({"variant": "v1", "case_id": ["q1", "q2"], "text": ["dropna", "to_datetime"]})
    >>> matching(Results.from_frame(table, golden=golden), text="DATE")
    ('q2',)
    """
    _check(results, variant=variant, tag=tag, status=status, order=order, flipped=flipped, baseline=baseline)
    grid = _Grid.of(results)
    cells = grid.any_row(np.ones(len(results.frame), dtype=bool))
    if variant is not None:
        cells &= np.array(results.variants) == variant
    if tag is not None:
        cells &= _tagged(results, grid.case_ids, tag)[:, None]
    if status is not None:
        cells &= grid.any_row((results.frame["status"] == status).to_numpy(dtype=bool))
    if text.strip():
        cells &= _saying(results, grid, text.strip())
    if outcome is not None:
        cells &= _in_outcome(results, grid.case_ids, outcome, outcomes)
    if low is None and high is None and flipped is None and order == "as asked":
        return tuple(np.array(grid.case_ids, dtype=object)[cells.any(axis=1)])
    table = results.table(metric or next(iter(results.metrics), "(no scorer)"))
    if low is not None or high is not None:
        cells &= (table.values >= (-np.inf if low is None else low)) & (
            table.values <= (np.inf if high is None else high)
        )
    if flipped is not None:
        cells &= _flipped(table, baseline or results.variants[0], flipped)
    return tuple(np.array(grid.case_ids, dtype=object)[_ordered(cells, table.values, order)])


def questions(results: Results, case_ids: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(id, question) of each of these cases; "" where the results carry no golden set."""
    by_id = results.golden.by_id if results.golden else {}
    return tuple((case_id, by_id[case_id].asked if case_id in by_id else "") for case_id in case_ids)


def _good_cells(table: ScoreTable) -> NDArray[np.bool_]:
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


@dataclass(frozen=True, slots=True)
class _Grid:
    """The cell (case x variants + variant) of every row of the frame."""

    case_ids: tuple[str, ...]
    n_variants: int
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, results: Results) -> _Grid:
        import pandas as pd

        codes, case_ids = pd.factorize(results.frame["case_id"])
        columns = pd.Index(results.variants).get_indexer(pd.Index(results.frame["variant"]))
        return cls(tuple(case_ids), len(results.variants), codes * len(results.variants) + columns)

    def any_row(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Shape (cases, variants): whether any repeat is among these rows."""
        found = np.bincount(self.cells[rows], minlength=len(self.case_ids) * self.n_variants)
        some: NDArray[np.bool_] = found.reshape(-1, self.n_variants) > 0
        return some


def _range(metric: Metric, scores: NDArray[np.float64]) -> tuple[float, float]:
    known = scores[~np.isnan(scores)]
    low = metric.low if metric.low is not None else float(known.min(initial=0.0))
    high = metric.high if metric.high is not None else float(known.max(initial=low))
    return low, high if high > low else low + 1.0


def _check(results: Results, **given: str | None) -> None:
    there = choices(results)
    known = {
        "variant": there.variants,
        "baseline": there.variants,
        "tag": there.tags,
        "status": there.statuses,
        "order": ORDERS,
        "flipped": FLIPS,
    }
    for name, value in given.items():
        if value is not None and value not in known[name]:
            raise ValueError(f"{name} == {value!r}, must be one of {', '.join(known[name]) or '(there is none)'}")


def _tagged(results: Results, case_ids: tuple[str, ...], tag: str) -> NDArray[np.bool_]:
    with_it = {case.id for case in results.golden or () if tag in case.tags}
    return np.fromiter((case_id in with_it for case_id in case_ids), bool, count=len(case_ids))


def _saying(results: Results, grid: _Grid, text: str) -> NDArray[np.bool_]:
    """Where the case's own texts hold it, or an answer does."""
    sought, texts = text.lower(), {case_id: case_id for case_id in grid.case_ids}
    for case in results.golden or ():
        texts[case.id] = "\n".join([case.id, *map(str, case.inputs.values()), *case.expected, *case.tags])
    asked = np.fromiter((sought in texts[one].lower() for one in grid.case_ids), bool, count=len(grid.case_ids))
    answers = results.frame["text"].str.contains(text, case=False, regex=False).to_numpy(dtype=bool)
    return asked[:, None] | grid.any_row(answers)


def _in_outcome(
    results: Results, case_ids: tuple[str, ...], outcome: str, outcomes: Mapping[tuple[str, str], str] | None
) -> NDArray[np.bool_]:
    if outcomes is None:
        raise ValueError(f"outcome == {outcome!r} needs outcomes=ll.retrieval.attribute(results).outcomes")
    if outcome not in (known := sorted(set(outcomes.values()))):
        raise ValueError(f"outcome == {outcome!r}, must be one of {', '.join(known)}")
    return np.array([[outcomes.get((name, one)) == outcome for name in results.variants] for one in case_ids])


def _flipped(table: ScoreTable, baseline: str, flipped: Flipped) -> NDArray[np.bool_]:
    """Where a variant and the baseline both have a score, on different sides of the middle."""
    good, known = _good_cells(table), ~np.isnan(table.values)
    before = [table.column(baseline)]
    both = known & known[:, before]
    fell, rose = good[:, before] & ~good & both, ~good[:, before] & good & both
    return {"good to bad": fell, "bad to good": rose, "either way": fell | rose}[flipped]


def _ordered(cells: NDArray[np.bool_], values: NDArray[np.float64], order: Order) -> NDArray[np.int64]:
    """Rows that are in, by their lowest or highest score, those without one last."""
    rows = np.flatnonzero(cells.any(axis=1))
    if order == "as asked":
        return rows
    sign = 1.0 if order == "lowest first" else -1.0
    score = np.where(cells & ~np.isnan(values), sign * values, np.inf).min(axis=1)[rows]
    return rows[np.argsort(score, kind="stable")]
