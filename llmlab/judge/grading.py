"""Answers judged: each graded on a rubric's scale (`score`), or two variants against each other (`prefer`).

Judge calls are an ordinary run: what is judged becomes cases, the judge's bundle answers them, replies are parsed; the
same clients, call store, budget and statuses as everywhere. What others wrote is material, never an instruction: it
stands between marks that carry a code, drawn from a hash of that material. The code differs per call, so no answer can
close its own frame, and it is the same when the same thing is judged again, so the call store still finds it.

Of a pair the judge sees both orders, each answer once in front. The same winner twice is a preference; anything else
that was said is a tie by rule; an error or an unreadable reply is no tie but unscored.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, Unpack

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.base.project import project_root
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.bundle.chat import is_parts
from llmlab.bundle.template import fill
from llmlab.clients.base import Generation
from llmlab.engine.call_setup import CallOptions, CallSetup
from llmlab.engine.runs import run_by
from llmlab.golden.cases import Case, GoldenSet
from llmlab.judge.parsing import Verdict
from llmlab.judge.rubrics import Rubric
from llmlab.results.answers import storable
from llmlab.results.provenance import JudgeRecord
from llmlab.results.results import Results
from llmlab.results.scores import Metric
from llmlab.search.index import build_index

if TYPE_CHECKING:
    import pandas as pd

Kind: TypeAlias = Literal["pointwise", "pairwise"]  # whether a judge grades one answer or names the better of two
_CODE_CHARS = 16
_NO_TEXT = "(no text: the model refused to answer)"
SHOWN_CHARS = 4_000  # of a judge's reply, kept beside the score
_RAW_CHARS = 800  # of each of the two replies on a pair
_NOT_READ = {
    "refused": "the judge refused",
    "truncated": "the judge's reply was cut off",
    "empty": "the judge's reply is empty",
    "timeout": "the judge did not answer in time",
    "error": "the judge could not be asked",
}
_FAMILIES = {
    "anthropic": r"claude",
    "openai": r"\bgpt|\bo[1-9]\b|chatgpt|davinci",
    "google": r"gemini|gemma|palm",
    "meta": r"llama",
    "mistral": r"mistral|mixtral|ministral|codestral|magistral",
    "alibaba": r"qwen|qwq",
    "deepseek": r"deepseek",
    "cohere": r"command",
    "microsoft": r"\bphi-?[0-9]",
    "xai": r"grok",
}
_FROM_A: Mapping[tuple[object, object], float] = {(1, 1): 1.0, (2, 2): 0.0}  # all else that was said is a tie
_VERDICT_COLUMNS = (
    *("case_id", "repeat", "cluster", "output_1", "output_2", "order1", "order2", "words_1", "words_2"),
    *("author_1", "author_2"),
)


class Instrument(Protocol):
    """What is asked, and how its replies are read: a `Judge`, which says what each part is, as its askers see it."""

    @property
    def bundle(self) -> Bundle: ...
    @property
    def rubric(self) -> Rubric: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def digest(self) -> str: ...
    @property
    def metric(self) -> str: ...
    def parse(self, reply: str, *, judged: Sequence[str] = ()) -> Verdict: ...


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

    @property
    def graded(self) -> tuple[float, str]:
        """A grade as a number (NaN = unscored), and its text."""
        return math.nan if self.value is None else float(self.value), self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """The opinions on a list of materials, in its order, and what asking took."""

    opinions: tuple[Opinion, ...]
    complete: bool
    calls: int
    cost_usd: float | None
    notes: tuple[str, ...]


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
            materials.append(_material(case, {"answer": answer}, judge, passages))
        decided.append(known)
    grades = ask(judge, materials, options)
    opinions = iter(grades.opinions)
    return attached(results, judge, grades, graded=[known or next(opinions).graded for known in decided], name=name)


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
        _material(golden.by_id[cell[0]], {"answer_a": first, "answer_b": second}, judge, passages)
        for cell, (of_a, of_b) in pairs.items()
        if settled[cell] is None and of_a is not None and of_b is not None
        for first, second in ((of_a, of_b), (of_b, of_a))
    ]
    grades = ask(judge, materials, options)
    opinions = iter(grades.opinions)
    outcomes = {cell: known or _outcome(next(opinions), next(opinions)) for cell, known in settled.items()}
    graded = []
    for g in two.generations():
        outcome = outcomes[g.case_id, g.repeat]
        words = json.dumps({"a": a, "b": b, **outcome._asdict()} | {"value": None})
        graded.append((outcome.value if g.variant == a else 1.0 - outcome.value, words))
    return attached(two, judge, grades, graded=graded, name=name)


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


def ask(judge: Instrument, materials: Sequence[Mapping[str, str]], options: CallOptions) -> Grades:
    """Each material judged; the same material is asked once, and whatever is stored is not asked again."""
    if not materials:
        return Grades(opinions=(), complete=True, calls=0, cost_usd=0.0, notes=())
    inputs = [framed({name: storable(text) for name, text in material.items()}) for material in materials]
    cases = {material["code"]: Case(id=material["code"], inputs=material) for material in inputs}
    golden = GoldenSet(tuple(cases.values()), name=f"to be judged by {judge.bundle.name}")
    replies = run_by(CallSetup(**options), judge.bundle, golden)
    shown = {material["code"]: [text for name, text in material.items() if name != "code"] for material in inputs}
    by_case = {
        case_id: _opinion(judge, status=status, text=text, error=error, judged=shown[case_id])
        for case_id, status, text, error in replies.answers("case_id", "status", "text", "error")
    }
    silent = Opinion(None, "; ".join(replies.notes) or "the judge was not asked", "")
    sent = [cost for cached, cost in replies.answers("cached", "cost_usd") if not cached]
    cost = math.fsum(sent)
    return Grades(
        opinions=tuple(by_case.get(material["code"], silent) for material in inputs),
        complete=replies.complete,
        calls=len(sent),
        cost_usd=None if math.isnan(cost) else cost,
        notes=tuple(f"Judge {judge.metric}: {note}" for note in replies.notes),
    )


def attached(
    results: Results, judge: Instrument, grades: Grades, *, graded: Sequence[tuple[float, str]], name: str | None = None
) -> Results:
    """The results with the judge's metric as a column, its words in `explanations`, and what was asked on record.

    `graded` is each answer's score (NaN = unscored) and the words that belong to it; `name` is the metric's.
    """
    metric, values = judge_metric(judge, name=name), [value for value, _ in graded]
    record = JudgeRecord(
        digest=judge.digest,
        model=str(judge.bundle.model),
        pinned=bool(judge.bundle.model.pinned),
        kind=judge.kind,
        rubric=judge.rubric.name,
        calls=grades.calls,
        cost_usd=grades.cost_usd,
        unscored=sum(map(math.isnan, values)),
    )
    return replace(
        results.with_scores(metric, values, explanations=[words for _, words in graded]),
        complete=results.complete and grades.complete,
        provenance=results.provenance.with_judge(metric.name, record),
        notes=tuple(dict.fromkeys([*results.notes, *grades.notes, *_unseen(results, judge)])),
    )


def check_judgeable(results: Results, judge: Instrument, kind: Kind) -> GoldenSet:
    """The cases of the results; DataError or ValueError where this judge cannot judge them."""
    if judge.kind != kind:
        verb = {"pointwise": "`score`", "pairwise": "`prefer`"}
        raise ValueError(f"{judge.bundle.name!r} is a {judge.kind} judge: use it with {verb[judge.kind]}")
    if results.golden is None:
        raise DataError("these results carry no golden set, so a judge cannot be shown the questions")
    return results.golden


def warn_of_kinship(results: Results, judge: Instrument) -> Results:
    """The results, with a warning and a note where the judge is of the family of a model that it judges."""
    judge_family = family(judge.bundle.model)
    kin = [name for name, bundle in results.bundles.items() if family(bundle.model) == judge_family]
    if not kin:
        return results
    note = (
        f"Judge {judge.metric} ({judge.bundle.model}) is of the same family as {', '.join(kin)}: models favour their "
        "own kind, so calibrate it against people, or take a judge of another family."
    )
    warnings.warn(note, UserWarning, stacklevel=3)
    return replace(results, notes=tuple(dict.fromkeys([*results.notes, note])))


def framed(material: Mapping[str, str]) -> dict[str, str]:
    """The material with the `code` that frames it: 16 hex digits that occur in none of it.

    >>> sorted(framed({"answer": "Use dropna."}))
    ['answer', 'code']
    """
    seed = json.dumps(dict(material), sort_keys=True).encode()
    together = "\n".join(material.values())
    codes = (hashlib.sha256(b"%d:" % attempt + seed).hexdigest()[:_CODE_CHARS] for attempt in itertools.count())
    return {**material, "code": next(code for code in codes if code not in together)}


def family(model: ModelRef) -> str:
    """Who trained a model, by its id; the provider and the id's stem where no known name is in it.

    >>> family(ModelRef.parse("openrouter/anthropic/claude-sonnet-4")), family(ModelRef.parse("offline/extractive-1"))
    ('anthropic', 'offline/extractive')
    """
    families = (who for who, pattern in _FAMILIES.items() if re.search(pattern, model.id, re.IGNORECASE))
    return next(families, f"{model.provider}/{re.split('[-:@.0-9]', model.id)[0]}")


def judge_metric(judge: Instrument, *, name: str | None = None) -> Metric:
    """What the judge's numbers mean: bounds from the scale, and the judge's digest."""
    low, high = (judge.rubric.scale[0], judge.rubric.scale[-1]) if judge.kind == "pointwise" else (0, 1)
    return Metric(name=name or judge.metric, low=float(low), high=float(high), judge=judge.digest)


def without_a_call(answer: Generation, *, worst: float) -> tuple[float, str] | None:
    """The score that an answer's status decides (NaN = unscored) and why; None where a judge has to be asked."""
    if answer.status == "error":
        return math.nan, f"unscored: no answer ({answer.error or 'error'})"
    if answer.status == "timeout":
        return worst, "timeout: counts as a failure"
    if not answer.shown.strip() and answer.status != "refused":
        return worst, "the answer is empty"
    return None


def passages_of(results: Results, *, base: str | Path | None = None) -> dict[tuple[str, str], tuple[str, ...]]:
    """The passages of each (variant, case id) as the prompt had them, best first, searched again in the same index.

    Raises:
        DataError: a variant does not retrieve, or its corpus is no longer the one that was searched.
    """
    blocks: dict[tuple[str, str], tuple[str, ...]] = {}
    cases = results.golden.cases if results.golden is not None else ()
    for variant, bundle in results.bundles.items():
        if bundle.retrieval is None:
            raise DataError(f"variant {variant!r} retrieves nothing, so a judge that reads passages cannot judge it")
        index = build_index(bundle.retrieval, base=base or project_root())
        if index.digest != results.index_digests.get(variant):
            raise DataError(f"variant {variant!r}: the corpus has changed since the run; run it again, then judge it")
        hits = index.search([fill(bundle.retrieval.query, case.inputs) for case in cases], bundle.retrieval.k)
        for case, hits_of_case in zip(cases, hits, strict=True):
            blocks[variant, case.id] = tuple(index.passages([hit]) for hit in hits_of_case)
    return blocks


def _opinion(judge: Instrument, *, status: str, text: str, error: str, judged: Sequence[str]) -> Opinion:
    if status != "ok":
        return Opinion(None, ": ".join(part for part in (_NOT_READ[status], error) if part), text)
    verdict = judge.parse(text, judged=judged)
    return Opinion(verdict.value, verdict.reason, text)


def _unseen(results: Results, judge: Instrument) -> Iterator[str]:
    """That a judge is told of pictures and files by kind and size alone, where cases have some."""
    cases = () if results.golden is None else results.golden.cases
    parts = [[value for value in case.inputs.values() if is_parts(value)] for case in cases]
    if n := sum(any(part["type"] != "text" for value in values for part in value) for values in parts):
        note = f"{judge.bundle.name} was told of their kind and size, and saw none"
        yield f"{counted(n, 'case')} with pictures or files: {note}."


def _material(
    case: Case,
    answers: Mapping[str, Generation],
    judge: Instrument,
    passages: Mapping[tuple[str, str], Sequence[str]],
) -> dict[str, str]:
    """What the judge is shown of these answers to a case, by the names of its template's placeholders."""
    material = {"question": case.question} | {name: answer.shown or _NO_TEXT for name, answer in answers.items()}
    if "reference" in judge.rubric.needs:
        material["reference"] = case.reference
    if "passages" in judge.rubric.needs:
        shown = {"\n\n".join(passages[answer.variant, answer.case_id]) for answer in answers.values()}
        material["passages"] = "\n\n".join(sorted(shown))
    return material


class _Outcome(NamedTuple):
    """What became of a pair: a's value (NaN = unscored), the winner per order, and why."""

    value: float
    order1: int | str | None
    order2: int | str | None
    settled: str
    raw: tuple[str, ...] = ()


def _outcome(first: Opinion, second: Opinion) -> _Outcome:
    in_order1 = {"A": 1, "B": 2}.get(str(first.value), first.value)
    in_order2 = {"A": 2, "B": 1}.get(str(second.value), second.value)
    raw = (first.text[:_RAW_CHARS], second.text[:_RAW_CHARS])
    if in_order1 is None or in_order2 is None:
        return _Outcome(math.nan, in_order1, in_order2, "", raw)
    return _Outcome(_FROM_A.get((in_order1, in_order2), 0.5), in_order1, in_order2, "", raw)


def _settled(one: Generation | None, other: Generation | None) -> _Outcome | None:
    if one is None or other is None or "error" in (one.status, other.status):
        return _Outcome(math.nan, None, None, "one of the two answers never came")
    failed = [g.status == "timeout" or not g.shown.strip() for g in (one, other)]
    if any(failed):
        value = 0.5 if all(failed) else float(failed[1])
        return _Outcome(value, None, None, "an answer that is empty or late loses")
    return _Outcome(0.5, None, None, "the answers are the same") if one.shown == other.shown else None
