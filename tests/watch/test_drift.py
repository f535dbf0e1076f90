"""Drift: one value per user and day, a test and a size, in two days; topics by words, embeddings where a model is."""

import numpy as np
import pytest

import llmlab as ll
from llmlab.base.words import words
from llmlab.bundle.bundle import ModelRef
from llmlab.local.setup import package_file
from llmlab.local.vectors import TABLE
from llmlab.search import Embedder
from llmlab.watch.drift import NO_TOPIC, Topics
from tests.watch.incidents import GOLDEN, NEW_TOPIC
from tests.watch.test_rules import NOW, rules, traffic

CASES = ll.GoldenSet.load(GOLDEN)
QUESTIONS = [case.inputs["question"] for case in CASES]
DAYS = (0, 6, 7, 13, 14, 20, 21, 27, 28)  # the last two, and the same weekdays before


def asked(question_of):
    return lambda day, place: f'{{"question": "{question_of(day, place)}"}}'


def read(traces, column, *, golden=CASES, embed=None):
    policy = rules({"metric": "error_rate", "above": 0.5}, drift=[column])
    found = ll.Watch(policy=policy, golden=golden, embed=embed).report(traces, now=NOW).readings
    return next((one for one in found if one.metric == f"{column} drift"), None)


def usual(place):
    return QUESTIONS[place % len(QUESTIONS)].replace('"', "")


def test_a_topic_is_the_tag_of_the_golden_question_most_like_it_or_none():
    """Golden questions get their own; invoices get none, though "last" and "month" are words of pandas."""
    topics = Topics(golden=CASES)
    own = [case.tags[0] for case in CASES]
    assert np.mean([found == tag for found, tag in zip(topics.of(QUESTIONS), own, strict=True)]) > 0.99
    assert topics.of(NEW_TOPIC).count(NO_TOPIC) >= 2
    assert topics.of(["", "?!"]) == [NO_TOPIC, NO_TOPIC]


def test_a_new_topic_needs_two_days():
    """On the last day alone it is to look at; on both it alerts, with the page and since when."""
    for first_day, state in ((28, "WATCH"), (27, "ALERT")):
        new = asked(
            lambda day, place, first=first_day: NEW_TOPIC[2] if day >= first and place % 9 == 0 else usual(place)
        )
        reading = read(traffic(days=DAYS, inputs=new), "new_topic")
        assert reading.state == state
        assert "like no golden question: 0.0%" in reading.what


def test_one_person_who_asks_all_day_is_one_value():
    """A third of the requests are new, all of one user: no drift of people."""
    new = asked(lambda day, place: NEW_TOPIC[2] if day >= 27 and place % 3 == 0 else usual(place))
    unit = lambda day, place: "the one" if place % 3 == 0 else f"u{day}-{place}"  # noqa: E731
    assert read(traffic(days=DAYS, inputs=new, unit_id=unit), "new_topic").state == "quiet"


def test_a_small_move_is_no_drift():
    """Answers a quarter of which are one word longer; those that are eight words longer alert."""
    small = lambda day, place: "word " * (20 + place % 10 + (day >= 27 and place // 10 % 4 == 0))  # noqa: E731
    large = lambda day, place: "word " * (20 + place % 10 + 8 * (day >= 27))  # noqa: E731
    assert read(traffic(days=DAYS, text=small), "answer_words").state == "quiet"
    reading = read(traffic(days=DAYS, text=large), "answer_words")
    assert (reading.state, reading.runbook) == ("ALERT", "silent-model-update.md")


def test_embeddings_are_read_where_there_is_a_model():
    """By how near a question lies to the nearest golden one; here a model of ten dimensions."""

    def embed(texts):
        rows = np.zeros((len(texts), 10), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                row[hash_of(word)] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def hash_of(word):
        return sum(map(ord, word)) % 10

    new = asked(lambda day, place: f"{NEW_TOPIC[place % 5]} {place}" if day >= 27 and place % 3 == 0 else usual(place))
    reading = read(traffic(days=DAYS, inputs=new), "question_embedding", embed=embed)
    assert (reading.state, reading.runbook) == ("ALERT", "new-topic.md")


@pytest.mark.local
@pytest.mark.skipif(package_file(*TABLE) is None, reason="`llmlab local setup` has not been run")
def test_vectors_of_this_machine_tell_a_new_topic_from_the_usual_questions(tmp_path):
    embed = Embedder(ModelRef.parse("local/wordllama-256"), store=tmp_path / "c.sqlite")
    new = asked(lambda day, place: f"{NEW_TOPIC[place % 5]} {place}" if day >= 27 and place % 3 == 0 else usual(place))
    same = asked(lambda _day, place: usual(place))
    states = [
        read(traffic(days=DAYS, inputs=inputs), "question_embedding", embed=embed).state for inputs in (new, same)
    ]
    assert states == ["ALERT", "quiet"]


@pytest.mark.parametrize(("column", "needs"), [("question_embedding", "model"), ("topic", "golden set")])
def test_a_column_that_cannot_be_read_is_told_where_the_file_asks_for_it(column, needs):
    reading = read(traffic(days=DAYS), column, golden=None)
    assert reading.state == "TOO LITTLE DATA"
    assert needs in reading.what
