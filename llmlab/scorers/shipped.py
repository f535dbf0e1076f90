"""Scorers that come with llmlab, by the name and the arguments that a line of `experiment.yaml` gives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from llmlab import scorers as shipped
from llmlab.scorers.base import Scorer

__all__ = ["shipped_scorer"]


def shipped_scorer(spec: str | Mapping[str, Any], *, corpus: Any) -> Scorer:
    """The scorer that a line of `experiment.yaml` names; `corpus()` gives the documents, where it reads them.

    Raises:
        ValueError: the arguments do not fit.
    """
    name, given = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    known = [each for each in shipped.__all__ if _is_scorer(getattr(shipped, each))]
    if name not in known:
        told = f"there are: {', '.join(known)}"
        raise ValueError(f"no scorer {name!r} comes with llmlab ({told}); those of scorers.py need no line here")
    made = getattr(shipped, name)
    if made is shipped.fenced:
        if not isinstance(given, str) and not (isinstance(given, Mapping) and len(given) == 1):
            raise ValueError(f"fenced takes one scorer, such as {{fenced: json_equal}}, not {given!r}")
        inner: Scorer = shipped.fenced(shipped_scorer(given, corpus=corpus))
        return inner
    if isinstance(made, Scorer):
        if given:
            raise ValueError(f"the scorer {name} takes no arguments")
        return made
    wanted = inspect.signature(made).parameters
    positional = list(given) if isinstance(given, (list, tuple)) else [] if isinstance(given, Mapping) else [given]
    named = dict(given) if isinstance(given, Mapping) else {}
    if "corpus" in wanted and "corpus" not in named:
        positional = [corpus(), *positional]
    try:
        inspect.signature(made).bind(*positional, **named)
        scorer: Scorer = made(*positional, **named)
    except TypeError as error:
        raise ValueError(f"the scorer {name} takes ({', '.join(map(str, wanted.values()))}): {error}") from None
    return scorer


def _is_scorer(value: Any) -> bool:
    """Whether it is one, or makes one with arguments."""
    if isinstance(value, Scorer):
        return True
    made = getattr(value, "__annotations__", {}).get("return")
    return inspect.isfunction(value) and made in ("Scorer", Scorer)
