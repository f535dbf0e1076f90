"""Single cases of a run as a table: what was asked, what should have been fetched, what was fetched and answered.

What attribution, metrics and freshness give back when somebody asks for the cases behind a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlab.base.display import Interval, Shown

if TYPE_CHECKING:
    from llmlab.results.results import Results

__all__ = ["Rows", "case_rows"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Rows(Shown):
    """A table with the sentence that reads it."""

    rows: tuple[Mapping[str, object], ...]
    sentence: str = ""

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Ids of the cases in the table, in its order, each once."""
        return tuple(dict.fromkeys(str(row["case"]) for row in self.rows if "case" in row))

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.rows]

    def _sentence(self) -> str:
        return self.sentence


def case_rows(
    results: Results, case_ids: Sequence[str], variants: Sequence[str], metric: str
) -> tuple[dict[str, object], ...]:
    """A row per case and variant: what its first answer fetched and said, and its score.

    The question stands in a case's first row only.
    """
    frame = results.frame[(results.frame["repeat"] == 0) & results.frame["variant"].isin(variants)]
    first = {(row["variant"], row["case_id"]): row for row in frame.to_dict("records")}
    by_id = results.golden.by_id if results.golden else {}
    rows = []
    for case_id in case_ids:
        relevant = by_id[case_id].relevant
        asked = by_id[case_id].asked
        wanted = ", ".join(sorted(relevant, key=lambda doc_id: -relevant[doc_id]))
        for place, variant in enumerate(variants):
            said = first.get((variant, case_id))
            row: dict[str, object] = {"case": case_id, "question": "" if place else asked}
            row["should be fetched"] = "" if place else wanted
            if len(variants) > 1:
                row["variant"] = variant
            row["fetched"] = (", ".join(said["retrieved"]) or "nothing") if said else None
            row["answer"] = (said["text"] or said["error"]) if said else None
            row["score"] = Interval(said[metric]) if said else None
            rows.append(row)
    return tuple(rows)
