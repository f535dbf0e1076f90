"""A judge's scores beside people's labels of the same answers, and what people would say of all: corrected by PPI++.

`Results.with_labels` puts a label beside each answer that it fits, word for word. The labels then travel with the
cases: into Parquet, into MLflow, and into the verdict that a promotion computes again. A difference needs labels on
BOTH arms' answers to the same questions; error rates shared by the arms never correct it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llmlab import stats
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.golden.cases import GoldenSet
from llmlab.golden.labels import Labels, text_digest
from llmlab.results.answers import column_of, refuse_unknown
from llmlab.results.comparison import PairedRow
from llmlab.results.provenance import JudgeRecord, LabelsRecord
from llmlab.results.scores import Metric
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelledScores", "corrected_line", "label_columns", "label_keys"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledScores:
    """A judged metric and people's labels of it, one entry per answer in the frame's order (`Results.labelled`).

    Answers are the units, clustered as the cases are and weighted as they are. Where the labels carry unequal
    inclusion probabilities, they are weighted by their inverse.

    Attributes:
        metric: what the judge's numbers mean.
        variants: in the order they were given.
        variant, case_id, repeat: whose answer it is.
        cluster, weight: of its case.
        judged, human, inclusion: the judge's score, the mean of the labellers, and the probability with which it was
            chosen for them; NaN = none.
    """

    metric: Metric
    variants: tuple[str, ...]
    variant: npt.NDArray[Any]
    case_id: npt.NDArray[Any]
    repeat: npt.NDArray[Any]
    cluster: npt.NDArray[Any]
    weight: FloatArray
    judged: FloatArray
    human: FloatArray
    inclusion: FloatArray

    @classmethod
    def of(
        cls, frame: pd.DataFrame, *, metric: Metric, variants: tuple[str, ...], golden: GoldenSet | None
    ) -> LabelledScores:
        """DataError where the frame has no labels of this metric."""
        name = metric.name
        if f"{name}_label" not in frame.columns:
            raise DataError(f"these results carry no labels of {name!r}; give them, or add them with `with_labels`")
        case_ids, by_id = frame["case_id"].tolist(), {} if golden is None else golden.by_id
        cases = [by_id.get(case_id) for case_id in case_ids]
        alone = (f"\0{case_id}" for case_id in case_ids)
        numbers = {"judged": name, "human": f"{name}_label", "inclusion": f"{name}_inclusion"}
        return cls(
            metric=metric,
            variants=variants,
            cluster=np.array([(case and case.cluster) or own for case, own in zip(cases, alone, strict=True)], object),
            weight=np.array([1.0 if case is None else case.weight for case in cases]),
            **{column: frame[column].to_numpy() for column in ("variant", "case_id", "repeat")},
            **{key: frame[column].to_numpy(dtype=float, na_value=np.nan) for key, column in numbers.items()},
        )

    def mean(self, variant: str, *, level: float = 0.95) -> stats.Correction:
        """The variant's mean over all its answers in what people would say (`stats.ppi_mean`)."""
        rows = np.flatnonzero(self.variant == variant)
        human = self.human[rows]
        return stats.ppi_mean(self.judged[rows], human, level=level, **self._design(rows, human))

    def difference(
        self, *, baseline: str, candidate: str, case_ids: Collection[str] | None = None, level: float = 0.95
    ) -> stats.Correction:
        """candidate - baseline in what people would say, over the answers that both gave, of these cases or of all.

        Raises:
            ValueError: no such variant. DataError: the two answered no case in common.
        """
        refuse_unknown(variant=((baseline, candidate), self.variants))
        wanted = set(self.case_id if case_ids is None else case_ids)
        cells = (self._cells(self.variant == name) for name in (baseline, candidate))
        arms = [{cell: row for cell, row in of_arm if cell[0] in wanted} for of_arm in cells]
        shared = [cell for cell in arms[0] if cell in arms[1]]
        if not shared:
            raise DataError(f"{baseline!r} and {candidate!r} answered no case in common")
        a, b = (np.array([arm[cell] for cell in shared]) for arm in arms)
        return stats.ppi_difference(
            self.judged[a],
            self.judged[b],
            human_baseline=self.human[a],
            human_candidate=self.human[b],
            level=level,
            **self._design(a, self.human[a] + self.human[b]),
        )

    def rate(
        self, variant: str, *, passes_from: float, own_labels: bool = False, level: float = 0.95
    ) -> stats.Correction:
        """The share of a variant's unlabelled answers that people would pass, by Rogan-Gladen.

        The judge's error rates are read off the labels of all variants' answers, or off the variant's own. For one
        variant's level, never for a difference of two. A note says where cases share clusters, of which the interval
        does not know.

        Raises:
            DataError: cases of different weight, which error rates cannot count, or no answer without a label.
        """
        if np.unique(self.weight).size > 1:
            raise DataError("error rates count each answer once, and these cases have different weights")
        of = self.variant == variant
        both = self._both & of if own_labels else self._both
        rest = of & ~np.isnan(self.judged) & np.isnan(self.human)
        if not rest.any():
            raise DataError("every judged answer of this variant has a label: the labels alone tell its rate")
        passes = [(column[both] >= passes_from).tolist() for column in (self.human, self.judged)]
        rates = stats.judge_rates(*passes, positive=True, level=level)
        passed = int((self.judged[rest] >= passes_from).sum())
        correction = stats.rogan_gladen(passed, int(rest.sum()), rates=rates, level=level)
        if not self._share_clusters(of):
            return correction
        note = "cases share clusters, for which this interval is too narrow: `corrected` takes them in"
        noted = replace(correction.corrected, notes=(*correction.corrected.notes, note))
        return replace(correction, corrected=noted)

    def rates(self, *, level: float = 0.95) -> dict[str, stats.Correction]:
        """`rate` per variant, each by its own labels; empty where that would not be honest.

        Error rates need a scale of two levels, and answers that were chosen by nothing but chance: a choice by the
        judge's score shifts them. Weights and clusters have no such interval.
        """
        design, levels = self._design(np.arange(len(self.judged)), self.human), self.metric.bounds
        by_chance = design["inclusion"] is None and design["weights"] is None
        if levels is None or self.metric.span != 1 or not by_chance:
            return {}
        rest = ~np.isnan(self.judged) & np.isnan(self.human)
        for of in (self.variant == variant for variant in self.variants):
            if not (of & self._both).any() or not (of & rest).any() or self._share_clusters(of):
                return {}
        how: dict[str, Any] = {"passes_from": levels[1], "own_labels": True, "level": level}
        return {variant: self.rate(variant, **how) for variant in self.variants}

    def cells(self, variant: str) -> set[tuple[str, int]]:
        """(case id, repeat) of the variant's answers that judge and people have both scored."""
        return {cell for cell, _ in self._cells(self._both & (self.variant == variant))}

    @property
    def _both(self) -> Bools:
        both: Bools = ~np.isnan(self.judged) & ~np.isnan(self.human)
        return both

    def _share_clusters(self, of: Bools) -> bool:
        return np.unique(self.cluster[of]).size < np.unique(self.case_id[of]).size

    def _cells(self, chosen: Bools) -> Iterator[tuple[tuple[str, int], int]]:
        return (((self.case_id[row], self.repeat[row]), int(row)) for row in np.flatnonzero(chosen))

    def _design(self, rows: npt.NDArray[np.int64], human: FloatArray) -> dict[str, Any]:
        """Clusters where cases share one; weights of cases and inclusion probabilities where they differ."""
        clusters, inclusion, weights = self.cluster[rows].tolist(), self.inclusion[rows], self.weight[rows]
        known = inclusion[~np.isnan(human)]
        uneven = len(known) > 0 and not np.isnan(known).any() and np.ptp(known) > 0
        return {
            "clusters": clusters if len(set(clusters)) < len(clusters) else None,
            "inclusion": inclusion if uneven else None,
            "weights": weights if np.unique(weights).size > 1 else None,
        }


def label_keys(frame: pd.DataFrame, golden: GoldenSet | None) -> list[tuple[str, ...]]:
    """What a label of each answer is bound to (`Label.key`), in the frame's order; DataError without a golden set."""
    if golden is None:
        raise DataError("these results carry no golden set, so labels cannot be matched to questions")
    case_ids, texts = frame["case_id"].tolist(), column_of(frame, "shown")
    questions = {case_id: text_digest(golden.by_id[case_id].question) for case_id in dict.fromkeys(case_ids)}
    return [(case_id, questions[case_id], text_digest(text)) for case_id, text in zip(case_ids, texts, strict=True)]


def label_columns(
    labels: Labels, frame: pd.DataFrame, golden: GoldenSet | None, *, name: str, judge: JudgeRecord | None = None
) -> tuple[dict[str, list[float]], LabelsRecord, tuple[str, ...]]:
    """The columns `<name>_label` and `<name>_inclusion` of these answers, how many labels fit one, a note on the rest.

    Raises:
        DataError: preferences, labels by another rubric than the judge's, no such score, or no label that fits.
    """
    if labels.pairwise:
        raise DataError("these are preferences; a corrected score needs grades of single answers")
    if judge is not None and judge.rubric not in ("", labels.rubric):
        raise DataError(f"{name!r} was judged by the rubric {judge.rubric!r}, the labels are by {labels.rubric!r}")
    if name not in frame.columns:
        raise DataError(f"no {name!r} in these results; judge them, or name the metric that these labels are of")
    people, chances, used = list[float](), list[float](), set[tuple[str, ...]]()
    for key, status in zip(label_keys(frame, golden), frame["status"].tolist(), strict=True):
        of_this = labels.by_key.get(key, ()) if status != "error" else ()
        values = [float(label.value) for label in of_this if label.value not in (None, "tie")]
        chance = of_this[0].inclusion if of_this else None
        people.append(float(np.mean(values or [np.nan])))
        chances.append(np.nan if chance is None else chance)
        used |= {key} if of_this else set()
    if not used:
        raise DataError(f"no label fits an answer with a {name!r}: questions or answers have changed")
    n_used = sum(len(labels.by_key[key]) for key in used)
    n_stale = len(labels) - n_used
    stale = f"{n_stale} of {len(labels)} labels of {name} fit no answer here (changed, or of others) and are not used."
    columns = {f"{name}_label": people, f"{name}_inclusion": chances}
    return columns, LabelsRecord(digest=labels.digest, used=n_used, stale=n_stale), (stale,) if n_stale else ()


def corrected_line(scores: LabelledScores, row: PairedRow) -> str:
    """A sentence with the corrected difference, to stand beside a row's raw one."""
    difference = scores.difference(baseline=row.baseline, candidate=row.candidate, level=row.level)
    text = str(difference.corrected) if difference.corrected.value is not None else "unknown"
    why = "; ".join(difference.corrected.notes)
    return (
        f"Corrected by people's labels of {counted(difference.n_labelled, 'case')}, {row.candidate} - {row.baseline} "
        f"on {scores.metric.name} is {text} (the judge alone: {difference.raw}){f'; {why}' if why else ''}."
    )
