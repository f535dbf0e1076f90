"""What a run will send and cost, before a call is made: `dry_run`, and the tokens of each part of a prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from llmlab import search
from llmlab.base.errors import RequestRefusedError
from llmlab.base.numbers import counted
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.bundle.chat import turns
from llmlab.bundle.prompt import Prompt
from llmlab.bundle.template import pieces
from llmlab.clients.base import Client, Request, Usage, estimated_bytes, n_bytes
from llmlab.clients.call_store import CallStore
from llmlab.clients.endpoints import Reaching
from llmlab.display.shown import Shown
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.plan import Call, make_plan, price_of
from llmlab.engine.runs import personal_notes, scorers_that_make
from llmlab.golden.cases import GoldenSet
from llmlab.scorers.base import ScoreFunction, Scorer

BATCHED = frozenset({"openai", "anthropic"})  # providers with a batch API at half the price
PARTS = ("system", "examples", "history", "passages", "question")  # of a prompt, in their order
BYTES_PER_TOKEN = 4  # the usual rule of thumb for characters; of other scripts a character is two or three bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DryRun(Shown):
    """What a run would send: per variant calls, how many of them are stored already, tokens and cost.

    Input tokens are estimated from the texts (four bytes of UTF-8 each); output tokens are `max_tokens`, so the cost is
    an upper bound but for that estimate.
    `input_tokens_of` says of which part of the prompt they are: system, examples, history (the answers to earlier turns
    of a conversation at their longest), passages, question.
    Texts and questions whose embeddings are not stored yet are counted for all variants together; until they are
    there, prompts are taken to hold passages of middling length.
    """

    variant: tuple[str, ...]
    calls: tuple[int, ...]
    stored: tuple[int, ...]
    input_tokens: tuple[int, ...]
    output_tokens_at_most: tuple[int | None, ...]
    cost_usd_at_most: tuple[Decimal | None, ...]
    pinned: tuple[bool, ...]
    input_tokens_of: tuple[Mapping[str, int], ...]
    batched: bool = False  # whether every model has a batch API, at half the price
    texts_to_embed: int = 0
    embedding_cost_usd: Decimal | None = Decimal(0)
    notes: tuple[str, ...] = ()

    def _rows(self) -> list[dict[str, object]]:
        names = ("variant", "calls", "stored", "input_tokens", "output_tokens_at_most", "cost_usd_at_most", "pinned")
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(getattr(self, n) for n in names), strict=True)]
        parts = [part for part in PARTS if any(tokens.get(part) for tokens in self.input_tokens_of)]
        for row, tokens in zip(rows, self.input_tokens_of, strict=True):
            row["of which"] = ", ".join(f"{part} {tokens.get(part, 0):,}" for part in parts)
        return rows

    @property
    def total_cost_usd_at_most(self) -> Decimal | None:
        """Upper bound of what the run would cost, embeddings included; None when a model's price is unknown."""
        return total_usd([*self.cost_usd_at_most, self.embedding_cost_usd])

    @property
    def batch_cost_usd_at_most(self) -> Decimal | None:
        """The same through the providers' batch API, within a day; None where one has none or a price is unknown."""
        total = self.total_cost_usd_at_most
        return None if total is None or not self.batched else total / 2

    def _sentence(self) -> str:
        total = self.total_cost_usd_at_most
        why = "; ".join(self._unknown())
        cost = f"an unknown amount ({why})" if total is None else f"at most about ${total:,.2f}"
        if batch := self.batch_cost_usd_at_most:
            cost += f", or ${batch:,.2f} overnight (`llmlab batch`)"
        stored = sum(self.stored)
        if (new := sum(self.calls) - stored) == 0 and total == 0:
            cost = "nothing"
        calls = f"{counted(new, 'call')} to send ({stored:,} stored already), costing {cost}.{self._embedded()}"
        floating = ", ".join(name for name, pinned in zip(self.variant, self.pinned, strict=True) if not pinned)
        warning = [f"The model of {floating} is not pinned, and a gate releases no such bundle."] if floating else []
        return " ".join([calls, *warning, *self.notes])

    def _unknown(self) -> list[str]:
        """Why the cost is not known, what bounds no answer and what has no price apart."""
        rows = list(zip(self.variant, self.output_tokens_at_most, self.cost_usd_at_most, strict=True))
        endless = [name for name, limit, _ in rows if limit is None]
        unpriced = [name for name, limit, cost in rows if cost is None and limit is not None]
        return [
            *([f"no max_tokens bounds the answers of {', '.join(endless)}"] if endless else []),
            *([f"no price is known for the model of {', '.join(unpriced)}"] if unpriced else []),
            *(["no price is known for the embedding model"] if self.embedding_cost_usd is None else []),
        ]

    def _embedded(self) -> str:
        if not self.texts_to_embed:
            return ""
        cost = self.embedding_cost_usd
        cost_text = "an unknown amount (a model has no known price)" if cost is None else f"about ${cost:,.6f}"
        return f" That includes {counted(self.texts_to_embed, 'text')} to embed, for {cost_text}."


def dry_run(
    variants: Mapping[str, Bundle] | Bundle,
    golden: GoldenSet,
    *,
    scorers: Sequence[Scorer | ScoreFunction] = (),
    metrics: Collection[str] = (),
    repeats: int = 1,
    client: Client | None = None,
    endpoints: str | Path | Reaching | None = None,
    store: str | Path | CallStore | None = None,
    base: str | Path | None = None,
) -> DryRun:
    """What `run` would send and cost, after the same checks, without a call: embeddings are estimated too.

    Raises:
        RequestRefusedError: a variant cannot be sent as it is, such as with a temperature to a reasoning model.
    """
    scorers_that_make(metrics, scorers)
    setup = CallSetup(client=client, endpoints=endpoints, store=store, base=base)
    embedders: list[search.EstimatingEmbedder] = []

    def embedder_of(model: ModelRef, *, client: search.EmbeddingClient) -> search.Embedder:
        embedders.append(search.EstimatingEmbedder(model, client=client, store=setup.store))
        return embedders[-1]

    plan = make_plan(variants, golden, setup, repeats=repeats, embedder_of=embedder_of)
    tokens_of, counts = {name: Counter[str]() for name in plan.bundles}, Counter[tuple[str, str]]()
    longest: dict[str, tuple[int, Request]] = {}
    with setup.calls() as calls:
        for batch in plan.batches():
            stored = calls.get_many([call.key for call in batch])
            for call in batch:
                name, parts, n_turns = call.variant, _tokens_by_part(call, plan.bundles[call.variant]), 1
                size = sum(parts.values())
                if call.request is not None:
                    n_turns = len(call.request.in_turns())
                    if size >= longest.get(name, (0, None))[0]:
                        longest[name] = size, call.request
                tokens_of[name].update(parts)
                new = call.key not in stored
                counts.update({(name, "stored"): not new, (name, "turns"): n_turns})
                counts.update({(name, "new turns"): new * n_turns, (name, "new tokens"): new * size})
    for name, (_, request) in longest.items():
        if (check := getattr(plan.clients[name], "check", None)) is not None:
            try:
                check(request)
            except RequestRefusedError as error:
                raise RequestRefusedError(f"variant {name!r}: {error}", attempts=0) from None
    limits = {name: bundle.sampling.tokens_at_most for name, bundle in plan.bundles.items()}

    def cost_at_most(name: str) -> Decimal | None:
        if not counts[name, "new turns"]:
            return Decimal(0)  # what is stored costs nothing, whatever its price is
        if (limit := limits[name]) is None:
            return None
        usage = Usage(input_tokens=counts[name, "new tokens"], output_tokens=limit * counts[name, "new turns"])
        return price_of(plan.clients[name], plan.bundles[name], usage)

    texts = {(str(embedder.model), text): embedder for embedder in embedders for text in embedder.counted}
    return DryRun(
        notes=(*plan.notes, *personal_notes(golden)),
        texts_to_embed=len(texts),
        embedding_cost_usd=total_usd(embedder.cost_usd([text]) for (_, text), embedder in texts.items()),
        variant=tuple(plan.bundles),
        calls=tuple(len(golden) * plan.asked_of(name) for name in plan.bundles),
        stored=tuple(counts[name, "stored"] for name in plan.bundles),
        input_tokens=tuple(tokens.total() for tokens in tokens_of.values()),
        input_tokens_of=tuple(tokens_of.values()),
        output_tokens_at_most=tuple(limit and limit * counts[name, "turns"] for name, limit in limits.items()),
        cost_usd_at_most=tuple(map(cost_at_most, plan.bundles)),
        batched=all(bundle.model.provider in BATCHED for bundle in plan.bundles.values())
        and all(hasattr(client, "fetch") for client in plan.clients.values()),
        pinned=tuple(bool(bundle.model.pinned) for bundle in plan.bundles.values()),
    )


def estimated_tokens(size: int) -> int:
    """Tokens of so many bytes of UTF-8 by the rule of thumb of four each."""
    return -(-size // BYTES_PER_TOKEN)


def _tokens_by_part(call: Call, bundle: Bundle) -> dict[str, int]:
    """Estimated input tokens of one call by part of its prompt, all of `PARTS`.

    In a conversation each turn sends again what was said before it, with answers as long as they may get.
    """
    if call.request is None:
        return dict.fromkeys(PARTS, 0)
    n_turns, messages = len(call.request.in_turns()), call.request.messages
    sizes = [estimated_tokens(estimated_bytes(message)) for message in messages]
    first = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages) - 1)
    shots = min(first + _example_messages(bundle.prompt), len(messages) - 1)
    passages = min(estimated_tokens(n_bytes(call.passages)), sizes[-1])
    before = sum(sizes[:first]), sum(sizes[first:shots]), sum(sizes[shots:-1])
    once = dict(zip(PARTS, (*before, passages, sizes[-1] - passages), strict=True))
    if n_turns == 1:
        return once
    answers = (bundle.sampling.tokens_at_most or 0) * n_turns * (n_turns - 1) // 2
    return {part: tokens * n_turns + (answers if part == "history" else 0) for part, tokens in once.items()}


def total_usd(costs: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of these costs, None where one of them is unknown."""
    every = list(costs)
    priced = [cost for cost in every if cost is not None]
    return sum(priced, Decimal(0)) if len(priced) == len(every) else None


@lru_cache(maxsize=64)
def _example_messages(prompt: Prompt) -> int:
    return sum(len(turns(pieces(prompt.template, example.inputs))) + 1 for example in prompt.examples)
