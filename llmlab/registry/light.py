"""MLflow's model registry without `import mlflow`, which alone costs more than all that a rollback does.

The few calls of a rollback, named and answering as `MlflowClient`'s, in a SQLite file or over the wire. They are made
only where all that matters is known: a file with the tables that the MLflow beside us makes, a server at a plain
address, with a password, a token or neither. Every other store is MLflow's own client's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from llmlab.tracking.reach import SILENCE_S, sqlite_path, trust
from llmlab.tracking.store import client_of, local_file

SCHEMA = "dc11669786a5"  # the migration after which the tables are as they are written here
MISSING, _THERE = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
_LOCK_S = 5.0  # another writer is waited for so long
_TRANSIENT = (429, 500, 502, 503, 504)  # asked once more, as MLflow does here
OURS = "MLFLOW_TRACKING_"
UNKNOWN = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE", "NETRC")
FILES = ("~/.mlflow/credentials", "~/.netrc", "~/_netrc")  # who is let in, as MLflow and requests read it
_FILTER = re.compile(r"name = '([^']*)'(?: and tags\.(\w+) = '([^']*)')?")


class RefusedError(OSError):
    """What a store says no with; `error_code` is MLflow's."""

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code


class Page(list[Any]):
    """What was found; `token` asks for more, "" where there is none."""

    token: str = ""


def light_client(uri: str) -> FileRegistry | ServerRegistry | None:
    """A client on this store; None where only MLflow's own will do."""
    path = sqlite_path(uri)
    if any(map(os.environ.get, UNKNOWN)):
        return None
    if path is not None:
        return FileRegistry(path) if "?" not in uri and _schema(path) == SCHEMA else None
    plain = uri.startswith(("http://", "https://")) and "@" not in uri
    return ServerRegistry(uri) if plain and not any(Path(name).expanduser().exists() for name in FILES) else None


class FileRegistry:
    """The tables of MLflow's SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_registered_model(self, name: str) -> Any:
        with self._open() as database:
            if not database.execute("SELECT 1 FROM registered_models WHERE name = ?", (name,)).fetchone():
                raise RefusedError(MISSING, f"Registered Model with name={name} not found")
            rows = database.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,))
            return SimpleNamespace(name=name, aliases={row["alias"]: str(row["version"]) for row in rows})

    def get_model_version(self, name: str, version: str) -> Any:
        with self._open() as database:
            return self._version(database, name, version)

    def search_model_versions(self, filter_string: str, **_paging: Any) -> Page:
        read = _FILTER.fullmatch(filter_string)
        if read is None:
            raise ValueError(f"{filter_string!r} is no filter of ours")
        name, key, value = read.groups()
        query = "SELECT * FROM model_versions AS v WHERE name = ? AND current_stage != 'Deleted_Internal'"
        if key:
            query += (
                " AND EXISTS (SELECT 1 FROM model_version_tags AS t WHERE t.name = v.name AND t.version = v.version"
                " AND t.key = ? AND t.value = ?)"
            )
        with self._open() as database:
            rows = database.execute(f"{query} ORDER BY version DESC", (name, key, value) if key else (name,))
            return Page(self._entity(database, row) for row in rows.fetchall())

    def create_registered_model(self, name: str, description: str) -> None:
        now = _now_ms()
        with self._open() as database:
            try:
                database.execute(
                    "INSERT INTO registered_models (name, creation_time, last_updated_time, description)"
                    " VALUES (?, ?, ?, ?)",
                    (name, now, now, description),
                )
            except sqlite3.IntegrityError:
                raise RefusedError(_THERE, f"Registered Model (name={name}) already exists.") from None

    def create_model_version(
        self, name: str, *, source: str, run_id: str, tags: Mapping[str, str], description: str, **_waiting: Any
    ) -> Any:
        now = _now_ms()
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # the number is read and taken by one writer at a time
            query = "SELECT coalesce(max(version), 0) + 1 AS next FROM model_versions WHERE name = ?"
            number = database.execute(query, (name,)).fetchone()["next"]
            database.execute(
                "INSERT INTO model_versions (name, version, creation_time, last_updated_time, description, source,"
                " storage_location, run_id, current_stage, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'None', 'READY')",
                (name, number, now, now, description, source, source, run_id),
            )
            database.executemany(
                "INSERT INTO model_version_tags (name, version, key, value) VALUES (?, ?, ?, ?)",
                [(name, number, key, value) for key, value in tags.items()],
            )
            database.execute("UPDATE registered_models SET last_updated_time = ? WHERE name = ?", (now, name))
            database.execute("COMMIT")
            return self._version(database, name, number)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        with self._open() as database:
            self._version(database, name, version)
            database.execute(
                "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?)"
                " ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version",
                (name, alias, int(version)),
            )

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        with self._open() as database:
            self._version(database, name, version)
            database.execute(
                "INSERT INTO model_version_tags (name, version, key, value) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (workspace, key, name, version) DO UPDATE SET value = excluded.value",
                (name, int(version), key, value),
            )

    def download_artifacts(self, run_id: str, path: str, folder: str) -> str:
        with self._open() as database:
            row = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        if row is None:
            raise RefusedError(MISSING, f"Run with id={run_id} not found")
        here, uri = local_file(row["artifact_uri"], path), f"sqlite:///{self._path}"
        return here or str(client_of(uri, uri).download_artifacts(run_id, path, folder))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_LOCK_S, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                yield database
        except sqlite3.Error as error:
            raise OSError(str(error)) from error

    def _version(self, database: sqlite3.Connection, name: str, version: str | int) -> Any:
        query = "SELECT * FROM model_versions WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'"
        row = database.execute(query, (name, int(version))).fetchone()
        if row is None:
            raise RefusedError(MISSING, f"Model Version (name={name}, version={version}) not found")
        return self._entity(database, row)

    @staticmethod
    def _entity(database: sqlite3.Connection, row: sqlite3.Row) -> Any:
        key = (row["name"], row["version"])
        tags = database.execute("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", key)
        aliases = database.execute("SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ?", key)
        return _version_of({**row, "tags": map(dict, tags), "aliases": (alias for (alias,) in aliases)})


class ServerRegistry:
    """MLflow's REST interface."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        name, password, token = (os.environ.get(OURS + key) for key in ("USERNAME", "PASSWORD", "TOKEN"))
        if name and password:
            self._headers["Authorization"] = f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"
        elif token:
            self._headers["Authorization"] = f"Bearer {token}"

    def get_registered_model(self, name: str) -> Any:
        model = self._ask("registered-models/get", name=name)["registered_model"]
        aliases = {alias["alias"]: alias["version"] for alias in model.get("aliases", ())}
        return SimpleNamespace(name=name, aliases=aliases)

    def get_model_version(self, name: str, version: str) -> Any:
        return _version_of(self._ask("model-versions/get", name=name, version=version)["model_version"])

    def search_model_versions(
        self, filter_string: str, *, max_results: int, order_by: Sequence[str], page_token: str | None
    ) -> Page:
        query = {"filter": filter_string, "max_results": max_results, "order_by": order_by}
        answer = self._ask("model-versions/search", **query, **({"page_token": page_token} if page_token else {}))
        page = Page(map(_version_of, answer.get("model_versions", ())))
        page.token = answer.get("next_page_token", "")
        return page

    def create_registered_model(self, name: str, description: str) -> None:
        self._tell("registered-models/create", name=name, description=description)

    def create_model_version(
        self, name: str, *, tags: Mapping[str, str], await_creation_for: int, **fields: str
    ) -> Any:
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        answer = self._tell("model-versions/create", again=False, name=name, tags=pairs, **fields)
        return _version_of(answer["model_version"])

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._tell("registered-models/alias", name=name, alias=alias, version=version)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self._tell("model-versions/set-tag", name=name, version=version, key=key, value=value)

    def download_artifacts(self, run_id: str, path: str, folder: str) -> str:
        artifact_uri = self._ask("runs/get", run_id=run_id)["run"]["info"]["artifact_uri"]
        place = urlsplit(artifact_uri)
        if place.scheme != "mlflow-artifacts" or place.netloc:
            here = local_file(artifact_uri, path)
            return here or str(client_of(self._uri, self._uri).download_artifacts(run_id, path, folder))
        address = f"/api/2.0/mlflow-artifacts/artifacts/{quote(unquote(place.path).strip('/'))}/{quote(path)}"
        file = Path(folder) / Path(path).name
        file.write_bytes(self._send(address))
        return str(file)

    def _ask(self, call: str, **query: Any) -> Any:
        return json.loads(self._send(f"/api/2.0/mlflow/{call}?{urlencode(query, doseq=True)}"))

    def _tell(self, call: str, *, again: bool = True, **body: Any) -> Any:
        return json.loads(self._send(f"/api/2.0/mlflow/{call}", json.dumps(body).encode(), again=again))

    def _send(self, place: str, body: bytes | None = None, *, again: bool = True) -> bytes:
        request = urllib.request.Request(self._uri + place, body, self._headers)  # noqa: S310  # http(s), see light_client
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_S, context=trust(self._uri)) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code in _TRANSIENT and again:
                time.sleep(1)
                return self._send(place, body, again=False)
            raise _refusal(error) from None


def _refusal(error: urllib.error.HTTPError) -> OSError:
    """What the server said, where it says so in MLflow's words."""
    try:
        refusal = json.loads(error.read())
        return RefusedError(str(refusal["error_code"]), str(refusal["message"]))
    except (OSError, ValueError, KeyError, TypeError):
        return OSError(f"it answers with status {error.code} ({error.reason})")


def _version_of(held: Mapping[str, Any]) -> Any:
    fields = {name: held.get(name, "") for name in ("name", "version", "source", "run_id")}
    tags = {tag["key"]: tag.get("value", "") for tag in held.get("tags", ())}
    return SimpleNamespace(**fields, tags=tags, aliases=list(held.get("aliases", ())))


def _schema(path: Path) -> str:
    """The last migration of a file, "" where it is none of MLflow's."""
    if not path.is_file():
        return ""
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_S)) as database:
            return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
