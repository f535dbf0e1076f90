"""Trials with a known answer: tests on data where nothing differs, and judges with planted faults of known size.

Nothing here is used to decide. It shows what the statistics are worth, and lets you try them before you trust them.
"""

from llmlab.simulate.false_alarms import FalsePositives, false_positives
from llmlab.simulate.judges import (
    PlantedResults,
    judged_arms,
    judged_grades,
    judged_results,
    judged_scores,
    judged_verdicts,
)

__all__ = [
    "FalsePositives",
    "PlantedResults",
    "false_positives",
    "judged_arms",
    "judged_grades",
    "judged_results",
    "judged_scores",
    "judged_verdicts",
]
