"""Is the registry what its receipts and its history say? For CI and cron: every finding in words, none in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from llmlab.base.cells import Chip
from llmlab.base.errors import DataError, FileRuleError, RegistryError, StoreError
from llmlab.base.numbers import counted
from llmlab.base.project import utc
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Shown
from llmlab.gate.decision import Receipt
from llmlab.registry.connection import HISTORY, Registry, Version, is_name, open_registry
from llmlab.registry.evidence import Claim, Evidence, check
from llmlab.registry.moves import UNREADABLE, History, Move, make_move, read_history, settle
from llmlab.registry.registering import UNCHECKED, read_receipt, stamped
from llmlab.registry.rollbacks import pointed
from llmlab.registry.versions import read_bundle, sha256
from llmlab.tracking.ledger import gaps
from llmlab.tracking.store import reported, store_exists


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finding(Shown):
    """One thing that was found: `wrong`, or `adopted` into the history, or only `noted`."""

    model: str
    about: str
    kind: str
    what: str

    def _rows(self) -> list[dict[str, object]]:
        chips = {"wrong": "bad", "adopted": "unsure"}
        kind = Chip(self.kind, chips.get(self.kind, "neutral"))
        return [{"model": self.model, "about": self.about, "finding": kind, "what": self.what}]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audit(Shown):
    """What an audit found, and what it looked at."""

    findings: tuple[Finding, ...] = ()
    models: tuple[str, ...] = ()
    n_versions: int = 0

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings that somebody has to look at."""
        return tuple(finding for finding in self.findings if finding.kind == "wrong")

    def _rows(self) -> list[dict[str, object]]:
        return [row for finding in self.findings for row in finding._rows()]

    def _sentence(self) -> str:
        if not self.models:  # as where a job starts in another folder, or a disk is not mounted
            return "No model is registered here: nothing was checked."
        looked_at = f"{counted(len(self.models), 'model')}, {counted(self.n_versions, 'version')}"
        others = counted(len(self.findings) - len(self.wrong), "other finding")
        return f"{looked_at}: {len(self.wrong)} wrong, {others}."


def audit(name: str | None = None, *, root: Path | None = None) -> Audit:
    """Every registered bundle (or those of one model) against its digest, receipt, description and history.

    A move that a crash left half made is finished, and the check that each alias rests on is made again. An alias that
    was set by hand is adopted into the history where the receipt of its version holds; otherwise it is reported.
    """
    if name is None and not store_exists(root):  # nor is one made, to find nothing in it
        return Audit()
    registry = open_registry(root)
    names, left = _models(registry) if name is None else ((name,), ())
    gone = "the model was renamed or deleted, its history is left: name it so again, or delete that too"
    findings = [Finding(model=model, about="history", kind="wrong", what=gone) for model in left]
    n_versions = 0
    for model in names:
        registry.known_model(model)
        versions = registry.versions(model)
        n_versions += len(versions)
        past = read_history(registry, model)
        findings += [finding for version in versions for finding in _version(registry, past, version)]
        wrong = partial(Finding, model=model, kind="wrong")
        try:
            for look in gaps(registry.store, model):
                findings.append(wrong(about="looks", what=f"{look.results_digest} went from the ledger; it counts"))
        except DataError as error:
            findings.append(wrong(about="looks", what=str(error)))
        try:
            findings += _aliases(registry, model, root)
        except (RegistryError, StoreError) as error:  # one that cannot be looked through hides no other
            findings.append(wrong(about="aliases", what=str(error)))
    return Audit(findings=tuple(findings), models=names, n_versions=n_versions)


def _models(registry: Registry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The models that llmlab registered: those whose versions carry a digest, or that have a history.

    And those of which nothing but the history is left.
    """
    names = list(filter(is_name, registry.models()))
    ours = {name.removesuffix(HISTORY) for name in names if name.endswith(HISTORY)}
    others = [name for name in names if not name.endswith(HISTORY) and name not in ours]
    ours |= {name for name in others if any("digest" in version.tags for version in registry.versions(name))}
    return tuple(name for name in names if name in ours), tuple(sorted(ours - set(names)))


def _version(registry: Registry, past: History, version: Version) -> Iterator[Finding]:
    """A version's artifact, receipt, tags and description."""
    about = partial(Finding, model=version.name, about=f"version {version.number}")
    try:
        bundle = read_bundle(registry, version)
    except (RegistryError, StoreError) as error:
        yield about(kind="wrong", what=str(error))
        return
    tags = {"bundle_version": bundle.version, "model": str(bundle.model)}
    edited = [name for name, value in tags.items() if version.tags.get(name) != value]
    if version.tags.get("description_digest") != sha256(version.description):
        edited.append("description")
    try:
        receipt = read_receipt(registry, version)
        verdict = receipt.verdict if receipt else ""
        unchecked = UNCHECKED if verdict == Verdict.PASS else ""
        edited += ["gate"] if version.gate not in (verdict, f"{verdict}{unchecked}") else []
        if version.gate == Verdict.PASS and not any(_brought(move, version) for move in past.moves):
            what = "its page says PASS, and nobody has checked its receipt: `llmlab promote` does"
            yield about(kind="noted", what=what)
        edited += ["index_digest"] if version.index_digest != (receipt.index_digest if receipt else "") else []
    except (RegistryError, StoreError, FileRuleError) as error:
        yield about(kind="wrong", what=str(error))
    if edited:
        mended = "registering the bundle with a new receipt writes it again"
        yield about(kind="wrong", what=f"{', '.join(edited)} was edited by hand; {mended}")


def _brought(move: Move, version: Version) -> bool:
    """Whether a move claims a check of the receipt that this very version names."""
    same = (move.version, move.digest, move.receipt) == (version.number, version.digest, version.receipt)
    return move.kind != "rollback" and not move.forced and same


def _aliases(registry: Registry, name: str, root: Path | None) -> Iterator[Finding]:
    """Each alias against the last valid move of it."""
    past = settle(registry, name)
    yield from (Finding(model=name, about=f"move {number}", kind="wrong", what=UNREADABLE) for number in past.damaged)
    noted = partial(Finding, model=name, kind="noted")
    yield from (noted(about=f"move {number}", what="it was deleted from the history") for number in past.missing)
    for move in past.moves:
        about, to = f"move {move.number}", f"version {move.version}"
        if move.number in past.void:
            yield noted(about=about, what=f"it was never finished, and {to} was deleted: it is void")
        if move.forced and move.number not in past.lost:
            yield noted(about=about, what=f"{move.who} forced {move.alias} to {to}: {move.reason}")
        if move == past.last_checked(move.alias) and (changed := past.changed(move)):
            yield noted(about=about, what=f"{move.alias} was moved to {to} under {changed} than the time before")
    numbers = pointed(registry, name)
    for alias in sorted({*past.aliases, *numbers}):
        number = numbers.get(alias)
        version = None if number is None else registry.version(name, number)
        kind, what = _alias(registry, past, alias, number, version, root)
        if kind:
            yield Finding(model=name, about=alias, kind=kind, what=what)
        if version is not None and version.run_id and (trashed := _trashed(registry, version.run_id)):
            yield Finding(model=name, about=alias, kind="wrong", what=trashed)


def _alias(
    registry: Registry, past: History, alias: str, number: int | None, version: Version | None, root: Path | None
) -> tuple[str, str]:
    """What is wrong with an alias, or adopted: the kind of finding and its words, "" where it is as the last move."""
    last = past.last(alias)
    if number is None:
        if last is None:  # only lost moves
            return "", ""
        gone = registry.version(past.name, last.version) is None
        how = f"went with version {last.version}, which was deleted" if gone else "was removed by hand"
        return "wrong", f"the alias {how}; promote or roll back"
    if version is None:
        return "wrong", f"it points to version {number}, which was deleted; promote or roll back"
    claim = Claim(registry=registry, version=version, alias=alias, past=past, root=root)
    if last is not None and last.version == number:
        if version.digest == last.digest:
            return _again(claim)
        has = f"version {number} has digest {version.digest[:8] or 'none'}, moved was {last.digest[:8]}"
        return "wrong", f"{has}: its tag was edited"
    before = "nothing" if last is None else f"version {last.version}"
    by_hand = f"it was set to version {number} by hand, the history says {before}"
    return _adopted(claim, by_hand)


def _again(claim: Claim) -> tuple[str, str]:
    """Whether what the version was brought here on still holds: as of then, by the policy that the gate logged."""
    version = claim.version
    move = claim.past.check_of(claim.alias, version.number, version.digest)
    if move is None or move.forced or not move.receipt:  # nothing was claimed
        return "", ""
    if not move.held:
        why = "was not signed by this key" if move.forged else "was adopted by an earlier llmlab, without a check"
        return _adopted(claim, f"it {why}")
    if not move.outcome:
        return "noted", "an earlier version of llmlab checked its receipt, and kept nothing to check it by again"
    then = replace(claim, version=replace(version, receipt=move.receipt), approver=move.who)
    against, checked = _checked(then, as_of=utc(move.when))
    if not against and checked["golden"] == move.golden and checked["evidence"] != move.evidence:
        against = ["it rests on something else than what was checked"]
    failed = f"the check of move {move.number} does not hold any more: {'; '.join(against)}"
    return ("wrong", failed) if against else ("", "")


def _adopted(claim: Claim, how: str) -> tuple[str, str]:
    """A version that is where no checked move brought it: into the history where its receipt holds."""
    registry, version, alias, past = claim.registry, claim.version, claim.alias, claim.past
    last = past.last(alias)
    against, checked = _checked(claim)
    before = past.last_checked(alias)
    if not against and before is not None and before.policy != checked["policy"]:
        against = ["it was gated by another policy than the last release: `llmlab promote` asks gate.yaml"]
    if against:
        return "wrong", f"{how}; {'; '.join(against)}. Roll back, or gate it"
    if (receipt := read_receipt(registry, version)) is not None:
        stamped(registry, version, read_bundle(registry, version), receipt, checked=True)
    facts = {"reason": "set by hand in MLflow, found by the audit", "outcome": "holds", **checked}
    make_move(registry, past, alias, kind="adopt", to=version, before=last.version if last else None, **facts)
    return "adopted", f"{how}; its receipt holds, so it was adopted"


def _trashed(registry: Registry, run_id: str) -> str:
    """That the run an alias rests on is in MLflow's trash, "" where it is not."""
    with reported(f"run {run_id} cannot be read"):
        run = registry.store.client.get_run(run_id)
    if run.info.lifecycle_stage != "deleted":
        return ""
    where = f"its bundle lies in run {run_id}, which is in MLflow's trash, and `mlflow gc` would delete it"
    return f"{where}; `mlflow runs restore --run-id {run_id}`"


def _checked(claim: Claim, *, as_of: datetime | None = None) -> tuple[list[str], dict[str, str]]:
    """What speaks against the receipt of a version (as of then, or now), and what a move says of the check."""

    def logged(receipt: Receipt) -> Evidence:
        read_bundle(claim.registry, claim.version)
        return Evidence.logged(claim.registry, receipt, now=as_of)

    return check(claim, logged)
