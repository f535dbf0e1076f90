"""What looking again costs: the decisions of one release cycle, and the confidence that is left for the next one.

A candidate picked among many is partly picked for luck, and a verdict asked for until it pleases is no verdict. A
cycle is what was judged under one registered name for one alias since its last promotion, on golden sets that share
at least half of their cases: adding cases does not begin a new one, fresh cases (a holdout) do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llmlab.base.errors import DataError
from llmlab.base.project import utc
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import TRIED, Bundle
from llmlab.display.shown import Shown

MISSING = "MISSING"  # the verdict of a look that the ledger numbered and has no more
COUNTED, NONE_HERE, NOT_ASKED = "counted", "no ledger here", "--no-ledger"  # what a receipt says of earlier looks
_SAME_FAMILY_FROM = 0.5  # share of the smaller golden set's cases that both have
KEYS = {"bundle_digest": "candidate_digest"}  # what an entry calls it, since version 0.1
DIGITS = 8  # of a digest, in the ledger: MLflow cuts long tags


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Look(Shown):
    """One decision as the ledger keeps it: what was judged by what, when, and how it ended.

    Attributes:
        bundle_digest: of the candidate.
        name, alias: the release cycle, "" where an earlier version of llmlab wrote the entry (it belongs to any).
        beside: the first digits of the digests of every other candidate in the same results, separated by spaces.
        tried: the same of the candidates that this one was chosen among before there were results.
        holdout: the share that the gate kept for itself, "" where it read every case.
        cases: `Case.content` of the cases judged, known where the results are; not part of the entry.
    """

    results_digest: str
    policy_digest: str
    bundle_digest: str
    golden_digest: str
    verdict: str
    made_at: str
    name: str = ""
    alias: str = ""
    beside: str = ""
    tried: str = ""
    holdout: str = ""
    cases: frozenset[str] = field(default=frozenset(), compare=False)

    def to_record(self) -> dict[str, str]:
        """Plain values, for the ledger."""
        return {KEYS.get(key, key): value for key, value in asdict(self).items() if key != "cases"}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, cases: Iterable[str] = ()) -> Look:
        """The look that `to_record` gave, in this version or an earlier one; DataError for anything else."""
        names = {KEYS.get(part.name, part.name): part.name for part in fields(cls) if part.name != "cases"}
        needed = {"results_digest", "policy_digest", "candidate_digest", "golden_digest", "verdict", "made_at"}
        if not needed <= set(record) <= set(names) or not all(isinstance(value, str) for value in record.values()):
            raise DataError(f"the ledger of looks has an entry that is none (keys: {', '.join(map(str, record))})")
        return cls(**{names[key]: value for key, value in record.items()}, cases=frozenset(cases))

    @property
    def key(self) -> tuple[str, str, str]:
        """What two looks have in common that judged the same candidate of the same results by the same policy."""
        return self.results_digest, self.policy_digest, self.bundle_digest

    def shares_cases_with(self, other: Look) -> bool:
        """Whether the two golden sets are the same, or have at least half of the smaller one's cases in common."""
        smaller = min(len(self.cases), len(other.cases))
        shared = smaller and len(self.cases & other.cases) >= _SAME_FAMILY_FROM * smaller
        return self.golden_digest == other.golden_digest or bool(shared)

    @property
    def counted(self) -> set[tuple[str, str, str]]:
        """What this look counts as: every candidate of its results, judged by its policy."""
        chosen = (self.bundle_digest[:DIGITS], *self.beside.split())
        return {(self.results_digest, self.policy_digest, digest) for digest in chosen}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ledger(Shown):
    """What is known of earlier decisions.

    Attributes:
        looks: of this name, whatever alias and golden set; `decide` takes those of the cycle.
        promotions: when the alias was promoted, each ending a cycle.
        state: whether it was read: "counted", "no ledger here", "--no-ledger", or "" where nobody says.
    """

    looks: tuple[Look, ...] = ()
    promotions: tuple[str, ...] = ()
    state: str = COUNTED

    @classmethod
    def of(cls, looks: Ledger | Sequence[Look]) -> Ledger:
        """A ledger as it is, or one of these looks."""
        return looks if isinstance(looks, Ledger) else cls(looks=tuple(looks), state=COUNTED if looks else "")

    def cycle(self, this: Look, *, baseline: str = "") -> tuple[Look, ...]:
        """The looks of this one's cycle that came before it; INVALID ones told nothing and are free.

        A look that judged the same candidate of the same results by the same policy is this look. Besides the last
        promotion, a PASS of what is now the `baseline` (a digest) ends a cycle, for those who release by hand.
        """
        valid = [look for look in self.looks if look.verdict != Verdict.INVALID]
        own = [look for look in valid if look.name in ("", this.name) and look.alias in ("", this.alias)]
        first = min((utc(look.made_at) for look in own if look.key == this.key), default=utc(this.made_at))
        before = [look for look in own if utc(look.made_at) < first and look.key != this.key]
        passed = [look.made_at for look in before if look.verdict == Verdict.PASS and look.bundle_digest == baseline]
        ends = [end for end in map(utc, (*self.promotions, *passed)) if end < first]
        since = [look for look in before if not ends or utc(look.made_at) > max(ends)]
        return tuple(look for look in since if look.shares_cases_with(this))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Price(Shown):
    """What is left of the confidence.

    Attributes:
        look: 1 for the first decision of a release cycle, 2 for the second, and so on.
        candidates: distinct candidates that were tried in it, this one included.
        counted: looks and candidates of the cycle in one count, this one included: what `asked` follows from.
        confidence: the policy's own, at which harm is shown.
        asked: what the claims that let a candidate through are read at.
        after: what the next look would read them at, for planning: no other where nobody counts.
        state: what the ledger says of itself.
        missing: how many of the looks are gone from the ledger; they count.
    """

    look: int
    candidates: int
    counted: int
    confidence: float
    asked: float
    after: float
    state: str = COUNTED
    missing: int = 0

    def _sentence(self) -> str:
        gone = f"Of these, {self.missing} went from the ledger, which somebody tidied. " if self.missing else ""
        unread = f"Earlier looks were not counted: {self.state}." if self.state in (NONE_HERE, NOT_ASKED) else ""
        if self.asked == self.confidence:
            return unread
        tried = f", {self.candidates} candidates tried in it" if self.candidates > 1 else ""
        asked = f"Proof is asked for at confidence {self.asked:.4g} instead of {self.confidence:g}"
        return f"{asked}: look {self.look} of this release cycle{tried}. {gone}{unread}".strip()


def level_of_look(look: int, *, confidence: float, declared: int | None = None) -> float:
    """The confidence that look number `look` of a cycle asks for.

    alpha / k^2 from the second on, in all under 1.65 alpha (Bonferroni; the sum of 1 / k^2 is pi^2 / 6). Where a number
    of looks and candidates was `declared`, alpha is split evenly among them, and those beyond it have alpha / k^2.

    >>> [round(level_of_look(k, confidence=0.95), 6) for k in (1, 2, 3)], level_of_look(1, confidence=0.95, declared=10)
    ([0.95, 0.9875, 0.994444], 0.995)
    """
    alpha, shares = 1 - confidence, declared if declared is not None and look <= declared else look**2
    return confidence if shares == 1 else 1 - alpha / shares


def price_of_looking(
    looks: Iterable[Look], this: Look, *, confidence: float, declared: int | None = None, state: str = COUNTED
) -> Price:
    """The price of `this` look, after those of its cycle (`Ledger.cycle`).

    Every candidate of every results that were judged is a look, whether it was decided on or only stood beside the one
    that was; and so is every candidate that was tried before there were results.

    >>> def look(results: str, made_at: str) -> Look:
    ...     return Look(results_digest=results, policy_digest="p", bundle_digest="c", golden_digest="g",
    ...                 verdict="INCONCLUSIVE", made_at=made_at)
    >>> price = price_of_looking([look("r1", "2026-02-01")], look("r2", "2026-02-02"), confidence=0.95)
    >>> price.look, price.counted, round(price.asked, 6)
    (2, 2, 0.9875)
    """
    looks = tuple(looks)
    known = (*looks, this)
    counted = set().union(*(look.counted for look in known))
    judged = {digest for _, _, digest in counted}
    only_tried = {digest for look in known for digest in look.tried.split()} - judged
    number = len(counted) + len(only_tried)
    asked, after = (level_of_look(k, confidence=confidence, declared=declared) for k in (number, number + 1))
    return Price(
        look=1 + len({look.key for look in looks}),
        candidates=len(judged | only_tried),
        counted=number,
        confidence=confidence,
        asked=asked,
        after=after if state == COUNTED else asked,
        state=state,
        missing=sum(look.verdict == MISSING for look in looks),
    )


def tried_before(bundle: Bundle, golden_digests: Iterable[str]) -> frozenset[str]:
    """Digests of the candidates that a bundle was chosen among on any of these golden sets, by its own metadata."""
    tried = bundle.metadata.get(TRIED)
    if not isinstance(tried, Mapping):
        return frozenset()
    return frozenset(str(digest) for golden in golden_digests for digest in tried.get(golden, ()))
