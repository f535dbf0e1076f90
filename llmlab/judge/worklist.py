"""Which cases to label next: those that teach most, and a random share, each chosen with a known probability.

The probability is stored with the label, so that corrections by inverse weights stay unbiased.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmlab.base.display import Shown
from llmlab.base.documents import write_whole
from llmlab.base.errors import DataError
from llmlab.base.verdict import Conclusion, Verdict
from llmlab.judge.labels import Labels, read_labels, text_digest
from llmlab.judge.prompts import question_of
from llmlab.results.results import Results
from llmlab.results.wording import counted
from llmlab.stats.arrays import FloatArray

__all__ = ["Worklist", "to_label"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Worklist(Shown):
    """Answers to label, whole cases at a time, in a shuffled order that does not show the variant.

    Attributes:
        rubric: what they are to be judged by.
        items: (case_id, question, answer, inclusion probability) per distinct answer.
    """

    rubric: str
    items: tuple[tuple[str, str, str, float], ...]

    def save(self, path: str | Path) -> Path:
        """Write JSONL to fill in: set `value` of each line; `text` and `asked` are for reading and may be removed.

        Raises:
            DataError: the file holds labels that somebody gave; they are not overwritten.
        """
        there = read_labels(path) if Path(path).exists() else ()
        if given := sum(label.value is not None for label in there):
            raise DataError(f"{path} holds {given} labels with a value, which would be lost; name another file")
        rows = [
            {
                "rubric": self.rubric,
                "case_id": case_id,
                "question": text_digest(question),
                "answer": text_digest(answer),
                "value": None,
                "inclusion": inclusion,
                "asked": question,
                "text": answer,
            }
            for case_id, question, answer, inclusion in self.items
        ]
        return write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def verdict(self) -> Conclusion:
        """PASS where nothing is left to label, else INCONCLUSIVE: how the notebook of labels ends."""
        if not self.items:
            return Conclusion(word=Verdict.PASS, sentence="Every answer has a label.")
        return Conclusion(word=Verdict.INCONCLUSIVE, sentence=f"{counted(len(self), 'answer')} without a label.")

    def __len__(self) -> int:
        return len(self.items)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"case": case_id, "question": question, "answer": answer, "chance": round(inclusion, 3)}
            for case_id, question, answer, inclusion in self.items
        ]

    def _sentence(self) -> str:
        cases = len({case_id for case_id, *_ in self.items})
        return f"{len(self.items)} answers to {cases} cases, each chosen with the chance that is stored with its label."


def to_label(
    results: Results,
    n: int,
    *,
    metric: str,
    against: str | None = None,
    threshold: float | None = None,
    random_share: float = 0.5,
    labels: Labels | None = None,
    seed: int = 0,
) -> Worklist:
    """All answers of n cases: half by chance, half where two metrics disagree or scores lie near a threshold.

    Systematic sampling with probabilities proportional to size (Madow 1949), so exactly n cases, each with the
    probability that is stored.

    Args:
        metric: the judge's; the labels will be by the rubric that it was judged by.
        against: another metric on the same scale; cases where the two differ most come first.
        threshold: of a decision; cases whose scores lie near it come first.
        random_share: how much of the probability is spread evenly over all cases; above 0, so that none is impossible.
        labels: those there are; their cases are not chosen again. The probability stored is then on the footing of the
            earlier round (as many labels per case), so that both rounds weigh by their numbers in a correction.

    >>> from llmlab.simulate import judged_results
    >>> todo = to_label(judged_results(40, labelled=4, seed=1).results, 6, metric="correctness", threshold=3)
    >>> len(todo), len({case_id for case_id, *_ in todo.items})
    (12, 6)
    """
    if results.golden is None:
        raise DataError("these results carry no golden set, so there is no question to show")
    table = results.table(metric)
    done = {label.case_id for label in labels or ()}
    open_ = np.array([i for i, case_id in enumerate(table.case_ids) if case_id not in done], dtype=int)
    cases = len(open_)
    if not 1 <= n <= cases or not 0 < random_share <= 1:
        raise ValueError(f"n == {n} must lie between 1 and {cases}, random_share == {random_share} in (0, 1]")
    interest = _interest(results, metric, against, threshold)[open_]
    rng = np.random.default_rng(seed)
    chances = _chances(random_share / cases + (1 - random_share) * interest / interest.sum(), n)
    order = rng.permutation(cases)
    edges = np.cumsum(chances[order])
    picks = order[np.minimum(np.searchsorted(edges, rng.random() + np.arange(n), side="right"), cases - 1)]
    footing = 1.0 if cases == len(table.case_ids) else (cases / n) * (1 - cases / len(table.case_ids))
    chosen = {table.case_ids[open_[i]]: min(1.0, float(chances[i]) * footing) for i in picks}
    answers: dict[tuple[str, str], None] = {}
    for case_id, text, status in zip(*(results.frame[c].tolist() for c in ("case_id", "text", "status")), strict=True):
        if case_id in chosen and status != "error":
            answers[case_id, text] = None
    listed = list(answers)
    shuffled = sorted(rng.permutation(len(listed)), key=lambda i: list(chosen).index(listed[i][0]))
    items = ((*listed[i], chosen[listed[i][0]]) for i in shuffled)
    by_id = results.golden.by_id
    return Worklist(
        rubric=results.provenance.get("judges", {}).get(metric, {}).get("rubric", metric),
        items=tuple((case_id, question_of(by_id[case_id]), text, p) for case_id, text, p in items),
    )


def _interest(results: Results, metric: str, against: str | None, threshold: float | None) -> FloatArray:
    """How much a label of each case teaches, above 0: one part per reason, else all the same."""
    values = results.table(metric).values
    span = float(np.nanmax(values) - np.nanmin(values)) or 1.0
    interest = np.full(len(values), 1e-3)
    if against is not None:
        interest += np.nan_to_num(np.nanmax(np.abs(values - results.table(against).values) / span, axis=1, initial=0.0))
    if threshold is not None:
        interest += np.nan_to_num(np.nanmax(np.exp(-4 * np.abs(values - threshold) / span), axis=1, initial=0.0))
    return interest


def _chances(share: FloatArray, n: int) -> FloatArray:
    """n times the shares, none above 1: what is cut off goes to the others in proportion."""
    chances = n * share
    for _ in range(len(share)):
        above = chances > 1
        if not above.any():
            break
        fixed = chances >= 1
        chances = np.where(fixed, 1.0, chances * (n - fixed.sum()) / chances[~fixed].sum() if (~fixed).any() else 1.0)
    return np.minimum(chances, 1.0)
