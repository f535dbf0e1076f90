"""A judge's score corrected for the judge's errors with a few human labels.

`ppi_mean` and `ppi_difference` (prediction-powered inference) are right whatever the judge is like: a useless judge
only leaves them as wide as the labels alone. `rogan_gladen` divides by the judge's error rates, and is refused
where the judge is not shown to know passes from fails. A difference of two variants is never corrected by error
rates shared between them: a judge that is more lenient to one variant would turn its leniency into a gain.

Where scores have bounds and few labels differ from what the judge says, the residuals are read by the score test of
`bounded` as well: of 20 labels that all agree with the judge, none rules out the 15% that it gets wrong. Simulated
cover in percent and mean width of the 95% interval, 300 draws each of 1,000 cases (pass/fail of which 50, 80 and 97%
pass; differences whose truth is 0; a judge lenient to 2 to 10% of all, in differences to the candidate alone):

| labels | by t or normal: cover, least | width | this: cover, least | width | labels alone: width |
| --- | --- | --- | --- | --- | --- |
| mean, 20 | 78, 44 | .20 | 99, 97 | .35 | .39 |
| 60 | 88, 80 | .11 | 98, 93 | .15 | .20 |
| 150 | 92, 88 | .08 | 96, 94 | .09 | .13 |
| difference, 20 | 60, 16 | .15 | 100, 100 | .54 | .41 |
| 60 | 75, 32 | .08 | 100, 100 | .19 | .18 |
| 150 | 88, 73 | .06 | 99, 98 | .08 | .09 |

So a judge helps little before some 60 labels: how often it is wrong has to be seen first. Once its errors are large and
lie on some twenty labels that is seen, and t alone is read: judges wrong on 10 to 30% of 80 and 150 labels covered 94
to 97%, and grades of which half differ are 30% narrower than 80 labels alone. Small errors on many labels are not
enough: grades missed by .05 everywhere and by .8 in 2 or 3% of the candidate's answers covered 89 to 94% by t with 60
and 100 labels, 99% or more by this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.display.shown import Shown
from llmlab.stats.agreement import JudgeRates
from llmlab.stats.arrays import Bounds, FloatArray, GroupIndex, Values, codes, floats, open_unit, paired_differences
from llmlab.stats.bias import clustered_contrast
from llmlab.stats.bounded import BoundedMean, bounded_mean, carriers, effective_cases, enough_differ
from llmlab.stats.estimate import Estimate, wilson_rate
from llmlab.stats.standard_error import FEW_DF, case_weights, skew_notes, standard_error, two_sided

FEW_LABELS = 50  # below: Student's t and a cross-fitted lambda
_MANY_DISAGREE = 20  # labels that carry the judge's errors: from here t covers what they say, where these are
FAR_OFF = 0.2  # so large: their root mean square, in the range of an answer's scores
_RARE = 10  # labels of a kind: with fewer, 95% intervals covered 83 to 93% in simulations
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Correction(Shown):
    """A corrected estimate beside the raw one.

    Attributes:
        corrected: the estimate to report; its value is None where the correction is refused, with the reason.
        raw: the judge's own score over all cases.
        labels_only: what the labels say without the judge.
        lam: how far the judge's scores are used, from 0 (not at all) to 1; None for Rogan-Gladen.
        n_labelled, n_unlabelled: cases with and without a label (both scored by the judge).
        se, df: of the corrected estimate; df inf where the interval is the normal one, se 0 where nothing varied, None
            where all labels lie in one cluster.
        labels_se: standard error of the labels alone, None without an interval.
        bounded: the score test of what people say beyond the judge, where scores have bounds and few labels differ.
    """

    corrected: Estimate
    raw: Estimate
    labels_only: Estimate
    lam: float | None
    n_labelled: int
    n_unlabelled: int
    se: float | None = None
    df: float | None = None
    labels_se: float | None = None
    bounded: BoundedMean | None = field(default=None, compare=False)

    def labels_for(self, se: float) -> int | None:
        """Labelled cases in all that bring the standard error to `se`; None where labelling every case would not.

        PPI++ has the variance s2 * ((1 - rho2) / n + rho2 / N) for n labels among N cases, s2 being that of what
        people say and rho its correlation with the judge (Angelopoulos, Duchi & Zrnic 2023); rho2 is read off the two
        standard errors, so that the cost of clusters and weights is in it.

        >>> found = ppi_mean([1, 0] * 200, [1, 0, 1, 1, 0, 0, 1, 0, 1, 1] * 10 + [None] * 300)
        >>> round(found.se, 4), found.labels_for(found.se / 1.2), found.labels_for(found.se / 9)
        (0.0458, 148, None)
        """
        n, everything = self.n_labelled, self.n_labelled + self.n_unlabelled
        if self.se is None or not self.labels_se or n == everything:
            return None
        share = n / everything
        unexplained = min(1.0, max(0.0, ((self.se / self.labels_se) ** 2 - share) / (1 - share)))
        of_cases = (1 - unexplained) * share / (unexplained + (1 - unexplained) * share)
        left = se**2 - of_cases * self.se**2
        if left <= 0:
            return None
        needed = max(n, math.ceil(n * (1 - of_cases) * self.se**2 / left))
        return needed if needed <= everything else None

    def _rows(self) -> list[dict[str, object]]:
        shown = (("corrected", self.corrected), ("judge alone", self.raw), ("labels alone", self.labels_only))
        return [
            {"score": name, "value": estimate.interval(), "cases": estimate.n, "method": estimate.method}
            for name, estimate in shown
        ]

    def _sentence(self) -> str:
        notes = "; ".join(self.corrected.notes)
        if self.corrected.value is None:
            return f"Not corrected: {notes}."
        text = f"The judge says {self.raw}; corrected by {counted(self.n_labelled, 'label')} it is {self.corrected}."
        return f"{text} Note: {notes}." if notes else text


def rogan_gladen(judged_passes: int, n: int, *, rates: JudgeRates, level: float = 0.95) -> Correction:
    """The pass rate corrected by the judge's sensitivity and specificity, with the interval of Lee et al.

    (p + specificity - 1) / Youden's J within [0, 1]. Refused (value None) where the interval of Youden's J reaches 0.
    Source: Rogan & Gladen 1978, Am. J. Epidemiology 107; Lee et al. 2025, arXiv 2511.21140.

    Args:
        judged_passes, n: what the judge passed among n cases without labels.
        rates: the judge against people on other cases, from `agreement.judge_rates`.

    >>> from llmlab.stats.agreement import judge_rates
    >>> human, judge = [1] * 100 + [0] * 100, [1] * 90 + [0] * 10 + [0] * 85 + [1] * 15
    >>> found = rogan_gladen(800, 1000, rates=judge_rates(human, judge, positive=1)).corrected
    >>> round(found.value, 6), round(found.low, 6), round(found.high, 6)
    (0.866667, 0.798201, 0.958136)
    """
    z2 = two_sided(level) ** 2
    sensitivity, specificity, youden = rates.sensitivity, rates.specificity, rates.youden
    raw = wilson_rate(judged_passes, n, level=level)
    blank = Estimate(value=None, level=level, n=n, n_attempted=n, method="Rogan-Gladen, interval of Lee et al.")
    labels = sensitivity.n + specificity.n
    if sensitivity.value is None or specificity.value is None or youden.value is None or youden.low is None:
        corrected = replace(blank, notes=("; ".join(youden.notes) or "the judge's error rates are unknown",))
    elif youden.low <= 0:
        why = f"the interval of Youden's J ({youden}) reaches 0, so the judge is not shown to know passes from fails"
        corrected = replace(blank, notes=(f"{why}; use `ppi_mean`",))
    else:
        value = (judged_passes / n + specificity.value - 1) / youden.value
        low, high = _lee(judged_passes, n, sensitivity, specificity, z2)
        corrected = replace(blank, value=min(1.0, max(0.0, value)), low=low, high=high)
    why = "the labels are no sample of these cases: they tell the judge's errors, not this rate"
    labels_only = replace(blank, n=labels, n_attempted=labels, method="labels alone", notes=(why,))
    return Correction(
        corrected=corrected, raw=raw, labels_only=labels_only, lam=None, n_labelled=labels, n_unlabelled=n
    )


def ppi_mean(
    judged: Values,
    human: Values,
    *,
    inclusion: Values | None = None,
    weights: Values | None = None,
    clusters: Values | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> Correction:
    """The mean human score over all cases, from the judge's scores on all and human labels on some (PPI++).

    lam * mean(judged, unlabelled) + mean(human - lam * judged, labelled) with lam = cov / ((1 + n/N) var) in [0, 1];
    at 0 it is the labels' own mean and interval.
    From 50 labels on the large-sample normal interval; below, or with clusters, CR2 standard errors and t, and under
    50 labels a lambda cross-fitted over 5 folds. With `inclusion` probabilities the labelled residuals are weighted
    by their inverse and the judge's mean runs over ALL cases, since the unlabelled rest is then no random sample.
    With `weights` w the judge's part is sum(w judged) / sum(w) over all cases and a residual counts w / inclusion.
    Source: Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453; with known probabilities Zrnic & Candes 2024.

    Args:
        judged: (cases,) the judge's score of every case; None or NaN is unscored, left out and counted.
        human: (cases,) the label, None or NaN where there is none.
        inclusion: (cases,) the probability with which each case was chosen for labelling.
        weights: (cases,) how many cases of production each stands for; None or all equal changes nothing.
        clusters: (cases,) labels of the groups the cases come in.
        bounds: of a score; where given, rare disagreement that few labels show is reckoned with (`bounded`).

    >>> fit = ppi_mean([1, 0] * 200, [1, 0, 1, 1] * 25 + [None] * 300)
    >>> round(fit.corrected.value, 3), round(fit.labels_only.value, 3)
    (0.75, 0.75)
    """
    f = floats(judged, "judged", gaps=True)
    y = floats(human, "human", length=len(f), gaps=True)
    sample = _sample(f, y, inclusion=inclusion, weights=weights, clusters=clusters, arms=1)
    return _ppi(sample, bounds=bounds, level=level, what="mean")


def ppi_difference(
    judged_baseline: Values,
    judged_candidate: Values,
    *,
    human_baseline: Values,
    human_candidate: Values,
    inclusion: Values | None = None,
    weights: Values | None = None,
    clusters: Values | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> Correction:
    """candidate - baseline in human score over all cases, with labels on BOTH arms' answers to the same cases.

    `ppi_mean` of the differences per case, so a judge that treats the arms differently is corrected for it. Cases
    labelled in one arm only are used without their label, and counted in a note. `bounds` are those of a difference.

    >>> baseline, candidate = [0, 1] * 100, [1, 1] * 100
    >>> labels = dict(human_baseline=[0, 1] * 30 + [None] * 140, human_candidate=[0, 1] * 30 + [None] * 140)
    >>> fit = ppi_difference(baseline, candidate, **labels)
    >>> round(fit.raw.value, 6), round(fit.corrected.value, 6)
    (0.5, 0.0)
    """
    arms = [floats(judged_baseline, "judged_baseline", gaps=True)]
    named = {"judged_candidate": judged_candidate, "human_baseline": human_baseline, "human_candidate": human_candidate}
    arms += [floats(column, name, length=len(arms[0]), gaps=True) for name, column in named.items()]
    judged, human = (paired_differences(arms[i + 1], arms[i]) for i in (0, 2))
    sample = _sample(judged, human, inclusion=inclusion, weights=weights, clusters=clusters, arms=2)
    correction = _ppi(sample, bounds=bounds, level=level, what="difference")
    if not (one_sided := int((np.isnan(arms[2]) != np.isnan(arms[3])).sum())):
        return correction
    note = f"labelled in one arm only, and not used: {counted(one_sided, 'case')}"
    return replace(correction, corrected=replace(correction.corrected, notes=(*correction.corrected.notes, note)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The cases that the judge scored, and which of them carry a label."""

    judged: FloatArray  # (cases,)
    clusters: GroupIndex  # (cases,)
    clustered: bool
    stands_for: FloatArray | None  # (cases,) mean 1; None for equal weights
    labelled: NDArray[np.bool_]  # (cases,)
    human: FloatArray  # (labelled,)
    judged_labelled: FloatArray  # (labelled,)
    label_clusters: GroupIndex  # (labelled,)
    weights: FloatArray | None  # (labelled,) stands_for / inclusion probability; None where both are equal
    n_attempted: int
    lost: int  # labels of cases without a judge's score
    arms: int  # 2 of a difference


class _Mean(NamedTuple):
    """An estimate with its standard error and degrees of freedom; None where it has none."""

    estimate: Estimate
    se: float | None = None
    df: float | None = None
    bounded: BoundedMean | None = None


def _sample(
    f: FloatArray,
    y: FloatArray,
    *,
    inclusion: Values | None,
    weights: Values | None,
    clusters: Values | None,
    arms: int,
) -> _Sample:
    scored, labelled = ~np.isnan(f), ~np.isnan(f) & ~np.isnan(y)
    group = np.arange(len(f)) if clusters is None else codes(clusters, "clusters", length=len(f))[0]
    of_scored = np.unique(group[scored], return_inverse=True)[1].astype(np.intp)
    stands_for = case_weights(weights, n=len(f))
    stands_for = None if stands_for is None else stands_for / stands_for[scored].mean()
    of_labels = None if stands_for is None else stands_for[labelled]
    if inclusion is not None:
        chance = floats(inclusion, "inclusion", length=len(f), gaps=True)[labelled]
        if not ((chance > 0) & (chance <= 1)).all():
            raise DataError("inclusion must be a probability above 0 for every labelled case")
        of_labels = (1.0 if of_labels is None else of_labels) / chance
    return _Sample(
        judged=f[scored],
        clusters=of_scored,
        clustered=clusters is not None,
        stands_for=None if stands_for is None else stands_for[scored],
        labelled=labelled[scored],
        human=y[labelled],
        judged_labelled=f[labelled],
        label_clusters=of_scored[labelled[scored]],
        weights=of_labels,
        n_attempted=len(f),
        lost=int((~scored & ~np.isnan(y)).sum()),
        arms=arms,
    )


def _ppi(sample: _Sample, *, bounds: Bounds | None, level: float, what: str) -> Correction:
    open_unit(level, "level")
    n, n_all, method, lam = len(sample.human), len(sample.judged), f"PPI++ {what}", None
    lost = f"labelled, but without a judge's score, and not used: {counted(sample.lost, 'case')}"
    notes: tuple[str, ...] = (lost,) if sample.lost else ()
    raw = _sum_of_means(
        [sample.judged], [sample.clusters], weights=sample.stands_for, level=level, method="the judge alone"
    )
    labels_only = _corrected(sample, np.zeros(n), bounds=bounds, level=level, method="labels alone")
    if n < 2:
        why = f"{n} labelled {'case' if n == 1 else 'cases'}: a correction needs at least 2"
        mean = _Mean(Estimate(value=None, level=level, method=method, notes=(*notes, why)))
    else:
        lambdas = _lambdas(sample)
        lam = float(np.average(lambdas, weights=sample.weights))
        mean = _corrected(sample, lambdas, bounds=bounds, level=level, method=method)
        useless = ("the judge's scores do not help: the labels alone count",) if lam == 0 and n < n_all else ()
        rare = () if mean.bounded else _rare_notes(sample, lam, what)
        notes += useless + rare + mean.estimate.notes
        mean = mean._replace(estimate=replace(mean.estimate, notes=notes))
    return Correction(
        corrected=replace(mean.estimate, n=n_all, n_attempted=sample.n_attempted),
        raw=replace(raw.estimate, n_attempted=sample.n_attempted),
        labels_only=replace(labels_only.estimate, n_attempted=sample.n_attempted),
        lam=lam,
        n_labelled=n,
        n_unlabelled=n_all - n,
        se=mean.se,
        df=mean.df,
        labels_se=labels_only.se,
        bounded=mean.bounded,
    )


def _rare_notes(sample: _Sample, lam: float, what: str) -> tuple[str, ...]:
    """That the labels hold too few of one kind, or residuals too skewed, for the normal or t interval to be right."""
    kinds, counts = np.unique(sample.human, return_counts=True)
    if what == "mean" and len(kinds) == 2 and counts.min() < _RARE:
        few = f"only {counts.min()} of {len(sample.human):,} labels are of the rarer kind"
        return (f"{few}: the interval may be too short; label more cases of it",)
    return skew_notes(sample.human - lam * sample.judged_labelled, sample.label_clusters)


def _lambdas(sample: _Sample) -> FloatArray:
    """How far the judge is used, per label: the same for all, or of few labels by what the other folds say."""
    n = len(sample.human)
    return _cross_fitted(sample) if n < FEW_LABELS else np.full(n, _lambda(sample, np.ones(n, dtype=bool)))


def _corrected(sample: _Sample, lambdas: FloatArray, *, bounds: Bounds | None, level: float, method: str) -> _Mean:
    """The judge's part and the residuals of the labels; at lambda 0 the labels alone."""
    n, few = len(sample.human), len(sample.human) < FEW_LABELS
    residual = sample.human - lambdas * sample.judged_labelled
    base = np.ones(len(sample.judged), dtype=bool) if sample.weights is not None else ~sample.labelled
    parts, clusters, weights = [residual], [sample.label_clusters], sample.weights
    if lambdas.any():
        whole = sample.judged[base]
        parts.insert(0, float(np.average(lambdas, weights=weights)) * whole)
        clusters.insert(0, sample.clusters[base])
        own = np.ones(len(whole)) if sample.stands_for is None else sample.stands_for
        weights = np.concatenate([own, np.ones(n) if weights is None else weights])
    how = "CR2 and t" if base.any() else "all cases are labelled"
    how += ", cross-fitted lambda" if few and lambdas.any() else ""
    mean = _sum_of_means(parts, clusters, weights=weights, level=level, method=f"{method}, {how}")
    value = mean.estimate.value
    large = not few and not sample.clustered and sample.weights is None and base.any()
    if large and value is not None and mean.estimate.low is not None:
        se = math.sqrt(float(sum(part.var() / len(part) for part in parts)))
        half, method = two_sided(level) * se, f"{method}, large-sample normal interval"
        mean = _Mean(replace(mean.estimate, low=value - half, high=value + half, method=method), se, math.inf)
    if bounds is None or (lambdas.any() and _many_disagree(sample) and _far_off(sample, bounds)):
        return mean
    return _with_bounds(mean, sample, residual, lambdas, bounds)


def _many_disagree(sample: _Sample) -> bool:
    """Whether the judge's errors lie on some twenty labels (clusters), so that how often it is wrong was seen."""
    of_case = np.unique(sample.label_clusters, return_inverse=True)[1].astype(np.intp) if sample.clustered else None
    return carriers(np.abs(sample.human - sample.judged_labelled), sample.weights, of_case) >= _MANY_DISAGREE


def _far_off(sample: _Sample, bounds: Bounds) -> bool:
    """Whether its errors are large too: small ones everywhere say nothing of a rare large one."""
    errors, largest = sample.human - sample.judged_labelled, (bounds[1] - bounds[0]) / sample.arms
    return float(np.average(errors**2, weights=sample.weights)) >= (FAR_OFF * largest) ** 2


def _with_bounds(mean: _Mean, sample: _Sample, residual: FloatArray, lambdas: FloatArray, bounds: Bounds) -> _Mean:
    """With the score test of the residuals beside, where few labels differ from what the judge says.

    A residual y - lambda f lies between low - lambda high and high - lambda low. What is beside the residuals' own
    standard error is the judge's.
    """
    estimate, (low, high) = mean.estimate, bounds
    if estimate.value is None or mean.se is None:
        return mean
    of_case = np.unique(sample.label_clusters, return_inverse=True)[1].astype(np.intp) if sample.clustered else None
    error = standard_error(residual, of_case, weights=sample.weights)
    centre = float(np.average(residual, weights=sample.weights))
    least, most = float((low - lambdas * high).min()), float((high - lambdas * low).max())
    off, ends = residual - centre, (least - centre, most - centre)
    if enough_differ(off, sample.weights, of_case=of_case, bounds=ends, se=error.se):
        return mean
    sides = np.maximum(off, 0.0), np.maximum(-off, 0.0)
    bounded = bounded_mean(
        off + estimate.value,
        sample.weights,
        low=ends[0] + estimate.value,
        high=ends[1] + estimate.value,
        size=effective_cases(residual, sample.weights, of_case=of_case, variance=error.se**2, sides=sides),
        df=error.df,
        beside=math.sqrt(max(0.0, mean.se**2 - error.se**2)),
    )
    least, most = bounded.ends((1 - estimate.level) / 2)
    if estimate.low is not None and estimate.high is not None:
        least, most = min(least, estimate.low), max(most, estimate.high)
    notes = estimate.notes if mean.se else ()  # with bounds there is an interval where nothing varies
    low, high = min(max(low, least), estimate.value), max(min(high, most), estimate.value)
    estimate = replace(estimate, low=low, high=high, notes=notes)
    return _Mean(replace(estimate, method=f"{estimate.method}, and score test"), mean.se, mean.df, bounded)


def _sum_of_means(
    parts: list[FloatArray], clusters: list[GroupIndex], *, weights: FloatArray | None, level: float, method: str
) -> _Mean:
    """The sum of the (weighted) means of the parts, whose rows may share clusters; no interval from one cluster."""
    values, index = np.concatenate(parts), np.concatenate(clusters)
    if not len(values):
        return _Mean(Estimate(value=None, level=level, method=method, notes=("nothing was scored",)))
    part = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    index = np.unique(index, return_inverse=True)[1].astype(np.intp)
    design = (part[:, None] == np.arange(len(parts))).astype(float)
    fit = clustered_contrast(design, np.ones(len(parts)), response=values, clusters=index, weights=weights, level=level)
    blank = Estimate(value=fit.value, level=level, n=len(values), method=method)
    if fit.determined_by_one:
        why = "all of them lie in one cluster: there is no interval; label cases of other clusters"
        return _Mean(replace(blank, notes=(why,)))
    if fit.se == 0:
        why = "no variation was seen, which is not certainty: there is no interval; label more cases"
        return _Mean(replace(blank, notes=(why,)), 0.0, len(values) - 1.0)
    few = f"few labels or clusters ({fit.df:.1f} effective degrees of freedom): read the interval with care"
    notes = (few,) if fit.df < FEW_DF else ()
    return _Mean(replace(blank, low=fit.low, high=fit.high, notes=notes), fit.se, fit.df)


def _lambda(sample: _Sample, rows: NDArray[np.bool_]) -> float:
    """The weight of the judge that minimises the variance, estimated from these labelled rows, within [0, 1]."""
    f, y, everything = sample.judged_labelled[rows], sample.human[rows], sample.judged
    n, rest = len(sample.human), len(everything) - len(sample.human)
    if len(f) < 2 or rest == 0 or np.ptp(everything) == 0:
        return 0.0
    if sample.weights is None:
        covariance = float(((f - f.mean()) * (y - y.mean())).mean())
        best = covariance / ((1 + n / rest) * float(everything.var(ddof=1)))
    else:
        share = sample.weights[rows] / sample.weights[rows].sum() * len(everything)
        used, own = np.zeros((2, len(everything)))
        for part, scores in ((used, f), (own, y)):
            part[np.flatnonzero(sample.labelled)[rows]] = share * (scores - np.average(scores, weights=share))
        stands_for = np.ones(len(everything)) if sample.stands_for is None else sample.stands_for
        judge = stands_for * (everything - np.average(everything, weights=stands_for)) - used
        best = -float(own @ judge) / max(float(judge @ judge), 1e-300)
    return min(1.0, max(0.0, best))


def _cross_fitted(sample: _Sample) -> FloatArray:
    """A lambda for every labelled row, from the labels of the other folds; clusters stay whole."""
    fold = np.unique(sample.label_clusters, return_inverse=True)[1] % _FOLDS
    by_fold = np.array([_lambda(sample, fold != k) for k in range(_FOLDS)])
    chosen: FloatArray = by_fold[fold]
    return chosen


def _lee(passes: int, n: int, sensitivity: Estimate, specificity: Estimate, z2: float) -> tuple[float, float]:
    """The interval of arXiv 2511.21140: shrunken rates and a shifted centre."""
    size, p = n + z2, (passes + z2 / 2) / (n + z2)
    m0, m1 = specificity.n + 2, sensitivity.n + 2
    q0 = ((specificity.value or 0.0) * specificity.n + 1) / m0
    q1 = ((sensitivity.value or 0.0) * sensitivity.n + 1) / m1
    rate = (p + q0 - 1) / (q0 + q1 - 1)
    low_part, high_part = (1 - rate) * q0 * (1 - q0) / m0, rate * q1 * (1 - q1) / m1
    spread = p * (1 - p) / size + (1 - rate) * low_part + rate * high_part
    half = math.sqrt(z2 * max(spread, 0.0)) / (q0 + q1 - 1)
    centre = rate + 2 * z2 * (high_part - low_part)
    return max(0.0, min(1.0, centre - half)), max(0.0, min(1.0, centre + half))
