"""JUnit XML and Markdown that a CI system reads, from texts that nobody vouches for."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from llmlab.base.verdict import Verdict
from llmlab.notebook import CellRun, NotebookRun, to_junit, to_markdown

HOSTILE = "<script>alert(1)</script> \x1b[31m ]]> ``` | `x` \x00"


def run_of(verdict="FAIL", *, cells=None, **facts):
    given = {
        "notebook": Path("notebooks/05_release.ipynb"),
        "message": "" if verdict == "PASS" else HOSTILE,
        "executed": Path("a.ipynb"),
        "html": Path("a.html"),
        "run_id": "abc",
        "duration_s": 12.5,
        "cells": cells
        if cells is not None
        else (
            CellRun(number=1, heading="Run", status="completed", duration_s=1.0),
            CellRun(number=2, heading=HOSTILE, status="failed", duration_s=2.0, error=f"GateError\n{HOSTILE}"),
            CellRun(number=3, heading="Log", status="skipped"),
        ),
    }
    return NotebookRun(verdict=Verdict(verdict), **{"ended": verdict != "PASS", **given, **facts})


@pytest.mark.parametrize(
    ("verdict", "kind"), [("FAIL", "failure"), ("INCONCLUSIVE", "failure"), ("BROKEN", "error"), ("INVALID", "error")]
)
def test_junit_tells_a_verdict_from_a_broken_cell(verdict, kind):
    run = run_of(verdict)
    suite = ET.fromstring(to_junit(run).encode())
    assert run.exit_code == Verdict(verdict).exit_code
    assert suite.attrib["tests"] == "3"
    assert [len(suite.findall(f"testcase/{tag}")) for tag in (kind, "skipped")] == [1, 1]
    assert suite.find(f"testcase/{kind}").attrib["type"] == verdict
    assert "\x1b" not in suite.find(f"testcase/{kind}").text


def test_a_pass_has_no_failure():
    done = (CellRun(number=1, heading="Run", status="completed"),)
    suite = ET.fromstring(to_junit(run_of("PASS", cells=done)).encode())
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "0")


def test_a_verdict_and_what_the_job_did_with_it_are_two_things():
    """Nothing was required: the job ran to its end, and its verdict is no PASS for that."""
    run = run_of("FAIL", ended=False, message="", cells=(CellRun(number=1, heading="Run", status="completed"),))
    assert (run.exit_code, run.outcome) == (0, "ran to its end; verdict FAIL, nothing was required")
    assert ET.fromstring(to_junit(run).encode()).attrib["failures"] == "0"
    assert run.outcome in to_markdown(run)
    assert run_of("PASS").outcome == "ran to its end; verdict PASS"


def test_a_kernel_that_died_is_an_error_of_the_notebook():
    suite = ET.fromstring(to_junit(run_of("BROKEN", cells=())).encode())
    assert suite.find("testcase[@name='notebook']/error") is not None


def test_markdown_leaves_no_live_markup():
    text = to_markdown(run_of(tables=(HOSTILE,), parameters={"title": HOSTILE}))
    outside = "".join(text.split("````text")[0::2]).split("````")[-1]
    assert "<script>" not in outside.replace("\\<", "")
    assert "\x1b" not in text
    assert "````text" in text  # a fence longer than any in the text
