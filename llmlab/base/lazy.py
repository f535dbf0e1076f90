"""The public face of a room: its names are resolved, and the files behind them imported, when first used.

A value may have a method that a room above it carries out (`Bundle.request` needs the index). Its room does not know
that one: the face of the whole, which knows all rooms, lends it the function.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

SHOWN = re.compile(r"^    from ([\w.]+) import (\w+) as \2$", re.MULTILINE)

_homes_of_lent: dict[str, str] = {}


def face(room: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """What a room's `__init__` calls `__all__`, `__getattr__` and `__dir__`.

    Read off the imports that `room` (its `__name__`) has for type checkers, so that these and the running program see
    the same names. Files and rooms right below this one are reached as attributes, and are no part of `__all__`.
    """
    module = sys.modules[room]
    source = module.__loader__.get_source(room)  # type: ignore[union-attr]  # whatever has imported a room can read it
    homes = {name: home for home, name in SHOWN.findall(source)}

    def resolve(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        if homes[name] == room:
            value: Any = importlib.import_module(f"{room}.{name}")
        else:
            value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *homes})

    return sorted(name for name, home in homes.items() if home != room), resolve, names


def lend(name: str, *, home: str) -> None:
    """Let values of lower rooms use the function `name` of the module `home`, which is imported when they do."""
    _homes_of_lent[name] = home


def lent(name: str) -> Callable[..., Any]:
    """The function that the face of the whole lends under this name."""
    function: Callable[..., Any] = getattr(importlib.import_module(_homes_of_lent[name]), name)
    return function
