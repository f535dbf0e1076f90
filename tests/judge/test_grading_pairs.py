"""Two variants in both orders: disagreement is a tie by rule, an error is never a tie."""

import json
import math

import pytest

import llmlab as ll
from tests.judge.judged import MODEL, answered, blocks, called, means, weather


@pytest.fixture
def judge():
    return ll.judge.Judge.pairwise("relevance", model=MODEL)


def preferred(results, judge, replies, tmp_path):
    asked = means(tmp_path, replies)
    found = ll.judge.prefer(results, "v1", "v2", judge, **asked)
    scores = {v: found.frame.loc[found.frame["variant"] == v, judge.metric].tolist() for v in ("v1", "v2")}
    return found, scores, asked["client"]


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


@pytest.mark.parametrize(("x_first", "y_first"), [("A", "A"), ("B", "B"), ("tie", "tie"), ("A", "tie")])
def test_a_preference_has_to_hold_in_both_orders(judge, tmp_path, x_first, y_first):
    """Always the first, always the second, a tie twice or once: half a point each."""
    replies = lambda request: winner(x_first if blocks(request)["Answer A"] == "x" else y_first)  # noqa: E731 - a line
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
    with pytest.raises(ValueError, match="must be two of v1"):
        ll.judge.prefer(answered({"v1": ["x"]}), "v1", "v3", judge)


def test_tool_calls_are_compared_and_judged_with_the_text(judge, tmp_path):
    """Neither a missing text nor one same preamble makes a tie; the same calls do."""
    right, wrong = weather("Köln"), weather("Bonn")
    pairs = called(
        v1=[("", [right]), ("I look it up.", [right]), ("", [right])],
        v2=[("", [wrong]), ("I look it up.", [wrong]), ("", [right])],
    )
    _, scores, client = preferred(pairs, judge, likes("Köln"), tmp_path)
    assert scores == {"v1": [1.0, 1.0, 0.5], "v2": [0.0, 0.0, 0.5]}
    assert len(client.requests) == 4
