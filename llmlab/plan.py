"""Which calls a run will make, in which order, and what they may cost: every prompt filled before one is sent.

Arms are interleaved (all variants of a case before the next case), so that a slow hour of a provider hits all alike.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmlab.bundle import Bundle
from llmlab.callstore import call_key
from llmlab.clients.base import Client, Generation, Request, Usage
from llmlab.display import Shown
from llmlab.golden import Case, GoldenSet
from llmlab.precheck import check_cases
from llmlab.project import git_state
from llmlab.prompting import fill
from llmlab.retrieval.retrievers import Index, build_index

__all__ = ["App", "Call", "Plan", "make_plan"]

App = Callable[[Case, Bundle], "Generation | str | Awaitable[Generation | str]"]

CASES_PER_BATCH = 64  # searched, rendered and looked up together
CHARS_PER_TOKEN = 4  # the usual rule of thumb, for estimates only


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One cell of the experiment, ready to be sent: variant x case x repeat with its key and request."""

    variant: str
    case: Case
    repeat: int
    retrieved: tuple[str, ...]
    key: str
    request: Request | None  # None: an application makes its own


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every call of a run, made lazily.

    Attributes:
        bundles: the variants.
        golden: the cases.
        repeats: answers per variant and case.
        clients: the client of each variant; empty where an application answers.
        indexes: the index of each variant that retrieves.
        app, app_identity: the application under test and the entry point, commit and source it is known by.
    """

    bundles: Mapping[str, Bundle]
    golden: GoldenSet
    repeats: int
    clients: Mapping[str, Client] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)
    app: App | None = None
    app_identity: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.bundles) * len(self.golden) * self.repeats

    def batches(self) -> Iterator[list[Call]]:
        """The calls in interleaved order, some cases at a time."""
        cases = self.golden.cases
        for start in range(0, len(cases), CASES_PER_BATCH):
            yield self._batch(cases[start : start + CASES_PER_BATCH])

    def _batch(self, cases: Sequence[Case]) -> list[Call]:
        columns = {variant: self._prompts(variant, cases) for variant in self.bundles}
        return [
            self._call(variant, case, repeat, *columns[variant][i])
            for i, case in enumerate(cases)
            for repeat in range(self.repeats)
            for variant in self.bundles
        ]

    def _prompts(self, variant: str, cases: Sequence[Case]) -> list[tuple[tuple[str, ...], tuple[Any, ...]]]:
        """Per case the ids of the retrieved documents and the filled messages."""
        bundle, index = self.bundles[variant], self.indexes.get(variant)
        if self.app is not None:
            return [((), ())] * len(cases)
        if index is None or bundle.retrieval is None:
            return [((), bundle.prompt.messages(case.inputs)) for case in cases]
        queries = [fill(bundle.retrieval.query, case.inputs) for case in cases]
        found = index.search(queries, bundle.retrieval.k)
        return [
            (
                tuple(dict.fromkeys(hit.doc_id for hit in hits)),
                bundle.prompt.messages({**case.inputs, "passages": index.passages(hits)}),
            )
            for case, hits in zip(cases, found, strict=True)
        ]

    def _call(self, variant: str, case: Case, repeat: int, retrieved: tuple[str, ...], messages: Any) -> Call:
        bundle = self.bundles[variant]
        if self.app is not None:
            about = [self.app_identity, bundle.behaviour, case.inputs, repeat]
            key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
            return Call(variant=variant, case=case, repeat=repeat, retrieved=(), key=key, request=None)
        seed = bundle.sampling.seed
        request = Request(
            model=bundle.model,
            messages=messages,
            sampling=bundle.sampling,
            tools=tuple(tool.model_dump() for tool in bundle.tools),
            seed=None if seed is None else seed + repeat,
            repeat=repeat,
        )
        key = call_key(self.clients[variant].fingerprint, request)
        return Call(variant=variant, case=case, repeat=repeat, retrieved=retrieved, key=key, request=request)


def make_plan(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    repeats: int = 1,
    client_of: Callable[[Bundle], Client] | None = None,
    app: App | None = None,
    base: str | Path | None = None,
) -> Plan:
    """The calls of a run, checked: every placeholder has a value and no few-shot example is a golden case.

    Args:
        client_of: the client that answers for a bundle; not needed with `app`.
        base: the folder that relative corpus paths start from.
    """
    if repeats < 1:
        raise ValueError(f"repeats == {repeats}, must be >= 1")
    bundles = {variants.name: variants} if isinstance(variants, Bundle) else dict(variants)
    if not bundles:
        raise ValueError("no variants to run")
    if app is not None or client_of is None:
        identity = _app_identity(app) if app is not None else {}
        return Plan(bundles=bundles, golden=golden, repeats=repeats, app=app, app_identity=identity)
    for name, bundle in bundles.items():
        check_cases(bundle, golden, variant=name)
    return Plan(
        bundles=bundles,
        golden=golden,
        repeats=repeats,
        clients={name: client_of(bundle) for name, bundle in bundles.items()},
        indexes={name: build_index(b.retrieval, base=base) for name, b in bundles.items() if b.retrieval is not None},
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DryRun(Shown):
    """What a run would send: per variant calls, how many of them are stored already, tokens and cost.

    Tokens are estimated from characters (4 per token); output tokens are `max_tokens`, so cost is an upper bound.
    """

    variant: tuple[str, ...]
    calls: tuple[int, ...]
    stored: tuple[int, ...]
    input_tokens: tuple[int, ...]
    output_tokens_at_most: tuple[int | None, ...]
    cost_usd_at_most: tuple[Decimal | None, ...]
    pinned: tuple[bool, ...]

    def _rows(self) -> list[dict[str, object]]:
        names = ("variant", "calls", "stored", "input_tokens", "output_tokens_at_most", "cost_usd_at_most", "pinned")
        return [dict(zip(names, row, strict=True)) for row in zip(*(getattr(self, n) for n in names), strict=True)]

    @property
    def total_cost_usd_at_most(self) -> Decimal | None:
        """Upper bound of what the run would cost; None when a variant's price is unknown."""
        known = [cost for cost in self.cost_usd_at_most if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(self.cost_usd_at_most) else None

    def _sentence(self) -> str:
        total = self.total_cost_usd_at_most
        cost = "an unknown amount (a model has no known price)" if total is None else f"at most ${total:,.2f}"
        stored = sum(self.stored)
        return f"{sum(self.calls) - stored:,} calls to send ({stored:,} are stored), costing {cost}."


def _app_identity(app: App) -> dict[str, Any]:
    """Entry point, source and commit: what an application's answers are stored under."""
    target = inspect.unwrap(app)
    code = target if inspect.isfunction(target) or inspect.ismethod(target) else type(target)
    try:
        source, file = inspect.getsource(code), inspect.getsourcefile(code)
    except (OSError, TypeError):  # typed at a prompt: only its name is known
        source, file = "", None
    git = git_state(Path(file).parent if file and Path(file).exists() else None)
    name = f"{getattr(code, '__module__', '?')}:{getattr(code, '__qualname__', repr(code))}"
    return {
        "app": name,
        "source": hashlib.sha256(source.encode()).hexdigest(),
        "commit": git.commit,
        "dirty": git.dirty,
    }


def estimated_tokens(text: str) -> int:
    """Tokens of a text by the rule of thumb of four characters each."""
    return -(-len(text) // CHARS_PER_TOKEN)


def price_of(client: Client, bundle: Bundle, usage: Usage) -> Decimal | None:
    """What this usage costs at a client, None = unknown."""
    price = getattr(client, "price_usd", None)
    return None if price is None else price(bundle.model, usage)
