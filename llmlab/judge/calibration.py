"""How far a judge can be trusted: its verdicts against people's, and what else moves it.

`calibrate_verdicts` and `calibrate_scores` take any table of verdicts that exist; `labels.calibrate` takes labels and
judged results. A tie or a missing verdict is not right and stays in n; missing ones are counted too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.errors import DataError
from llmlab.judge.columns import called, levels_of, require_columns, scale_of, split, winners
from llmlab.judge.figures import Calibration, ScoreGroup, VerdictGroup
from llmlab.stats.agreement import agreement, cohen_kappa, confusion_matrix, judge_rates, kappa_bootstrap
from llmlab.stats.bias import length_slope, position_bias, self_preference
from llmlab.stats.clustered import clustered_fit, contrast
from llmlab.stats.estimate import Estimate, mean_estimate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["calibrate_scores", "calibrate_verdicts"]

RESAMPLES = 2000


def calibrate_verdicts(
    frame: pd.DataFrame,
    *,
    label: str = "label",
    order1: str = "order1",
    order2: str = "order2",
    length1: str | None = None,
    length2: str | None = None,
    author1: str | None = None,
    author2: str | None = None,
    judge: str | None = None,
    cluster: str | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Pairwise verdicts of any tool against people: one row per pair, winners as 1, 2 or tie, already mapped back.

    In `order1` output 1 was shown first, in `order2` output 2 was. Rows without a label are left out and counted.

    Args:
        frame: the table; the other arguments name its columns.
        length1, length2: lengths of the two outputs, for the length slope.
        author1, author2, judge: who wrote the outputs and who judged, for self-preference.
        cluster: groups of pairs that are not independent, for the intervals of kappa and the slopes.
        by: columns to split by; every combination that occurs is a group.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"label": [1, 2, 1, 2], "order1": [1, 2, 1, 1], "order2": [1, 2, 2, "tie"]})
    >>> calibrate_verdicts(table, resamples=100).only.position.consistency.value
    0.5
    """
    named = [label, order1, order2, length1, length2, author1, author2, judge, cluster, *by]
    require_columns(frame, named)
    groups = []
    for group, rows in split(frame, by):
        gold, one, two = (winners(rows[column], column) for column in (label, order1, order2))
        kept = np.array([winner in (1, 2) for winner in gold])
        if not kept.any():
            raise DataError(f"{called(group)}: no row has a human verdict of 1 or 2 in {label!r}")
        labelled = [i for i, human in enumerate(gold) if human is not None]
        rule = [
            None if None in pair else pair[0] if pair[0] == pair[1] else "tie" for pair in zip(one, two, strict=True)
        ]
        everything, by_rule = [gold[i] for i in labelled], [rule[i] for i in labelled]
        used = rows[kept]
        gold, one, two = ([v for v, keep in zip(values, kept, strict=True) if keep] for values in (gold, one, two))
        clusters = None if cluster is None else used[cluster].tolist()
        all_clusters = None if cluster is None else rows[cluster].iloc[labelled].tolist()
        boot: dict[str, Any] = {
            "labels": [1, 2, "tie"],
            "resamples": resamples,
            "seed": seed,
            "level": level,
        }
        lengths = None
        if length1 is not None and length2 is not None:
            lengths = {
                "lengths_1": used[length1].to_numpy(dtype=float),
                "lengths_2": used[length2].to_numpy(dtype=float),
            }
        own = None
        if author1 is not None and author2 is not None and judge is not None:
            authors = {"judges": used[judge].tolist(), "authors_1": used[author1].tolist()}
            authors["authors_2"] = used[author2].tolist()
            items = clusters if clusters is not None else list(range(len(gold)))
            own = self_preference(one, gold=gold, items=items, level=level, **authors, **(lengths or {}))
        position = position_bias(one, two, gold=gold, level=level)
        wrong = [winner if winner in (1, 2) else 3 - human for winner, human in zip(one, gold, strict=True)]
        groups.append(
            VerdictGroup(
                group=group,
                n=len(gold),
                missing=position.missing,
                human_ties=len(labelled) - len(gold),
                unlabelled=len(rows) - len(labelled),
                position=position,
                kappa=_kappa(gold, one, clusters=clusters, **boot),
                kappa_both=_kappa(everything, by_rule, clusters=all_clusters, **boot),
                matrix=confusion_matrix(everything, by_rule, labels=[1, 2, "tie"]),
                rates=judge_rates(gold, wrong, positive=1, level=level),
                length=None
                if lengths is None
                else length_slope(one, two, gold=gold, clusters=clusters, level=level, **lengths),
                own=own,
            )
        )
    return Calibration(groups=tuple(groups))


def calibrate_scores(
    frame: pd.DataFrame,
    *,
    human: str = "human",
    judge: str = "judge",
    scale: Sequence[Any] | None = None,
    length: str | None = None,
    cluster: str | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Pointwise scores of any tool against people: one row per item.

    Args:
        human, judge: columns of the two labels; rows without a human one are left out and counted.
        scale: every level in its order; by default the levels that occur (whole numbers: all between them too).
        length: column of lengths, for what length adds to judge - human.
        cluster: groups of items that are not independent.
        by: columns to split by.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"human": [1, 2, 3, 3], "judge": [1, 3, 3, None]})
    >>> calibrate_scores(table, resamples=100).only.missing
    1
    """
    require_columns(frame, [human, judge, length, cluster, *by])
    levels = scale_of(frame, human, judge) if scale is None else list(scale)
    numeric = all(isinstance(one, (int, float)) for one in levels)
    groups = []
    for group, rows in split(frame, by):
        people = levels_of(rows[human], levels, human)
        kept = np.array([one is not None for one in people])
        if not kept.any():
            raise DataError(f"{called(group)}: no row has a human label in {human!r}")
        used = rows[kept]
        gold, said = levels_of(used[human], levels, human), levels_of(used[judge], levels, judge)
        clusters = None if cluster is None else used[cluster].tolist()
        boot: dict[str, Any] = {
            "labels": levels,
            "clusters": clusters,
            "resamples": resamples,
            "seed": seed,
            "level": level,
        }
        weights = "quadratic" if numeric and len(levels) > 2 else "unweighted"
        size = None if length is None else used[length].to_numpy(dtype=float)
        lean, slope = _leaning(gold, said, clusters, size, level) if numeric else (_undefined("levels are names"), None)
        groups.append(
            ScoreGroup(
                group=group,
                n=len(gold),
                missing=sum(one is None for one in said),
                unlabelled=int((~kept).sum()),
                agreement=agreement(gold, said, labels=levels, level=level),
                kappa=_kappa(gold, said, weights=weights, **boot),
                kappa_unweighted=_kappa(gold, said, **boot),
                leaning=lean,
                matrix=confusion_matrix(gold, said, labels=levels),
                rates=judge_rates(gold, said, positive=levels[-1], level=level) if len(levels) == 2 else None,
                length=slope,
            )
        )
    return Calibration(groups=tuple(groups))


def _by_rule(one: Any, two: Any) -> Any:
    """The verdict of both orders: None where one is missing, a tie where they differ."""
    return None if one is None or two is None else one if one == two else "tie"


def _kappa(gold: Sequence[Any], said: Sequence[Any], **how: Any) -> Estimate:
    if how["resamples"]:
        return kappa_bootstrap(gold, said, **how)
    return cohen_kappa(gold, said, **{key: value for key, value in how.items() if key not in ("resamples", "seed")})


def _leaning(
    gold: Sequence[Any], said: Sequence[Any], clusters: Sequence[Any] | None, lengths: Any, level: float
) -> tuple[Estimate, Estimate | None]:
    """Mean of judge - human, and its slope on length."""
    both = [i for i, (h, j) in enumerate(zip(gold, said, strict=True)) if h is not None and j is not None]
    excess = np.array([float(said[i]) - float(gold[i]) for i in both])
    groups = None if clusters is None else [clusters[i] for i in both]
    if len(both) < 2 or (groups is not None and len(set(groups)) < 2):
        return _undefined("fewer than two independent items were scored by both"), None
    lean = mean_estimate(excess, groups, level=level, n_attempted=len(gold))
    if lengths is None or np.ptp(lengths[both]) == 0 or len(both) < 4:
        return lean, None
    standard = (lengths[both] - lengths[both].mean()) / lengths[both].std(ddof=1)
    index = np.unique(np.array(groups if groups is not None else both, dtype=object).astype(str), return_inverse=True)[
        1
    ]
    fit = clustered_fit(
        np.stack([np.ones(len(both)), standard], axis=1), response=excess, clusters=index.astype(np.intp)
    )
    one = contrast(fit, np.array([0.0, 1.0]), level=level)
    slope = Estimate(
        value=one.value, low=one.low, high=one.high, level=level, n=len(both), method="slope per sd of length"
    )
    return lean, slope


def _undefined(why: str) -> Estimate:
    return Estimate(value=None, notes=(why,))
