"""What a candidate must prove before it replaces the baseline: `gate.yaml`, strict, with one digest.

Values only: every file of the gate reads them, and `GatePolicy` (`gate.decide`) is these rules with the verb `decide`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import pydantic
from pydantic import Field

from llmlab.base.documents import PERCENT, Percent, Strict, digest_of
from llmlab.base.project import located
from llmlab.base.yamlfile import OfFile
from llmlab.display.shown import Shown
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.stats.estimate import Aggregation

_DEFAULT_ALIAS = "production"
_LATER = ("candidates", "holdout")  # rules that came after 0.1: a policy without them keeps its digest
Rule = Literal["superior", "non_inferior", "no_shown_harm"]
Which = Literal["raw", "corrected"]  # of a judged metric: the judge's own number, or what people would say
Word = Annotated[str, Field(min_length=1, max_length=200)]
Judgeable = TypeVar("Judgeable", GoldenSet, Results)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(minute|hour|day|week)s?")
_UNITS = {"minute": 60.0, "hour": 3_600.0, "day": 86_400.0, "week": 604_800.0}


class Arms(NamedTuple):
    """The variants of a decision: who is judged, and against whom; None where there is no such other."""

    candidate: str
    baseline: str | None
    anchor: str | None

    @property
    def names(self) -> list[str]:
        """The baseline, the candidate and the anchor, each once, as far as they are there."""
        return list(dict.fromkeys(arm for arm in (self.baseline, self.candidate, self.anchor) if arm is not None))

    def other(self, kind: str) -> str | None:
        """What a condition of this kind is read against; a floor is of the candidate alone."""
        return {"floor": None, "anchor": self.anchor}.get(kind, self.baseline)


def relative_share(margin: float | str | None) -> float | None:
    """The share that a margin such as "10%" stands for; None for an absolute one, or for none.

    >>> relative_share("10%"), relative_share(0.02)
    (0.1, None)
    """
    return _amount(margin) if isinstance(margin, str) else None


def age_limit(text: str) -> timedelta:
    """A length of time such as "14 days".

    >>> age_limit("36 hours")
    datetime.timedelta(days=1, seconds=43200)
    """
    length = _AGE.fullmatch(text.strip())
    if length is None:
        raise ValueError(f"{text!r} is no length of time: write it as 14 days, 36 hours or 2 weeks")
    return timedelta(seconds=float(length[1]) * _UNITS[length[2]])


def _amount(value: float | str) -> float:
    """A number as it is, and "10%" as 0.1."""
    percent = PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and percent is None:
        raise ValueError(f"{value!r} is neither a number nor a share such as 10%")
    return float(percent[1]) / 100 if percent else float(value)


def _margin(value: float | str) -> float | str:
    if _amount(value) <= 0:
        raise ValueError(f"{value!r}, must be above 0: the harm that may be tolerated")
    return value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _age(text: str) -> str:
    age_limit(text)
    return text


def _share(value: float | str) -> float | str:
    if not 0 < _amount(value) < 1:
        raise ValueError(f"{value!r} is no share of the cases: write it as 30% or 0.3")
    return value


Share = Annotated[float | str, pydantic.AfterValidator(_share)]
Margin = Annotated[float | str, pydantic.AfterValidator(_margin)]
Age = Annotated[str, pydantic.AfterValidator(_age)]


class Requirement(Strict):
    """A metric, its burden of proof, and the smallest gain that counts or the harm that is tolerated."""

    metric: Word
    rule: Rule
    min_effect: Annotated[float, Field(ge=0)] = 0.0
    margin: Margin | None = None
    estimate: Which | None = None

    @pydantic.model_validator(mode="after")
    def _fits_its_rule(self) -> Requirement:
        if self.rule == "superior" and self.margin is not None:
            raise ValueError("a superior condition has min_effect and no margin")
        if self.rule != "superior" and (self.margin is None or self.min_effect):
            raise ValueError(f"a {self.rule} condition needs a margin, and has no min_effect")
        return self


class Floor(Strict):
    """What the candidate itself must reach: the end of its interval must clear it."""

    rule: ClassVar[str] = "floor"
    metric: Word
    at_least: float | None = None
    at_most: float | None = None
    estimate: Which | None = None

    @pydantic.model_validator(mode="after")
    def _one_bound(self) -> Floor:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least, at_most")
        return self


class Categories(Strict):
    """The same rule within every tag; by default for the goal's metric."""

    by: Literal["tags"] = "tags"
    rule: Literal["no_shown_harm", "non_inferior"] = "no_shown_harm"
    margin: Margin
    metric: Word | None = None
    estimate: Which | None = None


class Anchor(Strict):
    """A frozen reference bundle and the harm against it that all releases together may do; the goal's metric."""

    rule: ClassVar[Rule] = "non_inferior"
    bundle: Word
    margin: Margin
    metric: Word | None = None
    estimate: Which | None = None


class Judge(Strict):
    """What judged metrics need.

    Attributes:
        passport: whether their judges need one.
        decide_on: the judge's own numbers, or those corrected by people's labels; a condition's `estimate` is stronger.
        labels: files of labels (JSONL) beside the policy, one per metric that is corrected.
        labels_at_least: cases labelled in both arms (a floor: in the candidate's) below which nothing is decided.
        metrics: judged metrics that the results do not know as such.
    """

    passport: Literal["required", "not required"] = "required"
    decide_on: Which = "raw"
    labels: Annotated[tuple[Word, ...], pydantic.BeforeValidator(_one_or_more), Field(strict=False)] = ()
    labels_at_least: Annotated[int, Field(ge=2)] = 30
    metrics: Annotated[tuple[Word, ...], Field(strict=False)] = ()


class IndexRule(Strict):
    """How true the searched index must be: share of golden questions with a stale relevant document, and its age."""

    stale_at_most: Annotated[Percent, Field(ge=0, lt=1)] | None = None
    max_age: Age | None = None

    @pydantic.model_validator(mode="after")
    def _bounds_something(self) -> IndexRule:
        if self.stale_at_most is None and self.max_age is None:
            raise ValueError("give stale_at_most, max_age or both")
        return self


class Promotion(Strict):
    """What promotion asks for besides a passing receipt; `signed`: by the key of CI (LLMLAB_SIGNING_KEY)."""

    clean_commit: bool = False
    ci: bool = False
    approver_not_author: bool = False
    after_alias: Word | None = None
    signed: bool = False


class Rules(Shown, OfFile):
    """The rules of a release.

    Attributes:
        baseline: an alias, a bundle's file (`bundles/v1.yaml`), or none (floors only).
        baseline_file: the bundle to take where the alias does not exist yet, or none.
        goal: what the change is for.
        guards: what it must not cost.
        floors: what the candidate must reach by itself.
        categories: a rule within every tag.
        anchor: a frozen reference, so that many small losses do not add up unseen.
        confidence: of the claims that let a candidate through.
        unscored_at_most: share of answers per arm that may lack a score, for every metric used.
        minimum_cases: fewer cases are no basis for any verdict.
        aggregation: what the repeats of a case become.
        timeouts: a failure, as users see them, or missing.
        judge: whether judged metrics need a passport.
        receipt_max_age: how old a receipt may be at promotion.
        max_baseline_age: how old logged baseline rows may be that stand in for new ones.
        index: how stale and how old the candidate's index may be.
        candidates: how many looks and candidates a release cycle will have; alpha is split evenly among them. Without
            it the first reads the policy's confidence and every further one pays more (`gate.looks`).
        holdout: the share of the cases, as 30% or 0.3, that the gate alone reads; exploring leaves them alone.
        promotion: what the registry asks for besides.
    """

    baseline: Word
    baseline_file: Word | None = None
    goal: Requirement | None = None
    guards: Annotated[tuple[Requirement, ...], Field(strict=False)] = ()
    floors: Annotated[tuple[Floor, ...], Field(strict=False)] = ()
    categories: Categories | None = None
    anchor: Anchor | None = None
    confidence: Annotated[Percent, Field(gt=0.5, lt=1)] = 0.95
    unscored_at_most: Annotated[Percent, Field(ge=0, le=1)] = 0.05
    minimum_cases: Annotated[int, Field(ge=2)] = 20
    aggregation: Aggregation = "mean"
    timeouts: Literal["failure", "missing"] = "failure"
    judge: Judge = Field(default_factory=Judge)
    receipt_max_age: Age = "30 days"
    max_baseline_age: Age = "7 days"
    index: IndexRule | None = None
    candidates: Annotated[int, Field(ge=1)] | None = None
    holdout: Share | None = None
    promotion: Promotion = Field(default_factory=Promotion)

    @pydantic.model_validator(mode="after")
    def _decides_something(self) -> Self:
        if self.goal is None and not self.guards and not self.floors:
            raise ValueError("asks for nothing: give a goal, guards or floors")
        if self.goal is None and any(part and part.metric is None for part in (self.categories, self.anchor)):
            raise ValueError("categories and anchor need a metric where there is no goal")
        if self.baseline == "none" and not self.floors:
            raise ValueError("without a baseline only floors can be judged: give floors")
        return self

    @property
    def digest(self) -> str:
        """sha256 (hex) over the rules, defaults included; those of `_LATER` count where they are given."""
        later: dict[str, Any] = {name: True for name in _LATER if getattr(self, name) is None}
        return digest_of(self, leave_out=later | ({} if self.promotion.signed else {"promotion": {"signed"}}))

    @property
    def alias(self) -> str:
        """The alias that its releases are for: the baseline where that is one."""
        return _DEFAULT_ALIAS if self.baseline == "none" or self.baseline.endswith((".yaml", ".yml")) else self.baseline

    @property
    def held_share(self) -> float:
        """The share of the cases that the gate alone reads; 0 where it reads what everybody reads."""
        return 0.0 if self.holdout is None else _amount(self.holdout)

    @property
    def readings(self) -> tuple[tuple[str, Requirement | Floor], ...]:
        """Every condition as (kind, rule), in the order of the file; categories and anchor as what they require."""
        goal = self.goal.metric if self.goal else ""
        kinds = (("goal", (self.goal,)), ("guard", self.guards), ("floor", self.floors))
        own = [(kind, part) for kind, parts in kinds for part in parts if part is not None]
        required = Requirement.model_construct  # of values that were checked already
        wider = [
            (kind, required(metric=w.metric or goal, rule=w.rule, margin=w.margin, estimate=w.estimate))
            for kind, w in (("category", self.categories), ("anchor", self.anchor))
            if w is not None
        ]
        return (*own, *wider)

    def is_corrected(self, part: Requirement | Floor, judged: Collection[str]) -> bool:
        """Whether a condition reads the corrected estimate of its metric; `judged`: the metrics that judges gave."""
        return (part.estimate or (self.judge.decide_on if part.metric in judged else "raw")) == "corrected"

    def corrected(self, judged: Collection[str]) -> tuple[str, ...]:
        """The metrics of which some condition reads the corrected estimate, each once."""
        return tuple(dict.fromkeys(part.metric for _, part in self.readings if self.is_corrected(part, judged)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that some condition reads, each once."""
        return tuple(dict.fromkeys(part.metric for _, part in self.readings))

    @property
    def relative_metrics(self) -> frozenset[str]:
        """Metrics with a margin in percent."""
        return frozenset(part.metric for _, part in self.readings if isinstance(getattr(part, "margin", None), str))

    @property
    def floors_only(self) -> bool:
        """Whether it may be decided without any baseline."""
        return bool(self.floors) and (self.baseline == "none" or self.baseline_file in (None, "none"))

    def held_out(self, cases: Judgeable) -> Judgeable:
        """The part of a golden set, or of results, that the gate reads: its holdout, or all where it keeps none.

        Raises:
            ValueError: the holdout is empty, or the results carry no golden set.
        """
        return cases.holdout(self.held_share) if self.held_share else cases

    def explored(self, golden: GoldenSet) -> GoldenSet:
        """The cases that everybody but the gate may read."""
        return golden.explored(self.held_share) if self.held_share else golden

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "condition": "each category" if kind == "category" else kind,
                "metric": f"{part.metric} ({part.estimate})" if part.estimate else part.metric,
                "rule": part.rule,
                "bound": _bound(part),
            }
            for kind, part in self.readings
        ]

    def _sentence(self) -> str:
        people = " Judged metrics are decided on what people would say." if self.judge.decide_on == "corrected" else ""
        return f"Against {self.baseline}, at confidence {self.confidence:g}.{people} Policy {self.digest[:8]}."


def explored(experiment: str | Path) -> GoldenSet:
    """The cases of an experiment's folder that everybody may read: all but the holdout that its gate.yaml keeps."""
    golden, rules = GoldenSet.load(Path(experiment) / "golden.jsonl"), Path(experiment) / "gate.yaml"
    return Rules.load(rules).explored(golden) if located(rules).is_file() else golden


def _bound(part: Requirement | Floor) -> str:
    if isinstance(part, Floor):
        return f"at least {part.at_least:g}" if part.at_least is not None else f"at most {part.at_most:g}"
    return f"at least {part.min_effect:g}" if part.rule == "superior" else f"margin {part.margin}"
