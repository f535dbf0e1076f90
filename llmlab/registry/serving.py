"""What an application reads: the bundle behind an alias, verified, cached, and kept while MLflow is down.

Loading never writes, and whoever has a verified bundle waits for nobody: the registry is asked beside.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from llmlab.base.background import beside
from llmlab.base.errors import RegistryError, StoreError
from llmlab.base.project import project_root
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.export import Exported
from llmlab.display.shown import Shown
from llmlab.gate.decision import Receipt
from llmlab.registry.connection import Registry, Version, name_and_alias, open_registry
from llmlab.registry.moves import now, read_history
from llmlab.registry.registering import read_receipt
from llmlab.registry.versions import read_bundle, resolve
from llmlab.tracking.store import store_uri

Key = tuple[str, str, bool]
_lock = threading.Lock()
_cache: dict[Key, Served] = {}
_asked: dict[Key, float] = {}  # when, by `time.monotonic()`, even if there was no answer
_asking: dict[tuple[int, Key], Future[Served]] = {}  # under way, by process: a fork has none of its parent's threads
_refused: set[Key] = set()  # the last answer was a RegistryError: whoever comes next waits, and is told
_told: dict[Key, Served] = {}  # what was warned of


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Served(Shown):
    """The bundle behind an alias.

    Attributes:
        bundle: verified against the digest that it was registered with.
        reference: such as `pandas_help@production`.
        version: where it came from.
        checked_s: `time.monotonic()` when the registry last said that this is what the alias names.
        stale: why it may be out of date ("" where it is not): the registry could not be asked.
    """

    bundle: Bundle
    reference: str
    version: Version
    checked_s: float
    stale: str = ""

    @property
    def age_s(self) -> float:
        """Seconds since the registry was last asked with success."""
        return time.monotonic() - self.checked_s

    def _rows(self) -> list[dict[str, object]]:
        row = {"alias": self.reference, "version": self.version.number, "bundle": self.bundle.version}
        return [{**row, "digest": self.bundle.digest[:8], "checked s ago": round(self.age_s, 1)}]

    def _sentence(self) -> str:
        return self.stale


def load(reference: str, *, require_receipt: bool = False, max_age_s: float = 30.0, root: Path | None = None) -> Served:
    """The bundle that `name@alias` points to, verified; asked anew when the last answer is older than `max_age_s`.

    Only the first load waits for the registry. From then on the last verified bundle is served at once and the registry
    is asked beside; `max_age_s=0` waits for what it says now. While it cannot be reached, a warning and `stale` say
    since when; it is asked again after another `max_age_s`.

    Args:
        require_receipt: refuse a bundle without a valid passing receipt (forced, or an alias that was set by hand).

    Raises:
        RegistryError: no such alias, a bundle or receipt that was changed, or no passing receipt; what was found beside
            is raised by the next load.
        StoreError: the registry cannot be reached, and nothing was loaded from it before.
    """
    name_and_alias(reference)
    root = project_root() if root is None else root
    key = (store_uri(root), reference, require_receipt)
    with _lock:
        known = _cache.get(key)
        is_good = known is not None and key not in _refused  # as it is now: the answer may come while this runs
        if known is not None and is_good and time.monotonic() - _asked[key] <= max_age_s:
            return _said(key, known)
        asking = _asking.get((os.getpid(), key)) if max_age_s > 0 else None
        if asking is None:
            asking = _ask_beside(key, known, root)
        if known is not None and is_good and max_age_s > 0:
            return _said(key, known)
    # Waited for without the lock, which the answering thread takes and other references need.
    return _said(key, asking.result())


def export(reference: str, path: str | Path, *, require_receipt: bool = False, root: Path | None = None) -> Path:
    """The verified bundle of `name@alias` with its receipt as one JSON file, which `llmlab.bundle.Exported` reads.

    A service needs pydantic for that, and neither MLflow nor Jupyter. The receipt is the one that was checked when the
    alias was moved; without one the file has none, and with `require_receipt` nothing is written.

    Raises:
        RegistryError: no such alias, a bundle or receipt that was changed, or a receipt is required and none held.
    """
    registry = open_registry(root)
    version = resolve(registry, reference)
    receipt, lacks = _checked_receipt(registry, version, name_and_alias(reference)[1])
    if require_receipt and lacks:
        raise RegistryError(f"{reference} is version {version.number}, which {lacks}: it is not exported")
    exported = Exported(
        reference=reference,
        version=version.number,
        digest=version.digest,
        bundle=read_bundle(registry, version),
        receipt=None if receipt is None else json.loads(receipt.to_json()),
        exported_at=now(),
        url=version.url,
    )
    return exported.save(path)


def released(*, root: Path | None = None) -> dict[str, Bundle]:
    """Every bundle that an alias points to, by reference; RegistryError where one was changed."""
    registry = open_registry(root)
    bundles = {}
    for name in registry.models():
        for alias, number in sorted(registry.model(name).aliases.items()):
            version = resolve(registry, f"{name}/{number}")
            if version.digest:  # others registered the rest
                bundles[f"{name}@{alias}"] = read_bundle(registry, version)
    return bundles


def _checked_receipt(registry: Registry, version: Version, alias: str) -> tuple[Receipt | None, str]:
    """The receipt that this version was brought to the alias on, if its check held, and otherwise what it lacks."""
    newest = read_receipt(registry, version)
    if newest is None:
        return None, "has no receipt"
    if newest.verdict != Verdict.PASS:
        return None, f"has a receipt that says {newest.verdict}"
    move = read_history(registry, version.name).check_of(alias, version.number, version.digest)
    if move is None or not move.held:
        how = "that nobody checked (`llmlab audit` does)" if move is None or not move.forced else "that did not hold"
        return None, f"has a receipt {how}"
    return read_receipt(registry, replace(version, receipt=move.receipt)), ""


def _said(key: Key, served: Served) -> Served:
    """What is served, with one warning where it may be out of date."""
    if served.stale and _told.get(key) is not served:
        _told[key] = served
        warnings.warn(f"{served.reference}: {served.stale}", RuntimeWarning, stacklevel=3)
    return served


def _ask_beside(key: Key, known: Served | None, root: Path) -> Future[Served]:
    """What the registry will have answered to a thread of its own, which keeps it for those who come later."""
    here, _asked[key] = (os.getpid(), key), time.monotonic()

    def ask() -> Served:
        try:
            return _kept(key, known, root)
        finally:
            with _lock:  # which the caller holds until this question is the one in `_asking`
                if _asking.get(here) is asking:
                    del _asking[here]

    asking = _asking[here] = beside(ask, name="llmlab-load")
    return asking


def _kept(key: Key, known: Served | None, root: Path) -> Served:
    """The registry's answer, or what is `known` where there is none, in the cache."""
    _, reference, require_receipt = key
    try:
        served = _ask(reference, known, require_receipt=require_receipt, root=root)
    except StoreError as error:
        if known is None:
            raise
        served = replace(known, stale=f"{error}. Served from memory, verified {known.age_s:.0f} s ago")
    except RegistryError:
        _refused.add(key)
        raise
    _refused.discard(key)
    _cache[key] = served
    return served


def _ask(reference: str, known: Served | None, *, require_receipt: bool, root: Path | None) -> Served:
    registry = open_registry(root)
    version = resolve(registry, reference)
    if known is not None and known.version == version:
        return replace(known, checked_s=time.monotonic(), stale="")
    bundle = read_bundle(registry, version)
    if require_receipt:
        _, lacks = _checked_receipt(registry, version, name_and_alias(reference)[1])
        if lacks:
            raise RegistryError(f"{reference} is version {version.number}, which {lacks}: it is not served")
    return Served(bundle=bundle, reference=reference, version=version, checked_s=time.monotonic())
