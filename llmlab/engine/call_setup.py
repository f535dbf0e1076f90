"""How a run asks: which clients, which store, how many at once, how long, for how much, and who stops it.

One value that `run`, `dry_run`, the Playground and judges hand on whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from llmlab.base.project import project_root, runs_folder
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Client
from llmlab.clients.call_store import CallStore
from llmlab.clients.endpoints import Reaching, client_for, load_endpoints
from llmlab.engine.progress import Progress


class CallOptions(TypedDict, total=False):
    """What a function that asks a model takes as keywords, and hands on as `CallSetup(**options)`."""

    client: Client | None
    endpoints: str | Path | Reaching | None
    store: str | Path | CallStore | None
    budget_usd: float | Decimal | None
    concurrency: int
    case_timeout_s: float | None
    progress: bool | Callable[[Progress], None]
    stop: threading.Event | None


@dataclass(frozen=True, kw_only=True)
class CallSetup:
    """How a run asks; each attribute as the argument of `run` with its name, but for two.

    Attributes:
        fresh: a word under which answers are asked for anew; "" = stored ones are replayed.
        shards: how many runs share budget and rate limits.
    """

    client: Client | None = None
    endpoints: str | Path | Reaching | None = None
    store: str | Path | CallStore | None = None
    base: str | Path | None = None
    budget_usd: float | Decimal | None = None
    concurrency: int = 32
    case_timeout_s: float | None = None
    progress: bool | Callable[[Progress], None] = True
    stop: threading.Event | None = None
    fresh: str = ""
    shards: int = 1

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"concurrency == {self.concurrency}, must be >= 1")
        if (budget := self.budget) is not None and not (budget.is_finite() and budget > 0):
            raise ValueError(f"budget_usd == {self.budget_usd}, must be > 0 (or None for no bound)")
        if (timeout_s := self.case_timeout_s) is not None and not timeout_s > 0:
            raise ValueError(f"case_timeout_s == {timeout_s}, must be > 0 (or None for the client's own)")

    @property
    def budget(self) -> Decimal | None:
        """This run's share of the budget, in exact dollars."""
        return None if self.budget_usd is None else Decimal(str(self.budget_usd)) / self.shards

    @property
    def folder(self) -> str | Path:
        """Where relative corpus paths start."""
        return self.base or project_root()

    def clients(self) -> Callable[[ModelRef], Client]:
        """Gives the client of a model that is no variant's own; the endpoints are read once."""
        endpoints = load_endpoints(self.endpoints) if isinstance(self.endpoints, str | Path) else self.endpoints
        clients: dict[str, Client] = {}
        return lambda model: clients.setdefault(str(model), self._share(client_for(model, endpoints)))

    def answering(self) -> Client | None:
        """The client that answers for every variant, where there is one; TypeError for one without a fingerprint."""
        if self.client is not None and not isinstance(fingerprint := getattr(self.client, "fingerprint", None), str):
            rule = "must be a text that names what answers: stored answers are found again by it"
            raise TypeError(f"fingerprint of {type(self.client).__name__} is {fingerprint!r}, {rule}")
        return None if self.client is None else self._share(self.client)

    def _share(self, client: Client) -> Client:
        """The client with this run's share of its rate limits, where it has some."""
        limited = getattr(client, "limited_to", None)
        return client if self.shards == 1 or limited is None else limited(1 / self.shards)

    @contextmanager
    def calls(self, *, also: Path | None = None) -> Iterator[CallStore]:
        """The call store, open; it is closed again where it was not given open. `also` is another that it reads."""
        if isinstance(self.store, CallStore):
            yield self.store
            return
        with CallStore(self.store or runs_folder() / "calls.sqlite", also=also) as opened:
            yield opened
