"""Results that could not be logged because the tracking store was away, kept in `mlruns/spool/` until it is back.

`tracking.log` keeps them here, `llmlab sync` logs them later; the same results are logged once, whatever happens.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import FileRuleError, StoreError
from llmlab.redaction import scrub, scrub_frame

if TYPE_CHECKING:
    from llmlab.gate import Look, Receipt
    from llmlab.results import Results

__all__ = ["Spooled", "SpooledDecision", "keep", "spooled"]

FOLDER = "spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledDecision:
    """A decision as far as logging needs it: word, candidate, look, receipt and text."""

    verdict: str
    candidate: str
    text: str
    look: Look
    document: Receipt

    def receipt(self) -> Receipt:
        """The receipt as of the decision."""
        return self.document

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Png:
    """A picture that is drawn already."""

    content: bytes

    def savefig(self, fname: Any, **_: Any) -> None:
        fname.write(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """One entry of the spool."""

    path: Path
    results: Results
    decision: SpooledDecision | None
    experiment: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def forget(self) -> None:
        """Remove the entry, once it is logged."""
        shutil.rmtree(self.path)


def keep(
    results: Results,
    decision: Any,
    *,
    name: str,
    experiment: str,
    figures: Mapping[str, Any],
    root: Path,
) -> Path:
    """The folder of the spool that now holds results, decision and figures: whole, or not there."""
    folder = root / "mlruns" / FOLDER
    part, place = folder / f".{name}-{os.getpid()}", folder / name
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        replace(results, frame=scrub_frame(results.frame)).to_parquet(part / "results.parquet")
        for title, figure in figures.items():
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
            (part / f"{title}.png").write_bytes(picture.getvalue())
        about = {"experiment": experiment, "decision": _decision(decision)}
        (part / "about.json").write_text(scrub(json.dumps(about, ensure_ascii=False)) + "\n", encoding="utf-8")
        if place.exists():  # the same results again, perhaps with a decision now
            shutil.rmtree(place)
        part.rename(place)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to ({error.strerror}), and neither can the store") from error
    return place


def spooled(root: Path) -> Iterator[Spooled]:
    """The entries of the spool, oldest first; FileRuleError for one that is damaged."""
    folder = root / "mlruns" / FOLDER
    entries = [path for path in folder.glob("[!.]*") if path.is_dir()] if folder.is_dir() else []
    for path in sorted(entries, key=lambda entry: entry.stat().st_mtime):
        yield _read(path)


def _read(path: Path) -> Spooled:
    from llmlab.results import Results

    try:
        about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        return Spooled(
            path=path,
            results=Results.from_parquet(path / "results.parquet"),
            decision=_read_decision(about["decision"]),
            experiment=about["experiment"],
            figures={file.stem: _Png(content=file.read_bytes()) for file in sorted(path.glob("*.png"))},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileRuleError(f"is damaged ({error}); look at it, and remove it", path=path) from None


def _decision(decision: Any) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "verdict": decision.verdict,
        "candidate": decision.candidate,
        "text": str(decision),
        "look": decision.look.to_record(),
        "receipt": decision.receipt().to_json(),
    }


def _read_decision(kept: Mapping[str, Any] | None) -> SpooledDecision | None:
    from llmlab.gate import Look, Receipt

    if kept is None:
        return None
    return SpooledDecision(
        verdict=kept["verdict"],
        candidate=kept["candidate"],
        text=kept["text"],
        look=Look.from_record(kept["look"]),
        document=Receipt.from_json(kept["receipt"]),
    )
