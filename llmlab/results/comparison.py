"""Is a candidate better than the baseline: paired differences per metric and category, with what they mean.

Reads score tables alone, so that answers of a run and other tools' scores are judged by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.base.cells import Chip
from llmlab.base.numbers import Interval, counted, more_cases, number, p_text, rounded_count, with_unit
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Conclusion, Shown, frame
from llmlab.results.scores import BEYOND_SEEN, Metric, above_share, scale_of, two_digits
from llmlab.results.tipping import Tipping
from llmlab.stats.paired import PairedDifference

if TYPE_CHECKING:
    import pandas as pd

_UNSCORED_AT_MOST = 0.05  # share of an arm's answers that may be judged by those seen, where nothing bounds them
_ESTIMAND = "mean difference per case, over cases drawn like these"
_SENTENCES_SHOWN = 6
_NOTES_SHOWN = 4
_KINDS = {"better": "good", "worse": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairedRow(Shown):
    """One metric of one candidate against the baseline, over all cases or those of one category.

    Attributes:
        metric, baseline, candidate, category: what is compared; category None = all cases.
        difference: candidate minus baseline, None where fewer than two pairs (or clusters) are scored.
        lowest, highest: the same, had every unscored answer been as low, or as high, for the candidate as it can have
            been; None where nothing is unscored.
        assumed: whether some of them have no bound, and are taken beyond the worst score seen in either arm.
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
        """Whether an arm lacks more scores than may be judged by those that were seen."""
        arms = zip(self.scored, self.attempted, strict=True)
        return self.assumed and any(above_share(tried - n, tried, _UNSCORED_AT_MOST) for n, tried in arms)

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
        d, place = self.difference, _place(self)
        if d is None:
            return f"{self.candidate} against {self.baseline} on {place}: {_too_few(self)}."
        if self.verdict is None and d.se == 0 and d.value == 0:
            arms = f"{self.candidate} and {self.baseline}"
            return f"No difference seen between {arms} on {place}: all {_units(self)} tie."
        difference = f"{self.candidate} {_compared(self, d)}"
        if self.verdict is not None:
            return f"{difference}: {_margin_reading(self, d)}."
        if self.undone:
            return f"{difference}, but {_undoing(self)}: not enough evidence."
        if self.significant:
            return f"{difference}, larger than case-sampling noise{_unless(self)}."
        tried = f"; p {p_text(self.p_adjusted)} with all that were tried" if d.p_value < 1 - d.level else ""
        interval = f"{d.level:.0%} CI {_ends(d, self.metric)}"
        seen = interval if d.low < d.high else f"{_size_and_side(d, self.metric)} in each of them"
        return (
            f"Not enough evidence that {self.candidate} differs from {self.baseline} on {place} "
            f"({seen}{tried}); {_what_is_missed(self, d)}."
        )

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
            arms = zip(self.scored, self.attempted, strict=True)
            row["unscored"] = " | ".join(f"{attempted - scored:,}/{attempted:,}" for scored, attempted in arms)
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
        of_metric = [row for row in self.rows if row.metric.name == metric and row.category == category]
        rows = [row for row in of_metric if candidate in (None, row.candidate)]
        if len(rows) != 1:
            there = ", ".join(dict.fromkeys(f"{row.metric.name}/{row.candidate}" for row in self.rows[:20]))
            asked = f"metric {metric!r}, candidate {candidate!r}, category {category!r}"
            raise ValueError(f"{len(rows)} rows for {asked}, must be one (metric/candidate there are: {there})")
        return rows[0]

    def verdict(self, metric: str) -> Conclusion:
        """PASS where a candidate is better on this metric, FAIL where all are worse, else INCONCLUSIVE."""
        rows = [row for row in self.rows if row.metric.name == metric and row.category is None]
        if not self.rows:
            return Conclusion(word=Verdict.INCONCLUSIVE, sentence="Nothing to compare: there is no other variant.")
        if not rows:
            known = ", ".join(dict.fromkeys(row.metric.name for row in self.rows))
            raise ValueError(f"no row for a metric {metric!r} in this comparison (there are: {known})")
        if better := [row for row in rows if row.reading == "better"]:
            best = max(better, key=lambda row: abs(row.difference.value) if row.difference else 0.0)
            return Conclusion(word=Verdict.PASS, sentence=best.sentence)
        all_worse, sentence = all(row.reading == "worse" for row in rows), rows[0].sentence
        if len(rows) > 1:
            none_better = f"Not enough evidence that any of {len(rows)} candidates is better than"
            sentence = f"{'Every candidate is worse than' if all_worse else none_better} {self.baseline} on {metric}."
        return Conclusion(word=Verdict.FAIL if all_worse else Verdict.INCONCLUSIVE, sentence=sentence)

    def records(self) -> list[dict[str, Any]]:
        """Every row as plain JSON values."""
        return [row.record() for row in self.rows]

    def to_frame(self) -> pd.DataFrame:
        """Every row with all its numbers: interval, se, df, p values, cases, clusters, answers per arm, sentence."""
        return frame([row._columns() for row in self.rows])

    def lines(self) -> tuple[str, ...]:
        """What it means, a sentence a line: findings, then what weakens them, then how they were computed."""
        if not self.rows:
            return ("Nothing to compare: there is no other variant.", *self.notes)
        whole = [row for row in self.rows if row.category is None]
        parts = [row for row in self.rows if row.category is not None and row.reading in ("better", "worse")]
        findings = [row.sentence for row in (*whole[:_SENTENCES_SHOWN], *parts[:_SENTENCES_SHOWN])]
        if len(whole) > _SENTENCES_SHOWN:
            findings.append(f"The other {counted(len(whole) - _SENTENCES_SHOWN, 'row')} over all cases: see the table.")
        weak = list(dict.fromkeys(note for row in self.rows for note in row.notes))
        if len(weak) > _NOTES_SHOWN:
            more = len(weak) - _NOTES_SHOWN
            weak[_NOTES_SHOWN:] = [f"And {counted(more, 'more such note')}: see `notes` of the rows."]
        return (*findings, *weak, *self.notes, _how(self))

    def __iter__(self) -> Iterator[PairedRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> list[dict[str, object]]:
        lines = [line for row in self.rows for line in row._rows()]
        if len({row.metric.name for row in self.rows}) == 1:  # named in every sentence; the room is better used
            lines = [{key: value for key, value in line.items() if key != "metric"} for line in lines]
        keys = dict.fromkeys(key for line in lines for key in line)
        order = sorted(keys, key=lambda key: _PLACES.get(key, _PLACES[""]))
        return [{key: line.get(key, "all" if key == "category" else None) for key in order} for line in lines]

    def _sentence(self) -> str:
        return "\n".join(self.lines())


_ORDER = ("metric", "candidate", "category", "", "clusters", "unscored", "would show (80% power)")
_PLACES = {name: place for place, name in enumerate(_ORDER)}


def missing_notes(row: PairedRow, *, same_cases_lost: bool) -> tuple[str, ...]:
    """What weakens a row: too few clusters, and answers without a score, counted per arm."""
    d = row.difference
    weak = () if d is None or (d.se == 0 and d.value == 0) else d.notes  # that all tie is the row's sentence
    notes = tuple(f"{row.candidate} on {_place(row)}: {note}." for note in weak)
    if not row.unscored:
        return notes
    lost = [tried - scored for scored, tried in zip(row.scored, row.attempted, strict=True)]
    uneven = "" if same_cases_lost else " The arms lose different cases, so what is left is not a random part."
    return (
        *notes,
        f"{_place(row)}: unscored answers are left out, {lost[0]:,} of {row.attempted[0]:,} of {row.baseline} and "
        f"{lost[1]:,} of {row.attempted[1]:,} of {row.candidate}; {row.n_pairs:,} of "
        f"{counted(row.n_attempted, 'case')} can be compared.{uneven}",
    )


def _place(row: PairedRow) -> str:
    return row.metric.name if row.category is None else f"{row.metric.name} in {row.category}"


def _cases(row: PairedRow) -> str:
    return counted(row.n_pairs, "case")


def _units(row: PairedRow) -> str:
    """The cases, or the clusters that they come in."""
    return counted(row.n_clusters, "case" if row.n_clusters == row.n_pairs else "cluster")


def _too_few(row: PairedRow) -> str:
    if row.n_pairs == 0:
        return "no case is scored in both"
    if row.n_pairs == 1:
        return "only 1 case is scored in both, and two are the least that can be compared"
    return f"all {_cases(row)} that are scored in both are in one cluster, which tells nothing of others"


def _compared(row: PairedRow, d: PairedDifference) -> str:
    """What the candidate is to the baseline, with the interval; without one where nothing varies."""
    place = f"{row.baseline} on {_place(row)}"
    size, low, high, _ = _written(d, row.metric)
    every, interval = f"in all {_units(row)}", f"({d.level:.0%} CI {_ends(d, row.metric)})"
    if d.se == 0 and d.value == 0:
        return f"ties with {place} {every} {interval if d.low < d.high else ''}".rstrip()
    if d.low == d.high:
        return f"is {_size_and_side(d, row.metric)} than {place} {every}"
    if float(size.replace(",", "")) == 0:
        return f"is about equal to {place} {interval}"
    ends = f"{low} to {high}"
    if d.value < 0:  # beside "lower" the ends are said without a sign
        low, high = low.removeprefix("-"), high.removeprefix("-")
        ends = f"{high} to {low} lower" if d.high <= 0 else f"{low} lower to {high} higher"
    return f"is {_size_and_side(d, row.metric)} than {place} ({d.level:.0%} CI {ends})"


def _written(d: PairedDifference, metric: Metric) -> tuple[str, str, str, str]:
    """Its size without a sign and the ends of its interval, with the digits that the width deserves, and the unit."""
    scale, unit = scale_of(metric)
    size, _, ends = str(Interval(d.value * scale, d.low * scale, d.high * scale)).rstrip("]").partition(" [")
    low, _, high = ends.partition(", ")
    return size.removeprefix("-"), low, high, unit


def _ends(d: PairedDifference, metric: Metric) -> str:
    _, low, high, unit = _written(d, metric)
    return f"{low} to {high}{unit}"


def _size_and_side(d: PairedDifference, metric: Metric) -> str:
    size, *_, unit = _written(d, metric)
    return f"{with_unit(size, unit)} {'higher' if d.value > 0 else 'lower'}"


def _undoing(row: PairedRow) -> str:
    lost, worst = counted(row.unscored, "unscored answer"), row.at_worst
    if row.too_many_unscored:
        return f"{lost} are too many for a metric without bounds"
    if worst is None:
        return f"{lost} could undo that"
    return f"{lost} could undo that (at their worst {_ends(worst, row.metric)}{_unless(row)})"


def _unless(row: PairedRow) -> str:
    return "" if row.tipping is None else f"; {row.tipping.unless(row.metric.unit)}"


def _what_is_missed(row: PairedRow, d: PairedDifference) -> str:
    if d.too_few_clusters:
        alike = "" if d.effective is None else f", which tell as much as {d.independent:,.1f} equal ones,"
        return f"{_units(row)}{alike} are too few for a verdict"
    if row.detectable is None and d.se > 0:
        return f"{_units(row)} are too few for any difference to show"
    if row.detectable is None:
        return f"{_cases(row)} that all differ by the same amount cannot tell more"
    scale, unit = scale_of(row.metric)
    missed = with_unit(two_digits(row.detectable * scale), unit)
    return f"with {_cases(row)} a true difference under {missed} is easily missed"


def _margin_reading(row: PairedRow, d: PairedDifference) -> str:
    scale, unit = scale_of(row.metric)
    margin = with_unit(number((row.margin or 0) * scale), unit)
    if row.verdict == Verdict.PASS:
        return f"harm of {margin} or more is ruled out{_unless(row)}"
    if row.verdict == Verdict.FAIL:
        return f"it is worse by more than the margin of {margin}{_unless(row)}"
    undecided = f"not enough evidence on the margin of {margin}"
    if d.too_few_clusters:
        return f"{undecided}, {_what_is_missed(row, d)}"
    if row.unscored and row.needed_cases is None:  # the scored pairs alone would tell
        harmed = (d.value < 0) == row.metric.higher_is_better and abs(d.value) > (row.margin or 0)
        end = row.highest if harmed == row.metric.higher_is_better else row.lowest
        ends = f" (at their {'best' if harmed else 'worst'} {_ends(end, row.metric)})" if end else ""
        without = f"{counted(row.unscored, 'answer')} {'has' if row.unscored == 1 else 'have'} no score"
        return f"{undecided}, since {without}{ends}"
    if row.needed_cases is None:
        return undecided
    if (more := row.needed_cases - row.n_attempted) <= 0:
        return f"{undecided}, though {_cases(row)} would do if nothing differs"
    return f"{undecided}; about {more_cases(more)}{_or_repeats(row)} would do if nothing differs"


def _or_repeats(row: PairedRow) -> str:
    if row.needed_with_repeats is None:
        return ""
    repeats, now, needed = row.needed_with_repeats
    more = f"{rounded_count(needed - row.n_attempted)} more" if needed > row.n_attempted else "no more"
    return f", or {repeats} repeats instead of {now} and {more} cases,"


def _how(comparison: Comparison) -> str:
    whole = [row for row in comparison.rows if row.category is None]
    sizes = [(len(whole), "all cases"), (len(comparison.rows) - len(whole), "categories")]
    families = " and ".join(f"{counted(n, 'row')} over {what}" for n, what in sizes if n)
    golden = f" Golden set {comparison.golden_digest[:8]}, run {comparison.age}." if comparison.golden_digest else ""
    clustered = any(row.n_clusters != row.n_pairs for row in comparison.rows)
    how = f"{_weighting(whole)}{'CR2 by cluster' if clustered else 'cases independent'}"
    family = "the families are" if all(n for n, _ in sizes) else "the family is"
    beyond = f", which without a bound is {BEYOND_SEEN:g} standard deviations beyond the worst seen in either arm"
    worst = beyond * any(row.assumed for row in comparison.rows)
    held = f" What is claimed holds with unscored answers at their worst{worst}."
    unscored = held if any(row.unscored for row in comparison.rows) else ""
    how = f"Baseline {comparison.baseline}; {_ESTIMAND}; {how}; p adjusted by Holm, {family} {families}."
    return f"{how}{unscored}{golden}"


def _weighting(rows: Sequence[PairedRow]) -> str:
    """That cases are weighted, and what that leaves of them, by the row with the most."""
    weighted = [row.difference for row in rows if row.difference and row.difference.effective is not None]
    if not weighted:
        return ""
    d = max(weighted, key=lambda difference: difference.n)
    units = counted(d.n_clusters, "case" if d.n_clusters == d.n else "cluster")
    fewer = f" ({units} tell as much as {d.independent:,.0f} equal ones)" if round(d.independent) < d.n_clusters else ""
    return f"cases weighted by what they stand for{fewer}; "
