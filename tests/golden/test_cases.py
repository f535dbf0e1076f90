"""Golden sets: what is refused, with which line; and that content decides the digest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llmlab.base.errors import FileRuleError
from llmlab.bundle.prompt import frozen_json
from llmlab.golden.cases import Case, GoldenSet

GOOD = '{"id": "q1", "inputs": {"question": "one?"}}'


def written(folder: Path, content: str | bytes, name: str = "golden.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def case(id: str = "q1", **fields: object) -> Case:
    return Case(**{"id": id, "inputs": {"question": f"{id}?"}, **fields})  # type: ignore[arg-type]  # the tests' fields


REFUSED = [
    (f"{GOOD}\n{GOOD}", None, "duplicate id 'q1' on line 1 and line 2"),
    (f'{GOOD}\n\n{{"id": " q1 ", "inputs": {{"question": "x"}}}}', None, "duplicate id ' q1 ' on line 1 and line 3"),
    (
        '{"id": "caf\\u00e9", "inputs": {"a": "x"}}\n{"id": "cafe\\u0301", "inputs": {"a": "x"}}',
        None,
        "on line 1 and line 2",
    ),
    (f'{GOOD}\n{{"id": "q2", "inp', 2, "is not a whole JSON object"),
    (f"{GOOD}\n[1, 2]", 2, "must be a JSON object"),
    (f"{GOOD}\nnull", 2, "must be a JSON object"),
    (b'{"id": "q1", "inputs": {"a": "x"}}\n{"id": "\xff"}', 2, "is not UTF-8"),
    ("", None, "has no cases"),
    ("\n  \n", None, "has no cases"),
    ('{"id": "q1", "inputs": {"a": NaN}}', 1, "NaN is not a JSON number"),
    ('{"id": "q1", "inputs": {"a": 1e999}}', 1, "not a JSON value"),
    ('{"id": "q1", "id": "q2", "inputs": {"a": 1}}', 1, "duplicate key 'id'"),
    ('{"id": "q1", "inputs": {"a": 1, "a": 2}}', 1, "duplicate key 'a'"),
    ('{"id": "q1", "inputs": {"a": 1}, "expect": "x"}', 1, "unknown key 'expect'"),
    ('{"id": 1, "inputs": {"a": 1}}', 1, "id == 1, must be a non-empty text"),
    ('{"id": " ", "inputs": {"a": 1}}', 1, "must be a non-empty text"),
    ('{"inputs": {"a": 1}}', 1, "id == None"),
    (r'{"id": "a\ud83d", "inputs": {"a": 1}}', 1, "half of a surrogate pair"),
    ('{"id": "q1"}', 1, "inputs == None"),
    ('{"id": "q1", "inputs": {}}', 1, "must be a mapping"),
    ('{"id": "q1", "inputs": "question"}', 1, "must be a mapping"),
    ('{"id": "q1", "inputs": {"a": 1}, "expected": {"a": 1e999}}', 1, "expected: inf is not"),
    ('{"id": "q1", "inputs": {"a": 1}, "tags": 5}', 1, "tags == 5"),
    ('{"id": "q1", "inputs": {"a": 1}, "tags": [1]}', 1, "tags == [1]"),
    ('{"id": "q1", "inputs": {"a": 1}, "relevant": {"d": -1}}', 1, "relevant['d'] == -1"),
    ('{"id": "q1", "inputs": {"a": 1}, "relevant": {"d": true}}', 1, "relevant['d'] == True"),
    ('{"id": "q1", "inputs": {"a": 1}, "weight": 0}', 1, "weight == 0"),
    ('{"id": "q1", "inputs": {"a": 1}, "cluster": 3}', 1, "cluster == 3"),
    ('{"id": "q1", "inputs": {"a": ' + "[" * 100_000, 1, ""),
]


REFUSED_CSV = [
    ("", None, "is empty: its first line must name the columns"),
    ("question\n", None, "has no cases"),
    ("question,x\na,1\n,1", 3, "row 2: column 'question' is empty"),
    ("frage\nx", None, "no column 'question' in the table (it has: frage)"),
    ("question,id\na,1\nb,2\nc,1", None, "duplicate id '1' on case 1 and case 3"),
    ("question,id\na,1\nb,", 3, "row 2: column 'id' is empty"),
    ('question\na\n"b', None, "is not a whole CSV file"),
    ("question,id\na,1\nb,2,3", 3, "more cells than the header"),
    ("question,id\na,1,2\nb,2,3", 2, "more cells than the header"),
    (b"question,id\na,1\n\xff,2", 3, "is not UTF-8"),
    ("question,expected\n?,1\n??,{a\n", 3, "is not JSON"),
]


@pytest.mark.parametrize(
    ("name", "content", "line", "rule"),
    [*(("golden.jsonl", *row) for row in REFUSED), *(("golden.csv", *row) for row in REFUSED_CSV)],
)
def test_a_broken_set_is_refused_with_file_line_and_rule(
    tmp_path: Path, name: str, content: str | bytes, line: int | None, rule: str
) -> None:
    path = written(tmp_path, content, name)
    columns: dict[str, Any] = {column: column for column in ("id", "expected") if column in str(content)}
    from_csv = partial(GoldenSet.from_csv, inputs=["question"], expected_is="json", **columns)
    with pytest.raises(FileRuleError) as raised:
        (from_csv if name == "golden.csv" else GoldenSet.load)(path)
    assert (raised.value.path, raised.value.line) == (path, line)
    assert rule in raised.value.rule


def test_a_missing_file_is_refused_by_every_reader(tmp_path: Path) -> None:
    for read in (
        lambda: GoldenSet.load(tmp_path / "no.jsonl"),
        lambda: GoldenSet.from_csv(tmp_path / "no.csv", inputs=["a"]),
        lambda: GoldenSet.from_parquet(tmp_path / "no.parquet", inputs=["a"]),
    ):
        with pytest.raises(FileRuleError, match="cannot be read"):
            read()


def test_an_empty_or_doubled_set_is_refused_in_code_too() -> None:
    with pytest.raises(ValueError, match="has no cases"):
        GoldenSet(())
    with pytest.raises(FileRuleError, match="on case 1 and case 3"):
        GoldenSet((case("q1"), case("q2"), case("q1\n")))


def test_blank_lines_crlf_and_a_byte_order_mark_are_no_content(tmp_path: Path) -> None:
    plain = GoldenSet.load(written(tmp_path, f"{GOOD}\n"))
    odd = GoldenSet.load(written(tmp_path, b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n"))
    assert plain.digest == odd.digest


def test_the_digest_follows_content_and_not_order_key_order_or_defaults() -> None:
    first = GoldenSet((case("q1", tags=("a",)), case("q2")))
    assert GoldenSet((case("q2"), case("q1", tags=["a"], weight=1.0)), name="other").digest == first.digest
    rows = [json.loads(json.dumps(c.to_row(), sort_keys=True)) for c in first]
    assert GoldenSet(tuple(Case.from_row(row) for row in rows)).digest == first.digest


def test_every_field_of_a_case_changes_the_digest() -> None:
    changes: list[dict[str, Any]] = [{"id": "q9"}, {"cluster": "c"}, {"weight": 2.0}, {"source": "s"}]
    changes += [{"inputs": {"question": "other?"}}, {"inputs": {"question": "q1?", "more": 1}}]
    changes += [{"expected": ("x",)}, {"relevant": {"d": 2}}, {"tags": ("a",)}]
    digests = {GoldenSet((case(**{"id": "q1", **change}),)).digest for change in [{}, *changes]}
    assert len(digests) == len(changes) + 1


def test_a_case_cannot_be_changed_behind_its_digest() -> None:
    inputs = {"question": "one?", "docs": ["a"]}
    made = Case(id="q1", inputs=inputs, relevant={"d": 1})
    golden = GoldenSet([made])  # type: ignore[arg-type]  # a list is taken and kept as a tuple
    before = golden.digest
    inputs["question"] = "changed"
    for mapping in (made.inputs, made.relevant):
        with pytest.raises(TypeError, match="frozen"):
            mapping["question"] = "changed"  # type: ignore[index]  # that is the test
    assert golden.cases == (made,)
    assert GoldenSet((made,)).digest == before


def test_one_expected_text_is_one_fact_and_not_its_letters() -> None:
    assert case(expected="dropna").expected == ("dropna",)
    assert case(relevant=["a", "b"]).relevant == {"a": 1, "b": 1}


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)
JSON = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ROWS = st.fixed_dictionaries(
    {"inputs": st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9) | st.booleans(), min_size=1, max_size=2)},
    optional={
        "expected": st.lists(TEXTS, max_size=2) | JSON,
        "tags": st.lists(TEXTS, max_size=2),
        "relevant": st.dictionaries(TEXTS, st.integers(0, 3), max_size=2),
        "cluster": TEXTS,
        "weight": st.floats(0.1, 10),
        "source": TEXTS,
    },
)


@settings(max_examples=50)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_saving_and_loading_gives_the_same_set(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    golden = GoldenSet(tuple(Case.from_row({"id": f"q{i}", **row}) for i, row in enumerate(rows)), name="g")
    path = golden.save(tmp_path_factory.mktemp("g") / "g.jsonl")
    again = GoldenSet.load(path)
    assert again.cases == golden.cases
    assert again.digest == golden.digest
    assert GoldenSet.from_hf(golden.to_hf()).digest == golden.digest


@pytest.mark.parametrize(
    ("expected_is", "cell", "expected"),
    [
        ("facts", "a; b|c", ("a", "b|c")),
        ("text", "a; b|c ", ("a; b|c",)),
        ("json", '{"a": "x; y"}', {"a": "x; y"}),
        ("json", "0", 0),
    ],
)
def test_a_cell_of_what_is_expected_is_facts_a_text_or_json(expected_is: Any, cell: str, expected: Any) -> None:
    frame = pd.DataFrame({"question": ["?"], "expected": [cell]})
    golden = GoldenSet.from_frame(frame, inputs=["question"], expected="expected", expected_is=expected_is)
    assert golden.cases[0].expected == expected


@pytest.mark.parametrize(
    ("expected", "facts", "reference"),
    [
        (("a", "b|c"), ("a", "b|c"), "- a\n- b or c"),
        ({"n": "ü"}, (), '- {"n": "ü"}'),
        (5, ("5",), "- 5"),
        (False, ("false",), "- false"),
        ((), (), ""),
        ((1, "a"), (), '- [1, "a"]'),
    ],
)
def test_what_is_expected_is_shown_to_people_and_judges(expected: Any, facts: tuple[str, ...], reference: str) -> None:
    assert (case(expected=expected).facts, case(expected=expected).reference) == (facts, reference)


def test_half_of_a_surrogate_pair_and_nul_survive_saving(tmp_path: Path) -> None:
    golden = GoldenSet((Case(id="q1", inputs={"question": "a\ud800b\0"}),))
    assert GoldenSet.load(golden.save(tmp_path / "g.jsonl")).digest == golden.digest


def test_csv_columns_become_cases_and_semicolons_separate_lists(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffquestion,answer,tag,group,w,docs,key\r\n"
        '"one, or ""two""?",a|A;b,x ; y,c1,2.5,d1;d2,k1\r\nthree?,,,,,,007\r\n',
        "questions.csv",
    )
    golden = GoldenSet.from_csv(
        path, inputs=["question"], expected="answer", tags="tag", cluster="group", weight="w", relevant="docs", id="key"
    )
    about: dict[str, Any] = {"expected": ("a|A", "b"), "tags": ("x", "y"), "cluster": "c1", "weight": 2.5}
    first = Case(id="k1", inputs={"question": 'one, or "two"?'}, relevant={"d1": 1, "d2": 1}, **about)
    assert golden.cases == (first, Case(id="007", inputs={"question": "three?"}))
    assert (golden.name, GoldenSet.from_csv(path, inputs=["question"], name="mine").name) == ("questions", "mine")
    assert [c.id for c in GoldenSet.from_csv(path, inputs=["question"])] == ["q1", "q2"]


def test_frames_keep_types_and_refuse_gaps() -> None:
    frame = pd.DataFrame({"question": ["a", "b"], "n": [1, 2], "when": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    golden = GoldenSet.from_frame(frame, inputs=["question", "n", "when"], id="n")
    assert [c.id for c in golden] == ["1", "2"]
    assert golden.cases[0].inputs == {"question": "a", "n": 1, "when": "2024-01-01 00:00:00"}
    for gap in (None, float("nan"), pd.NA, pd.NaT, "  "):
        with pytest.raises(ValueError, match="row 2: column 'question' is empty"):
            GoldenSet.from_frame(pd.DataFrame({"question": ["a", gap]}, dtype=object), inputs=["question"])
    with pytest.raises(ValueError, match=r"weight == -1\.0"):
        GoldenSet.from_frame(pd.DataFrame({"q": ["a"], "w": [-1.0]}), inputs=["q"], weight="w")


def test_parquet_keeps_lists_grades_and_nested_inputs(tmp_path: Path) -> None:
    docs, facts = [np.array(["x", "y"]), np.array(["z"])], [["one", "two"], ["three"]]
    columns = {"question": ["a", "b"], "docs": docs, "facts": facts, "grades": [{"d1": 2.0}, {"d2": 1.0}]}
    path = tmp_path / "golden.parquet"
    pd.DataFrame(columns).to_parquet(path)
    golden = GoldenSet.from_parquet(path, inputs=["question", "docs"], expected="facts", relevant="grades")
    assert golden.cases[0] == Case(
        id="q1", inputs={"question": "a", "docs": ["x", "y"]}, expected=("one", "two"), relevant={"d1": 2.0}
    )
    assert golden.cases[1].relevant == {"d2": 1.0}
    with pytest.raises(FileRuleError, match="not a Parquet file"):
        GoldenSet.from_parquet(written(tmp_path, "text", "text.parquet"), inputs=["question"])


def test_the_newer_part_of_a_proposed_set_is_what_it_adds_or_has_otherwise() -> None:
    golden = GoldenSet((case("q1"), case("q2")))
    proposed = GoldenSet((case("q1"), replace(case("q2"), expected=("another",)), case("q3")))
    assert [newer.id for newer in golden.newer(proposed) or ()] == ["q2", "q3"]
    assert golden.newer(golden) is None


@pytest.mark.parametrize("first", [-1, 0, 2.5, "abc", True])
def test_the_first_so_many_are_a_whole_number_from_one(first: Any) -> None:
    """As found: -1 dropped the last case in silence."""
    golden = GoldenSet((case("q1"), case("q2")))
    with pytest.raises(ValueError, match="first =="):
        golden.only(first=first)
    assert len(golden.only(first=5)) == 2


def test_a_smaller_or_grown_set_names_its_parent() -> None:
    golden = GoldenSet((case("q1", tags=("a",)), case("q2", tags=("b",)), case("q3", tags=("a",))))
    assert [c.id for c in golden.only(tag="a")] == ["q1", "q3"]
    assert [c.id for c in golden.only(ids=["q3", "q2"], first=1)] == ["q2"]
    assert golden.only(tag="a").parent == golden.grown([case("q4")]).parent == golden.digest
    assert golden.tags == ("a", "b")
    assert golden.by_id["q2"].id == "q2"
    with pytest.raises(ValueError, match="no case 'nope'"):
        golden.only(ids=["nope"])
    with pytest.raises(ValueError, match="has no cases"):
        golden.only(tag="none")
    with pytest.raises(FileRuleError, match="duplicate id"):
        golden.grown([case("q1")])


def test_a_hugging_face_dataset_is_read_as_a_person_reads_it() -> None:
    """Classes by name, nested lists and mappings, numbers that stay whole beside missing ones, days as text."""
    features = datasets.Features(
        {
            "q": datasets.Value("string"),
            "turns": [{"who": datasets.ClassLabel(names=["user", "bot"]), "words": [datasets.Value("string")]}],
            "n": datasets.Value("int64"),
            "day": datasets.Value("date32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {
        "q": ["a", "b"],
        "turns": [[{"who": 0, "words": ["x", "y"]}], []],
        "n": [3, 4],
        "day": [date(2026, 1, 2), date(2026, 1, 3)],
        "label": [1, 0],
    }
    dataset = datasets.Dataset.from_dict(rows, features=features)
    golden = GoldenSet.from_hf(dataset, inputs=["q", "turns", "n", "day"], expected="label")
    assert golden.cases[0].inputs == frozen_json(
        {"q": "a", "turns": [{"who": "user", "words": ["x", "y"]}], "n": 3, "day": "2026-01-02"}
    )
    assert [c.expected for c in golden] == [("yes",), ("no",)]
    answers = datasets.Dataset.from_dict({"q": ["a", "b"], "answers": [["x"], ["y", "z"]]})
    assert [c.expected for c in GoldenSet.from_hf(answers, inputs=["q"], expected="answers")] == [("x",), ("y", "z")]
    with pytest.raises(ValueError, match="the splits train, test; give one"):
        GoldenSet.from_hf(datasets.DatasetDict(train=dataset, test=dataset), inputs=["q"])
    with pytest.raises(ValueError, match="no column 'answer'"):
        GoldenSet.from_hf(dataset, inputs=["q"], expected="answer")


def test_a_picture_of_a_hugging_face_dataset_is_a_part_of_the_prompt() -> None:
    picture = Image.new("RGB", (2, 2))
    dataset = datasets.Dataset.from_dict(
        {"picture": [picture]}, features=datasets.Features({"picture": datasets.Image()})
    )
    (case,) = GoldenSet.from_hf(dataset, inputs=["picture"])
    assert case.inputs["picture"]["image_url"]["url"].startswith("data:image/png;base64,")


def test_nested_columns_of_parquet_are_plain_values_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "cases.parquet"
    pd.DataFrame({"q": [[{"a": [1, 2]}]], "e": [{"b": [[True]]}]}).to_parquet(path)
    golden = GoldenSet.from_parquet(path, inputs=["q"], expected="e", expected_is="json")
    assert golden.cases[0] == Case(id="q1", inputs={"q": [{"a": [1, 2]}]}, expected={"b": [[True]]})


def test_a_column_called_id_names_the_cases_unless_it_is_an_input() -> None:
    frame = pd.DataFrame({"id": ["a7", "b9"], "question": ["x?", "y?"]})
    assert list(GoldenSet.from_frame(frame, inputs=["question"]).by_id) == ["a7", "b9"]
    assert list(GoldenSet.from_frame(frame, inputs=["id"]).by_id) == ["q1", "q2"]
    with pytest.raises(FileRuleError, match="a7"):
        GoldenSet.from_frame(pd.concat([frame, frame]), inputs=["question"])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "hf"])
def test_a_column_called_id_names_the_cases_of_files_and_datasets_too(ending: str, tmp_path: Path) -> None:
    """As found: only frames kept it; the cases of a file with ids were called q1, q2."""
    frame, path = pd.DataFrame({"id": ["a7", "b8"], "q": ["x", "y"], "other": [1, 2]}), tmp_path / f"t.{ending}"
    if ending == "hf":
        golden = GoldenSet.from_hf(datasets.Dataset.from_pandas(frame), inputs=["q"])
    else:
        write = {"csv": "to_csv", "jsonl": "to_json", "parquet": "to_parquet"}[ending]
        getattr(frame, write)(path, **({"orient": "records", "lines": True} if ending == "jsonl" else {"index": False}))
        golden = GoldenSet.from_table(path, inputs=["q"])
    assert list(golden.by_id) == ["a7", "b8"]


@pytest.mark.parametrize("inputs", ["question", (), []])
def test_inputs_that_are_one_text_or_none_are_refused_by_their_rule(inputs: Any) -> None:
    """As found: "no column 'q' in the table", and "has no cases" of a data set with a hundred."""
    frame = pd.DataFrame({"question": ["a"]})
    for read in (
        lambda: GoldenSet.from_frame(frame, inputs=inputs),
        lambda: GoldenSet.from_hf(datasets.Dataset.from_pandas(frame), inputs=inputs),
    ):
        with pytest.raises(ValueError, match="must be a list of columns"):
            read()


def test_the_format_of_a_hugging_face_dataset_does_not_change_its_cases() -> None:
    """As found: the cells of one with pandas' format became lists of one."""
    dataset = datasets.Dataset.from_dict({"q": ["a", "b"], "n": [1, 2]})
    plain = GoldenSet.from_hf(dataset, inputs=["q", "n"])
    for form in ("pandas", "numpy", "arrow"):
        assert GoldenSet.from_hf(dataset.with_format(form), inputs=["q", "n"]).digest == plain.digest
