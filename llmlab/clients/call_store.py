"""The call store: every answer ever received, in one SQLite file, durable before anybody uses it.

A run asks it first and pays only for what is missing, so a killed run resumes with nothing lost. Several processes may
share one file: each claims what it asks for, so that none pays for what another has on its way. JSON only: opening
somebody else's file cannot run code. Used by `engine`.

Call stores of others that lie in the folder `calls.d` beside it are read too, after it and in the order of their names,
and never written to; so is the project's, with those beside it, by the store of a shard.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import queue
import re
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from llmlab.base.errors import StoreError
from llmlab.clients.base import Generation, Request

try:
    import fcntl
except ImportError:  # Windows, where nobody's claims are seen
    fcntl = None  # type: ignore[assignment]  # asked for before each use

_APPLICATION_ID = 0x6C6C6D6C  # "llml": marks the file as ours
_FORMAT_VERSION = 2  # 1 had no `asked_at`; it is added where it is missing
_BUSY_TIMEOUT_S = 60.0
_KEYS_PER_QUERY = 500
_ROWS_PER_COMMIT = 1_000  # of five variables each: SQLite takes at most 32,766 in a statement
_NETWORK_FILESYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\w*|afs|ceph|lustre|gpfs|beegfs|glusterfs|davfs|ncpfs|"
    r"fuse\.(sshfs|ceph|glusterfs|s3fs|gcsfuse|rclone|davfs2?|smbnetfs|blobfuse2?|juicefs)"
)
_OTHERS = "calls.d"  # folder beside the store with those of others
NO_ANSWER = (ValueError, KeyError, TypeError, ArithmeticError)  # of an entry that is whole, and that holds none
_ADVICE = {  # what SQLite says -> what to do
    "full|disk I/O": "make room on the disk and run again: answers kept so far are not paid for twice",
    "locked": f"another process has held its lock for {_BUSY_TIMEOUT_S:.0f} s; end it and run again",
    "malformed|not a database": "the file is damaged; move it away or restore a copy (what only it held is paid again)",
    "": "check that the path exists and may be written",
}
_FIRST_COLUMNS = "calls (key TEXT PRIMARY KEY, answer BLOB, checksum INTEGER, request BLOB"
_COLUMNS = f"{_FIRST_COLUMNS}, asked_at INTEGER)"


_MODEL = """CASE WHEN length(request) THEN json_extract(CAST(request AS TEXT), '$.model.provider') || '/' ||
    json_extract(CAST(request AS TEXT), '$.model.id') ELSE '' END"""
_COST = "json_extract(CAST(answer AS TEXT), '$.cost_usd')"
_TOKENS = "json_extract(CAST(answer AS TEXT), '$.usage[0]') + json_extract(CAST(answer AS TEXT), '$.usage[1]')"
_BY_MODEL = f"""SELECT {_MODEL}, count(*), coalesce(sum(CAST({_COST} AS REAL)), 0), sum({_COST} IS NULL),
    sum(length(answer) + length(request)), min(asked_at), max(asked_at), sum({_COST} IS NULL AND ({_TOKENS}) IS NULL)
    FROM calls GROUP BY 1"""  # noqa: S608 - our own words


def call_key(fingerprint: str, request: Request) -> str:
    """The sha256 (hex) of everything that can change the answer: the endpoint's fingerprint and the whole request.

    >>> from llmlab.bundle.bundle import ModelRef, Sampling
    >>> request = Request(model=ModelRef.parse("offline/x"), messages=(), sampling=Sampling(temperature=0.0))
    >>> call_key("offline", request) == call_key("elsewhere", request)
    False
    """
    text = f"{len(fingerprint)}:{fingerprint}{request.to_json()}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Write(NamedTuple):
    row: tuple[str, bytes, int, bytes, int]  # in the order of the columns
    done: asyncio.Future[Any]  # the row that was there already, None where this one is kept


class StoredCalls(NamedTuple):
    """What is stored of one model: answers, dollars that they cost (and of how many that is unknown), size and times.

    Times are seconds since 1970, None where version 0.1 kept all of them. Of the `unpriced`, `uncounted` came without
    usage, so that no price could help.
    """

    model: str
    answers: int
    cost_usd: float
    unpriced: int
    n_bytes: int
    first_at: int | None
    last_at: int | None
    uncounted: int = 0


class CallStore:
    """Answers by call key, in the SQLite file at `path` (made with mode 0600 where there is none).

    `also` is another of ours that is read, where it exists, and what lies in `calls.d` beside that.

    Raises:
        StoreError: the file is on a network filesystem, is no call store, is damaged, or cannot be written.

    >>> import tempfile
    >>> with CallStore(Path(tempfile.mkdtemp()) / "calls.sqlite") as store:
    ...     store.get_many(["unknown key"])
    {}
    """

    def __init__(self, path: str | Path, *, also: Path | None = None, mounts: str | Path = "/proc/mounts") -> None:
        self.path = Path(path).absolute()
        self._process = os.getpid()
        self._broken = ""  # why nothing can be kept any more; "" while all is well
        self._closed = False
        self._torn: set[str] = set()  # keys whose entry was found damaged: their next answer replaces it
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        _refuse_network_filesystem(self.path, Path(mounts))
        self._reader = _opened(self.path)
        self._inode = self.path.stat().st_ino
        self._others = dict(_others(self.path, also, Path(mounts)))
        self.borrowed: dict[str, str] = {}  # key -> whose store it was read from, "" for `also`
        self.shared = False  # whether another process has written since this one opened it
        self._version = self._read_version = _data_version(self._reader)
        self._claims: _Claims | None = None
        self._claimed: set[int] = set()  # the bytes of what this store has claimed

    def check(self) -> None:
        """Raise StoreError when the store can no longer keep answers: ask this before each paid call."""
        if self._broken:
            raise StoreError(self._broken)
        if os.getpid() != self._process:
            raise StoreError(f"{self.path} was opened by another process; open a CallStore of your own after a fork")
        try:
            same_file = self.path.stat().st_ino == self._inode
        except OSError:
            same_file = False
        if not same_file:
            raise StoreError(f"the call store {self.path} was deleted or replaced while it was in use; run again")

    def get_many(self, keys: Iterable[str]) -> dict[str, Generation]:
        """The stored answers among `keys`, marked `cached`; a damaged entry is left out with a warning."""
        self.check()
        answers: dict[str, Generation] = {}
        remaining = iter(keys)
        while batch := list(islice(remaining, _KEYS_PER_QUERY)):
            for row in self._rows(batch):
                answer = None
                with contextlib.suppress(*NO_ANSWER):
                    answer = _whole(*row)
                if answer is None:
                    self._warn_torn(row[0])
                else:
                    answers[row[0]] = answer
            for name in list(self._others):
                if missing := [key for key in batch if key not in answers]:
                    borrowed = self._borrowed(name, missing)
                    self.borrowed |= dict.fromkeys(borrowed, name)
                    answers |= borrowed
        return answers

    def _borrowed(self, name: str, keys: list[str]) -> dict[str, Generation]:
        """The answers that another store has; one that cannot be read is told once and left out from then on."""
        answers: dict[str, Generation] = {}
        try:
            with self._lock:
                rows = self._others[name].execute(_query(keys), keys).fetchall()
            for row in rows:
                if (answer := _whole(*row)) is not None:
                    answers[row[0]] = answer
        except (sqlite3.Error, *NO_ANSWER) as error:
            with self._lock:
                if (left_out := self._others.pop(name, None)) is not None:  # another thread may have taken it out
                    left_out.close()
            where = f"{_OTHERS}/{name}.sqlite" if name else "the project's call store"
            flaw = f"{where} cannot be read ({error}) and is left out"
            warnings.warn(flaw, RuntimeWarning, stacklevel=3)
        return answers

    def claim(self, key: str) -> bool:
        """Whether nobody else asks for this key now. From then on this process does, until `release` or its end."""
        if fcntl is None or self._closed:
            return True
        byte = zlib.crc32(key.encode())  # two keys on one byte only wait for each other
        try:
            self._claims = self._claims or _Claims.of(self.path.resolve())  # one file, however it is named
            if byte not in self._claimed and not self._claims.take(byte):
                self.shared = True
                return False
            self._claimed.add(byte)
        except OSError:  # no locks here
            return True
        return True

    def may_hold_more(self) -> bool:
        """Whether another process may have written since: ask once more before a call."""
        if self.shared:
            return True
        try:
            return bool(self._fetch("PRAGMA data_version", [])[0][0] != self._read_version)
        except sqlite3.DatabaseError:  # of a damaged file, which is told when it is read
            return True

    def release(self, key: str) -> None:
        """Let others ask for this key, once its answer is kept or did not come."""
        byte = zlib.crc32(key.encode())
        if self._claims is not None and byte in self._claimed:
            self._claimed.discard(byte)
            self._claims.free(byte)

    async def put(self, key: str, request: Request | None, generation: Generation) -> Generation:
        """Keep the answer; returns when it is on disk. The first answer under a key stays, and is what you get.

        `request` is None for the answer of an application, which sends its own.
        """
        self.check()
        stored: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer = generation.to_json().encode("ascii")
        sent_json = b"" if request is None else request.to_json().encode("ascii")
        row = (key, answer, _checksum(key, answer), sent_json, int(time.time()))
        if self._writer is None:
            self._start_writer()
        self._queue.put(_Write(row, stored))
        if (earlier := await stored) is not None:
            with contextlib.suppress(*NO_ANSWER):  # else it is asked again later
                return (_whole(*earlier) or generation).placed(cached=False)  # this one was sent, too
        return generation

    def request_json(self, key: str) -> str | None:
        """The request that was sent for this key, as `Request.to_json` wrote it; None when there is none."""
        self.check()
        query = "SELECT request FROM calls WHERE key = ?"
        try:
            rows = self._fetch(query, [key])
            if not rows and key in self.get_many([key]):
                rows = self._others[self.borrowed[key]].execute(query, [key]).fetchall()
        except sqlite3.DatabaseError:  # on a damaged page
            return None
        return rows[0][0].decode("ascii", "replace") if rows and rows[0][0] and isinstance(rows[0][0], bytes) else None

    def by_model(self) -> list[StoredCalls]:
        """What is stored and what it cost, per model, the dearest first."""
        rows = self._fetch(_BY_MODEL, [])
        return sorted((StoredCalls(*row) for row in rows), key=lambda stored: (-stored.cost_usd, stored.model))

    def forget(
        self, *, keys: Iterable[str] | None = None, model: str | None = None, since: datetime | None = None
    ) -> int:
        """Delete the answers that fit all that is given, so that they are asked for again; how many there were.

        Args:
            keys: call keys.
            model: `provider/id`.
            since: asked at this time or later; answers that version 0.1 kept have no time and stay.
        """
        self.check()
        rules: dict[str, Any] = {} if model is None else {f"{_MODEL} = ?": model}
        rules |= {} if since is None else {"asked_at >= ?": int(since.timestamp())}
        rows = [[*rules.values(), *key] for key in ([()] if keys is None else ((key,) for key in keys))]
        if not (where := [*rules, *([] if keys is None else ["key = ?"])]):
            raise ValueError("say which answers to forget: keys, model or since")
        try:
            with contextlib.closing(_connected(self.path)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                forget = f"DELETE FROM calls WHERE {' AND '.join(where)}"  # noqa: S608 - our own words
                gone = connection.executemany(forget, rows).rowcount
                connection.execute("COMMIT")
                return gone
        except sqlite3.Error as error:
            raise StoreError(_what_to_do(self.path, error)) from error

    def __len__(self) -> int:
        return int(self._fetch("SELECT count(*) FROM calls", [])[0][0])

    def close(self) -> None:
        """Write what is queued and close the file; closing twice is harmless."""
        is_ours = os.getpid() == self._process  # in a forked child nobody may ever let go of the lock
        if self._writer is not None and is_ours:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        with self._lock if is_ours else contextlib.nullcontext():  # a thread of an interrupted run may still be reading
            self._broken = self._broken or f"the call store {self.path} is closed"
            self._closed = True
            for connection in (self._reader, *self._others.values()):
                connection.close()
            if self._claims is not None and is_ours:
                self._claims.leave(self._claimed)
                self._claims = None

    def __enter__(self) -> CallStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CallStore({str(self.path)!r})"

    def _rows(self, keys: list[str]) -> Iterator[tuple[str, bytes, int]]:
        try:
            yield from self._fetch(_query(keys), keys)
        except sqlite3.DatabaseError:
            if len(keys) == 1:  # this entry lies on a damaged page
                self._warn_torn(keys[0])
                return
            for key in keys:
                yield from self._rows([key])

    def _fetch(self, query: str, values: list[str]) -> list[Any]:
        """The rows; sqlite3.DatabaseError where they are damaged, StoreError where they cannot be read now."""
        try:
            with self._lock:
                if self._closed:
                    raise StoreError(self._broken)
                return self._reader.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)  # none: a text that is not UTF-8
            if code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            raise StoreError(_what_to_do(self.path, error)) from error

    def _warn_torn(self, key: str) -> None:
        self._torn.add(key)
        warnings.warn(f"{self.path}: entry {key[:12]} is damaged and is asked again", RuntimeWarning, stacklevel=4)

    def _start_writer(self) -> None:
        with self._lock:
            if self._writer is not None:
                return
            try:
                connection = _connected(self.path)
                self.shared = self._version != _data_version(self._reader)
                self._version = _data_version(connection)  # from now on: this one does not see its own writes
            except sqlite3.Error as error:
                raise StoreError(_what_to_do(self.path, error)) from error
            self._writer = threading.Thread(
                target=self._write, args=(connection,), name="llmlab-callstore", daemon=True
            )
            self._writer.start()

    def _write(self, connection: sqlite3.Connection) -> None:
        """The writer thread: commit whatever has queued up, and only then release those who wait for it."""
        while (first := self._queue.get()) is not None:
            batch = [first]
            more: _Write | None = first
            while more is not None and len(batch) < _ROWS_PER_COMMIT and not self._queue.empty():
                if (more := self._queue.get()) is not None:
                    batch.append(more)
            stored_before = {} if self._broken else self._commit(connection, batch)
            _release(batch, self._broken, stored_before)
            if more is None:
                break
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Write]) -> dict[str, Any]:
        """What is stored, where some keys were there already. One statement a batch: each more fights for the GIL."""
        torn = [write.row[0] for write in batch if write.row[0] in self._torn]
        rows = ",".join(["(?, ?, ?, ?, ?)"] * len(batch))
        try:
            for key in torn:
                connection.execute("DELETE FROM calls WHERE key = ?", (key,))
            # the first answer under a key stays and is what all use: what a run has used is never swapped under it
            insert = f"INSERT OR IGNORE INTO calls VALUES {rows}"  # noqa: S608 - only question marks are put in
            n_inserted = connection.execute(insert, [value for write in batch for value in write.row]).rowcount
            with self._lock:
                if not self._closed:  # what others write from now on is a newer version to the reader, as is our next
                    self._read_version = _data_version(self._reader)
            self.shared = self.shared or self._version != _data_version(connection)
            if n_inserted == len(batch):
                return {}
            keys = [write.row[0] for write in batch]
            return {row[0]: row for row in connection.execute(_query(keys), keys)}
        except sqlite3.Error as error:
            self._broken = _what_to_do(self.path, error)
            return {}


class _Claims:
    """The keys that a process asks for now: locked bytes of an empty file beside a store, freed when it is killed.

    One for all stores of a process on a file, because to close any descriptor of a file frees all its locks.
    """

    _known: ClassVar[dict[tuple[int, Path], _Claims]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.key, self.stores, self.taken = (os.getpid(), path), 0, set[int]()
        self.file = os.open(f"{path}-claims", os.O_CREAT | os.O_RDWR, 0o600)

    @classmethod
    def of(cls, path: Path) -> _Claims:
        """Those of this process on the store at `path`, which the caller is to `leave`."""
        with cls._guard:
            claims = cls._known.get((os.getpid(), path)) or cls(path)
            cls._known[claims.key] = claims
            claims.stores += 1
            return claims

    def take(self, byte: int) -> bool:
        with self._guard:
            if byte in self.taken:  # for another store of this process, whose lock the system would let us take again
                return False
            try:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except BlockingIOError:
                return False
            self.taken.add(byte)
            return True

    def free(self, *taken: int) -> None:
        with self._guard:
            for byte in taken:
                self.taken.discard(byte)
                with contextlib.suppress(OSError):
                    fcntl.lockf(self.file, fcntl.LOCK_UN, 1, byte)

    def leave(self, taken: Iterable[int]) -> None:
        """Free these; the last store of the process closes the file."""
        self.free(*taken)
        with self._guard:
            self.stores -= 1
            if not self.stores:
                del self._known[self.key]
                os.close(self.file)


def _release(batch: list[_Write], broken: str, stored_before: Mapping[str, Any]) -> None:
    # a future may be settled only in its loop's thread, and one batch may hold the writes of several loops
    for loop in {write.done.get_loop() for write in batch}:
        writes = [write for write in batch if write.done.get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody waiting; the answers are kept
            loop.call_soon_threadsafe(_settle, writes, broken, stored_before)


def _settle(writes: list[_Write], broken: str, stored_before: Mapping[str, Any]) -> None:
    for write in writes:
        if write.done.done():  # its waiter was cancelled
            continue
        if broken:
            write.done.set_exception(StoreError(broken))
        else:
            row = stored_before.get(write.row[0])
            write.done.set_result(None if row == write.row[:3] else row)


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that is another one once another connection has written."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _query(keys: list[str]) -> str:
    return f"SELECT key, answer, checksum FROM calls WHERE key IN ({','.join('?' * len(keys))})"  # noqa: S608 - only question marks are put in


def _others(main: Path, also: Path | None, mounts: Path) -> Iterator[tuple[str, sqlite3.Connection]]:
    """The other stores that can be read, by name ("" of `also`). One that nobody writes is opened as it lies there."""
    ours = [also] if also is not None and also.exists() else []
    beside = {path.stem: path for store in (*ours, main) for path in sorted((store.parent / _OTHERS).glob("*.sqlite"))}
    for name, path in [*(("", path) for path in ours), *beside.items()]:
        live = path.with_name(f"{path.name}-wal").exists()
        how = ("ro" if live else "ro&immutable=1") if name else "rw"  # ours may be written at any time
        try:
            if not name:
                _refuse_network_filesystem(path, mounts)
            connection = _connected(path, mode=how)
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                connection.close()
                raise sqlite3.DatabaseError("no call store")
            yield name, connection
        except (StoreError, sqlite3.Error) as error:
            warnings.warn(f"{path} cannot be read ({error}) and is left out", RuntimeWarning, stacklevel=4)


def _checksum(key: str, answer: bytes) -> int:
    return zlib.crc32(answer, zlib.crc32(key.encode()))


def _whole(key: str, answer: Any, checksum: Any) -> Generation | None:
    """The answer that a row holds, None where it is damaged."""
    if not isinstance(answer, bytes) or checksum != _checksum(key, answer):
        return None
    return Generation.from_json(answer.decode("ascii"), cached=True, call_key=key)


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to the store, made where there is none; several processes may do this at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # never one that is there: to close it would free the locks of all our connections to it, and whoever closes
            # the file next would take itself for the last one and delete what is written ahead
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with contextlib.ExitStack() as unless_prepared:
            connection = unless_prepared.enter_context(contextlib.closing(_connected(path)))
            _prepare(connection, path)
            unless_prepared.pop_all()
    except (OSError, sqlite3.Error) as error:
        raise StoreError(_what_to_do(path, error)) from error
    return connection


def _connected(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")  # which reads the file, and may find it damaged
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # the tables first: another process that makes the store now writes them and the rest in one transaction
    tables = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application_id != _APPLICATION_ID and tables) or version > _FORMAT_VERSION:
        newer = version > _FORMAT_VERSION
        kind = f"of a newer format, {version}" if newer else "an SQLite database, but no call store"
        raise StoreError(f"{path} is {kind}; give another path, or use the llmlab that wrote it")
    if tables not in ([], [f"CREATE TABLE {_FIRST_COLUMNS})"], [f"CREATE TABLE {_COLUMNS}"]):
        raise sqlite3.DatabaseError("malformed table")
    if _write_ahead(connection) != "wal":
        raise StoreError(f"{path} lies on a filesystem without write-ahead logging; give a path on a local disk")
    if version < _FORMAT_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_COLUMNS}")
        if "asked_at" not in [name for _, name, *_ in connection.execute("PRAGMA table_info(calls)")]:
            connection.execute("ALTER TABLE calls ADD COLUMN asked_at INTEGER")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
        connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Switch to WAL. SQLite does not wait for its lock here when several processes do this first, so we do."""
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _what_to_do(path: Path, error: Exception) -> str:
    text = str(error)
    advice = next((advice for sign, advice in _ADVICE.items() if re.search(sign, text)), "")
    return f"the call store {path} cannot be used ({text}): {advice}"


def _refuse_network_filesystem(path: Path, mounts: Path) -> None:
    """SQLite's locks and shared memory do not hold over a network: two writers would tear the file."""
    if not mounts.exists():  # not Linux
        return
    place = path.parent.resolve()
    kind, longest = "", -1
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, filesystem, *_ = line.split(" ")
        at = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point))
        if place.is_relative_to(at) and len(at.parts) >= longest:
            kind, longest = filesystem, len(at.parts)
    if _NETWORK_FILESYSTEMS.fullmatch(kind):
        raise StoreError(
            f"{path} lies on a network filesystem ({kind}), where SQLite cannot keep it whole; "
            "give a path on a local disk"
        )
