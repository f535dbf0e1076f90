"""A judge's scores beside people's labels of the same answers, and what people would say of all: corrected by PPI++.

`Results.with_labels` puts a label beside each answer that it fits, word for word. The labels then travel with the
cases: into Parquet, into MLflow, and into the verdict that a promotion computes again. A difference needs labels on
BOTH arms' answers to the same questions; error rates shared by the arms never correct it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab import stats
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.golden.cases import GoldenSet
from llmlab.golden.labels import Labels, text_digest
from llmlab.results.answers import column_of, refuse_unknown
from llmlab.results.comparison import PairedRow
from llmlab.results.provenance import JudgeRecord, LabelsRecord
from llmlab.results.scores import Metric

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledScores:
    """A judged metric and people's labels of it, one entry per answer in the frame's order (`Results.labelled`).

    Answers are the units, clustered as the cases are and weighted as they are. Where the labels carry unequal
    inclusion probabilities, they are weighted by their inverse.

    Attributes:
        metric: what the judge's numbers mean.
        variants: in the order they were given.
        answers: per answer `variant`, `case_id` and `repeat`, `cluster` and `weight` of its case, and `judged`, `human`
            and `inclusion`: the judge's score, the mean of the labellers, and the probability with which it was chosen
            for them; NaN = none.
    """

    metric: Metric
    variants: tuple[str, ...]
    answers: pd.DataFrame

    @classmethod
    def of(
        cls, frame: pd.DataFrame, *, metric: Metric, variants: tuple[str, ...], golden: GoldenSet | None
    ) -> LabelledScores:
        """DataError where the frame has no labels of this metric."""
        import pandas as pd

        name = metric.name
        if f"{name}_label" not in frame.columns:
            raise DataError(f"these results carry no labels of {name!r}; give them, or add them with `with_labels`")
        case_ids, by_id = frame["case_id"].tolist(), {} if golden is None else golden.by_id
        cases = [by_id.get(case_id) for case_id in case_ids]
        alone = (f"\0{case_id}" for case_id in case_ids)
        clusters = [(case and case.cluster) or own for case, own in zip(cases, alone, strict=True)]
        numbers = {"judged": name, "human": f"{name}_label", "inclusion": f"{name}_inclusion"}
        answers = frame[["variant", "case_id", "repeat"]].assign(
            cluster=pd.Series(clusters, index=frame.index, dtype=object),  # a name may be half a surrogate pair
            weight=[1.0 if case is None else case.weight for case in cases],
            **{key: frame[column].to_numpy(dtype=float, na_value=np.nan) for key, column in numbers.items()},
        )
        return cls(metric=metric, variants=variants, answers=answers)

    def mean(self, variant: str, *, level: float = 0.95) -> stats.Correction:
        """The variant's mean over all its answers in what people would say (`stats.ppi_mean`)."""
        rows = self._of(variant)
        judged, human = rows["judged"].to_numpy(), rows["human"].to_numpy()
        return stats.ppi_mean(judged, human, bounds=self.metric.bounds, level=level, **_design(rows, rows["human"]))

    def difference(
        self, *, baseline: str, candidate: str, case_ids: Collection[str] | None = None, level: float = 0.95
    ) -> stats.Correction:
        """candidate - baseline in what people would say, over the answers that both gave, of these cases or of all.

        Raises:
            ValueError: no such variant. DataError: the two answered no case in common.
        """
        refuse_unknown(variant=((baseline, candidate), self.variants))
        pairs = self._of(baseline).merge(self._of(candidate), on=["case_id", "repeat"], suffixes=("", "_b"))
        if case_ids is not None:
            pairs = pairs[pairs["case_id"].isin(set(case_ids))]
        if pairs.empty:
            raise DataError(f"{baseline!r} and {candidate!r} answered no case in common")
        return stats.ppi_difference(
            pairs["judged"].to_numpy(),
            pairs["judged_b"].to_numpy(),
            human_baseline=pairs["human"].to_numpy(),
            human_candidate=pairs["human_b"].to_numpy(),
            bounds=self.metric.change_bounds,
            level=level,
            **_design(pairs, pairs["human"] + pairs["human_b"]),
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
        if self.answers["weight"].nunique() > 1:
            raise DataError("error rates count each answer once, and these cases have different weights")
        own = self._of(variant)
        both = (own if own_labels else self.answers).dropna(subset=["judged", "human"])
        rest = own[own["judged"].notna() & own["human"].isna()]
        if rest.empty:
            raise DataError("every judged answer of this variant has a label: the labels alone tell its rate")
        passes = [(both[who] >= passes_from).tolist() for who in ("human", "judged")]
        rates = stats.judge_rates(*passes, positive=True, level=level)
        passed = int((rest["judged"] >= passes_from).sum())
        correction = stats.rogan_gladen(passed, len(rest), rates=rates, level=level)
        if not _share_clusters(own):
            return correction
        note = "cases share clusters, for which this interval is too narrow: `corrected` takes them in"
        noted = replace(correction.corrected, notes=(*correction.corrected.notes, note))
        return replace(correction, corrected=noted)

    def rates(self, *, level: float = 0.95) -> dict[str, stats.Correction]:
        """`rate` per variant, each by its own labels; empty where that would not be honest.

        Error rates need a scale of two levels, and answers that were chosen by nothing but chance: a choice by the
        judge's score shifts them. Weights and clusters have no such interval.
        """
        design, levels = _design(self.answers, self.answers["human"]), self.metric.bounds
        by_chance = design["inclusion"] is None and design["weights"] is None
        if levels is None or self.metric.span != 1 or not by_chance:
            return {}
        for own in map(self._of, self.variants):
            has_label = own["human"].notna()[own["judged"].notna()]
            if has_label.all() or not has_label.any() or _share_clusters(own):
                return {}
        how: dict[str, Any] = {"passes_from": levels[1], "own_labels": True, "level": level}
        return {variant: self.rate(variant, **how) for variant in self.variants}

    def cells(self, variant: str) -> set[tuple[str, int]]:
        """(case id, repeat) of the variant's answers that judge and people have both scored."""
        both = self._of(variant).dropna(subset=["judged", "human"])
        return set(zip(both["case_id"], both["repeat"], strict=True))

    def _of(self, variant: str) -> pd.DataFrame:
        return self.answers[self.answers["variant"] == variant]


def _share_clusters(rows: pd.DataFrame) -> bool:
    return rows["cluster"].nunique() < rows["case_id"].nunique()


def _design(rows: pd.DataFrame, human: pd.Series[float]) -> dict[str, Any]:
    """Clusters where cases share one; weights of cases and inclusion probabilities where they differ."""
    clusters, chances = rows["cluster"].tolist(), rows["inclusion"][human.notna()]
    uneven = chances.notna().all() and chances.nunique() > 1
    return {
        "clusters": clusters if len(set(clusters)) < len(clusters) else None,
        "inclusion": rows["inclusion"].to_numpy() if uneven else None,
        "weights": rows["weight"].to_numpy() if rows["weight"].nunique() > 1 else None,
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
    given = ~np.isnan(chances)[~np.isnan(people)]
    evenly = (
        f"{(~given).sum()} of {given.size} answers labelled for {name} do not say by what chance they were chosen: "
    )
    evenly += "all are read as if they were drawn evenly."
    notes = (*([stale] if n_stale else ()), *([evenly] if given.any() and not given.all() else ()))
    columns = {f"{name}_label": people, f"{name}_inclusion": chances}
    return columns, LabelsRecord(digest=labels.digest, used=n_used, stale=n_stale), notes


def corrected_line(scores: LabelledScores, row: PairedRow) -> str:
    """A sentence with the corrected difference, to stand beside a row's raw one."""
    difference = scores.difference(baseline=row.baseline, candidate=row.candidate, level=row.level)
    text = str(difference.corrected) if difference.corrected.value is not None else "unknown"
    why = "; ".join(difference.corrected.notes)
    return (
        f"Corrected by people's labels of {counted(difference.n_labelled, 'case')}, {row.candidate} - {row.baseline} "
        f"on {scores.metric.name} is {text} (the judge alone: {difference.raw}){f'; {why}' if why else ''}."
    )
