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
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from llmlab.base.cells import plain
from llmlab.base.errors import StoreError
from llmlab.base.private import scrub
from llmlab.base.project import project_root, runs_folder, who
from llmlab.display.shown import Shown
from llmlab.tracking.reach import (
    TRANSFER_S,
    check_artifacts,
    check_store,
    patient,
    sqlite_path,
    store_errors,
    with_driver,
    without_password,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMPLETION_TAG = "llmlab.logged"  # "whole" once everything of a run has been written
NOTEBOOK_RUN_ID = "LLMLAB_NOTEBOOK_RUN_ID"  # environment of a notebook's kernel: the MLflow run that stands for it
NOTEBOOK = "LLMLAB_NOTEBOOK"  # and the notebook's path, as reports name it
UI_PORT = 5000  # where `llmlab ui` shows a local store, if nothing else is said
_UI_FILE = "ui.json"  # in mlruns/, while it runs
_MIGRATION_TIMEOUT_S = 120.0
_CHATTER = "mlflow.store.db.utils"  # MLflow's logger of its database

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SEEDED = frozenset({"alembic_version", "workspaces"})  # tables that MLflow puts rows in while it makes the others
_VIEWS = {False: 1, True: 3}  # by whether the trash is meant too: MLflow's ViewType
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
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
        return [{"uri": without_password(self.uri), "artifacts": self.artifacts}]

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client on this store; it knows nothing of "active runs"."""
        return client_of(self.uri, self.uri)

    @property
    def bulk(self) -> MlflowClient:
        """The client for files of any size, which are given longer."""
        return patient(self.uri, self.client, longest_s=TRANSFER_S)

    def file(self, run_id: str, path: str, folder: str, *, longest_s: float | None = None) -> str:
        """The place of a file of a run: where it lies on this machine, else in the folder, as MLflow fetches it."""
        here = None if self.artifacts is None else local_file(self.client.get_run(run_id).info.artifact_uri, path)
        client = patient(self.uri, self.client, longest_s=longest_s)
        return here or str(client.download_artifacts(run_id, path, folder))

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
        location, is_own_file = experiment.artifact_location, sqlite_path(self.uri) is not None
        if self.artifacts is not None and is_own_file and not _below(location, self.artifacts):
            raise StoreError(  # a copied or moved project would write into the one that its database came from
                f"the files of experiment {name!r} lie in {location}, not in {self.artifacts}: this project was copied "
                "or moved, or is mounted elsewhere. Nothing was written; `llmlab sync --here` points its store here"
            )
        return str(experiment.experiment_id)

    def start_run(self, experiment: str, *, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new RUNNING run that names its process, so that it can be closed if that process dies."""
        _close_stale_runs_once(self)
        experiment_id = self.experiment_id(experiment)
        with reported(f"no run can be started in {experiment!r}"):
            run = self.client.create_run(experiment_id, run_name=name, tags={**tags, **_process_tags()})
        return str(run.info.run_id)

    @contextmanager
    def run(
        self, experiment: str, *, name: str, tags: Mapping[str, str], what: str, status: Status = "FINISHED"
    ) -> Iterator[str]:
        """The id of a new run that is marked as whole and closed at the end; what is raised closes it too.

        So an interrupted cell leaves nothing open, and is logged anew when it runs again. `what` cannot be logged, says
        the StoreError.
        """
        run_id = self.start_run(experiment, name=name, tags=tags)
        try:
            with reported(f"{what} cannot be logged"):
                yield run_id
                self.client.set_tag(run_id, COMPLETION_TAG, "whole")
        except BaseException as error:
            self.close_after(run_id, error)
            raise
        self.close_run(run_id, status)

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
        base = without_password(self.uri).rstrip("/") if self.uri.startswith("http") else _ui_address()
        if not experiment_id:
            return base
        search = f"&searchFilter={quote(query, safe='')}" if query else ""
        return f"{base}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART{search}"

    def experiments(self, *, trash: bool = False) -> list[Any]:
        """Every experiment, those in MLflow's trash on request."""
        ask, view = self.client.search_experiments, _VIEWS[trash]
        return list(pages(lambda token: ask(view_type=view, max_results=1000, page_token=token)))

    def search(self, query: str, *, trash: bool = False) -> list[Any]:
        """Every run of every experiment that MLflow's query finds, those in its trash on request."""
        ids = [experiment.experiment_id for experiment in self.experiments(trash=trash)]
        ask, view = self.client.search_runs, _VIEWS[trash]
        return list(pages(lambda token: ask(ids, query, view, max_results=1000, page_token=token)))

    def whole_runs(self, tag: str, value: str) -> list[Any]:
        """The runs with this tag that were logged whole, the newest first."""
        runs = self.search(f"tags.`{tag}` = '{value}' and tags.`{COMPLETION_TAG}` = 'whole'")
        return sorted(runs, key=lambda run: int(run.info.start_time), reverse=True)


def store_uri(root: Path | None = None) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if set, else `mlruns/mlflow.db` of the project root.

    A relative sqlite path is read from the project root. StoreError for a folder store, which MLflow no longer takes.
    """
    root = project_root() if root is None else root
    return named_uri("MLFLOW_TRACKING_URI", root) or f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"


def named_uri(variable: str, root: Path) -> str:
    """The address that a variable of the environment names, read from the project root; "" where it names none."""
    given = os.environ.get(variable, "").strip()
    scheme = given.partition(":")[0].lower() if ":" in given else ""
    if given and scheme in ("", "file") and given not in ("databricks", "databricks-uc"):
        raise StoreError(
            f"{variable} is {plain(without_password(given))}, a folder, which MLflow no longer writes to; "
            "unset it, or name sqlite:///path/to/mlflow.db or the http address of a server"
        )
    if scheme == "sqlite":
        path = sqlite_path(given)
        if path is None or not path.name or "\0" in path.name:
            raise StoreError(f"{variable} is {plain(given)}, which names no file; name sqlite:///path/to/mlflow.db")
        return f"sqlite:///{root / path}"  # an absolute path stays as it is
    try:
        urlsplit(given)
    except ValueError as error:
        raise StoreError(f"{variable} is no address ({error})") from None
    return with_driver(given)


def store_exists(root: Path | None = None) -> bool:
    """Whether the project has a tracking store: a server, or a database file that is there."""
    path = sqlite_path(store_uri(root))
    return path is None or path.is_file()


def settle_here(root: Path | None = None) -> int:
    """Point everything in a local store of this project to the files beside it; how many places were changed.

    After the project was copied or moved with its `mlruns/`; what lies elsewhere stays there.

    Raises:
        StoreError: the store is a server, or there is none.
    """
    store = open_store(root)
    path = sqlite_path(store.uri)
    if path is None or store.artifacts is None:
        raise StoreError(f"the store {without_password(store.uri)} is no file of this project: nothing was changed")
    changed, here = 0, store.artifacts.as_uri()
    with reported("the places of artifacts cannot be changed"), closing(sqlite3.connect(path)) as database, database:
        kept = database.execute("select name, artifact_location from experiments where experiment_id != 0").fetchall()
        roots = {at.removesuffix(f"/{quote(name, safe='')}") for name, at in kept if not _below(at, store.artifacts)}
        for root_elsewhere in roots:
            for table, column in _PLACES:
                there = (root_elsewhere, here, f"{root_elsewhere}/")
                change = f"update {table} set {column} = replace({column}, ?, ?) where instr({column}, ?) = 1"  # noqa: S608  # our own names
                changed += database.execute(change, there).rowcount
    return changed


def local_file(artifact_uri: str, path: str) -> str | None:
    """Where a file of a run's artifacts lies on this machine, None where it does not; OSError where it is gone."""
    parts = urlsplit(artifact_uri)
    if parts.scheme not in ("", "file"):
        return None
    folder = Path(os.path.normpath(unquote(parts.path) if parts.scheme else artifact_uri))
    place = Path(os.path.normpath(folder / path))  # what a receipt or a tag names may be anybody's
    if not place.is_relative_to(folder) or not place.is_file():
        raise OSError(f"No such artifact: '{path}'")
    return str(place)


def _below(location: str, folder: Path) -> bool:
    """Whether a file's address, or path, lies in the folder."""
    place = Path(unquote(urlsplit(location).path))
    return place.is_relative_to(folder) or place.is_relative_to(folder.resolve())


def open_store(root: Path | None = None) -> Store:
    """The store of this project, probed, and migrated once whatever number of processes come at the same time."""
    root = project_root() if root is None else root
    uri = store_uri(root)
    path, remote = sqlite_path(uri), uri.startswith(("http", "databricks"))
    beside = path.parent if path is not None else root / "mlruns"
    opened(uri)
    if uri.startswith(("http://", "https://")):
        check_artifacts(uri)
    return Store(uri=uri, artifacts=None if remote else beside / "artifacts")


def opened(uri: str, registry_uri: str | None = None) -> MlflowClient:
    """MLflow's client on a store that was probed and, once by whatever number of processes, migrated."""
    for address in dict.fromkeys((uri, registry_uri or uri)):
        check_store(address)
    with reported(f"the store {without_password(registry_uri or uri)} cannot be opened"), _first_use:
        return client_of(uri, registry_uri or uri)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns what MLflow, its database or the network raises into a StoreError that says what could not be done."""
    try:
        yield
    except store_errors() as error:
        lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")]
        first = next(iter(lines), "").partition(" Response body: '<")[0]  # else a page of HTML
        advice = next((advice for said, advice in _ADVICE.items() if said in f"{first} "), "")
        raise StoreError(f"{advice}{what}: {plain(scrub(first), 300)}") from error


_LET_IN = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_ADVICE = {  # what the store said -> what to do
    **dict.fromkeys(("error code 401 ", "error code 403 "), f"MLflow's server refuses you: {_LET_IN}; "),
    **dict.fromkeys(("error code 503 ", "too many 503 "), "MLflow's server is not ready (is its database up?); "),
    **dict.fromkeys(("disk is full ", "No space left on device "), "the disk is full: make room; "),
}


def pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """What MLflow finds, page after page; `ask` is given the token of a page, None for the first."""
    page = ask(None)
    yield from page
    while page.token:
        page = ask(page.token)
        yield from page


@cache
def client_of(uri: str, registry_uri: str) -> MlflowClient:
    """MLflow's client on these two, which `opened` opened; it is made once, and migrates what is new."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), _migration_lock(sqlite_path(registry_uri)):
        warnings.simplefilter("ignore")  # MLflow's import and its migrations warn about their own libraries
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=registry_uri)
        if not registry_uri.startswith(("http", "databricks")):  # the registry opens the same tables a second time
            patient(registry_uri, client, longest_s=_MIGRATION_TIMEOUT_S).search_registered_models(max_results=1)
    logging.getLogger(_CHATTER).setLevel(logging.CRITICAL)  # it prints the traceback of each error that it raises
    return patient(registry_uri, client)


@contextmanager
def _migration_lock(path: Path | None) -> Iterator[None]:
    """One process at a time creates or migrates the tables; the others wait. Its chatter stays off the terminal."""
    if path is None:
        yield
        return
    import filelock

    chatter = logging.getLogger(_CHATTER)
    level = chatter.level
    try:
        with filelock.FileLock(path.with_name(path.name + ".lock"), timeout=_MIGRATION_TIMEOUT_S), _made_whole(path):
            chatter.setLevel(logging.WARNING)
            yield
    except filelock.Timeout:
        raise StoreError(
            f"another process has been migrating {path} for {_MIGRATION_TIMEOUT_S:.0f} s; see what holds {path}.lock"
        ) from None
    finally:
        chatter.setLevel(level)


@contextmanager
def _made_whole(path: Path) -> Iterator[None]:
    """A new store is made anew if whoever was making it got killed; what there was of it is kept beside.

    MLflow cannot go on with a store some of whose tables are made. A mark lies beside the file until all are.
    """
    mark = path.with_name(path.name + ".new")
    if mark.exists() and path.exists() and not _holds_anything(path):
        path.replace(path.with_name(f"{path.name}.half-made-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"))
    if not path.exists():
        mark.touch()
    yield
    mark.unlink(missing_ok=True)


def _holds_anything(path: Path) -> bool:
    """Whether any table has a row. MLflow's own first one, the default experiment, is written once all are made."""
    with closing(sqlite3.connect(path)) as database:  # which also undoes what was being written at the kill
        names = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")} - _SEEDED
        first = "select 1 from {} limit 1"  # of the store's own tables
        rows = [database.execute(first.format(name)).fetchone() for name in sorted(names)]
    return any(rows)


def _ui_address() -> str:
    """Where `llmlab ui` of this project shows a local store: on the port that it runs on, else on its usual one."""
    try:
        shown = json.loads((runs_folder() / _UI_FILE).read_text(encoding="utf-8"))
        port = int(shown["port"]) if _is_alive(shown) else UI_PORT
    except (OSError, ValueError, KeyError, TypeError):  # it does not run
        port = UI_PORT
    return f"http://127.0.0.1:{port}"


@contextmanager
def ui_runs(port: int) -> Iterator[None]:
    """Links of this project name this port meanwhile."""
    file = runs_folder() / _UI_FILE
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
    return f"{url} (while `llmlab ui` runs)" if url.startswith(f"{_ui_address()}/") else url


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
