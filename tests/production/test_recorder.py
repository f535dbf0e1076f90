"""A line per request around any client or application; secrets are cut, and nothing breaks a request."""

import asyncio
import errno
import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import llmlab as ll
from llmlab import production
from llmlab.base.errors import PromptError, TransportError
from llmlab.base.private import project_key
from llmlab.clients.base import Usage
from llmlab.production.lines import cancelled_in
from llmlab.production.recorder import pseudonym
from llmlab.production.rollout import Arm

BUNDLE = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
CANDIDATE = Arm(name="candidate", bundle=BUNDLE, enrolled=True, rollout="r1")
KEY = b"k" * 32


def recorder(folder, **changes):
    return ll.Recorder(folder, **{"service": "help-desk", "key": KEY, "personal": "flag", **changes})


def answering(folder, replies="yes", **changes):
    """A recorder, and a client that it records."""
    recorded = recorder(folder, **changes)
    return recorded, recorded.client(ll.FakeClient(replies))


def asked(client, question="How do I drop NaN?"):
    return asyncio.run(client.complete(BUNDLE.request(question=question)))


def test_a_request_around_a_client_is_one_line_that_traces_read(tmp_path):
    """Who asked in which arm, what was sent, and what came back; people only as pseudonyms."""
    recorded, client = answering(tmp_path, "Use dropna().")
    with recorded.request(unit="anna", session="s1", arm=CANDIDATE) as request:
        asked(client)
    recorded.signal(request.request_id, thumbs=0)
    (trace,) = ll.Traces.load(tmp_path)
    assert (trace.unit_id, trace.session_id) == (pseudonym("anna", key=KEY), pseudonym("s1", key=KEY))
    assert (trace.arm, trace.rollout, trace.bundle, trace.service) == ("candidate", "r1", BUNDLE.digest, "help-desk")
    assert (trace.inputs, trace.answer.text) == ({"question": "How do I drop NaN?"}, "Use dropna().")
    assert trace.signals == {"thumbs": 0.0}
    assert "anna" not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == [f"help-desk-{trace.time:%Y-%m-%d}.jsonl"]


def test_a_tester_is_in_no_arm_and_a_call_alone_is_a_request_too(tmp_path):
    """Whoever is not enrolled is recorded, and analysed by no rollout."""
    recorded, client = answering(tmp_path)
    with recorded.request(unit="t", arm=replace(CANDIDATE, enrolled=False)):
        asked(client)
    asked(client)
    first, second = ll.Traces.load(tmp_path)
    assert (first.arm, first.rollout, first.bundle, second.bundle) == ("", "", BUNDLE.digest, BUNDLE.digest)
    assert (second.unit_id, second.answer.text) == ("", "yes")


def test_calls_of_one_request_add_up_and_an_application_says_what_it_knows(tmp_path):
    """Several calls are steps; guards and fields of its own come along."""
    recorded, client = answering(tmp_path)
    with recorded.request(unit="u") as request:
        alone = [asked(client, "a"), asked(client, "b")]
        request.guard("no_pii")
    with recorded.request(unit="v", context_tokens=8000) as request:
        request.answer("No client was asked.", inputs={"question": "c"})
    both, app = ll.Traces.load(tmp_path)
    assert both.answer.usage.output_tokens == sum(one.usage.output_tokens for one in alone)
    assert [step.output for step in both.steps] == ["yes", "yes"]
    assert both.guards == ("no_pii",)
    assert (app.answer.text, app.inputs) == ("No client was asked.", {"question": "c"})


def test_calls_of_one_request_add_up_over_threads(tmp_path):
    """However often they take turns."""
    recorded, call = recorder(tmp_path), BUNDLE.request(question="?")
    answer = ll.Generation(text="yes", usage=Usage(input_tokens=1, output_tokens=1))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            with recorded.request() as request, ThreadPoolExecutor(8) as pool:
                for _ in range(100):
                    pool.submit(request.called, call, answer, time.perf_counter())
                pool.shutdown()
    finally:
        sys.setswitchinterval(interval)
    told = [(trace.answer.usage.input_tokens, len(trace.steps)) for trace in ll.Traces.load(tmp_path)]
    assert told == [(100, 100)] * 20


def test_an_error_is_recorded_and_goes_on(tmp_path):
    """With its code, and without the key that it repeats."""

    def broken(request):
        raise TransportError("busy: sk-abcdefgh12345678", status_code=503, attempts=3)

    recorded, client = answering(tmp_path, broken)
    with pytest.raises(TransportError):
        asked(client)
    with pytest.raises(KeyError), recorded.request():
        raise KeyError("of the application")
    first, second = ll.Traces.load(tmp_path).frame[["status", "error_code", "error", "attempts"]].to_numpy().tolist()
    assert first == ["error", "503", "busy: [key removed]", 3.0]
    assert second[:2] == ["error", "KeyError"]


def test_keys_of_the_environment_never_reach_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_API_KEY", 'a"secret-value-9')
    _, client = answering(tmp_path, lambda request: request.messages[-1]["content"])
    asked(client, 'a"secret-value-9')
    (path,) = tmp_path.glob("*.jsonl")
    line = json.loads(path.read_text())
    assert line["text"] == "[SHOP_API_KEY removed]"
    assert "secret-value" not in json.dumps(line)


@pytest.mark.parametrize("policy", ["flag", "redact", "refuse"])
def test_keys_that_people_paste_never_reach_the_file(tmp_path, policy):
    """Known by their form, in questions, answers and errors, under every policy."""
    key = "ghp_" + "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX"
    recorded, client = answering(tmp_path, lambda request: f"You said:\n{key}", personal=policy)
    asked(client, f"Why is\n{key} refused?")
    with recorded.request() as request:
        request.answer(ll.Generation(status="error", error=f"bad key {key}"), inputs={"token": key})
    assert recorded.flush()
    (path,) = tmp_path.glob("*.jsonl")
    assert key not in path.read_text()


@pytest.mark.parametrize(
    ("policy", "text", "signals"),
    [
        ("flag", "Write to jo@firma.de", {"personal": 2.0}),
        ("redact", f"Write to [email address {'x' * 10}]", {}),
        ("refuse", "", {}),
    ],
)
def test_personal_data_is_looked_for_beside_the_request(tmp_path, policy, text, signals):
    """Counted, replaced by pseudonyms, or kept out, as the policy says."""
    recorded, client = answering(tmp_path, "Write to jo@firma.de", personal=policy)
    asked(client, "Who is jo@firma.de?")
    assert recorded.flush()
    (trace,) = ll.Traces.load(tmp_path)
    assert len(trace.answer.text) == len(text)
    assert ("firma" in trace.answer.text) == (policy == "flag")
    assert trace.signals == signals


def test_a_full_disk_breaks_no_request_and_is_counted(tmp_path, monkeypatch, caplog):
    """A line cut short stays torn; the next one begins on a line of its own."""
    (recorded, client), write = answering(tmp_path), os.write
    asked(client)
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20]))
    assert asked(client).text == "yes"

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert asked(client).text == "yes"
    monkeypatch.undo()
    asked(client)
    assert recorded.lost == 2
    assert "No space left" in recorded.problem
    assert len(caplog.records) == 1
    read = ll.Traces.load(tmp_path)
    assert len(read) == 2
    assert [row["count"] for row in read.problems.rows] == [1]


def test_the_line_after_a_torn_one_is_whole_whoever_wrote_that(tmp_path, monkeypatch):
    """A service that was started again, or a second worker."""
    (_, client), write = answering(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20]))
    asked(client)
    monkeypatch.undo()
    recorded, client = answering(tmp_path)
    asked(client)
    assert recorded.lost == 0
    assert len(ll.Traces.load(tmp_path)) == 1


def test_a_forked_worker_waits_for_no_thread_of_its_parent(tmp_path):
    recorded = recorder(tmp_path)
    with recorded._lock:  # as while another thread writes
        child = os.fork()
        if child == 0:
            with recorded.request(unit="u") as request:
                request.answer("yes")
            os._exit(recorded.lost)
        for _ in range(200):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
    assert (ended, status) == (child, 0)
    assert len(ll.Traces.load(tmp_path)) == 1


HURRIED = """
import sys, llmlab as ll
recorder, text = ll.Recorder(sys.argv[1], key=b"k" * 32, personal="redact"), "Call +49 30 1234567 about 4711. " * 500
for _ in range(2000):
    with recorder.request(unit="u") as request:
        request.answer(text, inputs={"question": text})
"""


def test_a_process_that_ends_in_a_hurry_writes_every_line(tmp_path):
    """Those whose texts nobody had time to look through without them."""
    done = subprocess.run([sys.executable, "-c", HURRIED, str(tmp_path)], capture_output=True, text=True, check=True)
    traces = ll.Traces.load(tmp_path)
    assert len(traces) == 2000
    assert "1234567" not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert all(trace.answer.text for trace in traces) == ("before the texts of" not in done.stderr)


def test_a_plain_answer_leaves_what_was_said_before(tmp_path):
    recorded = recorder(tmp_path)
    known = {"served_model": "m", "cost_usd": 0.01, "prompt_tokens": 12, "attempts": 3}
    with recorded.request(unit="u", **known) as request:
        request.answer("yes")
    (trace,) = ll.Traces.load(tmp_path)
    answer = trace.answer
    assert (answer.text, answer.served_model, float(answer.cost_usd)) == ("yes", "m", 0.01)
    assert (answer.usage.input_tokens, answer.attempts) == (12, 3)


def test_a_stream_that_is_resumed_in_other_threads_is_one_line(tmp_path):
    """As Starlette does: each step in its own copy of the context. A client may be told whose calls it has."""
    recorded = recorder(tmp_path)

    def stream():
        with recorded.request(unit="anna") as request:
            client = recorded.client(ll.FakeClient("yes"), request=request)
            for question in ("a", "b"):
                yield asked(client, question).text

    steps = stream()
    with ThreadPoolExecutor() as pool:
        for _ in range(3):
            pool.submit(copy_context().run, next, steps, None).result()
    (trace,) = ll.Traces.load(tmp_path)
    assert (trace.unit_id, [step.output for step in trace.steps]) == (pseudonym("anna", key=KEY), ["yes", "yes"])
    assert recorded.lost == 0


@pytest.mark.parametrize("answer", ["", "yes"])
def test_a_stream_that_another_task_closes_is_one_line(tmp_path, answer):
    """Of somebody who left, where nothing was answered yet: no error rate counts that."""
    recorded = recorder(tmp_path)

    async def stream():
        with recorded.request(unit="anna") as request:
            if answer:
                request.answer(answer)
            yield 1
            yield 2

    async def served():
        steps = stream()
        await asyncio.create_task(anext(steps))
        await asyncio.create_task(steps.aclose())

    asyncio.run(served())
    (trace,) = traces = ll.Traces.load(tmp_path)
    assert trace.answer.status == ("ok" if answer else "error")
    assert cancelled_in(traces.to_frame()).tolist() == [not answer]


def test_a_closed_request_takes_no_calls(tmp_path):
    """A generator that ended elsewhere leaves nothing behind; interleaved ones end in any order."""
    recorded, client = answering(tmp_path)

    def stream(unit):
        with recorded.request(unit=unit):
            yield

    left = stream("anna")
    next(left)
    threading.Thread(target=left.close).start()
    while not list(tmp_path.glob("*.jsonl")):
        time.sleep(0.01)
    asked(client)
    first, second = stream("ben"), stream("carl")
    for steps in (first, second):
        next(steps)
    first.close()
    asked(client, "of carl")
    second.close()
    asked(client)
    assert production.recorder.open_request() is None
    names = {pseudonym(name, key=KEY): name for name in ("anna", "ben", "carl")} | {"": ""}
    told = sorted((names[trace.unit_id], trace.answer.text) for trace in ll.Traces.load(tmp_path))
    assert told == [("", "yes"), ("", "yes"), ("anna", ""), ("ben", ""), ("carl", "yes")]


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_ends_after_its_request_has_a_line_of_its_own(tmp_path, fails):
    """Of the same person and in no arm: a rollout counts what was answered."""
    ready = asyncio.Event()

    class Slow:
        fingerprint = "slow"

        async def complete(self, request):
            await ready.wait()
            if fails:
                raise TransportError("busy", status_code=503)
            return ll.Generation(text="late")

    recorded = recorder(tmp_path)
    client = recorded.client(Slow())

    async def served():
        with recorded.request(unit="anna", arm=CANDIDATE):
            task = asyncio.create_task(client.complete(BUNDLE.request(question="?")))
            await asyncio.sleep(0)
        ready.set()
        await asyncio.wait([task])
        assert fails == (task.exception() is not None)

    asyncio.run(served())
    answered, late = sorted(ll.Traces.load(tmp_path), key=lambda trace: trace.arm, reverse=True)
    assert (answered.arm, answered.unit_id) == ("candidate", late.unit_id)
    assert (late.arm, late.rollout, late.answer.text) == ("", "", "" if fails else "late")
    assert late.answer.status == ("error" if fails else "ok")


def test_no_name_of_a_person_and_no_value_breaks_a_request(tmp_path):
    """Numbers and UUIDs are taken by their texts; a value that cannot become text costs its line, which is counted."""

    class Broken:
        def __str__(self):
            raise AttributeError("broken")

    recorded = recorder(tmp_path)
    with recorded.request(unit=7, session=uuid.UUID(int=1), request_id=uuid.UUID(int=2), service="other") as request:
        request.answer("half \ud800 a pair\u2028\n", inputs={"when": threading.current_thread()})
    with recorded.request(unit=None) as request:
        request.answer("yes", inputs={"what": Broken()})
    (trace,) = ll.Traces.load(tmp_path)
    assert (trace.unit_id, trace.service) == (pseudonym("7", key=KEY), "other")
    assert trace.answer.text == "half ? a pair\u2028\n"
    assert recorded.flush()
    assert (recorded.lost, recorded.problem) == (1, "broken")
    assert production.forget(tmp_path, 7, key=KEY) == 1


def test_a_signal_is_a_finite_number(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        recorder(tmp_path).signal("r1", thumbs=float("nan"))
    recorder(tmp_path).signal("r1", thumbs=np.int64(1), judge=np.float32(0.5))
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["signals"] == {"thumbs": 1.0, "judge": 0.5}


@pytest.mark.parametrize("of", [{}, {"thumbs": None}, {"thumbs": 10**400}, {"thumbs": "1"}])
def test_a_signal_that_says_nothing_is_refused(tmp_path, of):
    with pytest.raises(ValueError, match="thumbs"):
        recorder(tmp_path).signal("r1", **of)
    with pytest.raises(ValueError, match="request"):
        recorder(tmp_path).signal("", thumbs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signals", [{}, {"thumbs": None}])
def test_a_signal_without_a_value_never_takes_the_place_of_its_request(tmp_path, signals):
    """As an earlier version wrote it, or another service writes it; it is counted."""
    recorded = recorder(tmp_path)
    with recorded.request(unit="anna") as request:
        request.answer("yes")
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        late = {"request_id": request.request_id, "time": "2100-01-01T00:00:00Z", "signals": signals}
        file.write(json.dumps(late) + "\n")
    traces = ll.Traces.load(tmp_path)
    assert [(trace.answer.text, trace.unit_id) for trace in traces] == [("yes", pseudonym("anna", key=KEY))]
    assert [(row["problem"], row["count"]) for row in traces.problems.rows] == [("signal without a value", 1)]


def test_numbers_of_numpy_are_numbers_and_what_is_none_is_unknown(tmp_path):
    """In what an application answers and in what a client gives, whose amounts add up."""
    recorded = recorder(tmp_path)
    usage = Usage(input_tokens=np.int64(5), output_tokens="six", cached_input_tokens=np.array([1, 2]))
    seconds = {"latency_s": np.float32(0.5), "first_token_s": np.float32(0.25)}
    generation = ll.Generation(text="yes", usage=usage, attempts=np.int64(2), **seconds)
    with recorded.request(context_tokens=np.int32(8)) as request:
        request.answer(generation, inputs={"k": np.int64(3)})
    with recorded.request() as request:
        for _ in range(2):
            request.called(BUNDLE.request(question="?"), generation, time.perf_counter())
    one, two = traces = ll.Traces.load(tmp_path)
    assert traces.frame["context_tokens"].tolist()[0] == 8
    assert (one.answer.usage.input_tokens, one.answer.attempts, one.inputs) == (5, 2, {"k": 3})
    assert (two.answer.usage.input_tokens, two.answer.attempts) == (10, 3)
    assert two.answer.usage.output_tokens is None
    assert [step.latency_s for step in two.steps] == [0.5, 0.5]
    assert recorded.lost == 0


def test_an_endless_number_is_written_as_unknown(tmp_path):
    with recorder(tmp_path).request() as request:
        request.answer("yes", cost_usd=float("nan"), latency_s=float("inf"))
    (file,) = tmp_path.glob("*.jsonl")
    line = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["text"], line["cost_usd"], line["latency_s"]) == ("yes", None, None)


def test_nothing_odd_is_raised_into_a_request(tmp_path):
    """No answer, an answer that is none, an error without a text, and no id: they are told, or recorded."""

    class WordlessError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    class Odd:
        fingerprint = "odd"

        async def complete(self, request):
            if request.messages[-1]["content"] == "plain":
                return "plain"
            raise WordlessError

    recorded = recorder(tmp_path)
    client = recorded.client(Odd())
    with recorded.request(request_id=None) as first, recorded.request(request_id=None) as second:
        second.answer(None)
    assert asked(client, "plain") == "plain"
    assert (recorded.lost, "steps" in recorded.problem) == (1, True)
    with pytest.raises(WordlessError):
        asked(client)
    with pytest.raises(WordlessError), recorded.request():
        raise WordlessError
    frame = ll.Traces.load(tmp_path).frame
    assert first.request_id != second.request_id
    assert sorted(frame["status"]) == ["empty", "error", "error", "ok", "ok"]
    assert frame["error_code"].dropna()[lambda codes: codes != ""].tolist() == ["WordlessError"] * 2


def test_a_recorder_stays_in_its_folder_wherever_the_process_goes(tmp_path, monkeypatch):
    """A day later too; a folder that somebody removed is made again."""
    monkeypatch.chdir(tmp_path)
    recorded = recorder("traces")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(2):
        with recorded.request():
            pass
        assert len(ll.Traces.load(tmp_path / "traces")) == 1
        shutil.rmtree(tmp_path / "traces")
    assert (recorded.lost, list(Path().iterdir())) == (0, [])


def test_what_a_service_changes_later_is_not_what_it_asked(tmp_path, monkeypatch):
    """A history that goes on, while its first request still waits to be looked through."""
    looked, ready = production.recorder.pseudonymised, threading.Event()

    def slowly(value, *, key):
        ready.wait(10)
        return looked(value, key=key)

    monkeypatch.setattr(production.recorder, "pseudonymised", slowly)
    recorded, history = recorder(tmp_path, personal="redact"), ["one"]
    with recorded.request() as request:
        request.answer("yes", inputs={"history": history})
    history.append("two")
    ready.set()
    assert recorded.flush()
    (trace,) = ll.Traces.load(tmp_path)
    assert trace.inputs == {"history": ["one"]}


def test_a_request_that_ends_while_another_is_written_stops_nobody(tmp_path, monkeypatch):
    """A generator that is collected just then, in the very thread that writes."""
    recorded, write = recorder(tmp_path), os.write

    def stream():
        with recorded.request(unit="anna"):
            yield

    def writes(file, data):
        if left:
            left.pop().close()
        return write(file, data)

    def serve():
        with recorded.request(unit="ben"):
            pass

    left = [stream()]
    next(left[0])
    monkeypatch.setattr(os, "write", writes)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ll.Traces.load(tmp_path)) == 2


def test_where_no_thread_can_be_started_lines_are_written_without_texts(tmp_path, monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    recorded, client = answering(tmp_path, personal="redact")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        asyncio.run(client.complete(BUNDLE.request(question="?")))
    asked(client)
    assert recorded.flush()
    assert [trace.answer.text for trace in ll.Traces.load(tmp_path)] == ["", "yes"]
    assert (recorded.lost, recorded.unlooked) == (0, 1)


def test_forked_workers_lose_no_line_and_double_none(tmp_path):
    """Recorded in the parent before and meanwhile, and in workers of multiprocessing, which skip `atexit`."""
    recorded = recorder(tmp_path, personal="redact")

    def work(who):
        for i in range(50):
            with recorded.request(request_id=f"{who}-{i}") as request:
                request.answer("Call +49 30 1234567. " * 50)

    work("before")
    workers = [multiprocessing.get_context("fork").Process(target=work, args=(f"worker{k}",)) for k in range(2)]
    for worker in workers:
        worker.start()
    work("meanwhile")
    for worker in workers:
        worker.join()
    assert recorded.flush(60)
    traces = ll.Traces.load(tmp_path)
    assert (len(traces), traces.problems.rows, [worker.exitcode for worker in workers]) == (200, (), [0, 0])


WRITES = """
import sys, llmlab as ll
recorder = ll.Recorder(sys.argv[1], key=b"k" * 32, personal="flag")
for i in range(100):
    with recorder.request() as request:
        request.answer("w " * 100_000)
"""


def test_lines_of_processes_that_write_at_once_follow_each_other(tmp_path):
    """Whoever sees a line that is just being written takes it for no torn one: of 2,000 such lines 97 were blank."""
    several = [subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in several] == [0] * 4
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().split(b"\n")[:-1]
    assert (len(lines), lines.count(b"")) == (400, 0)


def test_waiting_for_no_time_is_enough_where_nothing_waits(tmp_path):
    recorded = recorder(tmp_path)
    with recorded.request(unit="anna") as opened:
        opened.answer("yes")
    assert recorded.flush()
    assert [recorded.flush(0) for _ in range(3)] == [True] * 3


def test_the_projects_key_lies_outside_git_and_is_its_owners_alone(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    recorded = ll.Recorder("traces")
    path = tmp_path / "mlruns" / "pseudonyms.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert recorded.key == project_key(tmp_path / "mlruns")
    assert "mlruns/*" in Path(ll.__file__).parents[1].joinpath(".gitignore").read_text()


def test_a_bundle_gives_a_service_its_request_with_passages_and_tools():
    """What a run sends for a case of the same inputs, to the last byte."""
    from llmlab.engine.call_setup import CallSetup
    from llmlab.engine.plan import make_plan

    bundle = ll.Experiment.load("experiments/pandas_help").bundles["v2"]
    case = ll.Case(id="q", inputs={"question": "How do I drop NaN rows?"})
    plan = make_plan(bundle, ll.GoldenSet(cases=(case,)), CallSetup(client=ll.FakeClient(lambda request: "")))
    ((call,),) = plan.batches()
    request = bundle.request(question="How do I drop NaN rows?")
    assert request.to_json() == call.request.to_json()
    assert tuple(dict.fromkeys(found["id"] for found in request.about["retrieved"])) == call.retrieved
    with pytest.raises(PromptError, match="question"):
        bundle.request(query="?")
