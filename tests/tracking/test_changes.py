"""What changed between two runs of the same bundles, in what went in and in what came out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import llmlab as ll
from llmlab import tracking
from llmlab.base.errors import DataError
from tests.made_results import made, reads


def test_scores_are_paired_with_last_weeks_and_what_went_in_is_listed() -> None:
    old = made({"v1": [1, 0, 1, 0] * 5, "v2": [0] * 20})
    new = made({"v1": [1, 1, 1, 1] * 5, "v3": [0] * 20})
    new = replace(new, bundles={**new.bundles, "v1": new.bundles["v1"].with_(temperature=0.5)})
    new = replace(new, provenance=replace(new.provenance, commit="abc"))
    changed = ll.compare_runs(old, new)
    assert {(variant, what) for variant, what, _, _ in changed.changes} == {
        ("", "commit"),
        ("v1", "sampling.temperature"),
    }
    (row,) = changed.comparisons["v1"].rows
    assert (row.difference.value, row.baseline, row.candidate) == (0.5, "v1 (before)", "v1")
    assert changed.n_cases == 20
    assert len(changed.notes) == 2
    assert "sampling.temperature" in str(changed)
    assert "sampling.temperature" in changed._repr_html_()


def test_only_cases_that_stayed_the_same_are_compared(tmp_path: Path) -> None:
    old, new = made({"v1": [1] * 12}), made({"v1": [1] * 12})
    assert new.golden is not None
    other = replace(new.golden.cases[0], inputs={"question": "another?"})
    new = replace(new, golden=replace(new.golden, cases=(other, *new.golden.cases[1:])))
    changed = ll.compare_runs(old.to_parquet(tmp_path / "old.parquet"), new)
    assert changed.n_cases == 11
    assert changed.changes == (("", "cases", 12, "12 (1 changed)"),)


def test_runs_that_share_nothing_are_refused_and_scores_of_two_scorers_are_not_compared() -> None:
    old = made({"v1": [1] * 8})
    with pytest.raises(DataError, match="share no variant"):
        ll.compare_runs(old, made({"v2": [1] * 8}))
    other = old.scored_by([reads("right", low=0.0, high=2.0)])
    changed = ll.compare_runs(old, other)
    assert not changed.comparisons
    assert [what for _, what, _, _ in changed.changes] == ["scorer of right"]
    assert "right" in changed.notes[0]


def test_the_last_run_that_was_logged_of_the_same_bundle_is_found(project: Path) -> None:
    old = replace(made({"v1": [1, 0] * 6}), created_at="2026-01-01T00:00:00+00:00")
    new = replace(made({"v1": [1, 1] * 6}), created_at="2026-01-08T00:00:00+00:00")
    with pytest.raises(DataError, match="was logged before"):
        ll.compare_runs(None, new)
    tracking.log(old)
    tracking.log(new)
    changed = ll.compare_runs(None, new)
    assert changed.ages[0] == old.created_at
    assert changed.comparisons["v1"].rows[0].difference.value == 0.5
