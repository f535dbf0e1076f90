"""Which calls a run will make, in which order, and what they may cost: every prompt filled before one is sent.

Arms are interleaved (all variants of a case before the next case), so that a slow hour of a provider hits all alike. A
server with a single slot keeps the last prompt alone: there the calls of a batch that begin alike are made in a row.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from llmlab import engine, search
from llmlab.base.errors import PromptError
from llmlab.bundle.bundle import Bundle, RetrievalConfig
from llmlab.bundle.prompt import Prompt
from llmlab.bundle.template import fill
from llmlab.clients.base import Client, Request, Usage
from llmlab.clients.call_store import call_key
from llmlab.engine.call_setup import CallSetup
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import check_cases, refuse_secrets, same_requests, sent_as_json, unasked

_FIRST_BATCH, _LARGEST_BATCH = 32, 256  # cases that are searched, rendered and looked up together
_CHARS_PER_BATCH = 4_000_000  # of inputs: a batch of long cases is cut earlier, for memory


class Call(NamedTuple):
    """One cell of the experiment, ready to be sent: variant x case x repeat with its key and request.

    `place` counts the calls of a plan: by case, then repeat, then variant.
    """

    place: int
    variant: str
    case: Case
    repeat: int
    retrieved: tuple[str, ...]
    key: str
    request: Request | None  # None: an application makes its own, or the prompt could not be filled
    problem: str = ""  # why the prompt could not be filled
    passages: str = ""  # the part of the prompt that was fetched


class Filled(NamedTuple):
    """What was searched for one case (document ids, best first, and their text), and the prompt filled with it."""

    messages: tuple[Mapping[str, Any], ...] = ()
    retrieved: tuple[str, ...] = ()
    passages: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every call of a run, made lazily.

    Attributes:
        clients: of each variant; empty where an application answers.
        indexes: of each variant that retrieves.
        fresh: a word that is in every key, so that answers stored without it are not replayed; "" = they are.
        app, identity: the application under test, and the entry point, commit and source it is known by.
        notes: what must be known before the first call, such as cases that send one and the same request.
    """

    bundles: Mapping[str, Bundle]
    golden: GoldenSet
    repeats: int
    clients: Mapping[str, Client] = field(default_factory=dict)
    indexes: Mapping[str, search.Index] = field(default_factory=dict)
    fresh: str = ""
    app: engine.app.App | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.golden) * sum(map(self.asked_of, self.bundles))

    def asked_of(self, variant: str) -> int:
        """Answers per case: `repeats`, or one where every further one would be a copy of the first."""
        return 1 if self.bundles[variant].sampling.temperature == 0 and self._in_a_row(variant) else self.repeats

    def _in_a_row(self, variant: str) -> bool:
        return getattr(self.clients.get(variant), "single_slot", False)

    def batches(self) -> Iterator[list[Call]]:
        """The calls in their order, some cases at a time: few at first, so that the first call goes out soon."""
        batch: list[Case] = []
        chars, size, places = 0, _FIRST_BATCH, count()
        for case in self.golden.cases:
            batch.append(case)
            chars += sum(len(value) for value in case.inputs.values() if isinstance(value, str))
            if len(batch) >= size or chars > _CHARS_PER_BATCH:
                yield self._batch(batch, places)
                batch, chars, size = [], 0, min(2 * size, _LARGEST_BATCH)
        if batch:
            yield self._batch(batch, places)

    def _batch(self, cases: Sequence[Case], places: Iterator[int]) -> list[Call]:
        if self.app is not None:
            return [
                Call(next(places), variant, case, repeat, (), self._app_key(variant, case, repeat), None)
                for case in cases
                for repeat in range(self.repeats)
                for variant in self.bundles
            ]
        filled: dict[str, list[Filled]] = {}
        searched: dict[str, list[Filled]] = {}
        for variant, recipe in self._recipes.items():  # variants that differ in sampling alone share what is filled
            if recipe not in filled:
                filled[recipe] = self._filled(variant, cases, searched)
        calls = [
            self._call(next(places), variant, case, repeat, filled[recipe][i])
            for i, case in enumerate(cases)
            for repeat in range(self.repeats)
            for variant, recipe in self._recipes.items()
            if repeat < self.asked_of(variant)
        ]
        return sorted(calls, key=lambda call: self._recipes[call.variant] if self._in_a_row(call.variant) else "")

    def _filled(self, variant: str, cases: Sequence[Case], searched: dict[str, list[Filled]]) -> list[Filled]:
        prompt, index = self.bundles[variant].prompt, self.indexes.get(variant)
        if index is None:
            return [_filled(prompt, case) for case in cases]
        config = index.config.model_dump_json()
        if config not in searched:
            searched[config] = _searched(index, cases)
        return [_filled(prompt, case, hits) for case, hits in zip(cases, searched[config], strict=True)]

    def _call(self, place: int, variant: str, case: Case, repeat: int, filled: Filled) -> Call:
        if filled.problem:
            return Call(place, variant, case, repeat, (), "", None, filled.problem)
        fixed = self._fixed[variant]
        seed = fixed["sampling"].seed
        request = Request(
            **fixed,
            messages=filled.messages,
            seed=None if seed is None else seed + repeat,
            repeat=repeat,
            about={"inputs": case.inputs, "retrieved": [{"id": name, "score": None} for name in filled.retrieved]},
        )
        key = call_key(self.answered_by(variant), request)
        return Call(place, variant, case, repeat, filled.retrieved, key, request, "", filled.passages)

    def _app_key(self, variant: str, case: Case, repeat: int) -> str:
        content = {"id": case.id, "inputs": case.inputs}  # it sees the whole case; scoring decides on the rest
        about = [self.identity, self.bundles[variant].behaviour, content, repeat, *([self.fresh] if self.fresh else [])]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _recipes(self) -> dict[str, str]:
        """Variant -> what its prompts are made of."""
        return {name: bundle.model_dump_json(include={"prompt", "retrieval"}) for name, bundle in self.bundles.items()}

    def answered_by(self, variant: str) -> str:
        """Who answers for a variant (anew, if asked), as it is in its call keys."""
        fingerprint = self.clients[variant].fingerprint
        return f"{fingerprint} fresh {self.fresh}" if self.fresh else fingerprint

    @cached_property
    def _fixed(self) -> dict[str, dict[str, Any]]:
        return {name: _fixed_of(bundle) for name, bundle in self.bundles.items()}


def make_plan(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    setup: CallSetup,
    *,
    repeats: int = 1,
    app: engine.app.App | None = None,
    embedder_of: Callable[..., search.Embedder] | None = None,
) -> Plan:
    """The calls of a run, checked: every placeholder has a value and no few-shot example is a golden case.

    `embedder_of(model, client=...)` gives the vectors of an embedding model, where a bundle searches by them.
    """
    if setup.client is not None and app is not None:
        raise ValueError("client and app are both given; an application makes its own calls")
    if repeats < 1:
        raise ValueError(f"repeats == {repeats}, must be >= 1")
    if not isinstance(variants, (Bundle, Mapping)):
        raise TypeError("variants must be a bundle, or bundles by name such as {'baseline': old, 'candidate': new}")
    if not isinstance(golden, GoldenSet):
        raise TypeError(f"golden is of type {type(golden).__name__}, must be a GoldenSet, such as GoldenSet.load(path)")
    bundles = {variants.name: variants} if isinstance(variants, Bundle) else dict(variants)
    if not bundles:
        raise ValueError("no variants to run")
    refuse_secrets(bundles, golden)
    client_of = setup.clients()
    plan = Plan(bundles=bundles, golden=golden, repeats=repeats, fresh=setup.fresh, app=app)
    if app is not None:
        identity = engine.app.app_identity(app)
        plan = replace(plan, identity=identity, notes=engine.app.unread_notes(identity))
    else:
        for name, bundle in bundles.items():
            check_cases(bundle, golden, variant=name)
        notes = (unasked(bundles, golden), same_requests(bundles.values(), golden), sent_as_json(bundles, golden))
        for note in filter(None, notes):
            warnings.warn(note, RuntimeWarning, stacklevel=3)
        one_client = setup.answering()
        clients = {name: one_client or client_of(bundle.model) for name, bundle in bundles.items()}
        embed, indexes = embedder_of or partial(search.Embedder, store=setup.store), {}
        for name, config in ((name, bundle.retrieval) for name, bundle in bundles.items() if bundle.retrieval):
            model = config.embedding
            embedder = embed(model, client=client_of(model)) if model else None
            indexes[name] = search.build_index(config, base=setup.folder, embedder=embedder)
        plan = replace(plan, clients=clients, indexes=indexes, notes=tuple(filter(None, notes)))
    once = ", ".join(name for name in bundles if plan.asked_of(name) < repeats)
    copies = f"Asked once, because a repeat at temperature 0 is a copy there: {once}." if once else ""
    anew = f"Asked anew as fresh={setup.fresh!r}; the same word replays these answers." if setup.fresh else ""
    return replace(plan, notes=(*plan.notes, *filter(None, (copies, anew))))


def request_of(bundle: Bundle, inputs: Mapping[str, Any], *, base: str | Path = ".") -> Request:
    """The request of a service for these inputs, corpus paths from `base`; `Bundle.request` documents it."""
    if missing := sorted(bundle.prompt.placeholders - {*inputs, "passages"}):
        raise PromptError(f"the prompt of {bundle.name!r} needs {', '.join(missing)}: bundle.request({missing[0]}=...)")
    about: dict[str, Any] = {"inputs": inputs, "bundle": bundle.digest}
    try:
        if bundle.retrieval is not None:
            index = _serving_index(bundle.retrieval, base)
            (hits,) = index.search([fill(bundle.retrieval.query, inputs)])
            about["retrieved"] = [{"id": hit.doc_id, "score": float(hit.score)} for hit in hits]
            inputs = {**inputs, "passages": index.passages(hits)}
        messages = bundle.prompt.messages(inputs)
    except ValueError as error:
        raise PromptError(f"the prompt of {bundle.name!r}: {error}") from None
    return Request(**_fixed_of(bundle), messages=messages, seed=bundle.sampling.seed, about=about)


def _fixed_of(bundle: Bundle) -> dict[str, Any]:
    """What all requests of a bundle have in common."""
    tools = tuple(tool.model_dump(exclude_none=True) for tool in bundle.tools)
    return {"model": bundle.model, "sampling": bundle.sampling, "tools": tools}


@lru_cache(maxsize=16)
def _serving_index(config: RetrievalConfig, base: str | Path) -> search.Index:
    try:
        return search.build_index(config, base=base)
    except ValueError as error:
        place = Path(base).resolve()
        raise ValueError(f"{error} (corpus paths start from {place}: start the service where they lie)") from None


def price_of(client: Client, bundle: Bundle, usage: Usage) -> Decimal | None:
    """What this usage costs at a client, None = unknown."""
    price = getattr(client, "price_usd", None)
    usd = None if price is None else price(bundle.model, usage)
    return usd if usd is None or isinstance(usd, Decimal) else Decimal(str(usd))  # of a client of one's own


def _searched(index: search.Index, cases: Sequence[Case]) -> list[Filled]:
    queries, problems = zip(*(query_of(index, case) for case in cases), strict=True)
    return [
        Filled((), tuple(dict.fromkeys(hit.doc_id for hit in hits)), index.passages(hits), problem)
        for hits, problem in zip(index.search(list(queries)), problems, strict=True)
    ]


def query_of(index: search.Index, case: Case) -> tuple[str, str]:
    """What is searched for a case; or "", and why there is nothing."""
    try:
        return fill(index.config.query, case.inputs), ""
    except ValueError as error:
        return "", f"the retrieval query of case {case.id!r}: {error}"


def _filled(prompt: Prompt, case: Case, hits: Filled | None = None) -> Filled:
    """The prompt of a case; `hits` are what was searched for it, None where the bundle searches nothing."""
    if hits is not None and hits.problem:
        return hits
    try:
        if hits is None:
            return Filled(prompt.messages(case.inputs))
        passages_text = hits.passages if "passages" in prompt.placeholders else ""
        return Filled(prompt.messages({**case.inputs, "passages": hits.passages}), hits.retrieved, passages_text)
    except ValueError as error:
        return Filled(problem=f"the prompt of case {case.id!r}: {error}")
