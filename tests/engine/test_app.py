"""What an application is known by: any change of what it does makes it another one, and nothing else does."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from llmlab.bundle.bundle import Bundle
from llmlab.engine.app import app_identity
from llmlab.golden.cases import Case

NOTEBOOK = """
MODEL = "first"
def helper(text): return text.upper()
def answer(case, bundle): return helper(MODEL) + f"{1 in {1, 2}}"
def other(): return 1
"""


def typed(source: str) -> Any:
    """The function `answer` of a module that was typed in, without a file."""
    module = types.ModuleType("typed")
    exec(source, module.__dict__)  # as a notebook does
    return module.answer  # type: ignore[attr-defined]  # the source defines it


def source(app: Any) -> str:
    return str(app_identity(app)["source"])


def test_the_same_code_is_the_same_application() -> None:
    assert source(typed(NOTEBOOK)) == source(typed(NOTEBOOK))
    assert app_identity(typed(NOTEBOOK))["app"] == "typed:answer"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("helper(MODEL)", "helper(MODEL * 2)"),
        ('MODEL = "first"', 'MODEL = "second"'),
        ("text.upper()", "text.lower()"),
    ],
)
def test_a_change_of_the_function_or_of_what_it_uses_makes_another_one(old: str, new: str) -> None:
    """Its own text, a constant of the notebook, a helper in another cell."""
    assert source(typed(NOTEBOOK)) != source(typed(NOTEBOOK.replace(old, new)))


def test_what_it_does_not_use_may_change() -> None:
    assert source(typed(NOTEBOOK)) == source(typed(NOTEBOOK.replace("return 1\n", "return 2\n")))


def answer(case: Case, bundle: Bundle, style: str = "short") -> str:
    return style


class Assistant:
    """An application with settings."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, case: Case, bundle: Bundle) -> str:
        return self.model

    def method(self, case: Case, bundle: Bundle) -> str:
        return self.model


def closing_over(style: str) -> Any:
    def inner(case: Case, bundle: Bundle) -> str:
        return style

    return inner


@pytest.mark.parametrize(
    ("one", "same", "another"),
    [
        (*[functools.partial(answer, style="a") for _ in "12"], functools.partial(answer, style="b")),
        (Assistant("a"), Assistant("a"), Assistant("b")),
        (Assistant("a").method, Assistant("a").method, Assistant("b").method),
        (closing_over("a"), closing_over("a"), closing_over("b")),
    ],
    ids=["partial", "instance", "method", "closure"],
)
def test_settings_belong_to_the_application(one: Any, same: Any, another: Any) -> None:
    assert source(one) == source(same) != source(another)


def test_a_changed_tree_is_named_dirty_and_each_change_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper in another file changes the answers too, committed or not, new files included."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    (tmp_path / "their_app.py").write_text("def answer(case, bundle):\n    return 'x'\n")
    (tmp_path / "their_helper.py").write_text("A = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    import their_app  # type: ignore[import-not-found]  # just written

    clean = app_identity(their_app.answer)
    assert clean["app"] == "their_app:answer"
    assert (clean["dirty"], clean["changes"], len(clean["commit"])) == (False, "", 40)
    found = [clean]
    for text in ("A = 2\n", "A = 3\n"):
        (tmp_path / "their_helper.py").write_text(text)
        found.append(app_identity(their_app.answer))
    (tmp_path / "new.py").write_text("B = 1\n")
    found.append(app_identity(their_app.answer))
    assert [identity["dirty"] for identity in found] == [False, True, True, True]
    assert len({identity["changes"] for identity in found}) == 4
    del sys.modules["their_app"]


def test_a_file_that_is_no_python_any_more_is_no_error(tmp_path: Path) -> None:
    """It was edited, half-way, since it was imported: the instructions that run are what it is known by."""
    file = tmp_path / "pipeline.py"
    names: dict[str, Any] = {"__name__": "pipeline"}
    exec(compile("def answer(case, bundle):\n    return 'a'\n", str(file), "exec"), names)
    file.write_text("def answer(case, bundle):\n    return (\n")
    assert source(names["answer"])
