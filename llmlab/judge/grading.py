"""Answers judged: each graded on a rubric's scale (`score`), or two variants against each other (`prefer`).

Of a pair the judge sees both orders, each answer once in front. The same winner twice is a preference; anything else
that was said is a tie by rule; an error or an unreadable reply is no tie but unscored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from llmlab.base.errors import DataError
from llmlab.clients.base import Generation
from llmlab.engine.call_setup import CallOptions
from llmlab.judge.asking import (
    Instrument,
    Opinion,
    ask,
    attached,
    check_judgeable,
    family,
    material_of,
    passages_of,
    warn_of_kinship,
    without_a_call,
)
from llmlab.results.results import Results

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["prefer", "score", "verdict_frame"]

_FROM_A: Mapping[tuple[object, object], float] = {(1, 1): 1.0, (2, 2): 0.0}  # all else that was said is a tie
_VERDICT_COLUMNS = (
    *("case_id", "repeat", "cluster", "output_1", "output_2", "order1", "order2", "words_1", "words_2"),
    *("author_1", "author_2"),
)
RAW_CHARS = 800  # of each of the two replies


def score(
    results: Results,
    judge: Instrument,
    *,
    name: str | None = None,
    base: str | Path | None = None,
    **options: Unpack[CallOptions],
) -> Results:
    """The same results with the judge's metric added: every answer graded, or unscored with the reason and raw reply.

    The judge is shown the text and, below it, the tool calls as JSON. An answer without either and a timeout get the
    worst level without a call; an answer that never came is unscored.

    Args:
        name: of the metric, by default the rubric's; give one where two judges use one rubric.
        base: the folder that relative corpus paths start from, for rubrics that need the passages.
        options: `client`, `endpoints`, `store`, `budget_usd`, `concurrency`, ... as for `run`.

    Raises:
        ValueError: a pairwise judge, or a name that the results use already for something else.
        DataError: the results carry no golden set, or the passages cannot be found again.

    >>> import tempfile
    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.judge.judges import Judge
    >>> from llmlab.simulate import judged_results
    >>> answers = judged_results(1, labelled=1, seed=1).results
    >>> judge = Judge.pointwise("relevance", model="openai/gpt-4o-2024-08-06")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     means = {"client": FakeClient('{"score": 4}'), "store": f"{folder}/calls.sqlite", "progress": False}
    ...     score(answers, judge, **means).scores("relevance")
    array([4., 4.])
    """
    golden, rubric = check_judgeable(results, judge, "pointwise"), judge.rubric
    results = warn_of_kinship(results, judge)
    passages = passages_of(results, base=base) if "passages" in rubric.needs else {}
    decided: list[tuple[float, str] | None] = []
    materials = []
    for answer in results.generations():
        case = golden.by_id[answer.case_id]
        known = without_a_call(answer, worst=float(rubric.scale[0]))
        if "reference" in rubric.needs and not case.names_expected and answer.status != "error":
            known = math.nan, "unscored: the case names nothing expected"
        if known is None:
            materials.append(material_of(case, {"answer": answer}, judge, passages))
        decided.append(known)
    asked = ask(judge, materials, options)
    opinions = iter(asked.opinions)
    return attached(results, judge, asked, graded=[known or next(opinions).graded for known in decided], name=name)


def prefer(
    results: Results,
    a: str,
    b: str,
    judge: Instrument,
    *,
    name: str | None = None,
    base: str | Path | None = None,
    **options: Unpack[CallOptions],
) -> Results:
    """The answers of two variants with the judge's preference: 1 preferred, 0 not, 0.5 a tie; each pair's two sum to 1.

    So `compare(baseline=a)` on the metric tests whether b is preferred. An empty answer or a timeout loses without a
    call, the same text and tool calls twice are a tie; where one of the two never came, or one order cannot be read,
    both are unscored.

    Args:
        name: of the metric, by default `<rubric>_preferred`.
        base: the folder that relative corpus paths start from, for rubrics that need the passages.
        options: `client`, `endpoints`, `store`, `budget_usd`, `concurrency`, ... as for `run`.

    A judge that always names the first answer prefers none:

    >>> import tempfile
    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.judge.judges import Judge
    >>> from llmlab.simulate import judged_results
    >>> answers = judged_results(1, labelled=1, seed=1).results
    >>> judge = Judge.pairwise("relevance", model="openai/gpt-4o-2024-08-06")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     means = {"client": FakeClient('{"winner": "A"}'), "store": f"{folder}/calls.sqlite", "progress": False}
    ...     prefer(answers, "v1", "v2", judge, **means).scores("relevance_preferred")
    array([0.5, 0.5])
    """
    golden = check_judgeable(results, judge, "pairwise")
    if a == b or not {a, b} <= set(results.variants):
        raise ValueError(f"a == {a!r}, b == {b!r}: must be two of {', '.join(results.variants)}")
    two = warn_of_kinship(results.only(variants=[a, b]), judge)
    passages = passages_of(two, base=base) if "passages" in judge.rubric.needs else {}
    answers = {(g.variant, g.case_id, g.repeat): g for g in two.generations()}
    cells = list(dict.fromkeys((case_id, repeat) for _, case_id, repeat in answers))
    pairs = {cell: (answers.get((a, *cell)), answers.get((b, *cell))) for cell in cells}
    settled = {cell: _settled(*pair) for cell, pair in pairs.items()}
    materials = [
        material_of(golden.by_id[cell[0]], {"answer_a": first, "answer_b": second}, judge, passages)
        for cell, (one, other) in pairs.items()
        if settled[cell] is None and one is not None and other is not None
        for first, second in ((one, other), (other, one))
    ]
    asked = ask(judge, materials, options)
    opinions = iter(asked.opinions)
    outcomes = {cell: known or _outcome(next(opinions), next(opinions)) for cell, known in settled.items()}
    graded = []
    for g in two.generations():
        outcome = outcomes[g.case_id, g.repeat]
        words = json.dumps({"a": a, "b": b, **outcome._asdict()} | {"value": None})
        graded.append((outcome.value if g.variant == a else 1.0 - outcome.value, words))
    return attached(two, judge, asked, graded=graded, name=name)


def verdict_frame(results: Results, metric: str) -> pd.DataFrame:
    """The verdicts behind a preference, one row per pair, as `calibrate_verdicts` takes them.

    Columns: case_id, repeat, cluster, output_1, output_2 (what a and b show), order1, order2 (1, 2, "tie" or None:
    the winner in each order, mapped back), words_1, words_2, author_1, author_2 (families of the models that answered).
    """
    import pandas as pd

    if metric not in results.metrics or results.golden is None:
        raise DataError(f"no preference {metric!r} in these results; make one with `prefer`")
    texts = results.answers("variant", "case_id", "repeat", "shown")
    answers = {(variant, case_id, repeat): text for variant, case_id, repeat, text in texts}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for case_id, repeat, words in results.answers("case_id", "repeat", "explanations"):
        record = json.loads(json.loads(words)[metric])
        if record["order1"] is None and record["order2"] is None and record["settled"]:
            continue  # the judge was not asked
        row = {"case_id": case_id, "repeat": repeat, "cluster": results.golden.by_id[case_id].cluster or case_id}
        row |= {"order1": record["order1"], "order2": record["order2"]}
        for place, variant in ((1, record["a"]), (2, record["b"])):
            text = answers.get((variant, case_id, repeat), "")
            row |= {f"output_{place}": text, f"words_{place}": len(text.split())}
            row[f"author_{place}"] = family(results.bundles[variant].model)
        rows[case_id, repeat] = row
    return pd.DataFrame(list(rows.values()), columns=list(_VERDICT_COLUMNS))


class _Outcome(NamedTuple):
    """What became of a pair: a's value (NaN = unscored), the winner per order, and why."""

    value: float
    order1: int | str | None
    order2: int | str | None
    settled: str
    raw: tuple[str, ...] = ()


def _outcome(first: Opinion, second: Opinion) -> _Outcome:
    one = {"A": 1, "B": 2}.get(str(first.value), first.value)
    two = {"A": 2, "B": 1}.get(str(second.value), second.value)
    raw = (first.text[:RAW_CHARS], second.text[:RAW_CHARS])
    if one is None or two is None:
        return _Outcome(math.nan, one, two, "", raw)
    return _Outcome(_FROM_A.get((one, two), 0.5), one, two, "", raw)


def _settled(one: Generation | None, other: Generation | None) -> _Outcome | None:
    if one is None or other is None or "error" in (one.status, other.status):
        return _Outcome(math.nan, None, None, "one of the two answers never came")
    failed = [g.status == "timeout" or not g.shown.strip() for g in (one, other)]
    if any(failed):
        value = 0.5 if all(failed) else float(failed[1])
        return _Outcome(value, None, None, "an answer that is empty or late loses")
    return _Outcome(0.5, None, None, "the answers are the same") if one.shown == other.shown else None
