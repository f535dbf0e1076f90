"""Trials with a known answer: tests on data where nothing differs, and judges with planted faults of known size.

Nothing here is used to decide. It shows what the statistics are worth, and lets you try them before you trust them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.simulate.false_alarms import FalsePositives as FalsePositives
    from llmlab.simulate.false_alarms import false_positives as false_positives
    from llmlab.simulate.judges import PlantedResults as PlantedResults
    from llmlab.simulate.judges import judged_arms as judged_arms
    from llmlab.simulate.judges import judged_grades as judged_grades
    from llmlab.simulate.judges import judged_results as judged_results
    from llmlab.simulate.judges import judged_scores as judged_scores
    from llmlab.simulate.judges import judged_verdicts as judged_verdicts

__all__, __getattr__, __dir__ = face(__name__)
