"""The tracking store: found, opened once by many, never hanging, never leaving runs open."""

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import psutil
import pytest

from llmlab.base.errors import StoreError
from llmlab.tracking import reach
from llmlab.tracking import store as mlstore
from llmlab.tracking.reach import check_store
from llmlab.tracking.store import link, local_file, open_store, pages, settle_here, store_uri, ui_runs


@pytest.fixture
def no_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_store_is_the_projects_whatever_the_current_folder(project, monkeypatch):
    """A notebook that runs in `notebooks/` must not start a second, empty database."""
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    assert open_store().uri == f"sqlite:///{project}/mlruns/mlflow.db"
    assert not (project / "notebooks" / "mlruns").exists()


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("http://tracking.example:5000", "http://tracking.example:5000"),
        ("sqlite:////data/team.db", "sqlite:////data/team.db"),
        ("sqlite:///team.db", "sqlite:///ROOT/team.db"),
    ],
)
def test_a_tracking_uri_of_the_environment_wins_read_from_the_project_root(given, uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert store_uri(tmp_path) == uri.replace("ROOT", str(tmp_path))


@pytest.mark.parametrize("folder", ["./mlruns", "file:./mlruns", "file:///data/mlruns", "mlruns"])
def test_a_folder_store_is_refused_with_what_to_do(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder)
    with pytest.raises(StoreError, match="sqlite:///path"):
        store_uri(tmp_path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        *((uri, "names no file") for uri in ("sqlite://", "sqlite:///", "sqlite:///%00")),
        ("http://user:secret@[::1", r"^MLFLOW_TRACKING_URI is no address \(Invalid IPv6 URL\)$"),
    ],
)
def test_an_address_that_is_none_is_told_with_the_variable(uri, said, monkeypatch, tmp_path):
    """As found: a store in memory was made for each command, or a line that named nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match=said):
        store_uri(tmp_path)


def test_databricks_is_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert store_uri(tmp_path) == "databricks"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks_runs")
    with pytest.raises(StoreError, match="a folder"):
        store_uri(tmp_path)


@pytest.mark.parametrize(("status", "advice"), [(401, "MLFLOW_TRACKING_TOKEN"), (403, "MLFLOW_TRACKING_TOKEN")])
def test_a_server_that_refuses_is_told_with_what_it_wants_and_without_its_page(status, advice):
    from mlflow.exceptions import MlflowException

    page = f"API request failed with error code {status} != 200. Response body: '<html><h1>No</h1></html>'"
    with pytest.raises(StoreError, match=advice) as told, mlstore.reported("runs cannot be closed"):
        raise MlflowException(page)
    assert "<html>" not in str(told.value)


@pytest.mark.usefixtures("project")
def test_a_full_disk_is_told_with_what_to_do_and_without_sqlalchemys_preamble():
    """As found: only the preamble was told, after forty lines of MLflow's own traceback."""
    from mlflow.exceptions import MlflowException

    mlstore.open_store()
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)
    preamble = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)"
    with pytest.raises(StoreError) as told, mlstore.reported("tags cannot be written"):
        raise MlflowException(f"{preamble}\n(sqlite3.OperationalError) database or disk is full\n[SQL: ...]")
    said = "tags cannot be written: (sqlite3.OperationalError) database or disk is full"
    assert str(told.value) == f"the disk is full: make room; {said}"


def test_an_experiment_is_our_own_with_its_artifacts_beside_the_database(project):
    store = open_store()
    experiment_id = store.experiment_id("pandas_help")
    assert experiment_id != "0"
    assert store.experiment_id("pandas_help") == experiment_id
    location = store.client.get_experiment(experiment_id).artifact_location
    assert location == (project / "mlruns" / "artifacts" / "pandas_help").as_uri()


def test_a_copied_project_does_not_write_into_the_original_and_can_be_settled(project, monkeypatch, tmp_path):
    """Neither does a moved one go on as if nothing had happened."""
    store = open_store()
    run = store.start_run("pandas_help", name="a", tags={})
    store.client.log_text(run, "here", "note.txt")
    copied = tmp_path / "copy"
    shutil.copytree(project, copied)
    monkeypatch.chdir(copied)
    there = open_store(copied)
    with pytest.raises(StoreError, match="copied or moved"):
        there.start_run("pandas_help", name="b", tags={})
    assert len(store.client.search_runs([store.experiment_id("pandas_help")])) == 1
    assert settle_here(copied) == 2
    assert there.client.get_run(run).info.artifact_uri.startswith(copied.as_uri())
    assert store.client.get_run(run).info.artifact_uri.startswith(project.as_uri())
    assert there.start_run("pandas_help", name="b", tags={})
    assert settle_here(copied) == 0


@pytest.mark.parametrize("path", ["../secret.json", "/etc/hostname", "gate/../../secret.json", "gate", "none.json"])
def test_no_name_of_a_file_leads_out_of_the_artifacts_of_its_run(path, tmp_path):
    """Or to what is no file; a digest in a receipt or a tag is part of such names."""
    (tmp_path / "secret.json").touch()
    (tmp_path / "run" / "gate").mkdir(parents=True)
    (tmp_path / "run" / "a b.json").touch()
    for uri in ((tmp_path / "run").as_uri(), str(tmp_path / "run")):
        assert local_file(uri, "a b.json") == str(tmp_path / "run" / "a b.json")
        with pytest.raises(OSError, match="No such artifact"):
            local_file(uri, path)
    assert local_file("s3://bucket/run", "a b.json") is None


@pytest.mark.parametrize("name", ["Default", "", "  "])
def test_the_experiment_that_belongs_to_mlflow_is_never_used(name, project):
    with pytest.raises(ValueError, match="name of your own"):
        open_store().experiment_id(name)


def test_a_deleted_experiment_is_reported_with_how_to_restore_it(project):
    store = open_store()
    store.client.delete_experiment(store.experiment_id("gone"))
    with pytest.raises(StoreError, match="mlflow experiments restore"):
        store.experiment_id("gone")


def test_telemetry_is_off_unless_asked_for(project):
    open_store()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_server_that_is_not_there_is_reported(monkeypatch, tmp_path):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    with pytest.raises(StoreError, match=r"does not answer .*unset MLFLOW_TRACKING_URI") as caught:
        check_store(store_uri(tmp_path))
    assert "secret" not in str(caught.value)


def test_a_server_that_accepts_and_says_nothing_is_reported(monkeypatch, tmp_path):
    """It would otherwise block for a minute and more."""
    monkeypatch.setattr(reach, "PROBE_TIMEOUT_S", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(StoreError, match="does not answer"):
            open_store(tmp_path)


def test_probe_and_silence_are_told_within_ten_seconds():
    assert max(reach.PROBE_TIMEOUT_S, reach.SILENCE_S) <= 9


def test_a_database_that_another_program_holds_is_reported(project, monkeypatch):
    monkeypatch.setattr(reach, "PROBE_TIMEOUT_S", 0.2)
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"locked.*close the program that holds it"):
            check_store(store_uri())
        holder.execute("ROLLBACK")
    check_store(store_uri())


def test_a_file_that_is_no_database_is_reported(project):
    database = project / "mlruns" / "mlflow.db"
    database.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StoreError, match="cannot be written to"):
        check_store(store_uri())
    database.unlink()  # nobody else is to be given it


def test_a_place_that_cannot_be_written_to_is_reported(no_uri, tmp_path):
    (tmp_path / "mlruns").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written to"):
        check_store(store_uri(tmp_path))


def test_runs_of_dead_processes_are_closed_as_killed_and_living_ones_are_not(project):
    store = open_store()
    mine = store.start_run("work", name="mine", tags={})
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = {"llmlab.pid": str(ended.pid), "llmlab.process_started": f"{psutil.Process(ended.pid).create_time():.0f}"}
    theirs = _run_with(store, facts)
    reused = _run_with(store, {"llmlab.pid": str(os.getpid()), "llmlab.process_started": "1000000000"})
    elsewhere = _run_with(store, {"llmlab.host": "another-machine"})
    assert store.close_stale_runs() == 1  # the pid is in use again, by a process that started later
    ended.communicate(b"\n")
    assert store.close_stale_runs() == 1
    assert _status(store, theirs) == _status(store, reused) == "KILLED"
    assert _status(store, mine) == _status(store, elsewhere) == "RUNNING"


def test_a_notebooks_run_is_closed_with_the_runs_it_left_open(project):
    store = open_store()
    notebook = store.start_run("notebooks", name="01", tags={})
    left = store.start_run("work", name="v1", tags={"llmlab.notebook_run_id": notebook})
    other = store.start_run("work", name="v1", tags={"llmlab.notebook_run_id": "another"})
    store.close_runs_of(notebook, "KILLED")
    assert [_status(store, run) for run in (notebook, left, other)] == ["KILLED", "KILLED", "RUNNING"]


DIES_WHILE_IT_MAKES_A_STORE = """
import os, sys
from pathlib import Path
from sqlalchemy import Engine, event
from llmlab.tracking.store import open_store

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE datasets" in statement:
        os._exit(9)

open_store(Path(sys.argv[1]))
"""


def test_a_store_whose_maker_was_killed_is_made_anew(no_uri, tmp_path):
    """MLflow itself goes no further: "table datasets already exists"."""
    first = subprocess.run([sys.executable, "-c", DIES_WHILE_IT_MAKES_A_STORE, str(tmp_path)], check=False)
    assert first.returncode == 9
    store = open_store(tmp_path)
    run = store.start_run("first", name="v1", tags={})
    store.close_run(run)
    assert _status(store, run) == "FINISHED"
    names = sorted(path.name.partition("-2")[0] for path in (tmp_path / "mlruns").glob("mlflow.db*"))
    assert names == ["mlflow.db", "mlflow.db.half-made", "mlflow.db.lock"]


def test_a_store_that_is_whole_is_never_put_aside(no_uri, tmp_path):
    """Though its maker was killed before it could say so, and whatever but runs it holds by now."""
    open_store(tmp_path).client.create_registered_model("qa")
    (tmp_path / "mlruns" / "mlflow.db.new").touch()
    mlstore.client_of.cache_clear()
    assert [model.name for model in open_store(tmp_path).client.search_registered_models()] == ["qa"]
    assert not list((tmp_path / "mlruns").glob("*half-made*"))


@pytest.mark.slow
def test_eight_processes_may_open_a_new_store_at_once(no_uri, tmp_path):
    """Two migrations at the same time crash with "duplicate column"."""
    script = """
        import os, sys, warnings
        from pathlib import Path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow.store.model_registry.sqlalchemy_store
            import mlflow.store.tracking.sqlalchemy_store
        from llmlab.tracking.store import open_store
        children = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                store = open_store(Path(sys.argv[1]))
                store.close_run(store.start_run("first", name="v1", tags={}))
                os._exit(0)
            children.append(pid)
        sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (8,)
        assert database.execute("SELECT count(*) FROM experiments WHERE name = 'first'").fetchone() == (1,)


def _run_with(store, facts):
    host = {"llmlab.host": mlstore._host()}
    run = store.client.create_run(store.experiment_id("work"), tags={**host, **facts})
    return run.info.run_id


def _status(store, run_id):
    return store.client.get_run(run_id).info.status


def test_links_name_the_port_on_which_the_pages_run(project):
    store = open_store(project)
    with ui_runs(5057):
        assert store.url("1").startswith("http://127.0.0.1:5057/#/")
        assert link(store.url() + "/").endswith("(while `llmlab ui` runs)")
    assert store.url() == "http://127.0.0.1:5000"
    (project / "mlruns" / "ui.json").write_text('{"port": 5057, "llmlab.pid": "1"}')  # of one that was killed
    assert store.url() == "http://127.0.0.1:5000"


def test_every_page_of_a_search_is_read():
    """A store with more experiments or runs than one page holds loses none of them."""
    from mlflow.store.entities import PagedList

    held = {None: PagedList([1, 2], "next"), "next": PagedList([3], "")}
    assert list(pages(held.__getitem__)) == [1, 2, 3]
