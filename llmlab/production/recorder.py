"""The recorder: one line per request around any client or application, which no full disk and no odd text may break.

In the request a line is made, keys are cut out of it, identifiers become pseudonyms, and it is appended to the file of
the day. Personal data in its texts is looked for in a thread beside. Read the files with `Traces.load`.
"""

from __future__ import annotations

import atexit
import contextlib
import hmac
import json
import logging
import math
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

from pydantic_core import from_json

from llmlab.base.documents import whole_file
from llmlab.base.errors import CallTimeoutError
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

SECRETS_FOR_S = 1.0  # a key that comes into the environment is known after this
WAITING_AT_MOST = 10_000  # lines whose texts are still to be looked through; more are written without their texts
LONGEST_ERROR_CHARS = 400
_TEXTS = ("text", "inputs", "messages", "tool_calls", "steps", "error")
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

    def answer(self, generation: Generation | str, *, inputs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """What an application answered, where no recorded client did; `more` are further fields of a line."""
        if isinstance(generation, str):
            attempts = self.line.get("attempts", 1)
            generation = Generation(text=generation, status="ok" if generation.strip() else "empty", attempts=attempts)
        self.line |= {**_known(self._answered(generation)), **more}
        if inputs is not None:
            self.line["inputs"] = inputs

    def guard(self, *names: str) -> None:
        """Checks that fired."""
        if names:
            self.line["guards"] = [*self.line.get("guards", ()), *names]

    def called(self, request: Request, generation: Generation, started: float) -> None:
        """A call that was made for it; amounts of several add up, the last answer is the answer."""
        line, answer = self.line, self._answered(generation)
        step = {"name": str(request.model), "kind": "llm", "latency_s": generation.latency_s, "output": answer["text"]}
        step |= {name: answer[name] for name in ("prompt_tokens", "completion_tokens", "error")}
        self._steps.append(step)
        if len(self._steps) > 1:
            for name in ("cost_usd", "prompt_tokens", "completion_tokens", "cached_tokens"):
                before, now = line.pop(name, None), answer[name]
                answer[name] = None if before is None or now is None else before + now
            answer["attempts"] += line.get("attempts", 1) - 1
        if generation.first_token_s is not None:
            answer["first_token_s"] = round(started - self._began + generation.first_token_s, 6)
        about = request.about or {}
        answer |= {name: about[name] for name in ("inputs", "retrieved", "bundle") if about.get(name)}
        if "bundle" not in answer or answer["retrieved"]:  # nothing else can say what was sent
            answer["messages"] = request.messages
        line |= _known(answer)

    def ended(self, error: BaseException | None) -> dict[str, Any]:
        """The line of it, which nothing changes any more."""
        self.closed, line = True, dict(self.line)
        line.setdefault("latency_s", round(time.perf_counter() - self._began, 6))  # unless somebody said another
        if error is not None and not isinstance(error, GeneratorExit):
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
            "attempts": generation.attempts,
            "cost_usd": None if generation.cost_usd is None else float(generation.cost_usd),
            "first_token_s": generation.first_token_s,
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_input_tokens,
            "served_model": generation.served_model,
            "tool_calls": generation.tool_calls,
            "retrieved": [{"id": name, "score": None} for name in generation.retrieved] or None,
        }


def _known(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of an answer: the rest stays as it was said before."""
    return {k: value for k, value in answer.items() if value not in (None, "", ()) or k in ("text", "error")}


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
        folder: where `SERVICE-YYYY-MM-DD.jsonl` (the day in UTC) is appended to; made when it is missing.
        key: of the pseudonyms; by default the project's: `mlruns/pseudonyms.key`, which git ignores, made on first
            use and readable by its owner alone. Machines that share units must share the key.
        personal: what is done about personal data: "flag" writes a signal `personal` with the number of findings
            behind the line, "redact" replaces it by pseudonyms before the line is written (.5 ms of CPU per kB),
            "refuse" writes such a line without texts. By default `pii` under [tool.llmlab] in pyproject.toml, or flag.

    Attributes:
        lost: lines that could not be written; `problem` says why the last one was.
        unlooked: lines written without their texts, because too many waited to be looked through.
    """

    def __init__(
        self, folder: str | Path, *, service: str = "", key: bytes | None = None, personal: str | None = None
    ) -> None:
        self.folder, self.service = located(folder), service
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = project_key(runs_folder()) if key is None else key
        self.personal = personal or pii_policy(project_root())
        if self.personal not in ("flag", "redact", "refuse"):
            raise ValueError(f"personal == {personal!r}, must be flag, redact or refuse")
        self.lost, self.unlooked, self.problem = 0, 0, ""
        self._stem = re.sub(r"[^\w.-]", "_", service) or "requests"
        self._file, self._day, self._lock, self._process = -1, "", threading.Lock(), os.getpid()
        self._secrets: tuple[float, Secrets] = (-math.inf, ())
        self._looker: tuple[int, _Waiting] | None = None
        self._behind = False  # whether a line came since all were looked through
        atexit.register(self._end)

    def client(self, client: Client, *, request: Open | None = None) -> Client:
        """The client, each of whose answers is recorded: in the request around it, or as one of its own.

        Args:
            request: the request that the calls are of, wherever they are made. Generators need it: what is around them
                changes where they are resumed, in another thread or between those of another request.
        """
        return _Recorded(client, self, request)

    @contextlib.contextmanager
    def request(
        self, *, unit: str = "", session: str = "", arm: Arm | None = None, request_id: str = "", **more: Any
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
        opened = Open(str(request_id) or uuid.uuid4().hex, known, outer=open_request())
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
            line = opened.ended(failed)
            if _current.get() is opened:  # not in another context, nor where another request began meanwhile
                _current.set(open_request())
            self._put(line)

    def signal(self, request_id: str, **signals: float) -> None:
        """What came later about a request: `thumbs=0`, `regenerated=1`, `conversion=1`, a judge's score.

        Raises:
            ValueError: a signal that is no finite number.
        """
        for name, value in signals.items():
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(f"{name} == {value!r}, must be a finite number")
        told = {name: value if isinstance(value, int) else float(value) for name, value in signals.items()}
        self._write({"request_id": request_id, "time": _now(), "signals": told})

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until all texts so far are looked through; False where that takes longer."""
        if self._looker is None or self._looker[0] != os.getpid() or not self._behind:
            return True
        self._behind, reached = False, threading.Event()
        self._looker[1].put(reached)
        if not reached.wait(timeout_s):
            self._behind = True
        return reached.is_set()

    def _end(self) -> None:
        """At the end of the process: what there is no time left to look through is written without its texts."""
        if self.flush(2.0) or self._looker is None:
            return
        n_before, waiting = self.unlooked, self._looker[1]
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
        if not opened.closed:
            opened.called(call, generation, started)
            return
        about = {name: opened.line[name] for name in ("service", "unit_id", "session_id")}
        alone = Open(uuid.uuid4().hex, {"time": _now(), **about})
        alone.called(call, generation, time.perf_counter())
        alone.line["latency_s"] = generation.latency_s
        self._put(alone.ended(error))

    def _put(self, line: dict[str, Any]) -> None:
        """The line written now and looked through later, or the other way round where the policy says so."""
        if self.personal == "flag":
            self._write(line)
        try:
            waiting = self._waiting()
        except RuntimeError as error:  # no thread can be started any more
            self._count(error)
            return
        if waiting.qsize() < WAITING_AT_MOST:
            waiting.put(line)
            self._behind = True
            return
        self.unlooked += 1
        if self.personal != "flag":
            self._write(_without_texts(line))

    def _waiting(self) -> _Waiting:
        """The queue of the thread that looks for personal data; a forked process starts its own."""
        if self._looker is None or self._looker[0] != os.getpid():
            waiting: _Waiting = queue.SimpleQueue()
            self._looker = (os.getpid(), waiting)
            threading.Thread(target=self._look, args=(waiting,), name="llmlab-recorder", daemon=True).start()
        return self._looker[1]

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
            texts = {name: pseudonymised(line[name], key=self.key) for name in _TEXTS if name in line}
            self._write({**line, **texts})
            return
        n_personal = sum(find_pii(json.dumps([line[name] for name in _TEXTS if name in line], default=str)).values())
        if self.personal == "refuse":
            self._write(_without_texts(line) if n_personal else line)
        elif n_personal:
            self.signal(line["request_id"], personal=n_personal)

    def _write(self, line: dict[str, Any]) -> None:
        """One line appended; what cannot be written is counted, and never raised into a request."""
        try:
            now = time.monotonic()
            if now - self._secrets[0] > SECRETS_FOR_S:
                self._secrets = (now, secrets_now())
            coded = _coded(line, self._secrets[1]).encode("utf-8", "replace") + b"\n"
            if self._process != os.getpid():  # a forked one: the lock may be held by a thread that is not here
                self._lock, self._file = threading.Lock(), -1
                self._process = os.getpid()  # last, for another thread takes the lock once it sees this
            with self._lock:
                self._append(coded)
        except Exception as error:  # noqa: BLE001  # a value may break in any way as it becomes text
            self._count(error)

    def _append(self, coded: bytes) -> None:
        file = self._locked(time.strftime("%Y-%m-%d", time.gmtime()))
        try:
            if os.fstat(file).st_size:
                os.lseek(file, -1, os.SEEK_END)
                if os.read(file, 1) != b"\n":  # the last line was cut short, by whichever process
                    coded = b"\n" + coded
            is_torn = os.write(file, coded) < len(coded)
        finally:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_UN)
        if is_torn:
            raise OSError("a line was cut short: the disk is full")

    def _locked(self, day: str) -> int:
        """The file of the day, which `forget` may not replace meanwhile; opened anew where it has."""
        while True:
            if self._file < 0 or day != self._day:
                if self._file >= 0:
                    os.close(self._file)
                    self._file = -1
                path = self.folder / f"{self._stem}-{day}.jsonl"
                self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o600)
                self._day = day
            if fcntl is None:
                return self._file
            # Shared, since O_APPEND keeps the lines of several writers apart; only `forget` locks them out (LOCK_EX).
            fcntl.flock(self._file, fcntl.LOCK_SH)
            # Without a link it was replaced between open and lock: a line written to it would be gone.
            if os.fstat(self._file).st_nlink:
                return self._file
            self._day = ""

    def _count(self, error: Exception) -> None:
        if not self.lost:
            _log.warning("a request could not be recorded in %s (told once): %s", self.folder, excerpt(str(error)))
        self.lost, self.problem = self.lost + 1, excerpt(str(error))


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


def forget(folder: str | Path, unit: str, *, key: bytes | None = None) -> int:
    """Deletes every line about a person, signals included: how many went. Each file is replaced whole or not at all.

    Args:
        folder: of the trace files (*.jsonl).
        unit: as the service calls the person, or the pseudonym in the files.
        key: of the pseudonyms, by default the project's.
    """
    if not unit:
        raise ValueError("unit == '', must name somebody: lines of nobody are nobody's to delete")
    unit = str(unit)
    mine = {unit, pseudonym(unit, key=project_key(runs_folder()) if key is None else key)}
    files = sorted(located(folder).rglob("*.jsonl"))
    requests: set[str] = set()
    for path in files:
        with path.open("rb") as file:
            requests |= {str(row["request_id"]) for row in map(_parsed, file) if row.get("unit_id") in mine}
    return sum(_without(path, requests) for path in files) if requests else 0


def _parsed(line: bytes) -> Mapping[str, Any]:
    """The object of a line; nothing of one that is torn: it names nobody that could be read."""
    try:
        row = from_json(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("request_id"), (str, int)) else {}


def _without(path: Path, requests: set[str]) -> int:
    """How many lines of these requests the file had, which is without them now; writers wait, and go on in it."""
    gone = 0
    with path.open("rb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        with whole_file(path) as part, part.open("wb") as kept:
            part.chmod(path.stat().st_mode)
            for line in file:
                if str(_parsed(line).get("request_id", "")) in requests:
                    gone += 1
                else:
                    kept.write(line)
            kept.flush()
            # On disk before it takes the old file's name: a crash must not leave an empty file in its place.
            os.fsync(kept.fileno())
    return gone


def _coded(line: Mapping[str, Any], secrets: Secrets) -> str:
    """The line as JSON without keys; what may have any shape as a JSON text in it, in which keys look otherwise.

    Pictures and files inside are named by kind and size.
    """
    shaped = (name for name in ("inputs", "messages", "tool_calls", "steps") if line.get(name))
    free = {name: scrub(short_media(_JSON.encode(line[name])), secrets=secrets) for name in shaped}
    texts = {name: line[name] for name in ("text", "error") if line.get(name)}
    free = {name: without_any_keys(text) for name, text in (*free.items(), *texts.items())}
    return scrub(_JSON.encode({**line, **free}), secrets=secrets)


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _generation_of(error: BaseException) -> dict[str, Any]:
    return {
        "status": "timeout" if isinstance(error, (CallTimeoutError, TimeoutError)) else "error",
        "error": excerpt(str(error)) or type(error).__name__,
        "attempts": getattr(error, "attempts", 1),
    }


def _without_texts(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _TEXTS}
