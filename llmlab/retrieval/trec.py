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
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.retrieval.rankings import encode, first_of_pair, id_array, on_cores

if TYPE_CHECKING:
    import pandas as pd

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_HEAD_BYTES, _SCAN_BYTES = 1 << 12, 1 << 19
LARGEST_UNPACKED_BYTES = 4 << 30

Bytes = npt.NDArray[np.uint8]

_BEIR_HEADER = re.compile(rb"query[-_]?id\s+(?:corpus|doc)[-_]?id\s+(?:score|relevance|label)\s*", re.IGNORECASE)


class _Kind(NamedTuple):
    """A kind of file: its fields, and the one that is a number, with the spelling that is one."""

    fields: tuple[str, ...]
    number: str
    type: pa.DataType
    spelling: re.Pattern[bytes]
    rule: str


_WHOLE = ("relevance", pa.int64(), re.compile(rb"[+-]?\d{1,18}"), "a whole number")
QRELS = _Kind(("query_id", "iteration", "doc_id", "relevance"), *_WHOLE)
BEIR = _Kind(("query_id", "doc_id", "relevance"), *_WHOLE)
_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
RUN = _Kind(("query_id", "Q0", "doc_id", "rank", "score", "tag"), "score", pa.float64(), _DECIMAL, "a finite number")


def read_qrels(path: str | Path) -> pd.DataFrame:
    """The judgements of a TREC or BEIR file: columns query_id, doc_id and relevance (a whole number, relevant from 1).

    The same judgement given twice is kept once.

    Raises:
        FileRuleError: a line without four fields (three in a BEIR file), an id with a blank between tabs, a relevance
            that is not a whole number, a document judged twice for one query with different relevance, or a file that
            cannot be read; names file and line.
    """
    path, content = Path(path), _content(path)
    kind = BEIR if _BEIR_HEADER.fullmatch(_first_line(content)) else QRELS
    table = _read(path, content, kind)
    query, _ = encode(id_array(table["query_id"], what="query ids"))
    first, relevance = (
        first_of_pair(query, id_array(table["doc_id"], what="document ids")),
        table["relevance"].to_numpy(),
    )
    if (differs := relevance != relevance[first]).any():
        row = int(differs.argmax())
        pair = f"document {table['doc_id'][row].as_py()!r} is judged again for query {table['query_id'][row].as_py()!r}"
        line, _ = next(islice(_numbered(content, header=kind is BEIR), row, None))
        raise FileRuleError(f"{pair}, with another relevance; keep one", path=path, line=line)
    return _frame(table.filter(pa.array(first == np.arange(len(first)))))


def read_run(path: str | Path) -> pd.DataFrame:
    """The results in a TREC run file: columns query_id, doc_id and score, in the file's order.

    As in trec_eval the file's rank is ignored, and scores are held in single precision (so that scores which differ
    only beyond its seven digits are ties). Ties are broken where documents are ranked (`rankings.by_descending_id`).

    Raises:
        FileRuleError: a line without six fields, an id with a blank between tabs, a score that is not a finite number,
            or a file that cannot be read; names file and line.
    """
    table = _read(Path(path), _content(path), RUN)
    return _frame(table.set_column(2, "score", pa.array(table["score"].to_numpy().astype(np.float32))))


def _content(path: str | Path) -> Bytes:
    """The bytes of a file, mapped where they lie, or unpacked."""
    try:
        with Path(path).open("rb") as file:  # whose errors say plainly what is wrong
            if file.read(2) != _GZIP:
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
    return content[:_HEAD_BYTES].tobytes().removeprefix(_BYTE_ORDER_MARK).split(b"\n", 1)[0]


def _read(path: Path, content: Bytes, kind: _Kind) -> pa.Table:
    """The id columns and the number of a file, or FileRuleError."""
    from pyarrow import csv

    wanted = ["query_id", "doc_id", kind.number]
    types = {name: pa.large_string() for name in kind.fields} | {kind.number: kind.type}
    separator = _separator(content[:_HEAD_BYTES].tobytes())
    more = len(_first_line(content).split()) - len(kind.fields) if kind is RUN else 0
    names = [*kind.fields, *(f"more_{i}" for i in range(more))]
    header = int(kind is BEIR)
    if separator is not None:
        try:
            table = csv.read_csv(
                pa.BufferReader(pa.py_buffer(content)),
                read_options=csv.ReadOptions(column_names=names, block_size=1 << 20, skip_rows=header),
                parse_options=csv.ParseOptions(delimiter=separator, quote_char=False, escape_char=False),
                convert_options=csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
            )
            n_fields = (len(table) + header) * len(names)
            if np.isfinite(table[kind.number].to_numpy()).all() and _is_plain(content, n_fields):
                return table
        except pa.ArrowInvalid:
            pass  # the slow reader below says which line, or reads what Arrow is stricter about
    return _read_lines(path, content, kind)


def _separator(head: bytes) -> str | None:
    """The space or tab between the fields of the first line; None where the file begins with neither id nor text."""
    if not head or head[0] <= 32 or head.startswith(_BYTE_ORDER_MARK):
        return None
    return "\t" if b"\t" in head.split(b"\n", 1)[0] else " "


def _is_plain(content: Bytes, n_fields: int) -> bool:
    """Whether the file has one white character after each field (the last may lack it), and no other: then a file
    whose lines all have so many fields when it is cut at one of them has the same fields when it is cut at any.
    """

    def gaps(start: int) -> int | None:
        chunk = content[start : start + _SCAN_BYTES + 1]  # and one byte of the next part, for gaps across the border
        gap = chunk <= 32
        if (gap[1:] & gap[:-1]).any():
            return None
        return int(np.count_nonzero(gap[:_SCAN_BYTES]))

    gaps_per_part = on_cores(gaps, range(0, len(content), _SCAN_BYTES))
    return None not in gaps_per_part and sum(filter(None, gaps_per_part)) == n_fields - (content[-1] > 32)


def _read_lines(path: Path, content: Bytes, kind: _Kind) -> pa.Table:
    """The same table, read line by line. Raises FileRuleError at the first line that breaks a rule."""
    queries, documents, numbers, fields = list[str](), list[str](), list[float](), kind.fields
    document, at = fields.index("doc_id"), fields.index(kind.number)
    as_number = float if kind is RUN else int
    for line, text in _numbered(content, header=kind is BEIR):
        if cell := _with_a_blank(text, kind):
            rule = f"{cell.decode(errors='replace')!r} holds a blank, where trec_eval cuts a line even between tabs"
            raise FileRuleError(f"{rule}; write ids without blanks", path=path, line=line)
        parts = text.split()
        if len(parts) != len(fields) and not (kind is RUN and len(parts) > len(fields)):
            rule = f"{counted(len(parts), 'field')}, must be {len(fields)}: {' '.join(fields)}, apart by spaces or tabs"
            raise FileRuleError(rule + _other_kind(len(parts), kind), path=path, line=line)
        try:
            queries.append(parts[0].decode())
            documents.append(parts[document].decode())
        except UnicodeDecodeError:
            raise FileRuleError("not UTF-8 text", path=path, line=line) from None
        if kind.spelling.fullmatch(parts[at]) is None or math.isinf(float(parts[at])):
            rule = f"{kind.number} {parts[at].decode(errors='replace')!r} is not {kind.rule}"
            raise FileRuleError(rule, path=path, line=line)
        numbers.append(as_number(parts[at]))
    ids = {"query_id": pa.array(queries, pa.large_string()), "doc_id": pa.array(documents, pa.large_string())}
    return pa.table({**ids, kind.number: pa.array(numbers, kind.type)})


def _with_a_blank(text: bytes, kind: _Kind) -> bytes:
    """Of a line with all its fields apart by tabs, the first one up to the document's id that is two; b"" for none."""
    cells = [cell.strip() for cell in text.split(b"\t")]
    ids = cells[: kind.fields.index("doc_id") + 1] if len(cells) >= len(kind.fields) else []
    return next((cell for cell in ids if len(cell.split()) > 1), b"")


def _numbered(content: Bytes, *, header: bool) -> Iterator[tuple[int, bytes]]:
    """Number and text of every line that has any fields, but for a header's."""
    lines = content.tobytes().removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    for line, text in enumerate(lines, start=1):
        if text.strip() and not (header and line == 1):
            yield line, text


def _other_kind(n: int, kind: _Kind) -> str:
    """What the line may be instead: the two kinds of file are easily exchanged."""
    hint = {len(QRELS.fields): "are these judgements", len(RUN.fields): "is this a run"}
    return f" ({hint[n]}? The judgements come first, then the run)" if n in hint and n != len(kind.fields) else ""


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
