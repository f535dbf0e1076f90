"""What an application is known by: any change of what it does makes it another one, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import timeit
import types
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pydantic
import pytest

from llmlab.bundle.bundle import Bundle
from llmlab.engine.app import _Reached, app_identity, unread_notes
from llmlab.engine.runs import run
from llmlab.golden.cases import Case, GoldenSet

NOTEBOOK = """
MODEL = "first"
def helper(text): return text.upper()
def answer(case, bundle): return helper(MODEL) + f"{1 in {1, 2}}"
def other(): return 1
"""


def typed(source: str, **before: Any) -> Any:
    """The function `answer` of a module that was typed in, without a file."""
    module = types.ModuleType("typed")
    vars(module).update(before)
    exec(source, module.__dict__)  # as a notebook does
    return module.answer


def source(app: Any) -> str:
    return str(app_identity(app)["source"])


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("helper(MODEL)", "helper(MODEL * 2)", False),
        ('MODEL = "first"', 'MODEL = "second"', False),
        ("text.upper()", "text.lower()", False),
        ("return 1\n", "return 2\n", True),
    ],
)
def test_a_change_of_the_function_or_of_what_it_uses_makes_another_one(old: str, new: str, same: bool) -> None:
    """Its own text, a constant of the notebook, a helper in another cell; what it does not use may change."""
    assert (source(typed(NOTEBOOK)) == source(typed(NOTEBOOK.replace(old, new)))) is same


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


def closing_over(style: Any) -> Any:
    def inner(case: Case, bundle: Bundle) -> Any:
        return style

    return inner


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


@dataclasses.dataclass(frozen=True)
class Settings:
    style: str
    api_key: str = ""


class Slotted:
    __slots__ = ("__style",)

    def __init__(self, style: str) -> None:
        self.__style = style


class Colour(enum.Enum):
    RED, BLUE = "a", "b"


class Model(pydantic.BaseModel):
    style: str


@dataclasses.dataclass(slots=True)
class Called:
    style: str

    def __call__(self, case: Case, bundle: Bundle) -> str:
        return self.style


def choosing(chosen: str) -> Any:
    both = {style: Settings(style) for style in "ab"}
    return closing_over({**both, "chosen": both[chosen]})


ONE_LINE = [lambda case, bundle: "a", lambda case, bundle: "b"]


@pytest.mark.parametrize(
    ("one", "same", "another"),
    [
        (*[functools.partial(answer, style="a") for _ in "12"], functools.partial(answer, style="b")),
        (Assistant("a"), Assistant("a"), Assistant("b")),
        (Assistant("a").method, Assistant("a").method, Assistant("b").method),
        (closing_over("a"), closing_over("a"), closing_over("b")),
        (Called("a"), Called("a"), Called("b")),
        (choosing("a"), choosing("a"), choosing("b")),
        (ONE_LINE[0], ONE_LINE[0], ONE_LINE[1]),
    ],
    ids=["partial", "instance", "method", "closure", "slots", "which of two it takes", "lambdas on one line"],
)
def test_settings_belong_to_the_application(one: Any, same: Any, another: Any) -> None:
    assert source(one) == source(same) != source(another)


def table(style: str) -> Any:
    return pd.DataFrame({"style": [style, "c"]})


HELD: dict[str, Callable[[str], Any]] = {
    "dataclass": Settings,
    "slots": Slotted,
    "pydantic": lambda style: Model(style=style),
    "enum": lambda style: Colour(style),
    "namespace": lambda style: types.SimpleNamespace(inner=types.SimpleNamespace(style=style)),
    "set": lambda style: {style, "c", "d"},
    "path": Path,
    "pattern": re.compile,
    "moment": lambda style: datetime(2026, 1, ord(style) - 90, tzinfo=UTC),
    "decimal": lambda style: Decimal(ord(style)),
    "array": lambda style: np.array([ord(style), 2.0]),
    "texts": lambda style: np.array([style, "c"], dtype=object),
    "table": table,
    "deep": lambda style: {"all": [(Settings(style), {"x"})]},
    "a client of a library": lambda style: httpx.Client(base_url=f"https://{style}.example.org"),
    "type": lambda style: {"a": int, "b": float}[style],
    "method of a builtin": lambda style: {style: 1}.get,
    "partial": lambda style: functools.partial(print, style),
    "cached": lambda style: functools.cache(closing_over(style)),
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("way", ["partial", "closure", "global"])
def test_settings_of_any_kind_tell_two_applications_apart(held: str, way: str) -> None:
    def app(style: str) -> Any:
        value = HELD[held](style)
        if way == "partial":
            return functools.partial(answer, style=value)
        return closing_over(value) if way == "closure" else typed("def answer(case, bundle): return VALUE", VALUE=value)

    assert source(app("a")) == source(app("a")) != source(app("b"))
    assert app_identity(app("a"))["unread"] == ""


def test_another_key_or_a_used_client_is_the_same_application() -> None:
    """A key sets no answer, and that a connection is open now is no setting."""
    assert source(closing_over(Settings("a", api_key="1"))) == source(closing_over(Settings("a", api_key="2")))
    client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    app = closing_over(client)
    before = source(app)
    with client:
        client.get("https://example.org")
        assert source(app) == before


def test_a_lock_a_logger_and_a_running_loop_are_no_settings() -> None:
    held = (threading.Lock(), logging.getLogger("app"), asyncio.Semaphore(3), object())
    app = closing_over(held)
    before = app_identity(app)
    held[0].acquire()
    held[1].setLevel(10)
    assert app_identity(app) == before
    assert before["unread"] == ""


def test_what_cannot_be_read_is_named() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        identity = app_identity(closing_over(connection))
    assert identity["unread"] == "sqlite3.Connection"
    assert unread_notes(identity)
    assert unread_notes(app_identity(closing_over("a"))) == ()


def test_long_chains_of_calls_and_values_in_circles_come_to_an_end() -> None:
    chain = "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(3_000))
    source_of = f"{chain}\ndef f3000(): return LAST\ndef answer(case, bundle): return f0()"
    assert (
        source(typed(source_of, LAST="a")) == source(typed(source_of, LAST="a")) != source(typed(source_of, LAST="b"))
    )
    circle: list[Any] = ["a"]
    circle.append(circle)
    assert source(closing_over(circle)) != source(closing_over(["a", ["a"]]))


def test_a_million_settings_or_a_usual_application_are_read_soon() -> None:
    sources = "\n".join(f"def f{i}(x): return [f{i + 1}(y) for y in x if y]" for i in range(100))
    app = typed(f"{sources}\ndef f100(x): return x\ndef answer(case, bundle): return f0(case)")
    took_s = min(timeit.repeat(lambda: _Reached("typed").whole(app), number=1, repeat=3))
    assert took_s < 0.05


def test_a_helper_beside_it_counts_without_a_repository(tmp_path: Path) -> None:
    """In another process: it was edited between two runs. What it calls is followed, and files are read."""
    (tmp_path / "the_app.py").write_text("import helper\ndef answer(case, bundle): return helper.said()\n")
    told = "print(json.dumps(app_identity(the_app.answer)))"
    program = f"import json, the_app; from llmlab.engine.app import app_identity; {told}"
    identities = []
    for text in ("A = 1\ndef said(): return A\n", "A = 2\ndef said(): return A\n"):
        (tmp_path / "helper.py").write_text(text)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        ran = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        identities.append(json.loads(ran.stdout))
    first, second = identities
    assert first["commit"] == second["commit"] == ""
    assert first["source"] != second["source"]
    assert first["changes"] != second["changes"]


def test_the_settings_of_another_configuration_are_asked_for(tmp_path: Path) -> None:
    """As found: the second configuration was given the first one's answers, marked cached."""
    bundle = Bundle.from_prompt("{{ question }}", model="acme/m-1", temperature=0.0)
    golden = GoldenSet(cases=(Case(id="c", inputs={"question": "q"}, expected="Paris"),))

    def pipeline(case: Case, bundle: Bundle, settings: Settings) -> str:
        return "Paris" if settings.style == "good" else "Rome"

    answers = []
    for style in ("bad", "good", "good"):
        app = functools.partial(pipeline, settings=Settings(style))
        results = run(bundle, golden, app=app, store=tmp_path / "calls.sqlite", progress=False)
        answers += [(generation.text, generation.cached) for generation in results.generations()]
    assert answers == [("Rome", False), ("Paris", False), ("Paris", True)]
