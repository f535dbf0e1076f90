"""Whatever reaches a screen is escaped, and numbers have the digits they deserve."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.cells import ROW_LIMIT, Chip, plain
from llmlab.base.numbers import Interval, number
from llmlab.display.html import escape, html_diff, html_table
from llmlab.display.shown import Shown, frame, text_table
from tests.payloads import SCRIPTS, TERMINAL, assert_harmless

PAYLOADS = [*SCRIPTS, "<" * 300 + "script>"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Value(Shown):
    text: str
    amount: float = 0.5


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_is_live_wherever_it_stands(payload: str) -> None:
    rows = [{payload: payload, "chip": Chip(payload), "list": (payload,), "long": payload * 50, "none": None}]
    assert_harmless(html_table(rows, caption=payload))
    assert_harmless(html_diff(payload, payload + " more", before_name=payload, after_name=payload))
    assert_harmless(_Value(text=payload)._repr_html_())
    assert "<" not in escape(payload)
    assert not {'"', "'"} & set(escape(payload))


@given(st.text(alphabet="<>&'\"/ =abcscript\x00\x1b\u202e\ud800"))
def test_no_text_is_live(text: str) -> None:
    assert_harmless(html_table([{text or "x": text}], caption=text))
    assert_harmless(html_diff(text, text[::-1]))


@pytest.mark.parametrize("text", [*TERMINAL, "a\nb", "\ud800"])
def test_control_characters_are_shown_in_a_terminal_and_not_obeyed(text: str) -> None:
    for shown in (plain(text), text_table([{text: text}]).replace("\n", ""), repr(_Value(text=text))):
        assert shown.isprintable()
        shown.encode()
    assert html_table([{"a": text}]).encode()


def test_newlines_survive_in_html_and_are_escaped_in_one_line() -> None:
    assert escape("a\n\tb") == "a\n\tb"
    assert plain("a\n\tb") == "a\\n\\tb"


def test_a_long_cell_is_cut_with_the_whole_text_one_click_away_and_a_huge_one_bounded() -> None:
    page = html_table([{"a": "word " * 100}])
    assert "<details>" in page
    assert "word " * 100 in page
    assert len(html_table([{"a": "x" * 2_000_000}])) < 50_000
    assert "2,000,000 characters in all" in html_table([{"a": "x" * 2_000_000}])


def test_a_long_table_says_how_much_is_missing() -> None:
    page = html_table([{"a": i} for i in range(ROW_LIMIT + 7)])
    assert page.count("<tr>") == ROW_LIMIT + 1
    assert "and 7 more rows" in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (np.float32("nan"), "–"),
        (Decimal("NaN"), "–"),
        (float("inf"), "∞"),
        (-math.inf, "-∞"),
        (True, "yes"),
        (0, "0"),
        (-0.0, "0"),
        (1234567, "1,234,567"),
        (1234567.0, "1,234,567"),
        (0.03056, "0.03056"),
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (0.00001234, "1.23e-05"),
        (Decimal("0.5"), "0.5"),
        (np.int64(1234), "1,234"),
    ],
)
def test_a_number_has_four_significant_digits_and_is_never_nan(value: object, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(0.7134, 0.6612, 0.7601), "0.713 [0.661, 0.760]"),
        (Interval(0.71, 0.56, 0.86), "0.71 [0.56, 0.86]"),
        (Interval(0.7, 0.7 - 1e-16, 0.7 + 1e-16), "0.7 [0.7, 0.7]"),
        (Interval(0.7134, 0.5, 0.9), "0.71 [0.50, 0.90]"),
        (Interval(123.4, 100.0, 150.0), "123 [100, 150]"),
        (Interval(0.02, 0.01, 0.03, "%"), "2.0% [1.0, 3.0]"),
        (Interval(-0.0001, -0.1, 0.1), "0.00 [-0.10, 0.10]"),
        (Interval(0.5), "0.5"),
        (Interval(0.5, None, 0.7), "0.5"),
        (Interval(None), "–"),
        (Interval(math.nan, 0.1, 0.2), "–"),
        (Interval(0.5, math.nan, 0.7), "0.5"),
        (Interval(0.5, -math.inf, math.inf), "0.500 [-∞, ∞]"),
        (Interval(0.5, 0.5, 0.5), "0.5 [0.5, 0.5]"),
        (Interval(23.0, 23.0, 23.0), "23 [23, 23]"),
    ],
)
def test_an_interval_shows_the_digits_that_its_width_deserves(interval: Interval, shown: str) -> None:
    assert str(interval) == shown


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_nan_is_never_shown(value: float, low: float, high: float) -> None:
    assert "nan" not in str(Interval(value, low, high)).lower()
    assert "nan" not in number(value).lower()


def test_a_text_table_aligns_numbers_right_and_texts_left() -> None:
    table = text_table([{"name": "a", "n": 1}, {"name": "long", "n": 1000}])
    assert table.split("\n") == ["name      n", "────  ─────", "a         1", "long  1,000"]


def test_every_value_shows_itself_in_one_line_a_table_and_a_frame() -> None:
    value = _Value(text="t", amount=0.25)
    assert repr(value) == "_Value(text=t, amount=0.25)"
    assert "0.25" in str(value)
    assert value.to_frame().to_dict("records") == [{"text": "t", "amount": 0.25}]
    assert list(frame([{"chip": Chip("ok", "good"), "ci": Interval(0.5)}]).iloc[0]) == ["ok", "0.5"]


def test_a_diff_marks_words_that_went_and_came() -> None:
    page = html_diff("drop rows now", "drop columns now")
    assert "rows</del>" in page
    assert "columns</ins>" in page
    assert "<del" not in html_diff("same", "same")


def test_an_empty_table_says_so() -> None:
    assert "no rows" in html_table([])
    assert "<table" in html_table([{}])
    assert text_table([]) == ""


def test_a_text_table_aligns_signs_that_are_two_columns_wide_and_those_that_are_none():
    lines = text_table(
        [{"name": "日本語", "n": 1}, {"name": "e\u0301t", "n": 2}, {"name": "plain", "n": 3}]
    ).splitlines()
    assert lines[2:] == ["日本語  1", "e\u0301t      2", "plain   3"]
