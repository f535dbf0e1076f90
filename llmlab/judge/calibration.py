"""What people's labels say of a judge: its figures, the passport they deserve, and its scores corrected by them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from llmlab.base.cells import as_sentences, plain
from llmlab.base.errors import DataError, FloatingModelError
from llmlab.base.numbers import Interval, counted, p_text
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Conclusion, Shown
from llmlab.gate.passport import JudgePassport, Limit, Measured
from llmlab.golden.labels import Labels
from llmlab.judge.grading import Instrument
from llmlab.results.labelled import LabelledScores
from llmlab.results.results import Results
from llmlab.stats.agreement import FEW_LABELS, ConfusionMatrix, JudgeRates, LabelsNeeded, labels_for_kappa
from llmlab.stats.bias import BiasSlope, PositionBias
from llmlab.stats.correction import Correction
from llmlab.stats.estimate import Estimate

_WANTED_HALF_WIDTH = 0.1  # of kappa: what "enough labels" is computed for
_LIMITS_GRADES: Mapping[str, Limit] = {"kappa": Limit(at_least=0.6)}
_LIMITS_PREFERENCES: Mapping[str, Limit] = {"kappa": Limit(at_least=0.6), "flip_rate": Limit(at_most=0.2)}
_SHARES = ("accuracy_order1", "accuracy_order2", "accuracy_both", "consistency")  # of a judge's position bias


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerdictGroup(Shown):
    """One pairwise judge against people.

    Attributes:
        group: what it was split by, such as {"judge": "GPT-4"}.
        n: people's decisions on pairs; several of one pair where several people labelled it.
        missing: pairs (each once) without a judge's verdict in some order.
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
            **{name: _value(getattr(place, name)) for name in _SHARES},
            "first_position": place.first,
            "second_position": place.second,
            "position_p": place.p_value,
            **_with_ends("kappa", self.kappa),
            **_with_ends("kappa_both", self.kappa_both),
            **_slope_record("length_slope", self.length),
            "gold_slope": self.length.gold if self.length else None,
            **_slope_record("own_slope", self.own),
            "sensitivity": self.rates.sensitivity.value,
            "specificity": self.rates.specificity.value,
            "notes": [*self.kappa.notes, *([self.length.note] if self.length and self.length.note else [])],
        }

    def _rows(self) -> list[dict[str, object]]:
        place = self.position
        return [
            {
                **self.group,
                "pairs": place.n,
                **({"labels": self.n} if self.n != place.n else {}),
                **({"clusters": self.clusters} if self.clusters else {}),
                "right in both orders": _interval(place.accuracy_both),
                "consistent": _interval(place.consistency),
                "first : second": f"{place.first} : {place.second}",
                "p (position)": p_text(place.p_value),
                "kappa": _interval(self.kappa_both),
                "length slope": _interval(self.length),
                **({"own answers": _interval(self.own)} if self.own is not None else {}),
                "missing": self.missing,
                "human ties": self.human_ties,
                "unlabelled": self.unlabelled,
            }
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the figures mean."""
        slopes = [slope._sentence() for slope in (self.length, self.own) if slope is not None]
        place = self.position._sentence()
        if self.missing == self.position.n:
            place = "No pair has a verdict of the judge in both orders: nothing is known of its taste for a position."
        return (place, *slopes, as_sentences(self.kappa_both.notes))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoreGroup(Shown):
    """One pointwise judge against people.

    Attributes:
        group: what it was split by.
        n, missing, unlabelled: items with a human label, of them without a judge's score, and left out.
        agreement: share of equal labels.
        kappa: quadratic weights on a scale of more than two levels, else unweighted; bootstrap interval.
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
            **_with_ends("agreement", self.agreement),
            **_with_ends("kappa", self.kappa),
            "kappa_method": self.kappa.method,
            "kappa_unweighted": self.kappa_unweighted.value,
            **_with_ends("leaning", self.leaning),
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
                "unlabelled": self.unlabelled,
            }
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the figures mean."""
        columns = zip(*self.matrix.counts, strict=True)
        grades = [level for level, column in zip(self.matrix.labels, columns, strict=True) if any(column)]
        if len(grades) == 1 and self.matrix.n == self.n > 1 and sum(map(any, self.matrix.counts)) > 1:
            return (
                f"The judge gave all {self.n:,} answers the grade {grades[0]}, right or wrong: it tells good from bad "
                "no better than chance (AUC 0.50), and only people's labels say anything here.",
            )
        leaning = "The judge is not shown to be more lenient or stricter than people."
        if self.leaning.value is None:
            leaning = as_sentences(self.leaning.notes)
        elif way := _direction(self.leaning, "more lenient", "stricter"):
            leaning = f"The judge is {way} than people by {abs(self.leaning.value or 0):.2g}."
        way = _direction(self.length, "long", "short")
        favours = f"It favours {way} answers beyond what people do." if way else ""
        return tuple(filter(None, (leaning, favours, as_sentences(self.kappa.notes))))


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
        return self.labels_for(_WANTED_HALF_WIDTH)

    def labels_for(self, half_width: float) -> LabelsNeeded | None:
        """How many labels give kappa to within `half_width`, if it is about what was found; None where undefined.

        Read off the interval that was found, which knows of clusters and of how far judge and people lie apart; with
        fewer than 30 labels planned from the shares of the levels alone.

        >>> from llmlab.judge.calibrating import calibrate_scores
        >>> from llmlab.simulate import judged_grades
        >>> calibration = calibrate_scores(judged_grades(150, seed=1), scale=range(1, 6))
        >>> calibration.labels_for(0.05).labels > 3 * calibration.labels_for(0.1).labels
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
        labels = math.ceil(kappa.n * ((kappa.high - kappa.low) / 2 / half_width) ** 2)
        return replace(needed, labels=max(2, labels), clustered=first.clusters is not None)

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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Corrected(Shown):
    """Per variant the judge's mean, corrected by labels, beside the raw one.

    Attributes:
        by_variant: the mean by PPI++.
        by_rates: where the scale has two levels and the labels were chosen evenly, the share that passes by
            Rogan-Gladen with Lee's interval; its value is None where the judge is not shown to know passes from fails.
            Empty where labellers disagree: the mean of a pass and a fail is neither.
        notes: why a figure is left out.
    """

    metric: str
    by_variant: Mapping[str, Correction]
    by_rates: Mapping[str, Correction] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, variant: str) -> Correction:
        return self.by_variant[variant]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "variant": variant,
                "corrected": _interval(estimate.corrected),
                "judge alone": _interval(estimate.raw),
                "labels alone": _interval(estimate.labels_only),
                **({"by error rates": _interval(self.by_rates[variant].corrected)} if self.by_rates else {}),
                "labels": estimate.n_labelled,
                "judge's weight": None if estimate.lam is None else round(estimate.lam, 2),
            }
            for variant, estimate in self.by_variant.items()
        ]

    def _sentence(self) -> str:
        every = [*self.by_variant.values(), *self.by_rates.values()]
        notes = dict.fromkeys([*(note for estimate in every for note in estimate.corrected.notes), *self.notes])
        rates = ["By error rates is Rogan-Gladen with the interval of Lee et al."] if self.by_rates else []
        sentences = [f"Mean {self.metric} per answer, corrected by PPI++ with 95% intervals", *rates, *notes]
        return as_sentences(sentences)


def passport(
    calibration: Calibration, *, now: datetime, limits: Mapping[str, Limit] | None = None, good_for_days: int = 90
) -> JudgePassport:
    """The passport that a calibration deserves; where a limit is failed, `valid` says which and by how much.

    Figures of grades: kappa, agreement, leaning, length_slope. Of preferences: kappa (of the verdict by rule),
    flip_rate (share of pairs without one winner in both orders), accuracy_both, length_slope. A figure that has no
    honest interval, of fewer than ten independent items, is undefined, and keeps no limit.

    Args:
        now: the moment it is made, with its time zone.
        limits: what the figures must keep; by default kappa at least 0.6, and of preferences flip_rate at most 0.2.
        good_for_days: until it expires.

    Raises:
        DataError: the calibration is of several groups, or of verdicts made elsewhere (no judge's digest).
        ValueError: `now` has no time zone, the judge's model is not pinned, or a limit is on an unknown figure.

    >>> from dataclasses import replace
    >>> from datetime import UTC
    >>> from llmlab.judge.calibrating import calibrate_scores
    >>> from llmlab.simulate import judged_scores
    >>> measured = calibrate_scores(judged_scores(200, seed=1))
    >>> measured = replace(measured, judge_digest="a" * 64, labels_digest="b" * 64, pinned=True)
    >>> judge_passport = passport(measured, now=datetime(2026, 1, 1, tzinfo=UTC), limits={"kappa": Limit(at_least=0.5)})
    >>> judge_passport.expires_at, bool(judge_passport.valid(datetime(2026, 2, 1, tzinfo=UTC), "a" * 64))
    ('2026-04-01T00:00:00+00:00', True)
    """
    if len(calibration.groups) != 1 or not calibration.judge_digest or not calibration.labels_digest:
        raise DataError("a passport needs one calibration of one judge against labels: use `calibrate`, without `by`")
    if now.tzinfo is None or good_for_days < 1:
        raise ValueError(f"now == {now}, good_for_days == {good_for_days}: give a time zone, and at least one day")
    if not calibration.pinned:
        raise ValueError(
            f"{calibration.judge} is not pinned: what was measured may not be what judges tomorrow. "
            f"{FloatingModelError.REMEDY}"
        )
    figures = _figures(calibration)
    pairwise = isinstance(calibration.only, VerdictGroup)
    wanted = (_LIMITS_PREFERENCES if pairwise else _LIMITS_GRADES) if limits is None else limits
    if unknown := sorted(set(wanted) - set(figures)):
        raise ValueError(f"limits on {unknown[0]!r}, which is no figure of this judge ({', '.join(figures)})")
    return JudgePassport(
        judge_digest=calibration.judge_digest,
        labels_digest=calibration.labels_digest,
        metrics=figures,
        limits=dict(wanted),
        created_at=now.isoformat(timespec="seconds"),
        expires_at=(now + timedelta(days=good_for_days)).isoformat(timespec="seconds"),
        judge=calibration.judge,
    )


def verdict(found: JudgePassport | None, judge: Instrument, *, now: datetime) -> Conclusion:
    """PASS where the passport holds for this judge now, so that a gate may use its scores; else FAIL with reasons.

    INCONCLUSIVE without a passport: nobody has labelled what it judges.

    >>> from datetime import UTC
    >>> from llmlab.judge.against_people import calibrate
    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(200, labelled=60, seed=1, noise=0.6)
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> verdict(passport(calibrate(planted.labels, planted.results), now=now), planted.judge, now=now).word
    'FAIL'
    """
    if found is None:
        unmeasured = f"nobody labelled what {judge.metric} judges, so nothing says how far it can be trusted."
        word, sentence = Verdict.INCONCLUSIVE, unmeasured
    elif check := found.valid(now, judge.digest):
        word, sentence = Verdict.PASS, f"{judge.metric} may decide: every limit is kept until {found.expires_at}."
    else:
        word, sentence = Verdict.FAIL, f"{judge.metric} must not decide: {'; '.join(check.failures)}."
    return Conclusion(word=word, sentence=sentence)


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
    >>> fit = corrected(planted.results, "correctness", planted.labels)["v1"]
    >>> round(fit.raw.value, 1), round(fit.corrected.value, 1)
    (3.5, 3.0)
    """
    scores = _labelled(results, labels, metric)
    means = {variant: scores.mean(variant, level=level) for variant in results.variants}
    by_rates = scores.rates(level=level)
    if by_rates and (split := int((scores.answers["human"].dropna() % 1 > 0).sum())):
        note = f"Error rates are left out: people disagree on {counted(split, 'answer')}, which neither pass nor fail"
        return Corrected(metric=metric, by_variant=means, notes=(note,))
    return Corrected(metric=metric, by_variant=means, by_rates=by_rates)


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
    >>> fit = corrected_difference(planted.results, "correctness", planted.labels, **arms)
    >>> fit.raw.low > 0.3, fit.corrected.low < 0 < fit.corrected.high
    (True, True)
    """
    scores = _labelled(results, labels, metric)
    return scores.difference(baseline=baseline, candidate=candidate, case_ids=case_ids, level=level)


def corrected_rate(
    results: Results, metric: str, labels: Labels | None = None, *, variant: str, passes_from: int, level: float = 0.95
) -> Correction:
    """The share of answers that people would pass, by Rogan-Gladen: refused where the judge does not know passes.

    An answer passes where the mean of its labellers reaches `passes_from`. For a variant's level, never for a
    difference of two; DataError where cases have different weights (`LabelledScores.rate`).

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=150, seed=1, noise=0.1)
    >>> fit = corrected_rate(planted.results, "correctness", planted.labels, variant="v1", passes_from=3)
    >>> fit.corrected.low < 0.9 < fit.corrected.high
    True
    """
    return _labelled(results, labels, metric).rate(variant, passes_from=passes_from, level=level)


def _labelled(results: Results, labels: Labels | None, metric: str) -> LabelledScores:
    return (results if labels is None else results.with_labels(labels, metric=metric)).labelled(metric)


def _slope_record(name: str, slope: BiasSlope | None) -> dict[str, float | None]:
    parts = (None, None, None) if slope is None else (slope.value, slope.se, slope.p_value)
    return dict(zip((name, f"{name}_se", f"{name}_p"), parts, strict=True))


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _with_ends(name: str, estimate: Estimate) -> dict[str, Any]:
    ends = None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]
    return {name: estimate.value, f"{name}_ci": ends}


def _direction(estimate: Estimate | None, above: str, below: str) -> str:
    """The word for an interval that lies above or below 0, "" for any other."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return above if estimate.low > 0 else below if estimate.high < 0 else ""


def _interval(estimate: Estimate | BiasSlope | None) -> Interval | None:
    """How an estimate is shown; one without an interval deserves few digits."""
    if estimate is None:
        return None
    alone = estimate.low is None or estimate.high is None
    value = round(estimate.value, 2) if alone and estimate.value is not None else estimate.value
    return Interval(value, estimate.low, estimate.high)


def _figures(calibration: Calibration) -> dict[str, Measured]:
    group = calibration.only
    measured: dict[str, Estimate | BiasSlope | None] = {"length_slope": group.length}
    if isinstance(group, VerdictGroup):
        same = group.position.consistency
        value, low, high = (None if end is None else 1.0 - end for end in (same.value, same.high, same.low))
        flip_rate = Estimate(value=value, low=low, high=high, level=same.level, n=same.n)
        measured |= {"kappa": group.kappa_both, "flip_rate": flip_rate, "accuracy_both": group.position.accuracy_both}
    else:
        measured |= {"kappa": group.kappa, "agreement": group.agreement, "leaning": group.leaning}
    return {name: _measured(figure, labels=group.n) for name, figure in measured.items() if figure is not None}


def _measured(figure: Estimate | BiasSlope, *, labels: int) -> Measured:
    note = "; ".join(figure.notes) if isinstance(figure, Estimate) else figure.note
    n = min(figure.n, labels) if isinstance(figure, BiasSlope) else figure.n  # a slope counts both orders of a pair
    value = None if figure.low is None else figure.value  # five labels that agree are no kappa of 1
    return Measured(value=value, low=figure.low, high=figure.high, level=figure.level, n=n, note=note)
