"""The catalogue of models: strict, and what it says of the days that are left."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from llmlab.base.errors import FileRuleError, RegistryError
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.catalogue import Catalogue, expiries
from llmlab.registry import promote, register, rollback
from llmlab.registry.connection import open_registry
from tests.cli.calling import llmlab
from tests.registry.made import bundle, judged, moved, registered

TODAY = date(2026, 6, 1)
ENTRY = """
models:
  - provider: openai
    id: gpt-4o-2024-08-06
    deployed_to: [help desk]
    scores: {right: 0.82}
    deployed_at: "2026-01-12"
    deprecation_date: "%s"
    fallback: openai/gpt-4.1-2025-04-14
    changelog: {url: https://example.org/changes, last_read: "2026-01-10"}
"""


def catalogue(tmp_path: Path, until: date, *, more: str = "") -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(ENTRY % until + more, encoding="utf-8")
    return path


@pytest.mark.parametrize(("days", "listed"), [(-1, True), (0, True), (30, True), (31, False)])
def test_what_expires_within_so_many_days_is_listed_with_the_bundles_it_touches(
    tmp_path: Path, days: int, listed: bool
) -> None:
    """The last day counts; a bundle on another model is not named."""
    known = Catalogue.load(catalogue(tmp_path, TODAY + timedelta(days=days)))
    other = Bundle.from_prompt("{{ question }}", model="openai/gpt-4.1-2025-04-14", name="b")
    released = {"a@production": bundle(), "b@production": other}
    found = expiries(known, today=TODAY, within_days=30, released=released)
    assert [(expiry.days, expiry.bundles, expiry.past) for expiry in found] == (
        [(days, ("a@production",), days < 0)] if listed else []
    )


def test_an_entry_without_a_revision_stands_for_every_revision(tmp_path: Path) -> None:
    """And one with a revision for that one only."""
    more = "  - {provider: huggingface, id: org/m, revision: abc, deprecation_date: '2026-06-02'}\n"
    known = Catalogue.load(catalogue(tmp_path, TODAY, more=more))
    weights = bundle().with_(model="huggingface/org/m")
    assert known.find(weights.with_(revision="abc").model) is not None
    assert known.find(weights.with_(revision="def").model) is None


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ("    until: never\n", "unknown key"),
        ("    notes: 3\n", "quote it"),
        ("  - {provider: openai, id: gpt-4o-2024-08-06}\n", "stands here twice"),
        ("  - {provider: a, id: b, deprecation_date: '2026-13-01'}\n", "month must be"),
        ("  - {provider: a, id: b, fallback: nameless}\n", "names no provider"),
    ],
)
def test_a_catalogue_is_read_strictly(tmp_path: Path, more: str, rule: str) -> None:
    """With file and rule."""
    with pytest.raises(FileRuleError, match=rule):
        Catalogue.load(catalogue(tmp_path, TODAY, more=more))


def test_the_embedded_catalogue_is_valid() -> None:
    """The file that comes with the notebooks."""
    known = Catalogue.load(Path(__file__).parents[2] / "experiments" / "models.yaml")
    assert "offline/extractive-1" in str(known)


def test_a_model_past_its_date_is_named_by_the_command_and_refused_by_promotion(project: Path) -> None:
    """`llmlab models --within` exits with 1 when production depends on it; force is still possible."""
    results, decision, folder = judged(project)
    version = register(results.bundles["new"], receipt=decision.receipt())
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    path = catalogue(folder.parent, yesterday)
    with pytest.raises(RegistryError, match=r"past its deprecation date .*fallback is openai/gpt-4\.1-2025-04-14"):
        promote(version, experiment=folder, reason="r")
    moved(open_registry(), version)
    done = llmlab("models", "--catalogue", path, "--within", "30")
    assert done.exit_code == 1
    assert "1 days past" in done.output
    assert "qa@production" in done.output
    assert "--fallback openai/gpt-4o-2024-08-06" in done.output


def test_a_broken_catalogue_speaks_against_a_promotion_and_stops_neither_force_nor_rollback(project: Path) -> None:
    results, decision, folder = judged(project)
    version = register(results.bundles["new"], receipt=decision.receipt())
    moved(open_registry(), register(results.bundles["old"]))
    (folder.parent / "models.yaml").write_text("models: [", encoding="utf-8")
    with pytest.raises(RegistryError, match=r"models\.yaml:1.* Nothing was moved"):
        promote(version, experiment=folder, reason="r")
    assert "models.yaml" in promote(version, experiment=folder, reason="the old one is down", force=True).reason
    assert rollback("qa", reason="complaints").version != version.number


def test_what_expires_later_is_no_failure(project: Path) -> None:
    """And a plain list needs no registry at all."""
    registry, (one,) = registered(project, 1)
    moved(registry, one)
    path = catalogue(project, datetime.now(UTC).date() + timedelta(days=20))
    done = llmlab("models", "--catalogue", path, "--within", "30")
    assert (done.exit_code, "qa@production" in done.output) == (0, True)
    assert "Nothing" in llmlab("models", "--catalogue", path, "--within", "3").output
    assert "help desk" in llmlab("models", "--catalogue", path).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fallback", "openai/gpt-4o-2024-08-06"], "--fallback needs --bundle"),
        (["--fallback", "openai/other", "--bundle", "b.yaml"], "has no fallback in the catalogue"),
    ],
)
def test_mistakes_with_the_fallback_are_told(project: Path, arguments: list[str], message: str) -> None:
    """Before anything is run."""
    path = catalogue(project, TODAY)
    bundle().save(project / "b.yaml")
    done = llmlab("models", "--catalogue", path, *arguments)
    assert (done.exit_code, message in done.output) == (2, True), done.output
