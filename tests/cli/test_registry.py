"""Releases from the command line: exit codes and one line each."""

from __future__ import annotations

import json
from pathlib import Path

from llmlab.registry.connection import open_registry
from tests.cli.calling import llmlab
from tests.registry.made import HOSTILE, judged, moved, registered


def test_a_release_from_bundle_file_to_export(project: Path, tmp_path: Path) -> None:
    results, decision, folder = judged(project)
    results.bundles["new"].save(tmp_path / "new.yaml")
    decision.receipt().save(tmp_path / "receipt.json")
    done = llmlab("register", tmp_path / "new.yaml", "--receipt", tmp_path / "receipt.json")
    assert (done.exit_code, "/#/models/qa/versions/1" in done.output) == (0, True), done.output
    done = llmlab("promote", "qa/1", "--experiment", folder, "--reason", "fewer wrong functions")
    assert (done.exit_code, "production moved to version 1" in done.output) == (0, True), done.output
    assert "fewer wrong functions" in llmlab("history", "qa").output
    assert llmlab("audit").exit_code == 0
    assert llmlab("export", "qa@production", tmp_path / "qa.json").exit_code == 0
    assert json.loads((tmp_path / "qa.json").read_text(encoding="utf-8"))["receipt"]["verdict"] == "PASS"


def test_a_refused_promotion_exits_with_1_and_says_why(project: Path) -> None:
    """Without a receipt; and an unknown version is refused as well."""
    results, _, folder = judged(project)
    results.bundles["new"].save(project / "new.yaml")
    llmlab("register", project / "new.yaml")
    done = llmlab("promote", "qa/1", "--experiment", folder, "--reason", "r")
    assert (done.exit_code, "refused: version 1 of qa cannot become production" in done.stderr) == (1, True)
    assert llmlab("promote", "qa/7", "--experiment", folder, "--reason", "r").exit_code == 1
    assert llmlab("promote", "qa/x", "--experiment", folder, "--reason", "r").exit_code == 2


def test_a_rollback_is_one_line_and_without_history_a_refusal(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    moved(registry, two)
    done = llmlab("rollback", "qa@production", "--reason", "complaints")
    assert (done.exit_code, "production moved from version 2 to version 1" in done.output) == (0, True), done.output
    done = llmlab("rollback", "qa", "--reason", "again")
    assert (done.exit_code, "no earlier version" in done.stderr) == (1, True)


def test_an_audit_that_finds_something_exits_with_1(project: Path) -> None:
    """For CI and cron; what somebody wrote into MLflow is no terminal command."""
    registry, (one, _) = registered(project, 2)
    moved(registry, one)
    registry.client.set_registered_model_alias("qa", "production", "2")
    registry.client.set_model_version_tag("qa", "1", "model", HOSTILE)
    done = llmlab("audit", "qa")
    assert done.exit_code == 1
    assert "by hand" in done.stderr
    assert "\x1b" not in done.output + done.stderr
    assert open_registry().model("qa").aliases["production"] == 2
