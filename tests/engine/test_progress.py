"""How far a run is, shown without filling a log."""

from __future__ import annotations

import io
import sys
from decimal import Decimal

import pytest

from llmlab.engine import progress as module
from llmlab.engine.progress import Progress, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def halfway() -> Progress:
    return Progress(total=200, done=100, cached=40, errors=3, spent_usd=Decimal("0.1234"))


def test_a_long_run_tells_a_log_now_and_then_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cached took no time, so the time left counts the calls that were sent."""
    clock = iter([0.0, 3.0, 9.0, 12.0, 13.0, 21.0, 24.0, 25.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with shown(halfway()) as refresh:
        for _ in range(7):
            refresh()
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(", ")[2] for line in lines] == ["0:20 left", "0:40 left", "$0.1234 spent"]


def test_a_notebook_that_runs_as_a_job_gets_the_line_as_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.JOB, "somewhere")
    with shown(halfway()):
        pass
    assert capsys.readouterr().out.startswith("run: 100 of 200 calls")


def test_a_terminal_gets_a_bar_with_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, state = Terminal(), halfway()
    state.waits_s = 11.2
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")  # a library that another test imported may have set 80
    monkeypatch.setenv("LINES", "50")
    with shown(state) as refresh:
        refresh()
    last = terminal.getvalue().replace("\n", "").rpartition("\r")[2] or terminal.getvalue()
    for part in ("waits 12 s (rate limit)", "100/200", "cached=40", "errors=3", "spent=$0.1234"):
        assert part in last
    assert "nan" not in last.lower()
