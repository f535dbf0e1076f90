"""Faults that can be known before the first call are found there, with both places named."""

from __future__ import annotations

import pytest

from llmlab.base.errors import PromptError
from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import check_cases, leaks, unasked, unfilled


def asks(template: str, **changes: object) -> Bundle:
    return Bundle.from_prompt(template, model="offline/extractive-1", **changes)


def searches(template: str, *, query: str = "{{ question }}", **changes: object) -> Bundle:
    return asks(template, retrieval={"corpus": {"package": "pandas"}, "query": query}, **changes)


def cases(*questions: str, **inputs: object) -> GoldenSet:
    made = (Case(id=f"q{i}", inputs={"question": q, **inputs}) for i, q in enumerate(questions, start=1))
    return GoldenSet(tuple(made), name="golden")


def examples(*questions: str, **inputs: object) -> list[dict[str, object]]:
    return [{"inputs": {"question": q, **inputs}, "output": "a"} for q in questions]


def test_a_prompt_that_every_case_fills_passes() -> None:
    check_cases(asks("{{ question }}", system="Be brief.", examples=examples("x")), cases("a", "b"), variant="v1")


def test_a_misspelt_placeholder_is_refused_with_both_places() -> None:
    with pytest.raises(PromptError) as found:
        check_cases(asks("{{ qestion }}"), cases("a", "b"), variant="v1")
    message = str(found.value)
    for part in ("'v1'", "'qestion'", "(question)", "'q1'", "'golden'", "and 1 more"):
        assert part in message
    assert (found.value.variant, found.value.case_ids) == ("v1", ("q1", "q2"))


@pytest.mark.parametrize(
    ("bundle", "rule"),
    [
        (asks("{{ question }}", system="{{ role }}"), "the system text needs 'role'"),
        (asks("{{ question }} {{ passages }}"), "passages need a `retrieval:` in the bundle"),
        (searches("{{ question }}", query="{{ search }}"), "the retrieval query needs 'search'"),
        (searches("{{ question }}", query="{{ passages }}"), "retrieval query needs 'passages'"),
        (asks("{{ question.title.x }}"), "cannot be filled"),
        (asks("{{ question }} {{ lang }}", examples=examples("x")), "the template with example 1 needs 'lang'"),
        (searches("{{ question }} {{ passages }}", examples=examples("x")), "template with example 1 needs 'passages'"),
    ],
)
def test_whatever_cannot_be_filled_is_named(bundle: Bundle, rule: str) -> None:
    golden = cases("a", lang="de") if "lang" in bundle.prompt.template else cases("a")
    with pytest.raises(PromptError) as found:
        check_cases(bundle, golden, variant="v1")
    assert rule in str(found.value)


def test_only_the_cases_that_lack_an_input_are_named() -> None:
    golden = GoldenSet((*cases("a"), Case(id="q9", inputs={"other": "b"})))
    assert [case_id for case_id, _ in unfilled(asks("{{ question }}"), golden)] == ["q9"]


def test_passages_are_there_with_retrieval_and_optional_placeholders_may_be_missing() -> None:
    assert unfilled(searches("{{ question }} {{ passages }}"), cases("a")) == ()
    assert unfilled(asks("{{ question }}{% if hint is defined %}{{ hint }}{% endif %}"), cases("a", "b")) == ()


@pytest.mark.parametrize(
    ("example", "how"),
    [
        ("How do I drop rows?", "the same as"),
        ("  how do I DROP rows ", "nearly the same as"),
        ("How do I: drop rows…!", "nearly the same as"),
        ("How do Ｉ drop\nrows?", "nearly the same as"),
        ("How do I drop columns?", None),
        ("", None),
    ],
)
def test_an_example_that_is_a_golden_case_leaks(example: str, how: str | None) -> None:
    bundle = asks("{{ question }}", examples=examples("What is NA?", example))
    found = leaks(bundle, cases("Something else?", "How do I drop rows?"))
    assert found == (((2, "q2", how),) if how else ())
    if how:
        with pytest.raises(PromptError) as error:
            check_cases(bundle, cases("Something else?", "How do I drop rows?"), variant="v1")
        for part in ("'v1'", "example 2", how, "'q2'", "'golden'", "take them out"):
            assert part in str(error.value)


def test_every_case_that_an_example_gives_away_is_listed() -> None:
    golden = cases("a", "b", "c")
    with pytest.raises(PromptError) as error:
        check_cases(asks("{{ question }}", examples=examples("C!", "x", "a")), golden, variant="v1")
    assert "example 1 is nearly the same as case 'q3', example 3 is the same as case 'q1'" in str(error.value)
    assert error.value.case_ids == ("q3", "q1")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Answer well.", "shows the model nothing of the cases (they have: question)"),
        ("Q: {question}", "sends {question} as it stands; write {{ question }}"),
        ("{{ lang | default('en') }}: { question }", "sends {question} as it stands"),
        ("{{ question }} as {answer} or {question}", ""),
        ('{"json": {{ question | tojson }}}', ""),
    ],
)
def test_a_prompt_that_leaves_the_case_out_is_told(template: str, said: str) -> None:
    found = unasked({"v1": asks(template), "v2": asks("{{ question }}")}, cases("a"))
    assert (said in found) if said else found == ""
    assert "v2" not in found


def test_only_the_inputs_that_the_prompt_uses_are_compared() -> None:
    shots = examples("a", passages="[x] y", note="other")
    bundle = searches("{{ question }} {{ passages }}", examples=shots)
    assert leaks(bundle, cases("A!", source="s")) == ((1, "q1", "nearly the same as"),)
    per_language = asks("{{ question }} {{ lang }}", examples=examples("a", lang="de"))
    assert leaks(per_language, cases("a", lang="en")) == ()


def test_questions_of_punctuation_alone_are_compared_as_they_are() -> None:
    bundle = asks("{{ question }}", examples=examples("???"))
    assert leaks(bundle, cases("!!!")) == ()
    assert leaks(bundle, cases("???")) == ((1, "q1", "the same as"),)
