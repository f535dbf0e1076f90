"""What an application reads: verified, quick, and still there while MLflow is down."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from llmlab.base.errors import FileRuleError, RegistryError, StoreError
from llmlab.bundle.export import Exported
from llmlab.registry import export, load, promote
from tests.registry.made import artifact, gated, moved, registered, released


def answered() -> None:
    """Waits for what is asked beside."""
    for thread in threading.enumerate():
        if thread.name == "llmlab-load":
            thread.join(20)


def test_a_warm_load_asks_nobody_and_states_its_age(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    served = load("qa@production")
    moved(registry, two)
    assert load("qa@production") is served
    assert 0 <= served.age_s < 60
    assert load("qa@production", max_age_s=0).version.number == 2


def test_an_unchanged_alias_is_not_downloaded_again(project: Path) -> None:
    released(project, 1)
    first = load("qa@production")
    artifact(project, "bundle.json").unlink()
    assert load("qa@production", max_age_s=0).bundle is first.bundle


def test_the_last_verified_bundle_is_served_while_mlflow_is_down_and_says_so(project: Path) -> None:
    """One warning, and not another wait for every request."""
    released(project, 1)
    first = load("qa@production")
    database = project / "mlruns" / "mlflow.db"
    gone = database.rename(database.with_suffix(".gone"))
    database.write_bytes(b"this is no database at all, but long enough to look like one" * 20)
    with pytest.warns(RuntimeWarning, match="Served from memory, verified"):
        served = load("qa@production", max_age_s=0)
    assert served.bundle is first.bundle
    assert "mlflow.db" in served.stale
    assert load("qa@production", max_age_s=60) is served
    database.unlink()
    gone.rename(database)
    assert load("qa@production", max_age_s=0).stale == ""


def test_whoever_has_a_bundle_waits_for_nobody_and_the_registry_is_asked_beside(project: Path) -> None:
    """Eight threads are served at once while the store hangs, one question is under way, and its answer is used."""
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    load("qa@production")
    moved(registry, two)
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")  # nobody can read until it ends
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            served = list(pool.map(lambda _: load("qa@production", max_age_s=1e-9).version.number, range(8)))
        assert served == [1] * 8
        assert time.monotonic() - begun < 1
        assert sum(thread.name == "llmlab-load" for thread in threading.enumerate()) == 1
        holder.execute("ROLLBACK")
    answered()
    assert load("qa@production").version.number == 2


def test_what_was_found_beside_is_told_by_the_next_load(project: Path) -> None:
    registry, _ = released(project, 1)
    load("qa@production")
    registry.client.delete_registered_model_alias("qa", "production")
    load("qa@production", max_age_s=1e-9)
    answered()
    with pytest.raises(RegistryError, match="has no alias"):
        load("qa@production")
    registry.client.set_registered_model_alias("qa", "production", "1")
    assert load("qa@production").version.number == 1


def test_where_nothing_was_loaded_before_eight_loads_of_a_dead_registry_fail_together(project: Path) -> None:
    """Nothing could be served, and none waits for the others' turns."""
    (project / "mlruns" / "mlflow.db").write_bytes(b"no database" * 200)

    def attempt(_: int) -> str:
        try:
            load("first@production")
        except StoreError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        assert all("mlflow.db" in told for told in pool.map(attempt, range(8)))


@pytest.mark.parametrize(
    ("reference", "message"), [("qa@staging", "has no alias 'staging'"), ("nobody@production", "no model 'nobody'")]
)
def test_an_alias_that_does_not_exist_is_told(project: Path, reference: str, message: str) -> None:
    released(project, 1)
    with pytest.raises(RegistryError, match=message):
        load(reference)


def test_an_export_is_read_without_mlflow_jupyter_or_numpy(project: Path, tmp_path: Path) -> None:
    """In an interpreter that has pydantic, YAML, Jinja and the digest's canonical JSON, and nothing else."""
    version, folder = gated(project)
    promote(version, experiment=folder, reason="r")
    file = export("qa@production", tmp_path / "qa.json")
    site = tmp_path / "site"
    site.mkdir()
    needed = (
        *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
        *("yaml", "jinja2", "markupsafe", "rfc8785", "llmlab"),
    )
    for name in needed:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin)
        place = origin.parent if origin.name == "__init__.py" else origin
        (site / place.name).symlink_to(place)
    code = "import sys; from llmlab.bundle.export import Exported; print(Exported.load(sys.argv[1]).bundle.digest)"
    command, environment = [sys.executable, "-S", "-c", code, str(file)], {**os.environ, "PYTHONPATH": str(site)}
    assert subprocess.check_output(command, env=environment, text=True, timeout=60).strip() == version.digest


def test_an_export_that_was_changed_is_refused(project: Path, tmp_path: Path) -> None:
    released(project, 1)
    file = export("qa@production", tmp_path / "qa.json")
    file.write_text(file.read_text(encoding="utf-8").replace("{{ question }}", "{{ question }}!"), encoding="utf-8")
    with pytest.raises(FileRuleError, match="registered was"):
        Exported.load(file)


@pytest.mark.bench
def test_a_cached_load_is_a_thousand_times_quicker_than_one_that_verifies(project: Path) -> None:
    """As a ratio within one run."""
    released(project, 1)
    begun = time.perf_counter()
    load("qa@production", max_age_s=0)
    asked = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(100):
        load("qa@production")
    assert (time.perf_counter() - begun) / 100 < asked / 20
