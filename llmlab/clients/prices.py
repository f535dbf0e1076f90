"""What a call costs: by the price list of genai-prices (offline), or by a price of the endpoint's own.

Unknown is None, never zero. Amounts are Decimal, so that sums are exact. Used by the clients, budgets and dry runs.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from llmlab.base.documents import Strict
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Usage

_MILLION = Decimal(1_000_000)
# on no public list
_SELF_HOSTED = frozenset({"offline", "local", "ollama", "vllm", "sglang", "tgi", "llamacpp", "lmstudio"})
_Amount = Annotated[Decimal, Field(ge=0, strict=False)]


class TokenPrices(Strict):
    """US dollars per million tokens; input from or into a cache costs as much as other input unless it is given."""

    input: _Amount
    output: _Amount
    cached_input: _Amount | None = None
    cache_write: _Amount | None = None


def price_usd(model: ModelRef, usage: Usage, *, own: TokenPrices | None = None) -> Decimal | None:
    """The cost in US dollars, at the endpoint's own price or the list's; None where that, or a count, is not known.

    >>> price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), Usage(input_tokens=1000, output_tokens=100))
    Decimal('0.0035')
    >>> price_usd(ModelRef.parse("ollama/llama3"), Usage(input_tokens=1000, output_tokens=100)) is None
    True
    """
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    price = own or _listed(model.provider, model.id)
    if not isinstance(price, TokenPrices):
        return price(usage) if price else None
    cached, cache_written = _cache(usage)
    cost = (usage.input_tokens - cached - cache_written) * price.input + usage.output_tokens * price.output
    cost += cached * (price.input if price.cached_input is None else price.cached_input)
    cost += cache_written * (price.input if price.cache_write is None else price.cache_write)
    return cost / _MILLION


@lru_cache(maxsize=1024)
def context_tokens(model_id: str) -> int | None:
    """How many tokens the list says that a model takes in, None where it does not.

    >>> context_tokens("gpt-4o-2024-08-06"), context_tokens("my-own") is None
    (128000, True)
    """
    import genai_prices

    try:
        listed = genai_prices.calc_price(genai_prices.Usage(), model_ref=model_id).model
    except LookupError:
        return None
    return None if listed.context_window is None else int(listed.context_window)


def _cache(usage: Usage) -> tuple[int, int]:
    """Input tokens read from the cache and written into it, never more than there are."""
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens or 0)
    return cached, min(usage.cache_write_tokens or 0, (usage.input_tokens or 0) - cached)


@lru_cache(maxsize=1024)
def _listed(provider: str, model_id: str) -> TokenPrices | Callable[[Usage], Decimal | None] | None:
    """The list's price of a model; a function where it depends on more than the kind of token; None when unknown."""
    if provider in _SELF_HOSTED:
        return None  # and the list, which takes a second to load, stays unloaded
    import genai_prices

    def in_full(usage: Usage) -> Decimal:
        cached, cache_written = _cache(usage)
        tokens = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=cached,
            cache_write_tokens=cache_written,
        )
        return Decimal(genai_prices.calc_price(tokens, model_ref=model_id, provider_id=provider).total_price)

    try:
        listed = genai_prices.calc_price(genai_prices.Usage(), model_ref=model_id, provider_id=provider).model_price
    except LookupError:
        return None
    if listed.input_mtok is None:
        return None  # listed without a price: unknown, not free
    if listed.output_mtok is None:  # an embedding model; were it to write something, nobody would know the price
        return lambda usage: None if usage.output_tokens else in_full(usage)
    flat = (listed.input_mtok, listed.output_mtok, listed.cache_read_mtok, listed.cache_write_mtok)
    if listed.requests_kcount is not None or not all(part is None or isinstance(part, Decimal) for part in flat):
        return in_full  # tiers by length, or a fee per request
    return TokenPrices(input=flat[0], output=flat[1], cached_input=flat[2], cache_write=flat[3])
