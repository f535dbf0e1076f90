"""Where a project's files are found from."""

from pathlib import Path

import pytest

from llmlab import Bundle, GoldenSet, load_bundles
from llmlab.base.project import located
from llmlab.judge import Labels


@pytest.fixture
def in_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an experiment, the working directory being its `notebooks/`, as JupyterLab has it."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    folder = tmp_path / "experiments" / "mine"
    (folder / "bundles").mkdir(parents=True)
    (folder / "golden.jsonl").write_text('{"id": "q1", "inputs": {"question": "Why?"}}\n', encoding="utf-8")
    Bundle.from_prompt("{{ question }}", model="offline/extractive-1").save(folder / "bundles" / "v1.yaml")
    monkeypatch.chdir(tmp_path / "notebooks")
    return folder


def test_an_experiment_is_found_from_a_notebooks_own_folder(in_notebooks: Path) -> None:
    """JupyterLab starts the kernel in the notebook's folder, and paths are written from the project's root."""
    assert len(GoldenSet.load("experiments/mine/golden.jsonl")) == 1
    assert list(load_bundles("experiments/mine/bundles")) == ["v1"]
    assert Bundle.load("experiments/mine/bundles/v1.yaml").name == "prompt"


def test_what_lies_in_the_working_directory_comes_first(in_notebooks: Path) -> None:
    """A folder of the same name beside the notebook is the one that is meant."""
    Path("experiments").mkdir()
    assert located("experiments") == Path("experiments")
    assert located("experiments/mine") == in_notebooks


def test_a_path_that_is_nowhere_and_an_absolute_one_stay_as_they_are(in_notebooks: Path) -> None:
    """So that an error names what was written."""
    assert located("nowhere.yaml") == Path("nowhere.yaml")
    assert located(in_notebooks) == in_notebooks


def test_labels_are_found_from_there_too(in_notebooks: Path) -> None:
    """They lie in the experiment's folder."""
    line = '{"rubric": "correctness", "case_id": "q1", "question": "f3", "answer": "fe", "value": 4, "labeller": "a"}'
    (in_notebooks / "labels.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert len(Labels.load("experiments/mine/labels.jsonl").labels) == 1
