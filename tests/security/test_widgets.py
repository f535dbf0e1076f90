"""Live widgets in JupyterLab, every text of theirs hostile: shown as text, whatever is pressed."""

from __future__ import annotations

from typing import Any

import pytest

from llmlab.widgets.labeller import READ_S
from tests.jupyterlab import ROOT, open_notebook, run_all, screenshot
from tests.payloads import SCRIPTS
from tests.security.watching import assert_quiet, assert_readable, poke, watched

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

OUTPUTS = ".jp-OutputArea-output"
MADE = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
import llmlab as ll
import pandas as pd
from llmlab import widgets
from tests.payloads import SCRIPTS

class Echo:
    fingerprint = "echo"
    async def complete(self, request):
        return ll.Generation(text=str(request.messages[-1]["content"]) * 2)

@ll.scorer(low=0, high=1)
def right(case, generation):
    return ll.Score(value=float(generation.variant == "v1"), explanation=case.id)

cases = [ll.Case(id=p, inputs={{"question": p}}, expected=(p,), relevant={{p: 1}}, tags=(p,)) for p in SCRIPTS]
golden = ll.GoldenSet(tuple(cases), name=SCRIPTS[0])
rows = [{{"variant": v, "case_id": p, "text": p}} for v in ("v1", SCRIPTS[8]) for p in SCRIPTS]
results = ll.Results.from_frame(pd.DataFrame(rows), golden=golden, scorers=[right])
bundle = ll.Bundle.from_prompt("{{{{ question }}}}", model="offline/extractive-1", name="v")"""


def _opened(jupyterlab: Any, page: Any, name: str, cell: str) -> Any:
    watched(page)
    open_notebook(page, jupyterlab.write(f"hostile_{name}.ipynb", MADE, cell))
    run_all(page)
    return page


def _assert_harmless(page: Any) -> None:
    assert not page.alerts
    assert_quiet(page, OUTPUTS)


def test_the_explorer_shows_every_hostile_case_as_text(jupyterlab: Any, page: Any) -> None:
    """Ids, questions, answers, tags, explanations and a variant's name, one case after the other."""
    _opened(jupyterlab, page, "explorer", "widgets.Explorer(results)")
    page.get_by_text(f"{len(SCRIPTS)} of {len(SCRIPTS)} cases match").first.wait_for()
    number = page.get_by_label("Case", exact=True)
    for place in range(1, len(SCRIPTS) + 1):
        number.fill(str(place))
        page.keyboard.press("Enter")
        page.wait_for_timeout(30)
        assert not page.alerts, f"case {place}"
    assert_readable(page, SCRIPTS[-1:], OUTPUTS)
    _assert_harmless(page)
    page.get_by_label("Variant").select_option(index=2)
    page.get_by_label("Tag").select_option(index=8)
    page.get_by_text(f"1 of {len(SCRIPTS)} cases match").first.wait_for()
    screenshot(page, "hostile_explorer")
    poke(page, f"{OUTPUTS} *")
    _assert_harmless(page)


def test_the_labeller_shows_every_hostile_answer_as_text(jupyterlab: Any, page: Any) -> None:
    """Each answer is graded by key, so each is shown; then the agreement that lists them."""
    cell = f"widgets.Labeller(results, None, 'correctness', 'hostile_labels.jsonl', labeller={SCRIPTS[0]!r})"
    _opened(jupyterlab, page, "labeller", cell)
    keys = page.get_by_label("Keys", exact=True)
    keys.wait_for()
    for done in range(1, 31):
        page.wait_for_timeout(1000 * READ_S)
        keys.press("1")
        page.get_by_text(f"{done} of ").first.wait_for()
        assert not page.alerts, f"answer {done}"
    screenshot(page, "hostile_labeller")
    _assert_harmless(page)


def test_the_playground_shows_hostile_answers_as_text(jupyterlab: Any, page: Any) -> None:
    """A client that says back what it was asked: the diff of every answer, the tries, a hostile prompt and an error."""
    cell = f"widgets.Playground(bundle, golden, Echo(), scorers=[right], size={len(SCRIPTS)})"
    _opened(jupyterlab, page, "playground", cell)
    page.get_by_label("System").fill(SCRIPTS[8])
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text(f"{len(SCRIPTS)} same of {len(SCRIPTS)} cases").first.wait_for()
    page.wait_for_timeout(500)
    screenshot(page, "hostile_playground")
    assert_readable(page, SCRIPTS, OUTPUTS)
    _assert_harmless(page)
    page.get_by_label("Template").fill("{{ " + SCRIPTS[8])  # a template that cannot be read: the error is in place
    page.get_by_text("unexpected", exact=False).first.wait_for()
    poke(page, f"{OUTPUTS} *")
    _assert_harmless(page)
