"""Which cases of a run to look at: by variant, tag, status, score, change against a baseline, outcome and text.

`widgets.Explorer` calls it; so can anybody: `[results.show(case_id) for case_id in matching(results, tag="dates")]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llmlab.results.cases import good_cells
from llmlab.results.results import Results
from llmlab.results.scores import Metric, ScoreTable

Flipped = Literal["good to bad", "bad to good", "either way"]
Order = Literal["as asked", "lowest first", "highest first"]
FLIPS: tuple[Flipped, ...] = get_args(Flipped)
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What there is to filter by in a run."""

    variants: tuple[str, ...]
    tags: tuple[str, ...]
    statuses: tuple[str, ...]
    metrics: tuple[str, ...]
    repeats: int
    n_cases: int
    ranges: Mapping[str, tuple[float, float]]  # of each metric; of the scores that occur where it has no bounds


def choices(results: Results) -> Choices:
    """Variants, tags, statuses and metrics that occur, most frequent statuses first."""
    tags = dict.fromkeys(tag for case in results.golden or () for tag in case.tags)
    answers = list(results.answers("status", "repeat"))
    return Choices(
        variants=results.variants,
        tags=tuple(tags),
        statuses=tuple(status for status, _ in Counter(status for status, _ in answers).most_common()),
        metrics=tuple(results.metrics),
        repeats=max((repeat + 1 for _, repeat in answers), default=0),
        n_cases=results.n_cases,
        ranges={name: _range(metric, results.scores(name)) for name, metric in results.metrics.items()},
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
    grid = results.cells
    cells = grid.any_row(np.ones(results.n_answers(), dtype=bool))
    if variant is not None:
        cells &= np.array(results.variants) == variant
    if tag is not None:
        tagged = {case.id for case in results.golden or () if tag in case.tags}
        cells &= np.array([case_id in tagged for case_id in grid.case_ids], dtype=bool)[:, None]
    if status is not None:
        cells &= grid.any_row(np.array([word == status for (word,) in results.answers("status")], dtype=bool))
    if text.strip():
        cells &= _saying(results, text.strip())
    if outcome is not None:
        cells &= _in_outcome(results, outcome, outcomes)
    if low is None and high is None and flipped is None and order == "as asked":
        return tuple(np.array(grid.case_ids, dtype=object)[cells.any(axis=1)])
    table = results.table(metric or next(iter(results.metrics), "(no scorer)"))
    if low is not None or high is not None:
        least, most = -np.inf if low is None else low, np.inf if high is None else high
        cells &= (table.values >= least) & (table.values <= most)
    if flipped is not None:
        cells &= _flipped(table, baseline or results.variants[0], flipped)
    return tuple(np.array(grid.case_ids, dtype=object)[_ordered(cells, table.values, order)])


def _range(metric: Metric, scores: NDArray[np.float64]) -> tuple[float, float]:
    scored = scores[~np.isnan(scores)]
    low = metric.low if metric.low is not None else float(scored.min(initial=0.0))
    high = metric.high if metric.high is not None else float(scored.max(initial=low))
    return low, high if high > low else low + 1.0


def _check(results: Results, **given: str | None) -> None:
    known = choices(results)
    valid: dict[str, tuple[str, ...]] = {"order": ORDERS, "flipped": FLIPS, "tag": known.tags}
    valid |= {"variant": known.variants, "baseline": known.variants, "status": known.statuses}
    for name, value in given.items():
        if value is not None and value not in valid[name]:
            raise ValueError(f"{name} == {value!r}, must be one of {', '.join(valid[name]) or '(there is none)'}")


def _saying(results: Results, text: str) -> NDArray[np.bool_]:
    """Where the case's own texts hold it, or an answer does."""
    grid, sought = results.cells, text.lower()
    texts = {case_id: case_id for case_id in grid.case_ids}
    for case in results.golden or ():
        texts[case.id] = "\n".join([case.id, *map(str, case.inputs.values()), case.reference, *case.tags])
    in_case = np.array([sought in texts[case_id].lower() for case_id in grid.case_ids], dtype=bool)
    in_answer = np.array([sought in answer.lower() for (answer,) in results.answers("shown")], dtype=bool)
    return in_case[:, None] | grid.any_row(in_answer)


def _in_outcome(results: Results, outcome: str, outcomes: Mapping[tuple[str, str], str] | None) -> NDArray[np.bool_]:
    if outcomes is None:
        raise ValueError(f"outcome == {outcome!r} needs outcomes=ll.retrieval.attribute(results).outcomes")
    if outcome not in (occurring := sorted(set(outcomes.values()))):
        raise ValueError(f"outcome == {outcome!r}, must be one of {', '.join(occurring)}")
    return np.array(
        [[outcomes.get((name, case_id)) == outcome for name in results.variants] for case_id in results.cells.case_ids]
    )


def _flipped(table: ScoreTable, baseline: str, flipped: Flipped) -> NDArray[np.bool_]:
    """Where a variant and the baseline both have a score, on different sides of the middle."""
    good, scored = good_cells(table), ~np.isnan(table.values)
    before = [table.column(baseline)]
    both = scored & scored[:, before]
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
