"""What the parameters cell declares, and what may be given to it."""

import math

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.notebook import parse_parameters, read_parameters

CELL = """
repeats: int = 3  # answers per case
rate: float = 0.5
widgets: bool = True  # show them
title: str = "a # b"  # with a # inside
temperatures: list[float] = [0.0, 0.7]
prices: dict[str, float] = {}
base_url: str | None = None  # empty = the default
level: "Optional[float]" = None
require: Literal["none", "pass"] = "none"
mixed: int | str = 1
first = 0
anything = None
import os
"""


def declared(source=CELL):
    cells = [{"cell_type": "markdown", "source": "# Title", "metadata": {}}]
    cells.append({"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}})
    return read_parameters({"cells": cells}, path="01.ipynb")


def parsed(**given):
    return parse_parameters(declared(), given, path="notebooks/01.ipynb")


def test_names_types_defaults_and_helps_are_read():
    found = {p.name: (p.type, p.default, p.help) for p in declared()}
    assert found["repeats"] == ("int", 3, "answers per case")
    assert found["title"] == ("str", "a # b", "with a # inside")
    assert found["base_url"] == ("str | None", None, "empty = the default")
    assert found["level"] == ("Optional[float]", None, "")
    assert found["first"] == ("int", 0, "")
    assert "os" not in found


def test_a_notebook_without_a_parameters_cell_declares_none():
    assert read_parameters({"cells": [{"cell_type": "code", "source": "x = 1", "metadata": {}}]}, path="x.ipynb") == ()


def test_source_kept_as_a_list_of_lines_is_read_too():
    assert declared(["a: int = 1\n", "b: int = 2"])[1].name == "b"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("repeats", "7", 7),
        ("repeats", " -2 ", -2),
        ("rate", "1e-3", 0.001),
        ("rate", "2", 2.0),
        ("widgets", "false", False),
        ("widgets", "False", False),
        ("widgets", "true", True),
        ("widgets", "0", False),
        ("title", "false", "false"),
        ("title", "", ""),
        ("temperatures", "[0, 1.5]", [0.0, 1.5]),
        ("temperatures", "[]", []),
        ("prices", '{"in": 3}', {"in": 3.0}),
        ("prices", "{'in': 3}", {"in": 3.0}),
        ("base_url", "http://x", "http://x"),
        ("base_url", "None", None),
        ("level", "0.9", 0.9),
        ("level", "null", None),
        ("require", "pass", "pass"),
        ("mixed", "12", 12),
        ("mixed", "twelve", "twelve"),
        ("anything", "text", "text"),
        ("temperatures", "0.7", [0.7]),
        ("temperatures", "0, 0.7", [0, 0.7]),
    ],
)
def test_a_text_is_read_by_the_declared_type(name, text, value):
    """papermill would pass "false" on as a truthy text."""
    found = parsed(**{name: text})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("repeats", "seven", "a whole number"),
        ("repeats", "7.5", "a whole number"),
        ("repeats", 7.5, "a whole number"),
        ("repeats", True, "a whole number"),
        ("repeats", "", "a whole number"),
        ("rate", "nan", "a finite number"),
        ("rate", "inf", "a finite number"),
        ("rate", math.nan, "a finite number"),
        ("widgets", "maybe", "true or false"),
        ("widgets", 1, "true or false"),
        ("title", 3, "text"),
        ("temperatures", "[0.7", "a list"),
        ("temperatures", "[NaN]", "a list"),
        ("temperatures", '["0.7"]', "a list"),
        ("temperatures", "__import__('os').getcwd()", "a list"),
        ("prices", "[1]", "a mapping"),
        ("require", "maybe", "Literal"),
        ("level", "high", "a finite number or None"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_rule(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} == .*{rule}"):
        parsed(**{name: value})


def test_values_in_their_own_type_pass():
    assert parsed(repeats=2, rate=1, temperatures=(0.5,), base_url=None) == {
        "repeats": 2,
        "rate": 1.0,
        "temperatures": [0.5],
        "base_url": None,
    }


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"01.ipynb has no parameter 'repaets'; did you mean 'repeats'\?"):
        parsed(repaets="3")


def test_a_default_that_is_computed_is_refused():
    with pytest.raises(FileRuleError, match="the default of parameter 'root' must be a plain value"):
        declared("root: str = Path('.')")


def test_a_cell_that_is_not_python_is_refused_with_its_line():
    with pytest.raises(FileRuleError, match=r"01\.ipynb:2: the parameters cell is not Python"):
        declared("a = 1\nb = = 2")
