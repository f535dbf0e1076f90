"""Sealed documents: written and read back equal, and any change is noticed."""

import errno
import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from llmlab.base.documents import Sealed, digest_of, whole_file, write_whole
from llmlab.base.errors import FileRuleError


class Note(Sealed):
    """A document with one line of text."""

    _noun: ClassVar[str] = "note"
    _file: ClassVar[str] = "note"
    text: str
    more: dict[str, float]


def test_what_is_saved_comes_back_equal(tmp_path: Path) -> None:
    note = Note(text="Grüße ☃", more={"b": 1.0, "a": 0.1})
    assert Note.load(note.save(tmp_path / "note.json")) == note
    assert note.digest == digest_of(note) == Note(text="Grüße ☃", more={"a": 0.1, "b": 1.0}).digest


class LaterNote(Note):
    """The same document after an upgrade that added fields."""

    level: float = 0.95
    tags: dict[str, str] = Field(default_factory=dict)


def test_a_field_that_a_later_version_adds_leaves_older_documents_good() -> None:
    """They are still what was written, and known by the same digest; what is set in it counts."""
    before = Note(text="kept", more={})
    after = LaterNote.from_json(before.to_json())
    assert after.digest == before.digest
    assert LaterNote(text="kept", more={}, level=0.9).digest != before.digest


@pytest.mark.parametrize("change", [{"text": "other"}, {"digest": "0" * 64}])
def test_a_change_of_text_or_digest_is_noticed(change: dict[str, str]) -> None:
    with pytest.raises(FileRuleError, match=r"note\.json.*was changed after it was written"):
        Note.from_json(json.dumps({**json.loads(Note(text="kept", more={}).to_json()), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "x"}', '{"digest": "x", "text": 1}'])
def test_anything_else_is_no_such_document(text: str) -> None:
    with pytest.raises(FileRuleError, match="is no note"):
        Note.from_json(text)


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    """Also where it is a link, and without a trace of the attempt."""
    target, link = tmp_path / "kept.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    write_whole(link, "before")

    def torn() -> None:
        with whole_file(link) as part:
            part.write_text("half of it", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert (link.is_symlink(), target.read_text(encoding="utf-8")) == (True, "before")
    assert sorted(tmp_path.iterdir()) == [target, link]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """As found: `llmlab export NAME@ALIAS /dev/full` made a file of the device, for root."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="is no file that may be replaced"):
            write_whole(path, "text")
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    def full() -> None:
        with whole_file(tmp_path / "kept.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*kept\.txt'"):
        full()
