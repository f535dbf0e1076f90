"""The public face of a room: its names are resolved, and the files behind them imported, when first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["face"]


def face(
    room: str, homes: Mapping[str, tuple[str, ...]], *, rooms: tuple[str, ...] = ()
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """What a room's `__init__` calls `__all__`, `__getattr__` and `__dir__`.

    Args:
        room: `__name__` of the room.
        homes: file (dotted, below `llmlab`) -> the public names that live there.
        rooms: rooms below this one that are reached as attributes, but are no part of `__all__`.
    """
    home = {name: file for file, names in homes.items() for name in names}

    def resolve(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f"llmlab.{home[name]}"), name)
        elif name in rooms:
            value = importlib.import_module(f"{room}.{name}")
        else:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        setattr(sys.modules[room], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[room]), *home, *rooms})

    return sorted(home), resolve, names
