"""What a registry that was harmed still does: each harm is told, and everything else goes on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from llmlab.base.errors import RegistryError, StoreError
from llmlab.registry import audit, history, load, promote, register, rollback
from llmlab.registry.connection import open_registry
from llmlab.registry.versions import read_bundle
from tests.registry.made import (
    RECORD,
    alias_now,
    artifact,
    bundle,
    gated,
    half,
    judged,
    moved,
    registered,
    released,
    row,
    version_of,
)


def test_a_half_made_move_to_a_version_that_was_deleted_since_is_void(project: Path) -> None:
    registry, (one, two, three) = registered(project, 3)
    moved(registry, one)
    half(registry, two.number, follows=1)
    registry.client.delete_model_version("qa", "2")
    past = history("qa")
    assert (past.lost, past.last("production").version) == ({2}, 1)
    assert "version 2 was deleted" in str(past)
    assert any("version 2 was deleted" in finding.what for finding in audit("qa").findings)
    assert moved(registry, three).number == 3
    assert rollback("qa", reason="r").version == 1
    assert history("qa").lost == {2}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "null",
        '{"alias": "production"}',
        json.dumps({**RECORD, "version": "two", "follows": "one"}),
        json.dumps({**RECORD, "kind": "of a newer llmlab"}),
        json.dumps({**RECORD, "alias": "a b\x1b[31m"}),
        json.dumps({**RECORD, "when": "yesterday"}),
    ],
)
def test_a_row_of_the_history_that_cannot_be_read_is_counted_as_damaged(record: str, project: Path) -> None:
    registry, _ = released(project, 2)
    row(registry, record)
    past = history("qa")
    assert past.damaged == (3,)
    assert "move 3 cannot be read" in str(past)
    assert any(finding.about == "move 3" for finding in audit("qa").wrong)
    assert rollback("qa", reason="r").number == 4
    assert alias_now(registry) == 1
    assert moved(registry, version_of(registry, 2)).version == 2


@pytest.mark.parametrize("number", [10**30, -1])
def test_a_version_that_no_store_can_have_is_none(project: Path, number: int) -> None:
    """As found: SQLite's OverflowError ended history and rollback with a traceback, and the audit without a finding."""
    registry, _ = released(project, 2)
    half(registry, number, follows=2)
    assert 3 in history("qa").void
    assert [finding.kind for finding in audit("qa").findings] == ["noted"]
    assert rollback("qa", reason="r").version == 1
    for refused in (
        lambda: rollback("qa", to=10**30, reason="r"),
        lambda: promote(f"qa/{10**18}", experiment="", reason="r"),
    ):
        with pytest.raises(RegistryError, match="has no version"):
            refused()


@pytest.mark.parametrize("size", [200_000_000])
def test_a_huge_artifact_is_told_and_not_read(project: Path, size: int) -> None:
    registered(project, 1)
    with artifact(project, "bundle.json").open("wb") as file:
        file.truncate(size)
    (finding,) = audit("qa").wrong
    assert "it is 200,000,000 bytes" in finding.what


def test_a_move_with_facts_of_a_newer_llmlab_is_read_without_them(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    half(registry, two.number, follows=1, weather="rain")
    assert history("qa").last("production").version == 2
    assert alias_now(registry) == 2


def test_history_names_what_the_store_says_after_a_move_by_hand(project: Path) -> None:
    registry, _ = released(project, 2)
    assert "production is version 2." in str(history("qa"))
    registry.client.set_registered_model_alias("qa", "production", "1")
    assert "production is version 1, set by hand (the last move was to version 2)" in str(history("qa"))
    registry.client.delete_registered_model_alias("qa", "production")
    assert "production is removed by hand (the last move was to version 2)" in str(history("qa"))
    assert "removed by hand" in audit("qa").wrong[0].what


@pytest.mark.parametrize("before", [1, None], ids=["set", "removed"])
def test_a_rollback_undoes_what_was_done_to_an_alias_by_hand(project: Path, before: int | None) -> None:
    """The way back is the last version that llmlab moved it to."""
    registry, _ = released(project, 2)
    registry.client.delete_registered_model_alias("qa", "production")
    if before is not None:
        registry.client.set_registered_model_alias("qa", "production", str(before))
    back = rollback("qa", reason="who did this?")
    assert (back.before, back.version) == (before, 2)
    assert alias_now(registry) == 2
    assert audit("qa").wrong == ()


def test_a_deleted_production_version_is_told_and_rolled_back_from(project: Path) -> None:
    """MLflow takes its alias away with it."""
    registry, _ = released(project, 3)
    registry.client.delete_model_version("qa", "3")
    assert "the last move was to version 3, which was deleted" in str(history("qa"))
    assert any("version 3, which was deleted" in finding.what for finding in audit("qa").wrong)
    back = rollback("qa", reason="it is gone")
    assert back.version == 2
    assert "version 3 was deleted" in back.reason
    assert alias_now(registry) == 2


def test_a_rollback_names_what_it_skips_and_prefers_what_can_be_read(project: Path) -> None:
    registry, _ = released(project, 4)
    registry.client.delete_model_version("qa", "3")
    artifact(project, "bundle.json", run_id=version_of(registry, 2).run_id).write_text("{}", encoding="utf-8")
    back = rollback("qa", reason="complaints")
    assert back.version == 1
    assert "version 3 was deleted" in back.reason
    assert "bundle.json of version 2" in back.reason


def test_a_rollback_without_a_readable_way_back_moves_nothing_and_offers_to_name_one(project: Path) -> None:
    """A version that a person names is taken although it cannot be read: they may know better."""
    registry, (one, _) = released(project, 2)
    artifact(project, "bundle.json", run_id=one.run_id).write_text("{}", encoding="utf-8")
    with pytest.raises(RegistryError, match=r"bundle.json of version 1.*--to"):
        rollback("qa", reason="r")
    assert alias_now(registry) == 2
    assert rollback("qa", to=1, reason="I mend it now").version == 1


def test_a_rollback_to_a_version_that_was_forced_says_so(project: Path) -> None:
    """Whoever goes back to it should know that no receipt held it up."""
    registry, _ = registered(project, 2)
    (project / "gone").mkdir()
    promote("qa/1", experiment=project / "gone", reason="the demo is now", force=True)
    moved(registry, version_of(registry, 2))
    assert "version 1 was made production by force" in rollback("qa", reason="r").reason


def test_registering_a_damaged_bundle_anew_mends_it(project: Path) -> None:
    registry, (one,) = released(project, 1)
    for harm in (lambda file: file.write_text("{}", encoding="utf-8"), lambda file: file.unlink()):
        harm(artifact(project, "bundle.json", run_id=one.run_id))
        with pytest.raises((RegistryError, StoreError), match=r"register the bundle anew|cannot be read"):
            read_bundle(registry, one)
        assert register(bundle(k=0)).number == one.number
        assert read_bundle(registry, one).digest == one.digest


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_new_receipt_replaces_a_damaged_one(harm: str, project: Path) -> None:
    """Neither a cut file nor a missing one stands in the way of gating again; force works until then."""
    results, decision, folder = judged(project)
    version = register(results.bundles["new"], receipt=decision.receipt())
    for file in (project / "mlruns" / "artifacts").rglob("receipts/*.json"):
        file.write_text(file.read_text(encoding="utf-8")[:200], encoding="utf-8") if harm == "cut" else file.unlink()
    assert audit("qa").wrong
    assert promote(version, experiment=folder, reason="now", force=True).forced
    register(results.bundles["new"], receipt=decision.receipt())
    assert audit("qa").wrong == ()
    assert alias_now(open_registry()) == version.number


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("gate.yaml", "gate.yaml"),
        ("experiment", "gate.yaml"),
        ("cases.parquet", "cases that it rests on cannot be read"),
    ],
)
def test_force_works_where_the_evidence_itself_is_gone(gone: str, told: str, project: Path) -> None:
    """Golden set, policy or logged cases, in a store that was cleaned up: what is missing stands in the history."""
    version, folder = gated(project)
    for path in list(project.rglob(gone)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RegistryError, match=told):
        promote(version, experiment=folder, reason="r")
    move = promote(version, experiment=folder, reason="r", force=True)
    assert (move.forced, told in move.reason) == (True, True)


def test_an_audit_warns_while_production_rests_on_a_run_in_the_trash(project: Path) -> None:
    """`mlflow gc` would delete the bundle that users are served with."""
    registry, (one, _) = released(project, 2)
    registry.client.delete_run(one.run_id)
    assert audit("qa").wrong == ()
    rollback("qa", reason="r")
    (finding,) = audit("qa").wrong
    assert "MLflow's trash" in finding.what
    assert one.run_id in finding.what
    registry.client.restore_run(one.run_id)
    assert audit("qa").wrong == ()


def test_one_model_that_cannot_be_audited_hides_no_other(project: Path) -> None:
    """An alias in MLflow's tables that points to no version, and a model beside it with a damaged bundle."""
    registry, _ = released(project, 1)
    _, (other,) = released(project, 1, name="zz")
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database, database:
        database.execute("UPDATE registered_model_aliases SET version = 77 WHERE name = 'qa'")
    artifact(project, "bundle.json", run_id=other.run_id).write_text("{}", encoding="utf-8")
    found = audit()
    assert {finding.model for finding in found.wrong} == {"qa", "zz"}
    assert any("version 77, which was deleted" in finding.what for finding in found.wrong)
    assert rollback("qa", reason="r").version == 1
    assert alias_now(registry) == 1


@pytest.mark.slow
def test_a_bundle_whose_run_was_deleted_for_good_is_registered_as_a_new_version(project: Path) -> None:
    """By `mlflow gc`, which takes the files too: the old version is told as what it is, and can be left behind."""
    registry, (one, two) = released(project, 2)
    registry.store.client.delete_run(two.run_id)
    uri = registry.store.uri
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", two.run_id]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=project, env={**os.environ, "MLFLOW_TRACKING_URI": uri}
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(StoreError):
        load("qa@production")
    again = register(bundle(k=1))
    assert (again.number, again.digest) == (3, two.digest)
    assert register(bundle(k=1)).number == 3
    assert [finding.about for finding in audit("qa").wrong][:1] == ["version 2"]
    assert rollback("qa", to=3, reason="the same bundle, whole").version == 3
    assert load("qa@production", max_age_s=0).bundle.digest == two.digest
    assert rollback("qa", reason="further back").version == one.number
