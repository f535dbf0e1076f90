"""One case of a run in full: the question, and all answers beside each other with what explains their scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.base.display import Chip, Html, Interval, Marked, Shown, diffed, html_heading, html_of, html_table, number
from llmlab.base.errors import DataError
from llmlab.base.project import runs_folder
from llmlab.clients.base import Request
from llmlab.clients.call_store import CallStore
from llmlab.clients.endpoints import curl_for
from llmlab.golden.cases import Case

if TYPE_CHECKING:
    from llmlab.results.results import Results

__all__ = ["CaseView", "show", "view"]


_STATUS_CHIPS = {"ok": "good", "refused": "unsure", "truncated": "unsure", "empty": "bad", "timeout": "bad"}
_OUTCOME_CHIPS = {"right": "good", "lucky": "unsure"}


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
    requests: Mapping[str, str]
    baseline: str = ""
    outcomes: Mapping[str, str] = field(default_factory=dict)

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
        expected = ", ".join(self.case.expected) or "nothing stated"
        return f"Case {self.case_id}, answer {self.repeat + 1}: {self._asked()} Expected: {expected}."

    def _repr_html_(self) -> Html:
        requests: list[dict[str, object]] = [{"variant": v, "request": text} for v, text in self.requests.items()]
        tags = self.case.tags if self.case else ()
        above = " · ".join([self.case_id, f"answer {self.repeat + 1}", *tags])
        return html_of(
            html_heading(self._asked() or self.case_id, note=above),
            html_table(self._wanted(), even=True) if self.case else html_of(),
            html_table(self._beside_each_other(), even=True),
            *([html_table(requests)] if requests else []),
        )

    def _asked(self) -> str:
        return self.case.asked if self.case else ""

    def _wanted(self) -> list[dict[str, object]]:
        """What a right answer says, and which documents it should rest on, best first."""
        case = self.case
        expected = " · ".join(fact.replace("|", " or ") for fact in case.expected) if case else ""
        grades = sorted(case.relevant.items(), key=lambda pair: -pair[1]) if case else []
        relevant = " · ".join(f"{doc} ({number(grade)})" for doc, grade in grades if grade > 0)
        named = {"expected": (expected or "nothing stated", "strong"), "to be retrieved": (relevant, "")}
        return [{"": name, " ": Marked((text,))} for name, text in named.items() if text[0]]

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
            if variant in self.outcomes:
                outcome = self.outcomes[variant]
                put("outcome", variant, Chip(outcome, _OUTCOME_CHIPS.get(outcome, "bad")))
            for metric in self.metrics:
                score = Marked(((number(row[metric]), "strong"), (_after(reasons.get(metric)), "quiet")))
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


def view(
    results: Results,
    case_id: str,
    *,
    repeat: int = 0,
    baseline: str | None = None,
    variants: Sequence[str] | None = None,
    outcomes: Mapping[tuple[str, str], str] | None = None,
) -> CaseView:
    """One case with the answers of these variants (all by default), compared with the baseline's, the first by default.

    `outcomes` says of (variant, case id) what became of it, such as "retrieval failure" (`Attribution.outcomes`).
    """
    frame = results.frame
    chosen = frame[(frame["case_id"] == case_id) & (frame["repeat"] == repeat)]
    rows = {row["variant"]: {str(name): value for name, value in row.items()} for row in chosen.to_dict("records")}
    if not rows:
        raise ValueError(f"no answer {repeat} to a case {case_id!r} in these results")
    first = baseline or next(iter(rows))
    wanted = dict.fromkeys([first, *(variants if variants is not None else results.variants)])
    return CaseView(
        case=results.golden.by_id.get(case_id) if results.golden else None,
        case_id=case_id,
        repeat=repeat,
        answers={name: rows[name] for name in wanted if name in rows},
        metrics=tuple(results.metrics),
        requests={},
        baseline=first,
        outcomes={name: outcomes[name, case_id] for name in wanted if outcomes and (name, case_id) in outcomes},
    )


def show(results: Results, case_id: str, *, repeat: int = 0, store: str | Path | None = None) -> CaseView:
    """One case with every variant's answer, and the exact requests where the call store has them."""
    found = view(results, case_id, repeat=repeat)
    rows = list(found.answers.values())
    return replace(found, requests=_requests(rows, results.provenance.get("endpoints", {}), store))


def _requests(
    rows: Sequence[Mapping[str, Any]], endpoints: Mapping[str, str], store: str | Path | None
) -> dict[str, str]:
    path = Path(store) if store is not None else runs_folder() / "calls.sqlite"
    if not path.exists():
        return {}
    with CallStore(path) as calls:
        kept = {row["variant"]: calls.request_json(row["call_key"]) for row in rows if row["call_key"]}
    return {variant: _command(text, endpoints.get(variant, "")) for variant, text in kept.items() if text}


def _command(request_json: str, fingerprint: str) -> str:
    """curl for a request that went to an OpenAI-compatible endpoint, else the request itself as JSON."""
    command = curl_for(Request.from_json(request_json), fingerprint)
    return command or json.dumps(json.loads(request_json), indent=1, ensure_ascii=False)


def _said(row: Mapping[str, Any]) -> str:
    """What there is to read of an answer: its text, else the error, else the tools it called."""
    return str(row["text"] or row["error"] or row["tool_calls"])


def _after(reason: str | None) -> str:
    return f"\n{reason}" if reason else ""


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
        said = "; ".join(_reason(raw) for raw in reply.get("raw", ()))
        return " ".join(part for part in (str(reply.get("settled", "")), said) if part)
    return str(reply.get("reason", text))
