"""Speed promises of a rollout: a million units assigned, and a decision on a million units; CPU seconds."""

from __future__ import annotations

import time

import pytest

import llmlab as ll
from llmlab.production.rollout import decide
from tests.production.made import DIGESTS, on_day, policy, traffic

pytestmark = pytest.mark.bench


def test_a_million_units_are_assigned_in_two_seconds(measured):
    """One by one, as a service does it."""
    v1, v2 = (ll.Bundle.from_prompt(f"{{{{ question }}}} {n}", model="openai/gpt-4o-2024-08-06") for n in "12")
    rollout = ll.Rollout(policy=policy(enrol=[{"share": 0.5}]), baseline=v1, candidate=v2)
    units = [f"user-{i}" for i in range(1_000_000)]
    assign = rollout.assign
    start_s = time.process_time()
    for unit in units:
        assign(unit)
    measured("a million units assigned", took_s := time.process_time() - start_s, 2.0, "s CPU")
    assert took_s <= 2.0


def test_a_decision_on_a_million_units_takes_three_seconds(measured):
    """Four guards, after reading."""
    frame = traffic(seed=1, days=14, units_a_day=124_000, returning=0.4)
    assert frame["unit_id"].nunique() >= 1_000_000
    start_s = time.process_time()
    decision = decide(policy(planned_units=1_000_000), frame, digests=DIGESTS, now=on_day(14))
    measured(
        f"a decision on a million units ({len(frame):,} requests)",
        took_s := time.process_time() - start_s,
        3.0,
        "s CPU",
    )
    assert decision.readings[0].difference is not None
    assert took_s <= 3.0
