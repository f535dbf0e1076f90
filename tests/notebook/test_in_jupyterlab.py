"""Every notebook, opened in JupyterLab and run from top to bottom there, widget cells included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jupyterlab import JupyterLab, open_notebook, run_all, screenshot, unwanted

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
ASKS_FOR_MINUTES = r"local: str = \"experiments/orders\""  # notebook 02 on a real model, which test_on_orders has
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_in_jupyterlab(path: Path, jupyterlab: JupyterLab, page: Any) -> None:
    """Opened from the file browser's tree as a person opens it; no cell ends in an error, every widget is drawn."""
    copied = jupyterlab.root / "notebooks" / path.name
    text = copied.read_text(encoding="utf-8").replace(ASKS_FOR_MINUTES, 'local: str = \\"\\"')
    copied.write_text(text, encoding="utf-8")
    sources = json.loads(text)["cells"]
    open_notebook(page, f"notebooks/{path.name}")
    cells = run_all(page)
    screenshot(page, f"notebook-{path.stem}")
    assert len(cells) == sum(cell["cell_type"] == "code" for cell in sources)
    assert not [(cell["source"], found) for cell in cells if (found := unwanted(cell["text"]))]
    assert page.alerts == []
