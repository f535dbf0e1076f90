"""Judges with planted faults of known size, for trying calibration and for testing that it finds them.

Seeded tables in the shape that `calibrate_verdicts`, `calibrate_scores` and the corrections take, and judged results
with people's labels as the gate takes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.labels import Label, Labels, text_digest
from llmlab.judge.grading import judge_metric
from llmlab.judge.judges import Judge
from llmlab.results.provenance import JudgeRecord, Provenance
from llmlab.results.results import Results
from llmlab.stats.arrays import FloatArray

JUDGE, ANSWERS = "openai/gpt-4o-2024-08-06", "anthropic/claude-sonnet-4-20250514"  # named, never called


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
    rng = np.random.default_rng(seed)
    label = rng.integers(1, 3, n)
    words = rng.integers(10, 200, (2, n))
    authors = rng.choice(["judge", "other"], (2, n))
    difference = (words[0] - words[1]).astype(float)
    scale = float(difference.std(ddof=1)) if n > 1 else 1.0
    liked = own * ((authors[0] == "judge").astype(float) - (authors[1] == "judge"))
    fixed = quality * (1.5 - label) + length * np.tanh(difference / scale) + liked
    table = pd.DataFrame({"label": label})
    for order, side in (("order1", 1.0), ("order2", -1.0)):
        chance = 1 / (1 + np.exp(-(fixed + side * position)))
        pick = np.where(rng.random(n) < chance, 1, 2).astype(object)
        pick[rng.random(n) < missing] = None
        table[order] = pick
    table["words_1"], table["words_2"] = words
    table["author_1"], table["author_2"] = authors
    return table.assign(judge="judge")


def judged_scores(
    n: int, *, seed: int, rate: float = 0.7, sensitivity: float = 0.9, specificity: float = 0.8
) -> pd.DataFrame:
    """n answers of which people pass a share `rate`, and a judge with these error rates: columns human, judge (0 or 1).

    >>> judged_scores(4, seed=1).shape
    (4, 2)
    """
    rng = np.random.default_rng(seed)
    human = (rng.random(n) < rate).astype(int)
    passes = rng.random(n) < np.where(human == 1, sensitivity, 1 - specificity)
    return pd.DataFrame({"human": human, "judge": passes.astype(int)})


def judged_grades(
    n: int, *, seed: int, leniency: float = 0.0, length: float = 0.0, noise: float = 0.2, missing: float = 0.0
) -> pd.DataFrame:
    """n answers graded from 1 to 5 by people and by a judge that is `leniency` levels kinder on average.

    The judge also adds `length` levels per standard deviation of words, and errs by one level either way in a share
    `noise` of the answers. People say 2, 3 or 4, so that nothing is cut off at the ends: calibration should find a
    leaning of `leniency` and a slope of `length`. Columns: human, judge, words.

    Raises:
        ValueError: the faults together would leave the scale.

    >>> judged_grades(2, seed=1, leniency=0.3).columns.tolist()
    ['human', 'judge', 'words']
    """
    if abs(leniency) + 1.75 * abs(length) > 1 - noise or noise < 0:
        raise ValueError(f"leniency {leniency}, length {length} and noise {noise} together leave the scale")
    rng = np.random.default_rng(seed)
    human, words = rng.integers(2, 5, n), rng.integers(10, 200, n)
    shift = leniency + length * (words - words.mean()) / (words.std(ddof=1) or 1.0) if n > 1 else np.zeros(n)
    judge = (human + _one_level(shift, noise, rng)).astype(object)
    judge[rng.random(n) < missing] = None
    return pd.DataFrame({"human": human, "judge": judge, "words": words})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedResults:
    """Two variants judged by a judge that is kinder to one of them, with people's labels of some cases.

    Attributes:
        results: variants v1 and v2 with the judge's grades.
        labels: people's, of both variants' answers to the same cases.
        judge: whose grades they are; it is never asked.
        difference: v2 - v1 in what people would say, on average over cases drawn like these: the planted truth.
    """

    results: Results
    labels: Labels
    judge: Judge
    difference: float


def judged_results(
    n: int,
    *,
    labelled: int,
    seed: int,
    gain: float = 0.0,
    kindness: tuple[float, float] = (0.0, 0.0),
    noise: float = 0.2,
    differ: float = 0.2,
) -> PlantedResults:
    """Judged results of n cases in which v2 is `gain` levels better to people, and the judge kinder by `kindness`.

    So the judge alone shows `gain + kindness[1] - kindness[0]`, and the corrected difference should cover `gain`.

    Args:
        labelled: cases, chosen by chance, whose two answers people labelled.
        kindness: levels that the judge adds to v1 and to v2, from -0.8 to 0.8 with the noise given.
        noise, differ: share of the answers in which the judge errs, and people deviate, by a level either way.

    >>> planted = judged_results(200, labelled=60, seed=1, kindness=(0.0, 0.5))
    >>> planted.results.variants, len(planted.labels), planted.difference
    (('v1', 'v2'), 120, 0.0)
    """
    if max(map(abs, kindness)) > 1 - noise or abs(gain) > 1 - differ or not 1 <= labelled <= n:
        raise ValueError(f"kindness {kindness}, gain {gain}, noise {noise}, labelled {labelled}: out of range")
    rng = np.random.default_rng(seed)
    people = {v: 3 + _one_level(np.full(n, mean), differ, rng) for v, mean in (("v1", 0.0), ("v2", gain))}
    judge = Judge.pointwise("correctness", model=JUDGE)
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{i}?"}, expected=("yes",)) for i in range(n)))
    rows = [{"variant": v, "case_id": f"q{i}", "text": f"{v} on {i}"} for i in range(n) for v in people]
    answers = Results.from_frame(pd.DataFrame(rows), golden=golden)
    moved = zip(people.values(), kindness, strict=True)
    graded = [np.clip(grades + _one_level(np.full(n, k), noise, rng), 1, 5) for grades, k in moved]
    scores = np.stack(graded, axis=1, dtype=float).ravel().tolist()  # as the rows: case by case, v1 before v2
    metric = judge_metric(judge)
    record = JudgeRecord(digest=judge.digest, model=JUDGE, pinned=True, kind="pointwise", rubric="correctness")
    results = replace(
        answers.with_scores(metric, scores),
        bundles={v: Bundle.from_prompt(f"{{{{ question }}}} {v}", model=ANSWERS, name="planted") for v in people},
        provenance=Provenance(judges={metric.name: record}),
    )
    labelled_cases = sorted(rng.choice(n, labelled, replace=False).tolist())
    labels = tuple(_label(i, v, int(grades[i])) for i in labelled_cases for v, grades in people.items())
    return PlantedResults(results=results, labels=Labels(labels), judge=judge, difference=gain)


def _label(i: int, variant: str, grade: int) -> Label:
    question, said = text_digest(f"{i}?"), text_digest(f"{variant} on {i}")
    return Label(rubric="correctness", case_id=f"q{i}", question=question, answer=said, value=grade, labeller="planted")


def _one_level(shift: FloatArray, noise: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Moves of -1, 0 or 1 with the mean `shift`; a share `noise` more of them go either way."""
    u, half = rng.random(shift.shape), noise / 2
    up, down = half + np.maximum(shift, 0), half + np.maximum(-shift, 0)
    return np.where(u < up, 1, np.where(u > 1 - down, -1, 0))


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
    settings = enumerate(zip(rates, sensitivity, specificity, strict=True))
    arms = [judged_scores(n, seed=2 * seed + i, rate=r, sensitivity=s, specificity=t) for i, (r, s, t) in settings]
    return pd.concat([arm.add_suffix(f"_{i}") for i, arm in enumerate(arms, start=1)], axis=1)
