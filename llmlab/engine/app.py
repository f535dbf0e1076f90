"""An application under test: how it is asked, and what its answers are known by in the call store.

An answer may be replayed only while the code that gave it is the same. So an application is known by its entry
point, the source of what it refers to, the commit, and the Python files that were changed since.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
import time
import tokenize
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeAlias

from llmlab.base.background import in_thread
from llmlab.base.project import changed_files, git_state
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Status
from llmlab.golden.cases import Case

__all__ = ["App", "app_identity", "ask"]

App: TypeAlias = Callable[[Case, Bundle], "Generation | str | Awaitable[Generation | str]"]

PLAIN = (str, int, float, bool, bytes, type(None))


async def ask(app: App, case: Case, bundle: Bundle) -> Generation:
    """The application's answer; a plain function runs in a thread of its own. A text is timed and wrapped.

    Raises:
        TypeError: it returned neither a Generation nor a text. Whatever it raises itself is passed on.
    """
    sent_s = time.perf_counter()
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
    """What an application is known by: `app` (module:name), `source` (digest), `commit`, `dirty` and `changes`.

    `source` covers functions and plain values that it refers to, so that a function typed into a notebook is
    another one after a change; `changes` the Python files that differ from the commit.
    """
    innermost: Any = app
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    target = inspect.unwrap(innermost)
    code = target if isinstance(target, (FunctionType, MethodType)) else type(target)
    file = Path(getattr(sys.modules.get(code.__module__), "__file__", None) or "")
    folder = file.parent if file.is_file() else None
    git = git_state(folder)
    return {
        "app": f"{code.__module__}:{code.__qualname__}",
        "source": _digest("\n".join(_sources(app, set()))),
        "commit": git.commit,
        "dirty": git.dirty,
        "changes": _changes(folder) if git.dirty else "",
    }


def _sources(value: Any, seen: set[int]) -> Iterator[str]:
    """Source or value of everything that a callable refers to, itself first, each once."""
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, functools.partial):
        parts: list[Any] = [value.func, value.args, value.keywords]
    elif isinstance(value, MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, FunctionType):
        yield _source(value)
        parts = [value.__defaults__, value.__kwdefaults__, *_referred(value), getattr(value, "__wrapped__", None)]
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif isinstance(value, Mapping):
        parts = [part for item in value.items() for part in item]
    elif isinstance(value, type):
        yield value.__qualname__
        parts = list(vars(value).values()) if value.__module__ == "__main__" else []
    else:
        yield type(value).__qualname__
        parts = [type(value).__call__, getattr(value, "__dict__", None)] if callable(value) else []
    for part in parts:
        yield from _sources(part, seen)


def _referred(function: FunctionType) -> Iterator[Any]:
    """What a function closes over and which globals of its module it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, (*PLAIN, list, tuple, dict)) or getattr(value, "__module__", "") == function.__module__:
            yield name
            yield value


def _names(code: CodeType) -> set[str]:
    inner = (_names(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


def _source(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):  # typed at a prompt, or its file was changed since
        return f"{function.__qualname__} {_instructions(function.__code__)}"


def _instructions(code: CodeType) -> list[Any]:
    consts = [_instructions(const) if isinstance(const, CodeType) else repr(const) for const in code.co_consts]
    return [code.co_code.hex(), code.co_names, consts]


def _changes(folder: Path | None) -> str:
    """Digest of the Python files that differ from the commit, "" where none does."""
    texts = {str(file): _digest(file.read_bytes()) for file in changed_files(folder, "*.py") if file.is_file()}
    return _digest(json.dumps(texts, sort_keys=True)) if texts else ""


def _digest(content: str | bytes) -> str:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()
