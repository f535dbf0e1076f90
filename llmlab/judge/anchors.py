"""Drift: the same frozen answers judged again, so that a judge that the provider changed is found before it decides."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from llmlab.base.display import Chip, Interval, Shown
from llmlab.base.errors import DataError
from llmlab.base.numbers import p_text
from llmlab.golden.labels import Labels
from llmlab.judge.asking import CallOptions, Instrument
from llmlab.judge.grading import score
from llmlab.results.results import Results
from llmlab.stats.agreement import cohen_kappa
from llmlab.stats.estimate import Estimate, mean_estimate
from llmlab.stats.proportions import mcnemar, paired_table

__all__ = ["AnchorCheck", "check_anchors"]

LEVEL = 0.99  # drift is looked for again and again, so a single look must be rarely wrong
KAPPA_AT_LEAST = 0.8  # of a judge with itself


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AnchorCheck(Shown):
    """A judge compared with itself; true in a condition when it is steady.

    Attributes:
        drifted: why it is held to have changed, "" when it is steady.
        n, lost: anchors with a score both times, and those without one now.
        changed: how many scores differ.
        kappa: agreement of then and now, weighted quadratically.
        shift: mean of now - then.
        p_mcnemar: whether it is right (as people labelled) more or less often than then; None without labels.
    """

    drifted: str
    n: int
    lost: int
    changed: int
    kappa: Estimate
    shift: Estimate
    p_mcnemar: float | None

    def __bool__(self) -> bool:
        return not self.drifted

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "judge": Chip("steady", "good") if self else Chip("drifted", "bad"),
                "anchors": self.n,
                "changed": self.changed,
                "lost": self.lost,
                "kappa with itself": Interval(self.kappa.value, self.kappa.low, self.kappa.high),
                "now - then": Interval(self.shift.value, self.shift.low, self.shift.high),
                "p (McNemar)": p_text(self.p_mcnemar),
            }
        ]

    def _sentence(self) -> str:
        if self.drifted:
            return f"The judge has changed: {self.drifted}. Calibrate it again before its next verdict."
        return f"{self.n - self.changed:,} of {self.n:,} anchors have the score that they had."


def check_anchors(
    anchors: Results,
    judge: Instrument,
    *,
    metric: str | None = None,
    labels: Labels | None = None,
    **options: Unpack[CallOptions],
) -> AnchorCheck:
    """The anchors judged again, really asked: stored replies are not used unless a `store` is given.

    Args:
        anchors: results that this judge has scored, kept for this purpose (`to_parquet`).
        metric: the judge's, by default its rubric's name.
        labels: people's, for whether the judge became better or worse and not only different.

    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(30, labelled=10, seed=1)
    >>> found = check_anchors(planted.results, planted.judge, client=FakeClient('{"score": 5}'), progress=False)
    >>> bool(found), found.n
    (False, 60)
    """
    name = metric or judge.metric
    if anchors.metric(name).judge != judge.digest:
        raise DataError(f"the anchors' {name!r} was given by another judge than {judge.digest[:8]}; freeze new ones")
    with tempfile.TemporaryDirectory() as folder:
        asked: CallOptions = {"store": Path(folder) / "calls.sqlite", **options}
        again = score(anchors, judge, name=name, **asked)
    then, now = (results.scores(name) for results in (anchors, again))
    both = ~np.isnan(then) & ~np.isnan(now)
    if both.sum() < 2:
        raise DataError(f"{int(both.sum())} of {len(then)} anchors could be judged both times: nothing to compare")
    cases = np.array([case_id for (case_id,) in anchors.answers("case_id")])
    clusters = cases[both] if len(set(cases[both])) > 1 else None
    scale = [float(level) for level in judge.rubric.scale]
    kappa = cohen_kappa(then[both], now[both], labels=scale, weights="quadratic", clusters=clusters, level=LEVEL)
    shift = mean_estimate(now[both] - then[both], clusters, level=LEVEL, n_attempted=len(then))
    p = None if labels is None else _mcnemar(anchors, labels, then, now)
    return AnchorCheck(
        drifted=_drifted(kappa, shift, p),
        n=int(both.sum()),
        lost=int((~np.isnan(then) & np.isnan(now)).sum()),
        changed=int((then[both] != now[both]).sum()),
        kappa=kappa,
        shift=shift,
        p_mcnemar=p,
    )


def _mcnemar(anchors: Results, labels: Labels, then: np.ndarray, now: np.ndarray) -> float | None:
    """McNemar's exact p on right then against right now, over labelled answers, each case once."""
    right: dict[str, tuple[float, float]] = {}
    for i, key in enumerate(anchors.label_keys):
        if key in labels.by_key and not np.isnan(then[i] + now[i]):
            wanted = labels.by_key[key][0].value
            right.setdefault(key[0], (float(then[i] == wanted), float(now[i] == wanted)))
    if len(right) < 2:
        return None
    before, after = zip(*right.values(), strict=True)
    return mcnemar(paired_table(before, after)).p_exact


def _drifted(kappa: Estimate, shift: Estimate, p: float | None) -> str:
    reasons = []
    if kappa.high is not None and kappa.high < KAPPA_AT_LEAST:
        reasons.append(f"its agreement with itself is {kappa}, below {KAPPA_AT_LEAST}")
    moved = shift.low is not None and shift.high is not None and not shift.low <= 0 <= shift.high
    if moved:
        reasons.append(f"its scores moved by {shift.value:.2g} on average")
    if p is not None and p < 1 - LEVEL:
        reasons.append(f"it is right on other cases than before (McNemar p {p_text(p)})")
    return "; ".join(reasons)
