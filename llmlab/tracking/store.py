"""Where the tracking store is, and the only safe way in: right place, one migration, no hanging, no orphans.

The store is found from the project root and not from the current folder, for a notebook that runs in
`notebooks/` would silently start a second, empty database. `tracking`, `registry` and `notebook` go through here.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sqlite3
import threading
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from llmlab.base.display import Shown, plain
from llmlab.base.errors import StoreError
from llmlab.base.private import scrub
from llmlab.base.project import project_root, runs_folder, who

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "COMPLETION_TAG",
    "NOTEBOOK",
    "NOTEBOOK_RUN_ID",
    "Status",
    "Store",
    "check_writable",
    "link",
    "open_store",
    "reported",
    "store_exists",
    "store_uri",
]

COMPLETION_TAG = "llmlab.logged"  # "whole" once everything of a run has been written
NOTEBOOK_RUN_ID = "LLMLAB_NOTEBOOK_RUN_ID"  # environment of a notebook's kernel: the MLflow run that stands for it
NOTEBOOK = "LLMLAB_NOTEBOOK"  # and the notebook's path, as reports name it
UI_PORT = 5000  # where `llmlab ui` shows a local store, if nothing else is said
UI_FILE = "ui.json"  # in mlruns/, while it runs
PROBE_TIMEOUT_S = 5.0  # a dead server or a held lock is reported after this long
MIGRATION_TIMEOUT_S = 120.0

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_first_use = threading.Lock()

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Store(Shown):
    """A tracking store that has been opened, migrated and found to answer.

    Attributes:
        uri: the tracking (and registry) URI.
        artifacts: the folder of our experiments' artifacts, None where a server decides.
    """

    uri: str
    artifacts: Path | None

    def _rows(self) -> list[dict[str, object]]:
        return [{"uri": _without_password(self.uri), "artifacts": self.artifacts}]

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client on this store; it knows nothing of "active runs"."""
        return _client(self.uri)

    def experiment_id(self, name: str) -> str:
        """The id of the experiment with this name, created with its own artifact folder on first use."""
        from mlflow.exceptions import MlflowException

        if not name.strip() or name == "Default":
            raise ValueError(f"experiment == {name!r}, must be a name of your own (Default belongs to MLflow)")
        with reported(f"the experiment {name!r} cannot be opened"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                location = None if self.artifacts is None else (self.artifacts / quote(name, safe="")).as_uri()
                try:
                    tags = {"mlflow.experimentKind": "custom_model_development"}  # opens on the table of runs
                    return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
                except MlflowException:  # another process was quicker
                    experiment = self.client.get_experiment_by_name(name)
                    if experiment is None:
                        raise
        if experiment.lifecycle_stage == "deleted":
            raise StoreError(
                f"the experiment {name!r} was deleted; restore it with "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` or name another"
            )
        return str(experiment.experiment_id)

    def start_run(self, experiment: str, *, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new RUNNING run that names its process, so that it can be closed if that process dies."""
        _close_stale_runs_once(self)
        experiment_id = self.experiment_id(experiment)
        with reported(f"no run can be started in {experiment!r}"):
            run = self.client.create_run(experiment_id, run_name=name, tags={**tags, **_process_tags()})
        return str(run.info.run_id)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Write the params of a run in one batch."""
        from mlflow.entities import Param

        with reported(f"the params of run {run_id} cannot be logged"):
            self.client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])

    def close_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """End a run with this status."""
        with reported(f"run {run_id} cannot be closed as {status}"):
            self.client.set_terminated(run_id, status=status)

    def close_stale_runs(self) -> int:
        """Close as KILLED every run that a process of this machine left RUNNING when it died; how many there were."""
        with reported("runs of dead processes cannot be closed"):
            query = f"attributes.status = 'RUNNING' and tags.`llmlab.host` = '{_host()}'"
            stale = [run for run in self.search(query) if not _is_alive(run.data.tags)]
            for run in stale:
                self.client.set_terminated(run.info.run_id, status="KILLED")
        return len(stale)

    def close_runs_of(self, notebook_run_id: str, status: Status) -> None:
        """Close what a notebook left RUNNING, and the notebook's own run."""
        with reported(f"the runs of notebook run {notebook_run_id} cannot be closed"):
            tag = f"tags.`llmlab.notebook_run_id` = '{notebook_run_id}'"
            for run in self.search(f"attributes.status = 'RUNNING' and {tag}"):
                self.client.set_terminated(run.info.run_id, status=status)
        self.close_run(notebook_run_id, status)

    def close_after(self, run_id: str, error: BaseException) -> None:
        """Close a run, and what a notebook left open under it, without hiding the error that ended it."""
        try:
            self.close_runs_of(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        except StoreError as closing_failed:
            error.add_note(f"The MLflow run {run_id} could not be closed either: {closing_failed}")

    def url(self, experiment_id: str = "", *, query: str = "") -> str:
        """MLflow's page that draws an experiment's runs side by side, or its home page.

        On a local store it opens once `llmlab ui` runs.
        """
        base = _without_password(self.uri).rstrip("/") if self.uri.startswith("http") else ui_address()
        if not experiment_id:
            return base
        search = f"&searchFilter={quote(query, safe='')}" if query else ""
        return f"{base}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART{search}"

    def search(self, query: str) -> list[Any]:
        """Every run of every experiment that MLflow's query finds."""
        every = pages(lambda token: self.client.search_experiments(max_results=1000, page_token=token))
        ids = [experiment.experiment_id for experiment in every]
        return list(pages(lambda token: self.client.search_runs(ids, query, max_results=1000, page_token=token)))

    def whole_runs(self, tag: str, value: str) -> list[Any]:
        """The runs with this tag that were logged whole, the newest first."""
        runs = self.search(f"tags.`{tag}` = '{value}' and tags.`{COMPLETION_TAG}` = 'whole'")
        return sorted(runs, key=lambda run: int(run.info.start_time), reverse=True)


def store_uri(root: Path | None = None) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if set, else `mlruns/mlflow.db` of the project root.

    A relative sqlite path is read from the project root. StoreError for a folder store, which MLflow no longer takes.
    """
    root = project_root() if root is None else root
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not given:
        return f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"
    scheme = given.partition(":")[0].lower() if ":" in given else ""
    if scheme in ("", "file"):
        raise StoreError(
            f"MLFLOW_TRACKING_URI is {plain(_without_password(given))}, a folder, which MLflow no longer writes to; "
            "unset it, or name sqlite:///path/to/mlflow.db or the http address of a server"
        )
    if scheme == "sqlite" and (path := _sqlite_path(given)) is not None:
        return f"sqlite:///{root / path}"  # an absolute path stays as it is
    return given


def store_exists(root: Path | None = None) -> bool:
    """Whether the project has a tracking store: a server, or a database file that is there."""
    path = _sqlite_path(store_uri(root))
    return path is None or path.is_file()


def check_writable(root: Path | None = None) -> None:
    """Nothing, where the store can be written to; StoreError with what to do within 10 seconds where it cannot."""
    uri = store_uri(root)
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif (path := _sqlite_path(uri)) is not None:
        _check_sqlite(path)


def open_store(root: Path | None = None) -> Store:
    """The store of this project, probed, and migrated once whatever number of processes come at the same time."""
    root = project_root() if root is None else root
    uri = store_uri(root)
    check_writable(root)
    path, remote = _sqlite_path(uri), uri.startswith(("http", "databricks"))
    beside = path.parent if path is not None else root / "mlruns"
    artifacts = None if remote else beside / "artifacts"
    store = Store(uri=uri, artifacts=artifacts)
    with reported(f"the tracking store {_without_password(uri)} cannot be opened"), _first_use:
        _client(uri)
        if uri.startswith(("http://", "https://")):
            _check_artifacts(uri)
    return store


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns what MLflow, its database or the network raises into a StoreError that says what could not be done."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise StoreError(f"{what}: {plain(scrub(first), 300)}") from error


def pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """What MLflow finds, page after page; `ask` is given the token of a page, None for the first."""
    page = ask(None)
    yield from page
    while page.token:
        page = ask(page.token)
        yield from page


@cache
def _client(uri: str) -> MlflowClient:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), _migration_lock(_sqlite_path(uri)):
        warnings.simplefilter("ignore")  # MLflow's import and its migrations warn about their own libraries
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if not uri.startswith(("http", "databricks")):
            client.search_registered_models(max_results=1)  # the registry opens the same tables a second time
    return client


@contextmanager
def _migration_lock(path: Path | None) -> Iterator[None]:
    """One process at a time creates or migrates the tables; the others wait. Its chatter stays off the terminal."""
    if path is None:
        yield
        return
    import filelock

    chatter = logging.getLogger("mlflow.store.db.utils")
    level = chatter.level
    try:
        with filelock.FileLock(path.with_name(path.name + ".lock"), timeout=MIGRATION_TIMEOUT_S):
            chatter.setLevel(logging.WARNING)
            yield
    except filelock.Timeout:
        raise StoreError(
            f"another process has been migrating {path} for {MIGRATION_TIMEOUT_S:.0f} s; see what holds {path}.lock"
        ) from None
    finally:
        chatter.setLevel(level)


def _check_sqlite(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise StoreError(
                f"{path} cannot be written to; change its permissions or set MLFLOW_TRACKING_URI to a store that can"
            )
        if path.exists() and path.stat().st_size:
            with closing(sqlite3.connect(path, timeout=PROBE_TIMEOUT_S, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be written to ({error}); close the program that holds it, or restore it from a backup"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be written to ({error.strerror})") from error


def _check_server(uri: str) -> None:
    shown = _without_password(uri)
    try:
        with urllib.request.urlopen(f"{shown.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S):  # noqa: S310 - http(s) only, checked by the caller
            return
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return  # something answers; whether it lets us in, MLflow's own call will say
        raise StoreError(
            f"the MLflow server {shown} answers with status {error.code}; mend it, or unset MLFLOW_TRACKING_URI "
            "to work on the local store"
        ) from None
    except (OSError, ValueError) as error:
        reason = plain(str(getattr(error, "reason", error)))
        raise StoreError(
            f"the MLflow server {shown} does not answer ({reason}); start it, or unset MLFLOW_TRACKING_URI "
            "to work on the local store"
        ) from error


@cache
def _check_artifacts(uri: str) -> None:
    """Nothing, where a server takes artifacts (or does not hand them on at all); asked once by each process."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    place = f"/api/2.0/mlflow-artifacts/artifacts/llmlab-probe/{uuid.uuid4().hex}"
    once = {"max_retries": 0, "timeout": PROBE_TIMEOUT_S, "raise_on_status": False}
    status = http_request(get_default_host_creds(uri), place, "PUT", data=b"probe", **once).status_code
    if status == 200:
        http_request(get_default_host_creds(uri), place, "DELETE", **once)
    elif status not in (401, 403, 404, 501, 503):  # 503: clients write their artifacts elsewhere by themselves
        raise StoreError(
            f"the MLflow server {_without_password(uri)} cannot store artifacts (status {status}); mend its "
            "--artifacts-destination, or unset MLFLOW_TRACKING_URI to work on the local store"
        )


def ui_address() -> str:
    """Where `llmlab ui` of this project shows a local store: on the port that it runs on, else on its usual one."""
    try:
        shown = json.loads((runs_folder() / UI_FILE).read_text(encoding="utf-8"))
        port = int(shown["port"]) if _is_alive(shown) else UI_PORT
    except (OSError, ValueError, KeyError, TypeError):  # it does not run
        port = UI_PORT
    return f"http://127.0.0.1:{port}"


@contextmanager
def ui_runs(port: int) -> Iterator[None]:
    """Links of this project name this port meanwhile."""
    file = runs_folder() / UI_FILE
    file.write_text(json.dumps({**_process_tags(), "port": port}), encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def link(url: str) -> str:
    """The address of a page as a sentence names it: of a local store with the command that serves it.

    >>> link("https://mlflow.example.org/#/models/a")
    'https://mlflow.example.org/#/models/a'
    """
    return f"{url} (while `llmlab ui` runs)" if url.startswith(f"{ui_address()}/") else url


@cache
def _close_stale_runs_once(store: Store) -> None:
    store.close_stale_runs()


def _process_tags() -> dict[str, str]:
    import psutil

    return {
        "mlflow.user": who(),
        "llmlab.host": _host(),
        "llmlab.pid": str(os.getpid()),
        "llmlab.process_started": f"{psutil.Process().create_time():.0f}",
    }


def _is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the very process that wrote these tags still runs (a pid alone is used again)."""
    import psutil

    try:
        started = psutil.Process(int(tags.get("llmlab.pid", "0"))).create_time()
        return bool(abs(started - float(tags.get("llmlab.process_started", "0"))) <= 2.0)
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError):
        return False


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()) or "unknown"


def _sqlite_path(uri: str) -> Path | None:
    """The file behind a sqlite URI (relative when it is), None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
