"""What commands print: control characters of files, ids and answers are shown, never obeyed (row 88)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmlab import registry, tracking
from llmlab.cli import main
from tests.payloads import TERMINAL
from tests.registry.made import bundle, judged

HOSTILE = "".join(text.replace("\0", "").replace("\n", "") for text in TERMINAL)
CONTROLS = frozenset(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x202E])) - {"\n", "\t"}


def said(*arguments: object) -> str:
    """Everything that a command prints, on both streams."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.output + done.stderr


def assert_tame(text: str) -> None:
    assert text
    assert not CONTROLS & set(text), sorted(CONTROLS & set(text))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with hostile tables, runs, questions and notebooks."""
    rows = "\n".join(f'"{HOSTILE}{i}",{i % 2},{(i + 1) % 2},"{HOSTILE}"' for i in range(8))
    (tmp_path / "s.csv").write_bytes(f"id,a,b,tag\n{rows}\n".encode())
    (tmp_path / "v.csv").write_bytes(f"human,judge,tag\n1,1,{HOSTILE}\n2,2,x\n1,2,x\n2,1,x\n".encode())
    (tmp_path / "q.qrels").write_bytes(b"q\x1b[31m1 0 d1 1\nq2 0 d2 1\n")
    (tmp_path / "r.run").write_bytes(b"q\x1b[31m1 Q0 d1 1 2.0 x\nq2 Q0 d1 1 2.0 x\n")
    (tmp_path / "bad.yaml").write_text(json.dumps({HOSTILE: 1}))
    (tmp_path / "bad.ipynb").write_text("{}" + HOSTILE)
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return tmp_path


def test_commands_on_hostile_files_print_no_control_character(files: Path, project: Path) -> None:
    for arguments in (
        ("compare", files / "s.csv", "--baseline", "a", "--candidate", "b", "--id", "id", "--category", "tag"),
        ("compare", files / "s.csv", "--baseline", HOSTILE, "--candidate", "b", "--id", "id"),
        ("calibrate", files / "v.csv", "--human", "human", "--judge", "judge", "--by", "tag"),
        ("calibrate", files / f"{HOSTILE.replace('/', '_')}.csv", "--human", "human", "--judge", "judge"),
        ("retrieval", files / "q.qrels", files / "r.run", "--per-query"),
        ("run", files / "bad.ipynb"),
        ("run", files / "n.ipynb", "-p", HOSTILE, HOSTILE),
        ("models", files / "bad.yaml"),
        ("check-model", HOSTILE),
        ("gate", HOSTILE),
        ("new", HOSTILE, "--csv", files / "s.csv"),
        ("promote", HOSTILE, "--reason", HOSTILE),
        ("rollback", HOSTILE, "--reason", HOSTILE),
        ("history", HOSTILE),
        ("export", HOSTILE),
        (HOSTILE,),
    ):
        assert_tame(said(*arguments))


def test_the_registrys_history_and_audit_print_hostile_reasons_as_text(project: Path) -> None:
    results, decision, folder = judged(project)
    version = registry.register(results.bundles["new"], receipt=decision.receipt())
    registry.promote(version, experiment=folder, reason=HOSTILE)
    registry.register(bundle(k=5, template=f"{{{{ question }}}} {HOSTILE}"))
    tracking.log(results, decision)
    for arguments in (("history", "qa"), ("audit",), ("rollback", "qa", "--reason", HOSTILE)):
        assert_tame(said(*arguments))
    assert_tame(f"{registry.history('qa')}{registry.history('qa')!r}")
