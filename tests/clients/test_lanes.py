"""Several endpoints or keys in turn: the freest is asked, a failing one rests, a refused key is out, the rest go on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from llmlab.base.errors import CallError, RequestRefusedError, TransportError
from llmlab.clients.access import Access, RetryPolicy
from llmlab.clients.base import Generation
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.retry import Lanes, NeverReachedError
from tests.clients.made import asking
from tests.loopback import Loopback

QUICK = RetryPolicy(attempts=4, first_wait_s=0.01, longest_wait_s=0.05)
KEYS = {name: f"canary-{name.lower()}-no-usual-shape" for name in ("KEY_A", "KEY_B", "KEY_C")}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def with_keys(loopback: Loopback, *names: str, retry: RetryPolicy = QUICK, **limits: Any) -> OpenAIClient:
    first, *others = names
    more = [Access(base_url=loopback.base_url, key_env=name, **limits) for name in others]
    return OpenAIClient(loopback.base_url, api_key_env=first, in_turn=more, retry=retry, **limits)


def ask_all(client: OpenAIClient, n: int, in_flight: int = 8) -> list[Generation | CallError]:
    async def go() -> list[Generation | CallError]:
        outcomes: list[Generation | CallError] = []
        left = iter(range(n))

        async def work() -> None:
            for i in left:
                try:
                    outcomes.append(await client.complete(asking(f"question {i}")))
                except CallError as error:
                    outcomes.append(error)

        await asyncio.gather(*(work() for _ in range(in_flight)))
        await client.aclose()
        return outcomes

    return asyncio.run(go())


def answers(outcomes: list[Generation | CallError]) -> int:
    return sum(isinstance(outcome, Generation) for outcome in outcomes)


def used(loopback: Loopback) -> Counter[str]:
    """Requests by the name of the key that they carried."""
    names = {f"Bearer {key}": name for name, key in KEYS.items()}
    return Counter(names.get(entry["headers"].get("authorization"), "") for entry in loopback.stats()["log"])


def test_calls_spread_evenly_over_keys(loopback: Loopback) -> None:
    loopback.set(latency_s=0.01)
    assert answers(ask_all(with_keys(loopback, *KEYS), 60)) == 60
    assert min(used(loopback)[name] for name in KEYS) >= 15


def test_calls_one_after_the_other_take_turns(loopback: Loopback) -> None:
    ask_all(with_keys(loopback, *KEYS), 6, in_flight=1)
    assert used(loopback) == dict.fromkeys(KEYS, 2)


def test_a_429_pauses_its_own_key_only(loopback: Loopback) -> None:
    """A Retry-After of a minute on one of two keys: everything is answered at once by the other."""
    loopback.set(by_key={KEYS["KEY_A"]: "429"}, retry_after="60")
    outcomes = ask_all(with_keys(loopback, "KEY_A", "KEY_B"), 40, in_flight=4)
    assert answers(outcomes) == 40
    assert used(loopback)["KEY_A"] <= 4  # those that were in flight when the first came
    assert max(outcome.attempts for outcome in outcomes) == 2


@pytest.mark.parametrize("n_endpoints", [1, 2])
def test_a_stray_429_slows_its_own_call_alone(loopback: Loopback, n_endpoints: int) -> None:
    """FAULTS 4: the call waits its Retry-After, or goes to another endpoint at once; all others go on."""
    loopback.set(script=["ok"] * 4 + ["429"], retry_after="1", latency_s=0.01)
    others = [Access(base_url=loopback.base_url, deployment=f"other {i}") for i in range(n_endpoints - 1)]
    client = OpenAIClient(loopback.base_url, api_key_env=None, in_turn=others, retry=QUICK)
    assert answers(ask_all(client, 60, in_flight=4)) == 60
    log = loopback.stats()["log"]
    [refused_s] = [entry["time_s"] for entry in log if entry["mode"] == "429"]
    after_s = [entry["time_s"] - refused_s for entry in log]
    assert sum(0 < late_s < 0.9 for late_s in after_s) >= 54
    assert sum(late_s >= 1.0 for late_s in after_s) == (n_endpoints == 1)


def test_a_second_429_within_the_time_of_the_first_pauses_the_endpoint() -> None:
    lane = Lanes([Access(base_url="http://a")]).all[0]
    assert [lane.limit_reached(60), lane.limit_reached(0.0), lane.limit_reached(60)] == [False, True, True]
    lane = Lanes([Access(base_url="http://a")]).all[0]
    assert [lane.limit_reached(0.0), lane.limit_reached(60)] == [False, False]


def test_a_pause_ends_with_an_answer_to_what_was_sent_after_the_first_429() -> None:
    """Two strays are no limit; an answer to what was sent before them says nothing."""
    lanes = Lanes([Access(base_url="http://a")])
    [lane], before_s = lanes.all, time.monotonic()
    lane.limit_reached(60)
    between_s = time.monotonic() + 1e-6
    assert lane.limit_reached(60)
    lane.pause(60)

    async def enter_after(sent_s: float) -> None:
        waiting = asyncio.create_task(lanes.enter(1))
        await asyncio.sleep(0)
        lanes.answered(lane, sent_s=sent_s)
        await asyncio.wait_for(waiting, 5 if sent_s == between_s else 0.3)

    with pytest.raises(TimeoutError):
        asyncio.run(enter_after(before_s))
    assert lanes.rests_s > 50
    asyncio.run(enter_after(between_s))
    assert lanes.rests_s == 0


@pytest.mark.parametrize("mode", ["500", "reset"])
def test_a_key_that_fails_fast_does_not_draw_the_calls_to_itself(loopback: Loopback, mode: str) -> None:
    """The least loaded endpoint is the one that fails at once; it rests longer after each failure."""
    loopback.set(by_key={KEYS["KEY_A"]: mode}, latency_s=0.01)
    policy = RetryPolicy(attempts=4, first_wait_s=0.2, longest_wait_s=30)
    outcomes = ask_all(with_keys(loopback, "KEY_A", "KEY_B", retry=policy), 80, in_flight=4)
    assert answers(outcomes) == 80
    assert used(loopback)["KEY_A"] < 40


def test_a_server_that_is_gone_is_passed_over(loopback: Loopback) -> None:
    gone = Access(base_url="http://127.0.0.1:9/v1")
    client = OpenAIClient(loopback.base_url, api_key_env=None, in_turn=[gone], retry=QUICK)
    assert answers(ask_all(client, 20, in_flight=4)) == 20


def test_several_addresses_where_nothing_listens_are_given_up_as_soon_as_one() -> None:
    """Each is asked once before, so that the last of several may be the one that answers."""
    ports = (9, 11, 13)
    first, *others = (f"http://127.0.0.1:{port}/v1" for port in ports)
    client = OpenAIClient(first, api_key_env=None, in_turn=[Access(base_url=url) for url in others])
    started_s = time.monotonic()
    outcomes = ask_all(client, 24, in_flight=8)
    assert time.monotonic() - started_s < 6  # with rests that grow it took minutes
    assert all(isinstance(outcome, NeverReachedError) for outcome in outcomes)
    assert all(2 <= outcome.attempts <= len(ports) for outcome in outcomes)


def test_one_server_among_three_addresses_answers_everything(loopback: Loopback) -> None:
    loopback.set(latency_s=0.2)
    gone = [Access(base_url=f"http://127.0.0.1:{port}/v1") for port in (9, 11)]
    there = Access(base_url=loopback.base_url)
    client = OpenAIClient(gone[0].base_url, api_key_env=None, in_turn=[gone[1], there], retry=QUICK)
    assert answers(ask_all(client, 12, in_flight=4)) == 12


@pytest.mark.parametrize("mode", ["401", "402", "403", "no_credit", "html"])
def test_a_refused_key_is_out_with_one_warning_while_the_others_go_on(loopback: Loopback, mode: str) -> None:
    loopback.set(by_key={KEYS["KEY_B"]: mode})
    with pytest.warns(RuntimeWarning, match=r"key in KEY_B is out for this run \(2 others go on\)") as warned:
        outcomes = ask_all(with_keys(loopback, *KEYS), 40, in_flight=1)
    assert answers(outcomes) == 40
    assert used(loopback)["KEY_B"] == 1
    assert len(warned) == 1
    assert "canary" not in str(warned[0].message)


def test_the_last_key_out_ends_in_an_error_that_names_them_all(loopback: Loopback) -> None:
    loopback.set(faults={"401": 1.0})
    client = with_keys(loopback, "KEY_A", "KEY_B")
    with pytest.warns(RuntimeWarning, match="is out"):
        first, *later = ask_all(client, 5, in_flight=1)
    assert isinstance(first, RequestRefusedError)
    assert (first.attempts, first.status_code) == (2, 401)
    assert "none of 2 endpoints or keys is left" in str(first)
    assert "KEY_A is wrong or expired" in str(first)
    assert "KEY_B is wrong or expired" in str(first)
    assert "canary" not in f"{first} {client!r} {vars(client)}"
    assert [outcome.attempts for outcome in later] == [0] * 4
    assert loopback.stats()["requests"] == 2


def test_a_key_that_is_not_set_is_out_before_anything_is_sent(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_A")
    client = with_keys(loopback, "KEY_A", "KEY_B")
    with pytest.warns(RuntimeWarning, match=r"KEY_A is out.*1 other goes on.*variable is not set"):
        assert answers(ask_all(client, 4)) == 4
    assert used(loopback) == {"KEY_B": 4}
    monkeypatch.setenv("KEY_A", KEYS["KEY_A"])
    ask_all(client, 4, in_flight=1)  # the next run asks again
    assert used(loopback)["KEY_A"] == 2


def test_no_key_set_at_all_is_told_without_a_request(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(RuntimeWarning, match="is out"):
        [outcome] = ask_all(with_keys(loopback, "KEY_A", "KEY_B"), 1)
    assert isinstance(outcome, RequestRefusedError)
    assert outcome.attempts == 0
    assert loopback.stats()["requests"] == 0


def test_a_request_that_breaks_a_rule_takes_no_key_out(loopback: Loopback) -> None:
    loopback.set(script=["400"])
    outcomes = ask_all(with_keys(loopback, "KEY_A", "KEY_B"), 5, in_flight=1)
    assert answers(outcomes) == 4
    assert loopback.stats()["requests"] == 5


def test_rate_limits_everywhere_end_without_a_storm(loopback: Loopback) -> None:
    """FAULTS 5, 17: several keys do not multiply the attempts."""
    loopback.set(faults={"429": 1.0}, retry_after="0.01")
    outcomes = ask_all(with_keys(loopback, *KEYS), 6)
    assert all(isinstance(outcome, TransportError) and outcome.attempts == 4 for outcome in outcomes)
    assert {outcome.status_code for outcome in outcomes if isinstance(outcome, CallError)} == {429}
    assert loopback.stats()["requests"] == 6 * 4


@pytest.mark.parametrize(("keys", "most"), [(("KEY_A", "KEY_B"), 2), (("KEY_A",), 3)])
def test_no_more_calls_are_in_flight_than_each_key_allows(loopback: Loopback, keys: tuple[str, ...], most: int) -> None:
    loopback.set(latency_s=0.02)
    assert answers(ask_all(with_keys(loopback, *keys, max_in_flight=most), 30, in_flight=16)) == 30
    assert loopback.stats()["in_flight_most"] == most * len(keys)


@pytest.mark.parametrize("limit", [{"max_in_flight": 1}, {"requests_per_minute": 300.0}], ids=str)
def test_waiting_for_a_place_is_not_the_endpoints_time(loopback: Loopback, limit: dict[str, Any]) -> None:
    loopback.set(latency_s=0.1)
    policy = RetryPolicy(attempts=1, case_timeout_s=0.5)
    client = OpenAIClient(loopback.base_url, api_key_env=None, retry=policy, **limit)
    assert answers(ask_all(client, 10, in_flight=10)) == 10


def test_each_key_has_its_own_requests_per_minute(loopback: Loopback) -> None:
    """Ten a second for one and twenty for the other: the faster takes about twice as many."""
    slow = {"base_url": loopback.base_url, "requests_per_minute": 600.0}
    fast = Access(base_url=loopback.base_url, key_env="KEY_B", requests_per_minute=1200)
    client = OpenAIClient(api_key_env="KEY_A", in_turn=[fast], retry=QUICK, **slow)  # type: ignore[arg-type]  # mixed
    assert answers(ask_all(client, 60, in_flight=30)) == 60
    assert 1.2 < used(loopback)["KEY_B"] / used(loopback)["KEY_A"] < 3.0


def test_cancelled_calls_give_their_places_back() -> None:
    async def go() -> None:
        lanes = Lanes([Access(base_url="http://a", max_in_flight=1)])
        lane, _ = await lanes.enter(1)
        waiting = [asyncio.create_task(lanes.enter(1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        lanes.leave(lane)
        assert (await asyncio.wait_for(waiting[1], 5))[0] is lane
        waiting[2].cancel()
        lanes.leave(lane)
        assert (await asyncio.wait_for(lanes.enter(1), 5))[0] is lane

    asyncio.run(go())


def test_places_waited_for_in_a_loop_that_is_gone_are_forgotten() -> None:
    lanes = Lanes([Access(base_url="http://a", max_in_flight=1)])

    async def fill_and_go() -> None:
        await lanes.enter(1)
        waiting = asyncio.create_task(lanes.enter(1))
        await asyncio.sleep(0.01)
        waiting.cancel()

    asyncio.run(fill_and_go())
    lanes.leave(lanes.all[0])
    assert asyncio.run(lanes.enter(1))[0] is lanes.all[0]


def test_the_fingerprint_does_not_depend_on_keys_or_their_order_and_a_groups_on_its_name_alone() -> None:
    one = OpenAIClient("http://a/v1", api_key_env="KEY_A")
    several = OpenAIClient("http://a/v1", in_turn=[Access(base_url="http://a/v1/", key_env="KEY_B")])
    assert several.fingerprint == one.fingerprint == "http://a/v1"
    there, back = (OpenAIClient(f"http://{x}", in_turn=[Access(base_url=f"http://{y}")]) for x, y in ("ab", "ba"))
    assert there.fingerprint == back.fingerprint == "one of http://a | http://b"
    small = OpenAIClient("http://a", group="pool")
    large = OpenAIClient("http://b", in_turn=[Access(base_url="http://c")], group="pool")
    assert small.fingerprint == large.fingerprint == "group pool"


def test_each_endpoint_is_sent_its_own_name_of_the_model(loopback: Loopback) -> None:
    other = Access(base_url=loopback.base_url, deployment="other")
    client = OpenAIClient(loopback.base_url, api_key_env=None, deployment="one", in_turn=[other])
    outcomes = ask_all(client, 2, in_flight=1)
    assert {outcome.served_model for outcome in outcomes if isinstance(outcome, Generation)} == {"one", "other"}


@pytest.mark.parametrize("mode", ["307", "404", "405"])
@pytest.mark.parametrize("in_flight", [1, 8])
def test_an_address_that_does_not_serve_the_model_is_out_once_another_answers(
    loopback: Loopback, mode: str, in_flight: int
) -> None:
    loopback.set(by_key={KEYS["KEY_B"]: mode}, latency_s=0.01)
    with pytest.warns(RuntimeWarning, match=rf"key in KEY_B is out for this run \(2 others go on\).*{mode}") as warned:
        outcomes = ask_all(with_keys(loopback, *KEYS), 40, in_flight=in_flight)
    assert answers(outcomes) == 40
    assert used(loopback)["KEY_B"] <= in_flight
    assert len(warned) == 1


@pytest.mark.parametrize("mode", ["403", "404"])
def test_a_model_that_nobody_serves_takes_no_address_from_the_others(loopback: Loopback, mode: str) -> None:
    """Several models may share an entry of endpoints.yaml: each is asked where it is served."""
    client = with_keys(loopback, "KEY_A", "KEY_B")

    async def go() -> list[str]:
        said = []
        for script, model in [([mode] * 2, "vllm/gone"), ([mode], "vllm/here"), ([mode] * 2, "vllm/gone")]:
            loopback.set(script=script)
            for _ in range(2):
                try:
                    said.append((await client.complete(asking(model=model))).status)
                except RequestRefusedError as error:
                    said.append(f"{error.status_code} after {error.attempts}")
        await client.aclose()
        return said

    with pytest.warns(RuntimeWarning, match="1 other goes on") as warned:
        assert asyncio.run(go()) == [f"{mode} after 2", "ok", "ok", "ok", f"{mode} after 2", "ok"]
    assert len(warned) == 1
