"""Every value that shows itself, in a real browser, narrow and wide, in the light and in the dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyterlab import chromium_page
from tests.security.everything import everything

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG = "support-answers-with-policy-excerpts-and-tone-guide@temperature=0.7"
PAGE = "<!doctype html><meta charset=utf-8><style>:root{color-scheme:light dark}</style><body>"
STICKING_OUT = """tag => [...document.querySelectorAll('section')].filter(value =>
    [value, ...value.querySelectorAll("*")].some(node =>
        (tag ? getComputedStyle(node).overflowX !== "visible" : node === value)
        && node.scrollWidth > node.clientWidth + 1)).map(value => value.id)"""
UNREADABLE = """() => [...document.querySelectorAll('td, th')].filter(cell => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const grey = ([r, g, b]) => .3 * r + .6 * g + .1 * b;
    const behind = parts(getComputedStyle(cell).backgroundColor);
    const ground = behind[3] === 0 ? 18 : grey(behind);  // Chromium's dark canvas
    return Math.abs(grey(parts(getComputedStyle(cell).color)) - ground) < 80;
}).length"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of one page of everything, with variants, cases and metrics of long names."""
    shown = {name: value._repr_html_() for name, value in everything(LONG).items()}
    path = Path(tmp_path_factory.mktemp("gallery")) / "gallery.html"
    path.write_text(
        PAGE + "".join(f"<section id='{n}'>{html}</section>" for n, html in shown.items()), encoding="utf-8"
    )
    return path.as_uri()


def test_nothing_is_wider_than_a_narrow_page_and_nothing_scrolls_on_a_wide_one(gallery: str) -> None:
    """Tables too wide for 700 pixels scroll in their own place; at 1,400 all of them fit."""
    with chromium_page(width=700) as page:
        page.goto(gallery)
        assert page.evaluate(STICKING_OUT, "") == []
        page.set_viewport_size({"width": 1400, "height": 1000})
        assert page.evaluate(STICKING_OUT, "any") == []


def test_every_cell_is_read_in_the_dark(gallery: str) -> None:
    """Also a column that stays in sight, whose ground hides what is scrolled under it."""
    with chromium_page(width=700) as page:
        page.emulate_media(color_scheme="dark")
        page.goto(gallery)
        assert page.evaluate(UNREADABLE) == 0
