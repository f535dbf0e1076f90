"""The call store: durable before use, whole or a miss, one key for one request."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import StoreError
from llmlab.bundle.bundle import Bundle, ModelRef, Sampling
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.call_store import CallStore, call_key
from llmlab.clients.fake import FakeClient
from llmlab.engine.runs import run
from llmlab.golden.cases import Case, GoldenSet
from tests.clients.made import asking

ROOT = Path(__file__).parents[2]
ANSWER = Generation(
    text="dropna",
    usage=Usage(input_tokens=12, output_tokens=3, cached_input_tokens=4),
    latency_s=0.25,
    cost_usd=Decimal("0.000123"),
    served_model="gpt-4o-2024-08-06",
    system_fingerprint="fp_1",
    tool_calls=({"name": "f", "arguments": {"x": [1, 2]}},),
    attempts=3,
)


BASE = asking(
    model="openai/gpt-4o-2024-08-06",
    sampling=Sampling(temperature=0.0, top_p=0.9, max_tokens=10, stop=("a",)),
    tools=({"name": "f", "parameters": {"type": "object"}},),
    seed=1,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    """A new store, open."""
    with CallStore(tmp_path / "c") as opened:
        yield opened


def keep(store: CallStore, answers: Mapping[str, Generation], *, request: Request | None = BASE) -> None:
    async def put_all() -> None:
        await asyncio.gather(*(store.put(key, request, answer) for key, answer in answers.items()))

    asyncio.run(put_all())


def kept(path: Path, **answers: str) -> None:
    """A store with these answers of an application by key."""
    with CallStore(path) as store:
        keep(store, {key: Generation(text=text) for key, text in answers.items()}, request=None)


def with_model(**changes: str) -> dict[str, ModelRef]:
    return {"model": BASE.model.model_copy(update=changes)}


ONE_PART_CHANGED: list[dict[str, Any]] = [
    {"messages": ({"role": "user", "content": "How!"},)},
    {"messages": ({"role": "system", "content": "s"}, *BASE.messages)},
    {"messages": ({"role": "assistant", "content": "How?"},)},
    with_model(id="gpt-4o-2024-11-20"),
    with_model(provider="azure"),
    with_model(revision="abc"),
    with_model(quantisation="int8"),
    {"tools": ()},
    *({"seed": seed} for seed in (2, None)),
    {"repeat": 1},
    *(
        {"sampling": BASE.sampling.model_copy(update={name: value})}
        for name, values in {
            "temperature": (0.7, None),
            "top_p": (0.8, None),
            "top_k": (5,),
            "max_tokens": (11, None),
            "stop": (("b",), ()),
            "frequency_penalty": (0.0,),
            "presence_penalty": (0.0,),
            "response_format": ({"type": "json_object"},),
            "extra": ({"a_parameter_of_tomorrow": 0}, {"a_parameter_of_tomorrow": None}),
        }.items()
        for value in values
    ),
]


SHARED_AND_KILLED = """
import os, subprocess, sys
from pathlib import Path
from tests.clients.test_call_store import kept, keep, ANSWER
from llmlab.clients.call_store import CallStore

path = Path(sys.argv[1])
store = CallStore(path)
keep(store, {"first": ANSWER})
with CallStore(path) as beside:
    beside.get_many(["first"])
colleague = "import sys; from pathlib import Path; from tests.clients.test_call_store import kept"
subprocess.run([sys.executable, "-c", f"{colleague}; kept(Path(sys.argv[1]), theirs='yes')", str(path)], check=True)
keep(store, {f"later {i}": ANSWER for i in range(50)})
os._exit(9)
"""


def test_answers_outlive_a_kill_though_others_have_opened_and_closed_the_store(tmp_path: Path) -> None:
    """A second store of the process, as an index of vectors opens one, and then a colleague's."""
    path = tmp_path / "calls.sqlite"
    killed = subprocess.run([sys.executable, "-c", SHARED_AND_KILLED, str(path)], cwd=ROOT, check=False)
    assert killed.returncode == 9
    with CallStore(path) as store:
        assert len(store) == 1 + 1 + 50


def test_changing_one_part_of_a_request_misses_the_store() -> None:
    """FAULTS 18 to 20 and 23: whatever can change the answer is in the key, absent and zero apart."""
    changed = {call_key("here", dataclasses.replace(BASE, **change)): change for change in [{}, *ONE_PART_CHANGED]}
    assert [*changed.values()] == [{}, *ONE_PART_CHANGED]


def test_another_endpoint_misses_the_store() -> None:
    assert call_key("https://a/v1", BASE) != call_key("https://b/v1", BASE)
    assert call_key("a{", BASE) != call_key("a", BASE)


def test_every_field_of_a_request_is_in_its_key() -> None:
    """A field added to Request later is in the key without anybody remembering it."""
    asked = {field.name for field in dataclasses.fields(Request)} - {"about"}  # what a recorder may know besides
    assert set(json.loads(BASE.to_json())) == asked


def test_composed_and_decomposed_letters_are_different_requests() -> None:
    nfc, nfd = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    assert call_key("x", asking(nfc)) != call_key("x", asking(nfd))


def test_the_order_of_keys_does_not_change_the_key() -> None:
    one = asking(messages=({"role": "user", "content": "q"},), tools=({"name": "f", "parameters": {"a": 1, "b": 2}},))
    two = asking(messages=({"content": "q", "role": "user"},), tools=({"parameters": {"b": 2, "a": 1}, "name": "f"},))
    assert call_key("x", one) == call_key("x", two)


def test_an_answer_comes_back_as_it_was_and_is_marked_as_a_hit(tmp_path: Path) -> None:
    """FAULTS 27: a hit keeps the original latency, cost and served model."""
    with CallStore(tmp_path / "calls.sqlite") as store:
        keep(store, {"k": ANSWER})
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert store.get_many(["k", "other"]) == {"k": dataclasses.replace(ANSWER, cached=True, call_key="k")}
        assert len(store) == 1


def test_the_request_is_kept_beside_its_answer(store: CallStore) -> None:
    keep(store, {"k": ANSWER})
    assert store.request_json("k") == BASE.to_json()
    assert store.request_json("unknown") is None


def test_an_answer_is_on_disk_when_put_returns(tmp_path: Path) -> None:
    """FAULTS 1: the process is gone right after the first put, without closing anything."""
    program = (
        "import asyncio, os, sys; from tests.clients.test_call_store import *\n"
        "store = CallStore(sys.argv[1])\n"
        "async def go():\n"
        "    await store.put('k', asking(), ANSWER)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(go())"
    )
    path = tmp_path / "calls.sqlite"
    assert subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=False).returncode == -9
    with CallStore(path) as store:
        assert store.get_many(["k"])["k"].text == ANSWER.text


def test_the_first_answer_under_a_key_stays_and_who_is_second_gets_it(tmp_path: Path) -> None:
    """Of another process, or in one batch: all who asked have the same, now and when they run again."""

    async def both(one: CallStore, two: CallStore) -> list[str]:
        first = await one.put("k", BASE, Generation(text="first"))
        second = await two.put("k", BASE, Generation(text="second"))
        batch = await asyncio.gather(*(one.put("b", BASE, Generation(text=text)) for text in "xyz"))
        return [answer.text for answer in (first, second, *batch)]

    with CallStore(tmp_path / "c") as one, CallStore(tmp_path / "c") as two:
        assert asyncio.run(both(one, two)) == ["first", "first", "x", "x", "x"]
        assert (one.shared, two.shared) == (False, True)
        assert {answer.text for answer in one.get_many("kb").values()} == {"first", "x"}
    with CallStore(tmp_path / "c") as alone:
        keep(alone, {"n": ANSWER})
        assert not alone.shared


def test_a_run_pays_for_nothing_that_another_process_has_stored_in_the_meantime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where both asked at once, as claims are not seen everywhere, both have the numbers of the first."""
    monkeypatch.setattr("llmlab.clients.call_store.fcntl", None)
    golden = GoldenSet(cases=tuple(Case(id=f"c{i}", inputs={"question": f"q{i}"}, expected="a") for i in range(40)))
    bundle = Bundle.from_prompt("{{ question }}", model="acme/m-1", temperature=0.0)
    path, asked, others = tmp_path / "c", list[str](), list[Generation]()

    class Racing:
        fingerprint = "racing"

        def __init__(self, name: str) -> None:
            self.name = name

        async def complete(self, request: Request) -> Generation:
            asked.append(self.name)
            if len(asked) == 1:  # while the first call is out, another run answers everything
                thread = threading.Thread(target=lambda: others.extend(answered("other")))
                thread.start()
                thread.join()
            return Generation(text=f"of {self.name}", cost_usd=Decimal("0.1"))

    def answered(name: str) -> list[Generation]:
        results = run(bundle, golden, client=Racing(name), store=path, concurrency=1, progress=False)
        return list(results.generations())

    mine = answered("mine")
    assert {answer.text for answer in [*mine, *others, *answered("again")]} == {"of other"}
    assert (asked.count("mine"), asked.count("other"), asked.count("again")) == (1, 40, 0)
    assert [answer.cached for answer in mine] == [False, *[True] * 39]  # what was sent is not cached


def test_many_answers_at_once_take_few_commits(store: CallStore) -> None:
    texts = {f"k{i}": str(i) for i in range(2500)}
    keep(store, {key: Generation(text=text) for key, text in texts.items()})
    assert {key: answer.text for key, answer in store.get_many(texts).items()} == texts


def damage(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, values)


@pytest.mark.parametrize(
    "change",
    [
        "answer = x'7b'",
        "answer = substr(answer, 1, length(answer) - 5)",
        "answer = replace(answer, 'dropna', 'fillna')",
        "answer = NULL",
        "answer = 'text'",
        "checksum = checksum + 1",
        "checksum = NULL",
        "key = 'moved'",
    ],
)
def test_a_damaged_entry_is_a_miss_with_a_warning_and_can_be_replaced(tmp_path: Path, change: str) -> None:
    """FAULTS 22: never served, never a crash, and asked again."""
    path = tmp_path / "c"
    with CallStore(path) as store:
        keep(store, {"good": ANSWER, "bad": ANSWER})
    damage(path, f"UPDATE calls SET {change} WHERE key = 'bad'")
    key = "moved" if "moved" in change else "bad"
    with CallStore(path) as store:
        with pytest.warns(RuntimeWarning, match="damaged"):
            assert list(store.get_many(["good", key])) == ["good"]
        keep(store, {key: Generation(text="asked again")})
        assert store.get_many([key])[key].text == "asked again"


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_anywhere_never_serve_a_wrong_answer(tmp_path: Path, seed: int) -> None:
    """FAULTS 22: after 40 flipped bytes every entry is as it was, a miss with a warning, or the file is refused."""
    path, draw = tmp_path / "c", random.Random(seed)
    answers = {f"{i:064x}": Generation(text=f"answer {i} " * 20) for i in range(60)}
    with CallStore(path) as store:
        keep(store, answers)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        content[draw.randrange(100, len(content))] = draw.randrange(256)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with CallStore(path) as store:
                found = store.get_many(answers)
        except StoreError as error:
            assert "damaged" in str(error)  # noqa: PT017 - either outcome is right
            return
    assert all(found[key].text == answers[key].text for key in found)


def test_a_file_that_is_no_database_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"this is not SQLite " * 100)
    with pytest.raises(StoreError, match=r"not a database.*move it away or restore"):
        CallStore(tmp_path / "c")


@pytest.mark.parametrize(
    ("ours", "sql", "rule"),
    [(False, "CREATE TABLE runs (id)", "no call store"), (True, "PRAGMA user_version = 99", "newer format, 99")],
)
def test_somebody_elses_database_and_a_newer_format_are_refused(
    tmp_path: Path, ours: bool, sql: str, rule: str
) -> None:
    if ours:
        CallStore(tmp_path / "c").close()
    damage(tmp_path / "c", sql)
    with pytest.raises(StoreError, match=rule):
        CallStore(tmp_path / "c")


def test_a_network_filesystem_is_refused_and_a_local_one_under_it_is_not(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    there = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {there} nfs4 rw 0 0\n/dev/sdb {there}/local ext4 rw 0 0\n")
    with pytest.raises(StoreError, match=r"network filesystem \(nfs4\).*local disk"):
        CallStore(tmp_path / "c", mounts=mounts)
    assert not (tmp_path / "c").exists()
    CallStore(tmp_path / "local" / "c", mounts=mounts).close()


def test_the_file_is_for_its_owner_only(store: CallStore, tmp_path: Path) -> None:
    keep(store, {"k": ANSWER})
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        CallStore(tmp_path / "file" / "c")


def test_a_full_disk_fails_the_put_and_everything_after_it(tmp_path: Path) -> None:
    """FAULTS 11: stop before the next paid call, keep what was kept."""
    path = tmp_path / "calls.sqlite"
    program = (
        "import asyncio, resource, signal, sys; from tests.clients.test_call_store import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = CallStore(sys.argv[1])\n"
        "keep(store, {'first': ANSWER})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    keep(store, {'big': Generation(text='x' * 1_000_000)})\n"
        "except StoreError as error:\n"
        "    print('PUT', error)\n"
        "try:\n"
        "    store.check()\n"
        "except StoreError as error:\n"
        "    print('CHECK', error)\n"
    )
    put, check = subprocess.check_output([sys.executable, "-c", program, path], cwd=ROOT, text=True).splitlines()
    assert put.startswith("PUT")
    assert check.removeprefix("CHECK") == put.removeprefix("PUT")
    assert "make room on the disk" in put
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with CallStore(path) as store:
        assert list(store.get_many(["first", "big"])) == ["first"]


WORKER = """
import sys; from tests.clients.test_call_store import *

with CallStore(sys.argv[1]) as store:
    for start in range(0, 60, 10):
        keys = [f"{sys.argv[2]}-{start + i}" for i in range(10)] + ["shared"]
        keep(store, {key: Generation(text=key) for key in keys})
"""


def test_several_processes_share_a_new_store(tmp_path: Path) -> None:
    """FAULTS 12 and 26: all open it at once where there is none yet, and no lock reaches the user."""
    path = str(tmp_path / "calls.sqlite")
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, path, str(i)], cwd=ROOT) for i in range(4)]
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]
    with CallStore(path) as store:
        assert len(store) == 4 * 60 + 1


def test_an_answer_of_another_process_is_seen_without_reopening(store: CallStore) -> None:
    with CallStore(store.path) as other:
        assert store.get_many(["k"]) == {}
        keep(other, {"k": ANSWER})
        assert store.get_many(["k"])["k"].text == ANSWER.text


def test_a_cancelled_waiter_loses_nothing(tmp_path: Path) -> None:
    async def cancel_while_writing(store: CallStore) -> None:
        waiting = asyncio.create_task(store.put("k", asking(), ANSWER))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with CallStore(tmp_path / "c") as store:
        asyncio.run(cancel_while_writing(store))
    with CallStore(tmp_path / "c") as store:
        assert "k" in store.get_many(["k"])


@pytest.mark.parametrize("odd", [b'{"text": 1, "nope": 2}', b'{"status": "ok", "text": "x", "cost_usd": "free"}'])
def test_of_another_store_all_is_read_up_to_what_is_no_answer(tmp_path: Path, odd: bytes) -> None:
    """A right checksum over an answer of another version; and a second thread that finds the store left out."""
    (tmp_path / "calls.d").mkdir()
    kept(tmp_path / "calls.d" / "other.sqlite", a="of a", b="of b", c="of c")
    checksum = zlib.crc32(odd, zlib.crc32(b"c"))
    change = "UPDATE calls SET answer = ?, checksum = ? WHERE key = 'c'"
    damage(tmp_path / "calls.d" / "other.sqlite", change, odd, checksum)
    with CallStore(tmp_path / "c.sqlite") as store:
        with pytest.warns(RuntimeWarning, match="left out"):
            assert set(store.get_many("abc")) == {"a", "b"}
        with pytest.warns(RuntimeWarning, match="left out"):
            assert store._borrowed("other", ["a"]) == {}


def test_a_closed_store_says_so_and_closes_twice(store: CallStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.get_many(["k"])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_to_open_its_own(store: CallStore) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.check()
        except StoreError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_store_closed_under_a_reader_says_so(tmp_path: Path) -> None:
    """A run that ends early leaves a thread that still looks answers up: it gets an error, and nothing crashes."""
    keys = [str(n) for n in range(2_000)]
    said: list[str] = []

    def read(store: CallStore, started: threading.Event) -> None:
        try:
            while True:
                store.get_many(keys)
                started.set()
        except StoreError as error:
            said.append(str(error))

    for _ in range(20):
        store, started = CallStore(tmp_path / "calls.sqlite"), threading.Event()
        reader = threading.Thread(target=read, args=(store, started))
        reader.start()
        started.wait()
        store.close()
        reader.join()
    assert len(said) == 20
    assert all("is closed" in text for text in said)


def test_answers_of_others_are_read_after_our_own_and_their_files_are_never_written_to(tmp_path: Path) -> None:
    kept(tmp_path / "calls.sqlite", a="mine")
    (tmp_path / "calls.d").mkdir()
    kept(tmp_path / "calls.d" / "anna.sqlite", a="of anna", b="of anna")
    kept(tmp_path / "calls.d" / "ben.sqlite", b="of ben", c="of ben")
    before = {path.name: path.read_bytes() for path in (tmp_path / "calls.d").iterdir()}
    with CallStore(tmp_path / "calls.sqlite") as store:
        found = store.get_many(["a", "b", "c", "d"])
        assert {key: answer.text for key, answer in found.items()} == {"a": "mine", "b": "of anna", "c": "of ben"}
        assert store.borrowed == {"b": "anna", "c": "ben"}
        assert all(answer.cached for answer in found.values())
        assert len(store) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "calls.d").iterdir()} == before


def test_a_store_of_ours_that_is_read_also_may_be_written_at_any_time_and_lies_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "project" / "calls.d").mkdir(parents=True)
    kept(tmp_path / "project" / "calls.sqlite", a="of the project")
    kept(tmp_path / "project" / "calls.d" / "anna.sqlite", a="of anna", b="of anna")
    also = tmp_path / "project" / "calls.sqlite"
    with CallStore(tmp_path / "calls.sqlite", also=also) as store:
        kept(also, c="written since")
        found = store.get_many(["a", "b", "c"])
        assert [found[key].text for key in "abc"] == ["of the project", "of anna", "written since"]
        assert store.borrowed == {"a": "", "b": "anna", "c": ""}
    with CallStore(tmp_path / "calls.sqlite", also=tmp_path / "none.sqlite") as store:
        assert store.get_many(["a"]) == {}
    assert not (tmp_path / "none.sqlite").exists()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/ {tmp_path / 'project'} nfs4 rw 0 0\n")
    with (
        pytest.warns(RuntimeWarning, match="network filesystem"),
        CallStore(tmp_path / "calls.sqlite", also=also, mounts=mounts) as store,
    ):
        assert {key: answer.text for key, answer in store.get_many(["a", "c"]).items()} == {"a": "of anna"}


def test_a_store_of_others_that_is_none_or_damaged_is_told_once_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "calls.d").mkdir()
    (tmp_path / "calls.d" / "notes.sqlite").write_text("no database")
    (tmp_path / "calls.d" / "folder.sqlite").mkdir()
    kept(tmp_path / "calls.d" / "torn.sqlite", a="lost")
    damage(tmp_path / "calls.d" / "torn.sqlite", "UPDATE calls SET answer = x'7b'")
    with pytest.warns(RuntimeWarning, match="notes|folder|torn"), CallStore(tmp_path / "calls.sqlite") as store:
        assert store.get_many(["a"]) == {}


def test_a_store_of_version_one_is_read_and_gets_a_column_for_times(tmp_path: Path) -> None:
    kept(tmp_path / "calls.sqlite", a="old")
    damage(tmp_path / "calls.sqlite", "ALTER TABLE calls DROP COLUMN asked_at")
    damage(tmp_path / "calls.sqlite", "PRAGMA user_version = 1")
    kept(tmp_path / "calls.sqlite", b="new")
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert {key: answer.text for key, answer in store.get_many(["a", "b"]).items()} == {"a": "old", "b": "new"}
        (stored,) = store.by_model()
        assert (stored.answers, stored.unpriced) == (2, 2)
        assert stored.last_at is not None


def test_what_is_stored_is_counted_by_model_and_forgotten_on_request(tmp_path: Path) -> None:
    bundles = {
        name: Bundle.from_prompt(f"{name} {{{{ question }}}}", model=model)
        for name, model in {"v1": "vllm/tiny", "v2": "vllm/large"}.items()
    }
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"{i}?"}) for i in range(5)))
    client = FakeClient("yes", price_usd=Decimal("0.5"))
    run(bundles, golden, client=client, store=tmp_path / "calls.sqlite", progress=False)
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert {s.model: (s.answers, s.cost_usd) for s in store.by_model()} == {
            "vllm/tiny": (5, 2.5),
            "vllm/large": (5, 2.5),
        }
        assert store.forget(model="vllm/tiny") == 5
        assert store.forget(since=datetime.now(UTC) + timedelta(hours=1)) == 0
        assert store.forget(since=datetime.now(UTC) - timedelta(hours=1), model="vllm/tiny") == 0
        assert len(store) == 5
        with pytest.raises(ValueError, match="which answers"):
            store.forget()
    asked = len(client.requests)
    run(bundles, golden, client=client, store=tmp_path / "calls.sqlite", progress=False)
    assert len(client.requests) == asked + 5


def test_fresh_asks_again_and_its_word_replays_what_came(tmp_path: Path) -> None:
    bundle = Bundle.from_prompt("{{ question }}", model="vllm/tiny")
    golden = GoldenSet((Case(id="q", inputs={"question": "?"}),))
    client = FakeClient("yes")
    about: dict[str, Any] = {"client": client, "store": tmp_path / "calls.sqlite", "progress": False}
    run(bundle, golden, **about)
    anew = run(bundle, golden, fresh=True, **about)
    assert len(client.requests) == 2
    (note,) = (note for note in anew.notes if "fresh=" in note)
    word = note.split("'")[1]
    assert run(bundle, golden, fresh=word, **about).frame["cached"].all()
    assert run(bundle, golden, **about).frame["cached"].all()
    assert len(client.requests) == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_is_deleted_under_a_process_is_told_before_the_next_paid_call(replaced, store):
    """SQLite itself would go on writing into a file that nobody can open any more."""
    store.check()
    store.path.rename(store.path.with_name("gone"))
    if replaced:
        CallStore(store.path).close()
    with pytest.raises(StoreError, match="deleted or replaced"):
        store.check()
