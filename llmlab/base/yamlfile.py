"""YAML that people write, read strictly, with the line of every value kept for error messages.

Refused: tags, anchors and aliases (so no alias bomb), duplicate keys, keys that are not strings, NaN and
infinities, dates, files over 1 MB, bad UTF-8. `bundle`, `gate`, endpoints and the model catalogue read through here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import pydantic
import yaml

from llmlab.base.documents import DEEPEST_NESTING, TOO_DEEP, Strict, read_text
from llmlab.base.errors import FileRuleError

Model = TypeVar("Model", bound=pydantic.BaseModel)
One = TypeVar("One")


class Written(NamedTuple):
    """How a value stands in its file: the line it begins on, its own text, and whether that is a block after `|`."""

    line: int
    text: str = ""
    is_block: bool = False


Places = dict[tuple[str | int, ...], Written]


class OfFolder(dict[str, One]):
    """What a folder's files say, by name; FileRuleError for a name that is not there says which are."""

    def __init__(self, folder: str | Path, files: Mapping[str, One]) -> None:
        super().__init__(files)
        self.folder = folder

    def __missing__(self, name: str) -> One:
        raise FileRuleError(f"no {name!r} in this folder (there are: {', '.join(self)})", path=self.folder)


class OfFile(Strict):
    """Fields that people write as a YAML file."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What the file says; FileRuleError with file, line and rule for anything that it may not say."""
        return read_model(cls, path)

    def to_yaml(self) -> str:
        """The file's text, defaults left out."""
        return to_yaml(self.model_dump(mode="json", exclude_defaults=True, exclude_none=True))


def parse_yaml(text: str, *, path: str | Path) -> tuple[Any, Places]:
    """Plain values and how each is written, keyed by its path such as ("sampling", "temperature").

    >>> value, places = parse_yaml("a:\\n  b: 1.10", path="x.yaml")
    >>> value, places["a", "b"]
    ({'a': {'b': 1.1}}, Written(line=2, text='1.10', is_block=False))
    """
    places: Places = {}
    loader = None
    try:
        loader = _Plain(text, path)
        node = loader.get_single_node()
        return (None if node is None else _value(node, (), places, loader, path)), places
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise FileRuleError(f"is not YAML ({error.problem})", path=path, line=line) from None
    except yaml.reader.ReaderError as error:
        rule, line = f"is not YAML (character {error.character:#x} is not allowed)", text[: error.position].count("\n")
        raise FileRuleError(rule, path=path, line=line + 1) from None
    except RecursionError:
        raise FileRuleError(TOO_DEEP, path=path) from None
    except ValueError as error:  # an escaped character beyond Unicode
        at = None if loader is None else loader.line + 1
        raise FileRuleError(f"is not YAML ({error})", path=path, line=at) from None
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: str | Path) -> tuple[Any, Places]:
    """What `parse_yaml` makes of a file."""
    return parse_yaml(read_text(path), path=path)


def read_model(
    model: type[Model], path: str | Path, *, completed: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> Model:
    """The file as a pydantic model; the first broken rule is a FileRuleError with file and line.

    `completed` gives what the file says with what it leaves to other files.
    """
    data, places = read_yaml(path)
    if not isinstance(data, dict):
        raise FileRuleError("must be a mapping of keys to values", path=path, line=1)
    try:
        return model.model_validate(completed(data) if completed else data)
    except pydantic.ValidationError as error:
        from llmlab.base.broken import said_of  # only where a file is wrong

        first = error.errors(include_url=False)[0]
        place = tuple(first["loc"])
        exact = place in places
        while place not in places:  # a key that is missing: the line of what it is missing from
            place = place[:-1]
        position = places[place]
        rule = said_of(first, model, written=position.text if exact else "")
        inside = getattr(first.get("ctx", {}).get("error"), "template_line", 0) if position.is_block else 0
        raise FileRuleError(rule, path=path, line=position.line + inside) from None


def to_yaml(value: Any) -> str:
    """Plain values as YAML in the given key order, long texts as blocks."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Plain(yaml.SafeLoader):
    """PyYAML's loader without what makes YAML dangerous or surprising; what it refuses it refuses where it stands."""

    def __init__(self, text: str, path: str | Path) -> None:
        super().__init__(text)
        self.path, self.depth = path, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        parser: Any = self  # whose stubs leave this call untyped
        event = parser.peek_event()
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            rule = "anchors and aliases (& and *) are not allowed; write the value out"
            raise FileRuleError(rule, path=self.path, line=line)
        if tag := getattr(event, "tag", None):
            raise FileRuleError(f"tags are not allowed: {tag}", path=self.path, line=line)
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        if self.depth > DEEPEST_NESTING:  # PyYAML's time grows with the square of the depth
            raise FileRuleError(TOO_DEEP, path=self.path, line=line)
        node = super().compose_node(parent, index)
        self.depth -= isinstance(event, yaml.CollectionStartEvent)
        return node


def _value(node: yaml.Node, place: tuple[str | int, ...], places: Places, loader: Any, path: str | Path) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        places[place] = Written(line, node.value, vars(node)["style"] == "|")
    else:
        places[place] = Written(line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, i), places, loader, path) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, key_line = key_node.value, key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise FileRuleError(f"the key {key!r} must be text; quote it", path=path, line=key_line)
            if key in mapping:
                first = places[(*place, key)].line
                raise FileRuleError(f"duplicate key {key!r} (first on line {first})", path=path, line=key_line)
            mapping[key] = _value(value_node, (*place, key), places, loader, path)
        return mapping
    try:
        value = loader.construct_object(node)
    except ValueError:  # the 45th of a month, a number of 5,000 digits
        raise FileRuleError(f"{node.value[:60]!r} is no date or number; quote it", path=path, line=line) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise FileRuleError(f"{node.value} is not a number that can be used here", path=path, line=line)
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise FileRuleError(f"{node.value!r} was read as a {type(value).__name__}; quote it", path=path, line=line)
    return value


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # the signature is PyYAML's
        return True


_OTHER_BREAKS = frozenset("\r\x85\u2028\u2029")  # YAML reads them as line ends unless they are escaped


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and not any(line != line.rstrip() for line in text.split("\n")) else None
    style = '"' if _OTHER_BREAKS & set(text) else style
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
