"""`rollout.yaml`: who gets the candidate in production, and what it must show there. Values only.

A growing share of the units is enrolled and split into two equal arms; everybody else is served the baseline and never
analysed. (A treatment that grows against a fixed control takes the change of days for an effect.)
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from llmlab.base.documents import Percent, Strict, digest_of
from llmlab.base.numbers import counted, number
from llmlab.base.project import utc
from llmlab.base.yamlfile import OfFile
from llmlab.display.shown import Shown
from llmlab.gate.policy import Age, Margin, Rule, Word, age_limit

SHARES = ("error_rate", "refusal_rate", "guard_rate", "retry_rate", "negative_signals", "response_rate")
AMOUNTS = ("cost_usd", "latency_s", "first_token_s", "input_tokens", "output_tokens")  # of what a request takes
BAD_SIGNALS = frozenset({"personal", "regenerated", "edited", "index_lag_days"})  # less of them is better
_FEW_UNITS_A_DAY = 100  # below, doubled errors take months to be seen


def _above_nothing(multiple: str) -> str:
    if float(multiple.removesuffix("x")) == 0:
        raise ValueError(f"{multiple!r} is a multiple of nothing: everything lies over it; write 2x")
    return multiple


Multiple = Annotated[str, Field(pattern=r"^\d+(\.\d+)?x$"), pydantic.AfterValidator(_above_nothing)]  # such as 2x


def require_known(metric: str, *others: str) -> None:
    """ValueError for a metric that is none of production's and none of these others."""
    known, signal = (*SHARES, *AMOUNTS, *others), metric.removeprefix("signals.")
    if metric not in known and signal in ("", metric):
        raise ValueError(f"no metric {metric!r} (there are: {', '.join(known)}, and signals.NAME)")


def require_share(name: str, value: float | str | None, *, metric: str) -> None:
    """ValueError where a number that is compared with a share of requests is none below 1."""
    if isinstance(value, (int, float)) and not 0 <= value < 1:
        raise ValueError(f"{name} == {value:g}, must be below 1: {metric} is a share; two in a hundred are 0.02")


class Enrolment(Strict):
    """The share of all units that is enrolled, half of them in each arm, for so many hours; the last one stays."""

    share: Annotated[Percent, Field(ge=0, le=1)]
    hours: Annotated[float, Field(gt=0)] | None = None


def _steps(value: Any) -> Any:
    """One share for good, as 20%, is one step."""
    return ({"share": value},) if isinstance(value, (str, int, float)) else value


class Outcome(Strict):
    """A metric of production and what the candidate must show on it.

    Attributes:
        metric: a metric of `production.units`, or `signals.NAME`.
        rule: `non_inferior`: harm of the margin is ruled out. `no_shown_harm`: none is shown by the plan's end.
            `superior`: it is shown to be better, and by `min_effect`.
        margin: the harm that is tolerated: a number in the metric's unit, or a share of the baseline as 10%.
        quantile, over: read the share of requests above `over` (as 2x) times this quantile of the baseline.
        per: what the metric is averaged over: requests, or units (sums of a unit, what was not seen being 0).
        maturity: how long an outcome takes to show (7 days); younger requests are left out of it, and counted.
        higher_is_better: of a signal; where nothing is said True, but of `personal` and others that are known as bad.
    """

    metric: Word
    rule: Rule = "non_inferior"
    margin: Margin | None = None
    min_effect: Annotated[float, Field(ge=0)] = 0.0
    quantile: Annotated[Percent, Field(gt=0, lt=1)] | None = None
    over: Multiple | None = None
    per: Literal["request", "unit"] = "request"
    maturity: Age | None = None
    higher_is_better: bool | None = None

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        require_known(self.metric)
        if self.rule == "non_inferior" and self.margin is None:
            raise ValueError("a non_inferior outcome needs a margin")
        if self.rule == "superior" and self.margin is not None:
            raise ValueError("a superior outcome has min_effect and no margin")
        if self.rule != "superior" and self.min_effect:
            raise ValueError(f"a {self.rule} outcome has no min_effect")
        if (self.quantile is None) != (self.over is None):
            raise ValueError("quantile and over belong together: quantile: 0.99, over: 2x")
        if self.higher_is_better is not None and not self.metric.startswith("signals."):
            raise ValueError("higher_is_better belongs to signals; the direction of the others is known")
        if self.quantile is not None or (self.metric in SHARES and self.per == "request"):
            require_share("margin", self.margin, metric=self.name)
            require_share("min_effect", self.min_effect, metric=self.name)
        return self

    @property
    def name(self) -> str:
        """The outcome in a few words."""
        tail = "" if self.quantile is None else f" over {self.over} p{100 * self.quantile:g}"
        return f"{self.metric}{tail}{' per unit' if self.per == 'unit' else ''}"

    @property
    def factor(self) -> float:
        """What `over` multiplies the quantile by."""
        return float((self.over or "1x").removesuffix("x"))

    @property
    def maturity_s(self) -> float:
        """Seconds that an outcome needs."""
        return age_limit(self.maturity).total_seconds() if self.maturity else 0.0


class RolloutPolicy(Shown, OfFile):
    """The rules of a rollout.

    Attributes:
        name: salt of the assignment; a changed candidate is another rollout, with another name.
        mode: `canary` enrols by steps, `split` everybody, `shadow` answers requests of the enrolled twice.
        baseline: an alias of the registry, or a bundle's file.
        baseline_file: the bundle to take where the alias does not exist yet.
        candidate: a bundle's file.
        unit: what is randomised, in words.
        enrol: shares with their hours, counted from `start` on, before which nobody is enrolled; without a start the
            first share stays. One share (20%) is enough where it stays.
        goal, guards: the outcomes; a verdict needs all of them.
        confidence: of every interval, whenever it is looked at.
        planned_units: units in both arms at which the intervals are tightest, and the plan ends.
        at_least_days: days before `no_shown_harm` counts.
        at_end: what happens when the plan ends without a proof.
        units_a_day: that the service sees, for a forecast.
        overrides: arm -> units that always get it, and are never analysed.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    mode: Literal["canary", "split", "shadow"] = "canary"
    baseline: Word
    baseline_file: Word | None = None
    candidate: Word
    unit: Word = "user"
    start: str | None = None
    enrol: Annotated[tuple[Enrolment, ...], pydantic.BeforeValidator(_steps), Field(strict=False, min_length=1)] = (
        Enrolment(share=1.0),
    )
    goal: Outcome | None = None
    guards: Annotated[tuple[Outcome, ...], Field(strict=False)] = ()
    confidence: Annotated[Percent, Field(gt=0.5, lt=1)] = 0.95
    planned_units: Annotated[int, Field(ge=100)]
    at_least_days: Annotated[float, Field(ge=0)] = 7
    at_end: Literal["keep_baseline", "ship_if_no_harm"] = "keep_baseline"
    units_a_day: Annotated[float, Field(gt=0)] | None = None
    overrides: dict[Literal["baseline", "candidate"], Annotated[tuple[str, ...], Field(strict=False)]] = Field(
        default_factory=dict
    )

    @pydantic.model_validator(mode="after")
    def _decides_something(self) -> Self:
        if not self.outcomes:
            raise ValueError("asks for nothing: give a goal or guards")
        if len({outcome.name for _, outcome in self.outcomes}) < len(self.outcomes):
            raise ValueError("an outcome is named twice")
        shares = [step.share for step in self.enrol]
        if any(step.hours is None for step in self.enrol[:-1]):
            raise ValueError("each enrolment but the last needs its hours")
        growing = shares[:-1] if shares[-1] == 0 else shares  # a last 0 ends the rollout
        if growing != sorted(growing):
            raise ValueError("the enrolled share never shrinks, or units would leave their arm; end with share: 0")
        if self.mode == "split" and shares != [1.0]:
            raise ValueError("a split enrols everybody: leave enrol out, or call it a canary")
        testers = [unit for units in self.overrides.values() for unit in units]
        if twice := [unit for unit in testers if testers.count(unit) > 1]:
            raise ValueError(f"overrides name {twice[0]!r} twice; a tester gets one arm")
        if self.start is not None:
            utc(self.start)
        return self

    @property
    def digest(self) -> str:
        """sha256 (hex) over the rules, defaults included."""
        return digest_of(self)

    @property
    def outcomes(self) -> tuple[tuple[str, Outcome], ...]:
        """Every outcome with its kind, the goal first."""
        goal = () if self.goal is None else (("goal", self.goal),)
        return (*goal, *(("guard", guard) for guard in self.guards))

    @property
    def forecast(self) -> str:
        """How many weeks the plan needs; "" where nobody says how many units there are."""
        share = max(step.share for step in self.enrol)
        if self.units_a_day is None or share == 0:
            return ""
        enrolled = self.units_a_day * share
        weeks = max(self.planned_units / enrolled, self.at_least_days) / 7
        few = " That is few: only large harm will be seen before." if enrolled < _FEW_UNITS_A_DAY else ""
        return (
            f"{number(self.units_a_day)} units a day, {share:.0%} of them enrolled, reach {self.planned_units:,} units "
            f"in about {counted(math.ceil(weeks), 'week')}.{few}"
        )

    def share_at(self, time_s: float) -> float:
        """The enrolled share at a moment (seconds since 1970); nobody before the start."""
        if self.start is None:
            return self.enrol[0].share
        since_s = time_s - self._start_s
        if since_s < 0:
            return 0.0
        ends = accumulate(3600 * (step.hours or 0) for step in self.enrol[:-1])
        return self.enrol[bisect_right(list(ends), since_s)].share

    @cached_property
    def _start_s(self) -> float:
        return utc(self.start or "").timestamp()

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"condition": kind, "metric": outcome.name, "rule": outcome.rule, "margin": outcome.margin}
            for kind, outcome in self.outcomes
        ]

    def _sentence(self) -> str:
        steps = ", ".join(f"{s.share:.0%}{f' for {s.hours:g} hours' if s.hours else ''}" for s in self.enrol)
        late = len(self.enrol) > 1 and self.start is None
        wait = " The first share stays until `start` says when its hours began." if late else ""
        against = f"{self.name}: {self.candidate} against {self.baseline}"
        return f"{against}; enrolled are {steps}.{wait} {self.forecast}".strip()
