"""What a scorer is: a plain function with a name, bounds and a direction; and how one answer is scored by many.

Missing is not zero: an error row, a scorer that raises and a case that a scorer cannot judge are unscored
(`Score.value` is None, with the reason); an empty answer and a timeout are failures, for users see them.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict, Unpack, overload

from llmlab import scorers as room
from llmlab.base.errors import raised
from llmlab.clients.base import ANSWER_COLUMNS, Generation
from llmlab.display.shown import Shown
from llmlab.golden.cases import Case
from llmlab.scorers.declared import declared_digest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
NOTHING_EXPECTED = "the case names nothing expected"
RAISED = "the scorer raised "
RESERVED = frozenset({*ANSWER_COLUMNS, "explanations"})  # every result has these


class UnscoredError(ValueError):
    """A scorer that raises it, with the reason, leaves the answer unscored."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Score(Shown):
    """What one scorer says of one answer; `value` None = unscored, never zero. A scorer fills in the name."""

    value: float | None
    explanation: str = ""
    name: str = ""


Judged: TypeAlias = Score | float | bool | None
ScoreFunction: TypeAlias = Callable[[Case, Generation], Judged | Awaitable[Judged]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scorer(Shown):
    """A metric: called with a case and a generation, it gives a `Score`.

    Attributes:
        name: column of the results and name of the metric.
        function: what computes it, plain or async.
        low, high: bounds of its values; None = unbounded.
        higher_is_better: the direction.
        needs_expected: a case without `expected` is unscored.
        empty_fails: an answer without text or tool call gets the worst value, without a call of the function.
        revision: stands for the code where the scorer declares one; 0 = the code stands for itself.
        redact: the text without what the scorer finds in it, where it can say that (for guards; not in the digest).
        digest: sha256 of name, bounds, the plain values that the function closes over, and the revision or else the
            code: the function and what it reaches in its file, without comments, docstrings and layout.

    Raises:
        ValueError: the name cannot be a metric's name, or low is not below high.
        TypeError: the function is none.
    """

    name: str
    function: ScoreFunction
    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_better: bool = True
    needs_expected: bool = False
    empty_fails: bool = True
    revision: int = 0
    redact: Callable[[str], str] | None = None
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        if not callable(self.function):
            rule = "must be a function of a case and its answer, such as ll.scorers.mentions_expected"
            raise TypeError(f"scorer == {self.function!r}, {rule}")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"scorer name == {self.name!r}, must be ASCII letters, digits, _ . -; give name=...")
        if self.name in RESERVED:
            raise ValueError(f"scorer name == {self.name!r} is a column of every result; give another with name=...")
        if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
            raise ValueError(
                f"{self.name}: bounds must be finite, or None where there is none (low={low}, high={high})"
            )
        if low is not None and high is not None and not low < high:
            raise ValueError(f"{self.name}: low == {low}, must be below high == {high}")
        bounds = [None if bound is None else float(bound) for bound in (low, high)]
        declared = [self.name, *bounds, self.higher_is_better, self.needs_expected, self.empty_fails, self.revision]
        digest = declared_digest if self.revision else room.source.code_digest
        object.__setattr__(self, "digest", digest(self.function, declared))

    def __call__(self, case: Case, generation: Generation) -> Score:
        """The score of one answer, whatever its status.

        Raises:
            ValueError: the function gave NaN or a value out of the declared bounds.
            TypeError: it gave no number, or it is async (then `await scorer.later(case, generation)`).
        """
        if self.is_async:
            raise TypeError(f"the scorer {self.name!r} is async: await scorer.later(case, generation)")
        try:
            return self._checked(self.function(case, generation))
        except UnscoredError as why:
            return Score(name=self.name, value=None, explanation=str(why))

    async def later(self, case: Case, generation: Generation) -> Score:
        """As calling it, for async functions too."""
        try:
            judged = self.function(case, generation)
            return self._checked(await judged if inspect.isawaitable(judged) else judged)
        except UnscoredError as why:
            return Score(name=self.name, value=None, explanation=str(why))

    @property
    def is_async(self) -> bool:
        """Whether the function has to be awaited."""
        by_call = getattr(type(self.function), "__call__", None)  # noqa: B004  # the method itself is wanted
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(by_call)

    @property
    def worst(self) -> float | None:
        """The value of a failure; None when the metric has no bound on its bad side."""
        return self.low if self.higher_is_better else self.high

    def _decided(self, case: Case, generation: Generation) -> Score | None:
        """The score that status and case decide without looking at the text."""
        if generation.status == "error":
            return Score(name=self.name, value=None, explanation=f"no answer: {generation.error or 'error'}")
        if self.needs_expected and not case.names_expected:
            return Score(name=self.name, value=None, explanation=NOTHING_EXPECTED)
        if generation.status == "timeout":
            return Score(name=self.name, value=self.worst, explanation="timeout: counts as a failure")
        empty = generation.status == "empty" or not (generation.text.strip() or generation.tool_calls)
        if empty and self.empty_fails and self.worst is not None and generation.status != "refused":
            return Score(name=self.name, value=self.worst, explanation="the answer is empty")
        return None

    def _checked(self, judged: Any) -> Score:
        value, explanation = (judged.value, judged.explanation) if isinstance(judged, Score) else (judged, "")
        if not isinstance(explanation, str):
            told = type(explanation).__name__
            raise TypeError(f"scorer {self.name!r}: gave an explanation of type {told}, must be a text")
        if value is None:
            return Score(name=self.name, value=None, explanation=explanation or "the scorer gave no value")
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(f"scorer {self.name!r}: gave an awaitable; write it as `async def`")
        where = f"scorer {self.name!r}"  # not the case: what is said of many answers is counted by its words
        if not hasattr(value, "__float__") or isinstance(value, str):
            raise TypeError(f"{where}: gave {value!r}, must be a number, a bool, a Score or None")
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{where}: gave {number}, must be finite; return None where there is no score")
        if (self.low is not None and number < self.low) or (self.high is not None and number > self.high):
            raise ValueError(
                f"{where}: gave {number}, out of its bounds low={self.low}, high={self.high}; "
                "declare those that it has, such as @scorer(low=0, high=100)"
            )
        return Score(name=self.name, value=number, explanation=explanation)

    def _rows(self) -> list[dict[str, object]]:
        better = "higher is better" if self.higher_is_better else "lower is better"
        return [{"scorer": self.name, "low": self.low, "high": self.high, "direction": better}]


class Declared(TypedDict, total=False):
    """What a scorer may declare."""

    low: float | None
    high: float | None
    higher_is_better: bool
    needs_expected: bool
    empty_fails: bool
    name: str
    revision: int
    redact: Callable[[str], str]


@overload
def scorer(function: ScoreFunction) -> Scorer: ...
@overload
def scorer(**declared: Unpack[Declared]) -> Callable[[ScoreFunction], Scorer]: ...
def scorer(
    function: ScoreFunction | None = None, **declared: Unpack[Declared]
) -> Scorer | Callable[[ScoreFunction], Scorer]:
    """A `Scorer` out of a plain or async function `(Case, Generation) -> Score | float | bool | None`.

    Its code is part of what it measures: scores of two versions are not compared. With a `revision` (1, 2, ...)
    that number stands for the code, and is raised by hand when it gives other scores.

    What may be declared are the fields of `Scorer`, with its defaults and its errors; `name` is the function's.

    >>> from llmlab.clients.base import Generation
    >>> from llmlab.golden.cases import Case
    >>> @scorer(low=0, high=1, higher_is_better=True)
    ... def polite(case, generation):
    ...     return "please" in generation.text
    >>> polite(Case(id="q1", inputs={"question": "?"}), Generation(text="Try dropna, please.")).value
    1.0
    """

    if unknown := sorted(declared.keys() - Declared.__annotations__.keys()):
        raise TypeError(f"@scorer({unknown[0]}=...): may declare {', '.join(Declared.__annotations__)}")

    def build(plain: ScoreFunction) -> Scorer:
        called = declared.get("name") or str(getattr(plain, "__name__", type(plain).__name__))
        fields: Declared = {**declared, "name": called}
        return Scorer(function=plain, **fields)

    return build if function is None else build(function)


def texts_of(case: Case) -> tuple[str, ...]:
    """The texts that a case expects; UnscoredError where it expects other JSON."""
    if not case.facts:
        raise UnscoredError("the case expects a JSON value, not texts; score it with json_equal or json_fields")
    return case.facts


def as_scorers(scorers: Sequence[Scorer | ScoreFunction]) -> tuple[Scorer, ...]:
    """Scorers out of scorers and plain functions (0 to 1, higher is better); ValueError for a name used twice."""
    metrics = tuple(each if isinstance(each, Scorer) else scorer(each) for each in scorers)
    names = [metric.name for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two scorers are called {twice[0]!r}; give one of them another name (name=...)")
    return metrics


def score_all(scorers: Sequence[Scorer], case: Case, generation: Generation) -> dict[str, Score]:
    """Every scorer's score of one answer, by name. A scorer that raises is unscored, with what it raised.

    Error rows are unscored, timeouts and (for quality scorers) empty answers get the worst value.
    """
    return {metric.name: metric._decided(case, generation) or _tried(metric, case, generation) for metric in scorers}


async def score_all_async(scorers: Sequence[Scorer], case: Case, generation: Generation) -> dict[str, Score]:
    """As `score_all`, with async scorers awaited one after the other."""
    return {m.name: m._decided(case, generation) or await _awaited(m, case, generation) for m in scorers}


def _tried(metric: Scorer, case: Case, generation: Generation) -> Score:
    try:
        return metric(case, generation)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's scorer may raise anything: the row is unscored and counted
        return _unscored(metric, error)


async def _awaited(metric: Scorer, case: Case, generation: Generation) -> Score:
    try:
        return await metric.later(case, generation)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _unscored(metric, error)  # something within it was cancelled, and not the run
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's scorer may raise anything: the row is unscored and counted
        return _unscored(metric, error)


def _unscored(metric: Scorer, error: BaseException) -> Score:
    return Score(name=metric.name, value=None, explanation=f"{RAISED}{raised(error)}"[:1000])
