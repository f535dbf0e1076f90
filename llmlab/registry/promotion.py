"""Promotion: an alias moved to a version whose receipt still holds, or by force, which stands in capitals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.base.errors import FileRuleError, RegistryError
from llmlab.base.project import who
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.catalogue import Catalogue
from llmlab.registry.connection import Registry, alias_of, open_registry
from llmlab.registry.evidence import Evidence, objections
from llmlab.registry.moves import History, Move, make_move, settle
from llmlab.registry.rollbacks import pointed
from llmlab.registry.versions import Version, read_bundle, read_receipt, resolve

if TYPE_CHECKING:
    from llmlab.gate import Receipt
    from llmlab.results.passport import JudgePassport

__all__ = ["promote"]


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
    alias_of(alias)
    if not reason.strip():
        raise ValueError("reason is empty; say why, for those who read the history")
    registry = open_registry(root)
    there = resolve(registry, version)
    past = settle(registry, there.name)  # what this promotion follows: whoever moves the alias from here on wins
    before = pointed(registry, there.name, alias)
    bundle = read_bundle(registry, there)  # a changed artifact is refused, by force too
    if before == there.number and (last := past.last(alias)) is not None and last.version == before:
        raise RegistryError(f"{alias} of {there.name} is version {before} already")
    wrong, receipt = _checked(registry, there, bundle, alias, Path(experiment), past, passports, root)
    if wrong and not force:
        raise RegistryError(_refusal(there, alias, wrong))
    said = f"{reason} [AGAINST: {'; '.join(wrong)}]" if wrong else reason
    held, target = receipt.digest if receipt is not None else "", registry.version(there.name, there.number)
    move = past.next_move(
        alias, kind="promote", to=target, before=before, reason=said, receipt=held, forced=bool(wrong)
    )
    return make_move(registry, there.name, move, target=target, known=past)


def _checked(
    registry: Registry,
    version: Version,
    bundle: Bundle,
    alias: str,
    experiment: Path,
    past: History,
    passports: Sequence[JudgePassport],
    root: Path | None,
) -> tuple[list[str], Receipt | None]:
    """Every objection, and the receipt."""
    try:
        receipt = read_receipt(registry, version)
    except (FileRuleError, RegistryError) as error:
        return [str(error)], None
    if receipt is None:
        return ["it has no receipt: gate it, and `registry.register(bundle, receipt=decision.receipt())`"], None
    evidence = Evidence.read(receipt, experiment, passports=passports)
    wrong = objections(registry, evidence, version, root=root)
    wrong += _rules(version, alias, evidence, past)
    return [*wrong, *_expired(bundle, experiment)], receipt


def _rules(version: Version, alias: str, evidence: Evidence, past: History) -> list[str]:
    """What the policy asks for besides a receipt."""
    rules, receipt, found = evidence.policy.promotion, evidence.receipt, []
    if rules.clean_commit and (receipt.dirty or not receipt.commit):
        found.append("the policy asks for a clean commit, and the gate ran on a tree with changes")
    if rules.ci and not receipt.ci:
        found.append("the policy asks for a CI run, and the gate ran outside of CI")
    if rules.approver_not_author and who() in ("", receipt.author):
        found.append(f"the policy asks for an approver other than the author ({receipt.author})")
    earlier = rules.after_alias
    if earlier and alias != earlier and not any(move.version == version.number for move in past.valid(earlier)):
        found.append(f"the policy asks for {earlier} first, which never was version {version.number}")
    return found


def _expired(bundle: Bundle, experiment: Path) -> list[str]:
    """Whether the catalogue beside the experiment says that the model is not served any more."""
    path = experiment.parent / "models.yaml"
    known = Catalogue.load(path).find(bundle.model) if path.is_file() else None
    if known is None or known.deprecation_date is None or known.deprecation_date >= datetime.now(UTC).date():
        return []
    instead = f"; its fallback is {known.fallback}" if known.fallback else ""
    return [f"{known.name} is past its deprecation date {known.deprecation_date} ({path.name}){instead}"]


def _refusal(version: Version, alias: str, wrong: Sequence[str]) -> str:
    listed = "; ".join(wrong)
    return f"version {version.number} of {version.name} cannot become {alias}: {listed}. Nothing was moved"
