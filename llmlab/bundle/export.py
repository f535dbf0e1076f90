"""A released bundle as one JSON file: written by `llmlab export`, read by a service with pydantic alone.

from llmlab.bundle.export import Exported

bundle = Exported.load("pandas_help.json").bundle
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import pydantic

from llmlab.base.documents import Strict, broken_rule, read_bytes, write_whole
from llmlab.base.errors import FileRuleError
from llmlab.bundle.bundle import Bundle


class Exported(Strict):
    """A bundle that was registered, with the digest it was registered with and the receipt it was released on."""

    format: Literal["llmlab-export-1"] = "llmlab-export-1"
    reference: str
    version: int
    digest: str
    bundle: Bundle
    receipt: dict[str, Any] | None = None
    exported_at: str
    url: str = ""

    @pydantic.model_validator(mode="after")
    def _is_what_was_registered(self) -> Self:
        if self.bundle.digest != self.digest:
            raise ValueError(f"the bundle has digest {self.bundle.digest[:8]}, registered was {self.digest[:8]}")
        if self.receipt is not None and self.receipt.get("bundle_digest") != self.digest:
            raise ValueError("the receipt is for another bundle")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Exported:
        """The export in a file, its digest computed again; FileRuleError where it is not what was written."""
        try:
            return cls.model_validate_json(read_bytes(path))
        except pydantic.ValidationError as error:
            raise FileRuleError(f"is no export, or was changed: {broken_rule(error)}", path=path) from None

    def save(self, path: str | Path) -> Path:
        """Write the file: whole, or not at all."""
        return write_whole(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
