"""A watched Chromium without a server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.jupyterlab import chromium_page, jupyterlab, page  # noqa: F401  # fixtures
from tests.security.watching import watched


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A page of headless Chromium, watched."""
    with chromium_page(width=1400) as opened:
        yield watched(opened)
