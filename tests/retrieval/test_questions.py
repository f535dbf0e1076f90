"""Do people still ask what the golden set asks: the mix of topics, and questions like none of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmlab.base.errors import DataError
from llmlab.golden.cases import Case, GoldenSet
from llmlab.retrieval.questions import NO_TOPIC, question_drift

HELP = Path(__file__).parents[2] / "experiments" / "pandas_help"


@pytest.fixture(scope="module")
def golden() -> GoldenSet:
    return GoldenSet.load(HELP / "golden.jsonl")


def questions(golden: GoldenSet, *tags: str) -> list[str]:
    return [str(case.inputs["question"]) for case in golden if not tags or set(case.tags) & set(tags)]


def test_the_same_kind_of_questions_is_no_drift(golden):
    """Half of the golden questions, each with words around it."""
    found = question_drift(golden, [f"Hello, please tell me: {text}" for text in questions(golden)[::2]])
    assert not found.moved
    assert "still asks what people ask" in str(found)


def test_of_too_few_questions_nothing_is_said_unless_they_show_it():
    """200 golden questions on ten topics: five recent ones tell nothing, of twenty twelve on one topic do."""
    topics = ["join", "merge", "group", "sort", "index", "plot", "time", "string", "float", "null"]
    about = [(topic, f"how do I {topic} rows number {i} quickly {topic}") for topic in topics for i in range(20)]
    asks = GoldenSet(
        tuple(Case(id=str(i), inputs={"question": text}, tags=(topic,)) for i, (topic, text) in enumerate(about))
    )
    few = question_drift(asks, [f"how to {topic} rows" for topic in topics[:5]])
    assert "Whether the golden set still asks what people ask cannot be told" in str(few)
    assert "still asks what people ask, as far" not in str(few)
    found = question_drift(asks, ["how to join rows"] * 12 + [f"how to {topic} rows" for topic in topics[1:9]])
    assert "no longer what people ask" in str(found)
    one = GoldenSet(tuple(Case(id=str(i), inputs={"question": f"join {i}"}, tags=("join",)) for i in range(200)))
    assert "cannot be told" in str(question_drift(one, ["join"] * 200))


def test_another_mix_of_topics_is_named_with_what_grew_and_what_shrank(golden):
    found = question_drift(golden, questions(golden, "time series", "windows") * 2)
    assert found.moved
    assert "Most more: time series" in str(found)
    assert "no longer what people ask" in str(found)


def test_questions_like_none_of_the_golden_set_are_counted_and_kept(golden):
    strange = ["Wie storniere ich meine Bestellung?", "quiero devolver zapatos"] * 30
    found = question_drift(golden, [*questions(golden)[:40], *strange])
    assert found.moved
    assert len(found.unlike) == 60
    assert found.mix.counts[NO_TOPIC][1] == 60


def test_without_questions_or_tags_there_is_nothing_to_compare(golden):
    with pytest.raises(DataError, match="no recent question"):
        question_drift(golden, ["  "])
    with pytest.raises(DataError, match="have no tags"):
        question_drift(GoldenSet((Case(id="q", inputs={"question": "why"}),)), ["why"])
