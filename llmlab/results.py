"""The answers of a run and their scores: a tidy frame, and everything needed to read it honestly later."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.answerframe import frame_of, generations_of, storable
from llmlab.bundle import Bundle
from llmlab.clients.base import Generation
from llmlab.display import Shown
from llmlab.errors import DataError, FileRuleError, RunFailedError
from llmlab.golden import Case, GoldenSet
from llmlab.scoretable import Aggregation, Metric, ScoreTable, score_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.casebook import CaseView, Flips, Worst
    from llmlab.comparison import Comparison
    from llmlab.scorers import Scorer
    from llmlab.summary import Summary

__all__ = ["RESOURCE_METRICS", "Results"]

RESOURCE_METRICS = {
    "cost_usd": Metric(name="cost_usd", low=0.0, higher_is_better=False, unit="USD"),
    "latency_s": Metric(name="latency_s", low=0.0, higher_is_better=False, unit="s"),
    "output_tokens": Metric(name="output_tokens", low=0.0, higher_is_better=False, unit="tokens"),
    "input_tokens": Metric(name="input_tokens", low=0.0, higher_is_better=False, unit="tokens"),
}
FORMAT = "llmlab-results-1"


@dataclass(frozen=True, kw_only=True, repr=False)
class Results(Shown):
    """Every answer of a run, one row per variant x case x repeat, with one column per scorer.

    Attributes:
        frame: columns variant, case_id, repeat, status, text, retrieved, input_tokens, output_tokens,
            cached_input_tokens, latency_s, first_token_s, cost_usd (NaN = unknown), served_model,
            system_fingerprint, cached, attempts, error, call_key, explanations, and the scorers' (NaN = unscored).
        metrics: what each score column means, in the order of the scorers.
        bundles: the variants.
        golden: the cases, None where only scores are known.
        golden_digest, index_digests: what was asked, and what was searched per variant.
        complete: False when the run was interrupted, ran out of budget or of disk.
        failed_share_allowed: above this share of rows without an answer the run counts as FAILED.
        provenance: entry point and commit of an application, endpoint fingerprints, versions.
        notes: sentences that a reader must see, such as a model that changed under us.
        created_at: UTC, ISO 8601.
    """

    frame: pd.DataFrame
    metrics: Mapping[str, Metric]
    bundles: Mapping[str, Bundle]
    golden: GoldenSet | None = None
    golden_digest: str = ""
    index_digests: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    failed_share_allowed: float = 0.2
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    created_at: str = ""

    @classmethod
    def from_generations(
        cls, generations: Sequence[Generation], *, golden: GoldenSet, bundles: Mapping[str, Bundle], **facts: Any
    ) -> Results:
        """Unscored results of answers, sorted by case, repeat and variant; `facts` are further attributes."""
        order = {case.id: i for i, case in enumerate(golden)}
        place = {name: i for i, name in enumerate(bundles)}
        rows = sorted(generations, key=lambda g: (order[g.case_id], g.repeat, place[g.variant]))
        return cls(
            frame=frame_of(rows),
            metrics={},
            bundles=dict(bundles),
            golden=golden,
            golden_digest=golden.digest,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        golden: GoldenSet,
        scorers: Sequence[Scorer] = (),
        variant: str = "variant",
        case_id: str = "case_id",
        text: str = "text",
    ) -> Results:
        """Results of answers that exist already: one row per answer, in columns named here. Nothing is called."""
        missing = [column for column in (variant, case_id, text) if column not in frame.columns]
        if missing:
            raise DataError(f"the table has no column {missing[0]!r} (it has: {', '.join(map(str, frame.columns))})")
        unknown = sorted(set(frame[case_id].astype(str)) - set(golden.by_id))
        if unknown:
            raise DataError(f"{len(unknown)} case id(s) are not in the golden set, the first is {unknown[0]!r}")
        repeats = frame.groupby([variant, case_id], sort=False).cumcount()
        rows = zip(frame[variant], frame[case_id], frame[text], repeats, strict=True)
        generations = [
            Generation(variant=str(v), case_id=str(c), repeat=int(r), **_answer_fields(t)) for v, c, t, r in rows
        ]
        bundles = {str(name): _unknown_bundle(str(name)) for name in dict.fromkeys(frame[variant])}
        return cls.from_generations(generations, golden=golden, bundles=bundles).scored_by(scorers)

    def scored_by(self, scorers: Sequence[Scorer]) -> Results:
        """The same answers with these scorers' columns added (or renewed)."""
        from llmlab.scorers import score_all

        if self.golden is None:
            raise DataError("these results carry no golden set, so there is nothing to score against")
        by_id, names = self.golden.by_id, [scorer.name for scorer in scorers]
        if len(set(names)) < len(names):
            raise ValueError(f"two scorers share a name: {sorted(names)}")
        columns: dict[str, list[float]] = {name: [] for name in names}
        explanations: list[str] = []
        for generation in self.generations():
            found = score_all(scorers, by_id[generation.case_id], generation)
            for name, score in found.items():
                columns[name].append(math.nan if score.value is None else float(score.value))
            why = {name: score.explanation for name, score in found.items() if score.explanation}
            explanations.append(storable(json.dumps(why)) if why else "")
        metrics = {
            s.name: Metric(name=s.name, low=s.low, high=s.high, higher_is_better=s.higher_is_better) for s in scorers
        }
        frame = self.frame.assign(**columns, explanations=explanations)
        return replace(self, frame=frame, metrics={**self.metrics, **metrics})

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order they were given."""
        return tuple(self.bundles)

    @property
    def failed_share(self) -> float:
        """Share of the rows that have no answer: `error`, or never attempted because the run stopped."""
        return float((self.frame["status"] == "error").mean()) if len(self.frame) else 1.0

    @property
    def failed(self) -> bool:
        """Whether so many rows failed that no mean of this run means anything."""
        return self.failed_share > self.failed_share_allowed

    @property
    def state(self) -> str:
        """`complete`, `partial` or `FAILED`, in one word."""
        return "FAILED" if self.failed else "complete" if self.complete else "partial"

    def require_complete(self) -> Results:
        """These results, if the run is complete; RunFailedError with the commonest errors otherwise."""
        if self.state == "complete":
            return self
        errors = self.frame.loc[self.frame["status"] == "error", "error"].value_counts().head(3)
        common = "; ".join(f"{count} x {text}" for text, count in errors.items())
        raise RunFailedError(
            f"the run is {self.state}: {self.failed_share:.0%} of {len(self.frame)} rows have no answer"
            f"{f' ({common})' if common else ''}. {' '.join(self.notes)}".strip(),
            results=self,
        )

    def metric(self, name: str) -> Metric:
        """What a metric means: a scorer's, or cost_usd, latency_s, output_tokens, input_tokens."""
        found = self.metrics.get(name) or RESOURCE_METRICS.get(name)
        if found is None:
            known = ", ".join([*self.metrics, *RESOURCE_METRICS])
            raise ValueError(f"no metric {name!r} in these results (there are: {known})")
        return found

    def table(self, metric: str, *, aggregation: Aggregation = "mean") -> ScoreTable:
        """One metric as a matrix of cases x variants, repeats aggregated."""
        case_ids, case_codes, variant_codes = self._codes
        return score_table(
            self.metric(metric),
            scores=self.frame[metric].to_numpy(dtype=float, na_value=np.nan),
            case_codes=case_codes,
            variant_codes=variant_codes,
            case_ids=case_ids,
            variants=self.variants,
            golden=self.golden,
            aggregation=aggregation,
        )

    def generations(self) -> Iterator[Generation]:
        """The answers again as values, in the frame's order."""
        return generations_of(self.frame)

    def summary(self) -> Summary:
        """Each metric of each variant: mean [CI], scored/attempted, tokens, cost and latency."""
        from llmlab.summary import summarise

        return summarise(self)

    def compare(
        self,
        baseline: str,
        *,
        candidates: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        by: str | None = None,
        margin: float | None = None,
        aggregation: Aggregation = "mean",
        level: float = 0.95,
    ) -> Comparison:
        """Each candidate against the baseline on the cases both answered: paired, clustered, Holm-adjusted.

        Args:
            baseline: the variant to compare with.
            candidates: variants to compare; all others by default.
            metrics: metrics to compare; all scorers by default.
            by: "tags" for the same per tag, adjusted as a family of its own.
            margin: for bounded metrics, the harm that may be tolerated; adds a non-inferiority verdict.
        """
        from llmlab.comparison import Comparison, compare_tables
        from llmlab.summary import age_of

        if by not in (None, "tags"):
            raise ValueError(f"by == {by!r}, must be 'tags' or None")
        if self.failed:
            self.require_complete()
        tables = [self.table(name, aggregation=aggregation) for name in metrics or self.metrics]
        rows = compare_tables(
            tables, baseline, candidates=candidates, by_tag=by is not None, margin=margin, level=level
        )
        digest, age = self.golden_digest, age_of(self.created_at)
        return Comparison(rows=rows, baseline=baseline, golden_digest=digest, age=age, notes=self.notes)

    def best(self, metric: str) -> str:
        """The variant with the best mean of a metric: a place to look first, not evidence that it is better."""
        from llmlab.summary import case_mean

        table, meaning = self.table(metric), self.metric(metric)
        means = {name: case_mean(table, name).value for name in self.variants}
        known = {name: mean for name, mean in means.items() if mean is not None}
        if not known:
            raise DataError(f"no variant has a score for {metric!r}")
        return max(known, key=lambda name: known[name] if meaning.higher_is_better else -known[name])

    def flips(self, before: str, after: str, *, metric: str | None = None) -> Flips:
        """Cases that went from good to bad or from bad to good between two variants, with both answers."""
        from llmlab.casebook import flips

        return flips(self, before, after, metric=metric)

    def worst(self, n: int = 10, *, variant: str | None = None, metric: str | None = None) -> Worst:
        """The n lowest-scored answers."""
        from llmlab.casebook import worst

        return worst(self, n, variant=variant, metric=metric)

    def show(self, case_id: str, *, repeat: int = 0) -> CaseView:
        """One case: what was expected, every variant's answer side by side, scores, and the exact requests."""
        from llmlab.casebook import show

        return show(self, case_id, repeat=repeat)

    def to_parquet(self, path: str | Path) -> Path:
        """Write rows, bundles, cases and digests into one Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {
            "format": FORMAT,
            "metrics": [asdict(metric) for metric in self.metrics.values()],
            "bundles": {name: bundle.model_dump(mode="json") for name, bundle in self.bundles.items()},
            "cases": None if self.golden is None else [case.to_row() for case in self.golden],
            "golden": None if self.golden is None else {"name": self.golden.name, "parent": self.golden.parent},
            **{name: _plain(getattr(self, name)) for name in _PLAIN_FACTS},
        }
        table = pa.Table.from_pandas(
            self.frame.assign(retrieved=self.frame["retrieved"].map(list)), preserve_index=False
        )
        pq.write_table(table.replace_schema_metadata({b"llmlab": json.dumps(about).encode()}), path)
        return Path(path)

    @classmethod
    def from_parquet(cls, path: str | Path) -> Results:
        """Results that `to_parquet` wrote; FileRuleError for any other file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise FileRuleError(f"is not a Parquet file ({error})", path=path) from None
        raw = (table.schema.metadata or {}).get(b"llmlab")
        about = json.loads(raw) if raw else {}
        if about.get("format") != FORMAT:
            raise FileRuleError(
                "was not written by Results.to_parquet; use `llmlab compare` for other tables", path=path
            )
        frame = table.to_pandas()
        frame["retrieved"] = frame["retrieved"].map(tuple)
        cases = about["cases"]
        golden = None if cases is None else GoldenSet(tuple(Case.from_row(row) for row in cases), **about["golden"])
        facts = {name: about[name] for name in _PLAIN_FACTS} | {"notes": tuple(about["notes"])}
        return cls(
            frame=frame,
            metrics={row["name"]: Metric(**row) for row in about["metrics"]},
            bundles={name: Bundle.model_validate(row) for name, row in about["bundles"].items()},
            golden=golden,
            **facts,
        )

    @property
    def _codes(self) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
        import pandas as pd

        case_codes, case_ids = pd.factorize(self.frame["case_id"])
        variant_codes = pd.Categorical(self.frame["variant"], categories=list(self.variants)).codes
        return tuple(case_ids), case_codes.astype(np.int64), variant_codes.astype(np.int64)

    def __repr__(self) -> str:
        n_cases = self.frame["case_id"].nunique()
        return f"Results({len(self.variants)} variants x {n_cases} cases, {len(self.frame)} rows, {self.state})"

    def _rows(self) -> list[dict[str, object]]:
        return self.summary()._rows()

    def _sentence(self) -> str:
        return self.summary()._sentence()


_PLAIN_FACTS = (
    "golden_digest",
    "index_digests",
    "complete",
    "failed_share_allowed",
    "provenance",
    "notes",
    "created_at",
)


def _answer_fields(text: Any) -> dict[str, Any]:
    if text is None or text != text:
        return {"status": "error", "error": "no answer in the table"}
    return {"text": str(text)} if str(text).strip() else {"status": "empty"}


def _unknown_bundle(name: str) -> Bundle:
    """Stands for whatever wrote answers that were made elsewhere: explorable, never pinned."""
    safe = "".join(char if char.isalnum() and char.isascii() else "_" for char in name) or "unnamed"
    return Bundle.from_prompt("(made elsewhere)", model=f"elsewhere/{name or 'unnamed'}", name=f"v_{safe}"[:100])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
