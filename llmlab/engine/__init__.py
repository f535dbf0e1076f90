"""The engine: which calls a run makes, `run` itself, and whether the index that it searched is still true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.clients.call_store import CallStore as CallStore
    from llmlab.engine import app as app
    from llmlab.engine import freshness as freshness
    from llmlab.engine import shards as shards
    from llmlab.engine.cost import dry_run as dry_run
    from llmlab.engine.runs import run as run
    from llmlab.engine.tries import Tries as Tries

__all__, __getattr__, __dir__ = face(__name__)
