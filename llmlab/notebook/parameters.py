"""The cell tagged `parameters`: what may be set from outside, of which type, checked before anything runs.

papermill itself takes `false` as a truthy text, and only warns of `seven` for a number or of an unknown name.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import ConfigDict, Field, TypeAdapter

from llmlab.base.errors import FileRuleError
from llmlab.display.shown import Shown

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PLAIN_TYPES = (bool, int, float, str, list, dict)
_TYPES: dict[str, Any] = {"None": None, **{plain.__name__: plain for plain in _PLAIN_TYPES}}
_TYPES["list"] = Annotated[list[Any], Field(strict=False)]
_GENERICS: dict[str, Any] = {"Literal": Literal, "Optional": Optional, "Union": Union, "list": list, "dict": dict}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Parameter(Shown):
    """One line of the parameters cell: `name: type = default  # help`."""

    name: str
    type: str
    default: Any
    help: str = ""


def read_parameters(notebook: Mapping[str, Any], *, path: str | Path) -> tuple[Parameter, ...]:
    """The parameters that a notebook declares, none where it has no cell tagged `parameters`.

    Raises:
        FileRuleError: the cell is not Python, or a default is not a plain value.
    """
    source = next((whole(cell.get("source", "")) for cell in notebook["cells"] if "parameters" in tags_of(cell)), "")
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise FileRuleError(f"the parameters cell is not Python ({error.msg})", path=path, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, half an emoji, brackets in brackets
        raise FileRuleError(f"the parameters cell is not Python ({error})", path=path) from None
    helps = _comments(source)
    return tuple(
        _declared(target.id, statement, helps, path)
        for statement in statements
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Name)
    )


def parse_parameters(declared: Sequence[Parameter], given: Mapping[str, Any], *, path: str | Path) -> dict[str, Any]:
    """The given values in their declared types. Texts, as they come from a command line, are read by the type.

    Raises:
        ValueError: an unknown name (with the nearest known one), or a value that is not of the declared type.

    >>> retries = Parameter(name="retries", type="int", default=3)
    >>> parse_parameters([retries], {"retries": "7"}, path="01.ipynb")
    {'retries': 7}
    """
    by_name = {parameter.name: parameter for parameter in declared}
    return {name: _checked(name, value, by_name, Path(path).name) for name, value in given.items()}


def _declared(
    name: str, statement: ast.Assign | ast.AnnAssign, helps: Mapping[int, str], path: str | Path
) -> Parameter:
    assert statement.value is not None  # noqa: S101  # the caller looked
    try:
        default = ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        rule = f"the default of parameter {name!r} must be a plain value, not {ast.unparse(statement.value)!r}"
        raise FileRuleError(rule, path=path) from None
    annotation = statement.annotation if isinstance(statement, ast.AnnAssign) else None
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):  # a quoted annotation
        text = annotation.value
    elif annotation is not None:
        text = ast.unparse(annotation)
    else:
        text = type(default).__name__ if isinstance(default, _PLAIN_TYPES) else "str | None"
    return Parameter(name=name, type=text, default=default, help=helps.get(statement.end_lineno or 0, ""))


def _checked(name: str, value: Any, known: Mapping[str, Parameter], notebook: str) -> Any:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}? It has: {', '.join(known)}" if near else "it has no parameters"
        raise ValueError(f"{notebook} has no parameter {name!r}; {hint}")
    kinds = _alternatives(ast.parse(known[name].type, mode="eval").body)
    interpretations = _readings(value) if isinstance(value, str) else [value]
    if isinstance(value, str) and any(_name(kind) == "list" for kind in kinds):  # a, b; or one
        interpretations.append([_readings(item)[0] for item in value.split(",") if item.strip()])
    for kind in sorted(kinds, key=lambda kind: _name(kind) == "str"):  # "7" is a number where a number may stand
        for interpretation in interpretations:
            try:
                json.dumps(interpretation, allow_nan=False, default=str)  # numbers are finite, however deep they stand
                return TypeAdapter(_type(kind), config=ConfigDict(strict=True)).validate_python(interpretation)
            except (ValueError, TypeError, RecursionError, KeyError):  # KeyError: a type of no plain value
                continue
    raise ValueError(
        f"{name} == {value!r}, must be {_in_words(kinds)} ({notebook} declares {name}: {known[name].type})"
    )


def _readings(text: str) -> list[Any]:
    """What a text may mean: JSON or a Python literal, yes or no, and itself."""
    stripped, written = text.strip(), []
    for read in (json.loads, ast.literal_eval):
        try:
            written.append(read(stripped))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    truth = [_TRUTH[stripped.lower()]] if stripped.lower() in _TRUTH else []
    return [*(value for value in written if not isinstance(value, str)), *truth, text]


def _type(kind: ast.expr) -> Any:
    """The type that an annotation names; KeyError where it is none of plain values."""
    if isinstance(kind, ast.BinOp):
        return _GENERICS["Union"][_type(kind.left), _type(kind.right)]
    name = _name(kind)
    if not isinstance(kind, ast.Subscript):
        return _TYPES[name]
    if name == "Literal":
        return _GENERICS[name][ast.literal_eval(kind.slice)]
    parts = tuple(map(_type, kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]))
    filled = _GENERICS[name][parts if len(parts) > 1 else parts[0]]
    # of a list a tuple will do, its items stay strict
    return Annotated[filled, Field(strict=False)] if name == "list" else filled


def _alternatives(kind: ast.expr) -> list[ast.expr]:
    """The members of a union, of `Optional[...]`, or the type itself."""
    if isinstance(kind, ast.BinOp):
        return [*_alternatives(kind.left), *_alternatives(kind.right)]
    if isinstance(kind, ast.Subscript) and _name(kind) in ("Optional", "Union"):
        members = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        nothing: list[ast.expr] = [ast.Constant(None)] if _name(kind) == "Optional" else []
        return [leaf for member in members for leaf in _alternatives(member)] + nothing
    return [kind]


def _name(kind: ast.expr) -> str:
    if isinstance(kind, ast.Subscript):
        return _name(kind.value)
    if isinstance(kind, ast.Attribute):
        return kind.attr
    return kind.id if isinstance(kind, ast.Name) else str(getattr(kind, "value", ""))


def _in_words(kinds: Sequence[ast.expr]) -> str:
    words = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a finite number",
        "str": "text",
        "list": 'a list such as ["a", "b"]',
        "dict": 'a mapping such as {"a": 1}',
        "None": "None",
    }
    return " or ".join(words.get(_name(kind), ast.unparse(kind)) for kind in kinds)


def _comments(source: str) -> dict[int, str]:
    """Comment by line number; a `#` inside a string is none."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: re.sub(r"^#+\s*", "", token.string) for token in tokens if token.type == tokenize.COMMENT}


def tags_of(cell: Mapping[str, Any]) -> Sequence[str]:
    """The tags of a cell, none where it has none."""
    tags: Sequence[str] = cell.get("metadata", {}).get("tags", ())
    return tags


def whole(text: str | Sequence[str]) -> str:
    """A text of a notebook's file, which may keep it as a list of lines."""
    return text if isinstance(text, str) else "".join(text)
