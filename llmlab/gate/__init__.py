"""The release gate: a policy in a file, a decision with its reasons, a receipt that can be checked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.gate import again as again
    from llmlab.gate import corrected as corrected
    from llmlab.gate import passport as passport
    from llmlab.gate.condition import Condition as Condition
    from llmlab.gate.decide import GatePolicy as GatePolicy
    from llmlab.gate.decision import Decision as Decision
    from llmlab.gate.decision import Receipt as Receipt
    from llmlab.gate.looks import Ledger as Ledger
    from llmlab.gate.looks import Look as Look
    from llmlab.gate.looks import Price as Price
    from llmlab.gate.passport import JudgePassport as JudgePassport
    from llmlab.gate.passport import Limit as Limit
    from llmlab.gate.policy import explored as explored

__all__, __getattr__, __dir__ = face(__name__)
