"""Results that could not be logged because the tracking store was away, kept in `mlruns/spool/` until it is back.

`tracking.log` keeps them here, `llmlab sync` logs them later; the same results are logged once, whatever happens.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote, unquote

import pydantic

from llmlab.base.documents import Strict, broken_rule, decoded, plain_json, read_bytes
from llmlab.base.errors import FileRuleError, LlmlabError, StoreError
from llmlab.base.private import scrub, scrub_frame
from llmlab.gate.decision import Decision, Receipt
from llmlab.gate.looks import Look
from llmlab.results.results import Results

FOLDER = "spool"


class Picture(Protocol):
    """A matplotlib figure, as far as logging needs to know it."""

    def savefig(self, fname: Any, **kwargs: Any) -> Any:
        """Write the picture."""
        ...


class _Kept(Strict):
    """A decision in a file of the spool, which may be anybody's."""

    verdict: str
    candidate: str
    text: str
    look: Mapping[str, str]
    receipt: str
    documents: Mapping[Annotated[str, pydantic.Field(pattern=r"^[\w-]+\.[a-z]+$")], str] = {}


class _About(Strict):
    """What a file of the spool says of the results beside it."""

    experiment: Annotated[str, pydantic.Field(pattern=r"\S")]
    origin: Mapping[str, str] = {}
    decision: _Kept | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision as far as logging needs it, with its receipt as of the time it was made."""

    text: str
    look: Look
    receipt: Receipt
    documents: Mapping[str, str]

    @classmethod
    def of(cls, decision: Decision) -> Decided:
        """What is kept of this decision."""
        receipt, documents = decision.receipt(), decision.documents
        return cls(text=str(decision), look=decision.look, receipt=receipt, documents=documents)

    @classmethod
    def from_record(cls, record: _Kept) -> Decided:
        """What `to_record` wrote."""
        look, receipt = Look.from_record(record.look), Receipt.from_json(record.receipt)
        return cls(text=record.text, look=look, receipt=receipt, documents=record.documents)

    def to_record(self) -> dict[str, Any]:
        """What a JSON file may hold of it."""
        named = {"verdict": self.receipt.verdict, "candidate": self.receipt.candidate, "text": self.text}
        kept = {"receipt": self.receipt.to_json(), "documents": dict(self.documents)}
        return {**named, "look": self.look.to_record(), **kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is logged together.

    Attributes:
        results: the run.
        decision: a gate's decision on it, or None.
        experiment: where to log it.
        origin: tags that say where and by which code the results were made.
        figures: name -> picture, as PNG.
    """

    results: Results
    decision: Decided | None
    experiment: str
    origin: Mapping[str, str]
    figures: Mapping[str, bytes]


def drawn(figures: Mapping[str, Picture] | None) -> dict[str, bytes]:
    """Figures as PNG files."""
    files = {}
    for name, figure in (figures or {}).items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
        files[name] = picture.getvalue()
    return files


def keep(entry: Entry, root: Path) -> Path:
    """The folder of the spool that now holds results, decision and figures: whole, or not there."""
    folder, results = root / "mlruns" / FOLDER, entry.results
    decision = entry.decision.to_record() if entry.decision is not None else None
    # what was said of the results is part of the name: said again without the decision, they must not take it away
    told = hashlib.sha256(json.dumps([entry.experiment, decision, sorted(entry.figures)]).encode())
    for _, picture in sorted(entry.figures.items()):
        told.update(picture)
    name = f"{results.digest}-{told.hexdigest()[:16]}"
    part, place = folder / f".{name}-{os.getpid()}", folder / name
    if place.exists():
        return place
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        replace(results, frame=scrub_frame(results.frame)).to_parquet(part / "results.parquet")
        for title, figure in entry.figures.items():
            (part / f"{quote(title, safe='')}.png").write_bytes(figure)
        about = {"experiment": entry.experiment, "origin": dict(entry.origin), "decision": decision}
        (part / "about.json").write_text(scrub(json.dumps(about, ensure_ascii=False)) + "\n", encoding="utf-8")
        part.rename(place)
    except OSError as error:
        if place.exists():  # another process has kept the same meanwhile
            return place
        raise StoreError(f"{folder} cannot be written to ({error.strerror}), and neither can the store") from error
    return place


def spooled(root: Path) -> list[Path]:
    """The folders of the spool, oldest first."""
    folder = root / "mlruns" / FOLDER
    entries = [path for path in folder.glob("[!.]*") if path.is_dir()] if folder.is_dir() else []
    return sorted(entries, key=lambda entry: entry.stat().st_mtime)


def read(path: Path) -> Entry:
    """What a folder of the spool holds; FileRuleError where it is damaged."""
    try:
        about = _About.model_validate(plain_json(decoded(read_bytes(path / "about.json"), "about.json")))
        return Entry(
            results=Results.from_parquet(path / "results.parquet"),
            decision=None if about.decision is None else Decided.from_record(about.decision),
            experiment=about.experiment,
            origin=about.origin,
            figures={unquote(file.stem): file.read_bytes() for file in sorted(path.glob("*.png"))},
        )
    except (OSError, ValueError, KeyError, TypeError, LlmlabError) as error:
        raise FileRuleError(f"is damaged ({broken_rule(error)}); look at it, and remove it", path=path) from None
