"""endpoints.yaml: read strictly, resolved to the best fitting entry, without a key ever written down."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import FileRuleError, RequestRefusedError
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.endpoints import Endpoints, client_for, load_endpoints
from llmlab.clients.openai import OpenAIClient

OPENAI = ("https://api.openai.com/v1", "OPENAI_API_KEY")
EXAMPLE = Path(__file__).parents[2] / "experiments" / "endpoints.yaml"


def loaded(tmp_path: Path, text: str) -> Endpoints:
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    return load_endpoints(path)


def openai_client(model: str, endpoints: Endpoints | None = None) -> OpenAIClient:
    client = client_for(ModelRef.parse(model), endpoints)
    assert isinstance(client, OpenAIClient)
    return client


def test_the_example_in_the_repository_is_valid_and_used() -> None:
    endpoints = load_endpoints(EXAMPLE)
    [azure] = openai_client("azure/gpt-4o-2024-08-06", endpoints).accesses
    assert (azure.deployment, azure.api_version) == ("my-gpt-4o", "2024-10-21")
    assert azure.key_env == "AZURE_OPENAI_API_KEY"
    east, west = openai_client("azure/gpt-4.1-2025-04-14", endpoints).accesses
    assert (east.key_env, west.key_env, west.max_in_flight) == ("AZURE_EAST_KEY", "AZURE_WEST_KEY", 8)
    assert (east.deployment, west.api_version, west.key_header) == ("gpt-41", "2024-10-21", "api-key")
    assert isinstance(client_for(ModelRef.parse("anthropic/claude-opus-4-8"), endpoints), AnthropicClient)
    assert openai_client("vllm/llama", endpoints).context_tokens == 32768
    assert openai_client("ollama/llama3", endpoints).stream
    assert openai_client("openai/gpt-4o", endpoints).retry.case_timeout_s == 300


def test_a_known_provider_needs_no_entry() -> None:
    client = openai_client("mistral/mistral-large-2411")
    assert (client.fingerprint, client.accesses[0].key_env) == ("https://api.mistral.ai/v1", "MISTRAL_API_KEY")


def test_anthropic_is_reached_by_its_own_api_unless_told_otherwise(tmp_path: Path) -> None:
    model = ModelRef.parse("anthropic/claude-opus-4-8")
    native = client_for(model)
    assert isinstance(native, AnthropicClient)
    assert native.accesses[0].key_env == "ANTHROPIC_API_KEY"
    text = "endpoints: {anthropic: {base_url: 'https://api.anthropic.com/v1', wire_format: chat_completions}}"
    compatible = client_for(model, loaded(tmp_path, text))
    assert isinstance(compatible, OpenAIClient)
    assert compatible.fingerprint != native.fingerprint


def test_any_provider_may_offer_the_messages_api(tmp_path: Path) -> None:
    text = "endpoints: {vllm: {base_url: 'http://here:8000/', wire_format: messages, key_header: bearer}}"
    client = client_for(ModelRef.parse("vllm/llama"), loaded(tmp_path, text))
    assert isinstance(client, AnthropicClient)
    assert client.fingerprint == "messages http://here:8000"


def test_what_one_in_turn_does_not_say_it_takes_from_the_entry(tmp_path: Path) -> None:
    several = "[{key_env: KEY_A}, {key_env: KEY_B, requests_per_minute: 60, max_in_flight: 4}]"
    text = f"endpoints: {{openai: {{requests_per_minute: 500, in_turn: {several}}}}}"
    client = openai_client("openai/x", loaded(tmp_path, text))
    assert [(a.base_url, a.key_env, a.requests_per_minute, a.max_in_flight) for a in client.accesses] == [
        ("https://api.openai.com/v1", "KEY_A", 500, None),
        ("https://api.openai.com/v1", "KEY_B", 60, 4),
    ]
    assert client.fingerprint == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("entry", "reached"),
    [
        ("{requests_per_minute: 60}", [OPENAI]),
        ("{base_url: 'http://elsewhere/v1'}", [("http://elsewhere/v1", None)]),
        ("{in_turn: [{base_url: 'http://a/v1'}, {requests_per_minute: 5}]}", [("http://a/v1", None), OPENAI]),
    ],
)
def test_a_usual_key_goes_to_its_own_address_alone(tmp_path: Path, entry: str, reached: list[Any]) -> None:
    """A provider that is known may leave its address out; a key goes elsewhere only when it is named."""
    client = openai_client("openai/x", loaded(tmp_path, f"endpoints: {{openai: {entry}}}"))
    assert [(access.base_url, access.key_env) for access in client.accesses] == reached


def test_an_unknown_provider_is_told_what_to_write() -> None:
    with pytest.raises(RequestRefusedError, match=r"add an entry 'acme' with its base_url to endpoints\.yaml"):
        client_for(ModelRef.parse("acme/x"))


def test_the_best_fitting_entry_wins(tmp_path: Path) -> None:
    """The exact name, then the longest pattern, then the provider, in whatever order they stand."""
    names = ("vllm", "vllm/*", "vllm/llama-*", "vllm/llama-3")
    entries = [f"  {name}: {{base_url: 'http://{place}'}}" for place, name in enumerate(names)]
    endpoints = loaded(tmp_path, "\n".join(["endpoints:", *entries]))
    for model, name in {"llama-3": "vllm/llama-3", "llama-4": "vllm/llama-*", "x": "vllm/*"}.items():
        assert endpoints.entry_for(ModelRef.parse(f"vllm/{model}")) == endpoints.endpoints[name]


def test_models_behind_one_entry_share_its_rate_limit(tmp_path: Path) -> None:
    endpoints = loaded(tmp_path, "endpoints: {vllm: {base_url: 'http://a', requests_per_minute: 5}}")
    assert openai_client("vllm/one", endpoints) is openai_client("vllm/two", endpoints)


@pytest.mark.parametrize(
    ("entry", "line", "rule"),
    [
        ("base_url: 'http://a'\n    base_urll: x", 4, "unknown key"),
        ("key_env: X", 3, "base_url' is missing"),
        ("base_url: 'ftp://a'", 3, r"must be an http\(s\) address"),
        ("base_url: 'http://me:hunter2@a'", 3, "no credentials"),
        ("base_url: 'http://a?key=hunter2'", 3, "no credentials, query"),
        ("base_url: 'http://a'\n    key_env: sk-hunter2", 4, "must be the NAME"),
        ("base_url: 'http://a'\n    key_env: ''", 4, "must be the NAME"),
        ("base_url: 'http://a'\n    requests_per_minute: 0", 4, "must be > 0"),
        ("base_url: 'http://a'\n    context_tokens: '8k'", 4, "must be a whole number"),
        ("base_url: 'http://a'\n    api_version: 2024", 4, 'quote it: "2024"'),
        ("base_url: 'http://a'\n    prices: {input: -1, output: 1}", 4, "must be >= 0"),
        ("base_url: 'http://a'\n    prices: {input: 1}", 4, "output' is missing"),
        ("base_url: 'http://a'\n    key_header: basic", 4, "'bearer', 'api-key'"),
        ("base_url: 'http://a'\n    wire_format: grpc", 4, "'chat_completions' or 'messages'"),
        ("in_turn:\n      - {key_env: A}", 3, "base_url' is missing"),
        ("in_turn:\n      - {base_url: 'http://a'}\n      - {base_url: 'http://b', prices: x}", 5, "unknown key"),
        ("in_turn:\n      - {base_url: 'http://a', max_in_flight: 0}", 4, "must be >= 1"),
        ("in_turn: [x]", 3, "base_url' is missing"),
        ("base_url: 'http://a'\n    in_turn: []", 4, "must not be empty"),
    ],
)
def test_a_broken_rule_is_named_with_its_line_and_never_shows_a_secret(
    tmp_path: Path, entry: str, line: int, rule: str
) -> None:
    with pytest.raises(FileRuleError, match=rule) as raised:
        loaded(tmp_path, f"endpoints:\n  acme:\n    {entry}\n")
    assert raised.value.line == line
    assert "hunter2" not in str(raised.value)


def test_prices_are_exact(tmp_path: Path) -> None:
    text = "endpoints: {vllm: {base_url: 'http://a', prices: {input: 0.1, output: 0.4}}}"
    prices = loaded(tmp_path, text).endpoints["vllm"].prices
    assert prices is not None
    assert (prices.input, prices.output) == (Decimal("0.1"), Decimal("0.4"))


def test_the_fingerprint_changes_with_what_can_change_an_answer_and_with_nothing_else(tmp_path: Path) -> None:
    def fingerprint(entry: str) -> str:
        return client_for(ModelRef.parse("vllm/x"), loaded(tmp_path, f"endpoints: {{vllm: {{{entry}}}}}")).fingerprint

    base = fingerprint("base_url: 'http://a/v1'")
    assert base == fingerprint("base_url: 'HTTP://A/v1/', key_env: OTHER, requests_per_minute: 5, stream: true")
    assert base == fingerprint("base_url: 'http://a/v1', in_turn: [{key_env: A}, {key_env: B, max_in_flight: 2}]")
    assert base != fingerprint("base_url: 'http://a/v1', in_turn: [{}, {base_url: 'http://b/v1'}]")
    assert base != fingerprint("base_url: 'http://a/v1', wire_format: messages")
    assert base != fingerprint("base_url: 'http://b/v1'")
    assert base != fingerprint("base_url: 'http://a/v1', deployment: d")
    assert base != fingerprint("base_url: 'http://a/v1', api_version: '1'")
