"""Where an endpoint is and how it is entered: address, name of its key, its own limits, and when a call is given up."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict
from urllib.parse import parse_qs, unquote, urlsplit

import pydantic
from pydantic import ConfigDict, Field

from llmlab.base.documents import Strict
from llmlab.base.errors import RequestRefusedError, UnusableEndpointError
from llmlab.base.private import API_KEY, Secret, find_pii

KeyHeader = Literal["bearer", "api-key", "x-api-key"]
NOT_SENT = "-"  # before parameters that are left out, in a fingerprint
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ADDED = re.compile(r"/(?:chat/completions|completions|embeddings|messages|(?<=/v1/)models)/*$")  # by a client
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/*$")
_AZURES = re.compile(r"(\.azure\.com)/openai/*$")  # its portal's; what follows depends on the version
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")
_SAME_ANSWERS = frozenset({"stream_options"})
_USUAL_KEY = "OPENAI_API_KEY"  # what a client looks for where nobody names a key
_THIS_MACHINE = re.compile(r"https?://(?:localhost|127(?:\.\d+){3}|\[::1\])(?:[:/]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of one call.

    Attributes:
        attempts: requests sent for one call at most.
        attempt_timeout_s: one attempt, from sending to its last byte.
        case_timeout_s: the whole call with its attempts and back-off; waiting for our own rate limit is left out.
        first_wait_s, longest_wait_s: back-off doubles from the first to the longest, each with jitter.
        retry_after_cap_s: a longer Retry-After is cut to this.
    """

    attempts: int = 5
    attempt_timeout_s: float = 120.0
    case_timeout_s: float = 300.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    retry_after_cap_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("attempts", "attempt_timeout_s", "case_timeout_s", "longest_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} == {getattr(self, name)}, must be > 0")

    def back_off_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, with jitter."""
        longest_s = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1))
        return random.uniform(longest_s / 2, longest_s)


def _secret_of(variable: str) -> Secret:
    """What the environment has now under this name, "" where there is nothing."""
    return Secret(os.environ.get(variable, "").strip())


def _base_address(base_url: str) -> str:
    """The address without trailing slash or default port; ValueError where it holds credentials or a query."""
    parts = urlsplit(base_url.strip())
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("base_url must be an http(s) address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        instead = "name the key's variable, or for basic authentication headers: {Authorization: VARIABLE}"
        raise ValueError(f"base_url of {host} must hold no credentials, query or fragment; {instead}")
    if parts.path.rstrip("/").endswith("/responses"):
        raise ValueError(f"base_url of {host} must end before /responses, which is another API: drop that part")
    url_host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS[scheme]) else ""
    return f"{scheme}://{url_host}{port}{parts.path.rstrip('/')}"


def _variable_name(name: str | None) -> str | None:
    if name is not None and (API_KEY in find_pii(name) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,79}", name)):
        raise ValueError("must be the NAME of an environment variable in capitals, such as OPENAI_API_KEY")
    return name


def _header_names(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    for name, variable in headers:
        if not _HEADER.fullmatch(name) or API_KEY in find_pii(name):
            raise ValueError("must map names of header fields to NAMES of environment variables")
        _variable_name(variable)
    return headers


class AccessSettings(TypedDict, total=False):
    """What an access says besides address and key, as arguments of a client."""

    deployment: str | None
    api_version: str | None
    key_header: KeyHeader | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_in_flight: int | None
    headers: Mapping[str, str] | tuple[tuple[str, str], ...]
    drop: tuple[str, ...]


class Access(Strict):
    """One way into a model: an endpoint, the NAME of the variable that holds its key, and what it allows.

    Attributes:
        base_url: as of the client; without credentials. As a portal shows it, it may name deployment and version.
        key_env: read from the environment at each call; None for an endpoint without a key.
        deployment: what this endpoint calls the model, where that is not the model's id.
        api_version: of Azure's paths; of Anthropic's header.
        key_header: how the key is sent, None = as is usual there (`Authorization: Bearer` is "bearer").
        requests_per_minute, tokens_per_minute, max_in_flight: its own limits; None = no limit.
        headers: more header fields, each with the NAME of the environment variable that holds its value.
        drop: parameters that this endpoint refuses, and that are not sent (`stream_options`, `seed`, ...). In the
            fingerprint where that may change an answer.

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
    headers: Annotated[
        tuple[tuple[str, str], ...],
        pydantic.BeforeValidator(lambda raw: tuple(raw.items()) if isinstance(raw, Mapping) else raw),
        pydantic.AfterValidator(_header_names),
        Field(strict=False),
    ] = ()
    drop: Annotated[tuple[Name, ...], Field(strict=False)] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_pasted(cls, raw: Any) -> Any:
        """Without what a client adds, and with the deployment and version that Azure's portal writes into it."""
        if not isinstance(raw, dict) or not isinstance(address := raw.get("base_url"), str):
            return raw
        address, _, query = address.strip().partition("?")
        parts = {"base_url": _AZURES.sub(r"\1", _ADDED.sub("", address))}
        if set(query_values := parse_qs(query)) == {"api-version"}:
            parts["api_version"], query = query_values["api-version"][-1], ""
        if (deployment := _DEPLOYMENT.search(parts["base_url"])) is not None:
            parts |= {"deployment": unquote(deployment[1]), "base_url": parts["base_url"][: deployment.start()]}
        for name in ("api_version", "deployment"):
            if raw.get(name) not in (None, parts.get(name, raw.get(name))):
                raise ValueError(f"{name} == {raw[name]!r}, but base_url says {parts[name]!r}: drop one of them")
        return {**raw, **parts, "base_url": parts["base_url"] + (f"?{query}" if query else "")}

    @pydantic.field_validator("drop")
    @classmethod
    def _may_be_left_out(cls, drop: tuple[str, ...]) -> tuple[str, ...]:
        if needed := {"model", "messages", "stream"} & set(drop):
            raise ValueError(f"must not hold {', '.join(sorted(needed))}: no request is whole without")
        return tuple(sorted(set(drop)))

    @property
    def fingerprint(self) -> str:
        """What can change an answer: address, deployment, API version and what is not sent; no key and no limit."""
        without = ",".join(name for name in self.drop if name not in _SAME_ANSWERS)
        dropped = f"{NOT_SENT}{without}" if without else ""
        return " ".join(part for part in (self.base_url, self.deployment, self.api_version, dropped) if part)

    @property
    def shown(self) -> str:
        """The address and the name of its key, for messages."""
        return f"{self.base_url} with the key in {self.key_env}" if self.key_env else self.base_url

    @property
    def key(self) -> Secret:
        """The key as the environment has it now, "" where there is none. Never kept, shown or logged."""
        return _secret_of(self.key_env or "")

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """Names of the variables whose values are shown nowhere."""
        return (*filter(None, [self.key_env]), *(variable for _, variable in self.headers))

    @property
    def more_fields(self) -> dict[str, str]:
        """The other header fields; RequestRefusedError for a variable that is not set or holds more than one line."""
        fields: dict[str, str] = {}
        for name, variable in self.headers:
            fields[name] = value = _secret_of(variable)
            if not value or not value.isprintable():
                flaw = "no line of text" if value else "not set"
                raise RequestRefusedError(f"{variable} for the header {name} of {self.base_url} is {flaw}", attempts=0)
        return fields

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
        """The header that carries the key, {} for an endpoint without one; RequestRefusedError for no usable one."""
        if self.lacks_key:
            raise RequestRefusedError(
                f"no key for {self.base_url}: set the environment variable {self.key_env}", attempts=0
            )
        if not (key := self.key):
            return {}
        if not key.isprintable():
            problem = f"the key in {self.key_env} for {self.base_url} is no line of text; set it again, without breaks"
            raise UnusableEndpointError(problem, attempts=0)
        header = self.key_header or usual
        return {"Authorization": Secret(f"Bearer {key}")} if header == "bearer" else {header: key}
