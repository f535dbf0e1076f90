"""One tree of errors, drawn at the top of its module, each carrying its facts."""

from __future__ import annotations

import inspect
import re

import pytest

from llmlab.base import errors
from llmlab.base.errors import CallError, FileRuleError, FloatingModelError, LlmlabError, PromptError, RunFailedError


def test_the_drawing_names_every_error_under_its_parent() -> None:
    lines = re.findall(r"^([│ ├└─]*)([A-Z]\w+Error)\b", errors.__doc__ or "", flags=re.MULTILINE)
    drawn = [(len(indent) // 4, name) for indent, name in lines]
    parents: dict[int, str] = {}
    for depth, name in drawn:
        parents[depth] = name
        if depth:
            assert getattr(errors, name).__bases__[0].__name__ == parents[depth - 1]
    assert sorted(name for _, name in drawn) == sorted(errors.__all__)


def test_all_is_sorted_and_whole() -> None:
    classes = [
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, LlmlabError)
    ]
    assert errors.__all__ == sorted(classes)


@pytest.mark.parametrize(("line", "start"), [(3, "a/b.yaml:3: rule"), (None, "a/b.yaml: rule")])
def test_a_file_error_says_where(line: int | None, start: str) -> None:
    error = FileRuleError("rule", path="a/b.yaml", line=line)
    assert str(error) == start
    assert (error.rule, error.path.name, error.line) == ("rule", "b.yaml", line)


def test_errors_carry_their_facts() -> None:
    floating = FloatingModelError(provider="openai", model_id="gpt-4o", reason="an alias")
    assert "pin_override" in str(floating)
    assert CallError("x", status_code=429, retry_after_s=1.5, attempts=3).attempts == 3
    assert PromptError("x", variant="v1", case_ids=("q1",)).case_ids == ("q1",)
    assert RunFailedError("x", results=[1]).results == [1]
