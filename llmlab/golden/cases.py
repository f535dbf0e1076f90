"""Golden sets: the cases that a change is judged on, each with its id, inputs, expectations and cluster."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmlab import golden
from llmlab.base.cells import plain
from llmlab.base.documents import json_lines, write_whole
from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.private import Found, personal_in, told
from llmlab.bundle.chat import of_messages, said, with_pictures
from llmlab.bundle.prompt import frozen_json
from llmlab.display.shown import Shown

if TYPE_CHECKING:
    import datasets
    import pandas as pd

_HALF_PAIR = re.compile("[\ud800-\udfff]")  # no UTF-8 file can carry half of a surrogate pair but as an escape
_FIELDS = ("id", "inputs", "expected", "relevant", "tags", "cluster", "weight", "source")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Case(Shown):
    """One question with what is known of its right answer.

    Attributes:
        id: unique within its golden set.
        inputs: what fills the prompt's placeholders.
        expected: texts (facts that a right answer mentions, or answers that are right), or any other JSON value.
        relevant: document id -> grade (1 = relevant, higher = more so).
        tags: categories to report by.
        cluster: cases that share a document, topic or conversation; None = independent of all others.
        weight: how many cases of production this one stands for.
        source: where the case came from.
    """

    id: str
    inputs: Mapping[str, Any]
    expected: Any = ()
    relevant: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cluster: str | None = None
    weight: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        """ValueError names the field and the rule it breaks; what is kept cannot be changed."""
        if not isinstance(self.id, str) or not self.id.strip():
            raise ValueError(f"id == {self.id!r}, must be a non-empty text")
        if _HALF_PAIR.search(self.id):
            raise ValueError(f"id == {self.id!r}, must hold no half of a surrogate pair: nothing could be stored")
        for name, text in (("cluster", self.cluster or ""), ("source", self.source)):
            if not isinstance(text, str):
                raise ValueError(f"{name} == {text!r}, must be text")
        checked = {"inputs": _inputs, "expected": _expected, "relevant": _grades, "tags": _tags, "weight": _weight}
        for name, check in checked.items():
            object.__setattr__(self, name, check(getattr(self, name)))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Case:
        """A case from plain values; ValueError names the field and the rule it breaks.

        `messages`, a conversation that ends with the user's words, is the inputs `history` and `question`.
        """
        if not isinstance(row, Mapping):
            raise ValueError(f"a case is a JSON object, not {row!r}")
        if (messages := row.get("messages")) is not None:
            row = {name: value for name, value in row.items() if name != "messages"}
            others = _inputs(row["inputs"]) if row.get("inputs") is not None else {}
            if clash := {"history", "question"} & set(others):
                raise ValueError(f"messages and the input {min(clash)!r} are both given; keep one")
            row["inputs"] = {**of_messages(messages), **others}
        unknown = sorted(set(row) - set(_FIELDS))
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r} (known: {', '.join([*_FIELDS, 'messages'])})")
        return cls(**{"id": None, "inputs": None, **{key: value for key, value in row.items() if value is not None}})

    @property
    def asked(self) -> str:
        """All inputs in one line, for tables; an empty history is left out."""
        return " | ".join(said(value) for value in self.inputs.values() if value != ())

    @property
    def content(self) -> str:
        """What is asked and expected, as 8 hex digits of a sha256: the same whatever id, tags and weight it has."""
        return _sha256(_canonical({"inputs": self.inputs, "expected": self.expected}))[:8]

    @property
    def question(self) -> str:
        """What was asked, as text: the input called `question`, or all inputs as `name: value` lines."""
        if set(self.inputs) == {"question"}:
            return said(self.inputs["question"])
        texts = {name: said(value) for name, value in self.inputs.items() if value != ()}
        return "\n".join(f"{name}: {value}" for name, value in texts.items())

    @property
    def names_expected(self) -> bool:
        """Whether anything is expected; `{}`, 0 and false are."""
        return self.expected not in ((), None)

    @property
    def facts(self) -> tuple[str, ...]:
        """The texts of `expected`, a number or true as JSON writes it; () where it is any other JSON value."""
        if isinstance(self.expected, (bool, int, float)):
            return (json.dumps(self.expected),)
        return self.expected if _are_texts(self.expected) else ()

    @property
    def reference_lines(self) -> tuple[str, ...]:
        """What a right answer says, a fact or a JSON value each, where `a|b` is "a or b"."""
        if not self.facts and self.names_expected:
            return (json.dumps(self.expected, ensure_ascii=False),)
        return tuple(" or ".join(fact.split("|")) for fact in self.facts)

    @property
    def reference(self) -> str:
        """What a right answer says, one fact per line; `a|b` is either of the two. "" where nothing is named."""
        return "\n".join(f"- {line}" for line in self.reference_lines)

    @property
    def relevant_ids(self) -> tuple[str, ...]:
        """The documents that somebody judged relevant: those with a grade above 0."""
        return tuple(doc_id for doc_id, grade in self.relevant.items() if grade > 0)

    def to_row(self) -> dict[str, Any]:
        """The case as plain values, fields at their defaults left out."""
        is_set = {"expected": self.names_expected, "weight": self.weight != 1.0}
        row = asdict(self)
        return {key: value for key, value in row.items() if is_set.get(key, value not in ((), {}, None, ""))}


@dataclass(frozen=True, repr=False)
class GoldenSet(Shown):
    """An ordered set of cases with unique ids, and a digest over their content.

    Attributes:
        cases: the cases, in the order of their source.
        name: what reports call it.
        parent: digest of the set that this one was grown from, "" for a first set.
    """

    _most_rows: ClassVar[int] = 8

    cases: tuple[Case, ...]
    name: str = "golden"
    parent: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases))
        if not self.cases:
            raise ValueError(f"the golden set {self.name!r} has no cases")
        _refuse_duplicates([(case.id, f"case {i + 1}") for i, case in enumerate(self.cases)], self.name)

    @classmethod
    def load(cls, path: str | Path, *, parent: str = "") -> GoldenSet:
        """Cases from JSONL, one object per line; FileRuleError with file and line for anything else."""
        path = Path(path)
        rows = list(json_lines(path))
        if not rows:
            raise FileRuleError("has no cases", path=path)
        lines = [line for line, _ in rows]
        cases = _cases(
            [row for _, row in rows],
            lambda row: Case.from_row(with_pictures(row, path.parent)),
            refused=lambda place, rule: FileRuleError(rule, path=path, line=lines[place]),
        )
        _refuse_duplicates([(case.id, f"line {line}") for case, line in zip(cases, lines, strict=True)], path)
        return cls(cases, name=path.stem, parent=parent)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        inputs: golden.columns.Inputs,
        expected: str | None = None,
        id: str | None = None,
        tags: str | None = None,
        cluster: str | None = None,
        weight: str | None = None,
        relevant: str | None = None,
        expected_is: golden.columns.ExpectedIs = "facts",
        name: str = "golden",
    ) -> GoldenSet:
        """Cases from columns of a table (`inputs`: names, or placeholder -> name).

        Without `id` the cases are called as a column "id" says, unless that is an input; without one they are numbered.

        Lists in text cells are separated by `;`. In `expected`, `a|b` is one fact that may be said either way; where
        `expected_is` "text" a cell is one text as it stands, and where it is "json" a JSON value.
        """
        columns = {"expected": expected, "tags": tags, "cluster": cluster, "weight": weight, "relevant": relevant}
        rows = golden.columns.rows_of(frame, inputs=inputs, columns=columns, id=id, expected_is=expected_is)
        return cls(_cases(rows, refused=golden.columns.RowError), name=name)

    @classmethod
    def from_csv(cls, path: str | Path, *, inputs: Sequence[str], **columns: Any) -> GoldenSet:
        """Cases from a CSV file (also with ; or tabs) but for its empty rows; `columns` as in `from_frame`."""
        return cls._from_file(path, "csv", inputs=inputs, **columns)

    @classmethod
    def from_parquet(cls, path: str | Path, *, inputs: Sequence[str], **columns: Any) -> GoldenSet:
        """Cases from a Parquet file; `columns` as in `from_frame`."""
        return cls._from_file(path, "parquet", inputs=inputs, **columns)

    @classmethod
    def from_promptfoo(cls, path: str | Path) -> GoldenSet:
        """The tests of a promptfoo configuration or results file; a UserWarning says what is not carried over."""
        return cls._read_by("promptfoo_cases", path)

    @classmethod
    def from_langsmith(cls, path: str | Path) -> GoldenSet:
        """The examples of a LangSmith data set (JSON, JSONL); a UserWarning says what is not carried over."""
        return cls._read_by("langsmith_cases", path)

    @classmethod
    def from_langfuse(cls, path: str | Path) -> GoldenSet:
        """The active items of a Langfuse data set (JSON, JSONL); a UserWarning says what is not carried over."""
        return cls._read_by("langfuse_cases", path)

    @classmethod
    def from_deepeval(cls, path: str | Path) -> GoldenSet:
        """The goldens of a DeepEval data set (JSON, JSONL); a UserWarning says what is not carried over."""
        return cls._read_by("deepeval_cases", path)

    @classmethod
    def from_beir(cls, folder: str | Path, *, split: str = "test") -> GoldenSet:
        """The judged queries of a BEIR data set (`queries.jsonl`, `qrels/SPLIT.tsv`), with the grades of documents."""
        return cls._read_by("beir_cases", folder, split=split)

    @classmethod
    def _read_by(cls, reader: str, path: str | Path, **options: str) -> GoldenSet:
        from llmlab.foreign import datasets as foreign  # only where another tool's file is read

        imported = getattr(foreign, reader)(path, **options)
        if imported.left_out:
            warnings.warn(f"{Path(path).name}: {'; '.join(imported.left_out)}", UserWarning, stacklevel=3)
        return cls.of_rows(imported.rows, path)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], path: str | Path) -> GoldenSet:
        """Cases of plain rows that a file held; FileRuleError with the number of the first that is none."""
        cases = _cases(rows, refused=lambda place, rule: FileRuleError(f"case {place + 1}: {rule}", path=path))
        if not cases:
            raise FileRuleError("has no cases", path=path)
        return cls(cases, name=Path(path).stem)

    @classmethod
    def from_table(cls, path: str | Path, *, inputs: golden.columns.Inputs, **columns: Any) -> GoldenSet:
        """Cases from a CSV, JSONL or Parquet file; `columns` as in `from_frame`, `a.b` is a key within one of JSONL."""
        return cls._from_file(path, "", inputs=inputs, **columns)

    @classmethod
    def _from_file(
        cls, path: str | Path, kind: str, *, inputs: golden.columns.Inputs, name: str = "", **columns: Any
    ) -> GoldenSet:
        table, frame = golden.columns.of_file(path, kind, inputs, columns)
        try:
            return cls.from_frame(frame, inputs=inputs, name=name or table.path.stem, **columns)
        except golden.columns.RowError as error:
            raise table.refused(frame.index.tolist()[error.row], error.rule) from None
        except FileRuleError as error:
            raise FileRuleError(f"{error.rule} (case 1 is the first row of data)", path=path) from None

    @classmethod
    def from_hf(cls, dataset: datasets.Dataset, *, inputs: Sequence[str] = (), **columns: Any) -> GoldenSet:
        """Cases from a Hugging Face dataset: one that `to_hf` made, or any with the named columns.

        A class is its name, not its number; a picture a part of a message. ValueError for a DatasetDict: name a split.
        """
        if isinstance(dataset, Mapping):
            first = next(iter(dataset))
            raise ValueError(f"this has the splits {', '.join(dataset)}; give one of them, such as dataset[{first!r}]")
        if not inputs and "case" in dataset.column_names:
            return cls(tuple(Case.from_row(json.loads(text)) for text in dataset["case"]))
        return cls.from_frame(golden.columns.of_dataset(dataset, inputs, columns), inputs=inputs, **columns)

    def to_hf(self) -> datasets.Dataset:
        """The cases as a Hugging Face dataset: readable columns, and the whole case as JSON in `case`."""
        import datasets

        rows = [
            {"id": c.id, "expected": c.reference_lines, "tags": c.tags, "case": _canonical(c.to_row())}
            for c in self.cases
        ]
        return datasets.Dataset.from_list(rows)

    def save(self, path: str | Path) -> Path:
        """Write the cases as JSONL."""
        text = "".join(f"{json.dumps(case.to_row(), ensure_ascii=False)}\n" for case in self.cases)
        return write_whole(path, _HALF_PAIR.sub(lambda half: f"\\u{ord(half[0]):04x}", text))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the canonical JSON of the cases, whatever their order."""
        return _sha256("\n".join(sorted(_canonical(case.to_row()) for case in self.cases)))

    @cached_property
    def by_id(self) -> dict[str, Case]:
        """Cases by their id."""
        return {case.id: case for case in self.cases}

    @cached_property
    def judged_ids(self) -> tuple[str, ...]:
        """Ids of the cases with a relevant document; DataError where no case has one."""
        judged = tuple(case.id for case in self.cases if case.relevant_ids)
        if not judged:
            raise DataError("no case of the golden set names a relevant document; add `relevant` to its cases")
        return judged

    @cached_property
    def personal(self) -> tuple[Found, ...]:
        """The cases that hold personal data or a key, with its kinds; never what it is."""
        return personal_in(
            (c.id, [c.id, c.inputs, c.expected, c.tags, c.cluster, c.source, list(c.relevant)]) for c in self.cases
        )

    @property
    def personal_notes(self) -> tuple[str, ...]:
        """What a reader must know of that: one sentence, or none."""
        where = f"{len(self.personal):,} of {len(self):,} cases: {told(self.personal)}"
        advice = 'sent and stored as they are; pii = "redact" under [tool.llmlab] logs pseudonyms instead'
        return (f"Personal data in {where}; {advice}.",) if self.personal else ()

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag, in order of first use."""
        return tuple(dict.fromkeys(tag for case in self.cases for tag in case.tags))

    def only(self, *, tag: str | None = None, ids: Iterable[str] | None = None, first: int | None = None) -> GoldenSet:
        """The cases with this tag, these ids, or the first so many; a smaller set with this one as parent."""
        if first is not None and (isinstance(first, bool) or not isinstance(first, Integral) or first < 1):
            raise ValueError(f"first == {first!r}, must be a whole number from 1; leave it out for all cases")
        if tag is None and ids is None and first is None:
            return self
        id_set = None if ids is None else set(ids)
        if id_set and (unknown := sorted(id_set - set(self.by_id))):
            raise ValueError(f"no case {unknown[0]!r} in {self.name!r}")
        chosen = [c for c in self.cases if (tag is None or tag in c.tags) and (id_set is None or c.id in id_set)]
        return replace(self, cases=tuple(chosen[:first]), parent=self.digest)

    def holdout(self, share: float) -> GoldenSet:
        """About this share of the cases, which ones by their content alone: new cases move no other from side to side.

        Raises:
            ValueError: the share is not between 0 and 1, or no case falls into it.
        """
        return self._side({case.id for case in self.cases if is_held_out(case.content, share)}, f"{share:.0%} holdout")

    def explored(self, share: float) -> GoldenSet:
        """The cases that are not in the `holdout` of this share."""
        explored_ids = {case.id for case in self.cases if not is_held_out(case.content, share)}
        return self._side(explored_ids, f"part outside of the {share:.0%} holdout")

    def _side(self, ids: set[str], side: str) -> GoldenSet:
        if not ids:
            raise ValueError(f"the {side} of {self.name!r} is empty: its {len(self)} cases are too few to be split")
        return self if len(ids) == len(self) else self.only(ids=ids)

    def grown(self, cases: Iterable[Case]) -> GoldenSet:
        """This set with cases added, and this set's digest as its parent."""
        return replace(self, cases=(*self.cases, *cases), parent=self.digest)

    def newer(self, proposed: GoldenSet) -> GoldenSet | None:
        """The cases that a proposed set adds to this one or has otherwise; None where there are none."""
        ids = {case.id for case in proposed if self.by_id.get(case.id) != case}
        return proposed.only(ids=ids) if ids else None

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __repr__(self) -> str:
        return f"GoldenSet({plain(self.name)}, {len(self)} cases, {len(self.tags)} tags, digest={self.digest[:8]})"

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for c in self.cases:
            inputs = {name: said(value) for name, value in c.inputs.items()}
            rows.append({"id": c.id, **inputs, "expected": c.expected, "tags": c.tags, "cluster": c.cluster})
        return rows

    def _sentence(self) -> str:
        clusters = len({case.cluster or f"\0{case.id}" for case in self.cases})
        tags = f", {len(self.tags)} tags" if self.tags else ""
        counts = f"{counted(len(self), 'case')} in {counted(clusters, 'cluster')}"
        return f"{counts}{tags}, digest {self.digest[:8]}."


def is_held_out(content: str, share: float) -> bool:
    """Whether a case with this `Case.content` belongs to the holdout of this share."""
    if not 0 < share < 1:
        raise ValueError(f"share == {share}, must be between 0 and 1")
    return int(content, 16) / 16.0 ** len(content) < share


def _refuse_duplicates(places: Iterable[tuple[str, str]], source: str | Path) -> None:
    first_place: dict[str, str] = {}
    for case_id, place in places:
        key = unicodedata.normalize("NFC", case_id.strip())
        if key in first_place:
            raise FileRuleError(f"duplicate id {case_id!r} on {first_place[key]} and {place}", path=source)
        first_place[key] = place


def _cases(
    rows: Iterable[Mapping[str, Any]],
    made: Callable[[Mapping[str, Any]], Case] = Case.from_row,
    *,
    refused: Callable[[int, str], Exception],
) -> tuple[Case, ...]:
    """The case of each row; where one is none, the error for its place and the rule it breaks."""
    cases = []
    for place, row in enumerate(rows):
        try:
            cases.append(made(row))
        except ValueError as error:
            raise refused(place, str(error)) from None
    return tuple(cases)


def _tags(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not _are_texts(texts):
        raise ValueError(f"tags == {value!r}, must be a text or a list of texts")
    return tuple(texts)


def _expected(value: Any) -> Any:
    try:
        return (value,) if isinstance(value, str) else frozen_json(value)
    except ValueError as error:
        raise ValueError(f"expected: {error}") from None


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)


def _grades(value: Any) -> Any:
    grades = dict.fromkeys(value, 1) if _are_texts(value) else value
    if not isinstance(grades, Mapping):
        raise ValueError(f"relevant == {value!r}, must map document ids to grades")
    for doc_id, grade in grades.items():
        if isinstance(grade, bool) or not isinstance(grade, (int, float)) or not 0 <= grade < float("inf"):
            raise ValueError(f"relevant[{doc_id!r}] == {grade!r}, must be a number >= 0")
    return frozen_json(grades)


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"weight == {value!r}, must be a number > 0")
    return float(value)


def _inputs(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise ValueError(f"inputs == {value!r}, must be a mapping of placeholder names to values")
    return frozen_json(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
