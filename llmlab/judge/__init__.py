"""Judges you can trust: rubric judges, their biases measured against human labels, a passport, corrected scores.

judge = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
judged = ll.judge.score(results, judge)
ll.judge.calibrate(labels, judged, metric="correctness")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.golden.labels import Label as Label
    from llmlab.golden.labels import Labels as Labels
    from llmlab.golden.labels import Worklist as Worklist
    from llmlab.judge.against_people import AnchorCheck as AnchorCheck
    from llmlab.judge.against_people import calibrate as calibrate
    from llmlab.judge.against_people import check_anchors as check_anchors
    from llmlab.judge.calibrating import calibrate_scores as calibrate_scores
    from llmlab.judge.calibrating import calibrate_verdicts as calibrate_verdicts
    from llmlab.judge.calibration import Calibration as Calibration
    from llmlab.judge.calibration import Corrected as Corrected
    from llmlab.judge.calibration import corrected as corrected
    from llmlab.judge.calibration import corrected_difference as corrected_difference
    from llmlab.judge.calibration import corrected_rate as corrected_rate
    from llmlab.judge.calibration import passport as passport
    from llmlab.judge.calibration import verdict as verdict
    from llmlab.judge.calibration import with_labels as with_labels
    from llmlab.judge.context import CONTEXT_RUBRICS as CONTEXT_RUBRICS
    from llmlab.judge.context import context_judge as context_judge
    from llmlab.judge.context import context_verdicts as context_verdicts
    from llmlab.judge.context import score_context as score_context
    from llmlab.judge.grading import prefer as prefer
    from llmlab.judge.grading import score as score
    from llmlab.judge.grading import verdict_frame as verdict_frame
    from llmlab.judge.judges import Judge as Judge
    from llmlab.judge.labelling import LabellerAgreement as LabellerAgreement
    from llmlab.judge.labelling import between_labellers as between_labellers
    from llmlab.judge.labelling import label_grades as label_grades
    from llmlab.judge.labelling import label_preferences as label_preferences
    from llmlab.judge.labelling import to_label as to_label
    from llmlab.judge.parsing import Verdict as Verdict
    from llmlab.judge.parsing import parse_preference as parse_preference
    from llmlab.judge.parsing import parse_score as parse_score
    from llmlab.judge.rubrics import RUBRICS as RUBRICS
    from llmlab.judge.rubrics import Rubric as Rubric
    from llmlab.judge.rubrics import rubric as rubric

__all__, __getattr__, __dir__ = face(__name__)
