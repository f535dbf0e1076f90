"""Where models are reached: `endpoints.yaml`, one per environment, outside every bundle's digest.

An entry is named after a provider (`openai`), a model (`openai/gpt-4o-2024-08-06`) or a pattern (`vllm/llama-*`).
The best fitting one wins: the exact name, then the longest pattern, then the provider. Used by `experiment`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from llmlab.bundle import ModelRef
from llmlab.clients.address import base_address
from llmlab.clients.base import Client
from llmlab.clients.prices import Price
from llmlab.errors import RequestRefusedError
from llmlab.yamlfile import read_model

__all__ = ["Endpoint", "Endpoints", "client_for", "load_endpoints"]

PROVIDERS: dict[str, tuple[str, str | None]] = {  # OpenAI-compatible addresses, and where each key usually lies
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "cohere": ("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "huggingface": ("https://router.huggingface.co/v1", "HF_TOKEN"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "ollama": ("http://127.0.0.1:11434/v1", None),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": ("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "vllm": ("http://127.0.0.1:8000/v1", None),
    "x-ai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
PerMinute = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Endpoint(pydantic.BaseModel):
    """How one endpoint is reached, paid and paced. `key_env` is the NAME of an environment variable, never a key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    base_url: Annotated[str, pydantic.AfterValidator(base_address)]
    key_env: str | None = None
    deployment: Annotated[str, Field(min_length=1)] | None = None
    api_version: Annotated[str, Field(min_length=1)] | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    prices: Price | None = None
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False
    attempts: Annotated[int, Field(ge=1)] | None = None
    attempt_timeout_s: Seconds | None = None
    case_timeout_s: Seconds | None = None

    @pydantic.field_validator("key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,79}", name):
            raise ValueError("must be the NAME of an environment variable in capitals, such as OPENAI_API_KEY")
        return name

    @property
    def fingerprint(self) -> str:
        """What can change an answer: address, deployment and API version."""
        return " ".join(part for part in (self.base_url, self.deployment, self.api_version) if part)


class Endpoints(pydantic.BaseModel):
    """The entries of an `endpoints.yaml`, by provider, `provider/id`, or a pattern of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    endpoints: Mapping[str, Endpoint] = Field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, raw: Any) -> Any:
        entries = raw.get("endpoints") if isinstance(raw, dict) else None
        if not isinstance(entries, dict):
            return raw
        return {**raw, "endpoints": {name: _completed(name, entry) for name, entry in entries.items()}}

    def endpoint_for(self, model: ModelRef) -> Endpoint:
        """The best fitting entry, or the provider's public address; RequestRefusedError where there is neither."""
        fitting = [name for name in self.endpoints if fnmatchcase(str(model), name) or name == model.provider]
        best = max(fitting, key=lambda name: (name == str(model), "/" in name, len(name)), default=None)
        if best is not None:
            return self.endpoints[best]
        if model.provider not in PROVIDERS:
            raise RequestRefusedError(
                f"no endpoint for {model}: add an entry {model.provider!r} with its base_url to endpoints.yaml",
                attempts=0,
            )
        base_url, key_env = PROVIDERS[model.provider]
        return Endpoint(base_url=base_url, key_env=key_env)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of what can change an answer: every entry's address, deployment and API version."""
        named = {name: entry.fingerprint for name, entry in self.endpoints.items()}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def load_endpoints(path: str | Path) -> Endpoints:
    """The endpoints in a YAML file; FileRuleError with file, line and rule for anything that is not one."""
    return read_model(Endpoints, path)


def client_for(model: ModelRef, endpoints: Endpoints | None = None) -> Client:
    """The client that reaches this model. Models behind one entry share a client, and so its rate limit.

    >>> client_for(ModelRef.parse("openai/gpt-4o-2024-08-06")).fingerprint
    'https://api.openai.com/v1'
    """
    if model.provider == "offline" and model.id.startswith("overlap-judge"):
        from llmlab.clients.offline_judge import OfflineJudge

        return OfflineJudge()
    if model.provider == "offline":
        from llmlab.clients.offline import OfflineClient

        return OfflineClient()
    return _client((endpoints or Endpoints()).endpoint_for(model))


@cache
def _client(endpoint: Endpoint) -> Client:
    from llmlab.clients.openai import OpenAIClient
    from llmlab.clients.retry import RetryPolicy

    bounds = {name: getattr(endpoint, name) for name in ("attempts", "attempt_timeout_s", "case_timeout_s")}
    return OpenAIClient(
        endpoint.base_url,
        api_key_env=endpoint.key_env,
        deployment=endpoint.deployment,
        api_version=endpoint.api_version,
        requests_per_minute=endpoint.requests_per_minute,
        tokens_per_minute=endpoint.tokens_per_minute,
        prices=endpoint.prices,
        context_tokens=endpoint.context_tokens,
        stream=endpoint.stream,
        retry=RetryPolicy(**{name: value for name, value in bounds.items() if value is not None}),
    )


def _completed(name: str, entry: Any) -> Any:
    """An entry without an address means the provider's public one; a key goes to another address only when named."""
    provider = name.partition("/")[0]
    if not isinstance(entry, dict) or "base_url" in entry or provider not in PROVIDERS:
        return entry
    base_url, key_env = PROVIDERS[provider]
    return {"base_url": base_url, "key_env": key_env, **entry}
