"""Prompts are filled once, in a sandbox, and values that a digest covers cannot be changed."""

from __future__ import annotations

import copy
import json
import pickle

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.bundle.prompt import LARGEST_INTEGER, Example, Prompt, fill, frozen_json, placeholders

ESCAPES = [
    "{{ question.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ question|attr('__class__') }}",
    "{{ question['__class__'] }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ question.format.__self__ }}",
    "{{ '{0.__class__}'.format(question) }}",
    "{{ [].append(1) }}",
    "{{ items.clear() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
]
BOMBS = [
    "{% for i in range(999999999) %}x{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{{ 999999999 * 'a' }}",
    "{{ [0] * 999999999 }}",
    "{{ 9 ** 9 ** 9 }}",
]
MISTAKES = [
    "{{ missing }}",
    "{{ question.title }}",
    "{{ 1 / 0 }}",
    "{{ 1 + 'a' }}",
    "{{ [1][5] }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_the_sandbox_lets_no_template_out(template: str) -> None:
    with pytest.raises(ValueError, match="cannot be filled"):
        fill(template, {"question": "secret?", "items": {"a": 1}})


@pytest.mark.parametrize("template", BOMBS)
def test_a_template_cannot_be_a_bomb(template: str) -> None:
    with pytest.raises(ValueError, match="cannot be filled"):
        fill(template, {})


@pytest.mark.parametrize("template", MISTAKES)
def test_a_template_that_cannot_be_filled_is_a_value_error(template: str) -> None:
    with pytest.raises(ValueError, match="cannot be filled"):
        fill(template, {"question": "q"})


def test_numbers_may_be_multiplied() -> None:
    assert fill("{{ n * 2 }}", {"n": 21}) == "42"


@pytest.mark.parametrize("value", ["{{ secret }}", "{% raw %}", "{# gone #}", "}}", "<b>&</b>", "a\r\nb\0", "\ud800"])
def test_what_stands_in_a_value_is_inserted_literally(value: str) -> None:
    assert fill("[{{ question }}]", {"question": value, "secret": "s"}) == f"[{value}]"


@given(st.text())
def test_a_filled_value_is_the_value(value: str) -> None:
    assert fill("{{ x }}", {"x": value}) == value


@pytest.mark.parametrize("template", ["no placeholder", "a } b", "", "tail\n"])
def test_a_text_without_placeholders_stays_as_it_is(template: str) -> None:
    assert fill(template, {}) == template


def test_placeholders_are_the_names_that_a_template_does_not_set_itself() -> None:
    text = "{% set a = 1 %}{{ a }}{% for d in docs %}{{ d }}{{ loop.index }}{% endfor %}{{ q.title }}"
    assert placeholders(text) == {"docs", "q"}


@pytest.mark.parametrize("template", ["{{ question", "{% if x %}", "{{ a b }}", "{% nonsense %}"])
def test_a_broken_template_is_refused_when_the_prompt_is_made(template: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="line 1 of the template is not valid Jinja2"):
        Prompt(template=template)
    with pytest.raises(pydantic.ValidationError, match="not valid Jinja2"):
        Prompt(template="x", system=template)


def test_messages_are_system_examples_and_question_in_this_order() -> None:
    prompt = Prompt(
        system="About {{ topic }}.",
        template="Q: {{ question }}",
        examples=(Example(inputs={"question": "1?", "topic": "x"}, output="{{ literal }}"),),
    )
    assert prompt.placeholders == {"topic", "question"}
    assert prompt.messages({"question": "2?", "topic": "pandas"}) == (
        {"role": "system", "content": "About pandas."},
        {"role": "user", "content": "Q: 1?"},
        {"role": "assistant", "content": "{{ literal }}"},
        {"role": "user", "content": "Q: 2?"},
    )


def test_a_frozen_value_cannot_be_changed_at_any_depth() -> None:
    frozen = frozen_json({"a": {"b": [1, {"c": 2}]}})
    for change in (
        lambda: frozen.__setitem__("x", 1),
        lambda: frozen["a"].update(b=1),
        lambda: frozen["a"]["b"][1].pop("c"),
        lambda: frozen.setdefault("y", 1),
        lambda: frozen.clear(),
        lambda: frozen.__ior__({"x": 1}),
        lambda: frozen.__delitem__("a"),
        lambda: frozen.popitem(),
    ):
        with pytest.raises(TypeError, match="frozen"):
            change()
    with pytest.raises(TypeError):
        frozen["a"]["b"][0] = 9
    assert frozen == {"a": {"b": (1, {"c": 2})}}


def test_a_frozen_value_copies_pickles_hashes_and_is_json() -> None:
    frozen = frozen_json({"a": {"b": [1, None, True, 0.5]}})
    assert pickle.loads(pickle.dumps(frozen)) == copy.deepcopy(frozen) == frozen
    assert hash(frozen) == hash(copy.deepcopy(frozen))
    assert json.loads(json.dumps(frozen)) == {"a": {"b": [1, None, True, 0.5]}}
    with pytest.raises(TypeError, match="frozen"):
        copy.deepcopy(frozen)["a"]["b"] = 1


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {"a": {1: 2}}, object(), b"x", {1, 2}, LARGEST_INTEGER + 1]
)
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        frozen_json(value)
