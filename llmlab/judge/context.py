"""What was fetched and how the answer used it, by a judge: beside the measures by ids, never mixed with them.

    judge = ll.judge.context_judge("groundedness", model="openai/gpt-4o-2024-08-06")
    judged = ll.judge.score_context(results, judge)      # adds judged_groundedness

The judge says yes or no of one thing at a time: of each statement of the answer whether the passages support it
(groundedness), of each passage whether it helps to answer (context_precision), of each expected fact whether it can be
found in the passages (context_recall). A metric is the share of yes. Its passport comes from `context_verdicts`, where
each single verdict can be labelled by people. Without a judge, `scorers.grounded` and `retrieval.of_results` do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, Unpack

from llmlab.base.errors import DataError
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Generation
from llmlab.engine.call_setup import CallOptions
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.labels import text_digest
from llmlab.judge.grading import (
    Opinion,
    ask,
    attached,
    check_judgeable,
    passages_of,
    warn_of_kinship,
    without_a_call,
)
from llmlab.judge.judges import Judge
from llmlab.judge.rubrics import Rubric
from llmlab.results.results import Results
from llmlab.scorers.grounding import says_nothing, statements
from llmlab.search.corpus import Corpus

NO_PASSAGES = "(nothing was retrieved)"
SHOWN_CHARS = 200  # of a statement that is not supported, in the explanation
_OF_OWN_WORDS = {"judged_groundedness"}  # of what the model wrote itself; passages and expected facts are not

Texts: TypeAlias = Corpus | Mapping[str, str] | None


_ASKED = {  # the question, what no means, what yes means, and what is shown beside the answer
    "groundedness": (
        "The answer holds one statement. Do the passages support it?",
        "no: they say otherwise, say only part of it, or do not speak of it, however true it may be",
        "yes: it follows from what the passages say",
        ("passages",),
    ),
    "context_precision": (
        "The answer holds one passage that a search returned. Does it help to answer the question?",
        "no: it is about something else, or says nothing that an answer needs",
        "yes: an answer can rest on it, wholly or in part",
        (),
    ),
    "context_recall": (
        "The answer names one fact that a right answer to the question needs. Can it be found in the passages?",
        "no: somebody who reads the passages alone would not learn it",
        "yes: the passages say it, in whatever words",
        ("passages",),
    ),
}
CONTEXT_RUBRICS: Mapping[str, Rubric] = MappingProxyType(
    {
        name: Rubric(name=f"judged_{name}", question=question, anchors=((0, no), (1, yes)), needs=needs)
        for name, (question, no, yes, needs) in _ASKED.items()
    }
)
_NAMES = frozenset(rubric.name for rubric in CONTEXT_RUBRICS.values())


def context_judge(about: str | Rubric, *, model: str | ModelRef, **changes: Any) -> Judge:
    """A judge of groundedness, context_precision or context_recall; `changes` are fields of its bundle.

    A rubric of your own keeps the name of the one that it replaces, and its levels 0 and 1.

    >>> context_judge("groundedness", model="openai/gpt-4o-2024-08-06").metric
    'judged_groundedness'
    """
    rubric = CONTEXT_RUBRICS.get(about) if isinstance(about, str) else about
    if rubric is None or rubric.name not in _NAMES or rubric.scale != (0, 1):
        known = ", ".join(CONTEXT_RUBRICS)
        raise ValueError(f"about == {about!r}, must be one of {known}, or a rubric named judged_<one of them>, 0 to 1")
    return Judge.pointwise(rubric, model=model, **changes)


def score_context(
    results: Results,
    judge: Judge,
    *,
    corpus: Texts = None,
    base: str | Path | None = None,
    **options: Unpack[CallOptions],
) -> Results:
    """The same results with the judge's share of yes per answer; each no stands in `explanations` with its reason.

    An answer is unscored where one of its verdicts cannot be read, where it states nothing (a refusal), where it never
    came, and for recall where the case expects nothing. With nothing retrieved it scores 0 without a call.

    Args:
        corpus: texts by document id, for an application that retrieves by itself; by default each variant's index.
        base: the folder that relative corpus paths start from.
        options: `client`, `endpoints`, `store`, `budget_usd`, `concurrency`, ... as for `run`.

    Raises:
        ValueError: the judge is not made by `context_judge`.
        DataError: the results carry no golden set, or the passages cannot be found again.
    """
    rows = _rows(results, judge, corpus, base)
    results = warn_of_kinship(results, judge) if judge.rubric.name in _OF_OWN_WORDS else results
    grades = ask(judge, [material for row in rows for material in row.materials], options)
    waiting = iter(grades.opinions)
    graded = [_share(row, [next(waiting) for _ in row.materials]) for row in rows]
    return attached(results, judge, grades, graded=graded)


def context_verdicts(
    results: Results,
    judge: Judge,
    *,
    corpus: Texts = None,
    base: str | Path | None = None,
    **options: Unpack[CallOptions],
) -> Results:
    """Every single verdict as results of their own: a case per thing that was judged, its text, and 0 or 1.

    Label some of them (`to_label`, with the judge's metric), `calibrate` and make the `passport`: it is good for the
    metric of `score_context`, which rests on these verdicts. What is stored is not asked again.
    """
    rows = _rows(results, judge, corpus, base)
    results = warn_of_kinship(results, judge) if judge.rubric.name in _OF_OWN_WORDS else results
    cases: dict[str, Case] = {}
    materials: dict[tuple[str, str], dict[str, str]] = {}  # by variant and case: what repeats say twice is one case
    for row in rows:
        for material in row.materials:
            shown = {name: text for name, text in material.items() if name != "answer"}
            case_id = f"{row.case.id}/{text_digest(repr(sorted(material.items())))}"
            cluster = row.case.cluster or row.case.id
            cases[case_id] = Case(id=case_id, inputs=shown, tags=row.case.tags, cluster=cluster)
            materials[row.answer.variant, case_id] = material
    if not cases:
        raise DataError("there is nothing to judge: no answer states anything that was retrieved or expected")
    golden = GoldenSet(tuple(cases.values()), name=f"verdicts of {judge.metric}")
    answers = [Generation(variant=v, case_id=case_id, text=m["answer"]) for (v, case_id), m in materials.items()]
    single = Results.from_generations(answers, golden=golden, bundles=results.bundles, notes=results.notes)
    grades = ask(judge, list(materials.values()), options)
    opinions = dict(zip(materials, grades.opinions, strict=True))
    graded = [opinions[answer.variant, answer.case_id].graded for answer in single.generations()]
    return attached(single, judge, grades, graded=graded)


class _Row(NamedTuple):
    """One answer: what the judge is shown of it, or the score that is known without."""

    case: Case
    answer: Generation
    materials: tuple[dict[str, str], ...] = ()
    value: float = math.nan
    why: str = ""


def _rows(results: Results, judge: Judge, corpus: Texts, base: str | Path | None) -> list[_Row]:
    golden = check_judgeable(results, judge, "pointwise")
    if judge.rubric.name not in _NAMES:
        raise ValueError(f"{judge.metric!r} is no judge of context; make one with `context_judge`")
    indexed = passages_of(results, base=base) if corpus is None else {}
    rows = []
    for answer in results.generations():
        blocks = indexed[answer.variant, answer.case_id] if corpus is None else _blocks(answer, corpus)
        rows.append(_row(judge.rubric, golden.by_id[answer.case_id], answer, blocks))
    return rows


def _blocks(answer: Generation, corpus: Corpus | Mapping[str, str]) -> tuple[str, ...]:
    if missing := [doc_id for doc_id in answer.retrieved if doc_id not in corpus]:
        raise DataError(f"case {answer.case_id!r}: {missing[0]!r} was retrieved, but is not in the corpus given")
    texts = ((doc_id, corpus[doc_id]) for doc_id in answer.retrieved)
    return tuple(f"[{doc_id}] {text if isinstance(text, str) else text.text}" for doc_id, text in texts)


def _row(rubric: Rubric, case: Case, answer: Generation, blocks: Sequence[str]) -> _Row:
    """What to ask of an answer for which these passages were retrieved, or the score that is known without."""
    items, shown = blocks, {"question": case.question}
    if rubric.name == "judged_groundedness":
        if (known := without_a_call(answer, worst=0.0)) is not None:
            return _Row(case, answer, (), *known)
        items = [] if says_nothing(answer) else statements(answer.text)
        if not items:
            return _Row(case, answer, why="unscored: the answer states nothing that could be supported")
    elif rubric.name == "judged_context_recall":
        items = case.reference_lines
        if not case.names_expected:
            return _Row(case, answer, why="unscored: the case names nothing expected")
    if not blocks:
        lost = answer.status in ("error", "timeout")
        unknown = "unscored: nobody knows what was retrieved"
        return _Row(case, answer, why=unknown) if lost else _Row(case, answer, value=0.0, why=NO_PASSAGES)
    if rubric.name != "judged_context_precision":
        shown["passages"] = "\n\n".join(blocks)
    return _Row(case, answer, tuple({**shown, "answer": item} for item in items))


def _share(row: _Row, opinions: Sequence[Opinion]) -> tuple[float, str]:
    """The share of yes with each no and its reason; NaN with the reason where a verdict is missing."""
    if not opinions:
        return row.value, row.why
    unread = [opinion.reason for opinion in opinions if opinion.value is None]
    if unread:
        return math.nan, f"unscored: {len(unread)} of {len(opinions)} verdicts cannot be read ({unread[0]})"
    noes = [(m["answer"], o) for m, o in zip(row.materials, opinions, strict=True) if o.value == 0]
    denied = "; ".join(f"{_cut(text)!r} ({_cut(opinion.raw)})" for text, opinion in noes)
    return 1 - len(noes) / len(opinions), f"{len(noes)} of {len(opinions)} no: {denied}" if noes else ""


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} …"
