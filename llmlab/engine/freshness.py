"""Is the index still true: what changed in the corpus since it was built, and whose questions that concerns.

An index leaves a manifest (ids, short hashes, and where the golden documents stood). `check` holds it against the
corpus of today (`ll.retrieval.check`). A run records what is known of its index (`engine.index_record`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, Field

from llmlab import search
from llmlab.base.documents import broken_rule, decoded, plain_json, read_bytes, write_whole
from llmlab.base.errors import DataError, FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.project import utc
from llmlab.base.verdict import Verdict
from llmlab.bundle.template import fill
from llmlab.display.shown import Conclusion, Rows, Shown
from llmlab.engine.index_record import corpus_name, index_record, stale_share
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.stats.estimate import Estimate

DAY_S = 86_400.0


class _TopK(pydantic.BaseModel, strict=True):
    k: int = Field(ge=1)
    found: dict[str, list[str]]


class _Manifest(pydantic.BaseModel, strict=True):
    """What is read of a manifest; it holds more."""

    documents: dict[str, str]
    built_at: Annotated[str, AfterValidator(lambda text: text and utc(text).isoformat())] = ""
    corpus_name: str = ""
    corpus_version: str = ""
    golden_top_k: _TopK | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Freshness(Shown):
    """An index's manifest against a corpus.

    Attributes:
        built_from, now: name and version of the corpus that was indexed, and of the one it was held against.
        added, changed, deleted: ids; `renamed` has the same text under another id (old, new).
        n_unchanged: documents that are as they were.
        built_at: when the index was built, "" = unknown.
        lag_s: seconds since the index was built while the corpus went on; 0 where nothing changed, None = unknown.
        golden: the cases, None where none were given.
        stale: case id -> its relevant documents that were changed, deleted, or added since.
        stale_share: share of the cases with a relevant document that have a stale one.
        left, entered: (case id, document id) of judged documents that left, or came into, the top k; None where the
            manifest or today's index is not there to be compared.
        k: how deep those looked.
    """

    built_from: str
    now: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    n_unchanged: int = 0
    built_at: str = ""
    lag_s: float | None = None
    golden: GoldenSet | None = None
    stale: Mapping[str, tuple[str, ...]]
    stale_share: Estimate | None = None
    left: tuple[tuple[str, str], ...] | None = None
    entered: tuple[tuple[str, str], ...] | None = None
    k: int | None = None

    @property
    def fresh(self) -> bool:
        """Whether the index holds exactly what the corpus says today."""
        return not (self.added or self.changed or self.deleted or self.renamed)

    def cases(self) -> Rows:
        """The golden questions whose relevant documents are stale, those with most of them first."""
        kinds = {name: kind for kind in ("added", "changed", "deleted") for name in getattr(self, kind)}
        rows = [
            {
                "case": case_id,
                "question": self._question(case_id),
                **{kind: ", ".join(d for d in ids if kinds.get(d) == kind) for kind in ("changed", "deleted", "added")},
            }
            for case_id, ids in sorted(self.stale.items(), key=lambda item: -len(item[1]))
        ]
        return Rows(rows=tuple(rows), sentence=f"{counted(len(rows), 'question')} with stale relevant documents.")

    def moves(self, first: int | None = None) -> Rows:
        """The judged documents that left the top k, then those that entered it; only the first so many if asked."""
        rows = [
            {"case": case_id, "question": self._question(case_id), "document": doc_id, "now": what}
            for what, pairs in (("left", self.left or ()), ("entered", self.entered or ()))
            for case_id, doc_id in pairs
        ]
        return Rows(rows=tuple(rows[:first]), sentence=self._moved())

    def verdict(self, *, stale_at_most: float) -> Conclusion:
        """PASS where the stale share is at most so much for sure, FAIL where it is above for sure, else INCONCLUSIVE.

        Raises:
            DataError: no golden set was given to `check`.
        """
        if not 0 <= stale_at_most < 1:
            raise ValueError(f"stale_at_most == {stale_at_most}, must be >= 0 and below 1")
        share = self.stale_share
        if share is None or share.value is None:
            raise DataError("no golden set was given to check(...), so nobody knows whose questions are concerned")
        if self.fresh or (share.high is not None and share.high <= stale_at_most):
            word = Verdict.PASS
        else:
            word = Verdict.FAIL if share.low is not None and share.low > stale_at_most else Verdict.INCONCLUSIVE
        shown = share.interval("%")
        return Conclusion(
            word=word,
            sentence=f"{shown} of the questions have a stale relevant document, at most {stale_at_most:.0%} allowed.",
        )

    def record(self) -> dict[str, Any]:
        """What a gate reads, as plain values: whether it is fresh, since when, and the share of stale questions."""
        about = {"built_at": self.built_at, "built_from": self.built_from, "now": self.now}
        return index_record(fresh=self.fresh, share=self.stale_share, **about)

    def recorded_in(self, results: Results, *variants: str) -> Results:
        """The results with this as what is known of those variants' index, for a gate that bounds it (`index:`).

        A run records the index that it searched; this is for an index that serves users and was built elsewhere.
        """
        if not variants or (unknown := sorted(set(variants) - set(results.variants))):
            wrong = unknown if variants else "none"
            raise ValueError(f"variants: {wrong}, must be one or more of {', '.join(results.variants)}")
        provenance = results.provenance.with_freshness(dict.fromkeys(variants, self.record()))
        return replace(results, provenance=provenance)

    def _question(self, case_id: str) -> str:
        case = self.golden.by_id.get(case_id) if self.golden else None
        return case.asked if case else ""

    def _rows(self) -> list[dict[str, object]]:
        counts = {name: len(getattr(self, name)) for name in ("added", "changed", "deleted", "renamed")}
        row: dict[str, object] = {"index of": self.built_from, "corpus": self.now, **counts}
        row["unchanged"] = self.n_unchanged
        row["lag"] = None if self.lag_s is None else f"{self.lag_s / DAY_S:,.1f} days"
        if (share := self.stale_share) is not None:
            row["questions with stale documents"] = share.interval("%")
        return [row]

    def _sentence(self) -> str:
        if self.fresh:
            state = f"The index of {self.built_from} is up to date."
        else:
            state = (
                f"Since the index of {self.built_from}, {counted(len(self.changed), 'document')} changed, "
                f"{len(self.added):,} came and {len(self.deleted):,} went; "
                f"{self.n_unchanged + len(self.renamed):,} are as they were."
            )
        if self.stale_share is not None:
            state += f" {len(self.stale):,} of {counted(self.stale_share.n, 'question')} rest on a stale document."
        return f"{state} {self._moved()}".strip()

    def _moved(self) -> str:
        if self.left is None or self.entered is None:
            return ""
        return (
            f"{counted(len(self.left), 'judged document')} left the top {self.k} of their questions, "
            f"{len(self.entered):,} entered."
        )


def manifest_of(
    index: search.Index, *, golden: GoldenSet | None = None, k: int | None = None, built_at: datetime | None = None
) -> dict[str, Any]:
    """The index's manifest, with when it was built and, for a golden set, the top k of each question."""
    manifest = {**index.manifest, "built_at": (built_at or datetime.now(UTC)).isoformat(timespec="seconds")}
    if golden is not None:
        depth = k or index.config.k
        manifest["golden_top_k"] = {"k": depth, "golden": golden.digest, "found": _top_k(index, golden, depth)}
    return manifest


def save_manifest(
    index: search.Index,
    path: str | Path,
    *,
    golden: GoldenSet | None = None,
    k: int | None = None,
    built_at: datetime | None = None,
) -> Path:
    """Write the manifest as JSON, one document a line; keep it beside the index that serves users."""
    text = json.dumps(manifest_of(index, golden=golden, k=k, built_at=built_at), indent=0, ensure_ascii=False)
    return write_whole(path, text + "\n")


def load_manifest(path: str | Path) -> dict[str, Any]:
    """A manifest that `save_manifest` wrote; FileRuleError for anything else."""
    try:
        manifest: dict[str, Any] = plain_json(decoded(read_bytes(path), path))
        _Manifest.model_validate(manifest)
    except pydantic.ValidationError as error:
        raise FileRuleError(f"is no index manifest ({broken_rule(error)})", path=path) from None
    except ValueError as error:
        raise FileRuleError(f"is not JSON ({error})", path=path) from None
    return manifest


def check(
    manifest: Mapping[str, Any] | search.Index,
    corpus: search.Corpus,
    *,
    golden: GoldenSet | None = None,
    index: search.Index | None = None,
    now: datetime | None = None,
    level: float = 0.95,
) -> Freshness:
    """What became stale between an index (or its manifest) and the corpus of today.

    Args:
        golden: whose questions are concerned; documents are those its cases call relevant.
        index: today's index; with a manifest that has the golden top k, judged documents that moved are named.
        now: when today is, for the lag.

    >>> from llmlab.search.corpus import Corpus, Document
    >>> corpus = Corpus(documents=(Document(id="a", text="new"), Document(id="b", text="same")))
    >>> old = {"documents": {"a": "0" * 16, "b": corpus["b"].short_hash, "c": "1" * 16}}
    >>> freshness = check(old, corpus)
    >>> freshness.changed, freshness.deleted, freshness.added
    (('a',), ('c',), ())
    """
    built: Mapping[str, Any] = manifest.manifest if isinstance(manifest, search.Index) else manifest
    before: Mapping[str, str] = built["documents"]
    today = {document.id: document.short_hash for document in corpus}
    digests_now = {name: today[document.id] for name, document in corpus.by_id.items()}
    old_hashes, new_of = {value: name for name, value in before.items()}, {value: name for name, value in today.items()}
    gone = [name for name in before if name not in digests_now]
    renamed = tuple((name, new_of[before[name]]) for name in gone if before[name] in new_of)
    changed = tuple(name for name, value in before.items() if name in digests_now and digests_now[name] != value)
    added = tuple(d.id for d in corpus if not {d.id, *d.aliases} & before.keys() and today[d.id] not in old_hashes)
    deleted = tuple(name for name in gone if before[name] not in new_of)
    concerned = {*changed, *deleted, *added}
    of_cases = {case.id: tuple(name for name in case.relevant_ids if name in concerned) for case in golden or ()}
    stale = {case_id: names for case_id, names in of_cases.items() if names}
    built_at = str(built.get("built_at") or "")
    lag_s: float | None = 0.0
    if concerned:
        lag_s = ((now or datetime.now(UTC)) - utc(built_at)).total_seconds() if built_at else None
    return Freshness(
        built_from=corpus_name(built.get("corpus_name"), built.get("corpus_version")),
        now=corpus_name(corpus.name, corpus.version),
        added=added,
        changed=changed,
        deleted=deleted,
        renamed=renamed,
        n_unchanged=len(before) - len(changed) - len(gone),
        built_at=built_at,
        lag_s=lag_s,
        golden=golden,
        stale=stale,
        stale_share=None if golden is None else stale_share(golden, stale, level=level),
        **_moves(built, golden, index),
    )


def _top_k(index: search.Index, golden: GoldenSet, k: int) -> dict[str, list[str]]:
    hits_of = index.search([fill(index.config.query, case.inputs) for case in golden], k)
    return {
        case.id: list(dict.fromkeys(hit.doc_id for hit in hits)) for case, hits in zip(golden, hits_of, strict=True)
    }


def _moves(manifest: Mapping[str, Any], golden: GoldenSet | None, index: search.Index | None) -> dict[str, Any]:
    """`left`, `entered` and `k` of a `Freshness`, where the manifest has the top k and today's index is there."""
    earlier = manifest.get("golden_top_k")
    if earlier is None or golden is None or index is None:
        return {}
    before, now = earlier["found"], _top_k(index, golden, earlier["k"])
    judged = [(case.id, name) for case in golden if case.id in before for name in case.relevant_ids]  # not asked later
    left = tuple((case, name) for case, name in judged if name in before[case] and name not in now[case])
    entered = tuple((case, name) for case, name in judged if name in now[case] and name not in before[case])
    return {"left": left, "entered": entered, "k": earlier["k"]}
