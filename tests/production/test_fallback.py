"""The breaker opens on a share of failures over a window, as fluxgate's does; the backup answers the same request."""

import asyncio
import random
from collections import deque
from types import SimpleNamespace

import fluxgate
import pytest
from fluxgate import circuitbreaker, retries
from fluxgate.errors import CallNotPermittedError
from fluxgate.permits import All
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, HalfOpened, MinRequests
from fluxgate.windows import TimeWindow

import llmlab as ll
from llmlab.base.errors import CallError, CallTimeoutError, PromptError, RequestRefusedError, TransportError
from llmlab.clients.endpoints import load_endpoints
from llmlab.production.fallback import Breaker
from llmlab.registry import load, promote
from tests.registry import made as registry

PRIMARY = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa", temperature=0.0)
BACKUP = PRIMARY.with_(model="mistral/mistral-large-2411")
DOWN = TransportError("upstream overloaded", status_code=503)


class Clock:
    """A time that only moves when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


class Service:
    """Replies of a client that fails with an error until it is mended."""

    def __init__(self, error):
        self.error = error

    def __call__(self, request=None):
        if self.error:
            raise self.error
        return "from the primary"


def breaker(clock, **changes):
    usual = {"limit": 0.5, "window_s": 60, "at_least": 4, "rest_s": 30, "jitter": lambda: 0.5}
    return Breaker(**{**usual, **changes}, clock=clock)


def called(one, ended):
    """Whether a call was let through; it ends at once."""
    ticket = one.entered()
    one.left(ticket, ended)  # of no ticket this says nothing
    return ticket is not None


# -- the breaker against fluxgate, and against what its rule says ------------------------------------


class OnClock(TimeWindow):
    """fluxgate's window, with the records' time read off our clock (it binds `time.time` when it is imported)."""

    def __init__(self, size, clock):
        super().__init__(size)
        self._clock = clock

    def record(self, record):
        object.__setattr__(record, "timestamp", self._clock())
        super().record(record)


def fluxgates(clock, monkeypatch, *, limit, window_s, at_least, rest_s):
    """fluxgate's breaker with our rule: a share of a window, and one probe that decides."""
    monkeypatch.setattr(circuitbreaker, "time", SimpleNamespace(time=clock, perf_counter=clock))
    monkeypatch.setattr(retries, "time", SimpleNamespace(time=clock))
    rule = MinRequests(at_least) & FailureRate(limit)
    return fluxgate.CircuitBreaker(
        window=OnClock(window_s, clock),
        tracker=TypeOf(CallError),
        tripper=(Closed() & rule) | (HalfOpened() & MinRequests(1) & FailureRate(1.0)),
        retry=retries.Cooldown(rest_s),
        permit=All(),
    )


def through(theirs, fails):
    """Whether fluxgate let the call through."""

    try:
        theirs.call(Service(DOWN if fails else None))
    except CallNotPermittedError:
        return False
    except CallError:
        pass
    return True


def sequence(seed, monkeypatch, seconds=200):
    """How many calls were compared, and how often the breaker opened.

    Every second has a call that counts, for fluxgate drops a second of its window only when it is written over.
    """
    rng = random.Random(seed)
    rule = {
        "limit": rng.choice([0.05, 0.2, 0.5, 1.0]),
        "window_s": rng.choice([5, 10, 60]),
        "at_least": rng.choice([1, 3, 20]),
        "rest_s": rng.choice([1, 7, 30]),
    }
    clock = Clock()
    ours, theirs = breaker(clock, **rule), fluxgates(clock, monkeypatch, **rule)
    compared, share = 0, 0.0
    for second in range(seconds):
        clock.now = float(second)
        share = rng.choice([0.0, 0.02, 0.3, 1.0]) if second % 20 == 0 else share
        for _ in range(rng.randint(1, 4)):
            fails = rng.random() < share
            assert called(ours, "failed" if fails else "answered") == through(theirs, fails), (seed, second)
            assert (ours.state == "open") == (theirs.info().state == "open"), (seed, second)
            compared += 1
    return compared, ours.opened


@pytest.mark.parametrize("n", [60, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_it_opens_and_closes_when_fluxgate_does(monkeypatch, n):
    """The oracle, call by call, over random rules and failures that come and go."""
    runs = [sequence(seed, monkeypatch) for seed in range(n)]
    compared, opened = (sum(numbers) for numbers in zip(*runs, strict=True))
    print(f"{compared:,} calls, opened {opened:,} times, no difference from fluxgate")
    assert compared > 333 * n
    assert opened > 2 * n - 20


def test_the_window_slides_by_the_call_and_not_by_the_second():
    """At any times: open exactly when, of the calls of the last window, enough failed (reckoned anew each time)."""
    for seed in range(50):
        rng, clock = random.Random(seed), Clock()
        one, calls = breaker(clock, window_s=10, at_least=5, limit=0.4), deque()
        for _ in range(200):
            clock.now += rng.expovariate(1.0)
            fails = rng.random() < 0.25
            assert called(one, "failed" if fails else "answered")
            calls.append((clock.now, fails))
            recent = [failed for at, failed in calls if at > clock.now - 10]
            tripped = len(recent) >= 5 and sum(recent) >= 0.4 * len(recent)
            assert (one.state == "open") == tripped
            if tripped:
                break


@pytest.mark.parametrize(("at_least", "per_s", "low", "high"), [(1, 1, 50, 400), (100, 10, 0, 0)])
def test_the_plain_rule_trips_by_itself_and_the_minimum_of_calls_prevents_it(at_least, per_s, low, high):
    """A day at 1% errors, "5% of 60 s": dozens of false alarms with one call a second and no minimum, none with it."""
    rng, clock = random.Random(1), Clock()
    one = breaker(clock, limit=0.05, at_least=at_least)
    for call in range(86_400 * per_s if at_least == 1 else 200_000):
        clock.now = call / per_s
        called(one, "failed" if rng.random() < 0.01 else "answered")
    assert low <= one.opened <= high


def opened(clock, **changes):
    one = breaker(clock, **changes)
    for _ in range(4):
        called(one, "failed")
    assert one.state == "open"
    return one


def test_one_probe_at_a_time_and_its_answer_decides():
    clock = Clock()
    one = opened(clock)
    clock.now = 29.9
    assert one.entered() is None
    clock.now = 30.0
    probe = one.entered()
    assert (probe is not None, one.state, one.entered()) == (True, "probing", None)
    one.left(probe, "failed")
    clock.now = 59.9
    assert one.entered() is None
    clock.now = 60.0
    one.left(one.entered(), "answered")
    assert (one.state, one.opened) == ("closed", 2)


def test_a_probe_that_says_nothing_leaves_the_question_open():
    """A cancelled call, or one that the endpoint could not take: the next request is the probe."""
    clock = Clock()
    one = opened(clock)
    clock.now = 30.0
    one.left(one.entered(), "nothing")
    assert (one.state, called(one, "answered"), one.state) == ("open", True, "closed")


def test_calls_that_were_sent_before_a_change_count_no_more():
    """A slow failure from before the outage does not open a breaker that has just closed, nor ends a probe."""
    clock = Clock()
    one = breaker(clock, at_least=1, limit=1.0)
    slow = one.entered()
    called(one, "failed")
    clock.now = 30.0
    probe = one.entered()
    one.left(slow, "failed")
    assert one.state == "probing"
    one.left(probe, "answered")
    one.left(slow, "failed")
    assert one.state == "closed"


def test_rests_differ_so_that_processes_do_not_probe_together():
    rng, lengths = random.Random(3), []
    for _ in range(200):
        clock = Clock()
        one = opened(clock, jitter=rng.random)
        while one.entered() is None:
            clock.now += 0.1
        lengths.append(clock.now)
    assert 22.4 < min(lengths) < 24
    assert 36 < max(lengths) < 37.7


@pytest.mark.parametrize("changes", [{"limit": 0}, {"limit": 1.1}, {"window_s": 0}, {"at_least": 0}, {"rest_s": -1}])
def test_a_rule_that_cannot_hold_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        breaker(Clock(), **changes)


# -- two bundles -----------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """`make(primary's replies)` gives the fallback, its two clients and its clock; the project has no registry."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()

    def make(replies, *, backup_replies="from the backup", through=lambda client: client, **changes):
        clock = Clock()
        clients = {
            "https://api.openai.com/v1": ll.FakeClient(replies),
            "https://api.mistral.ai/v1": ll.FakeClient(backup_replies),
        }
        with pytest.warns(RuntimeWarning, match="not known to be good"):
            made = ll.Fallback(
                PRIMARY,
                BACKUP,
                **{"limit": 0.5, "at_least": 4, **changes},
                through=lambda client: through(clients[client.fingerprint]),
                clock=clock,
                jitter=lambda: 0.5,
            )
        return made, *clients.values(), clock

    return make


def ask(fallback, question="NaN?"):
    return asyncio.run(fallback.ask(question=question)).text


def test_a_call_that_fails_is_answered_by_the_backup_in_the_same_request(pair):
    fallback, primary, backup, _ = pair(Service(DOWN))
    assert ask(fallback) == "from the backup"
    assert (len(primary.requests), len(backup.requests)) == (1, 1)
    assert str(backup.requests[0].model) == "mistral/mistral-large-2411"


def test_an_outage_is_not_asked_again_until_a_probe_finds_it_over(pair):
    service = Service(DOWN)
    fallback, primary, backup, clock = pair(service)
    assert [ask(fallback) for _ in range(10)] == ["from the backup"] * 10
    assert (fallback.breaker.state, len(primary.requests), len(backup.requests)) == ("open", 4, 10)
    service.error, clock.now = None, 30.0
    assert [ask(fallback) for _ in range(3)] == ["from the primary"] * 3
    assert (fallback.breaker.state, dict(fallback.served)) == ("closed", {"backup": 10, "primary": 3})


@pytest.mark.parametrize("error", [RequestRefusedError("bad", status_code=400), RequestRefusedError("too long")])
def test_what_the_endpoint_cannot_take_is_the_caller_s_error(pair, error):
    """It would fail at the backup too: it is raised, asks nobody else and opens nothing."""
    fallback, _, backup, _ = pair(Service(error))
    for _ in range(10):
        with pytest.raises(RequestRefusedError):
            ask(fallback)
    assert (fallback.breaker.state, backup.requests) == ("closed", [])


@pytest.mark.parametrize(
    "error",
    [
        *(RequestRefusedError("refused", status_code=code) for code in (401, 402, 403, 404, 410, 429)),
        CallTimeoutError("too slow"),
        CallError("odd"),
    ],
    ids=str,
)
def test_a_key_an_account_a_model_or_a_time_that_is_gone_is_the_endpoint_s(pair, error):
    fallback, *_ = pair(Service(error))
    assert [ask(fallback) for _ in range(4)] == ["from the backup"] * 4
    assert fallback.breaker.state == "open"


def test_a_rate_limit_is_a_pause_and_no_failure(pair):
    service = Service(TransportError("slow down", status_code=429, retry_after_s=20))
    fallback, primary, _, clock = pair(service)
    assert [ask(fallback) for _ in range(5)] == ["from the backup"] * 5
    assert (len(primary.requests), fallback.breaker.state, fallback.breaker.opened) == (1, "closed", 0)
    service.error, clock.now = None, 25.1
    assert ask(fallback) == "from the primary"


def test_where_both_fail_the_backup_s_error_names_the_primary_s_as_its_cause(pair):
    fallback, *_ = pair(Service(DOWN), backup_replies=Service(CallTimeoutError("backup too slow")))
    with pytest.raises(CallTimeoutError, match="backup") as caught:
        ask(fallback)
    assert caught.value.__cause__ is DOWN


def test_a_mistake_in_the_inputs_is_neither(pair):
    fallback, primary, backup, _ = pair("x")
    with pytest.raises(PromptError, match="question"):
        asyncio.run(fallback.ask(topic="NaN?"))
    assert (primary.requests, backup.requests, fallback.breaker.state) == ([], [], "closed")


def test_a_cancelled_probe_does_not_close_the_way_for_ever(pair):
    """Whoever asked has gone: the next request is the probe."""
    service, hangs = Service(DOWN), []

    class Hanging:
        fingerprint = "hangs"

        def __init__(self, client):
            self._client = client

        async def complete(self, request):
            if hangs:
                await asyncio.Event().wait()
            return await self._client.complete(request)

    fallback, *_, clock = pair(service, through=Hanging)
    for _ in range(4):
        ask(fallback)
    service.error, clock.now = None, 30.0
    hangs.append("on")

    async def given_up():
        task = asyncio.ensure_future(fallback.ask(question="NaN?"))
        await asyncio.sleep(0)
        assert fallback.breaker.state == "probing"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    hangs.clear()
    assert ask(fallback) == "from the primary"


def test_the_trace_says_which_bundle_served(pair, tmp_path):
    """One line a request, whoever answered; the figures count how often it was the backup."""
    recorder = ll.Recorder(tmp_path / "traces", service="desk", key=b"k" * 32)
    fallback, *_ = pair(
        lambda request: Service(DOWN)(request) if "bad" in request.messages[0]["content"] else "ok",
        through=recorder.client,
        at_least=100,
    )

    async def serve(question):
        with recorder.request(unit="anna"):
            await fallback.ask(question=question)

    for question in ("fine?", "bad?"):
        asyncio.run(serve(question))
    traces = ll.Traces.load(tmp_path / "traces")
    assert [trace.bundle for trace in traces] == [PRIMARY.digest, BACKUP.digest]
    assert [trace.answer.text for trace in traces] == ["ok", "from the backup"]
    assert traces.frame["fallback"].tolist() == [0.0, 1.0]


def test_by_default_the_backup_is_what_the_catalogue_names(pair, tmp_path):
    """The same prompt on the model that models.yaml names; where it names none, or one that cannot, it says so."""
    catalogue = tmp_path / "experiments" / "models.yaml"
    catalogue.parent.mkdir()

    def made(fallback):
        entry = f"    fallback: {fallback}\n" if fallback else ""
        catalogue.write_text(f"models:\n  - provider: openai\n    id: gpt-4o-2024-08-06\n{entry}")
        return ll.Fallback(PRIMARY)

    with pytest.warns(RuntimeWarning, match="no passing gate"):
        assert made("mistral/mistral-large-2411").backup == BACKUP
    for fallback, told in ((None, "no fallback for openai/gpt-4o"), ("openai/o3-2025-04-16", "temperature")):
        with pytest.raises(ValueError, match=told):
            made(fallback)


def test_aliases_are_followed_and_a_backup_that_passed_its_gate_warns_nobody(project):
    """Two served bundles of the registry, each looked up again as its alias moves."""
    held, (one, two) = registry.registered(project, 2)
    registry.moved(held, one)
    passed, folder = registry.gated(project)
    promote(passed, alias="standby", experiment=folder, reason="a second one")
    client = ll.FakeClient("yes")
    fallback = ll.Fallback("qa@production", "qa@standby", through=lambda _: client)
    assert fallback.gated is True
    ask(fallback)
    registry.moved(held, two)
    load("qa@production", max_age_s=0)
    ask(fallback)
    assert [request.sampling.max_tokens for request in client.requests] == [100, 101]


def test_a_registry_that_cannot_be_asked_is_no_gate_and_no_obstacle(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{registry.free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(RuntimeWarning, match="could not be asked"):
        assert ll.Fallback(PRIMARY, BACKUP).gated is None


def test_over_the_wire_a_server_that_is_gone_is_replaced_by_one_that_answers(loopback, tmp_path, monkeypatch):
    """Real clients of two endpoints, their connections closed at the end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    addresses = tmp_path / "endpoints.yaml"
    gone = f"{{base_url: 'http://127.0.0.1:{registry.free_port()}/v1', key_env: null, attempts: 1}}"
    here = f"{{base_url: '{loopback.base_url}', key_env: null}}"
    addresses.write_text(f"endpoints:\n  openai: {gone}\n  mistral: {here}\n")
    with pytest.warns(RuntimeWarning, match="gate"):
        fallback = ll.Fallback(PRIMARY, BACKUP, endpoints=load_endpoints(addresses))

    async def asked():
        try:
            return await fallback.ask(question="NaN?")
        finally:
            await fallback.aclose()

    assert asyncio.run(asked()).text == "echo: NaN?"
    assert dict(fallback.served) == {"backup": 1}
