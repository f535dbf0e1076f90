"""The answers of a run and their scores: a tidy frame, and everything needed to read it honestly later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.display import Rows, Shown
from llmlab.base.errors import DataError, RunFailedError
from llmlab.bundle.bundle import Bundle, axes
from llmlab.clients.base import Generation
from llmlab.golden.cases import GoldenSet, is_held_out
from llmlab.golden.labels import Labels
from llmlab.results.answers import (
    FACTS,
    answers_of,
    bounds_of,
    content_digest,
    frame_of,
    generations_of,
    read_results,
    score_columns,
    unknown_bundle,
    write_results,
)
from llmlab.results.labelled import LabelledScores, corrected_line, label_columns
from llmlab.results.scores import Aggregation, CaseGroups, Metric, ScoreTable, score_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.results.case_view import CaseView
    from llmlab.results.cases import Flips
    from llmlab.results.comparison import Comparison
    from llmlab.results.cost import PerVariant
    from llmlab.results.summary import Summary
    from llmlab.scorers import Scorer
    from llmlab.scorers.base import ScoreFunction
    from llmlab.stats.effects import Effects

__all__ = ["RESOURCE_METRICS", "Results"]

RESOURCE_METRICS = {
    "cost_usd": Metric(name="cost_usd", low=0.0, higher_is_better=False, unit="USD"),
    "latency_s": Metric(name="latency_s", low=0.0, higher_is_better=False, unit="s"),
    "first_token_s": Metric(name="first_token_s", low=0.0, higher_is_better=False, unit="s"),
    "output_tokens": Metric(name="output_tokens", low=0.0, higher_is_better=False, unit="tokens"),
    "input_tokens": Metric(name="input_tokens", low=0.0, higher_is_better=False, unit="tokens"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Results(Shown):
    """Every answer of a run, one row per variant x case x repeat, with one column per scorer.

    Attributes:
        frame: columns variant, case_id, repeat, status, text, retrieved, input_tokens, output_tokens,
            cached_input_tokens, latency_s, first_token_s, cost_usd (NaN = unknown), served_model,
            system_fingerprint, cached, attempts, error, call_key, bounds (of a number that is unknown), explanations,
            and the scorers' (NaN = unscored).
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
            golden_digest=golden.digest,  # before the frame is made: both take memory while they are
            frame=frame_of(rows),
            metrics={},
            bundles=dict(bundles),
            golden=golden,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **facts | {"notes": (*facts.get("notes", ()), *golden.personal_notes)},
        )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        golden: GoldenSet,
        scorers: Sequence[Scorer | ScoreFunction] = (),
        variant: str = "variant",
        case_id: str = "case_id",
        text: str = "text",
        repeat: str = "repeat",
    ) -> Results:
        """Results of answers that exist already: one row per answer, in columns named here. Nothing is called.

        The column of repeats may be absent; then a variant has one answer per case. An empty cell is an empty
        answer, a missing one (None, NaN) an error row.

        Raises:
            DataError: a column is missing, a case is not in the golden set, or two rows answer the same thing.
        """
        answers = answers_of(frame, case_ids=golden.by_id, columns=(variant, case_id, text, repeat))
        bundles = {name: unknown_bundle(name) for name in dict.fromkeys(answer.variant for answer in answers)}
        n_silent = len(golden) - len({answer.case_id for answer in answers})
        notes = (f"{n_silent} of {len(golden)} golden cases have no answer in the table.",) if n_silent else ()
        return cls.from_generations(answers, golden=golden, bundles=bundles, notes=notes).scored_by(scorers)

    def scored_by(self, scorers: Sequence[Scorer | ScoreFunction]) -> Results:
        """The same answers with these scorers' columns added (or renewed).

        Raises:
            DataError: there is no golden set to score against.
            ValueError: two scorers share a name.
        """
        from llmlab.scorers import as_scorers

        if self.golden is None:
            raise DataError("these results carry no golden set, so there is nothing to score against")
        made = as_scorers(scorers)
        known = self.frame["explanations"] if "explanations" in self.frame.columns else [""] * len(self.frame)
        pairs = ((self.golden.by_id[answer.case_id], answer) for answer in self.generations())
        metrics = {
            s.name: Metric(name=s.name, low=s.low, high=s.high, higher_is_better=s.higher_is_better, scorer=s.digest)
            for s in made
        }
        frame = self.frame.assign(**score_columns(made, pairs, explanations=known))
        others = {
            variant: {name: digest for name, digest in by.items() if name not in metrics}
            for variant, by in self._other_scorers.items()
        }
        about = {**self.provenance, "scorers": others} if others else self.provenance
        return replace(self, frame=frame, metrics={**self.metrics, **metrics}, provenance=about)

    def joined(self, other: Results, *, variants: Sequence[str] | None = None) -> Results:
        """These results with variants of another run of the same cases before them; by default all of its variants.

        The metrics are those that both have. Where another scorer made one, nothing compares the two arms until
        `scored_by` has scored the stored answers of both again, which costs no call.

        Raises:
            ValueError: the other run has no such variant.
        """
        import pandas as pd

        names = other.variants if variants is None else tuple(variants)
        if unknown := [name for name in names if name not in other.variants]:
            raise ValueError(f"no variant {unknown[0]!r} in the earlier run (there are: {', '.join(other.variants)})")
        rows = pd.concat([other.frame[other.frame["variant"].isin(names)], self.frame], ignore_index=True)
        metrics = {name: metric for name, metric in self.metrics.items() if name in other.metrics}
        theirs = {name: {metric: other.scorers_of(metric)[name] for metric in metrics} for name in names}
        others = {
            name: {metric: digest for metric, digest in by.items() if digest != metrics[metric].scorer}
            for name, by in {**theirs, **self._other_scorers}.items()
        }
        return replace(
            self,
            frame=rows.fillna({name: "" for name in ("explanations", "bounds") if name in rows.columns}),
            bundles={**{name: other.bundles[name] for name in names}, **self.bundles},
            metrics=metrics,
            index_digests={**{k: v for k, v in other.index_digests.items() if k in names}, **self.index_digests},
            provenance={**self.provenance, "scorers": others} if any(others.values()) else self.provenance,
        )

    def scorers_of(self, metric: str) -> dict[str, str]:
        """The digest of the scorer that made a metric, by variant; "" where it is not known, or none made it."""
        made = self.metrics[metric].scorer if metric in self.metrics else ""
        return {name: self._other_scorers.get(name, {}).get(metric, made) for name in self.variants}

    def not_comparable(self, metric: str, variants: Iterable[str]) -> str:
        """Why these variants are not compared on a metric: two scorers made it. "" where one did."""
        found = self.scorers_of(metric)
        by = {found[name]: name for name in variants if name in found}
        if len(by) < 2:
            return ""
        told = " and ".join(f"{name} by {digest[:8] or 'one that is not known'}" for digest, name in by.items())
        return (
            f"{metric} was made by two scorers, {told}; score the stored answers of both arms again, which costs no "
            f"call: results.scored_by([{metric}]), and the same of an earlier run that the baseline is taken from"
        )

    def _require_comparable(self, metric: str, variants: Iterable[str]) -> None:
        if why := self.not_comparable(metric, variants):
            raise DataError(why)

    @property
    def _other_scorers(self) -> Mapping[str, Mapping[str, str]]:
        """By variant and metric the scorers that are not the metric's own: of rows that were joined."""
        found: Mapping[str, Mapping[str, str]] = self.provenance.get("scorers") or {}
        return found

    @cached_property
    def contents(self) -> Mapping[str, str]:
        """`Case.content` of every case by its id, as it was before personal data was replaced; empty without cases."""
        known: Mapping[str, str] = self.provenance.get("contents") or {}
        return {case.id: known.get(case.id) or case.content for case in self.golden or ()}

    def of_cases(self, ids: Iterable[str]) -> Results:
        """These results with the rows of these cases alone; DataError where they carry no golden set."""
        if self.golden is None:
            raise DataError("these results carry no golden set, so no part of its cases can be taken")
        golden, wanted = self.golden.only(ids=ids), set(ids)
        rows = self.frame[self.frame["case_id"].isin(wanted)].reset_index(drop=True)
        return replace(self, frame=rows, golden=golden, golden_digest=golden.digest)

    def holdout(self, share: float) -> Results:
        """The rows of the cases in the `GoldenSet.holdout` of this share.

        Raises:
            DataError: no golden set is there to be split. ValueError: the holdout is empty.
        """
        held = {case_id for case_id, content in self.contents.items() if is_held_out(content, share)}
        if self.golden is not None and not held:
            raise ValueError(f"the {share:.0%} holdout of these {len(self.golden)} cases is empty")
        return self if self.golden is not None and len(held) == len(self.golden) else self.of_cases(held)

    def with_labels(self, labels: Labels, *, metric: str | None = None) -> Results:
        """The same results with people's grades beside the judge's, by which summary, comparison and gate correct.

        Adds the columns `<metric>_label` (mean of the labellers, NaN = none) and `<metric>_inclusion` (the probability
        of having been chosen, NaN = not known), and the labels' digest to the provenance. Labels of the same metric
        that were there before are replaced. A label that fits no answer is counted as stale and not used.

        Args:
            metric: the judge's, by default the labels' rubric.

        Raises:
            DataError: preferences, labels by another rubric than the judge's, or none that fits.

        >>> import pandas as pd
        >>> from llmlab.golden.cases import Case
        >>> from llmlab.golden.labels import Label, text_digest
        >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Which function drops gaps?"}),))
        >>> answers = pd.DataFrame({"variant": ["v1", "v2"], "case_id": "q1", "text": ["dropna", "fillna"]})
        >>> judged = Results.from_frame(answers, golden=golden)
        >>> judged = replace(judged, frame=judged.frame.assign(relevance=[4.0, 4.0]))
        >>> asked = text_digest("Which function drops gaps?")
        >>> label = Label(rubric="relevance", case_id="q1", question=asked, answer=text_digest("dropna"), value=5)
        >>> judged.with_labels(Labels((label,))).frame["relevance_label"].tolist()
        [5.0, nan]
        """
        name = metric or labels.rubric
        judged_by = self.provenance.get("judges", {}).get(name, {}).get("rubric", labels.rubric)
        if judged_by != labels.rubric and not labels.pairwise:
            raise DataError(f"{name!r} was judged by the rubric {judged_by!r}, the labels are by {labels.rubric!r}")
        columns, n_used = label_columns(labels, self.frame, self.golden, name=name)
        stale = len(labels) - n_used
        note = f"{stale} of {len(labels)} labels of {name} fit no answer here (changed, or of others) and are not used."
        about = {"digest": labels.digest, "used": n_used, "stale": stale}
        known = {**self.provenance.get("labels", {}), name: about}
        return replace(
            self,
            frame=self.frame.assign(**columns),
            provenance={**self.provenance, "labels": known},
            notes=tuple(dict.fromkeys([*self.notes, *([note] if stale else [])])),
        )

    def labelled(self, metric: str) -> LabelledScores:
        """A judged metric beside people's labels of it; DataError where these results carry none (`with_labels`)."""
        return LabelledScores.of(self.frame, metric=self.metric(metric), variants=self.variants, golden=self.golden)

    @property
    def labels_digests(self) -> dict[str, str]:
        """Metric -> digest of the labels that these results carry."""
        return {name: str(about["digest"]) for name, about in dict(self.provenance.get("labels") or {}).items()}

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order they were given."""
        return tuple(self.bundles)

    @property
    def failed_share(self) -> float:
        """Share of the attempted rows that have no answer (status `error`); 1 where nothing was attempted."""
        return float((self.frame["status"] == "error").mean()) if len(self.frame) else 1.0

    @property
    def failed(self) -> bool:
        """Whether so many rows failed that no mean of this run means anything."""
        return self.failed_share > self.failed_share_allowed

    @property
    def state(self) -> str:
        """`complete`, `partial` or `FAILED`, in one word."""
        return "FAILED" if self.failed else "complete" if self.complete else "partial"

    @cached_property
    def digest(self) -> str:
        """Of answers, scores, scorers, bundles and golden set: the same results have the same one, whenever made."""
        facts = {
            "bundles": {name: bundle.digest for name, bundle in self.bundles.items()},
            "golden": self.golden_digest,
            "index": dict(self.index_digests),
            "complete": self.complete,
        }
        scorers = {name: metric.scorer for name, metric in self.metrics.items() if metric.scorer}
        facts |= {"scorers": [scorers, self._other_scorers]} if scorers else {}  # what 0.1 wrote has none
        return self.provenance.get("redacted_from") or content_digest(self.frame, facts)

    @property
    def common_errors(self) -> str:
        """The three commonest errors with their counts; "" without any, or where a note says them already."""
        errors = self.frame.loc[self.frame["status"] == "error", "error"].value_counts().head(3)
        noted = " ".join(self.notes)
        return "; ".join(f"{count} x {text}" for text, count in errors.items() if str(text) not in noted)

    def require_complete(self) -> Results:
        """These results, if the run is complete; RunFailedError with the commonest errors otherwise."""
        if self.state == "complete":
            return self
        common = self.common_errors
        raise RunFailedError(
            f"the run is {self.state}: {self.failed_share:.0%} of {len(self.frame)} rows have no answer"
            f"{f' ({common})' if common else ''}. {' '.join(self.notes)}".strip(),
            results=self,
        )

    def metric(self, name: str) -> Metric:
        """What a metric means: a scorer's, or cost_usd, latency_s, first_token_s, output_tokens, input_tokens."""
        found = self.metrics.get(name) or RESOURCE_METRICS.get(name)
        if found is None:
            known = ", ".join([*self.metrics, *RESOURCE_METRICS])
            raise ValueError(f"no metric {name!r} in these results (there are: {known})")
        return found

    def table(self, metric: str, *, aggregation: Aggregation = "mean") -> ScoreTable:
        """One metric as a matrix of cases x variants, repeats aggregated."""
        case_ids, case_codes, variant_codes, groups = self._codes
        return score_table(
            self.metric(metric),
            scores=self.frame[metric].to_numpy(dtype=float, na_value=np.nan),
            case_codes=case_codes,
            variant_codes=variant_codes,
            case_ids=case_ids,
            variants=self.variants,
            groups=groups,
            aggregation=aggregation,
            bounds=None if metric in self.metrics else bounds_of(self.frame, metric),
        )

    def generations(self) -> Iterator[Generation]:
        """The answers again as values, in the frame's order."""
        return generations_of(self.frame)

    def summary(self) -> Summary:
        """Each metric of each variant: mean [CI] (beside it corrected by labels, if any), tokens, cost and latency."""
        from llmlab.results.summary import summarise

        scores = {name: self.labelled(name) for name in self.labels_digests if name in self.metrics}
        corrected = {(v, name): of.mean(v).corrected for name, of in scores.items() for v in self.variants}
        return summarise(self, corrected=corrected)

    def compare(
        self,
        baseline: str,
        *,
        candidates: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        by: str | None = None,
        margin: float | Mapping[str, float] | None = None,
        aggregation: Aggregation = "mean",
        level: float = 0.95,
        requests_per_day: int | None = None,
    ) -> Comparison:
        """Each candidate against the baseline on the cases both answered: paired, clustered, Holm-adjusted.

        Args:
            baseline: the variant to compare with.
            candidates: variants to compare; all others by default.
            metrics: metrics to compare; all scorers by default. Named latency_s or first_token_s (to the first token
                of a stream) come with the differences of their p50, p95 and p99.
            by: "tags" for the same per tag, adjusted as a family of its own.
            margin: the harm that may be tolerated, one number for the bounded metrics or one per metric name; adds
                a non-inferiority verdict.
            aggregation: what the repeats of a case become; all but the mean need scores of 0 and 1.
            level: of the intervals.
            requests_per_day: adds how the cost changes, and what that makes in a month.

        Raises:
            RunFailedError: too many rows have no answer for a difference to mean anything.
            DataError: two scorers made the scores that would be compared.
        """
        from llmlab.results.comparison import Comparison, compare_tables
        from llmlab.results.cost import LATENCIES, cost_line, latency_line
        from llmlab.results.summary import age_of

        if by not in (None, "tags"):
            raise ValueError(f"by == {by!r}, must be 'tags' or None")
        if self.failed:
            self.require_complete()
        names = list(self.metrics) if metrics is None else list(metrics)
        if not names:
            raise ValueError(f"no scorer in these results; name metrics=[...] ({', '.join(RESOURCE_METRICS)})")
        for name in names:
            self._require_comparable(name, self.variants if candidates is None else [baseline, *candidates])
        tables = [self.table(name, aggregation=aggregation) for name in names]
        rows = compare_tables(
            tables, baseline, candidates=candidates, by_tag=by is not None, margin=margin, level=level
        )
        partial = () if self.complete else ("Partial results: the cases that are missing may differ from these.",)
        arms = dict.fromkeys(row.candidate for row in rows) if requests_per_day else ()
        costs = [cost_line(self, baseline, arm, requests_per_day=requests_per_day) for arm in arms]
        costs += [
            latency_line(self, row.metric.name, baseline, row.candidate, level=level)
            for row in rows
            if row.metric.name in LATENCIES and row.category is None
        ]
        labelled = dict.fromkeys((r.metric.name, r.candidate) for r in rows if r.metric.name in self.labels_digests)
        costs += [corrected_line(self.labelled(name), baseline, arm, level=level) for name, arm in labelled]
        about = {"golden_digest": self.golden_digest, "age": age_of(self.created_at)}
        return Comparison(rows=rows, baseline=baseline, notes=(*costs, *partial, *self.notes), **about)

    def cost_per_success(self, metric: str) -> PerVariant:
        """Dollars per successful answer of each variant, failed attempts included, with its interval."""
        from llmlab.results import cost as economics

        return economics.cost_per_success(self, metric)

    def consistency(self, metric: str) -> PerVariant:
        """The chance that two answers to the same case score the same, per variant, with its interval."""
        from llmlab.results.cost import consistency

        return consistency(self, metric)

    def effects(self, formula: str, *, metric: str | None = None, level: float = 0.95) -> Effects:
        """What each factor of a grid does to a metric (the first by default): `effects("prompt * temperature")`.

        The factors are `prompt`, `model` and every sampling parameter of the bundles, such as `temperature`.
        """
        from llmlab.stats.effects import factor_effects

        if self.failed:
            self.require_complete()
        name = metric or next(iter(self.metrics), "latency_s")
        table, factors = self.table(name), axes(self.bundles)
        return factor_effects(
            table.values, factors=factors, formula=formula, metric=name, level=level, **table.design()
        )

    def best(self, metric: str) -> str:
        """The variant with the best mean of a metric: a place to look first, not evidence that it is better.

        Unscored answers count at their worst.
        """
        from llmlab.results.summary import case_mean, worst_case_mean

        self._require_comparable(metric, self.variants)
        table, meaning = self.table(metric), self.metric(metric)
        means = {name: (worst_case_mean(table, name) or case_mean(table, name)).value for name in self.variants}
        known = {name: mean for name, mean in means.items() if mean is not None}
        if not known:
            raise DataError(f"no variant has a score for {metric!r}")
        return max(known, key=lambda name: known[name] if meaning.higher_is_better else -known[name])

    def flips(self, before: str, after: str, *, metric: str | None = None) -> Flips:
        """Cases that went from good to bad or from bad to good between two variants, with both answers."""
        from llmlab.results.cases import flips

        return flips(self, before, after, metric=metric)

    def worst(self, n: int = 10, *, variant: str | None = None, metric: str | None = None) -> Rows:
        """The n lowest-scored answers."""
        from llmlab.results.cases import worst

        return worst(self, n, variant=variant, metric=metric)

    def show(self, case_id: str, *, repeat: int = 0, store: str | Path | None = None) -> CaseView:
        """One case: what was expected, every variant's answer side by side, scores, and the exact requests.

        The requests come from the call store, by default that of the project; `.curl(variant)` gives one to paste.
        """
        from llmlab.results.case_view import show

        return show(self, case_id, repeat=repeat, store=store)

    def to_parquet(self, path: str | Path) -> Path:
        """Write rows, bundles, cases and digests into one Parquet file."""
        facts = {name: getattr(self, name) for name in FACTS}
        return write_results(
            path, frame=self.frame, metrics=self.metrics, bundles=self.bundles, golden=self.golden, facts=facts
        )

    @classmethod
    def from_parquet(cls, path: str | Path) -> Results:
        """Results that `to_parquet` wrote; FileRuleError for any other file."""
        return cls(**read_results(path))

    @cached_property
    def _codes(self) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64], CaseGroups]:
        import pandas as pd

        case_codes, case_ids = pd.factorize(self.frame["case_id"])
        variant_codes = pd.Index(self.variants).get_indexer(pd.Index(self.frame["variant"]))
        if (variant_codes < 0).any():
            stranger = self.frame["variant"][variant_codes < 0].iloc[0]
            raise DataError(f"the frame has a variant {stranger!r} without a bundle ({', '.join(self.variants)})")
        keys = self.frame["call_key"].to_numpy() if "call_key" in self.frame.columns else None
        groups = CaseGroups.of(tuple(case_ids), self.golden).joined(case_codes, keys)
        return tuple(case_ids), case_codes.astype(np.int64), variant_codes.astype(np.int64), groups

    def __repr__(self) -> str:
        n_cases = self.frame["case_id"].nunique()
        return f"Results({len(self.variants)} variants x {n_cases} cases, {len(self.frame)} rows, {self.state})"

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _rows(self) -> list[dict[str, object]]:
        return self.summary()._rows()

    def _csv_frame(self) -> pd.DataFrame:
        return self.frame
