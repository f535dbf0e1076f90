"""The registry: bundles as versions in MLflow, promoted on receipts, rolled back in a second, audited.

version = registry.register(bundle, receipt=decision.receipt())
registry.promote(version, alias="production", experiment="experiments/pandas_help", reason="fewer wrong functions")
registry.rollback("pandas_help", alias="production", reason="complaints")
registry.load("pandas_help@production").bundle
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.registry.audits import Audit as Audit
    from llmlab.registry.audits import Finding as Finding
    from llmlab.registry.audits import audit as audit
    from llmlab.registry.connection import Version as Version
    from llmlab.registry.moves import History as History
    from llmlab.registry.moves import Move as Move
    from llmlab.registry.promotion import promote as promote
    from llmlab.registry.registering import register as register
    from llmlab.registry.release import arms as arms
    from llmlab.registry.release import ledger as ledger
    from llmlab.registry.rollbacks import history as history
    from llmlab.registry.rollbacks import rollback as rollback
    from llmlab.registry.serving import Served as Served
    from llmlab.registry.serving import export as export
    from llmlab.registry.serving import load as load
    from llmlab.registry.serving import released as released

__all__, __getattr__, __dir__ = face(__name__)
