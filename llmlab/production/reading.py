"""Trace files of whatever tool as one frame: the format is sniffed from the first object, and told."""

from __future__ import annotations

import glob
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.project import located
from llmlab.base.tables import read_csv, text_of_bytes
from llmlab.display.shown import Rows
from llmlab.production.formats import OWN, Format, amount, formats, sniffed
from llmlab.production.lines import SIGNAL, Problems, blocks, gathered, objects, schema, settled, table_of

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv")
PAGES = ("data", "traces", "runs")  # of an API: the field that has the rows
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"(\xb5/\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_ROWS_AT_ONCE = 10_000

Numbered = tuple[int, Mapping[str, Any]]  # line, object
Placed = tuple[int, int, Mapping[str, Any]]  # file, line, object


def from_files(paths: Sequence[str | Path]) -> tuple[pd.DataFrame, Rows, str]:
    """The frame of all files, what was wrong, and how they were read."""
    files = _listed(paths)
    problems, kinds, tables = Problems(), Counter[str](), []
    foreign: list[tuple[Format, Placed]] = []
    appended = set[int]()
    for number, path in enumerate(files):
        kind, read = _opened(path, number, problems)
        if kind is None:
            problems.add(_nothing(path), [path.name])
            continue
        kinds[kind.name] += 1
        if isinstance(read, list):
            tables += read
            appended.add(number)
        else:
            foreign += [(kind, placed) for placed in read]
    if not kinds:
        raise FileRuleError(f"{_nothing(files[0])}, so no request was read", path=files[0])
    names = [path.name for path in files]
    tables += _tables(foreign, names, problems)
    kinds_read = ", ".join(f"{name} ({counted(count, 'file')})" for name, count in kinds.items())
    frame = settled(tables, files=names, problems=problems, appended=appended)
    return frame, problems.rows(), f"read as {kinds_read}"


def from_objects(rows: Iterable[Mapping[str, Any]], *, name: str, place: str = "") -> tuple[pd.DataFrame, Rows]:
    """The frame of objects of one tool that come from elsewhere than a file; and what was wrong, at `place`."""
    problems, kind, names = Problems(), next(known for known in formats() if known.name == name), [place or name]
    placed = ((kind, (0, number, row)) for number, row in enumerate(rows, start=1))
    return settled(_tables(placed, names, problems), files=names, problems=problems), problems.rows()


def from_table(frame: pd.DataFrame, mapping: dict[str, str]) -> tuple[pd.DataFrame, Rows]:
    """The frame of a table whose columns are mapped, or are called as ours; and what was wrong."""
    ours = [*schema().names, "signals"]
    if unknown := [name for name in mapping if name not in ours and not name.startswith(SIGNAL)]:
        raise ValueError(f"{unknown[0]!r} is no field of a trace (there are: {', '.join(ours)}, {SIGNAL}NAME)")
    if missing := [column for column in mapping.values() if column not in frame]:
        raise DataError(f"the table has no column {missing[0]!r} (it has: {', '.join(map(str, frame.columns))})")
    known_columns = {str(name): str(name) for name in frame if str(name) in ours or str(name).startswith(SIGNAL)}
    columns = {**known_columns, **mapping}
    if twice := [column for column in columns.values() if (frame.columns == column).sum() > 1]:
        raise DataError(f"the table has more than one column {twice[0]!r}; rename or drop the others")
    if "time" not in columns:
        raise DataError("no column says when a request began; name it: mapping={'time': ...}")
    cells = {name: frame[column].astype(object).where(frame[column].notna(), None) for name, column in columns.items()}
    plain = (  # an array of numpy's, as pandas reads lists of Parquet, is a list
        (value.tolist() if hasattr(value, "tolist") else value for value in column) for column in cells.values()
    )
    rows = (dict(zip(cells, row, strict=True)) for row in zip(*plain, strict=True))
    identified = ({"request_id": f"row-{number}", **row} for number, row in enumerate(rows, start=1))
    return from_objects(identified, name=OWN, place="row")


def _listed(paths: Sequence[str | Path]) -> list[Path]:
    """The files that are meant, each once; FileRuleError where one names none."""
    files: list[Path] = []
    for path in paths:
        target = located(path)
        if target.is_dir():
            some = [file for file in sorted(target.rglob("*")) if file.is_file()]
            meant = [file for file in some if file.suffix in ENDINGS]
            meant = meant or [file for file in some if set(file.suffixes) & set(ENDINGS)]  # told as compressed
        elif glob.has_magic(str(path)) and not target.exists():
            meant = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  # the pattern may be absolute
        else:
            meant = [target] if target.is_file() else []
        if not meant:
            raise FileRuleError("no trace file is there (*.jsonl, *.parquet, *.csv)", path=path)
        files += meant
    return list(dict.fromkeys(files))


def _opened(path: Path, number: int, problems: Problems) -> tuple[Format | None, list[Any] | Iterator[Placed]]:
    """The format of a file, with tables where it is ours and with its objects where it is another's."""
    if _packed(path):
        return None, []
    held = _of_table(path) if path.suffix in (".parquet", ".csv") else _whole(path)
    _, first = next(_lines(path, Problems()) if held is None else iter(held), (0, None))
    if first is None:
        return None, []
    kind = _known(first, path)
    if kind.name == OWN and path.suffix not in (".parquet", ".csv"):
        row_of = partial(_understood, kind, problems=problems)
        if held is None:
            return kind, list(gathered(path, number, row_of=row_of, problems=problems))
        return kind, [table_of([{**row_of(row, f"{path.name}:{n}"), "file": number, "line": n} for n, row in held])]
    return kind, ((number, *placed) for placed in (_lines(path, problems) if held is None else held))


def is_ours(path: Path) -> bool:
    """Whether a file is read as lines of our own: not as another tool's, as a table or as one JSON value."""
    if _packed(path) or path.suffix in (".parquet", ".csv") or _whole(path) is not None:
        return False
    _, first = next(_lines(path, Problems()), (0, None))
    kind = None if first is None else sniffed(first)
    return kind is not None and kind.name == OWN


def requests_told_of(path: Path) -> set[str]:
    """The ids that the signals and lines in a file name, those of requests that it does not hold too."""
    held = _of_table(path) if path.suffix in (".parquet", ".csv") else _whole(path)
    rows = (row for _, row in (_lines(path, Problems()) if held is None else held))
    known = ((kind, row) for row in rows if (kind := sniffed(row)) and (kind.what == "signals" or kind.name == OWN))
    return {str(kind.read(row)[0].get("request_id", "")) for kind, row in known} - {""}


def _packed(path: Path) -> str:
    """What a file is compressed with, "" for nothing that is known."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((name for sign, name in _PACKED.items() if start.startswith(sign)), "")


def _nothing(path: Path) -> str:
    """What is wrong with a file in which there is no object."""
    if name := _packed(path):
        return f"file compressed by {name}: unpack it first"
    with path.open("rb") as file:
        start = file.read(10_000)
    if b"\0" in start:
        return "file that is no text: export it as JSON lines, Parquet or CSV"
    return "file without a whole JSON object" if start.strip() else "file with nothing in it"


def _known(first: Mapping[str, Any], path: Path) -> Format:
    if (kind := sniffed(first)) is None:
        names = ", ".join(sorted(map(str, first))[:12])
        known = ", ".join(dict.fromkeys(known.name for known in formats()))
        raise FileRuleError(
            f"is of no format that is known ({known}); its first object has {names}. "
            "Read it with pandas, and name its columns: ll.Traces.from_frame(df, mapping={...})",
            path=path,
        )
    return kind


def _lines(path: Path, problems: Problems) -> Iterator[Numbered]:
    """Number and object of each line."""
    for first, block in blocks(path):
        yield from objects(block, first, where=path.name, problems=problems)


def _whole(path: Path) -> list[Numbered] | None:
    """The objects of a file that is one JSON value: a list, a page of an API, or over several lines; None for lines."""
    with path.open("rb") as file:
        start = next((line for line in (line.strip().removeprefix(b"\xef\xbb\xbf") for line in file) if line), b"")
    if start[:1] not in (b"[", b"{"):
        return None
    try:
        line = from_json(start)
    except ValueError:
        line = None  # it goes on
    if isinstance(line, dict) and not (_page(line) and sniffed(line) is None):
        return None
    try:
        value = from_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return None
    while isinstance(value, dict) and (name := _page(value)):
        value = value[name]
    rows = value if isinstance(value, list) else [value]
    return [(1, row) for row in rows if isinstance(row, dict)]


def _page(value: Mapping[str, Any]) -> str:
    return next((name for name in PAGES if isinstance(value.get(name), list)), "")


def _of_table(path: Path) -> list[Numbered]:
    """Number and object of each row of a Parquet or CSV file."""
    if path.suffix == ".csv":
        cells = read_csv(path).cells.to_dict("records")
        return [(number, {str(k): v for k, v in row.items()}) for number, row in enumerate(cells, start=1)]
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.read_table(path, partitioning=None)
    except ArrowInvalid as error:
        raise FileRuleError(f"is not a Parquet file ({error})", path=path) from None
    rows = table.to_pylist()
    if any("binary" in str(kind) for kind in table.schema.types):
        rows = [text_of_bytes(row) for row in rows]
    return list(enumerate(rows, start=1))


def _understood(kind: Format, row: Mapping[str, Any], place: str, *, problems: Problems) -> dict[str, Any]:
    """Our fields of an object, each signal on its own; what could not be understood is counted."""
    read, wrong = kind.read(row)
    nested = read.pop("signals", None)
    wrong += ["signals"] if nested is not None and not isinstance(nested, Mapping) else []
    signals = {f"{SIGNAL}{name}": value for name, value in nested.items()} if isinstance(nested, Mapping) else {}
    if kind.name == OWN:
        signals |= {name: value for name, value in row.items() if str(name).startswith(SIGNAL)}
        if row.get("text") == "" and "time" in read:
            read["text"] = ""  # a model that said nothing is told from one of which nothing is known
    for name, value in signals.items():
        try:
            if value not in (None, ""):
                read[name] = amount(value)
        except (ValueError, TypeError, OverflowError):
            wrong.append(name)
    for name in wrong:
        problems.add(f"{name} that is none, taken as missing", [place])
    return read


def _tables(placed: Iterable[tuple[Format, Placed]], files: Sequence[str], problems: Problems) -> Iterator[Any]:
    """Tables of the requests and signals among objects, spans folded into requests first."""
    rows, spans = list[dict[str, Any]](), list[dict[str, Any]]()
    for kind, (file, line, row) in placed:
        place = f"{files[file]}:{line}"
        if not all(name in row for name in kind.sign):  # scores among the requests that they are about
            kind = sniffed(row) or kind
        try:
            parts = list(kind.unpack(row))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            problems.add(f"object that is not as {kind.name} writes it", [place])
            continue
        for part in parts:
            if isinstance(part, str):
                problems.add(part, [place])
                continue
            read = {**_understood(kind, part, place, problems=problems), "file": file, "line": line}
            if kind.what == "spans":
                spans.append(read)
            elif kind.what == "signals":
                if "name" in read and "value" in read:
                    rows.append({**read, f"{SIGNAL}{read['name']}": read["value"]})
                else:
                    problems.add("score that is no number, left out", [place])
            else:
                rows.append(_signal_of(part, read) or _finished(read))
        if len(rows) >= _ROWS_AT_ONCE:
            yield table_of(rows)
            rows = []
    requests, wrong = folded(spans)
    for kind_of_wrong, count in wrong.items():
        problems.add(kind_of_wrong, count=count)
    yield table_of([*rows, *map(_finished, requests)])


def _signal_of(row: Mapping[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """The row of a table that brings signals for a request: its status is empty, and nothing is told of an answer."""
    told = {name: value for name, value in read.items() if name != "text" or value}
    is_bare = "status" in row and all(name.startswith(SIGNAL) or name in _OF_A_SIGNAL for name in told)
    return told if is_bare else {}


def _finished(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of our schema, with what follows from others: durations from moments, a status from an error."""
    start, end, first, ended = (row.get("time"), *(row.pop(name, None) for name in ("end", "first_token_at", "finish")))
    if start and end and "latency_s" not in row:
        row["latency_s"] = (end - start).total_seconds()
    if start and first and "first_token_s" not in row and start < first and first != end:  # else it was no stream
        row["first_token_s"] = (first - start).total_seconds()
    if "time" in row and "status" not in row:
        row["status"] = "error" if row.get("error") else "ok"
    if row.get("status") == "ok" and ended:
        row["status"] = ended
    if row.get("status") == "ok" and not row.get("text", "?").strip() and not row.get("tool_calls"):
        row["status"] = "empty"
    return row


def folded(spans: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Spans as one request per trace, and how many there are of what is none, or more than one.

    The root is the request: when, what was asked and answered, how long. Calls of a model are its steps, whose tokens
    and costs add up (of what contains others only those that none inside has); retrievers say what was retrieved, and
    a failed call that another follows was tried again. A trace in which nothing is of a model (a health check) is left
    out.
    """
    wrong, requests = Counter[str](), list[dict[str, Any]]()
    traces = defaultdict[str, list[dict[str, Any]]](list)
    for span in spans:
        if span.get("trace_id") and span.get("time"):
            traces[span["trace_id"]].append(span)
    wrong["span without a trace or a time"] = len(spans) - sum(map(len, traces.values()))
    for trace_id, some in traces.items():
        if any(name in _OF_A_MODEL or name.startswith(SIGNAL) for span in some for name in span):
            request, more_roots = _request(trace_id, some)
            requests.append(request)
            wrong["further root of a trace (its parent may be missing), read as part of one request"] += more_roots
        else:
            failed = "failed " if any(span.get("failed") for span in some) else ""
            wrong[f"{failed}trace without anything of a model, left out"] += 1
    return requests, wrong


def _request(trace_id: str, spans: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """The request of a trace, and how many roots there are beside the one that it is read off."""
    spans = sorted({span.get("span_id", id(span)): span for span in spans}.values(), key=itemgetter("time"))
    ids = {span.get("span_id") for span in spans}
    roots = [span for span in spans if span.get("parent_id") not in ids] or spans[:1]
    root = roots[0]
    parents = {span.get("span_id"): span.get("parent_id") for span in spans}
    innermost = _innermost([span for span in spans if span.get("kind") == "llm"], parents)
    around = {span_id for call in innermost for span_id in _above(call, parents)}
    around |= {call.get("span_id") for call in innermost}
    holders = [span for span in spans if span.get("span_id") in around]
    calls = innermost or [root]
    last = calls[-1]
    request = {name: value for span in reversed(spans) for name, value in span.items() if name in _OF_ANY}
    request |= {name: value for span in spans for name, value in span.items() if name.startswith(SIGNAL)}
    request |= {name: root[name] for name in (*_OF_ANY, "time", "end", "file", "line") if name in root}
    for name in ("inputs", "messages", "text", "tool_calls", "served_model", "finish"):
        first, second = (root, last) if name in ("inputs", "text") else (last, root)
        if name in first or name in second:
            request[name] = first[name] if name in first else second[name]
    for name in _ADDED:
        counted = _innermost([span for span in holders if name in span], parents)
        ids = {span.get("span_id") for span in counted}
        is_whole = all(call.get("span_id") in ids or ids.intersection(_above(call, parents)) for call in innermost)
        if not counted and name in root:
            request[name] = root[name]
        elif counted and (is_whole or name != "cost_usd"):
            request[name] = sum(span[name] for span in counted)
    if (first_token_s := _first_token(last, root)) is not None:
        request["first_token_s"] = first_token_s
    if retrievers := [span for span in spans if span.get("kind") == "retriever"]:
        documents = {document["id"]: document for span in retrievers for document in span.get("retrieved", ())}
        request["retrieved"] = list(documents.values())
    if root.get("failed"):
        failed = [root, *(span for span in spans if span.get("failed"))]
        why = next((span for span in failed if span.get("error") or span.get("error_code")), {})
        request |= {"status": "error", "error": why.get("error", "failed"), "error_code": why.get("error_code", "")}
    below = [span for span in spans if span is not root]
    if fired := [span["name"] for span in below if span.get("kind") == "guardrail" and _fired(span)]:
        request["guards"] = fired
    attempts = 1 + sum(bool(call.get("failed")) for call in calls[:-1])
    request["request_id"] = root.get("request_id", trace_id)
    return {**request, "attempts": attempts, "steps": json.dumps(list(map(_step, below)))}, len(roots) - 1


_OF_ANY = ("unit_id", "session_id", "service", "bundle", "rollout", "arm")
_OF_A_SIGNAL = ("request_id", "time", "file", "line")
_ADDED = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
_OF_A_MODEL = (
    *("kind", "inputs", "messages", "text", "tool_calls", "served_model", "retrieved", "bundle", "rollout", "arm"),
    *_ADDED,
)
_FIRED = ("fail", "block", "flagged", "intervened", "reject", "denied")


def _innermost(spans: Sequence[dict[str, Any]], parents: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Those of the spans that contain none of the others."""
    outer = {span_id for span in spans for span_id in _above(span, parents)}
    return [span for span in spans if span.get("span_id") not in outer]


def _above(span: Mapping[str, Any], parents: Mapping[Any, Any]) -> Iterator[Any]:
    """The ids of the spans that a span lies in, the nearest first."""
    seen, parent = set[Any](), span.get("parent_id")
    while parent in parents and parent not in seen:
        yield parent
        seen.add(parent)
        parent = parents[parent]


def _first_token(last: Mapping[str, Any], root: Mapping[str, Any]) -> float | None:
    """Seconds from the request's begin to the first token of its last answer."""
    if (moment := last.get("first_token_at", root.get("first_token_at"))) is not None:
        return max(float((moment - root["time"]).total_seconds()), 0.0)
    if (seconds := last.get("first_token_s")) is not None:
        return float((last["time"] - root["time"]).total_seconds()) + float(seconds)
    return None


def _fired(span: Mapping[str, Any]) -> bool:
    return bool(span.get("failed")) or any(word in str(span.get("text", "")).lower() for word in _FIRED)


def _step(span: Mapping[str, Any]) -> dict[str, Any]:
    took = (span["end"] - span["time"]).total_seconds() if span.get("end") else None
    names = ("name", "kind", "prompt_tokens", "completion_tokens", "error")
    known = {name: span[name] for name in names if name in span}
    return {**known, "latency_s": took, "output": span.get("text", "")}
