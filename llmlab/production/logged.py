"""What MLflow is told of a rollout: one run per decision, and people's signals on traces that live there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmlab.production.decision import Reading, RolloutDecision
from llmlab.tracking.reports import LoggedReport, log_report
from llmlab.tracking.spool import Picture

__all__ = ["log"]


def log(
    decision: RolloutDecision,
    *,
    experiment: str | None = None,
    figures: Mapping[str, Picture] | None = None,
    root: Path | None = None,
) -> LoggedReport:
    """The decision as one MLflow run: outcomes as metrics and as a table, rules, receipt, paragraph, figures.

    Args:
        experiment: by default the rollout's name.
        figures: name -> matplotlib figure.
    """
    receipt = decision.receipt()
    digests = {f"{arm}_digest": digest for arm, digest in decision.digests.items()}
    tags = {"llmlab.kind": "rollout", "rollout": decision.policy.name, "action": decision.action.value, **digests}
    counts = {"n/units.baseline": decision.n_units[0], "n/units.candidate": decision.n_units[1]}
    return log_report(
        f"{decision.policy.name} {decision.now:%Y-%m-%d %H:%M}",
        digest=receipt.digest,
        experiment=experiment or decision.policy.name,
        sentence=decision.sentence,
        tags={**tags, "policy_digest": decision.policy.digest},
        metrics={**counts, "days": decision.days, **{k: v for r in decision.readings for k, v in _metrics(r).items()}},
        table=decision._rows(),
        texts={
            "rollout/rollout.yaml": decision.policy.to_yaml(),
            "rollout/receipt.json": receipt.to_json(),
            "rollout/decision.txt": f"{decision}\n\n{decision.paragraph}\n",
        },
        figures=figures,
        root=root,
    )


def _metrics(reading: Reading) -> dict[str, float | None]:
    value, low, high = reading.read or (None, None, None)
    ends = {f"difference/{reading.name}": value, f"ci/{reading.name}.low": low, f"ci/{reading.name}.high": high}
    return {
        **ends,
        f"mean/{reading.name}.baseline": reading.baseline,
        f"mean/{reading.name}.candidate": reading.candidate,
    }
