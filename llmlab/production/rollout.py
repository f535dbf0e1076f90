"""A rollout: which arm a unit is in, and what to do by now: SHIP, REVERT, KEEP_GOING or INVALID.

A unit's place depends on nothing but the rollout's name and its own, so that nobody who is in an arm ever moves, and
every process on every machine says the same. Every interval of a decision holds whenever it is looked at, so that
deciding daily, or hourly, costs nothing.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llmlab.base.errors import FileRuleError, RegistryError
from llmlab.base.numbers import counted, number
from llmlab.base.project import aware, located
from llmlab.bundle.bundle import Bundle
from llmlab.display.shown import Shown
from llmlab.gate.policy import relative_share
from llmlab.production.decision import Action, Reading, RolloutDecision
from llmlab.production.lines import LEFT
from llmlab.production.policy import Outcome, RolloutPolicy
from llmlab.production.recorder import Arm
from llmlab.production.traces import Traces
from llmlab.production.units import ARMS, BEGUN_UNITS, Enrolled, PerUnit, enrolled, metric_of
from llmlab.registry.connection import open_registry
from llmlab.registry.moves import Move
from llmlab.registry.release import named_baseline
from llmlab.registry.rollbacks import rollback
from llmlab.registry.versions import resolve
from llmlab.stats.sequential import (
    FEWEST_UNITS,
    ConfidenceSequence,
    difference_sequence,
    ratio_sequence,
    units_to_settle,
)
from llmlab.tracking.reports import LoggedReport, log_report
from llmlab.tracking.spool import Picture

if TYPE_CHECKING:
    import pandas as pd

_CROSSED_AT_MOST = 0.001  # of the units: more means that the assignment is not what the rules say
_MISSING_AT_MOST = 0.05  # of an arm's values: more may hide any harm
_FEWEST_CARRIERS = 10  # units that carry most requests: with fewer, intervals are too narrow
SPARSE = (
    "first_token_s",
    "error_rate",
)  # what not every request has, as signals: how much is missing must not differ between arms

_HALF, _WHOLE = 2**63, 2**64
_PLACES = struct.Struct(">QQ").unpack_from


@dataclass(frozen=True, kw_only=True, repr=False)
class Rollout(Shown):
    """Rules (`policy`) with the two bundles that they name, those of the arms."""

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
            both = f"{policy.candidate} is what {policy.baseline} serves already, so both arms are one; name the next"
            warnings.warn(f"{path}: {both}", UserWarning, stacklevel=2)
        return cls(policy=policy, baseline=baseline, candidate=candidate)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.policy.name

    def assign(self, unit: str, *, now: datetime | None = None) -> Arm:
        """The arm of a unit, the same on every machine and in every process.

        Enrolled if the first 64 bits of sha256("name:unit") lie below the share, candidate if the next 64 lie below
        one half. "" is a request of nobody: it gets the baseline and is not enrolled.

        Raises:
            TypeError: the unit is no text. ValueError: `now` has no time zone, so machines would differ.
        """
        if not isinstance(unit, str):
            raise TypeError(f"unit == {unit!r}, must be a text: 7 and '7' would be two units to other services")
        moment = None if now is None else aware(now)
        if (arm := self._testers.get(unit)) is not None:
            return arm
        # A copy, because the policy's name was hashed once for all units and `update` changes what it is called on.
        digest = self._salt.copy()
        digest.update(unit.encode("utf-8", "surrogatepass"))
        first, second = _PLACES(digest.digest())
        share = self._steady
        if share is None:
            share = self.policy.share_at(time.time() if moment is None else moment.timestamp())
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
        return decide(self.policy, traces.frame, digests=digests, now=moment, problems="; ".join(traces.wrong))

    def roll_back(self, decision: RolloutDecision, *, alias: str = "production", root: Path | None = None) -> Move:
        """The alias moved back by `registry.rollback`, after a REVERT, where it serves the candidate already.

        Raises:
            ValueError: the decision is no REVERT. RegistryError: the alias does not serve the candidate: an earlier
            version than the baseline would come back.
        """
        if decision.action != Action.REVERT:
            raise ValueError(f"action == {decision.action.value}, must be REVERT to roll back")
        served = resolve(open_registry(root, light=True), f"{self.candidate.name}@{alias}")  # its file may be damaged
        if served.digest != self.candidate.digest:
            raise RegistryError(
                f"{alias} serves {served.digest[:8]} and not the candidate, so there is nothing to roll back; "
                "`enrol: [{share: 0}]` in rollout.yaml ends the rollout"
            )
        return rollback(self.candidate.name, alias=alias, reason=decision.sentence, root=root)

    @cached_property
    def _testers(self) -> dict[str, Arm]:
        return {unit: self._arms[arm, False] for arm, units in self.policy.overrides.items() for unit in units}

    @cached_property
    def _salt(self) -> hashlib._Hash:
        return hashlib.sha256(f"{self.name}:".encode())

    @cached_property
    def _steady(self) -> float | None:
        """The share where no clock is needed to know it."""
        return self.policy.enrol[0].share if self.policy.start is None else None

    @cached_property
    def _arms(self) -> dict[tuple[str, bool], Arm]:
        """The few values that every unit shares: a million units need no million arms."""
        arms = {
            (name, enrolled): Arm(name=name, bundle=bundle, enrolled=enrolled, rollout=self.name)
            for name, bundle in (("baseline", self.baseline), ("candidate", self.candidate))
            for enrolled in (False, True)
        }
        if self.policy.mode == "shadow":
            mirrored = replace(arms["baseline", True], shadow=self.candidate)
            arms |= {("baseline", True): mirrored, ("candidate", True): mirrored}
        return arms

    def _rows(self) -> list[dict[str, object]]:
        return self.policy._rows()

    def _sentence(self) -> str:
        return self.policy._sentence()


def decide(
    policy: RolloutPolicy, frame: pd.DataFrame, *, digests: Mapping[str, str], now: datetime, problems: str = ""
) -> RolloutDecision:
    """The decision on a rollout as its requests show it at a moment.

    A SHIP that a few units carry is KEEP_GOING.

    Args:
        frame: one row per request, as `Traces.frame`.
        digests: arm -> the digest of the bundle that it should serve.
        problems: what could not be read of the traces, in a sentence.

    Raises:
        ValueError: the rollout is a shadow. DataError: a column is missing.
    """
    if policy.mode == "shadow":
        raise ValueError("a shadow has no second arm to decide on: compare_shadow(traces.frame, rollout=...) reads it")
    units = enrolled(frame, policy=policy, now=now)
    readings = tuple(_reading(policy, units, kind, outcome) for kind, outcome in policy.outcomes)
    invalid = (*_invalid(policy, units), *_other_bundles(units, digests))
    action, ended = _action(policy, readings, over=_plan_is_over(policy, sum(units.n_units), units.days))
    held = tuple(_few_carry(units)) if action == Action.SHIP and not invalid else ()
    reasons = invalid or held
    waits = [math.inf if reading.days_more is None else reading.days_more for reading in readings if not reading.holds]
    days_more = max(waits, default=math.inf)
    return RolloutDecision(
        action=Action.INVALID if invalid else Action.KEEP_GOING if held else action,
        readings=readings,
        reasons=reasons,
        policy=policy,
        digests=dict(digests),
        n_units=units.n_units,
        n_requests=len(units.rows),
        days=units.days,
        days_more=days_more if math.isfinite(days_more) and not held else None,
        ended=ended and not reasons,
        split=units.split,
        notes=tuple(_notes(units, readings, problems, held=bool(held))),
        now=now,
    )


def _invalid(policy: RolloutPolicy, units: Enrolled) -> Iterator[str]:
    if not units.n_seen:
        yield f"no request of the rollout {policy.name!r} is in these traces; see whether the recorder writes it"
    if units.split.blocks:
        yield units.split._sentence().removesuffix(".")
    if units.crossed > _CROSSED_AT_MOST * units.n_seen:
        yield f"{counted(units.crossed, 'unit')} of {units.n_seen:,} were seen in both arms (at most 0.1% may be)"


def _few_carry(units: Enrolled) -> Iterator[str]:
    """Why nothing ships on intervals that a few units carry."""
    if (carriers := units.carriers) is not None and carriers < _FEWEST_CARRIERS:
        yield (
            f"few make most of the requests of an arm, which tells as much as {number(carriers, 2)} units alike would: "
            "intervals may miss the truth more often than they say, so nothing ships on them; name scripts under "
            "`overrides`, which are not analysed, or wait for more units"
        )


def _other_bundles(units: Enrolled, digests: Mapping[str, str]) -> Iterator[str]:
    """Whether an arm served something that is neither bundle, or mostly the other arm's, which is a fallback."""
    why = "a changed bundle is another rollout, with a new name"
    if len({*digests.values()}) == 1:
        why = "both arms are one bundle, as once the candidate is promoted; name the file of what served as `baseline`"
    for name, served in zip(ARMS, units.bundles(), strict=True):
        strange = Counter({digest: n for digest, n in served.items() if digest not in digests.values()})
        n, n_strange = sum(served.values()), strange.total()
        if n_strange > _CROSSED_AT_MOST * n:
            digest = strange.most_common(1)[0][0]
            yield (
                f"{n_strange:,} of {n:,} requests of the {name} were answered by the bundle {digest[:8]}, which is "
                f"neither arm's: {why}"
            )
        from_other = n - n_strange - served.get(digests[name], 0)
        if from_other > n / 2:
            yield f"{from_other:,} of {n:,} requests of the {name} were answered by the other arm's bundle (a fallback)"


def _reading(policy: RolloutPolicy, units: Enrolled, kind: str, outcome: Outcome) -> Reading:
    metric, per = metric_of(outcome), units.of(outcome)
    harm_sign = -1.0 if metric.higher_is_better else 1.0
    relative = relative_share(outcome.margin)
    margin = relative if isinstance(outcome.margin, str) else outcome.margin
    sequence, change, note = _sequences(policy, per, share=metric.bounded)
    difference, p_value = None, None
    if sequence is not None:
        value, low, high, p_alone = sequence.value, sequence.low, sequence.high, sequence.p_value
        difference = None if value is None or low is None or high is None else (value, low, high)
        p_value = None if p_alone is None else min(1.0, p_alone * len(policy.outcomes))
    if difference is not None and relative is not None and change is None:
        note = "too little is known of the baseline to take a share of it"
    gaps = _missing(policy, per, outcome)
    shown = p_value is not None and p_value <= 1 - policy.confidence
    harm = shown and difference is not None and harm_sign * difference[0] > 0
    read = change if relative is not None else difference
    bound = outcome.min_effect if outcome.rule == "superior" else margin
    reading = Reading(
        kind=kind,
        name=outcome.name,
        metric=metric,
        rule=outcome.rule,
        margin=bound,
        relative=relative is not None,
        baseline=per.baseline.mean,
        candidate=per.candidate.mean,
        difference=difference,
        change=change,
        level=policy.confidence,
        p_value=p_value,
        harm=harm,
        ruled_out=(
            outcome.rule != "superior"
            and not gaps
            and read is not None
            and margin is not None
            and max(harm_sign * read[1], harm_sign * read[2]) < margin  # the harmful end of the interval
        ),
        holds=False,
        n_units=(len(per.baseline.sums), len(per.candidate.sums)),
        young=per.young,
        unscored=per.unscored,
        gaps=gaps,
        threshold=per.threshold,
        note=note,
    )
    if _holds(policy, units, reading, harm_sign):
        return replace(reading, holds=True)
    return replace(reading, days_more=_days_more(policy, units, reading, harm_sign, sequence))


def _missing(policy: RolloutPolicy, per: PerUnit, outcome: Outcome) -> str:
    """Why what is missing of an outcome lets nothing through: much of an arm, or (at every look) not as much in either.

    A difference is looked for as one of the split is: at 0.001, over units.
    """
    if per.gaps is None:
        return ""
    shares = [arm.mean or 0.0 for arm in per.gaps]
    is_sparse = outcome.metric.startswith("signals.") or outcome.metric in SPARSE
    differ = False
    if min(len(arm.sums) for arm in per.gaps) >= FEWEST_UNITS:
        missing = [arm.linearised(share=True) for arm in per.gaps]
        differ = (difference_sequence(*missing, planned_units=policy.planned_units, level=0.999).p_value or 1.0) < 0.001
    if not differ and (is_sparse or max(shares) <= _MISSING_AT_MOST):
        return ""
    return f"no value for {shares[0]:.1%} of the baseline's requests and {shares[1]:.1%} of the candidate's"


def _sequences(
    policy: RolloutPolicy, per: PerUnit, *, share: bool
) -> tuple[ConfidenceSequence | None, tuple[float, float, float] | None, str]:
    """The difference, the change as a share of the baseline, and why there is none."""
    sizes = len(per.baseline.sums), len(per.candidate.sums)
    if min(sizes) < FEWEST_UNITS:
        return None, None, f"{sizes[0]:,} and {sizes[1]:,} units: nothing is said below {FEWEST_UNITS} per arm"
    baseline, candidate = per.baseline.linearised(share=share), per.candidate.linearised(share=share)
    planned, level = policy.planned_units, policy.confidence
    sequence = difference_sequence(baseline, candidate, planned_units=planned, level=level)
    return sequence, ratio_sequence(baseline, candidate, planned_units=planned, level=level), sequence.note


def _holds(policy: RolloutPolicy, units: Enrolled, reading: Reading, harm_sign: float) -> bool:
    if reading.gaps:
        return False
    if reading.rule == "superior":
        gain = None if reading.difference is None else [-harm_sign * x for x in reading.difference]
        return gain is not None and min(gain) > 0 and gain[0] >= (reading.margin or 0.0)
    if reading.rule == "non_inferior" or reading.ruled_out:
        return reading.ruled_out
    arms = (reading.baseline, reading.candidate)
    same = None not in arms and math.isclose(arms[0] or 0.0, arms[1] or 0.0, rel_tol=1e-9)  # where nothing varies
    return (
        (same or reading.difference is not None)
        and not reading.harm
        and _plan_is_over(policy, sum(reading.n_units), units.days)
    )


def _plan_is_over(policy: RolloutPolicy, n_units: int, days: float) -> bool:
    return n_units >= policy.planned_units and days >= policy.at_least_days


def _days_more(
    policy: RolloutPolicy, units: Enrolled, reading: Reading, harm_sign: float, sequence: ConfidenceSequence | None
) -> float | None:
    """Days until an outcome holds if nothing differs, at the pace of the last week; None where nobody can tell.

    Of a superior one if what is seen is the truth: where that is less than is asked, no number of days is enough.
    """
    if reading.gaps:
        return None
    n, needed, wait = sum(reading.n_units), float(policy.planned_units), policy.at_least_days - units.days
    if reading.rule != "no_shown_harm" and sequence is not None:
        margin = (reading.margin or 0.0) * (abs(reading.baseline or 0.0) if reading.relative else 1.0)
        if reading.rule == "superior" and reading.difference is not None:
            gain = -harm_sign * reading.difference[0]
            margin = gain if gain > margin else 0.0
        needed, wait = units_to_settle(sequence, margin=margin, planned_units=policy.planned_units), 0.0
    pace = units.newest_per_day * n / max(sum(units.n_units) - reading.young, 1)  # few may ever have a value
    days = max((needed - n) / pace if pace else math.inf, wait, 0.0)
    return days if math.isfinite(days) else None


def _action(policy: RolloutPolicy, readings: Sequence[Reading], *, over: bool) -> tuple[Action, bool]:
    """What the outcomes say together, and whether the plan's end had to say it."""
    if any(reading.reverts for reading in readings):
        return Action.REVERT, False
    if all(reading.holds for reading in readings):
        return Action.SHIP, False
    measured = all(reading.difference is not None and not reading.harm and not reading.gaps for reading in readings)
    return Action.SHIP if over and measured and policy.at_end == "ship_if_no_harm" else Action.KEEP_GOING, over


def _notes(units: Enrolled, readings: Sequence[Reading], problems: str, *, held: bool) -> Iterator[str]:
    if units.silent_days > 1:
        yield f"the last request came {number(units.silent_days, 2)} days ago: is the rollout still recorded?"
    asked = "is a clock wrong, or was an old request sent again? `start` in rollout.yaml leaves out what is older"
    if early := int((units.time_s < units.begin_s).sum()):
        begin = datetime.fromtimestamp(units.begin_s, UTC)
        yield (
            f"days are counted from {begin:%Y-%m-%d} on, when {BEGUN_UNITS} units of each arm had come; "
            f"{counted(early, 'request')} came before: {asked}"
        )
    if (silence := units.longest_silence_days) > max(units.days / 2, 1.0):
        yield f"no request came for {number(silence, 3)} of these {number(units.days, 3)} days: {asked}"
    if any(reading.name == "negative_signals" for reading in readings):
        replies = units.of(Outcome(metric="response_rate", rule="no_shown_harm"))
        baseline, candidate = (arm.mean or 0.0 for arm in (replies.baseline, replies.candidate))
        yield f"feedback came on {baseline:.1%} in the baseline and {candidate:.1%} in the candidate"
    yield from (f"{counted(n, 'request')} {why} not analysed" for why, n in units.left_out.items() if n)
    if not held:  # else it is the reason
        yield from _few_carry(units)
    if units.crossed:
        yield f"{counted(units.crossed, 'unit')} of {units.n_seen:,} seen in both arms and dropped"
    for reading in readings:
        if reading.young:
            yield f"{reading.name}: {counted(reading.young, 'unit')} too young for it"
        if reading.gaps:
            yield f"{reading.name}: {reading.gaps}; what is missing may hide any harm, so it lets nothing through"
        elif reading.unscored:
            why = LEFT if reading.name == "error_rate" else "without a value"
            yield f"{reading.name}: {counted(reading.unscored, 'request')} {why}"
    if problems:
        yield problems


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
    metrics: dict[str, float | None] = {f"n/units.{arm}": n for arm, n in zip(ARMS, decision.n_units, strict=True)}
    for reading in decision.readings:
        effect = reading.effect or (None, None, None)
        names = (f"difference/{reading.name}", f"ci/{reading.name}.low", f"ci/{reading.name}.high")
        metrics |= zip(names, effect, strict=True)
        metrics |= {f"mean/{reading.name}.{arm}": getattr(reading, arm) for arm in ARMS}
    return log_report(
        f"{decision.policy.name} {decision.now:%Y-%m-%d %H:%M}",
        digest=receipt.digest,
        experiment=experiment or decision.policy.name,
        sentence=decision.sentence,
        tags={**tags, "policy_digest": decision.policy.digest},
        metrics={**metrics, "days": decision.days},
        table=decision._rows(),
        texts={
            "rollout/rollout.yaml": decision.policy.to_yaml(),
            "rollout/receipt.json": receipt.to_json(),
            "rollout/decision.txt": f"{decision}\n\n{decision.paragraph}\n",
        },
        figures=figures,
        root=root,
    )
