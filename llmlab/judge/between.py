"""How far two people who labelled the same things agree, and where they do not: `between_labellers`.

Below what people reach among themselves no judge can be expected to agree with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmlab.base.display import Interval, Shown, html_table
from llmlab.golden.labels import Label, Labels, same_way_round, text_digest
from llmlab.judge.rubrics import Rubric
from llmlab.results.results import Results
from llmlab.results.wording import counted
from llmlab.stats.agreement import agreement, cohen_kappa
from llmlab.stats.estimate import Estimate

__all__ = ["LabellerAgreement", "PairOfLabellers", "between_labellers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOfLabellers:
    """Two people, the share of equal labels with Wilson's interval, and kappa (quadratic weights for a scale)."""

    first: str
    second: str
    same: Estimate
    kappa: Estimate


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LabellerAgreement(Shown):
    """Every two people who labelled the same things, and the things they disagree on, farthest apart first."""

    rubric: str
    pairs: tuple[PairOfLabellers, ...]
    disagreements: tuple[Mapping[str, object], ...]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "labellers": f"{pair.first}, {pair.second}",
                "labelled by both": pair.kappa.n,
                "same label": Interval(pair.same.value, pair.same.low, pair.same.high, "%"),
                "kappa": Interval(pair.kappa.value, pair.kappa.low, pair.kappa.high),
            }
            for pair in self.pairs
        ]

    def _sentence(self) -> str:
        if not self.pairs:
            return "No two people have labelled the same answer yet."
        notes = dict.fromkeys(f"{note[0].upper()}{note[1:]}." for pair in self.pairs for note in pair.kappa.notes)
        verb = "differs" if len(self.disagreements) == 1 else "differ"
        differ = f"{counted(len(self.disagreements), 'label')} {verb}; read them together and sharpen the rubric."
        return "\n".join([differ if self.disagreements else "All labels are the same.", *notes])

    def _repr_html_(self) -> str:
        more = html_table([dict(row) for row in self.disagreements]) if self.disagreements else ""
        return Shown._repr_html_(self) + more


def between_labellers(labels: Labels, results: Results, *, rubric: Rubric, level: float = 0.95) -> LabellerAgreement:
    """Agreement of every two labellers on what both labelled in these results; cases of one cluster count together.

    >>> import pandas as pd
    >>> from llmlab.golden.cases import Case, GoldenSet
    >>> from llmlab.judge.rubrics import rubric
    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Gaps?"}),))
    >>> answers = pd.DataFrame({"variant": ["v1"], "case_id": ["q1"], "text": ["dropna"]})
    >>> thing = {"case_id": "q1", "question": text_digest("Gaps?"), "answer": text_digest("dropna")}
    >>> said = [Label(rubric="tone", value=value, labeller=name, **thing) for name, value in (("anna", 3), ("ben", 4))]
    >>> found = between_labellers(
    ...     Labels(tuple(said)), Results.from_frame(answers, golden=golden), rubric=rubric("tone")
    ... )
    >>> found.pairs[0].same.value, len(found.disagreements)
    (0.0, 1)
    """
    texts = _texts(results)
    by_thing: dict[tuple[str, ...], dict[str, Label]] = {}
    for label in map(same_way_round, labels):
        if all((*label.key[:2], answer) in texts for answer in label.key[2:]):
            by_thing.setdefault(label.key, {})[label.labeller or "unnamed"] = label
    people = sorted({name for said in by_thing.values() for name in said})
    scale: list[Any] = [1, 2, "tie"] if labels.pairwise else list(rubric.scale)
    pairs = []
    for first, second in itertools.combinations(people, 2):
        both = {key: said for key, said in by_thing.items() if first in said and second in said}
        if both:
            values = ([said[name].value for said in both.values()] for name in (first, second))
            pairs.append(_pair(first, second, *values, scale=scale, clusters=_clusters(results, both), level=level))
    differing = [(key, said) for key, said in by_thing.items() if len({label.value for label in said.values()}) > 1]
    differing.sort(key=lambda found: -_span([label.value for label in found[1].values()]))
    rows = tuple(_row(key, said, texts) for key, said in differing)
    return LabellerAgreement(rubric=labels.rubric, pairs=tuple(pairs), disagreements=rows)


def _pair(
    first: str, second: str, one: Sequence[Any], two: Sequence[Any], *, scale: list[Any], clusters: Any, level: float
) -> PairOfLabellers:
    ordered = "tie" not in scale and len(scale) > 2
    weights = "quadratic" if ordered else "unweighted"
    return PairOfLabellers(
        first=first,
        second=second,
        same=agreement(one, two, labels=scale, clusters=clusters, level=level),
        kappa=cohen_kappa(one, two, labels=scale, weights=weights, clusters=clusters, level=level),
    )


def _clusters(results: Results, keys: Mapping[tuple[str, ...], Any]) -> list[str]:
    by_id = results.golden.by_id if results.golden else {}
    return [by_id[key[0]].cluster or key[0] for key in keys]


def _texts(results: Results) -> dict[tuple[str, str, str], tuple[str, str]]:
    """(case id, digest of the question, digest of an answer) -> both texts."""
    asked = {case.id: case.question for case in results.golden} if results.golden else {}
    rows = results.answers("case_id", "text")
    return {
        (case_id, text_digest(asked[case_id]), text_digest(text)): (asked[case_id], text)
        for case_id, text in rows
        if case_id in asked
    }


def _span(values: Sequence[Any]) -> int:
    """How far labels lie apart; one for a preference against a tie, two against the other side."""
    places = [{1: 0, "tie": 1, 2: 2}[value] if "tie" in values else value for value in values]
    return int(max(places)) - int(min(places))


def _row(
    key: tuple[str, ...], said: Mapping[str, Label], texts: Mapping[tuple[str, str, str], tuple[str, str]]
) -> dict[str, object]:
    names = ["answer"] if len(key) == 3 else ["answer 1", "answer 2"]
    row: dict[str, object] = {"case": key[0], "question": texts[key[0], key[1], key[2]][0]}
    row |= {name: texts[key[0], key[1], digest][1] for name, digest in zip(names, key[2:], strict=True)}
    row |= {name: str(label.value) for name, label in sorted(said.items())}
    return row | {"notes": "; ".join(f"{name}: {label.note}" for name, label in sorted(said.items()) if label.note)}
