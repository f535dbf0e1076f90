"""Is a candidate better than the baseline: paired differences per metric and category, with what they mean.

Reads score tables alone, so that answers of a run and other tools' scores are judged by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.base.display import Chip, Interval, Shown, frame
from llmlab.base.numbers import p_text
from llmlab.base.verdict import Conclusion, Verdict
from llmlab.results.margins import UNSCORED_AT_MOST, judged, margins_of
from llmlab.results.scores import Metric, ScoreTable, above_share
from llmlab.results.wording import comparison_lines, missing_notes, paired_sentence
from llmlab.stats.arrays import paired_differences
from llmlab.stats.burdens import holm
from llmlab.stats.paired import PairedDifference, mean_difference, tipping_point
from llmlab.stats.power import would_show

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Comparison", "PairedRow", "Tipping", "compare_tables", "tipping_of"]

_KINDS = {"better": "good", "worse": "bad"}


class Tipping(NamedTuple):
    """What the unscored answers of an arm would have to be, on average, for a claim to fall: above or below a value."""

    arm: str
    answers: int
    above: bool
    value: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairedRow(Shown):
    """One metric of one candidate against the baseline, over all cases or those of one category.

    Attributes:
        metric, baseline, candidate, category: what is compared; category None = all cases.
        difference: candidate minus baseline, None where fewer than two pairs (or clusters) are scored.
        lowest, highest: the same, had every unscored answer been as low, or as high, for the candidate as it can have
            been; None where nothing is unscored.
        assumed: whether some of them have no bound, and the worst score seen in either arm stands for theirs.
        tipping: what unscored answers that no bound of the metric's holds up would have to be for the claim to fall.
        p_adjusted: Holm over the rows of the same family (all-case rows, or the rows by category).
        p_at_worst: the same with the unscored answers at their worst for what the scored pairs show.
        n_pairs, n_attempted: cases scored in both arms, and cases tried.
        n_clusters: clusters that the pairs come in.
        scored, attempted: answers per arm (baseline, candidate), repeats counted.
        level: of the interval; 1 - level is what the adjusted p is held against.
        detectable: the smallest true difference these cases would show with 80% power, Holm's family included; None
            where nothing varies or clusters are too few.
        margin, verdict: the tolerated harm, and PASS, FAIL or INCONCLUSIVE by the non-inferior rule.
        repeats, noise: how often a case was asked, and the share of the variance that is noise between repeats, which
            more of them would take away; None = not known.
        needed_cases: about how many cases would settle the margin with 80% power if nothing differs, None where
            settled.
        needed_with_repeats: how many repeats instead of how many, and the cases needed then; None where that saves
            little, or cannot be told.
        notes: what a reader must know about missing rows and few clusters.
    """

    metric: Metric
    baseline: str
    candidate: str
    category: str | None
    difference: PairedDifference | None
    lowest: PairedDifference | None = None
    highest: PairedDifference | None = None
    assumed: bool = False
    tipping: Tipping | None = None
    p_adjusted: float | None
    p_at_worst: float | None = None
    n_pairs: int
    n_attempted: int
    n_clusters: int
    scored: tuple[int, int]
    attempted: tuple[int, int]
    level: float = 0.95
    detectable: float | None = None
    margin: float | None = None
    verdict: Verdict | None = None
    repeats: float | None = None
    noise: float | None = None
    needed_cases: int | None = None
    needed_with_repeats: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def unscored(self) -> int:
        """Answers of both arms that have no score; a case that an arm never tried counts as one."""
        return sum(self.attempted) - sum(self.scored)

    @property
    def significant(self) -> bool:
        """Whether the scored pairs differ by more than noise: adjusted p <= 1 - level, and enough clusters."""
        d, p = self.difference, self.p_adjusted
        return d is not None and p is not None and p <= 1 - self.level and not d.too_few_clusters

    @property
    def undone(self) -> bool:
        """Whether the unscored answers could undo a significant difference."""
        if not self.significant or not self.unscored:
            return False
        return self.too_many_unscored or self.p_at_worst is None or self.p_at_worst > 1 - self.level

    @property
    def too_many_unscored(self) -> bool:
        """Whether an arm lacks more scores than may be assumed to be no worse than the worst seen."""
        arms = zip(self.scored, self.attempted, strict=True)
        return self.assumed and any(above_share(tried - n, tried, UNSCORED_AT_MOST) for n, tried in arms)

    @property
    def at_worst(self) -> PairedDifference | None:
        """The difference with the unscored answers at their worst for what the scored pairs show; None without any."""
        return None if self.difference is None else self.lowest if self.difference.value > 0 else self.highest

    @property
    def reading(self) -> str:
        """The row in a word or two: better, worse, not enough evidence, too few cases."""
        if self.difference is None:
            return "too few cases"
        if not self.significant or self.undone:
            return "not enough evidence"
        return "better" if (self.difference.value > 0) == self.metric.higher_is_better else "worse"

    @property
    def sentence(self) -> str:
        """What the row means, for somebody who does not read p values."""
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
            "n_clusters": self.n_clusters,
            "method": "too few pairs or clusters" if d is None else d.method,
            "verdict": self.verdict,
            "ci_at_worst": None if self.at_worst is None else [self.at_worst.low, self.at_worst.high],
            "p_at_worst": self.p_at_worst,
        }

    def _rows(self) -> list[dict[str, object]]:
        d = self.difference
        row: dict[str, object] = {"metric": self.metric.name, "candidate": self.candidate}
        if self.category is not None:
            row["category"] = self.category
        row[f"difference [{self.level:.0%} CI]"] = None if d is None else Interval(d.value, d.low, d.high)
        row["p (Holm)"] = p_text(self.p_adjusted)
        if self.verdict is None:
            row["reading"] = Chip(self.reading, _KINDS.get(self.reading, "unsure"))
        else:
            row["verdict"] = self.verdict.chip
        if self.undone and (worst := self.at_worst) is not None:
            row["with unscored at worst"] = Interval(worst.value, worst.low, worst.high)
        row["cases"] = f"{self.n_pairs:,}/{self.n_attempted:,}"
        if self.n_clusters != self.n_pairs:
            row["clusters"] = self.n_clusters
        if self.unscored:
            row["unscored"] = " | ".join(
                f"{attempted - scored:,}/{attempted:,}"
                for scored, attempted in zip(self.scored, self.attempted, strict=True)
            )
        row["would show (80% power)"] = None if self.detectable is None else Interval(float(f"{self.detectable:.2g}"))
        return [row]

    def _columns(self) -> dict[str, object]:
        """Everything as numbers, for `to_frame`."""
        record = self.record()
        low, high = record.pop("ci") or (None, None)
        low_at_worst, high_at_worst = record.pop("ci_at_worst") or (None, None)
        arms = zip(("baseline", "candidate"), self.scored, self.attempted, strict=True)
        counts = {
            f"{what}_{arm}": n for arm, *pair in arms for what, n in zip(("scored", "attempted"), pair, strict=True)
        }
        more = ("detectable", "needed_cases", "reading", "n_attempted", "sentence")
        ends = {"low": low, "high": high, "low_at_worst": low_at_worst, "high_at_worst": high_at_worst}
        return {**record, **ends, **counts, **{name: getattr(self, name) for name in more}}

    def _sentence(self) -> str:
        return " ".join([self.sentence, *self.notes])


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """Candidates against one baseline: a row per metric and candidate, and per category when asked for.

    It shows what is needed to read it; `to_frame()` has every number of every row.
    """

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
            there = ", ".join(dict.fromkeys(f"{row.metric.name}/{row.candidate}" for row in self.rows[:20]))
            asked = f"metric {metric!r}, candidate {candidate!r}, category {category!r}"
            raise ValueError(f"{len(found)} rows for {asked}, must be one (metric/candidate there are: {there})")
        return found[0]

    def verdict(self, metric: str) -> Conclusion:
        """PASS where a candidate is better on this metric, FAIL where all are worse, else INCONCLUSIVE."""
        rows = [row for row in self.rows if row.metric.name == metric and row.category is None]
        if not self.rows:
            return Conclusion(word=Verdict.INCONCLUSIVE, sentence="Nothing to compare: there is no other variant.")
        if not rows:
            known = ", ".join(dict.fromkeys(row.metric.name for row in self.rows))
            raise ValueError(f"no row for a metric {metric!r} in this comparison (there are: {known})")
        better = [row for row in rows if row.reading == "better"]
        if better:
            best = max(better, key=lambda row: abs(row.difference.value) if row.difference else 0.0)
            return Conclusion(word=Verdict.PASS, sentence=best.sentence)
        if len(rows) == 1:
            return Conclusion(
                word=Verdict.FAIL if rows[0].reading == "worse" else Verdict.INCONCLUSIVE, sentence=rows[0].sentence
            )
        if all(row.reading == "worse" for row in rows):
            return Conclusion(word=Verdict.FAIL, sentence=f"Every candidate is worse than {self.baseline} on {metric}.")
        sentence = f"Not enough evidence that any of {len(rows)} candidates is better than {self.baseline} on {metric}."
        return Conclusion(word=Verdict.INCONCLUSIVE, sentence=sentence)

    def records(self) -> list[dict[str, Any]]:
        """Every row as plain JSON values."""
        return [row.record() for row in self.rows]

    def to_frame(self) -> pd.DataFrame:
        """Every row with all its numbers: interval, se, df, p values, cases, clusters, answers per arm, sentence."""
        return frame([row._columns() for row in self.rows])

    def lines(self) -> tuple[str, ...]:
        """What it means, a sentence a line."""
        return comparison_lines(self)

    def __iter__(self) -> Iterator[PairedRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> list[dict[str, object]]:
        lines = [line for row in self.rows for line in row._rows()]
        if len({row.metric.name for row in self.rows}) == 1:  # named in every sentence; the room is better used
            lines = [{key: value for key, value in line.items() if key != "metric"} for line in lines]
        order = list(dict.fromkeys(key for line in lines for key in line))
        order.sort(key=lambda key: _PLACES.get(key, _PLACES[""]))
        return [{key: line.get(key, "all" if key == "category" else None) for key in order} for line in lines]

    def _sentence(self) -> str:
        return "\n".join(self.lines())


_ORDER = ("metric", "candidate", "category", "", "clusters", "unscored", "would show (80% power)")
_PLACES = {name: place for place, name in enumerate(_ORDER)}


def compare_tables(
    tables: Sequence[ScoreTable],
    baseline: str,
    *,
    candidates: Sequence[str] | None = None,
    by_tag: bool = False,
    margin: float | Mapping[str, float] | None = None,
    level: float = 0.95,
) -> tuple[PairedRow, ...]:
    """A row per table (metric) and candidate; with `by_tag` one per tag too, adjusted as a family of their own.

    `margin` is the harm that may be tolerated, in the metric's own unit: one number for the bounded metrics, or a
    number per metric name.
    """
    margins = margins_of(tables, margin)
    whole, parts = list[tuple[_Pairs, PairedRow]](), list[tuple[_Pairs, PairedRow]]()
    for table in tables:
        base, tolerated = table.column(baseline), margins.get(table.metric.name)
        everything = np.ones(len(table.case_ids), dtype=bool)
        categories = table.categories() if by_tag else {}
        for arm in map(table.column, _candidates(table, baseline, candidates)):
            for tag, chosen in [(None, everything), *categories.items()]:
                pairs = _Pairs(table, base, arm, chosen)
                row = judged(_row(pairs, category=tag, level=level), tolerated)
                (whole if tag is None else parts).append((pairs, row))
    return (*_as_family(whole), *_as_family(parts))


def _candidates(table: ScoreTable, baseline: str, candidates: Sequence[str] | None) -> Sequence[str]:
    if candidates is None:
        return [name for name in table.variants if name != baseline]
    if baseline in candidates:
        raise ValueError(f"{baseline!r} is the baseline itself")
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"a candidate is named twice: {', '.join(candidates)}")
    return candidates


class _Pairs(NamedTuple):
    """The cells that one row compares."""

    table: ScoreTable
    base: int
    arm: int
    chosen: NDArray[np.bool_]

    def tipping(self, row: PairedRow) -> Tipping | None:
        """What would undo what the row claims; None where it claims nothing, or it holds whatever was lost."""
        d, up = row.difference, 1.0 if row.metric.higher_is_better else -1.0
        if d is None or not (row.assumed or row.undone):
            return None
        if row.verdict in ("PASS", "FAIL"):
            sign, above = (up, -(row.margin or 0.0)) if row.verdict == "PASS" else (-up, row.margin or 0.0)
            return tipping_of(*self, sign=sign, above=above, alpha=1 - row.level)
        if row.verdict is not None or not row.significant:
            return None
        left_by_holm = d.p_value / row.p_adjusted if row.p_adjusted else 1.0
        sign = 1.0 if d.value > 0 else -1.0
        return tipping_of(*self, sign=sign, above=0.0, alpha=(1 - row.level) / 2 * left_by_holm)


def tipping_of(
    table: ScoreTable,
    base: int,
    arm: int,
    chosen: NDArray[np.bool_],
    *,
    sign: float,
    above: float,
    alpha: float,
    times: float = 1.0,
) -> Tipping | None:
    """What lost answers would have to be, on average, for "sign * (arm - times * base) is above `above`" to fall.

    Those of `arm` where it has any that no bound of the metric's holds up, the base's then at their worst; else those
    of the base. None where nothing was lost, or what was is known to lie beyond the point.
    """
    if (ends := table.pessimistic([base, arm], chosen)) is None:
        return None
    factors = (-sign * times, sign)
    taken = [ends[1 if factors[column] < 0 else 0][:, column] for column in (0, 1)]
    for column in (1, 0):
        name, factor = (base, arm)[column], factors[column]
        tried, scored = table.attempted[chosen, name].clip(min=1), table.scored[chosen, name]
        held = table.metric.low if factor > 0 else table.metric.high  # the end that hurts the claim in this arm
        if held is None and (lost := int((tried - scored).sum())):
            taken[column] = np.where(scored > 0, table.values[chosen, name], 0.0) * scored / tried
            known, slopes = factors[0] * taken[0] + factors[1] * taken[1] - above, factor * (1 - scored / tried)
            value = tipping_point(known, slopes, **table.design(chosen), alpha=alpha)
            kindest = ((ends[1 if factor > 0 else 0][:, column] - taken[column]) * tried).sum() / lost
            if value is None or factor * (kindest - value) < 0:
                return None
            return Tipping(table.variants[name], lost, factor < 0, value)
    return None


def _row(pairs: _Pairs, *, category: str | None, level: float) -> PairedRow:
    table, base, arm, chosen = pairs
    a, b = table.values[chosen, base], table.values[chosen, arm]
    tried = np.maximum(table.attempted[chosen][:, [base, arm]], 1).sum(axis=0)
    scored = table.scored[chosen][:, [base, arm]].sum(axis=0)
    paired = ~(np.isnan(a) | np.isnan(b))
    both = chosen.copy()
    both[chosen] = paired
    paired_values = paired_differences(b[paired], a[paired], scale=table.metric.span)
    difference = _difference(table, paired_values, both, level)
    lowest = highest = None
    if (ends := table.pessimistic([base, arm], chosen)) is not None:
        (low, high), span = ends, table.metric.span
        lowest = _difference(table, paired_differences(low[:, 1], high[:, 0], scale=span), chosen, level)
        highest = _difference(table, paired_differences(high[:, 1], low[:, 0], scale=span), chosen, level)
    row = PairedRow(
        metric=table.metric,
        baseline=table.variants[base],
        candidate=table.variants[arm],
        category=category,
        difference=difference,
        lowest=lowest,
        highest=highest,
        assumed=table.assumed([base, arm], chosen),
        p_adjusted=None if difference is None else difference.p_value,
        n_pairs=int(paired.sum()),
        n_attempted=int(chosen.sum()),
        n_clusters=min(1, int(paired.sum())) if difference is None else difference.n_clusters,
        scored=(int(scored[0]), int(scored[1])),
        attempted=(int(tried[0]), int(tried[1])),
        level=level,
    )
    if difference and difference.se and (found := table.repeat_noise(both, [base, arm])):
        row = replace(row, repeats=found[1], noise=min(1.0, found[0] / (difference.n * difference.se**2)))
    same_lost = bool((np.isnan(a) == np.isnan(b)).all())
    return replace(row, notes=missing_notes(row, same_cases_lost=same_lost))


def _difference(
    table: ScoreTable, values: NDArray[np.float64], chosen: NDArray[np.bool_], level: float
) -> PairedDifference | None:
    design = table.design(chosen)
    clusters = design["clusters"]
    if values.size < 2 or (clusters is not None and clusters.min() == clusters.max()):
        return None
    return mean_difference(values, **design, bounds=table.metric.change_bounds, level=level)


def _as_family(found: Sequence[tuple[_Pairs, PairedRow]]) -> list[PairedRow]:
    """Holm's p of each row, again at worst, and what it would show if it alone differed: then held to alpha / rows."""
    tested = [row for _, row in found if row.p_adjusted is not None]
    adjusted = iter(holm([row.p_adjusted or 0.0 for row in tested]))
    at_worst, made = iter(holm([_p_at_worst(row) for row in tested])), []
    for pairs, row in found:
        d, shown = row.difference, None
        if d is not None and d.se > 0 and not d.too_few_clusters:
            shown = would_show(d, tail=(1 - row.level) / 2 / len(tested))
        if row.p_adjusted is not None:
            row = replace(row, p_adjusted=next(adjusted), p_at_worst=next(at_worst))
        row = replace(row, detectable=shown)
        made.append(replace(row, tipping=pairs.tipping(row)))
    return made


def _p_at_worst(row: PairedRow) -> float:
    """The p value that is left of a difference with the unscored answers at their worst for it; 1 where it turns."""
    d, worst, p = row.difference, row.at_worst, row.p_adjusted or 0.0
    if not row.unscored or d is None:
        return p
    return 1.0 if worst is None or worst.value * d.value <= 0 or worst.too_few_clusters else max(p, worst.p_value)
