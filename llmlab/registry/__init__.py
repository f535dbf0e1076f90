"""The registry: bundles as versions in MLflow, promoted on receipts, rolled back in a second, audited.

version = registry.register(bundle, receipt=decision.receipt())
registry.promote(version, alias="production", experiment="experiments/pandas_help", reason="fewer wrong functions")
registry.rollback("pandas_help", alias="production", reason="complaints")
registry.load("pandas_help@production").bundle
"""

from llmlab.registry.audit import Audit, Finding, audit
from llmlab.registry.moves import History, Move
from llmlab.registry.promotion import promote
from llmlab.registry.release import arms
from llmlab.registry.rollback import history, rollback
from llmlab.registry.serving import Served, export, load, released
from llmlab.registry.versions import Version, register

__all__ = [
    "Audit",
    "Finding",
    "History",
    "Move",
    "Served",
    "Version",
    "arms",
    "audit",
    "export",
    "history",
    "load",
    "promote",
    "register",
    "released",
    "rollback",
]
