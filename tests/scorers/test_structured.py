"""Scorers of answers with a form: what is right, and what they say of what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import scorers
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers import Score, Scorer, score_all
from llmlab.scorers.structured import numbers_in

TICKET = {"team": "billing", "total": 12.5, "customer": {"city": "Köln"}, "tags": ["refund", "late"]}


def scored(one: Scorer, text: str, expected: Any) -> Score:
    """As a run scores it: what raises is unscored, with the reason."""
    case = Case(id="t1", inputs={"question": "?"}, expected=expected)
    return score_all([one], case, Generation(text=text))[one.name]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (TICKET, ""),
        (dict(reversed(TICKET.items())) | {"total": 12.50}, ""),
        (TICKET | {"total": 12.499}, "total is 12.499, expected 12.5"),
        (TICKET | {"total": "12.5"}, 'total is "12.5", expected 12.5'),
        (TICKET | {"team": None}, 'team is null, expected "billing"'),
        (TICKET | {"customer": {}}, "customer.city is missing"),
        (TICKET | {"customer": {"city": "Ko\u0308ln"}}, ""),
        (
            TICKET | {"tags": ["late", "refund"]},
            'tags[0] is "late", expected "refund"; tags[1] is "refund", expected "late"',
        ),
        (TICKET | {"note": 1}, "note is not expected"),
        ([], "it is []"),
    ],
)
def test_json_is_equal_whatever_the_order_of_keys_and_differences_are_named(said: Any, wrong: str) -> None:
    found = scored(scorers.json_equal, json.dumps(said), TICKET)
    assert found.value == (not wrong)
    assert found.explanation.startswith(wrong) if wrong else found.explanation == ""


@pytest.mark.parametrize(
    "value", [{}, [], [1], 0, 5, -1.5, True, False, "text", ["a", "b"], ["a"], [["a"]], {"a": None}]
)
def test_any_json_value_may_be_expected_but_an_empty_list(value: Any) -> None:
    """An empty list names nothing, as it always did."""
    found = scored(scorers.json_equal, json.dumps(value), value)
    assert found.value == (None if value == [] else 1.0)
    if value != []:
        assert scored(scorers.json_equal, '{"no": "such"}', value).value == 0.0


@pytest.mark.parametrize(("said", "expected"), [("true", 1), ("1", True), ("0", False), ("null", 0)])
def test_true_is_not_one_and_null_is_not_zero(said: str, expected: Any) -> None:
    assert scored(scorers.json_equal, said, expected).value == 0.0


def test_json_that_is_expected_as_a_text_is_read() -> None:
    assert scored(scorers.json_equal, '{"a": 1.0}', '{"a": 1}').value == 1.0


@pytest.mark.parametrize(
    ("fields", "said", "share", "wrong"),
    [
        ((), TICKET, 1.0, ""),
        ((), TICKET | {"team": "sales", "more": 1}, 0.75, 'team is "sales", expected "billing"'),
        (("team", "total"), {"team": "billing"}, 0.5, "total is missing"),
        (("customer.city",), {"customer": {"city": "Bonn"}}, 0.0, 'customer.city is "Bonn", expected "Köln"'),
        (("team", "absent"), {"team": "billing"}, 1.0, ""),
        ((), ["team"], 0.0, "team is missing; total is missing; customer is missing; tags is missing"),
    ],
)
def test_the_share_of_right_fields_is_the_value_and_the_wrong_ones_are_named(
    fields: tuple[str, ...], said: Any, share: float, wrong: str
) -> None:
    """A field that the case does not expect is not counted, and never a failure."""
    found = scored(scorers.json_fields(*fields), json.dumps(said), TICKET)
    assert (found.value, found.explanation) == (share, wrong)


def test_a_tolerance_holds_for_numbers_of_fields_to_its_border() -> None:
    near = scorers.json_fields("total", tolerance=0.1)
    assert [scored(near, json.dumps({"total": n}), TICKET).value for n in (12.4, 12.6, 12.39)] == [1.0, 1.0, 0.0]
    assert scorers.json_fields("total").digest != near.digest != scorers.json_fields("team", tolerance=0.1).digest


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), True, "1"])
def test_a_tolerance_that_is_none_is_refused(tolerance: Any) -> None:
    for make in (scorers.numbers_equal, lambda tolerance: scorers.json_fields(tolerance=tolerance)):
        with pytest.raises(ValueError, match="tolerance =="):
            make(tolerance)


def test_what_a_scorer_cannot_judge_is_unscored_with_the_scorer_that_can() -> None:
    assert "json_equal or json_fields" in scored(scorers.mentions_expected, "{}", TICKET).explanation
    assert "json_equal" in scored(scorers.json_fields(), "{}", 5).explanation
    assert "json_fields" in scored(scorers.numbers_equal(), "5", {"n": 5}).explanation
    assert scored(scorers.json_fields("absent"), "{}", TICKET).value is None
    assert scored(scorers.label, "x", TICKET).value is None


def test_a_fence_is_read_on_request_only() -> None:
    text = "Here it is:\n```json\n[1, 2]\n```\nAnything else?"
    assert scored(scorers.json_equal, text, [1, 2]).value == 0.0
    reading = scorers.fenced(scorers.json_equal)
    assert (reading.name, scored(reading, text, [1, 2]).value) == ("json_equal", 1.0)
    assert scored(reading, "[1, 2]", [1, 2]).value == 1.0
    assert scored(scorers.fenced(scorers.valid_json), text, [1, 2]).value == 1.0
    digests = {
        scorers.fenced(one).digest for one in (scorers.json_equal, scorers.json_fields(), scorers.json_fields("a"))
    }
    assert len(digests | {scorers.json_equal.digest}) == 4


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("-5 and \u22125, but 3-5", [-5, -5, 3, 5]),
        ("1,234.50 or 1.234,50 or 1'234.50 or 1\u202f234,50", [1234.5] * 4),
        ("1,234 and 1.234 and 12,5 and 1,2", [1234, 1.234, 12.5, 1.2]),
        ("1,234,567 and 1.234.567", [1234567, 1234567]),
        ("on 12.05.2024 with v2 and 1.2.3", []),
        ("due on 2025-05-05, 05/12/2024 or 5/12/24: 5 boxes", [5]),
        ("1,2,3,4", [1, 2, 3, 4]),
        (".5 and 1e3 and 2.5E-1 and 1e999", [0.5, 1000, 0.25]),
        ("(-5) costs 5% of 7kg.", [-5, 5, 7]),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: list[float]) -> None:
    assert list(numbers_in(text)) == pytest.approx(numbers)


@given(st.floats(min_value=-1e12, max_value=1e12).map(lambda number: round(number, 2)))
def test_a_number_written_in_either_way_is_the_number(number: float) -> None:
    english = f"{number:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    assert [*numbers_in(english), *numbers_in(german)] == pytest.approx([number, number], abs=1e-9)


@pytest.mark.parametrize(
    ("expected", "text", "share"),
    [
        (5, "It is -5.", 0.0),
        (-5, "It is \u22125.", 1.0),
        ("12.5|13", "13 it is", 1.0),
        ([1, 2.5], "2,5 only", 0.5),
        (3, "3.005", 1.0),
        (3, "3.02", 0.0),
    ],
)
def test_each_expected_number_is_stated_within_the_tolerance(expected: Any, text: str, share: float) -> None:
    found = scored(scorers.numbers_equal(0.01), text, expected)
    assert (found.value, found.explanation.startswith("not stated")) == (share, share < 1)


@pytest.mark.parametrize("text", ["billing", "Billing.", "**Billing**", '"billing"', " `BILLING`\n", "“Billing”"])
def test_a_label_is_known_however_it_is_typed(text: str) -> None:
    assert scored(scorers.label, text, "Billing").value == 1.0


@pytest.mark.parametrize("text", ["billing issue", "The class is billing", "bill", "billing, sales"])
def test_more_than_the_label_is_no_label(text: str) -> None:
    found = scored(scorers.label, text, "billing")
    assert found.value == 0.0
    assert found.explanation.endswith('expected "billing"')


def test_one_of_several_labels_is_right() -> None:
    assert [scored(scorers.label, text, ["a|b", "c"]).value for text in "abcd"] == [1.0, 1.0, 1.0, 0.0]
    assert scored(scorers.label, "3", 3).value == 1.0
