"""An alias moved back, and its history told: in a second, whatever else is broken.

No receipt, golden set or passport is asked for, and nothing is imported that would read one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llmlab.base.errors import RegistryError, StoreError
from llmlab.registry.connection import Registry, Version, alias_of, open_registry
from llmlab.registry.moves import History, Move, make_move, settle
from llmlab.registry.versions import read_bundle


def rollback(
    name: str, *, alias: str = "production", to: int | None = None, reason: str, root: Path | None = None
) -> Move:
    """The move of the alias to the newest earlier version that is good, or to version `to`.

    Good is what no rollback has left, was not deleted, and can be read; an alias that was removed by hand comes back.
    What was skipped, and a target that was forced or that cannot be read, stands in the reason.

    Raises:
        RegistryError: there is nothing to go back to, or somebody else moved the alias meanwhile.
    """
    check_call(alias, reason)
    registry = open_registry(root, light=True)
    past = settle(registry, name)
    current = pointed(registry, name).get(alias)
    target, remarks = _earlier(registry, past, alias, current) if to is None else _named(registry, name, to)
    if target.number == current:
        raise RegistryError(f"{alias} of {name} is version {current} already")
    if (brought := past.check_of(alias, target.number)) is not None and brought.forced:
        remarks.append(f"version {target.number} was made {alias} by force")
    noted = f"{reason} [{'; '.join(remarks)}]" if remarks else reason
    return make_move(registry, past, alias, kind="rollback", to=target, before=current, reason=noted)


def history(name: str, *, root: Path | None = None) -> History:
    """Every move of the aliases of `name`, oldest first, and where they point now.

    A move that a crash left half made is finished.
    """
    registry = open_registry(root, light=True)
    registry.known_model(name)
    past = settle(registry, name)
    existing = {version.number for version in registry.versions(name)}
    deleted = frozenset({move.version for move in past.moves} - existing)
    return replace(past, pointed=pointed(registry, name), deleted=deleted)


def check_call(alias: str, reason: str) -> None:
    """Nothing, where an alias may be called so and a reason is given; ValueError where not."""
    alias_of(alias)
    if not reason.strip():
        raise ValueError("reason is empty; say why, for those who read the history")


def pointed(registry: Registry, name: str) -> Mapping[str, int]:
    """The version that each alias of a model points to now."""
    return {alias: int(number) for alias, number in registry.known_model(name).aliases.items()}


def _earlier(registry: Registry, past: History, alias: str, current: int | None) -> tuple[Version, list[str]]:
    """The newest good version before `current`, and why others were skipped."""
    if current is None and past.last(alias) is None:
        raise RegistryError(f"{past.name} has no alias {alias!r}, so there is nothing to roll back")
    skipped: list[str] = []
    for number in past.ways_back(alias, current):
        version = registry.version(past.name, number)
        wrong = f"version {number} was deleted" if version is None else _unreadable(registry, version)
        if version is not None and not wrong:
            return version, skipped
        skipped.append(wrong)
    stays = "is not there" if current is None else f"stays at version {current}"
    passed_over = f" (skipped: {'; '.join(skipped)})" if skipped else ""
    none = f"{alias} of {past.name} has no earlier version that no rollback has left{passed_over}"
    raise RegistryError(f"{none}, so it {stays}; name one with `--to`")


def _named(registry: Registry, name: str, number: int) -> tuple[Version, list[str]]:
    """The version that somebody named, and what is wrong with it: they may know better."""
    version = registry.version(name, number)
    if version is None:
        raise RegistryError(f"{name!r} has no version {number}; nothing was moved")
    return version, [wrong] if (wrong := _unreadable(registry, version)) else []


def _unreadable(registry: Registry, version: Version) -> str:
    try:
        read_bundle(registry, version)
    except (RegistryError, StoreError) as error:
        return str(error)
    return ""
