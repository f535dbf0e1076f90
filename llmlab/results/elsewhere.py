"""Answers that were made elsewhere: out of the rows of a table, or of another tool's log."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.tables import texts_of
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Usage
from llmlab.results.answers import TOKEN_COLUMNS
from llmlab.results.scores import Metric
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["answers_of", "logged_answers", "logged_scores", "stand_ins", "unknown_bundle"]


def answers_of(
    frame: pd.DataFrame, *, case_ids: Collection[str], columns: tuple[str, str, str, str]
) -> list[Generation]:
    """Answers made elsewhere, out of the named columns for variant, case, text and (may be absent) repeat.

    Raises:
        DataError: a column is missing, a case id is unknown, or two rows are the same variant, case and repeat.
    """
    variant, case_id, text, repeat = columns
    if missing := [column for column in (variant, case_id, text) if column not in frame.columns]:
        raise DataError(f"the table has no column {missing[0]!r} (it has: {', '.join(map(str, frame.columns))})")
    repeats = frame[repeat].tolist() if repeat in frame.columns else [0] * len(frame)
    by_text = {name.strip(): name for name in case_ids}  # no two differ in outer blanks alone
    asked = [by_text.get(name.strip(), name) for name in texts_of(frame[case_id])]
    cells = list(zip(frame[variant].astype(str), asked, map(_whole, repeats), strict=True))
    if unknown := sorted({case for _, case, _ in cells if case not in case_ids}):
        raise DataError(f"the golden set has no case {unknown[0]!r} (ids that it lacks: {len(unknown):,})")
    _refuse_twice(cells, repeat)
    answers = []
    for (name, case, number), answer, absent in zip(cells, frame[text].tolist(), frame[text].isna(), strict=True):
        fields: dict[str, Any] = {"text": str(answer)} if str(answer).strip() else {"status": "empty"}
        if absent:
            fields = {"status": "error", "error": "no answer in the table"}
        answers.append(Generation(variant=name, case_id=case, repeat=number, **fields))
    return answers


def logged_answers(rows: Iterable[Mapping[str, Any]]) -> list[Generation]:
    """The answers of another tool's log; DataError where two are the same variant, case and repeat."""
    answers = []
    for fields in rows:
        rest = dict(fields)
        usage = Usage(**{name: rest.pop(name) for name in TOKEN_COLUMNS if name in rest})
        cost = rest.pop("cost_usd", None)
        answers.append(Generation(**rest, usage=usage, cost_usd=None if cost is None else Decimal(str(cost))))
    _refuse_twice(((answer.variant, answer.case_id, answer.repeat) for answer in answers), "repeat")
    return answers


def logged_scores(
    answers: Sequence[Generation], scores: Sequence[Mapping[str, float]], *, frame: pd.DataFrame
) -> Iterator[tuple[Metric, FloatArray]]:
    """Each metric of another tool's log, and its score of each row of a frame with the same answers, NaN = unscored.

    Scores that all lie between 0 and 1 are shares.
    """
    of_cell = {(a.variant, a.case_id, a.repeat): known for a, known in zip(answers, scores, strict=True)}
    of_row = [of_cell[cell] for cell in frame[["variant", "case_id", "repeat"]].itertuples(index=False, name=None)]
    for name in dict.fromkeys(name for known in scores for name in known):
        values = np.array([known.get(name, np.nan) for known in of_row])
        low, high = (None, None) if ((values < 0) | (values > 1)).any() else (0.0, 1.0)
        yield Metric(name=name, low=low, high=high), values


def unknown_bundle(name: str) -> Bundle:
    """Stands for whatever wrote answers that were made elsewhere: explorable, never pinned."""
    safe = re.sub("[^A-Za-z0-9]", "_", name)[:80]
    if safe != name:  # so that two names never become one
        safe = f"{safe}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return Bundle.from_prompt("(made elsewhere)", model=f"elsewhere/{safe}", name=f"v_{safe}")


def stand_ins(answers: Iterable[Generation]) -> dict[str, Bundle]:
    """An `unknown_bundle` for each variant of answers that were made elsewhere."""
    return {name: unknown_bundle(name) for name in dict.fromkeys(answer.variant for answer in answers)}


def _whole(repeat: Any) -> int:
    if isinstance(repeat, bool) or not isinstance(repeat, (int, float)) or repeat < 0 or repeat != int(repeat):
        raise DataError(f"repeat == {repeat!r}, must be 0, 1, 2, ...")
    return int(repeat)


def _refuse_twice(cells: Iterable[tuple[str, str, int]], repeat: str) -> None:
    seen: dict[tuple[str, str, int], int] = {}
    for number, cell in enumerate(cells, start=1):
        if (first := seen.setdefault(cell, number)) != number:
            raise DataError(
                f"rows {first} and {number} both are the answer of {cell[0]!r} to {cell[1]!r}, repeat {cell[2]}; "
                f"number repeated answers in a column {repeat!r}, or keep one"
            )
