"""The recorder: one line per request around any client or application, which no full disk and no odd text may break.

In the request a line is made, keys are cut out of it, identifiers become pseudonyms, and it is appended to the file of
the day. Personal data in its texts is looked for in a thread beside. Read the files with `Traces.load`.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import math
import os
import queue
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.util import Finalize
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

from llmlab.base.errors import CallTimeoutError, raised
from llmlab.base.private import (
    Secrets,
    excerpt,
    find_pii,
    project_key,
    pseudonymised,
    scrub,
    secrets_now,
    without_any_keys,
)
from llmlab.base.project import located, pii_policy, project_root, runs_folder
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.chat import short_media
from llmlab.clients.base import FIRED, Client, Generation, Request

try:
    import fcntl
except ImportError:  # Windows: one process writes there, and nobody forgets meanwhile
    fcntl = None  # type: ignore[assignment]

_SECRETS_FOR_S = 1.0  # a key that comes into the environment is known after this
_WAITING_AT_MOST = 10_000  # lines whose texts are still to be looked through; more are written without their texts
LONGEST_ERROR_CHARS = 400
_SHAPED = ("inputs", "messages", "tool_calls", "steps")  # of any shape: a JSON text in a line
_TEXTS = ("text", "error", *_SHAPED)
_log = logging.getLogger("llmlab")
_Waiting: TypeAlias = "queue.SimpleQueue[dict[str, Any] | threading.Event]"  # an event is set when it is reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What a unit is served, as `Rollout.assign` gives it; a service that only records loads no rollout.

    Attributes:
        name: baseline or candidate.
        enrolled: whether its requests are analysed; not those of testers, and of units outside the enrolled share.
        rollout: its name.
        shadow: the bundle that answers the same request off its path, None where none does.
    """

    name: str
    bundle: Bundle
    enrolled: bool
    rollout: str = ""
    shadow: Bundle | None = None


class Open:
    """A request that is being answered: whoever knows more of it says so here.

    Attributes:
        request_id: its name, for `Recorder.signal`.
        line: what is known of it; fields as of a line.
        outer: the request that was open around it, None for none.
        closed: whether its line is written: a call that is told of later has a line of its own.
    """

    def __init__(self, request_id: str, known: Mapping[str, Any], *, outer: Open | None = None) -> None:
        self.request_id, self.outer, self.closed = request_id, outer, False
        self.line: dict[str, Any] = {"request_id": request_id, **known}
        self._began, self._steps = time.perf_counter(), list[dict[str, Any]]()  # a step per call
        self._lock = threading.RLock()  # calls of one request may end in several threads

    def answer(self, generation: Generation | str, *, inputs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """What an application answered, where no recorded client did; `more` are further fields of a line."""
        if not isinstance(generation, Generation):
            text = "" if generation is None else str(generation)  # an SDK's text of a tool call
            attempts = self.line.get("attempts", 1)
            generation = Generation(text=text, status="ok" if text.strip() else "empty", attempts=attempts)
        endless = (name for name, value in more.items() if isinstance(value, float) and not math.isfinite(value))
        self.line |= {**_known(self._answered(generation)), **more, **dict.fromkeys(endless)}  # NaN is no JSON
        if inputs is not None:
            self.line["inputs"] = inputs

    def guard(self, *names: str) -> None:
        """Checks that fired."""
        if names:
            self.line["guards"] = [*self.line.get("guards", ()), *names]

    def called(self, request: Request, generation: Generation, started: float) -> bool:
        """A call that was made for it; amounts of several add up, the last answer is the answer. False once closed."""
        with self._lock:
            if not self.closed:
                self._add(request, generation, started)
            return not self.closed

    def _add(self, request: Request, generation: Generation, started: float) -> None:
        line, answer = self.line, self._answered(generation)
        latency_s = _number(generation.latency_s)
        step = {"name": str(request.model), "kind": "llm", "latency_s": latency_s, "output": answer["text"]}
        step |= {name: answer[name] for name in ("prompt_tokens", "completion_tokens", "error")}
        self._steps.append(step)
        if len(self._steps) > 1:
            for name in ("cost_usd", "prompt_tokens", "completion_tokens", "cached_tokens"):
                answer[name] = _sum(line.pop(name, None), answer[name])
            answer["attempts"] = _sum(_sum(line.get("attempts", 1), -1), answer["attempts"])
        if generation.first_token_s is not None:
            answer["first_token_s"] = round(started - self._began + float(generation.first_token_s), 6)
        about = request.about or {}
        answer |= {name: about[name] for name in ("inputs", "retrieved", "bundle") if about.get(name)}
        if "bundle" not in answer or answer["retrieved"]:  # nothing else can say what was sent
            answer["messages"] = request.messages
        line |= _known(answer)

    def ended(self, error: BaseException | None) -> dict[str, Any]:
        """The line of it, which nothing changes any more."""
        with self._lock:
            self.closed, line = True, dict(self.line)
        line.setdefault("latency_s", round(time.perf_counter() - self._began, 6))  # unless somebody said another
        # a stream that is closed before its end was left, unless an answer was told before
        if error is not None and not (isinstance(error, GeneratorExit) and {"status", "text"} & line.keys()):
            failed = _generation_of(error)
            code = getattr(error, "status_code", None) or type(error).__name__
            line |= {"status": failed["status"], "error": failed["error"], "error_code": str(code)}
        if len(self._steps) > 1:
            line["steps"] = self._steps
        line.setdefault("status", "ok")
        return line

    def _answered(self, generation: Generation) -> dict[str, Any]:
        """The fields of an answer, whose guards (as `guards.guarded` tells them) are told at once."""
        self.guard(*(step.removeprefix(FIRED) for step in generation.steps if step.startswith(FIRED)))
        usage = generation.usage
        return {
            "status": generation.status,
            "text": generation.text,
            "error": generation.error[:LONGEST_ERROR_CHARS],
            "attempts": _number(generation.attempts),
            "cost_usd": _number(generation.cost_usd),
            "first_token_s": _number(generation.first_token_s),
            "prompt_tokens": _number(usage.input_tokens),
            "completion_tokens": _number(usage.output_tokens),
            "cached_tokens": _number(usage.cached_input_tokens),
            "served_model": generation.served_model,
            "tool_calls": generation.tool_calls,
            "retrieved": [{"id": name, "score": None} for name in generation.retrieved] or None,
        }


def _known(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of an answer: the rest stays as it was said before."""
    return {k: value for k, value in answer.items() if not _is_nothing(value) or k in ("text", "error")}


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, (str, tuple, list)) and not value)


def _number(value: object) -> Any:
    """As JSON has it; what is none becomes its text, which whoever reads it counts."""
    return value if value is None or type(value) in (int, float) else _plain(value)


def _sum(amount: Any, more: Any) -> Any:
    """None where one of them is unknown."""
    return amount + more if isinstance(amount, Real) and isinstance(more, Real) else None


_current: ContextVar[Open | None] = ContextVar("request", default=None)


def open_request() -> Open | None:
    """The request that is being answered here, None outside of every `Recorder.request`."""
    opened = _current.get()
    while opened is not None and opened.closed:  # a generator may have ended in another thread or task
        opened = opened.outer
    return opened


class Recorder:
    """Writes the requests of a service into daily files, a line each.

    Args:
        folder: where `SERVICE-YYYY-MM-DD.jsonl` (the day in UTC) is appended to; made when it is missing. Where the
            process goes later changes nothing.
        key: of the pseudonyms; by default the project's: `mlruns/pseudonyms.key`, which git ignores, made on first
            use and readable by its owner alone. Machines that share units must share the key.
        personal: what is done about personal data: "flag" writes a signal `personal` with the number of findings
            behind the line, "redact" replaces it by pseudonyms before the line is written (.5 ms of CPU per kB),
            "refuse" writes such a line without texts. By default `pii` under [tool.llmlab] in pyproject.toml, or flag.

    Attributes:
        lost: lines that could not be written; `problem` says why the last one was.
        unlooked: lines written without their texts, because nobody was there or had time to look through them.
    """

    def __init__(
        self, folder: str | Path, *, service: str = "", key: bytes | None = None, personal: str | None = None
    ) -> None:
        self.folder, self.service = located(folder).absolute(), service
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = project_key(runs_folder()) if key is None else key
        self.personal = personal or pii_policy(project_root())
        if self.personal not in ("flag", "redact", "refuse"):
            raise ValueError(f"personal == {personal!r}, must be flag, redact or refuse")
        self.lost, self.unlooked, self.problem = 0, 0, ""
        self._stem = re.sub(r"[^\w.-]", "_", service) or "requests"
        self._secrets: tuple[float, Secrets] = (-math.inf, ())
        self._file, self._day, self._opened = -1, "", (self.folder, os.stat_result(range(10)))
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """With no lock, file and thread: as a process begins, and one that is forked has none of its parent's."""
        self._lock = threading.RLock()  # a generator that is collected in here may end its request in here
        self._looker: _Waiting | None = None
        self._behind = False  # whether a line came since all were looked through
        self._close()

    def client(self, client: Client, *, request: Open | None = None) -> Client:
        """The client, each of whose answers is recorded: in the request around it, or as one of its own.

        Args:
            request: the request that the calls are of, wherever they are made. Generators need it: what is around them
                changes where they are resumed, in another thread or between those of another request.
        """
        return _Recorded(client, self, request)

    @contextlib.contextmanager
    def request(
        self, *, unit: str = "", session: str = "", arm: Arm | None = None, request_id: str | None = "", **more: Any
    ) -> Iterator[Open]:
        """Around the answering of a request: one line at its end, whatever happens; an error inside goes on.

        It may end in another thread or task than it began in, as a generator that streams does.

        Args:
            unit, session: who asks, and in which conversation, as texts; written as pseudonyms.
            arm: of `rollout.assign`; of those that are not enrolled the line names no arm.
            request_id: by default a new one.
            more: further fields of a line.
        """
        known = {"time": _now(), "service": self.service, **more}
        known |= {"unit_id": self._pseudonym(unit), "session_id": self._pseudonym(session)}
        name = "" if request_id is None else str(request_id)
        opened = Open(name or uuid.uuid4().hex, known, outer=open_request())
        if arm is not None:
            opened.line["bundle"] = arm.bundle.digest
            if arm.enrolled:
                opened.line |= {"rollout": arm.rollout, "arm": arm.name}
        _current.set(opened)
        failed: BaseException | None = None
        try:
            yield opened
        except BaseException as error:
            failed = error
            raise
        finally:
            with self._counting():
                self._put(opened.ended(failed))
            if _current.get() is opened:  # not in another context, nor where another request began meanwhile
                _current.set(open_request())

    def signal(self, request_id: str, **signals: float) -> None:
        """What came later about a request: `thumbs=0`, `regenerated=1`, `conversion=1`, a judge's score.

        Raises:
            ValueError: no signal, one that is no finite number, or nobody's.
        """
        if not signals or request_id is None or not str(request_id):
            raise ValueError(f"signal({request_id!r}, ...) must name a request and a signal, such as thumbs=1")
        for name, value in signals.items():
            if not isinstance(value, Real) or not abs(_number(value)) <= sys.float_info.max:
                raise ValueError(f"{name} == {value!r}, must be a finite number")
        told = {name: _number(value) for name, value in signals.items()}
        self._write({"request_id": str(request_id), "time": _now(), "signals": told})

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until all texts so far are looked through; False where that takes longer."""
        if self._looker is None or not self._behind:
            return True
        self._behind, reached = False, threading.Event()
        self._looker.put(reached)
        if not reached.wait(timeout_s):
            self._behind = True
        return reached.is_set()

    def _end(self) -> None:
        """At the end of the process: what there is no time left to look through is written without its texts."""
        if self.flush(2.0) or self._looker is None:
            return
        n_before, waiting = self.unlooked, self._looker
        with contextlib.suppress(queue.Empty):
            while True:
                line = waiting.get_nowait()
                if isinstance(line, dict):
                    self.unlooked += 1
                    if self.personal != "flag":  # else it is written already
                        self._write(_without_texts(line))
        self.flush(2.0)  # the one that is being looked through
        if n := self.unlooked - n_before:
            _log.warning("the process ended before the texts of %d lines in %s were looked through", n, self.folder)

    def _pseudonym(self, identifier: object) -> str:
        """Of whatever a service calls somebody: 7 and a UUID by their texts, for nothing may break a request."""
        return "" if identifier is None else pseudonym(str(identifier), key=self.key)

    def _called(
        self, opened: Open, call: Request, generation: Generation, started: float, *, error: Exception | None = None
    ) -> None:
        """A call told in its request's line; where that is written, in one of its own: same person, and in no arm."""
        with self._counting():
            if opened.called(call, generation, started):
                return
            about = {name: opened.line[name] for name in ("service", "unit_id", "session_id")}
            alone = Open(uuid.uuid4().hex, {"time": _now(), **about})
            alone.called(call, generation, time.perf_counter())
            alone.line["latency_s"] = _number(generation.latency_s)
            self._put(alone.ended(error))

    def _put(self, line: dict[str, Any]) -> None:
        """The line written now and looked through later, or the other way round where the policy says so."""
        line = _settled(line)
        if self.personal == "flag":
            self._write(line)
        waiting = self._waiting()
        if waiting is not None and waiting.qsize() < _WAITING_AT_MOST:
            waiting.put(line)
            self._behind = True
            return
        self.unlooked += 1
        if self.personal != "flag":
            self._write(_without_texts(line))

    def _waiting(self) -> _Waiting | None:
        """The queue of the thread that looks for personal data; None where no thread can be started any more."""
        if self._looker is None:
            with self._lock, contextlib.suppress(RuntimeError):
                if self._looker is None:
                    waiting: _Waiting = queue.SimpleQueue()
                    threading.Thread(target=self._look, args=(waiting,), name="llmlab-recorder", daemon=True).start()
                    Finalize(None, self._end, exitpriority=0)  # as `atexit`, which workers of multiprocessing skip
                    self._looker = waiting
        return self._looker

    def _look(self, waiting: _Waiting) -> None:
        while True:
            line = waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._looked_through(line)
            except Exception as error:  # noqa: BLE001  # a text that breaks a look must not end all later looks
                if self.personal != "flag":  # else the line is written, or counted, already
                    self._count(error)

    def _looked_through(self, line: dict[str, Any]) -> None:
        if self.personal == "redact":
            found = {name: json.loads(line[name]) if name in _SHAPED else line[name] for name in _TEXTS if name in line}
            self._write(_settled({**line, **{name: pseudonymised(of, key=self.key) for name, of in found.items()}}))
            return
        n_personal = sum(find_pii("\n".join(str(line[name]) for name in _TEXTS if name in line)).values())
        if self.personal == "refuse":
            self._write(_without_texts(line) if n_personal else line)
        elif n_personal:
            self.signal(line["request_id"], personal=n_personal)

    def _write(self, line: dict[str, Any]) -> None:
        """One line appended; what cannot be written is counted, and never raised into a request."""
        with self._counting():
            now = time.monotonic()
            if now - self._secrets[0] > _SECRETS_FOR_S:
                self._secrets = (now, secrets_now())
            coded = _coded(line, self._secrets[1]).encode("utf-8", "replace") + b"\n"
            with self._lock:
                self._append(coded)

    def _append(self, coded: bytes) -> None:
        """The line in one write, which O_APPEND keeps apart from those of other processes."""
        with self._locked(alone=False) as file:
            is_cut = _is_cut(file)
            n_written = 0 if is_cut else os.write(file, coded)
        if is_cut:  # the last line was cut short, or another process is writing it: not where nobody else writes
            with self._locked(alone=True) as file:
                coded = b"\n" + coded if _is_cut(file) else coded
                n_written = os.write(file, coded)
        if n_written < len(coded):
            raise OSError("a line was cut short: the disk is full")

    @contextlib.contextmanager
    def _locked(self, *, alone: bool) -> Iterator[int]:
        """The file of the day, which `forget` may not replace meanwhile; opened anew where it is another by now."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        try:
            while self._file < 0 or day != self._day or not is_held(self._file, self._opened, alone=alone):
                self._close()
                self._day, path = day, self.folder / f"{self._stem}-{day}.jsonl"
                self._file = _opened(path)
                self._opened = (path, os.fstat(self._file))
            yield self._file
        except OSError:
            self._close()  # the next line may find a better one
            raise
        finally:
            if fcntl is not None and self._file >= 0:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _close(self) -> None:
        file, self._file = self._file, -1  # in this order: a forked process must not close it for another
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Around what may fail in a request: a value may break in any way as it becomes text."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # counted and told once, for it must not end a request
            self._count(error)

    def _count(self, error: Exception) -> None:
        if not self.lost:
            _log.warning("a request could not be recorded in %s (told once): %s", self.folder, _said(error))
        self.lost, self.problem = self.lost + 1, _said(error)


def _opened(path: Path) -> int:
    """The file to append to, readable by its owner alone; in a new folder where that was removed."""
    flags = os.O_APPEND | os.O_CREAT | os.O_RDWR
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def is_held(file: int, opened: tuple[Path, os.stat_result], *, alone: bool) -> bool:
    """Locks a file, shared or alone; False, and unlocked, where another one is by now at the path it was opened by."""
    if fcntl is None:
        return True
    fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    path, status = opened
    try:
        is_there = os.path.samestat(status, path.stat())
    except FileNotFoundError:
        is_there = False
    if not is_there:
        fcntl.flock(file, fcntl.LOCK_UN)
    return is_there


def _is_cut(file: int) -> bool:
    """Whether the last line has no end."""
    try:
        os.lseek(file, -1, os.SEEK_END)
    except OSError:  # nothing is in it
        return False
    return os.read(file, 1) != b"\n"


class _Recorded:
    """A client whose answers are recorded; everything else is the client's own."""

    def __init__(self, client: Client, recorder: Recorder, request: Open | None) -> None:
        self._client, self._recorder, self._request = client, recorder, request
        self.fingerprint = client.fingerprint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def complete(self, request: Request) -> Generation:
        """The client's answer."""
        opened = self._request or open_request()
        with contextlib.nullcontext(opened) if opened else self._recorder.request() as opened:
            started = time.perf_counter()
            if digest := getattr(self._client, "guards_digest", ""):
                opened.line["guarded_by"] = digest
            sent, telling = [request], getattr(self._client, "complete_telling", None)  # guards may change what is sent
            try:
                generation = await (telling(request, sent.append) if telling else self._client.complete(request))
            except Exception as error:  # recorded as the call that failed, and raised again
                failed = Generation(**_generation_of(error))
                self._recorder._called(opened, sent[-1], failed, started, error=error)
                raise
            self._recorder._called(opened, sent[-1], generation, started)
            return generation


def pseudonym(identifier: str, *, key: bytes) -> str:
    """What stands for an identifier in the files: equal for equal ones, and no way back without the key; "" for "".

    >>> pseudonym("user-7", key=b"k") == pseudonym("user-7", key=b"k") != pseudonym("user-8", key=b"k")
    True
    """
    return identifier and hmac.new(key, identifier.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:16]


def _coded(line: Mapping[str, Any], secrets: Secrets) -> str:
    """The line (as `_settled`) as JSON without keys, which look otherwise in a JSON text inside."""
    free = {name: scrub(line[name], secrets=secrets) for name in _SHAPED if name in line}
    texts = {name: line[name] for name in ("text", "error") if line.get(name)}
    free = {name: without_any_keys(text) for name, text in (*free.items(), *texts.items())}
    return scrub(_JSON.encode({**line, **free}), secrets=secrets)


def _settled(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with a JSON text of what may have any shape, which the service may change from now on.

    Pictures and files inside are named by kind and size.
    """
    shaped = {name: short_media(_JSON.encode(line[name])) for name in _SHAPED if line.get(name)}
    return {name: value for name, value in line.items() if name not in _SHAPED} | shaped


def _plain(value: object) -> Any:
    """What JSON has for a value of another library: its numbers as numbers, anything else as its text."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, (Real, Decimal)) else str(value)


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _generation_of(error: BaseException) -> dict[str, Any]:
    return {
        "status": "timeout" if isinstance(error, (CallTimeoutError, TimeoutError)) else "error",
        "error": _said(error),
        "attempts": getattr(error, "attempts", 1),
    }


def _said(error: BaseException) -> str:
    name, _, text = raised(error).partition(": ")
    return excerpt(text) or name


def _without_texts(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _TEXTS}
