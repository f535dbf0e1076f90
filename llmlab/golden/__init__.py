"""Golden sets: the cases that a change is judged on, and what people said of the answers to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.golden import columns as columns
    from llmlab.golden.cases import Case as Case
    from llmlab.golden.cases import GoldenSet as GoldenSet
    from llmlab.golden.labels import Label as Label
    from llmlab.golden.labels import Labels as Labels

__all__, __getattr__, __dir__ = face(__name__)
