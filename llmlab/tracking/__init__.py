"""Tracking: what MLflow is told of a run, and what is kept here until it can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.tracking.changes import RunChanges as RunChanges
    from llmlab.tracking.changes import compare_runs as compare_runs
    from llmlab.tracking.ledger import looks as looks
    from llmlab.tracking.reports import LoggedReport as LoggedReport
    from llmlab.tracking.reports import log_feedback as log_feedback
    from llmlab.tracking.reports import log_report as log_report
    from llmlab.tracking.runs import LoggedSweep as LoggedSweep
    from llmlab.tracking.runs import bundle_json as bundle_json
    from llmlab.tracking.runs import last_logged as last_logged
    from llmlab.tracking.runs import load as load
    from llmlab.tracking.runs import log as log
    from llmlab.tracking.runs import sync as sync

__all__, __getattr__, __dir__ = face(__name__)
