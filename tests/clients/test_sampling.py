"""The rules of sampling parameters: data that can be read aloud, and that names its pages."""

from __future__ import annotations

import re

import pytest

from llmlab.clients import wire
from llmlab.clients.wire import sampling_rules


def test_what_a_model_does_not_take_is_told_with_its_page() -> None:
    told, source = sampling_rules("anthropic_messages", "claude-opus-4-7")
    assert "no temperature: models from Opus 4.7 on take no sampling parameters" in told
    assert any(sentence.startswith("no seed: ") for sentence in told)
    assert source.startswith("https://platform.claude.com/")


def test_values_that_still_pass_are_told() -> None:
    assert "no temperature but 1: a reasoning model" in sampling_rules("azure", "o3-2025-04-16")[0]
    assert "no temperature above 1: the Messages API takes 0 to 1" in sampling_rules("anthropic_messages", "x")[0]


def test_a_provider_without_rules_takes_everything() -> None:
    assert sampling_rules("vllm", "any") == ((), "")


@pytest.mark.parametrize("name", sorted(wire._all_rules()))
def test_rules_are_whole(name: str) -> None:
    """Every family names its page, every refusal its reason; patterns compile, references lead somewhere."""
    rules = wire._all_rules()
    family = rules[name]
    if "same_as" in family:
        assert rules[family["same_as"]]
        return
    assert family["source"].startswith("https://")
    assert "models_as" not in family or rules[family["models_as"]]["models"]
    for level in (family, *family.get("models", ())):
        assert all(rule["why"] for rule in level.get("refuse", {}).values())
        re.compile(level.get("match", ""))


@pytest.mark.parametrize(
    ("model_id", "refused"),
    [
        ("claude-opus-4-7", True),
        ("claude-opus-4-8", True),
        ("claude-sonnet-5", True),
        ("claude-opus-5-5", True),
        ("claude-haiku-5-5", True),
        ("us.anthropic.claude-opus-4-7", True),
        ("claude-opus-4-6", False),
        ("claude-sonnet-4-6", False),
        ("claude-haiku-4-5-20251001", False),
        ("claude-opus-4-1-20250805", False),
        ("claude-opus-4-20250514", False),
    ],
)
def test_models_from_opus_4_7_on_take_no_sampling_parameters(model_id: str, refused: bool) -> None:
    """Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide."""
    told = sampling_rules("anthropic_messages", model_id)[0]
    assert any("take no sampling parameters" in sentence for sentence in told) == refused
