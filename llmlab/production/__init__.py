"""What users ask in production, and what a release does there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.production.decision import Action as Action
    from llmlab.production.decision import Reading as Reading
    from llmlab.production.decision import RolloutDecision as RolloutDecision
    from llmlab.production.decision import RolloutReceipt as RolloutReceipt
    from llmlab.production.fallback import Fallback as Fallback
    from llmlab.production.harvest import Harvest as Harvest
    from llmlab.production.lines import Step as Step
    from llmlab.production.lines import Trace as Trace
    from llmlab.production.policy import RolloutPolicy as RolloutPolicy
    from llmlab.production.recorder import Arm as Arm
    from llmlab.production.recorder import Recorder as Recorder
    from llmlab.production.rollout import Rollout as Rollout
    from llmlab.production.rollout import log as log
    from llmlab.production.service_metrics import Figures as Figures
    from llmlab.production.shadow import Shadow as Shadow
    from llmlab.production.shadow import compare_shadow as compare_shadow
    from llmlab.production.shadow import stubbed as stubbed
    from llmlab.production.traces import Traces as Traces
    from llmlab.production.traces import forget as forget

__all__, __getattr__, __dir__ = face(__name__)
