"""Bundles as versions of a registered model: found and read, with every digest checked."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from llmlab.base.cells import Chip
from llmlab.base.errors import RegistryError
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.display.shown import Shown
from llmlab.registry.connection import Registry, name_and_alias
from llmlab.tracking.store import link, reported

__all__ = ["FOLDER", "Version", "artifact", "find", "read_bundle", "resolve", "sha256", "text_of"]

FOLDER = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Version(Shown):
    """A bundle as MLflow's registry holds it.

    Attributes:
        name, number: the registered model and the version's number.
        digest: of the bundle.
        gate, receipt: verdict and digest of its newest receipt, "" where it has none.
        index_digest: of the index that was searched when it was judged, "" where it searches nothing.
        run_id, source: the MLflow run whose artifacts it is, and where in them.
        url: its page (on a local store: once `llmlab ui` runs).
    """

    name: str
    number: int
    digest: str
    bundle_version: str = ""
    gate: str = ""
    receipt: str = ""
    index_digest: str = ""
    aliases: tuple[str, ...] = ()
    run_id: str = ""
    source: str = ""
    url: str = ""

    @classmethod
    def of(cls, registry: Registry, held: Any) -> Version:
        """The value of what MLflow returns."""
        named = ("digest", "bundle_version", "gate", "receipt", "index_digest")
        return cls(
            name=held.name,
            number=int(held.version),
            **{tag: held.tags.get(tag, "") for tag in named},
            aliases=tuple(held.aliases),
            run_id=held.run_id or "",
            source=held.source,
            url=registry.url(held.name, int(held.version)),
        )

    def _rows(self) -> list[dict[str, object]]:
        known = self.gate in set(Verdict)
        return [
            {
                "model": self.name,
                "version": self.number,
                "bundle": self.bundle_version,
                "digest": self.digest[:8],
                "gate": Verdict(self.gate).chip if known else Chip(self.gate or "no receipt"),
                "aliases": self.aliases,
            }
        ]

    def _sentence(self) -> str:
        return f"In MLflow: {link(self.url)}"


def find(registry: Registry, name: str, digest: str) -> Version | None:
    """The version with this digest, None where there is none."""
    versions = registry.versions(name, query=f"tags.digest = '{digest}'")
    return Version.of(registry, versions[0]) if versions else None


def resolve(registry: Registry, reference: Version | str) -> Version:
    """The version that `name@alias` or `name/3` names today.

    Raises:
        RegistryError: there is no such version or alias.
    """
    if isinstance(reference, Version):
        name, number = reference.name, reference.number
    elif "@" in reference:
        name, alias = name_and_alias(reference)
        model = registry.known_model(name)
        if alias not in model.aliases:
            known = ", ".join(sorted(model.aliases)) or "none"
            raise RegistryError(f"{name!r} has no alias {alias!r} (there are: {known})")
        number = int(model.aliases[alias])
    else:
        name, _, text = reference.rpartition("/")
        if not text.isascii() or not text.isdigit() or not name:
            raise ValueError(f"{reference!r} names no version; write NAME/NUMBER or NAME@ALIAS")
        number = int(text)
    held = registry.version(name, number)
    if held is None:
        raise RegistryError(f"{name!r} has no version {number}")
    return Version.of(registry, held)


def read_bundle(registry: Registry, version: Version) -> Bundle:
    """The bundle in a version's artifacts; RegistryError unless it has the digest that it was registered with."""
    text = artifact(registry, version, f"{FOLDER}/bundle.json")
    file = f"bundle.json of version {version.number} of {version.name!r}"
    remedy = "Nothing was loaded; roll back, or register the bundle anew"
    try:
        bundle = Bundle.model_validate_json(text)
    except pydantic.ValidationError:
        raise RegistryError(f"{file} was changed: it is no bundle any more. {remedy}") from None
    if not version.digest or bundle.digest != version.digest:
        differs = f"has digest {bundle.digest[:8]}, registered was {version.digest[:8] or 'nothing'}"
        raise RegistryError(f"{file} {differs}: it was changed afterwards. {remedy}")
    return bundle


def artifact(registry: Registry, version: Version, path: str) -> str:
    """The text of a file of the version's run, which must be the run that its source lies in."""
    where = f"version {version.number} of {version.name!r}"
    if not version.run_id:
        raise RegistryError(f"{where} was not registered by llmlab: it has no run")
    return text_of(registry, version.run_id, path, what=f"{path} of {where}")


def text_of(registry: Registry, run_id: str, path: str, *, what: str) -> str:
    """The text of a file of a run; StoreError where it cannot be read, RegistryError where it is no text any more."""
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder, reported(f"{what} cannot be read"):
        place = Path(registry.file(run_id, path, folder))
        try:
            return place.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RegistryError(f"{what} was changed: it is no text any more") from None


def sha256(text: str) -> str:
    """The SHA-256 of a text, in hex: of a description or a record that only llmlab may write."""
    return hashlib.sha256(text.encode()).hexdigest()
