"""Files read strictly and written whole: bytes, texts, lines of JSON, and JSON documents that carry their own digest.

Receipts, judge passports and exports are such documents: it is noticed when one was changed by accident or cut off. The
digest is no signature: whoever relies on a document checks what it says.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import ConfigDict

from llmlab.base.errors import FileRuleError
from llmlab.base.project import located

LARGEST_TEXT_BYTES = 1_000_000
DEEPEST_NESTING = 100
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
TOO_DEEP = f"is nested too deeply (more than {DEEPEST_NESTING} levels)"


def read_bytes(path: str | Path) -> bytes:
    """The file's content; FileRuleError where it cannot be read."""
    try:
        return located(path).read_bytes()
    except OSError as error:
        raise FileRuleError(f"cannot be read ({error.strerror})", path=path) from None


def read_text(path: str | Path) -> str:
    """The file's text, without a byte-order mark; FileRuleError for bad UTF-8 (with its line) or a file over 1 MB."""
    raw = read_bytes(path)
    if len(raw) > LARGEST_TEXT_BYTES:
        raise FileRuleError(f"is {len(raw):,} bytes, must be at most {LARGEST_TEXT_BYTES:,}", path=path)
    return decoded(raw, path)


def decoded(raw: bytes, path: str | Path) -> str:
    """UTF-8 as text, without a byte-order mark; FileRuleError with the line of the first bad byte."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FileRuleError(f"is not UTF-8 (byte {raw[error.start]:#04x})", path=path, line=line) from None


def json_lines(path: str | Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and object of every line; FileRuleError with the line for whatever is not a whole JSON object."""
    for number, raw in enumerate(read_bytes(path).split(b"\n"), start=1):  # a text may hold other line ends
        raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if not raw.strip():
            continue
        try:
            row = plain_json(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise FileRuleError(f"is not UTF-8 ({error.reason})", path=path, line=number) from None
        except json.JSONDecodeError as error:
            raise FileRuleError(f"is not a whole JSON object ({error.msg})", path=path, line=number) from None
        except ValueError as error:
            raise FileRuleError(str(error), path=path, line=number) from None
        if not isinstance(row, dict):
            raise FileRuleError("must be a JSON object", path=path, line=number)
        yield number, row


def plain_json(text: str) -> Any:
    """The value of a JSON text; ValueError for what is none, NaN, a key given twice, and nesting beyond 100 levels."""
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than whatever walks through them can go (100 levels)."""
    level = [value]
    for _ in range(DEEPEST_NESTING):
        nested = [value for value in level if isinstance(value, (Mapping, list))]
        lists = [value.values() if isinstance(value, Mapping) else value for value in nested]
        if not lists:
            return False
        level = [item for items in lists for item in items if isinstance(item, (Mapping, list))]
    return bool(level)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the file's place at the end; a kill or an error leaves what was there before.

    What the system says of a full disk names the file too.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # a folder, or a device such as /dev/stdout, that would be lost
        raise OSError(errno.EINVAL, "is no file that may be replaced", str(path))
    partial_path = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield partial_path
        partial_path.replace(target)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        partial_path.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str) -> Path:
    """Write the text in place of what was there: whole, on disk before this returns, or not at all."""
    with whole_file(path) as partial_path, partial_path.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def broken_rule(error: Exception) -> str:
    """The first rule that a document breaks, and where in it; what stands there stays out. Of other errors the text."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    from llmlab.base import broken  # only where something is wrong

    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), broken.broken_rule(first))))


class Strict(pydantic.BaseModel):
    """Fields that are frozen and taken as they are: nothing unknown, nothing converted, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _in_percent(written: Any) -> Any:
    percent = PERCENT.fullmatch(written) if isinstance(written, str) else None
    return written if percent is None else float(Decimal(percent[1]) / 100)


Percent = Annotated[float, pydantic.BeforeValidator(_in_percent)]  # a share as people write it: 0.05 or 5%


def digest_of(content: pydantic.BaseModel, *, leave_out: Mapping[str, Any] = MappingProxyType({})) -> str:
    """sha256 (hex) over all fields of a value but those to `leave_out` (as pydantic's `exclude`), defaults included."""
    return _sha256(content.model_dump(mode="json", exclude=dict(leave_out)))


def signature(text: str) -> str:
    """HMAC-SHA256 (hex) of a text by the key in LLMLAB_SIGNING_KEY; "" where there is none."""
    key = os.environ.get("LLMLAB_SIGNING_KEY", "")
    return hmac.new(key.encode(), text.encode(), "sha256").hexdigest() if key else ""


def is_forged(text: str, signed: str) -> bool:
    """Whether there is a key here, and the text was not signed by it."""
    return not hmac.compare_digest((signature(text) or signed).encode(), signed.encode())


class Sealed(Strict):
    """Fields with one digest over all of them, written and read as a JSON document.

    >>> class Note(Sealed):
    ...     text: str
    >>> note = Note.from_json(Note(text="kept").to_json())
    >>> note.text, note.digest[:8]
    ('kept', '0eab4bf9')
    """

    _noun: ClassVar[str] = "document"  # for messages
    _file: ClassVar[str] = "document"

    @property
    def digest(self) -> str:
        """sha256 (hex) over everything in it but what is at its default.

        So a field with a default that a later version adds leaves the documents good that were written before.
        """
        return _sha256(self.model_dump(mode="json", exclude_defaults=True))

    def to_json(self) -> str:
        """The document, its digest included."""
        return json.dumps({**self.model_dump(mode="json"), "digest": self.digest}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, path: str | Path | None = None) -> Self:
        """What `to_json` wrote; FileRuleError for anything else, or when it was changed since."""
        path = path or f"{cls._file}.json"
        try:
            content = plain_json(text)
            digest = content.pop("digest")
            document = cls.model_validate(content)
        except json.JSONDecodeError as error:
            raise FileRuleError(f"is no {cls._noun} ({error.msg})", path=path, line=error.lineno) from None
        except pydantic.ValidationError as error:
            raise FileRuleError(f"is no {cls._noun} ({broken_rule(error)})", path=path) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileRuleError(f"is no {cls._noun} ({str(error).splitlines()[0]})", path=path) from None
        if document.digest != digest:
            raise FileRuleError("was changed after it was written: its digest does not match", path=path)
        return document

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The document in a file."""
        return cls.from_json(decoded(read_bytes(path), path), path=path)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        return write_whole(path, self.to_json())


def _sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
