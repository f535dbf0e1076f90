"""What looking again costs: earlier decisions on a golden set, and the confidence that is left for the next one.

A candidate picked among many is partly picked for luck, and a verdict asked for until it pleases is no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from llmlab.base.clock import utc
from llmlab.base.display import Shown
from llmlab.base.errors import DataError
from llmlab.stats.multiple import halving_levels

__all__ = ["Look", "Price", "price_of_looking"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Look(Shown):
    """One decision as the ledger keeps it: what was judged by what, when, and how it ended."""

    results_digest: str
    policy_digest: str
    candidate_digest: str
    golden_digest: str
    verdict: str
    made_at: str

    def to_record(self) -> dict[str, str]:
        """Plain values, for the ledger."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Look:
        """The look that `to_record` gave; DataError for anything else."""
        names = [field.name for field in fields(cls)]
        if sorted(record) != sorted(names) or not all(isinstance(value, str) for value in record.values()):
            raise DataError(f"the ledger of looks has an entry that is none (keys: {', '.join(map(str, record))})")
        return cls(**record)

    def same_as(self, other: Look) -> bool:
        """Whether both judged the same candidate of the same results by the same policy."""
        return (self.results_digest, self.policy_digest, self.candidate_digest) == (
            other.results_digest,
            other.policy_digest,
            other.candidate_digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Price(Shown):
    """What is left of the confidence.

    Attributes:
        look: 1 for the first decision on this candidate, 2 for the second, and so on.
        candidates: distinct candidates that were tried on this golden set, this one included.
        confidence: the policy's own, at which harm is shown.
        asked: what the claims that let a candidate through are read at.
    """

    look: int
    candidates: int
    confidence: float
    asked: float

    def _sentence(self) -> str:
        if self.asked == self.confidence:
            return ""
        why = [f"look {self.look} at this candidate"] if self.look > 1 else []
        why += [f"{self.candidates} candidates tried on this golden set"] if self.candidates > 1 else []
        return f"Proof is asked for at confidence {self.asked:.4g} instead of {self.confidence:g}: {', '.join(why)}."


def price_of_looking(
    looks: Iterable[Look], this: Look, *, others: Iterable[str] = (), baselines: Iterable[str] = (), confidence: float
) -> Price:
    """The price of `this` look, after those before it.

    The first look reads the policy's confidence; look k >= 2 has alpha / 2^k (`halving_levels`), so that all looks
    together spend at most 1.5 alpha. Alpha is divided by the distinct candidates tried (Bonferroni): `others` in
    the same results, and those of earlier looks; what is now the `baselines` does not count. A look that judged the
    same candidate of the same results by the same policy is this look, and costs nothing. INVALID looks told
    nothing and are free.

    >>> def look(results: str, verdict: str, made_at: str) -> Look:
    ...     return Look(results_digest=results, policy_digest="p", candidate_digest="c", golden_digest="g",
    ...                 verdict=verdict, made_at=made_at)
    >>> before, now = look("r1", "INCONCLUSIVE", "2026-02-01"), look("r2", "", "2026-02-02")
    >>> price = price_of_looking([before], now, confidence=0.95)
    >>> price.look, round(price.asked, 6)
    (2, 0.9875)
    """
    told = [look for look in looks if look.verdict != "INVALID"]
    first = min((_moment(look) for look in told if look.same_as(this)), default=_moment(this))
    earlier = [look for look in told if _moment(look) < first and not look.same_as(this)]
    own = [look for look in earlier if look.candidate_digest == this.candidate_digest]
    distinct_own = {(look.results_digest, look.policy_digest) for look in own}
    look_number = 1 + len(distinct_own)
    tried = {look.candidate_digest for look in earlier} | set(others) | {this.candidate_digest}
    candidates = len(tried - (set(baselines) - {this.candidate_digest}))
    alpha = 1 - confidence
    spent = alpha if look_number == 1 else 1 - halving_levels(look_number, alpha=alpha)[-1]
    asked = confidence if candidates == 1 and look_number == 1 else 1 - spent / candidates
    return Price(look=look_number, candidates=candidates, confidence=confidence, asked=asked)


def _moment(look: Look) -> datetime:
    return utc(look.made_at)
