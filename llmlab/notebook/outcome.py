"""What came of a notebook: verdict and exit code, cells, tables, where it is kept, and what a CI system reads of it.

Texts in JUnit XML and in the Markdown summary are untrusted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmlab.base.cells import plain
from llmlab.base.errors import GateError
from llmlab.base.private import scrub
from llmlab.base.verdict import Verdict
from llmlab.display.markdown import markdown, markdown_block
from llmlab.display.shown import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """One code cell: the heading it stands under, how long it took, and the error that ended it, if one did."""

    number: int
    heading: str
    status: str  # completed, failed or skipped
    duration_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NotebookRun(Shown):
    """A notebook that was executed.

    Attributes:
        notebook: the source notebook.
        verdict: what it came to: PASS, FAIL, INCONCLUSIVE, INVALID, or BROKEN; None where it decides nothing.
        ended: whether that ended the job: something other than PASS where one was required, or an error.
        message: why it was ended, "" else.
        parameters: the values that were set from outside.
        executed, html: the kept copies.
        run_id: the MLflow run that stands for it.
        tables: text of the cells tagged `report`, in order.
        cells: every code cell.
    """

    notebook: Path
    verdict: Verdict | None
    ended: bool = False
    message: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    executed: Path
    html: Path
    run_id: str
    duration_s: float
    tables: tuple[str, ...] = ()
    cells: tuple[CellRun, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of a job that was ended by its verdict: 1 fail, 3 inconclusive, 2 broken or invalid; else 0."""
        return self.verdict.exit_code if self.ended and self.verdict else 0

    @property
    def outcome(self) -> str:
        """The verdict, and what the job did with it."""
        if self.ended:
            return str(self.verdict)
        verdict = f"; verdict {self.verdict}" if self.verdict else ""
        free = ", nothing was required" if self.verdict not in (None, Verdict.PASS) else ""
        return f"ran to its end{verdict}{free}"

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "notebook": self.notebook.name,
                "verdict": self.verdict.chip if self.verdict else "",
                "job": "ended" if self.ended else "ran to its end",
                "exit code": self.exit_code,
                "duration s": round(self.duration_s, 1),
                "kept as": str(self.html),
            }
        ]

    def _sentence(self) -> str:
        return self.message


def to_junit(run: NotebookRun) -> str:
    """JUnit XML with one test per code cell: a verdict that ended it is a failure, a broken cell an error."""
    counts = {
        "failures": int(run.ended and run.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)),
        "errors": int(run.ended and run.verdict in (Verdict.BROKEN, Verdict.INVALID)),
        "skipped": sum(cell.status == "skipped" for cell in run.cells),
    }
    name, ended = plain(run.notebook.stem), {"type": str(run.verdict), "message": plain(run.message, 500)}
    about: dict[str, object] = {"name": name, "tests": len(run.cells), "time": f"{run.duration_s:.3f}", **counts}
    suite = ET.Element("testsuite", {key: str(value) for key, value in about.items()})
    for cell in run.cells:
        title = f"cell {cell.number}: {plain(cell.heading)}"
        facts = {"classname": name, "name": title, "time": f"{cell.duration_s:.3f}"}
        case = ET.SubElement(suite, "testcase", facts)
        if cell.status == "skipped":
            ET.SubElement(case, "skipped")
        elif cell.status == "failed":  # line ends stay, XML has no way to hold other control characters
            kind = "failure" if counts["failures"] else "error"
            ET.SubElement(case, kind, ended).text = "\n".join(plain(line, None) for line in cell.error.splitlines())
    if not any(cell.status == "failed" for cell in run.cells) and run.ended:  # no cell is to blame
        case = ET.SubElement(suite, "testcase", {"classname": name, "name": "notebook", "time": "0"})
        ET.SubElement(case, "error", ended)
        suite.set("tests", str(len(run.cells) + 1))
    ET.indent(suite)
    return scrub(ET.tostring(suite, encoding="unicode", xml_declaration=True)) + "\n"


def check_reports(*files: Path | None) -> None:
    """ValueError for a report that is a folder, whose folder is not there, or that two would be written to."""
    paths = [file.absolute() for file in files if file is not None]
    if missing := next((file for file in paths if not file.parent.is_dir()), None):
        raise ValueError(f"the folder of {missing} does not exist")
    if folder := next((file for file in paths if file.is_dir()), None):
        raise ValueError(f"{folder} is a folder; name a file in it")
    if twice := next((file for i, file in enumerate(paths) if file in paths[:i]), None):
        raise ValueError(f"{twice} is named for two reports, of which only one would be kept")


@contextmanager
def told_in(
    junit: Path | None, markdown_path: Path | None, receipt: Path | None = None, *, name: str
) -> Iterator[None]:
    """What ends a job before its verdict stands in its reports too, where else an older verdict would be read.

    A receipt of an earlier decision goes: it would be read as that of this job.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        message = plain(scrub(str(error)) or type(error).__name__, None)
        word = Verdict.INVALID if isinstance(error, GateError) else Verdict.BROKEN
        if receipt is not None:
            receipt.unlink(missing_ok=True)
        if markdown_path is not None:
            block = markdown_block(message, language="text")
            ended = "no verdict, it broke" if word is Verdict.BROKEN else word
            markdown_path.write_text(f"## {markdown(name)}: {ended}\n\n{block}\n", encoding="utf-8")
        if junit is not None:
            suite = ET.Element("testsuite", {"name": plain(name), "tests": "1", "errors": "1", "failures": "0"})
            case = ET.SubElement(suite, "testcase", {"classname": plain(name), "name": "job", "time": "0"})
            ET.SubElement(case, "error", {"type": str(word), "message": message})
            junit.write_text(ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n", encoding="utf-8")
        raise


def to_markdown(run: NotebookRun) -> str:
    """The summary that a pull request or a job page shows: verdict, reason, tables, parameters, where it is kept."""
    lines = [f"## {markdown(run.notebook.stem)}: {run.outcome}", ""]
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
