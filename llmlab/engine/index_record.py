"""What is known of an index that was searched, as the plain values that results keep and a gate reads (`index:`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmlab import search
from llmlab.golden.cases import GoldenSet
from llmlab.results.scores import CaseGroups
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import Estimate

_BUILT_HERE = frozenset({"bm25", "embedding", "hybrid", "lsa", "tfidf"})  # indexed by this process, of today's corpus


def record_of_built(index: search.Index, golden: GoldenSet) -> dict[str, Any]:
    """The record of an index that this process built, which holds today's corpus; of any other nothing is known."""
    if not {index.config.retriever, *index.config.options.get("of", ())} <= _BUILT_HERE:
        return {}
    name = corpus_name(index.corpus.name, index.corpus.version)
    built_at = index.built_at.isoformat(timespec="seconds") if index.built_at else ""
    share = stale_share(golden, {}) if any(case.relevant_ids for case in golden) else None
    return index_record(fresh=True, built_at=built_at, built_from=name, now=name, share=share)


def index_record(*, fresh: bool, built_at: str, built_from: str, now: str, share: Estimate | None) -> dict[str, Any]:
    """Whether an index is as the corpus says now, since when, and the share of questions with stale documents."""
    return {
        "fresh": fresh,
        "built_at": built_at,
        "index_of": built_from,
        "corpus": now,
        "stale_share": None if share is None else share.value,
        "stale_low": None if share is None else share.low,
        "stale_high": None if share is None else share.high,
        "n_questions": 0 if share is None else share.n,
    }


def corpus_name(name: Any, version: Any) -> str:
    """What a corpus is called in reports: its name and version, as far as they are known."""
    return " ".join(str(part) for part in (name or "corpus", version) if part)


def stale_share(golden: GoldenSet, stale: Mapping[str, Any], *, level: float = 0.95) -> Estimate:
    """The share of the cases with a relevant document that are among the stale ones."""
    groups = CaseGroups.of(golden.judged_ids, golden)
    return share_estimate([case_id in stale for case_id in golden.judged_ids], **groups.design(), level=level)
