"""Questions that a single table leaves open, for notebook 02.

What ignoring pairs or clusters would have said, how many cases a difference needs, in which category harm can be ruled
out, whether repeats would help, and which class is taken for which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, number, with_unit
from llmlab.display.shown import Rows, Shown
from llmlab.results.comparing import compare_tables
from llmlab.results.results import Results
from llmlab.results.scores import ScoreTable, scale_of, two_digits
from llmlab.scorers.structured import expected_labels, label_of, said_label
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import PairedDifference, t_difference
from llmlab.stats.power import POWER, Need, Spread, needed_cases, would_show
from llmlab.stats.standard_error import StandardError, standard_error

_TAIL = 0.025  # of the two-sided 95% interval of one comparison
_WORTH_IT = 0.8  # of what cases buy, that repeats must buy to be advised


def three_readings(table: ScoreTable, baseline: str, candidate: str) -> Rows:
    """The same difference read three ways: as two samples, as pairs, and as pairs in clusters."""
    paired = _difference(replace(table, clustered=False), baseline, candidate)
    a, b = table.values[:, [table.column(baseline), table.column(candidate)]].T
    in_both = ~(np.isnan(a) | np.isnan(b))
    weights = table.design(in_both)["weights"]
    se = math.hypot(*(standard_error(arm[in_both], weights=weights).se for arm in (a, b)))
    unpaired = StandardError(se=se, df=2.0 * paired.n - 2, n=paired.n, n_clusters=paired.n)
    method, bounds = "two samples, t test", table.metric.change_bounds
    alone = t_difference(paired.value, unpaired, level=0.95, method=method, bounds=bounds)
    readings = {"two samples": alone, "pairs, cases independent": paired}
    last = _difference(table, baseline, candidate)
    if table.clustered:
        readings["pairs in clusters (CR2)"] = last
    changed = (paired.p_value < 0.05) != (last.p_value < 0.05)
    answer = "The clusters change the decision." if changed else "All that counts is the last line."
    return Rows(
        rows=tuple(_reading(name, d) for name, d in readings.items()),
        sentence=f"{answer} {counted(paired.n, 'case')} in {counted(last.n_clusters, 'cluster')}.",
    )


def cases_needed(table: ScoreTable, baseline: str, candidate: str, *, differences: Sequence[float]) -> Rows:
    """How many cases like these show a true difference of each size with 80% power, clusters and weights included."""
    d = _difference(table, baseline, candidate)
    if d.se == 0:
        return Rows(rows=(), sentence="Nothing varies between these cases, so that nothing can be planned from them.")
    scale, unit = scale_of(table.metric)
    size_named, rows = f"true difference{f' ({unit.strip()})' if unit else ''}", []
    for size in dict.fromkeys(differences):
        need = Need(name="", distance=size, spread=Spread.of(d, shift=size), tail=_TAIL)
        n = needed_cases([need]).likely
        row = {size_named: number(size * scale), "cases needed": n, "you have": d.n, "missing": max(0, n - d.n)}
        rows.append(row)
    have, seen = f"{counted(d.n, 'case')} you have", would_show(d, tail=_TAIL)
    if seen is None:
        return Rows(rows=tuple(rows), sentence=f"The {have} are too few for any difference to show.")
    power = f"{'about ' if d.n_clusters < d.n else ''}{POWER:.0%} power"
    answer = f"If the true difference is {two_digits(seen * scale)}{unit}, the {have} show it with {power}"
    return Rows(rows=tuple(rows), sentence=f"{answer}; smaller ones are easily missed.")


def harm_by_category(table: ScoreTable, baseline: str, candidate: str, *, margin: float) -> Rows:
    """Per category the difference, and whether harm of `margin` or more is ruled out, with and without clusters."""
    margins = {table.metric.name: margin}
    by_tag, apart = (
        compare_tables([read], baseline, candidates=[candidate], by_tag=True, margin=margins)[1:]  # after that of all
        for read in (table, replace(table, clustered=False))
    )
    rows, ruled_out = list[dict[str, object]](), 0
    for row, alone in zip(by_tag, apart, strict=True):
        if row.difference is None or alone.difference is None:
            rows.append({"category": row.category, "cases": row.n_pairs, "verdict": "too few cases or clusters"})
            continue
        d, iid = (x if table.metric.higher_is_better else x.turned for x in (row.difference, alone.difference))
        shown, lost = row.verdict == "PASS", row.unscored
        open_ = f"open; {counted(lost, 'unscored answer')} at their worst" if lost else "open"
        ruled_out += shown
        rows.append(
            {
                "category": row.category,
                "cases": d.n,
                "clusters": d.n_clusters,
                "difference [90% CI]": d.interval(0.90),
                "p (cases independent)": _p(iid.p_above(-margin)),
                "p (clustered)": _p(d.p_above(-margin)),
                "verdict": "harm ruled out" if shown else "too few clusters" if d.too_few_clusters else open_,
            }
        )
    scale, unit = scale_of(table.metric)
    harm = with_unit(number(margin * scale), unit)
    answer = f"Harm of {harm} is ruled out in {ruled_out} of {counted(len(rows), 'category')}."
    return Rows(rows=tuple(rows), sentence=answer)


def repeats_or_cases(results: Results | None, metric: str, *, baseline: str, candidate: str) -> Rows:
    """Whether twice the repeats or twice the cases would show more, with the clusters and weights that the cases have.

    Per answer a new case is never worse than a repeat; repeats are advised where they buy at least 80% of what cases
    do, since they need no new labels.
    """
    if results is None:
        return Rows(rows=(), sentence="One score per case: without repeats nobody can tell whether they would help.")
    table = results.table(metric)
    columns = [table.column(name) for name in (baseline, candidate)]
    a, b = table.values[:, columns].T
    noise = table.repeat_noise(~(np.isnan(a) | np.isnan(b)), columns)
    if noise is None:
        return Rows(rows=(), sentence="One answer per case: run with repeats=2 or more to see whether they help.")
    d = _difference(table, baseline, candidate)
    if d.se == 0:
        return Rows(rows=(), sentence="Every difference is the same: neither repeats nor cases would show more.")
    plans = {
        "now": (d.n, 1),
        "twice the cases": (2 * d.n, 1),
        "twice the repeats": (d.n, 2),
        "endless repeats": (d.n, math.inf),
    }
    share = min(1.0, noise[0] / (d.n * d.se**2))
    seen = {
        name: size
        for name, (n, times) in plans.items()
        if (size := would_show(d, tail=_TAIL, cases=n, noise=share, repeats=times)) is not None
    }
    if len(seen) < len(plans):
        return Rows(rows=(), sentence=f"{counted(d.n, 'case')} show no difference with {POWER:.0%} power: add cases.")
    now, cases, repeats, least = seen.values()
    scale, unit = scale_of(table.metric)
    shown, limit = (with_unit(number(size * scale, 2), unit) for size in (now, least))
    answer = (
        f"{counted(d.n, 'case')} show a true difference of {shown} with {POWER:.0%} power. "
        f"Twice the cases brings that down by {1 - cases / now:.0%}, twice the repeats by {1 - repeats / now:.0%}: "
    )
    worth_it = now - repeats >= _WORTH_IT * (now - cases)
    answer += "repeats buy almost as much, and need no new labels." if worth_it else "new cases buy more."
    return Rows(
        rows=tuple(
            {"plan": name, "cases": n, f"shows{unit and f' ({unit.strip()})'}": number(seen[name] * scale, 2)}
            for name, (n, _) in plans.items()
        ),
        sentence=answer + (f" No number of repeats gets below {limit}." if least else ""),
    )


def _difference(table: ScoreTable, baseline: str, candidate: str) -> PairedDifference:
    """The difference over all cases; DataError, in the words of a comparison, where too few are scored in both."""
    (row,) = compare_tables([table], baseline, candidates=[candidate])
    if row.difference is None:
        raise DataError(row.sentence)
    return row.difference


def _reading(name: str, d: PairedDifference) -> dict[str, object]:
    return {
        "read as": name,
        "difference": number(d.value),
        "standard error": number(d.se),
        "df": number(d.df),
        "p": _p(d.p_value),
        "95% CI": f"{number(d.low)} to {number(d.high)}",
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Classes(Shown):
    """How well each variant tells the classes apart, and what it takes for what.

    Attributes:
        names: the classes that the cases name, as they are first written there.
        counts: variant -> (n_classes, n_classes + 1) answers by the right class and the class that was said, the last
            column for whatever is no class.
        recalls, precisions: (variant, class) -> the share with its interval over cases; no value where it is empty.
        lost: variant -> answers that never came; they are in no count.
    """

    names: tuple[str, ...]
    counts: Mapping[str, NDArray[np.int64]]
    recalls: Mapping[tuple[str, str], Estimate]
    precisions: Mapping[tuple[str, str], Estimate]
    lost: Mapping[str, int]

    def f1(self, variant: str, name: str) -> float | None:
        """The harmonic mean of precision and recall, which is 2 right / (expected + said); None where both are 0."""
        counts, at = self.counts[variant], self.names.index(name)
        both = int(counts[at].sum() + counts[:, at].sum())
        return float(2 * counts[at, at] / both) if both else None

    def macro_f1(self, variant: str) -> float | None:
        """The mean F1 of the classes that the answered cases name, each counting the same."""
        asked = [name for name, row in zip(self.names, self.counts[variant], strict=True) if row.any()]
        return math.fsum(self.f1(variant, name) or 0.0 for name in asked) / len(asked) if asked else None

    def confusion(self, variant: str) -> Rows:
        """The right classes down and the said ones across, in answers."""
        counts = self.counts[variant]
        rows = [
            {f"right class ({variant})": name}
            | {f"said {said}": int(n) for said, n in zip((*self.names, "no class"), row, strict=True)}
            for name, row in zip(self.names, counts, strict=True)
        ]
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        right, said = np.unravel_index(int(wrong.argmax()), wrong.shape)
        answered = (*self.names, "no class")[said]
        share = f"{wrong[right, said]:,} of {counts[right].sum():,} answers"
        most = f"Most often wrong: {self.names[right]} is answered with {answered}: {share}."
        return Rows(rows=tuple(rows), sentence=most if wrong.any() else "No class is mistaken.")

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                "class": name,
                "expected": int(counts[at].sum()),
                "said": int(counts[:, at].sum()),
                "precision": self.precisions[variant, name].interval(),
                "recall": self.recalls[variant, name].interval(),
                "F1": number(self.f1(variant, name)),
            }
            for variant, counts in self.counts.items()
            for at, name in enumerate(self.names)
        ]

    def _sentence(self) -> str:
        means = ", ".join(f"{variant} {number(self.macro_f1(variant))}" for variant in self.counts)
        lost = [f"{n:,} of {variant}" for variant, n in self.lost.items() if n]
        left_out = f" Answers that never came are left out: {', '.join(lost)}." if lost else ""
        shown = 'expected and said count answers; 95% intervals over cases; `.confusion("VARIANT")` has what was said.'
        return f"Macro F1: {means}. {shown[0].upper()}{shown[1:]}{left_out}"


def classes(results: Results, field: str = "") -> Classes:
    """Precision, recall and F1 of each class, and a confusion matrix, for every variant.

    The classes are the texts that the cases expect, and the whole answer says one, as the scorer `label` reads it; with
    `field` (`customer.city` is one within another) both are that field of a JSON object.

    Raises:
        DataError: these results carry no golden set, or its cases expect no class there.
    """
    right = {case.id: expected_labels(case, field) for case in results.golden or ()}
    names = {label_of(name): name for ways in right.values() for name in reversed(ways)}
    if not names:
        raise DataError(f"no case expects a class{f' in the field {field!r}' if field else ''}")
    place = {folded: at for at, folded in enumerate(names)}
    counts = {variant: np.zeros((len(names), len(names) + 1), dtype=np.int64) for variant in results.variants}
    answered: dict[str, list[tuple[int, int, int]]] = {variant: [] for variant in results.variants}
    lost = dict.fromkeys(results.variants, 0)
    rows = results.answers("variant", "case_id", "status", "text")
    for (variant, case_id, status, text), row in zip(rows, results.cells.cases.tolist(), strict=True):
        ways = [place[label_of(name)] for name in right.get(case_id, ())]
        if not ways or status == "error":
            lost[variant] += bool(ways)
            continue
        said = place.get(said_label(text, field), len(names))
        wanted = said if said in ways else ways[0]
        counts[variant][wanted, said] += 1
        answered[variant].append((row, wanted, said))
    table = results.table("latency_s")  # whose clusters and weights are those of every metric
    recalls, precisions = dict[tuple[str, str], Estimate](), dict[tuple[str, str], Estimate]()
    for variant, triples in answered.items():
        case, wanted_class, said_class = np.array(triples, dtype=np.int64).reshape(-1, 3).T
        hit = wanted_class == said_class
        for at, name in enumerate(names.values()):
            for shares, classes_of in ((recalls, wanted_class), (precisions, said_class)):
                shares[variant, name] = _share(hit[classes_of == at], case[classes_of == at], table)
    return Classes(names=tuple(names.values()), counts=counts, recalls=recalls, precisions=precisions, lost=lost)


def _share(right: NDArray[np.bool_], cases: NDArray[np.int64], table: ScoreTable) -> Estimate:
    """The share of answers that are right, repeats of a case and cases of a cluster counted together."""
    if not right.size:
        return Estimate(value=None)
    weights = None if table.weights is None else table.weights[cases]
    alone = not table.clustered and np.unique(cases).size == cases.size
    return share_estimate(right.astype(float), None if alone else table.clusters[cases], weights=weights)
