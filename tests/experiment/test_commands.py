"""Commands run on an experiment's folder, and those that only look run none of its code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llmlab as ll
from tests.cli.calling import llmlab

ROOT = Path(__file__).parents[2]
DEMO = "experiments/pandas_help"
HOSTILE = "from pathlib import Path\nPath('ran').touch()\n"


@pytest.fixture
def demo(project, help_desk):
    """The help desk with its labelled cases alone, and without the bundle whose topic search takes long to build."""
    (help_desk / "bundles" / "v3.yaml").unlink()
    labels = ll.judge.Labels.load(help_desk / "labels_pointwise.jsonl")
    golden = ll.GoldenSet.load(help_desk / "golden.jsonl").only(ids={label.case_id for label in labels})
    ll.GoldenSet(golden.cases).save(help_desk / "golden.jsonl")
    return project


@pytest.mark.slow
def test_a_folder_is_gated_calibrated_and_estimated(demo):
    """What the notebooks ask of it, from a shell."""
    compare = str(ROOT / "notebooks" / "01_compare_variants.ipynb")
    estimated = llmlab("run", compare, "-p", "first", "10", "--dry-run")
    assert "80 calls to send" in estimated.output, estimated.output
    gated = llmlab("gate", DEMO, "--no-ledger", "--json")
    assert gated.exit_code in (0, 1, 3), gated.output
    assert json.loads(gated.stdout)["candidate"] == "candidate"
    measured = llmlab("calibrate", DEMO, "--json")
    assert json.loads(measured.stdout)["groups"], measured.output
    assert llmlab("calibrate", DEMO, "--judge", "correctnes").exit_code == 2


@pytest.mark.parametrize("command", [("audit", DEMO), ("history", DEMO), ("gate-init", DEMO, "--output", "g.yaml")])
def test_commands_that_only_look_run_no_code_of_the_folder(demo, command):
    """Nor does importing llmlab, or loading the folder."""
    # another text for each: the folder is the same, and what ran once in a process is not run again
    (demo / DEMO / "scorers.py").write_text(f"{HOSTILE}# {command[0]}\n")
    called = llmlab(*command)
    assert called.exit_code in (0, 2), called.output
    exp = ll.Experiment.load(DEMO)
    assert exp.bundles
    assert exp.judges
    assert exp.gate
    assert str(exp)
    assert not (demo / "ran").exists()
    with pytest.raises(ll.LlmlabError):
        _ = exp.scorers  # it makes none
    assert (demo / "ran").exists()


def test_a_gate_of_results_names_what_it_lacks(project):
    """Of a folder both are known."""
    (project / "results.parquet").touch()
    called = llmlab("gate", "results.parquet", "--candidate", "v2")
    assert called.exit_code == 2
    assert "--policy" in called.output
