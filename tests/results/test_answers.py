"""Answers become columns and answers again, whatever is in them."""

import asyncio
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Usage
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import TEXTS_AT_ONCE, AnswerSheet, scores_of
from llmlab.results.elsewhere import answers_of
from llmlab.results.results import Results
from llmlab.scorers import Score, scorer

FULL = Generation(
    variant="v1",
    case_id="q1",
    repeat=2,
    status="truncated",
    text="drop\x00na \ud800 ✓",
    retrieved=("DataFrame.dropna", "a\udfff"),
    tool_calls=({"name": "f", "arguments": {"x": [1, None]}},),
    usage=Usage(input_tokens=10, output_tokens=0, cached_input_tokens=4),
    latency_s=0.25,
    first_token_s=0.1,
    cost_usd=Decimal("0.000123"),
    served_model="m-1",
    system_fingerprint="fp",
    cached=True,
    attempts=3,
    error="",
    steps=("search", "answer"),
    call_key="k",
)
BARE = Generation(variant="v1", case_id="q2", status="error", error="no route")


def results(*generations):
    """Results of these answers."""
    golden = GoldenSet(tuple(Case(id=name, inputs={"question": "?"}) for name in ("q1", "q2")))
    bundle = Bundle.from_prompt("{{ question }}", model="offline/extractive-1")
    return Results.from_generations(generations, golden=golden, bundles={"v1": bundle})


def test_an_answer_survives_the_frame_and_back():
    """Every field, with the lone surrogate written as its escape; unknown stays unknown and is no zero."""
    back = list(results(FULL, BARE).generations())
    assert back[0].text == "drop\x00na \\ud800 ✓"
    assert back[0].retrieved == ("DataFrame.dropna", "a\\udfff")
    for name in ("usage", "cost_usd", "latency_s", "tool_calls", "steps", "status", "cached", "attempts", "repeat"):
        assert getattr(back[0], name) == getattr(FULL, name)
    assert back[1].cost_usd is None
    assert back[1].usage == Usage()
    assert back[1].latency_s is None


@pytest.mark.parametrize("n", [1, TEXTS_AT_ONCE, 2 * TEXTS_AT_ONCE + 3])
def test_a_sheet_keeps_each_answer_in_its_place_in_whatever_order_they_come(n):
    """Places that nothing came for have no row; scores stand beside their answer."""
    sheet = AnswerSheet(n + 2, [scorer(lambda case, generation: 1, name="said")])
    for place in np.random.default_rng(0).permutation(n) + 1:
        sheet.put(place, Generation(variant="v1", case_id=f"q{place}", text=f"answer {place}"))
        if place % 2:
            sheet.score(place, {"said": Score(value=place, explanation=f"why {place}")})
    assert len(sheet) == n
    frame = sheet.frame()
    assert frame["case_id"].tolist() == [f"q{place}" for place in range(1, n + 1)]
    assert frame["text"].tolist() == [f"answer {place}" for place in range(1, n + 1)]
    assert frame["said"].tolist()[::2] == list(range(1, n + 1, 2))
    assert frame["said"][1::2].isna().all()
    assert frame["explanations"].tolist()[:2] == ['{"said": "why 1"}', ""][:n]


ANSWER = ("v1", "q1", "a", 0)


def table(*rows):
    return pd.DataFrame(list(rows), columns=["variant", "case_id", "text", "repeat"])


def read(frame):
    """Its answers, for the cases q1 and q2."""
    return answers_of(frame, case_ids={"q1", "q2"}, columns=("variant", "case_id", "text", "repeat"))


def test_answers_made_elsewhere_get_a_status():
    """Empty is an answer that failed; missing is no answer."""
    answers = read(table(("v1", "q1", "yes", 0), ("v1", "q2", " ", 0), ("v2", "q1", None, 0), ("v2", "q2", pd.NA, 0)))
    assert [answer.status for answer in answers] == ["ok", "empty", "error", "error"]


def test_second_answers_are_numbered():
    assert [answer.repeat for answer in read(table(ANSWER, ("v1", "q1", "b", 1)))] == [0, 1]


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        (table(ANSWER, ANSWER).drop(columns="repeat"), "rows 1 and 2"),
        (table(ANSWER).drop(columns="text"), "'text'"),
        (table(("v1", "q9", "a", 0)), "'q9'"),
        *((table(("v1", "q1", "a", repeat)), "repeat ==") for repeat in (-1, 0.5, "x", True)),
    ],
)
def test_what_cannot_be_the_answers_to_these_cases_is_refused(frame, rule):
    with pytest.raises(DataError, match=rule):
        read(frame)


def test_scores_of_others_are_kept_beside_new_explanations():
    before = '{"other": "why", "said": "old"}'
    scored = results(FULL).with_columns(explanations=[before])
    (again,) = scored.scored_by([scorer(lambda case, generation: None, name="said")]).answers("said", "explanations")
    assert math.isnan(again[0])
    assert '"other": "why"' in again[1]
    assert "old" not in again[1]


def test_async_scorers_are_awaited_inside_a_running_loop_too():

    @scorer
    async def slow(case, generation):
        await asyncio.sleep(0)
        return 1.0

    async def in_jupyter():
        return list(scores_of([slow], [(Case(id="q1", inputs={"question": "?"}), FULL)] * 3))

    assert [scores["slow"].value for scores in asyncio.run(in_jupyter())] == [1.0] * 3
