"""What a CI system reads of a notebook's run: JUnit XML and a Markdown summary. Texts in both are untrusted."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from llmlab.base.display import markdown, markdown_block, plain
from llmlab.base.private import scrub
from llmlab.base.verdict import Verdict
from llmlab.notebook.value import CellRun, NotebookRun

__all__ = ["to_junit", "to_markdown"]


def to_junit(run: NotebookRun) -> str:
    """JUnit XML with one test per code cell: a verdict is a failure, a broken cell an error, the rest skipped."""
    counts = {
        "failures": int(run.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)),
        "errors": int(run.verdict in (Verdict.BROKEN, Verdict.INVALID)),
        "skipped": sum(cell.status == "skipped" for cell in run.cells),
    }
    name = plain(run.notebook.stem)
    facts = {"name": name, "tests": len(run.cells), "time": f"{run.duration_s:.3f}", **counts}
    suite = ET.Element("testsuite", {key: str(value) for key, value in facts.items()})
    for cell in run.cells:
        suite.append(_junit_case(run, cell, name))
    if not any(cell.status == "failed" for cell in run.cells) and run.verdict != Verdict.PASS:  # no cell is to blame
        case = ET.SubElement(suite, "testcase", {"classname": name, "name": "notebook", "time": "0"})
        ET.SubElement(case, "error", {"type": run.verdict, "message": plain(run.message, 500)})
        suite.set("tests", str(len(run.cells) + 1))
    ET.indent(suite)
    return scrub(ET.tostring(suite, encoding="unicode", xml_declaration=True)) + "\n"


def to_markdown(run: NotebookRun) -> str:
    """The summary that a pull request or a job page shows: verdict, reason, tables, parameters, where it is kept."""
    lines = [f"## {markdown(run.notebook.stem)}: {run.verdict}", ""]
    if run.message:
        lines += [markdown_block(run.message, language="text"), ""]
    for table in run.tables:
        lines += [markdown_block(table, language="text"), ""]
    if run.parameters:
        lines += ["| parameter | value |", "| --- | --- |"]
        lines += [f"| {markdown(name)} | {markdown(repr(value))} |" for name, value in run.parameters.items()] + [""]
    failed = [cell for cell in run.cells if cell.status == "failed"]
    lines += [f"Cell {cell.number} ({markdown(cell.heading)}) ended it." for cell in failed]
    done = sum(cell.status == "completed" for cell in run.cells)
    lines.append(f"{done} of {len(run.cells)} code cells completed in {run.duration_s:.0f} s. MLflow run {run.run_id}.")
    return scrub("\n".join(lines)) + "\n"


def _junit_case(run: NotebookRun, cell: CellRun, name: str) -> ET.Element:
    title = f"cell {cell.number}: {plain(cell.heading)}"
    case = ET.Element("testcase", {"classname": name, "name": title, "time": f"{cell.duration_s:.3f}"})
    if cell.status == "skipped":
        ET.SubElement(case, "skipped")
    elif cell.status == "failed":
        kind = "failure" if run.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) else "error"
        said = ET.SubElement(case, kind, {"type": run.verdict, "message": plain(run.message, 500)})
        said.text = _lines(cell.error)
    return case


def _lines(text: str) -> str:
    """Line ends stay, other control characters are shown; XML has no way to hold them."""
    return "\n".join(plain(line, None) for line in text.splitlines())
