"""The release notebook as a job: exit codes, and what moves in the registry, on the embedded default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmlab.bundle.bundle import Bundle
from llmlab.gate import Receipt
from llmlab.golden.cases import GoldenSet
from llmlab.notebook import run_notebook
from llmlab.registry import audit, load
from llmlab.registry.connection import open_registry
from llmlab.registry.registering import read_receipt
from llmlab.registry.versions import resolve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "notebooks" / "05_gate_and_promote.ipynb"


def test_an_improvement_is_released_once_and_a_harmful_change_moves_nothing(project: Path, help_desk: Path) -> None:
    """Unchanged it passes and promotes nothing; with `promote` production moves; a worse candidate exits with 1."""
    golden = GoldenSet.load(help_desk / "golden.jsonl")
    golden.grown([replace(golden.cases[0], id="incident-1")]).save(project / "proposed.jsonl")
    first = run_notebook(RELEASE, {"added": "proposed.jsonl"})
    assert (first.exit_code, first.verdict) == (0, "PASS"), first.message
    assert any(" 1/1" in table for table in first.tables)  # beside, and in no number of the gate
    registry = open_registry()
    assert registry.model("pandas_help").aliases == {}

    released = run_notebook(RELEASE, {"promote": "true", "reason": "names more of the right functions"})
    assert released.exit_code == 0, released.message
    assert registry.model("pandas_help").aliases == {"staging": 1, "production": 1}
    assert [version.number for version in registry.versions("pandas_help")] == [1]
    receipt = read_receipt(registry, resolve(registry, "pandas_help@production"))
    assert isinstance(receipt, Receipt)
    assert receipt.candidates_tried == 1
    good = Bundle.load(help_desk / "bundles/v2.yaml")
    assert load("pandas_help@production", require_receipt=True).bundle.digest == good.digest
    assert audit().findings == ()

    harmful = good.with_(k=1, passage_chars=80)
    harmful.save(project / "harmful.yaml")
    refused = run_notebook(RELEASE, {"candidate": "harmful.yaml", "promote": "true"})
    assert (refused.exit_code, refused.verdict) == (1, "FAIL"), refused.message
    assert refused.executed.exists()
    assert registry.model("pandas_help").aliases == {"staging": 1, "production": 1}
    assert len(registry.versions("pandas_help")) == 1


def test_a_candidate_that_no_gate_would_release_is_refused_before_a_call(project: Path, help_desk: Path) -> None:
    """Its model may change under its name: said before anything is paid for, without a key."""
    good = Bundle.load(help_desk / "bundles/v2.yaml")
    good.with_(model="openai/gpt-4o").save(project / "floating.yaml")
    refused = run_notebook(RELEASE, {"candidate": "floating.yaml"})
    assert (refused.exit_code, refused.verdict) == (2, "BROKEN")
    assert "openai/gpt-4o is not pinned" in refused.message


def test_a_judge_that_decides_is_refused_where_its_model_floats_and_one_beside_is_not(help_desk: Path) -> None:
    """The gate reads its grades, so it is held to what a candidate is held to; before a call, without a key."""
    judge = (help_desk / "judges/correctness.yaml").read_text()
    floating = judge.replace("{provider: offline, id: overlap-judge-1}", "{provider: openai, id: gpt-4o}")
    (help_desk / "judges/correctness.yaml").write_text(floating)
    gate = (help_desk / "gate.yaml").read_text()
    guard = "guards:\n  - {metric: correctness, rule: non_inferior, margin: 0.1}"
    (help_desk / "gate.yaml").write_text(gate.replace("guards:", guard))
    refused = run_notebook(RELEASE)
    assert (refused.exit_code, refused.verdict) == (2, "BROKEN"), refused.message
    assert "openai/gpt-4o is not pinned" in refused.message

    (help_desk / "gate.yaml").write_text(gate)  # which reads no judge
    assert run_notebook(RELEASE).exit_code == 0
