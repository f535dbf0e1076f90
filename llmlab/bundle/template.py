"""Templates of prompts: Jinja2 cut down to what a prompt needs, checked when it is read and metered when it is filled.

A template inserts values of the case, changes them by filters that are named here, asks `if`, and loops over lists of
the case. It calls nothing, reaches no attribute of Python and makes no list of its own, so nothing in it can reach
out, and the same case always gives the same text. What is left can still be made to grow: every text that a filter
makes and every round of a loop is paid for out of one bound, which is a count and needs no clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

_LARGEST_PROMPT_CHARS = 10_000_000  # of a filled template, and of all texts that are made on the way
_LONGEST_NUMBER = 10**300
_MOST_PARTS, _DEEPEST_STATEMENTS, _DEEPEST_PARTS = 20_000, 12, 60
_CHARS_PER_PART = 100  # what a part inside a loop costs at each round


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


_FILTERS = _named(
    "abs capitalize count d default dictsort e escape first float indent int items join last length list lower map max "
    "min reject rejectattr replace reverse round select selectattr sort string title tojson trim truncate unique upper "
    "wordcount"
)
TESTS = _named(
    "!= < <= == > >= boolean defined divisibleby eq equalto even false float ge gt in integer iterable le lower lt "
    "mapping ne none number odd sequence string true undefined upper"
)
_FILTERS_OF_MAP = _named("capitalize first float int last length lower string title trim upper")
PARTS = _named(
    "Template Output TemplateData If For Assign Name Const List Tuple Dict Pair Getattr Getitem Slice Filter Test "
    "Keyword Compare Operand And Or Not CondExpr Concat Add Sub Mul Div FloorDiv Mod Neg Pos"
)
_OF_TEXTS = _named("capitalize e escape lower string title trim truncate upper wordcount")
_OF_LOOPS = _named("index index0 revindex revindex0 first last length previtem nextitem")
_EACH, _JOINED = "(each)", "(joined)"  # filters of our own, whose names no template can write
_METER = "(meter)"
_PLAIN = (str, int, float, list, tuple, Mapping, type(None), jinja2.Undefined)


class TemplateRuleError(ValueError):
    """A template breaks a rule: says which, and on which line of the template."""

    def __init__(self, rule: str, *, line: int) -> None:
        self.rule, self.template_line = rule, line
        super().__init__(f"line {line} of the template: {rule}")


class Inserted(str):
    """A value of the case that is no text, as JSON; `value` is the value itself, for whoever puts it in otherwise."""

    value: Any

    def __new__(cls, value: Any) -> Inserted:
        text = super().__new__(cls, json.dumps(value, ensure_ascii=False))
        text.value = value
        return text

    def __str__(self) -> str:
        return self  # so that it comes out of the template as what it is


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox over JSON values: keys and places instead of attributes, numbers that stay numbers."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext) and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, jinja2.Undefined):
            return super().getitem(obj, argument)  # which says what is undefined
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            _spend(context[_METER], len(left) + len(right))
        elif not all(isinstance(side, (int, float)) for side in (left, right)):
            raise SecurityError(f"{operator} is only for numbers")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _LONGEST_NUMBER:
            raise SecurityError("a number grows too long")
        return result


def _finalize(value: Any) -> Any:
    if isinstance(value, (list, tuple, Mapping, bool, type(None))):
        return Inserted(value)
    if isinstance(value, _PLAIN):
        return value
    raise SecurityError(f"a {type(value).__name__} is no text; end it with `| list` or `| join(', ')`")


def placeholders(text: str) -> frozenset[str]:
    """Names that a template needs; TemplateRuleError when it is no template, or not one that a prompt may have.

    >>> sorted(placeholders("{{ question }} {{ passages }}"))
    ['passages', 'question']
    >>> placeholders("{{ question.upper() }}")
    Traceback (most recent call last):
    ...
    llmlab.bundle.template.TemplateRuleError: line 1 of the template: calls of methods and functions are not allowed; \
use a filter such as {{ question | trim }}
    """
    return _read(text)[1]


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The template with its placeholders filled, once: placeholders inside a value stay literal.

    Raises:
        ValueError: a placeholder has no value, the text grows too long, or the template breaks a rule.

    >>> fill("Q: {{ question }}", {"question": "what is {{ secret }}?"})
    'Q: what is {{ secret }}?'
    """
    return "".join(pieces(text, values))


def pieces(text: str, values: Mapping[str, Any]) -> list[str]:
    """The texts that a filled template is joined of, in order; values that are no text are `Inserted`.

    >>> pieces("{{ history }}{{ n }}", {"history": [], "n": 5})
    ['[]', '5']
    """
    if "{" not in text:
        return [text]
    try:
        template = _read(text)[0]
        meter = [_LARGEST_PROMPT_CHARS]
        parts = []
        for part in template.root_render_func(template.new_context({**values, _METER: meter})):
            _spend(meter, len(part))
            parts.append(part)
        return parts
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the template cannot be filled: {error}") from None


def _spend(meter: list[int], chars: int) -> None:
    meter[0] -= chars
    if meter[0] < 0:
        rule = f"it makes more than {_LARGEST_PROMPT_CHARS:,} characters of text, or too many rounds of loops"
        raise SecurityError(rule)


@lru_cache(maxsize=512)
def _read(text: str) -> tuple[jinja2.Template, frozenset[str]]:
    """The template, compiled, and the names that it needs."""
    try:
        tree = _ENVIRONMENT.parse(text)
        _check(tree)
        names = frozenset(jinja2.meta.find_undeclared_variables(tree))
        template = _ENVIRONMENT.from_string(_metered_tree(tree))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateRuleError(f"is not valid Jinja2: {error.message}", line=error.lineno) from None
    except (RecursionError, SyntaxError, MemoryError):
        raise TemplateRuleError("is nested too deeply", line=1) from None
    except (ValueError, OverflowError) as error:
        if isinstance(error, TemplateRuleError):
            raise
        raise TemplateRuleError(f"holds a number that cannot be read ({error})", line=1) from None
    template.globals = dict(template.globals)  # the chain of maps that Jinja2 makes is slow to copy at each filling
    return template, names


def _check(tree: nodes.Template) -> None:
    """Nothing, when every part of the template is on the list; else TemplateRuleError with the line."""
    parts: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    n_nodes = 0
    while parts:
        node, statements, depth = parts.pop()
        n_nodes += 1
        if rule := _broken_rule(node):
            raise TemplateRuleError(rule, line=node.lineno or 1)
        statements += isinstance(node, (nodes.If, nodes.For))
        if n_nodes > _MOST_PARTS:
            raise TemplateRuleError(f"has more than {_MOST_PARTS:,} parts", line=node.lineno or 1)
        if statements > _DEEPEST_STATEMENTS or depth > _DEEPEST_PARTS:
            raise TemplateRuleError("is nested too deeply", line=node.lineno or 1)
        parts += [(child, statements, depth + 1) for child in node.iter_child_nodes()]


def _broken_rule(node: nodes.Node) -> str:
    """What is not allowed about this part alone; "" where it is fine."""
    match node:
        case nodes.Call():
            return "calls of methods and functions are not allowed; use a filter such as {{ question | trim }}"
        case nodes.Filter() | nodes.Test():
            return _broken_rule_of_call(node)
        case nodes.Name() if node.name == "self":
            return "'self' is not allowed as a name"
        case nodes.Getattr() if node.attr.startswith("_"):
            return f"{node.attr!r} is not allowed: names of what a case holds begin with a letter"
        case nodes.For():
            if node.recursive or not isinstance(_root(node.iter), nodes.Name):
                return "a loop runs over a list of the case alone, such as {% for one in documents %}"
        case nodes.List() | nodes.Tuple() | nodes.Dict() if getattr(node, "ctx", "load") == "load":
            if not all(map(_is_constant, node.iter_child_nodes())):
                return "a list that is written out holds texts and numbers alone"
    if (name := type(node).__name__) in PARTS:
        return ""
    return f"{name} is not allowed; a template has {{{{ values }}}}, {{% if %}}, {{% for %}}, {{% set %}} and filters"


def _broken_rule_of_call(node: nodes.Filter | nodes.Test) -> str:
    kind, allowed = ("filter", _FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
    if node.name not in allowed or node.node is None:
        return f"no {kind} {node.name!r} (there are: {', '.join(sorted(allowed))})"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "* and ** are not allowed"
    if kind == "filter" and node.name == "map":
        by_name = node.args and isinstance(node.args[0], nodes.Const) and node.args[0].value in _FILTERS_OF_MAP
        if not (by_name or (not node.args and [keyword.key for keyword in node.kwargs] == ["attribute"])):
            return f"map takes `attribute=` or the name of a filter (one of {', '.join(sorted(_FILTERS_OF_MAP))})"
    return ""


def _is_constant(node: nodes.Node) -> bool:
    if isinstance(node, (nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Neg)):
        return all(map(_is_constant, node.iter_child_nodes()))
    return isinstance(node, nodes.Const)


def _root(node: nodes.Node | None) -> nodes.Node | None:
    while isinstance(node, (nodes.Filter, nodes.Getattr, nodes.Getitem)):
        node = node.node
    return node


def _metered_tree(tree: nodes.Template) -> nodes.Template:
    """The same template, whose loops and joins of texts (~) go through filters that count."""
    for loop in list(tree.find_all(nodes.For)):
        cost = sum(1 for part in loop.body for _ in part.find_all(nodes.Node)) + 1
        loop.iter = _filter(loop.iter, _EACH, [nodes.Const(cost * _CHARS_PER_PART)])
    # a list, because the tree changes while it is walked; find_all leaves out the root
    for node in [tree, *tree.find_all(nodes.Node)]:
        for field, value in list(node.iter_fields()):
            if isinstance(value, nodes.Concat):
                setattr(node, field, _joined(value))
            elif isinstance(value, list):
                setattr(node, field, [_joined(child) if isinstance(child, nodes.Concat) else child for child in value])
    return tree


def _joined(node: nodes.Concat) -> nodes.Filter:
    return _filter(nodes.List(node.nodes, lineno=node.lineno), _JOINED, [])


def _filter(node: nodes.Node, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    metered = nodes.Filter(cast("nodes.Expr", node), name, args, [], None, None, lineno=node.lineno)
    metered.set_environment(_ENVIRONMENT)
    return metered


@pass_context
def _each(context: Context, values: Iterable[Any], cost: int) -> Iterator[Any]:
    meter = context[_METER]
    for value in values:
        _spend(meter, cost)
        yield value


@pass_context
def _join_texts(context: Context, values: list[Any]) -> str:
    texts = [str(_finalize(value)) for value in values]
    _spend(context[_METER], sum(map(len, texts)))
    return "".join(texts)


def _growth(meter: list[int], name: str, value: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """The value that a filter may be given; SecurityError where its arguments would make too much of it."""

    def argument(place: int, key: str, default: Any) -> Any:
        return args[place] if len(args) > place else options.get(key, default)

    if name == "replace":
        value, old, new = str(_finalize(value)), str(argument(0, "old", "")), str(argument(1, "new", ""))
        _spend(meter, value.count(old) * len(new))
    elif name == "indent":
        width, value = argument(0, "width", 4), str(_finalize(value))
        _spend(meter, (value.count("\n") + 1) * max(0, width if isinstance(width, int) else len(str(width))))
    elif name in ("tojson", "round"):
        amount = argument(0, "indent" if name == "tojson" else "precision", 0)
        if isinstance(amount, int) and not 0 <= amount <= 20:
            raise SecurityError(f"{name}({amount}) must be between 0 and 20")
    elif name == "join":
        separator, items = len(str(argument(0, "d", ""))), value
        value = []
        for item in items:
            text = str(_finalize(item))
            _spend(meter, separator + len(text))
            value.append(item if argument(1, "attribute", None) else text)
    elif name in _OF_TEXTS:
        value = _finalize(value)
    return value


def _metered(name: str) -> Callable[..., Any]:
    """Jinja2's own filter, which pays for the text that it makes."""

    @pass_context
    def metered(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        meter = context[_METER]
        value = _growth(meter, name, value, args, options)
        result = _JINJA.call_filter(name, value, args, options, context=context, eval_ctx=context.eval_ctx)
        if isinstance(result, (str, list)):
            _spend(meter, len(result))
        return result

    return metered


_JINJA = ImmutableSandboxedEnvironment()
_ENVIRONMENT = _Sandbox(
    undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_finalize
)  # prompts are plain text for a model: nothing here is HTML
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters = {name: _metered(name) for name in _FILTERS} | {_EACH: _each, _JOINED: _join_texts}
_ENVIRONMENT.tests = {name: test for name, test in _JINJA.tests.items() if name in TESTS}
