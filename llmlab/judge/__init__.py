"""Judges you can trust: rubric judges, their biases measured against human labels, a passport, corrected scores.

    judge = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
    judged = ll.judge.score(results, judge)
    ll.judge.calibrate(labels, judged, metric="correctness")
"""

