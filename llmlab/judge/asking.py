"""Judge calls as an ordinary run: what is judged becomes cases, the judge's bundle answers them, replies are parsed.

The same clients, call store, budget and statuses as everywhere. Used by `pointwise` and `pairwise`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from llmlab.base.errors import DataError
from llmlab.clients.base import Client, Generation
from llmlab.clients.call_store import CallStore
from llmlab.engine.runs import run
from llmlab.golden.cases import Case, GoldenSet
from llmlab.judge.prompts import Judge, family, framed
from llmlab.results.answers import storable
from llmlab.results.results import Results
from llmlab.results.scores import Metric
from llmlab.scorers.base import RESERVED

__all__ = ["Asked", "CallOptions", "Opinion", "ask", "attached", "check_judgeable", "warn_of_kinship"]

SHOWN_CHARS = 4_000  # of a judge's reply, kept beside the score
_NOT_READ = {
    "refused": "the judge refused",
    "truncated": "the judge's reply was cut off",
    "empty": "the judge's reply is empty",
    "timeout": "the judge did not answer in time",
    "error": "the judge could not be asked",
}


class CallOptions(TypedDict, total=False):
    """What `run` takes for its calls: the judge is asked with the same means as any model."""

    client: Client | None
    endpoints: str | Path | None
    store: str | Path | CallStore | None
    budget_usd: float | Decimal | None
    concurrency: int
    case_timeout_s: float | None
    progress: bool


class Opinion(NamedTuple):
    """What a judge said of one thing: the verdict, or None with the reason; and its raw words."""

    value: int | str | None
    reason: str
    raw: str

    @property
    def text(self) -> str:
        """The verdict's reason and the raw reply, as they are kept beside the score."""
        raw = self.raw[:SHOWN_CHARS]
        return raw if self.value is not None else f"unscored ({self.reason}): {raw}".rstrip(": ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The opinions on a list of materials, in its order, and what asking took."""

    opinions: tuple[Opinion, ...]
    complete: bool
    calls: int
    cost_usd: float | None
    notes: tuple[str, ...]


def ask(judge: Judge, materials: Sequence[Mapping[str, str]], options: CallOptions) -> Asked:
    """Each material judged; the same material is asked once, and whatever is stored is not asked again."""
    if not materials:
        return Asked(opinions=(), complete=True, calls=0, cost_usd=0.0, notes=())
    inputs = [framed({name: storable(text) for name, text in material.items()}) for material in materials]
    cases = {given["code"]: Case(id=given["code"], inputs=given) for given in inputs}
    golden = GoldenSet(tuple(cases.values()), name=f"to be judged by {judge.bundle.name}")
    replies = run(judge.bundle, golden, **options)
    by_case = {answer.case_id: _opinion(judge, answer) for answer in replies.generations()}
    silent = Opinion(None, "; ".join(replies.notes) or "the judge was not asked", "")
    sent = replies.frame[~replies.frame["cached"].astype(bool)]
    cost = float(sent["cost_usd"].sum()) if not sent["cost_usd"].isna().any() else None
    return Asked(
        opinions=tuple(by_case.get(given["code"], silent) for given in inputs),
        complete=replies.complete,
        calls=len(sent),
        cost_usd=cost,
        notes=tuple(f"Judge {judge.metric}: {note}" for note in replies.notes),
    )


def attached(
    results: Results, judge: Judge, asked: Asked, *, metric: Metric, values: Sequence[float], texts: Sequence[str]
) -> Results:
    """The results with the judge's metric as a column, its words in `explanations`, and what was asked on record."""
    if metric.name in RESERVED:
        raise ValueError(f"the judge's metric is called {metric.name!r}, as a column of the results is; give a `name`")
    frame = results.frame.copy()
    before = frame["explanations"] if "explanations" in frame.columns else [""] * len(frame)
    said = [
        json.dumps({**json.loads(old or "{}"), metric.name: storable(text)})
        for old, text in zip(before, texts, strict=True)
    ]
    scored = np.array(values, dtype=float)
    frame[metric.name], frame["explanations"] = scored, said
    record = {
        "digest": judge.digest,
        "model": str(judge.bundle.model),
        "pinned": bool(judge.bundle.model.pinned),
        "kind": judge.kind,
        "rubric": judge.rubric.name,
        "calls": asked.calls,
        "cost_usd": asked.cost_usd,
        "unscored": int(np.isnan(scored).sum()),
    }
    judges: Mapping[str, Any] = {**results.provenance.get("judges", {}), metric.name: record}
    return replace(
        results,
        frame=frame,
        metrics={**results.metrics, metric.name: metric},
        complete=results.complete and asked.complete,
        provenance={**results.provenance, "judges": judges},
        notes=tuple(dict.fromkeys([*results.notes, *asked.notes])),
    )


def check_judgeable(results: Results, judge: Judge, kind: str) -> GoldenSet:
    """The cases of the results; DataError or ValueError where this judge cannot judge them."""
    if judge.kind != kind:
        verb = {"pointwise": "`score`", "pairwise": "`prefer`"}
        raise ValueError(f"{judge.bundle.name!r} is a {judge.kind} judge: use it with {verb[judge.kind]}")
    if results.golden is None:
        raise DataError("these results carry no golden set, so a judge cannot be shown the questions")
    return results.golden


def warn_of_kinship(results: Results, judge: Judge) -> Results:
    """The results, with a warning and a note where the judge is of the family of a model that it judges."""
    own = family(judge.bundle.model)
    kin = [name for name, bundle in results.bundles.items() if family(bundle.model) == own]
    if not kin:
        return results
    note = (
        f"Judge {judge.metric} ({judge.bundle.model}) is of the same family as {', '.join(kin)}: models favour their "
        "own kind, so calibrate it against people, or take a judge of another family."
    )
    warnings.warn(note, UserWarning, stacklevel=4)
    return replace(results, notes=tuple(dict.fromkeys([*results.notes, note])))


def _opinion(judge: Judge, answer: Generation) -> Opinion:
    if answer.status != "ok":
        reason = ": ".join(part for part in (_NOT_READ[answer.status], answer.error) if part)
        return Opinion(None, reason, answer.text)
    verdict = judge.parse(answer.text)
    return Opinion(verdict.value, verdict.reason, answer.text)
