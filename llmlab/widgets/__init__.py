"""Widgets for JupyterLab: forms over the package's functions, without any logic of their own.

Each is loaded, and ipywidgets with it, when it is first named: `ll.widgets.Playground(...)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.widgets.explorer import Explorer as Explorer
    from llmlab.widgets.labeller import Labeller as Labeller
    from llmlab.widgets.playground import Playground as Playground

__all__, __getattr__, __dir__ = face(__name__)
