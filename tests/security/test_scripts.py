"""Nothing executable: script payloads wherever a text can stand, in every value, in real browsers.

What is shown is built in `everything`, from the type hints of each class that shows itself.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import mistune
import pytest

from llmlab.display.html import html_diff, html_table
from llmlab.display.markdown import markdown, markdown_block, markdown_code, markdown_table
from tests.jupyterlab import open_notebook, run_all, screenshot
from tests.payloads import FOREIGN, SCRIPTS, assert_harmless, tags_of
from tests.security.everything import everything
from tests.security.watching import assert_quiet, assert_readable, poke, watched

ROOT = Path(__file__).parents[2]
GROUPS = 6
TEXTS = tuple(" ".join(SCRIPTS[i::GROUPS]) for i in range(GROUPS))
OUTPUTS = ".jp-OutputArea-output"

MADE = """
import sys
sys.path.insert(0, {root!r})
from tests.security.test_scripts import Payloads, chosen
from tests.payloads import SCRIPTS
shown = list(chosen().values())
len(shown)
"""
SHOWN = [f"display(*shown[{start}:{start} + 40])" for start in range(0, 160, 40)]  # JupyterLab hides what is beyond 50
PRINTED = "print(*SCRIPTS, sep='\\n'); print(*SCRIPTS, sep='\\n', file=sys.stderr)"
PLOTTED = """
from llmlab import plots
from tests.security.everything import answers_with
picture = plots.quality_against(answers_with(SCRIPTS[8]), against="right")
picture.alt = '" onload="window.__pwned=1' + " ".join(SCRIPTS)
picture
"""
TABLES = "display(Payloads(0), Payloads(45))"
FAILED = "from llmlab.base.errors import DataError\nraise DataError(' '.join(SCRIPTS))"


def chosen() -> dict[str, Any]:
    """Every value once, hostile texts in turns: each value has a sixth of them."""
    made = [everything(text) for text in TEXTS]
    return {name: made[i % GROUPS][name] for i, name in enumerate(made[0])}


class Payloads:
    """Forty-five payloads as a table: as column, cell, list and long text; with its captions and a comparison."""

    def __init__(self, first: int) -> None:
        self.texts = SCRIPTS[first : first + 45]

    def _repr_html_(self) -> str:
        rows = [{"payload": t, "list": (t, t), "long": t * 9} for t in self.texts]
        wide = [dict.fromkeys(self.texts, 1.0)]
        compared = "".join(html_diff(t, t + " more", before_name=t, after_name=t) for t in self.texts)
        return html_table(rows, caption="\n".join(self.texts)) + html_table(wide) + compared


CELLS = (MADE.format(root=str(ROOT)), *SHOWN, TABLES, PRINTED, PLOTTED, FAILED)


@pytest.mark.parametrize("text", TEXTS[:3])
def test_every_value_shows_hostile_texts_as_texts(text: str) -> None:
    """No tag but those of `display`, no attribute but style and class, whatever class it is."""
    for name, value in everything(text).items():
        assert_harmless(value._repr_html_())
        shown = f"{value!r}{value}"
        assert "\x1b" not in shown, name
        assert "\u202e" not in shown, name


@pytest.mark.parametrize("text", SCRIPTS)
def test_markdown_is_text_for_a_renderer_that_lets_html_through(text: str) -> None:
    """mistune, with everything allowed, makes paragraphs, tables and code of it, and nothing else."""
    render = mistune.create_markdown(escape=False, plugins=["table", "url", "strikethrough", "math"])
    every = [markdown(text, None), markdown_table([{text: text}]), markdown_code(text), markdown_block(text)]
    tags = tags_of(str(render("\n\n".join(every))))
    assert {tag for tag, _ in tags} <= {"p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "a"}
    assert all(v.startswith("http") for _, attributes in tags for name, v in attributes.items() if name != "class")


@pytest.mark.browser
def test_the_payloads_do_run_where_nothing_escapes_them(chromium: Any) -> None:
    """Otherwise the tests below would prove nothing."""
    frames = "".join(f'<iframe srcdoc="{html.escape(text)}"></iframe>' for text in SCRIPTS if "top." not in text)
    chromium.set_content(frames + "".join(text for text in SCRIPTS if "top." in text))
    chromium.wait_for_timeout(1500)
    ran = sum(bool(frame.evaluate("window.__pwned || 0")) for frame in chromium.frames)
    assert ran >= 30
    assert len({url for url in chromium.foreign if FOREIGN in url}) >= 3


@pytest.mark.browser
def test_no_value_is_live_on_a_page(chromium: Any, tmp_path: Path) -> None:
    shown = [value._repr_html_() for value in chosen().values()]
    page = tmp_path / "page.html"
    body = "\n".join([*shown, Payloads(0)._repr_html_(), Payloads(45)._repr_html_()])
    page.write_text(f"<!doctype html><meta charset=utf-8><title>x</title><body>{body}", encoding="utf-8")
    chromium.goto(page.as_uri())
    poke(chromium)
    assert_quiet(chromium)
    assert_readable(chromium, SCRIPTS)


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_no_value_is_live_in_jupyterlab(jupyterlab: Any, page: Any) -> None:
    """Outputs of cells that were run here are trusted: JupyterLab sanitises nothing, and typesets formulas."""
    watched(page)
    path = jupyterlab.write("hostile.ipynb", *CELLS)
    open_notebook(page, path)
    with pytest.raises(AssertionError, match="DataError"):
        run_all(page)
    page.wait_for_timeout(1000)  # formulas are typeset a little later
    poke(page, f"{OUTPUTS} *")
    screenshot(page, "hostile_jupyterlab")
    assert not page.alerts
    assert_quiet(page, OUTPUTS)
    assert_readable(page, SCRIPTS, OUTPUTS)


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_no_value_is_live_in_the_html_report(project: Path, chromium: Any) -> None:
    """The copy that `llmlab run` keeps of an executed notebook, opened as a file."""
    from llmlab.notebook import run_notebook
    from tests.notebook.notebooks import code, write

    cells = [code(source) for source in CELLS]
    path = write(project / "hostile.ipynb", *cells)
    run = run_notebook(path)
    assert run.verdict == "BROKEN"
    assert "DataError" in run.message
    chromium.goto(run.html.as_uri())
    poke(chromium, OUTPUTS)
    assert_quiet(chromium, OUTPUTS)
    assert_readable(chromium, SCRIPTS, OUTPUTS)
