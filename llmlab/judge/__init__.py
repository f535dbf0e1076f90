"""Judges you can trust: rubric judges, their biases measured against human labels, a passport, corrected scores.

judge = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
judged = ll.judge.score(results, judge)
ll.judge.calibrate(labels, judged, metric="correctness")
"""

from llmlab.judge.calibration import calibrate_scores, calibrate_verdicts
from llmlab.judge.figures import Calibration
from llmlab.judge.labels import Label, Labels, calibrate
from llmlab.judge.pairwise import prefer, verdict_frame
from llmlab.judge.parsing import Verdict, parse_preference, parse_score
from llmlab.judge.pointwise import score
from llmlab.judge.prompts import Judge
from llmlab.judge.rubric import RUBRICS, Rubric, rubric

__all__ = [
    "RUBRICS",
    "Calibration",
    "Judge",
    "Label",
    "Labels",
    "Rubric",
    "Verdict",
    "calibrate",
    "calibrate_scores",
    "calibrate_verdicts",
    "parse_preference",
    "parse_score",
    "prefer",
    "rubric",
    "score",
    "verdict_frame",
]
