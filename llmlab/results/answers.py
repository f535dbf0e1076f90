"""Answers as columns of a frame and back, with their scores beside them; and a run's results in one Parquet file.

Used by `results`, which says what the columns mean. The file carries bundles, cases, metrics and digests in its
metadata; one that was damaged, or changed by hand, is refused by its digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.background import run_in_background
from llmlab.base.documents import whole_file
from llmlab.base.errors import DataError, FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import ANSWER_COLUMNS, Generation, Usage
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.scores import Metric

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.scorers import Score, Scorer

__all__ = [
    "FACTS",
    "answers_of",
    "bounds_of",
    "content_digest",
    "frame_of",
    "generations_of",
    "read_results",
    "score_columns",
    "storable",
    "unknown_bundle",
    "write_results",
]

FORMAT = "llmlab-results-1"
FACTS = ("golden_digest", "index_digests", "complete", "failed_share_allowed", "provenance", "notes", "created_at")
TEXTS_AT_ONCE = 4_096  # copied into the frame together
SCORING_AT_ONCE = 32  # answers whose async scorers wait for an endpoint at the same time

_PLAIN_COLUMNS = ("variant", "case_id", "repeat", "status", "cached", "attempts")
_TEXT_COLUMNS = ("text", "served_model", "system_fingerprint", "error", "call_key")
_NUMBER_COLUMNS = ("latency_s", "first_token_s", "cost_usd")
_TOKEN_COLUMNS = ("input_tokens", "output_tokens", "cached_input_tokens")
_JSON_COLUMNS = ("steps", "bounds")


def content_digest(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """A digest (32 hex digits) over answers and scores, whatever the order of the rows, and over these facts."""
    import pandas as pd

    content = frame.drop(columns=["cached"], errors="ignore")  # true the second time, for the same answers
    if "bounds" in content.columns and not content["bounds"].any():  # older files have no such column
        content = content.drop(columns="bounds")
    content = content.assign(retrieved=content["retrieved"].map("\x1f".join))
    rows = np.sort(pd.util.hash_pandas_object(content, index=False).to_numpy())
    about = {"columns": list(map(str, content.columns)), **facts}
    return hashlib.sha256(rows.tobytes() + json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def unknown_bundle(name: str) -> Bundle:
    """Stands for whatever wrote answers that were made elsewhere: explorable, never pinned."""
    safe = "".join(char if char.isalnum() and char.isascii() else "_" for char in name)[:80]
    if safe != name:  # so that two names never become one
        safe = f"{safe}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return Bundle.from_prompt("(made elsewhere)", model=f"elsewhere/{safe}", name=f"v_{safe}")


def frame_of(generations: Sequence[Generation]) -> pd.DataFrame:
    """One row per answer, one column per field; NaN in a number column = unknown."""
    import pandas as pd

    columns: dict[str, Any] = {name: [getattr(g, name) for g in generations] for name in _PLAIN_COLUMNS}
    columns |= {name: _texts(getattr(g, name) or "" for g in generations) for name in _TEXT_COLUMNS}
    columns |= {name: _numbers([getattr(g, name) for g in generations]) for name in _NUMBER_COLUMNS}
    columns |= {name: _numbers([getattr(g.usage, name) for g in generations]) for name in _TOKEN_COLUMNS}
    columns["retrieved"] = pd.Series([tuple(map(storable, g.retrieved)) for g in generations], dtype=object)
    columns["tool_calls"] = [storable(json.dumps(g.tool_calls)) if g.tool_calls else "" for g in generations]
    for name in _JSON_COLUMNS:
        columns[name] = [json.dumps(value) if (value := getattr(g, name)) else "" for g in generations]
    return pd.DataFrame({name: columns[name] for name in ANSWER_COLUMNS})


def generations_of(frame: pd.DataFrame) -> Iterator[Generation]:
    """The answers of a frame's rows, in its order."""
    blank = [""] * len(frame)  # a file of an older version has no bounds
    columns = {name: frame[name].tolist() if name in frame.columns else blank for name in ANSWER_COLUMNS}
    for values in zip(*columns.values(), strict=True):
        yield _generation(dict(zip(columns, values, strict=True)))


def answers_of(
    frame: pd.DataFrame, *, case_ids: Container[str], columns: tuple[str, str, str, str]
) -> list[Generation]:
    """Answers made elsewhere, out of the named columns for variant, case, text and (may be absent) repeat.

    Raises:
        DataError: a column is missing, a case id is unknown, or two rows are the same variant, case and repeat.
    """
    variant, case_id, text, repeat = columns
    if missing := [column for column in (variant, case_id, text) if column not in frame.columns]:
        raise DataError(f"the table has no column {missing[0]!r} (it has: {', '.join(map(str, frame.columns))})")
    repeats = frame[repeat].tolist() if repeat in frame.columns else [0] * len(frame)
    cells = list(zip(frame[variant].astype(str), frame[case_id].astype(str), map(_whole, repeats), strict=True))
    if unknown := sorted({case for _, case, _ in cells if case not in case_ids}):
        raise DataError(f"the golden set has no case {unknown[0]!r} (ids that it lacks: {len(unknown):,})")
    _refuse_twice(cells, repeat)
    said = zip(cells, frame[text].tolist(), frame[text].isna(), strict=True)
    return [
        Generation(variant=cell[0], case_id=cell[1], repeat=cell[2], **_answer_fields(answer, absent=absent))
        for cell, answer, absent in said
    ]


def bounds_of(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The lowest and the highest that each row's unknown number can have been, NaN where nobody knows; None = nowhere.

    An upper bound that an answer of the same variant has passed is raised to that answer: it was none.
    """
    if "bounds" not in frame.columns:
        return None
    values, told = frame[name].to_numpy(float, na_value=np.nan), frame["bounds"].fillna("").to_numpy(dtype=object)
    low, high = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    for i in np.flatnonzero(np.isnan(values) & (told != "")):
        for named, least, most in json.loads(told[i]):
            if named == name:
                low[i], high[i] = least, most
    if np.isnan(high).all():
        return None
    seen = frame[name].groupby(frame["variant"]).transform("max").to_numpy(float)
    return low, np.where(np.isnan(high), high, np.fmax(high, seen))


def score_columns(
    scorers: Sequence[Scorer], pairs: Iterable[tuple[Case, Generation]], *, explanations: Iterable[str]
) -> dict[str, Any]:
    """One column of numbers per scorer (NaN = unscored), and `explanations` with theirs added, as JSON texts."""
    columns: dict[str, list[float]] = {one.name: [] for one in scorers}
    said = []
    for found, before in zip(_scores(scorers, pairs), explanations, strict=True):
        for name, score in found.items():
            columns[name].append(math.nan if score.value is None else float(score.value))
        why = {name: text for name, text in json.loads(before or "{}").items() if name not in found}
        why |= {name: score.explanation for name, score in found.items() if score.explanation}
        said.append(json.dumps(why) if why else "")
    return {**{name: np.array(values, dtype=float) for name, values in columns.items()}, "explanations": said}


def write_results(
    path: str | Path,
    *,
    frame: pd.DataFrame,
    metrics: Mapping[str, Metric],
    bundles: Mapping[str, Bundle],
    golden: GoldenSet | None,
    facts: Mapping[str, Any],
) -> Path:
    """The path, with the rows written to it and all else beside them; a killed process leaves no half a file."""
    import pyarrow as pa  # heavy
    import pyarrow.parquet as pq

    about = {
        "format": FORMAT,
        "metrics": [asdict(metric) for metric in metrics.values()],
        "bundles": {name: bundle.model_dump(mode="json") for name, bundle in bundles.items()},
        "bundle_digests": {name: bundle.digest for name, bundle in bundles.items()},
        "cases": None if golden is None else [case.to_row() for case in golden],
        "golden": None if golden is None else {"name": golden.name, "parent": golden.parent},
        **{name: _plain(fact) for name, fact in facts.items()},
    }
    table = pa.Table.from_pandas(frame.drop(columns="retrieved"), preserve_index=False)
    ids = pa.array([list(row) for row in frame["retrieved"]], type=pa.list_(pa.string()))
    table = table.add_column(list(frame.columns).index("retrieved"), "retrieved", ids)
    with whole_file(path) as part:
        pq.write_table(table.replace_schema_metadata({b"llmlab": json.dumps(about).encode()}), part)
    return Path(path)


def read_results(path: str | Path) -> dict[str, Any]:
    """The attributes of the results that were written there, by name; FileRuleError for any other file."""
    frame, about = _read_frame(path)
    if about.get("format") != FORMAT:
        raise FileRuleError("was not written by Results.to_parquet; use `llmlab compare` for other tables", path=path)
    try:
        return {"frame": frame, **_attributes(about)}
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise FileRuleError(f"is damaged or was changed by hand ({error})", path=path) from None


def _read_frame(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of a Parquet file and what its metadata say, nothing where it is somebody else's; FileRuleError."""
    import pyarrow as pa  # heavy
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise FileRuleError(f"is not a Parquet file ({error})", path=path) from None
    except OSError as error:
        raise FileRuleError(f"cannot be read ({error.strerror or error})", path=path) from None
    try:
        about = json.loads((table.schema.metadata or {}).get(b"llmlab", b"{}"))
    except ValueError:
        about = {}
    frame = table.to_pandas()
    if "retrieved" in frame.columns:
        frame["retrieved"] = [tuple(ids) for ids in frame["retrieved"]]
    return frame, about if isinstance(about, dict) else {}


def _attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    cases = about["cases"]
    golden = None if cases is None else GoldenSet(tuple(Case.from_row(row) for row in cases), **about["golden"])
    bundles = {name: Bundle.model_validate(row) for name, row in about["bundles"].items()}
    if {name: bundle.digest for name, bundle in bundles.items()} != about["bundle_digests"]:
        raise ValueError("a bundle does not have the digest it was run with")
    if golden and golden.digest != about["golden_digest"] and "redacted_from" not in about["provenance"]:
        raise ValueError("the cases do not have the digest that was run")
    return {
        "metrics": {row["name"]: Metric(**row) for row in about["metrics"]},
        "bundles": bundles,
        "golden": golden,
        **{name: about[name] for name in FACTS},
        "notes": tuple(about["notes"]),
    }


def _plain(value: Any) -> Any:
    plain = {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
    return list(plain) if isinstance(plain, tuple) else plain


def storable(text: str) -> str:
    """Text that Parquet and databases can hold: a lone surrogate is written as its escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _generation(row: Mapping[str, Any]) -> Generation:
    cost = _number(row["cost_usd"])
    tokens = {name: _number(row[name]) for name in _TOKEN_COLUMNS}
    return Generation(
        **{name: row[name] for name in (*_PLAIN_COLUMNS, *_TEXT_COLUMNS, "retrieved")},
        latency_s=_number(row["latency_s"]),
        first_token_s=_number(row["first_token_s"]),
        cost_usd=None if cost is None else Decimal(repr(cost)),
        usage=Usage(**{name: None if count is None else int(count) for name, count in tokens.items()}),
        tool_calls=tuple(json.loads(row["tool_calls"] or "[]")),
        steps=tuple(json.loads(row["steps"] or "[]")),
        bounds=tuple((name, low, high) for name, low, high in json.loads(row["bounds"] or "[]")),
    )


def _texts(texts: Iterable[str]) -> Any:
    """Texts as pandas keeps them, made some thousand at a time: made at once, they would be held twice over."""
    import pandas as pd
    import pyarrow as pa

    left = map(storable, texts)
    pieces = [pa.array(piece, pa.large_string()) for piece in iter(lambda: list(islice(left, TEXTS_AT_ONCE)), [])]
    kept = pd.StringDtype("pyarrow", na_value=np.nan)  # what pandas 3 makes of a list of texts
    return pd.array(pa.chunked_array(pieces, pa.large_string()), dtype=kept)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=float)


def _whole(repeat: Any) -> int:
    if isinstance(repeat, bool) or not isinstance(repeat, (int, float)) or repeat < 0 or repeat != int(repeat):
        raise DataError(f"repeat == {repeat!r}, must be 0, 1, 2, ...")
    return int(repeat)


def _refuse_twice(cells: Iterable[tuple[str, str, int]], repeat: str) -> None:
    seen: dict[tuple[str, str, int], int] = {}
    for number, cell in enumerate(cells, start=1):
        if (first := seen.setdefault(cell, number)) != number:
            raise DataError(
                f"rows {first} and {number} both are the answer of {cell[0]!r} to {cell[1]!r}, repeat {cell[2]}; "
                f"number repeated answers in a column {repeat!r}, or keep one"
            )


def _answer_fields(answer: Any, *, absent: bool) -> dict[str, Any]:
    if absent:
        return {"status": "error", "error": "no answer in the table"}
    return {"text": str(answer)} if str(answer).strip() else {"status": "empty"}


def _scores(scorers: Sequence[Scorer], pairs: Iterable[tuple[Case, Generation]]) -> Iterable[dict[str, Score]]:
    from llmlab.scorers import score_all, score_all_async

    if not any(one.is_async for one in scorers):
        return (score_all(scorers, case, generation) for case, generation in pairs)
    places = asyncio.Semaphore(SCORING_AT_ONCE)

    async def one(case: Case, generation: Generation) -> dict[str, Score]:
        async with places:
            return await score_all_async(scorers, case, generation)

    async def every() -> list[dict[str, Score]]:
        return await asyncio.gather(*(one(case, generation) for case, generation in pairs))

    return run_in_background(every)
