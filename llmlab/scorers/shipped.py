"""Scorers that come with llmlab, by the name and the arguments that a line of `experiment.yaml` gives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from llmlab import scorers as shipped
from llmlab.scorers.base import Scorer


def shipped_scorer(spec: str | Mapping[str, Any], *, corpus: Any) -> Scorer:
    """The scorer that a line of `experiment.yaml` names; `corpus()` gives the documents, where it reads them.

    Raises:
        ValueError: the arguments do not fit.
    """
    name, args = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    known = [public for public in shipped.__all__ if _is_scorer(getattr(shipped, public))]
    if name not in known:
        listed = f"there are: {', '.join(known)}"
        raise ValueError(f"no scorer {name!r} comes with llmlab ({listed}); those of scorers.py need no line here")
    maker = getattr(shipped, name)
    if maker is shipped.fenced:
        if not isinstance(args, str) and not (isinstance(args, Mapping) and len(args) == 1):
            raise ValueError(f"fenced takes one scorer, such as {{fenced: json_equal}}, not {args!r}")
        inner: Scorer = shipped.fenced(shipped_scorer(args, corpus=corpus))
        return inner
    if isinstance(maker, Scorer):
        if args:
            raise ValueError(f"the scorer {name} takes no arguments")
        return maker
    wanted = inspect.signature(maker).parameters
    positional = list(args) if isinstance(args, (list, tuple)) else [] if isinstance(args, Mapping) else [args]
    named = dict(args) if isinstance(args, Mapping) else {}
    if "corpus" in wanted and "corpus" not in named:
        positional = [corpus(), *positional]
    try:
        inspect.signature(maker).bind(*positional, **named)
        scorer: Scorer = maker(*positional, **named)
    except TypeError as error:
        raise ValueError(f"the scorer {name} takes ({', '.join(map(str, wanted.values()))}): {error}") from None
    return scorer


def _is_scorer(value: Any) -> bool:
    """Whether it is one, or makes one with arguments."""
    if isinstance(value, Scorer):
        return True
    made = getattr(value, "__annotations__", {}).get("return")
    return inspect.isfunction(value) and made in ("Scorer", Scorer)
