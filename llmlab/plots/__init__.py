"""Figures in one style: intervals always drawn, titles that state the finding, alt text carried along.

Every function returns a `Picture` (a matplotlib Figure) and shows nothing by itself; a notebook shows it as the
last value of a cell, with its alt text.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmlab.plots.comparisons import forest, quality_against
    from llmlab.plots.drawing import COLOURS, Picture, picture
    from llmlab.plots.judge import agreement_matrix, raw_and_corrected, score_against_length, swap_consistency
    from llmlab.plots.release import timeline
    from llmlab.plots.retrieval import by_k, losses

_HOMES = {
    **dict.fromkeys(("forest", "quality_against"), "comparisons"),
    **dict.fromkeys(("agreement_matrix", "raw_and_corrected", "score_against_length", "swap_consistency"), "judge"),
    "timeline": "release",
    **dict.fromkeys(("by_k", "losses"), "retrieval"),
    **dict.fromkeys(("COLOURS", "Picture", "picture"), "drawing"),
}

__all__ = [
    "COLOURS",
    "Picture",
    "agreement_matrix",
    "by_k",
    "forest",
    "losses",
    "picture",
    "quality_against",
    "raw_and_corrected",
    "score_against_length",
    "swap_consistency",
    "timeline",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"llmlab.plots.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'llmlab.plots' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
