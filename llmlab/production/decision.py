"""What requests say of a rollout by now: SHIP, REVERT, KEEP_GOING or INVALID, every outcome, and the receipt."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from llmlab.base.cells import as_sentences
from llmlab.base.documents import Sealed
from llmlab.base.numbers import Interval, counted, number, p_text, with_unit
from llmlab.base.project import git_state, named_in, utc
from llmlab.base.verdict import Verdict, required
from llmlab.display.shown import Conclusion, Rows, Shown
from llmlab.gate.decision import Receipt, ci_facts, versions
from llmlab.production.policy import RolloutPolicy
from llmlab.production.units import in_unit
from llmlab.results.comparison import PairedRow
from llmlab.results.scores import Metric, scale_of
from llmlab.stats.paired import PairedDifference
from llmlab.stats.sequential import SplitCheck
from llmlab.stats.standard_error import t_quantile


class Action(StrEnum):
    """What a decision on a rollout says to do; `verdict` is the same in the words of every other verdict."""

    SHIP = "SHIP"
    REVERT = "REVERT"
    KEEP_GOING = "KEEP_GOING"
    INVALID = "INVALID"

    @property
    def verdict(self) -> Verdict:
        """PASS, FAIL, INCONCLUSIVE or INVALID."""
        return _MEANINGS[self][0]


_MEANINGS = {
    Action.SHIP: (Verdict.PASS, "Give the candidate to everybody."),
    Action.REVERT: (Verdict.FAIL, "Take the candidate back now."),
    Action.KEEP_GOING: (Verdict.INCONCLUSIVE, "Change nothing yet, and look again as often as you like."),
    Action.INVALID: (Verdict.INVALID, "Conclude nothing from these numbers before this is mended."),
}
Triple = tuple[float, float, float]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reading(Shown):
    """One outcome as it stands.

    Attributes:
        margin, relative: the tolerated harm (superior: the smallest gain), and whether it is a share of the baseline.
        baseline, candidate: means over requests (or units); None where there are none.
        difference, change: candidate - baseline, and that as a share of the baseline, each with its interval that holds
            at every look; None where nothing can be said yet.
        level: the confidence of each interval.
        p_value: of no difference, at every look at once, times the number of outcomes.
        harm: whether harm above zero is shown. `ruled_out`: whether harm of the margin is ruled out.
        holds: whether it lets the candidate through by now.
        n_units: in baseline and candidate. `young`, `unscored`: units and requests left out of it.
        gaps: why what is missing of it lets nothing through; "" where little is missing, and as much in either arm.
        threshold: what `over` and `quantile` came to.
        days_more: about how many days until it holds if nothing differs; None where it holds, or nobody can tell.
        note: why nothing can be said.
    """

    kind: str
    name: str
    metric: Metric
    rule: str
    margin: float | None
    relative: bool
    baseline: float | None
    candidate: float | None
    difference: Triple | None
    change: Triple | None
    level: float
    p_value: float | None
    harm: bool
    ruled_out: bool
    holds: bool
    n_units: tuple[int, int]
    young: int = 0
    unscored: int = 0
    gaps: str = ""
    threshold: float | None = None
    days_more: float | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """PASS where it holds, FAIL where harm is shown and not bounded, else INCONCLUSIVE."""
        if self.reverts:
            return Verdict.FAIL
        return Verdict.PASS if self.holds else Verdict.INCONCLUSIVE

    @property
    def reverts(self) -> bool:
        """Whether harm is shown while its margin is not ruled out."""
        return self.harm and not self.ruled_out

    @property
    def effect(self) -> Triple | None:
        """The difference in the scale of its margin."""
        return self.change if self.relative else self.difference

    @property
    def _scale(self) -> tuple[float, str]:
        """What the effect is multiplied by to be said, and its unit."""
        return (100.0, "%") if self.relative else scale_of(self.metric)

    @property
    def reading(self) -> str:
        """What is shown, in a clause."""
        if self.reverts:
            return "it is worse, whenever one looks"
        if self.rule == "superior":
            return "it is better" if self.holds else "not shown to be better"
        if self.ruled_out and self.margin is not None:
            return f"harm of {self.amount(self.margin)} or more is ruled out"
        if self.holds:
            return "no harm was shown by the plan's end, which is no proof"
        return self.gaps or self.note or "not enough evidence"

    def record(self) -> dict[str, Any]:
        """Every number as plain JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "metric"}
        if not self.gaps:  # receipts of 0.2 have no such field
            del fields["gaps"]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        return {**plain, "verdict": self.verdict.value, "reading": self.reading}

    def amount(self, value: float) -> str:
        """A value in the unit of the difference."""
        scale, unit = self._scale
        return with_unit(number(float(f"{value * scale:.3g}")), unit)

    def mean_text(self, value: float | None) -> str | None:
        """A mean of an arm in the metric's unit."""
        return None if value is None else in_unit(value, self.metric)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "outcome": self.name if self.kind != "goal" else f"goal: {self.name}",
                "rule": self.rule.replace("_", "-"),
                "verdict": self.verdict.chip,
                "baseline": self.mean_text(self.baseline),
                "candidate": self.mean_text(self.candidate),
                f"difference [{_percent(self.level)} at every look]": self.effect and _shown(self.effect, *self._scale),
                "margin": None if self.margin is None else self.amount(self.margin),
                "p (all looks, all outcomes)": p_text(self.p_value),
                "means": self.reading,
            }
        ]

    def _sentence(self) -> str:
        return self.note


@dataclass(frozen=True, kw_only=True, repr=False)
class RolloutDecision(Shown):
    """What to do with a candidate in production.

    Attributes:
        readings: each outcome, the goal first.
        reasons: why it is INVALID, or KEEP_GOING although all that is asked is shown.
        policy, digests: the rules, and the digest of each arm's bundle.
        n_units: analysed units in baseline and candidate; `n_requests` of theirs in all.
        days: since the first request.
        days_more: of KEEP_GOING, about how many days until everything holds; None where nobody can tell.
        ended: whether the plan's end is reached without a proof, so that `at_end` was asked.
        split: the check that units were split in halves.
        notes: what was left out, and what a reader must know.
        now: the moment that was decided for.
    """

    action: Action
    readings: tuple[Reading, ...]
    reasons: tuple[str, ...]
    policy: RolloutPolicy
    digests: Mapping[str, str]
    n_units: tuple[int, int]
    n_requests: int
    days: float
    days_more: float | None
    ended: bool
    split: SplitCheck
    notes: tuple[str, ...]
    now: datetime

    @property
    def verdict(self) -> Verdict:
        """The action in the words of every verdict: SHIP is PASS."""
        return self.action.verdict

    @property
    def exit_code(self) -> int:
        """0 SHIP, 1 REVERT, 3 KEEP_GOING, 2 INVALID."""
        return self.verdict.exit_code

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        if self.action == Action.INVALID:
            return f"INVALID: {'; '.join(self.reasons)}."
        if self.action == Action.REVERT:
            return f"REVERT: {_listed(r for r in self.readings if r.reverts)}."
        if self.action == Action.SHIP:
            harmless = "the plan has ended without harm shown, and at_end says ship"
            return f"SHIP: {harmless if self.ended else _listed(self.readings)}."
        open_ = "; ".join(self.reasons) or _listed(r for r in self.readings if not r.holds)
        if self.ended:
            return f"KEEP_GOING: the plan has ended without a proof, and at_end keeps the baseline ({open_})."
        when = "nobody can tell how long" if self.days_more is None else f"about {_days(self.days_more, 'more day')}"
        return f"KEEP_GOING ({when}): {open_}."

    @property
    def paragraph(self) -> str:
        """The decision for somebody who does not read tables."""
        old, new = self.n_units
        means = [
            f"{r.name} went from {r.mean_text(r.baseline)} to {r.mean_text(r.candidate)}: {r.reading}."
            for r in self.readings
            if r.baseline is not None and r.candidate is not None
        ]
        head = (
            f"For {_days(self.days, 'day')}, {counted(old + new, self.policy.unit)} of {self.policy.name} were given "
            f"the old version ({old:,}) or the new one ({new:,}) by lot; they made "
            f"{counted(self.n_requests, 'request')}."
        )
        return " ".join([head, *means, self.sentence, _MEANINGS[self.action][1]])

    @property
    def conclusion(self) -> Conclusion:
        """The verdict with the paragraph, as a notebook shows it."""
        return Conclusion(word=self.verdict, sentence=self.paragraph)

    def require(self, how: str) -> Self:
        """This decision; with `how` "pass" a GateError unless it is SHIP, with "none" never."""
        required(self.verdict, how, sentence=self.sentence, decision=self)
        return self

    def receipt(self) -> RolloutReceipt:
        """The decision as a document with every digest and number."""
        git = git_state()
        return RolloutReceipt(
            verdict=self.action.value,
            sentence=self.sentence,
            reasons=self.reasons,
            readings=tuple(reading.record() for reading in self.readings),
            rollout=self.policy.name,
            policy_digest=self.policy.digest,
            digests=dict(self.digests),
            n_units=self.n_units,
            n_requests=self.n_requests,
            days=self.days,
            notes=self.notes,
            decided_at=self.now.isoformat(),
            commit=git.commit,
            dirty=git.dirty,
            author=named_in(os.environ) or git.author,
            ci=ci_facts(os.environ),
            versions=versions(),
        )

    def gap(self, receipt: Receipt) -> Rows:
        """What production shows beyond what the gate did, on the metrics that both have: a difference of differences.

        Its interval takes the far end of both, each at the rollout's `confidence`, so that it holds at 2 confidence - 1
        and more (90% from 95%; Bonferroni) however often one looks.

        Raises:
            ValueError: the receipt is for another candidate.
        """
        if receipt.bundle_digest != self.digests["candidate"]:
            raise ValueError(f"the receipt is for the bundle {receipt.bundle_digest[:8]}, not for this candidate")
        rows = tuple(row for reading in self.readings for row in _gap_rows(reading, receipt))
        return Rows(rows=rows, sentence="" if rows else "Gate and rollout have no metric in common.")

    def paired_rows(self) -> tuple[PairedRow, ...]:
        """The outcomes as rows of a comparison, for its forest plot: those with an interval."""
        rows = map(_paired_row, self.readings)
        return tuple(row for row in rows if row is not None)

    def _rows(self) -> list[dict[str, object]]:
        return [row for reading in self.readings for row in reading._rows()]

    def _sentence(self) -> str:
        return "\n".join([self.sentence, *([as_sentences(self.notes)] if self.notes else [])])


class RolloutReceipt(Shown, Sealed):
    """A decision on a rollout as a document; `differences` tells whether a decision made again confirms it."""

    _noun: ClassVar[str] = "receipt of a rollout"
    _file: ClassVar[str] = "rollout-receipt"
    format: Literal["llmlab-rollout-1"] = "llmlab-rollout-1"
    verdict: Literal["SHIP", "REVERT", "KEEP_GOING", "INVALID"]
    sentence: str
    reasons: Texts = ()
    readings: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    rollout: str
    policy_digest: str
    digests: dict[str, str]
    n_units: Annotated[tuple[int, int], Field(strict=False)]
    n_requests: int
    days: float
    notes: Texts = ()
    decided_at: str
    commit: str
    dirty: bool
    author: str
    ci: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    def moment(self) -> datetime:
        """When it was decided for; hand it to `Rollout.decide(now=...)` to decide again."""
        return utc(self.decided_at)

    def differences(self, decision: RolloutDecision) -> tuple[str, ...]:
        """What a decision made again finds otherwise than this receipt says; empty when it confirms it.

        Notes may differ: more requests have come since, which are not analysed.
        """
        again = decision.receipt()
        around = {"commit", "dirty", "author", "ci", "versions", "format", "notes"}
        compared = (name for name in type(self).model_fields if name not in around)
        return tuple(name for name in compared if getattr(again, name) != getattr(self, name))

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "action": self.verdict,
                "verdict": Action(self.verdict).verdict.chip,
                "rollout": self.rollout,
                "candidate": self.digests.get("candidate", "")[:8],
                "baseline": self.digests.get("baseline", "")[:8],
                "policy": self.policy_digest[:8],
                "decided for": self.decided_at,
                "receipt": self.digest[:8],
            }
        ]

    def _sentence(self) -> str:
        return self.sentence


def _listed(readings: Iterable[Reading]) -> str:
    return "; ".join(f"{reading.name}: {reading.reading}" for reading in readings)


def _shown(effect: Triple, scale: float, unit: str) -> str:
    value, low, high = (end * scale for end in effect)
    return f"{Interval(value, low, high)}{unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _paired_row(reading: Reading) -> PairedRow | None:
    """The outcome as a row of a comparison, None where it has no interval."""
    if reading.effect is None or reading.p_value is None:
        return None
    scale = 100.0 if reading.relative else 1.0
    value, low, high = (end * scale for end in reading.effect)
    metric = replace(reading.metric, low=None, high=None, unit="%") if reading.relative else reading.metric
    n = sum(reading.n_units)
    difference = PairedDifference(
        value=value,
        low=low,
        high=high,
        level=reading.level,
        se=(high - low) / 2 / t_quantile((1 + reading.level) / 2, math.inf),  # that a single look would have
        df=math.inf,
        p_value=reading.p_value,
        n=n,
        n_clusters=n,
        method="anytime-valid interval over units",
    )
    return PairedRow(
        metric=metric,
        baseline="baseline",
        candidate="candidate",
        category=None,
        difference=difference,
        p_adjusted=reading.p_value,
        n_pairs=n,
        n_attempted=n,
        n_clusters=n,
        scored=reading.n_units,
        attempted=reading.n_units,
        level=reading.level,
        margin=None if reading.margin is None or reading.rule == "superior" else reading.margin * scale,
        verdict=reading.verdict,
    )


def _days(days: float, noun: str) -> str:
    return counted(max(1, math.ceil(days)), noun)


def _gap_rows(reading: Reading, receipt: Receipt) -> Iterator[dict[str, object]]:
    """The row of the first condition of a gate on the same metric, in the same scale, over all cases."""
    for condition in receipt.conditions:
        read = reading.change if condition.relative else reading.difference
        same = condition.metric == reading.name.removeprefix("signals.") and condition.category is None
        if not same or condition.rule == "floor" or condition.value is None or not condition.se or read is None:
            continue
        half = t_quantile((1 + reading.level) / 2, condition.df or math.inf) * condition.se
        value, low, high = read
        gap = value - condition.value
        scale, unit = (100.0, "%") if condition.relative else scale_of(reading.metric)
        ends = (gap, low - condition.value - half, high - condition.value + half)
        offline = (condition.value, condition.value - half, condition.value + half)
        yield {
            "metric": reading.name,
            f"gate [{_percent(reading.level)}]": _shown(offline, scale, unit),
            f"production [{_percent(reading.level)}]": _shown(read, scale, unit),
            f"gap [{_percent(2 * reading.level - 1)}]": _shown(ends, scale, unit),
            "means": "they differ" if ends[1] > 0 or ends[2] < 0 else "not shown to differ",
        }
        return
