"""Whether production is as it was: alerts with since when, how much and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.watch.policy import WatchPolicy as WatchPolicy
    from llmlab.watch.policy import WatchRule as WatchRule
    from llmlab.watch.readings import Reading as Reading
    from llmlab.watch.readings import State as State
    from llmlab.watch.report import Watch as Watch
    from llmlab.watch.report import WatchReport as WatchReport

__all__, __getattr__, __dir__ = face(__name__)
