"""The Playground in JupyterLab, by mouse and keyboard: type, run, read, go back, stop, save; faults appear in place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmlab import Bundle
from tests.jupyterlab import ROOT, JupyterLab, cell_outputs, open_notebook, run_all, screenshot, unwanted
from tests.widgets.test_explorer_browser import said

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SETUP = """import llmlab as ll
bundle = ll.Bundle.load("experiments/pandas_help/bundles/v1.yaml")
golden = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl")"""
FORM = """playground = ll.widgets.Playground(
    bundle, golden, name="v1", folder="{folder}", store="{folder}/calls.sqlite",
    scorers=[ll.scorers.mentions_expected, ll.scorers.cites_source],
)
playground"""
SLOW = """import asyncio
class Slow:
    fingerprint = "slow"
    asked = 0
    async def complete(self, request):
        Slow.asked += 1
        if Slow.asked > 4:
            await asyncio.sleep(3600)
        return ll.Generation(text="An answer.")
playground = ll.widgets.Playground(bundle, golden, Slow(), name="v1", store="{folder}/slow.sqlite")
playground"""
DEAD = """def dead(request):
    raise TransportError("the line was cut <img src=x onerror=alert(1)>".replace("was cut", "is dead"))
from llmlab.base.errors import TransportError
playground = ll.widgets.Playground(
    bundle, golden, ll.FakeClient(dead), name="v1", folder="{folder}", store="{folder}/dead.sqlite"
)
playground"""


@pytest.fixture
def folder(jupyterlab: JupyterLab) -> Path:
    """A folder of bundles of the test's own."""
    made = jupyterlab.root / "mine"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(ROOT / "experiments" / "pandas_help" / "bundles", made)
    return made


def opened(page: Any, *cells: str, theme: str = "JupyterLab Light") -> None:
    """A notebook with the Playground in its last cell, run."""
    path = page.lab.write("playground.ipynb", SETUP, *(cell.replace("{folder}", "mine") for cell in cells))
    open_notebook(page, path, theme=theme)
    run_all(page)
    button(page, "Run").wait_for()


def button(page: Any, name: str) -> Any:
    return page.locator(".jp-OutputArea").get_by_role("button", name=name, exact=name != "Save")


def box(page: Any, label: str) -> Any:
    return page.get_by_label(label, exact=True)


def typed(page: Any, label: str, text: str) -> None:
    """The field's text replaced with the keyboard."""
    box(page, label).click()
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_a_prompt_is_typed_run_read_taken_back_and_saved(page: Any, folder: Path) -> None:
    """The whole way, as the README shows it."""
    opened(page, FORM)
    said(page, "Every case fills the prompt.")
    typed(page, "Template", "{{ questoin }}")
    said(page, "did you mean {{ question }}?")
    button(page, "Run").click()
    said(page, "the form has an error, see above")
    typed(page, "Template", "{{ question }}\n\n{{ passages }}")
    said(page, "Every case fills the prompt.")

    typed(page, "System", "Answer questions about pandas from the passages, in four sentences.")
    typed(page, "Passages k", "5")
    page.keyboard.press("Tab")
    button(page, "Run").click()
    said(page, "try 1 against v1:")
    page.locator("ins").first.wait_for()
    assert "mentions_expected" in cell_outputs(page)[-1]

    button(page, "Undo").click()
    page.wait_for_function("() => document.querySelectorAll('.jp-OutputArea ins').length === 0")
    assert box(page, "System").input_value().endswith("in two sentences.")
    assert box(page, "Passages k").input_value() == "3"
    button(page, "Redo").click()
    page.locator("ins").first.wait_for()
    assert box(page, "System").input_value().endswith("in four sentences.")

    typed(page, "System", "Answer questions about pandas from the passages, in four sentences. Cite the sources.")
    button(page, "Run").click()
    said(page, "try 2 against v1:")
    said(page, "2 candidates tried on this golden set")
    button(page, "Save").click()
    said(page, "v4.yaml, version 4.0.0, compared with v1:")
    screenshot(page, "playground-saving")
    before = {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
    button(page, "Write it").click()
    said(page, "v4.yaml written to")
    saved = Bundle.load(folder / "v4.yaml")
    assert saved.prompt.system.endswith("Cite the sources.")
    assert saved.retrieval is not None
    assert saved.retrieval.k == 5
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not unwanted(cell_outputs(page)[-1])
    button(page, "Cancel").wait_for(state="hidden")
    page.set_viewport_size({"width": 1120, "height": 1230})
    page.mouse.move(5, 5)
    screenshot(page, "playground")


def test_a_long_run_stops_at_once_and_the_kernel_answers_meanwhile(page: Any, folder: Path) -> None:
    """While calls hang, typing is checked and another cell runs; what arrived before the stop is kept and shown."""
    opened(page, SLOW, "'the kernel ' + 'is free'")
    button(page, "Run").click()
    said(page, "8 of 16 calls")  # four answers, each to the baseline and to a try that is the same bundle
    assert button(page, "Run").is_disabled()
    typed(page, "Template", "{{ nothing }}")
    said(page, "which is not among the inputs")
    page.locator(".jp-CodeCell").last.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget.content.activeCell.model.executionCount > 3")
    assert cell_outputs(page)[-1].endswith("'the kernel is free'")
    button(page, "Stop").click()
    said(page, "Every answer that arrived is kept")
    assert button(page, "Stop").is_disabled()
    assert not button(page, "Run").is_disabled()
    said(page, "no answer arrived before the run was stopped")
    screenshot(page, "playground-stopped")


def test_what_goes_wrong_is_said_in_place(page: Any, folder: Path) -> None:
    """A dead line, a field that holds no number, a model without a provider, nothing to save: no traceback anywhere."""
    opened(page, DEAD, theme="JupyterLab Dark")
    button(page, "Run").click()
    said(page, "16 of 16 calls gave no answer")
    said(page, "the line is dead")
    screenshot(page, "playground-dead")
    wrong = [
        ("Temperature", "hot", "temperature == 'hot', must be a number"),
        ("Temperature", "-1", "sampling.temperature: must be >= 0"),
        ("Model", "gpt", "names no provider"),
    ]
    refused = page.get_by_text("the form has an error, see above")
    for label, text, why in wrong:  # each Run has been answered, and its answer taken away, before the next
        typed(page, label, text)
        button(page, "Run").click()
        said(page, why)
        refused.wait_for()
        button(page, "Undo").click()
        refused.wait_for(state="hidden")
    page.wait_for_function("() => document.querySelector('.widget-text input').value === 'offline/extractive-1'")
    button(page, "Save").click()
    said(page, "nothing changed: the form is v1 as it was")
    button(page, "Write it").wait_for(state="hidden")
    shown = page.inner_text("body")
    assert "Traceback" not in shown
    assert page.alerts == []


OWN = """import json, pathlib, subprocess, sys
rows = ["text,answer", '"Order 7: 2 nails","{""id"": 7, ""n"": 2}"', '"Order 8: 3 nuts","{""id"": 8, ""n"": 3}"']
pathlib.Path("orders.csv").write_text("\\n".join(rows))
subprocess.run([sys.executable, "-m", "llmlab.cli", "new", "own", "--csv", "orders.csv", "--expected-is", "json",
    "--model", "vllm/tiny", "--base-url", "http://localhost:9/v1"], check=True, capture_output=True)
import llmlab as ll
exp = ll.Experiment.load("experiments/own")"""
OWN_FORM = """def answer(request):
    asked = json.dumps(request.messages)
    n = 2 if "nails" in asked else 3
    return json.dumps({"id": 7 if n == 2 else 8, "n": n if "JSON object" in asked else 0})
playground = ll.widgets.Playground(exp, client=ll.FakeClient(answer), store="orders.sqlite")
playground"""


def test_an_experiment_of_ones_own_with_json_is_tried_by_keyboard(page: Any) -> None:
    """`llmlab new` over two orders: another metric, a limit, a response format, Enter, a name of one's own."""
    path = page.lab.write("own.ipynb", OWN, OWN_FORM)
    open_notebook(page, path)
    run_all(page)
    button(page, "Run").wait_for()
    said(page, "Every case fills the prompt.")
    typed(page, "System", "Answer with a JSON object.")
    page.get_by_text("Examples and response format, in YAML").click()
    typed(page, "Response", "type: json_object")
    typed(page, "Model", "tiny")
    said(page, "names no provider")
    typed(page, "Model", "vllm/tiny")
    said(page, "Every case fills the prompt.")
    typed(page, "Max tokens", "60")
    page.keyboard.press("Enter")
    said(page, "try 1 against")
    said(page, "on the cases of try 1")
    page.set_viewport_size({"width": 1120, "height": 1400})
    screenshot(page, "playground-own")
    button(page, "Save").click()
    typed(page, "File", "as-json")
    screenshot(page, "playground-own-saving")
    button(page, "Write it").click()
    said(page, "as-json.yaml written to")
    assert not unwanted(cell_outputs(page)[-1])
    assert page.alerts == []


def test_ctrl_enter_in_a_field_runs_and_asks_nothing_twice(page: Any, folder: Path) -> None:
    """The field keeps its text, and JupyterLab does not run its cell for it."""
    opened(page, FORM)
    typed(page, "System", "Answer in one sentence.")
    page.keyboard.press("Control+Enter")
    said(page, "try 1")
    assert box(page, "System").input_value() == "Answer in one sentence."
    assert "error" not in " ".join(cell_outputs(page)).lower()
