"""A decision for a pull request (Markdown) and for a CI system (JUnit XML). Texts in both are untrusted."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from llmlab.base.cells import plain
from llmlab.base.numbers import number
from llmlab.base.verdict import Verdict
from llmlab.display.markdown import markdown, markdown_table
from llmlab.gate.decision import Decision
from llmlab.results.results import Results

_MOST_FLIPS = 5
SHOWN_CHARS = 140


def to_markdown(decision: Decision, results: Results, *, requests_per_day: int | None = None) -> str:
    """Verdict sentence, table of conditions, what it costs, and five cases that changed sides, harmed ones first."""
    parts = [
        f"## Gate: {decision.word}",
        markdown(decision.sentence, None),
        markdown_table(decision._rows()),
        *(markdown(line, None) for line in decision.lines()[1:]),
    ]
    if decision.baseline is not None and decision.baseline in results.variants:
        bill = results.cost_line(decision.baseline, decision.candidate, requests_per_day=requests_per_day)
        parts += [markdown(bill, None), *_flips(decision, decision.baseline, results)]
    facts = decision.facts
    names = ("bundle", "baseline", "golden", "policy", "results")
    digests = ", ".join(f"{name} `{str(facts[f'{name}_digest'])[:8] or '–'}`" for name in names)
    return "\n\n".join(part for part in (*parts, f"Digests: {digests}.") if part) + "\n"


def to_junit(decision: Decision) -> str:
    """JUnit XML with one test per condition: FAIL and INCONCLUSIVE are failures, an INVALID decision is an error."""
    cases = [(c.name, c.verdict, c.reading) for c in decision.conditions]
    cases += [("validity", Verdict.INVALID, reason) for reason in decision.reasons]
    counts = {
        "tests": len(cases),
        "failures": sum(verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) for _, verdict, _ in cases),
        "errors": sum(verdict == Verdict.INVALID for _, verdict, _ in cases),
        "skipped": sum(verdict == Verdict.NOT_JUDGED for _, verdict, _ in cases),
    }
    suite = ET.Element("testsuite", {"name": "llmlab gate", **{key: str(n) for key, n in counts.items()}})
    for name, verdict, reading in cases:
        case = ET.SubElement(suite, "testcase", {"classname": "gate", "name": plain(name), "time": "0"})
        if verdict == Verdict.NOT_JUDGED:
            ET.SubElement(case, "skipped", {"message": plain(reading, 500)})
        elif verdict != Verdict.PASS:
            kind = "error" if verdict == Verdict.INVALID else "failure"
            ET.SubElement(case, kind, {"type": verdict, "message": plain(reading, 500)})
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _flips(decision: Decision, baseline: str, results: Results) -> list[str]:
    """Cases that changed sides on the goal's metric, or on the first bounded one that a condition reads."""
    conditions = sorted(decision.conditions, key=lambda c: c.kind != "goal")
    named = [c.metric for c in conditions] or list(results.metrics)
    metric = next((name for name in named if name in results.metrics and results.metric(name).bounded), None)
    if metric is None:
        return []
    flips = results.flips(baseline, decision.candidate, metric=metric)
    rows: list[dict[str, object]] = [
        {
            "case": flip.case_id,
            "became": flip.became,
            "question": plain(flip.question, SHOWN_CHARS),
            "score": f"{number(flip.before)} → {number(flip.after)}",
            "answer": plain(flip.after_text, SHOWN_CHARS),
        }
        for flip in flips.flips[:_MOST_FLIPS]
    ]
    return [markdown(flips._sentence(), None), markdown_table(rows)]
