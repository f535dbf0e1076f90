"""The ledger of a release: every decision on bundles of one name, and when its alias was promoted."""

from __future__ import annotations

from pathlib import Path

from llmlab import tracking
from llmlab.bundle.bundle import Bundle
from llmlab.gate import GatePolicy, Ledger
from llmlab.gate.looks import NONE_HERE
from llmlab.registry.connection import open_registry
from llmlab.registry.moves import read_history
from llmlab.tracking.store import store_exists

__all__ = ["ledger"]


def ledger(policy: GatePolicy, candidate: Bundle, *, root: Path | None = None) -> Ledger:
    """What `policy.decide(looks=...)` counts; where the project has no tracking store it says so, and makes none."""
    if not store_exists(root):
        return Ledger(state=NONE_HERE)
    past = read_history(open_registry(root), candidate.name)
    promotions = tuple(move.when for move in past.valid(policy.alias) if move.kind != "rollback")
    return Ledger(looks=tracking.looks(name=candidate.name, root=root), promotions=promotions)
