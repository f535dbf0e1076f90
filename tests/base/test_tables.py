"""CSV in which no cell is a formula, and which reads back as it was."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import FileRuleError
from llmlab.base.tables import csv_cell, read_back, read_table, write_csv
from llmlab.golden.cases import Case, GoldenSet
from llmlab.judge import calibrate_scores
from llmlab.results import Results, read_scores
from tests.payloads import FORMULAS
from tests.security.everything import answers_with

STARTS = tuple("=+-@\t\r\n＝＋－＠")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet would run it: begins with one of the characters and is no plain number."""
    try:
        float(cell)
    except ValueError:
        return cell.startswith(STARTS)
    return False


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_or_column_is_a_formula_and_both_read_back(text: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({text: [text, "plain"], "n": [-1.5, None]})
    path = write_csv(frame, tmp_path / "a.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        cells = list(csv.reader(lines))
    assert not any(is_formula(cell) for row in cells for cell in row)
    assert cells[1][1] == "-1.5"
    assert cells[2][1] == ""
    again = read_back(pd.read_csv(path, dtype=str, keep_default_na=False))
    assert list(again.columns) == [text, "n"]
    assert again[text].tolist() == [text, "plain"]


@given(st.text(alphabet="'=+-@\t\r\n＝a1.e"))
def test_every_text_comes_back(text: str) -> None:
    assert read_back(pd.DataFrame({"x": [csv_cell(text)]}))["x"][0] == text
    assert not is_formula(csv_cell(text))


@pytest.mark.parametrize("value", [-1, -0.5, 1e-9, True, None, "-0.5", "+3", "-1e-3", ".5"])
def test_numbers_stay_numbers(value: object) -> None:
    assert csv_cell(value) == value


@pytest.mark.parametrize("text", FORMULAS)
def test_answers_questions_and_ids_are_exported_without_formulas(text: str, tmp_path: Path) -> None:
    """The results' own table, a summary, a comparison and a golden set, which reads back."""
    results = answers_with(text)
    golden = GoldenSet((Case(id=text, inputs={"question": text}, expected=(text,)),))
    shown = [results, results.summary(), results.compare(text), results.flips(text, f"{text}3"), golden]
    for i, value in enumerate(shown):
        path = value.to_csv(tmp_path / f"{i}.csv")
        with path.open(newline="", encoding="utf-8") as lines:
            assert not any(is_formula(cell) for row in csv.reader(lines) for cell in row)
    again = GoldenSet.from_csv(tmp_path / "4.csv", inputs=["question"], id="id")
    if "\r" not in text:  # pandas' reader takes it for a line end
        assert again.cases[0].id == text
        assert again.cases[0].inputs["question"] == text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path, separator: str, end: str) -> None:
    """Cells may hold line ends, and empty lines stand between rows."""
    lines = ["", "name;text", "a;1", "", 'b;"two', "", 'lines"', "  ", "c;3", ""]
    path = tmp_path / "table.csv"
    path.write_bytes(end.join(lines).replace(";", separator).encode())
    table = read_table(path)
    assert table.cells["name"].tolist() == ["a", "b", "c"]
    assert [table.line_of(row) for row in range(4)] == [3, 5, 9, None]
    error = table.refused(2, "is wrong")
    assert (error.path, error.line, error.rule) == (path, 9, "row 3: is wrong")


def test_a_table_is_read_by_its_ending_and_names_columns_that_are_missing_or_there_twice(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, 2], "t": ["x", None]})
    frame.to_parquet(tmp_path / "t.pq")
    table = read_table(tmp_path / "t.pq")
    assert (table.cells["n"].tolist(), table.line_of(0)) == ([1, 2], None)
    (tmp_path / "t.tsv").write_text("n\tt\tt\n1\tx\ty\n", encoding="utf-8")
    twice = read_table(tmp_path / "t.tsv")
    assert twice.with_columns(["n"]).cells.to_dict("list") == {"n": ["1"]}
    for name, rule in (("t", "2 columns called 't'"), ("m", "no column 'm'")):
        with pytest.raises(FileRuleError, match=rule):
            twice.with_columns([name])


DIALECT = "id;text;score\na;\"it's; '=fine'\";0,5\nb;Größe;1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_dialects_are_read_alike_everywhere(encoding: str, separator: str, tmp_path: Path) -> None:
    """Golden sets, compared scores and calibrated verdicts: one reader, text as it is, a comma as the decimal sign."""
    marks = {"utf-16-le-bom": codecs.BOM_UTF16_LE, "utf-16-be-bom": codecs.BOM_UTF16_BE}
    raw = DIALECT.replace(";", separator).replace(f"s{separator} ", "s; ").encode(encoding.removesuffix("-bom"))
    path = tmp_path / "table.csv"
    path.write_bytes(marks.get(encoding, b"") + raw)
    golden = GoldenSet.from_csv(path, inputs=["text"], id="id", weight="score")
    assert [(case.id, case.inputs["text"], case.weight) for case in golden] == [
        ("a", "it's; '=fine'", 0.5),
        ("b", "Größe", 1.0),
    ]
    assert read_scores(path, id="id", baseline="score", unit="s").table.values.ravel().tolist() == [0.5, 1.0]
    assert read_table(path).with_numbers().cells["score"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (DIALECT.encode("cp1252"), "Windows-1252"),
        (DIALECT.encode("utf-16")[2:], "UTF-16"),
        (b"PK\x03\x04rest", "Excel"),
        (b"\xd0\xcf\x11\xe0rest", "Excel"),
        (codecs.BOM_UTF16_LE + b"a", "torn"),
    ],
    ids=["cp1252", "utf-16 without its mark", "xlsx", "xls", "torn utf-16"],
)
def test_other_dialects_are_refused_alike_with_what_to_write_instead(raw: bytes, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(raw)
    readers = [
        lambda: GoldenSet.from_csv(path, inputs=["text"]),
        lambda: read_scores(path, id="id", baseline="score"),
        lambda: read_table(path),
    ]
    for read in readers:
        with pytest.raises(FileRuleError) as refused:
            read()
        assert rule in refused.value.rule
        assert rule == "torn" or "CSV UTF-8" in refused.value.rule


def test_a_decimal_comma_is_none_where_commas_separate_or_points_stand_in_the_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ('id,score\na,"0,5"\nb,1\n', "id;score\na;0,5\nb;1.5\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FileRuleError, match=r"0\.5, not 0,5") as refused:
            read_scores(path, id="id", baseline="score")
        assert refused.value.line == 2


def test_ids_are_texts_and_whole_numbers_among_floats_are_those_numbers(tmp_path: Path) -> None:
    """Blanks around an id do not count, and 7.0 of a column of floats is "7"; "07" and a "7.0" in CSV are others."""
    (tmp_path / "t.csv").write_text("id,q\n 7 ,a\n07,b\n7.0,c\n", encoding="utf-8")
    golden = GoldenSet.from_csv(tmp_path / "t.csv", inputs=["q"], id="id")
    assert list(golden.by_id) == [" 7 ", "07", "7.0"]
    frame = pd.DataFrame({"id": [7.0, 8.0], "q": ["a", "b"], "variant": "v", "text": ["x", None]})
    assert list(GoldenSet.from_frame(frame, inputs=["q"], id="id").by_id) == ["7", "8"]
    answers = Results.from_frame(frame[:1], golden=golden, case_id="id")
    assert [case for (case,) in answers.answers("case_id")] == [" 7 "]


def test_labels_are_compared_as_words() -> None:
    table = pd.DataFrame({"human": ["Good", "bad ", "GOOD", "bad"], "judge": ["good", "Bad", " good", "good"]})
    found = calibrate_scores(table, resamples=50).only
    assert list(found.matrix.labels) == ["bad", "good"]


def test_columns_of_numbers_are_numbers_when_asked_and_a_gap_in_them_is_nan(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,tie\n,2\n", encoding="utf-8")
    table = read_table(tmp_path / "t.csv")
    assert table.cells["a"].tolist() == ["1", ""]
    numbers = table.with_numbers().cells
    assert numbers["a"].isna().tolist() == [False, True]
    assert (numbers["a"][0], numbers["b"].tolist()) == (1.0, ["tie", "2"])


def test_bytes_in_parquet_are_read_as_utf_8_and_others_are_refused_with_their_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"q": ["Größe?".encode(), None], "png": [b"ab", b"\x89PNG"], "n": [1, 2]}, dtype=object)
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.with_columns(["q", "n"]).cells["q"].tolist()[:1] == ["Größe?"]
    assert table.cells["q"].isna().tolist() == [False, True]
    with pytest.raises(FileRuleError) as refused:
        table.with_columns(["q", "png"])
    assert all(what in refused.value.rule for what in ("row 2", "'png'"))
    with pytest.raises(FileRuleError, match="row 2"):
        GoldenSet.from_table(tmp_path / "t.parquet", inputs=["png"])


def test_bytes_within_lists_objects_and_categories_of_parquet_are_read_alike(tmp_path: Path) -> None:
    columns = {
        "facts": pa.array([[b"a", "Größe".encode()], [b"b"]]),
        "deep": pa.array([{"k": [b"v"]}, {"k": [b"\x89PNG"]}]),
        "label": pa.array([b"x", b"y"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    golden = GoldenSet.from_table(tmp_path / "t.parquet", inputs=["label"], expected="facts")
    assert [(case.inputs["label"], case.expected) for case in golden] == [("x", ("a", "Größe")), ("y", ("b",))]
    with pytest.raises(FileRuleError, match="row 2: column 'deep' holds bytes"):
        GoldenSet.from_table(tmp_path / "t.parquet", inputs=["label"], expected="deep")


def test_bytes_in_a_frame_are_read_alike() -> None:
    frame = pd.DataFrame({"q": [b"a", b"\x89PNG"]}, dtype=object)
    assert GoldenSet.from_frame(frame[:1], inputs=["q"]).cases[0].asked == "a"
    with pytest.raises(ValueError, match="row 2: column 'q' holds bytes"):
        GoldenSet.from_frame(frame, inputs=["q"])


@pytest.mark.parametrize("ending", [".jsonl", ".JSONL", ".ndjson", ".NDJSON"])
def test_lines_of_json_are_read_whatever_the_case_of_their_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    path.write_text('{"id": 1, "q": "Why?"}\n{"id": 2, "q": "How?"}\n', encoding="utf-8")
    assert read_table(path).cells["q"].tolist() == ["Why?", "How?"]


def test_an_array_of_json_is_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"id": 1, "q": "Why?"}]', encoding="utf-8")
    with pytest.raises(FileRuleError, match="jsonl"):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("separator", "end"), [(";", "\r\n"), ("|", "\n"), ("\t", "\r\n"), (",", "\n")])
def test_a_first_line_of_excel_names_the_separator(tmp_path: Path, separator: str, end: str, encoding: str) -> None:
    """It is no header, and it counts as a line."""
    path = tmp_path / "t.csv"
    path.write_bytes(end.join([f"sep={separator}", "id;q", "a;x", "b;y", ""]).replace(";", separator).encode(encoding))
    table = read_table(path)
    assert table.cells.to_dict("list") == {"id": ["a", "b"], "q": ["x", "y"]}
    assert [table.line_of(row) for row in range(2)] == [3, 4]
