"""What a judge has shown before its scores may decide: agreement and biases, bound to judge and labels, with an end.

`judge` measures and fills it, the gate and the receipt read it. A judged metric without a valid passport blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from llmlab.base.cells import Chip
from llmlab.base.documents import Sealed, Strict
from llmlab.base.numbers import Interval, number
from llmlab.base.project import utc
from llmlab.display.shown import Shown
from llmlab.gate.policy import Rules

Moment = Annotated[str, Field(min_length=10)]
Digest = Annotated[str, Field(min_length=8)]


class Measured(Strict):
    """One figure of a judge with its interval: kappa, flip rate, length slope. `value` None = undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int = 0
    note: str = ""


class Limit(Strict):
    """What a figure must keep: at least or at most a bound, by its estimate or by the worse end of its interval."""

    at_least: float | None = None
    at_most: float | None = None
    by: Literal["value", "interval"] = "value"

    @pydantic.model_validator(mode="after")
    def _one_bound(self) -> Limit:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least, at_most")
        return self

    def failure(self, name: str, measured: Measured | None) -> str:
        """Why the figure breaks this limit, "" where it keeps it; what was not measured breaks it."""
        if measured is None:
            return f"{name} was not measured"
        lower, bound = self.at_least is not None, self.at_most if self.at_least is None else self.at_least
        value = measured.value if self.by == "value" else measured.low if lower else measured.high
        what = f"{'the worse end of the interval of ' if self.by == 'interval' else ''}{name}"
        if value is None or bound is None:
            return f"{what} is undefined{f' ({measured.note})' if measured.note else ''}"
        if (value < bound) if lower else (value > bound):
            return (
                f"{what} is {number(float(f'{value:.3g}'))}, must be at {'least' if lower else 'most'} {number(bound)}"
            )
        return ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PassportCheck(Shown):
    """Whether a passport holds now for a judge; true in a condition when it does. `failures` says why not."""

    failures: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failures

    def _rows(self) -> list[dict[str, object]]:
        return [{"passport": Chip("valid", "good") if self else Chip("not valid", "bad")}]

    def _sentence(self) -> str:
        return "; ".join(self.failures)


class JudgePassport(Shown, Sealed):
    """A judge's measured agreement with people and its measured biases.

    Attributes:
        judge_digest: digest of the judge's own bundle; another judge needs another passport.
        labels_digest: digest of the human labels that it was measured on.
        metrics: figures by name, such as kappa or flip_rate, each with its interval.
        limits: what the figures must keep, by the same names.
        created_at, expires_at: UTC, ISO 8601.
        judge: what people call the judge.
    """

    _noun: ClassVar[str] = "judge passport"
    _file: ClassVar[str] = "passport"
    judge_digest: Digest
    labels_digest: Digest
    metrics: Mapping[str, Measured]
    limits: Mapping[str, Limit] = Field(default_factory=dict)
    created_at: Moment
    expires_at: Moment
    judge: str = ""

    @pydantic.field_validator("created_at", "expires_at")
    @classmethod
    def _is_a_moment(cls, text: str) -> str:
        utc(text)
        return text

    def valid(self, now: datetime, judge_digest: str) -> PassportCheck:
        """Whether it holds at `now` for the judge with this digest, with every limit that it fails.

        >>> from datetime import UTC
        >>> passport = JudgePassport(
        ...     judge_digest="a" * 64, labels_digest="b" * 64, metrics={"kappa": Measured(value=0.4)},
        ...     limits={"kappa": Limit(at_least=0.6)}, created_at="2026-01-01T00:00:00Z",
        ...     expires_at="2027-01-01T00:00:00Z",
        ... )
        >>> passport.valid(datetime(2026, 6, 1, tzinfo=UTC), "a" * 64).failures
        ('kappa is 0.4, must be at least 0.6',)
        """
        failures = []
        if judge_digest != self.judge_digest:
            failures.append(f"it is for judge {self.judge_digest[:8]}, the scores are by judge {judge_digest[:8]}")
        if now < utc(self.created_at):
            failures.append(f"it was made at {self.created_at}, after the moment that is asked for")
        if now >= utc(self.expires_at):
            failures.append(f"it expired at {self.expires_at}; calibrate the judge again")
        failures += [limit.failure(name, self.metrics.get(name)) for name, limit in self.limits.items()]
        return PassportCheck(failures=tuple(filter(None, failures)))

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for name, figure in self.metrics.items():
            limit, measured = self.limits.get(name), Interval(figure.value, figure.low, figure.high)
            holds = limit and (Chip("no", "bad") if limit.failure(name, figure) else Chip("yes", "good"))
            bound = limit and (
                f"at least {limit.at_least:g}" if limit.at_least is not None else f"at most {limit.at_most:g}"
            )
            rows.append({"figure": name, "measured": measured, "labels": figure.n, "limit": bound, "kept": holds})
        return rows

    def _sentence(self) -> str:
        judge = f"Judge {self.judge or self.judge_digest[:8]}, labels {self.labels_digest[:8]}"
        if not (check := self.valid(utc(self.created_at), self.judge_digest)):
            return f"{judge}: it does not hold, {'; '.join(check.failures)}."
        return f"{judge}, good from {self.created_at} to {self.expires_at}."


def passport_reasons(
    policy: Rules, judged: Mapping[str, str], passports: Sequence[JudgePassport], *, now: datetime
) -> Iterator[str]:
    """Why judges may not decide: judged metric -> judge's digest, against the passports that are shown."""
    if policy.judge.passport != "required":
        return
    for name, digest in judged.items():
        shown = [passport for passport in passports if passport.judge_digest == digest]
        checks = [passport.valid(now, digest) for passport in shown if passport.limits]
        if not shown:
            remedy = "calibrate it (03_judge_calibration.ipynb) and name the file that `passport.save` writes"
            yield f"{name} is judged by {digest[:8] or 'an unknown judge'}, which has no passport: {remedy}"
        elif not checks:
            yield f"{name}: the passport of judge {digest[:8]} states no limits, so it vouches for nothing"
        elif not any(checks):
            yield f"{name}: the passport of judge {digest[:8]} does not hold ({'; '.join(checks[0].failures)})"
