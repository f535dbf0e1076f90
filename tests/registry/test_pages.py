"""The registry as people see it: MLflow's own pages on a real store, in a real browser."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmlab.registry import audit, promote, register, rollback
from llmlab.registry.connection import open_registry
from llmlab.tracking.page import VIEW
from tests.jupyterlab import chromium_page
from tests.registry.made import HOSTILE, alias_now, bundle, free_port, judged, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of headless Chromium that notes every dialog."""
    with chromium_page(width=1600) as opened:
        yield opened


@contextlib.contextmanager
def served(project: Path) -> Iterator[str]:
    """The address of `llmlab ui` on the project."""
    port = free_port()
    server = serving("ui", root=project, port=port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def test_digest_verdict_and_alias_are_on_the_pages_and_a_flip_by_clicking_is_found(
    project: Path, page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person decides in MLflow's pages alone; what they click there is audited."""
    monkeypatch.setenv("LLMLAB_WHO", "anna@example.org")
    results, decision, folder = judged(project, name="help_desk")
    version = register(results.bundles["new"], receipt=decision.receipt())
    promote(version, experiment=folder, reason="fewer wrong functions")
    hostile = register(bundle(k=9, name="help_desk", template=f"{{{{ question }}}}\n```\n{HOSTILE}"))
    pictures = Path(os.environ.get("LLMLAB_SCREENSHOTS", tmp_path))
    with served(project) as address:
        page.goto(f"{address}/#/models")
        page.get_by_text("help_desk", exact=True).first.wait_for()
        page.get_by_text("production").first.wait_for()
        page.keyboard.press("Escape")  # MLflow's own advertisement
        page.screenshot(path=pictures / "registry.png")

        page.goto(f"{address}/#/models/help_desk/versions/{version.number}")
        page.get_by_text(version.digest).first.wait_for()
        page.get_by_text("PASS", exact=True).first.wait_for()
        page.get_by_text("production").first.wait_for()
        page.screenshot(path=pictures / "version.png", full_page=True)

        experiment_id = open_registry().store.experiment_id("help_desk")
        page.goto(f"{address}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART")
        for variant in ("old", "new"):
            page.get_by_text(variant, exact=True).first.wait_for()
        page.get_by_text("goal/mean").first.wait_for()
        page.goto(f"{address}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}")
        page.get_by_text("goal/mean.low").first.wait_for()
        page.screenshot(path=pictures / "runs.png")

        page.goto(f"{address}/#/models/help_desk__history/versions/1")
        page.get_by_text("fewer wrong functions").first.wait_for()
        page.screenshot(path=pictures / "history.png")

        page.goto(f"{address}/#/models/help_desk/versions/{hostile.number}")
        page.get_by_text(hostile.digest).first.wait_for()
        page.screenshot(path=pictures / "hostile.png", full_page=True)
        assert page.locator("img[src='x']").count() == 0
        assert not page.alerts

        _click_alias(page, "production")
        page.screenshot(path=pictures / "flipped.png")
    assert alias_now(open_registry(), "help_desk") == hostile.number
    (finding,) = audit().wrong
    assert "by hand" in finding.what
    assert rollback("help_desk", reason="nobody gated it").version == version.number
    assert not audit().wrong


def _click_alias(page: Any, alias: str) -> None:
    """Give the version on the page this alias, as a person does."""
    page.get_by_role("button", name="Add").or_(page.get_by_label("Edit aliases")).first.click()
    box = page.get_by_role("dialog")
    box.wait_for()
    field = box.get_by_role("combobox").first
    field.fill(alias)
    page.keyboard.press("Enter")
    page.screenshot(path=os.environ.get("LLMLAB_SCREENSHOTS", "/tmp") + "/alias_dialog.png")
    box.get_by_role("button", name="Save").click()
    box.wait_for(state="hidden")
