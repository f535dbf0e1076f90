"""A scorer is part of what was measured: scores of two versions are not compared, and scoring again is free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.gate import Decision, Receipt
from llmlab.results.results import Results
from llmlab.scorers import Scorer
from tests.gate import gating
from tests.gate.gating import gateable, policy, superior

N = 60


def right(answers: str) -> Scorer:
    """Two versions of one scorer: what it takes for right is part of its code's closure."""

    @ll.scorer(name="right")
    def good(_case: Any, generation: Any) -> bool:
        return generation.text in answers.split()

    return good


STRICT, LENIENT = right("1.0"), right("1.0 0.5")


def run_of(variant: str, answer: str, scorer: Scorer) -> Results:
    """A run of one pinned variant: answers right by both versions, or by the lenient one alone."""
    texts = ["1.0", *([answer] * 3)] * (N // 4)
    golden = gateable({"v1": [1.0] * N, "v2": [1.0] * N})
    rows = pd.DataFrame({"variant": variant, "case_id": [case.id for case in golden.golden or ()], "text": texts})
    assert golden.golden is not None
    results = Results.from_frame(rows, golden=golden.golden, scorers=[scorer])
    return replace(results, bundles={variant: golden.bundles[variant]})


def decided(results: Results, **more: Any) -> Decision:
    return gating.decided(policy(goal=superior(), max_baseline_age="9 days"), results, **more)


def test_a_changed_scorer_proves_nothing_and_scoring_both_again_is_free() -> None:
    """The same answers of both arms: better by 75 points where the old scorer judged one and the new one the other."""
    before, now = run_of("v1", "0.5", STRICT), run_of("v2", "0.5", LENIENT)
    decision = decided(now, baseline_results=before)
    assert decision.word == "INVALID"
    assert "results.scored_by([right])" in decision.sentence
    joined = now.joined(before)
    for compared in (lambda: joined.compare("v1"), lambda: joined.flips("v1", "v2"), lambda: joined.best("right")):
        with pytest.raises(DataError, match=r"two scorers, v. by .* and v. by .*costs no call"):
            compared()
    assert decided(joined).word == "INVALID"
    again = joined.scored_by([LENIENT])
    assert again.compare("v1").rows[0].difference.value == 0  # type: ignore[union-attr]  # there is one
    assert decided(again).word != "PASS"
    assert decided(now, baseline_results=before.scored_by([LENIENT])).word != "PASS"


def test_an_unknown_scorer_is_another_one_and_two_unknown_ones_are_compared() -> None:
    """Results of 0.1 carry no digest: among themselves they are compared as ever."""

    def old(results: Results) -> Results:
        return replace(results, metrics={name: replace(m, scorer="") for name, m in results.metrics.items()})

    before, now = run_of("v1", "0", STRICT), run_of("v2", "1.0", STRICT)
    assert decided(now, baseline_results=before).word == "PASS"
    assert decided(old(now), baseline_results=old(before)).word == "PASS"
    decision = decided(now, baseline_results=old(before))
    assert (decision.word, "one that is not known" in decision.sentence) == ("INVALID", True)


def test_the_digest_is_in_the_metric_the_results_the_file_and_the_receipt(tmp_path: Path) -> None:
    results = gateable({"v1": [0.0] * N, "v2": [1.0] * N}).scored_by([STRICT])
    other = results.scored_by([LENIENT])
    assert (results.frame["right"] == other.frame["right"]).all()
    assert results.digest != other.digest
    read = Results.from_parquet(results.to_parquet(tmp_path / "r.parquet"))
    assert (read.metrics["right"].scorer, read.digest) == (STRICT.digest, results.digest)
    receipt = decided(read).receipt()
    assert receipt.scorers == {"right": STRICT.digest}
    assert Receipt.from_json(receipt.to_json()) == receipt
    assert receipt.differences(decided(other, now=receipt.decided_at())) == ("results_digest", "scorers")


def test_joined_scorers_survive_the_file(tmp_path: Path) -> None:
    joined = run_of("v2", "0.5", LENIENT).joined(run_of("v1", "0.5", STRICT))
    read = Results.from_parquet(joined.to_parquet(tmp_path / "r.parquet"))
    with pytest.raises(DataError, match="two scorers"):
        read.compare("v1")


def test_a_metric_that_cannot_be_in_the_results_makes_the_gate_say_what_can() -> None:
    results = gateable({"v1": [0.0] * N, "v2": [1.0] * N})
    for name in ("wrong", "steps", "text"):
        decision = gating.decided(policy(goal=superior(metric=name)), results)
        assert decision.word == "INVALID"
        assert f"{name!r} is not in these results (there are: right)" in decision.sentence
