"""Results with known answers, and fake judges that read their prompt as a judge would."""

from __future__ import annotations

import json
import re

import pandas as pd

import llmlab as ll
from llmlab.golden.labels import Label, Labels, text_digest
from llmlab.results.results import Results

MODEL = "openai/gpt-4o-2024-08-06"

BLOCK = re.compile(r"^\[([A-Za-z ]+) ([0-9a-f]{16})\]\n(.*?)\n\[end of [a-z ]+ \2\]$", re.MULTILINE | re.DOTALL)


def answered(answers, *, expected=("dropna",), clusters=None):
    """Results of variants that say these texts, case by case; None = the answer never came."""
    n = len(next(iter(answers.values())))
    clusters, tags = clusters or [None] * n, [("odd",) if i % 2 else ("even",) for i in range(n)]
    cases = [
        ll.Case(id=f"q{i}", inputs={"question": f"Question {i}?"}, expected=expected, cluster=clusters[i], tags=tags[i])
        for i in range(n)
    ]
    rows = [(name, f"q{i}", text) for name, texts in answers.items() for i, text in enumerate(texts)]
    frame = pd.DataFrame(rows, columns=["variant", "case_id", "text"])
    return Results.from_frame(frame, golden=ll.GoldenSet(tuple(cases)))


def blocks(request):
    """What stands between the marks of a prompt, by title."""
    return {title: text for title, _, text in BLOCK.findall(request.messages[-1]["content"])}


def outside(request):
    """The prompt without what stands between the marks: all that a careful judge takes for instructions."""
    return request.messages[0]["content"] + BLOCK.sub("", request.messages[-1]["content"])


def grade(level, reason="so it seems"):
    """A reply as it was asked for."""
    return json.dumps({"reason": reason, "score": level})


def by_digit(request):
    """A judge that grades an answer by the digit it starts with."""
    return grade(int(blocks(request)["Answer"][0]))


def means(tmp_path, replies=by_digit):
    """How a judge is asked in tests: a client that says these replies, a store of the test's own."""
    return {"client": ll.FakeClient(replies), "store": tmp_path / "c.sqlite", "progress": False}


def judged(answers, judge, tmp_path, replies=by_digit):
    """Answers, graded by a judge that replies so."""
    return ll.judge.score(answered(answers), judge, **means(tmp_path, replies))


def label(case, read, value, **more):
    """What a person said of an answer to a case of `answered`, or of two."""
    answers = {"answer": read} if isinstance(read, str) else {"answer_1": read[0], "answer_2": read[1]}
    digests = {name: text_digest(text) for name, text in answers.items()}
    question = text_digest(f"Question {case.removeprefix('q')}?")
    return Label(**{"rubric": "correctness", "case_id": case, "question": question, "value": value, **digests, **more})


def preferences(texts, one, other):
    """What people prefer: of two variants' answers the first, the second, the first, ..."""
    pairs = enumerate(zip(texts[one], texts[other], strict=True))
    return Labels(tuple(label(f"q{i}", pair, 1 + i % 2) for i, pair in pairs))


def many(n=40):
    """The texts of n answers, and labels: a text begins with the judge's grade, people say one less where i is odd."""
    texts = [f"{i % 5 + 1} answer {i}" for i in range(n)]
    return texts, Labels(tuple(label(f"q{i}", t, max(1, int(t[0]) - i % 2)) for i, t in enumerate(texts)))


def called(**texts_and_calls):
    """Results of variants with one answer a case: (text, tool calls) each."""
    n = len(next(iter(texts_and_calls.values())))
    golden = ll.GoldenSet(tuple(ll.Case(id=f"q{i}", inputs={"question": f"Question {i}?"}) for i in range(n)))
    answers = [
        ll.Generation(variant=variant, case_id=f"q{i}", text=text, tool_calls=tuple(calls))
        for variant, cells in texts_and_calls.items()
        for i, (text, calls) in enumerate(cells)
    ]
    bundle = ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1")
    return Results.from_generations(answers, golden=golden, bundles=dict.fromkeys(texts_and_calls, bundle))


def weather(city):
    """A call of a tool."""
    return {"name": "weather", "arguments": {"city": city}}
