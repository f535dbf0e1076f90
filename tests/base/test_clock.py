"""Every moment is UTC, whatever the machine's zone and season; what names none is read as UTC or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmlab.base.clock import aware, utc
from llmlab.gate import GatePolicy
from llmlab.results.summary import age_of
from tests.made_results import made

PROGRAM = """
import json, warnings
from llmlab.registry.moves import now
from tests.made_results import made
from llmlab.gate import GatePolicy
results = made({"a": [1.0, 0.0, 1.0], "b": [1.0, 1.0, 1.0]})
policy = GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "right", "at_least": 0.1}]})
decision = policy.decide(results, candidate="a")
receipt = decision.receipt()
print(json.dumps([results.created_at, now(), decision.look.made_at, receipt.created_at]))
"""


@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Apia", "UTC"])
def test_what_is_written_is_utc_in_every_time_zone(zone: str) -> None:
    import json

    environment = {**os.environ, "TZ": zone, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
    for text in json.loads(done.stdout):
        moment = datetime.fromisoformat(text)
        assert moment.utcoffset() == timedelta(0)
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 600


def test_the_hour_that_the_clock_repeats_in_autumn_keeps_its_order() -> None:
    """25 October 2026, Berlin: 02:30 comes twice, an hour apart."""
    summer, winter = utc("2026-10-25T02:30:00+02:00"), utc("2026-10-25T02:30:00+01:00")
    assert winter - summer == timedelta(hours=1)
    assert sorted([winter, summer]) == [summer, winter]
    assert utc("2026-03-29T03:00:00+02:00") - utc("2026-03-29T01:59:59+01:00") == timedelta(seconds=1)


def test_a_text_without_an_offset_is_read_as_utc_and_ages_are_told_of_it() -> None:
    assert utc("2026-01-01T00:00:00") == datetime(2026, 1, 1, tzinfo=UTC)
    assert utc("2026-01-01T00:00:00Z") == datetime(2026, 1, 1, tzinfo=UTC)
    assert "ago (2020-01-01T00:00:00)" in age_of("2020-01-01T00:00:00")
    with pytest.raises(ValueError, match="no ISO 8601 moment"):
        utc("yesterday")


def test_a_naive_datetime_is_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # that is the point
    with pytest.raises(ValueError, match="no time zone"):
        aware(naive)
    policy = GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "right", "at_least": 0.1}]})
    with pytest.raises(ValueError, match="no time zone"):
        policy.decide(made({"a": [1.0, 0.0, 1.0]}), candidate="a", now=naive)


def test_no_module_asks_the_clock_without_a_zone() -> None:
    """`datetime.now()` and `utcnow()` give naive moments; files' times are seconds since the epoch."""
    import re

    package = Path(__file__).parents[2] / "llmlab"
    for path in package.rglob("*.py"):
        assert not re.search(r"datetime\.now\(\)|utcnow\(|fromtimestamp\([^,)]*\)|date\.today\(", path.read_text()), (
            path
        )
