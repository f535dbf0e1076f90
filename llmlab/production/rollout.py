"""A rollout: which arm a unit is in, and what to do by now.

A unit's place depends on nothing but the rollout's name and its own, so that nobody who is in an arm ever moves, and
every process on every machine says the same.
"""

from __future__ import annotations

import hashlib
import struct
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from llmlab.base.display import Shown
from llmlab.base.errors import FileRuleError, RegistryError
from llmlab.base.project import aware, located
from llmlab.bundle.bundle import Bundle
from llmlab.production.decide import decide
from llmlab.production.decision import Action, Reading, RolloutDecision
from llmlab.production.policy import RolloutPolicy
from llmlab.production.traces import Traces
from llmlab.registry.moves import Move
from llmlab.registry.promotion import rollback
from llmlab.registry.release import named_baseline
from llmlab.registry.serving import load
from llmlab.tracking.reports import LoggedReport, log_report
from llmlab.tracking.spool import Picture

__all__ = ["Arm", "Rollout", "log"]

_HALF, _WHOLE = 2**63, 2**64
_PLACES = struct.Struct(">QQ").unpack_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What a unit is served.

    Attributes:
        name: baseline or candidate.
        bundle: to answer with.
        enrolled: whether its requests are analysed; not those of testers, and of units outside the enrolled share.
        rollout: the name of the rollout.
        shadow: the bundle that answers the same request off its path, None where none does.
    """

    name: str
    bundle: Bundle
    enrolled: bool
    rollout: str = ""
    shadow: Bundle | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Rollout(Shown):
    """Rules with the two bundles that they name.

    Attributes:
        policy: the rules.
        baseline, candidate: the bundles of the arms.
    """

    policy: RolloutPolicy
    baseline: Bundle
    candidate: Bundle

    @classmethod
    def load(cls, path: str | Path, *, root: Path | None = None) -> Self:
        """The rollout in a file; bundles are named relative to it, an alias is that of the candidate's model.

        Warns where the plan takes long because units are few, and where the candidate is the baseline already.

        Raises:
            FileRuleError: the file breaks a rule, or a bundle is not there. RegistryError: no such alias.
        """
        path = located(path)
        policy = RolloutPolicy.load(path)
        candidate = Bundle.load(path.parent / policy.candidate)
        baseline = named_baseline(policy, candidate.name, path.parent, root)
        if baseline is None:
            rule = f"the registry has no {candidate.name}@{policy.baseline}; name a baseline_file until it has"
            raise FileRuleError(rule, path=path)
        if "few" in policy.forecast:
            warnings.warn(f"{path}: {policy.forecast}", UserWarning, stacklevel=2)
        if candidate.digest == baseline.digest:  # no error: a service goes on after the promotion that ends a rollout
            told = f"{policy.candidate} is what {policy.baseline} serves already, so both arms are one; name the next"
            warnings.warn(f"{path}: {told}", UserWarning, stacklevel=2)
        return cls(policy=policy, baseline=baseline, candidate=candidate)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.policy.name

    def assign(self, unit: str, *, now: datetime | None = None) -> Arm:
        """The arm of a unit, the same on every machine and in every process.

        Enrolled if the first 64 bits of sha256("name:unit") lie below the share, candidate if the next 64 lie below
        one half. "" is a request of nobody: it gets the baseline and is not enrolled.
        """
        if not isinstance(unit, str):
            raise TypeError(f"unit == {unit!r}, must be a text: 7 and '7' would be two units to other services")
        if (name := self._testers.get(unit)) is not None:
            return self._arms[name, False]
        digest = self._salt.copy()
        digest.update(unit.encode("utf-8", "surrogatepass"))
        first, second = _PLACES(digest.digest())
        share = (
            self._steady if self._steady is not None else self.policy.share_at(now.timestamp() if now else time.time())
        )
        if not unit or first >= share * _WHOLE:
            return self._arms["baseline", False]
        return self._arms["candidate" if second < _HALF else "baseline", True]

    def decide(self, traces: Traces, *, now: datetime | None = None) -> RolloutDecision:
        """What to do by now, as the requests show it: SHIP, REVERT, KEEP_GOING or INVALID.

        Args:
            traces: of production; those of other rollouts are left alone.
            now: the moment that is decided for (with its time zone), by default this one; later requests do not count.
        """
        digests = {"baseline": self.baseline.digest, "candidate": self.candidate.digest}
        moment = datetime.now(UTC) if now is None else aware(now)
        wrong = "; ".join(f"{row['problem']}: {row['count']:,}" for row in traces.problems.rows)
        return decide(self.policy, traces.frame, digests=digests, now=moment, problems=wrong)

    def roll_back(self, decision: RolloutDecision, *, alias: str = "production", root: Path | None = None) -> Move:
        """The alias moved back by `registry.rollback`, after a REVERT, where it serves the candidate already.

        Raises:
            ValueError: the decision is no REVERT. RegistryError: the alias does not serve the candidate: an earlier
            version than the baseline would come back.
        """
        if decision.action != Action.REVERT:
            raise ValueError(f"action == {decision.action.value}, must be REVERT to roll back")
        served = load(f"{self.candidate.name}@{alias}", max_age_s=0, root=root).bundle
        if served.digest != self.candidate.digest:
            raise RegistryError(
                f"{alias} serves {served.digest[:8]} and not the candidate, so there is nothing to roll back; "
                "`enrol: [{share: 0}]` in rollout.yaml ends the rollout"
            )
        return rollback(self.candidate.name, alias=alias, reason=decision.sentence, root=root)

    @cached_property
    def _testers(self) -> dict[str, str]:
        return {unit: arm for arm, units in self.policy.overrides.items() for unit in units}

    @cached_property
    def _salt(self) -> hashlib._Hash:
        return hashlib.sha256(f"{self.name}:".encode())

    @cached_property
    def _steady(self) -> float | None:
        """The share where no clock is needed to know it."""
        return self.policy.enrol[0].share if len(self.policy.enrol) == 1 or self.policy.start is None else None

    @cached_property
    def _arms(self) -> dict[tuple[str, bool], Arm]:
        """The few values that every unit shares: a million units need no million arms."""
        bundles = {"baseline": self.baseline, "candidate": self.candidate}
        shadows = self.policy.mode == "shadow"
        return {
            (name, enrolled): Arm(
                name="baseline" if shadows and enrolled else name,
                bundle=self.baseline if shadows and enrolled else bundle,
                enrolled=enrolled,
                rollout=self.name,
                shadow=self.candidate if shadows and enrolled else None,
            )
            for name, bundle in bundles.items()
            for enrolled in (False, True)
        }

    def _rows(self) -> list[dict[str, object]]:
        return self.policy._rows()

    def _sentence(self) -> str:
        return self.policy._sentence()


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
    value, low, high = reading.effect or (None, None, None)
    ends = {f"difference/{reading.name}": value, f"ci/{reading.name}.low": low, f"ci/{reading.name}.high": high}
    return {
        **ends,
        f"mean/{reading.name}.baseline": reading.baseline,
        f"mean/{reading.name}.candidate": reading.candidate,
    }
