"""Small notebooks for tests, and those of the project."""

from pathlib import Path

import nbformat
import nbformat.v4 as v4

from llmlab.clients.call_store import CallStore
from llmlab.notebook import run_notebook

ROOT = Path(__file__).parents[2]


def code(source, *tags):
    """A code cell with these tags."""
    return v4.new_code_cell(source, metadata={"tags": list(tags)})


def text(source):
    """A Markdown cell."""
    return v4.new_markdown_cell(source)


def write(path, *cells):
    """The cells as a notebook file."""
    nbformat.write(v4.new_notebook(cells=list(cells)), path)
    return path


def ran(stem, **parameters):
    """What came of one of the project's notebooks, with these parameters; no sentence in it stands within quotes."""
    done = run_notebook(ROOT / "notebooks" / f"{stem}.ipynb", parameters)
    cells = nbformat.read(done.executed, as_version=4).cells
    shown = [output.get("data", {}).get("text/plain", "") for cell in cells for output in cell.get("outputs", ())]
    assert not [text for text in shown if text[:1] in {"'", '"'}]
    return done


def n_stored(project):
    """How many answers the project has paid for."""
    with CallStore(project / "mlruns" / "calls.sqlite") as store:
        return len(store)
