"""Where the models of an experiment are reached, and which keys may go there.

Asked in turn: a client of the folder's `clients.py`, the file that LLMLAB_ENDPOINTS names, the folder's
`endpoints.yaml`, the project's `experiments/endpoints.yaml`, the provider's public address. The folder's files may
come from somebody else: a well-known key goes to an address of its own only where a file of the user's names that
address too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pydantic

from llmlab.base.documents import broken_rule
from llmlab.base.errors import FileRuleError
from llmlab.base.project import project_root
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.access import Access
from llmlab.clients.base import Client
from llmlab.clients.endpoints import PROVIDERS, USUAL, Endpoint, Endpoints, load_endpoints
from llmlab.experiment.own_code import own_clients

_PER_ENVIRONMENT = "LLMLAB_ENDPOINTS"
FILE, CODE = "endpoints.yaml", "clients.py"
_USUAL_KEYS = {"messages": "ANTHROPIC_API_KEY", "chat_completions": "OPENAI_API_KEY"}  # at an address given by hand
_HOSTS_OF_KEYS = re.compile(r"(?:[a-z0-9-]+\.)+(?:openai\.azure\.com|services\.ai\.azure\.com)")
_WELL_KNOWN = re.compile(  # keys that most people have under this name, of model providers and of others
    r"(?:OPENAI|ANTHROPIC|AZURE|AWS|GOOGLE|GEMINI|GCP|GITHUB|GH|GITLAB|CI|NPM|PYPI|TWINE|UV|DOCKER|MLFLOW|DATABASE|PG|"
    r"SLACK|STRIPE|HF|HUGGING_?FACE(?:HUB)?|WANDB|DATABRICKS|SNOWFLAKE|CLOUDFLARE|VAULT|KAGGLE|REPLICATE|NVIDIA)_.*"
)


class EndpointsFile(NamedTuple):
    """An endpoints.yaml, and whether it is the user's or the folder's, which may come from somebody else."""

    path: Path
    endpoints: Endpoints
    of_user: bool


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The endpoints of an experiment: `endpoint_for` a model gives the first fitting one that may have its key.

    Attributes:
        base_url: an address that was given by hand, where every model is asked; "" = as the files say.
        files: in the order in which they are asked.
        code: the folder's `clients.py`, where it has one; it runs when a client is asked for.
    """

    base_url: str = ""
    files: tuple[EndpointsFile, ...]
    code: Path | None = None

    @classmethod
    def of(cls, folder: Path, *, base_url: str = "") -> Addresses:
        """As the environment, the folder and the project have them now; files that are not there say nothing."""
        places = [(folder / FILE, False), (project_root() / "experiments" / FILE, True)]
        places = [(path, of_user) for path, of_user in places if path.is_file()]
        if env_path := os.environ.get(_PER_ENVIRONMENT, "").strip():  # one that is not there is an error
            places.insert(0, (Path(env_path), True))
        files = tuple(EndpointsFile(path, load_endpoints(path), of_user) for path, of_user in places)
        code = (folder / CODE).absolute()
        return cls(base_url=base_url, files=files, code=code if code.is_file() else None)

    @property
    def clients(self) -> Mapping[str, Client]:
        """Clients of one's own by provider, asked before any address; none where an address was given by hand."""
        return {} if self.code is None or self.base_url else own_clients(self.code)

    def endpoint_for(self, model: ModelRef) -> Endpoint:
        """How this model is reached.

        Raises:
            FileRuleError: the folder would send a well-known key to an address that only the folder names.
            RequestRefusedError: nobody knows the model's provider.
            ValueError: the `base_url` is no address.
        """
        if self.base_url:
            return self._by_hand(model)
        for file, entry in self._entries(model):
            if not file.of_user:
                self.require_own_keys(file.path, model, entry)
            return entry
        return Endpoints().endpoint_for(model)

    def rules_for(self, model: ModelRef) -> str:
        """Whose sampling rules hold for this model where it is reached."""
        listed = next((entry for _, entry in self._entries(model)), None)
        reached = self._by_hand(model) if self.base_url else listed
        return rules_of(model.provider, wire_format="" if reached is None else reached.wire_format)

    def _entries(self, model: ModelRef) -> Iterator[tuple[EndpointsFile, Endpoint]]:
        for file in self.files:
            if (entry := file.endpoints.entry_for(model)) is not None:
                yield file, entry

    def _by_hand(self, model: ModelRef) -> Endpoint:
        """The entry of the user's files for that address, else one with the key that is usual for its wire."""
        try:
            address = Access(base_url=self.base_url)
        except pydantic.ValidationError as error:
            raise ValueError(broken_rule(error)) from None
        for _, entry in self._entries(model):
            if entry.base_url == address.base_url:
                return entry
        typed = Endpoints.model_validate({"endpoints": {model.provider: {"base_url": self.base_url}}})
        endpoint = typed.endpoint_for(model)
        public, key_env = PROVIDERS.get(model.provider, ("", None))
        usual = key_env if _origin(public) == _origin(self.base_url) else _USUAL_KEYS[endpoint.wire_format]
        return endpoint.model_copy(update={"key_env": usual})

    def require_own_keys(self, path: Path, model: ModelRef, endpoint: Endpoint) -> None:
        """Nothing, where the keys of an endpoint that this file names may go there; FileRuleError where not."""
        entries = (entry for file in self.files if file.of_user for entry in file.endpoints.endpoints.values())
        own_origins = {_origin(access.base_url) for entry in entries for access in entry.accesses}
        for access in endpoint.accesses:
            origin = _origin(access.base_url)
            foreign = [name for name in access.secret_variables if not _belongs(name, origin)]
            if not foreign or origin in own_origins:
                continue
            key_env = foreign[0]
            raise FileRuleError(
                f"would send the key in {key_env} to {access.base_url}, which is no address of that key's provider. "
                f"If it is yours, add to experiments/{FILE} of your project, or to the file that {_PER_ENVIRONMENT} "
                f'names: "{model}": {{base_url: {access.base_url}, key_env: {key_env}}}',
                path=path,
            )


def rules_of(provider: str, *, wire_format: str = "") -> str:
    """Whose sampling rules hold: of Anthropic's own API over its wire ("" = the usual one), else the provider's.

    >>> rules_of("anthropic"), rules_of("anthropic", wire_format="chat_completions")
    ('anthropic_messages', 'anthropic')
    """
    wire = wire_format or USUAL.get(provider, {}).get("wire_format")
    return "anthropic_messages" if wire == "messages" else provider


def _origin(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc


def _belongs(key_env: str, origin: tuple[str, str]) -> bool:
    """Whether a key may go there on anybody's word: a provider's key to its provider, a key of your own naming."""
    public = [_origin(address) for address, name in PROVIDERS.values() if name == key_env]
    if public or _WELL_KNOWN.fullmatch(key_env):
        azure = key_env.startswith("AZURE_") and origin[0] == "https" and _HOSTS_OF_KEYS.fullmatch(origin[1])
        return origin in public or bool(azure)
    return True
