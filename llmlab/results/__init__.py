"""Results: the answers of a run and what they say: scores, summaries, comparisons, cost, single cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.base.verdict import Verdict as Verdict
    from llmlab.display.shown import Conclusion as Conclusion
    from llmlab.results import cases as cases
    from llmlab.results import elsewhere as elsewhere
    from llmlab.results import files as files
    from llmlab.results import labelled as labelled
    from llmlab.results import summary as summary
    from llmlab.results import tipping as tipping
    from llmlab.results.comparing import compare_tables as compare_tables
    from llmlab.results.comparison import Comparison as Comparison
    from llmlab.results.comparison import PairedRow as PairedRow
    from llmlab.results.diagnostics import cases_needed as cases_needed
    from llmlab.results.diagnostics import classes as classes
    from llmlab.results.diagnostics import harm_by_category as harm_by_category
    from llmlab.results.diagnostics import repeats_or_cases as repeats_or_cases
    from llmlab.results.diagnostics import three_readings as three_readings
    from llmlab.results.elsewhere import Scores as Scores
    from llmlab.results.elsewhere import read_scores as read_scores
    from llmlab.results.results import Results as Results
    from llmlab.results.scores import Metric as Metric
    from llmlab.results.scores import ScoreTable as ScoreTable
    from llmlab.results.scores import score_table as score_table
    from llmlab.results.summary import Summary as Summary

__all__, __getattr__, __dir__ = face(__name__)
