"""Scorers: plain `(Case, Generation) -> number` functions that say what their number means.

`scorer` makes one out of your own function; the rest of this package is ready-made ones.
"""

from __future__ import annotations

from llmlab.scorers.answers import (
    calls_tool,
    contains_expected,
    exact,
    json_schema,
    length_between,
    mentions_expected,
    not_empty,
    regex,
    valid_json,
    word_count,
)
from llmlab.scorers.base import Score, Scorer, as_scorers, score_all, score_all_async, scorer
from llmlab.scorers.citations import citations_valid, cites_source
from llmlab.scorers.grounding import cites_support, grounded
from llmlab.scorers.privacy import no_pii
from llmlab.scorers.refusals import not_refused, refusal
from llmlab.scorers.similarity import similar_to_expected

__all__ = [
    "Score",
    "Scorer",
    "as_scorers",
    "calls_tool",
    "citations_valid",
    "cites_source",
    "cites_support",
    "contains_expected",
    "exact",
    "grounded",
    "json_schema",
    "length_between",
    "mentions_expected",
    "no_pii",
    "not_empty",
    "not_refused",
    "refusal",
    "regex",
    "score_all",
    "score_all_async",
    "scorer",
    "similar_to_expected",
    "valid_json",
    "word_count",
]
