"""The gate reads how true the searched index is: measured by a run or recorded from a manifest, in the receipt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from llmlab.bundle.bundle import Bundle, CorpusRef, RetrievalConfig
from llmlab.clients.fake import FakeClient
from llmlab.engine.freshness import check
from llmlab.engine.runs import run
from llmlab.gate import Receipt
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.search.corpus import Corpus, Document
from tests.gate.gating import decided, noisy, policy, superior

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TODAY = Corpus(documents=tuple(Document(id=f"d{i}", text=f"text {i}") for i in range(200)), name="manual", version="2")
GOLDEN = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{i}?"}, relevant={f"d{i}": 1}) for i in range(200)))


def retrieving(results):
    """Results whose candidate retrieves."""
    config = RetrievalConfig(corpus=CorpusRef(package="pandas"), k=1)
    bundle = results.bundles["v2"].with_(retrieval=config, template="{{ question }} {{ passages }}")
    return replace(results, bundles={**results.bundles, "v2": bundle})


def measured(n_changed, built_at="2026-05-30T00:00:00+00:00"):
    """An index of which so many documents have changed since."""
    before = {d.id: "0" * 16 for d in TODAY.documents[:n_changed]}
    fresh = check({"documents": {}}, TODAY).added
    hashes = {name: sha256(one.text.encode()).hexdigest()[:16] for name, one in zip(fresh, TODAY, strict=True)}
    return check({"documents": hashes | before, "built_at": built_at, "corpus_name": "manual"}, TODAY, golden=GOLDEN)


RULES = {"goal": superior(), "index": {"stale_at_most": 0.02, "max_age": "2 weeks"}}


def decision_on(freshness, **rules):
    results = retrieving(noisy(0.1))
    known = freshness.recorded_in(results, "v2") if freshness else results
    return decided(policy(**{**RULES, **rules}), known, now=NOW)


def test_a_fresh_index_lets_the_conditions_decide_and_its_figures_are_in_the_receipt() -> None:
    decision = decision_on(measured(0))
    assert decision.word == "PASS"
    receipt = decision.receipt()
    assert receipt.index_freshness["fresh"] is True
    assert Receipt.from_json(receipt.to_json()).differences(decision) == ()


@pytest.mark.parametrize(
    ("freshness", "facts"),
    [
        (measured(60), ("the index of v2 is stale: 30% [24, 37] of the questions", "the policy allows 2%; rebuild it")),
        (measured(2), ("may be more than that",)),  # not shown fresh
        (measured(0, built_at="2026-05-01T00:00:00+00:00"), ("built at 2026-05-01", "more than 2 weeks ago")),
    ],
)
def test_a_stale_or_old_index_makes_the_verdict_invalid_and_says_by_how_much(freshness, facts) -> None:
    decision = decision_on(freshness)
    assert decision.word == "INVALID"
    (reason,) = decision.reasons
    assert [fact for fact in facts if fact not in reason] == []


def test_an_index_that_nobody_measured_is_no_fresh_one() -> None:
    decision = decision_on(None)
    assert decision.word == "INVALID"
    assert all("nobody knows" in reason and "recorded_in" in reason for reason in decision.reasons)
    assert decision_on(None, index=None).word == "PASS"


def test_a_receipt_whose_freshness_was_changed_is_not_confirmed_and_the_same_index_built_again_confirms_it() -> None:
    """Every process builds its own: a decision on results that were logged before names an earlier moment."""
    decision = decision_on(measured(0))
    forged = decision.receipt(index_freshness={"fresh": True, "built_at": "2026-05-31"})
    assert forged.differences(decision) == ("index_freshness",)
    later = {**decision.receipt().index_freshness, "built_at": "2026-11-22T00:00:00+00:00"}
    assert decision.receipt(index_freshness=later).differences(decision) == ()


def test_a_run_records_the_freshness_of_the_index_it_searched(tmp_path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "d0", "text": "alpha"}\n{"id": "d1", "text": "beta"}')
    config = RetrievalConfig(corpus=CorpusRef(jsonl="docs.jsonl"), k=1)
    bundle = Bundle.from_prompt("{{ question }} {{ passages }}", model="openai/gpt-4o-2024-08-06", name="b")
    results = run(
        {"v1": bundle.with_(retrieval=config)},
        GOLDEN.only(first=2),
        client=FakeClient("yes"),
        store=tmp_path / "calls.sqlite",
        base=tmp_path,
        progress=False,
    )
    known = results.provenance["index_freshness"]["v1"]
    assert known["fresh"] is True
    assert known["stale_share"] == 0
    assert datetime.fromisoformat(known["built_at"]).tzinfo is not None
    kept = Results.from_parquet(results.to_parquet(tmp_path / "r.parquet"))
    assert kept.provenance["index_freshness"]["v1"] == known


def test_only_variants_of_the_results_can_be_recorded() -> None:
    with pytest.raises(ValueError, match="v9"):
        measured(0).recorded_in(noisy(0.1), "v9")
