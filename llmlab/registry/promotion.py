"""An alias moved on to a version whose receipt still holds, or by force, which stands in capitals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from llmlab.base.errors import FileRuleError, RegistryError
from llmlab.base.project import located, project_root, who
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.catalogue import Catalogue
from llmlab.gate.passport import JudgePassport
from llmlab.registry.connection import Version, open_registry
from llmlab.registry.evidence import Claim, Evidence, check
from llmlab.registry.moves import Move, make_move, settle
from llmlab.registry.registering import read_receipt, stamped
from llmlab.registry.rollbacks import check_call, pointed
from llmlab.registry.versions import read_bundle, resolve


def promote(
    version: Version | str,
    *,
    alias: str = "production",
    experiment: str | Path,
    reason: str,
    passports: Sequence[JudgePassport] = (),
    force: bool = False,
    root: Path | None = None,
) -> Move:
    """The move of the alias to this version, once its receipt was found to hold today.

    Golden set and policy of the experiment are read again, the verdict is recomputed from the logged cases, and the
    policy's rules of promotion are kept. Of two promotions at once one wins and the other is told.

    Args:
        version: what `register` returned, or `name/3`, or `name@staging`.
        experiment: the folder with `golden.jsonl` and `gate.yaml`.
        reason: why, for those who read the history.
        passports: of the judges whose metrics the policy reads.
        force: promote although the receipt does not hold; the history says FORCED, with the objections.

    Raises:
        RegistryError: the receipt does not hold, with every reason; or somebody else moved the alias first.
    """
    check_call(alias, reason)
    registry = open_registry(root)
    target = resolve(registry, version)
    past = settle(registry, target.name)  # what this promotion follows: whoever moves the alias from here on wins
    before = pointed(registry, target.name).get(alias)
    bundle = read_bundle(registry, target)  # a changed artifact is refused, by force too
    if before == target.number and (last := past.last(alias)) is not None and last.version == before:
        raise RegistryError(f"{alias} of {target.name} is version {before} already")
    read = partial(Evidence.read, experiment=experiment, passports=passports)
    claim = Claim(registry=registry, version=target, alias=alias, past=past, approver=who(), root=root)
    against, checked = check(claim, read)
    if checked:  # it has a receipt
        place, home = located(experiment).resolve(), root or project_root()
        folder = place.relative_to(home) if place.is_relative_to(home) else place  # as a colleague has it too
        checked["experiment"] = folder.as_posix()
    if "evidence" in checked:
        against += _expired(bundle, Path(experiment))
    listed, subject = "; ".join(against), f"version {target.number} of {target.name}"
    if against and not force:
        raise RegistryError(f"{subject} cannot become {alias}: {listed.rstrip('.')}. Nothing was moved")
    if not against and (receipt := read_receipt(registry, target)) is not None:
        stamped(registry, target, bundle, receipt, checked=True)
    why, outcome = (f"{reason} [AGAINST: {listed}]", "does not hold") if against else (reason, "holds")
    facts = {**checked, "forced": bool(against), "outcome": outcome}
    return make_move(registry, past, alias, kind="promote", to=target, before=before, reason=why, **facts)


def _expired(bundle: Bundle, experiment: Path) -> list[str]:
    """Whether the catalogue beside the experiment says that the model is not served any more, or cannot be read."""
    path = experiment.parent / "models.yaml"
    try:
        entry = Catalogue.load(path).find(bundle.model) if path.is_file() else None
    except FileRuleError as error:  # then force still moves the alias
        return [str(error)]
    if entry is None or entry.deprecation_date is None or entry.deprecation_date >= datetime.now(UTC).date():
        return []
    instead = f"; its fallback is {entry.fallback}" if entry.fallback else ""
    return [f"{entry.name} is past its deprecation date {entry.deprecation_date} ({path.name}){instead}"]
