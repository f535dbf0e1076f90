"""The Messages API of Anthropic, and of those who offer it as well (Azure Foundry, gateways, vLLM), over aiohttp."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from llmlab.clients import wire_anthropic
from llmlab.clients.http import HttpClient, Settings

__all__ = ["AnthropicClient"]


class AnthropicClient(HttpClient):
    """Sends messages to one endpoint, or to several that are interchangeable.

    A bundle's `max_tokens` is required, a `seed` is refused (the API has none), and so is every sampling parameter
    that the model does not take: `llmlab check-model anthropic ID` lists them. A `response_format` with a JSON schema
    is sent as `output_config`; `sampling.extra` passes as it is (`thinking`, `tool_choice`, `cache_control`, ...).

    Args:
        base_url: where `/v1/messages` is (a `/v1` at its end is the same); without credentials or query.
        api_key_env: NAME of the environment variable that holds the key; None for an endpoint without one.
        settings: as of `OpenAIClient`. `api_version` is the `anthropic-version`, by default 2023-06-01; `key_header`
            is "x-api-key" by default, or "bearer".

    >>> AnthropicClient()
    AnthropicClient('messages https://api.anthropic.com', key from $ANTHROPIC_API_KEY)
    """

    def __init__(
        self,
        base_url: str = "https://api.anthropic.com",
        *,
        api_key_env: str | None = "ANTHROPIC_API_KEY",
        **settings: Unpack[Settings],
    ) -> None:
        others = settings.get("in_turn", ())
        settings["in_turn"] = [replace(access, base_url=_without_version(access.base_url)) for access in others]
        super().__init__(_without_version(base_url), wire=wire_anthropic, api_key_env=api_key_env, **settings)


def _without_version(base_url: str) -> str:
    """One spelling of an address that is also written with its version."""
    return base_url.rstrip("/").removesuffix("/v1")
