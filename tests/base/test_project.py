"""Where a project's files are found from; every moment is UTC, and what names no zone is read as UTC or refused."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmlab import Bundle, GoldenSet, load_bundles
from llmlab.base.project import aware, located, project_root, utc
from llmlab.gate import GatePolicy
from llmlab.judge import Labels
from llmlab.results.summary import age_of
from tests.made_results import made

PROGRAM = """
import json, warnings
from llmlab.registry.moves import now
from tests.made_results import made
from llmlab.gate import GatePolicy
results = made({"a": [1.0, 0.0, 1.0], "b": [1.0, 1.0, 1.0]})
policy = GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "right", "at_least": 0.1}]})
decision = policy.decide(results, candidate="a")
receipt = decision.receipt()
print(json.dumps([results.created_at, now(), decision.look.made_at, receipt.created_at]))
"""


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
    line = '{"rubric": "correctness", "case_id": "q1", "question": "f3", "answer": "fe", "value": 4, "labeller": "a"}'
    (in_notebooks / "labels.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert len(Labels.load("experiments/mine/labels.jsonl").labels) == 1
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


@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Apia", "UTC"])
def test_what_is_written_is_utc_in_every_time_zone(zone: str) -> None:
    environment = {**os.environ, "TZ": zone, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
    for text in json.loads(done.stdout):
        moment = datetime.fromisoformat(text)
        assert moment.utcoffset() == timedelta(0)
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 600


def test_the_hour_that_the_clock_repeats_in_autumn_keeps_its_order() -> None:
    """25 October 2026, Berlin: 02:30 comes twice, an hour apart."""
    summer, winter = utc("2026-10-25T02:30:00+02:00"), utc("2026-10-25T02:30:00+01:00")
    assert winter - summer == timedelta(hours=1)
    assert sorted([winter, summer]) == [summer, winter]
    assert utc("2026-03-29T03:00:00+02:00") - utc("2026-03-29T01:59:59+01:00") == timedelta(seconds=1)


def test_a_text_without_an_offset_is_read_as_utc_and_ages_are_told_of_it() -> None:
    assert utc("2026-01-01T00:00:00") == datetime(2026, 1, 1, tzinfo=UTC)
    assert utc("2026-01-01T00:00:00Z") == datetime(2026, 1, 1, tzinfo=UTC)
    assert "ago (2020-01-01T00:00:00)" in age_of("2020-01-01T00:00:00")
    for text in ("yesterday", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(ValueError, match="no ISO 8601 moment"):
            utc(text)


def test_a_naive_datetime_is_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # that is the point
    with pytest.raises(ValueError, match="no time zone"):
        aware(naive)
    policy = GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "right", "at_least": 0.1}]})
    with pytest.raises(ValueError, match="no time zone"):
        policy.decide(made({"a": [1.0, 0.0, 1.0]}), candidate="a", now=naive)


def test_no_module_asks_the_clock_without_a_zone() -> None:
    """`datetime.now()` and `utcnow()` give naive moments; files' times are seconds since the epoch."""
    package = Path(__file__).parents[2] / "llmlab"
    naive = re.compile(r"datetime\.now\(\)|utcnow\(|fromtimestamp\([^,)]*\)|date\.today\(")
    assert [path for path in package.rglob("*.py") if naive.search(path.read_text())] == []


def test_without_a_project_file_a_notebook_finds_the_experiments_beside_its_folder(tmp_path):
    for folder in ("experiments/mine", "notebooks/work", "else/where"):
        (tmp_path / folder).mkdir(parents=True)
    assert project_root(tmp_path) == tmp_path
    assert project_root(tmp_path / "notebooks") == tmp_path
    assert project_root(tmp_path / "notebooks" / "work") == tmp_path
    assert project_root(tmp_path / "else" / "where") == tmp_path / "else" / "where"
