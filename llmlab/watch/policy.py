"""`watch.yaml`: what must not happen in production, over which window, and the page that says what to do. Values only.

Without rules the field's usual ones hold: quality down by more than 5%, twice the complaints, refusals, cost or p99
latency, more than 1% errors, another model under the same name, an index older than a week.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from llmlab.base.documents import Percent, Strict
from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.project import shipped
from llmlab.base.yamlfile import OfFile
from llmlab.display.shown import Shown
from llmlab.gate.policy import Age, Margin, Word
from llmlab.production.policy import SHARES, Multiple, require_known, require_share

Drift = Literal["question_words", "topic", "new_topic", "answer_words", "retrieval_score", "question_embedding"]
FACTS = ("served_model", "index_lag_days")
OWN = ("quality", "injection_markers")  # what a rollout has not
_HOURLY = frozenset({"error_rate", "latency_s", "first_token_s", "cost_usd"})
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
PAGES: Mapping[str, str] = {
    **dict.fromkeys(("error_rate", "latency_s", "first_token_s", "retry_rate"), "provider-outage.md"),
    **dict.fromkeys(("cost_usd", "input_tokens", "output_tokens"), "cost-spike.md"),
    **dict.fromkeys(("served_model", "answer_words"), "silent-model-update.md"),
    **dict.fromkeys(("injection_markers", "guard_rate"), "prompt-injection.md"),
    **dict.fromkeys(("index_lag_days", "retrieval_score"), "stale-index.md"),
    **dict.fromkeys(("topic", "new_topic", "question_words", "question_embedding"), "new-topic.md"),
}
DRIFTS: tuple[Drift, ...] = ("question_words", "topic", "new_topic", "answer_words", "retrieval_score")
_ASKED = ("above", "over", "worse_by", "budget_usd", "changed")


def duration(length: timedelta) -> str:
    """A length of time in whole days, or in hours.

    >>> duration(timedelta(hours=8)), duration(timedelta(days=1))
    ('8 hours', '1 day')
    """
    return counted(round(length / HOUR), "hour") if length % DAY else counted(length.days, "day")


class Reference(Strict):
    """What a window is held against: so many days before it, or of them those of the same day of the week."""

    days: Annotated[int, Field(ge=1)] = 28
    same_weekdays: bool = True

    @pydantic.model_validator(mode="after")
    def _has_one_of_its_weekdays(self) -> Self:
        if self.same_weekdays and self.days < WEEK.days:
            raise ValueError(f"days == {self.days} hold no other day of the same weekday; say same_weekdays: false")
        return self


class WatchRule(Strict):
    """A metric and what it must not do; exactly one of `above`, `over`, `worse_by`, `budget_usd` and `changed`.

    `above` and `over` always mean upward; which way is worse matters for `worse_by` alone.

    Attributes:
        metric: of `production.units`, `quality` (the signal of that name), `signals.NAME`, `injection_markers`, or a
            fact: `served_model`, `index_lag_days`.
        above: a limit in the metric's unit; of a quantile that of the quantile itself.
        over: a limit as a multiple of the baseline (2x); of `cost_usd` what all requests of a window cost together.
        worse_by: the harm that is tolerated: a share of the baseline as 5%, or a number in the metric's unit.
        higher_is_better: of a signal that may not be `worse_by`; by default as in a rollout.
        quantile: read this quantile, and not the mean.
        budget_usd: what a window may cost, all together or service by service.
        changed: nothing may answer that did not before, under the same bundle.
        window: 1h or 1d, by default an hour for errors, times and cost, a day for all else; one that holds fewer than
            `at_least` requests is doubled, up to a day.
        at_least: requests before anything but an alert is said.
        runbook: a page of the policy's `runbooks`.
    """

    metric: Word
    above: float | None = None
    over: Multiple | None = None
    worse_by: Margin | None = None
    higher_is_better: bool | None = None
    quantile: Annotated[Percent, Field(gt=0.5, lt=1)] | None = None
    budget_usd: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    changed: Literal[True] | None = None
    window: Annotated[str, Field(pattern=r"^[1-9]\d*[hd]$")] | None = None
    at_least: Annotated[int, Field(ge=1)] | None = None
    runbook: Word | None = None

    @pydantic.model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        conditions = [name for name in _ASKED if getattr(self, name) is not None]
        if len(conditions) != 1:
            raise ValueError(f"asks for {' and '.join(conditions) or 'nothing'}; a rule has one of {', '.join(_ASKED)}")
        fits = {"changed": "served_model", "budget_usd": "cost_usd"}.get(conditions[0], self.metric)
        if self.metric != fits:
            raise ValueError(f"{conditions[0]} belongs to {fits}, not to {self.metric}")
        if self.metric in FACTS and conditions[0] != ("changed" if self.metric == "served_model" else "above"):
            raise ValueError(f"{self.metric} is a fact and has no {conditions[0]}")
        require_known(self.metric, *OWN, *FACTS)
        if self.higher_is_better is not None and not (self.worse_by and self.metric.startswith("signals.")):
            raise ValueError("higher_is_better belongs to a signal's worse_by: above and over always mean upward")
        if self.metric in (*SHARES, "injection_markers"):
            require_share(conditions[0], self.worse_by if self.above is None else self.above, metric=self.metric)
        if self.quantile is not None and conditions[0] not in ("above", "over"):
            raise ValueError("a quantile is read `over` a multiple of the baseline's, or `above` a number")
        return self

    @property
    def length(self) -> timedelta:
        """Of the window."""
        window = self.window or ("1h" if self.metric in _HOURLY else "1d")
        return int(window[:-1]) * (HOUR if window.endswith("h") else DAY)

    @property
    def factor(self) -> float:
        """What `over` multiplies the baseline by."""
        return float((self.over or "1x").removesuffix("x"))

    @property
    def page(self) -> str:
        """The runbook's file."""
        return self.runbook or PAGES.get(self.metric, "quality-drop.md")

    @property
    def is_total(self) -> bool:
        """Whether it reads what all requests of a window cost together."""
        return self.metric == "cost_usd" and self.quantile is None and (self.over or self.budget_usd) is not None

    @property
    def name(self) -> str:
        """The metric, with the quantile where one is read."""
        return self.metric if self.quantile is None else f"{self.metric} p{100 * self.quantile:g}"

    @property
    def limit(self) -> str:
        """What it asks, in its own words."""
        name, value = next((name, value) for name in _ASKED if (value := getattr(self, name)) is not None)
        return name if value is True else f"{name} {value}"


USUAL = (
    WatchRule(metric="quality", worse_by="5%"),
    WatchRule(metric="negative_signals", over="2x"),
    WatchRule(metric="refusal_rate", over="2x"),
    WatchRule(metric="error_rate", above=0.01),
    WatchRule(metric="latency_s", quantile=0.99, over="2x"),
    WatchRule(metric="cost_usd", over="2x"),
    WatchRule(metric="cost_usd", over="2x", window="1d"),
    WatchRule(metric="guard_rate", over="2x"),
    WatchRule(metric="injection_markers", over="2x"),
    WatchRule(metric="served_model", changed=True),
    WatchRule(metric="index_lag_days", above=7.0),
)


class WatchPolicy(Shown, OfFile):
    """What is watched.

    Attributes:
        at_least: requests in a window before anything but an alert is said of it.
        false_alarms: share of quiet weeks that may bring an alert, for all rules and looks together.
        runbooks: folder of the pages, from the file's own on.
        rules: by default the field's usual ones, of which those that nobody records are left out.
        drift: what is looked for drift, by day.
        ended_after: how old the last request may be; older, and the report says too little data.
    """

    reference: Reference = Reference()
    at_least: Annotated[int, Field(ge=1)] = 100
    false_alarms: Annotated[Percent, Field(gt=0, lt=1)] = 0.05
    runbooks: Word = "../runbooks"
    rules: Annotated[tuple[WatchRule, ...], Field(strict=False)] = ()
    drift: Annotated[tuple[Drift, ...], Field(strict=False)] = DRIFTS
    ended_after: Age = "1 day"

    @pydantic.model_validator(mode="after")
    def _names_each_once(self) -> Self:
        keys = [(rule.name, rule.length, rule.budget_usd is not None) for rule in self.rules]
        if twice := [key[0] for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{twice[0]} has two rules over the same window")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The rules in a YAML file; FileRuleError with file, line and rule, also for a runbook that is not there.

        Where the file names no folder of runbooks and there is none beside it, those that come with llmlab are meant.
        """
        policy = super().load(path)
        folder = Path(path).parent / policy.runbooks
        if "runbooks" not in policy.model_fields_set and not folder.is_dir():
            folder = shipped("experiments/runbooks")
            policy = policy.model_copy(update={"runbooks": str(folder)})
        pages = (*(rule.page for rule in policy.watched), *(PAGES[column] for column in policy.drift))
        if missing := [page for page in pages if not (folder / page).is_file()]:
            raise FileRuleError(f"the runbook {missing[0]} is not in {folder}; an alert must name a page", path=path)
        return policy

    @property
    def watched(self) -> tuple[WatchRule, ...]:
        """The rules, by default the usual ones."""
        return self.rules or USUAL

    def alpha(self, length: timedelta) -> float:
        """The chance of a false alarm that one look over such a window may take, of one rule."""
        families = len(self.watched) + bool(self.drift)
        return self.false_alarms / families / max(WEEK / length, 1.0)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"metric": rule.name, "limit": rule.limit, "window": duration(rule.length), "runbook": rule.page}
            for rule in self.watched
        ]

    def _sentence(self) -> str:
        drift = f" Drift of {', '.join(self.drift)}." if self.drift else ""
        before = f"the {self.reference.days} days before"
        days = f"the same weekdays of {before}" if self.reference.same_weekdays else before
        quiet = f"alerts in at most {self.false_alarms:.0%} of quiet weeks"
        return f"The last window against {days}; {quiet}.{drift} Runbooks: {self.runbooks}."
