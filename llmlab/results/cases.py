"""Single cases of a run: one in full, and lists of those behind a number, such as the worst or those that flipped.

Made by `Results`, and by retrieval where somebody asks for the cases of a cell, a measure or a stale index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmlab.base.cells import Chip, Folded, Marked, plain
from llmlab.base.errors import DataError
from llmlab.base.numbers import Interval, counted, number
from llmlab.base.project import runs_folder
from llmlab.bundle.chat import said, short_media
from llmlab.clients.base import Request
from llmlab.clients.call_store import CallStore
from llmlab.clients.endpoints import curl_for
from llmlab.display.diff import diffed
from llmlab.display.html import Html, html_heading, html_table
from llmlab.display.page import html_of
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import shown_in
from llmlab.results.scores import Metric, ScoreTable
from llmlab.stats.arrays import paired_differences

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_STATUS_CHIPS = {"ok": "good", "refused": "unsure", "truncated": "unsure", "empty": "bad", "timeout": "bad"}
_OUTCOME_CHIPS = {"right": "good", "lucky": "unsure"}
_MENDED, _HARMED = ("good", "better"), ("bad", "worse")  # what a case became


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Flip(Shown):
    """A case that one variant gets right and the other does not, with both answers (their first repeat)."""

    case_id: str
    question: str
    became: str  # good or bad; better or worse where any change counts
    before: float
    after: float
    before_text: str
    after_text: str
    expected: str = ""
    reason: str = ""  # why the answer after has its score, where the scorer says


@dataclass(frozen=True, kw_only=True, repr=False)
class Flips(Shown):
    """The cases that changed sides between two variants, the harmed ones first.

    Attributes:
        good_when: the score from which on a case counts as good; from which down with `good_below`; None where any
            change of the score counts.
        n_cases, n_unscored: cases that both variants have a score for, and those they have not.
    """

    _most_rows: ClassVar[int] = 15

    metric: str
    before: str
    after: str
    good_when: float | None
    n_cases: int
    flips: tuple[Flip, ...]
    n_unscored: int = 0
    good_below: bool = False

    @property
    def harmed(self) -> tuple[Flip, ...]:
        """Cases that went from good to bad, or got worse."""
        return tuple(flip for flip in self.flips if flip.became in _HARMED)

    @property
    def mended(self) -> tuple[Flip, ...]:
        """Cases that went from bad to good, or got better."""
        return tuple(flip for flip in self.flips if flip.became in _MENDED)

    def __len__(self) -> int:
        return len(self.flips)

    def __repr__(self) -> str:
        return f"Flips({plain(self._sentence(), None)})"

    def _rows(self) -> list[dict[str, object]]:
        known = [name for name in ("expected", "reason") if any(getattr(flip, name) for flip in self.flips)]
        return [
            {
                "case": flip.case_id,
                "question": flip.question,
                "became": Chip(flip.became, "good" if flip.became in _MENDED else "bad"),
                "score": f"{number(flip.before)} → {number(flip.after)}",
                **{name: getattr(flip, name) for name in known},
                f"answer of {self.before}": flip.before_text,
                f"answer of {self.after}": flip.after_text,
            }
            for flip in self.flips
        ]

    def _sentence(self) -> str:
        n_alike, any_change = self.n_cases - len(self.flips), self.good_when is None
        lost = f" {counted(self.n_unscored, 'case')} without a score in both are left out." if self.n_unscored else ""
        rule = "any change" if any_change else f"good from {self.good_when:g}{' down' if self.good_below else ''}"
        stayed = ("on its side", "as it was") if n_alike == 1 else ("on their side", "as they were")
        return (
            f"From {self.before} to {self.after}, {counted(len(self.mended), 'case')} became {_MENDED[any_change]}, "
            f"{len(self.harmed):,} became {_HARMED[any_change]} and {n_alike:,} stayed {stayed[any_change]} "
            f"({self.metric}, {rule}).{lost}"
        )


def flips(
    table: ScoreTable,
    before: str,
    after: str,
    *,
    rows: Mapping[tuple[str, str], Mapping[str, Any]],
    golden: GoldenSet | None = None,
    threshold: float | None = None,
    any_change: bool = False,
) -> Flips:
    """Cases on different sides of a threshold, or whose score changed at all (repeats averaged).

    Args:
        rows: (variant, case id) -> the row of the results' frame with the first answer.
        golden: the cases, for what was asked and expected.
        threshold: the score from which on a case is good; the middle of the metric's range by default.
        any_change: every case whose score changed, whatever side it is on.
    """
    if any_change and threshold is not None:
        raise ValueError(f"threshold == {threshold:g} with any_change=True; give one of the two")
    metric, sign = table.metric, 1 if table.metric.higher_is_better else -1
    good_when = None if any_change else _threshold(metric) if threshold is None else float(threshold)
    places = [table.column(before), table.column(after)]
    a, b = (table.values[:, place] for place in places)
    both = ~(np.isnan(a) | np.isnan(b))
    if good_when is None:
        change = sign * paired_differences(b, a)
        changed, mended = both & (change != 0), change > 0
    else:
        was, mended = good_cells(table, good_when)[:, places].T
        changed = both & (was != mended)
    cases, changes = golden.by_id if golden is not None else {}, []
    for i in np.flatnonzero(changed):
        case_id = table.case_ids[i]
        case, rows_of_case = cases.get(case_id), [rows.get((name, case_id)) for name in (before, after)]
        before_text, after_text = (_said(row) if row else "" for row in rows_of_case)
        flip = Flip(
            case_id=case_id,
            question=case.asked if case else "",
            became=(_MENDED if mended[i] else _HARMED)[good_when is None],
            before=float(a[i]),
            after=float(b[i]),
            before_text=before_text,
            after_text=after_text,
            expected=" · ".join(case.reference_lines) if case else "",
            reason=_reasons(rows_of_case[1] or {}).get(metric.name, ""),
        )
        changes.append(flip)
    changes.sort(key=lambda flip: (flip.became in _MENDED, -abs(flip.after - flip.before)))
    return Flips(
        metric=metric.name,
        before=before,
        after=after,
        good_when=good_when,
        n_cases=int(both.sum()),
        flips=tuple(changes),
        n_unscored=int((~both).sum()),
        good_below=not metric.higher_is_better,
    )


def worst(frame: pd.DataFrame, metric: Metric, *, n: int, questions: Mapping[str, str]) -> Rows:
    """The n lowest-scored answers among these rows of a run; unscored ones are counted, and are not among them."""
    if n < 1:
        raise ValueError(f"n == {n}, must be >= 1")
    scored = frame[frame[metric.name].notna()]
    ordered = scored.sort_values(metric.name, ascending=metric.higher_is_better, kind="stable").head(n)
    rows = tuple(
        {
            "case": row["case_id"],
            "variant": row["variant"],
            "score": Interval(row[metric.name]),
            "question": questions.get(row["case_id"], ""),
            "answer": _said(row),
            "status": row["status"],
        }
        for row in ordered.to_dict("records")
    )
    n_unscored = len(frame) - len(scored)
    left_out = f" {counted(n_unscored, 'unscored answer')} cannot be ranked." if n_unscored else ""
    answers = "answer" if len(rows) == 1 else counted(len(rows), "answer")
    return Rows(rows=rows, sentence=f"The {answers} that {metric.name} rates worst.{left_out}")


def good_cells(table: ScoreTable, good_when: float | None = None) -> NDArray[np.bool_]:
    """Shape (cases, variants): whether the mean score reaches this, the middle of the range by default; NaN does not.

    Raises:
        ValueError: the metric has no bounds, so nobody knows which half is better.
    """
    above = paired_differences(
        table.values, np.full(table.values.shape, _threshold(table.metric) if good_when is None else good_when)
    )
    good: NDArray[np.bool_] = above >= 0 if table.metric.higher_is_better else above <= 0
    return good


def _threshold(metric: Metric) -> float:
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds, so none is good or bad; give threshold= or any_change=True")
    return (metric.low + metric.high) / 2


@dataclass(frozen=True, kw_only=True, repr=False)
class CaseView(Shown):
    """Everything about one case: the question, what was expected, and each variant's answer.

    Attributes:
        answers: variant -> the row of the results' frame.
        baseline: the variant that the other answers are compared with.
        outcomes: variant -> what became of its answer, where that is known.
        requests: variant -> the exact request, where the call store has it.
    """

    case: Case | None
    case_id: str
    repeat: int
    answers: Mapping[str, Mapping[str, Any]]
    metrics: tuple[str, ...]
    baseline: str
    outcomes: Mapping[str, str]
    requests: Mapping[str, str] = field(default_factory=dict)

    def curl(self, variant: str) -> str:
        """The exact request as a shell command that can be pasted; the key is a variable, never a value."""
        if variant not in self.requests:
            raise DataError(
                f"the request of {variant!r} is not in the call store; name the store of its run: show(..., store=...)"
            )
        return self.requests[variant]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                "status": row["status"],
                **{metric: Interval(row[metric]) for metric in self.metrics},
                "answer": _said(row),
                "retrieved": row["retrieved"],
                "why": "; ".join(f"{name}: {why}" for name, why in _reasons(row).items()),
            }
            for variant, row in self.answers.items()
        ]

    def _sentence(self) -> str:
        if self.case is None:
            return f"Case {self.case_id}, answer {self.repeat + 1}."
        expected = ", ".join(self.case.reference_lines) or "nothing stated"
        return f"Case {self.case_id}, answer {self.repeat + 1}: {self.case.asked} Expected: {expected}."

    def _repr_html_(self) -> Html:
        requests: list[dict[str, object]] = [
            {"variant": variant, "request": short_media(text)} for variant, text in self.requests.items()
        ]
        tags = self.case.tags if self.case else ()
        above = " · ".join([self.case_id, f"answer {self.repeat + 1}", *tags])
        return html_of(
            html_heading((self.case and self.case.asked) or self.case_id, note=above),
            html_table(_wanted(self.case), even=True) if self.case else html_of(),
            html_table(self._beside_each_other(), even=True),
            *([html_table(requests)] if requests else []),
        )

    def _beside_each_other(self) -> list[dict[str, object]]:
        """One row per thing to know, one column per variant."""
        base = self.answers.get(self.baseline)
        rows: dict[tuple[str, bool], dict[str, object]] = {}

        def put(label: str, variant: str, value: object, *, scored: bool = False) -> None:
            rows.setdefault((label, scored), {})[variant] = value  # a metric may be called "answer" or "tokens"

        for variant, row in self.answers.items():
            reasons, text = _reasons(row), _said(row)
            compared = base is not None and variant != self.baseline
            put("answer", variant, diffed(_said(base), text) if compared and base else Marked(((text, ""),)))
            if thought := row.get("thought"):
                put("thought", variant, Folded(thought))
            if variant in self.outcomes:
                outcome = self.outcomes[variant]
                put("outcome", variant, Chip(outcome, _OUTCOME_CHIPS.get(outcome, "bad")))
            for metric in self.metrics:
                score = Marked(
                    ((number(row[metric]), "strong"), (f"\n{reasons[metric]}" if reasons.get(metric) else "", "quiet"))
                )
                put(metric, variant, score, scored=True)
            put("retrieved", variant, self._fetched(row["retrieved"]))
            put("status", variant, Chip(row["status"], _STATUS_CHIPS.get(row["status"], "bad")))
            put("tokens", variant, f"{number(row['input_tokens'])} in, {number(row['output_tokens'])} out")
            put("cost, USD", variant, number(row["cost_usd"]))
            put("latency, s", variant, number(row["latency_s"], 2))
        names = {name: f"{name} (baseline)" if name == self.baseline else name for name in self.answers}
        return [{"": label, **{names[name]: cells.get(name) for name in names}} for (label, _), cells in rows.items()]

    def _fetched(self, ids: Sequence[str]) -> Marked:
        """What was retrieved, in its order, the relevant marked; then what was relevant and is missing."""
        relevant = {doc: grade for doc, grade in (self.case.relevant if self.case else {}).items() if grade > 0}
        hits = [(f"✓ {doc}", "good") if doc in relevant else (doc, "") for doc in ids] or [("nothing", "quiet")]
        lines = [piece for hit in hits for piece in (hit, ("\n", ""))][:-1]
        missing = ", ".join(doc for doc in relevant if doc not in set(ids))
        return Marked((*lines, (f"\nnot retrieved: {missing}", "quiet")) if missing else tuple(lines))


def _wanted(case: Case) -> list[dict[str, object]]:
    """What a right answer says, and which documents it should rest on, best first."""
    grades = sorted(case.relevant.items(), key=lambda pair: -pair[1])
    relevant = " · ".join(f"{doc} ({number(grade)})" for doc, grade in grades if grade > 0)
    expected = (" · ".join(case.reference_lines) or "nothing stated", "strong")
    named = {"expected": expected, "to be retrieved": (relevant, "")}
    return [{"": name, " ": Marked((text,))} for name, text in named.items() if text[0]]


def with_cases(frame: pd.DataFrame, golden: GoldenSet | None) -> pd.DataFrame:
    """A frame of answers with what was asked (`input.NAME`), what was expected and the tags of each case."""
    if golden is None:
        return frame
    cases = [golden.by_id.get(case_id) for case_id in frame["case_id"]]
    names = dict.fromkeys(name for case in golden for name in case.inputs)
    columns: dict[str, list[str]] = {
        f"input.{name}": [said(case.inputs[name]) if case and name in case.inputs else "" for case in cases]
        for name in names
    }
    columns["expected"] = ["; ".join(case.reference_lines) if case else "" for case in cases]
    columns["tags"] = ["; ".join(case.tags) if case else "" for case in cases]
    return frame.assign(**columns)


def requests_of(
    rows: Mapping[str, Mapping[str, Any]], *, endpoints: Mapping[str, str], store: str | Path | None = None
) -> dict[str, str]:
    """Variant -> the exact request behind its row as something to paste, where the call store has it."""
    path = Path(store) if store is not None else runs_folder() / "calls.sqlite"
    if not path.exists():
        return {}
    with CallStore(path) as calls:
        requests = {name: calls.request_json(row["call_key"]) for name, row in rows.items() if row["call_key"]}
    commands = {}
    for name, text in requests.items():
        if text:  # as JSON where it went to no endpoint that curl could ask
            command = curl_for(Request.from_json(text), endpoints.get(name, ""))
            commands[name] = command or json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    return commands


def _said(row: Mapping[Any, Any]) -> str:
    """What there is to read of an answer: its text and the tools it called, else its error."""
    return str(shown_in(row) or row["error"])


def _reasons(row: Mapping[str, Any]) -> dict[str, str]:
    """Why each metric has its score: a scorer's words, or the reason that a judge gave in its reply."""
    return {name: _reason(why) for name, why in json.loads(row.get("explanations") or "{}").items()}


def _reason(text: str) -> str:
    """The reason in a judge's JSON reply, or in its two replies to a pair; any other text as it is."""
    try:
        reply = json.loads(text)
    except ValueError:
        return text
    if not isinstance(reply, dict):
        return text
    if "order1" in reply:
        reasons = "; ".join(_reason(raw) for raw in reply.get("raw", ()))
        return " ".join(filter(None, (str(reply.get("settled", "")), reasons)))
    return str(reply.get("reason", text))
