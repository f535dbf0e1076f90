"""Where an endpoint is and how it is entered: its address in one spelling, the name of its key, and its own limits."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, TypedDict
from urllib.parse import urlsplit

import pydantic
from pydantic import ConfigDict, Field

from llmlab.base.documents import Strict
from llmlab.base.errors import RequestRefusedError
from llmlab.base.private import Secret

__all__ = ["Access", "AccessSettings", "KeyHeader", "Name", "Positive"]

KeyHeader = Literal["bearer", "api-key", "x-api-key"]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
_DEFAULT_PORTS = {"http": 80, "https": 443}
_USUAL_KEY = "OPENAI_API_KEY"  # what a client looks for where nobody names a key
_THIS_MACHINE = re.compile(r"https?://(?:localhost|127(?:\.\d+){3}|\[::1\])(?:[:/]|$)")


def _base_address(base_url: str) -> str:
    """The address without trailing slash or default port; ValueError where it holds credentials or a query."""
    parts = urlsplit(base_url.strip())
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("base_url must be an http(s) address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"base_url of {host} must hold no credentials, query or fragment; name the key's variable")
    shown = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS[scheme]) else ""
    return f"{scheme}://{shown}{port}{parts.path.rstrip('/')}"


def _variable_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,79}", name):  # keys have small letters in them
        raise ValueError("must be the NAME of an environment variable in capitals, such as OPENAI_API_KEY")
    return name


class AccessSettings(TypedDict, total=False):
    """What an access says besides address and key, as arguments of a client."""

    deployment: str | None
    api_version: str | None
    key_header: KeyHeader | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_in_flight: int | None


class Access(Strict):
    """One way into a model: an endpoint, the NAME of the variable that holds its key, and what it allows.

    Attributes:
        base_url: as of the client; without credentials or query.
        key_env: read from the environment at each call; None for an endpoint without a key.
        deployment: what this endpoint calls the model, where that is not the model's id.
        api_version: of Azure's paths; of Anthropic's header.
        key_header: how the key is sent, None = as is usual there (`Authorization: Bearer` is "bearer").
        requests_per_minute, tokens_per_minute, max_in_flight: its own limits; None = no limit.

    >>> Access(base_url="HTTPS://API.openai.com:443/v1/", key_env="MY_KEY").shown
    'https://api.openai.com/v1 with the key in MY_KEY'
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # somebody may paste a key

    base_url: Annotated[str, pydantic.AfterValidator(_base_address)]
    key_env: Annotated[str | None, pydantic.AfterValidator(_variable_name)] = None
    deployment: Name | None = None
    api_version: Name | None = None
    key_header: KeyHeader | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    max_in_flight: Annotated[int, Field(ge=1)] | None = None

    @property
    def fingerprint(self) -> str:
        """What can change an answer: address, deployment and API version; not the key, and no limit."""
        return " ".join(part for part in (self.base_url, self.deployment, self.api_version) if part)

    @property
    def shown(self) -> str:
        """The address and the name of its key, for messages."""
        return f"{self.base_url} with the key in {self.key_env}" if self.key_env else self.base_url

    @property
    def key(self) -> Secret:
        """The key as the environment has it now, "" where there is none. Never kept, shown or logged."""
        return Secret(os.environ.get(self.key_env, "").strip() if self.key_env else "")

    @property
    def lacks_key(self) -> bool:
        """Whether the key is not set and must be: a server on this machine is asked without where nobody named one.

        >>> Access(base_url="http://localhost:11434/v1", key_env="KEY_OF_NOBODY").lacks_key
        True
        """
        if self.key_env is None or self.key:
            return False
        return self.key_env != _USUAL_KEY or not _THIS_MACHINE.match(self.base_url)

    def limited_to(self, share: float) -> Access:
        """The same access with this share of its limits; at least one call in flight is left."""
        limits: dict[str, Any] = {
            name: limit * share
            for name in ("requests_per_minute", "tokens_per_minute")
            if (limit := getattr(self, name)) is not None
        }
        if self.max_in_flight is not None:
            limits["max_in_flight"] = max(1, int(self.max_in_flight * share))
        return self.model_copy(update=limits)

    def key_fields(self, usual: KeyHeader) -> dict[str, str]:
        """The header that carries the key, {} for an endpoint without one; RequestRefusedError where it is not set."""
        if self.lacks_key:
            raise RequestRefusedError(
                f"no key for {self.base_url}: set the environment variable {self.key_env}", attempts=0
            )
        if not (key := self.key):
            return {}
        header = self.key_header or usual
        return {"Authorization": Secret(f"Bearer {key}")} if header == "bearer" else {header: key}
