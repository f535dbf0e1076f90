"""Figures drawn of hostile names: as SVG they hold no markup but matplotlib's, as PNG their alt text is text."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from llmlab.plots import quality_against
from tests.payloads import SCRIPTS
from tests.security.everything import answers_with
from tests.security.watching import assert_quiet

TEXTS = SCRIPTS[::15]


def svg(text: str) -> str:
    """A figure whose variants and metric carry the text, as SVG with its texts as texts."""
    results = answers_with(text)
    drawn = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        quality_against(results, against="right").savefig(drawn, format="svg")
    return drawn.getvalue()


@pytest.mark.parametrize("text", TEXTS)
def test_an_svg_of_hostile_names_holds_no_script_handler_or_address(text: str) -> None:
    for node in ET.fromstring(svg(text)).iter():
        assert node.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "iframe", "image", "animate")
        for name, value in node.attrib.items():
            assert not name.lower().startswith("on")
            assert "javascript:" not in value
            assert "evil" not in value


@pytest.mark.browser
def test_an_svg_of_hostile_names_is_quiet_in_a_browser(chromium: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(map(svg, TEXTS))}", encoding="utf-8")
    chromium.goto(page.as_uri())
    chromium.wait_for_timeout(300)
    assert_quiet(chromium, markup=False)
