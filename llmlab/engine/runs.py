"""Run variants over a golden set: `run`, the verb that everything starts with."""

from __future__ import annotations

import signal
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from llmlab import engine as engine_room
from llmlab import search
from llmlab.base.background import run_in_background, stopped_by
from llmlab.base.cells import plain
from llmlab.base.errors import BudgetError, StoreError
from llmlab.base.project import git_state, project_root
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.clients.base import Client, Usage
from llmlab.clients.call_store import CallStore
from llmlab.clients.endpoints import Reaching
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.execution import Scoring, execute
from llmlab.engine.index_record import record_of_built
from llmlab.engine.plan import Plan, make_plan, price_of, query_of
from llmlab.engine.progress import Progress, shown
from llmlab.golden.cases import GoldenSet
from llmlab.results.answers import AnswerSheet, scores_of
from llmlab.results.provenance import Provenance
from llmlab.results.results import Results
from llmlab.results.scores import RESOURCE_METRICS
from llmlab.scorers.base import ScoreFunction, Scorer, as_scorers

INTERRUPTED = "The run was interrupted; the same call goes on from here."
_SCORING_INTERRUPTED = "Scoring was interrupted, so there are no scores; the same call scores the stored answers."
_TRAVELS = ("endpoints", "base", "budget_usd", "concurrency", "case_timeout_s", "fresh")  # of a setup, to Ray's tasks
_TOLD: set[str] = set()  # digests of the golden sets whose personal data this process has told of


def run(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    scorers: Sequence[Scorer | ScoreFunction] = (),
    metrics: Collection[str] = (),
    repeats: int = 1,
    concurrency: int = 32,
    budget_usd: float | Decimal | None = None,
    client: Client | None = None,
    app: engine_room.app.App | None = None,
    endpoints: str | Path | Reaching | None = None,
    store: str | Path | CallStore | None = None,
    base: str | Path | None = None,
    case_timeout_s: float | None = None,
    failed_share_allowed: float = 0.2,
    progress: bool | Callable[[Progress], None] = True,
    stop: threading.Event | None = None,
    fresh: bool | str = False,
    shard: str | None = None,
    out: str | Path | None = None,
    engine: Literal["here", "ray"] = "here",
    shards: int | None = None,
) -> Results:
    """Every variant's answers to every case, scored. Works in a script and inside Jupyter's running loop.

    Answers are kept in the call store and never paid for twice. An interrupt gives partial results, which the
    same call resumes. No row's failure stops the others.

    Args:
        variants: bundles by name, or one bundle.
        scorers: made with `@scorer`, or plain functions `(Case, Generation) -> number` from 0 to 1; async ones too.
        metrics: names that will be read afterwards; refused before the first call where no scorer makes one.
        repeats: answers per variant and case.
        concurrency: calls in flight at once.
        budget_usd: stop when this much was spent in this run, embeddings included; calls in flight still finish. An
            application must say what its answers cost.
        client: answers for every variant; by default each model's own, from `endpoints`.
        app: an application `answer(case, bundle) -> Generation` to measure instead of single calls.
        endpoints: an endpoints.yaml, or what knows how models are reached (`Experiment.endpoints`).
        store: the call store or its path, by default mlruns/calls.sqlite of the project.
        base: folder that relative corpus paths start from, by default the project's root.
        case_timeout_s: bound on one case with all its attempts; by default the client's own, else ten minutes.
        failed_share_allowed: above this share of rows without an answer the results say FAILED.
        progress: whether to show a progress bar, or a function that is called with the figures now and then.
        stop: an event that another thread sets to interrupt this run, as Ctrl+C does in the thread that called it.
        fresh: ask again for what is stored already, as after an update of a model that kept its name. The new answers
            are kept too, under this word (the time, where it is True), which the results name.
        shard: run one part only, such as "3/16": the cases whose sha256 falls there, with that part of budget and rate
            limits. `Results.load(out)` joins the parts when all are there.
        out: folder that a shard's results and call store are kept in, such as "results/run=2026-12-01".
        engine: "ray" runs all of so many `shards` on a Ray cluster and joins them.

    Raises:
        PromptError: a case cannot fill a prompt, or a few-shot example is a golden case.
        BudgetError: a budget is given and a model's price is unknown, or embedding alone would exceed it.
        StoreError: the call store cannot be written; answers up to there are kept, and in the error's `results`.
    """
    if engine not in ("here", "ray"):
        raise ValueError(f"engine == {engine!r}, must be 'here' or 'ray'")
    checked_scorers = scorers_that_make(metrics, scorers)
    setup = CallSetup(
        client=client,
        endpoints=endpoints,
        store=store,
        base=base,
        budget_usd=budget_usd,
        concurrency=concurrency,
        case_timeout_s=case_timeout_s,
        progress=progress,
        stop=stop,
        fresh=datetime.now(UTC).isoformat(timespec="milliseconds") if fresh is True else fresh or "",
    )
    about: dict[str, Any] = {"repeats": repeats, "app": app, "failed_share_allowed": failed_share_allowed}
    bundles = {variants.name: variants} if isinstance(variants, Bundle) else variants
    if engine == "ray":
        if shards is None or out is None or (client, store, stop, shard) != (None,) * 4:
            raise ValueError(
                "engine='ray' takes shards=16 and out='results/run=2026-12-01', and no client, store, stop or shard, "
                "which cannot travel to other processes: name endpoints"
            )
        about |= {name: getattr(setup, name) for name in _TRAVELS}
        whole: dict[str, Any] = {"scorers": checked_scorers, "shards": shards, "out": out, "progress": progress}
        return engine_room.shards.run_on_ray(run, bundles, golden, **whole, options=about)
    if shards is not None or (shard is None) != (out is None):
        raise ValueError(
            "shard and out belong together: shard='3/16', out='results/run=2026-12-01'; shards=16 is for engine='ray'"
        )
    if shard is None or out is None:
        return run_by(setup, variants, golden, scorers=checked_scorers, **about)
    part = engine_room.shards.Shard.parse(shard)

    def answers(cases: GoldenSet, calls: Path) -> Results:
        shard_setup = replace(setup, store=calls if store is None else store, shards=part.of)
        projects = None if store is not None else project_root() / "mlruns" / "calls.sqlite"
        with shard_setup.calls(also=projects) as opened:
            return run_by(replace(shard_setup, store=opened), variants, cases, scorers=checked_scorers, **about)

    digests = {scorer.name: scorer.digest for scorer in checked_scorers}
    return engine_room.shards.run_shard(answers, bundles, golden, shard=part, out=out, scorers=digests, repeats=repeats)


def run_by(
    setup: CallSetup,
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    scorers: Sequence[Scorer | ScoreFunction] = (),
    repeats: int = 1,
    app: engine_room.app.App | None = None,
    failed_share_allowed: float = 0.2,
) -> Results:
    """What `run` gives, by a setup that is one value."""
    if not 0 <= failed_share_allowed <= 1:
        raise ValueError(f"failed_share_allowed == {failed_share_allowed}, must lie between 0 and 1")
    checked_scorers = as_scorers(scorers)
    embedders: dict[str, search.Embedder] = {}

    def embedder_of(model: ModelRef, *, client: search.EmbeddingClient) -> search.Embedder:
        spent = sum((embedder.spent_usd for embedder in embedders.values()), Decimal(0))
        budget_left = None if setup.budget is None else setup.budget - spent
        embedder = search.Embedder(model, client=client, store=setup.store, budget_usd=budget_left)
        return embedders.setdefault(str(model), embedder)

    plan = make_plan(variants, golden, setup, repeats=repeats, app=app, embedder_of=embedder_of)
    for note in personal_notes(golden) if golden.digest not in _TOLD else ():
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    budget = setup.budget
    if budget is not None:
        _require_prices(plan)
        budget = _pay_for_embedding(plan, embedders, budget)
    state, scoring = Progress(total=len(plan)), Scoring(AnswerSheet(len(plan), checked_scorers))

    def tick() -> None:
        state.waits_s = max((getattr(client, "rests_s", 0.0) for client in plan.clients.values()), default=0.0)
        refresh()

    interrupted = False
    with (
        stopped_by(setup.stop),
        _terminates(),
        setup.calls() as calls,
        shown(state, show=setup.progress) as refresh,
    ):
        try:
            run_in_background(lambda: execute(plan, calls, state, scoring, setup, budget_usd=budget), on_tick=tick)
        except KeyboardInterrupt:
            interrupted = True
            state.stopped = state.stopped or (INTERRUPTED if state.done < state.total else "")
        except StoreError as error:
            state.store_error, state.stopped = error, str(error)
        finally:
            state.waits_s = 0.0
    if interrupted and state.done == state.total:  # it was the scoring that somebody did not want to wait for
        scored = not scoring.waiting
    else:
        scored = _score_the_rest(scoring, setup.stop)
    results = _gathered(plan, state, scoring.sheet, failed_share_allowed=failed_share_allowed, scored=scored)
    if state.store_error is not None:
        state.store_error.results = results
        raise state.store_error
    return results


def _score_the_rest(scoring: Scoring, stop: threading.Event | None) -> bool:
    """Whether everything that had arrived when the run was cut off is scored now; an interrupt leaves it."""
    waiting, scorers = list(scoring.waiting), scoring.sheet.scorers
    try:
        with stopped_by(stop), _terminates():
            scores = scores_of(scorers, ((arrived.case, arrived.generation) for arrived in waiting))
            for arrived, of_answer in zip(waiting, scores, strict=True):
                scoring.sheet.score(arrived.place, of_answer)
    except KeyboardInterrupt:
        return False
    return True


def personal_notes(golden: GoldenSet) -> tuple[str, ...]:
    """What a golden set holds of people: each `dry_run` notes it, and `run` warns of it where neither told before."""
    _TOLD.add(golden.digest)
    return golden.personal_notes


def scorers_that_make(metrics: Collection[str], scorers: Sequence[Scorer | ScoreFunction]) -> tuple[Scorer, ...]:
    """The scorers; ValueError for a metric that will be read and that none of them makes."""
    checked = as_scorers(scorers)
    named = [metrics] if isinstance(metrics, str) else metrics
    metric_names = [*(scorer.name for scorer in checked), *RESOURCE_METRICS]
    if unknown := [name for name in named if name not in metric_names]:
        raise ValueError(
            f"no scorer makes the metric {unknown[0]!r} (there are: {', '.join(metric_names)}); nothing was asked"
        )
    return checked


def _pay_for_embedding(plan: Plan, embedders: Mapping[str, search.Embedder], budget: Decimal) -> Decimal:
    """Reserve what the questions' embeddings cost, lift the embedders' own limits, and give what calls may cost."""
    for index in {index.digest: index for index in plan.indexes.values()}.values():
        if (model := index.config.embedding) is not None and (embedder := embedders.get(str(model))) is not None:
            prefix = index.config.options.get("query_prefix", "")
            query_texts = [prefix + query for case in plan.golden if (query := query_of(index, case)[0])]
            embedder.afford(embedder.missing(query_texts))
    for embedder in embedders.values():
        embedder.budget_usd = None  # all is counted now
    budget_left = budget - sum((embedder.spent_usd for embedder in embedders.values()), Decimal(0))
    if budget_left <= 0:
        raise BudgetError(f"embedding texts and questions uses up the budget of ${budget}; raise it, or index less")
    return budget_left


def _require_prices(plan: Plan) -> None:
    for name, client in plan.clients.items():
        bundle = plan.bundles[name]
        if price_of(client, bundle, Usage(input_tokens=1, output_tokens=1)) is None:
            raise BudgetError(
                f"variant {name!r}: the price of {bundle.model} is unknown, so a budget cannot be kept. "
                "Give its price under `prices` in endpoints.yaml (a client of one's own: as `price_usd`), or "
                "run without budget_usd"
            )


@contextmanager
def _terminates() -> Iterator[None]:
    """SIGTERM ends the process with 143 after what has arrived is on disk, where nobody else handles it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def on_term(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _gathered(plan: Plan, state: Progress, sheet: AnswerSheet, *, failed_share_allowed: float, scored: bool) -> Results:
    """What has arrived as results, without the scores where not all of it is `scored`."""
    git = git_state()
    recorded = {
        "borrowed": dict(sorted(state.borrowed.items())),
        "endpoints": {name: client.fingerprint for name, client in plan.clients.items()},
        "commit": git.commit,
        "dirty": git.dirty,
        "index_freshness": {
            name: record
            for name, index in plan.indexes.items()
            if (record := _record_of(index, plan.golden))  # nothing is known of an index from elsewhere
        },
    }
    results = Results.from_sheet(
        sheet if scored else sheet.without_scores(),
        golden=plan.golden,
        bundles=plan.bundles,
        index_digests={name: index.digest for name, index in plan.indexes.items()},
        complete=scored and state.done == len(plan),
        failed_share_allowed=failed_share_allowed,
        provenance=Provenance.of({**recorded, **plan.identity}),
        notes=(*filter(None, [state.stopped]), *plan.notes),
    )
    unscored = () if scored else (_SCORING_INTERRUPTED,)
    return replace(results, notes=(*results.notes, *_silent_updates(results), *unscored))


def _record_of(index: search.Index, golden: GoldenSet) -> dict[str, Any]:
    """What is known of the index that was searched; a retriever of one's own says it by an attribute `manifest`."""
    manifest = getattr(index.retriever, "manifest", None)
    if manifest is None:
        return record_of_built(index, golden)
    judged = golden if any(case.relevant_ids for case in golden) else None
    return engine_room.freshness.check(manifest, index.corpus, golden=judged).record()


def _silent_updates(results: Results) -> list[str]:
    """A sentence for each variant whose provider changed the model since its stored answers."""
    notes = []
    for kind, column in (("model", "served_model"), ("system fingerprint", "system_fingerprint")):
        before, now = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for variant, cached, served in set(results.answers("variant", "cached", column)):
            if served:
                (before if cached else now)[variant].add(served)
        notes += [
            f"SILENT UPDATE: {variant} was answered by {kind} {_listed(past)} before and by {_listed(new)} now; "
            "run it again with fresh=True before you compare."
            for variant, past in before.items()
            if (new := now[variant] - past)
        ]
    return notes


def _listed(names: set[str]) -> str:
    return ", ".join(plain(name, 80) for name in sorted(names))
