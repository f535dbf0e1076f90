"""Every answer graded on a rubric's scale: `score`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.base.errors import DataError
from llmlab.base.project import project_root
from llmlab.bundle.prompt import fill
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.judge.asking import ask, attached, check_judgeable, warn_of_kinship
from llmlab.judge.prompts import Judge
from llmlab.results.results import Results
from llmlab.results.scores import Metric
from llmlab.search.retrievers import build_index

if TYPE_CHECKING:
    from typing import Unpack

    from llmlab.judge.asking import CallOptions

__all__ = ["judge_metric", "material_of", "passage_blocks_of", "passages_of", "score"]

NO_TEXT = "(no text: the model refused to answer)"


def score(
    results: Results,
    judge: Judge,
    *,
    name: str | None = None,
    base: str | Path | None = None,
    **options: Unpack[CallOptions],
) -> Results:
    """The same results with the judge's metric added: every answer graded, or unscored with the reason and raw reply.

    An empty answer and a timeout get the worst level without a call; an answer that never came is unscored.

    Args:
        name: of the metric, by default the rubric's; give one where two judges use one rubric.
        base: the folder that relative corpus paths start from, for rubrics that need the passages.
        options: `client`, `endpoints`, `store`, `budget_usd`, `concurrency`, ... as for `run`.

    Raises:
        ValueError: a pairwise judge, or a name that the results use already for something else.
        DataError: the results carry no golden set, or the passages cannot be found again.

    >>> import tempfile
    >>> import pandas as pd
    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.golden.cases import GoldenSet
    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Which function drops gaps?"}),))
    >>> answers = pd.DataFrame({"variant": ["v1"], "case_id": ["q1"], "text": ["dropna"]})
    >>> judge = Judge.pointwise("relevance", model="openai/gpt-4o-2024-08-06")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     means = {"client": FakeClient('{"score": 4}'), "store": f"{folder}/calls.sqlite", "progress": False}
    ...     judged = score(Results.from_frame(answers, golden=golden), judge, **means)
    >>> judged.frame["relevance"].tolist()
    [4.0]
    """
    golden, rubric = check_judgeable(results, judge, "pointwise"), judge.rubric
    results = warn_of_kinship(results, judge)
    passages = passages_of(results, base=base) if "passages" in rubric.needs else {}
    decided: list[_Decided | Mapping[str, str]] = []
    for answer in results.generations():
        case = golden.by_id[answer.case_id]
        decided.append(_without_a_call(case, answer, judge) or material_of(case, answer, judge, passages))
    asked = ask(judge, [one for one in decided if not isinstance(one, _Decided)], options)
    waiting = iter(asked.opinions)
    values, texts = [], []
    for one in decided:
        if isinstance(one, _Decided):
            values.append(one.value)
            texts.append(one.why)
        else:
            opinion = next(waiting)
            values.append(math.nan if opinion.value is None else float(opinion.value))
            texts.append(opinion.text)
    return attached(results, judge, asked, metric=judge_metric(judge, name=name), values=values, texts=texts)


def judge_metric(judge: Judge, *, name: str | None = None) -> Metric:
    """What the judge's numbers mean: bounds from the scale, and the judge's digest."""
    low, high = (judge.rubric.scale[0], judge.rubric.scale[-1]) if judge.kind == "pointwise" else (0, 1)
    return Metric(name=name or judge.metric, low=float(low), high=float(high), judge=judge.digest)


def material_of(
    case: Case, answer: Generation, judge: Judge, passages: Mapping[tuple[str, str], str]
) -> dict[str, str]:
    """What the judge is shown of one answer."""
    material = {"question": case.question, "answer": answer.text or NO_TEXT}
    if "reference" in judge.rubric.needs:
        material["reference"] = case.reference
    if "passages" in judge.rubric.needs:
        material["passages"] = passages[answer.variant, answer.case_id]
    return material


def passages_of(results: Results, *, base: str | Path | None = None) -> dict[tuple[str, str], str]:
    """The text of `passage_blocks_of`, as it stood in the prompt."""
    return {cell: "\n\n".join(blocks) for cell, blocks in passage_blocks_of(results, base=base).items()}


def passage_blocks_of(results: Results, *, base: str | Path | None = None) -> dict[tuple[str, str], tuple[str, ...]]:
    """The passages that each variant was shown for each case, best first, searched again in the same index.

    Raises:
        DataError: a variant does not retrieve, or its corpus is no longer the one that was searched.
    """
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    cases = results.golden.cases if results.golden is not None else ()
    for variant, bundle in results.bundles.items():
        if bundle.retrieval is None:
            raise DataError(f"variant {variant!r} retrieves nothing, so a judge that reads passages cannot judge it")
        index = build_index(bundle.retrieval, base=base or project_root())
        if index.digest != results.index_digests.get(variant):
            raise DataError(f"variant {variant!r}: the corpus has changed since the run; run it again, then judge it")
        hits = index.search([fill(bundle.retrieval.query, case.inputs) for case in cases], bundle.retrieval.k)
        for case, some in zip(cases, hits, strict=True):
            found[variant, case.id] = tuple(index.passages([hit]) for hit in some)
    return found


@dataclass(frozen=True, slots=True)
class _Decided:
    """A score that status and case decide; NaN = unscored."""

    value: float
    why: str


def _without_a_call(case: Case, answer: Generation, judge: Judge) -> _Decided | None:
    worst = float(judge.rubric.scale[0])
    if answer.status == "error":
        return _Decided(math.nan, f"unscored: no answer ({answer.error or 'error'})")
    if "reference" in judge.rubric.needs and not case.expected:
        return _Decided(math.nan, "unscored: the case names nothing expected")
    if answer.status == "timeout":
        return _Decided(worst, "timeout: counts as a failure")
    if not answer.text.strip() and answer.status != "refused":
        return _Decided(worst, "the answer is empty")
    return None
