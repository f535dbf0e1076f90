"""Traffic of a rollout with a known truth: people who return, a weekly cycle, days that differ."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from llmlab.production.policy import RolloutPolicy

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
WEEK = np.array([1.15, 1.2, 1.2, 1.15, 1.1, 0.6, 0.6])  # traffic by weekday
DIGESTS = {"baseline": "b" * 64, "candidate": "c" * 64}
GUARDS = (
    {"metric": "error_rate", "margin": 0.01},
    {"metric": "cost_usd", "rule": "no_shown_harm", "margin": "10%"},
    {"metric": "latency_s", "quantile": 0.99, "over": "2x", "margin": 0.01},
    {"metric": "negative_signals", "rule": "no_shown_harm"},
)


def policy(**changes):
    """The rules that most tests decide by."""
    given = {"name": "r1", "baseline": "v1.yaml", "candidate": "v2.yaml", "guards": GUARDS, "planned_units": 6000}
    return RolloutPolicy.model_validate({**given, **changes})


def traffic(
    *,
    seed,
    days=30,
    units_a_day=600,
    returning=0.4,
    errors=(0.01, 0.01),
    per_day=lambda day: 1.0,
    enrolled=None,
    rollout="r1",
):
    """One row per request. `units_a_day` in both arms; `errors` per arm; `per_day` multiplies the errors of a day.

    A unit errs and pays as it does always (their requests are alike), and `enrolled` is the share of a day's units.
    """
    rng = np.random.default_rng(seed)
    new_per_day = [
        rng.poisson(units_a_day * (1 - returning) * WEEK[d % 7] * (enrolled(d) if enrolled else 1)) for d in range(days)
    ]
    first_day = np.repeat(np.arange(days), new_per_day)
    n, so_far = len(first_day), np.cumsum(new_per_day)
    came_back = [
        rng.integers(0, so_far[d - 1], int(new_per_day[d] * returning / (1 - returning)))
        for d in range(1, days)
        if so_far[d - 1]
    ]
    visits = np.concatenate([np.arange(n), *came_back])
    day = np.concatenate([first_day, *(np.full(len(c), d + 1) for d, c in enumerate(came_back))])
    requests = 1 + rng.poisson(0.6, len(visits))
    unit, day = np.repeat(visits, requests), np.repeat(day, requests)
    candidate = (rng.random(n) < 0.5)[unit]
    proneness, dearness = rng.gamma(2, 0.5, n)[unit], rng.lognormal(0, 0.5, n)[unit]
    rate = np.where(candidate, errors[1], errors[0]) * proneness * np.array([per_day(d) for d in range(days)])[day]
    thumbs = np.where(rng.random(len(unit)) < 0.04, (rng.random(len(unit)) < 0.6).astype(float), np.nan)
    failed = rng.random(len(unit)) < rate
    frame = pd.DataFrame(
        {
            "request_id": np.char.add("q", np.arange(len(unit)).astype(str)),
            "time": pd.Timestamp(START) + pd.to_timedelta(day * 86_400 + rng.uniform(0, 86_400, len(unit)), unit="s"),
            "unit_id": np.char.add("u", unit.astype(str)),
            "rollout": rollout,
            "arm": np.where(candidate, "candidate", "baseline"),
            "bundle": np.where(candidate, DIGESTS["candidate"], DIGESTS["baseline"]),
            "status": np.where(failed, "error", "ok"),
            "latency_s": rng.lognormal(0, 0.6, len(unit)) * dearness**0.3,
            "cost_usd": 0.002 * dearness * rng.lognormal(0, 0.3, len(unit)),
            "signals.thumbs": thumbs,
        }
    )
    return frame.sort_values("time", ignore_index=True)


def on_day(day):
    """The moment at which so many days have passed."""
    return START + timedelta(days=day)
