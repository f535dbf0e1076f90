"""Bundles made versions of a registered model, and the receipts that lie beside them, with every digest checked.

The description of a version is safe Markdown: what a person in MLflow's pages needs to decide.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmlab.base.errors import FileRuleError, RegistryError, StoreError
from llmlab.base.numbers import Interval
from llmlab.base.private import scrub
from llmlab.base.project import git_state, who
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.display.markdown import markdown, markdown_block, markdown_code
from llmlab.gate.decision import Receipt
from llmlab.golden.checks import refuse_secrets
from llmlab.registry.connection import HISTORY, Registry, Version, is_name, open_registry, retried
from llmlab.registry.moves import now
from llmlab.registry.versions import FOLDER, artifact, find, read_bundle, sha256
from llmlab.tracking.runs import bundle_json
from llmlab.tracking.store import reported

UNCHECKED = ", not checked"  # behind a receipt's PASS on a version's page, until a promotion or an audit checked it
EXPERIMENT = "registered"  # where a bundle that was never run gets a run of its own
CLOCKS_DIFFER = timedelta(minutes=5)
_LONGEST_CARD_CHARS = 5_000  # MLflow's column for it; PostgreSQL refuses more
_LONGEST_PROMPT_CHARS = 1_200


def register(bundle: Bundle, receipt: Receipt | None = None, *, root: Path | None = None) -> Version:
    """The bundle as a registered version over its run's artifacts; the same digest is the same version.

    A version whose artifact was changed or lost gets it back; a damaged receipt is replaced by the one given. Where the
    version's run was deleted for good (`mlflow gc`), a new version takes its place.

    Args:
        receipt: of a gate's decision on this bundle; a newer one is added to the version that is there.
        root: the project, by default the one around the current folder.

    Raises:
        FloatingModelError: its model id may change under it. RegistryError: the receipt is for another bundle, or was
        edited. DataError: a key stands in the bundle.
    """
    if not is_name(bundle.name) or bundle.name.endswith(HISTORY):
        rule = f"letters, digits, _, - and dots, and not ending in {HISTORY}"
        raise RegistryError(f"{bundle.name!r} cannot be registered: {rule}")
    bundle.model.require_pinned()
    refuse_secrets({bundle.name: bundle}, None)
    if receipt is not None:
        _check_receipt(receipt, bundle.digest)
    registry = open_registry(root)
    known = find(registry, bundle.name, bundle.digest)
    if known is None or _is_lost(registry, known):
        known = _create(registry, bundle, root)
    version = _whole(registry, known, bundle)
    return version if receipt is None else _add_receipt(registry, version, bundle, receipt)


def read_receipt(registry: Registry, version: Version) -> Receipt | None:
    """The newest receipt of a version, None where it has none; RegistryError where it was edited."""
    if not version.receipt:
        return None
    receipt = Receipt.from_json(artifact(registry, version, _receipt_path(version.receipt)))
    if receipt.digest != version.receipt:
        subject = f"the receipt of version {version.number} of {version.name!r}"
        differs = f"has digest {receipt.digest[:8]}, the version's tag says {version.receipt[:8]}"
        raise RegistryError(f"{subject} {differs}: one of them was edited")
    _check_receipt(receipt, version.digest)
    return receipt


def _check_receipt(receipt: Receipt, digest: str) -> None:
    if receipt.bundle_digest != digest:
        subject = f"the receipt is for the bundle {receipt.bundle_digest[:8]}, this one is {digest[:8]}"
        raise RegistryError(f"{subject}: gate this bundle")


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
    description = _card(bundle, None, registered=_registered(tags))
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
    return Version.of(copy, page=registry.url(bundle.name))


def _whole(registry: Registry, version: Version, bundle: Bundle) -> Version:
    """The version, whose artifact is written again from the bundle of its digest where it is not what it was."""
    try:
        read_bundle(registry, version)
    except (RegistryError, StoreError):
        with reported(f"bundle.json of version {version.number} of {version.name!r} cannot be written again"):
            registry.store.client.log_text(version.run_id, bundle_json(bundle), f"{FOLDER}/bundle.json")
        read_bundle(registry, version)
    return version


def _is_lost(registry: Registry, version: Version) -> bool:
    """Whether a version's run is gone for good, and its files with it; then it is not found by its digest any more."""
    if registry.run_exists(version.run_id):
        return False
    with reported(f"version {version.number} of {version.name!r}, whose run is gone, cannot be put aside"):
        retried(registry.client.set_model_version_tag, version.name, str(version.number), "digest", "")
    return True


def _run_of(registry: Registry, bundle: Bundle) -> str:
    """The newest run that logged this bundle whole, and pinned, for it is served from there; "" where there is none."""
    with reported("the runs of this bundle cannot be searched"):
        runs = registry.store.whole_runs("bundle_digest", bundle.digest)
    wanted = [run for run in runs if run.data.tags.get("bundle_name") == bundle.name]
    return next((str(run.info.run_id) for run in wanted if run.data.tags.get("model_pinned") != "false"), "")


def _own_run(registry: Registry, bundle: Bundle) -> str:
    name, what = f"{bundle.name} {bundle.version}", f"the bundle {bundle.name!r}"
    tags = {"llmlab.kind": "registered", "bundle_digest": bundle.digest, "bundle_name": bundle.name}
    with registry.store.run(EXPERIMENT, name=name, tags=tags, what=what) as run_id:
        registry.store.client.log_text(run_id, bundle_json(bundle), f"{FOLDER}/bundle.json")
    return run_id


def _add_receipt(registry: Registry, version: Version, bundle: Bundle, receipt: Receipt) -> Version:
    """The receipt beside the bundle, then the tags that name it; the newest stays where an older one is given."""
    try:
        newest = read_receipt(registry, version)
    except (FileRuleError, RegistryError, StoreError):  # damaged or lost: replaced
        newest = None
    latest = datetime.now(UTC) + CLOCKS_DIFFER  # one of a date yet to come keeps no other out
    if newest and newest.digest == receipt.digest:
        return version
    if newest and receipt.decided_at() < newest.decided_at() <= latest:
        receipt_kept = f"its receipt {newest.digest[:8]} of {newest.created_at[:16]}"
        why = f"version {version.number} of {version.name} keeps {receipt_kept}, for the one given is older"
        warnings.warn(why, RuntimeWarning, stacklevel=3)
        return version
    with reported(f"the receipt of version {version.number} of {version.name!r} cannot be kept"):
        registry.store.client.log_text(version.run_id, receipt.to_json(), _receipt_path(receipt.digest))
    return stamped(registry, version, bundle, receipt, checked=False)


def stamped(registry: Registry, version: Version, bundle: Bundle, receipt: Receipt, *, checked: bool) -> Version:
    """The version, on whose page stands what its receipt says, and that it was `checked` or has yet to be."""
    number, is_open = str(version.number), receipt.verdict == Verdict.PASS and not checked
    word = f"{receipt.verdict}{UNCHECKED if is_open else ''}"
    with reported(f"the verdict on version {number} of {version.name!r} cannot be written"):
        registered = _registered(registry.client.get_model_version(version.name, number).tags)
        description = _card(bundle, receipt, registered=registered, checked=checked)
        tags = {"gate": word, "description_digest": sha256(description)}
        tags |= {"index_digest": receipt.index_digest} if receipt.index_digest else {}
        tags |= {"receipt": receipt.digest}  # last: it is what the others are read by
        retried(registry.client.update_model_version, version.name, number, description)
        for key, value in tags.items():
            retried(registry.client.set_model_version_tag, version.name, number, key, value)
    return replace(version, gate=word, receipt=receipt.digest, index_digest=receipt.index_digest)


def _registered(tags: Mapping[str, str]) -> str:
    words = {"registered_by": "Registered by", "registered_at": "at", "commit": "from commit"}
    return " ".join(f"{word} {tags[name]}" for name, word in words.items() if tags.get(name))


def _receipt_path(digest: str) -> str:
    return f"{FOLDER}/receipts/{digest}.json"


def _card(bundle: Bundle, receipt: Receipt | None, *, registered: str, checked: bool = False) -> str:
    """The Markdown of a version: verdict and conditions first, then what it is made of, who registered it and when.

    Args:
        receipt: the newest one, None where there is none.
        registered: who, when, from which commit.
        checked: whether the receipt was held against what its run logged, and holds.
    """
    retrieval = "none"
    if bundle.retrieval is not None:
        fields = bundle.retrieval.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        fields |= {"retriever": bundle.retrieval.retriever, "k": bundle.retrieval.k}  # said even where they are usual
        retrieval = json.dumps(fields, ensure_ascii=False)
    parts = [
        f"**{markdown(bundle.name)} {markdown(bundle.version)}** · digest {markdown_code(bundle.digest)}",
        *(["Gate: **no receipt yet**."] if receipt is None else [_judged(receipt, checked), _conditions(receipt)]),
        "**Model** " + markdown_code(str(bundle.model)) + f": {markdown(bundle.model.pinned.reason, None)}",
        f"**Sampling** {markdown_code(json.dumps(dict(bundle.sampling.sent), ensure_ascii=False))}",
        f"**Retrieval** {markdown_code(retrieval)}",
        markdown(registered, None),
    ]
    head = "\n\n".join(part for part in parts if part)
    room_chars = min(_LONGEST_PROMPT_CHARS, _LONGEST_CARD_CHARS - len(head) - 300)
    return scrub(f"{head}\n\n{_prompt(bundle, max(room_chars, 0))}")[:_LONGEST_CARD_CHARS]


def _judged(receipt: Receipt, checked: bool) -> str:
    by = f" by {receipt.author}" if receipt.author else ""
    judged = f"{receipt.sentence} Judged {receipt.created_at[:16]}{by}, receipt {receipt.digest[:8]}."
    is_open = receipt.verdict == Verdict.PASS and not checked
    doubt = " by its receipt, which `llmlab promote` has yet to check" if is_open else ""
    return f"Gate: **{markdown(receipt.verdict)}**{doubt}. {markdown(judged, None)}"


def _conditions(receipt: Receipt) -> str:
    """A table of what was asked, what was found, and what follows; categories only where they do not pass."""
    rows = [
        (
            f"{c.kind}: {c.metric}{f' in {c.category}' if c.category else ''}",
            c.verdict,
            Interval(c.value, c.low, c.high, unit="%" if c.relative else ""),
            c.reading,
        )
        for c in receipt.conditions
        if c.kind != "category" or c.verdict != Verdict.PASS
    ]
    if not rows:
        return ""
    header = ["| condition&nbsp; | verdict&nbsp; | value&nbsp; | means |", "| --- | --- | --- | --- |"]
    return "\n".join([*header, *(f"| {'&nbsp; | '.join(markdown(cell, None) for cell in row)} |" for row in rows)])


def _prompt(bundle: Bundle, room_chars: int) -> str:
    blocks = []
    for title, text in (("System", bundle.prompt.system), ("Template", bundle.prompt.template)):
        cut = f"{text[: room_chars // 2]}… ({len(text):,} characters; the whole is in bundle.json)"
        blocks += [f"**{title}**\n\n{markdown_block(cut if len(text) > room_chars // 2 else text)}"] if text else []
    return "\n\n".join(blocks)
