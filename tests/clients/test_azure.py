"""Azure: deployments and api-version in the path, or the newer /openai/v1; api-key; what its content filter does."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

import pytest

from llmlab.base.errors import LlmlabError, RequestRefusedError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.retry import RetryPolicy
from tests.loopback import Loopback

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
CANARY = "0123456789abcdef0123456789abcdef"  # the shape of Azure's keys, which looks like nothing
MODEL = ModelRef.parse("azure/gpt-4o-2024-08-06")


def asking(**changes: Any) -> Request:
    parts: dict[str, Any] = {"messages": ({"role": "user", "content": "How?"},), "sampling": Sampling()}
    return Request(model=MODEL, **{**parts, **changes})


def connected(loopback: Loopback, path: str = "", **settings: Any) -> OpenAIClient:
    usual = {"api_key_env": "AZURE_KEY", "deployment": "my model", "api_version": "2024-10-21", "retry": QUICK}
    return OpenAIClient(f"{loopback.origin}{path}", **{**usual, **settings})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", CANARY)


def ask(client: OpenAIClient, request: Request | None = None) -> Generation:
    async def once() -> Generation:
        try:
            return await client.complete(request or asking())
        finally:
            await client.aclose()

    return asyncio.run(once())


@pytest.mark.parametrize("stream", [False, True])
def test_a_deployment_is_asked_by_its_path_with_the_api_version(loopback: Loopback, stream: bool) -> None:
    """A stream begins with the results of the prompt's filter, in an event without choices."""
    answer = ask(connected(loopback, stream=stream))
    entry = loopback.stats()["log"][0]
    assert entry["path"] == "/openai/deployments/my%20model/chat/completions?api-version=2024-10-21"
    assert entry["headers"]["api-key"] == CANARY
    assert "authorization" not in entry["headers"]
    assert (answer.status, answer.text) == ("ok", "echo: How?")
    assert answer.usage == Usage(input_tokens=1, output_tokens=2, cached_input_tokens=0)


@pytest.mark.parametrize(("version", "query"), [(None, ""), ("preview", "?api-version=preview")])
def test_the_newer_path_names_the_deployment_in_the_body(loopback: Loopback, version: str | None, query: str) -> None:
    ask(connected(loopback, "/openai/v1", api_version=version, key_header="api-key"))
    entry = loopback.stats()["log"][0]
    assert entry["path"] == f"/openai/v1/chat/completions{query}"
    assert entry["headers"]["api-key"] == CANARY
    assert json.loads(entry["body"])["model"] == "my model"


def test_its_addresses_are_known_to_want_the_api_key_header() -> None:
    for url in ("https://x.openai.azure.com/openai/v1", "https://x.services.ai.azure.com/openai/v1/"):
        assert '"api-key: ${AZURE_KEY}"' in OpenAIClient(url, api_key_env="AZURE_KEY").curl(asking())
    groq = OpenAIClient("https://api.groq.com/openai/v1", api_key_env="GROQ_KEY")
    assert '"Authorization: Bearer ${GROQ_KEY}"' in groq.curl(asking())


def test_a_token_of_entra_goes_out_as_bearer(loopback: Loopback) -> None:
    ask(connected(loopback, key_header="bearer"))
    headers = loopback.stats()["log"][0]["headers"]
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert "api-key" not in headers


@pytest.mark.parametrize("mode", ["content_filter_400", "content_filter"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_content_filter_holds_back_is_a_refusal(loopback: Loopback, mode: str, stream: bool) -> None:
    """Of a prompt it is a 400 with that code, of an answer a finish_reason: both are the model's doing, and stored."""
    loopback.set(script=[mode])
    answer = ask(connected(loopback, stream=stream))
    assert (answer.status, answer.attempts, answer.answered) == ("refused", 1, True)
    assert loopback.stats()["requests"] == 1


def test_an_unknown_deployment_is_told_with_what_to_check(loopback: Loopback) -> None:
    loopback.set(faults={"404": 1.0})
    with pytest.raises(RequestRefusedError, match="check the model id, deployment and base_url"):
        ask(connected(loopback))


@pytest.mark.parametrize("mode", ["401", "404", "429"])
def test_the_key_is_never_shown(loopback: Loopback, mode: str) -> None:
    """FAULTS 82."""
    loopback.set(faults={mode: 1.0})
    client = connected(loopback)
    with pytest.raises(LlmlabError) as raised:
        ask(client)
    assert CANARY not in f"{raised.value!r} {vars(raised.value)} {client!r} {vars(client)} {client.curl(asking())}"
    assert "key removed" in str(raised.value)


def test_parameters_follow_the_rules_of_openai_by_the_models_id() -> None:
    request = Request(model=ModelRef.parse("azure/o4-mini-2025-04-16"), messages=(), sampling=Sampling(temperature=0.0))
    with pytest.raises(RequestRefusedError, match="a reasoning model"):
        OpenAIClient("https://x.openai.azure.com", deployment="d", api_version="2024-10-21").body(request)


def test_curl_shows_path_version_and_header() -> None:
    client = OpenAIClient(
        "https://x.openai.azure.com", deployment="d", api_version="2024-10-21", api_key_env="AZURE_KEY"
    )
    command = shlex.split(client.curl(asking()))
    assert command[1] == "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert "api-key: ${AZURE_KEY}" in command
