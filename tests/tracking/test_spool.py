"""The spool: nothing is lost while the tracking store is away, and nothing is logged twice when it is back."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmlab import tracking
from llmlab.base.errors import FileRuleError
from llmlab.base.project import git_state
from llmlab.tracking.store import open_store
from tests.cli.calling import llmlab
from tests.made_results import made
from tests.registry.made import judged

GIT_NAME = ("-c", "user.name=T", "-c", "user.email=t@example.org")


class Broken:
    """The store of a project, made unusable for a while."""

    def __init__(self, project: Path) -> None:
        self.database = project / "mlruns" / "mlflow.db"
        self.kept = self.database.rename(self.database.with_suffix(".kept"))
        self.database.write_bytes(b"no database" * 200)

    def mend(self) -> None:
        self.database.unlink()
        self.kept.rename(self.database)


def n_runs() -> int:
    store = open_store()
    return len(store.client.search_runs([e.experiment_id for e in store.client.search_experiments()]))


def test_results_wait_in_the_spool_while_the_store_is_away_and_are_logged_once(project: Path) -> None:
    """A warning says where they are; `llmlab sync` twice logs them once; the digest is the same."""
    results = made({"a": [1.0, 0.0], "b": [1.0, 1.0]})
    broken = Broken(project)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="Nothing is lost: kept in .*spool"):
            logged = tracking.log(results, experiment="e")
    assert "spool" in str(logged)
    assert len(list((project / "mlruns" / "spool").iterdir())) == 1
    broken.mend()
    done = llmlab("sync")
    assert (done.exit_code, "1 waiting results were logged" in done.output) == (0, True), done.output
    assert "Nothing was waiting" in llmlab("sync").output
    assert not list((project / "mlruns" / "spool").iterdir())
    assert n_runs() == 2
    assert tracking.load(results.digest, experiment="e").digest == results.digest
    assert tracking.log(results, experiment="e").was_there


def test_a_decision_waits_with_its_results_and_is_found_in_the_ledger_afterwards(project: Path) -> None:
    """The look, the verdict and the receipt, as of the day they were made."""
    broken = Broken(project)
    with pytest.warns(RuntimeWarning, match="llmlab sync"):
        results, decision, _ = judged(project, looks=())
    broken.mend()
    (sweep,) = tracking.sync()
    assert results.golden is not None
    assert [look.verdict for look in tracking.looks(results.golden.digest)] == [decision.word]
    run = open_store().client.get_run(sweep.run_ids["new"])
    assert run.data.tags["gate"] == decision.word


def test_results_that_are_told_again_without_their_decision_take_no_look_away(project: Path) -> None:
    """As a notebook's cell that is run again does, while the store is away."""
    broken = Broken(project)
    with pytest.warns(RuntimeWarning, match="Nothing is lost"):
        results, decision, _ = judged(project, looks=())
    with pytest.warns(RuntimeWarning, match="Nothing is lost"):
        tracking.log(results, root=project)
    broken.mend()
    tracking.sync(project)
    assert results.golden is not None
    assert [look.verdict for look in tracking.looks(results.golden.digest)] == [decision.word]


def test_what_waited_is_logged_with_the_commit_it_was_made_at(project: Path) -> None:
    """The commit of the run, where it knows one; else that of the moment it was spooled. Never that of the sync."""
    known = replace(made({"a": [1.0, 0.0]}), provenance={"commit": "c0ffee" * 6, "dirty": True})
    broken = Broken(project)
    for args in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", "-C", str(project), *GIT_NAME, *args], check=True)
    then = git_state(project).commit
    for results in (known, made({"b": [1.0, 1.0]})):
        with pytest.warns(RuntimeWarning, match="Nothing is lost"):
            tracking.log(results, experiment="e", root=project)
    subprocess.run(["git", "-C", str(project), *GIT_NAME, "commit", "-q", "--allow-empty", "-m", "two"], check=True)
    broken.mend()
    runs = [
        open_store().client.get_run(run_id) for sweep in tracking.sync(project) for run_id in sweep.run_ids.values()
    ]
    found = {run.data.tags["variant"]: run.data.tags["mlflow.source.git.commit"] for run in runs}
    assert found == {"a": "c0ffee" * 6, "b": then}


def test_figures_wait_too(project: Path) -> None:
    """As the pictures they were."""

    class Picture:
        def savefig(self, fname: Any, **_: Any) -> None:
            fname.write(b"png")

    broken = Broken(project)
    with pytest.warns(RuntimeWarning, match="llmlab sync"):
        tracking.log(made({"a": [1.0]}), experiment="e", figures={"forest": Picture()})
    broken.mend()
    (sweep,) = tracking.sync()
    (file,) = (project / "mlruns" / "artifacts").rglob(f"{sweep.run_ids['a']}/**/forest.png")
    assert file.read_bytes() == b"png"


@pytest.mark.parametrize(
    "edit",
    [
        {"experiment": 5},
        {"experiment": " "},
        {"origin": [5]},
        {"decision": {}},
        {"decision": {"look": []}},
        {"decision": {"look": {"a": "b"}}},
        {"decision": {"documents": {"../../x": "y"}}},
        "[" * 100_000,
    ],
)
def test_an_entry_that_somebody_edited_is_named_and_keeps_no_later_one_waiting(project: Path, edit: Any) -> None:
    """As found: a traceback, or a line without the folder, and what had waited behind it was never logged."""
    broken = Broken(project)
    with pytest.warns(RuntimeWarning, match="llmlab sync"):
        results, _, _ = judged(project, looks=())
    with pytest.warns(RuntimeWarning, match="llmlab sync"):
        tracking.log(made({"a": [1.0, 0.0]}), experiment="e")
    broken.mend()
    first = next(path for path in (project / "mlruns" / "spool").iterdir() if results.digest in path.name)
    os.utime(first, (0, 0))
    about = json.loads((first / "about.json").read_text())
    if isinstance(edit, str):
        (first / "about.json").write_text(edit)
    else:
        inner = edit.get("decision")
        edit = {"decision": {**about["decision"], **inner}} if inner else edit
        (first / "about.json").write_text(json.dumps(about | edit))
    with pytest.raises(FileRuleError, match=rf"{first.name}: is damaged .* 1 others were logged"):
        tracking.sync()
    assert [*(project / "mlruns" / "spool").iterdir()] == [first]


def test_a_damaged_entry_is_told_and_stays(project: Path) -> None:
    """It names the folder; nothing is dropped."""
    entry = project / "mlruns" / "spool" / "abc"
    entry.mkdir(parents=True)
    (entry / "about.json").write_text("{", encoding="utf-8")
    with pytest.raises(FileRuleError, match="is damaged"):
        tracking.sync()
    assert entry.exists()
