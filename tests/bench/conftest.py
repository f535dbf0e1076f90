"""What `make bench` shows at its end: one line per promise, with what was measured and the bar."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

Measured = Callable[..., None]
NAME = "promise"


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """`measured(promise, value, bar, unit)` before it is asserted; `least=True` where more is better."""

    def record(promise: str, value: float, bar: float, unit: str, *, least: bool = False) -> None:
        met = value >= bar if least else value <= bar
        shown = f"{_digits(value)} {unit}", f"{'at least' if least else 'at most'} {_digits(bar)} {unit}"
        record_property(NAME, (promise, *shown, "met" if met else "MISSED"))

    return record


def peak_bytes() -> int:
    """The most memory that this process had: on Linux a child's `ru_maxrss` begins at what its parent had."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS, in bytes
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One table of all that was recorded; a bench that ended before it measured anything, or in the middle, broke."""
    reports = [one for kind in ("passed", "failed", "error", "skipped") for one in terminalreporter.getreports(kind)]
    rows = [row for report in reports for row in _rows_of(report)]
    if not rows:
        return
    table = [("promise", "measured", "bar", ""), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(4)]
    terminalreporter.section("speed promises")
    for row in table:
        line = "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip()
        terminalreporter.write_line(line, red=row[3] in ("MISSED", "broke"))


def _rows_of(report: pytest.TestReport) -> list[tuple[str, str, str, str]]:
    """What a bench recorded, and that it broke where something other than a missed bar ended it."""
    rows = [value for name, value in report.user_properties if name == NAME]
    if report.failed and not any(row[3] == "MISSED" for row in rows):
        rows.append((report.nodeid.rpartition("::")[2], "", "", "broke"))
    return rows


def _digits(value: float) -> str:
    """Three digits, without an exponent.

    >>> _digits(1.2345), _digits(1042.4)
    ('1.23', '1,042')
    """
    decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}" if decimals < 3 else f"{value:.3g}"
