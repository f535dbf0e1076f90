"""Answers graded through the same clients, call store, budget and statuses as every run."""

import json
import math
import warnings
from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.base.errors import BudgetError, TransportError
from llmlab.clients.base import Generation
from llmlab.results.labelled import label_keys
from tests.judge.judged import MODEL, answered, blocks, called, grade, means, weather


@pytest.fixture
def judge():
    return ll.judge.Judge.pointwise("correctness", model=MODEL)


def scored(results, judge, replies, tmp_path, **options):
    asked = means(tmp_path, replies)
    return ll.judge.score(results, judge, **asked, **options), asked["client"]


def by_reading(request):
    """A judge that grades 5 where the answer names what the reference names."""
    shown = blocks(request)
    return grade(5 if shown["Reference"].removeprefix("- ") in shown["Answer"] else 1)


def test_every_answer_gets_a_grade_and_the_metric_carries_the_judge(judge, tmp_path):
    """Bounds from the scale, digest of the judge's bundle."""
    results = answered({"v1": ["Use dropna.", "Use fillna."]})
    judged, _ = scored(results, judge, by_reading, tmp_path)
    assert judged.frame["correctness"].tolist() == [5.0, 1.0]
    assert judged.metrics["correctness"].judge == judge.digest
    assert (judged.metrics["correctness"].low, judged.metrics["correctness"].high) == (1.0, 5.0)
    assert judged.provenance["judges"]["correctness"]["pinned"] is True
    assert judged.summary() is not None


def test_an_unreadable_reply_is_unscored_with_its_raw_text_kept(judge, tmp_path):
    judged, _ = scored(answered({"v1": ["Use dropna."]}), judge, "Score: 4 or 5", tmp_path)
    assert math.isnan(judged.frame["correctness"][0])
    said = json.loads(judged.frame["explanations"][0])["correctness"]
    assert said.startswith("unscored (")
    assert "Score: 4 or 5" in said
    assert judged.provenance["judges"]["correctness"]["unscored"] == 1


def down(_request):
    raise TransportError("no route")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Generation(status="refused", text='{"score": 5}'), "refused"),
        (Generation(status="truncated", text='{"score": 5}'), "cut off"),
        (Generation(status="empty"), "empty"),
        (down, "no route"),
    ],
)
def test_a_judge_that_does_not_finish_or_cannot_be_reached_gives_no_score(judge, tmp_path, reply, reason):
    judged, _ = scored(answered({"v1": ["a", "b"]}), judge, reply, tmp_path)
    assert judged.frame["correctness"].isna().all()
    assert reason in judged.frame["explanations"][0]


def test_what_needs_no_judge_is_not_asked(judge, tmp_path):
    """An empty answer is the worst level, one that never came is unscored."""
    judged, client = scored(answered({"v1": ["", None, "Use dropna."]}), judge, by_reading, tmp_path)
    assert judged.frame["correctness"].tolist()[0] == 1.0
    assert math.isnan(judged.frame["correctness"].tolist()[1])
    assert len(client.requests) == 1


def test_a_case_without_a_reference_is_unscored_by_a_rubric_that_needs_one(judge, tmp_path):
    judged, client = scored(answered({"v1": ["a"]}, expected=()), judge, by_reading, tmp_path)
    assert math.isnan(judged.frame["correctness"][0])
    assert not client.requests


def test_judging_again_asks_nothing(judge, tmp_path):
    """Codes are drawn from the content, so the call store hits; equal answers are asked once."""
    results = answered({"v1": ["same", "x"], "v2": ["same", "y"]})
    first, client = scored(results, judge, grade(3), tmp_path)
    assert len(client.requests) == 3
    again, client = scored(results, judge, grade(5), tmp_path)
    assert not client.requests
    assert again.frame["correctness"].tolist() == first.frame["correctness"].tolist() == [3.0] * 4
    assert again.provenance["judges"]["correctness"]["calls"] == 0


def test_a_budget_holds_for_judges_too(judge, tmp_path):
    """An unknown price is refused before the first call."""
    with pytest.raises(BudgetError):
        scored(answered({"v1": ["a"]}), judge, grade(3), tmp_path, budget_usd=1)


def test_a_judge_of_the_candidates_family_warns(tmp_path):
    """A monoculture judges itself; the note stays with the results."""
    bundle = ll.Bundle.from_prompt("{{ question }}", model="azure/gpt-4o", name="v1")
    golden = ll.GoldenSet((ll.Case(id="q", inputs={"question": "?"}, expected=("x",)),))
    results = ll.run(bundle, golden, client=ll.FakeClient("x"), store=tmp_path / "a.sqlite", progress=False)
    judge = ll.judge.Judge.pointwise("correctness", model=MODEL)
    with pytest.warns(UserWarning, match="same family"):
        judged, _ = scored(results, judge, grade(3), tmp_path)
    assert any("same family" in note for note in judged.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = ll.judge.Judge.pointwise("correctness", model="anthropic/claude-3-5-haiku-20241022")
        scored(results, other, grade(3), tmp_path)


def test_two_judges_stand_side_by_side_under_names_of_their_own(judge, tmp_path):
    other = ll.judge.Judge.pointwise("correctness", model="anthropic/claude-3-5-haiku-20241022")
    results, _ = scored(answered({"v1": ["a"]}), judge, grade(2), tmp_path)
    results, _ = scored(results, other, grade(4), tmp_path, name="second")
    assert (results.frame["correctness"][0], results.frame["second"][0]) == (2.0, 4.0)
    assert set(json.loads(results.frame["explanations"][0])) == {"correctness", "second"}
    with pytest.raises(ValueError, match="column of the results"):
        scored(results, other, grade(4), tmp_path, name="text")


def test_a_pairwise_judge_does_not_grade(tmp_path):
    with pytest.raises(ValueError, match="prefer"):
        scored(answered({"v1": ["a"]}), ll.judge.Judge.pairwise("tone", model=MODEL), grade(3), tmp_path)


def test_an_answer_that_calls_a_tool_is_judged_by_its_text_and_its_calls(tmp_path):
    """A call without a word is no empty answer; calls stand below the text; without one nothing is added."""
    judge = ll.judge.Judge.pointwise("relevance", model=MODEL)
    results = called(v1=[("", [weather("Köln")]), ("I look it up.", [weather("Paris")]), ("Rain.", [])])
    judged, client = scored(results, judge, lambda r: grade(5 if "Köln" in blocks(r)["Answer"] else 2), tmp_path)
    assert judged.frame["relevance"].tolist() == [5.0, 2.0, 2.0]
    shown = {blocks(request)["Answer"] for request in client.requests}
    call = '{"name": "weather", "arguments": {"city": "%s"}}'
    assert shown == {call % "Köln", f"I look it up.\n{call % 'Paris'}", "Rain."}


def test_labels_of_different_tool_calls_are_labels_of_different_answers():
    results = called(v1=[("", [weather("Köln")])], v2=[("", [weather("Bonn")])], v3=[("", [weather("Köln")])])
    first, second, third = label_keys(results.frame, results.golden)
    assert first == third != second


def test_a_judge_that_sees_no_pictures_says_so(judge, tmp_path):
    """It is told of their kind and size, and never shown base64."""
    url = "data:image/png;base64," + "A" * 4000
    picture = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    results = answered({"v1": ["A cat.", "A dog."]})
    assert not any("pictures" in note for note in scored(results, judge, by_reading, tmp_path / "a")[0].notes)
    first, second = results.golden.cases
    golden = ll.GoldenSet((replace(first, inputs={"question": picture}), second))
    seen, client = scored(replace(results, golden=golden), judge, by_reading, tmp_path / "b")
    assert any("1 case with pictures" in note for note in seen.notes)
    assert not any("AAAA" in str(request.messages) for request in client.requests)
