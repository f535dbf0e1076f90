"""A watched Chromium without a server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jupyterlab import CHROMIUM, FLAGS, PATIENCE_MS, jupyterlab, page  # noqa: F401  # fixtures
from tests.security.watching import watched


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A page of headless Chromium, watched."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        yield watched(opened)
        browser.close()
