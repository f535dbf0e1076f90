"""Is a candidate better than the baseline: paired differences per metric and category, with what they mean.

Reads score tables alone, so that answers of a run and other tools' scores are judged by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmlab.display import Chip, Interval, Shown
from llmlab.errors import GateError
from llmlab.scoretable import Metric, ScoreTable
from llmlab.stats.multiple import holm
from llmlab.stats.paired import PairedDifference, mean_difference, non_inferiority
from llmlab.stats.standard_error import t_quantile

__all__ = ["Comparison", "PairedRow", "Verdict", "compare_tables"]

POWER = 0.8
ESTIMAND = "mean difference per case, over cases drawn like these"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairedRow(Shown):
    """One metric of one candidate against the baseline, over all cases or those of one category.

    Attributes:
        metric, baseline, candidate, category: what is compared; category None = all cases.
        difference: candidate minus baseline, None where fewer than two pairs (or clusters) are scored.
        p_adjusted: Holm over the rows of the same family (all-case rows, or the rows by category).
        n_pairs, n_attempted: cases scored in both arms, and cases tried.
        scored, attempted: rows per arm (baseline, candidate), repeats counted.
        detectable: the smallest true difference these cases would show with 80% power.
        margin, verdict: the tolerated harm, and PASS, FAIL or INCONCLUSIVE by the non-inferior rule.
        needed_cases: about how many cases would settle the margin with 80% power, None where settled.
        notes: what a reader must know about missing rows and few clusters.
    """

    metric: Metric
    baseline: str
    candidate: str
    category: str | None
    difference: PairedDifference | None
    p_adjusted: float | None
    n_pairs: int
    n_attempted: int
    scored: tuple[int, int]
    attempted: tuple[int, int]
    detectable: float | None = None
    margin: float | None = None
    verdict: str | None = None
    needed_cases: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What the row means, for somebody who does not read p values."""
        from llmlab.sentences import paired_sentence

        return paired_sentence(self)

    def record(self) -> dict[str, Any]:
        """The row as plain JSON values, in the words of `llmlab compare --json`."""
        d = self.difference
        return {
            "metric": self.metric.name,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "category": self.category,
            "difference": None if d is None else d.value,
            "se": None if d is None else d.se,
            "df": None if d is None else d.df,
            "ci": None if d is None else [d.low, d.high],
            "p_value": None if d is None else d.p_value,
            "p_adjusted": self.p_adjusted,
            "n_pairs": self.n_pairs,
            "n_clusters": 0 if d is None else d.n_clusters,
            "method": "too few pairs" if d is None else d.method,
            "verdict": self.verdict,
        }

    def _rows(self) -> list[dict[str, object]]:
        d, row = self.difference, {"metric": self.metric.name, "candidate": self.candidate}
        if self.category is not None:
            row["category"] = self.category
        numbers: dict[str, object] = {
            "difference [95% CI]" if d is None else f"difference [{d.level:.0%} CI]": None
            if d is None
            else Interval(d.value, d.low, d.high),
            "p": None if d is None else _p(d.p_value),
            "p (Holm)": None if self.p_adjusted is None else _p(self.p_adjusted),
            "reading": self._chip(),
            "cases": self.n_pairs,
            "clusters": None if d is None else d.n_clusters,
            "df": None if d is None else Interval(round(d.df, 1)),
            "scored/attempted": f"{self.scored[0]}/{self.attempted[0]} | {self.scored[1]}/{self.attempted[1]}",
            "would show (80% power)": None if self.detectable is None else Interval(self.detectable),
        }
        return [{**row, **numbers}]

    @property
    def reading(self) -> str:
        """The row in a word or two: better, worse, not enough evidence, too few cases."""
        if self.difference is None:
            return "too few cases"
        if self.p_adjusted is None or self.p_adjusted >= 1 - self.difference.level:
            return "not enough evidence"
        return "better" if (self.difference.value > 0) == self.metric.higher_is_better else "worse"

    def _chip(self) -> Chip:
        word = self.verdict or self.reading
        return Chip(word, _KINDS.get(word, "unsure"))

    def _sentence(self) -> str:
        return " ".join([self.sentence, *self.notes])


_KINDS = {"PASS": "good", "better": "good", "FAIL": "bad", "worse": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Verdict(Shown):
    """How a notebook ends: PASS, FAIL or INCONCLUSIVE, and why in one sentence."""

    word: str
    sentence: str

    def require(self, how: str) -> Verdict:
        """This verdict; with `how` "pass" a GateError unless it is PASS, which sets the exit code of `llmlab run`."""
        if how not in ("none", "pass"):
            raise ValueError(f"require == {how!r}, must be 'none' or 'pass'")
        if how == "pass" and self.word != "PASS":
            raise GateError(f"{self.word}: {self.sentence}", decision=self)
        return self

    def _rows(self) -> list[dict[str, object]]:
        return [{"verdict": Chip(self.word, _KINDS.get(self.word, "unsure")), "because": self.sentence}]


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """Candidates against one baseline: a row per metric and candidate, and per category when asked for."""

    rows: tuple[PairedRow, ...]
    baseline: str
    golden_digest: str = ""
    age: str = ""
    notes: tuple[str, ...] = ()

    def row(self, metric: str, candidate: str | None = None, category: str | None = None) -> PairedRow:
        """The row of a metric, candidate (the only one by default) and category; ValueError where there is none."""
        found = [
            row
            for row in self.rows
            if row.metric.name == metric and row.category == category and candidate in (None, row.candidate)
        ]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows for {metric!r}, {candidate!r}, {category!r}; name one")
        return found[0]

    def verdict(self, metric: str) -> Verdict:
        """PASS where a candidate is better on this metric, FAIL where all are worse, else INCONCLUSIVE."""
        rows = [row for row in self.rows if row.metric.name == metric and row.category is None]
        readings = [row.reading for row in rows]
        better = [row for row in rows if row.reading == "better"]
        if better:
            best = max(better, key=lambda row: abs(row.difference.value) if row.difference else 0.0)
            return Verdict(word="PASS", sentence=best.sentence)
        if rows and all(reading == "worse" for reading in readings):
            return Verdict(word="FAIL", sentence=f"Every candidate is worse than {self.baseline} on {metric}.")
        sentence = (
            f"Not enough evidence that any of {len(rows)} candidate(s) is better than {self.baseline} on {metric}."
        )
        return Verdict(word="INCONCLUSIVE", sentence=sentence)

    def records(self) -> list[dict[str, Any]]:
        """Every row as plain JSON values."""
        return [row.record() for row in self.rows]

    def __iter__(self) -> Iterator[PairedRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> list[dict[str, object]]:
        return [line for row in self.rows for line in row._rows()]

    def _sentence(self) -> str:
        if not self.rows:
            return "Nothing to compare: there is no other variant."
        about = f"Baseline {self.baseline}; {ESTIMAND}; p adjusted by Holm over {len(self.rows)} row(s)."
        source = f" Golden set {self.golden_digest[:8]}, run {self.age}." if self.golden_digest else ""
        sentences = [row.sentence for row in self.rows[:6]]
        warnings = list(dict.fromkeys(note for row in self.rows for note in row.notes))[:4]
        return "\n".join([*sentences, *warnings, *self.notes, about + source])


def compare_tables(
    tables: Sequence[ScoreTable],
    baseline: str,
    *,
    candidates: Sequence[str] | None = None,
    by_tag: bool = False,
    margin: float | None = None,
    level: float = 0.95,
) -> tuple[PairedRow, ...]:
    """A row per table (metric) and candidate; with `by_tag` one per tag too, adjusted as a family of their own."""
    if margin is not None and margin <= 0:
        raise ValueError(f"margin == {margin}, must be > 0")
    whole, parts = [], []
    for table in tables:
        base = table.column(baseline)
        others = [name for name in table.variants if name != baseline] if candidates is None else candidates
        for name in others:
            arm = table.column(name)
            if arm == base:
                raise ValueError(f"{name!r} is the baseline itself")
            whole.append(_row(table, base, arm, category=None, margin=margin, level=level))
            if by_tag:
                tags = dict.fromkeys(tag for tags in table.tags for tag in tags)
                parts += [_row(table, base, arm, category=tag, margin=margin, level=level) for tag in tags]
    return (*_holm_adjusted(whole, 1 - level), *_holm_adjusted(parts, 1 - level))


def _row(
    table: ScoreTable, base: int, arm: int, *, category: str | None, margin: float | None, level: float
) -> PairedRow:
    chosen = np.ones(len(table.case_ids), dtype=bool) if category is None else table.rows_with(category)
    a, b = table.values[chosen, base], table.values[chosen, arm]
    paired = ~(np.isnan(a) | np.isnan(b))
    clusters = table.clusters[chosen][paired] if table.clustered else None
    enough = paired.sum() >= 2 and (clusters is None or np.unique(clusters).size >= 2)
    difference = mean_difference(b[paired] - a[paired], clusters, level=level) if enough else None
    row = PairedRow(
        metric=table.metric,
        baseline=table.variants[base],
        candidate=table.variants[arm],
        category=category,
        difference=difference,
        p_adjusted=None if difference is None else difference.p_value,
        n_pairs=int(paired.sum()),
        n_attempted=int(chosen.sum()),
        scored=(int(table.scored[chosen, base].sum()), int(table.scored[chosen, arm].sum())),
        attempted=(int(table.attempted[chosen, base].sum()), int(table.attempted[chosen, arm].sum())),
        notes=_notes(table, a, b, difference, (table.variants[base], table.variants[arm])),
    )
    return row if difference is None else _judged(row, difference, margin=margin, level=level)


def _judged(row: PairedRow, difference: PairedDifference, *, margin: float | None, level: float) -> PairedRow:
    quantiles = t_quantile(0.5 + level / 2, difference.df) + t_quantile(POWER, difference.df)
    row = replace(row, detectable=quantiles * difference.se)
    if margin is None:
        return row
    good = difference if row.metric.higher_is_better else _turned(difference)
    test = non_inferiority(good, margin=margin, confidence=level)
    verdict = "PASS" if test.shown else "FAIL" if test.harm_shown else "INCONCLUSIVE"
    if verdict != "INCONCLUSIVE":
        return replace(row, margin=margin, verdict=verdict)
    needed = (
        row.n_pairs
        * ((t_quantile(level, difference.df) + t_quantile(POWER, difference.df)) * difference.se / margin) ** 2
    )
    return replace(row, margin=margin, verdict=verdict, needed_cases=math.ceil(needed))


def _turned(difference: PairedDifference) -> PairedDifference:
    """The difference with its sign turned, so that higher is better."""
    return replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)


def _holm_adjusted(rows: Sequence[PairedRow], alpha: float) -> list[PairedRow]:
    tested = [row for row in rows if row.p_adjusted is not None]
    if not tested:
        return list(rows)
    adjusted = iter(holm([row.p_adjusted or 0.0 for row in tested], alpha=alpha).p_adjusted)
    return [row if row.p_adjusted is None else replace(row, p_adjusted=next(adjusted)) for row in rows]


def _notes(
    table: ScoreTable, a: Any, b: Any, difference: PairedDifference | None, names: tuple[str, str]
) -> tuple[str, ...]:
    notes = () if difference is None else difference.notes
    lost = [int(np.isnan(arm).sum()) for arm in (a, b)]
    if not any(lost):
        return notes
    uneven = " The arms lose different cases, so what is left is no random part." if lost[0] != lost[1] else ""
    left_out = int((np.isnan(a) | np.isnan(b)).sum())
    return (
        *notes,
        f"{table.metric.name}: {left_out} of {len(a)} cases are left out, unscored in "
        f"{names[0]} ({lost[0]}) or {names[1]} ({lost[1]}).{uneven}",
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
