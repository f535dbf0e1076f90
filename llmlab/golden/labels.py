"""What people said of answers, as JSONL, bound to what they read: a label of a changed text is counted, not used.

One object per line. A grade: `{"rubric", "case_id", "question", "answer", "value", "labeller", "date"}`, where
`question` and `answer` are digests of the texts. A preference has `answer_1` and `answer_2` instead, and the value 1, 2
or "tie". `inclusion` is the probability with which the case was chosen (`judge.to_label`). A line whose value is null
waits: a worklist is a file of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from llmlab.base.cells import plain
from llmlab.base.documents import Strict, broken_rule, json_lines, write_whole
from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Conclusion, Shown

_DIGEST_CHARS = 16


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
        with_value = tuple(label for label in labels if label.value is not None)
        try:
            return cls(with_value, waiting=len(labels) - len(with_value))
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
        by_key: dict[tuple[str, ...], tuple[Label, ...]] = {}
        for label in self.labels:
            by_key[label.key] = (*by_key.get(label.key, ()), label)
        return by_key

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __repr__(self) -> str:
        kind = "preferences" if self.pairwise else "grades"
        return f"Labels({len(self)} {kind}, {plain(self.rubric)}, digest={self.digest[:8]})"

    def _rows(self) -> list[dict[str, object]]:
        counts = Counter(str(label.value) for label in self.labels)
        return [{"label": value, "answers": count} for value, count in sorted(counts.items())]

    def _sentence(self) -> str:
        people = sorted({label.labeller or "unnamed" for label in self.labels})
        return f"{len(self)} labels by {', '.join(people)}; {self.waiting} wait for a value; digest {self.digest[:8]}."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Worklist(Shown):
    """Answers to label, whole cases at a time, in a shuffled order that does not show the variant.

    Attributes:
        rubric: what they are to be judged by.
        items: (case_id, question, answer, inclusion probability) per distinct answer.
    """

    rubric: str
    items: tuple[tuple[str, str, str, float], ...]

    def save(self, path: str | Path) -> Path:
        """Write JSONL to fill in: set `value` of each line; `text` and `question` are for reading and may be removed.

        Raises:
            DataError: the file holds labels that somebody gave; they are not overwritten.
        """
        earlier = read_labels(path) if Path(path).exists() else ()
        if n_labels := sum(label.value is not None for label in earlier):
            raise DataError(f"{path} holds {n_labels} labels with a value, which would be lost; name another file")
        labels = []
        for case_id, question, text, inclusion in self.items:
            of = {"case_id": case_id, "question": text_digest(question), "answer": text_digest(text)}
            labels.append(Label(rubric=self.rubric, **of, value=None, inclusion=inclusion, asked=question, text=text))
        return write_labels(labels, path)

    def verdict(self) -> Conclusion:
        """PASS where nothing is left to label, else INCONCLUSIVE: how the notebook of labels ends."""
        if not self.items:
            return Conclusion(word=Verdict.PASS, sentence="Every answer has a label.")
        return Conclusion(word=Verdict.INCONCLUSIVE, sentence=f"{counted(len(self), 'answer')} without a label.")

    def __len__(self) -> int:
        return len(self.items)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"case": case_id, "question": question, "answer": answer, "chance": round(inclusion, 3)}
            for case_id, question, answer, inclusion in self.items
        ]

    def _sentence(self) -> str:
        cases = len({case_id for case_id, *_ in self.items})
        return f"{len(self.items)} answers to {cases} cases, each chosen with the chance that is stored with its label."


def text_digest(text: str) -> str:
    """The first 16 hex digits of a text's sha256: how labels name what was read.

    >>> text_digest("Use dropna.")
    '92c94f31ccd1c222'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


def same_way_round(label: Label) -> Label:
    """The label with the answers of a preference in the order of their digests: the same pair has the same key."""
    if label.answer_1 is None or label.answer_2 is None or label.answer_1 <= label.answer_2:
        return label
    value = {1: 2, 2: 1}.get(label.value, label.value)  # type: ignore[arg-type]  # "tie" and None stay
    return label.model_copy(update={"answer_1": label.answer_2, "answer_2": label.answer_1, "value": value})


def read_labels(path: str | Path) -> Iterator[Label]:
    """Every line of a JSONL file of labels, those that wait for a value too; FileRuleError with the line otherwise."""
    for line, row in json_lines(path):
        try:
            yield Label.model_validate(row)
        except pydantic.ValidationError as error:
            raise FileRuleError(broken_rule(error), path=path, line=line) from None


def write_labels(labels: Iterable[Label], path: str | Path) -> Path:
    """JSONL in place of what was there, durable before this returns; a kill leaves the old file or the new one."""
    rows = ({**label.model_dump(exclude_none=True, exclude_defaults=True), "value": label.value} for label in labels)
    return write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
