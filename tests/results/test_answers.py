"""Answers become columns and answers again, whatever is in them."""

import asyncio
import math
from decimal import Decimal

import pandas as pd
import pytest

from llmlab.base.errors import DataError, FileRuleError
from llmlab.clients.base import Generation, Usage
from llmlab.golden.cases import Case
from llmlab.results.answers import (
    FACTS,
    answers_of,
    frame_of,
    generations_of,
    read_results,
    score_columns,
    storable,
    write_results,
)
from llmlab.scorers import scorer

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


def test_an_answer_survives_the_frame_and_back():
    """Every field, with the lone surrogate written as its escape; unknown stays unknown and is no zero."""
    back = list(generations_of(frame_of([FULL, BARE])))
    assert back[0].text == "drop\x00na \\ud800 ✓"
    assert back[0].retrieved == ("DataFrame.dropna", "a\\udfff")
    for name in ("usage", "cost_usd", "latency_s", "tool_calls", "steps", "status", "cached", "attempts", "repeat"):
        assert getattr(back[0], name) == getattr(FULL, name)
    assert back[1].cost_usd is None
    assert back[1].usage == Usage()
    assert back[1].latency_s is None


def written_and_read(frame, folder):
    """The frame of a file with nothing else in it."""
    facts = {**dict.fromkeys(FACTS, ""), "provenance": {}, "notes": ()}
    path = write_results(folder / "a.parquet", frame=frame, metrics={}, bundles={}, golden=None, facts=facts)
    return read_results(path)["frame"]


def test_a_frame_survives_parquet(tmp_path):
    """NULs, escapes, empty lists and NaN come back equal."""
    frame = frame_of([FULL, BARE])
    pd.testing.assert_frame_equal(written_and_read(frame, tmp_path), frame)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_frame_without_rows_survives_parquet(tmp_path):
    """A run that was stopped at once has none."""
    assert len(written_and_read(frame_of([]), tmp_path)) == 0


def test_what_is_no_parquet_file_is_refused(tmp_path):
    """A torn file, a folder, nothing at all: each with its path."""
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    for name in ("torn.parquet", "none.parquet"):
        with pytest.raises(FileRuleError, match=name):
            read_results(tmp_path / name)


def table(*rows):
    """A table of variant, case, text, repeat."""
    return pd.DataFrame(list(rows), columns=["variant", "case_id", "text", "repeat"])


def read(frame, repeat="repeat"):
    """Its answers, for the cases q1 and q2."""
    return answers_of(frame, case_ids={"q1", "q2"}, columns=("variant", "case_id", "text", repeat))


def test_answers_made_elsewhere_get_a_status():
    """Empty is an answer that failed; missing is no answer."""
    found = read(table(("v1", "q1", "yes", 0), ("v1", "q2", " ", 0), ("v2", "q1", None, 0), ("v2", "q2", pd.NA, 0)))
    assert [answer.status for answer in found] == ["ok", "empty", "error", "error"]


def test_a_second_answer_needs_its_repeat():
    """Duplicates are refused with their rows, unless they are numbered."""
    twice = table(("v1", "q1", "a", 0), ("v1", "q1", "b", 1))
    assert [answer.repeat for answer in read(twice)] == [0, 1]
    with pytest.raises(DataError, match="rows 1 and 2"):
        read(twice, repeat="other")


@pytest.mark.parametrize("repeat", [-1, 0.5, "x", True])
def test_a_repeat_is_a_whole_number(repeat):
    """0, 1, 2, ..."""
    with pytest.raises(DataError, match="repeat =="):
        read(table(("v1", "q1", "a", repeat)))


def test_unknown_cases_and_columns_are_named():
    """A join that loses rows is no join."""
    with pytest.raises(DataError, match="'q9'"):
        read(table(("v1", "q9", "a", 0)))
    with pytest.raises(DataError, match="'text'"):
        read(table(("v1", "q1", "a", 0)).drop(columns="text"))


CASE = Case(id="q1", inputs={"question": "?"}, expected=("yes",))


def test_scores_of_others_are_kept_beside_new_explanations():
    """A second round of scoring replaces its own explanations and no others."""
    said = scorer(lambda case, generation: None, name="said")
    found = score_columns([said], [(CASE, FULL)], explanations=['{"other": "why", "said": "old"}'])
    assert math.isnan(found["said"][0])
    assert '"other": "why"' in found["explanations"][0]
    assert "old" not in found["explanations"][0]


def test_async_scorers_are_awaited_inside_a_running_loop_too():
    """As in Jupyter, whose loop is left alone."""

    @scorer
    async def slow(case, generation):
        await asyncio.sleep(0)
        return 1.0

    async def in_jupyter():
        return score_columns([slow], [(CASE, FULL)] * 3, explanations=[""] * 3)

    assert asyncio.run(in_jupyter())["slow"].tolist() == [1.0] * 3


def test_storable_text_is_left_as_it_is():
    """Only a lone surrogate changes."""
    assert storable("naïve ✓ \x00") == "naïve ✓ \x00"
    assert storable("\ud800") == "\\ud800"
