"""Values that show themselves, and texts, below each other on one page or in the one HTML widget."""

from __future__ import annotations

from typing import Any

from llmlab.display.html import Html, html_captions
from llmlab.display.shown import Shown


def html_of(*parts: object) -> Html:
    """Parts below each other: what this module made and values that show themselves as they are, the rest escaped.

    >>> html_of("1 < 2")
    "<p class='mathjax_ignore tex2jax_ignore' style='margin:.3em 0;max-width:70em'>1 &lt; 2</p>"
    """
    own = (Html(part._repr_html_()) if isinstance(part, Shown) else part for part in parts)
    return Html("".join(part if isinstance(part, Html) else html_captions(str(part)) for part in own))


def html_widget(*parts: object) -> Any:
    """The one HTML widget, for parts as `html_of` takes them; what it shows is set by `.value = html_of(...)`.

    ipywidgets is imported here, on first use; its HTML widget shows what it is given unescaped.
    """
    import ipywidgets

    return ipywidgets.HTML(html_of(*parts))
