"""Where models are reached: `endpoints.yaml`, one per environment, outside every bundle's digest.

An entry is named after a provider (`openai`), a model (`openai/gpt-4o-2024-08-06`) or a pattern (`vllm/llama-*`).
The best fitting one wins: the exact name, then the longest pattern, then the provider. Used by `engine`.

An entry may list several endpoints or keys under `in_turn`; each takes from the entry what it does not say itself.
They are one endpoint to everybody else: the call key does not depend on which of them answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import pydantic
from pydantic import Field

from llmlab.base.documents import Strict
from llmlab.base.errors import RequestRefusedError
from llmlab.base.yamlfile import read_model
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.access import NOT_SENT, Access, AccessSettings, Name, Positive, RetryPolicy
from llmlab.clients.base import GUARDED, Client, Request
from llmlab.clients.offline import OfflineClient, OfflineJudge
from llmlab.clients.prices import TokenPrices

PROVIDERS: dict[str, tuple[str, str | None]] = {  # addresses, and where each key usually lies
    "anthropic": ("https://api.anthropic.com", "ANTHROPIC_API_KEY"),
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
USUAL: dict[str, dict[str, str]] = {"anthropic": {"wire_format": "messages"}, "azure": {"key_header": "api-key"}}
API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?|preview|latest", re.IGNORECASE)  # Azure's
LOCAL = re.compile(r"smollm2-135m-instruct$|wordllama-256$|path:")  # else an entry that a user called `local`
UNKNOWN_KEY = "API_KEY"  # in a command for an address that nobody knows


class Endpoint(Access):
    """How a model is reached, paid and paced.

    Attributes:
        wire_format: "chat_completions" (OpenAI's, the default but for `anthropic`) or Anthropic's "messages".
        in_turn: several endpoints or keys instead of the entry's own.
        group: a name for them, which stands for them in the fingerprint.
    """

    wire_format: Literal["chat_completions", "messages"] = "chat_completions"
    in_turn: Annotated[tuple[Access, ...], Field(strict=False, min_length=1)] = ()
    group: Name | None = None
    prices: TokenPrices | None = None
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False
    attempts: Annotated[int, Field(ge=1)] | None = None
    attempt_timeout_s: Positive | None = None
    case_timeout_s: Positive | None = None

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Every way in, with the entry's own where it lists no others."""
        return self.in_turn or (self,)


class Endpoints(Strict):
    """The entries of an `endpoints.yaml`, by provider, `provider/id`, or a pattern of it."""

    clients: ClassVar[Mapping[str, Client]] = {}  # a file names addresses alone
    endpoints: Mapping[str, Endpoint] = Field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, raw: Any) -> Any:
        entries = raw.get("endpoints") if isinstance(raw, dict) else None
        if not isinstance(entries, dict):
            return raw
        return {**raw, "endpoints": {name: _completed(name, entry) for name, entry in entries.items()}}

    def entry_for(self, model: ModelRef) -> Endpoint | None:
        """The best fitting entry, None where none fits."""
        fitting = [name for name in self.endpoints if fnmatchcase(str(model), name) or name == model.provider]
        best = max(fitting, key=lambda name: (name == str(model), "/" in name, len(name)), default=None)
        return None if best is None else self.endpoints[best]

    def endpoint_for(self, model: ModelRef) -> Endpoint:
        """The best fitting entry, or the provider's public address; RequestRefusedError where there is neither."""
        if (entry := self.entry_for(model)) is not None:
            return entry
        if model.provider not in PROVIDERS:
            raise RequestRefusedError(
                f"no endpoint for {model}: add an entry {model.provider!r} with its base_url to endpoints.yaml",
                attempts=0,
            )
        return Endpoint.model_validate(_completed(model.provider, {}))


class Reaching(Protocol):
    """What knows how each model is reached: an endpoints file, or several in turn."""

    @property
    def clients(self) -> Mapping[str, Client]:
        """Clients of one's own, by the provider that each answers for."""

    def endpoint_for(self, model: ModelRef) -> Endpoint:
        """How this model is reached; an error that says what to do where nobody knows."""


def load_endpoints(path: str | Path) -> Endpoints:
    """The endpoints in a YAML file; FileRuleError with file, line and rule for anything that is not one."""
    return read_model(Endpoints, path)


def client_for(model: ModelRef, endpoints: Reaching | None = None) -> Client:
    """The client that reaches this model. Models behind one entry share a client, and so its rate limit.

    >>> client_for(ModelRef.parse("openai/gpt-4o-2024-08-06")).fingerprint
    'https://api.openai.com/v1'
    """
    if model.provider == "offline":
        return OfflineJudge() if model.id.startswith("overlap-judge") else OfflineClient()
    if model.provider == "local" and LOCAL.match(model.id):
        return _local_client(model.id, model.revision)
    if endpoints is not None and (own_client := endpoints.clients.get(model.provider)) is not None:
        return own_client
    return _client((endpoints or Endpoints()).endpoint_for(model))


def curl_for(request: Request, fingerprint: str) -> str | None:
    """The command that sends a stored request again where it went; None for no OpenAI-compatible address.

    A stored request does not say which key it went out with: only an address that is known gets its usual variable,
    so that whoever pastes the command sends no provider's key to another.
    """
    base_url, *more = fingerprint.split(" ")
    if not base_url.startswith(("http://", "https://")) or any(part.startswith(GUARDED) for part in more):
        return None  # of a client behind guards nobody can tell what was sent
    from llmlab.clients.openai import OpenAIClient  # loads aiohttp

    drop = next((tuple(part[1:].split(",")) for part in more if part.startswith(NOT_SENT)), ())
    words = [part for part in more if not part.startswith(NOT_SENT)]
    version = words.pop() if words and API_VERSION.fullmatch(words[-1]) else None  # it stands last
    deployment = " ".join(words) or None
    key_env = dict(PROVIDERS.values()).get(base_url, UNKNOWN_KEY)
    client = OpenAIClient(base_url, api_key_env=key_env, deployment=deployment, api_version=version, drop=drop)
    return client.curl(request)


@cache
def _local_client(model_id: str, revision: str | None) -> Client:
    from llmlab.clients.local import LocalClient  # loads aiohttp, which only those need who ask a model
    from llmlab.local.setup import LocalModel  # needed with it alone
    from llmlab.local.vectors import VECTORS, LocalVectors  # needed with it alone

    if model_id == VECTORS:
        return LocalVectors()
    return LocalClient(LocalModel.of(model_id, revision=revision))


@cache
def _client(endpoint: Endpoint) -> Client:
    from llmlab.clients.anthropic import AnthropicClient  # both load aiohttp, which only those need who ask a model
    from llmlab.clients.openai import OpenAIClient  # loads aiohttp, as above

    bounds = endpoint.model_dump(include={"attempts", "attempt_timeout_s", "case_timeout_s"}, exclude_none=True)
    first, *others = endpoint.accesses
    access_settings = {name: getattr(first, name) for name in AccessSettings.__annotations__}
    of_wire: type[AnthropicClient | OpenAIClient]
    of_wire = AnthropicClient if endpoint.wire_format == "messages" else OpenAIClient
    return of_wire(
        first.base_url,
        api_key_env=first.key_env,
        **access_settings,
        in_turn=others,
        group=endpoint.group,
        prices=endpoint.prices,
        context_tokens=endpoint.context_tokens,
        stream=endpoint.stream,
        retry=RetryPolicy(**bounds),
    )


def _completed(name: str, entry: Any) -> Any:
    """An entry with what is usual for its provider, and its `in_turn` with what the entry says for all of them.

    No address means the provider's public one; a key goes to another address only when it is named.
    """
    provider = name.partition("/")[0]
    if not isinstance(entry, dict):
        return entry
    entry = {**USUAL.get(provider, {}), **entry}
    if not isinstance(several := entry.get("in_turn"), list):
        return _addressed(provider, entry)
    for_all = {key: entry[key] for key in Access.model_fields if key in entry}
    items = [_addressed(provider, {**for_all, **item}) if isinstance(item, dict) else item for item in several]
    first = next((item["base_url"] for item in items if isinstance(item, dict) and "base_url" in item), None)
    return {**({"base_url": first} if first else {}), **entry, "in_turn": items}


def _addressed(provider: str, entry: dict[str, Any]) -> dict[str, Any]:
    if "base_url" in entry or provider not in PROVIDERS:
        return entry
    base_url, key_env = PROVIDERS[provider]
    return {"base_url": base_url, "key_env": key_env, **entry}
