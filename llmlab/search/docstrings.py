"""The docstrings of an installed package's public API: the walk behind `Corpus.from_package`.

Public is what a user can name or is handed: what the package and its submodules with an `__all__` list, the
members of its top-level classes, their accessors (`Series.str`), and the members of classes that one of
these says it returns (`DataFrame.groupby` -> `DataFrameGroupBy`). A member inherited from a public class belongs there.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from llmlab.base.errors import DataError

Name = tuple[str, ...]


def package_docstrings(name: str) -> tuple[str, list[tuple[Name, str]]]:
    """A package's version, and every distinct docstring of its public API with its names (the best first), in order.

    Warnings of deprecated attributes are silenced. DataError when the package is missing or documents nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            package = importlib.import_module(name)
        except ImportError as error:
            raise DataError(f"the package {name!r} cannot be imported ({error}); install it, or name another") from None
        docstring_of = {path: text for path, text in _documented(package) if text}
    if not docstring_of:
        raise DataError(f"the package {name!r} has no public docstrings to make a corpus of")
    members = Counter(path[:1] for path in docstring_of)
    names_of: dict[str, list[Name]] = defaultdict(list)
    for path in sorted(docstring_of, key=lambda path: (len(path), -members[path[:1]], len(".".join(path)), path)):
        names_of[docstring_of[path]].append(path)
    texts = sorted((tuple(map(".".join, paths)), text) for text, paths in names_of.items())
    return str(getattr(package, "__version__", "")), texts


def _documented(package: types.ModuleType) -> Iterator[tuple[Name, str]]:
    root = package.__name__.partition(".")[0]
    public: dict[type, Name] = {}
    returned: set[str] = set()
    for path, exported in _module_names(package, root):
        yield path, inspect.getdoc(exported) or ""
        if inspect.isclass(exported):
            public.setdefault(exported, path)
    for owner, path in public.items():
        if len(path) == 1:
            for name, member in _members(owner, path, public, root):
                yield name, inspect.getdoc(member) or ""
                returned |= _return_names(member)
    for owner, path in public.items():
        if len(path) > 1 and owner.__name__ in returned:
            yield from ((name, inspect.getdoc(member) or "") for name, member in _members(owner, path, public, root))


def _module_names(package: types.ModuleType, root: str) -> Iterator[tuple[Name, Any]]:
    modules: list[tuple[Name, types.ModuleType]] = [((), package)]
    module_names = {package.__name__}
    for path, module in modules:  # grows while it is walked: the shortest paths come first
        for name in _public_names(module):
            exported = _attribute(module, name)
            if isinstance(exported, types.ModuleType):
                if _belongs(exported, root) and hasattr(exported, "__all__") and exported.__name__ not in module_names:
                    module_names.add(exported.__name__)
                    modules.append(((*path, name), exported))
            elif (inspect.isroutine(exported) or inspect.isclass(exported)) and _belongs(exported, root):
                yield (*path, name), exported


def _members(owner: type, path: Name, public: Collection[type], root: str) -> Iterator[tuple[Name, Any]]:
    for name in _public_names(owner):
        maker = next((base for base in owner.__mro__ if name in base.__dict__), None)
        if maker is None or not _belongs(maker, root) or (maker is not owner and maker in public):
            continue
        member = _attribute(owner, name)
        is_accessor = inspect.isclass(member) and name == name.lower()
        if is_accessor or inspect.isroutine(member) or inspect.isdatadescriptor(member):
            yield (*path, name), member
        if is_accessor and _belongs(member, root):
            yield from _members(member, (*path, name), public, root)


def _public_names(owner: Any) -> list[str]:
    names = getattr(owner, "__all__", None) if isinstance(owner, types.ModuleType) else None
    return sorted(name for name in set(names or dir(owner)) if not name.startswith("_"))


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except (AttributeError, ImportError):  # lazily loaded, or a part that needs an optional package
        return None


def _belongs(thing: Any, root: str) -> bool:
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == root


def _return_names(thing: Any) -> set[str]:
    """The words of a return annotation; `type[X]` hands out a class, not one of its instances."""
    annotations = getattr(thing.fget if isinstance(thing, property) else thing, "__annotations__", None)
    annotation = annotations.get("return", "") if isinstance(annotations, dict) else ""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return set() if re.match(r"type\w*\[", text) else set(re.findall(r"\w+", text))
