"""Addresses as portals show them, further header fields, and what an endpoint refuses to be sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import FileRuleError, RequestRefusedError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.access import Access
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.endpoints import UNKNOWN_KEY, client_for, curl_for, load_endpoints
from llmlab.clients.openai import OpenAIClient
from tests.clients.made import WIRES, Wire, ask, asking, connected
from tests.loopback import Loopback

AZURE, FOUNDRY = "https://x.openai.azure.com", "https://x.services.ai.azure.com/models"
DEPLOYED = f"{AZURE}/openai/deployments/d"
# what a portal or an example shows, and where a request goes then
PASTED = [
    (f"{DEPLOYED}/chat/completions?api-version=2024-10-21", f"{DEPLOYED}/chat/completions?api-version=2024-10-21"),
    (f"{DEPLOYED}?api-version=2024-10-21", f"{DEPLOYED}/chat/completions?api-version=2024-10-21"),
    (f"{FOUNDRY}/chat/completions?api-version=2024-05-01", f"{FOUNDRY}/chat/completions?api-version=2024-05-01"),
    (
        f"{AZURE}/openai?api-version=2024-10-21",
        f"{DEPLOYED}/chat/completions?api-version=2024-10-21".replace("/d/", "/gpt-4o/"),
    ),
    (f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1/chat/completions"),
    ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/v1/models", "https://api.openai.com/v1/chat/completions"),
    ("http://127.0.0.1:1234/v1/completions/", "http://127.0.0.1:1234/v1/chat/completions"),
]


@pytest.mark.parametrize(("pasted", "asked"), PASTED)
def test_an_address_works_as_it_is_pasted(pasted: str, asked: str) -> None:
    """Source: https://learn.microsoft.com/azure/ai-services/openai/reference for Azure's paths."""
    client = OpenAIClient(pasted, api_key_env=None)
    [access] = client.accesses
    assert client.wire.url(access, ModelRef.parse("azure/gpt-4o")) == asked
    assert OpenAIClient(**access.model_dump(exclude={"key_env"}), api_key_env=None).fingerprint == client.fingerprint


def test_the_messages_api_is_found_as_pasted_too() -> None:
    for address in ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1/"):
        assert AnthropicClient(address).fingerprint == AnthropicClient().fingerprint


@pytest.mark.parametrize(
    ("base_url", "more", "rule"),
    [
        (f"{AZURE}/openai/responses?api-version=2025-04-01", {}, "drop that part"),
        (f"{DEPLOYED}?api-version=2024-10-21", {"api_version": "2024-06-01"}, "drop one of them"),
        (f"{DEPLOYED}?api-version=2024-10-21", {"deployment": "other"}, "drop one of them"),
        ("https://a.example/v1beta/models/m:generateContent?key=hunter2", {}, "no credentials, query or fragment"),
        ("https://a.example/v1?api-version=1&key=hunter2", {}, "no credentials, query or fragment"),
        ("https://user:hunter2@a.example/v1", {}, "or for basic authentication headers: {Authorization: VARIABLE}"),
        ("hunter2", {}, "must be an http"),
        ("https://a.example", {"api_key_env": "sk-hunter2"}, "^api_key_env: must be the NAME"),
        ("https://a.example", {"max_in_flight": 0}, "^max_in_flight: must be >= 1$"),
    ],
)
@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_what_cannot_work_says_which_part_to_drop(wire: Wire, base_url: str, more: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as raised:
        wire.client(base_url, **more)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("key", ["AKIA" + "QYLPMN5HTR7PZAM2", "sk-proj-hunter2hunter2hunter2", "hunter2"])
@pytest.mark.parametrize("place", ["key_env", "headers"])
def test_a_key_in_place_of_a_variables_name_is_refused_and_not_shown(tmp_path: Path, key: str, place: str) -> None:
    entry = {"base_url": "https://a.example", place: key if place == "key_env" else {"X-Key": key}}
    path = tmp_path / "endpoints.yaml"
    path.write_text(json.dumps({"endpoints": {"vllm": entry}}))
    with pytest.raises(FileRuleError, match="NAME") as raised:
        load_endpoints(path)
    assert key not in str(raised.value)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_further_header_fields_take_their_values_from_the_environment(
    loopback: Loopback, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback.set(script=["ok", "500", "500", "500"])
    client = connected(loopback, wire=wire, headers={"X-Team": "TEAM_SECRET"})
    with pytest.raises(RequestRefusedError, match=r"TEAM_SECRET for the header X-Team .* is not set"):
        ask(client)
    monkeypatch.setenv("TEAM_SECRET", "canary-team-value")
    ask(client)
    assert [entry["headers"]["x-team"] for entry in loopback.stats()["log"]] == ["canary-team-value"]
    assert "canary" not in f"{client!r} {client.curl(asking(wire=wire))}"
    assert "X-Team: ${TEAM_SECRET}" in client.curl(asking(wire=wire))
    assert client.fingerprint == connected(loopback, wire=wire).fingerprint


def test_what_an_endpoint_refuses_is_not_sent_and_in_the_fingerprint_where_it_matters(loopback: Loopback) -> None:
    loopback.set()
    plain, without = (connected(loopback, stream=True, drop=drop) for drop in ((), ("stream_options",)))
    seedless = connected(loopback, drop=("seed", "temperature"))
    ask(without)
    ask(seedless, asking(sampling=Sampling(temperature=0.5, top_p=0.5), seed=3))
    first, second = (json.loads(entry["body"]) for entry in loopback.stats()["log"])
    assert ("stream_options" in first, first["stream"]) == (False, True)
    assert second.keys() == {"model", "messages", "top_p"}
    assert without.fingerprint == plain.fingerprint
    assert seedless.fingerprint == f"{plain.fingerprint} -seed,temperature"
    assert "seed" not in (curl_for(asking(seed=3), seedless.fingerprint) or "")


@pytest.mark.parametrize("deployment", [None, "gpt", "2024-model", "my model", "my latest model"])
@pytest.mark.parametrize("version", [None, "preview", "2024-10-21", "2025-01-01-Preview"])
def test_a_stored_request_goes_again_where_it_went(deployment: str | None, version: str | None) -> None:
    client = OpenAIClient("https://one.invalid/openai/v1", deployment=deployment, api_version=version)
    again = curl_for(asking(), client.fingerprint)
    assert again is not None
    assert again.replace(UNKNOWN_KEY, "KEY") == client.curl(asking()).replace("OPENAI_API_KEY", "KEY")


def test_what_may_be_left_out_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: {vllm: {base_url: 'http://a/v1', drop: [seed], headers: {X-Org: ORG}}}")
    [access] = client_for(ModelRef.parse("vllm/m"), load_endpoints(path)).accesses  # type: ignore[attr-defined]  # HTTP
    assert (access.drop, access.headers) == (("seed",), (("X-Org", "ORG"),))
    with pytest.raises(ValueError, match="no request is whole without"):
        Access(base_url="http://a", drop=("messages",))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Unrecognized request argument supplied: stream_options", "stream_options"),
        ("Unsupported parameter: 'seed' is not supported with this model.", "seed"),
        ("[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted'}]", "top_k"),
    ],
)
def test_a_parameter_that_an_endpoint_does_not_take_is_named_with_the_way_out(
    loopback: Loopback, said: str, name: str
) -> None:
    """Wordings of OpenAI, Azure and vLLM."""
    loopback.set(script=["says_400"], words_400=said)
    with pytest.raises(RequestRefusedError) as raised:
        ask(connected(loopback))
    assert f"drop: [{name}]" in str(raised.value)
