"""endpoints.yaml: read strictly, resolved to the best fitting entry, without a key ever written down."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from llmlab.bundle import ModelRef
from llmlab.clients.endpoints import Endpoints, client_for, load_endpoints
from llmlab.clients.openai import OpenAIClient
from llmlab.errors import FileRuleError, RequestRefusedError

EXAMPLE = Path(__file__).parents[2] / "experiments" / "endpoints.yaml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    return path


def openai_client(model: str, endpoints: Endpoints | None = None) -> OpenAIClient:
    client = client_for(ModelRef.parse(model), endpoints)
    assert isinstance(client, OpenAIClient)
    return client


def test_the_example_in_the_repository_is_valid_and_used() -> None:
    endpoints = load_endpoints(EXAMPLE)
    [azure] = openai_client("azure/gpt-4o-2024-08-06", endpoints).accesses
    assert (azure.deployment, azure.api_version, azure.api_key_env) == (
        "my-gpt-4o",
        "2024-10-21",
        "AZURE_OPENAI_API_KEY",
    )
    assert openai_client("vllm/llama", endpoints).context_tokens == 32768
    assert openai_client("ollama/llama3", endpoints).stream
    assert openai_client("openai/gpt-4o", endpoints).retry.case_timeout_s == 300


def test_a_known_provider_needs_no_entry() -> None:
    client = openai_client("mistral/mistral-large-2411")
    assert (client.fingerprint, client.accesses[0].api_key_env) == ("https://api.mistral.ai/v1", "MISTRAL_API_KEY")


def test_a_known_provider_may_leave_the_address_out(tmp_path: Path) -> None:
    endpoints = load_endpoints(written(tmp_path, "endpoints: {openai: {requests_per_minute: 60}}"))
    client = openai_client("openai/x", endpoints)
    assert (client.fingerprint, client.accesses[0].api_key_env) == ("https://api.openai.com/v1", "OPENAI_API_KEY")


def test_a_key_goes_to_another_address_only_when_it_is_named(tmp_path: Path) -> None:
    endpoints = load_endpoints(written(tmp_path, "endpoints: {openai: {base_url: 'http://elsewhere/v1'}}"))
    assert openai_client("openai/x", endpoints).accesses[0].api_key_env is None


def test_an_unknown_provider_is_told_what_to_write() -> None:
    with pytest.raises(RequestRefusedError, match=r"add an entry 'acme' with its base_url to endpoints\.yaml"):
        client_for(ModelRef.parse("acme/x"))


def test_the_offline_model_needs_no_endpoint() -> None:
    assert not isinstance(client_for(ModelRef.parse("offline/extractive-1")), OpenAIClient)


def test_the_best_fitting_entry_wins(tmp_path: Path) -> None:
    """The exact name, then the longest pattern, then the provider, in whatever order they stand."""
    text = "\n".join(
        [
            "endpoints:",
            "  vllm: {base_url: 'http://provider'}",
            "  vllm/*: {base_url: 'http://all'}",
            "  vllm/llama-*: {base_url: 'http://pattern'}",
            "  vllm/llama-3: {base_url: 'http://exact'}",
        ]
    )
    endpoints = load_endpoints(written(tmp_path, text))
    found = {
        model: endpoints.endpoint_for(ModelRef.parse(f"vllm/{model}")).base_url for model in ("llama-3", "llama-4", "x")
    }
    assert found == {"llama-3": "http://exact", "llama-4": "http://pattern", "x": "http://all"}


def test_models_behind_one_entry_share_its_rate_limit(tmp_path: Path) -> None:
    endpoints = load_endpoints(written(tmp_path, "endpoints: {vllm: {base_url: 'http://a', requests_per_minute: 5}}"))
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
        ("base_url: 'http://a'\n    requests_per_minute: 0", 4, "greater than 0"),
        ("base_url: 'http://a'\n    context_tokens: '8k'", 4, "valid integer"),
        ("base_url: 'http://a'\n    api_version: 2024", 4, 'quote it: "2024"'),
        ("base_url: 'http://a'\n    prices: {input: -1, output: 1}", 4, "greater than or equal to 0"),
        ("base_url: 'http://a'\n    prices: {input: 1}", 4, "output' is missing"),
    ],
)
def test_a_broken_rule_is_named_with_its_line_and_never_shows_a_secret(
    tmp_path: Path, entry: str, line: int, rule: str
) -> None:
    path = written(tmp_path, f"endpoints:\n  acme:\n    {entry}\n")
    with pytest.raises(FileRuleError, match=rule) as raised:
        load_endpoints(path)
    assert raised.value.line == line
    assert "hunter2" not in str(raised.value)


def test_prices_are_exact(tmp_path: Path) -> None:
    text = "endpoints: {vllm: {base_url: 'http://a', prices: {input: 0.1, output: 0.4}}}"
    prices = load_endpoints(written(tmp_path, text)).endpoints["vllm"].prices
    assert prices is not None
    assert (prices.input, prices.output) == (Decimal("0.1"), Decimal("0.4"))


def test_the_fingerprint_changes_with_what_can_change_an_answer_and_with_nothing_else(tmp_path: Path) -> None:
    def fingerprint(entry: str) -> str:
        return load_endpoints(written(tmp_path, f"endpoints: {{vllm: {{{entry}}}}}")).fingerprint

    base = fingerprint("base_url: 'http://a/v1'")
    assert base == fingerprint("base_url: 'HTTP://A/v1/', key_env: OTHER, requests_per_minute: 5, stream: true")
    assert base != fingerprint("base_url: 'http://b/v1'")
    assert base != fingerprint("base_url: 'http://a/v1', deployment: d")
    assert base != fingerprint("base_url: 'http://a/v1', api_version: '1'")
