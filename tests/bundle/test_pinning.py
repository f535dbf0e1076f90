"""Which real model ids are pinned, provider by provider."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import ModelRef, PinOverride
from llmlab.bundle.pinning import RULES_FILE, judge_pin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "0123456789abcdef" * 4

PINNED = {
    "offline": "extractive-1",
    "openai": (
        "gpt-4o-2024-08-06 gpt-4o-mini-2024-07-18 o3-2025-04-16 gpt-5-2025-08-07 gpt-4.1-nano-2025-04-14 "
        "gpt-4-0613 gpt-3.5-turbo-0125 gpt-4-1106-preview ft:gpt-4o-2024-08-06:org::id "
        "ft:gpt-4o-mini-2024-07-18:acme:support:Abc123:ckpt-step-90 ft:gpt-3.5-turbo-0613:acme::abc "
        "text-embedding-3-small"
    ),
    "anthropic": (
        "claude-3-5-sonnet-20241022 claude-3-haiku-20240307 claude-sonnet-4-20250514 claude-sonnet-4-5-20250929 "
        "claude-haiku-4-5-20251001 claude-opus-4-6 claude-sonnet-4-6 claude-opus-5 claude-2.1"
    ),
    "google": (
        "gemini-2.0-flash-001 gemini-1.5-pro-002 models/gemini-1.5-flash-002 gemini-2.5-flash-preview-09-2025 "
        "gemini-2.5-pro-preview-06-05 gemini-2.5-pro gemini-2.5-flash-lite gemini-embedding-001"
    ),
    "vertex": (
        "gemini-2.0-flash-001 gemini-2.5-flash claude-haiku-4-5@20251001 claude-3-5-sonnet-v2@20241022 "
        "claude-opus-4-6 text-bison@001 mistral-large-2411"
    ),
    "vertex-ai": "text-embedding-005",
    "mistral": "mistral-large-2407 mistral-small-2503 pixtral-12b-2409 codestral-2508",
    "cohere": "command-r-plus-08-2024 command-r7b-12-2024 command-a-03-2025 embed-english-v3.0 rerank-v3.5",
    "bedrock": (
        "anthropic.claude-3-5-sonnet-20241022-v2:0 us.anthropic.claude-3-5-sonnet-20241022-v2:0 "
        "apac.anthropic.claude-sonnet-4-20250514-v1:0 global.anthropic.claude-sonnet-4-5-20250929-v1:0 "
        "anthropic.claude-opus-4-6-v1 eu.anthropic.claude-sonnet-4-6 amazon.nova-pro-v1:0 us.amazon.nova-pro-v1:0 "
        "us.meta.llama3-3-70b-instruct-v1:0 meta.llama3-1-70b-instruct-v1:0:128k mistral.mistral-large-2407-v1:0 "
        "openai.gpt-oss-120b-1:0 "
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"
    ),
    "xai": "grok-4-0709 grok-2-vision-1212",
    "alibaba": "qwen-plus-2025-04-28",
    "qwen": "qwq-plus-2025-03-05",
}
FLOATING = {
    "openai": (
        "gpt-4-0631 gpt-3.5-turbo-0230 gpt-4o gpt-4o-mini gpt-5 o3 chatgpt-4o-latest gpt-5-chat-latest "
        "gpt-4-turbo-preview gpt-4-turbo gpt-3.5-turbo ft:gpt-3.5-turbo:acme::abc gpt-4о-2024-08-06 "
        "gpt-4o-2024-02-31 gpt-latest-2024-08-06"
    ),
    "google": (
        "gemini-2.5-pro-preview-02-30 gemini-2.5-flash-preview-13-2025 gemini-flash-latest "
        "gemini-2.5-flash-latest gemini-1.5-pro gemini-2.0-flash gemini-2.0-flash-exp gemini-exp-1206 "
        "gemini-2.0-flash-thinking-exp-01-21 gemini-3-pro-preview gemini-pro"
    ),
    "x-ai": "grok-4-0732",
    "offline": "extractive-2",
    "azure": "gpt-4o gpt-4o-2024-08-06 my-deployment",
    "anthropic": (
        "claude-3-5-sonnet-latest claude-3-7-sonnet-latest claude-opus-latest claude-sonnet-4-5 claude-opus-4-1 "
        "claude-sonnet-4-0 claude-3-5-sonnet claude-2 claude-sonnet-4-20251399"
    ),
    "vertex": (
        "gemini-2.0-flash gemini-1.5-pro gemini-flash-experimental claude-sonnet-4-5 claude-3-5-sonnet@latest "
        "meta/llama-3.1-405b-instruct-maas"
    ),
    "mistral": "mistral-large-latest mistral-small open-mistral-7b codestral-latest",
    "cohere": "command-r command-r-plus command-nightly",
    "bedrock": (
        "anthropic.claude-v2 anthropic.claude-3-sonnet amazon.nova-pro "
        "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123"
    ),
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "groq": "llama-3.3-70b-versatile",
    "fireworks": "accounts/fireworks/models/llama-v3p1-70b-instruct",
    "openrouter": "deepseek/deepseek-chat-v3-0324",
    "xai": "grok-4 grok-4-latest grok-3-beta",
    "deepseek": "deepseek-chat deepseek-reasoner",
    "ollama": "llama3.1 llama3.1:8b-instruct-q4_K_M",
    "huggingface": "meta-llama/Llama-3.1-8B-Instruct",
    "vllm": "Qwen/Qwen2.5-7B-Instruct",
    "elsewhere": "gpt-4o-2024-08-06",
    "alibaba": "qwen-plus qwen-plus-latest",
    "nvidia": "meta/llama-3.1-70b-instruct",
    "watsonx": "ibm/granite-3-8b-instruct",
    "cloudflare": "@cf/meta/llama-3.1-8b-instruct",
}
BY_REVISION = [
    ("azure", "my-deployment", "2024-08-06", True),
    ("azure", "chat", "turbo-2024-04-09", True),
    ("azure", "chat", "0613", True),
    ("azure", "chat", "latest", False),
    ("azure", "gpt-4o-2024-08-06", "", False),
    ("vllm", "Qwen/Qwen2.5-7B-Instruct", COMMIT, True),
    ("huggingface", "Qwen/Qwen2.5-7B-Instruct", "main", False),
    ("hf", "Qwen/Qwen2.5-7B-Instruct", COMMIT[:7], False),
    ("tgi", "Qwen/Qwen2.5-7B-Instruct", "v1.0", False),
    ("ollama", "llama3.1:8b", f"sha256:{SHA256}", True),
    ("ollama", "llama3.1:8b", "46e0c10c039e", True),
    ("ollama", "llama3.1:8b", "q4", False),
    ("ollama", f"llama3.1@sha256:{SHA256}", None, True),
    ("openai", "gpt-4o", "2024-08-06", False),
    ("openai", "gpt-4o", "x-2024-08-06", False),
    ("openai", "gpt-4o-2024-08-06", "x", True),
    ("anthropic", "claude-sonnet-4-5", "20250929", False),
    ("mistral", "mistral-large-latest", "x-2407", False),
]


def listed(ids: dict[str, str]) -> list[tuple[str, str]]:
    return [(provider, model_id) for provider, text in ids.items() for model_id in text.split()]


@pytest.mark.parametrize(
    ("provider", "model_id", "revision", "pinned"),
    [
        *((*names, None, True) for names in listed(PINNED)),
        *((*names, None, False) for names in listed(FLOATING)),
        *BY_REVISION,
    ],
)
def test_an_id_is_pinned_where_it_or_a_revision_that_the_provider_serves_by_names_fixed_weights(
    provider: str, model_id: str, revision: str | None, pinned: bool
) -> None:
    verdict = judge_pin(provider, model_id, revision=revision)
    assert verdict.pinned is pinned, verdict.reason
    assert verdict.reason


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u200b", "-"])
def test_an_override_that_names_nobody_or_no_reason_is_refused(blank: str) -> None:
    for said in ({"who": blank, "why": "own gateway"}, {"who": "Ada", "why": blank}):
        with pytest.raises(ValueError):
            PinOverride(**said)


def test_an_unknown_provider_is_floating_and_told_which_are_known() -> None:
    verdict = judge_pin("elsewhere", "model-2024-08-06")
    assert not verdict
    assert "openai" in verdict.reason


def test_an_override_is_recorded_with_its_author_and_leaves_a_pinned_id_alone() -> None:
    override = PinOverride(who="Ada", why="own gateway pins it")
    floating = ModelRef(provider="openai", id="gpt-4o", pin_override=override).pinned
    assert (floating.pinned, floating.overridden_by) == (True, "Ada")
    assert "own gateway pins it" in floating.reason
    assert ModelRef(provider="openai", id="gpt-4o-2024-08-06", pin_override=override).pinned.overridden_by == ""


def test_every_rule_is_whole_compiles_and_ends_in_a_sentence_without_a_full_stop() -> None:
    rules, _ = read_yaml(RULES_FILE)
    for family, listed in rules["providers"].items():
        for rule in listed:
            assert {"match", "pinned", "why"} <= set(rule) <= {"match", "pinned", "why", "source"}, family
            re.compile(rule["match"])
            assert isinstance(rule["pinned"], bool)
            assert not rule["why"].endswith(".")
            assert rule.get("source", "https://").startswith("https://")
    assert set(rules["aliases"].values()) <= set(rules["providers"])


@settings(max_examples=100)
@given(
    st.sampled_from(["openai", "anthropic", "google", "vertex", "bedrock", "mistral", "ollama", "vllm", "x"]),
    st.text(min_size=1, max_size=60),
    st.none() | st.text(max_size=60),
)
def test_every_text_gets_a_verdict_with_a_reason(provider: str, model_id: str, revision: str | None) -> None:
    verdict = judge_pin(provider, model_id, revision=revision)
    assert verdict.reason
    assert bool(verdict) is verdict.pinned


def test_the_tables_cover_enough_real_ids() -> None:
    assert len(listed(PINNED)) + len(listed(FLOATING)) >= 60
