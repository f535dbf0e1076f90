"""The Messages API: what goes out, what is refused before, and how cached tokens are counted.

What both wire formats share is tested in `test_wires`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from llmlab.base.errors import RequestRefusedError
from llmlab.bundle.bundle import Sampling
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.base import Generation, Usage
from tests.clients.made import MESSAGES, ask, asking, connected
from tests.loopback import Loopback

CANARY = "canary-of-no-known-shape-0123456789"
OLD, NEW = "anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-opus-4-7"


def sent(loopback: Loopback) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(loopback.stats()["log"][0]["body"])
    return body


def test_a_whole_request_goes_out_as_the_api_wants_it(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", CANARY)
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How?"},
    )
    tool = {"name": "look_up", "description": "Finds.", "parameters": {"type": "object"}}
    sampling = Sampling(temperature=0.0, top_k=5, max_tokens=7, stop=("END",), extra={"thinking": {"type": "disabled"}})
    request = asking(wire=MESSAGES, model=OLD, messages=messages, tools=(tool,), sampling=sampling)
    ask(connected(loopback, wire=MESSAGES, api_key_env="LOOPBACK_KEY"), request)
    entry = loopback.stats()["log"][0]
    assert entry["path"] == "/v1/messages"
    assert (entry["headers"]["x-api-key"], entry["headers"]["anthropic-version"]) == (CANARY, "2023-06-01")
    assert "authorization" not in entry["headers"]
    assert json.loads(entry["body"]) == {
        "model": "claude-sonnet-4-5-20250929",
        "system": "Be brief.",
        "messages": [dict(message) for message in messages[1:]],
        "temperature": 0.0,
        "top_k": 5,
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "thinking": {"type": "disabled"},
        "tools": [{"name": "look_up", "description": "Finds.", "input_schema": {"type": "object"}}],
    }


def test_a_schema_goes_out_as_output_config_beside_the_effort(loopback: Loopback) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    sampling = Sampling(max_tokens=9, response_format=wanted, extra={"output_config": {"effort": "low"}})
    ask(connected(loopback, wire=MESSAGES), asking(wire=MESSAGES, sampling=sampling))
    assert sent(loopback)["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-20250514", "claude-sonnet-4-20250514", "claude-3-7-sonnet-20250219", "claude-opus-4-0"],
)
def test_older_models_take_temperature_and_top_p_together(model: str) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.5, max_tokens=9)
    body = AnthropicClient().body(asking(wire=MESSAGES, model=f"anthropic/{model}", sampling=sampling))
    assert (body["temperature"], body["top_p"]) == (0.5, 0.5)


def test_a_system_message_among_others_is_refused() -> None:
    messages = ({"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."})
    with pytest.raises(RequestRefusedError, match="put it first"):
        AnthropicClient().body(asking(wire=MESSAGES, messages=messages))


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_read_from_and_written_into_the_cache_are_input_tokens(loopback: Loopback, stream: bool) -> None:
    """The API counts the three apart; prices of the list for Sonnet 4.5 are 3, 0.30, 3.75 and 15 dollars."""
    loopback.set(script=["cached"])
    answer = ask(connected(loopback, wire=MESSAGES, stream=stream), asking("one two three", wire=MESSAGES, model=OLD))
    assert answer.usage == Usage(input_tokens=8, output_tokens=4, cached_input_tokens=2, cache_write_tokens=3)
    assert answer.cost_usd == Decimal("0.00008085")  # (3 x 3 + 2 x 0.3 + 3 x 3.75 + 4 x 15) / 1,000,000
    assert Generation.from_json(answer.to_json()).usage == answer.usage


def test_it_does_not_embed() -> None:
    assert not hasattr(AnthropicClient(), "embed")
