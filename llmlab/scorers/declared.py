"""What a scorer declares, as a digest: plain values written down so that every Python gives the same.

The code behind a scorer of yours is `scorers.source`, which is loaded where somebody wrote one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

DEEPEST = 20  # a value is read to this depth


def declared_digest(function: Callable[..., Any], declared: object) -> str:
    """sha256 (hex) over `declared`, the function's name and the plain values that it closes over: not over its code."""
    called = getattr(function, "__qualname__", type(function).__qualname__)
    record = json.dumps([declared, called, [[name, plain(cell)] for name, cell in cells(function)]])
    return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()


def cells(value: Any) -> list[tuple[str, Any]]:
    """(name, value) of what a function closes over."""
    code, closure = getattr(value, "__code__", None), getattr(value, "__closure__", None) or ()
    bound = []
    for name, cell in zip(code.co_freevars if code is not None else (), closure, strict=True):
        with contextlib.suppress(ValueError):  # a name that is bound later
            bound.append((name, cell.cell_contents))
    return bound


def plain(value: Any, *, depth: int = 0) -> Any:
    """A value of Python's own types with its type, the same for the same value; anything else by its type's name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return ["int", f"{value:x}"]
    if isinstance(value, str):  # whose repr goes by the version's Unicode
        return ["str", value]
    if isinstance(value, bool | None | float | complex | bytes):
        return [type(value).__name__, repr(value)]
    if depth > DEEPEST:  # it may hold itself
        return named(type(value))
    inner = functools.partial(plain, depth=depth + 1)
    if callable(value) and isinstance(digest := getattr(value, "digest", None), str):  # another scorer
        return ["digest", digest]
    if isinstance(value, re.Pattern):
        return ["Pattern", value.pattern if isinstance(value.pattern, str) else repr(value.pattern), value.flags]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(inner, value)]
    if isinstance(value, set | frozenset):
        return [type(value).__name__, *sorted(map(inner, value), key=json.dumps)]
    if isinstance(value, Mapping):
        return [type(value).__name__, *sorted(([inner(k), inner(v)] for k, v in value.items()), key=json.dumps)]
    return named(value) if callable(value) or isinstance(value, types.ModuleType) else named(type(value))


def named(value: Any) -> list[str]:
    """A value by its name and module, however it looks."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__qualname__)
    return ["name", f"{getattr(value, '__module__', '')}.{name}"]
