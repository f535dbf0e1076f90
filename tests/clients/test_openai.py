"""Chat completions: what goes out under which name, Azure's paths, and servers that are compatible but for a habit.

What both wire formats share is tested in `test_wires`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmlab.base.errors import RequestRefusedError
from llmlab.bundle.bundle import Sampling
from llmlab.clients.base import Usage
from llmlab.clients.openai import OpenAIClient, read_answer
from tests.clients.made import QUICK, ask, asking, connected
from tests.loopback import Loopback

AZURE = "azure/gpt-4o-2024-08-06"
CANARY = "0123456789abcdef0123456789abcdef"  # the shape of Azure's keys, which looks like nothing


def test_sampling_tools_and_seed_go_out_under_their_names(loopback: Loopback) -> None:
    sampling = Sampling(
        temperature=0.0,
        top_p=0.5,
        max_tokens=7,
        stop=("END",),
        seed=3,
        frequency_penalty=0.1,
        response_format={"type": "json_object"},
        extra={"min_p": 0.05},
    )
    tool = {"name": "look_up", "description": "Finds.", "parameters": {"type": "object"}}
    ask(connected(loopback), asking(sampling=sampling, tools=(tool,), seed=5))
    assert json.loads(loopback.stats()["log"][0]["body"]) == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "How?"}],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": 5,
        "frequency_penalty": 0.1,
        "response_format": {"type": "json_object"},
        "min_p": 0.05,
        "tools": [{"type": "function", "function": tool}],
    }


@pytest.mark.parametrize(
    ("model", "sampling", "wanted"),
    [
        ("vllm/tiny", {}, {}),
        ("openai/gpt-4o-2024-08-06", {"max_tokens": 9, "temperature": 0.2}, {"max_tokens": 9, "temperature": 0.2}),
        ("openai/o3-2025-04-16", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("openai/o3-2025-04-16", {"temperature": 1.0}, {"temperature": 1.0}),
        ("openai/o3-2025-04-16", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openai/o3-2025-04-16", {"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ("mistral/mistral-large-2411", {"seed": 4}, {"random_seed": 4}),
        ("openai/gpt-5-2025-08-07", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("openai/gpt-5-chat-latest", {"temperature": 0.3}, {"temperature": 0.3}),
        (
            "openai/gpt-5.2-2025-12-11",
            {"temperature": 0.0, "extra": {"reasoning_effort": "none"}},
            {"temperature": 0.0, "reasoning_effort": "none"},
        ),
        ("azure/o4-mini-2025-04-16", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("anthropic/claude-sonnet-4-5-20250929", {"temperature": 0.5}, {"temperature": 0.5}),
        ("vllm/any", {"top_k": 5}, {"top_k": 5}),
        ("unheard-of/any", {"top_k": 5}, {"top_k": 5}),
    ],
)
def test_parameters_take_the_name_that_the_model_knows(
    model: str, sampling: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """And what is not set is not sent."""
    request = asking(model=model, sampling=Sampling(**sampling), seed=sampling.get("seed"))
    body = OpenAIClient("http://x/v1").body(request)
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_left_out_is_unknown_and_not_zero(loopback: Loopback, stream: bool) -> None:
    loopback.set(script=["no_usage"])
    answer = ask(connected(loopback, stream=stream))
    assert (answer.text, answer.usage, answer.cost_usd) == ("echo: How?", Usage(), None)


@pytest.mark.parametrize("details", [{}, {"input_tokens_details": {"cached_tokens": 4}}])
def test_usage_by_the_names_of_the_other_api_is_read(details: dict[str, Any]) -> None:
    """As found: `input_tokens` and `output_tokens`, which some gateways send, were an unknown cost."""
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, **details}
    reply = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}], "usage": usage}
    cached = 4 if details else None
    assert read_answer(reply)["usage"] == Usage(input_tokens=7, output_tokens=3, cached_input_tokens=cached)


@pytest.mark.parametrize("mode", ["no_done", "no_finish"])
def test_a_stream_may_lack_its_done_or_its_finish_reason_but_not_both(loopback: Loopback, mode: str) -> None:
    loopback.set(script=[mode])
    answer = ask(connected(loopback, stream=True))
    assert (answer.status, answer.text, answer.attempts) == ("ok", "echo: How?", 1)


def test_errors_in_vllms_own_shape_are_read(loopback: Loopback) -> None:
    loopback.set(faults={"vllm_400": 1.0})
    with pytest.raises(RequestRefusedError, match=r"answered 400: context is too long \("):
        ask(connected(loopback))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", CANARY)


def azure(loopback: Loopback, path: str = "", **settings: Any) -> OpenAIClient:
    usual = {"api_key_env": "AZURE_KEY", "deployment": "my model", "api_version": "2024-10-21", "retry": QUICK}
    return OpenAIClient(f"{loopback.origin}{path}", **{**usual, **settings})


@pytest.mark.parametrize("stream", [False, True])
def test_a_deployment_is_asked_by_its_path_with_the_api_version(loopback: Loopback, stream: bool) -> None:
    """A stream begins with the results of the prompt's filter, in an event without choices."""
    answer = ask(azure(loopback, stream=stream), asking(model=AZURE))
    entry = loopback.stats()["log"][0]
    assert entry["path"] == "/openai/deployments/my%20model/chat/completions?api-version=2024-10-21"
    assert entry["headers"]["api-key"] == CANARY
    assert "authorization" not in entry["headers"]
    assert (answer.status, answer.text) == ("ok", "echo: How?")
    assert answer.usage == Usage(input_tokens=1, output_tokens=2, cached_input_tokens=0)


@pytest.mark.parametrize(("version", "query"), [(None, ""), ("preview", "?api-version=preview")])
def test_the_newer_path_names_the_deployment_in_the_body(loopback: Loopback, version: str | None, query: str) -> None:
    ask(azure(loopback, "/openai/v1", api_version=version, key_header="api-key"), asking(model=AZURE))
    entry = loopback.stats()["log"][0]
    assert entry["path"] == f"/openai/v1/chat/completions{query}"
    assert entry["headers"]["api-key"] == CANARY
    assert json.loads(entry["body"])["model"] == "my model"


def test_its_addresses_are_known_to_want_the_api_key_header() -> None:
    for url in ("https://x.openai.azure.com/openai/v1", "https://x.services.ai.azure.com/openai/v1/"):
        assert '"api-key: ${AZURE_KEY}"' in OpenAIClient(url, api_key_env="AZURE_KEY").curl(asking(model=AZURE))
    groq = OpenAIClient("https://api.groq.com/openai/v1", api_key_env="GROQ_KEY")
    assert '"Authorization: Bearer ${GROQ_KEY}"' in groq.curl(asking(model=AZURE))
