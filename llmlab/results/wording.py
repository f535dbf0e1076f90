"""What a comparison means, in words that somebody who does not read p values can act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmlab.base.display import Interval, number
from llmlab.base.numbers import p_text, with_unit
from llmlab.base.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.results.comparison import Comparison, PairedRow, Tipping
    from llmlab.results.scores import Metric
    from llmlab.stats.paired import PairedDifference

__all__ = [
    "comparison_lines",
    "counted",
    "missing_notes",
    "more_cases",
    "paired_sentence",
    "rounded_count",
    "scale_of",
    "unless",
]

ESTIMAND = "mean difference per case, over cases drawn like these"
SENTENCES_SHOWN = 6
NOTES_SHOWN = 4


def paired_sentence(row: PairedRow) -> str:
    """One sentence on one row: the size and interval, and whether that is more than noise or within the margin."""
    place = _place(row)
    d = row.difference
    if d is None:
        return f"{row.candidate} against {row.baseline} on {place}: {_too_few(row)}."
    if row.verdict is None and d.se == 0 and d.value == 0:
        return f"No difference seen between {row.candidate} and {row.baseline} on {place}: all {_units(row)} tie."
    scale, unit = scale_of(row.metric)
    found = f"{row.candidate} {_compared(row, d)}"
    if row.verdict is not None:
        return f"{found}: {_margin_reading(row, d)}."
    if row.undone:
        return f"{found}, but {_undoing(row, scale, unit)}: not enough evidence."
    if row.significant:
        return f"{found}, larger than case-sampling noise{_unless(row)}."
    tried = f"; p {p_text(row.p_adjusted)} with all that were tried" if d.p_value < 1 - d.level else ""
    seen = f"{_size_said(d, scale, unit)} in each of them"
    if d.low < d.high:
        seen = f"{d.level:.0%} CI {_ends(d, scale)}{unit}"
    return (
        f"Not enough evidence that {row.candidate} differs from {row.baseline} on {place} "
        f"({seen}{tried}); {_what_is_missed(row, d)}."
    )


def comparison_lines(comparison: Comparison) -> tuple[str, ...]:
    """A comparison in words, a sentence a line: findings, then what weakens them, then how they were computed."""
    if not comparison.rows:
        return ("Nothing to compare: there is no other variant.", *comparison.notes)
    whole = [row for row in comparison.rows if row.category is None]
    parts = [row for row in comparison.rows if row.category is not None and row.reading in ("better", "worse")]
    said = [row.sentence for row in (*whole[:SENTENCES_SHOWN], *parts[:SENTENCES_SHOWN])]
    if len(whole) > SENTENCES_SHOWN:
        said.append(f"The other {counted(len(whole) - SENTENCES_SHOWN, 'row')} over all cases: see the table.")
    weak = list(dict.fromkeys(note for row in comparison.rows for note in row.notes))
    if len(weak) > NOTES_SHOWN:
        weak[NOTES_SHOWN:] = [f"There are {len(weak) - NOTES_SHOWN} more such notes, each in its row's `notes`."]
    return (*said, *weak, *comparison.notes, _how(comparison))


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


def scale_of(metric: Metric) -> tuple[float, str]:
    """How a metric's numbers are said: shares as points of 100, others in their unit."""
    if metric.low == 0 and metric.high == 1:
        return 100.0, " points"
    return 1.0, f" {metric.unit}" if metric.unit else ""


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(1200, "case"), counted(2, "category")
    ('1 case', '1,200 cases', '2 categories')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{count:,} {noun}s"


def rounded_count(count: float) -> str:
    """A count with two significant digits, for "about so many": 237 becomes 240.

    >>> rounded_count(237.2)
    '240'
    """
    digits = max(0, math.floor(math.log10(max(count, 1))) - 1)
    return f"{round(math.ceil(count), -digits):,}"


def more_cases(count: float) -> str:
    """A count of further cases, rounded.

    >>> more_cases(1), more_cases(237)
    ('1 more case', '240 more cases')
    """
    return f"{rounded_count(count)} more {'case' if count <= 1 else 'cases'}"


def _place(row: PairedRow) -> str:
    return row.metric.name if row.category is None else f"{row.metric.name} in {row.category}"


def _cases(row: PairedRow) -> str:
    return counted(row.n_pairs, "case")


def _units(row: PairedRow) -> str:
    """The cases, or the clusters that they come in."""
    return _cases(row) if row.n_clusters == row.n_pairs else f"{row.n_clusters:,} clusters"


def _too_few(row: PairedRow) -> str:
    if row.n_pairs == 0:
        return "no case is scored in both"
    if row.n_pairs == 1:
        return "only 1 case is scored in both, and two are the least that can be compared"
    return f"all {_cases(row)} that are scored in both are in one cluster, which tells nothing of others"


def _compared(row: PairedRow, d: PairedDifference) -> str:
    """What the candidate is to the baseline, with the interval; without one where nothing varies."""
    scale, unit = scale_of(row.metric)
    place = f"{row.baseline} on {_place(row)}"
    every, interval = f"in all {_units(row)}", f"({d.level:.0%} CI {_ends(d, scale)}{unit})"
    if d.se == 0 and d.value == 0:
        return f"ties with {place} {every} {interval if d.low < d.high else ''}".rstrip()
    if d.low == d.high:
        return f"is {_size_said(d, scale, unit)} than {place} {every}"
    if float(_size(d, scale).replace(",", "")) == 0:
        return f"is about equal to {place} {interval}"
    return f"is {_size_said(d, scale, unit)} than {place} ({d.level:.0%} CI {_ends_said(d, scale)})"


def _size_said(d: PairedDifference, scale: float, unit: str) -> str:
    return f"{with_unit(_size(d, scale), unit)} {'higher' if d.value > 0 else 'lower'}"


def _undoing(row: PairedRow, scale: float, unit: str) -> str:
    lost, worst = counted(row.unscored, "unscored answer"), row.at_worst
    if row.too_many_unscored:
        return f"{lost} are too many for a metric without bounds"
    if worst is None:
        return f"{lost} could undo that"
    return f"{lost} could undo that (at their worst {_ends(worst, scale)}{unit}{_unless(row)})"


def unless(tipping: Tipping, unit: str) -> str:
    """What lost answers would have to be for a claim to fall, as a clause."""
    verb = {"s": "took", "USD": "cost"}.get(unit, "was" if tipping.answers == 1 else "were")
    more, lost = "over" if tipping.above else "under", counted(tipping.answers, "lost answer")
    value = with_unit(_two_digits(tipping.value), f" {unit}" if unit else "")
    return f"it holds unless the {lost} of {tipping.arm} {verb} {more} {value} on average"


def _unless(row: PairedRow) -> str:
    return "" if row.tipping is None else f"; {unless(row.tipping, row.metric.unit)}"


def _what_is_missed(row: PairedRow, d: PairedDifference) -> str:
    if d.too_few_clusters:
        groups = "cluster" if row.n_clusters != row.n_pairs else "case"
        alike = "" if d.effective is None else f", which tell as much as {d.independent:,.1f} equal ones,"
        return f"{counted(row.n_clusters, groups)}{alike} are too few for a verdict"
    if row.detectable is None and d.se > 0:
        groups = counted(row.n_clusters, "cluster" if row.n_clusters != row.n_pairs else "case")
        return f"{groups} are too few for any difference to show"
    if row.detectable is None:
        return f"{_cases(row)} that all differ by the same amount cannot tell more"
    scale, unit = scale_of(row.metric)
    missed = with_unit(_two_digits(row.detectable * scale), unit)
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
    more = (row.needed_cases or 0) - row.n_pairs
    if row.unscored and row.needed_cases is None:  # the scored pairs alone would tell
        harmed = (d.value < 0) == row.metric.higher_is_better and abs(d.value) > (row.margin or 0)
        end = row.highest if harmed == row.metric.higher_is_better else row.lowest
        ends = f" (at their {'best' if harmed else 'worst'} {_ends(end, scale)}{unit})" if end else ""
        without = f"{counted(row.unscored, 'answer')} {'has' if row.unscored == 1 else 'have'} no score"
        return f"{undecided}, since {without}{ends}"
    if more <= 0:
        return f"{undecided}, though {_cases(row)} would do if nothing differs"
    return f"{undecided}; about {more_cases(more)}{_or_repeats(row)} would do if nothing differs"


def _or_repeats(row: PairedRow) -> str:
    if row.needed_with_repeats is None:
        return ""
    repeats, now, needed = row.needed_with_repeats
    left = needed - row.n_pairs
    return (
        f", or {repeats} repeats instead of {now} and {f'{rounded_count(left)} more' if left > 0 else 'no more'} cases,"
    )


def _how(comparison: Comparison) -> str:
    whole = [row for row in comparison.rows if row.category is None]
    sizes = [(len(whole), "all cases"), (len(comparison.rows) - len(whole), "categories")]
    families = " and ".join(f"{counted(n, 'row')} over {what}" for n, what in sizes if n)
    golden = f" Golden set {comparison.golden_digest[:8]}, run {comparison.age}." if comparison.golden_digest else ""
    clustered = any(row.n_clusters != row.n_pairs for row in comparison.rows)
    how = f"{_weighting(whole)}{'CR2 by cluster' if clustered else 'cases independent'}"
    family = "the family is" if sizes[1][0] == 0 or sizes[0][0] == 0 else "the families are"
    worst = ", which without a bound is the worst seen in either arm" * any(row.assumed for row in comparison.rows)
    held = f" What is claimed holds with unscored answers at their worst{worst}."
    unscored = held if any(row.unscored for row in comparison.rows) else ""
    how = f"Baseline {comparison.baseline}; {ESTIMAND}; {how}; p adjusted by Holm, {family} {families}."
    return f"{how}{unscored}{golden}"


def _weighting(rows: Sequence[PairedRow]) -> str:
    """That cases are weighted, and what that leaves of them, by the row with the most."""
    found = [row.difference for row in rows if row.difference is not None and row.difference.effective is not None]
    if not found:
        return ""
    d = max(found, key=lambda d: d.n)
    units = counted(d.n_clusters, "case" if d.n_clusters == d.n else "cluster")
    return f"cases weighted by what they stand for ({units} tell as much as {d.independent:,.0f} equal ones); "


def _size(d: PairedDifference, scale: float) -> str:
    """The size without its sign, with the digits that the interval's width deserves."""
    if d.low == d.high:
        return number(abs(d.value) * scale)
    return str(Interval(abs(d.value) * scale, d.low * scale, d.high * scale)).partition(" [")[0]


def _ends(d: PairedDifference, scale: float) -> str:
    ends = str(Interval(d.value * scale, d.low * scale, d.high * scale)).partition("[")[2]
    return ends.rstrip("]").replace(", ", " to ")


def _ends_said(d: PairedDifference, scale: float) -> str:
    """The ends of an interval beside "higher" or "lower": of what is lower they are said without a sign."""
    if d.value >= 0:
        return _ends(d, scale)
    low, high = (end.removeprefix("-") for end in _ends(d, scale).split(" to "))
    return f"{high} to {low} lower" if d.high <= 0 else f"{low} lower to {high} higher"


def _two_digits(value: float) -> str:
    return number(float(f"{value:.2g}"))
