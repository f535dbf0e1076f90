"""What a call costs: the price list of genai-prices (offline), with overrides for self-hosted models.

Unknown is None, never zero. Amounts are Decimal, so that sums are exact. Used by the clients, budgets and dry runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

import pydantic
from pydantic import ConfigDict, Field

from llmlab.bundle import ModelRef
from llmlab.clients.base import Usage

__all__ = ["Price", "price_usd"]

MILLION = Decimal(1_000_000)
Amount = Annotated[Decimal, Field(ge=0, strict=False)]


class Price(pydantic.BaseModel):
    """US dollars per million tokens; cached input costs as much as other input unless it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    input: Amount
    output: Amount
    cached_input: Amount | None = None


def price_usd(model: ModelRef, usage: Usage, *, overrides: Mapping[str, Price] | None = None) -> Decimal | None:
    """The cost in US dollars; None where the price, or the number of tokens, is not known.

    `overrides` maps `provider/id` or `provider` to a Price and goes before the list.

    >>> price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), Usage(input_tokens=1000, output_tokens=100))
    Decimal('0.0035')
    >>> price_usd(ModelRef.parse("ollama/llama3"), Usage(input_tokens=1000, output_tokens=100)) is None
    True
    """
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    own = overrides or {}
    price = own.get(str(model)) or own.get(model.provider)
    if price is None:
        return _listed(model.provider, model.id, usage.input_tokens, usage.output_tokens, cached)
    cached_input = price.input if price.cached_input is None else price.cached_input
    fresh = usage.input_tokens - cached
    return (fresh * price.input + cached * cached_input + usage.output_tokens * price.output) / MILLION


@lru_cache(maxsize=4096)
def _listed(provider: str, model_id: str, input_tokens: int, output_tokens: int, cached: int) -> Decimal | None:
    import genai_prices

    tokens = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
    try:
        price = genai_prices.calc_price(tokens, model_ref=model_id, provider_id=provider).total_price
    except (LookupError, ValueError):  # a provider, model or kind of token that the list does not know
        return None
    return Decimal(price).normalize() if price else None  # listed at nothing: a free tier says nothing of the cost
