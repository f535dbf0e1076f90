"""A worklist drawn from production: requests that may become cases, each with the probability with which it was drawn.

`Traces.harvest` draws it. Nothing of it is a case of the golden set before somebody has said what is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.base.private import personal_in, told
from llmlab.base.project import project_root
from llmlab.bundle.bundle import Bundle
from llmlab.display.shown import Shown
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import signature
from llmlab.golden.labels import Labels, Worklist
from llmlab.production.lines import SIGNAL, STATUSES, Trace, numbers_of, signals_of
from llmlab.results.elsewhere import unknown_bundle
from llmlab.results.results import Results
from llmlab.stats.arrays import FloatArray
from llmlab.stats.standard_error import effective_size
from llmlab.tracking.screening import redactor

if TYPE_CHECKING:
    import pandas as pd

_LOW = 0.5  # below this a judge's share, such as groundedness, is low
VARIANT = "production"
_WRITTEN = ("text", "error", "tool_calls")  # of an answer, where users may be named


@dataclass(frozen=True, kw_only=True, repr=False)
class Harvest(Shown):
    """Requests drawn from production, and what each stands for.

    Attributes:
        results: the answers that users got, a case per request; tags name why it was drawn more often.
        inclusion: case id -> probability with which it was drawn; 1 / probability is the weight of its case.
        n_requests: requests that could be drawn.
        left_out: reason -> requests that could not.
        redacted: the drawn requests in which personal data was replaced, "" where there was none.
    """

    results: Results
    inclusion: Mapping[str, float]
    n_requests: int
    left_out: Mapping[str, int]
    redacted: str = ""

    def worklist(self, rubric: str) -> Worklist:
        """The answers for people to label by this rubric, as `Labeller` and `calibrate` read them."""
        questions = {case.id: case.question for case in self._golden}
        answers = dict.fromkeys(self.results.answers("case_id", "shown"))
        items = tuple((case, questions[case], text, self.inclusion[case]) for case, text in answers)
        return Worklist(rubric=rubric, items=items)

    def ready(self, *, expected: Mapping[str, Any] | None = None, labels: Labels | None = None) -> tuple[Case, ...]:
        """The cases that somebody has said something of, for `golden.grown(...)`; the others stay in the worklist.

        Args:
            expected: case id -> what is expected of an answer, as in a golden set.
            labels: people's grades; the case of a graded answer is ready without an expectation too.

        Raises:
            ValueError: an expectation for a case that is not here.
        """
        expected = expected or {}
        if unknown := sorted(set(expected) - set(self.inclusion)):
            raise ValueError(f"no case {unknown[0]!r} in this harvest of {len(self.inclusion):,}")
        known = {*expected, *(label.case_id for label in labels or () if label.value is not None)}
        cases = (case for case in self._golden if case.id in known)
        return tuple(replace(case, expected=expected.get(case.id, case.expected)) for case in cases)

    @property
    def _golden(self) -> GoldenSet:
        assert self.results.golden is not None  # noqa: S101  # `harvested` made it
        return self.results.golden

    def __len__(self) -> int:
        return len(self.inclusion)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"case": case.id, "question": case.question, "why": ", ".join(case.tags), "stands for": case.weight}
            for case in self._golden
        ][:10]

    def _sentence(self) -> str:
        n, weights = len(self), np.array([case.weight for case in self._golden])
        left = "".join(f" {n:,} left out: {why}." for why, n in self.left_out.items() if n)
        redacted = f" Personal data was replaced in {self.redacted}." if self.redacted else ""
        return (
            f"{counted(n, 'case')} drawn from {counted(self.n_requests, 'request')}; they tell as much as "
            f"{effective_size(weights):,.0f} equally weighted ones, and in a golden set they count as much as "
            f"{counted(round(weights.sum()), 'case')} by hand. A case enters the golden set once it has an "
            f"expectation or a label: golden.grown(harvest.ready(...)).{left}{redacted}"
        )


def harvested(
    frame: pd.DataFrame,
    traces: Sequence[Trace],
    *,
    n: int,
    more_of: Mapping[str, float],
    seed: int,
    golden: GoldenSet | None,
    bundles: Iterable[Bundle],
    root: Path | None,
) -> Harvest:
    """See `Traces.harvest`."""
    if n < 1:
        raise ValueError(f"n == {n}, must be >= 1")
    factors, why = _factors(frame, more_of)
    groups, left_out = _groups(traces, golden, bundles)
    if not groups:
        raise DataError(_nothing(left_out))
    inclusion = _drawn(groups, factors, n=n, rng=np.random.default_rng(seed))
    root = project_root() if root is None else root
    redact = redactor(root)
    if not inclusion:
        raise DataError(f"nothing was drawn with seed == {seed}: n == {n} is an expected number; ask for more")
    drawn = [traces[row] for row in inclusion]
    cases = [replace(traces[row].to_case(root=root), tags=why[row], weight=1 / p) for row, p in inclusion.items()]
    answers = [
        replace(trace, answer=replace(trace.answer, **{name: redact(getattr(trace.answer, name)) for name in _WRITTEN}))
        for trace in drawn
    ]
    return Harvest(
        results=as_results(answers, cases),
        inclusion={traces[row].request_id: probability for row, probability in inclusion.items()},
        n_requests=sum(map(len, groups)),
        left_out=left_out,
        redacted=told(personal_in((t.request_id, [t.inputs, t.answer.text, t.answer.tool_calls]) for t in drawn)),
    )


def why_nothing(traces: Sequence[Trace], golden: GoldenSet | None, bundles: Iterable[Bundle]) -> str:
    """See `Traces.nothing_to_harvest`."""
    groups, left_out = _groups(traces, golden, bundles)
    return "" if groups else _nothing(left_out)


def as_results(traces: Iterable[Trace], cases: Iterable[Case]) -> Results:
    """Requests as the answers of one variant to these cases, as the Explorer and the Labeller show them."""
    answers = [replace(trace.answer, variant=VARIANT, case_id=trace.request_id, repeat=0) for trace in traces]
    golden, bundles = GoldenSet(cases=tuple(cases), name=VARIANT), {VARIANT: unknown_bundle(VARIANT)}
    return Results.from_generations(answers, golden=golden, bundles=bundles, failed_share_allowed=1.0)


def _factors(frame: pd.DataFrame, more_of: Mapping[str, float]) -> tuple[FloatArray, list[tuple[str, ...]]]:
    """How much oftener each request is drawn than one of which nothing is wanted, and by which names."""
    factors = np.ones(len(frame))
    why: list[tuple[str, ...]] = [()] * len(frame)
    for name, factor in more_of.items():
        if not (isinstance(factor, int | float) and 1 <= factor < np.inf):
            raise ValueError(f"more_of[{name!r}] == {factor!r}, must be a number >= 1: ten times as often is 10")
        wanted = _wanted(frame, name)
        factors = np.where(wanted, np.maximum(factors, factor), factors)
        why = [(*names, name) if is_wanted else names for names, is_wanted in zip(why, wanted, strict=True)]
    return factors, why


def _wanted(frame: pd.DataFrame, name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each request is one of these: by status, thumbs, a guard that fired, or a signal (`low_` below .5)."""
    signal = name.removeprefix("low_").removeprefix(SIGNAL)
    fired, signals = [set(names.split(",")) - {""} for names in frame["guards"]], signals_of(frame)
    if name in ("thumbs_down", "thumbs_up"):
        thumbs = numbers_of(frame, "signals.thumbs")
        return thumbs <= 0 if name == "thumbs_down" else thumbs > 0
    if signal in signals:
        values = numbers_of(frame, f"{SIGNAL}{signal}")
        return values < _LOW if name.startswith("low_") else values > 0
    guards = set().union(*fired)
    if name in guards:
        return np.array([name in names for names in fired])
    if name in STATUSES:
        return np.asarray(frame["status"] == name)
    known = ("thumbs_down", "thumbs_up", *STATUSES, *sorted(guards), *signals, *(f"low_{name}" for name in signals))
    raise ValueError(f"more_of names {name!r}, must be one of {', '.join(known)}")


def _groups(
    traces: Sequence[Trace], golden: GoldenSet | None, bundles: Iterable[Bundle]
) -> tuple[list[list[int]], dict[str, int]]:
    """Rows of requests that ask the same but for case, spacing and punctuation; and why others cannot be drawn."""
    known = {signature(case.inputs) for case in golden or ()}
    shown = {signature(example.inputs) for bundle in bundles for example in bundle.prompt.examples}
    left_out = {"asked in the golden set already": 0, "an example of a prompt": 0, "no inputs were recorded": 0}
    groups: dict[str, list[int]] = {}
    for row, trace in enumerate(traces):
        question_key = signature(trace.inputs)
        if not trace.inputs:
            left_out["no inputs were recorded"] += 1
        elif question_key in known:
            left_out["asked in the golden set already"] += 1
        elif question_key in shown:
            left_out["an example of a prompt"] += 1
        else:
            groups.setdefault(question_key, []).append(row)
    return list(groups.values()), left_out


def _nothing(left_out: Mapping[str, int]) -> str:
    return "no request is left to draw from: " + ", ".join(f"{n:,} {why}" for why, n in left_out.items())


def _drawn(groups: list[list[int]], factors: FloatArray, *, n: int, rng: np.random.Generator) -> dict[int, float]:
    """Row -> its probability, for those drawn: one of each group at most, in proportion to its factor.

    Poisson sampling (Särndal, Swensson and Wretman 1992, 3.5): each group by itself, with a probability in proportion
    to the sum of its factors, at most 1, and n in expectation. So 1 / probability weighs a request (Horvitz and
    Thompson 1952).
    """
    sizes = np.array([factors[rows].sum() for rows in groups])
    probabilities = inclusion_probabilities(sizes, n=n)
    drawn = np.flatnonzero(rng.random(len(groups)) < probabilities)
    inclusion: dict[int, float] = {}
    for group in drawn:
        shares = factors[groups[group]] / sizes[group]
        place = int(rng.choice(len(shares), p=shares))
        inclusion[groups[group][place]] = float(probabilities[group] * shares[place])
    return inclusion


def inclusion_probabilities(sizes: FloatArray, *, n: int) -> FloatArray:
    """Probabilities in proportion to the sizes, at most 1, that add up to n (to all of them where n is more).

    >>> inclusion_probabilities(np.array([10.0, 1.0, 1.0]), n=2)
    array([1. , 0.5, 0.5])
    """
    certain = np.zeros(sizes.size, dtype=bool)
    while True:
        rest, open_ = n - certain.sum(), ~certain
        if rest >= open_.sum():
            return np.ones(sizes.size)
        scaled = np.where(certain, 1.0, rest * sizes / sizes[open_].sum())
        if not (over := open_ & (scaled >= 1)).any():
            return np.asarray(scaled)
        certain |= over
