"""SHIP, REVERT, KEEP_GOING, INVALID: when each is said, on what, and how often wrongly."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError, GateError
from llmlab.base.numbers import Interval
from llmlab.gate.decision import Receipt
from llmlab.production import RolloutReceipt
from llmlab.production.rollout import decide
from llmlab.stats.sequential import difference_sequence, ratio_sequence
from tests.production.made import DIGESTS, GUARDS, START, on_day, policy, traffic
from tests.production.test_rollout import V1, V2

ERRORS, COST, SLOW, UNHAPPY = GUARDS
RAMP = {"per_day": lambda day: 3 - min(day, 8) / 4, "enrolled": lambda day: 0.1 if day < 3 else 1.0}
FROZEN = Path(__file__).parents[1] / "frozen"


def decided(frame, *, day=12, **changes):
    return decide(policy(**changes), frame, digests=DIGESTS, now=on_day(day))


def first_action(frame, *, stop, days=30, **changes):
    """The first action among `stop` at daily looks, and its day; None and one day more where there is none."""
    for day in range(1, days + 1):
        decision = decided(frame[frame["time"] < pd.Timestamp(on_day(day))], day=day, **changes)
        if decision.action in stop:
            return decision.action, day
    return None, days + 1


def written_out(frame, values, planned):
    """The difference of two ratios with its sequence, by the formulas of the papers and nothing of ours."""
    arms = []
    for arm in ("baseline", "candidate"):
        rows = frame["arm"] == arm
        sums = values[rows].groupby(frame["unit_id"][rows]).agg(["sum", "count"])
        x, y = (np.append(sums[c].to_numpy(float), more) for c, more in (("sum", [0, 1]), ("count", [1, 1])))
        ratio = x.sum() / y.sum()
        arms.append((ratio, np.var((x - ratio * y) / y.mean(), ddof=1) / len(x), len(x)))
    (b, v_b, n_b), (c, v_c, n_c) = arms
    alpha, n = 0.05, n_b + n_c
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned
    half = math.sqrt((v_b + v_c) * 2 * (n * rho2 + 1) / (n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))
    return c - b - half, c - b + half


def test_an_error_rate_is_a_ratio_over_units_read_at_any_look():
    """The interval equals the written formulas, with one success and one failure more in each arm."""
    frame = traffic(seed=3, days=10)
    reading = decided(frame, guards=[ERRORS]).readings[0]
    failed = frame["status"].eq("error")
    assert reading.difference[1:] == pytest.approx(written_out(frame, failed.astype(float), 6000), rel=1e-9)
    assert reading.baseline == pytest.approx(failed[frame["arm"] == "baseline"].mean())
    assert reading.n_units == tuple(frame.groupby("arm")["unit_id"].nunique())


def test_a_rollout_whose_candidate_was_promoted_says_how_it_is_read_again():
    """The alias of its baseline is the candidate by then."""
    digests = dict.fromkeys(DIGESTS, DIGESTS["candidate"])
    decision = decide(policy(), traffic(seed=3, days=3), digests=digests, now=on_day(3))
    assert decision.action == "INVALID"
    assert "as once the candidate is promoted; name the file of what served as `baseline`" in decision.sentence
    nobody = decide(policy(), traffic(seed=3, days=3, rollout="other"), digests=DIGESTS, now=on_day(3))
    assert nobody.sentence.endswith("see whether the recorder writes it.")


def test_the_interval_of_a_share_of_the_baseline_ends_where_the_difference_is_no_longer_rejected():
    """At either end, candidate - (1 + change) baseline has an interval that touches 0."""
    rng = np.random.default_rng(1)
    baseline, candidate = rng.gamma(2, 1, 800), rng.gamma(2.1, 1, 900)
    value, *ends = ratio_sequence(baseline, candidate, planned_units=2000)
    assert value == pytest.approx(candidate.mean() / baseline.mean() - 1)
    for change in ends:
        sequence = difference_sequence((1 + change) * baseline, candidate, planned_units=2000)
        assert min(abs(sequence.low), abs(sequence.high)) < 1e-9
    assert ratio_sequence([0.0] * 100, candidate, planned_units=2000) is None
    assert ratio_sequence(baseline[:20], candidate, planned_units=2000) is None


def test_a_percentile_is_the_share_of_requests_beyond_a_multiple_of_the_baselines():
    """Twice as slow from p90 on: 10% of the baseline's requests lie beyond its p90, and many more of the other's."""
    frame = traffic(seed=4, days=10)
    slow = frame["arm"] == "candidate"
    frame.loc[slow, "latency_s"] *= 2
    guard = {"metric": "latency_s", "quantile": 0.9, "over": "1x", "margin": 0.02}
    reading = decided(frame, guards=[guard]).readings[0]
    bound = np.quantile(frame.loc[~slow, "latency_s"], 0.9)
    assert reading.threshold == pytest.approx(bound)
    assert reading.candidate == pytest.approx((frame.loc[slow, "latency_s"] > bound).mean())
    assert reading.reverts


def test_ship_wants_every_margin_ruled_out_and_no_shown_harm_only_counts_at_the_plans_end():
    """Not a day before `at_least_days`, not a unit before `planned_units`."""
    frame, guards = traffic(seed=5), [{**ERRORS, "margin": 0.02}, UNHAPPY]
    early = decided(frame, guards=guards, day=6, planned_units=1000)
    assert early.action == "KEEP_GOING"
    assert [reading.holds for reading in early.readings] == [True, False]
    assert early.days_more == pytest.approx(1.0, abs=0.01)
    assert decided(frame, guards=guards, day=7.01, planned_units=1000).action == "SHIP"
    assert decided(frame, guards=guards, day=7.01, planned_units=100_000).action == "KEEP_GOING"
    assert decided(frame, guards=guards[:1], day=6, planned_units=1000).action == "SHIP"


def test_revert_wants_harm_above_zero_and_its_margin_not_ruled_out():
    """A harm that is shown and smaller than what is tolerated ships."""
    frame = traffic(seed=6, errors=(0.01, 0.03))
    assert decided(frame, guards=[ERRORS], day=20).action == "REVERT"
    tolerated = decided(frame, guards=[{**ERRORS, "margin": 0.05}], day=20)
    assert tolerated.readings[0].harm
    assert tolerated.action == "SHIP"
    better = decided(traffic(seed=6, errors=(0.03, 0.01)), guards=[ERRORS], day=20)
    assert better.action == "SHIP"
    assert not better.readings[0].harm


def test_p_values_count_every_outcome():
    """Bonferroni: the same outcome among four is four times as likely to be chance."""
    frame = traffic(seed=7, errors=(0.01, 0.02))
    alone, among = (decided(frame, guards=guards, day=6).readings[0].p_value for guards in ([ERRORS], GUARDS))
    assert among == pytest.approx(4 * alone)


def test_a_superior_goal_must_be_shown():
    """Fewer errors by .5 points: proved at last, and never by the absence of harm."""
    goal = {"metric": "error_rate", "rule": "superior", "min_effect": 0.005}
    assert decided(traffic(seed=8, errors=(0.03, 0.01)), guards=[], goal=goal, day=30).action == "SHIP"
    same = decided(traffic(seed=8), guards=[], goal=goal, day=30)
    assert same.action == "KEEP_GOING"
    assert same.readings[0].reading == "not shown to be better"


@pytest.mark.parametrize(("signal", "baseline", "candidate"), [("conversion", 0.3, 0.1), ("personal", 0.02, 0.2)])
def test_what_is_better_for_a_signal_is_known_or_said_in_the_file(signal, baseline, candidate):
    """Fewer conversions are harm, and more personal data is; where the file says the opposite, neither."""
    frame, name = traffic(seed=9), f"signals.{signal}"
    share = np.where(frame["arm"] == "candidate", candidate, baseline)
    frame[name] = (np.random.default_rng(9).random(len(frame)) < share).astype(float)
    guard = {"metric": name, "rule": "no_shown_harm"}
    assert decided(frame, guards=[guard]).action == "REVERT"
    assert decided(frame, guards=[{**guard, "higher_is_better": candidate > baseline}]).action != "REVERT"


@pytest.mark.parametrize(
    ("lost", "ships"), [((0.0, 0.87), False), ((0.08, 0.08), False), ((0.0, 0.03), False), ((0.02, 0.02), True)]
)
@pytest.mark.parametrize("end", ["keep_baseline", "ship_if_no_harm"])
def test_what_is_missing_lets_nothing_through(lost, ships, end):
    """More than 5% of an arm's latencies, or another share than the other arm's: the slow ones may be those."""
    frame = traffic(seed=22)
    share = np.where(frame["arm"] == "candidate", lost[1], lost[0])
    frame.loc[np.random.default_rng(22).random(len(frame)) < share, "latency_s"] = np.nan
    decision = decided(frame, guards=[{**SLOW, "margin": 0.03}], day=30, at_end=end)
    assert decision.action == ("SHIP" if ships else "KEEP_GOING")
    assert any("latency_s" in note and "candidate's" in note for note in decision.notes) != ships
    assert ships or decision.days_more is None


def test_harm_that_is_shown_reverts_whatever_is_missing():
    frame = traffic(seed=23)
    frame.loc[frame["arm"] == "candidate", "cost_usd"] *= 2
    frame.loc[np.arange(len(frame)) % 5 == 0, "cost_usd"] = np.nan
    assert decided(frame, guards=[COST], day=20).action == "REVERT"


def test_a_request_that_failed_need_not_say_what_it_cost():
    """And a signal is seldom there, as often in either arm."""
    frame = traffic(seed=24, errors=(0.1, 0.1))
    frame.loc[frame["status"] == "error", "cost_usd"] = np.nan
    rare = np.random.default_rng(24).random(len(frame)) < 0.25
    frame["signals.right"] = np.where(rare, 0.8 + 0.1 * np.random.default_rng(25).random(len(frame)), np.nan)
    guards = [{**COST, "margin": "30%"}, {"metric": "signals.right", "margin": 0.05}]
    assert decided(frame, guards=guards, day=20).action == "SHIP"


@pytest.mark.parametrize("per", ["request", "unit"])
@pytest.mark.parametrize("recorded", [False, True])
def test_feedback_that_nobody_records_ships_nothing(per, recorded):
    """Neither without its columns, nor where another service alone has them."""
    frame = traffic(seed=26).drop(columns="signals.thumbs")
    if recorded:
        other = frame.head(50).assign(rollout="other", **{"signals.thumbs": 1.0})
        frame = pd.concat([frame, other], ignore_index=True)
    decision = decided(frame, guards=[{**UNHAPPY, "per": per}], day=30)
    assert (decision.action, decision.readings[0].baseline) == ("KEEP_GOING", None)


def test_what_is_the_same_for_every_unit_holds_only_where_the_arms_are_equal():
    """A price a request that doubles has no variance to be judged by, and is no absence of harm."""
    frame, guard = traffic(seed=27), {"metric": "cost_usd", "rule": "no_shown_harm"}
    flat = frame.assign(cost_usd=0.01)
    assert decided(flat, guards=[guard], day=30).action == "SHIP"
    flat.loc[flat["arm"] == "candidate", "cost_usd"] = 0.02
    assert decided(flat, guards=[guard], day=30).action != "SHIP"


@pytest.mark.parametrize(("errors", "least"), [((0.01, 0.03), 0.0), ((0.03, 0.025), 0.02)])
def test_nobody_can_tell_when_a_goal_holds_that_goes_the_wrong_way_or_not_far_enough(errors, least):
    goal = {"metric": "error_rate", "rule": "superior", "min_effect": least}
    decision = decided(traffic(seed=28, errors=errors), guards=[], goal=goal, day=3)
    assert decision.readings[0].days_more is None
    better = decided(traffic(seed=28, errors=(0.05, 0.01)), guards=[], goal=goal, day=1)
    assert better.action == "SHIP" or better.days_more is not None


def test_a_wait_counts_the_units_that_will_have_a_value():
    """Few give a thumb: of four rollouts without a difference at least half have ruled the margin out by then."""
    guards, held = [{"metric": "signals.thumbs", "margin": 0.1}], 0
    for seed in range(4):
        frame = traffic(seed=seed, days=50)
        days = 5 + decided(frame[frame["time"] < pd.Timestamp(on_day(5))], guards=guards, day=5).days_more
        until = frame[frame["time"] < pd.Timestamp(on_day(days))]
        held += decided(until, guards=guards, day=days).readings[0].holds
        assert 20 < days < 60
    assert held >= 2


def test_a_few_who_make_most_requests_are_told():
    """With Pareto's tail of 1.2 intervals are too narrow; with the usual traffic nothing is said."""
    rng = np.random.default_rng(29)
    frame = traffic(seed=29, days=10)
    heavy = frame.iloc[np.repeat(np.arange(600), np.ceil(rng.pareto(1.2, 600) + 1).astype(int))]
    assert any("few make most" in note for note in decided(heavy, day=10).notes)
    assert not any("few make most" in note for note in decided(frame, day=10).notes)


def test_nothing_ships_on_what_a_few_carry():
    """A script that asks all day makes intervals too narrow, so all that is asked may be shown by chance."""
    frame, cheap = traffic(seed=29, days=10), {"guards": [COST | {"margin": "50%", "rule": "non_inferior"}]}
    assert decided(frame, day=10, **cheap).action == "SHIP"
    script = frame[frame["arm"].eq("candidate")].head(1)
    heavy = pd.concat([frame, *[script] * 9000])
    decision = decided(heavy, day=10, **cheap)
    assert (decision.action, decision.days_more, decision.ended) == ("KEEP_GOING", None, False)
    assert "few make most of the requests" in decision.sentence
    assert all(reading.holds for reading in decision.readings)
    assert decided(heavy, day=10, overrides={"candidate": list(script["unit_id"])}, **cheap).action == "SHIP"


def test_an_outcome_per_unit_takes_what_was_not_seen_as_nothing():
    """Conversions per person, over everybody who is old enough for one."""
    frame = traffic(seed=10, days=6)
    frame["signals.conversion"] = np.where(np.arange(len(frame)) % 10 == 0, 1.0, np.nan)
    guard = {"metric": "signals.conversion", "per": "unit", "rule": "no_shown_harm", "maturity": "2 days"}
    reading = decided(frame, guards=[guard], day=6).readings[0]
    old = frame[frame["time"] <= pd.Timestamp(on_day(4))]
    per_unit = old.groupby(["arm", "unit_id"])["signals.conversion"].sum()
    assert reading.baseline == pytest.approx(per_unit["baseline"].mean())
    assert sum(reading.n_units) == len(per_unit)
    assert reading.young == frame["unit_id"].nunique() - len(per_unit)


def test_arms_without_an_error_are_no_reason_to_wait_for_ever():
    """None in 1,000 units each rules a margin of one point out; none in 60 does not."""
    frame = traffic(seed=11, errors=(0.0, 0.0))
    assert decided(frame, guards=[ERRORS], day=10).action == "SHIP"
    few = decided(frame[frame["unit_id"].isin(frame["unit_id"].unique()[:130])], guards=[ERRORS], day=10)
    assert few.action == "KEEP_GOING"
    assert few.readings[0].difference is not None


def test_too_few_units_say_nothing():
    """Below 50 per arm there is no interval, and the table has a dash."""
    decision = decided(traffic(seed=12, days=1, units_a_day=60), day=1)
    assert decision.action == "KEEP_GOING"
    assert all(reading.difference is None and "50 per arm" in reading.note for reading in decision.readings)
    assert "nan" not in str(decision).lower()


def test_an_uneven_split_is_invalid_whatever_it_shows():
    """A fifth of the candidate's units never reach the log."""
    frame = traffic(seed=13, days=12)
    lost = frame["unit_id"].str[-1].isin(["7", "8"]) & frame["arm"].eq("candidate")
    decision = decided(frame[~lost])
    assert decision.action == "INVALID"
    assert decision.split.blocks
    assert not decided(frame).split.blocks


@pytest.mark.parametrize(("crossed", "action"), [(2, "KEEP_GOING"), (40, "INVALID")])
def test_units_in_both_arms_are_dropped_and_counted(crossed, action):
    """More than 0.1% of them, and nothing may be concluded."""
    frame = traffic(seed=14, days=10)
    units = frame["unit_id"].value_counts().index[:crossed]  # those with most requests
    moved = frame["unit_id"].isin(units) & (np.arange(len(frame)) % 2 == 0)
    frame.loc[moved, "arm"] = np.where(frame.loc[moved, "arm"] == "baseline", "candidate", "baseline")
    decision = decided(frame, day=5)
    seen = frame[frame["time"] <= pd.Timestamp(on_day(5))].groupby("unit_id")["arm"].nunique()
    both = int((seen > 1).sum())
    assert decision.action == action
    assert sum(decision.n_units) == len(seen) - both
    assert f"{both} unit" in str(decision)


def test_who_is_not_analysed_is_counted():
    """Testers, requests of no unit, later ones; another rollout's and the unenrolled are none of ours."""
    frame = traffic(seed=15, days=8)
    whole = decided(frame, day=8)
    strangers = frame.head(50).assign(rollout="other", unit_id="x")
    unenrolled = frame.head(60).assign(arm="", unit_id="y")
    testers = frame.head(7).assign(unit_id="tester-1", arm="candidate", status="error")
    nobody = frame.head(9).assign(unit_id="", status="error")
    late = frame.head(11).assign(time=pd.Timestamp(on_day(99)))
    more = pd.concat([frame, strangers, unenrolled, testers, nobody, late])
    decision = decided(more, day=8, overrides={"candidate": ["tester-1"]})
    assert decision.readings == whole.readings
    counts = {"7 requests of testers", "9 requests of no unit", "11 requests dated later than the decision"}
    assert {f"{count} not analysed" for count in counts} == set(decision.notes) - set(whole.notes)


def test_a_request_from_before_the_start_is_not_of_the_rollout():
    """One wrong clock met `at_least_days` at once, and shipped."""
    frame, rules = traffic(seed=15, days=12), {"start": START.isoformat(), "at_least_days": 14, "guards": [ERRORS]}
    whole = decided(frame, **rules)
    wrong = frame.head(1).assign(request_id="wrong", time=pd.Timestamp(on_day(-30)))
    decision = decided(pd.concat([frame, wrong]), **rules)
    assert (decision.action, decision.readings, decision.days) == (whole.action, whole.readings, whole.days)
    assert set(decision.notes) - set(whole.notes) == {"1 request dated before the rollout's start not analysed"}


def test_an_old_request_does_not_stretch_a_rollout():
    """A wrong clock, or a request that was sent again: without a `start` one met `at_least_days` at once."""
    frame = traffic(seed=1, days=3)
    plain = decided(frame, day=3, planned_units=1000)
    old = frame.iloc[[0]].assign(time=pd.Timestamp("2020-01-01", tz="UTC"), request_id="old", unit_id="old")
    stretched = decided(pd.concat([old, frame], ignore_index=True), day=3, planned_units=1000)
    assert stretched.days == pytest.approx(plain.days, abs=0.1)
    assert (stretched.action, stretched.ended) == (plain.action, False)
    assert "days are counted from 2026-03-02 on, when 5 units of each arm had come" in "; ".join(stretched.notes)
    many = frame.iloc[:60].assign(time=lambda rows: rows["time"] - pd.Timedelta(days=900))
    replayed = decided(pd.concat([many, frame], ignore_index=True), day=3)
    assert "no request came for 900 of these 903 days: is a clock wrong" in "; ".join(replayed.notes)
    assert not [note for note in plain.notes if "clock" in note]


@pytest.mark.parametrize(("rates", "ships"), [((0.1, 0.1), True), ((0.02, 0.1), False)])
def test_who_leaves_is_no_error_of_an_arm(rates, ships):
    """Nobody failed; but where more leave one arm, which hides how it would have answered, nothing ships."""
    frame = traffic(seed=1, days=12)
    chance = np.where(frame["arm"] == "candidate", rates[1], rates[0])
    left = np.random.default_rng(0).random(len(frame)) < chance
    frame = frame.assign(
        status=frame["status"].mask(left, "error"),
        error_code=np.where(left, "CancelledError", ""),
        cost_usd=frame["cost_usd"].mask(left),
    )
    decision = decided(frame, guards=[COST], goal=ERRORS)
    rate = decision.readings[0]
    stayed = frame[~left & (frame["arm"] == "candidate")]
    assert rate.candidate == pytest.approx(stayed["status"].eq("error").mean())
    assert (rate.holds, bool(rate.gaps)) == (ships, not ships)
    told = f"{left.sum():,} requests cancelled before an answer"
    assert (told in "; ".join(decision.notes)) == ships
    assert all("cost" not in reading.gaps for reading in decision.readings)


def test_a_changed_bundle_under_the_same_name_is_invalid_and_a_fallback_is_not():
    """A fallback answers with the other arm's bundle, which is part of the arm's policy."""
    frame = traffic(seed=16, days=5)
    some = (np.arange(len(frame)) % 50 == 0) & frame["arm"].eq("candidate")
    frame.loc[some, "bundle"] = DIGESTS["baseline"]
    assert decided(frame, day=5).action == "KEEP_GOING"
    frame.loc[some, "bundle"] = "d" * 64
    decision = decided(frame, day=5)
    assert decision.action == "INVALID"
    assert "dddddddd" in decision.sentence


def test_a_candidate_that_hardly_ever_answered_itself_ships_nothing():
    """Its endpoint is down, and the fallback does well."""
    frame = traffic(seed=16, days=30)
    frame.loc[frame["arm"].eq("candidate"), "bundle"] = DIGESTS["baseline"]
    decision = decided(frame)
    assert decision.action == "INVALID"
    assert "other arm's bundle" in decision.sentence


def test_no_request_of_the_rollout_is_invalid():
    """A recorder that does not write the rollout is no reason to wait."""
    decision = decided(traffic(seed=17, days=2).assign(rollout="another"))
    assert decision.action == "INVALID"
    assert decision.exit_code == 2


@pytest.mark.parametrize("column", ["time", "unit_id", "arm", "rollout"])
def test_traces_that_do_not_say_who_when_or_which_arm_are_refused(column):
    """With the column that is missing."""
    with pytest.raises(DataError, match=column):
        decided(traffic(seed=1, days=1).drop(columns=column))


def test_silence_and_the_share_of_answers_with_feedback_stand_beside_the_verdict():
    """A recorder that stopped three days ago is told; complaints are read with how many replied at all."""
    frame = traffic(seed=1, days=5)
    silent, replies = decided(frame, day=8).notes
    assert silent.startswith("the last request came 3 days ago")
    shares = frame["signals.thumbs"].notna().groupby(frame["arm"]).mean()
    assert all(f"{shares[arm]:.1%} in the {arm}" in replies for arm in DIGESTS)
    assert decided(frame, day=5, guards=[ERRORS]).notes == ()


@pytest.mark.parametrize(
    ("at_end", "errors", "action"),
    [
        ("keep_baseline", (0.01, 0.01), "KEEP_GOING"),
        ("ship_if_no_harm", (0.01, 0.01), "SHIP"),
        ("ship_if_no_harm", (0.01, 0.04), "REVERT"),
    ],
)
def test_the_file_says_what_happens_at_the_plans_end(at_end, errors, action):
    """A margin that these units cannot rule out: kept, or shipped where no harm was shown."""
    frame = traffic(seed=18, errors=errors)
    guard = {**ERRORS, "margin": 0.0001}
    decision = decided(frame, guards=[guard], day=20, planned_units=5000, at_end=at_end)
    assert decision.action == action
    assert decision.ended == (action != "REVERT")
    assert "plan has ended" in decision.sentence or action == "REVERT"


def test_an_action_is_a_verdict_with_an_exit_code():
    """SHIP passes `require`, everything else raises with the decision."""
    shipped = decided(traffic(seed=5), guards=[ERRORS])
    assert (shipped.verdict, shipped.exit_code, shipped.require("pass")) == ("PASS", 0, shipped)
    reverted = decided(traffic(seed=6, errors=(0.01, 0.04)), guards=[ERRORS])
    for part in ("users of r1", "error_rate went from", "Take the candidate back now"):
        assert part in reverted.paragraph  # for somebody who reads no table
    waiting = decided(traffic(seed=6), day=1)
    assert (reverted.exit_code, waiting.exit_code) == (1, 3)
    with pytest.raises(GateError) as refused:
        waiting.require("pass")
    assert refused.value.decision is waiting
    assert waiting.require("none") is waiting


def test_a_receipt_is_read_back_confirmed_and_not_changed(tmp_path):
    """The same decision made again, of the same moment, agrees in every number; an edited file is refused."""
    frame = traffic(seed=19, errors=(0.01, 0.02))
    receipt = decided(frame).receipt()
    path = receipt.save(tmp_path / "receipt.json")
    back = RolloutReceipt.load(path)
    assert back == receipt
    again = decide(policy(), frame, digests=DIGESTS, now=back.moment())
    assert back.differences(again) == ()
    assert "readings" in back.differences(decided(frame.iloc[::2]))
    path.write_text(path.read_text().replace('"n_requests": ', '"n_requests": 1'))
    with pytest.raises(FileRuleError):
        RolloutReceipt.load(path)


@pytest.mark.parametrize(("confidence", "column"), [(0.95, "gap [90%]"), (0.99, "gap [98%]")])
def test_the_gap_between_gate_and_production_has_an_interval(confidence, column):
    """On the metric that both have: much better offline, no better in production; the far ends of both."""
    receipt = Receipt.load(FROZEN / "receipt-pass.json")
    right = next(c for c in receipt.conditions if c.metric == "right")
    frame = traffic(seed=20)
    frame["signals.right"] = (np.random.default_rng(20).random(len(frame)) < 0.5).astype(float)
    guard = {"metric": "signals.right", "margin": 0.1}
    digests = {**DIGESTS, "candidate": receipt.bundle_digest}
    frame["bundle"] = frame["arm"].map(digests)
    decision = decide(policy(guards=[guard, ERRORS], confidence=confidence), frame, digests=digests, now=on_day(20))
    (row,) = decision.gap(receipt).rows
    produced, half = decision.readings[0].difference, stats.t.ppf((1 + confidence) / 2, right.df) * right.se
    expected = Interval(produced[0] - right.value, produced[1] - right.value - half, produced[2] - right.value + half)
    assert (row["metric"], row[column], row["means"]) == ("signals.right", str(expected), "they differ")
    with pytest.raises(ValueError, match="is for the bundle"):
        decided(frame).gap(receipt)


@pytest.mark.parametrize(("given", "days"), [({}, 15), ({"errors": (0.02, 0.02), "days": 14, **RAMP}, 14)])
def test_equal_arms_are_not_reverted(given, days):
    """A small brother of the simulation below. In the ramp errors fall from 6% to 2% while the enrolled share grows.

    A control that is fixed meanwhile would show that as harm.
    """
    for seed in range(4):
        assert first_action(traffic(seed=seed, **given), stop=("REVERT", "INVALID"), days=days) == (None, days + 1)


def test_doubled_errors_are_found():
    days = [first_action(traffic(seed=seed, errors=(0.01, 0.03)), stop=("REVERT",), days=15)[1] for seed in range(5)]
    assert np.median(days) <= 6


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("what", "trials", "given"),
    [
        ("equal", 300, {}),
        ("1% to 2%", 100, {"errors": (0.01, 0.02)}),
        ("1% to 3%", 100, {"errors": (0.01, 0.03)}),
        ("a ramp with a day effect", 200, RAMP),
    ],
)
def test_how_often_and_when_a_rollout_is_reverted(what, trials, given):
    """600 units a day, 40% returning, a weekly cycle, four guards, 30 daily looks."""
    days = np.array([first_action(traffic(seed=seed, **given), stop=("REVERT",))[1] for seed in range(trials)])
    share = (days <= 30).mean()
    print(f"{what}: {share:.1%} reverted in 30 days, median day {np.median(days):g}, 90% by {np.quantile(days, 0.9):g}")
    if what == "1% to 2%":
        assert np.median(days) <= 14
    elif what == "1% to 3%":
        assert np.median(days) <= 6
    else:
        assert share <= 0.05


def test_torn_doubled_and_late_lines_change_nothing_but_the_notes(tmp_path):
    """Half a line, lines that came twice, lines in the wrong order: counted, and the decision is the same."""
    frame = traffic(seed=21, days=8).drop(columns="signals.thumbs")
    frame["bundle"] = frame["arm"].map({"baseline": V1.digest, "candidate": V2.digest})
    lines = [json.dumps({**row, "time": row["time"].isoformat()}) for row in frame.to_dict("records")]
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    whole.write_text("\n".join(lines))
    shuffled = [*lines[2000:], *lines[:2000], *lines[:30]]
    torn.write_text("\n".join([*shuffled[:500], lines[7][:40], *shuffled[500:]]) + '\n{"request_id": "q')
    rollout = ll.Rollout(policy=policy(guards=[ERRORS, COST, SLOW]), baseline=V1, candidate=V2)
    good, bad = (rollout.decide(ll.Traces.load(path), now=on_day(8)) for path in (whole, torn))
    assert bad.readings == good.readings
    assert good.notes == ()
    assert "torn line, or no JSON object: 2" in bad.notes[-1]
    assert "came twice, the last one kept: 30" in bad.notes[-1]
