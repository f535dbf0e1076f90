"""A judge's measured figures as values: one group of pairwise verdicts or pointwise scores, and all groups together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmlab.base.display import Interval, Shown, as_sentences, plain
from llmlab.base.numbers import p_text
from llmlab.stats.agreement import FEW_LABELS, ConfusionMatrix, JudgeRates, LabelsNeeded, labels_for_kappa
from llmlab.stats.bias import BiasSlope, PositionBias
from llmlab.stats.estimate import Estimate

__all__ = ["Calibration", "ScoreGroup", "VerdictGroup"]

WANTED_HALF_WIDTH = 0.1  # of kappa: what "enough labels" is computed for


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerdictGroup(Shown):
    """One pairwise judge against people.

    Attributes:
        group: what it was split by, such as {"judge": "GPT-4"}.
        n, missing: pairs that people decided, and of them without a judge's verdict in some order.
        human_ties, unlabelled: pairs that people held to be equal (in `kappa_both` only), and those without a label.
        position: accuracy in each order and in both, consistency, first against second.
        kappa: of the verdicts in order 1 (labels 1, 2, tie), with a bootstrap interval.
        kappa_both: of the verdict by rule: the same winner in both orders, else a tie.
        rates: sensitivity and specificity of "output 1 wins" in order 1; ties and missing verdicts are wrong.
        length, own: slopes of length and of the judge's own answers, None without lengths or authors.
        clusters: groups that the pairs come in, by which every interval and p is computed; None = pairs independent.
    """

    group: Mapping[str, Any]
    n: int
    missing: int
    human_ties: int
    unlabelled: int
    position: PositionBias
    kappa: Estimate
    kappa_both: Estimate
    matrix: ConfusionMatrix
    rates: JudgeRates
    length: BiasSlope | None = None
    own: BiasSlope | None = None
    clusters: int | None = None

    def record(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        place = self.position
        return {
            "group": dict(self.group),
            "n": self.n,
            "clusters": self.clusters,
            "missing": self.missing,
            "human_ties": self.human_ties,
            "unlabelled": self.unlabelled,
            "accuracy_order1": _value(place.accuracy_order1),
            "accuracy_order2": _value(place.accuracy_order2),
            "accuracy_both": _value(place.accuracy_both),
            "consistency": place.consistency.value,
            "first_position": place.first,
            "second_position": place.second,
            "position_p": place.p_value,
            "kappa": self.kappa.value,
            "kappa_ci": _ends(self.kappa),
            "kappa_both": self.kappa_both.value,
            "kappa_both_ci": _ends(self.kappa_both),
            "length_slope": self.length.value if self.length else None,
            "length_slope_se": self.length.se if self.length else None,
            "length_slope_p": self.length.p_value if self.length else None,
            "gold_slope": self.length.gold if self.length else None,
            "own_slope": self.own.value if self.own else None,
            "own_slope_se": self.own.se if self.own else None,
            "own_slope_p": self.own.p_value if self.own else None,
            "sensitivity": self.rates.sensitivity.value,
            "specificity": self.rates.specificity.value,
            "notes": [*self.kappa.notes, *([self.length.note] if self.length and self.length.note else [])],
        }

    def _rows(self) -> list[dict[str, object]]:
        place = self.position
        slope, own = self.length, self.own
        return [
            {
                **self.group,
                "pairs": self.n,
                **({"clusters": self.clusters} if self.clusters else {}),
                "right in both orders": _interval(place.accuracy_both),
                "consistent": _interval(place.consistency),
                "first : second": f"{place.first} : {place.second}",
                "p (position)": p_text(place.p_value),
                "kappa": _interval(self.kappa_both),
                "length slope": None if slope is None else Interval(slope.value, slope.low, slope.high),
                **({"own answers": Interval(own.value, own.low, own.high)} if own is not None else {}),
                "missing": self.missing,
            }
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the figures mean."""
        slopes = [slope._sentence() for slope in (self.length, self.own) if slope is not None]
        return (self.position._sentence(), *slopes, as_sentences(self.kappa_both.notes))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoreGroup(Shown):
    """One pointwise judge against people.

    Attributes:
        group: what it was split by.
        n, missing, unlabelled: items with a human label, of them without a judge's score, and left out.
        agreement: share of equal labels.
        kappa: quadratic weights on a scale of more than two levels, else unweighted; bootstrap interval.
        kappa_unweighted: for reference.
        leaning: mean of judge - human, the judge's leniency.
        rates: for a scale of two levels, else None.
        length: change of judge - human per standard deviation of words, None without lengths.
        clusters: groups that the items come in, by which every interval is computed; None = items independent.
    """

    group: Mapping[str, Any]
    n: int
    missing: int
    unlabelled: int
    agreement: Estimate
    kappa: Estimate
    kappa_unweighted: Estimate
    leaning: Estimate
    matrix: ConfusionMatrix
    rates: JudgeRates | None = None
    length: Estimate | None = None
    clusters: int | None = None

    def record(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "group": dict(self.group),
            "n": self.n,
            "clusters": self.clusters,
            "missing": self.missing,
            "unlabelled": self.unlabelled,
            "agreement": self.agreement.value,
            "agreement_ci": _ends(self.agreement),
            "kappa": self.kappa.value,
            "kappa_ci": _ends(self.kappa),
            "kappa_method": self.kappa.method,
            "kappa_unweighted": self.kappa_unweighted.value,
            "leaning": self.leaning.value,
            "leaning_ci": _ends(self.leaning),
            "labels": list(self.matrix.labels),
            "confusion": [list(row) for row in self.matrix.counts],
            "sensitivity": self.rates.sensitivity.value if self.rates else None,
            "specificity": self.rates.specificity.value if self.rates else None,
            "length_slope": _value(self.length),
            "notes": list(dict.fromkeys([*self.kappa.notes, *self.leaning.notes])),
        }

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                **self.group,
                "labels": self.n,
                **({"clusters": self.clusters} if self.clusters else {}),
                "same level": _interval(self.agreement),
                "kappa": _interval(self.kappa),
                "judge - human": _interval(self.leaning),
                "per sd of length": _interval(self.length),
                "missing": self.missing,
            }
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the figures mean."""
        lean = self.leaning
        said = "The judge is not shown to be more lenient or stricter than people."
        if lean.low is not None and lean.high is not None and not lean.low <= 0 <= lean.high:
            leaning = "more lenient" if lean.low > 0 else "stricter"
            said = f"The judge is {leaning} than people by {abs(lean.value or 0):.2g}."
        slope, moved = self.length, ""
        if slope is not None and slope.low is not None and slope.high is not None and not slope.low <= 0 <= slope.high:
            moved = f"It {'favours long' if slope.low > 0 else 'favours short'} answers beyond what people do."
        return tuple(part for part in (said, moved, as_sentences(self.kappa.notes)) if part)


@dataclass(frozen=True, kw_only=True, repr=False)
class Calibration(Shown):
    """A judge, or several groups of its verdicts, measured against people's labels.

    Attributes:
        groups: one per combination of what it was split by; one in all without `by`.
        judge, judge_digest, labels_digest: which judge, and what it was measured on; "" for tables made elsewhere.
        pinned: whether the judge's model is; a floating judge gets no passport.
        notes: sentences that a reader must see, such as stale labels.
    """

    groups: tuple[VerdictGroup | ScoreGroup, ...]
    judge: str = ""
    judge_digest: str = ""
    labels_digest: str = ""
    pinned: bool = False
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[VerdictGroup | ScoreGroup]:
        return iter(self.groups)

    @property
    def only(self) -> VerdictGroup | ScoreGroup:
        """The figures, where there is one group."""
        if len(self.groups) != 1:
            raise ValueError(f"there are {len(self.groups)} groups; pick one of `groups`")
        return self.groups[0]

    @property
    def labels_needed(self) -> LabelsNeeded | None:
        """How many labels give kappa to within 0.1 (`labels_for`)."""
        return self.labels_for(WANTED_HALF_WIDTH)

    def labels_for(self, half_width: float) -> LabelsNeeded | None:
        """How many labels give kappa to within `half_width`, if it is about what was found; None where undefined.

        Read off the interval that was found, which knows of clusters and of how far judge and people lie apart; with
        fewer than 30 labels planned from the shares of the levels alone.

        >>> from llmlab.judge.calibration import calibrate_scores
        >>> from llmlab.simulate import judged_grades
        >>> found = calibrate_scores(judged_grades(150, seed=1), scale=range(1, 6))
        >>> found.labels_for(0.05).labels > 3 * found.labels_for(0.1).labels
        True
        """
        first = self.groups[0]
        kappa = first.kappa_both if isinstance(first, VerdictGroup) else first.kappa
        if kappa.value is None or not 0 <= kappa.value < 1:
            return None
        rows = np.array(first.matrix.counts, dtype=float)
        shares = (rows.sum(axis=0) + rows.sum(axis=1)) / (2 * rows.sum())
        used = shares[shares > 0].tolist()
        weights = "quadratic" if "quadratic" in kappa.method else "unweighted"
        needed = labels_for_kappa(half_width, expected=kappa.value, shares=used, weights=weights)
        if kappa.low is None or kappa.high is None or kappa.n < FEW_LABELS:
            return needed
        found = math.ceil(kappa.n * ((kappa.high - kappa.low) / 2 / half_width) ** 2)
        return replace(needed, labels=max(2, found), clustered=first.clusters is not None)

    def records(self) -> list[dict[str, Any]]:
        """Each group's figures as plain JSON values."""
        return [group.record() for group in self.groups]

    def __repr__(self) -> str:
        return f"Calibration({plain(self.judge or 'verdicts')}, {len(self.groups)} groups, {self.groups[0].n} labels)"

    def _rows(self) -> list[dict[str, object]]:
        return [row for group in self.groups for row in group._rows()]

    def _sentence(self) -> str:
        first = self.groups[0].sentences if len(self.groups) == 1 else ()
        needed = self.labels_needed if len(self.groups) == 1 else None
        return " ".join(filter(None, [*first, *([needed._sentence()] if needed else []), *self.notes]))


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _ends(estimate: Estimate) -> list[float] | None:
    return None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]


def _interval(estimate: Estimate | None) -> Interval | None:
    if estimate is None:
        return None
    alone = estimate.low is None or estimate.high is None  # an estimate without an interval deserves few digits
    value = round(estimate.value, 2) if alone and estimate.value is not None else estimate.value
    return Interval(value, estimate.low, estimate.high)
