"""Do people ask, and does the service answer and find, as before: one value per unit and day, in two windows.

Tests over requests are wrong by construction: five requests a person, and Kolmogorov-Smirnov cries in three of four
quiet weeks. So a unit counts once a day, and the days before tell as much as there were units in them. An alert needs
a test (Holm over the columns), a size beyond chance, and both in each of the last two days.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmlab.base.numbers import counted, number
from llmlab.base.words import words
from llmlab.golden.cases import Case, GoldenSet
from llmlab.retrieval.questions import NO_TOPIC
from llmlab.search.corpus import Chunk
from llmlab.search.index import retriever_for
from llmlab.search.retrievers import Retriever
from llmlab.stats.burdens import holm
from llmlab.stats.drift import MODERATE, MixDrift, mix_drift
from llmlab.watch.policy import DAY, PAGES, WEEK, WatchPolicy
from llmlab.watch.readings import MOST_ROWS, Reading, State
from llmlab.watch.windows import Requests, Traffic, question_of

_BINS = 10  # of a number: tenths of the days before
_SHARE_UP = 0.02  # of units: what a new topic must bring
_UNLIKE = 0.10  # of golden questions are less like those of other clusters than what counts as none of them
NEIGHBOURS = 20
_WINDOW = "2 days"  # what is read, and named so in a series whether it can be read or not
_NEW, _KNOWN = "like no golden question", "known"

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Topics:
    """The tags of a golden set as topics; `of` gives that of a question by its words, or `NO_TOPIC`."""

    golden: GoldenSet

    def of(self, questions: Sequence[str]) -> list[str]:
        """The first tag of the golden question most like each."""
        new = [text for text in dict.fromkeys(questions) if text not in self._asked]
        self._asked.update((text, self._topic(text, hits)) for text, hits in zip(new, self._near(new, 1), strict=True))
        return [self._asked[text] for text in questions]

    @cached_property
    def _asked(self) -> dict[str, str]:
        """Topics of this report: two columns and two days ask for the same questions."""
        return {}

    @cached_property
    def _texts(self) -> list[str]:
        return [_text(case) for case in self.golden]

    @cached_property
    def _retriever(self) -> Retriever:
        chunks = [Chunk(doc_id=c.id, position=0, text=t) for c, t in zip(self.golden, self._texts, strict=True)]
        return retriever_for("tfidf", chunks)

    def _near(self, texts: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        return [[(hit.doc_id, hit.score) for hit in hits] for hits in self._retriever.search(texts, k)]

    @cached_property
    def _clusters_of_word(self) -> Mapping[str, set[str]]:
        clusters = defaultdict[str, set[str]](set)
        for case, text in zip(self.golden, self._texts, strict=True):
            for word in words(text):
                clusters[word].add(case.cluster or case.id)
        return clusters

    def _known(self, text: str, *, without: str = "") -> float:
        """The share of its words that golden questions (of other clusters) have."""
        terms = words(text)
        return sum(bool(self._clusters_of_word.get(w, set()) - {without}) for w in terms) / max(len(terms), 1)

    @cached_property
    def _least(self) -> float:
        """What golden questions of other clusters are like, but for the least like tenth."""
        likes = []
        for case, text, hits in zip(self.golden, self._texts, self._near(self._texts, NEIGHBOURS), strict=True):
            own = case.cluster or case.id
            others = (score for name, score in hits if (self.golden.by_id[name].cluster or name) != own)
            likes.append(next(others, 0.0) * self._known(text, without=own))
        return float(np.quantile(likes, _UNLIKE))

    def _topic(self, text: str, hits: Sequence[tuple[str, float]]) -> str:
        if not hits or hits[0][1] * self._known(text) < self._least:
            return NO_TOPIC
        return (*self.golden.by_id[hits[0][0]].tags, "without a tag")[0]


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """A column in one window against the days before it."""

    column: str
    mix: MixDrift
    n_units: int
    medians: tuple[float, float] | None

    @property
    def fewest(self) -> int:
        """Units in the day, or in those before it, whichever are fewer."""
        before, now = (sum(pair[side] for pair in self.mix.counts.values()) for side in (0, 1))
        return min(before, now)

    @property
    def is_large(self) -> bool:
        """Whether its size lies beyond chance."""
        if self.column == "new_topic":
            old, new = self.mix.shares.get(_NEW, (0.0, 0.0))
            return new - old >= _SHARE_UP
        return self.mix.psi - self.mix.psi_by_chance >= MODERATE

    def told(self) -> str:
        if self.medians is not None:
            return f"median {number(self.medians[0], 3)} before, {number(self.medians[1], 3)} now"
        rise = {kind: new - old for kind, (old, new) in self.mix.shares.items()}
        most = _NEW if _NEW in rise and _KNOWN in rise else max(rise, key=lambda kind: abs(rise[kind]))
        old, new = self.mix.shares[most]
        return f"{most}: {old:.1%} of units before, {new:.1%} now"


def read_drift(
    traffic: Traffic, policy: WatchPolicy, *, golden: GoldenSet | None, embed: Embed | None = None
) -> Iterator[Reading]:
    """A reading for each column that can be read; topics need a golden set with tags, embeddings a model."""
    topics = Topics(golden=golden) if golden is not None and any(case.tags for case in golden) else None
    nearness = _nearness(golden, embed) if golden is not None and embed is not None else None
    valued: dict[str, Values | None] = {name: _values_of(name, topics, nearness) for name in policy.drift}
    windows = [_Days.of(traffic, back) for back in (0, 1)]
    least, alpha = policy.at_least, policy.alpha(DAY)
    read: dict[str, list[_Moved]] = {}
    for name, values in valued.items():
        blank = Reading(metric=f"{name} drift", state=State.UNKNOWN, window=_WINDOW, runbook=PAGES[name])
        moved = [_moved(name, days, values) for days in windows] if values is not None else []
        known = [days for days in moved if days is not None]
        fewest = min((days.fewest for days in known), default=0)
        if not known and "drift" not in policy.model_fields_set:
            continue
        if values is None:
            needs = "an embedding model" if name == "question_embedding" else "a golden set whose cases have tags"
            yield replace(blank, what=f"it needs {needs}")
        elif len(known) < len(windows) or fewest < least:
            what = f"{counted(fewest, 'unit')} in a day or before it; {least} are needed in each of two days"
            yield replace(blank, n_units=fewest, n=fewest, what=what)
        else:
            read[name] = known
    worst_p = [max(1.0 if days.mix.p_value is None else days.mix.p_value for days in both) for both in read.values()]
    for (name, both), p_value in zip(read.items(), holm(worst_p) if worst_p else (), strict=True):
        reading = _read(name, both, p_value, alpha=alpha)
        if (values := valued[name]) is not None and reading.state is State.ALERT:
            rows = _of_new_topic(windows[0].last, values) if name == "new_topic" else ()
            reading = replace(reading, since=_began(name, traffic, values), rows=rows)
        yield reading


def _read(name: str, both: Sequence[_Moved], p_value: float, *, alpha: float) -> Reading:
    """An ALERT where the two days moved, by the p-value of the worse one; WATCH where the last alone did."""
    moved, mix = both[0], both[0].mix
    state = State.WATCH if mix.p_value is not None and mix.p_value <= alpha and moved.is_large else State.QUIET
    if p_value <= alpha and all(days.is_large for days in both):
        state = State.ALERT
    psi = f"PSI {number(mix.psi, 2)} ({number(mix.psi_by_chance, 2)} by chance)"
    return Reading(
        metric=f"{name} drift",
        state=state,
        value=mix.psi,
        limit=MODERATE + mix.psi_by_chance,
        window=_WINDOW,
        n=moved.n_units,
        n_units=moved.n_units,
        what=f"{moved.told()}; {psi}",
        runbook=PAGES[name],
        unit="PSI",
    )


Values = Callable[[Requests], "NDArray[np.float64] | list[str]"]


@dataclass(frozen=True, kw_only=True)
class _Days:
    """A day, and the days that it is held against, one request of each unit in each."""

    last: Requests
    before: list[Requests]

    @classmethod
    def of(cls, traffic: Traffic, back: int) -> _Days:
        days = (traffic.last(DAY, windows_ago=back), *traffic.days_before(days_ago=back))
        last, *before = (day.first_of_each_unit().thinned() for day in days)
        return cls(last=last, before=before)

    @cached_property
    def units_before(self) -> tuple[int, int]:
        """Distinct units in the days before, and those of each day added up; each request of nobody is one."""
        units = [unit for day in self.before for unit in day.rows["unit_id"]]
        return len({*units} - {""}) + units.count(""), len(units)


def _moved(name: str, days: _Days, values: Values) -> _Moved | None:
    now, earlier = values(days.last), [values(day) for day in days.before]
    distinct, all_days = days.units_before
    if not len(now) or not all_days:
        return None
    medians = None
    if isinstance(now, np.ndarray):
        before = np.concatenate([np.asarray(day, dtype=np.float64) for day in earlier])
        before, now = before[~np.isnan(before)], now[~np.isnan(now)]
        if not before.size or not now.size:
            return None
        medians = (float(np.median(before)), float(np.median(now)))
        edges = np.unique(np.quantile(before, np.arange(1, _BINS) / _BINS))
        old, new = (Counter(map(str, np.searchsorted(edges, x, side="left"))) for x in (before, now))
    else:
        old, new = Counter(kind for day in earlier for kind in day), Counter(now)
    share = distinct / all_days
    scaled = {kind: round(n * share) for kind, n in old.items()}
    if not sum(scaled.values()):
        return None
    return _Moved(column=name, mix=mix_drift(scaled, new), n_units=sum(new.values()), medians=medians)


def _values_of(name: str, topics: Topics | None, nearness: Values | None) -> Values | None:
    if name == "question_embedding":
        return nearness
    if name not in ("topic", "new_topic"):
        return _NUMBERS[name]
    if topics is None:
        return None

    def topic(some: Requests) -> list[str]:
        return topics.of([*filter(None, question_of(some))])

    return topic if name == "topic" else lambda some: [_NEW if of == NO_TOPIC else _KNOWN for of in topic(some)]


def _lengths(texts: Iterable[str]) -> NDArray[np.float64]:
    return np.array([len(text.split()) or np.nan for text in texts], dtype=np.float64)


def _best_scores(some: Requests) -> NDArray[np.float64]:
    """The best score that each request's search gave, NaN where none is told."""
    searches = (documents if isinstance(documents, list | np.ndarray) else () for documents in some.rows["retrieved"])
    scores = ([document["score"] for document in documents if document["score"] is not None] for documents in searches)
    return np.array([max(known, default=np.nan) for known in scores], dtype=np.float64)


_NUMBERS: Mapping[str, Values] = {
    "question_words": lambda some: _lengths(question_of(some)),
    "answer_words": lambda some: _lengths(some.rows["text"].where(some.rows["status"] == "ok", "")),
    "retrieval_score": _best_scores,
}


def _nearness(golden: GoldenSet, embed: Embed) -> Values:
    """How near a question lies to the nearest golden one, by embeddings."""
    golden_vectors = embed([_text(case) for case in golden])

    def near(some: Requests) -> NDArray[np.float64]:
        if not len(some):
            return np.empty(0)
        likeness = embed([question or " " for question in question_of(some)]) @ golden_vectors.T
        return np.asarray(likeness.max(axis=1), dtype=np.float64)

    return near


def _text(case: Case) -> str:
    return " ".join(map(str, case.inputs.values()))


def _began(name: str, traffic: Traffic, values: Values) -> datetime:
    """The begin of the first of the days, up to a week back, that moved without a break."""
    for back in range(2, 7):
        moved = _moved(name, _Days.of(traffic, back), values)
        if moved is None or not moved.is_large:
            return traffic.now - back * DAY
    return traffic.now - WEEK


def _of_new_topic(last: Requests, values: Values) -> tuple[str, ...]:
    with_question = last[np.array([bool(text) for text in question_of(last)])]
    new = np.array(values(with_question)) == _NEW
    return tuple(with_question.rows["request_id"].iloc[np.flatnonzero(new)[:MOST_ROWS]])
