"""What one process asks for is claimed in the call store that it shares with others, and none of them pays for it.

Run as a module, it is one of two processes that start together: `-m tests.clients.test_claims ADDRESS STORE CASES`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import llmlab as ll
from llmlab.bundle.bundle import Bundle
from llmlab.clients.call_store import CallStore
from llmlab.clients.fake import FakeClient
from llmlab.clients.openai import OpenAIClient
from llmlab.golden.cases import Case, GoldenSet
from tests.loopback import Loopback

ROOT = Path(__file__).parents[2]
BUNDLE = Bundle.from_prompt("{{ question }}", model="vllm/tiny")
HOLDING = """
import sys, time
from pathlib import Path
from llmlab.clients.call_store import CallStore
with CallStore(Path(sys.argv[1])) as store:
    print(store.claim(sys.argv[2]), flush=True)
    time.sleep(60)
"""


def cases(n: int) -> GoldenSet:
    return GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"question {i}?"}) for i in range(n)))


@contextmanager
def claimed_elsewhere(store: Path, key: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has claimed the key."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(store), key], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        yield process
        process.kill()


def test_a_claim_holds_until_it_is_released_or_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as store, claimed_elsewhere(path, "a") as other:
        assert [store.claim("b"), store.claim("a"), store.claim("b")] == [True, False, True]
        assert store.shared
        store.release("b")
        with claimed_elsewhere(path, "b"):
            assert not store.claim("b")
        other.kill()
        other.wait()
        assert store.claim("a")
    assert store.claim("c")  # closed: whoever asks is told by what it does next


def test_another_store_of_the_same_process_neither_shares_nor_frees_a_claim(tmp_path: Path) -> None:
    """As an index of vectors opens one in the middle of a run, and a second run in a thread."""
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as store:
        assert store.claim("a")
        with CallStore(path) as beside:
            assert [beside.claim("a"), beside.claim("b")] == [False, True]
            beside.release("a")
        with (
            CallStore(path) as after,
            subprocess.Popen([sys.executable, "-c", HOLDING, str(path), "a"], stdout=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            assert process.stdout.readline() == b"False\n"
            process.kill()
            store.release("a")
            assert [after.claim("a"), after.claim("b")] == [True, True]


def test_a_claim_holds_for_who_knows_the_store_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "calls.sqlite")
    with CallStore(tmp_path / "calls.sqlite") as store, CallStore(tmp_path / "link.sqlite") as linked:
        assert [store.claim("a"), linked.claim("a")] == [True, False]


def test_a_run_goes_on_without_what_a_process_that_hangs_has_claimed(tmp_path: Path) -> None:
    path, client = tmp_path / "calls.sqlite", FakeClient("yes")

    def run() -> ll.Results:
        return ll.run(BUNDLE, cases(3), client=client, store=path, progress=False, case_timeout_s=0.3)

    keys = list(run().frame["call_key"])
    with CallStore(path) as store:
        store.forget(keys=keys)
    with ExitStack() as others:
        for key in keys:
            others.enter_context(claimed_elsewhere(path, key))
        assert list(run().frame["status"]) == ["ok"] * 3
    assert len(client.requests) == 2 * 3


def test_two_processes_that_are_started_together_pay_for_each_call_once(loopback: Loopback, tmp_path: Path) -> None:
    loopback.set(latency_s=0.05)
    n, store = 150, tmp_path / "calls.sqlite"
    command = [sys.executable, "-m", "tests.clients.test_claims", loopback.base_url, str(store), str(n)]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert loopback.stats()["requests"] == n


if __name__ == "__main__":
    client = OpenAIClient(sys.argv[1], api_key_env=None)
    made = ll.run(BUNDLE, cases(int(sys.argv[3])), client=client, store=Path(sys.argv[2]), progress=False)
    assert list(made.frame["status"]) == ["ok"] * int(sys.argv[3])
