"""Bundles as versions of a registered model: registering, finding and reading them, with every digest checked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from llmlab.base.display import Chip, Shown
from llmlab.base.errors import FileRuleError, FloatingModelError, RegistryError, StoreError
from llmlab.base.project import git_state, who
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.gate.decision import Receipt
from llmlab.golden.checks import refuse_secrets
from llmlab.registry.card import card
from llmlab.registry.connection import Registry, name_and_alias, open_registry, require_name, retried
from llmlab.registry.moves import now
from llmlab.tracking.runs import bundle_json
from llmlab.tracking.store import COMPLETION_TAG, link, reported

__all__ = ["Version", "find", "read_bundle", "read_receipt", "register", "resolve", "text_of"]

EXPERIMENT = "registered"  # where a bundle that was never run gets a run of its own
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


def register(bundle: Bundle, receipt: Receipt | None = None, *, root: Path | None = None) -> Version:
    """The bundle as a registered version over its run's artifacts; the same digest is the same version.

    A version whose artifact was changed or lost gets it back; a damaged receipt is replaced by the one given.

    Args:
        receipt: of a gate's decision on this bundle; a newer one is added to the version that is there.
        root: the project, by default the one around the current folder.

    Raises:
        FloatingModelError: its model id may change under it. RegistryError: the receipt is for another bundle, or was
        edited. DataError: a key stands in the bundle.
    """
    require_name(bundle.name)
    pinned = bundle.model.pinned
    if not pinned.pinned:
        raise FloatingModelError(provider=bundle.model.provider, model_id=bundle.model.id, reason=pinned.reason)
    refuse_secrets({bundle.name: bundle}, None)
    if receipt is not None:
        _check_receipt(receipt, bundle.digest)
    registry = open_registry(root)
    version = _whole(registry, find(registry, bundle.name, bundle.digest) or _create(registry, bundle, root), bundle)
    return version if receipt is None else _add_receipt(registry, version, bundle, receipt)


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
    text = _artifact(registry, version, f"{FOLDER}/bundle.json")
    where = f"version {version.number} of {version.name!r}"
    try:
        bundle = Bundle.model_validate_json(text)
    except pydantic.ValidationError:
        raise RegistryError(
            f"bundle.json of {where} was changed: it is no bundle any more. Nothing was loaded; roll back, or register "
            "the bundle anew"
        ) from None
    if not version.digest or bundle.digest != version.digest:
        raise RegistryError(
            f"bundle.json of {where} has digest {bundle.digest[:8]}, registered was {version.digest[:8] or 'nothing'}: "
            "it was changed afterwards. Nothing was loaded; roll back, or register the bundle anew"
        )
    return bundle


def read_receipt(registry: Registry, version: Version) -> Receipt | None:
    """The newest receipt of a version, None where it has none; RegistryError where it was edited."""
    if not version.receipt:
        return None
    receipt = Receipt.from_json(_artifact(registry, version, _receipt_path(version.receipt)))
    if receipt.digest != version.receipt:
        raise RegistryError(
            f"the receipt of version {version.number} of {version.name!r} has digest {receipt.digest[:8]}, the "
            f"version's tag says {version.receipt[:8]}: one of them was edited"
        )
    _check_receipt(receipt, version.digest)
    return receipt


def _check_receipt(receipt: Receipt, digest: str) -> None:
    if receipt.bundle_digest != digest:
        raise RegistryError(
            f"the receipt is for the bundle {receipt.bundle_digest[:8]}, this one is {digest[:8]}: gate this bundle"
        )


def _create(registry: Registry, bundle: Bundle, root: Path | None) -> Version:
    """A new version; where two processes make one at once, both get the older one."""
    run_id = _run_of(registry, bundle) or _own_run(registry, bundle)
    with reported(f"run {run_id} cannot be read"):
        source = f"{registry.store.client.get_run(run_id).info.artifact_uri}/{FOLDER}"
    registry.create_model(bundle.name, f"Bundles of {bundle.name}, registered by llmlab.")
    git = git_state(root)
    tags = {
        "digest": bundle.digest,
        "bundle_version": bundle.version,
        "model": str(bundle.model),
        "registered_by": who(),
        "registered_at": now(),
        **({"commit": git.commit + (" (dirty)" if git.dirty else "")} if git.commit else {}),
    }
    description = card(bundle, None, registered=_registered(tags))
    tags |= {"description_digest": sha256(description)}
    with reported(f"{bundle.name!r} cannot be registered"):
        copy = retried(
            registry.client.create_model_version,
            bundle.name,
            source=source,
            run_id=run_id,
            tags=tags,
            description=description,
            await_creation_for=0,
        )
    first = find(registry, bundle.name, bundle.digest)
    if first is not None and first.number != int(copy.version):
        with reported(f"the second copy of {bundle.name!r} cannot be taken back"):
            retried(registry.client.delete_model_version, bundle.name, copy.version)
        return first
    return Version.of(registry, copy)


def _whole(registry: Registry, version: Version, bundle: Bundle) -> Version:
    """The version, whose artifact is written again from the bundle of its digest where it is not what it was."""
    try:
        read_bundle(registry, version)
    except (RegistryError, StoreError):
        with reported(f"bundle.json of version {version.number} of {version.name!r} cannot be written again"):
            registry.store.client.log_text(version.run_id, bundle_json(bundle), f"{FOLDER}/bundle.json")
        read_bundle(registry, version)
    return version


def _run_of(registry: Registry, bundle: Bundle) -> str:
    """The newest run that logged this bundle whole, and pinned, for it is served from there; "" where there is none."""
    with reported("the runs of this bundle cannot be searched"):
        runs = registry.store.whole_runs("bundle_digest", bundle.digest)
    wanted = [run for run in runs if run.data.tags.get("bundle_name") == bundle.name]
    named = [run for run in wanted if run.data.tags.get("model_pinned") != "false"]
    return str(named[0].info.run_id) if named else ""


def _own_run(registry: Registry, bundle: Bundle) -> str:
    store = registry.store
    tags = {"llmlab.kind": "registered", "bundle_digest": bundle.digest, "bundle_name": bundle.name}
    run_id = store.start_run(EXPERIMENT, name=f"{bundle.name} {bundle.version}", tags=tags)
    with reported(f"the bundle {bundle.name!r} cannot be logged"):
        store.client.log_text(run_id, bundle_json(bundle), f"{FOLDER}/bundle.json")
        store.client.set_tag(run_id, COMPLETION_TAG, "whole")
    store.close_run(run_id)
    return run_id


def _add_receipt(registry: Registry, version: Version, bundle: Bundle, receipt: Receipt) -> Version:
    """The receipt beside the bundle, then the tags that name it; an older one than the newest is only kept."""
    try:
        newest = read_receipt(registry, version)
    except (FileRuleError, RegistryError, StoreError):  # damaged or lost: replaced
        newest = None
    if newest is not None and (newest.digest == receipt.digest or newest.decided_at() > receipt.decided_at()):
        return version
    number = str(version.number)
    with reported(f"the receipt of version {number} of {version.name!r} cannot be kept"):
        registry.store.client.log_text(version.run_id, receipt.to_json(), _receipt_path(receipt.digest))
        registered = _registered(registry.client.get_model_version(version.name, number).tags)
        description = card(bundle, receipt, registered=registered)
        tags = {"gate": receipt.verdict, "description_digest": sha256(description)}
        tags |= {"index_digest": receipt.index_digest} if receipt.index_digest else {}
        tags |= {"receipt": receipt.digest}  # last: it is what the others are read by
        retried(registry.client.update_model_version, version.name, number, description)
        for key, value in tags.items():
            retried(registry.client.set_model_version_tag, version.name, number, key, value)
    return replace(version, gate=receipt.verdict, receipt=receipt.digest, index_digest=receipt.index_digest)


def _registered(tags: Mapping[str, str]) -> str:
    words = {"registered_by": "Registered by", "registered_at": "at", "commit": "from commit"}
    return " ".join(f"{word} {tags[name]}" for name, word in words.items() if tags.get(name))


def _receipt_path(digest: str) -> str:
    return f"{FOLDER}/receipts/{digest}.json"


def _artifact(registry: Registry, version: Version, path: str) -> str:
    """The text of a file of the version's run, which must be the run that its source lies in."""
    where = f"version {version.number} of {version.name!r}"
    if not version.run_id:
        raise RegistryError(f"{where} was not registered by llmlab: it has no run")
    return text_of(registry, version.run_id, path, what=f"{path} of {where}")


def text_of(registry: Registry, run_id: str, path: str, *, what: str) -> str:
    """The text of a file of a run; StoreError where it cannot be read, RegistryError where it is no text any more."""
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder, reported(f"{what} cannot be read"):
        place = Path(registry.store.client.download_artifacts(run_id, path, folder))
        try:
            return place.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RegistryError(f"{what} was changed: it is no text any more") from None


def sha256(text: str) -> str:
    """The SHA-256 of a text, in hex: of a description or a record that only llmlab may write."""
    return hashlib.sha256(text.encode()).hexdigest()
