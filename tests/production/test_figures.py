"""One table of what the field watches, each figure with its n, and nothing of what is not known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError

START = datetime(2026, 3, 2, tzinfo=UTC)
ROWS = pd.DataFrame(
    {
        "time": [START + timedelta(hours=hours) for hours in (0, 1, 2, 30, 31)],
        "unit_id": ["a", "a", "b", "", "c"],
        "session_id": ["s1", "s1", "s2", "s3", "s4"],
        "service": ["x", "x", "y", "y", "y"],
        "status": ["ok", "error", "refused", "timeout", "error"],
        "error_code": ["", "429", "", "", "529"],
        "attempts": [1, 3, 1, np.nan, np.nan],
        "latency_s": [1.0, 2.0, 3.0, 4.0, 5.0],
        "cost_usd": [0.1, np.nan, 0.3, np.nan, 0.5],
        "prompt_tokens": [100, 200, 300, np.nan, np.nan],
        "completion_tokens": [10, 20, 60, np.nan, np.nan],
        "cached_tokens": [50, 0, np.nan, np.nan, np.nan],
        "context_tokens": [1000, 1000, 1000, np.nan, np.nan],
        "fallback": [0, 1, np.nan, np.nan, np.nan],
        "guards": [[], ["no_pii"], [], [], []],
        "retrieved": [["d1", "d2"], [], None, None, None],
        "text": ["yes!", None, "I cannot.", None, None],
        "signals.thumbs": [1, np.nan, 0, np.nan, np.nan],
        "signals.conversion": [1, 0, 0, np.nan, np.nan],
        "signals.grounded": [0.5, np.nan, 1.0, np.nan, np.nan],
    }
)


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("requests", 5, 5),
        ("units", 3, 4),
        ("sessions", 4, 5),
        ("error rate", 3 / 5, 5),
        ("errors 429", 1 / 5, 5),
        ("errors timeout", 1 / 5, 5),
        ("retries", 1 / 3, 3),
        ("latency p50", 3.0, 5),
        ("latency p99", None, 5),
        ("time to first token p50", None, 0),
        ("tokens in", 600, 3),
        ("tokens out", 90, 3),
        ("tokens cached", 50, 2),
        ("tokens per second p50", 10, 3),
        ("context used p95", None, 3),
        ("cost", 0.9, 3),
        ("cost per request", 0.3, 3),
        ("cost per day", 0.9 / (31 / 24), 3),
        ("cost per user", 0.3, 3),
        ("cost per successful task", 0.9, 3),
        ("cost of x", 0.1, 1),
        ("refusals", 1 / 5, 5),
        ("guards fired", 1 / 5, 5),
        ("fallbacks", 1 / 2, 2),
        ("answer length p50", 6.5, 2),
        ("retrieval hits", 1 / 2, 2),
        ("groundedness", 0.75, 2),
        ("feedback thumbs", 0.5, 2),
        ("response rate thumbs", 2 / 5, 5),
        ("sessions that ended without an answer", 1.0, 4),
    ],
)
def test_each_figure_is_what_a_hand_counts(name, value, n):
    """A percentile of too few and a mean of nothing are missing."""
    figure = ll.Traces.from_frame(ROWS).figures()[name]
    assert figure.n == n
    assert figure.value == (value if value is None else pytest.approx(value))


def test_groups_stand_side_by_side_and_new_codes_are_told():
    """Days in order; a code that the last day brought is named."""
    figures = ll.Traces.from_frame(ROWS).figures("day")
    assert [name for name, _ in figures.groups] == ["2026-03-02", "2026-03-03"]
    assert figures.new_codes == {"timeout": 1, "529": 1}
    assert "529 (1)" in str(figures)
    tidy = figures.to_frame().set_index(["by", "figure"])
    assert tidy.loc[("2026-03-03", "requests"), "n"] == 2
    assert "nan" not in str(figures)
    assert [name for name, _ in ll.Traces.from_frame(ROWS).figures("service").groups] == ["x", "y"]


def test_silence_of_young_requests_is_no_answer_yet():
    """Requests younger than a signal's maturity are out of its response rate, and counted."""
    late = START + timedelta(hours=32)
    figures = ll.Traces.from_frame(ROWS).figures(maturity={"thumbs": timedelta(hours=5)}, now=late)
    assert (figures["response rate thumbs"].value, figures["response rate thumbs"].n) == (2 / 3, 3)
    assert figures.young == {"thumbs": 2}
    for given in ({"by": "colour"}, {"maturity": {"smiles": timedelta(1)}}):
        with pytest.raises(DataError, match=r"colour|smiles"):
            ll.Traces.from_frame(ROWS).figures(**given)


def test_what_a_shadow_answered_is_in_no_figure(tmp_path):
    """Nobody saw it: left out and said so; by arm it stands apart."""
    base = ROWS.assign(request_id=list("abcde"), arm="baseline")
    shadow = base.assign(request_id=[f"{name}:shadow" for name in "abcde"], arm="shadow", status="error", cost_usd=9.0)
    both = ll.Traces.from_frame(pd.concat([base, shadow], ignore_index=True))
    alone, figures = ll.Traces.from_frame(base).figures(), both.figures()
    assert figures.groups == alone.groups
    assert figures.new_codes == alone.new_codes
    assert "5 second answers of a shadow left out" in str(figures)
    assert "5 requests of them second answers of a shadow" in str(both)
    by_arm = both.figures("arm")
    assert [name for name, _ in by_arm.groups] == ["baseline", "shadow"]
    assert (by_arm["error rate"].value, by_arm.shadows) == (1.0, 0)
    with pytest.raises(DataError, match="nobody saw"):
        ll.Traces.from_frame(shadow).figures()


def test_who_leaves_is_told_apart_from_errors():
    rows = ROWS.assign(error_code=["", "CancelledError", "", "", "529"])
    figures = ll.Traces.from_frame(rows).figures()
    assert (figures["error rate"].value, figures["error rate"].n) == (2 / 4, 4)
    assert (figures["cancelled"].value, figures["cancelled"].n) == (1 / 5, 5)
    assert "errors CancelledError" not in figures.to_frame()["figure"].tolist()


def test_shares_of_codes_add_up_to_the_error_rate_and_nobody_who_left_is_a_nought():
    rows = ROWS.assign(error_code=["", "CancelledError", "", "", "529"], arm=list("aaabb"))
    table = ll.Traces.from_frame(rows).figures("arm").to_frame().set_index(["by", "figure"])["value"]
    codes = {by: table[by].filter(like="errors ").sum() for by in "ab"}
    assert codes == {by: pytest.approx(table[by, "error rate"]) for by in "ab"}
    assert (table["a", "cancelled"], table["b", "cancelled"]) == (1 / 3, 0)


def test_the_share_of_the_context_is_by_the_list_where_nobody_says():
    """gpt-4o takes 128,000 tokens; of a model of one's own nobody knows."""
    rows = pd.DataFrame(
        {"time": [START] * 40, "prompt_tokens": 12_800, "served_model": ["gpt-4o-2024-08-06", "own"] * 20}
    )
    figure = ll.Traces.from_frame(rows).figures()["context used p95"]
    assert (figure.value, figure.n) == (pytest.approx(0.1), 20)
