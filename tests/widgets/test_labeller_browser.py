"""The Labeller in JupyterLab: labels given with keys and clicks, the file read after each, two people compared."""

import json

import pytest

from llmlab.golden.labels import text_digest
from llmlab.widgets.labeller import READ_S
from tests.jupyterlab import open_notebook, run_all, screenshot
from tests.widgets.test_explorer_browser import RUN, said

pytestmark = [pytest.mark.browser, pytest.mark.slow]

READ_MS = 1000 * READ_S
LABEL = """from llmlab import widgets
chosen = ll.judge.to_label(results, 3, metric="correctness", against="mentions_expected")
labeller = widgets.Labeller(results, chosen, "correctness", "labels/{path}", labeller="{who}", kind="{kind}")
labeller"""
HOSTILE = """import pandas as pd
import llmlab as ll
from llmlab import widgets
payload = "<img src=x onerror=alert(1)><script>alert(2)</script>"
case = ll.Case(id=payload, inputs={"question": payload}, expected=(payload,))
rows = pd.DataFrame({"variant": ["v1", "v2"], "case_id": payload, "text": [payload, f"other {payload}"]})
hostile = ll.Results.from_frame(rows, golden=ll.GoldenSet((case,)))
labeller = widgets.Labeller(hostile, None, "correctness", "labels/hostile.jsonl", labeller=payload, kind="pairwise")
labeller"""


def cell(path, who, kind="pointwise"):
    return LABEL.replace("{path}", path).replace("{who}", who).replace("{kind}", kind)


def lines(jupyterlab, name):
    """What is in the file of labels now."""
    path = jupyterlab.root / "labels" / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def press(page, key):
    """A key in the field that takes them, once the answer may have been read; the field is empty again afterwards."""
    page.wait_for_timeout(READ_MS)
    page.keyboard.press(key)
    page.wait_for_function("document.activeElement.value === ''")


def test_labels_are_given_with_keys_saved_at_each_resumed_and_compared(jupyterlab, page):
    """Five keys, an undo, a kernel that dies, the rest by mouse; then a second person, and how far they agree."""
    page.set_viewport_size({"width": 1000, "height": 900})
    open_notebook(page, jupyterlab.write("two.ipynb", RUN, cell("mine.jsonl", "anna"), cell("mine.jsonl", "ben")))
    run_all(page)
    said(page, "0 of 9 labelled by anna")
    page.get_by_label("Keys").first.focus()
    for i, key in enumerate("34512", start=1):
        press(page, key)
        said(page, f"{i} of 9 labelled by anna")
        assert [line["value"] for line in lines(jupyterlab, "mine.jsonl")] == [int(one) for one in "34512"[:i]]
    page.get_by_role("button", name="Undo").first.click()
    said(page, "4 of 9 labelled by anna")
    assert len(lines(jupyterlab, "mine.jsonl")) == 4
    shown = page.get_by_label("Keys").first.locator("xpath=ancestor::*[contains(@class,'widget-vbox')][1]").inner_text()
    assert not [word for word in ("v1", "v2", "v3", "Overlap", "mentions_expected") if word in shown]
    screenshot(page, "labeller")
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    run_all(page)
    said(page, "4 of 9 labelled by anna")
    page.get_by_label("Note").first.fill("the reference is missing")
    page.keyboard.press("Enter")
    said(page, "4 of 9 labelled by anna")
    for i in range(5, 10):
        page.wait_for_timeout(READ_MS)
        page.get_by_role("button", name="4", exact=True).first.dblclick()  # labels one
        said(page, f"{i} of 9 labelled by anna")
    found = lines(jupyterlab, "mine.jsonl")
    assert len(found) == 9
    assert [line.get("note", "") for line in found[4:6]] == ["the reference is missing", ""]
    assert all(line["labeller"] == "anna" and 0 < line["inclusion"] <= 1 and line["date"] for line in found)

    said(page, "0 of 9 labelled by ben")
    assert page.get_by_role("button", name="Agreement").last.is_disabled()
    page.get_by_label("Keys").last.focus()
    for i, key in enumerate("315124444", start=1):
        press(page, key)
        said(page, f"{i} of 9 labelled by ben")
    assert len(lines(jupyterlab, "mine.jsonl")) == 18
    page.get_by_role("button", name="Agreement").last.click()
    said(page, "anna, ben")
    said(page, "read them together and sharpen the rubric")
    screenshot(page, "labeller_agreement")
    assert page.alerts == []


def test_pairs_are_chosen_with_keys_in_the_dark_and_hostile_texts_do_not_run(jupyterlab, page):
    """Left, right and tie are 1, 2 and 0; the label names the answer, whichever side it was on."""
    page.set_viewport_size({"width": 760, "height": 900})
    open_notebook(page, jupyterlab.write("pairs.ipynb", HOSTILE), theme="JupyterLab Dark")
    run_all(page)
    said(page, "0 of 1 labelled")
    left = page.locator("td").nth(1).inner_text()
    screenshot(page, "labeller_dark")
    page.get_by_label("Keys").focus()
    press(page, "1")
    said(page, "All of these are labelled.")
    (line,) = lines(jupyterlab, "hostile.jsonl")
    assert line[f"answer_{line['value']}"] == text_digest(left)
    press(page, "u")
    said(page, "0 of 1 labelled")
    assert lines(jupyterlab, "hostile.jsonl") == []
    press(page, "0")
    said(page, "1 of 1 labelled")
    assert [one["value"] for one in lines(jupyterlab, "hostile.jsonl")] == ["tie"]
    assert page.locator("img[src=x]").count() == 0
    assert page.alerts == []
