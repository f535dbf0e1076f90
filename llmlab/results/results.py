"""The answers of a run and their scores: a tidy frame, and everything needed to read it honestly later."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab import bundle, stats
from llmlab import golden as golden_room
from llmlab import results as room
from llmlab.base.errors import DataError, RunFailedError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import GoldenSet, is_held_out
from llmlab.results import answers as sheets
from llmlab.results.provenance import Provenance
from llmlab.results.scores import RESOURCE_METRICS, CaseGroups, Cells, Metric, ScoreTable, score_table
from llmlab.scorers.base import RESERVED, ScoreFunction, Scorer, as_scorers
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Aggregation

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True, repr=False)
class Results(Shown):
    """Every answer of a run, one row per variant x case x repeat, with one column per scorer.

    Attributes:
        frame: the fields of `Generation` as columns (tokens of its usage each one; NaN = unknown), explanations, and
            the scorers' (NaN = unscored).
        metrics: what each score column means, in the order of the scorers.
        bundles: the variants.
        golden: the cases, None where only scores are known.
        golden_digest, index_digests: what was asked, and what was searched per variant.
        complete: False when the run was interrupted, ran out of budget or of disk.
        failed_share_allowed: above this share of rows without an answer the run counts as FAILED.
        provenance: endpoints, commit, application, judges, labels and indexes that they are from.
        notes: sentences that a reader must see, such as a model that changed under us.
        created_at: UTC, ISO 8601.
        parts: where the texts are, of results that were read without them.
    """

    frame: pd.DataFrame
    metrics: Mapping[str, Metric]
    bundles: Mapping[str, Bundle]
    golden: GoldenSet | None = None
    golden_digest: str = ""
    index_digests: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    failed_share_allowed: float = 0.2
    provenance: Provenance = field(default_factory=Provenance)
    notes: tuple[str, ...] = ()
    created_at: str = ""
    parts: room.files.Parts | None = None

    def __post_init__(self) -> None:
        """A mapping that stands for the provenance, as in version 0.1, becomes one."""
        object.__setattr__(self, "provenance", Provenance.of(self.provenance))

    @classmethod
    def from_sheet(
        cls, sheet: sheets.AnswerSheet, *, golden: GoldenSet, bundles: Mapping[str, Bundle], **facts: Any
    ) -> Results:
        """Results of the answers and scores that a sheet holds."""
        return cls(
            golden_digest=golden.digest,  # before the frame is made: both take memory while they are
            frame=sheet.frame(),
            metrics=sheets.metrics_of(sheet.scorers),
            bundles=dict(bundles),
            golden=golden,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        )

    @classmethod
    def from_generations(
        cls,
        generations: Sequence[Generation],
        *,
        golden: GoldenSet,
        bundles: Mapping[str, Bundle],
        scorers: Sequence[Scorer | ScoreFunction] = (),
        **facts: Any,
    ) -> Results:
        """Results of answers, sorted by case, repeat and variant; `facts` are further attributes."""
        sheet = sheets.sheet_of(generations, golden=golden, variants=list(bundles), scorers=as_scorers(scorers))
        return cls.from_sheet(sheet, golden=golden, bundles=bundles, **facts)

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
        answers = room.elsewhere.answers_of(frame, case_ids=golden.by_id, columns=(variant, case_id, text, repeat))
        n_silent = len(golden) - len({answer.case_id for answer in answers})
        notes = (f"{n_silent} of {len(golden)} golden cases have no answer in the table.",) if n_silent else ()
        bundles = room.elsewhere.stand_ins(answers)
        return cls.from_generations(answers, golden=golden, bundles=bundles, scorers=scorers, notes=notes)

    @classmethod
    def from_inspect(cls, path: str | Path) -> Results:
        """Answers and scores of an Inspect log (`.eval`, `.json`), a variant per model; notes say what is left out."""
        return cls._from_log("inspect", path)

    @classmethod
    def from_promptfoo(cls, path: str | Path) -> Results:
        """Answers and scores of promptfoo's results file, a variant per prompt and provider; notes as above."""
        return cls._from_log("promptfoo", path)

    @classmethod
    def _from_log(cls, tool: str, path: str | Path) -> Results:
        from llmlab.foreign import logs  # only where another tool's log is read

        log = {"inspect": logs.inspect_answers, "promptfoo": logs.promptfoo_answers}[tool](path)
        answers, golden = room.elsewhere.logged_answers(log.answers), GoldenSet.of_rows(log.cases.rows, path)
        bundles = room.elsewhere.stand_ins(answers)
        results = cls.from_generations(answers, golden=golden, bundles=bundles, notes=log.left_out)
        for metric, values in room.elsewhere.logged_scores(answers, log.scores, frame=results.frame):
            results = results.with_scores(metric, values)
        return results

    def scored_by(self, scorers: Sequence[Scorer | ScoreFunction]) -> Results:
        """The same answers with these scorers' columns added (or renewed).

        Raises:
            DataError: there is no golden set to score against.
            ValueError: two scorers share a name, or one is called like a column that the frame has already.
        """
        if self.golden is None:
            raise DataError("these results carry no golden set, so there is nothing to score against")
        wanted, by_id = as_scorers(scorers), self.golden.by_id
        added = sheets.metrics_of(wanted)
        pairs = ((by_id[answer.case_id], answer) for answer in self.generations())
        columns = sheets.score_columns(wanted, pairs, explanations=sheets.explanations_of(self.frame))
        made_by = {name: of.scorer for name, of in self.metrics.items()} | dict.fromkeys(added)
        known = self.provenance.with_scorers(self.provenance.scorers, metrics=made_by)
        return replace(self.with_columns(**columns), metrics={**self.metrics, **added}, provenance=known)

    def with_scores(self, metric: Metric, values: ArrayLike, *, explanations: Sequence[str] | None = None) -> Results:
        """The same answers with one more metric, in the frame's order (NaN = unscored), and why each has its score."""
        if metric.name in RESERVED:
            raise ValueError(f"a metric is called {metric.name!r}, as a column of the results is; give it another name")
        columns: dict[str, Any] = {metric.name: np.asarray(values, dtype=float)}
        if explanations is not None:
            columns["explanations"] = sheets.with_reasons(self.frame, metric.name, explanations)
        return replace(self.with_columns(**columns), metrics={**self.metrics, metric.name: metric})

    def with_columns(self, **columns: Any) -> Results:
        """The same answers with these columns of the frame set, each in the frame's order."""
        return replace(self, frame=self.frame.assign(**columns))

    def only(
        self,
        *,
        variants: Collection[str] | None = None,
        cases: Collection[str] | None = None,
        metrics: Collection[str] | None = None,
    ) -> Results:
        """The part that is of these variants, cases (by id) and metrics, all by default; ValueError for unknown."""
        known = self.cells.case_ids if self.golden is None else self.golden.by_id
        sheets.refuse_unknown(variant=(variants, self.bundles), case=(cases, known), metric=(metrics, self.metrics))
        frame, golden = self.frame, self.golden
        if variants is not None:
            frame = frame[frame["variant"].isin(variants)]
        if cases is not None:
            frame = frame[frame["case_id"].isin(cases)]
            golden = golden.only(ids=cases) if golden is not None else None
        dropped = [name for name in self.metrics if metrics is not None and name not in metrics]
        return replace(
            self,
            frame=frame.drop(columns=dropped).reset_index(drop=True),
            metrics={name: of for name, of in self.metrics.items() if name not in dropped},
            bundles={name: of for name, of in self.bundles.items() if variants is None or name in variants},
            golden=golden,
            golden_digest=self.golden_digest if cases is None or golden is None else golden.digest,
            index_digests={n: digest for n, digest in self.index_digests.items() if variants is None or n in variants},
        )

    def joined(self, *others: Results, variants: Sequence[str] | None = None) -> Results:
        """These results with the variants of others (all, or those named) before them, rows sorted as a run's.

        The metrics are those that all have. Where another scorer made one, nothing compares the two arms until
        `scored_by` has scored the stored answers of both again, which costs no call. ValueError for a variant that
        another run has not, or that is here already.
        """
        parts = [*(other if variants is None else other.only(variants=variants) for other in others), self]
        names = [name for part in parts for name in part.bundles]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the variant {twice[0]!r} is in both results; name those to take: variants=[...]")
        metrics = {name: of for name, of in self.metrics.items() if all(name in other.metrics for other in others)}
        by_variant = {name: {m: part.scorers_of(m)[name] for m in metrics} for part in parts for name in part.bundles}
        return replace(
            self,
            frame=room.files.ordered_frame([part.frame for part in parts], variants=names),
            metrics=metrics,
            bundles={name: asked for part in parts for name, asked in part.bundles.items()},
            index_digests={name: digest for part in parts for name, digest in part.index_digests.items()},
            provenance=self.provenance.with_scorers(by_variant, metrics={m: of.scorer for m, of in metrics.items()}),
        )

    def scorers_of(self, metric: str) -> dict[str, str]:
        """The digest of the scorer that made a metric, by variant; "" where it is not known, or none made it."""
        others, usual = self.provenance.scorers, self.metrics[metric].scorer if metric in self.metrics else ""
        return {name: others.get(name, {}).get(metric, usual) for name in self.variants}

    def not_comparable(self, metric: str, variants: Iterable[str]) -> str:
        """Why these variants are not compared on a metric: two scorers made it. "" where one did."""
        by_variant = self.scorers_of(metric)
        made_by = {by_variant[name]: name for name in variants if name in by_variant}
        if len(made_by) < 2:
            return ""
        by_whom = " and ".join(f"{name} by {digest[:8] or 'one that is not known'}" for digest, name in made_by.items())
        return (
            f"{metric} was made by two scorers, {by_whom}; score the stored answers of both arms again, which costs no "
            f"call: results.scored_by([{metric}]), and the same of an earlier run that the baseline is taken from"
        )

    def _require_comparable(self, metric: str, variants: Iterable[str]) -> None:
        if why := self.not_comparable(metric, variants):
            raise DataError(why)

    def rows_where(self, chosen: Sequence[bool]) -> Results:
        """These results with the chosen rows of the frame alone, and all that is known of their cases."""
        return replace(self, frame=self.frame[list(chosen)].reset_index(drop=True))

    @property
    def contents(self) -> Mapping[str, str]:
        """`Case.content` of every case by its id, as it was before personal data was replaced; empty without cases."""
        return {case.id: self.provenance.contents.get(case.id) or case.content for case in self.golden or ()}

    def holdout(self, share: float) -> Results:
        """The rows of the cases in the `GoldenSet.holdout` of this share; ValueError where it is empty."""
        held = {case_id for case_id, content in self.contents.items() if is_held_out(content, share)}
        if not held:
            raise ValueError(f"the {share:.0%} holdout of these {len(self.contents)} cases is empty")
        return self if len(held) == len(self.contents) else self.only(cases=held)

    def with_labels(self, labels: golden_room.Labels, *, metric: str | None = None) -> Results:
        """The same results with people's grades beside the judge's, by which summary, comparison and gate correct.

        Adds the columns `<metric>_label` (mean of the labellers, NaN = none) and `<metric>_inclusion` (the probability
        of having been chosen, NaN = not known); stale labels are counted. `metric` is by default the labels' rubric.
        DataError for preferences, labels by another rubric than the judge's, and where none fits.
        """
        name = metric or labels.rubric
        judge = self.provenance.judges.get(name)
        columns, record, left_out = room.labelled.label_columns(labels, self.frame, self.golden, name=name, judge=judge)
        known = replace(self.provenance, labels={**self.provenance.labels, name: record})
        notes = tuple(dict.fromkeys([*self.notes, *left_out]))
        return replace(self.with_columns(**columns), provenance=known, notes=notes)

    def labelled(self, metric: str) -> room.labelled.LabelledScores:
        """A judged metric beside people's labels of it; DataError where these results carry none (`with_labels`)."""
        return room.labelled.LabelledScores.of(
            self.frame, metric=self.metric(metric), variants=self.variants, golden=self.golden
        )

    @property
    def labels_digests(self) -> dict[str, str]:
        """Metric -> digest of the labels that these results carry."""
        return {name: record.digest for name, record in self.provenance.labels.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the frame's columns."""
        return tuple(map(str, self.frame.columns))

    @property
    def measured(self) -> tuple[str, ...]:
        """Names that `metric` and `table` know: the scorers', then cost, latency and tokens."""
        return (*self.metrics, *RESOURCE_METRICS)

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
        """A digest over answers, scores, bundles and golden set: the same results have the same one, whenever made."""
        facts: dict[str, Any] = {"bundles": {name: asked.digest for name, asked in self.bundles.items()}}
        facts |= {"golden": self.golden_digest, "index": dict(self.index_digests), "complete": self.complete}
        scorers = {name: metric.scorer for name, metric in self.metrics.items() if metric.scorer}
        facts |= {"scorers": [scorers, self.provenance.scorers]} if scorers else {}  # what 0.1 wrote has none
        return self.provenance.redacted_from or sheets.content_digest(self.frame, facts)

    @property
    def common_errors(self) -> str:
        """The three commonest errors with their counts; "" without any, or where a note says them already."""
        failed = self.frame["status"] == "error"
        return sheets.commonest(self.frame.loc[failed, "error"], noted=" ".join(self.notes))

    def require_complete(self) -> Results:
        """These results, if the run is complete; RunFailedError with the commonest errors otherwise."""
        if self.state == "complete":
            return self
        raise RunFailedError(
            f"the run is {self.state}: {self.failed_share:.0%} of {len(self.frame)} rows have no answer"
            f"{f' ({self.common_errors})' if self.common_errors else ''}. {' '.join(self.notes)}".strip(),
            results=self,
        )

    def metric(self, name: str) -> Metric:
        """What a metric means: a scorer's, or cost_usd, latency_s, first_token_s, output_tokens, input_tokens."""
        if name not in self.measured:
            raise ValueError(f"no metric {name!r} in these results (there are: {', '.join(self.measured)})")
        return self.metrics.get(name) or RESOURCE_METRICS[name]

    @cached_property
    def cells(self) -> Cells:
        """Which case and variant each row of the frame belongs to."""
        return Cells.of(self.frame, self.variants)

    @property
    def n_cases(self) -> int:
        """How many cases have a row."""
        return int(self.frame["case_id"].nunique())

    @cached_property
    def questions(self) -> Mapping[str, str]:
        """Case id -> what was asked; empty where the results carry no golden set."""
        return {case.id: case.asked for case in self.golden or ()}

    def table(self, metric: str, *, aggregation: Aggregation = "mean") -> ScoreTable:
        """One metric as a matrix of cases x variants, repeats aggregated."""
        return score_table(
            self.metric(metric),
            scores=self.scores(metric),
            case_codes=self.cells.cases,
            variant_codes=self.cells.columns,
            case_ids=self.cells.case_ids,
            variants=self.variants,
            groups=self._groups,
            aggregation=aggregation,
            bounds=None if metric in self.metrics else sheets.bounds_of(self.frame, metric),
        )

    def scores(self, name: str) -> FloatArray:
        """A column of numbers, one per row of the frame: a metric, tokens, cost, latency; NaN = unscored or unknown."""
        return np.asarray(self.frame[name].to_numpy(dtype=float, na_value=np.nan))

    def answers(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """These columns of the frame, a tuple per row; "shown" is `Generation.shown`: the text with the tool calls."""
        return zip(*(sheets.column_of(self.frame, name) for name in columns), strict=True)

    def rows_of(self, repeat: int = 0, *, case_id: str | None = None) -> dict[tuple[str, str], Mapping[str, Any]]:
        """(variant, case id) -> the row of the frame with this repeat; of one case, or of all."""
        chosen = self.frame["repeat"] == repeat
        if case_id is not None:
            chosen &= self.frame["case_id"] == case_id
        records = self.frame[chosen].to_dict("records")
        return {(row["variant"], row["case_id"]): {str(name): value for name, value in row.items()} for row in records}

    def n_answers(self, variant: str | None = None, *, status: str | None = None) -> int:
        """How many rows there are, of one variant or with one status where these are given."""
        rows = self.frame if variant is None else self.frame[self.frame["variant"] == variant]
        return len(rows) if status is None else int((rows["status"] == status).sum())

    def total(self, name: str, *, variants: Collection[str] | None = None) -> float | None:
        """The sum of a column of numbers over all rows, or those of these variants; None where one is unknown."""
        values = self.scores(name)
        if variants is not None:
            values = values[self.frame["variant"].isin(variants).to_numpy(dtype=bool)]
        return None if np.isnan(values).any() else float(values.sum())

    def served(self, variant: str) -> tuple[str, ...]:
        """The models that providers say have answered for a variant, each once, in the frame's order."""
        names = self.frame.loc[self.frame["variant"] == variant, "served_model"].fillna("")
        return tuple(name for name in dict.fromkeys(names) if name)

    def generations(self) -> Iterator[Generation]:
        """The answers again as values, in the frame's order."""
        return sheets.generations_of(self.frame)

    @cached_property
    def _groups(self) -> CaseGroups:
        keys = self.frame["call_key"].to_numpy() if "call_key" in self.columns else None
        ids = self.cells.case_ids
        groups = CaseGroups.of(ids, self.golden) if self.parts is None else self.parts.groups(ids)
        return groups.joined(self.cells.cases, keys)

    def summary(self, *, by: str | None = None) -> room.summary.Summary:
        """Each metric of each variant: mean [CI] (beside it corrected by labels, if any), tokens, cost and latency.

        `by="tags"` has it per tag of the cases too: many intervals, of which some are wide by chance alone.
        """
        return room.summary.summarise(self) if by is None else room.summary.by_tag(self, by)

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
    ) -> room.Comparison:
        """Each candidate against the baseline on the cases both answered: paired, clustered, Holm-adjusted.

        Args:
            candidates: variants to compare with the baseline; all others by default.
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
        if by not in (None, "tags"):
            raise ValueError(f"by == {by!r}, must be 'tags' or None")
        if self.failed:
            self.require_complete()
        names = [metrics] if isinstance(metrics, str) else list(self.metrics if metrics is None else metrics)
        if not names:
            raise ValueError(f"no scorer in these results; name metrics=[...] ({', '.join(RESOURCE_METRICS)})")
        for name in names:
            self._require_comparable(name, self.variants if candidates is None else [baseline, *candidates])
        tables = [self.table(name, aggregation=aggregation) for name in names]
        rows = room.compare_tables(
            tables, baseline, candidates=candidates, by_tag=by is not None, margin=margin, level=level
        )
        arms = dict.fromkeys(row.candidate for row in rows)
        notes = [self.cost_line(baseline, arm, requests_per_day=requests_per_day) for arm in arms if requests_per_day]
        timed = [table for table in tables if table.metric.name in room.summary.LATENCIES]
        later = room.summary.latency_line
        notes += [later(self.frame, table, baseline, arm, level=level) for table in timed for arm in arms]
        labelled = [row for row in rows if row.category is None and row.metric.name in self.labels_digests]
        notes += [room.labelled.corrected_line(self.labelled(row.metric.name), row) for row in labelled]
        lines = (sheets.unscorable_line, sheets.raised_line)
        notes += filter(None, (line(self.frame, name) for name in names for line in lines))
        notes += [] if self.complete else ["Partial results: the cases that are missing may differ from these."]
        about = {"golden_digest": self.golden_digest, "age": room.summary.age_of(self.created_at)}
        return room.Comparison(rows=rows, baseline=baseline, notes=(*notes, *self.notes), **about)

    def cost_per_success(self, metric: str) -> room.summary.PerVariant:
        """Dollars per successful answer of each variant, failed attempts included, with its interval."""
        return room.summary.cost_per_success(self.metric(metric), self._bill, scores=self.scores(metric))

    def consistency(self, metric: str) -> room.summary.PerVariant:
        """The chance that two answers to the same case score the same, per variant, with its interval."""
        return room.summary.consistency(scores=self.scores(metric), cells=self.cells, table=self.table(metric))

    def cost_line(self, baseline: str, candidate: str, *, requests_per_day: int | None = None) -> str:
        """How the cost per answer changes, and what that makes in a month, in one sentence."""
        return room.summary.cost_line(baseline, candidate, bill=self._bill, requests_per_day=requests_per_day)

    @property
    def _bill(self) -> room.summary.Bill:
        return room.summary.Bill(self.scores("cost_usd"), self.cells, self.table("cost_usd"))

    def effects(self, formula: str, *, metric: str | None = None, level: float = 0.95) -> stats.Effects:
        """What prompt, model and each sampling parameter of a grid do: `effects("prompt * temperature")`."""
        if self.failed:
            self.require_complete()
        table = self.table(metric or next(iter(self.metrics), "latency_s"))
        about: dict[str, Any] = {"factors": bundle.grids.axes(self.bundles), "metric": table.metric.name}
        about |= {"bounds": table.metric.bounds, "unscored_at": table.pessimistic(range(len(self.variants)))}
        return stats.factor_effects(table.values, formula=formula, level=level, **about, **table.design())

    def best(self, metric: str) -> str:
        """The variant with the best mean, unscored answers at their worst: a place to look first, and no evidence."""
        self._require_comparable(metric, self.variants)
        return room.summary.best_variant(self.table(metric))

    def flips(
        self,
        before: str,
        after: str,
        *,
        metric: str | None = None,
        threshold: float | None = None,
        any_change: bool = False,
    ) -> room.cases.Flips:
        """Cases that went from good to bad or back between two variants, with both answers, what was expected and why.

        Good is a score from `threshold` on, by default the middle of the range; or `any_change` of a score counts.
        """
        table = self.table(self._quality(metric))
        self._require_comparable(table.metric.name, (before, after))
        which: dict[str, Any] = {"threshold": threshold, "any_change": any_change}
        return room.cases.flips(table, before, after, rows=self.rows_of(), golden=self.golden, **which)

    def worst(self, n: int = 10, *, variant: str | None = None, metric: str | None = None) -> Rows:
        """The n lowest-scored answers."""
        part = self if variant is None else self.only(variants=[variant])
        return room.cases.worst(part.frame, self.metric(self._quality(metric)), n=n, questions=self.questions)

    def _quality(self, metric: str | None) -> str:
        if metric is None and not self.metrics:
            raise ValueError("these results have no scorer; name a metric")
        return next(iter(self.metrics)) if metric is None else metric

    def show(self, case_id: str, *, repeat: int = 0, store: str | Path | None = None) -> room.cases.CaseView:
        """One case: expectation, answers and scores, and the requests as the store has them (`.curl(variant)`)."""
        seen, endpoints = self.view(case_id, repeat=repeat), self.provenance.endpoints
        return replace(seen, requests=room.cases.requests_of(seen.answers, endpoints=endpoints, store=store))

    def view(
        self,
        case_id: str,
        *,
        repeat: int = 0,
        baseline: str | None = None,
        variants: Sequence[str] | None = None,
        outcomes: Mapping[tuple[str, str], str] | None = None,
    ) -> room.cases.CaseView:
        """One case with these variants' answers, compared with the baseline's; `outcomes` as of `Attribution`."""
        whole = self if self.parts is None else Results.from_parquet(self.parts.file_of(case_id))
        rows = {variant: row for (variant, _), row in whole.rows_of(repeat, case_id=case_id).items()}
        if not rows:
            raise ValueError(f"no answer {repeat} to a case {case_id!r} in these results")
        first = baseline or next(iter(rows))
        shown = dict.fromkeys([first, *(self.variants if variants is None else variants)])
        return room.cases.CaseView(
            case=whole.golden.by_id.get(case_id) if whole.golden else None,
            case_id=case_id,
            repeat=repeat,
            answers={name: rows[name] for name in shown if name in rows},
            metrics=tuple(self.metrics),
            baseline=first,
            outcomes={name: outcomes[name, case_id] for name in rows if outcomes and (name, case_id) in outcomes},
        )

    def to_parquet(self, path: str | Path) -> Path:
        """Write rows, bundles, cases and digests into one Parquet file."""
        return room.files.write_attributes(path, {part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def from_parquet(cls, path: str | Path) -> Results:
        """Results that `to_parquet` wrote; FileRuleError for any other file."""
        return cls(**room.files.read_attributes(path))

    @classmethod
    def load(cls, path: str | Path, *, texts: bool = True) -> Results:
        """Results of a file, or of a folder with shards, whose texts may stay there: ten million rows fit then."""
        return cls(**room.files.joined(path, texts=texts)) if Path(path).is_dir() else cls.from_parquet(path)

    def __repr__(self) -> str:
        return f"Results({len(self.variants)} variants x {self.n_cases} cases, {len(self.frame)} rows, {self.state})"

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _rows(self) -> list[dict[str, object]]:
        return self.summary()._rows()

    def _csv_frame(self) -> pd.DataFrame:
        return room.cases.with_cases(self.frame, self.golden)
