"""`scorers.py` and `clients.py` of an experiment's folder: code of one's own, which runs when it is asked for."""

from __future__ import annotations

import hashlib
import inspect
import sys
import threading
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from llmlab.base.documents import read_bytes
from llmlab.base.errors import FileRuleError, raised
from llmlab.clients.base import Client
from llmlab.scorers.base import Scorer

_one_runs = threading.RLock()  # other threads wait, and find the whole module
_BUILT_IN = ("local", "offline")  # providers that llmlab answers for itself


def own_scorers(path: Path) -> tuple[Scorer, ...]:
    """The scorers that a `scorers.py` defines, in its order. This runs the file.

    Raises:
        FileRuleError: it does not run, or makes no scorer.
    """
    variables = vars(_module_of(path)).items()
    scorers = {id(value): value for name, value in variables if isinstance(value, Scorer) and name[0] != "_"}
    if not scorers:
        raise FileRuleError("makes no scorer; write @ll.scorer above a function (case, generation)", path=path)
    return tuple(scorers.values())


def own_clients(path: Path) -> dict[str, Client]:
    """The clients that a `clients.py` makes, by the provider that each answers for: its variable's name.

    `acme = AcmeClient()` answers for every bundle with `model: acme/ID`, and `my_co` for `my-co/ID` too. This runs
    the file.

    Raises:
        FileRuleError: it does not run, makes no client, or one for a provider that llmlab answers for itself.
    """
    public_values = [(name, value) for name, value in vars(_module_of(path)).items() if name[0] != "_"]
    try:
        clients = {name: value for name, value in public_values if _is_client(value)}
    except Exception as error:  # a property that computes may raise anything
        rule = f"has a client that does not tell its fingerprint ({raised(error)})"
        raise FileRuleError(rule, path=path) from error
    if not clients:
        rule = "makes no client; a variable called as the provider needs a `fingerprint` and `async complete(request)`"
        raise FileRuleError(rule, path=path)
    if built_in := next((name for name in clients if name in _BUILT_IN), ""):
        raise FileRuleError(f"the provider {built_in!r} is llmlab's own; give the client another name", path=path)
    return clients | {name.replace("_", "-"): client for name, client in clients.items()}


def _is_client(value: object) -> bool:
    asks = getattr(value, "complete", None)
    return not inspect.isclass(value) and isinstance(getattr(value, "fingerprint", None), str) and callable(asks)


def _module_of(path: Path) -> ModuleType:
    """The file as a module, which is run once as it is now; a file that was changed is run again."""
    digest = hashlib.sha256(str(path.resolve()).encode() + b"=" + read_bytes(path)).hexdigest()
    name = f"llmlab_{path.stem}_{digest[:16]}"
    with _one_runs:
        return sys.modules.get(name) or _run(path, name)


class _AsWritten(SourceFileLoader):
    """Runs the text as it is now: bytecode kept a second ago, of as many characters, is taken for it by Python."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(path: Path, name: str) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)  # where the code of a scorer is looked up
    module.__file__ = str(path)
    try:
        _AsWritten(name, str(path)).exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):  # Ctrl+C ends the run; a file that exits does not
            raise
        raise FileRuleError(f"cannot be imported ({raised(error)})", path=path) from error
    return module
