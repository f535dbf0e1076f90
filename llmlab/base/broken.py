"""What is wrong with a value that people wrote, in our words: never as pydantic says it. Loaded where something is."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import pydantic

_OF_KEYS = {"missing": "is missing", "extra_forbidden": "is no key that is known"}
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_KINDS = {  # the beginning of pydantic's word -> ours
    **{"string": "text", "int": "a whole number", "float": "a number", "decimal": "a number", "bool": "true or false"},
    **{"list": "a list", "tuple": "a list", "set": "a list", "frozen_set": "a list", "iterable": "a list"},
    **dict.fromkeys(("dict", "mapping", "model", "dataclass"), "a mapping of keys to values"),
    **{"date": "a date", "none": "left out"},
}
_GIVEN: tuple[tuple[type | tuple[type, ...], str], ...] = (
    *((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text")),
    *(((list, tuple), "a list"), (dict, "a mapping")),
)


def said_of(error: Any, model: type[pydantic.BaseModel], *, written: str) -> str:
    """The broken rule with the key that breaks it; `written` is its value as the file has it."""
    where = ".".join(str(part) for part in error["loc"])
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_meant(error, model)}"
    if error["type"] == "missing":
        return f"the key {where!r} is missing"
    if error["type"] == "string_type" and isinstance(value, (int, float)):
        return f'{where}: {written} was read as a {type(value).__name__}; quote it: "{written}"'
    return f"{where}: {broken_rule(error)}" if where else broken_rule(error)


def broken_rule(error: Any) -> str:
    """What pydantic found wrong with a value, in our words and without its place.

    >>> broken_rule({"type": "greater_than_equal", "ctx": {"ge": 0}}), broken_rule({"type": "int_type", "input": "3"})
    ('must be >= 0', 'must be a whole number; it is text')
    >>> broken_rule({"type": "finite_number", "input": float("nan")})
    'must be a finite number; it is nan'
    """
    kind, facts, value = str(error["type"]), error.get("ctx", {}), error.get("input")
    if kind in _OF_KEYS:
        return _OF_KEYS[kind]
    if kind in ("value_error", "assertion_error"):
        return str(facts["error"])
    for bound, sign in _BOUNDS.items():
        if bound in facts:
            limit = facts[bound]
            return f"must be {sign} {limit:g}" if isinstance(limit, float) else f"must be {sign} {limit}"
    if (most := facts.get("max_length")) is not None:
        return f"must have at most {most:,}"
    if (least := facts.get("min_length")) is not None:
        return "must not be empty" if least == 1 else f"must have at least {least}"
    if kind in ("literal_error", "enum"):
        return f"must be {facts['expected']}"
    if kind == "string_pattern_mismatch":
        return f"must be letters, digits and signs as in the pattern {facts['pattern']}"
    if kind == "finite_number":
        return f"must be a finite number; it is {value}"
    expected = next((words for part, words in _KINDS.items() if kind.startswith(part)), "something else")
    actual = next((words for kinds, words in _GIVEN if isinstance(value, kinds)), "nothing")
    return f"must be {expected}; it is {actual}"


def _meant(error: Any, model: type[pydantic.BaseModel]) -> str:
    """For an unknown key the one that is most like it, at the same place."""
    *outer, key = (str(part) for part in error["loc"])
    near = get_close_matches(key, _keys(model, outer), n=1)
    return f"; did you mean {'.'.join([*outer, near[0]])!r}?" if near else ""


def _keys(model: type[pydantic.BaseModel], outer: list[str]) -> list[str]:
    """The keys that the schema allows below `outer`; none where its shape is not that simple."""
    schema = model.model_json_schema()
    levels = [schema]
    for part in outer:
        below = [level["properties"].get(part, {}) for level in levels if "properties" in level]
        # a value may be one of several models, or a list of one
        kinds = (kind for value in below for kind in (value, value.get("items", {}), *value.get("anyOf", ())))
        levels = [schema["$defs"][kind["$ref"].rpartition("/")[2]] for kind in kinds if "$ref" in kind]
    return [key for level in levels for key in level.get("properties", {})]
