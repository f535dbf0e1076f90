"""Human labels as JSONL, bound to what was labelled: a label of a changed question or answer is counted, not used.

One object per line. A grade: `{"rubric", "case_id", "question", "answer", "value", "labeller", "date"}`, where
`question` and `answer` are digests of the texts. A preference has `answer_1` and `answer_2` instead, and the value 1, 2
or "tie". `inclusion` is the probability with which `to_label` chose the case. A line whose value is null waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from llmlab.base.display import Shown, plain
from llmlab.base.documents import Strict, decoded, read_bytes, write_whole
from llmlab.base.errors import DataError, FileRuleError
from llmlab.bundle.bundle import ModelRef
from llmlab.golden.cases import Case
from llmlab.judge.calibration import calibrate_scores, calibrate_verdicts
from llmlab.judge.figures import Calibration
from llmlab.judge.pairwise import verdict_frame
from llmlab.judge.prompts import family, question_of
from llmlab.results.results import Results

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Label",
    "Labels",
    "calibrate",
    "graded_frame",
    "labelled_answers",
    "read_labels",
    "text_digest",
    "write_labels",
]

DIGEST_CHARS = 16


class Label(Strict):
    """What one person said of one answer (`answer`) or of two (`answer_1`, `answer_2`); `value` None = not yet.

    `asked` and `text` are what was read, for people; they may be left out.
    """

    rubric: str
    case_id: str
    question: str
    answer: str | None = None
    answer_1: str | None = None
    answer_2: str | None = None
    value: int | Literal["tie"] | None
    labeller: str = ""
    date: str = ""
    inclusion: Annotated[float, Field(gt=0, le=1)] | None = None
    note: str = ""
    asked: str = ""
    text: str = ""

    @pydantic.model_validator(mode="after")
    def _one_or_two_answers(self) -> Label:
        if (self.answer is None) == (self.answer_1 is None) or (self.answer_1 is None) != (self.answer_2 is None):
            raise ValueError("give `answer`, or `answer_1` and `answer_2`")
        if self.answer is None and self.value not in (1, 2, "tie", None):
            raise ValueError(f"value == {self.value!r}, a preference must be 1, 2, 'tie' or null")
        if self.answer is not None and self.value == "tie":
            raise ValueError("value == 'tie', a grade must be a whole number or null")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """What it is a label of: case, question and answers."""
        answers = (self.answer,) if self.answer is not None else (self.answer_1, self.answer_2)
        return (self.case_id, self.question, *(str(digest) for digest in answers))


@dataclass(frozen=True, repr=False)
class Labels(Shown):
    """People's labels, all grades or all preferences, with a digest over their content.

    Attributes:
        labels: those with a value.
        waiting: lines without one yet.
    """

    labels: tuple[Label, ...]
    waiting: int = 0

    def __post_init__(self) -> None:
        """DataError for none at all, grades mixed with preferences, or several rubrics."""
        if not self.labels:
            raise DataError("no labels with a value; label some answers first")
        if len({(label.rubric, label.answer is None) for label in self.labels}) > 1:
            raise DataError("the labels are of several rubrics or kinds; keep one file for each")

    @classmethod
    def load(cls, path: str | Path) -> Labels:
        """Labels from JSONL; FileRuleError with file and line for anything else."""
        labels = list(read_labels(path))
        done = tuple(label for label in labels if label.value is not None)
        if not done:
            raise FileRuleError("holds no label with a value", path=path)
        try:
            return cls(done, waiting=len(labels) - len(done))
        except DataError as error:
            raise FileRuleError(str(error), path=path) from None

    def save(self, path: str | Path) -> Path:
        """Write the labels as JSONL."""
        return write_labels(self.labels, path)

    @property
    def pairwise(self) -> bool:
        """Whether these are preferences."""
        return self.labels[0].answer is None

    @property
    def rubric(self) -> str:
        """What was judged."""
        return self.labels[0].rubric

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the labels, whatever their order."""
        lines = sorted(json.dumps(label.model_dump(exclude={"asked", "text"}), sort_keys=True) for label in self.labels)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def by_key(self) -> Mapping[tuple[str, ...], tuple[Label, ...]]:
        """The labels of each thing: several where several people labelled it."""
        found: dict[tuple[str, ...], tuple[Label, ...]] = {}
        for label in self.labels:
            found[label.key] = (*found.get(label.key, ()), label)
        return found

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __repr__(self) -> str:
        kind = "preferences" if self.pairwise else "grades"
        return f"Labels({len(self)} {kind}, {plain(self.rubric)}, digest={self.digest[:8]})"

    def _rows(self) -> list[dict[str, object]]:
        values = sorted({label.value for label in self.labels}, key=str)
        counts = {str(value): sum(label.value == value for label in self.labels) for value in values}
        return [{"label": value, "answers": count} for value, count in counts.items()]

    def _sentence(self) -> str:
        people = sorted({label.labeller or "unnamed" for label in self.labels})
        return f"{len(self)} labels by {', '.join(people)}; {self.waiting} wait for a value; digest {self.digest[:8]}."


def text_digest(text: str) -> str:
    """The first 16 hex digits of a text's sha256: how labels name what was read.

    >>> text_digest("Use dropna.")
    '92c94f31ccd1c222'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]


def calibrate(
    labels: Labels,
    results: Results | Sequence[Results],
    *,
    metric: str | None = None,
    by: str | None = None,
    level: float = 0.95,
) -> Calibration:
    """A judge's metric in these results against the labels of the same answers.

    Preferences also tell whether the judge likes answers of its own family of models better, where it wrote some. A
    label fits an answer that is the same, word for word, to the same question; others are counted and not used.

    Args:
        results: judged results, or several of one judge, such as the preferences of several pairs of variants.
        metric: the judge's, by default the labels' rubric (`<rubric>_preferred` for preferences).
        by: "tags" for the same per tag of the cases; a case with two tags counts in both.

    Raises:
        DataError: no label fits, the metric was not given by a judge, or the results are of several judges.

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=300, seed=1, kindness=(0.5, 0.5))
    >>> found = calibrate(planted.labels, planted.results).only
    >>> found.n, round(found.leaning.value, 1)
    (600, 0.5)
    """
    import pandas as pd

    if by not in (None, "tags"):
        raise ValueError(f"by == {by!r}, must be 'tags' or None")
    name = metric or (f"{labels.rubric}_preferred" if labels.pairwise else labels.rubric)
    every = [results] if isinstance(results, Results) else list(results)
    judges = {one.metric(name).judge for one in every}
    if len(judges) != 1 or not all(judges):
        raise DataError(f"{name!r} was not given by one judge; judge the results with one, then calibrate it")
    used: set[tuple[tuple[str, ...], int]] = set()
    rows = [row for one in every for row in (_pairs if labels.pairwise else _grades)(labels, one, name, used)]
    lost = len(labels) - len(used)
    if not used:
        raise DataError(f"none of the {lost} labels fits: the questions or answers have changed since they were made")
    frame = pd.DataFrame(rows)
    if by == "tags":
        frame = frame.explode("tags")
    split = ("tags",) if by == "tags" else ()
    meaning, record = every[0].metric(name), every[0].provenance.get("judges", {}).get(name, {})
    if labels.pairwise:
        columns: dict[str, Any] = {"cluster": "cluster", "length1": "words_1", "length2": "words_2"}
        columns |= _authors(frame, str(record.get("model", "")))
        found = calibrate_verdicts(frame, by=split, level=level, **columns)
    else:
        scale = range(int(meaning.low or 0), int(meaning.high or 0) + 1)
        found = calibrate_scores(frame, scale=scale, length="words", cluster="cluster", by=split, level=level)
    note = f"{lost} of {len(labels)} labels fit no answer here (changed since, or of other answers) and were not used."
    return Calibration(
        groups=found.groups,
        judge=record.get("model", name),
        judge_digest=meaning.judge,
        labels_digest=labels.digest,
        pinned=bool(record.get("pinned", False)),
        notes=(note,) if lost else (),
    )


def graded_frame(labels: Labels, results: Results, *, metric: str | None = None) -> pd.DataFrame:
    """What was labelled beside what the judge said, one row per label: tags, cluster, human, judge, words."""
    import pandas as pd

    rows = list(_grades(labels, results, metric or labels.rubric, set()))
    return pd.DataFrame(rows, columns=["tags", "cluster", "human", "judge", "words"])


def read_labels(path: str | Path) -> Iterator[Label]:
    """Every line of a JSONL file of labels, those that wait for a value too; FileRuleError with the line otherwise."""
    text = decoded(read_bytes(path), path)
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a note may hold U+2028
        if not line.strip():
            continue
        try:
            yield Label.model_validate_json(line)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise FileRuleError(f"{place}: {first['msg']}" if place else first["msg"], path=path, line=number) from None


def write_labels(labels: Iterable[Label], path: str | Path) -> Path:
    """JSONL in place of what was there, durable before this returns; a kill leaves the old file or the new one."""
    rows = ({**label.model_dump(exclude_none=True, exclude_defaults=True), "value": label.value} for label in labels)
    return write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _grades(
    labels: Labels, results: Results, metric: str, used: set[tuple[tuple[str, ...], int]]
) -> Iterator[dict[str, Any]]:
    """One row per label and answer text: the same text in two variants is one thing that was labelled."""
    for key, case_id, text, score in labelled_answers(results, metric):
        for i, label in enumerate(labels.by_key.get(key, ())):
            if (key, i) not in used:
                used.add((key, i))
                about = {"tags": _case(results, case_id).tags, "cluster": _case(results, case_id).cluster or case_id}
                yield {**about, "human": label.value, "judge": score, "words": len(text.split())}


def _pairs(
    labels: Labels, results: Results, metric: str, used: set[tuple[tuple[str, ...], int]]
) -> Iterator[dict[str, Any]]:
    for row in verdict_frame(results, metric).to_dict("records"):
        case_id = str(row["case_id"])
        question = text_digest(question_of(_case(results, case_id)))
        one, two = text_digest(row["output_1"]), text_digest(row["output_2"])
        for answers, turned in (((one, two), {1: 1, 2: 2}), ((two, one), {1: 2, 2: 1})):
            thing = (case_id, question, *answers)
            for i, label in enumerate(labels.by_key.get(thing, ())):
                if (thing, i) not in used:
                    used.add((thing, i))
                    winner = "tie" if label.value == "tie" else turned[int(label.value or 0)]
                    yield {
                        **{str(key): cell for key, cell in row.items()},
                        "tags": _case(results, case_id).tags,
                        "label": winner,
                    }


def _authors(frame: pd.DataFrame, model: str) -> dict[str, str]:
    """The columns that tell self-preference, where the judge's family wrote some of the answers and others the rest."""
    own = family(ModelRef.parse(model)) if "/" in model else ""
    wrote = {*frame["author_1"], *frame["author_2"]}
    if own not in wrote or len(wrote) < 2:
        return {}
    frame["judge"] = own
    return {"judge": "judge", "author1": "author_1", "author2": "author_2"}


def labelled_answers(results: Results, metric: str) -> Iterator[tuple[tuple[str, ...], str, str, float]]:
    """(label key, case id, text, score) of every answer, in the frame's order."""
    columns = (results.frame[name].tolist() for name in ("case_id", "text", metric))
    questions: dict[str, str] = {}
    for case_id, text, score in zip(*columns, strict=True):
        if case_id not in questions:
            questions[case_id] = text_digest(question_of(_case(results, case_id)))
        yield (case_id, questions[case_id], text_digest(text)), case_id, text, score


def _case(results: Results, case_id: str) -> Case:
    if results.golden is None:
        raise DataError("these results carry no golden set, so labels cannot be matched to questions")
    return results.golden.by_id[case_id]
