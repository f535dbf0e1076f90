"""Judges you can trust: rubric judges, their biases measured against human labels, a passport, corrected scores.

judge = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
judged = ll.judge.score(results, judge)
ll.judge.calibrate(labels, judged, metric="correctness")
"""

from llmlab.judge.anchors import AnchorCheck, check_anchors
from llmlab.judge.between import LabellerAgreement, between_labellers
from llmlab.judge.calibration import calibrate_scores, calibrate_verdicts
from llmlab.judge.context import CONTEXT_RUBRICS, context_judge, context_verdicts, score_context
from llmlab.judge.correcting import Corrected, corrected, corrected_difference, corrected_rate
from llmlab.judge.figures import Calibration
from llmlab.judge.labelled import with_labels
from llmlab.judge.labelling import label_grades, label_preferences
from llmlab.judge.labels import Label, Labels, calibrate
from llmlab.judge.pairwise import prefer, verdict_frame
from llmlab.judge.parsing import Verdict, parse_preference, parse_score
from llmlab.judge.passports import passport, verdict
from llmlab.judge.pointwise import score
from llmlab.judge.prompts import Judge
from llmlab.judge.rubric import RUBRICS, Rubric, rubric
from llmlab.judge.worklist import Worklist, to_label

__all__ = [
    "CONTEXT_RUBRICS",
    "RUBRICS",
    "AnchorCheck",
    "Calibration",
    "Corrected",
    "Judge",
    "Label",
    "LabellerAgreement",
    "Labels",
    "Rubric",
    "Verdict",
    "Worklist",
    "between_labellers",
    "calibrate",
    "calibrate_scores",
    "calibrate_verdicts",
    "check_anchors",
    "context_judge",
    "context_verdicts",
    "corrected",
    "corrected_difference",
    "corrected_rate",
    "label_grades",
    "label_preferences",
    "parse_preference",
    "parse_score",
    "passport",
    "prefer",
    "rubric",
    "score",
    "score_context",
    "to_label",
    "verdict",
    "verdict_frame",
    "with_labels",
]
