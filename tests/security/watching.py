"""A browser that is watched: what ran, what was asked of other hosts, and what stands on the page as markup."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import urlsplit

from llmlab.display.html import escape

__all__ = ["assert_quiet", "assert_readable", "poke", "watched"]

# Whatever could run or fetch, and did not come from `display`, below the chosen elements.
LIVE = """root => [...document.querySelectorAll(root)].flatMap(top => [...top.querySelectorAll('*')]).filter(node => {
    const attributes = [...node.attributes || []];
    const address = name => (node.getAttribute(name) || '').replace(/[\\s\\x00-\\x1f]/g, '').toLowerCase();
    return attributes.some(a => a.name.startsWith('on'))
        || ['href', 'xlink:href', 'src', 'action', 'formaction', 'data'].some(
            a => /^(javascript|vbscript)/.test(address(a))
                || (/^data:text|evil\\./.test(address(a)) && !node.matches('a')))
        || (node.getAttribute('style') || '').match(/url\\(|expression/i)
        || node.matches('iframe, object, embed, meta, base, link, form, script:not([type="application/json"]), math,'
            + 'mjx-container, .MathJax');
}).map(node => node.outerHTML.slice(0, 300))"""
POKE = """root => {
    for (const top of document.querySelectorAll(root)) for (const node of top.querySelectorAll('*')) {
        for (const kind of ['mouseover', 'mouseenter', 'focus', 'click', 'toggle', 'pointerdown'])
            if (kind !== 'click' || !node.closest('a[href^="http"]'))
                node.dispatchEvent(new MouseEvent(kind, {bubbles: kind !== 'focus', cancelable: true}));
    }
}"""
TEXT = "root => [...document.querySelectorAll(root)].map(node => node.textContent).join('\\n')"


def watched(page: Any) -> Any:
    """The page, which from now on lets no request leave this machine, and notes in `page.foreign` what was tried."""
    page.foreign = []

    def decide(route: Any) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in ("127.0.0.1", "localhost"):
            page.foreign.append(route.request.url)
            route.abort()
        else:
            route.fallback()

    page.context.route("**/*", decide)
    return page


def poke(page: Any, root: str = "body") -> None:
    """Point at, focus and click whatever stands below the chosen elements, but for links to plain addresses.

    JupyterLab and MLflow make links of addresses in any text (JupyterLab of `data:` too, which browsers refuse to
    open); they lead where they say, and only when clicked.
    """
    page.evaluate(POKE, root)
    page.wait_for_timeout(200)


def assert_quiet(page: Any, root: str = "body", *, markup: bool = True) -> None:
    """Nothing ran in any frame, nothing foreign was asked for, nothing that could run is below the chosen elements."""
    for frame in page.frames:
        assert not frame.evaluate("window.__pwned || 0"), f"a payload ran in {frame.url[:80]}"
    assert not page.foreign, page.foreign
    if markup:
        live = page.evaluate(LIVE, root)
        assert not live, "\n".join(live)


def assert_readable(page: Any, texts: Any, root: str = "body") -> None:
    """Each text stands on the page as text (white space aside, control characters made visible)."""
    there = "".join(page.evaluate(TEXT, root).split())
    for text in texts:
        shown = "".join(html.unescape(escape(text)).split())
        assert shown in there, f"not readable: {text!r}"
