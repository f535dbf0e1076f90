"""Scorers of answers with a form: JSON, numbers, and the name of a class; each says what was wrong.

Texts are compared without regard to how hyphens, quotes and blanks are typed; in a label case does not count either.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.answers import compared, one_form, typed_alike
from llmlab.scorers.base import Score, Scorer, UnscoredError, scorer, texts_of
from llmlab.scorers.rules import parsed_json

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)
_AROUND_LABELS = " \t\n\"'`*_.,:;!()[]{}<>#"
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?<![^\W_])(?<!\d[.,'])(?:\d+(?:[.,']\d+)*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_DATE = re.compile(r"(?<!\d)(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/(?:\d{4}|\d{2}))(?!\d)")
_GROUP_BLANK = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_SHOWN_CHARS, _SHOWN_DIFFERENCES = 60, 8
_ROUNDING = 1e-12


@scorer(needs_expected=True, revision=1)
def json_equal(case: Case, generation: Generation) -> Score:
    """1 when the answer is JSON and equals the expected value, whatever the order of keys.

    >>> case = Case(id="t1", inputs={"question": "?"}, expected={"team": "billing", "urgent": False})
    >>> json_equal(case, Generation(text='{"urgent": true, "team": "billing"}')).explanation
    'urgent is true, expected false'
    """
    try:
        answer = parsed_json(generation.text)
    except ValueError as error:
        return _not_json(error)
    wanted = case.expected if isinstance(answer, list) else _wanted(case)  # one text may stand for a list of it
    wrong = list(_differences(answer, wanted, place="", tolerance=0.0))
    return Score(value=not wrong, explanation=_listed(wrong))


def json_fields(*fields: str, tolerance: float = 0.0, name: str = "json_fields") -> Scorer:
    """Share of the expected object's fields that the answer has right; further fields of the answer do not count.

    Args:
        fields: which fields (`customer.city` is one within another); by default all that the case expects.
        tolerance: by how much numbers may differ.

    >>> case = Case(id="t1", inputs={"question": "?"}, expected={"team": "billing", "total": 12.5})
    >>> json_fields(tolerance=0.01)(case, Generation(text='{"team": "sales", "total": 12.499}'))
    Score(value=0.5, explanation=team is "sales", expected "billing", name=json_fields)
    """
    _check_tolerance(tolerance)

    @scorer(name=name, needs_expected=True, revision=1)
    def right(case: Case, generation: Generation) -> Score:
        expected = _wanted(case)
        if not isinstance(expected, Mapping):
            raise UnscoredError("the case expects no JSON object, so it has no fields; score it with json_equal")
        wanted = {field: _within(expected, field) for field in fields or expected}
        if not (wanted := {field: value for field, value in wanted.items() if value is not _ABSENT}):
            raise UnscoredError(f"the case expects none of the fields {', '.join(fields)}")
        try:
            answer = parsed_json(generation.text)
        except ValueError as error:
            return _not_json(error)
        answered = {field: _within(answer, field) for field in wanted}
        wrong = {
            field: differences
            for field, value in wanted.items()
            if (differences := list(_differences(answered[field], value, place=field, tolerance=tolerance)))
        }
        listed = [difference for differences in wrong.values() for difference in differences]
        return Score(value=1 - len(wrong) / len(wanted), explanation=_listed(listed))

    return right


def numbers_equal(tolerance: float = 0.0, *, name: str = "numbers_equal") -> Scorer:
    """Share of the expected numbers that the answer states, each within `tolerance`.

    Thousands and decimals are read as written (`1,234.50`, `1.234,50`); `1,234` is a thousand, `1.234` is not.

    >>> case = Case(id="t1", inputs={"question": "?"}, expected=1234.5)
    >>> numbers_equal(0.01)(case, Generation(text="The total is 1.234,50 EUR.")).value
    1.0
    """
    _check_tolerance(tolerance)

    @scorer(name=name, needs_expected=True, revision=2)
    def stated(case: Case, generation: Generation) -> Score:
        numbers = list(numbers_in(generation.text))
        wanted = _expected_numbers(case)
        missing = [
            ways
            for ways in wanted
            if not any(_near(number, way, tolerance=tolerance) for number in numbers for way in ways)
        ]
        not_stated = ", ".join(" or ".join(f"{way:g}" for way in ways) for ways in missing)
        stated = ", ".join(f"{number:g}" for number in numbers[:_SHOWN_DIFFERENCES]) or "no number"
        why = f"not stated: {not_stated} (it states {stated})" if missing else ""
        return Score(value=1 - len(missing) / len(wanted), explanation=why)

    return stated


@scorer(needs_expected=True, revision=1)
def label(case: Case, generation: Generation) -> Score:
    """1 when the whole answer is the expected class, or one of several; quotes, points and case around it are passed.

    `ll.results.classes(results)` has precision, recall and F1 of each class, and what was taken for what.

    >>> case = Case(id="t1", inputs={"question": "?"}, expected="Billing")
    >>> label(case, Generation(text="**billing**.")).value
    1.0
    """
    answer, expected = label_of(generation.text), [way for fact in texts_of(case) for way in fact.split("|")]
    if answer in map(label_of, expected):
        return Score(value=1.0)
    return Score(value=0.0, explanation=f"said {_shown(answer)}, expected {' or '.join(map(_shown, expected))}")


def fenced(inner: Scorer, *, name: str = "") -> Scorer:
    """The same scorer, reading what stands in the answer's first ``` fence, where it has one.

    >>> valid = fenced(json_equal)
    >>> case = Case(id="t1", inputs={"question": "?"}, expected=[1])
    >>> valid(case, Generation(text="Here it is:\\n```json\\n[1]\\n```")).value
    1.0
    """
    if inner.is_async:
        raise ValueError(f"the scorer {inner.name!r} is async; fenced takes plain ones")

    def within(case: Case, generation: Generation) -> Score:
        fence = _FENCE.search(generation.text)
        return inner(case, replace(generation, text=fence[1].strip()) if fence else generation)

    return replace(inner, name=name or inner.name, function=within, revision=1, redact=None)


def label_of(text: str) -> str:
    """The class that an answer names, as classes are compared: folded, without quotes and points around it."""
    return compared(text).strip(_AROUND_LABELS)


def expected_labels(case: Case, field: str = "") -> tuple[str, ...]:
    """The classes that are right for a case, as they are written, or in a field of what it expects; () = none."""
    if not field:
        return tuple(way for fact in case.facts for way in fact.split("|"))
    value = _within(_wanted(case), field)
    return (value if isinstance(value, str) else json.dumps(value),) if isinstance(value, (str, int, float)) else ()


def said_label(text: str, field: str = "") -> str:
    """The class that an answer names, or its field where it is a JSON object; "" where it has none."""
    if not field:
        return label_of(text)
    try:
        value = _within(parsed_json(text), field)
    except ValueError:
        return ""
    return label_of(value if isinstance(value, str) else json.dumps(value)) if value is not _ABSENT else ""


def numbers_in(text: str) -> Iterator[float]:
    """The numbers that a text states, in its order; dates and versions are none.

    >>> list(numbers_in("From -5 to 1.234,50, see v2 of 12.05.2024, 2025-05-05 or 05/12/2024: 3-4"))
    [-5.0, 1234.5, 3.0, 4.0]
    """
    plain = _DATE.sub(" ", _GROUP_BLANK.sub("", text))
    for number in _NUMBER.finditer(typed_alike(plain)):
        yield from _read(number[0])


def _read(written: str) -> Iterator[float]:
    body, exponent = written.lower().split("e") if "e" in written.lower() else (written, "")
    sign, body = ("-", body[1:]) if body.startswith("-") else ("", body)
    digits = body.replace("'", "")
    places = [char for char in digits if char in ".,"]
    if len(set(places)) == 2 and places.count(places[-1]) == 1:
        parts = [digits.replace("," if places[-1] == "." else ".", "").replace(",", ".")]
    elif len(set(places)) == 2:
        return
    elif places and (places[0] == "," or len(places) > 1):
        first, *groups = re.split("[.,]", digits)
        if all(len(group) == 3 for group in groups) and len(first) <= 3:
            parts = [digits.replace(places[0], "")]
        elif places[0] == ".":
            return
        else:
            parts = [f"{first}.{groups[0]}"] if len(groups) == 1 else [first, *groups]
    else:
        parts = [digits]
    for at, part in enumerate(parts):
        number = float(f"{sign if at == 0 else ''}{part}{f'e{exponent}' if exponent else ''}")
        if math.isfinite(number):
            yield number


def _expected_numbers(case: Case) -> list[tuple[float, ...]]:
    """Each number that is expected, with the ways it may be stated."""
    values = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    numbers = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise UnscoredError(f"the case expects {_shown(value)}, which is no number; score it with json_fields")
        ways = (
            [float(value)] if not isinstance(value, str) else [n for way in value.split("|") for n in numbers_in(way)]
        )
        if not ways:
            raise UnscoredError(f"the case expects {_shown(value)}, which states no number")
        numbers.append(tuple(ways))
    return numbers


_ABSENT: Any = object()


def _wanted(case: Case) -> Any:
    """The expected value; a single text that is JSON itself is read, else one text is that text."""
    if not (isinstance(case.expected, tuple) and len(case.facts) == 1):
        return case.expected
    try:
        return json.loads(case.facts[0])
    except (ValueError, RecursionError):
        return case.facts[0]


def _within(value: Any, field: str) -> Any:
    """The value of a field, named as it is or by a path with points."""
    if isinstance(value, Mapping) and field in value:
        return value[field]
    head, point, rest = field.partition(".")
    return _within(value[head], rest) if point and isinstance(value, Mapping) and head in value else _ABSENT


def _differences(answer: Any, wanted: Any, *, place: str, tolerance: float) -> Iterator[str]:
    """Where a JSON value is not what is wanted, a sentence each."""
    if isinstance(answer, Mapping) and isinstance(wanted, Mapping):
        dotted = f"{place}." if place else ""
        for key in wanted:
            yield from _differences(answer.get(key, _ABSENT), wanted[key], place=f"{dotted}{key}", tolerance=tolerance)
        yield from (f"{dotted}{key} is not expected" for key in answer if key not in wanted)
    elif isinstance(answer, (list, tuple)) and isinstance(wanted, (list, tuple)) and len(answer) == len(wanted):
        for at, (answered, expected) in enumerate(zip(answer, wanted, strict=True)):
            yield from _differences(answered, expected, place=f"{place}[{at}]", tolerance=tolerance)
    elif answer is _ABSENT:
        yield f"{place} is missing"
    elif not _same(answer, wanted, tolerance=tolerance):
        yield f"{place or 'it'} is {_shown(answer)}, expected {_shown(wanted)}"


def _same(answer: Any, wanted: Any, *, tolerance: float) -> bool:
    if isinstance(answer, bool) or isinstance(wanted, bool) or answer is None or wanted is None:
        return answer is wanted
    if isinstance(answer, (int, float)) and isinstance(wanted, (int, float)):
        return _near(answer, wanted, tolerance=tolerance)
    if isinstance(answer, str) and isinstance(wanted, str):
        return one_form(answer) == one_form(wanted)
    return False


def _near(one: float, other: float, *, tolerance: float) -> bool:
    try:
        return abs(one - other) <= tolerance + _ROUNDING * max(abs(one), abs(other))
    except OverflowError:  # an integer beyond all floats
        return one == other


def _check_tolerance(tolerance: float) -> None:
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance == {tolerance!r}, must be a number >= 0")


def _not_json(error: ValueError) -> Score:
    return Score(value=0.0, explanation=f"not JSON: {error}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _listed(wrong: list[str]) -> str:
    more = f"; {len(wrong) - _SHOWN_DIFFERENCES} more" if len(wrong) > _SHOWN_DIFFERENCES else ""
    return "; ".join(wrong[:_SHOWN_DIFFERENCES]) + more
