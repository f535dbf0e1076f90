"""Figures in one style: intervals always drawn, titles that state the finding, alt text carried along.

Every function returns a `Picture` (a matplotlib Figure) and shows nothing by itself; a notebook shows it as the
last value of a cell, with its alt text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.plots.comparisons import forest as forest
    from llmlab.plots.comparisons import frontier as frontier
    from llmlab.plots.comparisons import quality_against as quality_against
    from llmlab.plots.drawing import COLOURS as COLOURS
    from llmlab.plots.drawing import Picture as Picture
    from llmlab.plots.drawing import picture as picture
    from llmlab.plots.judge import agreement_matrix as agreement_matrix
    from llmlab.plots.judge import raw_and_corrected as raw_and_corrected
    from llmlab.plots.judge import score_against_length as score_against_length
    from llmlab.plots.judge import swap_consistency as swap_consistency
    from llmlab.plots.production import boundary as boundary
    from llmlab.plots.production import outcomes as outcomes
    from llmlab.plots.production import over_time as over_time
    from llmlab.plots.production import timeline as timeline
    from llmlab.plots.retrieval import by_k as by_k
    from llmlab.plots.retrieval import losses as losses

__all__, __getattr__, __dir__ = face(__name__)
