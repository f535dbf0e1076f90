"""Where an endpoint is and how it is entered: its address in one spelling, the name of its key, and its own limits."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from llmlab.base.errors import RequestRefusedError
from llmlab.base.private import Secret

__all__ = ["Access", "KeyHeader", "base_address"]

KeyHeader = Literal["bearer", "api-key", "x-api-key"]
_DEFAULT_PORTS = {"http": 80, "https": 443}
_USUAL_KEY = "OPENAI_API_KEY"  # what a client looks for where nobody names a key
_THIS_MACHINE = re.compile(r"https?://(?:localhost|127(?:\.\d+){3}|\[::1\])(?:[:/]|$)")


def base_address(base_url: str) -> str:
    """The address without trailing slash or default port; ValueError where it holds credentials or a query.

    >>> base_address("HTTPS://API.openai.com:443/v1/")
    'https://api.openai.com/v1'
    """
    parts = urlsplit(base_url.strip())
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("base_url must be an http(s) address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"base_url of {host} must hold no credentials, query or fragment; name the key's variable")
    shown = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS[scheme]) else ""
    return f"{scheme}://{shown}{port}{parts.path.rstrip('/')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One way into a model: an endpoint, the NAME of the variable that holds its key, and what it allows.

    Attributes:
        base_url: as of the client; without credentials or query.
        api_key_env: read from the environment at each call; None for an endpoint without a key.
        deployment: what this endpoint calls the model, where that is not the model's id.
        api_version: of Azure's paths; of Anthropic's header.
        key_header: how the key is sent, None = as is usual there (`Authorization: Bearer` is "bearer").
        requests_per_minute, tokens_per_minute, max_in_flight: its own limits; None = no limit.

    >>> Access(base_url="https://api.openai.com/v1/", api_key_env="MY_KEY").shown
    'https://api.openai.com/v1 with the key in MY_KEY'
    """

    base_url: str
    api_key_env: str | None = None
    deployment: str | None = None
    api_version: str | None = None
    key_header: KeyHeader | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_in_flight: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", base_address(self.base_url))
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"max_in_flight == {self.max_in_flight}, must be >= 1 (or None for no limit)")

    @property
    def fingerprint(self) -> str:
        """What can change an answer: address, deployment and API version; not the key, and no limit."""
        return " ".join(part for part in (self.base_url, self.deployment, self.api_version) if part)

    @property
    def shown(self) -> str:
        """The address and the name of its key, for messages."""
        return f"{self.base_url} with the key in {self.api_key_env}" if self.api_key_env else self.base_url

    @property
    def key(self) -> Secret:
        """The key as the environment has it now, "" where there is none. Never kept, shown or logged."""
        return Secret(os.environ.get(self.api_key_env, "").strip() if self.api_key_env else "")

    @property
    def lacks_key(self) -> bool:
        """Whether the key is not set and must be: a server on this machine is asked without where nobody named one.

        >>> Access(base_url="http://localhost:11434/v1", api_key_env="KEY_OF_NOBODY").lacks_key
        True
        """
        if self.api_key_env is None or self.key:
            return False
        return self.api_key_env != _USUAL_KEY or not _THIS_MACHINE.match(self.base_url)

    def key_fields(self, usual: KeyHeader) -> dict[str, str]:
        """The header that carries the key, {} for an endpoint without one; RequestRefusedError where it is not set."""
        if self.lacks_key:
            raise RequestRefusedError(
                f"no key for {self.base_url}: set the environment variable {self.api_key_env}", attempts=0
            )
        if not (key := self.key):
            return {}
        header = self.key_header or usual
        return {"Authorization": Secret(f"Bearer {key}")} if header == "bearer" else {header: key}
