"""An application under test: how it is asked, and what its answers are known by in the call store.

An answer may be replayed only while the code that gave it and its settings are the same. So an application is known
by its entry point, all that it refers to, the commit, and the Python files that were changed since.
"""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import dis
import functools
import hashlib
import inspect
import json
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple, TypeAlias

from llmlab.base.background import in_thread
from llmlab.base.private import Secrets
from llmlab.base.project import changed_files, git_state
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Client, Generation, Request, Status
from llmlab.clients.call_store import CallStore, call_key
from llmlab.golden.cases import Case

App: TypeAlias = Callable[[Case, Bundle], Generation | str | Awaitable[Generation | str]]

PLAIN: tuple[type, ...] = (str, int, float, complex, bool, bytes, type(None), type(...))
NAMED: tuple[type, ...] = (MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType, MemberDescriptorType)
_WRAPPERS: dict[type, tuple[str, ...]] = {  # -> what they wrap
    functools.partial: ("func", "args", "keywords"),
    MethodType: ("__func__", "__self__"),
    BuiltinFunctionType: ("__qualname__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset"),
    functools.cached_property: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
}
_RECORDS: tuple[type, ...] = (*PLAIN, *NAMED, *_WRAPPERS, list, tuple, set, frozenset, Mapping, PurePath, Enum)
_RECORDS += (FunctionType, type, CodeType, SimpleNamespace, argparse.Namespace)  # read whole, wherever they are from
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__")  # as are classes with one of them
_LIBRARIES = frozenset({*sys.stdlib_module_names, "llmlab"})
_MACHINERY = frozenset({"_abc", "_asyncio", "_contextvars", "_thread", "_weakref", "asyncio", "concurrent"})
_MACHINERY |= {"contextvars", "logging", "queue", "threading", "weakref"}  # a state, and nothing to set an answer by
KEYS = re.compile(r"api_?key|secret|password", re.IGNORECASE)  # another key gives the same answers
UNREAD = "Answers are replayed whatever the application's {} holds, which cannot be read; fresh=True asks again."
DEEPEST = 60
_MOST_FILES = 500


class Asking(NamedTuple):
    """Where an application of this package keeps the answers to its own calls, and which of them it makes."""

    store: CallStore
    repeat: int
    fresh: str  # as of `Plan`
    secrets: Secrets


_ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)


async def kept_call(client: Client, request: Request) -> Generation:
    """The answer to one of an application's calls: within a run stored under the key that a plain run gives it."""
    asking = _ASKING.get()
    if asking is None or len(request.in_turns()) > 1:  # whose turns a run would send one by one
        return await client.complete(request)
    seed = None if request.seed is None else request.seed + asking.repeat
    request = replace(request, repeat=asking.repeat, seed=seed)
    anew = f" fresh {asking.fresh}" if asking.fresh else ""
    key = call_key(f"{client.fingerprint}{anew}", request)
    if (stored := asking.store.get_many([key]).get(key)) is not None:
        return stored
    answer = (await client.complete(request)).scrubbed(asking.secrets)
    return await asking.store.put(key, request, answer) if answer.answered else answer


async def ask(app: App, case: Case, bundle: Bundle, *, asking: Asking | None = None) -> Generation:
    """The application's answer; a plain function runs in a thread of its own. A text is timed and wrapped.

    Raises:
        TypeError: it returned neither a Generation nor a text. Whatever it raises itself is passed on.
    """
    sent_s = time.perf_counter()
    _ASKING.set(asking)
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004  # the method itself is wanted
        answer: Any = app(case, bundle)
    else:
        answer = await in_thread(app, case, bundle)
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, Generation):
        return answer
    if isinstance(answer, str):
        status: Status = "ok" if answer.strip() else "empty"
        return Generation(text=answer, status=status, latency_s=time.perf_counter() - sent_s)
    raise TypeError(f"the application returned {type(answer).__name__}, must be a Generation or a str")


def app_identity(app: App) -> dict[str, Any]:
    """What an application is known by: `app` (module:name), `source` (digest), `commit`, `dirty`, `changes`, `unread`.

    `source` covers what runs and what it refers to: functions and classes of yours, settings of any kind, so that a
    function typed into a notebook is another one after a change; `changes` the Python files that differ from the
    commit, or without one those of the application's folder; `unread` names what nothing can be known of.
    """
    innermost: Any = app
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    target = inspect.unwrap(innermost)
    code = target if isinstance(target, (FunctionType, MethodType)) else type(target)
    file = Path(getattr(sys.modules.get(code.__module__), "__file__", None) or "")
    folder = file.parent if file.is_file() else None
    git, reached = git_state(folder), _Reached(code.__module__)
    return {
        "app": f"{code.__module__}:{code.__qualname__}",
        "source": _digest(reached.whole(app)),
        "commit": git.commit,
        "dirty": git.dirty,
        "changes": _changes(changed_files(folder, "*.py") if git.dirty else () if git.commit else _beside(folder)),
        "unread": ", ".join(sorted(reached.unread)),
    }


def unread_notes(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence where nothing can be known of something that an application refers to."""
    unread = identity["unread"]
    return (UNREAD.format(unread),) if unread else ()


class _Reached:
    """Everything that an application refers to, each value as a text that another value does not have.

    Code is known by its instructions: they are what runs, also where the file was edited since. Yours is followed,
    that of libraries is known by its name. So are their objects, with their public attributes (private ones where a
    property shows them: an open connection is a state, not a setting).
    """

    def __init__(self, home: str) -> None:
        self.home = home  # the module of the application itself
        self.unread: set[str] = set()
        self._waiting = deque[Any]()  # functions and classes: chains of calls are longer than Python's stack
        self._known: dict[int, tuple[Any, str]] = {}  # the value is kept, so that its id stays its own
        self._depth = 0
        self._is_own = functools.cache(self._own)

    def whole(self, app: Any) -> str:
        """The texts of an application and of all that it reaches."""
        texts = [self.text(app)]
        while self._waiting:
            texts += self._parts(self._waiting.popleft())
        return "\n".join(texts)

    def text(self, value: Any, *, within: bool = False) -> str:
        """The text of a value; `within` an object of a library, another such object is told in short."""
        if type(value) in PLAIN:
            return repr(value)
        if (known := self._known.get(id(value))) is not None:
            return known[1]
        if within and self._is_foreign(value):
            return _short(value)
        text = f"{_name(value if isinstance(value, type) else type(value))} {len(self._known)}"
        self._known[id(value)] = (value, text)  # of those that hold themselves, too
        if isinstance(value, type) and not self._is_own(value.__module__):
            text = _name(value)
        elif isinstance(value, (type, FunctionType)):
            self._waiting.append(value)
        elif self._depth == DEEPEST:
            text = self._unreadable(value)
        else:
            self._depth += 1
            text = _digest("\n".join(self._parts(value)))
            self._depth -= 1
        self._known[id(value)] = (value, text)
        return text

    def _parts(self, value: Any) -> Iterator[str]:
        yield self.text(type(value))
        if isinstance(value, (CodeType, FunctionType, type)):
            yield from self._code(value)
        elif isinstance(value, Enum):
            yield from map(self.text, (value.name, value.value))
        elif isinstance(value, PLAIN):  # of a class of its own
            yield repr(value)
        elif isinstance(value, (list, tuple)):
            yield from map(self.text, value)
        elif isinstance(value, (set, frozenset)):
            yield from sorted(map(self.text, value))
        elif isinstance(value, Mapping):
            yield from (self.text(part) for item in value.items() for part in item)
        elif isinstance(value, PurePath):
            yield str(value)
        elif (inner := next((names for kind, names in _WRAPPERS.items() if isinstance(value, kind)), None)) is not None:
            yield from (self.text(getattr(value, name)) for name in inner)
        elif hasattr(type(value), "__array__"):
            yield from self._array(value)
        elif isinstance(value, ModuleType) or _root(type(value)) in _MACHINERY:
            yield getattr(value, "__name__", "")
        elif isinstance(value, NAMED) or _root(type(value)) == "typing":
            yield repr(value) if _root(type(value)) == "typing" else value.__qualname__
        else:
            yield from self._object(value)

    def _code(self, value: Any) -> Iterator[str]:
        """Instructions, and where the code is yours also the classes and globals that it names."""
        if isinstance(value, CodeType):
            yield value.co_code.hex()
            yield from map(self.text, (value.co_flags, value.co_exceptiontable, value.co_names, value.co_consts))
            yield from map(self.text, (value.co_varnames, value.co_freevars, value.co_cellvars))
            return
        yield _name(value)
        mine = self._is_own(value.__module__)
        if isinstance(value, FunctionType):
            parts: list[Any] = [value.__defaults__, value.__kwdefaults__, getattr(value, "__wrapped__", None)]
            cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
            for name in sorted(cells):
                with contextlib.suppress(ValueError):  # not filled yet
                    parts.append(cells[name].cell_contents)
            parts += [value.__code__, *self._globals(value)] if mine else []
        else:
            parts = [*value.__bases__, *_defined(value)] if mine else []
        yield from map(self.text, parts)

    def _globals(self, function: FunctionType) -> Iterator[Any]:
        """The globals that a function names, each after its name; of modules of yours what is taken from them."""
        names = sorted(_names(function.__code__, _loaded))
        attributes = _names(function.__code__, attrgetter("co_names"))
        yield from self._taken(function.__globals__, names, attributes)

    def _taken(self, home: Mapping[str, Any], names: Iterable[str], within: frozenset[str]) -> Iterator[Any]:
        for name in names:
            value = home.get(name)
            if not isinstance(value, ModuleType):
                yield from (name, value)
            elif self._is_own(value.__name__):
                inner = within - {name}
                yield from self._taken(vars(value), sorted(inner & vars(value).keys()), inner)

    def _array(self, value: Any) -> Iterator[str]:
        """An array, series or table by its bytes and labels."""
        for name in ("columns", "index"):
            labels: Any = getattr(value, name, None)
            yield self.text(labels.tolist() if hasattr(labels, "tolist") else labels)
        try:
            array = value.__array__()
            yield f"{array.dtype} {array.shape}"
            yield self.text(array.tolist()) if array.dtype.hasobject else hashlib.sha256(array.tobytes()).hexdigest()
        except Exception:  # noqa: BLE001  # of another device, perhaps
            yield self._unreadable(value)

    def _object(self, value: Any) -> Iterator[str]:
        kind = type(value)
        if _root(kind) == "llmlab":
            own_digest = getattr(value, "digest", None) or getattr(value, "fingerprint", None)
            if isinstance(own_digest, str):
                yield own_digest
                return
        foreign, attributes = self._is_foreign(value), _attributes(value)
        visible = {name: part for name, part in attributes.items() if not foreign or _is_shown(kind, name)}
        for name, part in sorted(visible.items()):
            yield name
            yield self.text(part, within=foreign)
        if foreign and not visible:
            yield self._hidden(value) if attributes else self._rebuilt(value)

    def _rebuilt(self, value: Any) -> str:
        """What pickle would make a value of, such as a moment, a number or a pattern; nothing is unpickled."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            how = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001  # each type refuses in its own way
            return self._unreadable(value)
        parts = [how] if isinstance(how, str) else how[1:]
        return self.text([list(part) if isinstance(part, Iterator) else part for part in parts])

    def _hidden(self, value: Any) -> str:
        short = _short(value)
        return self._unreadable(value) if short == _name(type(value)) else short

    def _unreadable(self, value: Any) -> str:
        self.unread.add(_name(type(value)))
        return _name(type(value))

    def _is_foreign(self, value: Any) -> bool:
        """Whether a value is an object of a library, and no record of which every field counts."""
        kind = type(value)
        read_whole = isinstance(value, _RECORDS) or any(hasattr(kind, name) for name in (*_FIELDS, "__array__"))
        return not read_whole and not self._is_own(kind.__module__)

    def _own(self, name: str | None) -> bool:
        """Whether a module is the user's: the application's own, or of a file that was not installed."""
        if name is None or name in (self.home, "__main__"):
            return True
        if name.partition(".")[0] in _LIBRARIES:
            return False
        module = sys.modules.get(name)
        parts = Path(getattr(module, "__file__", None) or "").parts
        return module is None or (bool(parts) and not {"site-packages", "dist-packages"} & {*parts})


def _defined(kind: type) -> Iterator[Any]:
    """What a class says: its methods, and what it sets for its objects."""
    for name, value in sorted(vars(kind).items()):
        if isinstance(value, (FunctionType, property, staticmethod, classmethod)) or not name.startswith("__"):
            yield from (name, value)
    for name, about in sorted(getattr(kind, "__pydantic_fields__", {}).items()):
        yield from (name, about.default, about.default_factory)


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds in its dictionary and slots: without keys and what follows from the rest."""
    kind, attributes = type(value), dict(getattr(value, "__dict__", {}))
    for base in kind.__mro__:
        for name, slot in vars(base).items() if "__slots__" in vars(base) else ():
            if isinstance(slot, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # not filled
                    attributes[name] = slot.__get__(value)
    for name, part in getattr(kind, "__dataclass_fields__", {}).items():
        if part.compare is False:
            attributes.pop(name, None)
    cached = {
        name for base in kind.__mro__ for name, own in vars(base).items() if isinstance(own, functools.cached_property)
    }
    return {name: part for name, part in attributes.items() if name not in cached and not KEYS.search(name)}


def _is_shown(kind: type, name: str) -> bool:
    return not name.startswith("_") or isinstance(getattr(kind, name.lstrip("_"), None), property)


def _short(value: Any) -> str:
    """A type, and how its object shows itself where that is no place in memory."""
    shows_itself = any("__repr__" in vars(base) for base in type(value).__mro__[:-1])
    as_text = repr(value) if shows_itself else ""
    return _name(type(value)) if " at 0x" in as_text or not as_text else f"{_name(type(value))} {as_text}"


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _root(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _names(code: CodeType, names_in: Callable[[CodeType], Iterable[str]]) -> frozenset[str]:
    inner = (_names(const, names_in) for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(names_in(code)).union(*inner)


def _loaded(code: CodeType) -> Iterator[str]:
    """The globals among the names of a piece of code; the others are of attributes."""
    return (str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))


def _beside(folder: Path | None) -> Iterator[Path]:
    """The Python files of a folder and of the packages in it, up to 500."""
    root = folder or Path.cwd()
    packages = (path.parent.rglob("*.py") for path in sorted(root.glob("*/__init__.py")))
    return islice((*sorted(root.glob("*.py")), *sorted(chain.from_iterable(packages))), _MOST_FILES)


def _changes(files: Iterable[Path]) -> str:
    """Digest of these files, "" where there is none."""
    texts = {str(file): _digest(file.read_bytes()) for file in files if file.is_file()}
    return _digest(json.dumps(texts, sort_keys=True)) if texts else ""


def _digest(content: str | bytes) -> str:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()
