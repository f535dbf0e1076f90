"""Cost: exact, by the list or by a price of one's own, and unknown rather than zero."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Usage
from llmlab.clients.prices import TokenPrices, price_usd

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


@pytest.mark.parametrize(
    ("model", "own", "usage", "usd"),
    [
        ("openai/gpt-4o-2024-08-06", {"input": 1, "output": 2}, used(), "0.0012"),
        ("openai/special", {"input": 3, "output": 4, "cached_input": 0}, used(1000, 100, 500), "0.0019"),
        ("ollama/llama3", {"input": 0, "output": 0}, used(), "0"),
    ],
)
def test_a_price_of_ones_own_goes_before_the_list(model: str, own: dict[str, Any], usage: Usage, usd: str) -> None:
    """And one of nothing is zero, since it is stated."""
    assert price_usd(ModelRef.parse(model), usage, own=TokenPrices(**own)) == Decimal(usd)


def test_sums_of_costs_are_exact() -> None:
    cost = price_usd(ModelRef.parse("openai/gpt-4o-2024-08-06"), used(1, 0))
    assert cost is not None
    assert sum([cost] * 1_000_000, Decimal(0)) == Decimal("2.5")
