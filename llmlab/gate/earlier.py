"""Baseline rows from an earlier run: allowed while the questions are the same, the run is young and the model too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmlab.gate.policy import age_limit
from llmlab.gate.validity import moment

if TYPE_CHECKING:
    from llmlab.results.results import Results

__all__ = ["with_earlier_baseline"]


def with_earlier_baseline(
    results: Results,
    earlier: Results,
    *,
    baseline: str,
    candidate: str,
    metrics: Sequence[str],
    max_age: str,
    now: datetime,
) -> tuple[Results, dict[str, Any], list[str]]:
    """The results with the baseline's earlier rows joined, where they are from, and why that may not be.

    Raises:
        ValueError: the earlier run has no such variant.
    """
    joined = results.joined(earlier, variants=[baseline])
    reasons = _reasons(
        results, earlier, baseline=baseline, candidate=candidate, metrics=metrics, max_age=max_age, now=now
    )
    return joined, {"results_digest": earlier.digest, "created_at": earlier.created_at}, reasons


def _reasons(
    results: Results,
    earlier: Results,
    *,
    baseline: str,
    candidate: str,
    metrics: Sequence[str],
    max_age: str,
    now: datetime,
) -> list[str]:
    reasons = []
    if earlier.golden_digest != results.golden_digest:
        reasons.append("the earlier baseline answered another golden set; run the baseline again")
    made = moment(earlier.created_at)
    if made is None or now - made > age_limit(max_age):
        age = f"from {earlier.created_at}" if made else "of unknown age"
        reasons.append(f"the earlier baseline run is {age}, older than {max_age}; run the baseline again")
    if earlier.state != "complete":
        reasons.append(f"the earlier baseline run is {earlier.state}")
    both = [name for name in metrics if name in results.metrics and name in earlier.metrics]
    changed = [n for n in both if replace(earlier.metrics[n], scorer="") != replace(results.metrics[n], scorer="")]
    reasons += [f"the metric {name} meant something else in the earlier run" for name in changed]
    same_model = earlier.bundles[baseline].model.identity == results.bundles[candidate].model.identity
    then, today = earlier.served(baseline), results.served(candidate)
    if same_model and set(then) != set(today):
        reasons.append(
            f"{results.bundles[candidate].model} was served as {', '.join(sorted(then)) or 'unknown'} then and as "
            f"{', '.join(sorted(today)) or 'unknown'} now; run the baseline again"
        )
    return reasons
