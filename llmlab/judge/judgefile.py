"""A judge as a YAML file, strict: a bundle's file with its rubric in it. What is left out is the standard judge's.

name: judge_correctness
version: "1.0.0"
kind: pointwise                 # or pairwise
rubric: correctness             # a ready one, or {name, question, anchors: {"1": ..., "2": ...}, needs: [reference]}
model: {provider: openai, id: gpt-4o-2024-08-06}
sampling: {temperature: 0.0, max_tokens: 600}
prompt: {system: ..., template: ...}      # where it is yours; it must hold the rubric and frame the answer
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from llmlab.base.documents import Strict, write_whole
from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import read_model, to_yaml
from llmlab.bundle.bundle import Bundle, ModelRef, Sampling
from llmlab.bundle.prompt import Frozen, Prompt
from llmlab.judge.prompts import Judge
from llmlab.judge.rubrics import Rubric, rubric

__all__ = ["JudgeFile", "RubricFile", "read_judge", "write_judge"]


class RubricFile(Strict):
    """A rubric of one's own; the keys of `anchors` are the levels, written as text."""

    name: str
    question: str
    anchors: Mapping[Annotated[str, Field(pattern=r"^-?[0-9]{1,4}$")], str]
    needs: Annotated[tuple[Literal["reference", "passages"], ...], Field(strict=False)] = ()

    @pydantic.model_validator(mode="after")
    def _is_a_rubric(self) -> RubricFile:
        self.rubric()
        return self

    def rubric(self) -> Rubric:
        """As a value, worst level first whatever the order of the file."""
        anchors = tuple(sorted((int(level), text) for level, text in self.anchors.items()))
        return Rubric(name=self.name, question=self.question, anchors=anchors, needs=self.needs)


def _spelt_out(given: Any) -> Any:
    """A ready rubric for its name."""
    return _about(rubric(given)) if isinstance(given, str) else given


class JudgeFile(Strict):
    """What a judge's file may hold."""

    name: str | None = None
    version: str | None = None
    kind: Literal["pointwise", "pairwise"] = "pointwise"
    rubric: Annotated[RubricFile, pydantic.BeforeValidator(_spelt_out)]
    model: ModelRef
    sampling: Sampling | None = None
    prompt: Prompt | None = None
    metadata: Frozen = Field(default_factory=lambda: Frozen())

    @pydantic.model_validator(mode="after")
    def _can_judge(self) -> JudgeFile:
        self.judge()
        return self

    def judge(self) -> Judge:
        """The judge that the file describes."""
        one = self.rubric.rubric()
        standard = (Judge.pointwise if self.kind == "pointwise" else Judge.pairwise)(one, model=self.model)
        given = {key: getattr(self, key) for key in ("name", "version", "sampling", "prompt") if getattr(self, key)}
        bundle = Bundle.model_validate({**_fields(standard.bundle), **given, "metadata": self.metadata})
        return Judge(bundle=bundle, rubric=one, kind=self.kind)


def read_judge(path: str | Path) -> Judge:
    """What `Judge.load` gives."""
    return read_model(JudgeFile, path).judge()


def write_judge(judge: Judge, path: str | Path) -> Path:
    """What `Judge.save` does; refuses to overwrite a file that holds another judge of the same version."""
    target, bundle = Path(path), judge.bundle
    if (
        target.exists()
        and (there := read_judge(target)).digest != judge.digest
        and there.bundle.version == bundle.version
    ):
        raise FileRuleError(
            f"holds version {bundle.version} with other content; give the changed judge a new version", path=path
        )
    kept = bundle.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    head = {"name": kept.pop("name"), "version": kept.pop("version"), "kind": judge.kind}
    return write_whole(target, to_yaml({**head, "rubric": _about(judge.rubric), **kept}))


def _about(one: Rubric) -> dict[str, Any]:
    anchors = {str(level): text for level, text in one.anchors}
    return {"name": one.name, "question": one.question, "anchors": anchors} | (
        {"needs": list(one.needs)} if one.needs else {}
    )


def _fields(bundle: Bundle) -> dict[str, Any]:
    return {name: getattr(bundle, name) for name in Bundle.model_fields}
