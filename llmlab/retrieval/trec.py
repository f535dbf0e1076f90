"""TREC files as DataFrames: judgements (`query 0 document relevance`) and runs (`query Q0 document rank score tag`).

Judgements may also have BEIR's three columns under their header, files may be gzipped, and what follows a run's six
fields is passed over, as trec_eval does. Read at Arrow's speed; a file with anything out of the ordinary is read again
line by line, which either finds the line that breaks a rule or shows that only the spacing was unusual. Used by
`metrics` and the command line.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.retrieval.rankings import encode, id_array, on_cores, pairs_repeat

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_qrels", "read_run"]

QRELS_FIELDS = ("query_id", "iteration", "doc_id", "relevance")
BEIR_FIELDS = ("query_id", "doc_id", "relevance")
RUN_FIELDS = ("query_id", "Q0", "doc_id", "rank", "score", "tag")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
HEAD_BYTES, SCAN_BYTES = 1 << 12, 1 << 19
LARGEST_UNPACKED_BYTES = 4 << 30

Bytes = npt.NDArray[np.uint8]

_BEIR_HEADER = re.compile(rb"query[-_]?id\s+(?:corpus|doc)[-_]?id\s+(?:score|relevance|label)\s*", re.IGNORECASE)

_WHOLE = re.compile(rb"[+-]?\d{1,18}")
_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_qrels(path: str | Path) -> pd.DataFrame:
    """The judgements of a TREC or BEIR file: columns query_id, doc_id and relevance (a whole number, relevant from 1).

    The same judgement given twice is kept once.

    Raises:
        FileRuleError: a line without four fields (three in a BEIR file), a relevance that is not a whole number, a
            document judged twice for one query with different relevance, or a file that cannot be read; names file
            and line.
    """
    path, content = Path(path), _content(path)
    fields = BEIR_FIELDS if _BEIR_HEADER.fullmatch(_first_line(content)) else QRELS_FIELDS
    table = _read(path, content, fields, {"relevance": pa.int64()}, _qrels_number)
    query, _ = encode(id_array(table["query_id"], what="query ids"))
    if pairs_repeat(query, id_array(table["doc_id"], what="document ids")):
        table = table.take(_first_judgements(path, content, table, header=fields is BEIR_FIELDS))
    return _frame(table)


def read_run(path: str | Path) -> pd.DataFrame:
    """The results in a TREC run file: columns query_id, doc_id and score, in the file's order.

    As in trec_eval the file's rank is ignored, and scores are held in single precision (so that scores which differ
    only beyond its seven digits are ties). Ties are broken where documents are ranked (`rankings.by_descending_id`).

    Raises:
        FileRuleError: a line without six fields, a score that is not a finite number, or a file that cannot be read;
            names file and line.
    """
    table = _read(Path(path), _content(path), RUN_FIELDS, {"score": pa.float64()}, _run_number)
    return _frame(table.set_column(2, "score", pa.array(table["score"].to_numpy().astype(np.float32))))


def _content(path: str | Path) -> Bytes:
    """The bytes of a file, mapped where they lie, or unpacked."""
    try:
        with Path(path).open("rb") as file:  # whose errors say plainly what is wrong
            if file.read(2) != GZIP:
                is_empty = file.seek(0, 2) == 0
                return np.empty(0, np.uint8) if is_empty else np.memmap(path, np.uint8, mode="r")
        with gzip.open(path) as packed:
            unpacked = packed.read(LARGEST_UNPACKED_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileRuleError(f"is not a whole gzip file ({error})", path=path) from None
    except OSError as error:
        raise FileRuleError(f"cannot be read: {error.strerror or error}", path=path) from None
    if len(unpacked) > LARGEST_UNPACKED_BYTES:
        raise FileRuleError(f"unpacks to more than {LARGEST_UNPACKED_BYTES:,} bytes", path=path)
    return np.frombuffer(unpacked, np.uint8)


def _first_line(content: Bytes) -> bytes:
    return content[:HEAD_BYTES].tobytes().removeprefix(BYTE_ORDER_MARK).split(b"\n", 1)[0]


def _read(
    path: Path,
    content: Bytes,
    fields: tuple[str, ...],
    number: dict[str, pa.DataType],
    parse: Callable[[Path, int, bytes], float],
) -> pa.Table:
    """The id columns and the number of a file, or FileRuleError."""
    from pyarrow import csv

    wanted = ["query_id", "doc_id", *number]
    types = {name: pa.large_string() for name in fields} | number
    separator = _separator(content[:HEAD_BYTES].tobytes())
    more = len(_first_line(content).split()) - len(fields) if fields is RUN_FIELDS else 0
    names = [*fields, *(f"more_{i}" for i in range(more))]
    header = int(fields is BEIR_FIELDS)
    if separator is not None:
        try:
            table = csv.read_csv(
                pa.BufferReader(pa.py_buffer(content)),
                read_options=csv.ReadOptions(column_names=names, block_size=1 << 20, skip_rows=header),
                parse_options=csv.ParseOptions(delimiter=separator, quote_char=False, escape_char=False),
                convert_options=csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
            )
            n_fields = (len(table) + header) * len(names)
            if np.isfinite(table[wanted[-1]].to_numpy()).all() and _is_plain(content, n_fields):
                return table
        except pa.ArrowInvalid:
            pass  # the slow reader below says which line, or reads what Arrow is stricter about
    return _read_lines(path, content, fields, types, parse)


def _separator(head: bytes) -> str | None:
    """The space or tab between the fields of the first line; None where the file begins with neither id nor text."""
    if not head or head[0] <= 32 or head.startswith(BYTE_ORDER_MARK):
        return None
    return "\t" if b"\t" in head.split(b"\n", 1)[0] else " "


def _is_plain(content: Bytes, n_fields: int) -> bool:
    """Whether the file has one white character after each field (the last may lack it), and no other: then a file
    whose lines all have so many fields when it is cut at one of them has the same fields when it is cut at any.
    """

    def gaps(start: int) -> int | None:
        part = content[start : start + SCAN_BYTES + 1]  # and one byte of the next part, for gaps across the border
        gap = part <= 32
        if (gap[1:] & gap[:-1]).any():
            return None
        return int(np.count_nonzero(gap[:SCAN_BYTES]))

    found = on_cores(gaps, range(0, len(content), SCAN_BYTES))
    return None not in found and sum(filter(None, found)) == n_fields - (content[-1] > 32)


def _read_lines(
    path: Path,
    content: Bytes,
    fields: tuple[str, ...],
    types: dict[str, pa.DataType],
    parse: Callable[[Path, int, bytes], float],
) -> pa.Table:
    """The same table, read line by line. Raises FileRuleError at the first line that breaks a rule."""
    queries, documents, numbers = [], [], []
    document, at = fields.index("doc_id"), fields.index("score" if fields is RUN_FIELDS else "relevance")
    for line, parts in _numbered(content, header=fields is BEIR_FIELDS):
        if len(parts) != len(fields) and not (fields is RUN_FIELDS and len(parts) > len(fields)):
            rule = f"{counted(len(parts), 'field')}, must be {len(fields)}: {' '.join(fields)}, apart by spaces or tabs"
            raise FileRuleError(rule + _other_kind(len(parts), fields), path=path, line=line)
        try:
            queries.append(parts[0].decode())
            documents.append(parts[document].decode())
        except UnicodeDecodeError:
            raise FileRuleError("not UTF-8 text", path=path, line=line) from None
        numbers.append(parse(path, line, parts[at]))
    columns = {"query_id": queries, "doc_id": documents, fields[at]: numbers}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def _numbered(content: Bytes, *, header: bool) -> Iterator[tuple[int, list[bytes]]]:
    """Number and fields of every line that has any, but for a header's."""
    lines = content.tobytes().removeprefix(BYTE_ORDER_MARK).split(b"\n")
    for line, text in enumerate(lines, start=1):
        if (parts := text.split()) and not (header and line == 1):
            yield line, parts


def _other_kind(n: int, fields: tuple[str, ...]) -> str:
    """What the line may be instead: the two kinds of file are easily exchanged."""
    asked = {len(QRELS_FIELDS): "are these judgements", len(RUN_FIELDS): "is this a run"}
    return f" ({asked[n]}? The judgements come first, then the run)" if n in asked and n != len(fields) else ""


def _qrels_number(path: Path, line: int, text: bytes) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise FileRuleError(f"relevance {text.decode(errors='replace')!r} is not a whole number", path=path, line=line)
    return int(text)


def _run_number(path: Path, line: int, text: bytes) -> float:
    if _DECIMAL.fullmatch(text) is None or math.isinf(float(text)):
        raise FileRuleError(f"score {text.decode(errors='replace')!r} is not a finite number", path=path, line=line)
    return float(text)


def _first_judgements(path: Path, content: Bytes, table: pa.Table, *, header: bool) -> pa.Array:
    """Rows of the first judgement of each (query, document); refuses a later one that says something else."""
    frame = table.to_pandas()
    contradicts = frame.drop_duplicates().duplicated(["query_id", "doc_id"])
    if contradicts.any():
        row = int(contradicts.index[contradicts.argmax()])
        query, document = frame["query_id"].iloc[row], frame["doc_id"].iloc[row]
        rule = f"document {document!r} is judged again for query {query!r}, with another relevance; keep one"
        line, _ = next(islice(_numbered(content, header=header), row, None))
        raise FileRuleError(rule, path=path, line=line)
    return pa.array(np.flatnonzero(~frame.duplicated(["query_id", "doc_id"]).to_numpy()))


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
