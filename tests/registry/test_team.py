"""A team's server on a real PostgreSQL: the same code, by MLFLOW_TRACKING_URI alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmlab.base.errors import StoreError
from llmlab.registry import audit, history, load
from llmlab.registry.connection import open_registry
from llmlab.tracking import reach
from tests.registry.made import alias_now, free_port, moved, registered, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PROMOTER = textwrap.dedent("""
    import random, sys, time
    from llmlab.base.errors import RegistryError, StoreError
    from llmlab.registry.connection import open_registry
    from llmlab.registry.moves import make_move, settle

    me, trials = sys.argv[1], int(sys.argv[2])
    outcomes = {"won": 0, "lost": 0, "away": 0}
    registry = open_registry()
    targets = [registry.version("qa", number) for number in (1, 2, 3)]
    print("ready", flush=True)
    sys.stdin.readline()
    while outcomes["won"] + outcomes["lost"] < trials:
        try:
            past = settle(registry, "qa")
            before, to = past.last("production").version, random.Random(f"{me}{outcomes}").choice(targets)
            make_move(registry, past, "production", kind="promote", to=to, before=before, reason="at once")
            outcomes["won"] += 1
        except RegistryError:
            outcomes["lost"] += 1
        except StoreError:
            outcomes["away"] += 1
            time.sleep(0.5)
    print(outcomes["won"], outcomes["lost"], outcomes["away"], flush=True)
""")


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URI of an empty PostgreSQL of our own, on loopback."""
    if not BINARIES:
        pytest.skip("no PostgreSQL on this machine: `apt-get install postgresql`")
    pytest.importorskip("psycopg2")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="llmlab-pg-"))
    if user is not None:
        if user not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(folder, user)
    port = free_port()
    bin_ = BINARIES[-1]
    subprocess.run(
        [bin_ / "initdb", "-D", folder / "data", "-A", "trust", "-U", "llmlab", "--no-sync"],
        user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    command = [bin_ / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, "-F", "-h", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, stderr=log, cwd=folder)
    try:
        ends = time.monotonic() + 60
        while subprocess.run([bin_ / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
            assert time.monotonic() < ends, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"postgresql://llmlab@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


class Team:
    """`llmlab server` on a database."""

    def __init__(self, root: Path, database: str) -> None:
        self.root, self.database, self.port = root, database, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        database = {"MLFLOW_BACKEND_STORE_URI": self.database}
        self.process = serving("server", "--workers", "1", root=self.root, port=self.port, **database)

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


@pytest.fixture
def team(project: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """A running server that this project's code is pointed at."""
    server = Team(project, postgres)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    yield server
    server.stop()


@pytest.mark.parametrize("each", [40, pytest.param(100, marks=pytest.mark.nightly)])
def test_two_processes_promote_at_once_while_the_server_is_killed_and_history_and_alias_agree(
    team: Team, each: int
) -> None:
    """80 promotions (200 at night) through a proxy of artifacts; a foreign Host is refused."""
    registry, versions = registered(team.root, 3)
    moved(registry, versions[0])
    foreign = urllib.request.Request(f"{team.address}/api/2.0/mlflow/experiments/get", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(foreign, timeout=10)
    assert refused.value.code == 403
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTER, who, str(each)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in ("anna", "ben")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    time.sleep(8)
    team.stop()
    team.start()
    told = [process.communicate(timeout=400)[0].split() for process in processes]
    won, lost, away = (sum(int(words[i]) for words in told) for i in range(3))
    assert won + lost == 2 * each
    assert away > 0
    past = history("qa")
    valid = past.valid("production")
    assert len(valid) >= 1 + won  # a move whose answer was lost with the server counts, and nobody was told so
    assert len(past.moves) <= 1 + 2 * each + away
    assert alias_now(registry) == valid[-1].version
    assert all(move.settled for move in valid)
    assert audit().findings == ()
    assert load("qa@production", max_age_s=0).bundle.digest == valid[-1].digest

    folder = team.root / "mlruns" / "server-artifacts"  # a server that cannot store artifacts is found at the door
    shutil.rmtree(folder)
    folder.write_text("in the way", encoding="utf-8")
    reach.check_artifacts.cache_clear()
    with pytest.raises(StoreError, match="cannot store artifacts"):
        open_registry()
