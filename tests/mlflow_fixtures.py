"""Real MLflow stores for tests: migrated once per session, copied per test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly migrated database; making one takes seconds."""
    from llmlab.tracking.store import open_store

    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(root)
    return root / "mlruns" / "mlflow.db"


@pytest.fixture
def project(_migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of an empty project with an empty tracking store, which is the current folder too."""
    root = tmp_path / "project"
    (root / "mlruns").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    shutil.copy(_migrated_database, root / "mlruns" / "mlflow.db")
    for name in ("MLFLOW_TRACKING_URI", "GITHUB_ACTIONS", "GITLAB_CI", "LLMLAB_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    return root
