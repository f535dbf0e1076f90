"""Commands whose tracking store cannot be opened: a sentence and exit code 2, never FAIL's 1 nor a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmlab.bundle.bundle import Bundle
from tests.cli.calling import llmlab

URI = "mysql+nodriver://anna:canary-7f3a9c@127.0.0.1/mlflow"
NAMED = ["--alias", "production", "--reason", "complaints"]
COMMANDS = {
    "history": ["qa"],
    "rollback": ["qa", *NAMED],
    "promote": ["qa/1", *NAMED, "--experiment", "experiments/qa"],
    "register": ["bundle.yaml"],
    "export": ["qa@production", "qa.json"],
    "audit": [],
    "run": ["notebook.ipynb"],
}
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_driver_is_a_sentence_and_exit_code_2(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebook.ipynb").write_text(NOTEBOOK)
    Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa").save(tmp_path / "bundle.yaml")
    said = llmlab(command, *COMMANDS[command])
    assert said.exit_code == 2, said.output
    assert "driver" in said.output
    assert "Traceback" not in said.output
    assert "canary-7f3a9c" not in said.output
