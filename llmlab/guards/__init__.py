"""Guards: scorers with a side and an action, what they catch, and a second model for what a check fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.guards.applying import Guard as Guard
    from llmlab.guards.applying import guard as guard
    from llmlab.guards.applying import guarded as guarded
    from llmlab.guards.escalating import Cascade as Cascade
    from llmlab.guards.escalating import Frontier as Frontier
    from llmlab.guards.escalating import cascade as cascade
    from llmlab.guards.escalating import frontier as frontier
    from llmlab.guards.measuring import GuardMeasures as GuardMeasures
    from llmlab.guards.measuring import LabelledText as LabelledText
    from llmlab.guards.measuring import injections as injections
    from llmlab.guards.measuring import measure as measure

__all__, __getattr__, __dir__ = face(__name__)
