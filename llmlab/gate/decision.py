"""The decision: a verdict, the conditions it rests on, what made it invalid, and how many cases would settle it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmlab.base.display import Shown, html_table, plain, text_table
from llmlab.base.verdict import Verdict, required
from llmlab.gate.condition import Condition
from llmlab.gate.corrected import MoreLabels
from llmlab.gate.looks import Look, Price
from llmlab.results.wording import counted, more_cases, rounded_count
from llmlab.stats.power import NeededCases
from llmlab.stats.standard_error import FEW_DF

if TYPE_CHECKING:
    from llmlab.gate.receipt import Receipt

__all__ = ["Decision"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Decision(Shown):
    """Whether a candidate may replace the baseline.

    Attributes:
        word: PASS (every condition holds), FAIL (one is shown to be broken), INCONCLUSIVE (not enough evidence), or
            INVALID (no verdict can rest on these results).
        conditions: each condition with its numbers.
        reasons: why it is INVALID.
        candidate, baseline, anchor: variants; baseline None = floors only.
        needed_cases: cases in all for every condition to hold together, None where settled or not knowable.
        needed_with_repeats: how many repeats instead of how many, and the cases needed then; None where that would
            not help much, or no repeats were made that could tell.
        cost_of_more_usd: what the cases still missing would cost, None = unknown.
        price: what earlier looks and other candidates cost.
        notes: what a reader must know besides.
        look: this decision as the ledger keeps it.
        facts: digests, versions and origins, for the receipt.
    """

    word: Verdict
    conditions: tuple[Condition, ...]
    candidate: str
    baseline: str | None
    anchor: str | None = None
    reasons: tuple[str, ...] = ()
    needed_cases: NeededCases | None = None
    needed_with_repeats: tuple[int, int, NeededCases] | None = None
    n_cases: int = 0
    cost_of_more_usd: float | None = None
    price: Price
    look: Look
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The same as `word`."""
        return self.word

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 2 invalid."""
        return self.word.exit_code

    @property
    def needed_labels(self) -> MoreLabels | None:
        """Labels still wanted for the open corrected condition that needs most; None where there is none to plan."""
        open_ = [
            c.more_labels for c in self.conditions if c.verdict == Verdict.INCONCLUSIVE and c.more_labels is not None
        ]
        return max(open_, key=lambda more: more.labels, default=None)

    @property
    def sentence(self) -> str:
        """The decision for somebody who does not read tables."""
        return _sentence(self)

    def lines(self) -> tuple[str, ...]:
        """The decision in words, a sentence a line: verdict, what would settle it, its price, what weakens it."""
        price = self.price._sentence()
        return (self.sentence, *([price] if price else []), *_weak(self.conditions), *self.notes)

    def require_pass(self) -> Decision:
        """This decision, if it is PASS; GateError otherwise, which is the exit code of the job that runs it."""
        return self.require("pass")

    def require(self, how: str) -> Decision:
        """This decision; with `how` "pass" a GateError unless it is PASS, with "none" never."""
        required(self.word, how, sentence=self.sentence, decision=self)
        return self

    def receipt(self, **facts: Any) -> Receipt:
        """The decision as a JSON document with every digest and number; `facts` replace what is found around us."""
        from llmlab.gate.receipt import receipt_of

        return receipt_of(self, **facts)

    def __repr__(self) -> str:
        return f"Decision({self.word}: {plain(self.sentence, None)})"

    def __str__(self) -> str:
        table = text_table(self._rows()) if self.conditions else ""
        return "\n".join(part for part in (table, *(plain(line, None) for line in self.lines())) if part)

    def _repr_html_(self) -> str:
        first: dict[str, object] = {
            "verdict": self.word.chip,
            "because": self.sentence,
        }
        head = html_table([first])
        table = html_table(self._rows()) if self.conditions else ""
        return head + table + "".join(html_table([], caption=line) for line in self.lines()[1:])

    def _rows(self) -> list[dict[str, object]]:
        return [row for condition in self.conditions for row in condition._rows()]

    def _sentence(self) -> str:
        return " ".join(self.lines())


def _sentence(decision: Decision) -> str:
    against = f" against {decision.baseline}" if decision.baseline else " (floors only, there is no baseline)"
    who = f"{decision.candidate}{against}"
    if decision.word == Verdict.INVALID:
        return f"No verdict on {who}: {'; '.join(decision.reasons)}."
    broken = [c for c in decision.conditions if c.verdict == Verdict.FAIL]
    open_ = [c for c in decision.conditions if c.verdict == Verdict.INCONCLUSIVE]
    if decision.word == Verdict.FAIL:
        said = "; ".join(f"{c.name}, {c.reading}" for c in broken)
        return f"{who} breaks {counted(len(broken), 'condition')}: {said}."
    if decision.word == Verdict.INCONCLUSIVE:
        said = "; ".join(_open(c) for c in open_)
        return f"Not enough evidence on {who}: {said}. {_what_settles(decision)}".strip()
    proved = [c for c in decision.conditions if c.verdict == Verdict.PASS and c.rule != "no_shown_harm"]
    rest = [c for c in decision.conditions if c.verdict == Verdict.PASS and c.rule == "no_shown_harm"]
    unjudged = sum(c.verdict == Verdict.NOT_JUDGED for c in decision.conditions)
    more = f" Only not shown harmful, which is no proof: {counted(len(rest), 'condition')}." if rest else ""
    gone = f" Not judged for want of a baseline: {counted(unjudged, 'condition')}." if unjudged else ""
    names = "; ".join(f"{c.name} ({c.reading})" for c in proved)
    return f"{who} holds every condition. {f'Proved: {names}.' if proved else 'Nothing was proved.'}{more}{gone}"


def _open(condition: Condition) -> str:
    """An open condition, and what is known of it beyond that there is not enough evidence."""
    more = condition.reading.removeprefix("not enough evidence").lstrip(";, ")
    return f"{condition.name}, {more}" if more else condition.name


def _weak(conditions: tuple[Condition, ...]) -> list[str]:
    """What weakens the conditions, categories in one line."""
    judged = [c for c in conditions if c.verdict != Verdict.NOT_JUDGED]
    said = dict.fromkeys(f"{c.name}: {note}." for c in judged if c.kind != "category" for note in c.notes)
    parts = [c for c in judged if c.kind == "category"]
    few = sum(c.df is None or c.df < FEW_DF for c in parts)
    few_said = f"{few} of {counted(len(parts), 'category')} {'rests' if few == 1 else 'rest'} on"
    line = f"{few_said} fewer than {FEW_DF:g} effective degrees of freedom: read with care."
    return [*said, *([line] if few else [])]


def _what_settles(decision: Decision) -> str:
    labels = decision.needed_labels
    return " ".join(part for part in (_cases_that_settle(decision), labels.sentence if labels else "") if part)


def _cases_that_settle(decision: Decision) -> str:
    needed = decision.needed_cases
    if needed is None:
        return ""
    more = needed.likely - decision.n_cases
    span = f"between {rounded_count(needed.low)} and {rounded_count(needed.high)}"
    if more <= 0:
        return (
            f"{decision.n_cases:,} cases would usually do if {needed.truth} ({span} are needed with "
            f"{needed.power:.0%} power), so the truth may lie nearer to the bound."
        )
    instead = ""
    if decision.needed_with_repeats is not None:
        repeats, now, then = decision.needed_with_repeats
        left = then.likely - decision.n_cases
        cases = more_cases(left) if left > 0 else "no more cases"
        instead = f", or {repeats} repeats instead of {now} and {cases}"
    cost = decision.cost_of_more_usd
    priced = "" if not cost else f", which would cost about ${cost:,.2f}"
    return (
        f"About {more_cases(more)}{instead} would settle it with {needed.power:.0%} power if "
        f"{needed.truth} ({span} in all{priced}); {needed.binding} needs most."
    )
