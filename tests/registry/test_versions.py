"""Registering: one version per digest, refusals, and a description that a browser can only read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmlab.base.errors import DataError, FloatingModelError, StoreError
from llmlab.bundle.bundle import Bundle
from llmlab.registry import register
from llmlab.registry.connection import open_registry
from llmlab.registry.versions import read_bundle, resolve
from tests.registry.made import bundle, gated, judged


def test_the_same_digest_is_the_same_version_whatever_its_name_and_notes(project: Path) -> None:
    """Version and metadata are outside the digest."""
    first = register(bundle())
    again = register(bundle().model_copy(update={"version": "9.9", "metadata": {"notes": "other"}}))
    assert (again.number, again.run_id) == (first.number, first.run_id)
    assert register(bundle(k=1)).number == 2


def test_a_version_lies_over_the_artifacts_of_the_run_that_measured_it(project: Path) -> None:
    """So that MLflow's page links to the run, its cases and its figures."""
    results, _, _ = judged(project)
    version = register(results.bundles["new"])
    run = open_registry().store.client.get_run(version.run_id)
    assert run.data.tags["variant"] == "new"
    assert version.source == f"{run.info.artifact_uri}/bundle"


def test_a_newer_receipt_is_added_to_the_version_that_is_there(project: Path) -> None:
    results, decision, _ = judged(project)
    receipt = decision.receipt()
    older = receipt.model_copy(update={"created_at": "2020-01-01T00:00:00+00:00"})
    assert register(results.bundles["new"]).gate == ""
    assert register(results.bundles["new"], receipt=older).receipt == older.digest
    assert register(results.bundles["new"], receipt=receipt).receipt == receipt.digest
    with pytest.warns(RuntimeWarning, match="keeps its receipt"):
        assert register(results.bundles["new"], receipt=older).receipt == receipt.digest


def test_the_description_lets_a_person_decide(project: Path) -> None:
    version, _ = gated(project)
    shown = open_registry().version("qa", 1).description
    facts = (
        "**PASS**",
        "proved better",
        version.digest,
        "gpt-4o-2024-08-06",
        "temperature",
        "question",
        "Registered by",
    )
    assert [fact for fact in facts if fact not in shown] == []
    assert len(shown) <= 5000
    assert "/#/models/qa/versions/1" in str(version)


def test_a_very_long_prompt_is_cut_and_said_so(project: Path) -> None:
    """The database has room for 5,000 characters; the artifact has all of it."""
    long = bundle(template="{{ question }} " + "word " * 20_000)
    version = register(long)
    shown = open_registry().version("qa", 1).description
    assert len(shown) <= 5000
    assert "100,015 characters" in shown
    assert read_bundle(open_registry(), version) == long


def test_an_unpinned_model_is_refused(project: Path) -> None:
    floating = Bundle.from_prompt("{{ question }}", model="openai/gpt-4o", name="qa")
    with pytest.raises(FloatingModelError, match="not pinned"):
        register(floating)


def test_a_key_in_a_bundle_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-51c0ffee")
    with pytest.raises(DataError, match="OPENAI_API_KEY"):
        register(bundle(template="{{ question }} canary-51c0ffee"))
    assert b"canary-51c0ffee" not in (project / "mlruns" / "mlflow.db").read_bytes()


def test_two_processes_that_register_at_once_get_the_same_version(project: Path) -> None:
    open_registry()
    with ThreadPoolExecutor(4) as pool:
        numbers = {version.number for version in pool.map(lambda _: register(bundle()), range(4))}
    assert numbers == {1}
    assert len(open_registry().versions("qa")) == 1


@pytest.mark.parametrize("reference", ["qa", "qa/x", "/1", "qa@v1", "q'a@production"])
def test_a_reference_that_names_nothing_is_a_value_error(project: Path, reference: str) -> None:
    """Quotes cannot end a search string either."""
    with pytest.raises(ValueError, match=r"names no|alias =="):
        resolve(open_registry(), reference)


def test_names_with_a_catalog_and_a_schema_are_registered_as_they_are(project: Path) -> None:
    """As Unity Catalog wants them."""
    version = register(bundle(name="main.prod.qa"))
    assert resolve(open_registry(), "main.prod.qa/1").digest == version.digest


def test_the_registry_may_lie_elsewhere_at_an_address_that_is_read_from_the_project_wherever_one_stands(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook runs in `notebooks/`, and would make a registry of its own there; a folder is refused as one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///other.db")
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    register(bundle())
    assert [path.parent for path in project.rglob("other.db")] == [project]
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "mlruns")
    with pytest.raises(StoreError, match="a folder"):
        register(bundle(k=1))
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert open_registry().model("qa") is None
