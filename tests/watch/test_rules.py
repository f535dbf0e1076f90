"""`watch.yaml` and what its rules read: bounds, points, facts, totals, too little data."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import llmlab as ll
from llmlab.base.errors import FileRuleError, GateError
from llmlab.watch.readings import share_bounds
from tests.watch.incidents import START

PAGES = Path(__file__).parents[2] / "experiments" / "runbooks"
NOW = START + timedelta(days=29)


def rules(*given, **policy):
    return ll.watch.WatchPolicy.model_validate({"rules": given, "drift": (), **policy})


def traffic(n=400, *, days=(0, 7, 14, 21, 26, 27, 28), **columns):
    """So many requests a day, evenly, of a new person each; `columns` are values or functions of (day, place)."""
    day, place = np.repeat(days, n), np.tile(np.arange(n), len(days))
    frame = pd.DataFrame({"time": pd.Timestamp(START) + pd.to_timedelta(day * 86_400 + place * (86_400 / n), unit="s")})
    frame["request_id"] = [f"r{i}" for i in range(len(frame))]
    frame["unit_id"] = [f"u{i}" for i in range(len(frame))]
    usual = {"status": "ok", "latency_s": 1.0, "cost_usd": 0.01, "served_model": "m-1", "text": "fine"}
    for name, value in {**usual, **columns}.items():
        frame[name] = [value(d, p) for d, p in zip(day, place, strict=True)] if callable(value) else value
    return ll.Traces.from_frame(frame)


def read(traces, *given, now=NOW, **policy):
    (reading,) = ll.Watch(policy=rules(*given, **policy)).report(traces, now=now).readings
    return reading


def on_the_last_day(value, usual):
    return lambda day, place: value if day == 28 else usual


def test_an_unclustered_bound_is_clopper_and_pearsons():
    """scipy's exact interval; nobody asked twice."""
    values = np.array([1.0] * 7 + [0.0] * 393)
    low, high = share_bounds(values, np.arange(400), alpha=0.001)
    exact = binomtest(7, 400).proportion_ci(0.998, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), rel=1e-6)


def test_requests_of_one_person_count_little():
    """Forty failures of forty persons bind; forty of one person do not."""
    failed = np.array([1.0] * 40 + [0.0] * 360)
    many, _ = share_bounds(failed, np.arange(400), alpha=0.001)
    one, _ = share_bounds(failed, np.array([0] * 40 + list(range(1, 361))), alpha=0.001)
    assert many > 0.05
    assert one < 0.01


def test_an_alert_needs_the_bound_and_a_watch_the_point():
    """2% of 400 is more than 1%, which chance can do; 6% is more than it can."""
    rule = {"metric": "error_rate", "above": 0.01, "window": "1d"}
    states = {}
    for share in (0.005, 0.02, 0.06):
        failing = round(1 / share)
        traces = traffic(status=lambda day, place, k=failing: "error" if day == 28 and place % k == 0 else "ok")
        states[share] = read(traces, rule).state
    assert states == {0.005: "quiet", 0.02: "WATCH", 0.06: "ALERT"}


def test_an_alert_says_since_when():
    """The requests before it began are left out of it, though they lie in the same window."""
    traces = traffic(status=lambda day, place: "error" if day == 28 and place >= 300 and place % 2 else "ok")
    reading = read(traces, {"metric": "error_rate", "above": 0.01, "window": "1d"})
    assert abs(reading.since - (NOW - timedelta(hours=6))) < timedelta(minutes=10)
    assert 45 <= len(reading.rows) <= 50


def test_percent_is_of_the_days_before_and_shares_are_shares():
    """Quality .80 before: 5% worse is below .76, 0.05 worse is below .75."""
    traces = traffic(**{"signals.quality": lambda day, place: (0.77 if day == 28 else 0.8) + 0.001 * (place % 3)})
    limits = [read(traces, {"metric": "quality", "worse_by": by}).limit for by in ("5%", 0.05)]
    assert limits == pytest.approx([0.76095, 0.751], abs=1e-4)
    lower = traffic(**{"signals.quality": lambda day, place: (0.7 if day == 28 else 0.8) + 0.001 * (place % 3)})
    assert read(lower, {"metric": "quality", "worse_by": "5%"}).state == "ALERT"


def test_a_quantile_is_over_twice_the_baseline_where_enough_requests_are():
    rule = {"metric": "latency_s", "quantile": 0.99, "over": "2x", "window": "1d"}
    usual = lambda place: 1 + place % 100 / 100  # noqa: E731  # p99 is 1.98
    slow = traffic(latency_s=lambda day, place: 9.0 if day == 28 and place % 12 == 0 else usual(place))
    few = traffic(latency_s=lambda day, place: 9.0 if day == 28 and place % 90 == 0 else usual(place))
    assert read(slow, rule).state == "ALERT"
    assert read(few, rule).state == "WATCH"
    assert read(traffic(latency_s=lambda day, place: usual(place)), rule).state == "quiet"


def test_what_a_day_costs_is_held_against_the_same_weekday_and_a_budget_against_itself():
    """Sundays cost a tenth: the day before the window is no measure for it. A total needs no bound."""
    dear = traffic(cost_usd=lambda day, place: 0.03 if day == 28 else 0.001 if day == 27 else 0.01)
    reading = read(dear, {"metric": "cost_usd", "over": "2x", "window": "1d"})
    assert (reading.state, reading.value, reading.limit) == ("ALERT", pytest.approx(12), pytest.approx(8))
    budgets = {"metric": "cost_usd", "budget_usd": {"chat": 5.0, "search": 50.0}, "window": "1d"}
    named = traffic(service=lambda day, place: "chat" if place % 2 else "search", cost_usd=0.03)
    found = ll.Watch(policy=rules(budgets)).report(named, now=NOW).readings
    assert {one.metric: one.state for one in found} == {"cost_usd of chat": "ALERT", "cost_usd of search": "quiet"}


def test_another_model_is_an_alert_under_the_same_bundle_alone():
    """A release brings its own model; a stand-in of a fallback is no update."""
    rule = {"metric": "served_model", "changed": True}
    changed = {"served_model": on_the_last_day("m-2", "m-1")}
    assert read(traffic(**changed), rule).state == "ALERT"
    assert read(traffic(**changed, bundle=on_the_last_day("b2", "b1")), rule).state == "quiet"
    assert read(traffic(**changed, fallback=on_the_last_day(1.0, 0.0)), rule).state != "ALERT"


def test_the_age_of_an_index_is_a_fact():
    aged = traffic(**{"signals.index_lag_days": lambda day, place: day - 18})
    reading = read(aged, {"metric": "index_lag_days", "above": 7.0})
    assert (reading.state, reading.value, reading.since) == ("ALERT", 10.0, START + timedelta(days=26))


def test_a_small_service_gets_a_longer_window():
    """400 a day are 17 an hour: eight of them hold a hundred."""
    reading = read(traffic(), {"metric": "error_rate", "above": 0.01})
    assert (reading.state, reading.window) == ("quiet", "8 hours")


ERRORS, UNHAPPY = {"metric": "error_rate", "above": 0.01}, {"metric": "negative_signals", "over": "2x"}


@pytest.mark.parametrize(
    ("rule", "columns", "days_later", "policy"),
    [
        (ERRORS, {}, 0, {"at_least": 1000}),
        ({"metric": "quality", "worse_by": "5%"}, {}, 0, {}),
        (UNHAPPY, {}, 0, {}),
        (UNHAPPY, {"signals.thumbs": float("nan")}, 0, {}),
        (ERRORS, {}, 3, {}),
    ],
)
def test_too_little_data_is_no_pass(rule, columns, days_later, policy):
    """Neither a few requests, nor what nobody records (no column, or an empty one), nor a service that went silent."""
    watched = ll.Watch(policy=rules(rule, **policy))
    report = watched.report(traffic(**columns), now=NOW + timedelta(days=days_later))
    assert report.exit_code == 3
    with pytest.raises(GateError):
        report.require("pass")


def test_usual_rules_leave_out_what_nobody_records_and_say_so():
    found = ll.Watch(policy=ll.watch.WatchPolicy(drift=())).report(traffic(), now=NOW)
    assert found.exit_code == 0
    assert "quality" not in {one.metric for one in found.readings}
    assert any("quality" in note for note in found.notes)


@pytest.mark.parametrize(
    ("metric", "level", "rule", "state"),
    [
        ("signals.toxicity", 0.525, {"above": 0.2}, "ALERT"),
        ("signals.toxicity", 0.02, {"above": 0.2}, "quiet"),
        ("signals.toxicity", 0.525, {"over": "2x"}, "ALERT"),
        ("signals.toxicity", 0.02, {"over": "2x"}, "quiet"),
        ("signals.toxicity", 0.525, {"worse_by": 0.1, "higher_is_better": False}, "ALERT"),
        ("signals.toxicity", 0.525, {"worse_by": 0.1}, "quiet"),
        ("signals.toxicity", 0.02, {"worse_by": 0.1}, "ALERT"),
        ("signals.personal", 0.525, {"worse_by": 0.1}, "ALERT"),  # known as bad: more of it is worse
        ("quality", 0.95, {"above": 0.9}, "ALERT"),  # what was asked for
    ],
)
def test_above_and_over_mean_upward_whatever_is_better(metric, level, rule, state):
    """Of a signal that was .2 before; which way is worse is asked by `worse_by` alone."""
    column = f"signals.{metric.removeprefix('signals.')}"
    traces = traffic(**{column: lambda day, place: (level if day == 28 else 0.2) + 0.001 * (place % 3)})
    assert read(traces, {"metric": metric, **rule}).state == state


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rules:\n  - {metric: error_rate}\n", 2),
        ("rules:\n  - {metric: error_rate, above: 0.01, over: 2x}\n", 2),
        ("rules:\n  - {metric: latency_s, over: twice}\n", 2),
        ("rules:\n  - {metric: latency_s, over: 0x}\n", 2),
        ("rules:\n  - {metric: error_rate, above: 5}\n", 2),
        ("rules:\n  - {metric: injection_markers, worse_by: 2}\n", 2),
        ("rules:\n  - {metric: eror_rate, above: 0.01}\n", 2),
        ("rules:\n  - {metric: signals., above: 0.01}\n", 2),
        ("rules:\n  - {metric: served_model, above: 7}\n", 2),
        ("rules:\n  - {metric: signals.toxicity, above: 0.2, higher_is_better: true}\n", 2),
        ("rules:\n  - {metric: error_rate, above: 0.01, runbook: no-such-page.md}\n", None),
        ("runbooks: nowhere\n", None),
        ("reference: {days: 3}\n", 1),
        ("drift: [vibes]\n", 1),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, line):
    path = tmp_path / "watch.yaml"
    path.write_text(text if "runbooks" in text else f"{text}runbooks: {PAGES}\n")
    with pytest.raises(FileRuleError) as refused:
        ll.Watch.load(path)
    assert line is None or refused.value.line == line


def test_an_empty_file_of_rules_is_the_usual_ones(tmp_path):
    path = tmp_path / "watch.yaml"
    path.write_text(f"runbooks: {PAGES}\n")
    policy = ll.Watch.load(path).policy
    assert {"quality", "error_rate", "served_model"} <= {rule.metric for rule in policy.watched}
    assert policy.to_yaml() == f"runbooks: {PAGES}\n"


def test_the_usual_runbooks_come_with_llmlab_where_none_lie_beside(tmp_path):
    """Their folder is told; a folder of one's own beside, or named, has to have every page."""
    path = tmp_path / "support" / "watch.yaml"
    path.parent.mkdir()
    path.write_text("{}\n")
    assert Path(ll.Watch.load(path).policy.runbooks).samefile(PAGES)
    (tmp_path / "runbooks").mkdir()
    with pytest.raises(FileRuleError, match=r"runbook .*\.md is not in"):
        ll.Watch.load(path)
