"""The digest of a scorer's code: the function and what it reaches in its file, whatever comments and layout it has.

Read from the source as a syntax tree that this module writes down itself, without docstrings and annotations, so that
Python 3.11 to 3.14 give the same digest. Names that the file does not define (a helper in another cell of a notebook)
are looked up where the function runs; what comes from other modules is known by its name alone.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import inspect
import json
import symtable
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from llmlab.scorers.declared import cells, named, plain

_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores", "annotation", "returns"})  # no behaviour
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DOCUMENTED = (ast.Module, *_DEFINITIONS)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def code_digest(function: Callable[..., Any], declared: object) -> str:
    """sha256 (hex) over `declared` (plain values) and the code of a function, class instance or partial."""
    record = json.dumps([declared, _Reached().of(function)], sort_keys=True)
    return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()


class _Reached:
    """What a function reaches, each name once, so that functions which call each other come to an end."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.module = ""

    def of(self, function: Any) -> Any:
        """The function's own record, with those of all that it reaches."""
        self.module = getattr(inspect.unwrap(function), "__module__", "")
        return [self.value(function), self.parts]

    def value(self, value: Any) -> Any:
        """A plain value as it is written, code as a tree, and anything else by the name of its type."""
        if isinstance(value, functools.partial):
            return ["partial", self.value(value.func), self.value(list(value.args)), self.value(value.keywords)]
        if isinstance(value, types.MethodType):
            return ["method", self.value(value.__func__), self.instance(value.__self__)]
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, types.FunctionType | type):
            return self.code(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if type(value).__module__ == self.module or (callable(value) and type(value).__module__ != "builtins"):
            return self.instance(value)
        return plain(value)

    def instance(self, value: Any) -> Any:
        attributes = sorted(getattr(value, "__dict__", {}).items())
        return ["object", self.code(type(value)), {name: plain(item) for name, item in attributes}]

    def code(self, value: types.FunctionType | type) -> Any:
        """The tree of a function or class; what it reaches goes to `parts`."""
        tree, node = _place(value)
        closed_over = cells(value)
        if node is None:
            return [f"{value.__module__}.{value.__qualname__}", self.without_source(value)]
        module = sys.modules.get(value.__module__)
        home = value.__globals__ if isinstance(value, types.FunctionType) else vars(module) if module else {}
        self.follow(node, tree, home, without={name for name, _ in closed_over})
        return [_normal(_bare(node)), {name: self.value(cell) for name, cell in closed_over}]

    def without_source(self, value: types.FunctionType | type) -> Any:
        """What is known of code that exec or a prompt made: the bytecode, which is that of this Python."""
        if isinstance(value, type):
            methods = {name: item for name, item in vars(value).items() if isinstance(item, types.FunctionType)}
            return {name: self.value(item) for name, item in methods.items()}
        code = value.__code__
        closed_over = {name: self.value(cell) for name, cell in cells(value)}
        return [code.co_code.hex(), plain(code.co_consts), list(code.co_names), closed_over]

    def follow(
        self, node: ast.AST, tree: ast.Module, home: Mapping[str, Any], *, without: Collection[str] = ()
    ) -> None:
        """Everything that a piece of code names: by its definitions in the file, else by its value."""
        for name in sorted(_names(node) - set(without) - set(self.parts)):
            if definitions := _defining(tree, name):
                self.parts[name] = None  # on the way: it may name itself
                self.parts[name] = [_defined(statement, name) for statement in definitions]
                for statement in definitions:
                    self.follow(statement, tree, home)
            elif name in home:
                self.parts[name] = None
                value = "" if name == "__file__" else home[name]  # where a file lies is nothing that it does
                mine = getattr(value, "__module__", None) == home.get("__name__")
                self.parts[name] = self.value(value) if mine or not callable(value) else named(value)


def _place(value: types.FunctionType | type) -> tuple[ast.Module, ast.AST | None]:
    """The tree of the file that defines it, and its place in that; None where there is no source."""
    try:
        lines, _ = inspect.findsource(value)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError, IndexError):
        return ast.Module(body=[], type_ignores=[]), None
    if isinstance(value, type):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == value.__name__]
        return tree, names[-1] if names else None
    first = value.__code__.co_firstlineno
    here = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and _first_line(node) == first]
    called: list[Any] = [node for node in here if getattr(node, "name", "<lambda>") == value.__code__.co_name]
    if len(called) > 1:  # lambdas on one line
        places = {(line, column) for line, _, column, _ in value.__code__.co_positions()}
        called = [node for node in called if (node.body.lineno, node.body.col_offset) in places] or called
    return tree, called[0] if len(called) == 1 else ast.List(elts=called, ctx=ast.Load()) if called else None


def _first_line(node: Any) -> int:
    lines: list[int] = [node.lineno, *(above.lineno for above in getattr(node, "decorator_list", ()))]
    return min(lines)


def _bare(node: ast.AST) -> ast.AST:
    """Without the decorator that made the scorer: what it declares is in the digest by itself."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.decorator_list = [decorator for decorator in node.decorator_list if not _is_scorer(decorator)]
    return node


def _is_scorer(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return getattr(called, "id", getattr(called, "attr", "")) == "scorer"


def _names(node: ast.AST) -> set[str]:
    """The names that a piece of code takes from outside of itself, those of functions' annotations left out."""
    scopes = _Scopes()
    text = ast.unparse(ast.fix_missing_locations(scopes.visit(copy.deepcopy(_bare(node)))))
    top = symtable.symtable(text, "scorer", "exec")
    loose = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced() and not symbol.is_assigned()}
    inner = [symbol for table in _inner(top) for symbol in table.get_symbols()]
    taken = {symbol.get_name() for symbol in inner if symbol.is_referenced() and symbol.is_global()}
    return loose | scopes.annotating | taken


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _inner(child)


class _Scopes(ast.NodeTransformer):
    """Code whose names have the scopes they had, without what Python's versions write or scope otherwise.

    Annotations of fields are put aside in `annotating`; an f-string becomes the tuple of what it shows.
    """

    def __init__(self) -> None:
        self.annotating: set[str] = set()

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.annotating |= {part.id for part in ast.walk(node.annotation) if isinstance(part, ast.Name)}
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value or ast.Constant(None)))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        shown = [value for value in node.values if isinstance(value, ast.FormattedValue)]
        parts = [part for value in shown for part in (value.value, value.format_spec) if part is not None]
        return self.generic_visit(ast.Tuple(elts=parts, ctx=ast.Load()))

    def _function(self, node: Any) -> Any:
        node.returns = None
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815  # ast names them


def _defining(tree: ast.Module, name: str) -> list[ast.stmt]:
    """The statements of a module's top level that bind a name or change what it names, in order."""
    return [statement for statement in tree.body if name in _bound(statement) or name in _changed(statement)]


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    stored = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    within = [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt | ast.excepthandler)]
    return {node.id for node in stored} | {name for node in within for name in _bound(node)}  # type: ignore[arg-type]  # bodies


def _changed(statement: ast.stmt) -> set[str]:
    """Names that are changed in place: `NAMES["x"] = 1`, `WORDS.append("y")`."""
    call = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    places = [call.func] if isinstance(call, ast.Call) else list(getattr(statement, "targets", ()))
    roots = set()
    for place in places:
        inner = place
        while isinstance(inner, ast.Attribute | ast.Subscript):
            inner = inner.value
        if inner is not place and isinstance(inner, ast.Name):
            roots.add(inner.id)
    return roots


def _defined(statement: ast.stmt, name: str) -> Any:
    """A definition's record: of a constant its value, so that it is the same wherever it stands."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        aliases = [(alias.name, alias.asname or alias.name) for alias in statement.names]
        taken = [module for module, called in aliases if called.partition(".")[0] == name]
        return ["import", getattr(statement, "module", None), *taken]
    value = getattr(statement, "value", None)
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    if isinstance(statement, ast.Assign | ast.AnnAssign) and value is not None and isinstance(targets[0], ast.Name):
        try:
            return plain(ast.literal_eval(value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return _normal(value)
    return _normal(_bare(statement))


def _normal(node: Any) -> Any:
    """A tree as plain lists: node types and fields as Python 3.11 has them, those that are empty left out."""
    if isinstance(node, ast.Constant):
        return plain(node.value)
    if isinstance(node, ast.AnnAssign):  # of a field, it may make the class
        return ["AnnAssign", _normal(node.target), _normal(node.value), _normal(node.annotation)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", *_joined(node.values)]
    if isinstance(node, ast.AST):
        fields = [
            [name, _normal(value)]
            for name, value in ast.iter_fields(_undocumented(node))
            if name not in _LEFT_OUT
            and value is not None
            and value != []
            and not (name == "format_spec" and isinstance(value, ast.JoinedStr) and not _joined(value.values))
        ]
        return [type(node).__name__, *sorted(fields, key=lambda field: str(field[0]))]
    if isinstance(node, list):
        return list(map(_normal, node))
    return node if isinstance(node, str | int | None) else repr(node)


def _joined(values: list[ast.expr]) -> list[Any]:
    """The pieces of an f-string, texts beside each other made one."""
    pieces: list[Any] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            pieces.append(_normal(value))
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += str(value.value)
        elif value.value:
            pieces.append(str(value.value))
    return pieces


def _undocumented(node: ast.AST) -> ast.AST:
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        return type(node)(**{**dict(ast.iter_fields(node)), "body": node.body[1:]})
    return node
