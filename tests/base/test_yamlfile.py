"""YAML is read strictly: every refusal names file, line and rule."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.documents import LARGEST_TEXT_BYTES, read_text
from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import parse_yaml, read_model, to_yaml

REFUSED = [
    ("a: 1\nb: 2\na: 3", 3, "duplicate key 'a' (first on line 1)"),
    ("a:\n  b: 1\n  b: 2", 3, "duplicate key 'b' (first on line 2)"),
    ("a: 1\nb: !!python/object/apply:os.system ['id']", 2, "tags are not allowed"),
    ("a: !custom 1", 1, "tags are not allowed"),
    ("a: !!binary aGk=", 1, "tags are not allowed"),
    ("a: &x 1\nb: *x", 1, "anchors and aliases"),
    ("a: 1\n<<: *x", 2, "anchors and aliases"),
    ("a: 1\nb: .nan", 2, ".nan is not a number"),
    ("a: .inf", 1, ".inf is not a number"),
    ("a: -.inf", 1, "-.inf is not a number"),
    ("a: 2024-08-06", 1, "was read as a date; quote it"),
    ("a: 2024-13-45", 1, "quote it"),
    (f"a: {'9' * 5000}", 1, "quote it"),
    ("a: 1\n2: b", 2, "the key '2' must be text; quote it"),
    ("on: 1", 1, "the key 'on' must be text"),
    ("~: 1", 1, "must be text"),
    ("? [a, b]\n: 1", 1, "must be text"),
    ("a: [1,\nb: 2", 2, "is not YAML"),
    ("a: 'open", 1, "is not YAML"),
    ("a: b: c", 1, "is not YAML"),
    ("a: 1\n\tb: 2", 2, "is not YAML"),
    ("a: 1\n---\nb: 2", 2, "is not YAML"),
    ("a: @x", 1, "is not YAML"),
    ('a: "\\U00110000"', 1, "is not YAML"),
]


@pytest.mark.parametrize(("text", "line", "rule"), REFUSED)
def test_a_trick_is_refused_with_file_line_and_rule(text: str, line: int, rule: str) -> None:
    with pytest.raises(FileRuleError) as found:
        parse_yaml(text, path="bundles/v1.yaml")
    assert found.value.line == line
    assert rule in found.value.rule
    assert str(found.value).startswith(f"bundles/v1.yaml:{line}: ")


def test_the_line_of_every_value_is_known() -> None:
    data, places = parse_yaml("a:\n  - 1\n  - b: |\n      text\n", path="x.yaml")
    assert data == {"a": [1, {"b": "text\n"}]}
    assert places["a", 0].line == 2
    assert places["a", 1, "b"] == (3, "text\n", True)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_line_ends_do_not_change_what_is_read(end: str) -> None:
    text = end.join(["a: |", "  one", "  two", "b: 'x'", ""])
    assert parse_yaml(text, path="x.yaml")[0] == {"a": "one\ntwo\n", "b": "x"}


def test_bad_utf8_and_large_or_missing_files_are_refused_with_their_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(FileRuleError, match="not UTF-8") as found:
        read_text(bad)
    assert found.value.line == 2
    large = tmp_path / "large.yaml"
    large.write_bytes(b" " * (LARGEST_TEXT_BYTES + 1))
    with pytest.raises(FileRuleError, match="bytes, must be at most"):
        read_text(large)
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(FileRuleError, match="cannot be read"):
            read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse_yaml(read_text(path), path=path)[0] == {"a": 1}


class _Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    version: str
    size: int = 1


class _Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    inner: _Inner


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("inner:\n  version: 1.10", 2, 'inner.version: 1.10 was read as a float; quote it: "1.10"'),
        ("inner:\n  version: 0x1F", 2, 'quote it: "0x1F"'),
        ("inner:\n  version: 1_0", 2, 'quote it: "1_0"'),
        ("inner:\n  version: yes", 2, 'yes was read as a bool; quote it: "yes"'),
        ('inner:\n  version: "1"\n  sizes: 2', 3, "unknown key 'inner.sizes'"),
        ("inner:\n  size: 2", 2, "the key 'inner.version' is missing"),
        ('inner:\n  version: "1"\n  size: "2"', 3, "inner.size"),
        ("inner: 3", 1, "inner"),
        ("- a", 1, "must be a mapping"),
        ("", 1, "must be a mapping"),
        ("just text", 1, "must be a mapping"),
    ],
)
def test_a_broken_model_rule_names_the_key_and_its_line(tmp_path: Path, text: str, line: int, rule: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileRuleError) as found:
        read_model(_Outer, path)
    assert found.value.line == line
    assert rule in found.value.rule


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(min_size=1), JSON, max_size=4))
def test_what_is_written_is_read_back_the_same(value: dict[str, object]) -> None:
    assert parse_yaml(to_yaml(value), path="x.yaml")[0] == value


@pytest.mark.parametrize(
    "text", ["a\n", "a\n\n", "\n a", "a\r\nb", "  x\ny", "#\n", "yes", "1.0", "2024-01-01", "a: b\nc", "\t\nx"]
)
def test_long_and_odd_texts_survive_writing(text: str) -> None:
    assert parse_yaml(to_yaml({"t": text}), path="x.yaml")[0] == {"t": text}
    assert yaml.safe_load(to_yaml({"t": text})) == {"t": text}
