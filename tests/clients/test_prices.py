"""Cost: exact, from the list or from overrides, and unknown rather than zero."""

from __future__ import annotations

from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Usage
from llmlab.clients.prices import Price, price_usd

COUNTS = st.integers(0, 400_000)


def used(input_tokens: int | None = 1000, output_tokens: int | None = 100, cached: int | None = None) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached)


@pytest.mark.parametrize("model", ["openai/gpt-4o-2024-08-06", "google/gemini-2.5-pro", "anthropic/claude-sonnet-4-5"])
@settings(max_examples=25, deadline=None)
@given(input_tokens=COUNTS, output_tokens=COUNTS, share=st.floats(0, 1))
def test_the_cost_is_what_genai_prices_computes(
    model: str, input_tokens: int, output_tokens: int, share: float
) -> None:
    """Oracle: the library's own full computation, tiers by length included."""
    cached = int(input_tokens * share)
    ref = ModelRef.parse(model)
    tokens = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
    expected = genai_prices.calc_price(tokens, model_ref=ref.id, provider_id=ref.provider).total_price
    assert price_usd(ref, used(input_tokens, output_tokens, cached)) == expected


@pytest.mark.parametrize(
    "model", ["openai/gpt-of-tomorrow", "acme/x", "ollama/llama3", "vllm/gpt-4o", "azure/phi-4-reasoning:free"]
)
def test_an_unknown_price_is_unknown_and_not_zero(model: str) -> None:
    assert price_usd(ModelRef.parse(model), used()) is None


@pytest.mark.parametrize("usage", [used(None), used(1, None), Usage()])
def test_unknown_usage_has_an_unknown_cost(usage: Usage) -> None:
    assert price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), usage) is None


def test_an_override_goes_before_the_list_and_the_model_before_its_provider() -> None:
    own = {"openai": Price(input=1, output=2), "openai/special": Price(input=3, output=4, cached_input=0)}  # type: ignore[arg-type]  # pydantic makes them Decimal
    assert price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), used(), overrides=own) == Decimal("0.0012")
    assert price_usd(ModelRef.parse("openai/special"), used(1000, 100, 500), overrides=own) == Decimal("0.0019")


def test_a_price_of_nothing_is_zero_when_it_is_stated() -> None:
    free = {"ollama": Price(input=Decimal(0), output=Decimal(0))}
    assert price_usd(ModelRef.parse("ollama/llama3"), used(), overrides=free) == 0


def test_sums_of_costs_are_exact() -> None:
    cost = price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), used(1, 0))
    assert cost is not None
    assert sum([cost] * 1_000_000, Decimal(0)) == Decimal("2.5")
