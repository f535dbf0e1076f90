"""What goes wrong is found and named, each by its own signal; a quiet week is quiet. The traffic is in `incidents`."""

from datetime import timedelta

import numpy as np
import pytest

import llmlab as ll
from tests.watch.incidents import GOLDEN, INCIDENTS, START, end_of, made, quiet

WATCH = ll.Watch(policy=ll.watch.WatchPolicy(), golden=ll.GoldenSet.load(GOLDEN))
USERS_A_DAY = 700
NAMED = {  # incident -> the metric that must alert, and the page
    "silent_update_with_a_changed_served_model": ("served_model", "silent-model-update.md"),
    "silent_update_without_a_changed_served_model": ("answer_words drift", "silent-model-update.md"),
    "outage": ("error_rate", "provider-outage.md"),
    "cost_spike_by_long_inputs": ("cost_usd", "cost-spike.md"),
    "refusal_spike": ("refusal_rate", "quality-drop.md"),
    "stale_index": ("retrieval_score drift", "stale-index.md"),
    "stale_index_that_says_its_age": ("index_lag_days", "stale-index.md"),
    "new_topic": ("new_topic drift", "new-topic.md"),
    "injection_wave": ("injection_markers", "prompt-injection.md"),
}
BEGAN_HOURS_AGO = {"outage": 1.5, "refusal_spike": 10, "injection_wave": 6, "stale_index_that_says_its_age": 120}


@pytest.fixture(scope="module")
def month():
    """A quiet month, to which incidents are added."""
    return quiet(seed=2, users_a_day=USERS_A_DAY)


def report(frame, name, *, seed=2):
    rng = np.random.default_rng([seed, list(INCIDENTS).index(name)])
    return WATCH.report(made(INCIDENTS[name](frame, rng)), now=end_of())


def test_every_incident_has_its_name():
    assert list(NAMED) == list(INCIDENTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", INCIDENTS)
def test_a_planted_incident_is_found_and_named(month, name):
    """By its own metric, with the page that says what to do, and since about when it began."""
    watched = report(month, name)
    metric, page = NAMED[name]
    alert = next((alert for alert in watched.alerts if alert.metric == metric), None)
    assert alert is not None, watched
    assert (alert.runbook, watched.exit_code) == (page, 1)
    if name in BEGAN_HOURS_AGO:
        assert abs((end_of() - alert.since) / timedelta(hours=1) - BEGAN_HOURS_AGO[name]) < 1


def test_a_quiet_day_is_quiet(month):
    watched = WATCH.report(made(month), now=end_of())
    assert (watched.alerts, watched.exit_code) == ((), 0), watched


def alerts_of_a_week(*, seed, users_a_day, step_hours):
    """What alerted in a quiet week, looked at every so many hours."""
    traces = made(quiet(seed=seed, days=35, users_a_day=users_a_day))
    looks = [START + timedelta(days=28, hours=hour) for hour in range(step_hours, 169, step_hours)]
    return [alert.metric for now in looks for alert in WATCH.report(traces, now=now).alerts]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("n", "users_a_day", "step_hours", "most"),
    [pytest.param(3, 120, 12, 0, marks=pytest.mark.slow), pytest.param(200, 250, 6, 10, marks=pytest.mark.nightly)],
)
def test_at_most_one_of_twenty_quiet_weeks_alerts(n, users_a_day, step_hours, most):
    """Weeks with several requests per user, looked at every few hours, the whole report counted."""
    weeks = [alerts_of_a_week(seed=seed, users_a_day=users_a_day, step_hours=step_hours) for seed in range(n)]
    assert sum(bool(week) for week in weeks) <= most


@pytest.mark.nightly
@pytest.mark.parametrize("name", INCIDENTS)
def test_incidents_are_found_whatever_the_traffic(name):
    """In at least nine of ten months, at another size of the service."""
    months = [report(quiet(seed=seed), name, seed=seed).alerts for seed in range(10)]
    assert sum(NAMED[name][0] in [alert.metric for alert in alerts] for alerts in months) >= 9
