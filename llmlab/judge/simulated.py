"""Judges with planted faults of known size, for trying calibration and for testing that it finds them.

Seeded tables in the shape that `calibrate_verdicts`, `calibrate_scores` and the corrections take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["judged_arms", "judged_scores", "judged_verdicts"]


def judged_verdicts(
    n: int,
    *,
    seed: int,
    quality: float = 2.0,
    position: float = 0.0,
    length: float = 0.0,
    own: float = 0.0,
    missing: float = 0.0,
) -> pd.DataFrame:
    """n pairs judged in both orders: logit P(pick output 1) = quality + position + length + liking of its own.

    The log-odds move by +-quality/2 with the human verdict, by +-position with the order, by length * tanh(difference
    of words / its sd), and by +-own where the judge wrote output 1 or 2. So calibration should find the slope `length`,
    and among the verdicts that follow the position the first answer's share 1 / (1 + exp(-2 position)).

    Columns: label, order1, order2, words_1, words_2, author_1, author_2, judge.

    >>> judged_verdicts(3, seed=1).columns.tolist()[:3]
    ['label', 'order1', 'order2']
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    label = rng.integers(1, 3, n)
    words = rng.integers(10, 200, (2, n))
    authors = rng.choice(["judge", "other"], (2, n))
    difference = (words[0] - words[1]).astype(float)
    scale = float(difference.std(ddof=1)) if n > 1 else 1.0
    liked = own * ((authors[0] == "judge").astype(float) - (authors[1] == "judge"))
    fixed = quality * (1.5 - label) + length * np.tanh(difference / scale) + liked
    picks = []
    for side in (1.0, -1.0):
        chance = 1 / (1 + np.exp(-(fixed + side * position)))
        pick = np.where(rng.random(n) < chance, 1, 2).astype(object)
        pick[rng.random(n) < missing] = None
        picks.append(pick)
    return pd.DataFrame(
        {
            "label": label,
            "order1": picks[0],
            "order2": picks[1],
            "words_1": words[0],
            "words_2": words[1],
            "author_1": authors[0],
            "author_2": authors[1],
            "judge": "judge",
        }
    )


def judged_scores(
    n: int, *, seed: int, rate: float = 0.7, sensitivity: float = 0.9, specificity: float = 0.8
) -> pd.DataFrame:
    """n answers of which people pass a share `rate`, and a judge with these error rates: columns human, judge (0 or 1).

    >>> judged_scores(4, seed=1).shape
    (4, 2)
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    human = (rng.random(n) < rate).astype(int)
    passes = rng.random(n) < np.where(human == 1, sensitivity, 1 - specificity)
    return pd.DataFrame({"human": human, "judge": passes.astype(int)})


def judged_arms(
    n: int,
    *,
    seed: int,
    rates: tuple[float, float] = (0.7, 0.7),
    sensitivity: tuple[float, float] = (0.9, 0.9),
    specificity: tuple[float, float] = (0.8, 0.6),
) -> pd.DataFrame:
    """Two variants' answers to n cases, judged with error rates that differ between the arms.

    The default is the trap: people pass 70% of both, and the judge, more lenient to the second, shows 6 points more.
    Columns: human_1, judge_1, human_2, judge_2.

    >>> judged_arms(2, seed=1).columns.tolist()
    ['human_1', 'judge_1', 'human_2', 'judge_2']
    """
    import pandas as pd

    arms = [
        judged_scores(n, seed=2 * seed + i, rate=rates[i], sensitivity=sensitivity[i], specificity=specificity[i])
        for i in (0, 1)
    ]
    return pd.concat([arm.add_suffix(f"_{i}") for i, arm in enumerate(arms, start=1)], axis=1)
