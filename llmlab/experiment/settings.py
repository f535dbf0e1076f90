"""`experiment.yaml`: what an experiment says besides its bundles, cases and gate. It may be left out.

scorers: [label, {json_fields: [team, total]}, {fenced: json_equal}, {length_between: {low_words: 5, high_words: 60}}]
# shipped ones; your own are in scorers.py
repeats: 2
temperatures: [0.0, 0.7]          # or: as the bundles say
corpus: {folder: docs}            # what scorers of passages read; by default that of the baseline's retrieval
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from llmlab.base.documents import Strict
from llmlab.bundle.bundle import CorpusRef
from llmlab.bundle.prompt import Frozen

__all__ = ["Settings"]


class Settings(Strict):
    """What an `experiment.yaml` says.

    Attributes:
        scorers: a shipped scorer's name, or a mapping of it to its arguments; None = those that fit the cases.
        repeats: answers per variant and case.
        temperatures: each prompt is tried at each; none = as the bundles say.
        corpus: what scorers of passages read.
    """

    scorers: Annotated[tuple[str | Frozen, ...] | None, Field(strict=False)] = None
    repeats: Annotated[int, Field(ge=1)] = 1
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False)] = ()
    corpus: CorpusRef | None = None

    @pydantic.field_validator("temperatures", mode="before")
    @classmethod
    def _or_as_the_bundles_say(cls, given: Any) -> Any:
        if isinstance(given, str) and given != "as the bundles say":
            raise ValueError(f"{given!r}, must be a list such as [0.0, 0.7], or: as the bundles say")
        return () if isinstance(given, str) else given

    @pydantic.field_validator("scorers")
    @classmethod
    def _one_each(cls, given: Any) -> Any:
        for scorer in given or ():
            if isinstance(scorer, Mapping) and len(scorer) != 1:
                raise ValueError(f"{dict(scorer)!r}, must be one scorer's name with its arguments")
        return given
