"""Results with known answers, and fake judges that read their prompt as a judge would."""

from __future__ import annotations

import json
import re

import pandas as pd

import llmlab as ll
from llmlab.results.results import Results

BLOCK = re.compile(r"^\[([A-Za-z ]+) ([0-9a-f]{16})\]\n(.*?)\n\[end of [a-z ]+ \2\]$", re.MULTILINE | re.DOTALL)


def answered(answers, *, expected=("dropna",), clusters=None):
    """Results of variants that say these texts, case by case; None = the answer never came."""
    n = len(next(iter(answers.values())))
    golden = ll.GoldenSet(
        tuple(
            ll.Case(
                id=f"q{i}",
                inputs={"question": f"Question {i}?"},
                expected=expected,
                cluster=clusters[i] if clusters else None,
                tags=("odd",) if i % 2 else ("even",),
            )
            for i in range(n)
        )
    )
    rows = [
        {"variant": name, "case_id": f"q{i}", "text": text}
        for name, texts in answers.items()
        for i, text in enumerate(texts)
    ]
    return Results.from_frame(pd.DataFrame(rows), golden=golden)


def blocks(request):
    """What stands between the marks of a prompt, by title."""
    return {title: text for title, _, text in BLOCK.findall(request.messages[-1]["content"])}


def outside(request):
    """The prompt without what stands between the marks: all that a careful judge takes for instructions."""
    return request.messages[0]["content"] + BLOCK.sub("", request.messages[-1]["content"])


def grade(level, reason="so it seems"):
    """A reply as it was asked for."""
    return json.dumps({"reason": reason, "score": level})
