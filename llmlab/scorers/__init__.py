"""Scorers: plain `(Case, Generation) -> number` functions that say what their number means.

`scorer` makes one out of your own function; the rest of this package is ready-made ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.scorers import source as source
    from llmlab.scorers.answers import contains_expected as contains_expected
    from llmlab.scorers.answers import exact as exact
    from llmlab.scorers.answers import mentions_expected as mentions_expected
    from llmlab.scorers.answers import no_pii as no_pii
    from llmlab.scorers.answers import not_empty as not_empty
    from llmlab.scorers.answers import word_count as word_count
    from llmlab.scorers.base import Score as Score
    from llmlab.scorers.base import Scorer as Scorer
    from llmlab.scorers.base import as_scorers as as_scorers
    from llmlab.scorers.base import score_all as score_all
    from llmlab.scorers.base import score_all_async as score_all_async
    from llmlab.scorers.base import scorer as scorer
    from llmlab.scorers.citations import citations_valid as citations_valid
    from llmlab.scorers.citations import cites_source as cites_source
    from llmlab.scorers.grounding import cites_support as cites_support
    from llmlab.scorers.grounding import grounded as grounded
    from llmlab.scorers.refusals import not_refused as not_refused
    from llmlab.scorers.refusals import refusal as refusal
    from llmlab.scorers.rules import calls_tool as calls_tool
    from llmlab.scorers.rules import json_schema as json_schema
    from llmlab.scorers.rules import length_between as length_between
    from llmlab.scorers.rules import regex as regex
    from llmlab.scorers.rules import valid_json as valid_json
    from llmlab.scorers.safety import moderated as moderated
    from llmlab.scorers.safety import no_injection_markers as no_injection_markers
    from llmlab.scorers.safety import no_keys as no_keys
    from llmlab.scorers.safety import no_terms as no_terms
    from llmlab.scorers.similarity import similar_to_expected as similar_to_expected
    from llmlab.scorers.structured import fenced as fenced
    from llmlab.scorers.structured import json_equal as json_equal
    from llmlab.scorers.structured import json_fields as json_fields
    from llmlab.scorers.structured import label as label
    from llmlab.scorers.structured import numbers_equal as numbers_equal

__all__, __getattr__, __dir__ = face(__name__)
