"""What came of a notebook: its verdict, the exit code that follows, its cells, its tables and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmlab.base.display import Shown
from llmlab.base.verdict import Verdict

__all__ = ["CellRun", "NotebookRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """One code cell: the heading it stands under, how long it took, and the error that ended it, if one did."""

    number: int
    heading: str
    status: str  # completed, failed or skipped
    duration_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NotebookRun(Shown):
    """A notebook that was executed.

    Attributes:
        notebook: the source notebook.
        verdict: PASS (it ran to its end), FAIL, INCONCLUSIVE or INVALID (its gate said so), or BROKEN.
        message: why, "" for PASS.
        parameters: the values that were set from outside.
        executed, html: the kept copies.
        run_id: the MLflow run that stands for it.
        tables: text of the cells tagged `report`, in order.
        cells: every code cell.
    """

    notebook: Path
    verdict: Verdict
    message: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    executed: Path
    html: Path
    run_id: str
    duration_s: float
    tables: tuple[str, ...] = ()
    cells: tuple[CellRun, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 2 broken or invalid."""
        return self.verdict.exit_code

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "notebook": self.notebook.name,
                "verdict": self.verdict.chip,
                "exit code": self.exit_code,
                "duration s": round(self.duration_s, 1),
                "kept as": str(self.html),
            }
        ]

    def _sentence(self) -> str:
        return self.message
