"""Run variants over a golden set: `run` and `dry_run`, the two verbs that everything starts with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from llmlab.bundle import Bundle
from llmlab.callstore import CallStore
from llmlab.clients.base import Client, Usage
from llmlab.clients.endpoints import client_for, load_endpoints
from llmlab.errors import BudgetError
from llmlab.golden import GoldenSet
from llmlab.plan import App, DryRun, Plan, estimated_tokens, make_plan, price_of
from llmlab.project import git_state, project_root, runs_folder
from llmlab.results import Results
from llmlab.runner import Progress, execute

if TYPE_CHECKING:
    from llmlab.scorers import Scorer

__all__ = ["dry_run", "run"]

STOP_WITHIN_S = 4.0  # after an interrupt: what is in flight is given up, what has arrived is on disk


def run(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    scorers: Sequence[Scorer] = (),
    repeats: int = 1,
    concurrency: int = 32,
    budget_usd: float | Decimal | None = None,
    client: Client | None = None,
    app: App | None = None,
    endpoints: str | Path | None = None,
    store: str | Path | CallStore | None = None,
    base: str | Path | None = None,
    case_timeout_s: float | None = 600.0,
    failed_share_allowed: float = 0.2,
    progress: bool = True,
) -> Results:
    """Every variant's answers to every case, scored. Works in a script and inside Jupyter's running loop.

    Answers are kept in the call store and never paid for twice. An interrupt gives partial results, which the
    same call resumes. No row's failure stops the others.

    Args:
        variants: bundles by name, or one bundle.
        scorers: `(Case, Generation) -> Score` callables made with `@scorer`.
        repeats: answers per variant and case.
        concurrency: calls in flight at once.
        budget_usd: stop when this much was spent in this run; calls in flight still finish.
        client: answers for every variant; by default each model's own, from `endpoints`.
        app: an application `answer(case, bundle) -> Generation` to measure instead of single calls.
        endpoints: path of an endpoints.yaml.
        store: the call store or its path, by default mlruns/calls.sqlite of the project.
        base: folder that relative corpus paths start from, by default the project's root.
        case_timeout_s: bound on one case with all its attempts.
        failed_share_allowed: above this share of rows without an answer the results say FAILED.
        progress: whether to show a progress bar.

    Raises:
        PromptError: a case cannot fill a prompt, or a few-shot example is a golden case.
        BudgetError: a budget is given and a model's price is unknown.
        StoreError: the call store cannot be written; answers up to there are kept.
    """
    plan = _plan(variants, golden, repeats=repeats, client=client, app=app, endpoints=endpoints, base=base)
    if concurrency < 1:
        raise ValueError(f"concurrency == {concurrency}, must be >= 1")
    budget = None if budget_usd is None else Decimal(str(budget_usd))
    if budget is not None:
        _require_prices(plan)
    state = Progress(total=len(plan))
    with _opened(store) as calls:
        _in_background(plan, calls, state, concurrency, budget, case_timeout_s, show=progress)
    if state.store_error is not None:
        raise state.store_error
    results = Results.from_generations(
        state.generations,
        golden=golden,
        bundles=plan.bundles,
        index_digests={name: index.digest for name, index in plan.indexes.items()},
        complete=state.done == state.total,
        failed_share_allowed=failed_share_allowed,
        provenance=_provenance(plan),
        notes=_notes(plan, state),
    )
    return results.scored_by(scorers)


def dry_run(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    repeats: int = 1,
    client: Client | None = None,
    endpoints: str | Path | None = None,
    store: str | Path | CallStore | None = None,
    base: str | Path | None = None,
) -> DryRun:
    """What `run` would send and cost, after the same checks, without a call."""
    plan = _plan(variants, golden, repeats=repeats, client=client, app=None, endpoints=endpoints, base=base)
    stored, tokens = dict.fromkeys(plan.bundles, 0), dict.fromkeys(plan.bundles, 0)
    new_tokens = dict.fromkeys(plan.bundles, 0)
    with _opened(store) as calls:
        for batch in plan.batches():
            found = calls.get_many([call.key for call in batch])
            for call in batch:
                size = (
                    0
                    if call.request is None
                    else sum(estimated_tokens(str(message["content"])) for message in call.request.messages)
                )
                tokens[call.variant] += size
                stored[call.variant] += call.key in found
                new_tokens[call.variant] += 0 if call.key in found else size
    per_variant = len(golden) * repeats
    limits = [bundle.sampling.max_tokens for bundle in plan.bundles.values()]
    costs = [
        None
        if limit is None
        else price_of(
            plan.clients[name],
            bundle,
            Usage(input_tokens=new_tokens[name], output_tokens=limit * (per_variant - stored[name])),
        )
        for (name, bundle), limit in zip(plan.bundles.items(), limits, strict=True)
    ]
    return DryRun(
        variant=tuple(plan.bundles),
        calls=(per_variant,) * len(plan.bundles),
        stored=tuple(stored.values()),
        input_tokens=tuple(tokens.values()),
        output_tokens_at_most=tuple(None if limit is None else limit * per_variant for limit in limits),
        cost_usd_at_most=tuple(costs),
        pinned=tuple(bool(bundle.model.pinned) for bundle in plan.bundles.values()),
    )


def _plan(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    repeats: int,
    client: Client | None,
    app: App | None,
    endpoints: str | Path | None,
    base: str | Path | None,
) -> Plan:
    if client is not None and app is not None:
        raise ValueError("client and app are both given; an application makes its own calls")
    known = load_endpoints(endpoints) if endpoints is not None else None
    made: dict[str, Client] = {}

    def client_of(bundle: Bundle) -> Client:
        return client or made.setdefault(str(bundle.model), client_for(bundle.model, known))

    return make_plan(variants, golden, repeats=repeats, client_of=client_of, app=app, base=base or project_root())


@contextmanager
def _opened(store: str | Path | CallStore | None) -> Iterator[CallStore]:
    if isinstance(store, CallStore):
        yield store
        return
    with CallStore(store or runs_folder() / "calls.sqlite") as opened:
        yield opened


def _require_prices(plan: Plan) -> None:
    if plan.app is not None:
        return
    for name, bundle in plan.bundles.items():
        if price_of(plan.clients[name], bundle, Usage(input_tokens=1, output_tokens=1)) is None:
            raise BudgetError(
                f"variant {name!r}: the price of {bundle.model} is unknown, so a budget cannot be kept. "
                "Give its price under `prices` in endpoints.yaml, or run without budget_usd"
            )


def _in_background(
    plan: Plan,
    store: CallStore,
    state: Progress,
    concurrency: int,
    budget_usd: Decimal | None,
    case_timeout_s: float | None,
    *,
    show: bool,
) -> None:
    """Run the plan in its own loop in one background thread, so that a running loop (Jupyter's) is left alone."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            execute(
                plan,
                store,
                state,
                concurrency=concurrency,
                budget_usd=budget_usd,
                case_timeout_s=case_timeout_s,
                stop=stop,
            )
        except BaseException as error:  # noqa: BLE001  # handed to the caller's thread, below
            failures.append(error)

    thread = threading.Thread(target=work, name="llmlab-run", daemon=True)
    with _terminates(stop), _bar(state, show=show) as refresh:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
                refresh()
        except KeyboardInterrupt:
            stop.set()
            thread.join(STOP_WITHIN_S)
        except BaseException:
            stop.set()
            thread.join(STOP_WITHIN_S)
            raise
    if failures:
        raise failures[0]


@contextmanager
def _terminates(stop: threading.Event) -> Iterator[None]:
    """SIGTERM ends the process with 143 after what has arrived is on disk; only where the main thread runs this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_term(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _bar(state: Progress, *, show: bool) -> Iterator[Callable[[], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=state.total, unit="call", disable=not show, desc="run") as bar:

        def refresh() -> None:
            bar.n = state.done
            bar.set_postfix(cached=state.cached, errors=state.errors, spent=f"${state.spent_usd:.4f}", refresh=False)
            bar.refresh()

        yield refresh
        refresh()


def _provenance(plan: Plan) -> dict[str, Any]:
    git = git_state()
    endpoints = {name: client.fingerprint for name, client in plan.clients.items()}
    return {"endpoints": endpoints, "commit": git.commit, "dirty": git.dirty, **plan.app_identity}


def _notes(plan: Plan, state: Progress) -> tuple[str, ...]:
    notes = [state.stopped] if state.stopped else []
    for variant in plan.bundles:
        answers = [g for g in state.generations if g.variant == variant and g.served_model]
        for what, attribute in (("model", "served_model"), ("system fingerprint", "system_fingerprint")):
            old = {getattr(g, attribute) for g in answers if g.cached} - {None}
            new = {getattr(g, attribute) for g in answers if not g.cached} - {None}
            if old and new and old != new:
                notes.append(
                    f"SILENT UPDATE: {variant} was answered by {what} {', '.join(sorted(old))} before and by "
                    f"{', '.join(sorted(new))} now; run it again with a new call store before you compare."
                )
    return tuple(notes)
