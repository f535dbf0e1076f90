"""Which real model ids are pinned, provider by provider."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import ModelRef, PinOverride
from llmlab.bundle.pinning import RULES_FILE, judge_pin
from llmlab.display.shown import frame

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "0123456789abcdef" * 4

PINNED = """
offline extractive-1
openai gpt-4o-2024-08-06
openai gpt-4o-mini-2024-07-18
openai o3-2025-04-16
openai gpt-5-2025-08-07
openai gpt-4.1-nano-2025-04-14
openai gpt-4-0613
openai gpt-3.5-turbo-0125
openai gpt-4-1106-preview
openai ft:gpt-4o-2024-08-06:org::id
openai ft:gpt-4o-mini-2024-07-18:acme:support:Abc123:ckpt-step-90
openai ft:gpt-3.5-turbo-0613:acme::abc
openai text-embedding-3-small
anthropic claude-3-5-sonnet-20241022
anthropic claude-3-haiku-20240307
anthropic claude-sonnet-4-20250514
anthropic claude-sonnet-4-5-20250929
anthropic claude-haiku-4-5-20251001
anthropic claude-opus-4-6
anthropic claude-sonnet-4-6
anthropic claude-opus-5
anthropic claude-2.1
google gemini-2.0-flash-001
google gemini-1.5-pro-002
google models/gemini-1.5-flash-002
google gemini-2.5-flash-preview-09-2025
google gemini-2.5-pro-preview-06-05
google gemini-2.5-pro
google gemini-2.5-flash-lite
google gemini-embedding-001
vertex gemini-2.0-flash-001
vertex gemini-2.5-flash
vertex claude-haiku-4-5@20251001
vertex claude-3-5-sonnet-v2@20241022
vertex claude-opus-4-6
vertex text-bison@001
vertex mistral-large-2411
vertex-ai text-embedding-005
mistral mistral-large-2407
mistral mistral-small-2503
mistral pixtral-12b-2409
mistral codestral-2508
cohere command-r-plus-08-2024
cohere command-r7b-12-2024
cohere command-a-03-2025
cohere embed-english-v3.0
cohere rerank-v3.5
bedrock anthropic.claude-3-5-sonnet-20241022-v2:0
bedrock us.anthropic.claude-3-5-sonnet-20241022-v2:0
bedrock apac.anthropic.claude-sonnet-4-20250514-v1:0
bedrock global.anthropic.claude-sonnet-4-5-20250929-v1:0
bedrock anthropic.claude-opus-4-6-v1
bedrock eu.anthropic.claude-sonnet-4-6
bedrock amazon.nova-pro-v1:0
bedrock us.amazon.nova-pro-v1:0
bedrock us.meta.llama3-3-70b-instruct-v1:0
bedrock meta.llama3-1-70b-instruct-v1:0:128k
bedrock mistral.mistral-large-2407-v1:0
bedrock openai.gpt-oss-120b-1:0
bedrock arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0
xai grok-4-0709
xai grok-2-vision-1212
alibaba qwen-plus-2025-04-28
qwen qwq-plus-2025-03-05
"""
FLOATING = """
openai gpt-4-0631
openai gpt-3.5-turbo-0230
google gemini-2.5-pro-preview-02-30
google gemini-2.5-flash-preview-13-2025
x-ai grok-4-0732
offline extractive-2
openai gpt-4o
openai gpt-4o-mini
openai gpt-5
openai o3
openai chatgpt-4o-latest
openai gpt-5-chat-latest
openai gpt-4-turbo-preview
openai gpt-4-turbo
openai gpt-3.5-turbo
openai ft:gpt-3.5-turbo:acme::abc
azure gpt-4o
azure gpt-4o-2024-08-06
azure my-deployment
anthropic claude-3-5-sonnet-latest
anthropic claude-3-7-sonnet-latest
anthropic claude-opus-latest
anthropic claude-sonnet-4-5
anthropic claude-opus-4-1
anthropic claude-sonnet-4-0
anthropic claude-3-5-sonnet
anthropic claude-2
google gemini-flash-latest
google gemini-2.5-flash-latest
google gemini-1.5-pro
google gemini-2.0-flash
google gemini-2.0-flash-exp
google gemini-exp-1206
google gemini-2.0-flash-thinking-exp-01-21
google gemini-3-pro-preview
google gemini-pro
vertex gemini-2.0-flash
vertex gemini-1.5-pro
vertex gemini-flash-experimental
vertex claude-sonnet-4-5
vertex claude-3-5-sonnet@latest
vertex meta/llama-3.1-405b-instruct-maas
mistral mistral-large-latest
mistral mistral-small
mistral open-mistral-7b
mistral codestral-latest
cohere command-r
cohere command-r-plus
cohere command-nightly
bedrock anthropic.claude-v2
bedrock anthropic.claude-3-sonnet
bedrock amazon.nova-pro
bedrock arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123
together meta-llama/Llama-3.3-70B-Instruct-Turbo
groq llama-3.3-70b-versatile
fireworks accounts/fireworks/models/llama-v3p1-70b-instruct
openrouter deepseek/deepseek-chat-v3-0324
xai grok-4
xai grok-4-latest
xai grok-3-beta
deepseek deepseek-chat
deepseek deepseek-reasoner
ollama llama3.1
ollama llama3.1:8b-instruct-q4_K_M
huggingface meta-llama/Llama-3.1-8B-Instruct
vllm Qwen/Qwen2.5-7B-Instruct
elsewhere gpt-4o-2024-08-06
openai gpt-4о-2024-08-06
openai gpt-4o-2024-02-31
openai gpt-latest-2024-08-06
anthropic claude-sonnet-4-20251399
alibaba qwen-plus
alibaba qwen-plus-latest
nvidia meta/llama-3.1-70b-instruct
watsonx ibm/granite-3-8b-instruct
cloudflare @cf/meta/llama-3.1-8b-instruct
"""
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


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.split("\n") if line]


@pytest.mark.parametrize(("provider", "model_id"), table(PINNED))
def test_an_id_that_names_fixed_weights_is_pinned(provider: str, model_id: str) -> None:
    found = judge_pin(provider, model_id)
    assert found.pinned, found.reason


@pytest.mark.parametrize(("provider", "model_id"), table(FLOATING))
def test_an_id_that_may_be_re_pointed_is_floating(provider: str, model_id: str) -> None:
    found = judge_pin(provider, model_id)
    assert not found.pinned, found.reason
    assert found.reason


@pytest.mark.parametrize(("provider", "model_id", "revision", "pinned"), BY_REVISION)
def test_a_revision_pins_where_the_provider_serves_by_it(
    provider: str, model_id: str, revision: str | None, pinned: bool
) -> None:
    assert judge_pin(provider, model_id, revision=revision).pinned is pinned


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u200b", "-"])
def test_an_override_that_names_nobody_or_no_reason_is_refused(blank: str) -> None:
    for said in ({"who": blank, "why": "own gateway"}, {"who": "Ada", "why": blank}):
        with pytest.raises(ValueError):
            PinOverride(**said)


def test_an_unknown_provider_is_floating_and_told_which_are_known() -> None:
    found = judge_pin("elsewhere", "model-2024-08-06")
    assert not found
    assert "openai" in found.reason


def test_an_override_is_recorded_with_its_author_and_leaves_a_pinned_id_alone() -> None:
    override = PinOverride(who="Ada", why="own gateway pins it")
    floating = ModelRef(provider="openai", id="gpt-4o", pin_override=override)
    assert floating.pinned.pinned
    assert floating.pinned.overridden_by == "Ada"
    assert "own gateway pins it" in floating.pinned.reason
    pinned = ModelRef(provider="openai", id="gpt-4o-2024-08-06", pin_override=override)
    assert pinned.pinned.overridden_by == ""


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
    found = judge_pin(provider, model_id, revision=revision)
    assert found.reason
    assert bool(found) is found.pinned


def test_a_verdict_shows_itself_escaped() -> None:
    found = judge_pin("openai", "<script>alert(1)</script>")
    assert "<script>" not in found._repr_html_()
    assert "floating" in str(found)
    assert list(frame(found._rows())["verdict"]) == ["floating"]


def test_the_tables_cover_enough_real_ids() -> None:
    assert len(table(PINNED)) + len(table(FLOATING)) >= 60
