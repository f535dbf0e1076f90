"""The notebooks keep the house rules: one question each, a parameters cell, short cells, no stored outputs."""

import itertools
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FORBIDDEN = re.compile(r"^\s*(class |try:|except|!\s*pip|%pip|import sys|sys\.path)", re.MULTILINE)
OWN_IMPORT = re.compile(r"^import llmlab as ll$|^from llmlab import ([a-z, ]+)$")
MOST_CELLS = 34  # 01 shows the whole loop; the others have fewer than 30
PARAMETER = re.compile(r"^[a-z_]+: (int|float|bool|str|list|dict)( \| None)? = .+  # .+$")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    """The cells of one notebook."""
    return json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def code_of(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def tags(cell):
    return cell["metadata"].get("tags", [])


def test_there_are_notebooks():
    """The folder is not empty."""
    assert NOTEBOOKS


def test_it_is_stored_without_outputs(cells):
    """Outputs belong to a run, not to the source."""
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_of(cells))


def test_it_asks_one_question_in_its_heading(cells):
    """The first line is an H1 that ends in a question mark, and there is no other H1."""
    headings = [
        line
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
        if line.startswith("# ")
    ]
    assert len(headings) == 1
    assert headings[0].endswith("?")
    assert "".join(cells[0]["source"]).startswith("# ")


def test_it_has_one_parameters_cell_with_typed_and_explained_lines(cells):
    """`name: str = value  # help`, one per line, plain types; the last one says what sets the exit code."""
    found = [cell for cell in code_of(cells) if "parameters" in tags(cell)]
    assert len(found) == 1
    lines = "".join(found[0]["source"]).splitlines()
    assert all(PARAMETER.match(line) for line in lines), [line for line in lines if not PARAMETER.match(line)]
    assert any(line.startswith("require: str = ") for line in lines)


def test_code_cells_are_short_and_call_only(cells):
    """At most 12 lines (16 parameters), no classes, no try, at most one function, a sentence before each."""
    assert 12 <= len(cells) <= MOST_CELLS
    sources = ["".join(cell["source"]) for cell in code_of(cells)]
    longest = [16 if "parameters" in tags(cell) else 12 for cell in code_of(cells)]
    assert all(len(source.splitlines()) <= most for source, most in zip(sources, longest, strict=True))
    assert not [source for source in sources if FORBIDDEN.search(source)]
    assert sum(len(re.findall(r"^\s*def ", source, re.MULTILINE)) for source in sources) <= 1
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown", f"no sentence before: {''.join(cell['source'])[:60]}"


def test_it_imports_llmlab_and_its_rooms_alone(cells):
    """What a notebook needs, a user can name: `ll.X` or a room."""
    lines = [
        line
        for cell in code_of(cells)
        for line in "".join(cell["source"]).splitlines()
        if "import llmlab" in line or "from llmlab" in line
    ]
    assert lines
    for line in lines:
        match = OWN_IMPORT.match(line)
        assert match, line
        assert set((match[1] or "").replace(" ", "").split(",")) <= {"", "plots", "registry", "simulate", "tracking"}
