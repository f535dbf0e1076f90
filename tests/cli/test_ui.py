"""`llmlab ui`: the right store, this machine only, and nothing left behind."""

import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing

import psutil
import pytest

from llmlab.cli import tracking as serving
from llmlab.tracking.store import open_store
from tests.cli.calling import llmlab
from tests.registry.made import free_port


def test_a_taken_port_is_said_with_another_one(project):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = llmlab("ui", "--port", port)
    assert done.exit_code == 2
    assert f"llmlab ui --port {port + 1}" in done.stderr


@pytest.mark.slow
def test_a_server_that_does_not_come_up_says_why_while_one_waits(project, monkeypatch):
    monkeypatch.setattr(serving, "START_TIMEOUT_S", 40.0)
    database = f"postgresql://mlflow@127.0.0.1:{free_port()}/mlflow"
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", database)
    done = llmlab("server", "--port", str(free_port()))
    assert done.exit_code == 2
    assert "refused" in done.stderr


@pytest.mark.slow
def test_the_pages_show_the_projects_store_and_end_with_the_command(project):
    store = open_store()
    experiment_id = store.experiment_id("pandas_help")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "llmlab.cli", "ui", "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    shown = "".join(iter(lambda: server.stdout.readline() or pytest.fail("it ended"), "Stop with Ctrl+C.\n"))
    assert f"pandas_help: http://127.0.0.1:{port}/#/experiments/{experiment_id}/runs" in shown
    assert f"http://127.0.0.1:{port}/#/models" in shown
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.status == 200
    family = psutil.Process(server.pid).children(recursive=True)
    addresses = {c.laddr.ip for child in family for c in child.net_connections("inet") if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}
    server.send_signal(signal.SIGTERM)
    server.communicate()
    assert server.returncode == 0
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)
