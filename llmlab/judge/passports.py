"""From a calibration to a passport: the figures with their limits, bound to judge and labels, with an end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from llmlab.base.errors import DataError
from llmlab.base.verdict import Conclusion, Verdict
from llmlab.judge.asking import Instrument
from llmlab.judge.figures import Calibration, VerdictGroup
from llmlab.results.passport import JudgePassport, Limit, Measured
from llmlab.stats.estimate import Estimate

__all__ = ["LIMITS_GRADES", "LIMITS_PREFERENCES", "passport", "verdict"]

LIMITS_GRADES: Mapping[str, Limit] = {"kappa": Limit(at_least=0.6)}
LIMITS_PREFERENCES: Mapping[str, Limit] = {"kappa": Limit(at_least=0.6), "flip_rate": Limit(at_most=0.2)}


def passport(
    calibration: Calibration, *, now: datetime, limits: Mapping[str, Limit] | None = None, good_for_days: int = 90
) -> JudgePassport:
    """The passport that a calibration deserves; where a limit is failed, `valid` says which and by how much.

    Figures of grades: kappa, agreement, leaning, length_slope. Of preferences: kappa (of the verdict by rule),
    flip_rate (share of pairs whose winner changes with the order), accuracy_both, length_slope.

    Args:
        now: the moment it is made, with its time zone.
        limits: what the figures must keep, by default `LIMITS_GRADES` or `LIMITS_PREFERENCES`; a policy gives its own.
        good_for_days: until it expires.

    Raises:
        DataError: the calibration is of several groups, or of verdicts made elsewhere (no judge's digest).
        ValueError: `now` has no time zone, the judge's model is not pinned, or a limit is on an unknown figure.

    >>> from dataclasses import replace
    >>> from datetime import UTC
    >>> from llmlab.judge.calibration import calibrate_scores
    >>> from llmlab.simulate import judged_scores
    >>> measured = calibrate_scores(judged_scores(200, seed=1))
    >>> measured = replace(measured, judge_digest="a" * 64, labels_digest="b" * 64, pinned=True)
    >>> made = passport(measured, now=datetime(2026, 1, 1, tzinfo=UTC), limits={"kappa": Limit(at_least=0.5)})
    >>> made.expires_at, bool(made.valid(datetime(2026, 2, 1, tzinfo=UTC), "a" * 64))
    ('2026-04-01T00:00:00+00:00', True)
    """
    if len(calibration.groups) != 1 or not calibration.judge_digest or not calibration.labels_digest:
        raise DataError("a passport needs one calibration of one judge against labels: use `calibrate`, without `by`")
    if now.tzinfo is None or good_for_days < 1:
        raise ValueError(f"now == {now}, good_for_days == {good_for_days}: give a time zone, and at least one day")
    if not calibration.pinned:
        raise ValueError(f"{calibration.judge} is not pinned: what was measured may not be what judges tomorrow")
    figures = _figures(calibration)
    pairwise = isinstance(calibration.only, VerdictGroup)
    wanted = (LIMITS_PREFERENCES if pairwise else LIMITS_GRADES) if limits is None else limits
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


def verdict(found: JudgePassport, judge: Instrument, *, now: datetime) -> Conclusion:
    """PASS where the passport holds for this judge now, so that a gate may use its scores; else FAIL with reasons.

    >>> from datetime import UTC
    >>> from llmlab.judge.measuring import calibrate
    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(200, labelled=60, seed=1, noise=0.6)
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> verdict(passport(calibrate(planted.labels, planted.results), now=now), planted.judge, now=now).word
    'FAIL'
    """
    check = found.valid(now, judge.digest)
    if check:
        return Conclusion(
            word=Verdict.PASS, sentence=f"{judge.metric} may decide: every limit is kept until {found.expires_at}."
        )
    return Conclusion(word=Verdict.FAIL, sentence=f"{judge.metric} must not decide: {'; '.join(check.failures)}.")


def _figures(calibration: Calibration) -> dict[str, Measured]:
    group = calibration.only
    if not isinstance(group, VerdictGroup):
        grades = {"kappa": group.kappa, "agreement": group.agreement, "leaning": group.leaning}
        grades |= {} if group.length is None else {"length_slope": group.length}
        return {name: _measured(estimate) for name, estimate in grades.items()}
    same = group.position.consistency
    figures = {"kappa": _measured(group.kappa_both), "flip_rate": _one_minus(same)}
    if group.position.accuracy_both is not None:
        figures["accuracy_both"] = _measured(group.position.accuracy_both)
    if group.length is not None:
        slope = group.length
        figures["length_slope"] = Measured(
            value=slope.value, low=slope.low, high=slope.high, level=slope.level, n=slope.n, note=slope.note
        )
    return figures


def _measured(estimate: Estimate) -> Measured:
    return Measured(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        level=estimate.level,
        n=estimate.n,
        note="; ".join(estimate.notes),
    )


def _one_minus(estimate: Estimate) -> Measured:
    value, low, high = (None if end is None else 1.0 - end for end in (estimate.value, estimate.high, estimate.low))
    return Measured(value=value, low=low, high=high, level=estimate.level, n=estimate.n)
