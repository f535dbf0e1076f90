"""Groundedness, context precision and context recall by a judge: one yes or no at a time, and never mixed with ids."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle, CorpusRef, RetrievalConfig
from llmlab.clients.base import Generation
from llmlab.clients.fake import FakeClient
from llmlab.engine.runs import run
from llmlab.gate.passport import Limit
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.labels import Label, Labels, text_digest
from llmlab.judge.context import CONTEXT_RUBRICS, context_judge, context_verdicts, score_context
from llmlab.results.results import Results
from tests.gate.gating import policy
from tests.judge.judged import MODEL, blocks, grade

ANSWERS = "anthropic/claude-sonnet-4-5-20250929"
TEXTS = {"dropna": "dropna removes missing values", "sort": "sort orders rows", "cats": "cats purr at night"}
GOLDEN = GoldenSet(
    (
        Case(id="q0", inputs={"question": "remove missing values?"}, expected=("dropna", "axis|how")),
        Case(id="q1", inputs={"question": "order rows?"}),
    )
)


def careful(request):
    """A judge that holds a statement to be supported where all its words stand in the passages (or the question)."""
    shown = blocks(request)
    read = shown.get("Passages") or shown["Question"]
    wanted = shown["Answer"].lower().replace(".", "").split()
    return grade(int(any(word in read.lower() for word in wanted[-1:])), reason=f"looked for {wanted[-1]}")


def asked(results, judge, tmp_path, reply=careful, **more):
    means = {"store": tmp_path / "calls.sqlite", "progress": False, "client": FakeClient(reply, price_usd=None)}
    return score_context(results, judge, **{**means, **more})


@pytest.fixture
def results(tmp_path):
    rows = [{"id": name, "text": text} for name, text in TEXTS.items()]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = RetrievalConfig(corpus=CorpusRef(jsonl="docs.jsonl"), k=2)
    bundle = Bundle.from_prompt("{{ question }}\n{{ passages }}", model=ANSWERS, name="desk").with_(retrieval=config)
    replies = {"remove missing": "It removes missing values. It mails your boss.", "order rows": "It orders rows."}
    return run(
        {"v1": bundle}, GOLDEN, client=FakeClient(replies), store=tmp_path / "a.sqlite", base=tmp_path, progress=False
    )


def test_groundedness_is_the_share_of_supported_statements_and_names_the_others(results, tmp_path):
    client, where = FakeClient(careful), {"base": tmp_path}
    judged = asked(results, context_judge("groundedness", model=MODEL), tmp_path, client=client, **where)
    assert judged.frame["judged_groundedness"].tolist() == [0.5, 1.0]
    said = json.loads(judged.frame["explanations"][0])["judged_groundedness"]
    assert "1 of 2 no: 'It mails your boss.'" in said
    assert "looked for boss" in said
    metric = judged.metrics["judged_groundedness"]
    assert (metric.low, metric.high) == (0.0, 1.0)
    assert len(client.requests) == 3
    asked(results, context_judge("groundedness", model=MODEL), tmp_path, client=client, **where)
    assert len(client.requests) == 3  # what is stored is not asked again


def test_precision_asks_of_every_passage_and_recall_of_every_expected_fact(results, tmp_path):
    """The question shares `values`/`rows` with the right passage; the facts are read in the passages."""
    results = results.scored_by([ll.scorers.grounded(TEXTS)])
    precision = asked(results, context_judge("context_precision", model=MODEL), tmp_path, base=tmp_path)
    assert precision.frame["judged_context_precision"].tolist() == [1.0, 1.0]
    recall = asked(precision, context_judge("context_recall", model=MODEL), tmp_path, base=tmp_path)
    values = recall.frame["judged_context_recall"].tolist()
    assert values[0] == 0.5  # dropna is there, neither axis nor how is
    assert math.isnan(values[1])  # nothing is expected
    assert "names nothing expected" in recall.frame["explanations"][1]
    assert {"grounded", "judged_context_precision", "judged_context_recall"} <= set(recall.metrics)
    assert all(name.startswith("judged_") for name in (rubric.name for rubric in CONTEXT_RUBRICS.values()))


def test_an_unreadable_verdict_leaves_the_answer_unscored_and_is_never_a_guess(results, tmp_path):
    def half(request):
        return "hm, hard to say" if "boss" in blocks(request)["Answer"] else careful(request)

    judged = asked(results, context_judge("groundedness", model=MODEL), tmp_path, reply=half, base=tmp_path)
    values = judged.frame["judged_groundedness"].tolist()
    assert math.isnan(values[0])
    assert values[1] == 1.0
    assert "1 of 2 verdicts cannot be read" in judged.frame["explanations"][0]


def test_status_decides_without_a_call(tmp_path):
    """No answer is unscored, silence and a timeout are failures, a refusal states nothing, nothing retrieved is 0."""
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": "?"}, expected=("x",)) for i in range(5)))
    answers = [
        Generation(case_id="q0", status="error", error="HTTP 500"),
        Generation(case_id="q1", status="timeout"),
        Generation(case_id="q2", status="empty"),
        Generation(case_id="q3", text="I don't know.", retrieved=("sort",)),
        Generation(case_id="q4", text="It flies."),
    ]
    bundle = Bundle.from_prompt("{{ question }}", model=ANSWERS, name="app")
    answers = [replace(answer, variant="v1") for answer in answers]
    given = Results.from_generations(answers, golden=golden, bundles={"v1": bundle})
    judge, client = context_judge("groundedness", model=MODEL), FakeClient(careful)
    values = asked(given, judge, tmp_path, client=client, corpus=TEXTS).frame["judged_groundedness"].tolist()
    assert [None if math.isnan(value) else value for value in values] == [None, 0.0, 0.0, None, 0.0]
    assert client.requests == []
    recall = context_judge("context_recall", model=MODEL)
    values = asked(given, recall, tmp_path, client=client, corpus=TEXTS).frame["judged_context_recall"].tolist()
    assert [None if math.isnan(value) else value for value in values] == [None, None, 0.0, 0.0, 0.0]


def test_an_application_brings_its_own_texts(tmp_path):
    bundle = Bundle.from_prompt("{{ question }}", model=ANSWERS, name="app")
    answers = [Generation(variant="v1", case_id="q1", text="It orders rows.", retrieved=("sort",))]
    given = Results.from_generations(answers, golden=GOLDEN, bundles={"v1": bundle})
    judge = context_judge("groundedness", model=MODEL)
    assert asked(given, judge, tmp_path, corpus=TEXTS).frame["judged_groundedness"].tolist() == [1.0]
    with pytest.raises(DataError, match="'sort' was retrieved"):
        asked(given, judge, tmp_path, corpus={"other": "text"})
    with pytest.raises(DataError, match="retrieves nothing"):
        asked(given, judge, tmp_path)


def test_the_budget_stops_the_judge_and_says_so(results, tmp_path):
    client = FakeClient(careful, price_usd=Decimal("0.6"))
    judge = context_judge("groundedness", model=MODEL)
    judged = asked(results, judge, tmp_path, base=tmp_path, client=client, budget_usd=1, concurrency=1)
    assert not judged.complete
    assert len(client.requests) < 3
    assert any("udget" in note for note in judged.notes)


def test_single_verdicts_are_labelled_and_give_the_passport_that_the_gate_asks_for(results, tmp_path):
    judge = context_judge("groundedness", model=MODEL)
    means = {"store": tmp_path / "calls.sqlite", "progress": False, "client": FakeClient(careful), "base": tmp_path}
    single = context_verdicts(results, judge, **means)
    assert single.frame["judged_groundedness"].tolist() == [1.0, 0.0, 1.0]
    assert len(ll.judge.to_label(single, 2, metric="judged_groundedness")) == 2
    labels = []
    for row in single.generations():
        question, answer = text_digest(single.golden.by_id[row.case_id].question), text_digest(row.text)
        about = {"rubric": "judged_groundedness", "case_id": row.case_id, "question": question, "answer": answer}
        labels.append(Label(**about, value=int("boss" not in row.text)))
    measured = ll.judge.calibrate(Labels(tuple(labels)), single)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    passport = ll.judge.passport(measured, now=now, limits={"agreement": Limit(at_least=0.1)})
    judged = asked(results, judge, tmp_path, base=tmp_path)
    rules = policy(baseline="none", floors=({"metric": "judged_groundedness", "at_least": 0.1},), minimum_cases=2)
    without = rules.decide(judged, candidate="v1", now=now)
    assert any("no passport" in reason for reason in without.reasons)
    given = rules.decide(judged, candidate="v1", now=now, passports=[passport])
    assert not any("passport" in reason for reason in given.reasons)
    stranger = passport.model_copy(update={"judge_digest": "f" * 64})
    refused = rules.decide(judged, candidate="v1", now=now, passports=[stranger])
    assert any("passport" in reason for reason in refused.reasons)


def test_only_judges_of_context_score_context(results):
    with pytest.raises(ValueError, match="context_judge"):
        score_context(results, ll.judge.Judge.pointwise("relevance", model=MODEL))
    with pytest.raises(ValueError, match="groundedness, context_precision, context_recall"):
        context_judge("truth", model=MODEL)
