"""The tries of one sitting at a prompt: each kept, each beside the baseline, with a way back and forth.

A try is a look at the golden set: a candidate chosen among many pays for all of them at the gate. Used by the
Playground, which has no logic of its own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmlab.base.cells import Chip, plain
from llmlab.base.numbers import Interval, counted, number
from llmlab.bundle.bundle import Bundle
from llmlab.display.html import Html, html_diff, html_note
from llmlab.display.page import html_of
from llmlab.display.shown import Shown
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.runs import run_by
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import shown_in
from llmlab.results.results import Results
from llmlab.scorers.base import ScoreFunction, Scorer

_BECAME = {"better": "good", "worse": "bad"}
# What an answer takes, with what is too little to be worth a column; what is unknown or free has none.
SPENT = (("output_tokens", "tokens out", 0.0), ("cost_usd", "USD", 1e-9), ("latency_s", "latency (s)", 0.01))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SideBySide(Shown):
    """One case: what the baseline said, and what a try said (their first repeat).

    Attributes:
        names: of the baseline and the try.
        rows: the rows of the results' frame, None where no answer arrived.
        metrics: the scorers' names, the first one decides `became`.
        became: better, worse, same or unknown.
    """

    case: Case
    names: tuple[str, str]
    rows: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
    metrics: tuple[str, ...]
    became: str

    @property
    def texts(self) -> tuple[str, str]:
        """Both answers; "" where there is none."""
        before, after = (shown_in(row) if row is not None else "" for row in self.rows)
        return before, after

    @property
    def problem(self) -> str:
        """Why there is no answer to compare (it is then not shown beside the other), "" where there are two."""
        for name, row in zip(self.names, self.rows, strict=True):
            if row is None:
                return f"{name}: no answer arrived before the run was stopped"
            if row["status"] in ("error", "timeout"):
                return f"{name}: {row['status']}: {row['error']}"
        return ""

    def figures(self, side: int) -> str:
        """Scores, tokens, cost and latency of one side, in a line."""
        row = self.rows[side]
        if row is None:
            return self.names[side]
        scores = [f"{metric} {number(row.get(metric))}" for metric in self.metrics]
        spent = [f"{number(row['output_tokens'])} tokens out"]
        spent += [f"${number(row['cost_usd'])}"] if row["cost_usd"] > 0 else []  # NaN = unknown
        spent += [f"{row['latency_s']:.1f} s"] if row["latency_s"] >= 0.05 else []
        return f"{self.names[side]}: {', '.join([*scores, *spent])}"

    def _rows(self) -> list[dict[str, object]]:
        kind = _BECAME.get(self.became, "neutral")
        texts = dict(zip(self.names, self.texts, strict=True))
        return [{"case": self.case.id, "became": Chip(self.became, kind), **texts}]

    def _sentence(self) -> str:
        facts = ", ".join(self.case.reference_lines)
        return f"{self.case.id}: {self.case.asked}{f' (expected: {facts})' if facts else ''}"

    def _repr_html_(self) -> Html:
        if self.problem:
            return html_of(html_note(self._sentence(), chip=Chip("no answer", "bad")), html_note(self.problem))
        head = html_note(self._sentence(), chip=Chip(self.became, _BECAME.get(self.became, "neutral")))
        before, after = self.texts
        return html_of(head, html_diff(before, after, before_name=self.figures(0), after_name=self.figures(1)))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Try(Shown):
    """One bundle tried on a sample, with the baseline's answers to the same cases.

    Attributes:
        number: 1 for the first.
        baseline: the baseline's name in `results`; the try's own is `name`.
        changes: fields in which it differs from the baseline.
    """

    number: int
    bundle: Bundle
    results: Results
    baseline: str
    changes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its variant in the results."""
        return f"try {self.number}"

    @property
    def title(self) -> str:
        """Its name and what it changes."""
        return f"{self.name}: {_short(self.changes)}"

    def side_by_side(self) -> tuple[SideBySide, ...]:
        """Each case of the sample: the worse ones first, then the better ones, then the others."""
        rows = self.results.rows_of()
        metrics = tuple(self.results.metrics)
        names, pairs = (self.baseline, self.name), list[SideBySide]()
        for case in self.results.golden or ():
            both = rows.get((self.baseline, case.id)), rows.get((self.name, case.id))
            pairs.append(SideBySide(case=case, names=names, rows=both, metrics=metrics, became=self._became(*both)))
        order = ["worse", "better", "unknown", "same"]
        return tuple(sorted(pairs, key=lambda pair: (order.index(pair.became), pair.texts[0] == pair.texts[1])))

    def _became(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
        if not self.results.metrics or before is None or after is None:
            return "unknown"
        metric = next(iter(self.results.metrics.values()))
        change = float(after[metric.name]) - float(before[metric.name])
        if np.isnan(change):
            return "unknown"
        change = change if metric.higher_is_better else -change
        return "better" if change > 0 else "worse" if change < 0 else "same"

    @property
    def outcome(self) -> str:
        """How many cases became better and worse, in a sentence."""
        became = [pair.became for pair in self.side_by_side()]
        counts = {word: became.count(word) for word in ("better", "worse", "same", "unknown")}
        listed = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return f"{self.name} against {self.baseline}: {listed} of {counted(len(became), 'case')}."

    def _rows(self) -> list[dict[str, object]]:
        became = [pair.became for pair in self.side_by_side()]
        better = f"{became.count('better')}, {became.count('worse')}"
        return [self._row(self.name, title=str(self.number), changes=_short(self.changes), better=better)]

    def baseline_row(self) -> dict[str, object]:
        """What the baseline did on the cases of this try."""
        return self._row(self.baseline, title=self.baseline, changes=f"on the cases of {self.name}", better="")

    def _row(self, variant: str, *, title: str, changes: str, better: str) -> dict[str, object]:
        summary = self.results.summary()
        row: dict[str, object] = {"try": title, "changes": changes}
        if self.results.state != "complete":
            row["state"] = Chip(self.results.state, "bad" if self.results.failed else "unsure")
        row["cases"] = len(self.results.golden or ())
        for metric in self.results.metrics:
            mean = summary.estimate(variant, metric)
            row[metric] = None if self.results.failed else mean.interval()
        if self.results.metrics:
            row["better, worse"] = better
        for metric, heading, least in SPENT:
            value = summary.estimate(variant, metric).value
            row |= {heading: Interval(value)} if value is not None and value >= least else {}
        return row

    def _sentence(self) -> str:
        return " ".join(plain(note, None) for note in self.results.notes)

    def _repr_html_(self) -> Html:
        lost, same, shown = dict[str, list[str]](), list[str](), list[SideBySide]()
        for pair in self.side_by_side():
            if pair.problem:
                lost.setdefault(pair.problem, []).append(pair.case.id)
            elif pair.texts[0] == pair.texts[1]:
                same.append(pair.case.id)
            else:
                shown.append(pair)
        chip = Chip("no answer", "bad")
        failures = [html_note(f"{problem} ({', '.join(ids)})", chip=chip) for problem, ids in lost.items()]
        who = f"{self.name} and {self.baseline}"
        alike = f"{who} answer {counted(len(same), 'case')} word for word alike: {', '.join(same)}."
        return html_of(*failures, *shown, *([alike] if same else []))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tries(Shown):
    """A baseline and what was tried instead of it, every try kept; undo and redo move `at` along them.

    Attributes:
        baseline: the bundle that one started from, and its name.
        golden: the set that samples are drawn from.
        done: the tries, oldest first.
        at: number of the try that is shown, 0 = the baseline as it was.
    """

    baseline: Bundle
    name: str
    golden: GoldenSet
    done: tuple[Try, ...] = ()
    at: int = 0

    @property
    def shown(self) -> Try | None:
        """The try one is at, None at the baseline."""
        return self.done[self.at - 1] if self.at else None

    @property
    def bundle(self) -> Bundle:
        """The bundle one is at."""
        return self.shown.bundle if self.shown is not None else self.baseline

    @property
    def candidates(self) -> frozenset[str]:
        """Digests of the bundles that showed an answer and are not the baseline: what a gate has to count."""
        answered = (tried for tried in self.done if tried.results.n_answers(tried.name) and not tried.results.failed)
        return frozenset({tried.bundle.digest for tried in answered} - {self.baseline.digest})

    def undo(self) -> Tries:
        """One try back; the baseline stays."""
        return self.go(max(0, self.at - 1))

    def redo(self) -> Tries:
        """One try forth; the last one stays."""
        return self.go(min(len(self.done), self.at + 1))

    def go(self, number: int) -> Tries:
        """At the try with this number; 0 is the baseline."""
        if not 0 <= number <= len(self.done):
            raise ValueError(f"number == {number}, must be from 0 to {len(self.done)}")
        return replace(self, at=number)

    def by(self, metric: str) -> Tries:
        """The same tries, of which this metric says whether an answer became better or worse."""
        reordered = []
        for earlier in self.done:
            metrics = earlier.results.metrics
            first = {metric: metrics[metric]} if metric in metrics else {}
            reordered.append(replace(earlier, results=replace(earlier.results, metrics={**first, **metrics})))
        return replace(self, done=tuple(reordered))

    def _rows(self) -> list[dict[str, object]]:
        base = [(self.shown or self.done[-1]).baseline_row()] if self.done else []
        rows = [
            {**row, "try": f"{'▸ ' if tried is self.shown else ''}{row['try']}"}
            for tried in self.done
            for row in tried._rows()
        ]
        return [*base, *rows]

    def _sentence(self) -> str:
        if not self.done:
            return "Nothing was tried yet."
        k = len(self.candidates)
        price = (
            f"{counted(k, 'candidate')} tried on this golden set. Whichever is saved carries that number, and its gate "
            f"counts each as a look: the more you try, the more it has to show."
            if k > 1
            else "A candidate chosen among several pays for all of them at its gate: save what you mean to keep."
        )
        notes = self.shown._sentence() if self.shown else ""
        return f"{notes}\n{price}" if notes else price

    def _repr_html_(self) -> Html:
        table = Html(Shown._repr_html_(self))
        return html_of(table, self.shown) if self.shown is not None else table


def try_out(
    tries: Tries,
    bundle: Bundle,
    *,
    sample: GoldenSet,
    setup: CallSetup,
    scorers: Sequence[Scorer | ScoreFunction] = (),
) -> Tries:
    """The tries with one more, which is then shown: bundle and baseline run over the sample, what is stored for free.

    A run that was stopped before the first answer arrived leaves the tries as they were. Raises what `run` raises.
    """
    number = len(tries.done) + 1
    name = f"try {number}"
    results = run_by(setup, {tries.name: tries.baseline, name: bundle}, sample, scorers=scorers)
    stopped = setup.stop is not None and setup.stop.is_set()
    lost = sum(results.n_answers(name, status=status) for status in ("error", "timeout")) if stopped else 0
    if results.n_answers(name) == lost:  # what was cut off in the middle is nobody's answer
        return tries
    changes = tuple(field for field, _, _ in tries.baseline.diff(bundle).changes)
    latest = Try(number=number, bundle=bundle, results=results, baseline=tries.name, changes=changes)
    return replace(tries, done=(*tries.done, latest), at=number)


def sample_cases(golden: GoldenSet, size: int, *, seed: int = 0, tag: str | None = None) -> GoldenSet:
    """So many cases drawn at random (of those with a tag, if one is given), in the set's own order; at most all.

    >>> golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": "Why?"}) for i in range(9)))
    >>> [case.id for case in sample_cases(golden, 3, seed=1)]
    ['q1', 'q2', 'q8']
    """
    if size < 1:
        raise ValueError(f"size == {size}, must be >= 1")
    ids = [case.id for case in golden if tag is None or tag in case.tags]
    if not ids:
        raise ValueError(f"no case has the tag {tag!r} (there are: {', '.join(golden.tags)})")
    return golden.only(ids=random.Random(seed).sample(ids, min(size, len(ids))))


def failing_cases(results: Results, *, bundle: Bundle | None = None) -> tuple[str, ...]:
    """Cases whose first metric is on the bad side of its middle, for this bundle where the results have it."""
    if not results.metrics:
        raise ValueError("these results have no scorer, so no case is known to fail")
    table = results.table(next(iter(results.metrics)))
    metric = table.metric
    if metric.low is None or metric.high is None:
        raise ValueError(f"{metric.name} has no bounds, so no case of it fails; put a bounded scorer first")
    columns = [i for i, name in enumerate(table.variants) if bundle and results.bundles[name].digest == bundle.digest]
    values = table.values[:, columns] if columns else table.values
    has_value = ~np.isnan(values).all(axis=1)
    means = np.full(len(values), np.nan)
    means[has_value] = np.nanmean(values[has_value], axis=1)
    middle = (metric.low + metric.high) / 2
    fails = means < middle if metric.higher_is_better else means > middle
    return tuple(case_id for case_id, failing in zip(table.case_ids, fails, strict=True) if failing)


def _short(changes: Sequence[str]) -> str:
    whole = "sampling.response_format"  # one thing, whatever keys of it changed
    names = (whole if field.startswith(whole) else field for field in changes)
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names)) or "no change"
