"""A judge's scores corrected by the labels of some of its answers, beside the raw ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from llmlab.display.shown import Shown
from llmlab.golden.labels import Labels
from llmlab.judge.calibration import interval_of
from llmlab.results.labelled import LabelledScores
from llmlab.results.results import Results
from llmlab.stats.correction import Correction

__all__ = ["Corrected", "corrected", "corrected_difference", "corrected_rate", "with_labels"]


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
                "corrected": interval_of(one.corrected),
                "judge alone": interval_of(one.raw),
                "labels alone": interval_of(one.labels_only),
                **({"by error rates": interval_of(self.by_rates[variant].corrected)} if self.by_rates else {}),
                "labels": one.n_labelled,
                "judge's weight": None if one.lam is None else round(one.lam, 2),
            }
            for variant, one in self.by_variant.items()
        ]

    def _sentence(self) -> str:
        every = [*self.by_variant.values(), *self.by_rates.values()]
        notes = dict.fromkeys(note for one in every for note in one.corrected.notes)
        rates = ["By error rates is Rogan-Gladen with the interval of Lee et al."] if self.by_rates else []
        sentences = [f"Mean {self.metric} per answer, corrected by PPI++ with 95% intervals", *rates, *notes]
        return ". ".join(sentence.rstrip(".") for sentence in sentences) + "."


def with_labels(results: Results, labels: Labels, *, metric: str | None = None) -> Results:
    """The same results with people's grades beside the judge's (`Results.with_labels`)."""
    return results.with_labels(labels, metric=metric)


def corrected(results: Results, metric: str, labels: Labels | None = None, *, level: float = 0.95) -> Corrected:
    """The mean of a judge's metric per variant, corrected by the labels of some of its answers.

    On a scale of two levels Rogan-Gladen stands beside it.

    Args:
        labels: people's; by default those that the results carry (`with_labels`).

    A judge that is half a level too kind to everything:

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=150, seed=1, kindness=(0.5, 0.5))
    >>> found = corrected(planted.results, "correctness", planted.labels)["v1"]
    >>> round(found.raw.value, 1), round(found.corrected.value, 1)
    (3.5, 3.0)
    """
    scores = _labelled(results, labels, metric)
    means = {variant: scores.mean(variant, level=level) for variant in results.variants}
    return Corrected(metric=metric, by_variant=means, by_rates=scores.rates(level=level))


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
    scores = _labelled(results, labels, metric)
    return scores.difference(baseline=baseline, candidate=candidate, case_ids=case_ids, level=level)


def corrected_rate(
    results: Results, metric: str, labels: Labels | None = None, *, variant: str, passes_from: int, level: float = 0.95
) -> Correction:
    """The share of answers that people would pass, by Rogan-Gladen: refused where the judge does not know passes.

    An answer passes from the level `passes_from`. For a variant's level, never for a difference of two; DataError where
    cases have different weights (`LabelledScores.rate`).

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=150, seed=1, noise=0.1)
    >>> found = corrected_rate(planted.results, "correctness", planted.labels, variant="v1", passes_from=3)
    >>> found.corrected.low < 0.9 < found.corrected.high
    True
    """
    return _labelled(results, labels, metric).rate(variant, passes_from=passes_from, level=level)


def _labelled(results: Results, labels: Labels | None, metric: str) -> LabelledScores:
    return (results if labels is None else results.with_labels(labels, metric=metric)).labelled(metric)
