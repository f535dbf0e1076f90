"""The Labeller without a browser: keys, buttons, what is on disk after each, and what a labeller never sees."""

import json

import ipywidgets
import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError
from llmlab.widgets import Labeller
from tests.judge.judged import answered
from tests.made_results import HOSTILE

ANSWERS = {"variant-one": ["a0", "a1", "a2"], "variant-two": ["b0", "b1", "b2"]}


@pytest.fixture(autouse=True)
def quick_reader(monkeypatch):
    """A test reads faster than people do."""
    monkeypatch.setattr("llmlab.widgets.labeller.READ_S", 0.0)


def labelling(path, *, labeller="anna", kind="pointwise", results=None):
    return Labeller(results or answered(ANSWERS), None, "correctness", path, labeller=labeller, kind=kind)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts(widget):
    """All that the form shows."""
    shown = [str(getattr(widget, name, "")) for name in ("value", "description", "placeholder", "tooltip")]
    return shown + [text for child in getattr(widget, "children", ()) for text in texts(child)]


def test_a_key_labels_saves_and_empties_its_field(tmp_path):
    """And the next answer is shown."""
    form = labelling(tmp_path / "x.jsonl")
    before = form.item.value
    form.keys.value = "4"
    assert form.keys.value == ""
    assert [line["value"] for line in lines(tmp_path / "x.jsonl")] == [4]
    assert "1 of 6 labelled by anna; order shuffled with seed 0." in form.progress.value
    assert form.item.value != before
    assert form.bar.value == 1


def test_two_keys_at_once_label_nothing(tmp_path):
    """The second was typed before its answer was on the screen."""
    form = labelling(tmp_path / "x.jsonl")
    form.keys.value = "45"
    assert "One key at a time" in form.status.value
    assert not (tmp_path / "x.jsonl").exists()
    form.keys.value = "x"
    assert "does nothing here" in form.status.value


def test_a_double_click_or_a_held_key_labels_one_answer(tmp_path, monkeypatch):
    """As found: the second click of two graded the next answer, which nobody had read; a held key graded them all."""
    monkeypatch.setattr("llmlab.widgets.labeller.READ_S", 3600.0)
    form = labelling(tmp_path / "x.jsonl")
    form.grades["4"].click()
    for _ in range(2):
        form.grades["4"].click()
        form.keys.value = "4"
        assert "Too quick" in form.status.value
    assert len(lines(tmp_path / "x.jsonl")) == 1
    form.undo.click()
    assert lines(tmp_path / "x.jsonl") == []


def test_buttons_do_what_keys_do(tmp_path):
    """Grade, back with its grade marked, undo, skip."""
    form = labelling(tmp_path / "x.jsonl")
    form.grades["2"].click()
    form.back.click()
    assert [key for key, one in form.grades.items() if one.button_style == "primary"] == ["2"]
    form.keys.value = "U"
    assert lines(tmp_path / "x.jsonl") == []
    shown = form.item.value
    form.skip.click()
    assert form.item.value != shown


def test_a_note_is_saved_with_its_grade_and_gone_with_it(tmp_path):
    """The next answer starts without one."""
    form = labelling(tmp_path / "x.jsonl")
    form.note.value = "half right"
    form.keys.value = "3"
    assert (form.note.value, lines(tmp_path / "x.jsonl")[0]["note"]) == ("", "half right")
    form.keys.value = "b"
    assert form.note.value == "half right"
    form.keys.value = "n"  # focuses the note, and labels nothing
    assert len(lines(tmp_path / "x.jsonl")) == 1


def test_it_is_blind(tmp_path):
    """No variant, no score, nothing of another labeller; agreement only once all is labelled."""
    results = answered(ANSWERS).scored_by([ll.scorers.mentions_expected])
    other = labelling(tmp_path / "x.jsonl", labeller="ben", results=results)
    other.note.value = "ben was here"
    other.keys.value = "5"
    form = labelling(tmp_path / "x.jsonl", results=results)
    shown = " ".join([*texts(form.form), form._repr_html_()])
    assert not [word for word in ("variant-one", "variant-two", "mentions_expected", "ben was") if word in shown]
    assert form.compare.disabled


def test_two_labellers_are_compared_when_both_are_done(tmp_path):
    """Kappa with its interval, and the cases they differ on."""
    for name, odd in (("anna", "5"), ("ben", "1")):
        form = labelling(tmp_path / "x.jsonl", labeller=name)
        while (item := form.session.current) is not None:
            form.keys.value = odd if item.answers == ("a1",) else str(2 + len(item.key[0]) + int(item.key[0][1:]) % 2)
    assert not form.compare.disabled
    form.compare.click()
    for part in ("anna, ben", "kappa", "a1", "1 label differ"):
        assert part in form.agreed.value
    assert form.agreement().pairs[0].same.value == pytest.approx(5 / 6)


def test_pairs_have_a_left_and_a_right(tmp_path):
    """1, 2 and 0 choose."""
    form = labelling(tmp_path / "x.jsonl", kind="pairwise")
    assert "left" in form.item.value
    assert list(form.grades) == ["1", "2", "0"]
    for key in "120":
        form.keys.value = key
    assert [line["value"] for line in lines(tmp_path / "x.jsonl")][2] == "tie"
    assert "All of these are labelled" in form.item.value


def test_what_cannot_be_saved_is_said_in_place(tmp_path):
    """A file of another rubric appears under the form; a full disk would be the same."""
    form = labelling(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("{]\n")
    form.keys.value = "4"
    assert "not saved" in form.status.value
    assert "0 of 6" in form.progress.value
    with pytest.raises(FileRuleError):
        labelling(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="nothing to label"):
        Labeller(answered(ANSWERS), [], "correctness", tmp_path / "y.jsonl", labeller="anna")


def test_its_static_form_shows_what_waits_and_the_rubric(tmp_path):
    """Where no widget lives."""
    form = labelling(tmp_path / "x.jsonl", results=answered({"v1": [HOSTILE]}))
    shown = form._repr_mimebundle_()
    assert isinstance(form.form, ipywidgets.VBox)
    assert "says what the reference says" in shown["text/html"]
    assert "<script" not in shown["text/html"] + form.item.value
    assert shown["text/plain"] == "Labeller(0 of 1 labelled)"
