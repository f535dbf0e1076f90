"""What a release compares and counts: candidate, production or its stand-in, and every earlier look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from llmlab import tracking
from llmlab.base.errors import FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.gate.decide import GatePolicy
from llmlab.gate.looks import NONE_HERE, Ledger
from llmlab.registry.connection import open_registry
from llmlab.registry.moves import read_history
from llmlab.registry.versions import read_bundle, resolve
from llmlab.tracking.store import store_exists


class Against(Protocol):
    """Rules that name a baseline: an alias or a bundle's file, and what stands in until the alias exists."""

    @property
    def baseline(self) -> str: ...
    @property
    def baseline_file(self) -> str | None: ...


def arms(
    policy: GatePolicy, candidate: Bundle, *, experiment: str | Path, root: Path | None = None
) -> dict[str, Bundle]:
    """The variants of a release by role: `candidate`, and `baseline` and `anchor` where the policy has them.

    A baseline that is an alias is read from the registry; where the alias does not exist yet, it is the policy's
    `baseline_file`, and without one there is none: the floors alone decide the first release.

    Raises:
        FileRuleError: the policy names a bundle file that is not there.
        RegistryError: what the alias points to was changed.
    """
    folder = Path(experiment)
    variants: dict[str, Bundle] = {}
    if (baseline := named_baseline(policy, candidate.name, folder, root)) is not None:
        variants["baseline"] = baseline
    if policy.anchor is not None:
        variants["anchor"] = _bundle_file(folder, policy.anchor.bundle)
    return {**variants, "candidate": candidate}


def named_baseline(rules: Against, name: str, folder: Path, root: Path | None = None) -> Bundle | None:
    """The bundle that rules call their baseline: of the registered model `name`, or a file in `folder`; None = none."""
    if rules.baseline == "none":
        return None
    if _is_file(rules.baseline):
        return _bundle_file(folder, rules.baseline)
    if store_exists(root):
        registry = open_registry(root)
        model = registry.model(name)
        if model is not None and rules.baseline in model.aliases:
            return read_bundle(registry, resolve(registry, f"{name}@{rules.baseline}"))
    return None if rules.baseline_file in (None, "none") else _bundle_file(folder, str(rules.baseline_file))


def ledger(policy: GatePolicy, candidate: Bundle, *, root: Path | None = None) -> Ledger:
    """What `policy.decide(looks=...)` counts: every decision on bundles of this name, and when its alias was promoted.

    Where the project has no tracking store the ledger says so, and none is made.
    """
    if not store_exists(root):
        return Ledger(state=NONE_HERE)
    past = read_history(open_registry(root), candidate.name)
    promotions = tuple(move.when for move in past.valid(policy.alias) if move.kind != "rollback")
    return Ledger(looks=tracking.looks(name=candidate.name, root=root), promotions=promotions)


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def _bundle_file(folder: Path, text: str) -> Bundle:
    if not _is_file(text):
        raise FileRuleError(f"{text!r} is no bundle file (*.yaml)", path=folder / "gate.yaml")
    return Bundle.load(folder / text)
