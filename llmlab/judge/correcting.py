"""A judge's scores corrected by people's labels (PPI++), beside the raw ones: per variant, and as a difference.

A difference needs labels on BOTH arms' answers to the same questions; error rates shared by the arms never correct it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmlab.base.display import Interval, Shown
from llmlab.base.errors import DataError
from llmlab.judge.labelled import labels_digests, people_of, with_labels
from llmlab.judge.labels import Labels
from llmlab.results.results import Results
from llmlab.results.wording import counted
from llmlab.stats.agreement import judge_rates
from llmlab.stats.correction import Correction, ppi_difference, ppi_mean, rogan_gladen
from llmlab.stats.estimate import Estimate

__all__ = [
    "Corrected",
    "corrected",
    "corrected_difference",
    "corrected_estimates",
    "corrected_lines",
    "corrected_rate",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Corrected(Shown):
    """Per variant the judge's mean, corrected by labels, beside the raw one.

    Attributes:
        by_variant: the mean by PPI++.
        by_rates: where the scale has two levels and the labels were chosen evenly, the share that passes by
            Rogan-Gladen with Lee's interval; its value is None where the judge is not shown to know passes from fails.
    """

    metric: str
    by_variant: Mapping[str, Correction]
    by_rates: Mapping[str, Correction] = field(default_factory=dict)

    def __getitem__(self, variant: str) -> Correction:
        return self.by_variant[variant]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                "corrected": _shown(one.corrected),
                "judge alone": _shown(one.raw),
                "labels alone": _shown(one.labels_only),
                **({"by error rates": _shown(self.by_rates[variant].corrected)} if self.by_rates else {}),
                "labels": one.n_labelled,
                "judge's weight": None if one.lam is None else round(one.lam, 2),
            }
            for variant, one in self.by_variant.items()
        ]

    def _sentence(self) -> str:
        every = [*self.by_variant.values(), *self.by_rates.values()]
        notes = dict.fromkeys(note for one in every for note in one.corrected.notes)
        rates = ["By error rates is Rogan-Gladen with the interval of Lee et al."] if self.by_rates else []
        said = [f"Mean {self.metric} per answer, corrected by PPI++ with 95% intervals", *rates, *notes]
        return ". ".join(one.rstrip(".") for one in said) + "."


def corrected(results: Results, metric: str, labels: Labels | None = None, *, level: float = 0.95) -> Corrected:
    """The mean of a judge's metric per variant, corrected by the labels of some of its answers.

    Answers are the units, clustered as the cases are and weighted as they are. Where the labels carry unequal
    inclusion probabilities, they are weighted by their inverse. On a scale of two levels Rogan-Gladen stands beside it.

    Args:
        labels: people's; by default those that the results carry (`with_labels`).

    A judge that is one level too kind to everything:

    >>> import pandas as pd
    >>> from dataclasses import replace
    >>> from llmlab.golden.cases import Case, GoldenSet
    >>> from llmlab.judge.labels import Label, text_digest
    >>> from llmlab.results.scores import Metric
    >>> golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{i}?"}) for i in range(40)))
    >>> answers = pd.DataFrame({"variant": "v1", "case_id": [f"q{i}" for i in range(40)], "text": "dropna"})
    >>> judged = Results.from_frame(answers, golden=golden)
    >>> judged = replace(
    ...     judged,
    ...     frame=judged.frame.assign(tone=[float(2 + i % 3) for i in range(40)]),
    ...     metrics={"tone": Metric(name="tone", low=1, high=5, judge="a" * 64)},
    ... )
    >>> people = tuple(
    ...     Label(rubric="tone", case_id=f"q{i}", question=text_digest(f"{i}?"), answer=text_digest("dropna"),
    ...           value=1 + i % 3 - (i == 2))
    ...     for i in range(15)
    ... )
    >>> found = corrected(judged, "tone", Labels(people))["v1"]
    >>> round(found.raw.value, 1), round(found.corrected.value, 1)
    (3.0, 1.9)
    """
    results = results if labels is None else with_labels(results, labels, metric=metric)
    columns = people_of(results, metric)
    found = {}
    for variant in results.variants:
        chosen = _rows_where(columns, columns["variant"] == variant)
        found[variant] = ppi_mean(chosen["judged"], chosen["human"], level=level, **_design(chosen, chosen["human"]))
    return Corrected(metric=metric, by_variant=found, by_rates=_by_rates(results, metric, columns, level))


def corrected_estimates(results: Results) -> dict[tuple[str, str], Estimate]:
    """(variant, metric) -> corrected mean, of every metric whose labels the results carry."""
    found = {name: corrected(results, name) for name in labels_digests(results) if name in results.metrics}
    return {(variant, name): one.corrected for name, all_ in found.items() for variant, one in all_.by_variant.items()}


def corrected_difference(
    results: Results,
    metric: str,
    labels: Labels | None = None,
    *,
    baseline: str,
    candidate: str,
    case_ids: Collection[str] | None = None,
    level: float = 0.95,
) -> Correction:
    """candidate - baseline in what people would say, from a judge on all answers and labels on both arms' answers.

    Args:
        labels: people's; by default those that the results carry (`with_labels`).
        case_ids: of these cases only.

    Raises:
        ValueError: no such variant. DataError: no label fits, or the arms answered no case in common.

    A judge that is half a level kinder to v2, where people see no difference:

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=150, seed=1, kindness=(0.0, 0.5))
    >>> arms = {"baseline": "v1", "candidate": "v2"}
    >>> found = corrected_difference(planted.results, "correctness", planted.labels, **arms)
    >>> found.raw.low > 0.3, found.corrected.low < 0 < found.corrected.high
    (True, True)
    """
    unknown = [name for name in (baseline, candidate) if name not in results.variants]
    if unknown:
        raise ValueError(f"no variant {unknown[0]!r} in these results (there are: {', '.join(results.variants)})")
    results = results if labels is None else with_labels(results, labels, metric=metric)
    columns = people_of(results, metric)
    cells = list(zip(columns["case_id"], columns["repeat"], strict=True))
    wanted = None if case_ids is None else set(case_ids)
    arms = []
    for name in (baseline, candidate):
        rows = np.flatnonzero(columns["variant"] == name)
        arms.append({cells[row]: row for row in rows if wanted is None or cells[row][0] in wanted})
    shared = [cell for cell in arms[0] if cell in arms[1]]
    if not shared:
        raise DataError(f"{baseline!r} and {candidate!r} answered no case in common")
    one, two = (np.array([arm[cell] for cell in shared]) for arm in arms)
    human = [columns["human"][rows] for rows in (one, two)]
    return ppi_difference(
        columns["judged"][one],
        columns["judged"][two],
        human_baseline=human[0],
        human_candidate=human[1],
        level=level,
        **_design(_rows_where(columns, one), human[0] + human[1]),
    )


def corrected_lines(
    results: Results, pairs: Iterable[tuple[str, str]], baseline: str, *, level: float = 0.95
) -> list[str]:
    """A sentence per (metric, candidate) whose labels are there: the corrected difference, to stand beside the raw."""
    labelled = labels_digests(results)
    said = []
    for metric, name in dict.fromkeys(pair for pair in pairs if pair[0] in labelled):
        found = corrected_difference(results, metric, baseline=baseline, candidate=name, level=level)
        text = str(found.corrected) if found.corrected.value is not None else "unknown"
        why = "; ".join(found.corrected.notes)
        said.append(
            f"Corrected by people's labels of {counted(found.n_labelled, 'case')}, {name} - {baseline} on {metric} is "
            f"{text} (the judge alone: {found.raw}){f'; {why}' if why else ''}."
        )
    return said


def corrected_rate(
    results: Results,
    metric: str,
    labels: Labels | None = None,
    *,
    variant: str,
    passes_from: int,
    level: float = 0.95,
) -> Correction:
    """The share of answers that people would pass, by Rogan-Gladen: refused where the judge does not know passes.

    An answer passes from the level `passes_from`. The rates are taken from the labels of all variants' answers, so this
    is for one variant's level, never for a difference of two. DataError where cases have different weights; a note
    where cases share clusters, which the interval does not know of.

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=150, seed=1, noise=0.1)
    >>> found = corrected_rate(planted.results, "correctness", planted.labels, variant="v1", passes_from=3)
    >>> found.corrected.low < 0.9 < found.corrected.high
    True
    """
    results = results if labels is None else with_labels(results, labels, metric=metric)
    columns = people_of(results, metric)
    if np.unique(columns["weight"]).size > 1:
        raise DataError("error rates count each answer once, and these cases have different weights; use `corrected`")
    found = _rate(
        columns, columns["variant"] == variant, np.ones(len(columns["judged"]), dtype=bool), passes_from, level
    )
    if not _share_clusters(columns, variant):
        return found
    note = "cases share clusters, for which this interval is too narrow: `corrected` takes them in"
    return replace(found, corrected=replace(found.corrected, notes=(*found.corrected.notes, note)))


def _rate(columns: Mapping[str, Any], of: Any, judged_by: Any, passes_from: float, level: float) -> Correction:
    """The rate among unlabelled rows `of`, with error rates from labelled rows in `judged_by`."""
    seen = ~np.isnan(columns["judged"])
    both = seen & ~np.isnan(columns["human"]) & judged_by
    rates = judge_rates(
        (columns["human"][both] >= passes_from).tolist(),
        (columns["judged"][both] >= passes_from).tolist(),
        positive=True,
        level=level,
    )
    rest = seen & np.isnan(columns["human"]) & of
    if not rest.any():
        raise DataError("every judged answer of this variant has a label: the labels alone tell its rate")
    passed = int((columns["judged"][rest] >= passes_from).sum())
    return rogan_gladen(passed, int(rest.sum()), rates=rates, level=level)


def _by_rates(results: Results, metric: str, columns: Mapping[str, Any], level: float) -> dict[str, Correction]:
    """Rogan-Gladen per variant, each by its own labels, where the scale has two levels and labels were chosen evenly.

    Error rates are read off answers that were chosen by nothing but chance; a choice by the judge's score shifts them.
    Weights and clusters have no such interval, so with them there is none.
    """
    meaning = results.metric(metric)
    two_levels = meaning.low is not None and meaning.high is not None and meaning.high - meaning.low == 1
    design = _design(columns, columns["human"])
    clustered = any(_share_clusters(columns, variant) for variant in results.variants)
    if not two_levels or clustered or design["inclusion"] is not None or design["weights"] is not None:
        return {}
    found = {}
    for variant in results.variants:
        of = columns["variant"] == variant
        labelled = of & ~np.isnan(columns["human"]) & ~np.isnan(columns["judged"])
        if labelled.any() and (of & np.isnan(columns["human"]) & ~np.isnan(columns["judged"])).any():
            found[variant] = _rate(columns, of, of, float(meaning.high or 1.0), level)
    return found if len(found) == len(results.variants) else {}


def _share_clusters(columns: Mapping[str, Any], variant: str) -> bool:
    of = columns["variant"] == variant
    return np.unique(columns["cluster"][of]).size < np.unique(columns["case_id"][of]).size


def _rows_where(columns: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    return {name: column[rows] for name, column in columns.items()}


def _design(chosen: Mapping[str, Any], human: Any) -> dict[str, Any]:
    """Clusters where cases share one; weights of cases and inclusion probabilities where they differ."""
    clusters = chosen["cluster"].tolist()
    known = chosen["inclusion"][~np.isnan(human)]
    weighted = len(known) > 0 and not np.isnan(known).any() and np.ptp(known) > 0
    return {
        "clusters": clusters if len(set(clusters)) < len(clusters) else None,
        "inclusion": chosen["inclusion"] if weighted else None,
        "weights": chosen["weight"] if np.unique(chosen["weight"]).size > 1 else None,
    }


def _shown(estimate: Estimate) -> Interval:
    return Interval(estimate.value, estimate.low, estimate.high)
