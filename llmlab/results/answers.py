"""The frame of a run: answers become columns as they come, scores beside them.

Used by `results`, which says what the columns mean, and by the engine, which writes the frame while it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.background import run_in_background
from llmlab.base.numbers import counted
from llmlab.base.private import Secrets, excerpt, scrub, secrets_now
from llmlab.clients.base import ANSWER_COLUMNS, Generation, Usage, with_calls
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.scores import Metric
from llmlab.scorers.base import NOTHING_EXPECTED, RAISED, Score, Scorer, score_all, score_all_async
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

TEXTS_AT_ONCE = 4_096  # kept by Arrow together, as soon as all of them are there
SCORING_AT_ONCE = 32  # answers whose async scorers wait for an endpoint at the same time

_PLAIN_COLUMNS = ("variant", "case_id", "repeat", "status", "cached", "attempts")
_OTHER_TEXT_COLUMNS = ("thought", "served_model", "system_fingerprint", "error", "call_key")
_NUMBER_COLUMNS = ("latency_s", "first_token_s", "cost_usd")
TOKEN_COLUMNS = ("input_tokens", "output_tokens", "cached_input_tokens")
_QUOTED = re.compile(r"\{.*\}", re.DOTALL)  # what an error tells of a reply
_JSON_COLUMNS = ("tool_calls", "steps", "bounds")


class AnswerSheet:
    """The frame while it is written: each answer is put in its place when it comes, and its scores beside it.

    Nothing of an answer is kept twice, and no answer has to be kept for the frame to be made of it later.
    """

    def __init__(self, places: int, scorers: Sequence[Scorer] = ()) -> None:
        self.scorers = tuple(scorers)
        self._there = np.zeros(places, dtype=bool)
        names = (*_PLAIN_COLUMNS, *_OTHER_TEXT_COLUMNS, *_JSON_COLUMNS, "retrieved")
        self._lists: dict[str, list[Any]] = {name: [""] * places for name in names}
        self._numbers = {name: np.full(places, math.nan) for name in (*_NUMBER_COLUMNS, *TOKEN_COLUMNS)}
        self._texts = _Texts(places)
        self._scores = {scorer.name: np.full(places, math.nan) for scorer in self.scorers}
        self._explanations = [""] * places if self.scorers else []
        self._secrets = secrets_now()

    def __len__(self) -> int:
        return int(self._there.sum())

    def put(self, place: int, generation: Generation) -> None:
        """The answer stands in this row from now on."""
        lists, usage = self._lists, generation.usage
        for name in _PLAIN_COLUMNS:
            lists[name][place] = getattr(generation, name)
        for name in _OTHER_TEXT_COLUMNS:
            if text := getattr(generation, name):
                lists[name][place] = storable(text)
        for name in _JSON_COLUMNS:
            if value := getattr(generation, name):
                lists[name][place] = json.dumps(value)
        for name, numbers in self._numbers.items():
            number = getattr(usage if name in TOKEN_COLUMNS else generation, name)
            if number is not None:
                numbers[place] = number
        lists["retrieved"][place] = tuple(map(storable, generation.retrieved))
        self._texts.put(place, storable(generation.text))
        self._there[place] = True

    def score(self, place: int, scores: Mapping[str, Score]) -> None:
        """What the scorers say of the answer in this row."""
        for name, score in scores.items():
            if score.value is not None:
                self._scores[name][place] = score.value
        self._explanations[place] = _explained("", scores, self._secrets)

    def without_scores(self) -> AnswerSheet:
        """The same sheet, as if nothing had been scored."""
        self.scorers = ()
        return self

    def frame(self) -> pd.DataFrame:
        """The rows that have an answer, by place, with their scores; the sheet is empty then."""
        import pandas as pd

        there, is_there = self._there, self._there.tolist()
        columns: dict[str, Any] = {}
        for name in ANSWER_COLUMNS:
            if name == "text":
                columns[name] = self._texts.array(there)
            elif name in self._numbers:
                columns[name] = self._numbers.pop(name)[there]
            else:
                column = list(compress(self._lists.pop(name), is_there))
                if name in _OTHER_TEXT_COLUMNS:
                    column = _arrow_texts([column])
                columns[name] = pd.Series(column, dtype=object) if name == "retrieved" else column
        if self.scorers:
            columns |= {name: scores[there] for name, scores in self._scores.items()}
            columns["explanations"] = list(compress(self._explanations, is_there))
        return pd.DataFrame(columns)


class _Texts:
    """One text per place, some thousand at a time handed to Arrow: so they are held once, and by one allocator."""

    def __init__(self, places: int) -> None:
        self._blocks: list[Any] = [[None] * min(TEXTS_AT_ONCE, places - i) for i in range(0, places, TEXTS_AT_ONCE)]
        self._missing = [len(block) for block in self._blocks]

    def put(self, place: int, text: str) -> None:
        at, row = divmod(place, TEXTS_AT_ONCE)
        self._blocks[at][row] = text
        self._missing[at] -= 1
        if not self._missing[at]:
            self._blocks[at] = _arrow(self._blocks[at])

    def array(self, there: NDArray[np.bool_]) -> Any:
        """The texts that are there, as pandas keeps them."""
        pieces = []
        for at, block in enumerate(self._blocks):
            if self._missing[at]:
                chosen = there[at * TEXTS_AT_ONCE : (at + 1) * TEXTS_AT_ONCE]
                block = list(compress(block, chosen))
            pieces.append(block)
        self._blocks = []
        return _arrow_texts(pieces)


def content_digest(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """A digest (32 hex digits) over answers and scores, whatever the order of the rows, and over these facts."""
    import pandas as pd

    content = frame.drop(columns=["cached"], errors="ignore")  # true the second time, for the same answers
    newer = [name for name in ("bounds", "thought") if name in content.columns and not content[name].any()]
    content = content.drop(columns=newer)  # older files have no such columns
    content = content.assign(retrieved=content["retrieved"].map("\x1f".join))
    rows = np.sort(pd.util.hash_pandas_object(content, index=False).to_numpy())
    about = {"columns": list(map(str, content.columns)), **facts}
    return hashlib.sha256(rows.tobytes() + json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def generations_of(frame: pd.DataFrame) -> Iterator[Generation]:
    """The answers of a frame's rows, in its order."""
    blank = [""] * len(frame)  # a file of an older version has no bounds
    columns = {name: frame[name].tolist() if name in frame.columns else blank for name in ANSWER_COLUMNS}
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        cost, *tokens = (_number(row[name]) for name in ("cost_usd", *TOKEN_COLUMNS))
        counts = (None if count is None else int(count) for count in tokens)
        yield Generation(
            **{name: row[name] for name in (*_PLAIN_COLUMNS, *_OTHER_TEXT_COLUMNS, "text", "retrieved")},
            latency_s=_number(row["latency_s"]),
            first_token_s=_number(row["first_token_s"]),
            cost_usd=None if cost is None else Decimal(repr(cost)),
            usage=Usage(**dict(zip(TOKEN_COLUMNS, counts, strict=True))),
            tool_calls=tuple(json.loads(row["tool_calls"] or "[]")),
            steps=tuple(json.loads(row["steps"] or "[]")),
            bounds=tuple(map(tuple, json.loads(row["bounds"] or "[]"))),
        )


def column_of(frame: pd.DataFrame, name: str) -> list[Any]:
    """A column of a frame of answers as a list; "shown" is what each answer shows (`shown_in`)."""
    if name != "shown":
        return frame[name].tolist()
    columns = [column for column in ("text", "tool_calls") if column in frame.columns]
    return [shown_in(row) for row in frame[columns].to_dict("records")]


def shown_in(row: Mapping[Any, Any]) -> str:
    """`Generation.shown` of a row of the frame: its text, and below it the tool calls."""
    calls = row.get("tool_calls")
    return with_calls(row["text"], json.loads(calls)) if calls else str(row["text"])


def refuse_unknown(**asked: tuple[Collection[str] | None, Iterable[str]]) -> None:
    """ValueError where a name is asked for that is not there; each keyword is what the names are of."""
    for what, (wanted, there) in asked.items():
        if unknown := sorted(set(wanted or ()) - set(there)):
            raise ValueError(f"no {what} {unknown[0]!r} in these results (there are: {', '.join([*there][:20])})")


def bounds_of(frame: pd.DataFrame, name: str) -> tuple[FloatArray, FloatArray] | None:
    """The lowest and the highest that each row's unknown number can have been, NaN where nobody knows; None = nowhere.

    An upper bound that an answer of the same variant has passed is raised to that answer: it was none.
    """
    if "bounds" not in frame.columns:
        return None
    bounds = frame["bounds"].fillna("").to_numpy(dtype=object)
    low, high = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    for i in np.flatnonzero(frame[name].isna().to_numpy() & (bounds != "")):
        for named, least, most in json.loads(bounds[i]):
            if named == name:
                low[i], high[i] = least, most
    if np.isnan(high).all():
        return None
    seen = frame[name].groupby(frame["variant"]).transform("max").to_numpy(float)
    return low, np.where(np.isnan(high), high, np.fmax(high, seen))


def sheet_of(
    generations: Iterable[Generation], *, golden: GoldenSet, variants: Sequence[str], scorers: Sequence[Scorer] = ()
) -> AnswerSheet:
    """A sheet that these answers fill, sorted by case, repeat and variant, and scored."""
    order = {case.id: i for i, case in enumerate(golden)}
    rows = sorted(generations, key=lambda g: (order[g.case_id], g.repeat, variants.index(g.variant)))
    sheet = AnswerSheet(len(rows), scorers)
    for place, generation in enumerate(rows):
        sheet.put(place, generation)
    if scorers:
        pairs = ((golden.by_id[generation.case_id], generation) for generation in rows)
        for place, scores in enumerate(scores_of(scorers, pairs)):
            sheet.score(place, scores)
    return sheet


def score_columns(
    scorers: Sequence[Scorer], pairs: Iterable[tuple[Case, Generation]], *, explanations: Sequence[str]
) -> dict[str, Any]:
    """One column of numbers per scorer (NaN = unscored), and `explanations` with theirs added, as JSON texts."""
    columns: dict[str, Any] = {scorer.name: np.full(len(explanations), math.nan) for scorer in scorers}
    why, secrets = list(explanations), secrets_now()
    for row, scores in enumerate(scores_of(scorers, pairs)):
        for name, score in scores.items():
            columns[name][row] = math.nan if score.value is None else score.value
        why[row] = _explained(why[row], scores, secrets)
    return {**columns, "explanations": why}


def metrics_of(scorers: Iterable[Scorer]) -> dict[str, Metric]:
    """What each scorer's column means, by name."""
    return {
        scorer.name: Metric(
            name=scorer.name,
            low=scorer.low,
            high=scorer.high,
            higher_is_better=scorer.higher_is_better,
            scorer=scorer.digest,
        )
        for scorer in scorers
    }


def scores_of(scorers: Sequence[Scorer], pairs: Iterable[tuple[Case, Generation]]) -> Iterable[dict[str, Score]]:
    """The scores of each answer by scorer, in the order of the answers; async scorers ask about several at once."""
    if not any(scorer.is_async for scorer in scorers):
        return (score_all(scorers, case, generation) for case, generation in pairs)
    places = asyncio.Semaphore(SCORING_AT_ONCE)

    async def one(case: Case, generation: Generation) -> dict[str, Score]:
        async with places:
            return await score_all_async(scorers, case, generation)

    async def every() -> list[dict[str, Score]]:
        return await asyncio.gather(*(one(case, generation) for case, generation in pairs))

    return run_in_background(every)


def _explained(before: str, scores: Mapping[str, Score], secrets: Secrets) -> str:
    """The explanations of an answer's scores as JSON, with those of other scorers that were there before; "" = none.

    A scorer asks endpoints of its own, and may raise or say what holds their key: secrets are cut out.
    """
    why = {name: text for name, text in json.loads(before).items() if name not in scores} if before else {}
    why |= {name: score.explanation for name, score in scores.items() if score.explanation}
    return scrub(json.dumps(why), secrets=secrets) if why else ""


def explanations_of(frame: pd.DataFrame) -> list[str]:
    """The explanations of a frame's answers; "" where it has none."""
    return frame["explanations"].tolist() if "explanations" in frame.columns else [""] * len(frame)


def unscorable_line(frame: pd.DataFrame, name: str) -> str:
    """How many cases name nothing that this metric could hold an answer to, so that none was lost; "" for none."""
    unscored = frame[frame[name].isna()]
    why = (json.loads(text or "{}").get(name, "") for text in explanations_of(unscored))
    cases = {id_ for id_, reason in zip(unscored["case_id"], why, strict=True) if reason.endswith(NOTHING_EXPECTED)}
    if not cases:
        return ""
    named = f"{len(cases):,} of {counted(frame['case_id'].nunique(), 'case')} name nothing expected"
    return f"{name}: {named}; their answers count as unscored, though none could have a score."


def raised_line(frame: pd.DataFrame, name: str) -> str:
    """For how many answers this metric's scorer raised, and what most often; "" for none."""
    why = [json.loads(text).get(name, "") for text in explanations_of(frame[frame[name].isna()]) if text]
    if not (raised := Counter(reason.removeprefix(RAISED) for reason in why if reason.startswith(RAISED))):
        return ""
    (most, times), n = raised.most_common(1)[0], raised.total()
    often = "" if times == n else f", most often ({times:,})"
    return f"{name}: its scorer raised for {n:,} of {counted(len(frame), 'answer')}{often}: {excerpt(most, limit=200)}."


def with_reasons(frame: pd.DataFrame, name: str, reasons: Sequence[str]) -> list[str]:
    """The explanations of a frame's answers with the reason of one more score each."""
    pairs, secrets = zip(explanations_of(frame), reasons, strict=True), secrets_now()
    added = ({**json.loads(old or "{}"), name: storable(reason)} for old, reason in pairs)
    return [scrub(json.dumps(why), secrets=secrets) for why in added]


def storable(text: str) -> str:
    """Text that Parquet and databases can hold: a lone surrogate is written as its escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _arrow(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.large_string())


def _arrow_texts(pieces: Iterable[Any]) -> Any:
    """Lists or Arrow arrays of texts as the one column that pandas 3 makes of a list of texts."""
    import pandas as pd
    import pyarrow as pa

    chunks = [_arrow(piece) if isinstance(piece, list) else piece for piece in pieces]
    return pd.array(pa.chunked_array(chunks, pa.large_string()), dtype=pd.StringDtype("pyarrow", na_value=np.nan))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def commonest(errors: Iterable[str], *, noted: str, most: int = 3) -> str:
    """The commonest errors with their counts and how many others there are, but for those that `noted` says.

    Errors that differ in what they quote of a reply alone ("{...}") are one.

    >>> commonest(["no choice: {'tokens': 7}", "no choice: {'tokens': 8}", "lost"], noted="", most=1)
    '2 x no choice: {…}; and 1 other'
    """
    kinds: dict[str, list[str]] = {}
    for text in map(str, errors):
        if text not in noted:
            kinds.setdefault(_QUOTED.sub("{…}", text), []).append(text)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    shown = [f"{len(texts)} x {texts[0] if len(set(texts)) == 1 else kind}" for kind, texts in ordered[:most]]
    left = sum(len(texts) for _, texts in ordered[most:])
    return "; ".join([*shown, *([f"and {counted(left, 'other')}"] if left else [])])
