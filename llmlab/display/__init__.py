"""Display: values that show themselves as text, as escaped HTML, as Markdown, as frames and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.base.tables import write_csv as write_csv
    from llmlab.display import html as html

__all__, __getattr__, __dir__ = face(__name__)
