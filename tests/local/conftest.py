"""The small model, one test at a time: two servers on the same cores would slow each other down."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from llmlab.local.setup import LocalModel, LocalModelError

SMALL = "smollm2-135m-instruct"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModel]:
    """The installed model, with state files of this test's own; skips where it is not installed."""
    found = LocalModel.of(SMALL)
    try:
        found.require_ready()
    except LocalModelError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with FileLock(Path(tempfile.gettempdir()) / "llmlab-tests-local.lock"):
        yield found
