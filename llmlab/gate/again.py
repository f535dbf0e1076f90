"""A receipt held against a decision that was made again, from the logged cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RECOMPUTED = (
    *("verdict", "candidate", "baseline", "anchor", "bundle_digest", "baseline_digest", "anchor_digest"),
    *("golden_digest", "index_digest", "index_freshness", "policy_digest", "results_digest", "judges", "scorers"),
    *("labels", "passports", "look", "candidates_tried"),
)


def differences(receipt: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that two receipts, as plain values, say otherwise; empty when the second confirms the first."""
    wrong = [name for name in _RECOMPUTED if _timeless(again[name]) != _timeless(receipt[name])]
    ours, theirs = again["conditions"], receipt["conditions"]
    if len(ours) != len(theirs) or not all(map(_alike, ours, theirs)):
        wrong.append("conditions")
    return tuple(wrong)


def _timeless(value: Any) -> Any:
    return {key: v for key, v in value.items() if key != "built_at"} if isinstance(value, Mapping) else value


def _alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Equal but for rounding of the last digits, as between two versions of a numerical library."""
    for name, a in ours.items():
        b = theirs[name]
        if isinstance(a, float) and isinstance(b, float):
            if abs(a - b) > 1e-9 * max(1.0, abs(a), abs(b)):
                return False
        elif name not in ("reading", "notes") and a != b:
            return False
    return True
