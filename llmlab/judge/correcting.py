"""A judge's scores corrected by people's labels (PPI++), beside the raw ones: per variant, and as a difference.

A difference needs labels on BOTH arms' answers to the same questions; error rates shared by the arms never correct it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlab.display import Interval, Shown
from llmlab.errors import DataError
from llmlab.judge.labels import Labels, labelled_answers
from llmlab.results import Results
from llmlab.stats.agreement import judge_rates
from llmlab.stats.correction import Correction, ppi_difference, ppi_mean, rogan_gladen

__all__ = ["Corrected", "corrected", "corrected_difference", "corrected_rate"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Corrected(Shown):
    """Per variant the judge's mean, corrected by labels, beside the raw one."""

    metric: str
    by_variant: Mapping[str, Correction]

    def __getitem__(self, variant: str) -> Correction:
        return self.by_variant[variant]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                "corrected": Interval(one.corrected.value, one.corrected.low, one.corrected.high),
                "judge alone": Interval(one.raw.value, one.raw.low, one.raw.high),
                "labels alone": Interval(one.labels_only.value, one.labels_only.low, one.labels_only.high),
                "labels": one.n_labelled,
                "judge's weight": one.lam,
            }
            for variant, one in self.by_variant.items()
        ]

    def _sentence(self) -> str:
        notes = dict.fromkeys(note for one in self.by_variant.values() for note in one.corrected.notes)
        return ". ".join([f"Mean {self.metric} per answer, corrected by PPI++ with 95% intervals", *notes]) + "."


def corrected(results: Results, metric: str, labels: Labels, *, level: float = 0.95) -> Corrected:
    """The mean of a judge's metric per variant, corrected by the labels of some of its answers.

    Answers are the units, clustered as the cases are. Where the labels carry unequal inclusion probabilities, they
    are weighted by their inverse.
    """
    columns = _columns(results, metric, labels)
    found = {}
    for variant in results.variants:
        of = columns["variant"] == variant
        chosen = {name: column[of] for name, column in columns.items()}
        found[variant] = ppi_mean(chosen["judged"], chosen["human"], level=level, **_design(chosen, chosen["human"]))
    return Corrected(metric=metric, by_variant=found)


def corrected_difference(
    results: Results, metric: str, labels: Labels, *, baseline: str, candidate: str, level: float = 0.95
) -> Correction:
    """candidate - baseline in what people would say, from a judge on all answers and labels on both arms' answers."""
    unknown = [name for name in (baseline, candidate) if name not in results.variants]
    if unknown:
        raise ValueError(f"no variant {unknown[0]!r} in these results (there are: {', '.join(results.variants)})")
    columns = _columns(results, metric, labels)
    cells = list(zip(columns["case_id"], columns["repeat"], strict=True))
    arms = []
    for name in (baseline, candidate):
        rows = np.flatnonzero(columns["variant"] == name)
        arms.append({cells[row]: row for row in rows})
    shared = [cell for cell in arms[0] if cell in arms[1]]
    if not shared:
        raise DataError(f"{baseline!r} and {candidate!r} answered no case in common")
    one, two = (np.array([arm[cell] for cell in shared]) for arm in arms)
    human = [columns["human"][rows] for rows in (one, two)]
    chosen = {name: column[one] for name, column in columns.items()}
    return ppi_difference(
        columns["judged"][one],
        columns["judged"][two],
        human_baseline=human[0],
        human_candidate=human[1],
        level=level,
        **_design(chosen, human[0] + human[1]),
    )


def corrected_rate(
    results: Results, metric: str, labels: Labels, *, variant: str, passes_from: int, level: float = 0.95
) -> Correction:
    """The share of answers that people would pass, by Rogan-Gladen: refused where the judge does not know passes.

    An answer passes from the level `passes_from`. The rates are taken from the labels of all variants' answers, so this
    is for one variant's level, never for a difference of two.
    """
    columns = _columns(results, metric, labels)
    seen = ~np.isnan(columns["judged"])
    both = seen & ~np.isnan(columns["human"])
    rates = judge_rates(
        (columns["human"][both] >= passes_from).tolist(),
        (columns["judged"][both] >= passes_from).tolist(),
        positive=True,
        level=level,
    )
    rest = seen & np.isnan(columns["human"]) & (columns["variant"] == variant)
    if not rest.any():
        raise DataError(f"{variant!r} has no judged answer without a label")
    passed = int((columns["judged"][rest] >= passes_from).sum())
    return rogan_gladen(passed, int(rest.sum()), rates=rates, level=level)


def _columns(results: Results, metric: str, labels: Labels) -> dict[str, np.ndarray]:
    """Per answer: variant, case, repeat, cluster, the judge's score, the mean label (NaN = none), its inclusion."""
    if labels.pairwise:
        raise DataError("these are preferences; a corrected score needs grades of single answers")
    human: list[float] = []
    inclusion, clusters = [], []
    for key, case_id, _, _ in labelled_answers(results, metric):
        found = labels.by_key.get(key, ())
        said = [float(one.value) for one in found if isinstance(one.value, int)]
        human.append(sum(said) / len(said) if said else np.nan)
        chance = found[0].inclusion if found else None
        inclusion.append(np.nan if chance is None else chance)
        case = results.golden.by_id[case_id] if results.golden is not None else None
        clusters.append((case.cluster if case is not None else None) or f"\0{case_id}")
    if np.isnan(human).all():
        raise DataError(f"no label fits an answer with a {metric!r}: questions or answers have changed")
    frame = results.frame
    return {
        "variant": frame["variant"].to_numpy(),
        "case_id": frame["case_id"].to_numpy(),
        "repeat": frame["repeat"].to_numpy(),
        "cluster": np.array(clusters, dtype=object),
        "judged": frame[metric].to_numpy(dtype=float, na_value=np.nan),
        "human": np.array(human, dtype=float),
        "inclusion": np.array(inclusion, dtype=float),
    }


def _design(chosen: Mapping[str, np.ndarray], human: np.ndarray) -> dict[str, Any]:
    """Clusters where cases share one, and inclusion probabilities where they differ."""
    clusters = chosen["cluster"].tolist()
    known = chosen["inclusion"][~np.isnan(human)]
    weighted = len(known) > 0 and not np.isnan(known).any() and np.ptp(known) > 0
    return {
        "clusters": clusters if len(set(clusters)) < len(clusters) else None,
        "inclusion": chosen["inclusion"] if weighted else None,
    }
