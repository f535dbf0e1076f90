"""Which bundles a release compares: the candidate with what is in production, or with what stands in for it."""

from __future__ import annotations

from pathlib import Path

from llmlab.base.errors import FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.gate import GatePolicy
from llmlab.registry.connection import open_registry
from llmlab.registry.versions import read_bundle, resolve

__all__ = ["arms"]


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
    found: dict[str, Bundle] = {}
    if (baseline := _baseline(policy, candidate.name, folder, root)) is not None:
        found["baseline"] = baseline
    if policy.anchor is not None:
        found["anchor"] = _file(folder, policy.anchor.bundle)
    return {**found, "candidate": candidate}


def _baseline(policy: GatePolicy, name: str, folder: Path, root: Path | None) -> Bundle | None:
    if policy.baseline == "none":
        return None
    if _is_file(policy.baseline):
        return _file(folder, policy.baseline)
    registry = open_registry(root)
    model = registry.model(name)
    if model is not None and policy.baseline in model.aliases:
        return read_bundle(registry, resolve(registry, f"{name}@{policy.baseline}"))
    return None if policy.baseline_file in (None, "none") else _file(folder, str(policy.baseline_file))


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def _file(folder: Path, text: str) -> Bundle:
    if not _is_file(text):
        raise FileRuleError(f"{text!r} is no bundle file (*.yaml)", path=folder / "gate.yaml")
    return Bundle.load(folder / text)
