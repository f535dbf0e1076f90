"""Carrying a plan out, against a real server that misbehaves: retries, limits, what is kept and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import zlib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llmlab.base.errors import TransportError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Client, Generation, Request
from llmlab.clients.call_store import CallStore
from llmlab.clients.fake import FakeClient
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import TokenPrices
from llmlab.engine.app import App
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.execution import HOPELESS_AFTER, Scoring, execute
from llmlab.engine.plan import Plan, make_plan
from llmlab.engine.progress import Progress
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import AnswerSheet, generations_of
from tests.experiment_jobs import BUNDLE, golden
from tests.loopback import Loopback

RETRY = RetryPolicy(attempts=4, attempt_timeout_s=1.0, case_timeout_s=20.0, first_wait_s=0.01, longest_wait_s=0.02)


def planned(n: int, client: Client | None = None, *, app: App | None = None, repeats: int = 1, **more: Bundle) -> Plan:
    """A plan of n cases for one variant `v`, or for those named."""
    bundles = more or {"v": BUNDLE}
    setup = CallSetup(client=None if app is not None else client or FakeClient("yes"))
    return make_plan(bundles, golden(n), setup, repeats=repeats, app=app)


class Carried(NamedTuple):
    """How far a run came, and the answers in its sheet."""

    progress: Progress
    generations: list[Generation]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.progress, name)


def carried_out(plan: Plan, path: Path, *, budget_usd: Decimal | None = None, **limits: Any) -> Carried:
    progress, sheet = Progress(total=len(plan)), AnswerSheet(len(plan))
    with CallStore(path) as store:
        setup = CallSetup(**{"concurrency": 8, **limits})
        asyncio.run(execute(plan, store, progress, Scoring(sheet), setup, budget_usd=budget_usd))
    return Carried(progress, list(generations_of(sheet.frame())))


def statuses(progress: Carried) -> Counter[str]:
    return Counter(generation.status for generation in progress.generations)


def stored(path: Path) -> int:
    with CallStore(path) as store:
        return len(store)


def to(loopback: Loopback, retry: RetryPolicy = RETRY) -> OpenAIClient:
    return OpenAIClient(loopback.base_url, api_key_env=None, retry=retry)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


def test_a_rate_limit_is_waited_out_as_long_as_it_asks(loopback: Loopback, path: Path) -> None:
    """FAULTS 4: after a 429 nothing is sent before Retry-After is over."""
    loopback.set(script=["429"], retry_after="1")
    progress = carried_out(planned(3, to(loopback)), path, concurrency=1)
    times_s = [entry["time_s"] for entry in loopback.stats()["log"]]
    assert statuses(progress) == {"ok": 3}
    assert times_s[1] - times_s[0] >= 1.0
    assert [generation.attempts for generation in progress.generations] == [2, 1, 1]


def test_a_provider_that_only_limits_ends_the_run_without_a_storm(loopback: Loopback, path: Path) -> None:
    """FAULTS 5: bounded attempts per row, an error that says why, nothing stored."""
    loopback.set(faults={"429": 1.0})
    progress = carried_out(planned(12, to(loopback)), path)
    assert statuses(progress) == {"error": 12}
    assert loopback.stats()["requests"] == 12 * RETRY.attempts
    assert "answered 429" in progress.generations[0].error
    assert stored(path) == 0


def test_a_call_that_hangs_is_a_timeout_and_others_go_on(loopback: Loopback, path: Path) -> None:
    """FAULTS 6: bounded per attempt and per case; not an answer, not stored."""
    loopback.set(script=["hang", "hang"])
    retry = RetryPolicy(attempts=2, attempt_timeout_s=0.3, first_wait_s=0.01)
    progress = carried_out(planned(3, to(loopback, retry)), path, concurrency=1)
    assert [generation.status for generation in progress.generations] == ["timeout", "ok", "ok"]
    assert "attempt_timeout_s" in progress.generations[0].error
    assert progress.errors == 1
    assert stored(path) == 2


def test_what_a_lost_answer_may_have_taken_and_cost_is_bounded(loopback: Loopback, path: Path) -> None:
    """By what was waited and the timeout, by max_tokens, and by their price for every request that was sent."""
    loopback.set(script=["hang", "hang", "500", "500"])
    retry = RetryPolicy(attempts=2, attempt_timeout_s=0.3, first_wait_s=0.01)
    prices = TokenPrices(input=Decimal(1), output=Decimal(2))
    client = OpenAIClient(loopback.base_url, api_key_env=None, retry=retry, prices=prices)
    bundle = Bundle.from_prompt("{{ question }}", model="vllm/tiny", max_tokens=50)
    late, failed, answered = carried_out(planned(3, client, v=bundle), path, concurrency=1).generations
    assert (late.status, failed.status, answered.bounds) == ("timeout", "error", ())
    bounds = {name: (low, high) for name, low, high in late.bounds}
    assert bounds["latency_s"] == (pytest.approx(0.3, abs=0.01), 0.3)
    assert bounds["output_tokens"] == (0, 50)
    asked = answered.usage.input_tokens
    assert asked < bounds["input_tokens"][1] < 300
    assert bounds["cost_usd"] == (0, pytest.approx(2 * (bounds["input_tokens"][1] + 2 * 50) / 1e6))
    assert {name: low for name, low, _ in failed.bounds}["latency_s"] < 0.3


def test_an_application_that_hangs_has_waited_as_long_as_it_may(path: Path) -> None:
    """What else it would have done nobody knows."""

    async def app(case: Case, bundle: Bundle) -> str:
        await asyncio.sleep(60 if case.id == "q0" else 0)
        return "yes"

    generations = carried_out(planned(2, app=app), path, case_timeout_s=0.2).generations
    late, answered = sorted(generations, key=lambda generation: generation.case_id)
    assert (late.bounds, answered.bounds) == ((("latency_s", 0.2, 0.2),), ())


def test_a_bound_on_a_case_holds_for_every_client(loopback: Loopback, path: Path) -> None:
    loopback.set(script=["hang"])
    progress = carried_out(planned(1, to(loopback)), path, case_timeout_s=0.3)
    assert progress.generations[0].error == "no answer within 0.3 s"


def test_a_timeout_of_the_clients_own_is_told_as_such(path: Path) -> None:
    """As found: a client that gave up at once was told as "no answer within 600 s"."""

    class Impatient(FakeClient):
        async def complete(self, request: Request) -> Generation:
            raise TimeoutError

    (lost,) = carried_out(planned(1, Impatient("never")), path).generations
    assert (lost.status, lost.error) == ("timeout", "the client ran into a timeout of its own")


@pytest.mark.parametrize("fault", ["500", "reset", "truncate", "html", "bad_json", "error200", "no_choices"])
def test_broken_replies_are_tried_again_and_never_stored(loopback: Loopback, path: Path, fault: str) -> None:
    """FAULTS 7 and 21: the answer that is kept is the whole one."""
    loopback.set(script=["ok", fault, fault])  # a page where nothing has answered yet is a wrong address
    progress = carried_out(planned(2, to(loopback)), path, concurrency=1)
    _, generation = progress.generations
    assert (generation.status, generation.attempts) == ("ok", 3)
    with CallStore(path) as store:
        assert store.get_many([generation.call_key])[generation.call_key].text == "echo: question 1?"


@pytest.mark.parametrize(("mode", "status"), [("empty", "empty"), ("refusal", "refused"), ("length", "truncated")])
def test_complete_replies_are_stored_with_their_status(loopback: Loopback, path: Path, mode: str, status: str) -> None:
    """FAULTS 8: billed and complete, so it is an answer, and it is not paid for again."""
    loopback.set(script=[mode])
    for cached in (False, True):
        (generation,) = carried_out(planned(1, to(loopback)), path).generations
        assert (generation.status, generation.cached) == (status, cached)
    assert loopback.stats()["requests"] == 1


def test_one_bad_row_does_not_stop_the_others(path: Path) -> None:
    """FAULTS 9: whatever a client raises for a row is that row's error."""

    def reply(request: Request) -> str:
        if "question 3?" in request.messages[-1]["content"]:
            raise RuntimeError("boom\x1b[31m\x00")
        return "fine"

    progress = carried_out(planned(10, FakeClient(reply)), path)
    errors = [generation for generation in progress.generations if generation.status == "error"]
    assert statuses(progress) == {"ok": 9, "error": 1}
    assert errors[0].case_id == "q3"
    assert errors[0].error.startswith("RuntimeError: boom")
    assert "\x1b" not in errors[0].error


def test_a_prompt_that_one_case_cannot_fill_is_that_rows_error(path: Path) -> None:
    bundle = Bundle.from_prompt("{{ 1 / n }}", model="vllm/tiny")
    cases = GoldenSet(tuple(Case(id=f"q{n}", inputs={"n": n}) for n in (1, 2, 0)))
    progress = carried_out(make_plan(bundle, cases, CallSetup(client=FakeClient("yes"))), path)
    found = {generation.case_id: generation.status for generation in progress.generations}
    assert found == {"q1": "ok", "q2": "ok", "q0": "error"}


@pytest.mark.parametrize("answer", [None, "text", Generation(tool_calls=({"name": "f", "arguments": float("nan")},))])
def test_a_client_that_answers_nonsense_is_an_error_row(path: Path, answer: Any) -> None:
    class Odd:
        fingerprint = "odd"

        async def complete(self, request: Request) -> Any:
            return answer

    assert statuses(carried_out(planned(2, Odd()), path)) == {"error": 2}


NOTHING: Any = None  # what an SDK gives as the text of a tool call


@pytest.mark.parametrize(("calls", "status"), [((), "empty"), (({"name": "f", "arguments": {}},), "ok")])
def test_a_text_of_none_is_an_empty_one_and_is_replayed_so(path: Path, calls: Any, status: str) -> None:
    def app(case: Case, bundle: Bundle) -> Generation:
        return Generation(text=NOTHING, thought=NOTHING, tool_calls=calls or NOTHING, usage=NOTHING)

    for cached in (False, True):
        answers = carried_out(planned(2, app=app), path).generations
        assert [(answer.text, answer.status, answer.cached) for answer in answers] == [("", status, cached)] * 2


@pytest.mark.parametrize(
    "parts", [{"text": 12}, {"usage": {"input_tokens": 1}}, {"retrieved": (7,)}, {"latency_s": "soon"}, {"steps": 1}]
)
def test_an_answer_with_a_part_of_another_type_is_an_error_row_that_names_it(path: Path, parts: Any) -> None:
    progress = carried_out(planned(2, app=lambda case, bundle: Generation(**parts)), path)
    assert statuses(progress) == {"error": 2}
    wrong = next(iter(parts.values()))
    named = type(wrong).__name__ if not isinstance(wrong, tuple) else repr(wrong[0])
    assert all(named in answer.error and next(iter(parts)) in answer.error for answer in progress.generations)
    assert stored(path) == 0


def test_a_stored_answer_that_an_older_version_let_in_is_asked_again(path: Path) -> None:
    """A text of None with a right checksum, as a client's answer was kept until now."""
    carried_out(planned(1), path)
    odd = b'{"status":"ok","text":null}'
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        ((key,),) = connection.execute("SELECT key FROM calls")
        connection.execute(
            "UPDATE calls SET answer = ?, checksum = ?", (odd, zlib.crc32(odd, zlib.crc32(key.encode())))
        )
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert carried_out(planned(1), path).cached == 0
    assert carried_out(planned(1), path).cached == 1


def test_a_key_that_is_revoked_midway_stops_too(loopback: Loopback, path: Path) -> None:
    """The answers before it count; what is missing is asked for by the next run."""
    loopback.set(script=["ok"] * 30 + ["401"] * 400)
    progress = carried_out(planned(300, to(loopback)), path, concurrency=4)
    assert statuses(progress)["ok"] == 30
    assert loopback.stats()["requests"] <= 30 + HOPELESS_AFTER + 4
    loopback.set()
    assert carried_out(planned(300, to(loopback)), path).cached == 30


def test_the_budget_is_kept_but_for_what_is_in_flight(path: Path) -> None:
    """FAULTS 13: exact decimals, and no call once it is reached."""
    plan = planned(100, FakeClient("yes", price_usd=Decimal("0.1")))
    progress = carried_out(plan, path, concurrency=4, budget_usd=Decimal("1"))
    assert Decimal("1") <= progress.spent_usd <= Decimal("1.3")
    assert progress.spent_usd == Decimal("0.1") * progress.done
    assert "budget of $1 is used up" in progress.stopped


def test_a_budget_needs_answers_that_say_their_cost(path: Path) -> None:
    progress = carried_out(planned(50), path, concurrency=1, budget_usd=Decimal("1"))
    assert progress.done == 1
    assert "without its cost" in progress.stopped


def test_text_that_no_file_can_hold_goes_through(loopback: Loopback, path: Path) -> None:
    """FAULTS 15: NUL and a lone surrogate in a question and in an answer, stored and replayed as they were."""
    cases = GoldenSet((Case(id="q", inputs={"question": "nul \x00 and \U0001f600"}),))
    for cached in (False, True):
        plan = make_plan(BUNDLE, cases, CallSetup(client=to(loopback)))
        (generation,) = carried_out(plan, path).generations
        assert (generation.text, generation.cached) == ("echo: nul \x00 and \U0001f600", cached)
    for cached in (False, True):
        (generation,) = carried_out(planned(1, FakeClient("half \ud800 a pair\x00")), path).generations
        assert (generation.text, generation.cached) == ("half \\ud800 a pair\x00", cached)
    with CallStore(path) as store:
        assert store.get_many([generation.call_key])[generation.call_key].text == "half \ud800 a pair\x00"


def test_requests_are_bounded_by_one_layer_of_retries(loopback: Loopback, path: Path) -> None:
    """FAULTS 17: what is reported is what the server counted."""
    loopback.set(faults={"503": 0.5})
    progress = carried_out(planned(40, to(loopback)), path)
    requests = loopback.stats()["requests"]
    assert requests == sum(generation.attempts for generation in progress.generations)
    assert requests <= 40 * RETRY.attempts


def test_each_repeat_has_its_own_answer(path: Path) -> None:
    """FAULTS 20."""
    client = FakeClient(["first", "second", "third"])
    for cached in (0, 6):
        progress = carried_out(planned(2, client, repeats=3), path)
        assert Counter(generation.text for generation in progress.generations) == {"first": 2, "second": 2, "third": 2}
        assert progress.cached == cached
    assert len(client.requests) == 6


def test_a_hit_keeps_its_cost_and_costs_this_run_nothing(path: Path) -> None:
    """FAULTS 27."""
    answer = Generation(text="yes", cost_usd=Decimal("0.25"), latency_s=1.5, served_model="m-1")
    first = carried_out(planned(4, FakeClient(answer)), path)
    again = carried_out(planned(4, FakeClient("never asked")), path)
    assert (first.spent_usd, first.cached) == (Decimal("1.00"), 0)
    assert (again.spent_usd, again.cached) == (Decimal(0), 4)
    assert {(g.cost_usd, g.latency_s, g.served_model) for g in again.generations} == {(Decimal("0.25"), 1.5, "m-1")}


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_two_variants_that_are_the_same_bundle_are_paid_for_once(path: Path, concurrency: int) -> None:
    """However the calls fall: one after the other, or at the same time."""
    client = FakeClient("yes")
    progress = carried_out(planned(20, client, a=BUNDLE, b=BUNDLE, c=BUNDLE), path, concurrency=concurrency)
    assert (progress.done, progress.cached, len(client.requests)) == (60, 40, 20)


def test_mixed_faults_end_with_every_row_decided(loopback: Loopback, path: Path) -> None:
    """20% 429, 10% 5xx, 10% truncated, 5% resets, 1% hangs: the run ends, requests <= rows x (retries + 1)."""
    loopback.set(faults={"429": 0.2, "500": 0.1, "truncate": 0.1, "reset": 0.05, "hang": 0.01}, log_bodies=False)
    retry = RetryPolicy(attempts=4, attempt_timeout_s=0.5, first_wait_s=0.005, longest_wait_s=0.01)
    plan = planned(300, to(loopback, retry))
    progress = carried_out(plan, path, concurrency=32)
    stats = loopback.stats()
    assert progress.done == 300
    assert len({generation.case_id for generation in progress.generations}) == 300
    right = [one for one in progress.generations if one.text == f"echo: question {int(one.case_id[1:])}?"]
    assert len(right) == statuses(progress)["ok"] > 250
    assert stats["requests"] <= 300 * 4
    assert {"429", "500", "truncate", "reset", "hang"} <= set(stats["faults"])
    assert stored(path) == statuses(progress)["ok"]


def test_a_client_can_be_used_for_run_after_run(loopback: Loopback, tmp_path: Path) -> None:
    """The connections of each run's loop are closed at its end; nothing else of a client is."""
    client = to(loopback)
    for i in range(3):
        assert statuses(carried_out(planned(4, client), tmp_path / f"{i}")) == {"ok": 4}
    assert not client._sessions


def test_an_application_answers_with_a_text_or_a_generation(path: Path) -> None:
    def plain(case: Case, bundle: Bundle) -> str:
        return f"{case.id} by {bundle.name}" if case.id != "q1" else " "

    progress = carried_out(planned(2, app=plain), path)
    texts = {generation.case_id: (generation.status, generation.text) for generation in progress.generations}
    assert texts == {"q0": ("ok", f"q0 by {BUNDLE.name}"), "q1": ("empty", " ")}
    assert all(generation.latency_s is not None for generation in progress.generations)


def test_an_async_application_keeps_what_it_retrieved_and_did(path: Path) -> None:
    async def answer(case: Case, bundle: Bundle) -> Generation:
        await asyncio.sleep(0)
        return Generation(text=case.id, retrieved=("doc",), steps=("search", "answer"))

    for cached in (False, True):
        (generation,) = carried_out(planned(1, app=answer), path).generations
        assert (generation.text, generation.steps, generation.cached) == ("q0", ("search", "answer"), cached)


def test_plain_applications_run_side_by_side(path: Path) -> None:
    """As many at once as `concurrency` says, however few processors there are."""
    together = threading.Barrier(12, timeout=20)

    def waits_for_all(case: Case, bundle: Bundle) -> str:
        together.wait()
        return "together"

    assert statuses(carried_out(planned(12, app=waits_for_all), path, concurrency=12)) == {"ok": 12}


def raises_system_exit(case: Case, bundle: Bundle) -> str:
    raise SystemExit(3)


def stops_iteration(case: Case, bundle: Bundle) -> str:
    return next(iter(()))


async def cancels_itself(case: Case, bundle: Bundle) -> str:
    raise asyncio.CancelledError


def returns_nothing(case: Case, bundle: Bundle) -> str:
    return None  # type: ignore[return-value]  # on purpose


@pytest.mark.parametrize("app", [raises_system_exit, stops_iteration, cancels_itself, returns_nothing])
def test_an_application_that_misbehaves_is_an_error_row(path: Path, app: App) -> None:
    progress = carried_out(planned(3, app=app), path)
    assert statuses(progress) == {"error": 3}
    assert stored(path) == 0


def test_resumed_totals_equal_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """FAULTS 14: cost, tokens, time and n."""

    def answer(request: Request) -> Generation:
        number = int(request.messages[-1]["content"].split()[1].rstrip("?"))
        return Generation(text="yes", cost_usd=Decimal(number) / 1000, latency_s=number / 10)

    def totals(progress: Progress) -> tuple[Any, ...]:
        ordered = sorted(progress.generations, key=lambda generation: generation.case_id)
        return len(ordered), sum(g.cost_usd or 0 for g in ordered), [(g.case_id, g.text, g.latency_s) for g in ordered]

    carried_out(planned(30, FakeClient(answer)), tmp_path / "a", budget_usd=Decimal("0.05"), concurrency=1)
    resumed = carried_out(planned(30, FakeClient(answer)), tmp_path / "a")
    whole = carried_out(planned(30, FakeClient(answer)), tmp_path / "b")
    assert 0 < resumed.cached < 30
    assert totals(resumed) == totals(whole)


def test_failures_are_asked_again_by_the_next_run(path: Path) -> None:
    """An error is never an answer, so it is never replayed."""

    def down(_: Request) -> str:
        raise TransportError("down")

    assert statuses(carried_out(planned(5, FakeClient(down)), path)) == {"error": 5}
    assert statuses(carried_out(planned(5, FakeClient("up")), path)) == {"ok": 5}


def test_huge_prompts_are_prepared_a_few_at_a_time() -> None:
    """FAULTS 16: a batch is cut by the size of its cases, so that memory is bounded."""
    cases = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{i}" * 2_000_000}) for i in range(10)))
    plan = make_plan(BUNDLE, cases, CallSetup(client=FakeClient("yes")))
    assert max(len(batch) for batch in plan.batches()) <= 3
