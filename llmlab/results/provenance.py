"""Where results are from: the endpoints that were asked, the code, the judges and labels, how true an index was.

Made by the engine and by those who add to results later; read by the gate, MLflow and whoever repeats a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True, kw_only=True)
class JudgeRecord:
    """What was asked of a judge for one metric; `pinned` None and `cost_usd` None = not known."""

    digest: str = ""
    model: str = ""
    pinned: bool | None = None
    kind: str = ""
    rubric: str = ""
    calls: int = 0
    cost_usd: float | None = None
    unscored: int = 0


@dataclass(frozen=True, kw_only=True)
class LabelsRecord:
    """Which labels stand beside a judged metric, and how many of them fitted an answer and how many did not."""

    digest: str = ""
    used: int = 0
    stale: int = 0


@dataclass(frozen=True, kw_only=True)
class Provenance(Mapping[str, Any]):
    """Where results are from, as attributes; it can also be read as the mapping of plain values that files hold.

    Attributes:
        endpoints: variant -> fingerprint of the endpoint that answered.
        commit, dirty: of the code that ran; "" = not in a repository.
        app, source, changes: an application's entry point, the digest of its source, and that of its changed files.
        index_freshness: variant -> what is known of how true its index is (`retrieval.Freshness.record`).
        judges, labels: metric -> the judge that gave it, and the labels that stand beside it.
        scorers: variant -> metric -> digest of the scorer that made it, where that is not the metric's own.
        redacted_from: digest of the results before personal data was replaced, "" where none was.
        contents: case id -> `Case.content` as it was before that.
        sweep_variants: the variants of the run that this is a part of.
        borrowed: how many answers each call store of others gave.
        more: what another version wrote.
    """

    endpoints: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool = False
    app: str = ""
    source: str = ""
    changes: str = ""
    index_freshness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    judges: Mapping[str, JudgeRecord] = field(default_factory=dict)
    labels: Mapping[str, LabelsRecord] = field(default_factory=dict)
    scorers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    redacted_from: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)
    sweep_variants: tuple[str, ...] = ()
    borrowed: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Provenance:
        """What a file holds, or somebody gave as a mapping; TypeError where a record has an unknown entry.

        >>> Provenance.of({"commit": "f00", "judges": {"tone": {"digest": "abc"}}}).judges["tone"].digest
        'abc'
        """
        if isinstance(values, Provenance):
            return values
        names = {part.name for part in fields(cls)}
        known = {name: value for name, value in values.items() if name in names and value is not None}
        for name, record in (("judges", JudgeRecord), ("labels", LabelsRecord)):
            known |= {name: {metric: record(**about) for metric, about in known[name].items()}} if name in known else {}
        if "sweep_variants" in known:
            known["sweep_variants"] = tuple(known["sweep_variants"])
        others = {name: value for name, value in values.items() if name not in names}
        return cls(**{**known, "more": {**known.get("more", {}), **others}})

    def with_judge(self, metric: str, record: JudgeRecord) -> Provenance:
        """The same with who judged one more metric."""
        return replace(self, judges={**self.judges, metric: record})

    def with_scorers(
        self, by_variant: Mapping[str, Mapping[str, str]], *, metrics: Mapping[str, str | None]
    ) -> Provenance:
        """The same with who made each metric of each variant where the metric's own scorer (None = any) did not."""
        others = {
            name: {metric: digest for metric, digest in by.items() if metrics.get(metric, "") not in (None, digest)}
            for name, by in by_variant.items()
        }
        return replace(self, scorers=others if any(others.values()) else {})

    def with_freshness(self, known: Mapping[str, Mapping[str, Any]]) -> Provenance:
        """The same with what is known of these variants' indexes."""
        return replace(self, index_freshness={**self.index_freshness, **known})

    @cached_property
    def _plain(self) -> dict[str, Any]:
        plain = asdict(self)
        return {**plain.pop("more"), **plain, "sweep_variants": list(self.sweep_variants)}

    def __getitem__(self, name: str) -> Any:
        return self._plain[name]

    def __iter__(self) -> Iterator[str]:
        """Names of what is known: that which is empty is left out."""
        return (name for name, value in self._plain.items() if value)

    def __len__(self) -> int:
        return sum(1 for _ in self)
