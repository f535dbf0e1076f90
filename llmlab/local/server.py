"""One server per machine, user and model: found by a state file, started where there is none, held by leases.

Whoever asks holds a `Lease`; the server ends two seconds after the last one, however its holder ended. Blocking: call
it in a thread. Used by `clients.local` and `llmlab local serve`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, cast

from filelock import FileLock, Timeout

from llmlab.base.private import excerpt
from llmlab.local import child
from llmlab.local.setup import CPU_FLAGS, LocalModel, LocalModelError

START_TIMEOUT_S = 30.0
_HANDSHAKE_S = 2.0
ERROR = " E "  # after the time, in a line of the server
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "GGML_NO_BACKTRACE": "1"}  # threads that wait give way; no gdb on an abort


class Lease:
    """A place at a running server, which stays while one is held.

    Attributes:
        url: its address, with /v1.
        key: what it wants to be shown.
        pid: of its process.
    """

    def __init__(self, connection: socket.socket, *, url: str, key: str, pid: int) -> None:
        self._connection = connection
        self.url, self.key, self.pid = f"{url}/v1", key, pid

    def __del__(self) -> None:
        self.release()

    @property
    def lost(self) -> bool:
        """Whether the server is gone, or the lease given back."""
        try:
            readable, _, _ = select.select([self._connection], [], [], 0)
            return bool(readable) and self._connection.recv(1) == b""
        except (OSError, ValueError):  # reset, or closed here
            return True

    def release(self) -> None:
        """Give it back; twice does no harm."""
        self._connection.close()


def hold(model: LocalModel, *, start_timeout_s: float = START_TIMEOUT_S) -> Lease:
    """A lease at the model's server, started where none runs.

    Args:
        start_timeout_s: after which a start that hangs is ended.

    Raises:
        LocalModelError: the model is absent or not what it should be, or the server does not start.
    """
    state = _own_folder() / f"{hashlib.sha256(model.fingerprint.encode()).hexdigest()[:16]}.json"
    try:
        # whoever is ahead may need the whole of one bound to start, or to give up
        with FileLock(state.with_suffix(".lock"), timeout=2 * start_timeout_s):
            lease = _attached(state)
            if lease is None:
                _start(model, state, timeout_s=start_timeout_s)
                lease = _attached(state)
    except Timeout:
        raise LocalModelError(f"another process has been starting {model.alias} for too long; end it") from None
    if lease is None:
        raise LocalModelError(f"the server of {model.alias} ended as soon as it had started: {_last_words(state)}")
    return lease


def _own_folder() -> Path:
    """A folder of this user alone; LocalModelError where somebody else has made one under its name."""
    owner = getattr(os, "getuid", lambda: "user")()
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"llmlab-{owner}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # of the folder itself: a link that somebody else put there would lead to whatever they like
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 == 0 and status.st_uid == owner
    if os.name == "posix" and not private:
        raise LocalModelError(f"{folder} is open to other users: remove it, or set XDG_RUNTIME_DIR to a private folder")
    return folder


def _attached(state: Path) -> Lease | None:
    """A lease at the server that the state file names; None where there is none, or another program has its port."""
    try:
        record = json.loads(state.read_text(encoding="utf-8"))
        connection = socket.create_connection(("127.0.0.1", record["lease_port"]), timeout=_HANDSHAKE_S)
    except (OSError, ValueError):
        return None
    lease = Lease(connection, url=record["url"], key=record["key"], pid=record["pid"])
    proof = child.proof_of(lease.key)
    try:
        if connection.recv(len(proof), socket.MSG_WAITALL) == proof:
            return lease
    except OSError:
        pass  # as good as another answer
    lease.release()
    return None


def _start(model: LocalModel, state: Path, *, timeout_s: float) -> None:
    settings = {
        "path": str(model.require_ready()),
        "alias": model.alias,
        "slots": model.slots,
        "context_tokens": model.context_tokens,
        "threads": os.cpu_count() or 1,
        "key": secrets.token_hex(16),
        "state": str(state),
    }
    with state.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-P", child.__file__],  # -P: nothing is imported from the folder that it lies in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,  # Ctrl+C in a terminal is not for it
            text=True,
        )
    if why := _hindrance(process, json.dumps(settings), state, timeout_s):
        raise LocalModelError(f"the server of {model.alias} did not start: {why}")
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie


def _hindrance(process: subprocess.Popen[str], settings: str, state: Path, timeout_s: float) -> str:
    """Why it is not ready, "" once it is."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()  # out of memory it may hang, and not hear SIGTERM

    timer = threading.Timer(timeout_s, end)
    timer.start()
    asked, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)  # it was started with pipes
    try:
        with asked, answers:
            asked.write(f"{settings}\n")
            asked.flush()
            if answers.readline() == "ready\n":
                return ""
    except BrokenPipeError:
        pass  # it ended before it had read
    finally:
        timer.cancel()
    process.kill()
    code = process.wait()
    if late.is_set():
        return f"nothing within {timeout_s:g} s, so it was ended; is enough memory free?"
    if code == -getattr(signal, "SIGILL", 0) and code:
        return f"this processor does not know its instructions ({', '.join(CPU_FLAGS)})"
    return _last_words(state)


def _last_words(state: Path) -> str:
    """What the server wrote on stderr: its first errors, else the end."""
    lines = state.with_suffix(".log").read_text("utf-8", "replace").splitlines()
    shown = [line.partition(ERROR)[2] for line in lines if ERROR in line][:2] or lines[-3:]
    return excerpt(" | ".join(shown) or "it said nothing", limit=600)
