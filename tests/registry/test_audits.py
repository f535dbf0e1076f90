"""The audit: what somebody changed behind llmlab's back is adopted or told, never passed over."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from llmlab.base.errors import RegistryError
from llmlab.registry import audit, history, load, rollback
from tests.registry.made import alias_now, artifact, moved, registered, released


def test_a_registry_that_nobody_touched_is_clean(project: Path) -> None:
    released(project, 2)
    found = audit()
    assert found.findings == ()
    assert "1 model, 2 versions: 0 wrong" in str(found)


def test_an_audit_of_a_project_without_a_store_makes_none(tmp_path: Path) -> None:
    assert audit(root=tmp_path).models == ()
    assert not list(tmp_path.iterdir())


def test_an_alias_set_by_hand_without_a_receipt_is_reported(project: Path) -> None:
    """It is not moved back: the audit tells, a person decides."""
    registry, (one, _) = registered(project, 2)
    moved(registry, one)
    registry.client.set_registered_model_alias("qa", "production", "2")
    (finding,) = audit().wrong
    assert "set to version 2 by hand, the history says version 1; it has no receipt" in finding.what
    assert alias_now(registry) == 2


def test_a_tampered_bundle_is_found_and_never_loaded(project: Path) -> None:
    released(project, 1)
    file = artifact(project, "bundle.json")
    file.write_text(file.read_text(encoding="utf-8").replace("question", "quEstion"), encoding="utf-8")
    assert "it was changed afterwards" in audit().wrong[0].what
    with pytest.raises(RegistryError, match="Nothing was loaded"):
        load("qa@production", max_age_s=0)


def test_a_tampered_bundle_with_a_matching_tag_is_found_by_the_history(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    of_one, of_two = (artifact(project, "bundle.json", run_id=version.run_id) for version in (one, two))
    of_one.write_bytes(of_two.read_bytes())
    registry.client.set_model_version_tag("qa", "1", "digest", two.digest)
    assert any("its tag was edited" in finding.what for finding in audit().wrong)


@pytest.mark.parametrize("what", ["description", "model", "gate", "bundle_version", "index_digest"])
def test_an_edited_description_or_tag_is_reported(project: Path, what: str) -> None:
    """A person who reads MLflow's page must not be told something else than what was registered."""
    registry, _ = registered(project, 1)
    if what == "description":
        registry.client.update_model_version("qa", "1", "It passed, promise")
    else:
        registry.client.set_model_version_tag("qa", "1", what, "PASS")
    (finding,) = audit("qa").wrong
    assert finding.what.startswith(f"{what} was edited by hand")


def test_an_audit_that_looked_at_nothing_says_so(project: Path) -> None:
    """As found: in another folder, or where a disk is not mounted, it said that 0 were wrong."""
    assert str(audit()).strip() == "No model is registered here: nothing was checked."


def test_a_history_without_its_model_is_told(project: Path) -> None:
    """As found: after a model was renamed in MLflow's pages nothing was wrong, and its moves were read by nobody."""
    registry, _ = released(project, 1)
    registry.client.rename_registered_model("qa", "qb")
    assert ("qa", "history") in {(finding.model, finding.about) for finding in audit().wrong}
    assert audit().models == ("qb",)


def test_somebody_elses_models_are_left_alone(project: Path) -> None:
    registry, _ = registered(project, 1)
    registry.client.create_registered_model("a_classifier")
    registry.client.create_registered_model("o'neil")
    assert audit().models == ("qa",)
    for ask in (audit, history, partial(rollback, reason="it fails")):
        with pytest.raises(RegistryError, match="no model of llmlab's"):
            ask("o'neil")
