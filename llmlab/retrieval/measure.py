"""Which retrieval measure: a value in ir_measures' words, such as `nDCG@10`. The formulas live in `metrics`."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Measure", "parse_measure"]

NAMES = ("P", "R", "HitRate", "Success", "RR", "AP", "nDCG", "nDCG_exp")
NEED_CUTOFF = frozenset({"P", "R", "HitRate", "Success"})

ELSEWHERE = {  # as other tools call them
    **{"map": "AP", "mrr": "RR", "recip_rank": "RR", "precision": "P", "prec": "P", "recall": "R", "rec": "R"},
    **{"ndcg_cut": "nDCG", "hits": "HitRate", "hit": "HitRate", "acc": "HitRate", "accuracy": "HitRate"},
}

_SPELLING = re.compile(r"\s*([A-Za-z_]+)\s*(?:@\s*(-?\d+))?\s*")


@dataclass(frozen=True, slots=True)
class Measure:
    """A retrieval measure and how deep it looks.

    Attributes:
        name: P (precision), R (recall), HitRate or Success (the same: anything relevant in the top k), RR (reciprocal
            rank), AP (average precision), nDCG (gain = relevance) or nDCG_exp (gain = 2^relevance - 1).
        cutoff: the k of `@k`; None looks at all that was returned (RR, AP and nDCG only).

    Raises:
        ValueError: an unknown name, a cutoff below 1, or none where the measure needs one.

    >>> str(Measure("nDCG", 10))
    'nDCG@10'
    """

    name: str
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"measure {self.name!r} is unknown, must be one of {', '.join(NAMES)}{_hint(self.name)}")
        if self.cutoff is None and self.name in NEED_CUTOFF:
            raise ValueError(f"measure {self.name!r} needs a cutoff, for example {self.name}@10")
        if self.cutoff is not None and self.cutoff < 1:
            raise ValueError(f"k == {self.cutoff} in {self.name}@{self.cutoff}, must be >= 1")

    def __str__(self) -> str:
        return self.name if self.cutoff is None else f"{self.name}@{self.cutoff}"


def parse_measure(text: str | Measure) -> Measure:
    """The measure that `text` names; a Measure is given back as it is.

    Raises:
        ValueError: as Measure does, or where the text is not `name` or `name@k`.

    >>> parse_measure("R@10"), parse_measure("AP")
    (Measure(name='R', cutoff=10), Measure(name='AP', cutoff=None))
    """
    if isinstance(text, Measure):
        return text
    spelt = _SPELLING.fullmatch(text)
    if spelt is None:
        raise ValueError(f"measure {text!r} is not a name with an optional cutoff, such as nDCG@10 or RR")
    name, cutoff = spelt.groups()
    return Measure(name, None if cutoff is None else int(cutoff))


def _hint(name: str) -> str:
    meant = [known for known in NAMES if known.lower() == name.lower()] or [
        ours for theirs, ours in ELSEWHERE.items() if theirs == name.lower()
    ]
    return f" (meant {meant[0]}?)" if meant else ""
