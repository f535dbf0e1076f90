"""The Playground without a browser: what it shows where no widget lives, and that it only hands things on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmlab import Bundle, Case, FakeClient, GoldenSet, load_bundles
from llmlab.widgets import Playground

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>"
BASE = Bundle.from_prompt("{{ question }}", model="offline/extractive-1", system="Be long.", name="qa", version="1.0.0")
GOLDEN = GoldenSet(
    tuple(Case(id=f"q{i}", inputs={"question": f"Fact {i}?"}, expected=("short",), tags=("t",)) for i in range(5))
)


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    """One whose answers repeat the system text."""
    BASE.save(tmp_path / "v1.yaml")
    client = FakeClient(lambda request: f"{request.messages[0]['content']} {HOSTILE}")
    return Playground(BASE, GOLDEN, client, name="v1", folder=tmp_path, size=3, store=tmp_path / "calls.sqlite")


def tried(playground: Playground, system: str) -> None:
    playground.system.value = system
    playground.run.click()
    playground.wait()


def test_where_no_widget_lives_the_same_content_is_html(playground: Playground) -> None:
    """Settings, check, tries and the last side by side; the widget goes along for whoever can draw it."""
    tried(playground, "Be short.")
    bundle = playground._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    page = bundle["text/html"]
    for part in ("Be short.", "Every case fills the prompt.", "try", "<ins", "offline/extractive-1"):
        assert part in page
    assert "<img" not in page
    assert "<img" not in playground.status.value


def test_there_is_nothing_to_undo_or_to_save_before_anything_changed(playground: Playground) -> None:
    """Typing makes both possible."""
    assert playground.undo.disabled
    playground.save.click()
    assert "nothing changed" in playground.status.value
    assert playground.saving.layout.display == "none"
    playground.system.value = "other"
    assert not playground.undo.disabled
    playground.undo.click()
    assert playground.undo.disabled


def test_an_undo_first_takes_back_what_was_not_run(playground: Playground) -> None:
    """Then the tries, one by one; the history goes to any of them."""
    tried(playground, "Be short.")
    tried(playground, "Be shorter.")
    playground.system.value = "half a thou"
    playground.undo.click()
    assert playground.system.value == "Be shorter."
    playground.undo.click()
    assert playground.system.value == "Be short."
    playground.history.value = 0
    assert playground.system.value == "Be long."
    playground.redo.click()
    assert playground.tries.at == 1
    assert len(playground.tries.done) == 2


def test_samples_are_random_by_tag_or_the_failing_ones(playground: Playground) -> None:
    """Which cases fail is known after a try, or from results that one gives."""
    playground.how.value = "failing cases"
    playground.run.click()
    assert "not known yet" in playground.status.value
    playground.how.value = "cases with a tag"
    tried(playground, "Be short.")
    assert len(playground.tries.done[0].results.golden or ()) == 3
    playground.how.value = "failing cases"
    playground.run.click()
    assert "no case that was asked fails" in playground.status.value
    playground.undo.click()
    assert playground.tries.at == 0


def test_what_is_saved_loads_and_carries_what_was_tried(playground: Playground, tmp_path: Path) -> None:
    """The second try, chosen among two."""
    tried(playground, "Be short.")
    tried(playground, "Be shorter.")
    playground.save.click()
    assert "v2.yaml, version 2.0.0" in playground.to_save.value
    playground.confirm.click()
    saved = load_bundles(tmp_path)["v2"]
    assert playground.saved == tmp_path / "v2.yaml"
    assert saved.prompt.system == "Be shorter."
    assert saved.metadata["notes"] == "From v1 in the Playground (try 2 of 2). Changed: prompt.system."
    assert len(saved.metadata["tried"][GOLDEN.digest]) == 2


def test_the_second_click_of_two_writes_and_says_nothing(playground: Playground) -> None:
    """As found: the file was written, and the form said in red that it was there already."""
    tried(playground, "Be short.")
    playground.save.click()
    for _ in range(2):
        playground.confirm.click()
        assert "v2.yaml written to" in playground.status.value


def test_what_was_wrong_with_the_form_is_gone_once_the_form_is_another(playground: Playground) -> None:
    """As found: "Every case fills the prompt." stood above "the form has an error, see above"."""
    playground.temperature.value = "warm"
    playground.run.click()
    assert "see above" in playground.status.value
    playground.temperature.value = "0.5"
    assert playground.status.value == ""
    tried(playground, "Be short.")
    said = playground.status.value
    playground.temperature.value = "0.6"
    assert "try 1 against" in said
    assert playground.status.value == said


def test_without_a_folder_nothing_can_be_saved() -> None:
    """And a bundle without retrieval has no k."""
    playground = Playground(BASE, GOLDEN, FakeClient("x"))
    assert playground.save.disabled
    assert "Passages" not in str(playground.form)


def test_naming_the_widgets_loads_nothing() -> None:
    """ipywidgets comes with the first widget."""
    code = "import sys, llmlab.widgets; assert 'ipywidgets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.usefixtures("help_desk")
def test_a_job_skips_the_widget_cells() -> None:
    """Papermill leaves cells with the tag alone, and nothing after them needs them."""
    from llmlab.notebook import run_notebook

    done = run_notebook(ROOT / "notebooks" / "01_compare_variants.ipynb", {"first": "20", "repeats": "1"})
    assert done.exit_code == 0
    cells = json.loads(Path(done.executed).read_text(encoding="utf-8"))["cells"]
    widgets = [cell for cell in cells if "skip-execution" in cell["metadata"].get("tags", [])]
    assert widgets
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in widgets)


def test_every_setting_of_a_bundle_that_has_a_field_is_read_from_it(playground: Playground) -> None:
    """What is not touched stays; an empty field sends nothing."""
    playground.max_tokens.value, playground.reasoning_effort.value = "200", "low"
    playground.examples.value = "- inputs: {question: 'One?'}\n  output: 'two'"
    playground.response_format.value = "type: json_object"
    bundle = playground.bundle
    assert (bundle.sampling.max_tokens, bundle.sampling.reasoning_effort) == (200, "low")
    assert bundle.prompt.examples[0].output == "two"
    assert bundle.sampling.response_format == {"type": "json_object"}
    again = Playground(bundle, GOLDEN, FakeClient("x"))
    assert again.bundle == bundle
    again.examples.value = again.response_format.value = again.max_tokens.value = ""
    assert again.bundle.behaviour == BASE.with_(reasoning_effort="low").behaviour
    assert again.more.selected_index == 0
    bound = Playground(BASE.with_(max_completion_tokens=50), GOLDEN, FakeClient("x"))
    bound.max_tokens.value = "60"
    assert (bound.bundle.sampling.max_completion_tokens, bound.bundle.sampling.max_tokens) == (60, None)


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("model", "gpt", "names no provider"),
        ("template", "{{ question", "is not valid Jinja2"),
        ("template", "", "must not be empty"),
        ("template", "{{ question | nosuch }}", "nosuch"),
        ("template", "{{ 10 ** 9999 ** 9 }}", "line 1 of the template"),
        ("temperature", "-1", "sampling.temperature: must be &gt;= 0"),
        ("max_tokens", "many", "must be a number"),
        ("max_tokens", "0", "must be &gt;= 1"),
        ("examples", "- [", "examples"),
        ("response_format", "json", "response_format"),
    ],
)
def test_a_form_with_an_error_is_not_ready_and_says_it_once(
    playground: Playground, field: str, text: str, why: str
) -> None:
    assert "ready" in playground.checked.value
    getattr(playground, field).value = text
    assert "ready" not in playground.checked.value
    assert why in playground.checked.value
    playground.run.click()
    assert why not in playground.status.value
    assert "see above" in playground.status.value
    assert not playground.tries.done


def test_the_metric_that_decides_is_chosen_and_the_baseline_has_its_row(tmp_path: Path) -> None:
    from llmlab import scorers

    client = FakeClient(lambda request: request.messages[0]["content"])
    wanted = [scorers.mentions_expected, scorers.not_empty]
    playground = Playground(BASE, GOLDEN, client, name="v1", scorers=wanted, size=5, store=tmp_path / "calls.sqlite")
    tried(playground, "Be short.")
    base, row = playground.tries._rows()
    assert (base["try"], base["mentions_expected"].value, row["better, worse"]) == ("v1", 0, "5, 0")
    playground.metric.value = "not_empty"
    assert playground.tries._rows()[1]["better, worse"] == "0, 0"
    tried(playground, "Be short!")
    assert next(iter(playground.tries.done[1].results.metrics)) == "not_empty"


def test_one_error_of_all_calls_is_told_once(tmp_path: Path) -> None:
    from llmlab.base.errors import TransportError

    def dead(_: object) -> str:
        raise TransportError("the line is dead")

    playground = Playground(BASE, GOLDEN, FakeClient(dead), name="v1", store=tmp_path / "calls.sqlite")
    tried(playground, "Be short.")
    assert f"{playground.status.value}{playground.tries._repr_html_()}".count("the line is dead") == 1


def test_a_bundle_is_saved_under_a_name_of_ones_own_and_over_nothing(playground: Playground, tmp_path: Path) -> None:
    tried(playground, "Be short.")
    playground.save.click()
    assert playground.file.value == "v2"
    for name, why in (("v1", "is there already"), ("../x", "must be of letters")):
        playground.file.value = name
        playground.confirm.click()
        assert why in playground.status.value
        playground.save.click()
    playground.file.value = "short-answers"
    playground.confirm.click()
    assert load_bundles(tmp_path)["short-answers"].prompt.system == "Be short."


def test_enter_in_a_field_of_one_line_runs_the_try(playground: Playground) -> None:
    playground.system.value = "Be short."
    playground.temperature._handle_custom_msg({"event": "submit"}, [])
    playground.wait()
    assert len(playground.tries.done) == 1
