"""The way into MLflow's model registry: names and aliases read strictly, clashes between writers retried."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from llmlab.base.cells import Chip
from llmlab.base.errors import RegistryError
from llmlab.base.project import project_root
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Shown
from llmlab.registry.light import light_client
from llmlab.tracking.reach import check_store, patient, store_errors
from llmlab.tracking.store import Store, client_of, link, named_uri, open_store, opened, pages, reported, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

HISTORY = "__history"  # the suffix of the registered model that holds a model's moves
RETRIES = 8
_LARGEST_NUMBER = 2**31 - 1  # of a version, in every database that MLflow keeps them in
_CLASHES = ("database is locked", "deadlock", "could not serialize", "Giving up after", "UNIQUE constraint failed")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Version(Shown):
    """A bundle as MLflow's registry holds it.

    Attributes:
        name, number: the registered model and the version's number.
        digest: of the bundle.
        gate, receipt: verdict and digest of its newest receipt, "" where it has none.
        index_digest: of the index that was searched when it was judged, "" where it searches nothing.
        run_id, source: the MLflow run whose artifacts it is, and where in them.
        tags, description: as they stand in MLflow.
        url: its page (on a local store: once `llmlab ui` runs).
    """

    name: str
    number: int
    digest: str
    bundle_version: str = ""
    gate: str = ""
    receipt: str = ""
    index_digest: str = ""
    aliases: tuple[str, ...] = ()
    run_id: str = ""
    source: str = ""
    url: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)
    description: str = field(default="", compare=False)

    @classmethod
    def of(cls, held: Any, *, page: str) -> Version:
        """The value of what MLflow returns; `page` is that of its model."""
        tag_names = ("digest", "bundle_version", "gate", "receipt", "index_digest")
        return cls(
            name=held.name,
            number=int(held.version),
            **{tag: held.tags.get(tag, "") for tag in tag_names},
            aliases=tuple(held.aliases),
            run_id=held.run_id or "",
            source=held.source,
            url=f"{page}/versions/{held.version}",
            tags=held.tags,
            description=getattr(held, "description", "") or "",
        )

    def _rows(self) -> list[dict[str, object]]:
        known = self.gate in set(Verdict)
        return [
            {
                "model": self.name,
                "version": self.number,
                "bundle": self.bundle_version,
                "digest": self.digest[:8],
                "gate": Verdict(self.gate).chip if known else Chip(self.gate or "no receipt"),
                "aliases": self.aliases,
            }
        ]

    def _sentence(self) -> str:
        return f"In MLflow: {link(self.url)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The tracking store, and the model registry that belongs to it or that MLFLOW_REGISTRY_URI names."""

    store: Store
    uri: str
    light: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """MLflow's client on this registry, or the light one, which has a rollback's calls alone."""
        return client_of(self.store.uri, self.uri) if self.light is None else self.light

    def file(self, run_id: str, path: str, folder: str) -> str:
        """The place of a file of a run, on this machine or fetched into the folder."""
        return (self.store.file if self.light is None else self.light.download_artifacts)(run_id, path, folder)

    def model(self, name: str) -> Any:
        """The registered model, or None where there is none of this name."""
        return _unless_missing(lambda: self.client.get_registered_model(name), f"the model {name!r} cannot be read")

    def known_model(self, name: str) -> Any:
        """The registered model; RegistryError where there is none of this name."""
        model = self.model(name)
        if model is None:
            raise RegistryError(f"no model {name!r} is registered; `llmlab register BUNDLE.yaml` does it")
        return model

    def version(self, name: str, number: int) -> Version | None:
        """The version of a model, or None where it does not exist (any more)."""
        if not 0 < number <= _LARGEST_NUMBER:
            return None
        what = f"version {number} of {name!r} cannot be read"
        held = _unless_missing(lambda: self.client.get_model_version(name, str(number)), what)
        return None if held is None else Version.of(held, page=self.url(name))

    def run_exists(self, run_id: str) -> bool:
        """Whether the store has this run, in MLflow's trash or outside."""
        return _unless_missing(lambda: self.store.client.get_run(run_id), f"run {run_id} cannot be read") is not None

    def models(self) -> list[str]:
        """The names of all registered models."""
        with reported("the registered models cannot be listed"):
            models = pages(lambda token: self.client.search_registered_models(max_results=1000, page_token=token))
            return [model.name for model in models]

    def versions(self, name: str, *, query: str = "", above: int = 0) -> list[Version]:
        """The versions of a model with numbers above `above`, oldest first; `query` narrows them in MLflow's syntax."""
        if not is_name(name):  # a quote in it would be the end of it in a filter
            raise RegistryError(f"{name!r} is no model of llmlab's: their names are letters, digits, _, - and dots")

        def page(token: str | None) -> Any:
            return self.client.search_model_versions(
                f"name = '{name}'{f' and {query}' if query else ''}",
                max_results=20 if above else 10_000,  # those that are new since somebody looked are few
                order_by=["version_number DESC"],
                page_token=token,
            )

        with reported(f"the versions of {name!r} cannot be listed"):
            newer = itertools.takewhile(lambda held: int(held.version) > above, pages(page))
            numbered = {int(held.version): held for held in newer}  # pages overlap while somebody writes
        page_of_model = self.url(name)
        return [Version.of(numbered[number], page=page_of_model) for number in sorted(numbered)]

    def create_model(self, name: str, description: str) -> None:
        """Make the registered model, where it is not there yet."""

        def create() -> None:
            try:
                self.client.create_registered_model(name, description=description)
            except store_errors() as error:
                if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                    raise

        with reported(f"the registered model {name!r} cannot be made"):
            retried(create)

    def url(self, name: str) -> str:
        """MLflow's page of a model, which its default navigation hides."""
        return f"{self.store.url()}/#/models/{quote(name, safe='')}"


def open_registry(root: Path | None = None, *, light: bool = False) -> Registry:
    """The registry of this project; StoreError where it cannot be reached.

    With `light` it is reached without MLflow, where that is possible, for a rollback's calls.
    """
    root = project_root() if root is None else root
    if light and not named_uri("MLFLOW_REGISTRY_URI", root) and (client := light_client(store_uri(root))) is not None:
        store = Store(uri=store_uri(root), artifacts=None)
        check_store(store.uri)
        return Registry(store=store, uri=store.uri, light=patient(store.uri, client))
    store, uri = open_store(root), named_uri("MLFLOW_REGISTRY_URI", root)
    if uri:
        opened(store.uri, uri)
    return Registry(store=store, uri=uri or store.uri)


def retried(write: Callable[..., Answer], *arguments: Any, **keywords: Any) -> Answer:
    """What `write(*arguments, **keywords)` returns, tried again while another writer holds the database.

    A clash writes nothing.
    """
    for attempt in range(RETRIES):
        try:
            return write(*arguments, **keywords)
        except store_errors() as error:
            if attempt == RETRIES - 1 or not any(clash in str(error) for clash in _CLASHES):
                raise
            # Waits at random, so that two writers that clashed do not clash again in step.
            time.sleep(random.uniform(0.01, 0.05) * 2**attempt)
    raise AssertionError("unreachable")  # the last attempt returned or raised


def alias_of(alias: str) -> str:
    """The alias, if it is one that MLflow takes.

    >>> alias_of("production")
    'production'
    """
    if not _ALIAS.fullmatch(alias) or alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise ValueError(f"alias == {alias!r}, must be ASCII letters, digits, _ and -, and not `latest` or `v1`")
    return alias


def name_and_alias(reference: str) -> tuple[str, str]:
    """A reference such as `pandas_help@production` in its two parts.

    >>> name_and_alias("catalog.schema.help@production")
    ('catalog.schema.help', 'production')
    """
    name, at, alias = reference.partition("@")
    if not at or not _NAME.fullmatch(name):
        raise ValueError(f"{reference!r} names no registered bundle; write NAME@ALIAS, such as pandas_help@production")
    return name, alias_of(alias)


def is_name(name: str) -> bool:
    """Whether llmlab may have registered something under this name.

    >>> is_name("catalog.schema.help"), is_name("o'neil")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def _unless_missing(ask: Callable[[], Any], what: str) -> Any:
    with reported(what):
        try:
            return ask()
        except store_errors() as error:
            if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
