"""Back to an earlier version, in a second, whatever else is broken: no receipt, golden set or passport is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmlab.base.errors import RegistryError
from llmlab.registry.connection import Registry, alias_of, open_registry
from llmlab.registry.moves import History, Move, make_move, settle

__all__ = ["history", "pointed", "rollback"]


def rollback(
    name: str, *, alias: str = "production", to: int | None = None, reason: str, root: Path | None = None
) -> Move:
    """The move of the alias to the newest earlier version that no rollback has left, or to version `to`.

    Raises:
        RegistryError: there is nothing to go back to, or somebody else moved the alias meanwhile.
    """
    alias_of(alias)
    if not reason.strip():
        raise ValueError("reason is empty; say why, for those who read the history")
    registry = open_registry(root)
    past = settle(registry, name)
    current = pointed(registry, name, alias)
    target = _version(registry, name, _earlier(past, alias, current) if to is None else to)
    if int(target.version) == current:
        raise RegistryError(f"{alias} of {name} is version {current} already")
    move = past.next_move(alias, kind="rollback", to=target, before=current, reason=reason)
    return make_move(registry, name, move, target=target, known=past)


def history(name: str, *, root: Path | None = None) -> History:
    """Every move of the aliases of `name`, oldest first; a move that a crash left half made is finished."""
    registry = open_registry(root)
    registry.known_model(name)
    return settle(registry, name)


def pointed(registry: Registry, name: str, alias: str) -> int | None:
    """The version that the alias points to now, None where it does not exist."""
    model = registry.known_model(name)
    return int(model.aliases[alias]) if alias in model.aliases else None


def _earlier(past: History, alias: str, current: int | None) -> int:
    if current is None:
        raise RegistryError(f"{past.name} has no alias {alias!r}, so there is nothing to roll back")
    back = past.way_back(alias, current)
    if back is None:
        raise RegistryError(
            f"{alias} of {past.name} has no earlier version that no rollback has left, so it stays at version "
            f"{current}; name one with `to`"
        )
    return back.version


def _version(registry: Registry, name: str, number: int) -> Any:
    found = registry.version(name, number)
    if found is None:
        raise RegistryError(f"{name!r} has no version {number}; nothing was moved")
    return found
