"""The digest of a scorer's code: what changes it, what does not, and that every Python gives the same."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmlab import scorers
from llmlab.base.private import find_pii, texts_within, without_keys
from llmlab.base.words import words
from llmlab.scorers import Scorer, answers, citations, refusals
from llmlab.scorers.source import code_digest

MINE = '''"""A file of scorers."""
from __future__ import annotations
import re, asyncio
import functools
from dataclasses import dataclass
from json import dumps, loads as read

LIMIT: float = 0.5  # a comment
WORDS = ["a", 'b']
WORDS.append("c")
TABLE = {}
TABLE["x"] = {1, 2, 3}
PATTERN = re.compile(r"\\d+", re.I)
UNUSED = 3
SIGNS = "\\U0001fae8é"

@dataclass(frozen=True)
class Rule:
    """Doc."""
    name: str
    other: Other
    weight: float = 1.5

    def holds(self, text: str) -> bool:
        return self.name in text or weigh(text) > LIMIT

class Other: pass

def weigh(text: str, *, least, scale=10 ** 3) -> float:
    """How much."""
    total: int = 0
    for i, word in enumerate(text.split()):
        match word:
            case "x" | "y": total += i
            case str() as other if (n := len(other)) > 2: total -= n
            case [_, *_] | {"a": 1}: pass
            case {"b": _, **rest}: total = len(rest)
    return f"{total:>{scale}}" f"and {text!r:.3}" 'more' and f"{total:}" and total / scale

@functools.lru_cache(maxsize=8)
def fancy(text):
    try:
        return [*map(str, text)], {k: v for k, v in TABLE.items()}, (lambda q, /, *a, z=PATTERN, **k: q)(text), ...
    except* ValueError as e:
        raise KeyError(f"{e=}{SIGNS[1:2]}{{}}") from e

def good(case, generation):
    """One."""
    async def inner(): return await asyncio.sleep(0)
    rule = Rule("x", None)
    return rule.holds(generation.text) and read(dumps(WORDS)) and fancy(generation.text) and -1.5e-3 + 2j and b"\\x00"

def factory(threshold):
    def inside(case, generation): return len(generation.text) > threshold * LIMIT
    return inside

class Counted:
    def __init__(self, most): self.most = most
    def __call__(self, case, generation): return len(WORDS) < self.most
'''


def loaded(text: str, folder: Path, *, name: str = "mine") -> ModuleType:
    """A file with this text, imported."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(text: str, folder: Path, *, of: Callable[[ModuleType], Any] = lambda module: module.good) -> str:
    return code_digest(of(loaded(text, folder)), [])


PINNED = "c93d1bc593fdb2d802269289cfd1c4da11c1304a62ea2b64717a77f8a02463ef"
SCRIPT = """
import importlib.util, sys
def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
sys.path.insert(0, sys.argv[1])
from llmlab.scorers.source import code_digest
print(code_digest(loaded("mine", sys.argv[2]).good, []))
"""


def test_this_python_gives_the_pinned_digest(tmp_path: Path) -> None:
    assert digest(MINE, tmp_path) == PINNED


def interpreters() -> list[str]:
    """Other Pythons of 3.11 to 3.14 on this machine."""
    versions = [f"3.{minor}" for minor in range(11, 15)]
    found = [shutil.which(f"python{version}") for version in versions]
    found += [str(path) for v in versions for path in Path.home().glob(f".pyenv/versions/{v}.*/bin/python")]
    known = [python for python in found if python and Path(python).resolve() != Path(sys.executable).resolve()]
    return [python for python in known if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0]


@pytest.mark.parametrize("python", interpreters() or [sys.executable])
def test_every_python_gives_the_pinned_digest(python: str, tmp_path: Path) -> None:
    loaded(MINE, tmp_path)
    command = [python, "-c", SCRIPT, str(Path(scorers.__file__).parents[2]), str(tmp_path / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == PINNED, done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a comment", "# another"),
        ('"""How much."""', '"""Otherwise said."""'),
        ('    """One."""\n', ""),
        ("def good(case, generation):", "def good(\n    case: int,\n    generation: str = None or '',\n) -> bool:"),
        ("LIMIT: float = 0.5", "LIMIT = (0.50)"),
        ("[\"a\", 'b']", "['a', 'b',]"),
        ("UNUSED = 3", "UNUSED = 4\n\ndef more(): return UNUSED"),
        ("from json import dumps, loads", "from json import JSONDecodeError, dumps\nfrom json import loads"),
    ],
)
def test_comments_docstrings_layout_annotations_and_what_is_not_reached_change_nothing(
    before: str, after: str, tmp_path: Path
) -> None:
    assert before in MINE
    changed = MINE.replace(before, after)
    if "None or" in after:
        changed = changed.replace(" = None or ''", "")
    assert digest(changed, tmp_path) == PINNED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-1.5e-3", "-1.6e-3"),  # the function
        ("return self.name in text", "return self.name == text"),  # a class that it uses
        ("weight: float = 1.5", "weight: float = 2.5"),
        ("total / scale", "total * scale"),  # a helper's helper
        ("scale=10 ** 3", "scale=10 ** 4"),
        ("LIMIT: float = 0.5", "LIMIT: float = 0.6"),  # a constant
        ('WORDS.append("c")', 'WORDS.append("d")'),  # changed in place
        ("{1, 2, 3}", "{1, 2, 4}"),
        ("maxsize=8", "maxsize=9"),
        ("class Other: pass", "class Other: x = 1"),  # what a field is said to be
        ("{text!r:.3}", "{text!s:.3}"),
        ("from json import dumps, loads as read", "from json import dumps\nfrom marshal import loads as read"),
    ],
)
def test_a_change_of_what_it_does_or_reaches_changes_the_digest(before: str, after: str, tmp_path: Path) -> None:
    assert before in MINE
    assert digest(MINE.replace(before, after), tmp_path) != PINNED


def test_closures_objects_partials_and_lambdas_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    mine = loaded(MINE, tmp_path)
    different: list[Any] = [mine.factory(2), mine.factory(3), mine.Counted(1).__call__]
    different += [mine.Counted(1), mine.Counted(2)]
    different += [functools.partial(mine.good, number) for number in (1, 2)]
    different += [lambda c, g: g.text > "a", lambda c, g: g.text > "b"]
    assert len({code_digest(one, []) for one in different}) == len(different)
    assert code_digest(mine.factory(2), []) == code_digest(mine.factory(2), [])
    assert code_digest(mine.good, ["low"]) != code_digest(mine.good, ["high"])


def test_a_checkout_in_another_place_changes_nothing(tmp_path: Path) -> None:
    text = "from pathlib import Path\nWORDS = Path(__file__).with_name('words.txt')\ndef good(case, generation):\n"
    text += "    return float(WORDS.exists())\n"
    assert digest(text, tmp_path / "here") == digest(text, tmp_path / "there")


def test_a_scorer_with_and_without_its_decorator_is_one_scorer(tmp_path: Path) -> None:
    plain = "def good(case, generation):\n    return 1.0\n"
    decorated = f"from llmlab.scorers import scorer\n\n@scorer(low=0, high=1)\n{plain}"
    one, other = loaded(plain, tmp_path / "a").good, loaded(decorated, tmp_path / "b").good
    assert isinstance(other, Scorer)
    assert scorers.scorer(one).digest == other.digest != scorers.scorer(high=2)(one).digest


def test_a_helper_in_another_cell_of_a_notebook_is_reached() -> None:
    """By the name that the function sees when it is made; code that exec made without a file is known by bytecode."""

    def cells(*texts: str, files: bool = True) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}
        for number, text in enumerate(texts):
            name = f"<cell {number} {hash(texts)}>"
            if files:
                linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            exec(compile(text, name, "exec"), space)  # as a kernel does
        return space["good"]

    scored = "def good(case, generation):\n    return helper(generation.text) > LIMIT\n"
    first, again, other, constant = (
        code_digest(cells(f"LIMIT = {limit}", f"def helper(text):\n    return {what}\n", scored), [])
        for limit, what in ((1, "len(text)"), (1, "len(text)  # so"), (1, "-len(text)"), (2, "len(text)"))
    )
    assert first == again
    assert len({first, other, constant}) == 3
    blind = [code_digest(cells(f"def good(c, g):\n    return {n}\n", files=False), []) for n in ("1.0", "2.0")]
    assert blind[0] != blind[1]


# -- scorers that llmlab ships: a revision instead of their code ------------------------------------

CORPUS = {"d1": "dropna removes missing values."}
CALLS = (answers.all_texts, texts_within)
GROUNDING = (citations.cited_ids, refusals.is_refusal, words)
SHIPPED = {  # the revision, the digest of the code, the scorer, and what it reaches in other files
    "exact": (2, "a6c0566b85989a23", scorers.exact, ()),
    "contains_expected": (2, "364613070a3dbb0a", scorers.contains_expected, ()),
    "mentions_expected": (2, "3aa1c0b76808def1", scorers.mentions_expected, ()),
    "json_equal": (1, "df1e76608760f39a", scorers.json_equal, ()),
    "json_fields": (1, "c8e27089f2f47633", scorers.json_fields("a"), ()),
    "numbers_equal": (2, "9834ab2468a3576a", scorers.numbers_equal(0.1), ()),
    "label": (1, "0708000672ceb8c2", scorers.label, ()),
    "not_empty": (1, "edfb380782a3d5cb", scorers.not_empty, ()),
    "valid_json": (1, "5eed4a777fa5f3b6", scorers.valid_json, ()),
    "word_count": (1, "90a6ba61b745d394", scorers.word_count, ()),
    "regex": (1, "bc093625bc623287", scorers.regex("a"), ()),
    "json_schema": (1, "f245e56d16becc0a", scorers.json_schema({"type": "object"}), ()),
    "calls_tool": (1, "59f92b701a7522b4", scorers.calls_tool("lookup"), ()),
    "length_between": (1, "d247bac82fec0e3c", scorers.length_between(1, 5), (answers.count_words,)),
    "cites_source": (1, "ffb5fc4ec0701ffe", scorers.cites_source, ()),
    "citations_valid": (1, "36a3a3e5ee8d1266", scorers.citations_valid, ()),
    "refusal": (4, "90e25a13e54c6fa2", scorers.refusal, (answers.count_words, answers.folded)),
    "not_refused": (4, "1fb1f1ffa07148fc", scorers.not_refused, (answers.count_words, answers.folded)),
    "no_pii": (3, "0f931ea5be24f89f", scorers.no_pii, (find_pii, texts_within)),
    "no_keys": (2, "cb4e69802b9a1a2b", scorers.no_keys, (without_keys, *CALLS)),
    "no_terms": (2, "bfe3b033ff59104b", scorers.no_terms("a"), CALLS),
    "no_injection_markers": (2, "d334d55fdc491a0f", scorers.no_injection_markers, CALLS),
    "moderated": (2, "eb7a865536865bda", scorers.moderated(), CALLS),
    "grounded": (4, "bcec6d65b3e477ed", scorers.grounded(CORPUS), GROUNDING),
    "cites_support": (4, "022b78421bfcb051", scorers.cites_support(CORPUS), GROUNDING),
    "similar_to_expected": (1, "193cff453abb57c5", scorers.similar_to_expected("http://localhost:8000/v1", "m"), ()),
}


CODES = {  # before any test uses one: `grounded` keeps what it has read of its corpus
    name: code_digest(made.function, [code_digest(one, []) for one in reached])[:16]
    for name, (_, _, made, reached) in SHIPPED.items()
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_scorer_whose_code_changed_was_given_a_new_revision_or_looked_at(name: str) -> None:
    """It fails when the code changed. Does any answer get another score? Raise `revision=` here and there; pin it."""
    revision, code, made, _ = SHIPPED[name]
    assert (made.name, made.revision, CODES[name]) == (name, revision, code)


def test_every_scorer_that_is_shipped_is_in_the_table() -> None:
    ready = {name for name in scorers.__all__ if isinstance(getattr(scorers, name), Scorer)}
    made = {"regex", "json_schema", "calls_tool", "length_between", "grounded", "cites_support", "similar_to_expected"}
    made |= {"json_fields", "numbers_equal", "no_terms", "moderated"}
    assert set(SHIPPED) == ready | made
