"""The decision: a verdict, the conditions it rests on, what made it invalid, what would settle it; and its receipt.

A receipt is one JSON document with every digest, number and origin, strict when it is read back. Its own digest only
shows that it was not changed by accident: whoever relies on it (the registry) decides again from the logged cases and
asks for `differences`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib import metadata
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from llmlab import display
from llmlab import gate as room
from llmlab.base.cells import plain
from llmlab.base.documents import Sealed, Strict
from llmlab.base.numbers import counted, more_cases, rounded_count
from llmlab.base.project import git_state, named_in, utc
from llmlab.base.verdict import Verdict, required
from llmlab.display.shown import Shown, text_table
from llmlab.gate.condition import Condition
from llmlab.gate.looks import Look, Price
from llmlab.stats.power import NeededCases
from llmlab.stats.standard_error import FEW_DF

_PACKAGES = ("llmlab", "numpy", "scipy", "pandas", "pydantic")
_CI = {  # what a CI system says of the job, by its own variables
    "GITHUB_ACTIONS": ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA", "GITHUB_REF", "GITHUB_ACTOR"),
    "GITLAB_CI": ("CI_PROJECT_PATH", "CI_PIPELINE_ID", "CI_COMMIT_SHA", "CI_COMMIT_REF_NAME", "GITLAB_USER_LOGIN"),
    "BUILDKITE": ("BUILDKITE_PIPELINE_SLUG", "BUILDKITE_BUILD_NUMBER", "BUILDKITE_COMMIT", "BUILDKITE_BRANCH"),
    "JENKINS_URL": ("JOB_NAME", "BUILD_NUMBER", "GIT_COMMIT", "GIT_BRANCH"),
}
Texts = Annotated[tuple[str, ...], Field(strict=False)]


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
        documents: policy and passports by file name, as JSON: what the receipt names by digest.
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
    documents: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The same as `word`."""
        return self.word

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 2 invalid."""
        return self.word.exit_code

    @property
    def needed_labels(self) -> room.corrected.MoreLabels | None:
        """Labels still wanted for the open corrected condition that needs most; None where there is none to plan."""
        open_ = [c.more_labels for c in self.conditions if c.verdict == Verdict.INCONCLUSIVE]
        return max((more for more in open_ if more is not None), key=lambda more: more.labels, default=None)

    @property
    def sentence(self) -> str:
        """The decision for somebody who does not read tables."""
        against = f" against {self.baseline}" if self.baseline else " (floors only, there is no baseline)"
        who = f"{self.candidate}{against}"
        if self.word == Verdict.INVALID:
            return f"No verdict on {who}: {'; '.join(self.reasons)}."
        deciding = [c for c in self.conditions if c.verdict == self.word]
        if self.word == Verdict.FAIL:
            broken = "; ".join(f"{c.name}, {c.reading}" for c in deciding)
            return f"{who} breaks {counted(len(deciding), 'condition')}: {broken}."
        if self.word == Verdict.INCONCLUSIVE:
            labels = self.needed_labels
            settles = filter(None, (_cases_that_settle(self), labels.sentence if labels else ""))
            return f"Not enough evidence on {who}: {'; '.join(map(_open, deciding))}. {' '.join(settles)}".strip()
        proved = [c for c in deciding if c.rule != "no_shown_harm"]
        n_rest = len(deciding) - len(proved)
        unjudged = sum(c.verdict == Verdict.NOT_JUDGED for c in self.conditions)
        more = f" Only not shown harmful, which is no proof: {counted(n_rest, 'condition')}." if n_rest else ""
        gone = f" Not judged for want of a baseline: {counted(unjudged, 'condition')}." if unjudged else ""
        names = "; ".join(f"{c.name} ({c.reading})" for c in proved)
        return f"{who} holds every condition. {f'Proved: {names}.' if proved else 'Nothing was proved.'}{more}{gone}"

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
        """The decision as a JSON document with every digest and number.

        Commit, author, CI facts and versions are read from around us, once; `facts` replace any field.
        """
        needed, labels = self.needed_cases, self.needed_labels
        return Receipt(
            verdict=self.word,  # type: ignore[arg-type]  # one of the four, checked by pydantic
            sentence=self.sentence,
            reasons=self.reasons,
            conditions=tuple(ReceiptCondition.model_validate(c, from_attributes=True) for c in self.conditions),
            notes=self.notes,
            candidate=self.candidate,
            baseline=self.baseline or "",
            anchor=self.anchor or "",
            n_cases=self.n_cases,
            needed_cases={} if needed is None else {"low": needed.low, "likely": needed.likely, "high": needed.high},
            needed_labels={} if labels is None else {k: n for k, n in labels._asdict().items() if isinstance(n, int)},
            look=self.price.look,
            candidates_tried=self.price.candidates,
            asked_confidence=self.price.asked,
            ledger=self.price.state,
            created_at=self.look.made_at,
            **{**self.facts, **self._around, **facts},
        )

    @cached_property
    def _around(self) -> dict[str, Any]:
        """Where it was decided, read once: the receipt that is logged and the one that is registered are the same."""
        git = git_state()
        return {
            "commit": git.commit,
            "dirty": git.dirty or self.facts["dirty"],
            "author": named_in(os.environ) or git.author or self.facts["author"],
            "ci": ci_facts(os.environ),
            "versions": versions(),
        }

    def __repr__(self) -> str:
        return f"Decision({self.word}: {plain(self.sentence, None)})"

    def __str__(self) -> str:
        table = text_table(self._rows()) if self.conditions else ""
        return "\n".join(part for part in (table, *(plain(line, None) for line in self.lines())) if part)

    def _repr_html_(self) -> str:
        head = display.html.html_table([{"verdict": self.word.chip, "because": self.sentence}])
        table = display.html.html_table(self._rows()) if self.conditions else ""
        return head + table + "".join(display.html.html_table([], caption=line) for line in self.lines()[1:])

    def _rows(self) -> list[dict[str, object]]:
        return [row for condition in self.conditions for row in condition._rows()]

    def _sentence(self) -> str:
        return " ".join(self.lines())


class ReceiptCondition(Strict):
    """A condition's numbers, in the metric's own unit (shares of the baseline where `relative`)."""

    kind: str
    metric: str
    rule: str
    category: str | None
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    bound: float
    relative: bool
    p_value: float | None
    se: float | None
    df: float | None
    n_cases: int
    n_clusters: int
    unscored: int
    attempted: int
    missed: float | None
    estimate: Literal["raw", "corrected"] = "raw"
    method: str = ""
    labelled: int = 0
    judge_alone: float | None = None
    reading: str
    notes: Texts = ()


class Receipt(Shown, Sealed):
    """A decision as a document.

    Attributes:
        verdict, sentence, reasons, conditions: what was decided, and on what.
        candidate, baseline, anchor: names of the variants; "" = none.
        bundle_digest, baseline_digest, anchor_digest, index_digest: what was judged against what.
        index_freshness: how true that index was (`Freshness.record`), empty = nothing known or nothing retrieved.
        golden_digest, golden_parent, policy_digest, results_digest: by which questions, rules and answers.
        judges, passports: judged metric -> judge's digest, judge's digest -> passport's digest.
        labels: corrected metric -> digest of the people's labels that it was corrected by.
        needed_cases, needed_labels: what would settle an INCONCLUSIVE, empty = settled or not knowable.
        look, candidates_tried, asked_confidence: the price of looking that was paid.
        earlier_baseline: digest and time of the run that the baseline's rows come from, empty = this run.
        commit, dirty: of the tree in which it was decided (dirty also when the run's was).
        author: who started the job, else who made the commit, else whom the bundle names.
        ci: what the CI system says of the job, empty outside.
        versions, endpoint, served_model, results_created_at, created_at: how and when.
    """

    _noun: ClassVar[str] = "receipt of a gate"
    _file: ClassVar[str] = "receipt"
    format: Literal["llmlab-receipt-1"] = "llmlab-receipt-1"
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    sentence: str
    reasons: Texts = ()
    conditions: Annotated[tuple[ReceiptCondition, ...], Field(strict=False)] = ()
    notes: Texts = ()
    candidate: str
    baseline: str
    anchor: str
    bundle_name: str
    bundle_version: str
    bundle_digest: str
    baseline_digest: str
    anchor_digest: str
    golden_digest: str
    golden_parent: str
    index_digest: str
    index_freshness: dict[str, Any] = Field(default_factory=dict)
    policy_digest: str
    results_digest: str
    results_created_at: str
    judges: dict[str, str] = Field(default_factory=dict)
    scorers: dict[str, str] = Field(default_factory=dict)
    passports: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    n_cases: int
    needed_cases: dict[str, int] = Field(default_factory=dict)
    needed_labels: dict[str, int] = Field(default_factory=dict)
    look: int
    candidates_tried: int
    asked_confidence: float
    ledger: str = ""  # whether earlier looks were counted; "" where nobody says (as before 0.2)
    earlier_baseline: dict[str, str] = Field(default_factory=dict)
    endpoint: str
    served_model: str
    commit: str
    dirty: bool
    author: str
    ci: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    created_at: str

    def decided_at(self) -> datetime:
        """When it was decided; hand it to `GatePolicy.decide(now=...)` to decide again."""
        return utc(self.created_at)

    def differences(self, decision: Decision) -> tuple[str, ...]:
        """What a decision made again finds otherwise than this receipt says; empty when it confirms it.

        The same index is built anew by every process: when it was does not count here, but in the verdict.
        """
        return room.again.differences(self.model_dump(), decision.receipt().model_dump())

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "verdict": Verdict(self.verdict).chip,
                "candidate": f"{self.candidate} {self.bundle_digest[:8]}",
                "baseline": f"{self.baseline} {self.baseline_digest[:8]}" if self.baseline else "none",
                "golden set": self.golden_digest[:8],
                "policy": self.policy_digest[:8],
                "commit": f"{self.commit[:8]}{' (dirty)' if self.dirty else ''}",
                "made": self.created_at,
                "receipt": self.digest[:8],
            }
        ]

    def _sentence(self) -> str:
        return self.sentence


def ci_facts(environment: Mapping[str, str]) -> dict[str, str]:
    """What a CI system says of the job, by its own variables; empty where there is none.

    >>> ci_facts({"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "17"})
    {'system': 'GITHUB_ACTIONS', 'GITHUB_RUN_ID': '17'}
    """
    for system, names in _CI.items():
        if environment.get(system):
            return {"system": system, **{name: environment[name] for name in names if environment.get(name)}}
    return {"system": "CI"} if environment.get("CI") in ("true", "1") else {}


def _open(condition: Condition) -> str:
    """An open condition, and what is known of it beyond that there is not enough evidence."""
    more = condition.reading.removeprefix("not enough evidence").lstrip(";, ")
    return f"{condition.name}, {more}" if more else condition.name


def _weak(conditions: tuple[Condition, ...]) -> list[str]:
    """What weakens the conditions, categories in one line."""
    judged = [c for c in conditions if c.verdict != Verdict.NOT_JUDGED]
    lines = dict.fromkeys(f"{c.name}: {note}." for c in judged if c.kind != "category" for note in c.notes)
    parts = [c for c in judged if c.kind == "category"]
    few = sum(c.df is None or c.df < FEW_DF for c in parts)
    rest = f"{few} of {counted(len(parts), 'category')} {'rests' if few == 1 else 'rest'}"
    line = f"{rest} on fewer than {FEW_DF:g} effective degrees of freedom: read with care."
    return [*lines, *([line] if few else [])]


def _cases_that_settle(decision: Decision) -> str:
    needed = decision.needed_cases
    if needed is None:
        return ""
    more = needed.likely - decision.n_cases
    low, high = rounded_count(needed.low), rounded_count(needed.high)
    span = f"between {low} and {high}" if low != high else high
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


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that a verdict rests on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
