"""Widgets for JupyterLab: forms over the package's functions, without any logic of their own.

Each is loaded, and ipywidgets with it, when it is first named: `ll.widgets.Playground(...)`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmlab.widgets.explorer import Explorer
    from llmlab.widgets.labeller import Labeller
    from llmlab.widgets.playground import Playground

__all__ = ["Explorer", "Labeller", "Playground"]

_HOMES = {"Explorer": "explorer", "Labeller": "labeller", "Playground": "playground"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"llmlab.widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'llmlab.widgets' has no attribute {name!r}")
