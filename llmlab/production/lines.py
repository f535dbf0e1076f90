"""Requests as values (`Trace`) and as columns: what a line of a trace file holds, and files of such lines, torn or not.

A line is one JSON object with the fields of `schema`; what may have any shape (inputs, messages, tool calls, steps) is
a JSON text in it, so that whole blocks are read as columns. A block that is not whole is read line by line, and what
cannot be read is counted with its place, never fatal. A line without a status brings signals for a request, of
which the latest of a name counts.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from llmlab.base.errors import DataError
from llmlab.base.project import project_root
from llmlab.clients.base import ANSWERED, Generation, Usage
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import Case
from llmlab.stats.arrays import FloatArray
from llmlab.tracking.screening import redactor

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_BLOCK_BYTES = 8_000_000
_PLACES_SHOWN = 5
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)  # moments of a request
_WRITTEN_S = 1.0  # from the end of a request to its line, on a busy machine
TEXTS = (
    *("request_id", "unit_id", "session_id", "service", "rollout", "arm", "bundle", "status", "error", "error_code"),
    *("guarded_by", "served_model", "text", "inputs", "messages", "tool_calls", "steps"),
)
AMOUNTS = (
    *("attempts", "latency_s", "first_token_s", "cost_usd", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("context_tokens", "fallback"),
)
SIGNAL = "signals."
_NAMES = ("request_id", "unit_id", "session_id", "service", "rollout", "arm", "bundle", "guarded_by")
FAILED = ("error", "timeout")
STATUSES = ANSWERED | set(FAILED)
_CANCELLED = frozenset(  # error codes: of Python, gRPC, nginx, browsers, then of clients of ASGI and aiohttp that left
    (
        *("generatorexit", "cancellederror", "cancelled", "canceled", "499", "client_closed_request", "aborterror"),
        *("clientdisconnect", "clientdisconnected", "client_disconnect", "client_disconnected"),
        "clientconnectionreseterror",
    )
)
LEFT = "cancelled before an answer (whoever asked left, or a deadline passed), in no error rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A call that an application made for a request: its name, kind (llm, retriever, tool, ...) and what it gave."""

    name: str = ""
    kind: str = ""
    latency_s: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    output: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trace(Shown):
    """One request of production.

    Attributes:
        time: when it began, in UTC.
        answer: what came back, or the reason why nothing did.
        unit_id: what was randomised, a pseudonym.
        session_id: the conversation it belongs to.
        rollout, arm: the rollout by name ("" = none), and baseline, candidate, shadow, or "" = not enrolled.
        bundle: digest of what answered.
        messages: the prompt as sent, where it is known.
        guards: names of the checks that fired.
        guarded_by: digest of the guards that its client applied, "" = none, or unknown.
        signals: thumbs, regenerated, edited, conversion, judge scores.
        scores: of the retrieved documents, in their order, None = unknown.
    """

    request_id: str
    time: datetime
    inputs: Mapping[str, Any]
    answer: Generation
    unit_id: str = ""
    session_id: str = ""
    service: str = ""
    rollout: str = ""
    arm: str = ""
    bundle: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    guards: tuple[str, ...] = ()
    guarded_by: str = ""
    signals: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float | None, ...] = ()
    steps: tuple[Step, ...] = ()

    def to_case(self, *, expected: Any = (), postmortem: str = "", root: Path | None = None) -> Case:
        """This request as a case, personal data replaced: for `golden.grown([...])`.

        Args:
            expected: what is expected of an answer, as in a golden set.
            postmortem: the page that says what happened; it is the case's source, and `incident` its tag.
            root: the project whose pseudonyms are used, by default the one around the current folder.

        Raises:
            DataError: the request was recorded without its inputs.
        """
        if not self.inputs:
            raise DataError(f"request {self.request_id!r} was recorded without its inputs, so it cannot be asked again")
        redact = redactor(project_root() if root is None else root)
        return Case(
            id=self.request_id,
            inputs=redact(dict(self.inputs)),
            expected=expected,
            tags=("incident",) if postmortem else (),
            cluster=redact(self.session_id or self.unit_id) or None,
            source=f"post-mortem {postmortem}" if postmortem else "production",
        )

    def _rows(self) -> list[dict[str, object]]:
        fields = {name: getattr(self, name) for name in ("time", "request_id", "unit_id", "service", "arm")}
        fields["inputs"] = dict(self.inputs)
        fields |= {name: getattr(self.answer, name) for name in ("status", "text", "error", "latency_s", "cost_usd")}
        return [{"field": name, "value": value} for name, value in fields.items()]


class Problems:
    """What could not be read as it stands: kind -> how many, and the first places."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._places = defaultdict[str, list[str]](list)

    def add(self, kind: str, places: Sequence[str] = (), *, count: int | None = None) -> None:
        """So many more of a kind (by default as many as there are places)."""
        self._counts[kind] += len(places) if count is None else count
        self._places[kind] = [*self._places[kind], *places][:_PLACES_SHOWN]

    def rows(self) -> Rows:
        """One row a kind: problem, count, first places as file:line."""
        rows = tuple(
            {"problem": kind, "count": count, "first": ", ".join(self._places[kind])}
            for kind, count in self._counts.items()
            if count
        )
        return Rows(rows=rows, sentence="" if rows else "Nothing was wrong with what was read.")


@cache
def schema() -> Any:
    """The columns of a line, as Arrow's types; `signals` is a struct of numbers, of whatever names."""
    import pyarrow as pa

    document = pa.struct([("id", pa.large_string()), ("score", pa.float64())])
    return pa.schema(
        [
            ("time", pa.timestamp("us", "UTC")),
            *((name, pa.large_string()) for name in TEXTS),
            *((name, pa.float64()) for name in AMOUNTS),
            ("guards", pa.list_(pa.string())),
            ("retrieved", pa.list_(document)),
        ]
    )


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file in pieces of whole lines, each with the number of its first line."""
    number, rest = 1, b""
    with path.open("rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield number, whole.removeprefix(b"\xef\xbb\xbf") + newline
                number += whole.count(b"\n") + 1
    if rest.strip():
        yield number, rest.removeprefix(b"\xef\xbb\xbf")


def objects(block: bytes, first: int, *, where: str, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and object of every line that is one; the others are counted."""
    for number, line in enumerate(block.split(b"\n"), start=first):
        if not line.strip():
            continue
        try:
            value = from_json(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            problems.add("torn line, or no JSON object", [f"{where}:{number}"])


def table_of(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as a table: fields of the schema, and `signals.NAME` as numbers."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row if name.startswith(SIGNAL))
    places = [("file", pa.int32()), ("line", pa.int64())]
    columns = pa.schema([*schema(), *((name, pa.float64()) for name in names), *places])
    return pa.Table.from_pylist(rows, schema=columns)


def gathered(
    path: Path, file: int, *, row_of: Callable[[Mapping[str, Any], str], dict[str, Any]], problems: Problems
) -> Iterator[Any]:
    """The tables of a file of our own lines: a block as columns, or line by line by `row_of` where it is not whole."""
    import pyarrow as pa

    for first, block in blocks(path):
        try:
            table, texts = _columns(block), block.split(b"\n")
            lines = np.array([number for number, text in enumerate(texts, start=first) if text.strip()])
            if len(table) != len(lines):
                raise pa.ArrowInvalid("two objects on a line")
        except (pa.ArrowException, UnicodeDecodeError):
            placed = objects(block, first, where=path.name, problems=problems)
            yield table_of([{**row_of(row, f"{path.name}:{n}"), "file": file, "line": n} for n, row in placed])
        else:
            table = table.append_column("file", pa.array(np.full(len(table), file, dtype=np.int32)))
            yield table.append_column("line", pa.array(lines))


def _columns(block: bytes) -> Any:
    """The block as a table, each signal a column of its own; Arrow's or Unicode's error where it is not whole."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import json

    block.decode()  # Arrow takes any bytes for text
    table = json.read_json(
        io.BytesIO(block),
        read_options=json.ReadOptions(block_size=len(block) + 1, use_threads=False),
        parse_options=json.ParseOptions(explicit_schema=schema(), unexpected_field_behavior="infer"),
    )
    columns = table.select(schema().names)
    for name in AMOUNTS:
        _finite(columns[name], name)
    if not set(pc.unique(columns["status"]).to_pylist()) <= {None, *STATUSES}:
        raise pa.ArrowInvalid("a status in other words")
    signals = {name: table[name] for name in table.column_names if name.startswith(SIGNAL)}
    if "signals" in table.column_names and not pa.types.is_null(kind := table.schema.field("signals").type):
        if not pa.types.is_struct(kind):
            raise pa.ArrowInvalid("signals that are no object")
        signals |= {f"{SIGNAL}{field.name}": pc.struct_field(table["signals"], i) for i, field in enumerate(kind)}
    for name, column in signals.items():
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int64())
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
            raise pa.ArrowInvalid(f"{name} that is no number")
        columns = columns.append_column(name, _finite(column.cast(pa.float64()), name))
    return columns


def _finite(column: Any, name: str) -> Any:
    """The column; Arrow's error where a number is endless or NaN, for line by line each is told with its place."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.all(pc.is_finite(column), min_count=0).as_py():
        raise pa.ArrowInvalid(f"{name} that is no finite number")
    return column


def settled(
    tables: Iterable[Any], *, files: Sequence[str], problems: Problems, appended: Collection[int] = ()
) -> pd.DataFrame:
    """One row per request, in order of time: signals joined, doubles and what cannot be counted with its places.

    Of files that were appended to (by their numbers) lines out of order are counted too; any other order says nothing.
    """
    import pyarrow as pa

    whole = pa.concat_tables([table_of([]), *tables], promote_options="default")
    frame = whole.to_pandas(types_mapper=_pandas_type, self_destruct=True)
    del whole
    file, line = frame.pop("file").to_numpy(), frame.pop("line").to_numpy()

    def count(kind: str, chosen: NDArray[np.bool_]) -> None:
        first = np.flatnonzero(chosen)[:_PLACES_SHOWN]
        problems.add(kind, [f"{files[int(file[i])]}:{int(line[i])}" for i in first], count=int(chosen.sum()))

    for name in AMOUNTS:
        values = frame[name].to_numpy(float)
        wrong = ~np.isnan(values) & ~(np.isfinite(values) & (values >= 0))
        count(f"{name} below zero or endless, taken as missing", wrong)
        frame[name] = np.where(wrong, np.nan, values) if wrong.any() else values
    time_s = seconds_of(frame["time"])
    strange = (time_s < EARLIEST.timestamp()) | (time_s >= LATEST.timestamp())
    count("time that is none, taken as missing", strange)
    frame["time"] = frame["time"].mask(strange)
    signals = [f"{SIGNAL}{name}" for name in signals_of(frame)]
    silent = frame["text"].isna() | (frame["text"].eq("") & frame["time"].isna())
    bare = (frame["status"].isna() & silent & frame[signals].notna().any(axis=1)).to_numpy(bool)
    nameless = frame["request_id"].fillna("").eq("").to_numpy()
    mute = (frame["status"].isna() & silent).to_numpy(bool) & ~bare & ~nameless
    mute[mute] = frame.loc[mute].drop(columns=["request_id", "time", *signals]).isna().all(axis=1)
    mute[mute] = frame.loc[mute, "request_id"].isin(frame.loc[~mute & ~bare, "request_id"])
    count("signal without a value", mute)
    bare = bare | mute  # a line that says nothing of a request takes the place of none that does
    timeless = frame["time"].isna().to_numpy() & ~bare & ~nameless
    count("line without a request_id", nameless)
    count("request without a time", timeless)
    requests = ~nameless & ~timeless & ~bare
    behind, took_s = np.zeros(len(frame), bool), np.nan_to_num(numbers_of(frame, "latency_s"))
    rows = np.flatnonzero(requests)
    for mine in np.split(rows, np.flatnonzero(np.diff(file[rows])) + 1):  # by file
        if not len(mine) or file[mine[0]] not in appended:
            continue
        # a line is written when its request ends, so those overlap
        late = np.maximum.accumulate(time_s[mine]) - time_s[mine] > took_s[mine] + _WRITTEN_S
        behind[mine] = late & (2 * late.sum() <= len(mine))  # else the file is sorted some other way
    count("out of order, sorted by time", behind)
    doubled = np.zeros(len(frame), bool)
    in_time = rows[np.argsort(time_s[rows], kind="stable")]
    doubled[in_time] = frame["request_id"].iloc[in_time].duplicated(keep="last").to_numpy()
    count("request that came twice, the last one kept", doubled)
    late = frame[bare & ~nameless].sort_values("time", kind="stable", na_position="first")[["request_id", *signals]]
    frame = frame[requests & ~doubled]
    if not frame["time"].is_monotonic_increasing:
        frame = frame.sort_values("time", kind="stable")
    frame = frame.reset_index(drop=True)
    if len(late):
        frame, unknown = with_signals(frame, late)
        problems.add("signal for a request that is not here", count=unknown)
    return _completed(frame, problems)


def seconds_of(times: pd.Series[Any]) -> FloatArray:
    """Moments as seconds since 1970, NaN where there is none; a time without an offset is UTC."""
    import pandas as pd

    moments = pd.to_datetime(times, utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)


def numbers_of(frame: pd.DataFrame, column: str) -> FloatArray:
    """A column as numbers, NaN where nothing is known; all NaN where there is no such column."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)


def cancelled_in(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """(rows,) whether a request was cancelled: whoever asked left, or (asyncio tells them alike) a deadline passed."""
    if "error_code" not in frame or "status" not in frame:
        return np.zeros(len(frame), bool)
    codes = [code for code in frame["error_code"].dropna().unique() if code.rpartition(".")[2].lower() in _CANCELLED]
    return (frame["error_code"].isin(codes) & frame["status"].isin(FAILED)).to_numpy(bool)


def signals_of(frame: pd.DataFrame) -> list[str]:
    """The signals that a frame has, by their names."""
    return [str(name).removeprefix(SIGNAL) for name in frame if str(name).startswith(SIGNAL)]


def _completed(frame: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The frame with what follows from its columns: a status that is one, lengths and counts."""
    import pyarrow.compute as pc

    known = frame["status"].isin(STATUSES) | frame["status"].isna()
    if not known.all():
        nobody = ~known & ~frame["status"].isin(_CANCELLED)
        problems.add("status that nobody knows, taken as an error", count=int(nobody.sum()))
        frame["error_code"] = frame["error_code"].where(known | frame["error_code"].notna(), frame["status"])
        frame["status"] = frame["status"].where(known, "error")
    texts = {name: frame[name].fillna("") for name in TEXTS if name != "status"}
    status = _told_by_the_rest(frame) if frame["status"].isna().any() else frame["status"]
    retrieved, guards = (frame[name].array.__arrow_array__() for name in ("retrieved", "guards"))
    return frame.assign(
        **texts,
        status=status,
        answer_chars=frame["text"].str.len().astype(float).where(status.isin(ANSWERED)),
        retrieved_n=pc.list_value_length(retrieved).to_pandas().astype(float).to_numpy(),
        guards=pc.binary_join(guards, ",").to_pandas().fillna("").to_numpy(dtype=object),
    )


def _told_by_the_rest(frame: pd.DataFrame) -> pd.Series[Any]:
    """The status, where a line has none as its error and its text tell it."""
    unsaid, text = frame["status"].isna(), frame["text"]
    failed = frame["error"].fillna("") != ""
    silent = text.notna() & (text.str.strip() == "") & (frame["tool_calls"].fillna("") == "")
    return frame["status"].mask(unsaid & silent, "empty").mask(unsaid & failed, "error").fillna("ok")


def with_signals(frame: pd.DataFrame, signals: pd.DataFrame, *, on: str = "request_id") -> tuple[pd.DataFrame, int]:
    """The frame with signals by the column `on`, the last one of a name where several come; and how many of nobody."""
    import pandas as pd

    unknown = int((~signals[on].isin(frame[on])).sum())
    last = signals.groupby(on, sort=False).last()
    places = pd.Index(last.index).get_indexer(frame[on])
    joined = frame.copy(deep=False)
    for name in last.columns:
        new = np.where(places >= 0, numbers_of(last, name)[places], np.nan)
        joined[name] = np.where(np.isnan(new), numbers_of(frame, name), new)
    return joined, unknown


def _pandas_type(kind: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_large_string(kind):
        return pd.StringDtype("pyarrow", na_value=np.nan)
    return pd.ArrowDtype(kind) if pa.types.is_list(kind) else None


def trace_of(row: Mapping[str, Any]) -> Trace:
    """A row of the frame as a value."""
    cost = _known(row["cost_usd"])
    tokens = (_known(row[name]) for name in ("prompt_tokens", "completion_tokens", "cached_tokens"))
    sent, answered, cached = (None if n is None else int(n) for n in tokens)
    retrieved = row["retrieved"] if isinstance(row["retrieved"], (list, np.ndarray)) else ()
    steps = tuple(Step(**step) for step in _json(row["steps"], []))
    return Trace(
        **{name: row[name] for name in _NAMES},
        time=row["time"].to_pydatetime(),
        inputs=_json(row["inputs"], {}),
        messages=tuple(_json(row["messages"], [])),
        guards=tuple(filter(None, row["guards"].split(","))),
        signals={
            name.removeprefix(SIGNAL): value
            for name, value in row.items()
            if name.startswith(SIGNAL) and value == value
        },
        scores=tuple(_known(document["score"]) for document in retrieved),
        steps=steps,
        answer=Generation(
            status=row["status"],
            text=row["text"],
            retrieved=tuple(document["id"] or "" for document in retrieved),
            tool_calls=tuple(_json(row["tool_calls"], [])),
            usage=Usage(input_tokens=sent, output_tokens=answered, cached_input_tokens=cached),
            cost_usd=None if cost is None else Decimal(repr(cost)),
            served_model=row["served_model"] or None,
            attempts=int(_known(row["attempts"]) or 1),
            error=row["error"],
            steps=tuple(step.name for step in steps),
            latency_s=_known(row["latency_s"]),
            first_token_s=_known(row["first_token_s"]),
        ),
    )


def _known(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _json(text: str, default: Any) -> Any:
    """The value of a JSON text that has the type of the default, else a value of that type with the text in it."""
    if not text:
        return default
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, type(default)):
        return value
    return {"input": value} if isinstance(default, dict) else []
