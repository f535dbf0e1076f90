"""Do people still ask what the golden set asks: the topics of recent questions against those of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmlab.base.errors import DataError
from llmlab.bundle.template import fill
from llmlab.display.shown import Shown
from llmlab.golden.cases import GoldenSet
from llmlab.search.corpus import Chunk
from llmlab.search.index import retriever_for
from llmlab.stats.drift import MixDrift, mix_drift

NO_TOPIC = "like no golden question"
NEIGHBOURS = 20  # looked through for one of another cluster


@dataclass(frozen=True, kw_only=True, repr=False)
class QuestionDrift(Shown):
    """Recent questions against a golden set.

    Attributes:
        mix: the drift of their topics.
        unlike: recent questions that share no word with any golden one; they are candidates for new cases.
    """

    mix: MixDrift
    unlike: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """Whether the golden set no longer asks what people ask, as far as topics tell."""
        return self.mix.moved

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "topic": row["kind"],
                "golden set": row["before"],
                "asked now": row["after"],
                "questions now": row["n after"],
            }
            for row in self.mix._rows()
        ]

    def _sentence(self) -> str:
        about = f"{sum(new for _, new in self.mix.counts.values()):,} recent questions"
        verdict = "Whether the golden set still asks what people ask cannot be told from this."
        if self.moved:
            verdict = "What a release is judged on is no longer what people ask: add cases of the topics that grew."
        elif self.mix.size or self.mix._is_telling:
            verdict = "The golden set still asks what people ask, as far as this can tell."
        return f"{about}: {self.mix._sentence()} {verdict} {len(self.unlike):,} share no word with a golden question."


def question_drift(golden: GoldenSet, questions: Sequence[str], *, query: str = "{{ question }}") -> QuestionDrift:
    """Whether the topics of recent production questions are those of the golden set.

    A question's topic is the first tag of the golden question most like it (TF-IDF). Golden questions get theirs in
    the same way, from a case of another cluster, so that errors of this rule are the same on both sides. The test takes
    questions as independent. `query` is filled with a case's inputs, as in a bundle's retrieval.

    Raises:
        DataError: no question, or golden cases without tags.
    """
    recent = [question.strip() for question in questions if question.strip()]
    if not recent:
        raise DataError("no recent question was given, so nothing can be compared")
    if not all(case.tags for case in golden):
        raise DataError("some golden cases have no tags, which are the topics; give each case one")
    texts = [fill(query, case.inputs) for case in golden]
    near = retriever_for(
        "tfidf", [Chunk(doc_id=case.id, position=0, text=text) for case, text in zip(golden, texts, strict=True)]
    )
    before = Counter[str]()
    for case, hits in zip(golden, near.search(texts, NEIGHBOURS), strict=True):
        others = (golden.by_id[hit.doc_id] for hit in hits if hit.doc_id != case.id)
        own = case.cluster or case.id
        before[next((other.tags[0] for other in others if (other.cluster or other.id) != own), NO_TOPIC)] += 1
    nearest = [hits[0].doc_id if hits else None for hits in near.search(recent, 1)]
    after = Counter(NO_TOPIC if case_id is None else golden.by_id[case_id].tags[0] for case_id in nearest)
    unlike = tuple(text for text, case_id in zip(recent, nearest, strict=True) if case_id is None)
    return QuestionDrift(mix=mix_drift(before, after), unlike=unlike)
