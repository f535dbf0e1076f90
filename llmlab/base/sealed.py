"""A JSON document that carries its own digest, so that it is noticed when it was changed by accident or cut off.

Receipts, judge passports and policies are such documents. The digest is no signature: whoever relies on a document
checks what it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Self

import pydantic
from pydantic import ConfigDict

from llmlab.base.errors import FileRuleError
from llmlab.base.project import located

__all__ = ["Sealed", "Strict", "digest_of"]


class Strict(pydantic.BaseModel):
    """Fields that are frozen and taken as they are: nothing unknown, nothing converted, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def digest_of(content: pydantic.BaseModel, *, leave_out: Collection[str] = ()) -> str:
    """sha256 (hex) over all fields of a value but those to `leave_out`, defaults included."""
    return _sha256(content.model_dump(mode="json", exclude=set(leave_out)))


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
            content = json.loads(text)
            digest = content.pop("digest")
            found = cls.model_validate(content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileRuleError(f"is no {cls._noun} ({str(error).splitlines()[0]})", path=path) from None
        if found.digest != digest:
            raise FileRuleError("was changed after it was written: its digest does not match", path=path)
        return found

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The document in a file."""
        try:
            return cls.from_json(located(path).read_text(encoding="utf-8"), path=path)
        except OSError as error:
            raise FileRuleError(f"cannot be read ({error.strerror})", path=path) from None

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")
        return Path(path)


def _sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
