"""TREC files as DataFrames: judgements (`query 0 document relevance`) and runs (`query Q0 document rank score tag`).

Read at Arrow's speed; a file with anything out of the ordinary is read again line by line, which either finds the line
that breaks a rule or shows that only the spacing was unusual. Used by `metrics` and the command line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.retrieval.rankings import encode, id_array, on_cores, pairs_repeat

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_qrels", "read_run"]

QRELS_FIELDS = ("query_id", "iteration", "doc_id", "relevance")
RUN_FIELDS = ("query_id", "Q0", "doc_id", "rank", "score", "tag")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
HEAD_BYTES, SCAN_BYTES = 1 << 12, 1 << 19

_WHOLE = re.compile(rb"[+-]?\d{1,18}")
_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_qrels(path: str | Path) -> pd.DataFrame:
    """The judgements of a TREC qrels file: columns query_id, doc_id and relevance (a whole number, relevant from 1 up).

    The same judgement given twice is kept once.

    Raises:
        FileRuleError: a line without four fields, a relevance that is not a whole number, a document judged twice for
            one query with different relevance, or a file that cannot be read; names file and line.
    """
    table = _read(Path(path), QRELS_FIELDS, {"relevance": pa.int64()}, _qrels_number)
    query, _ = encode(id_array(table["query_id"], what="query ids"))
    if pairs_repeat(query, id_array(table["doc_id"], what="document ids")):
        table = table.take(_first_judgements(Path(path), table))
    return _frame(table)


def read_run(path: str | Path) -> pd.DataFrame:
    """The results in a TREC run file: columns query_id, doc_id and score, in the file's order.

    As in trec_eval the file's rank is ignored, and scores are held in single precision (so that scores which differ
    only beyond its seven digits are ties). Ties are broken where documents are ranked (`rankings.by_descending_id`).

    Raises:
        FileRuleError: a line without six fields, a score that is not a finite number, or a file that cannot be read;
            names file and line.
    """
    table = _read(Path(path), RUN_FIELDS, {"score": pa.float64()}, _run_number)
    return _frame(table.set_column(2, "score", pa.array(table["score"].to_numpy().astype(np.float32))))


def _read(
    path: Path, fields: tuple[str, ...], number: dict[str, pa.DataType], parse: Callable[[Path, int, bytes], float]
) -> pa.Table:
    """The id columns and the number of a file, or FileRuleError."""
    from pyarrow import csv

    wanted = ["query_id", "doc_id", *number]
    types = {name: pa.large_string() for name in fields} | number
    try:
        path.open("rb").close()  # whose errors say plainly what is wrong
        with pa.memory_map(str(path)) as file:
            separator = _separator(file.read(HEAD_BYTES))
            file.seek(0)
            if separator is not None:
                table = csv.read_csv(
                    file,
                    read_options=csv.ReadOptions(column_names=list(fields), block_size=1 << 20),
                    parse_options=csv.ParseOptions(delimiter=separator, quote_char=False, escape_char=False),
                    convert_options=csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
                )
                if np.isfinite(table[wanted[-1]].to_numpy()).all() and _is_plain(path, len(table) * len(fields)):
                    return table
    except pa.ArrowInvalid:
        pass  # the slow reader below says which line, or reads what Arrow is stricter about
    except OSError as error:
        raise FileRuleError(f"cannot be read: {error.strerror or error}", path=path) from None
    return _read_lines(path, fields, types, parse)


def _separator(head: bytes) -> str | None:
    """The space or tab between the fields of the first line; None where the file begins with neither id nor text."""
    if not head or head[0] <= 32 or head.startswith(BYTE_ORDER_MARK):
        return None
    return "\t" if b"\t" in head.split(b"\n", 1)[0] else " "


def _is_plain(path: Path, n_fields: int) -> bool:
    """Whether the file has one white character after each field (the last may lack it), and no other: then a file
    whose lines all have so many fields when it is cut at one of them has the same fields when it is cut at any.
    """
    text = np.memmap(path, np.uint8, mode="r")

    def gaps(start: int) -> int | None:
        part = text[start : start + SCAN_BYTES + 1]  # and one byte of the next part, for gaps across the border
        gap = part <= 32
        if (gap[1:] & gap[:-1]).any():
            return None
        return int(np.count_nonzero(gap[:SCAN_BYTES]))

    found = on_cores(gaps, range(0, len(text), SCAN_BYTES))
    return None not in found and sum(filter(None, found)) == n_fields - (text[-1] > 32)


def _read_lines(
    path: Path, fields: tuple[str, ...], types: dict[str, pa.DataType], parse: Callable[[Path, int, bytes], float]
) -> pa.Table:
    """The same table, read line by line. Raises FileRuleError at the first line that breaks a rule."""
    queries, documents, numbers = [], [], []
    at = 4 if len(fields) == len(RUN_FIELDS) else 3
    content = path.read_bytes()
    if content.startswith(GZIP):
        raise FileRuleError("is compressed; unpack it first (gunzip)", path=path)
    for line, text in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        parts = text.split()
        if not parts:
            continue
        if len(parts) != len(fields):
            rule = f"{counted(len(parts), 'field')}, must be {len(fields)}: {' '.join(fields)}, apart by spaces or tabs"
            raise FileRuleError(rule + _other_kind(len(parts), fields), path=path, line=line)
        try:
            queries.append(parts[0].decode())
            documents.append(parts[2].decode())
        except UnicodeDecodeError:
            raise FileRuleError("not UTF-8 text", path=path, line=line) from None
        numbers.append(parse(path, line, parts[at]))
    columns = {"query_id": queries, "doc_id": documents, fields[at]: numbers}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


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


def _first_judgements(path: Path, table: pa.Table) -> pa.Array:
    """Rows of the first judgement of each (query, document); refuses a later one that says something else."""
    frame = table.to_pandas()
    contradicts = frame.drop_duplicates().duplicated(["query_id", "doc_id"])
    if contradicts.any():
        row = int(contradicts.index[contradicts.argmax()])
        query, document = frame["query_id"].iloc[row], frame["doc_id"].iloc[row]
        rule = f"document {document!r} is judged again for query {query!r}, with another relevance; keep one"
        raise FileRuleError(rule, path=path, line=_line_of_row(path, row))
    return pa.array(np.flatnonzero(~frame.duplicated(["query_id", "doc_id"]).to_numpy()))


def _line_of_row(path: Path, row: int) -> int:
    filled = (line for line, text in enumerate(path.read_bytes().split(b"\n"), start=1) if text.strip())
    return next(line for count, line in enumerate(filled) if count == row)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
