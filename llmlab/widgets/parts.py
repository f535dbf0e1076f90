"""Small pieces that the forms share: fields in one look, buttons, and a report that outlives its form."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as w
from anywidget import AnyWidget
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data
from traitlets import Int

from llmlab.display.page import html_of
from llmlab.display.shown import Shown

_LABEL_PX = 92
_SETTLES_S = 0.2


class Report:
    """What a form shows below itself: ordinary HTML output, updated in place, that a saved notebook keeps.

    Where widgets do not live it is all there is to see.
    """

    def __init__(self) -> None:
        self._id, self._there = uuid.uuid4().hex, False

    def show(self, *parts: Shown | str) -> None:
        """Put the parts where they were put first; nothing outside a notebook."""
        if not InteractiveShell.initialized():
            return
        data = {"text/html": html_of(*parts), "text/plain": "\n".join(str(part) for part in parts)}
        publish_display_data(data, transient={"display_id": self._id}, update=self._there)
        self._there = True


def field(kind: Any, label: str, *, width: str = "290px", **options: Any) -> Any:
    """An input of ipywidgets' kind (`Text`, `Dropdown`, ...) behind its label."""
    look = {"style": {"description_width": f"{_LABEL_PX}px"}, "layout": w.Layout(width=width)}
    return kind(description=label, **look, **options)


def beside(kind: Any, label: str, width: str, **options: Any) -> Any:
    """An input right behind its label."""
    look = {"style": {"description_width": "initial"}, "layout": w.Layout(width=width)}
    return kind(description=label, **look, **options)


small_field = partial(field, width="162px")  # to stand beside others
text_area = partial(field, w.Textarea, width="calc(100% - 8px)")  # as wide as the form


class CtrlEnter(AnyWidget):
    """Ctrl+Enter (or Cmd+Enter) in any field of the form that this stands in: ipywidgets tells of no such key."""

    _esm = """
    export default {
      render({ model, el }) {
        const pressed = (event) => {
          const form = el.closest(".llmlab-form");
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !form?.contains(event.target)) return;
          event.preventDefault();
          event.stopPropagation();
          model.set("times", model.get("times") + 1);
          model.save_changes();
        };
        document.addEventListener("keydown", pressed, true);
        return () => document.removeEventListener("keydown", pressed, true);
      },
    };
    """
    times = Int(0).tag(sync=True)

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self.observe(lambda _: do(), names="times")


def button(label: str, do: Callable[[], None], *, style: str = "", tooltip: str = "", width_px: int = 84) -> Any:
    """A button that does one thing; `style` is "primary", "success", "danger" or ""."""
    shown = w.Button(description=label, button_style=style, tooltip=tooltip, layout=w.Layout(width=f"{width_px}px"))
    shown.on_click(lambda _: do())
    return shown


def indented(widget: Any) -> Any:
    """The widget moved to where the fields begin, right of their labels."""
    widget.layout.margin = f"2px 2px 2px {_LABEL_PX + 8}px"
    widget.layout.width = "auto"
    return widget


def when_settled(do: Callable[[], None], *, seen: Callable[[], object]) -> None:
    """Do it once `seen` gives the same twice: a browser sends a click ahead of typing that still waits for its turn."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # no kernel, so no browser
        return do()

    def look(before: object) -> None:
        now = seen()
        if now == before:
            do()
        else:
            loop.call_later(_SETTLES_S, look, now)

    loop.call_later(_SETTLES_S, look, seen())
    return None


def row(*children: Any) -> Any:
    """Widgets beside each other, wrapped where there is no room."""
    return w.HBox(children, layout=w.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px"))


def column(children: Sequence[Any]) -> Any:
    """Widgets below each other."""
    return w.VBox(children, layout=w.Layout(width="100%", max_width="1000px", grid_gap="4px"))
