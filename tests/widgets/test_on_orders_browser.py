"""Playground and Explorer on a real small model: nobody knows what it will say, and each answer takes its time."""

from __future__ import annotations

from typing import Any

import pytest

from llmlab.local.setup import LocalModel
from tests.jupyterlab import cell_outputs, open_notebook, run_all, screenshot, unwanted
from tests.local.conftest import model as model  # the fixture
from tests.widgets.test_explorer_browser import said
from tests.widgets.test_playground_browser import button, typed

pytestmark = [pytest.mark.browser, pytest.mark.local, pytest.mark.nightly, pytest.mark.timeout(400)]
ORDERS = """import llmlab as ll
exp = ll.Experiment.load("experiments/orders", first=6)"""
FORM = """playground = ll.widgets.Playground(exp)
playground"""
EXPLORE = """results = exp.run({name: exp.bundles[name] for name in ("bare", "six")}, progress=False)
ll.widgets.Explorer(results)"""


def test_a_prompt_is_tried_on_a_real_model_stopped_in_mid_answer_and_run_again(page: Any, model: LocalModel) -> None:
    page.set_viewport_size({"width": 1120, "height": 1500})
    open_notebook(page, page.lab.write("tries.ipynb", ORDERS, FORM))
    run_all(page)
    said(page, "Every case fills the prompt.")
    system = "Read the order's number and date out of the message, as JSON with the fields order and date."
    typed(page, "System", system)
    button(page, "Run").click()
    button(page, "Stop").click()
    said(page, "stopped")
    button(page, "Run").click()
    said(page, "on the cases of try")
    screenshot(page, "playground-local")
    assert '"order"' in cell_outputs(page)[-1]
    assert not unwanted(cell_outputs(page)[-1])
    assert page.alerts == []


def test_the_answers_of_a_real_model_are_explored(page: Any, model: LocalModel) -> None:
    page.set_viewport_size({"width": 1120, "height": 1300})
    open_notebook(page, page.lab.write("answers.ipynb", ORDERS, EXPLORE))
    run_all(page)
    said(page, "6 of 6 cases match")
    said(page, '"order"')
    screenshot(page, "explorer-local")
    assert page.alerts == []
