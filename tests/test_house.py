"""The house: rooms on storeys, imports that only go down, no circles, one public face a room, files of one idea."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import llmlab

PACKAGE = Path(__file__).parents[1] / "llmlab"
MODULES = sorted(PACKAGE.rglob("*.py"))
FACES = [path for path in MODULES if path.name == "__init__.py"]

# From the ground up. A file imports from rooms before its own, and from its own without a circle.
ROOMS = [
    *("base", "display", "foreign", "stats", "bundle", "golden", "local", "clients", "search", "scorers", "results"),
    *("engine", "gate", "guards", "judge", "retrieval", "simulate", "tracking", "registry", "production"),
    *("watch", "experiment"),
    *("plots", "widgets", "notebook", "cli"),
]
# The thread of the bundle: what somebody needs who runs, gates and promotes.
THREAD = {"base", "display", "stats", "bundle", "golden", "local", "clients", "search", "scorers", "results"}
THREAD |= {"engine", "gate", "tracking", "registry"}
LINES_TO_A_DECISION = 14_000
TO_A_DECISION = """
import sys, tempfile
from pathlib import Path

import llmlab as ll

folder = Path("experiments/pandas_help")
arms = {name: ll.load_bundles(folder / "bundles")[name] for name in ("v1", "v2")}
golden = ll.GoldenSet.load(folder / "golden.jsonl").only(first=24)
scorers = [ll.scorers.mentions_expected, ll.scorers.cites_source, ll.scorers.not_refused]
with tempfile.TemporaryDirectory() as stored:
    results = ll.run(arms, golden, scorers=scorers, store=f"{stored}/calls.sqlite", progress=False)
decision = ll.GatePolicy.load(folder / "gate.yaml").decide(results, candidate="v2", baseline="v1")
assert decision.receipt().verdict == decision.word != "INVALID", decision
"""

MOST_FILES, MOST_LINES = 13, 600
TAG = re.compile(
    r"</?(?:a|b|br|code|del|details|div|i|iframe|img|ins|li|p|pre|script|span|style|svg|t[dhr]|table|ul)[ >/]"
)
OUTSIDE_WORLDS = {
    "mlflow": {"tracking", "registry"},
    "matplotlib": {"plots"},
    "ipywidgets": {"widgets", "display"},
    "papermill": {"notebook"},
    "nbconvert": {"notebook"},
    "IPython": {"widgets", "notebook"},
    "aiohttp": {"clients", "scorers", "search"},
    "click": {"cli"},
    "xllamacpp": {"local"},
}


def dotted(path):
    """`results.summary` for llmlab/results/summary.py, `results` for its face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in MODULES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def own_imports(name):
    """(file, node) of every import of llmlab in a file, under TYPE_CHECKING and inside functions too."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "llmlab":
            for alias in node.names:
                full = f"{node.module}.{alias.name}".removeprefix("llmlab.")
                yield (full if full in FILES else full.rpartition(".")[0]), node
        elif isinstance(node, ast.Import):
            yield from ((a.name.removeprefix("llmlab."), node) for a in node.names if a.name.startswith("llmlab."))


def through_faces(name):
    """The files whose names a file asks the face of a room for: `from llmlab import search`, then `search.Index`."""
    asked = {
        alias.asname or alias.name: alias.name
        for node in TREES[name].body
        if isinstance(node, ast.ImportFrom) and node.module == "llmlab"
        for alias in node.names
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in asked:
            room = asked[node.value.id]
            yield from (there for there, shown in own_imports(room) if node.attr in [a.name for a in shown.names])


EDGES = {
    name: {there for there, _ in own_imports(name)} | {*through_faces(name)}
    for name, path in FILES.items()
    if path not in FACES
}  # a face may name what it shows


def circles():
    """Sets of files that reach each other."""
    reached = {}

    def reach(start):
        seen, stack = set(), list(EDGES.get(start, ()))
        while stack:
            there = stack.pop()
            if there not in seen:
                seen.add(there)
                stack.extend(EDGES.get(there, ()))
        return seen

    for name in EDGES:
        reached[name] = reach(name)
    return [name for name in EDGES if name in reached[name]]


def outside_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_file_lives_in_a_room():
    """Nothing lies loose at the top but the face of the whole."""
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


def test_imports_only_go_down():
    """A file imports from storeys below its own, under TYPE_CHECKING and inside functions as well."""
    upward = {
        (name, there)
        for name, theirs in EDGES.items()
        for there in theirs
        if ROOMS.index(there.partition(".")[0]) > ROOMS.index(name.partition(".")[0])
    }
    assert upward == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name != "results"], ids=str)
def test_only_results_look_into_their_frame_and_their_provenance_by_key(path):
    """Others ask for rows, scores, totals and parts by name, and read the provenance by attribute."""
    code = re.sub(r"^ *(>>>|\.\.\.).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not re.search(r"(?<!self)\.frame[\[.]|provenance(\[|\.get\(|=\{)", code)


def test_no_import_hides_in_a_text():
    """Only the face of the whole names a module of ours as text, because it lends a function to a room below."""
    modules = {f"llmlab.{name}" for name in FILES if "." in name}
    hidden = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules
    }
    assert hidden == {""}


def test_no_files_import_each_other_in_a_circle():
    """What is imported can be read without reading on."""
    assert circles() == []


def test_types_are_imported_like_everything_else():
    """An own import under TYPE_CHECKING hides a circle."""
    hidden = []
    for name in EDGES:
        guards = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
        inside = {id(child) for guard in guards for child in ast.walk(guard)}
        hidden += [(name, there) for there, node in dict.fromkeys(own_imports(name)) if id(node) in inside]
    assert hidden == []


def test_an_import_inside_a_function_says_why():
    """Own files are imported at the top, but where something heavy is to be loaded late."""
    silent = []
    for name, tree in TREES.items():
        lines = FILES[name].read_text(encoding="utf-8").splitlines()
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = {id(child) for function in functions for child in ast.walk(function)}
        late = [node for _, node in own_imports(name) if id(node) in inside]
        silent += [f"{name}:{node.lineno}" for node in late if "# " not in lines[node.lineno - 1]]
    assert silent == []


def loaded_by(program):
    """The own files that a program has loaded at its end."""
    listed = "import sys; print(*(name for name in sys.modules if name.startswith('llmlab.')))"
    ended = subprocess.run(  # our own words
        [sys.executable, "-c", f"{program}\n{listed}"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return {name.removeprefix("llmlab.") for name in ended.stdout.split()}


def test_the_thread_of_the_bundle_loads_nothing_else():
    """Whoever runs, gates and promotes needs no judge, retrieval evaluation, plot or widget."""
    of_the_thread = [name for name in FILES if name.partition(".")[0] in THREAD]
    loaded = loaded_by("\n".join(f"import llmlab.{name}" for name in of_the_thread))
    assert set(of_the_thread) == loaded


def test_few_lines_are_loaded_from_a_bundle_to_a_decision():
    """On the embedded demo: what the small helper package consists of."""
    loaded = loaded_by(TO_A_DECISION)
    assert {"bundle.bundle", "engine.runs", "gate.decide"} <= loaded
    lines = sum(len(FILES[name].read_text(encoding="utf-8").splitlines()) for name in loaded)
    assert lines <= LINES_TO_A_DECISION, f"{lines:,} lines are loaded"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_says_what_it_is_for(room):
    """At most 13 files, each a sitting's reading, and a sentence at the door."""
    files = [path for path in (PACKAGE / room).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES
    assert ast.get_docstring(TREES[room])
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, path.name


def test_no_room_has_the_name_of_a_public_function():
    """Importing `llmlab.run` the room would hide `ll.run` the function."""
    assert not set(ROOMS) & (set(llmlab.__all__) - {"scorers"})


@pytest.mark.parametrize("path", FACES, ids=str)
def test_a_face_shows_what_its_types_say_and_no_file_hides_a_name(path):
    """Type checkers and the running program see the same names, and each resolves."""
    name = dotted(path)
    face = importlib.import_module(f"llmlab.{name}".rstrip("."))
    typed = {
        alias.asname: node
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llmlab")
        for alias in node.names
        if alias.asname
    }
    declared = getattr(face, "__all__", [])
    files = {public for public in typed if f"{name}.{public}" in FILES}  # that a file of the room asks for when needed
    if name in ROOMS and typed:
        assert set(declared) == set(typed) - files
        assert not set(declared) & {path.stem for path in path.parent.glob("*.py")}
    for public in declared:
        assert getattr(face, public) is not None


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_each_outside_world_has_its_own_rooms(path):
    """MLflow, matplotlib, widgets and the like are reached from one place each."""
    for name in outside_imports(path):
        world = name.partition(".")[0]
        if world in OUTSIDE_WORLDS:
            assert dotted(path).partition(".")[0] in OUTSIDE_WORLDS[world], f"{path.name} imports {world}"


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
def test_html_is_made_in_display_alone(path):
    """One place escapes, and nobody builds a Styler."""
    if dotted(path) not in ("display.html", "display.page"):
        assert not list(markup(TREES[dotted(path)]))


@pytest.mark.parametrize("name", EDGES)
def test_a_private_name_stays_in_its_file(name):
    """What a file offers has no underscore, and what has one is asked for nowhere else; every file says what it is."""
    assert ast.get_docstring(TREES[name])
    modules, asked = set(), []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "llmlab":
            modules |= {alias.asname or alias.name for alias in node.names if alias.name == alias.name.lower()}
            asked += [alias.name for alias in node.names]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            asked.append(node.attr)
    assert [there for there in asked if re.match("_[^_]", there)] == []


def test_a_name_without_an_underscore_has_a_user():
    """Of a constant or a function: a type is that of a value which somebody holds, and a decorator may register."""
    texts = {*MODULES, *(PACKAGE.parent / "tests").rglob("*.py"), *PACKAGE.parent.glob("*.md")} - {Path(__file__)}
    users = Counter(word for path in texts for word in set(re.findall(r"\w+", path.read_text(encoding="utf-8"))))
    unused = []
    for path in (path for path in MODULES if path not in FACES):
        for node in TREES[dotted(path)].body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [leaf.id for target in targets for leaf in getattr(target, "elts", [target]) if hasattr(leaf, "id")]
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                names.append(node.name)
            unused += [f"{path.name}: {name}" for name in names if users[name] < 2 and re.match("[A-Z]{2}|[a-z]", name)]
    assert unused == ["kernel.py: load_ipython_extension"]  # IPython's name


def test_each_promise_of_contributing_names_a_test_that_exists():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 80
    for file, test in named:
        assert re.search(rf"def {test}\(", (PACKAGE.parent / "tests" / file).read_text(encoding="utf-8")), (file, test)


@pytest.mark.slow
def test_every_process_collects_the_same_tests():
    """A name made of the clock or of a set's order differs between workers, and stops the parallel run."""
    tests = Path(__file__).parent
    listing = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(tests)]
    listed = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):  # one after the other: the clock has moved on
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        printed = subprocess.run(listing, env=environment, capture_output=True, text=True, check=True, cwd=tests.parent)
        listed.append({line for line in printed.stdout.splitlines() if "::" in line})
    assert listed[0]
    assert listed[0] == listed[1]
