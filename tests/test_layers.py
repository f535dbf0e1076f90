"""The package's shape: who may import whom, where the outside worlds are, and how large a module may grow."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmlab"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Within a row a module imports only from modules listed before it; across rows only from rows above.
LAYERS = [
    ["errors", "moments", "csvfile", "digits", "marked", "display"],
    [
        "redaction",
        "project",
        "sealed",
        "yamlfile",
        "pinning",
        "prompting",
        "bundle",
        "personal",
        "golden",
        "exported",
        "models",
        "precheck",
        "drafts",
        "passport",
    ],
    ["stats"],
    [
        "words",
        "background",
        "clients",
        "callstore",
        "scorers",
        "scoretable",
        "margins",
        "sentences",
        "comparison",
        "retrieval",
        "summary",
        "economics",
        "cases",
        "answerframe",
        "resultsfile",
        "results",
        "progress",
        "app",
        "plan",
        "runner",
        "experiment",
        "tries",
        "judge",
        "study",
        "simulate",
    ],
    ["gate"],
    [
        "screening",
        "mlstore",
        "spool",
        "casetable",
        "tracking",
        "registry",
        "plots",
        "widgets",
        "notebook",
        "cli",
    ],
]
RANK = {name: (row, place) for row, names in enumerate(LAYERS) for place, name in enumerate(names)}
TAG = re.compile(
    r"</?(?:a|b|br|code|del|details|div|i|iframe|img|ins|li|p|pre|script|span|style|svg|t[dhr]|table|ul)[ >/]"
)
OUTSIDE_WORLDS = {
    "mlflow": {"mlstore", "tracking", "registry"},
    "matplotlib": {"plots"},
    "ipywidgets": {"widgets", "display"},
    "papermill": {"notebook"},
    "nbconvert": {"notebook"},
    "IPython": {"display", "widgets", "notebook"},
    "aiohttp": {"clients", "scorers", "retrieval"},
    "click": {"cli"},
}


def unit(path):
    """The module or subpackage of llmlab that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path, *, at_run_time_only=False):
    """Names of the modules a file imports, `if TYPE_CHECKING:` blocks left out on request."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if at_run_time_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py" or p.parent != PACKAGE], ids=str)
def test_a_module_imports_only_what_stands_before_it(path):
    """Dependencies point one way, lazy imports inside functions excepted only for a value's own methods."""
    here = unit(path)
    assert here in RANK, f"{here} has no place in the layers: give it one"
    if here in ("results", "comparison"):  # values whose methods (`results.compare`) are one call into a later module
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module]
    else:
        names = list(imported(path, at_run_time_only=True))
    for name in names:
        if not name.startswith("llmlab."):
            continue
        there = name.split(".")[1]
        assert there == here or RANK[there] < RANK[here], f"{here} imports {there}, which stands after it"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_each_outside_world_has_its_own_modules(path):
    """MLflow, matplotlib, widgets and the like are reached from one place each."""
    for name in imported(path):
        world = name.partition(".")[0]
        if world in OUTSIDE_WORLDS:
            assert unit(path) in OUTSIDE_WORLDS[world], f"{path.name} imports {world}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_is_longer_than_400_lines(path):
    """A module that grows beyond one sitting holds two ideas."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def markup(tree):
    """Where a module makes HTML: `HTML(...)`, `.to_html()`, a Styler, or a tag in a text that is no docstring."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    makers = ("HTML", "HTMLMath", "Markdown")
    for node in ast.walk(tree):
        made = isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers
        told = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
        if made or (isinstance(node, ast.Attribute) and node.attr in (*makers, "to_html", "style")):
            yield ast.unparse(node)
        elif told and TAG.search(node.value):
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_html_is_made_in_display_alone_and_nothing_is_unpickled(path):
    """One place escapes; nobody loads pickles, calls eval or builds a Styler."""
    text = path.read_text(encoding="utf-8")
    if unit(path) != "display":
        assert not list(markup(ast.parse(text)))
    assert not re.search(
        r"\bpickle\b.*\bloads?\b|\bimport pickle\b|\bjoblib\b|\beval\(|yaml\.(load|unsafe_load)\(", text
    )


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_public_names_are_declared(path):
    """Every module says what it offers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    declared = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    if path.name != "__init__.py":
        assert declared, "no __all__"
    assert ast.get_docstring(tree) or path.name == "__init__.py"
