"""A rollback without MLflow leaves the store as a rollback by MLflow's own client does, and costs a fraction."""

from __future__ import annotations

import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import RegistryError, StoreError
from llmlab.registry import connection, history, rollback
from llmlab.registry.light import light_client
from tests.registry.made import moved, registered
from tests.registry.test_team import Team

TABLES = ("registered_models", "model_versions", "model_version_tags", "registered_model_aliases")
NEVER_THE_SAME = re.compile(r"[0-9a-f]{32,64}|\d{4}-\d\d-\d\dT[\d:.+]+|[0-9a-f]{8}(?=`)")
CPU_S = 1.5


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The database of the project's store: the file itself, or what a real MLflow server writes to."""
    if request.param == "file":
        yield project / "mlruns" / "mlflow.db"
        return
    shutil.copy(project / "mlruns" / "mlflow.db", project / "team.db")
    server = Team(project, f"sqlite:///{project}/team.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    yield project / "team.db"
    server.stop()


def harmed(project: Path, name: str) -> list[str]:
    """A history with whatever may befall one, rolled back at each step; what was said."""
    registry, versions = registered(project, 5, name=name)
    client = connection.client_of(registry.store.uri, registry.uri)
    said: list[str] = []

    def back(**how: Any) -> None:
        try:
            said.append(rollback(name, reason="complaints", **how)._sentence())
        except (RegistryError, StoreError) as error:
            said.append(f"{type(error).__name__}: {error}")

    for version in versions:
        moved(registry, version)
    back()  # 5 -> 4
    client.delete_model_version(name, "3")
    back()  # passes over 3
    client.delete_registered_model_alias(name, "production")
    back()  # puts it back
    client.set_registered_model_alias(name, "production", "5")
    back()
    client.set_model_version_tag(name, "1", "digest", "0" * 64)
    back(to=1)  # named, although it cannot be read
    back(to=3)
    back(to=9)
    back(alias="canary")
    said.append(str(history(name)))
    return said


def rows(database: Path, name: str) -> dict[str, list[tuple[object, ...]]]:
    """All that the registry's tables hold of a model, without moments, ids and the name."""
    with closing(sqlite3.connect(database)) as opened:
        found = {}
        for table in TABLES:
            cursor = opened.execute(f"SELECT * FROM {table} WHERE name IN (?, ?)", (name, f"{name}__history"))
            names = [column[0] for column in cursor.description]
            kept = [i for i, column in enumerate(names) if "_time" not in column]
            told = (tuple(NEVER_THE_SAME.sub("*", str(row[i])).replace(name, "NAME") for i in kept) for row in cursor)
            found[table] = sorted(told, key=str)
    return found


@pytest.mark.slow
def test_every_row_and_every_word_is_as_by_mlflows_own_client(
    database: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert light_client(connection.store_uri(project)) is not None
    light = harmed(project, "qalight")
    monkeypatch.setattr(connection, "light_client", lambda _uri: None)
    own = harmed(project, "qawhole")
    same = [NEVER_THE_SAME.sub("*", said).replace("qawhole", "qalight") for said in own]
    assert [NEVER_THE_SAME.sub("*", said) for said in light] == same
    assert rows(database, "qalight") == rows(database, "qawhole")
    assert len(rows(database, "qalight")["model_versions"]) > 10


def test_what_it_does_not_know_is_left_to_mlflow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{project}/mlruns/mlflow.db"
    assert light_client(uri) is not None
    assert light_client("http://127.0.0.1:5000") is not None
    assert light_client("https://anna:word@mlflow.example.org") is None
    assert light_client("postgresql+psycopg2://llmlab@127.0.0.1/mlflow") is None
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "a-plugin")
    assert light_client("http://127.0.0.1:5000") is None
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'of a later MLflow'")
    assert light_client(uri) is None
    assert light_client(f"sqlite:///{project}/none.db") is None


@pytest.mark.slow
def test_the_command_costs_less_than_a_second_and_a_half_of_cpu_and_imports_no_mlflow(project: Path) -> None:
    """On a history of 20 moves; the best of three, for a first one compiles bytecode."""
    registry, versions = registered(project, 2)
    for version in versions * 10:
        moved(registry, version)
    took_s = []
    for to in ("1", "2", "1"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *f"-X importtime -m llmlab.cli rollback qa --reason r --to {to}".split()]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        imported = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
        assert imported.isdisjoint({"mlflow", "pandas", "scipy", "statsmodels", "matplotlib", "sqlalchemy"})
    print(f"a rollback: {min(took_s):.2f} CPU s")
    assert min(took_s) < CPU_S
