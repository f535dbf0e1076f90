"""The pictures of the README and its pages, taken anew: `make pictures`. Chromium is needed.

The figures are those of notebook 01 as `make demo` and `make demo-local` run it; the others are what the browser tests
see on their way.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from llmlab.notebook import run_notebook

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / ".github" / "images"
FIGURES = {  # in the order in which notebook 01 draws them -> its parameters
    ("differences", "quality_against_tokens"): {},
    ("orders",): {"experiment": "experiments/orders", "first": "40"},
}
SEEN = {  # what a browser test keeps -> the picture
    "playground": "playground",
    "explorer": "explorer",
    "labeller": "labeller",
    "version": "registry_version",
}
TESTS = ("tests/widgets", "tests/registry/test_pages.py")


def take_figures() -> None:
    """From the executed notebook."""
    import nbformat

    for names, parameters in FIGURES.items():
        run = run_notebook(ROOT / "notebooks" / "01_compare_variants.ipynb", parameters)
        notebook = nbformat.read(run.executed, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        drawn = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        for name, picture in zip(names, drawn, strict=False):
            (IMAGES / f"{name}.png").write_bytes(base64.b64decode(picture))


def take_pages() -> None:
    """From the tests that drive JupyterLab and MLflow's pages."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:benchmark", "-m", "browser", *TESTS]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "LLMLAB_SCREENSHOTS": folder}, check=True)
        for seen, name in SEEN.items():
            (IMAGES / f"{name}.png").write_bytes((Path(folder) / f"{seen}.png").read_bytes())


if __name__ == "__main__":
    take_figures()
    take_pages()
    print(f"Taken: {', '.join(sorted(path.name for path in IMAGES.glob('*.png')))} in {IMAGES}. Look at each.")
