"""The Explorer in JupyterLab: filtered with the mouse, stepped through with the keyboard, on the pandas help desk."""

import re

import pytest

from tests.jupyterlab import open_notebook, run_all, screenshot

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN = """import llmlab as ll
golden = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl").only(first=60)
bundles = ll.load_bundles("experiments/pandas_help/bundles")
scorers = [ll.scorers.mentions_expected, ll.scorers.not_refused]
results = ll.run(bundles, golden, scorers=scorers, progress=False)
judge = ll.judge.Judge.pointwise("correctness", model="offline/overlap-judge-1")
results = ll.judge.score(results, judge, progress=False)"""
EXPLORE = """from llmlab import widgets
explorer = widgets.Explorer(results, ll.retrieval.attribute(results))
explorer"""


def shows(page, place):
    """Wait until the case at this place of the list is the one that is shown."""
    option = page.locator(".widget-select option").nth(place - 1)
    said(page, re.compile(f"^{option.inner_text().split()[0]} · answer 1"))


def said(page, text):
    """Wait until the page says it."""
    page.get_by_text(text).first.wait_for()


def test_cases_are_filtered_with_the_mouse_and_stepped_through_with_the_keyboard(jupyterlab, page):
    """What matches is counted; arrow keys step; the judge's reason is there; only the table is wider than a window."""
    page.set_viewport_size({"width": 1000, "height": 1250})
    open_notebook(page, jupyterlab.write("explorer.ipynb", RUN, EXPLORE))
    run_all(page)
    said(page, "60 of 60 cases match")
    said(page, "How do I get rid of rows with gaps?")
    said(page, "Overlap with length: 0.12.")  # the judge's reason
    page.get_by_label("Flipped").select_option("either way")
    said(page, re.compile(r"^[1-9]\d? of 60 cases match"))
    page.get_by_label("Text", exact=True).fill("long to wide")
    said(page, "1 of 60 cases match")
    page.locator("ins").first.wait_for()
    screenshot(page, "explorer")
    page.get_by_label("Text", exact=True).fill("no such words anywhere")
    said(page, "No case matches")
    page.get_by_label("Text", exact=True).fill("")
    page.get_by_label("Flipped").select_option("any")
    said(page, "60 of 60 cases match")
    page.get_by_label("Outcome").select_option("retrieval failure")
    said(page, re.compile(r"^[1-5]\d of 60 cases match"))
    number = page.get_by_label("Case", exact=True)
    number.fill("1")
    shows(page, 1)
    for key, place in (("ArrowUp", 2), ("ArrowUp", 3), ("ArrowDown", 2)):
        page.keyboard.press(key)
        shows(page, place)
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    shows(page, 3)
    page.get_by_role("button", name="Previous").click()
    shows(page, 2)
    page.locator(".widget-select select").select_option(index=0)
    shows(page, 1)
    assert number.input_value() == "1"
    said(page, "not retrieved: ")
    assert page.alerts == []
    page.set_viewport_size({"width": 760, "height": 1100})
    form = page.locator(".jp-OutputArea-output .widget-vbox").first
    assert form.evaluate("box => box.scrollWidth <= box.clientWidth + 1")
