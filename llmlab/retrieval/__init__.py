"""Retrieval: what was fetched, how good it was, which step lost a case, and whether the index is still true.

    ll.retrieval.evaluate(qrels, run)          # measures of any engine's run
    ll.retrieval.of_results(results)           # of a run's variants; .compare(baseline)
    ll.retrieval.by_k(bundles, golden)         # precision and recall at every k, without generating an answer
    ll.retrieval.attribute(results)            # retrieval failure or generation failure, case by case
    ll.retrieval.check(manifest, corpus)       # is the index stale
    ll.retrieval.question_drift(golden, asked) # do people still ask what the golden set asks

Names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmlab.retrieval.attribution import attribute, grade_at_least, recall_at_least
    from llmlab.retrieval.compare import compare_runs
    from llmlab.retrieval.corpus import Corpus
    from llmlab.retrieval.freshness import check, load_manifest, manifest_of, save_manifest
    from llmlab.retrieval.metrics import evaluate
    from llmlab.retrieval.questions import question_drift
    from llmlab.retrieval.retrievers import build_index, register_retriever
    from llmlab.retrieval.runmetrics import by_k, of_results

_HOMES = {
    "Corpus": "corpus",
    "attribute": "attribution",
    "build_index": "retrievers",
    "by_k": "runmetrics",
    "check": "freshness",
    "compare_runs": "compare",
    "evaluate": "metrics",
    "grade_at_least": "attribution",
    "load_manifest": "freshness",
    "manifest_of": "freshness",
    "of_results": "runmetrics",
    "question_drift": "questions",
    "recall_at_least": "attribution",
    "register_retriever": "retrievers",
    "save_manifest": "freshness",
}

__all__ = [
    "Corpus",
    "attribute",
    "build_index",
    "by_k",
    "check",
    "compare_runs",
    "evaluate",
    "grade_at_least",
    "load_manifest",
    "manifest_of",
    "of_results",
    "question_drift",
    "recall_at_least",
    "register_retriever",
    "save_manifest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"llmlab.retrieval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'llmlab.retrieval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
