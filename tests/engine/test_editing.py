"""A bundle while it is written: its prompt checked, its next version found and saved, what it was chosen among kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmlab import Bundle, Case, GoldenSet, load_bundles
from llmlab.base.errors import DataError
from llmlab.engine.editing import check_prompt, next_version, save_next
from llmlab.gate.looks import tried_before

BASE = Bundle.from_prompt("{{ question }}", model="offline/extractive-1", name="qa", version="1.0.0")
GOLDEN = GoldenSet(
    (Case(id="q1", inputs={"question": "Why?", "tone": "kind"}), Case(id="q2", inputs={"question": "How?"}))
)


def found(template: str) -> list[str]:
    check = check_prompt(BASE.with_(template=template), GOLDEN)
    return [*check.errors, *check.warnings]


def test_a_prompt_that_every_case_fills_is_ready() -> None:
    """Also where a placeholder is optional."""
    assert not found("{{ question }}")
    assert not found("{{ question }}{% if tone is defined %} Be {{ tone }}.{% endif %}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ questoin }}", "did you mean {{ question }}?"),
        ("{{ question }} {{ tone }}", "'tone'"),
        ("{{ question }} {{ passages }}", "passages need a `retrieval:`"),
    ],
)
def test_what_keeps_a_prompt_from_being_run_is_named(template: str, said: str) -> None:
    """In the words that `run` would refuse it with, and a suggestion."""
    check = check_prompt(BASE.with_(template=template), GOLDEN)
    assert not check
    assert said in check.errors[0]


def test_an_input_that_the_model_would_not_see_is_a_note_and_no_error() -> None:
    """Passages that are fetched and not shown are the usual mistake."""
    searching = BASE.with_(retrieval={"corpus": {"package": "pandas"}, "retriever": "bm25", "k": 3})
    check = check_prompt(searching, GOLDEN)
    assert check
    assert check.warnings == ("{{ passages }} is not in the prompt: the model will not see it.",)
    assert found("Say something.") == ["{{ question }} is not in the prompt: the model will not see it."]


def test_the_next_version_follows_the_files(tmp_path: Path) -> None:
    """v4.yaml after v3.yaml; versions that count as the files do go on so, others raise their middle number."""
    assert next_version(tmp_path / "none") == (tmp_path / "none" / "v1.yaml", "1.0.0")
    BASE.save(tmp_path / "v1.yaml")
    assert next_version(tmp_path) == (tmp_path / "v2.yaml", "2.0.0")
    BASE.with_(version="1.4.2", temperature=0.5).save(tmp_path / "v10.yaml")
    assert next_version(tmp_path) == (tmp_path / "v11.yaml", "1.5.0")


def test_saving_never_overwrites_and_refuses_what_is_there_already(tmp_path: Path) -> None:
    """Not even a file that appeared a moment ago, or that is called .yml."""
    BASE.save(tmp_path / "v1.yaml")
    before = (tmp_path / "v1.yaml").read_bytes()
    path = save_next(BASE.with_(temperature=0.5), tmp_path, notes="warmer")
    assert path == tmp_path / "v2.yaml"
    assert Bundle.load(path).metadata["notes"] == "warmer"
    assert Bundle.load(path).version == "2.0.0"
    assert (tmp_path / "v1.yaml").read_bytes() == before
    with pytest.raises(ValueError, match="v2 is this bundle already"):
        save_next(BASE.with_(temperature=0.5), tmp_path)
    assert list(load_bundles(tmp_path)) == ["v1", "v2"]


def test_a_key_in_a_prompt_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    with pytest.raises(DataError, match="SOME_API_KEY"):
        save_next(BASE.with_(template="correct-horse-battery {{ question }}"), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_saved_bundle_carries_what_it_was_chosen_among(tmp_path: Path) -> None:
    """Outside its digest, per golden set and its parent; what its own ancestors were chosen among stays counted."""
    sample = GOLDEN.only(first=1)
    first = Bundle.load(save_next(BASE.with_(temperature=0.5), tmp_path, tried=["a", "b"], golden=sample))
    assert first.digest == BASE.with_(temperature=0.5).digest
    assert tried_before(first, [GOLDEN.digest]) == {"a", "b", first.digest} == tried_before(first, [sample.digest])
    second = Bundle.load(save_next(first.with_(temperature=0.9), tmp_path, tried=["c"], golden=GOLDEN))
    assert tried_before(second, [GOLDEN.digest]) == {"a", "b", "c", first.digest, second.digest}
    assert tried_before(second, ["another"]) == frozenset() == tried_before(BASE, [GOLDEN.digest])
