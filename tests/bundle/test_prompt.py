"""Prompts are filled once, in a sandbox, and values that a digest covers cannot be changed."""

from __future__ import annotations

import copy
import json
import pickle
import time
import tracemalloc

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.bundle.prompt import LARGEST_INTEGER, Example, Prompt, frozen_json
from llmlab.bundle.template import TemplateRuleError, fill, placeholders

ESCAPES = [
    "{{ question.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ question|attr('__class__') }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ self }}",
    "{{ '{0.__class__}'.format(question) }}",
    "{{ [].append(1) }}",
    "{{ items.clear() }}",
    "{{ question(*items) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% macro m() %}{% endmacro %}",
    "{% block b %}{% endblock %}",
    "{% autoescape true %}{% endautoescape %}",
]
BOMBS = [
    "{{ question.center(9999999999) }}",
    "{{ question | center(9999999999) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{% set n = namespace(a='xx') %}{% set n.a = n.a ~ n.a %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in [1, 2] * 999999999 %}x{% endfor %}",
    "{% for i in [1, 2, 3] %}x{% endfor %}",
    "{{ lipsum(n=99999) }}",
    "{{ items | batch(9999999999, 'x') | list }}",
    "{{ question | wordwrap(1, wrapstring='long') }}",
    "{{ items | map('replace', '', 'long') | list }}",
    "{{ items | map(attribute='a', default='long') | list }}",
    "{{ items | map(question) | list }}",
    "{% set a = [question, question] %}{% set b = [a, a] %}",
    "{{ {'a': question} }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ question | random }}",
    "{% filter upper %}{{ question }}{% endfilter %}",
    "{% set a %}{{ question }}{% endset %}",
    "{% for a in items recursive %}{{ loop(a) }}{% endfor %}",
    "{{ " + "9" * 5_000 + " }}",
    "{{ " + "(" * 900 + "1" + ")" * 900 + " }}",
    "{{ " + "not " * 900 + "1 }}",
    "{% if a %}" * 90 + "{% endif %}" * 90,
    "{% for a in items %}" * 21 + "{% endfor %}" * 21,
    "{{ a }}" * 30_000,
]
GROWING = [
    "{% set a = question ~ question %}" + "{% set a = a ~ a %}" * 60,
    "{% set a = question + question %}" + "{% set a = a + a %}" * 60,
    "{% set a = 99999999 %}" + "{% set a = a * a %}" * 60,
    "{{ 'a' * 999999999 }}",
    "{{ 999999999 * 'a' }}",
    "{{ '%999999999d' % 1 }}",
    "{{ question" + " | replace('', 'xxxxxxxxxx')" * 40 + " }}",
    "{{ question" + " | tojson" * 55 + " }}",
    "{{ question | indent(9999999999, first=true) }}",
    "{{ items | tojson(indent=9999999999) }}",
    "{{ 1 | round(9999999999, 'floor') }}",
    "{{ long | join(long) }}",
    "{% for a in long %}{{ long }}{% endfor %}",
    "{% for a in long %}{% for b in long %}{% for c in long %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in long %}{% if long in long %}{% endif %}{% endfor %}" * 90,
    "{{ long ~ long }}" * 2_000,
    "{{ long }}" * 15_000,
]
MISTAKES = [
    "{{ missing }}",
    "{{ question.title }}",
    "{{ question['__class__'] }}",
    "{{ question.format.__self__ }}",
    "{{ 1 / 0 }}",
    "{{ 1 + 'a' }}",
    "{{ [1][5] }}",
    "{{ items | map(attribute='a') }}",
    "{{ [1, 2] | reverse | string }}",
    "{% for a in items %}{{ loop }}{% endfor %}",
    "{{ question | trim(1, 2, 3) }}",
]
VALUES = {"question": '"secret"?', "items": [{"a": 1}, {"a": 2}], "long": "x" * 20_000}


@pytest.mark.parametrize("template", ESCAPES + BOMBS, ids=range(len(ESCAPES + BOMBS)))
def test_what_is_not_on_the_list_is_refused_when_the_template_is_read(template: str) -> None:
    with pytest.raises(ValueError, match="line 1 of the template"):
        placeholders(template)
    with pytest.raises(ValueError, match="cannot be filled: line 1"):
        fill(template, VALUES)


@pytest.mark.parametrize("template", GROWING, ids=range(len(GROWING)))
def test_what_grows_without_bound_is_stopped_by_a_count(template: str) -> None:
    """Within 100 MB and a few seconds of work, whatever the template does with a long input."""
    placeholders(template)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(ValueError, match="cannot be filled"):
            fill(template, VALUES)
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20


@pytest.mark.parametrize("template", MISTAKES)
def test_a_template_that_cannot_be_filled_is_a_value_error(template: str) -> None:
    with pytest.raises(ValueError, match="cannot be filled"):
        fill(template, VALUES)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ n * 2 }}", "42"),
        ("{{ a.items }}", "the case's own"),
        ("{{ a['items'] }}{{ docs[0].text[:2] }}", "the case's ownon"),
        ("{% for d in docs if d.n > 1 %}{{ loop.index }}/{{ loop.length }}. {{ d.text }}\n{% endfor %}", "1/1. two\n"),
        ("{% for d in docs | reverse %}{{ d.text }}{% if not loop.last %}, {% endif %}{% endfor %}", "two, one"),
        ("{{ docs | map(attribute='text') | join('; ') }}", "one; two"),
        ("{{ docs | map(attribute='text') | map('upper') | list }}", '["ONE", "TWO"]'),
        ("{{ docs | selectattr('n', 'gt', 1) | map(attribute='n') | first }}", "2"),
        ("{% set q = ' x ' | trim %}[{{ q ~ '-' ~ n }}]{{ 'a' + 'b' }}", "[x-21]ab"),
        ("{{ missing | default('none') }}{{ missing is defined }}", "nonefalse"),
        ("{{ docs[0] | tojson }}{{ '<' | e }}", '{"n": 1, "text": "one"}&lt;'),
        ("{% if n in [20, 21] and not a.b %}yes{% else %}no{% endif %}", "yes"),
        ("{{ ('x\ny' | indent(2)) ~ ('a-b' | replace('-', '+')) }}", "x\n  ya+b"),
        ("{% for key, value in a | dictsort %}{{ key }}={{ value }};{% endfor %}", "b=null;items=the case's own;"),
        ("{% raw %}{{ n }}{% endraw %}{# gone #}", "{{ n }}"),
    ],
)
def test_what_a_prompt_needs_works_as_in_jinja(template: str, text: str) -> None:
    values = {"n": 21, "a": {"items": "the case's own", "b": None}}
    values["docs"] = [{"n": 1, "text": "one"}, {"n": 2, "text": "two"}]
    assert fill(template, values) == text


def test_the_line_of_what_is_not_allowed_is_named() -> None:
    with pytest.raises(TemplateRuleError) as told:
        placeholders("{{ a }}\n\n{{ a.upper() }}")
    assert told.value.template_line == 3


def test_a_long_prompt_is_filled() -> None:
    assert len(fill("{{ long }}" * 400, VALUES)) == 8_000_000


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
    with pytest.raises(pydantic.ValidationError, match="line 1 of the template: is not valid Jinja2"):
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
