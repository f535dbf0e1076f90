"""Is a store there? Told within seconds, and no call on it waits for ever.

A timeout of a socket starts anew with each byte, so a server that drips would hold its caller for hours: what is asked
of a store that is not a file runs in a thread of its own, which is left behind when it takes too long.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import sqlite3
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from llmlab.base.background import beside
from llmlab.base.cells import plain
from llmlab.base.errors import StoreError
from llmlab.base.private import scrub

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_TIMEOUT_S = 5.0  # a dead server or a held lock is reported after this long
SILENCE_S = 8.0  # and a store that says nothing after this long, whatever was asked
TRANSFER_S = 120.0  # files may take longer
_ELSE_LOCAL = "unset MLFLOW_TRACKING_URI to work on the local store"
_ERRORS = {"mlflow.exceptions": "MlflowException", "sqlalchemy.exc": "SQLAlchemyError"}
_silent_since: dict[str, float] = {}  # by address: `time.monotonic()` when it was asked what it has not answered
Answer = TypeVar("Answer")


class _Patient:
    """MLflow's client on a store that is not a file: each call ends, with an answer or an OSError."""

    def __init__(self, uri: str, client: Any, longest_s: float | None) -> None:
        self._uri, self._client, self._longest_s = uri, client, longest_s

    def __getattr__(self, name: str) -> Any:
        return partial(_asked, self._uri, getattr(self._client, name), self._longest_s)


def patient(uri: str, client: Any, *, longest_s: float | None = None) -> MlflowClient:
    """The client, whose calls end after `longest_s` (by default SILENCE_S) seconds; on a file the client itself."""
    client = client._client if isinstance(client, _Patient) else client
    return client if sqlite_path(uri) is not None else cast("MlflowClient", _Patient(uri, client, longest_s))


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask()` returns or raises; TimeoutError, and a thread left behind, where that takes longer."""
    answer = beside(ask, name="llmlab-store")
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no answer within {seconds:.3g} s")
    return answer.result()


def check_store(uri: str) -> None:
    """Nothing, where something at this address answers and can be written to; StoreError with what to do if not."""
    _silent_since.pop(uri, None)
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif (path := sqlite_path(uri)) is not None:
        _check_sqlite(path)
    elif "://" in uri and not uri.startswith("databricks"):
        _check_database(uri)


@cache
def check_artifacts(uri: str) -> None:
    """Nothing, where a server takes artifacts (or does not hand them on at all); asked once by each process."""
    failure = f"the MLflow server {without_password(uri)} cannot store artifacts"
    try:
        status = within(PROBE_TIMEOUT_S, lambda: _put_probe(uri))
    except store_errors() as error:
        raise StoreError(f"{failure} ({plain(scrub(str(error)), 200)})") from error
    if status not in (200, 401, 403, 404, 501, 503):  # 503: clients write their artifacts elsewhere by themselves
        raise StoreError(f"{failure} (status {status}); mend its --artifacts-destination, or {_ELSE_LOCAL}")


def with_driver(uri: str) -> str:
    """A PostgreSQL address with the driver that is installed; SQLAlchemy's own choice changes with its version."""
    prefix, bare, rest = uri.partition("postgresql://")
    if prefix or not bare:
        return uri
    drivers = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)]
    if not drivers:
        raise StoreError("no driver for PostgreSQL is installed; `pip install psycopg2-binary`")
    return f"postgresql+{drivers[0]}://{rest}"


def sqlite_path(uri: str) -> Path | None:
    """The file behind a sqlite URI (relative when it is), None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def trust(address: str) -> ssl.SSLContext | None:
    """What MLflow's own client trusts and shows at an https address: as the environment says, else certifi's."""
    if not address.startswith("https://"):
        return None
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next(filter(None, map(os.environ.get, names)), "")
    is_blind = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    return _trusted(bundle, os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH", ""), is_blind)


@cache
def _trusted(bundle: str, shown: str, is_blind: bool) -> ssl.SSLContext:
    import certifi

    place = Path(bundle or certifi.where())
    try:
        context = ssl.create_default_context(cafile=None if place.is_dir() else place, capath=bundle or None)
        if shown:
            context.load_cert_chain(shown)
    except OSError as error:
        raise StoreError(f"a certificate that the environment names cannot be read: {plain(str(error))}") from error
    if is_blind:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _asked(uri: str, ask: Callable[..., Any], longest_s: float | None, *arguments: Any, **named: Any) -> Any:
    """What the store answers. While it owes an answer, further questions wait only for what is left of the bound."""
    now = time.monotonic()
    left_s = (longest_s or SILENCE_S) - (now - _silent_since.setdefault(uri, now))
    if left_s <= 0:
        raise TimeoutError("it still gives no answer")
    try:
        answer = within(left_s, lambda: ask(*arguments, **named))
    except TimeoutError:
        raise
    except Exception as error:
        if not isinstance(error, (StoreError, *store_errors())):  # whatever MLflow trips over in an answer that is none
            raise OSError(f"what it answers is not MLflow's ({type(error).__name__}: {error})") from error
        if time.monotonic() - now < 1:  # it said no; what took longer is a network that fails
            _silent_since.pop(uri, None)
        raise
    _silent_since.pop(uri, None)
    return answer


def store_errors() -> tuple[type[Exception], ...]:
    """What a store's client raises: of MLflow and SQLAlchemy only where they were imported, for that takes seconds."""
    loaded = [(sys.modules.get(module), name) for module, name in _ERRORS.items()]
    return (OSError, *(getattr(module, name) for module, name in loaded if module is not None))


def _check_sqlite(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            mend = "change its permissions or set MLFLOW_TRACKING_URI to a store that can"
            raise StoreError(f"{path} cannot be written to; {mend}")
        if path.exists() and path.stat().st_size:
            with closing(sqlite3.connect(path, timeout=PROBE_TIMEOUT_S, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
    except sqlite3.Error as error:
        mend = "close the program that holds it, or restore it from a backup"
        raise StoreError(f"{path} cannot be written to ({error}); {mend}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be written to ({error.strerror})") from error


def _check_server(uri: str) -> None:
    shown = without_password(uri)
    try:
        body = within(PROBE_TIMEOUT_S, lambda: _health(shown))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return  # something answers; whether it lets us in, MLflow's own call will say
        failure = f"the MLflow server {shown} answers with status {error.code}"
        raise StoreError(f"{failure}; mend it, or {_ELSE_LOCAL}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = plain(str(getattr(error, "reason", error)))
        failure = f"the MLflow server {shown} does not answer ({reason})"
        raise StoreError(f"{failure}; start it, or {_ELSE_LOCAL}") from error
    if b"<" in body:
        raise StoreError(f"{shown} answers with a web page, not as an MLflow server does; name another address")


def _health(address: str) -> bytes:
    address = f"{address.rstrip('/')}/health"
    with urllib.request.urlopen(address, timeout=PROBE_TIMEOUT_S, context=trust(address)) as answer:  # noqa: S310 - http(s) only, checked by the caller
        return bytes(answer.read(100))


def _check_database(uri: str) -> None:
    """A connection to a database server: MLflow itself would try for two minutes."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    shown = without_password(uri)
    try:
        engine = create_engine(uri, poolclass=NullPool)
        within(PROBE_TIMEOUT_S, lambda: engine.connect().close())
    except ImportError as error:
        raise StoreError(f"the driver for {shown} is not installed ({error}); install it") from None
    except (SQLAlchemyError, OSError) as error:
        first = plain(scrub(str(error).partition("\n")[0]), 200)
        raise StoreError(f"the database {shown} does not answer ({first}); start it, or {_ELSE_LOCAL}") from error


def _put_probe(uri: str) -> int:
    """The status of storing a small artifact, which is taken away again."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    place = f"/api/2.0/mlflow-artifacts/artifacts/llmlab-probe/{uuid.uuid4().hex}"
    once = {"max_retries": 0, "timeout": PROBE_TIMEOUT_S, "raise_on_status": False}
    status = http_request(get_default_host_creds(uri), place, "PUT", data=b"probe", **once).status_code
    if status == 200:
        http_request(get_default_host_creds(uri), place, "DELETE", **once)
    return int(status)
