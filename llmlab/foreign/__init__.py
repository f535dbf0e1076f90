"""What other tools write, read as plain rows: their data sets, configurations and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.foreign.datasets import Cases as Cases
    from llmlab.foreign.datasets import kind_of as kind_of
    from llmlab.foreign.logs import Answers as Answers

__all__, __getattr__, __dir__ = face(__name__)
