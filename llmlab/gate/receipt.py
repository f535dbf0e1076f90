"""The receipt of a decision: one JSON document with every digest, number and origin, strict when it is read back.

Its own digest only shows that it was not changed by accident: whoever relies on it (the registry) decides again
from the logged cases and asks for `differences`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from llmlab.base.display import Shown
from llmlab.base.documents import Sealed, Strict
from llmlab.base.project import git_state, named_in, utc
from llmlab.base.verdict import Verdict
from llmlab.gate.condition import Condition

if TYPE_CHECKING:
    from llmlab.gate.decision import Decision

__all__ = ["Receipt", "ReceiptCondition", "ci_facts", "receipt_of"]

PACKAGES = ("llmlab", "numpy", "scipy", "pandas", "pydantic")
_CI = {  # what a CI system says of the job, by its own variables
    "GITHUB_ACTIONS": ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA", "GITHUB_REF", "GITHUB_ACTOR"),
    "GITLAB_CI": ("CI_PROJECT_PATH", "CI_PIPELINE_ID", "CI_COMMIT_SHA", "CI_COMMIT_REF_NAME", "GITLAB_USER_LOGIN"),
    "BUILDKITE": ("BUILDKITE_PIPELINE_SLUG", "BUILDKITE_BUILD_NUMBER", "BUILDKITE_COMMIT", "BUILDKITE_BRANCH"),
    "JENKINS_URL": ("JOB_NAME", "BUILD_NUMBER", "GIT_COMMIT", "GIT_BRANCH"),
}
Texts = Annotated[tuple[str, ...], Field(strict=False)]


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

    @classmethod
    def of(cls, condition: Condition) -> ReceiptCondition:
        """The numbers of a condition."""
        names = [name for name in cls.model_fields if name not in ("reading", "notes")]
        taken = {name: getattr(condition, name) for name in names}
        return cls(**taken, reading=condition.reading, notes=condition.notes)


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

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS."""
        return self.verdict == Verdict.PASS

    def decided_at(self) -> datetime:
        """When it was decided; hand it to `GatePolicy.decide(now=...)` to decide again."""
        return utc(self.created_at)

    def differences(self, decision: Decision) -> tuple[str, ...]:
        """What a decision made again finds otherwise than this receipt says; empty when it confirms it.

        The same index is built anew by every process: when it was does not count here, but in the verdict.
        """
        again, names = receipt_of(decision), list(_RECOMPUTED)
        wrong = [name for name in names if _timeless(getattr(again, name)) != _timeless(getattr(self, name))]
        if len(again.conditions) != len(self.conditions) or not all(
            _alike(a.model_dump(), b.model_dump()) for a, b in zip(again.conditions, self.conditions, strict=False)
        ):
            wrong.append("conditions")
        return tuple(wrong)

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


_RECOMPUTED = (
    *("verdict", "candidate", "baseline", "anchor", "bundle_digest", "baseline_digest", "anchor_digest"),
    *("golden_digest", "index_digest", "index_freshness", "policy_digest", "results_digest", "judges", "scorers"),
    *("labels", "look", "candidates_tried"),
)


def receipt_of(decision: Decision, *, folder: str | Path | None = None, **facts: Any) -> Receipt:
    """The receipt of a decision; commit, author, CI facts and versions are read from around us unless given."""
    known, git = dict(decision.facts), git_state(folder)
    run_dirty, _ = known.pop("run_dirty"), known.pop("run_commit")
    author = named_in(os.environ) or git.author or known["author"]
    known.pop("author")
    needed, labels = decision.needed_cases, decision.needed_labels
    around = {
        "commit": git.commit,
        "dirty": git.dirty or run_dirty,
        "author": author,
        "ci": ci_facts(os.environ),
        "versions": _versions(),
    }
    return Receipt(
        verdict=decision.word,  # type: ignore[arg-type]  # one of the four, checked by pydantic
        sentence=decision.sentence,
        reasons=decision.reasons,
        conditions=tuple(ReceiptCondition.of(condition) for condition in decision.conditions),
        notes=decision.notes,
        candidate=decision.candidate,
        baseline=decision.baseline or "",
        anchor=decision.anchor or "",
        n_cases=decision.n_cases,
        needed_cases={} if needed is None else {"low": needed.low, "likely": needed.likely, "high": needed.high},
        needed_labels={} if labels is None else {k: n for k, n in labels._asdict().items() if isinstance(n, int)},
        look=decision.price.look,
        candidates_tried=decision.price.candidates,
        asked_confidence=decision.price.asked,
        ledger=decision.price.state,
        created_at=decision.look.made_at,
        **{**known, **around, **facts},
    )


def ci_facts(environment: Mapping[str, str]) -> dict[str, str]:
    """What a CI system says of the job, by its own variables; empty where there is none.

    >>> ci_facts({"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "17"})
    {'system': 'GITHUB_ACTIONS', 'GITHUB_RUN_ID': '17'}
    """
    for system, names in _CI.items():
        if environment.get(system):
            return {"system": system, **{name: environment[name] for name in names if environment.get(name)}}
    return {"system": "CI"} if environment.get("CI") in ("true", "1") else {}


def _timeless(value: Any) -> Any:
    return {key: one for key, one in value.items() if key != "built_at"} if isinstance(value, Mapping) else value


def _alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Equal but for rounding of the last digits, as between two versions of a numerical library."""
    for name, a in ours.items():
        b = theirs[name]
        if isinstance(a, float) and isinstance(b, float):
            if abs(a - b) > 1e-9 * max(1.0, abs(a), abs(b)):
                return False
        elif name not in ("reading", "notes") and a != b:
            return False
    return True


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
