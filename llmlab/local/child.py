"""The process in which a model runs: a program of its own, started by `server`, that loads nothing of llmlab.

It reads one line of JSON on stdin, serves on 127.0.0.1, writes its state file, says "ready", and ends when nobody has
held a lease for a while. A lease is an open TCP connection, so that it is given up by any way a process can end.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any

_LINGER_S = 2.0
_LOOK_EVERY_S = 0.2
_MOST_TOKENS = 512  # of an answer whose request sets no bound


def proof_of(key: str) -> bytes:
    """What a server says to whoever takes a lease, so that another program on a reused port is not taken for it."""
    return hashlib.sha256(key.encode()).hexdigest().encode()


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = settings["path"], {settings["alias"]}
    params.n_parallel, params.n_ctx = settings["slots"], settings["slots"] * settings["context_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.port, params.api_keys, params.cors_origins, params.ui = 0, [settings["key"]], "", False
    params.n_predict, params.cache_ram_mib, params.verbosity = _MOST_TOKENS, 0, 1
    params.fit_params = False  # else the context would depend on the memory that is free
    return xllamacpp.Server(params)


def _write_state(path: Path, state: dict[str, Any]) -> None:
    """The whole file or none, for this user's eyes only."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(state, file)
    part.replace(path)


def _wait_for_the_last(listener: socket.socket, proof: bytes) -> None:
    """Return once nobody has held a lease for `_LINGER_S`."""
    with selectors.DefaultSelector() as held:
        held.register(listener, selectors.EVENT_READ)
        last_held_s = time.monotonic()
        while time.monotonic() - last_held_s < _LINGER_S:
            for ready, _ in held.select(_LOOK_EVERY_S):
                _take_or_drop(held, listener, ready.fileobj, proof)
            if len(held.get_map()) > 1:
                last_held_s = time.monotonic()


def _take_or_drop(held: selectors.BaseSelector, listener: socket.socket, ready: Any, proof: bytes) -> None:
    try:
        if ready is listener:
            taken, _ = listener.accept()
            taken.sendall(proof)
            held.register(taken, selectors.EVENT_READ)
            return
        if ready.recv(64):
            return
    except OSError:  # reset: its process is gone
        if ready is listener:
            return
    held.unregister(ready)
    ready.close()


def _main() -> None:
    settings = json.loads(sys.stdin.readline())
    server = _serve(settings)
    state = Path(settings["state"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        record = {"url": server.listening_address, "key": settings["key"], "pid": os.getpid()}
        _write_state(state, {**record, "lease_port": listener.getsockname()[1]})
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # closed, its number could become a connection's
        _wait_for_the_last(listener, proof_of(settings["key"]))
        # another server may have been started meanwhile, and then the file is its own
        if json.loads(state.read_text(encoding="utf-8"))["pid"] == os.getpid():
            state.unlink()
    os._exit(0)  # a server in the middle of an answer that nobody waits for would not let go


if __name__ == "__main__":
    _main()
