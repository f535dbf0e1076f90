"""The prompt of a bundle as an immutable value, and the messages that it makes of a case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from llmlab.base.documents import DEEPEST_NESTING, TOO_DEEP, Strict, read_text
from llmlab.base.errors import FileRuleError
from llmlab.base.project import inside_experiment, located
from llmlab.bundle.chat import turns
from llmlab.bundle.template import fill, pieces, placeholders

_LARGEST_TEMPLATE_CHARS = 1_000_000
LARGEST_INTEGER = 2**53 - 1  # what RFC 8785 can canonicalise


class _FrozenDict(dict[str, Any]):
    """A JSON object that cannot be changed after a digest was computed over it."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("this value is frozen; build a changed copy with `with_(...)`")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # dict has none, for it can change
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return (_FrozenDict, (dict(self),))


def frozen_json(value: Any) -> Any:
    """A JSON value that cannot be changed: mappings refuse it, lists become tuples; ValueError for anything else.

    >>> frozen_json({"a": [1, 2]})["a"]
    (1, 2)
    """
    return _frozen(value, DEEPEST_NESTING)


def _frozen(value: Any, levels: int) -> Any:
    if levels < 0:
        raise ValueError(TOO_DEEP)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be text")
        return _FrozenDict({key: _frozen(item, levels - 1) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item, levels - 1) for item in value)
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError(f"{value} is beyond 2**53 - 1, the largest integer that JSON carries; write it as text")
        return value
    if isinstance(value, float) and value - value == 0:  # neither NaN nor infinite
        return value
    raise ValueError(f"{value!r} is not a JSON value")


def _as_frozen(value: Any) -> _FrozenDict:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} must be a mapping of keys to values")
    frozen: _FrozenDict = frozen_json(value)
    try:
        json.dumps(frozen, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which no UTF-8 file can carry") from None
    return frozen


def _as_template(text: str) -> str:
    placeholders(text)
    return text


Frozen = Annotated[_FrozenDict, pydantic.PlainValidator(_as_frozen)]
Text = Annotated[str, Field(max_length=_LARGEST_TEMPLATE_CHARS)]
IS_TEMPLATE = pydantic.AfterValidator(_as_template)


class Example(Strict):
    """A few-shot example: the inputs that fill the template, and the answer the model should have given."""

    inputs: Frozen
    output: Text


class Prompt(Strict):
    """System text, user template and few-shot examples, all Jinja2 over a case's inputs (and `passages`)."""

    system: Annotated[Text, IS_TEMPLATE] = ""
    template: Annotated[Text, Field(min_length=1), IS_TEMPLATE]
    examples: Annotated[tuple[Example, ...], Field(strict=False)] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _or_its_template(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value

    @property
    def placeholders(self) -> frozenset[str]:
        """Names that system text and template need."""
        return placeholders(self.system) | placeholders(self.template)

    def messages(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """The chat messages for one case: system, examples, history, question. Inputs are inserted literally.

        A list of chat messages among the inputs becomes messages, a picture a part of one; other lists and mappings
        are inserted as JSON.
        """
        start = [{"role": "system", "content": fill(self.system, inputs)}] if self.system else []
        shots: list[dict[str, Any]] = []
        for example in self.examples:
            shots += [*turns(pieces(self.template, example.inputs)), {"role": "assistant", "content": example.output}]
        rendered = turns(pieces(self.template, inputs))
        n_system = next((i for i, message in enumerate(rendered) if message["role"] != "system"), len(rendered))
        return (*start, *rendered[:n_system], *shots, *rendered[n_system:])


def from_files(data: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """What a bundle's file says, with the texts that its prompt leaves to `system_file` and `template_file` put in.

    Paths start at the file and stay inside its experiment; the line end that closes a file is no part of its text.

    Raises:
        FileRuleError: a file is missing or elsewhere, or the text is given twice.
    """
    prompt = data.get("prompt")
    file_keys = [key for key in ("system_file", "template_file") if isinstance(prompt, dict) and key in prompt]
    if not isinstance(prompt, dict) or not file_keys:
        return data
    texts = {key: value for key, value in prompt.items() if key not in file_keys}
    for key in file_keys:
        field = key.removesuffix("_file")
        if field in texts:
            raise FileRuleError(f"prompt: {field} and {key} are both given; keep one", path=path)
        try:
            text = read_text(inside_experiment(str(prompt[key]), located(path).parent))
        except ValueError as error:
            raise FileRuleError(f"prompt.{key}: {error}", path=path) from None
        texts[field] = text.removesuffix("\n").removesuffix("\r")
    return {**data, "prompt": texts}
