"""`run` and `dry_run` as a user calls them: interrupted, killed, out of money, out of disk, inside a running loop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import llmlab as ll
from llmlab.base.errors import BudgetError, RequestRefusedError, RunFailedError, StoreError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Request
from llmlab.clients.call_store import CallStore
from llmlab.clients.fake import FakeClient
from llmlab.clients.openai import OpenAIClient
from llmlab.engine.progress import Progress
from llmlab.golden.cases import Case
from llmlab.results.results import Results
from llmlab.scorers import scorer
from tests.engine.test_plan import SingleSlot
from tests.experiment_jobs import BUNDLE, client, golden
from tests.loopback import Loopback

ROOT = Path(__file__).parents[2]
STOPS_WITHIN_S = 10.0  # five are promised; a busy machine gets as much again


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


@contextmanager
def job(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One of `experiment_jobs` in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-m", "tests.experiment_jobs", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def until(condition: Any, what: str) -> None:
    """Wait for something that another process does."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


def test_copies_are_not_asked_for_and_a_case_counts_once_however_often_it_was_asked(
    store: Path, tmp_path: Path
) -> None:
    variants = ll.grid(BUNDLE, temperature=[0.0, 0.8])
    one: dict[str, Any] = {"repeats": 3, "client": SingleSlot("yes"), "store": store}
    assert ll.dry_run(variants, golden(4), **one).calls == (4, 12)
    for part in ("1/2", "2/2"):
        kept: dict[str, Any] = {"shard": part, "out": tmp_path / "out", "progress": False}
        ll.run(variants, golden(4), scorers=[ll.scorers.not_empty], **kept, **one)
    assert ll.dry_run(variants, golden(4), **one).stored == (4, 12)
    table = Results.load(tmp_path / "out").require_complete().table("not_empty")
    assert table.attempted.tolist() == [[1, 3]] * 4
    assert table.values.tolist() == [[1.0, 1.0]] * 4


def test_a_run_tells_that_it_waits_for_a_rate_limit(loopback: Loopback, store: Path) -> None:
    loopback.set(script=["429"] * 4, retry_after="1")
    asked, seen = OpenAIClient(loopback.base_url, api_key_env=None), list[float]()
    ll.run(BUNDLE, golden(4), client=asked, store=store, progress=lambda progress: seen.append(progress.waits_s))
    assert 0 < max(seen) <= 1
    assert seen[-1] == 0


class Interrupted:
    """Answers some calls; then the user presses Ctrl+C, and the next call hangs."""

    fingerprint = "fake"

    def __init__(self, answers: int) -> None:
        self.left = answers

    async def complete(self, request: Request) -> Generation:
        self.left -= 1
        if self.left == -1:  # once, however many calls are in flight
            os.kill(os.getpid(), signal.SIGINT)
        if self.left < 0:
            await asyncio.sleep(3600)
        return Generation(text="yes")


def same(case: Case, generation: Generation) -> bool:
    """A plain function is a scorer."""
    return generation.text == f"echo: {case.inputs['question']}"


def test_answers_are_scored_by_plain_functions_and_by_async_ones(loopback: Loopback, store: Path) -> None:
    @scorer(low=0, high=10)
    async def later(case: Case, generation: Generation) -> float:
        await asyncio.sleep(0)
        return len(case.id)

    results = ll.run(BUNDLE, golden(12), client=client(loopback.base_url), store=store, scorers=[same, later])
    assert results.state == "complete"
    assert results.frame["same"].tolist() == [1.0] * 12
    assert sorted(results.frame["later"]) == [2.0] * 10 + [3.0] * 2


def test_a_second_run_gives_the_same_answers_and_pays_nothing(loopback: Loopback, store: Path) -> None:
    """FAULTS 69: also by the same client object."""
    one = client(loopback.base_url)
    first, second = (ll.run(BUNDLE, golden(20), client=one, store=store, scorers=[same]) for _ in "12")
    assert loopback.stats()["requests"] == 20
    assert second.frame["cached"].all()
    compared = [name for name in first.frame.columns if name != "cached"]
    assert first.frame[compared].equals(second.frame[compared])


def test_it_runs_inside_a_running_loop_and_leaves_it_alone(store: Path) -> None:
    """As in a notebook's cell, where asyncio already runs."""

    async def cell() -> tuple[Results, bool]:
        loop = asyncio.get_running_loop()
        results = ll.run(BUNDLE, golden(5), client=FakeClient("yes"), store=store, scorers=[same])
        await asyncio.sleep(0)
        return results, asyncio.get_running_loop() is loop

    results, alone = asyncio.run(cell())
    assert (results.complete, alone) == (True, True)


def test_an_interrupt_gives_partial_results_that_the_same_call_completes(store: Path) -> None:
    """FAULTS 2 and 68: a kernel's interrupt is a KeyboardInterrupt in the main thread."""
    partial = ll.run(BUNDLE, golden(40), client=Interrupted(20), store=store, concurrency=1, scorers=[same])
    assert (partial.complete, partial.state, len(partial.frame)) == (False, "partial", 20)
    assert "the same call goes on from here" in " ".join(partial.notes)
    again = ll.run(BUNDLE, golden(40), client=FakeClient("yes"), store=store, scorers=[same])
    assert again.complete
    assert again.frame["cached"].sum() == 20


def test_an_interrupt_while_scoring_keeps_the_answers(store: Path) -> None:
    @scorer
    def interrupting(case: Case, generation: Generation) -> bool:
        if case.id == "q3":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # the interrupt is there before the score
        return True

    results = ll.run(BUNDLE, golden(9), client=FakeClient("yes"), store=store, scorers=[interrupting])
    assert (len(results.frame), results.complete, dict(results.metrics)) == (9, False, {})
    assert "Scoring was interrupted" in " ".join(results.notes)


def test_an_interrupt_while_a_judge_is_awaited_ends_soon(store: Path) -> None:
    pressed = iter([signal.SIGINT])  # once, however many answers are scored

    @scorer
    async def hanging(case: Case, generation: Generation) -> bool:
        for number in pressed:
            os.kill(os.getpid(), number)
        await asyncio.sleep(3600)
        return True

    results = ll.run(BUNDLE, golden(3), client=FakeClient("yes"), store=store, scorers=[hanging])
    assert not results.complete


class Slow:
    """Answers the first question at once and never the others."""

    fingerprint = "slow"

    async def complete(self, request: Request) -> Generation:
        if "question 0" not in str(request.messages[-1]["content"]):
            await asyncio.sleep(3600)
        return Generation(text="yes")


def test_an_event_that_another_thread_sets_stops_a_run_and_keeps_what_arrived(store: Path) -> None:
    """The thread that runs it waits for the event; plain scorers still score what is there, async ones ask nothing."""
    stop, seen, asked = threading.Event(), list[int](), list[str]()

    def tell(progress: Progress) -> None:
        seen.append(progress.done)
        if progress.done:
            stop.set()

    @scorer(low=0, high=1)
    async def judged(case: Case, generation: Generation) -> float:
        asked.append(case.id)
        return 1.0

    options: dict[str, Any] = {"client": Slow(), "store": store, "progress": tell, "stop": stop}
    results = ll.run(BUNDLE, golden(3), scorers=[ll.scorers.not_refused], **options)
    assert not results.complete
    assert list(results.frame["case_id"]) == ["q0"]
    assert list(results.frame["not_refused"]) == [1.0]
    assert seen[-1] == 1
    with CallStore(store) as calls:
        assert len(calls) == 1
    again = ll.run(BUNDLE, golden(3).only(ids=["q0"]), scorers=[judged], **options)
    assert not asked
    assert "judged" not in again.frame
    assert "no scores" in again.notes[-1]


def test_ctrl_c_ends_a_script_with_what_there_is(loopback: Loopback, store: Path) -> None:
    """FAULTS 2, in a process of its own, with calls that hang."""
    loopback.set(script=["ok"] * 10 + ["hang"] * 100)
    with job("whole", loopback.base_url, store, 50) as process:
        until(lambda: loopback.stats()["requests"] >= 14, "four calls in flight")
        sent_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        found = result_of(process)
    assert time.monotonic() - sent_s < STOPS_WITHIN_S
    assert (found["rows"], found["ok"], found["complete"]) == (10, 10, False)


@pytest.mark.parametrize("kind", ["calls that hang", "an application that hangs"])
def test_sigterm_ends_the_process_with_143(loopback: Loopback, store: Path, kind: str) -> None:
    """FAULTS 3: within seconds, whatever hangs, and every answer that had arrived is kept."""
    loopback.set(script=["ok"] * 5 + ["hang"] * 100)
    calls = ("whole", loopback.base_url, store, 50)
    with job(*(calls if kind == "calls that hang" else ("hanging_app", store))) as process:
        until(lambda: loopback.stats()["requests"] >= 9 or Path(f"{store}.asked").exists(), "calls in flight")
        sent_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        assert time.monotonic() - sent_s < STOPS_WITHIN_S
    if kind == "calls that hang":
        loopback.set()
        results = ll.run(BUNDLE, golden(50), client=client(loopback.base_url), store=store)
        assert results.frame["cached"].sum() == 5


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_pay_little_twice(loopback: Loopback, tmp_path: Path) -> None:
    """FAULTS 1 and 14: kill -9 at random moments; each row once, totals as of a run that nobody killed."""
    n, kills, concurrency = 1_000, 50, 4
    loopback.set(log_bodies=False)
    with job("whole", loopback.base_url, tmp_path / "whole.sqlite", n, 64) as process:
        whole = result_of(process)
    loopback.set(latency_s=0.02, log_bodies=False)
    with job("killed", loopback.base_url, tmp_path / "killed.sqlite", n, kills) as process:
        resumed = result_of(process)
    requests = loopback.stats()["requests"]
    assert resumed["killed"] > kills / 2
    assert resumed["cached"] > 0
    assert requests - 2 - n <= concurrency * resumed["killed"]  # two for the job's warming up
    for total in ("rows", "different", "ok", "cost", "tokens", "complete"):
        assert resumed[total] == whole[total]
    assert whole["different"] == n


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(store: Path) -> None:
    """FAULTS 11: no call is paid for whose answer cannot be kept, but for those in flight."""
    with job("full_disk", store) as process:
        found = result_of(process)
    assert "make room on the disk" in found["said"]
    assert found["asked"] < 200
    assert (found["partial"], found["received"]) == (False, found["asked"])
    assert found["complete"]
    assert found["cached"] > 0
    assert found["again"] == 1_000 - found["cached"]
    assert found["asked"] - found["cached"] <= 2 * 4


@pytest.mark.slow
def test_a_run_whose_call_store_is_deleted_stops_before_more_is_paid_for(loopback: Loopback, store: Path) -> None:
    """At most the calls that were in flight are paid beyond it, and the next run with a store asks them all again."""
    loopback.set(latency_s=0.02)
    asked, in_flight = [0], 4
    about = {"client": client(loopback.base_url), "store": store, "progress": False, "concurrency": in_flight}

    def delete() -> None:
        while loopback.stats()["requests"] < 40:
            time.sleep(0.005)
        for path in store.parent.glob("calls.sqlite*"):
            path.unlink()
        asked[0] = loopback.stats()["requests"]

    thread = threading.Thread(target=delete)
    thread.start()
    with pytest.raises(StoreError, match="deleted or replaced"):
        ll.run(BUNDLE, golden(300), **about)
    thread.join()
    assert loopback.stats()["requests"] <= asked[0] + 2 * in_flight
    assert ll.run(BUNDLE, golden(300), **about).complete


@pytest.mark.slow
def test_two_processes_may_run_the_same_thing_at_once(loopback: Loopback, store: Path) -> None:
    """FAULTS 12: each has every row once, and the store each answer once."""
    loopback.set(latency_s=0.01, log_bodies=False)
    with job("whole", loopback.base_url, store, 150) as one, job("whole", loopback.base_url, store, 150) as other:
        found = [result_of(one), result_of(other)]
    for totals in found:
        assert (totals["rows"], totals["different"], totals["ok"], totals["complete"]) == (150, 150, 150, True)
    requests = loopback.stats()["requests"]
    assert 150 <= requests == 300 - sum(totals["cached"] for totals in found)
    with CallStore(store) as calls:
        assert len(calls) == 150


def test_a_run_whose_rows_all_fail_is_failed_and_gives_no_means(loopback: Loopback, store: Path) -> None:
    """FAULTS 10."""
    loopback.set(faults={"400": 1.0})
    results = ll.run(BUNDLE, golden(8), client=client(loopback.base_url), store=store, scorers=[same])
    assert (results.state, results.failed_share) == ("FAILED", 1.0)
    assert results.frame["same"].isna().all()
    with pytest.raises(RunFailedError, match="answered 400"):
        results.require_complete()


@pytest.mark.parametrize(
    ("key", "most_requests", "told"),
    [
        ("wrong-key-value", 99, "the rest were not sent.*the key in SOME_KEY is wrong or expired"),
        ("", 0, "set the environment variable SOME_KEY"),
    ],
)
def test_a_key_that_is_wrong_or_missing_is_told_once(
    loopback: Loopback, store: Path, monkeypatch: pytest.MonkeyPatch, key: str, most_requests: int, told: str
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    loopback.set(faults={"401": 1.0})
    asking = OpenAIClient(loopback.base_url, api_key_env="SOME_KEY")
    results = ll.run(BUNDLE, golden(1_000), client=asking, store=store)
    assert loopback.stats()["requests"] <= most_requests
    assert re.search(told, " ".join(results.notes))
    assert "wrong-key-value" not in " ".join(results.notes) + results.frame.to_csv()


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(store: Path) -> None:
    """FAULTS 13."""
    priced = FakeClient("yes", price_usd=Decimal("0.10"))
    partial = ll.run(BUNDLE, golden(30), client=priced, store=store, budget_usd=1, concurrency=2)
    assert not partial.complete
    assert 10 <= len(partial.frame) <= 11
    assert "budget of $1 is used up" in " ".join(partial.notes)
    rest = ll.run(BUNDLE, golden(30), client=priced, store=store, budget_usd=100)
    assert rest.complete
    assert len(priced.requests) == 30


def test_a_budget_with_an_unknown_price_is_refused_before_the_first_call(store: Path) -> None:
    unpriced = FakeClient("yes")
    with pytest.raises(BudgetError, match="price of vllm/tiny is unknown"):
        ll.run(BUNDLE, golden(3), client=unpriced, store=store, budget_usd=1)
    assert unpriced.requests == []


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(store: Path, budget: float) -> None:
    with pytest.raises(ValueError, match="budget_usd"):
        ll.run(BUNDLE, golden(1), client=FakeClient("yes"), store=store, budget_usd=budget)


def test_a_model_that_changes_under_us_is_told_loudly(loopback: Loopback, store: Path) -> None:
    """The stored answers are of one system, the new ones of another."""
    loopback.set(system_fingerprint="fp_old")
    assert ll.run(BUNDLE, golden(5), client=client(loopback.base_url), store=store).notes == ()
    loopback.set(system_fingerprint="fp_new")
    (note,) = ll.run(BUNDLE, golden(9), client=client(loopback.base_url), store=store).notes
    assert note.startswith("SILENT UPDATE")
    assert "fp_old before and by fp_new now" in note
    assert ll.run(BUNDLE, golden(9), client=client(loopback.base_url), store=store).notes == ()


def test_no_network_and_no_key_are_needed_by_the_offline_model(store: Path) -> None:
    """FAULTS 73."""
    offline = Bundle.from_prompt("{{ question }}", model="offline/extractive-1")
    results = ll.run(offline, golden(5), store=store)
    assert results.complete
    assert not results.failed


def test_an_application_is_measured_and_its_code_is_part_of_the_provenance(store: Path) -> None:
    def answer(case: Case, bundle: Bundle) -> str:
        return f"echo: {case.inputs['question']}"

    first, second = (ll.run(BUNDLE, golden(5), app=answer, store=store, scorers=[same]) for _ in "12")
    assert first.frame["same"].tolist() == [1.0] * 5
    assert second.frame["cached"].all()
    assert first.provenance.app.endswith("answer")
    assert first.provenance.source
    assert first.provenance["commit"] == first.provenance.commit  # it can be read as in version 0.1
    with pytest.raises(ValueError, match="client and app"):
        ll.run(BUNDLE, golden(1), app=answer, client=FakeClient("yes"), store=store)


def test_a_log_gets_one_line_and_a_quiet_run_none(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ll.run(BUNDLE, golden(5), client=FakeClient("yes"), store=store)
    assert capsys.readouterr().err == "run: 5 of 5 calls (0 cached, 0 errors), an unknown amount spent\n"
    ll.run(BUNDLE, golden(5), client=FakeClient("yes"), store=store, progress=False)
    assert capsys.readouterr().err == ""


def test_a_dry_run_counts_what_is_stored_and_sends_nothing(store: Path) -> None:
    asked = FakeClient("yes", price_usd=Decimal("0.5"))
    ll.run(BUNDLE, golden(4), client=asked, store=store)
    bundle = BUNDLE.with_(max_tokens=100)
    found = ll.dry_run({"old": BUNDLE, "new": bundle}, golden(6), repeats=2, client=asked, store=store)
    assert (found.calls, found.stored) == ((12, 12), (4, 0))
    assert found.output_tokens_at_most == (None, 1_200)
    assert "20 calls to send (4 stored already)" in str(found)
    assert len(asked.requests) == 4


@pytest.mark.parametrize(
    ("model", "sampling", "refused"),
    [
        ("openai/o3-2025-04-16", {"temperature": 0.0}, "variant 'new': openai/o3.* cannot be sent temp"),
        ("openai/gpt-4o-2024-08-06", {"max_tokens": 5_000}, "variant 'new': .* 5,0"),
        ("openai/gpt-4o-2024-08-06", {}, None),
    ],
)
def test_a_dry_run_refuses_what_the_endpoint_would_be_refused_with(
    store: Path, model: str, sampling: dict[str, Any], refused: str | None
) -> None:
    asked = OpenAIClient("http://127.0.0.1:9/v1", context_tokens=4_000)
    bundle = ll.Bundle.from_prompt("{{ question }}", model=model, **sampling)
    if refused is None:
        assert "no max_tokens bounds the answers of new" in str(ll.dry_run({"new": bundle}, golden(2), client=asked))
        return
    with pytest.raises(RequestRefusedError, match=refused):
        ll.dry_run({"new": bundle}, golden(2), client=asked, store=store)


def test_a_dry_run_tells_an_unknown_price_from_an_unknown_length(store: Path) -> None:
    bundles = {name: BUNDLE.with_(max_tokens=limit) for name, limit in (("endless", None), ("bounded", 5))}
    said = str(ll.dry_run(bundles, golden(2), client=FakeClient("yes"), store=store))
    assert "(no max_tokens bounds the answers of endless; no price is known for the model of bounded)" in said


def test_an_empty_result_has_nothing_to_hide(store: Path) -> None:
    """A run that is stopped before its first answer still gives a frame that can be read."""
    results = ll.run(BUNDLE, golden(9), client=Interrupted(0), store=store, scorers=[same])
    assert (results.complete, results.failed) == (False, True)


def called(name: str) -> Any:
    def rated(_case: Case, _generation: Generation) -> float:
        return 1.0

    rated.__name__ = name
    return rated


COLUMNS = ("steps", "tool_calls", "bounds", "variant", "explanations")
NO_SCORERS: list[tuple[list[Any], list[str], str]] = [
    ([same, same], [], "two scorers are called 'same'"),
    ([same], ["rihgt"], r"no scorer makes the metric 'rihgt' \(there are: same, cost_usd"),
    *(([called(name)], [], f"{name!r} is a column") for name in COLUMNS),
]


@pytest.mark.parametrize("verb", [ll.run, ll.dry_run])
@pytest.mark.parametrize(("scorers", "metrics", "refused"), NO_SCORERS)
def test_scorers_that_cannot_be_are_refused_before_the_first_call(
    verb: Any, scorers: list[Any], metrics: list[str], refused: str, store: Path
) -> None:
    """Two of one name, one called like a column, a metric that none makes."""
    asked = FakeClient("yes")
    with pytest.raises(ValueError, match=refused):
        verb(BUNDLE, golden(2), client=asked, store=store, scorers=scorers, metrics=metrics)
    assert asked.requests == []


def test_what_every_result_has_is_a_metric_without_a_scorer(store: Path) -> None:
    assert ll.run(BUNDLE, golden(2), client=FakeClient("yes"), store=store, scorers=[same], metrics=["latency_s"])


def test_cases_that_send_the_same_request_are_told_before_the_first_call_and_are_one_cluster(store: Path) -> None:
    """Forty cases with ten questions between them: the interval is that of ten clusters."""
    cases = tuple(Case(id=f"q{i}", inputs={"question": f"{i % 10}?", "user": f"u{i}"}) for i in range(40))
    bundles = {name: Bundle.from_prompt(f"{name} {{{{ question }}}}", model="fake/m-1") for name in ("v1", "v2")}
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return str(sum(map(ord, str(request.messages[-1]["content"]))) % 3)

    @scorer(name="length")
    def length(_case: Case, generation: Generation) -> float:
        return float(generation.text) / 2

    means = {"client": FakeClient(answer), "store": store}
    with pytest.warns(RuntimeWarning, match="40 cases send the same request"):
        planned = ll.dry_run(bundles, ll.GoldenSet(cases), **means)
    assert (asked, planned.notes != ()) == ([], True)
    with pytest.warns(RuntimeWarning, match="40 cases send the same request"):
        results = ll.run(bundles, ll.GoldenSet(cases), scorers=[length], progress=False, **means)
    row = results.compare("v1").row("length")
    assert (row.n_pairs, row.n_clusters) == (40, 10)
    assert set(planned.notes) <= set(results.notes)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"engine": "dask"}, "must be 'here' or 'ray'"),
        ({"scorers": ["not_empty"]}, "must be a function of a case and its answer"),
        ({"failed_share_allowed": -1}, "must lie between 0 and 1"),
        ({"failed_share_allowed": 20}, "must lie between 0 and 1"),
        ({"case_timeout_s": 0}, "must be > 0"),
        ({"golden": "golden.jsonl"}, r"must be a GoldenSet, such as GoldenSet\.load\(path\)"),
        ({"metrics": "speed"}, "no scorer makes the metric 'speed'"),
    ],
    ids=str,
)
def test_an_argument_that_means_nothing_is_refused_before_a_call_is_paid(given: Any, rule: str, store: Path) -> None:
    """As found: an unknown engine ran here, and a scorer's name in quotes was called for every answer, in vain."""
    asked = FakeClient("An answer.")
    with pytest.raises((TypeError, ValueError), match=rule):
        ll.run(**{"variants": BUNDLE, "golden": golden(3), "client": asked, "store": store, "progress": False, **given})
    assert not store.exists()
    results = ll.run(BUNDLE, golden(3), client=asked, store=store, scorers=[ll.scorers.not_empty], metrics="not_empty")
    assert results.compare(results.variants[0], metrics="not_empty", candidates=[]).rows == ()
