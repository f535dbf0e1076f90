"""What a prompt cache changes: measured on the model itself, and said in a sentence where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.clients.local import LocalClient
from llmlab.local.setup import LocalModel
from tests.local.conftest import model as model  # the fixture

ORDERS = Path(__file__).parents[2] / "experiments" / "orders"


def test_where_there_is_no_such_model_the_answer_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    ll.GoldenSet((ll.Case(id="q1", inputs={"question": "Why?"}),)).save(tmp_path / "golden.jsonl")
    ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1").save(tmp_path / "bundles" / "v1.yaml")
    assert "offline/extractive-1" in ll.experiment.prompt_cache(tmp_path).sentence
    assert "nowhere" in ll.experiment.prompt_cache(tmp_path / "nowhere").sentence
    gone = dataclasses.replace(LocalModel.of("smollm2-135m-instruct"), path=None)
    assert "llmlab local setup" in LocalClient(gone).absent


@pytest.mark.local
@pytest.mark.slow
def test_each_way_of_asking_is_measured_and_stored(
    model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    found = ll.experiment.prompt_cache(ORDERS, first=3, slots=2, repeats=2)
    assert [row["asked"] for row in found.rows] == ["without cache", "1 slot", "2 slots, repeat 1", "2 slots, repeat 2"]
    assert found.rows[0]["texts unlike those without"] == 0
    assert all(0 <= int(str(row["texts unlike those without"])) <= 3 for row in found.rows)
    assert ll.experiment.prompt_cache(ORDERS, first=3, slots=2, repeats=2).sentence == found.sentence
