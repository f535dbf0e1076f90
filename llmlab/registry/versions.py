"""Bundles as versions of a registered model: found and read, with every digest checked."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pydantic

from llmlab.base.errors import RegistryError
from llmlab.bundle.bundle import Bundle
from llmlab.registry.connection import Registry, Version, name_and_alias
from llmlab.tracking.store import reported

FOLDER = "bundle"
LONGEST_NUMBER_CHARS = 20
_LARGEST_ARTIFACT_BYTES = 100_000_000  # of a bundle, a receipt, a policy or a passport


def find(registry: Registry, name: str, digest: str) -> Version | None:
    """The version with this digest, None where there is none."""
    return next(iter(registry.versions(name, query=f"tags.digest = '{digest}'")), None)


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
        if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER_CHARS and name):
            raise ValueError(f"{reference!r} names no version; write NAME/NUMBER or NAME@ALIAS")
        number = int(text)
    version = registry.version(name, number)
    if version is None:
        raise RegistryError(f"{name!r} has no version {number}")
    return version


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
    """The text of a file of a run; StoreError where it cannot be read, RegistryError where it is huge or no text."""
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder, reported(f"{what} cannot be read"):
        place = Path(registry.file(run_id, path, folder))
        if (size := place.stat().st_size) > _LARGEST_ARTIFACT_BYTES:
            raise RegistryError(f"{what} was changed: it is {size:,} bytes, more than {_LARGEST_ARTIFACT_BYTES:,}")
        try:
            return place.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RegistryError(f"{what} was changed: it is no text any more") from None


def sha256(text: str) -> str:
    """The SHA-256 of a text, in hex: of a description or a record that only llmlab may write."""
    return hashlib.sha256(text.encode()).hexdigest()
