"""Every notebook, opened in JupyterLab and run from top to bottom there, widget cells included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jupyterlab import JupyterLab, open_notebook, run_all, screenshot, unwanted

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
# what asks a real model for long, which other tests have; 03 keeps it here
ASKS_FOR_LONG = (
    r"local: str = \"experiments/orders\"",
    r"reader: str = \"more/reader.yaml\"",
    r"second_model: str = \"local/smollm2-135m-instruct\"  # a model that chooses",
)
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_in_jupyterlab(path: Path, jupyterlab: JupyterLab, page: Any) -> None:
    """Opened from the file browser's tree as a person opens it; no cell ends in an error, every widget is drawn."""
    copied = jupyterlab.root / "notebooks" / path.name
    text = copied.read_text(encoding="utf-8")
    for asks in ASKS_FOR_LONG:
        name, _, said = asks.partition(" = ")
        text = text.replace(asks, rf"{name} = \"\"{said.rpartition(chr(34))[2]}")
    copied.write_text(text, encoding="utf-8")
    sources = json.loads(text)["cells"]
    open_notebook(page, f"notebooks/{path.name}")
    cells = run_all(page)
    screenshot(page, f"notebook-{path.stem}")
    assert len(cells) == sum(cell["cell_type"] == "code" for cell in sources)
    assert not [(cell["source"], found) for cell in cells if (found := unwanted(cell["text"]))]
    assert page.alerts == []
