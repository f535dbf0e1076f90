"""Two variants in both orders: disagreement is a tie by rule, an error is never a tie."""

import json
import math

import pytest

import llmlab as ll
from tests.judge.judged import answered, blocks

MODEL = "openai/gpt-4o-2024-08-06"


@pytest.fixture
def judge():
    return ll.judge.Judge.pairwise("relevance", model=MODEL)


def preferred(results, judge, replies, tmp_path):
    client = ll.FakeClient(replies)
    found = ll.judge.prefer(results, "v1", "v2", judge, client=client, store=tmp_path / "c.sqlite", progress=False)
    scores = {v: found.frame.loc[found.frame["variant"] == v, judge.metric].tolist() for v in ("v1", "v2")}
    return found, scores, client


def winner(name):
    return json.dumps({"reason": "so", "winner": name})


def likes(word):
    """A judge that prefers the answer with a word in it, wherever it stands."""
    return lambda request: winner("A" if word in blocks(request)["Answer A"] else "B")


def test_the_same_winner_in_both_orders_is_a_preference(judge, tmp_path):
    """1 for it, 0 for the other; two calls per pair."""
    results = answered({"v1": ["good"], "v2": ["bad"]})
    _, scores, client = preferred(results, judge, likes("good"), tmp_path)
    assert scores == {"v1": [1.0], "v2": [0.0]}
    assert len(client.requests) == 2


@pytest.mark.parametrize("reply", ["A", "B", "tie"])
def test_a_judge_that_follows_the_position_gives_a_tie(judge, tmp_path, reply):
    """Always the first, always the second, or a tie twice: half a point each."""
    _, scores, _ = preferred(answered({"v1": ["x"], "v2": ["y"]}), judge, winner(reply), tmp_path)
    assert scores == {"v1": [0.5], "v2": [0.5]}


def test_a_tie_in_one_order_is_a_tie(judge, tmp_path):
    """A preference has to hold in both orders."""
    replies = lambda request: winner("A" if blocks(request)["Answer A"] == "x" else "tie")  # noqa: E731 - a line
    _, scores, _ = preferred(answered({"v1": ["x"], "v2": ["y"]}), judge, replies, tmp_path)
    assert scores == {"v1": [0.5], "v2": [0.5]}


def test_an_unreadable_order_is_no_tie(judge, tmp_path):
    """Both answers of the pair are unscored, and the raw text is kept."""
    replies = lambda request: winner("A") if blocks(request)["Answer A"] == "x" else "A or B"  # noqa: E731 - a line
    found, scores, _ = preferred(answered({"v1": ["x"], "v2": ["y"]}), judge, replies, tmp_path)
    assert all(math.isnan(value) for values in scores.values() for value in values)
    assert "A or B" in found.frame["explanations"][0]


def test_what_needs_no_judge_is_not_asked(judge, tmp_path):
    """The same text is a tie, an empty one loses, one that never came is unscored."""
    results = answered({"v1": ["same", "", None, "x"], "v2": ["same", "y", "y", ""]})
    _, scores, client = preferred(results, judge, winner("A"), tmp_path)
    assert scores["v1"][:2] == [0.5, 0.0]
    assert math.isnan(scores["v1"][2])
    assert scores["v1"][3] == 1.0
    assert not client.requests


def test_the_preference_can_be_compared_and_calibrated(judge, tmp_path):
    """`compare` tests whether v2 is preferred; the verdicts behind it come as a table."""
    results = answered({"v1": ["bad one"] * 30, "v2": [f"good {i}" for i in range(30)]})
    found, _, _ = preferred(results, judge, likes("good"), tmp_path)
    row = next(iter(found.compare("v1", metrics=[judge.metric])))
    assert row.difference.value == 1.0
    verdicts = ll.judge.verdict_frame(found, judge.metric)
    assert verdicts["order1"].tolist() == verdicts["order2"].tolist() == [2] * 30
    assert verdicts["words_1"].tolist() == [2] * 30


def test_long_replies_do_not_break_the_record(judge, tmp_path):
    """Verdicts are read back whatever the judge wrote around them."""
    chatter = 'é"\\\n' * 3000
    replies = lambda request: f"{chatter}\nWinner: A\n\nIs that fine? {chatter}"  # noqa: E731 - a line
    found, _, _ = preferred(answered({"v1": ["x"], "v2": ["y"]}), judge, replies, tmp_path)
    assert len(ll.judge.verdict_frame(found, judge.metric)) == 1


def test_two_variants_that_exist_are_needed(judge, tmp_path):
    """Named in the message."""
    with pytest.raises(ValueError, match="must be two of v1"):
        ll.judge.prefer(answered({"v1": ["x"]}), "v1", "v3", judge)
