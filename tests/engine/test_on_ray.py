"""Shards on a real Ray: the same results, workers killed at random, nothing paid twice, no key in a log."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import llmlab as ll

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'llmlab[ray]'")

GOLDEN = ll.GoldenSet(
    tuple(ll.Case(id=f"q{i}", inputs={"question": f"question {i}?"}, expected=("a",)) for i in range(120))
)
BUNDLES = {name: ll.Bundle.from_prompt(f"{name}: {{{{ question }}}}", model="vllm/tiny") for name in ("v1", "v2")}
KEY = "sk-notarealkey-of-this-test-0123456789"


@pytest.fixture
def server(loopback):
    loopback.set(latency_s=0.05)
    return loopback


@pytest.fixture
def cluster(monkeypatch):
    """A Ray of one node, or of the two raylets that `nightly` asks for; gone at the end, with its logs."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    from ray.cluster_utils import Cluster

    made = []

    def connect(nodes=1):
        if nodes == 1:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        else:
            made.append(Cluster(initialize_head=True, head_node_args={"num_cpus": 2}))
            made[0].add_node(num_cpus=2)
            ray.init(address=made[0].address, log_to_driver=False)
        return Path(ray._private.worker._global_node.get_logs_dir_path())

    yield connect
    ray.shutdown()
    for cluster in made:
        cluster.shutdown()


def run(server, folder, **more):
    (folder / "endpoints.yaml").write_text(
        f"endpoints:\n  vllm: {{base_url: '{server.base_url}', key_env: LOOPBACK_KEY}}\n"
    )
    more = {"progress": False, "concurrency": 4, "endpoints": folder / "endpoints.yaml", **more}
    return ll.run(BUNDLES, GOLDEN, scorers=[ll.scorers.mentions_expected], **more)


def workers():
    """The processes of this Ray that carry out a shard now."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::_shard" in line]


def killing(times, until):
    """Kill a worker that many times, at random moments, while the run goes on."""
    rng, killed = random.Random(7), []

    def kill():
        while len(killed) < times and not until.is_set():
            time.sleep(rng.uniform(0.3, 1.2))
            if found := workers():
                killed.append(rng.choice(found))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return killed, thread


@pytest.mark.parametrize(
    ("nodes", "kills", "shards"),
    [pytest.param(1, 1, 3, marks=pytest.mark.slow), pytest.param(2, 10, 16, marks=pytest.mark.nightly)],
)
def test_killed_workers_lose_nothing_and_nothing_is_paid_twice(server, cluster, tmp_path, nodes, kills, shards):
    logs, over, seen = cluster(nodes), threading.Event(), []
    killed, thread = killing(kills, over)
    results = run(
        server, tmp_path, engine="ray", shards=shards, out=tmp_path / "run=1", progress=lambda p: seen.append(p.done)
    )
    over.set()
    thread.join()
    assert killed
    assert results.complete
    calls = len(BUNDLES) * len(GOLDEN)
    assert results.n_answers() == calls == seen[-1]
    assert calls <= server.stats()["requests"] <= calls + 4 * len(killed)  # a killed worker had four in flight
    texts = "".join(path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file())
    assert KEY not in texts
    assert all(entry["headers"]["authorization"] == f"Bearer {KEY}" for entry in server.stats()["log"][:5])
    before = server.stats()["requests"]
    assert run(server, tmp_path, engine="ray", shards=shards, out=tmp_path / "run=1").digest == results.digest
    assert server.stats()["requests"] == before


@pytest.mark.nightly
def test_an_interrupt_stops_the_tasks_and_keeps_what_arrived(server, cluster, tmp_path):
    cluster()
    server.set(latency_s=0.3)
    timer = threading.Timer(6.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(server, tmp_path, engine="ray", shards=4, out=tmp_path / "run=1")
    asked = server.stats()["requests"]
    time.sleep(2)
    assert server.stats()["requests"] == asked
    results = run(server, tmp_path, engine="ray", shards=4, out=tmp_path / "run=1")
    assert results.complete
    assert server.stats()["requests"] <= len(BUNDLES) * len(GOLDEN) + 16


def test_what_cannot_travel_is_refused_before_ray_is_started(tmp_path):
    about = {"engine": "ray", "shards": 2, "out": tmp_path / "run=1"}
    with pytest.raises(ValueError, match="endpoints"):
        ll.run(BUNDLES, GOLDEN, client=ll.FakeClient("yes"), **about)
    for wrong in ({"engine": "ray"}, {"shards": 2}, {**about, "shard": "1/2"}, {"shard": "1/2"}):
        with pytest.raises(ValueError, match="shards=16"):
            ll.run(BUNDLES, GOLDEN, **wrong)
    assert not ray.is_initialized()


def test_without_ray_it_is_said_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "import llmlab as ll\n"
        "case = ll.Case(id='q', inputs={'question': '?'})\n"
        "bundle = ll.Bundle.from_prompt('{{ question }}', model='vllm/tiny')\n"
        f"ll.run(bundle, ll.GoldenSet((case,)), engine='ray', shards=1, out={str(tmp_path)!r})"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "llmlab[ray]" in ended.stderr
