"""Retrieval: what was fetched, how good it was, which step lost a case, and whether the index is still true.

ll.retrieval.evaluate(qrels, run)          # measures of any engine's run
ll.retrieval.of_results(results)           # of a run's variants; .compare(baseline)
ll.retrieval.by_k(bundles, golden)         # precision and recall at every k, without generating an answer
ll.retrieval.attribute(results)            # retrieval failure or generation failure, case by case
ll.retrieval.check(manifest, corpus)       # is the index stale
ll.retrieval.question_drift(golden, asked) # do people still ask what the golden set asks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.engine.freshness import check as check
    from llmlab.engine.freshness import load_manifest as load_manifest
    from llmlab.engine.freshness import manifest_of as manifest_of
    from llmlab.engine.freshness import save_manifest as save_manifest
    from llmlab.retrieval.attribution import attribute as attribute
    from llmlab.retrieval.attribution import grade_at_least as grade_at_least
    from llmlab.retrieval.attribution import recall_at_least as recall_at_least
    from llmlab.retrieval.metrics import evaluate as evaluate
    from llmlab.retrieval.questions import question_drift as question_drift
    from llmlab.retrieval.variants import by_k as by_k
    from llmlab.retrieval.variants import compare_runs as compare_runs
    from llmlab.retrieval.variants import of_results as of_results
    from llmlab.search.corpus import Corpus as Corpus
    from llmlab.search.index import build_index as build_index
    from llmlab.search.index import register_retriever as register_retriever

__all__, __getattr__, __dir__ = face(__name__)
