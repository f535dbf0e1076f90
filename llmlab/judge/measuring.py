"""A judge measured in one call: whatever it has not judged yet of what people labelled, it judges now.

`Judge.calibrate` and `Judge.check_anchors` come here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from llmlab.base.errors import DataError
from llmlab.golden.cases import Case, GoldenSet
from llmlab.judge.figures import Calibration
from llmlab.judge.labels import Labels, calibrate, text_digest
from llmlab.judge.pairwise import prefer
from llmlab.judge.pointwise import score
from llmlab.judge.prompts import Judge, question_of
from llmlab.results.results import Results

if TYPE_CHECKING:
    from llmlab.judge.asking import CallOptions

__all__ = ["calibrated"]


def calibrated(
    judge: Judge,
    labels: Labels,
    results: Results | Sequence[Results] | None,
    *,
    metric: str | None = None,
    by: str | None = None,
    level: float = 0.95,
    **options: Unpack[CallOptions],
) -> Calibration:
    """What `Judge.calibrate` gives."""
    if labels.pairwise != (judge.kind == "pairwise"):
        kinds = ("preferences", "grades") if labels.pairwise else ("grades", "preferences")
        raise DataError(
            f"these labels are {kinds[0]}, and {judge.bundle.name!r} is a {judge.kind} judge: give {kinds[1]}"
        )
    if labels.rubric != judge.rubric.name:
        raise DataError(f"the labels are by the rubric {labels.rubric!r}, the judge's is {judge.rubric.name!r}")
    name = metric or judge.metric
    if results is None:
        results = _as_read(labels)
    every = [results] if isinstance(results, Results) else list(results)
    judged = [part for one in every for part in _judged(judge, labels, one, name, options)]
    return calibrate(labels, judged, metric=name, by=by, level=level)


def _judged(judge: Judge, labels: Labels, results: Results, name: str, options: CallOptions) -> list[Results]:
    """The results, where this judge gave the metric already; else what people labelled of them, judged now."""
    if name in results.metrics and results.metric(name).judge == judge.digest:
        return [results]
    labelled = _of_labelled_cases(labels, results)
    if judge.kind == "pointwise":
        return [score(labelled, judge, name=name, **options)]
    pairs = [pair for pair in itertools.combinations(results.variants, 2) if _has_a_label(labels, labelled, pair)]
    if not pairs:
        raise DataError(f"none of the {len(labels)} labels is of two answers here: they have changed since")
    return [prefer(labelled, a, b, judge, name=name, **options) for a, b in pairs]


def _of_labelled_cases(labels: Labels, results: Results) -> Results:
    """The answers that a label is of, so that nothing else is paid for."""
    if results.golden is None:
        raise DataError("these results carry no golden set, so labels cannot be matched to questions")
    read = {(key[0], digest) for key in labels.by_key for digest in key[2:]}
    columns = (results.frame[name].tolist() for name in ("case_id", "text"))
    chosen = [(case_id, text_digest(text)) in read for case_id, text in zip(*columns, strict=True)]
    if not any(chosen):
        raise DataError(
            f"none of the {len(labels)} labels fits: the questions or answers have changed since they were made"
        )
    return replace(results, frame=results.frame[chosen].reset_index(drop=True))


def _has_a_label(labels: Labels, results: Results, pair: tuple[str, str]) -> bool:
    said: dict[tuple[str, str], set[str]] = {}
    columns = (results.frame[name].tolist() for name in ("variant", "case_id", "text"))
    for variant, case_id, text in zip(*columns, strict=True):
        said.setdefault((variant, case_id), set()).add(text_digest(text))
    for case_id, _, one, other in labels.by_key:
        first, second = (said.get((variant, case_id), set()) for variant in pair)
        if (one in first and other in second) or (other in first and one in second):
            return True
    return False


def _as_read(labels: Labels) -> Results:
    """Results of the texts that the labels hold themselves (`asked` and `text`, as a worklist writes them)."""
    import pandas as pd

    readable = [one for one in labels if one.answer is not None and one.asked and text_digest(one.text) == one.answer]
    if len(readable) < len(labels):
        raise DataError(
            f"{len(labels) - len(readable)} of {len(labels)} labels do not hold the text that was read; "
            "give the results that it is in: `judge.calibrate(labels, results)`"
        )
    asked = {one.case_id: one.asked for one in readable}
    golden = GoldenSet(tuple(Case(id=case_id, inputs={"question": text}) for case_id, text in asked.items()))
    if any(text_digest(question_of(golden.by_id[one.case_id])) != one.question for one in readable):
        raise DataError("a label's question is not the text that it holds; give the results that it is of")
    texts = dict.fromkeys((one.case_id, one.text) for one in readable)
    frame = pd.DataFrame(list(texts), columns=["case_id", "text"]).assign(variant="as labelled")
    return Results.from_frame(frame.assign(repeat=frame.groupby("case_id").cumcount()), golden=golden)
