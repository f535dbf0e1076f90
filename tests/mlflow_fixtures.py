"""Real MLflow stores for tests: migrated once per session, and as good as new for each test."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
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


@pytest.fixture(scope="session")
def _emptied_root(_migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Gives the root of an empty project: the same one again, whose MLflow client has compiled its SQL already.

    Another one where a test left a database that cannot be written over, or a second one that a client knows of.
    """
    used: list[tuple[Path, int]] = []  # and the database's inode, which MLflow's client holds open

    def emptied() -> Path:
        if not used or not _restored(*used[-1], template=_migrated_database):
            root = tmp_path_factory.mktemp("of_tests") / "project"
            (root / "mlruns").mkdir(parents=True)
            used.append((root, Path(shutil.copy(_migrated_database, root / "mlruns")).stat().st_ino))
        root, _ = used[-1]
        kept = (root / "mlruns", root / "mlruns" / "mlflow.db")
        for path in [*root.iterdir(), *kept[0].iterdir()]:
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (root / "pyproject.toml").touch()
        for name, module in list(sys.modules.items()):  # of a folder's own scorers, say
            if (getattr(module, "__file__", None) or "").startswith(f"{root}/"):
                del sys.modules[name]
        return root

    return emptied


def _restored(root: Path, inode: int, *, template: Path) -> bool:
    """Whether the project's database is still the file that it was, and could be made a copy of the template."""
    database = root / "mlruns" / "mlflow.db"
    if [*root.rglob("*.db")] != [database] or database.stat().st_ino != inode:
        return False
    try:
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(database, timeout=1)) as target:
            source.backup(target)
    except sqlite3.Error:
        return False
    return True


@pytest.fixture
def project(_emptied_root: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of an empty project with an empty tracking store, which is the current folder too."""
    from llmlab.registry import serving

    root = _emptied_root()
    for known in (serving._cache, serving._asked, serving._asking, serving._refused, serving._told):
        known.clear()  # it may be the root of another test before
    for name in ("MLFLOW_TRACKING_URI", "GITHUB_ACTIONS", "GITLAB_CI", "LLMLAB_SIGNING_KEY"):
        monkeypatch.setenv(name, "")  # so that it is gone afterwards too: MLflow sets the first one
        monkeypatch.delenv(name)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def help_desk(project: Path) -> Path:
    """A project that holds the experiments, the current folder; gives the folder of the embedded default."""
    shutil.copytree(Path(__file__).parents[1] / "experiments", project / "experiments")
    return project / "experiments" / "pandas_help"
