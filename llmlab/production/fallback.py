"""A second bundle for when the first one's endpoint fails: a circuit breaker over its errors, and who answers instead.

The breaker opens when at least so many calls ended within a window and enough of them failed; then it rests, with
jitter, lets one probe through, and closes if that is answered. A rate limit is a pause and no error, a request that the
endpoint cannot take is the caller's and neither. One process knows nothing of another's breaker. It sees failing calls,
not bad answers: those are the matter of guards, and of a rollout.
"""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from llmlab.base.errors import (
    CallError,
    CallTimeoutError,
    RequestRefusedError,
    StoreError,
    TransportError,
    UnusableEndpointError,
)
from llmlab.base.project import located
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.catalogue import Catalogue
from llmlab.clients.base import Client, Generation, Request
from llmlab.clients.endpoints import Reaching, client_for
from llmlab.clients.retry import KEY_REFUSED, NOT_SERVED, TOO_MANY_REQUESTS
from llmlab.clients.wire import wire_sampling
from llmlab.production.recorder import open_request
from llmlab.registry.connection import open_registry
from llmlab.registry.serving import Served, load
from llmlab.registry.versions import find
from llmlab.tracking.store import store_exists

CATALOGUE = "experiments/models.yaml"
_JITTER = 0.25  # a rest lasts from this share less to this share more, so that processes do not probe together
State = Literal["closed", "open", "probing"]
Ended = Literal["answered", "failed", "nothing"]  # "nothing": it says nothing of the endpoint


class Breaker:
    """Whether an endpoint may be asked, by how its calls of the last seconds ended.

    >>> now = [0.0]
    >>> breaker = Breaker(limit=0.5, window_s=60, at_least=2, rest_s=30, clock=lambda: now[0], jitter=lambda: 0.5)
    >>> for _ in range(2):
    ...     breaker.left(breaker.entered(), "failed")
    >>> breaker.state, breaker.entered()
    ('open', None)
    >>> now[0] = 30.0
    >>> breaker.left(breaker.entered(), "answered")
    >>> breaker.state
    'closed'
    """

    def __init__(
        self,
        *,
        limit: float = 0.05,
        window_s: float = 60.0,
        at_least: int = 100,
        rest_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < limit <= 1:
            raise ValueError(f"limit == {limit}, must be a share above 0 and at most 1")
        for name, value in {"window_s": window_s, "at_least": at_least, "rest_s": rest_s}.items():
            if not value > 0:
                raise ValueError(f"{name} == {value}, must be > 0")
        self.limit, self.window_s, self.at_least, self.rest_s = limit, window_s, at_least, rest_s
        self.opened = 0
        self._clock, self._jitter = clock, jitter
        self._ended: deque[tuple[float, bool]] = deque()  # when a call ended, and whether it failed
        self._failed = self._era = 0  # an era ends with each change of state: what was sent before it counts no more
        self._open, self._probing, self._resumes_s, self._paused_until_s = False, False, 0.0, 0.0

    @property
    def state(self) -> State:
        """`closed` = asked as usual, `open` = not asked, `probing` = one call finds out."""
        return "probing" if self._probing else "open" if self._open else "closed"

    def entered(self) -> int | None:
        """A ticket for one call, to be given back by `left`; None where the endpoint is not to be asked."""
        now_s = self._clock()
        if now_s < self._paused_until_s or (self._open and (self._probing or now_s < self._resumes_s)):
            return None
        self._probing = self._open
        return self._era

    def left(self, ticket: int | None, ended: Ended) -> None:
        """How a call with this ticket ended."""
        if ticket != self._era:
            return
        if self._open:
            self._probing = False
            if ended != "nothing":
                self._change(opens=ended == "failed")
        elif ended != "nothing":
            self._count(failed=ended == "failed")

    def pause(self, seconds: float) -> None:
        """Nobody is to ask for so long (a little longer, with jitter)."""
        self._paused_until_s = max(self._paused_until_s, self._clock() + seconds * (1 + _JITTER * self._jitter()))

    def _count(self, *, failed: bool) -> None:
        now_s = self._clock()
        self._ended.append((now_s, failed))
        self._failed += failed
        while self._ended[0][0] <= now_s - self.window_s:
            self._failed -= self._ended.popleft()[1]
        n = len(self._ended)
        if n >= self.at_least and self._failed >= self.limit * n:
            self._change(opens=True)

    def _change(self, *, opens: bool) -> None:
        self._open, self._failed, self._era = opens, 0, self._era + 1
        self._ended.clear()
        self.opened += opens
        self._resumes_s = self._clock() + self.rest_s * (1 + _JITTER * (2 * self._jitter() - 1))


class Fallback:
    """Answers with the primary bundle, and with the backup where the primary's endpoint fails or rests.

    A call that fails is answered by the backup in the same request. Which bundle served is in the trace (`bundle`, and
    `fallback` 1 or 0), where a recorder is around the clients and `recorder.request()` around `ask`.

    A deadline of the service's own around `ask` cancels the call and tells the breaker nothing: give the endpoint a
    shorter `case_timeout_s`, which does, and which leaves time for the backup.

    Args:
        primary, backup: a bundle, what `registry.load` gave, or an alias such as "support@production", which is looked
            up again as it moves. By default the backup is the primary on the `fallback` that models.yaml names for its
            model. Best on another provider: an outage takes all models of one.
        limit: the breaker opens when this share of the calls of the window failed.
        window_s, at_least: seconds that count, and calls that must have ended in them: with a few, one error opens it.
        rest_s: seconds until a probe, give or take a quarter.
        endpoints: where models are reached, such as `Experiment.endpoints`.
        through: what both clients are put behind: `recorder.client`, or guards and a recorder.
        catalogue: the models.yaml.
        root: the project whose registry is asked.

    Attributes:
        breaker: the primary's; its `state` is closed, open or probing.
        gated: whether the registry has the backup with a passing gate; None where it could not be asked.
        served: how many answers came from `primary` and `backup`.

    Raises:
        ValueError: models.yaml names no fallback, or the model that it names does not take the bundle's sampling.
    """

    def __init__(
        self,
        primary: Bundle | Served | str,
        backup: Bundle | Served | str | None = None,
        *,
        limit: float = 0.05,
        window_s: float = 60.0,
        at_least: int = 100,
        rest_s: float = 30.0,
        endpoints: Reaching | None = None,
        through: Callable[[Client], Client] | None = None,
        catalogue: str | Path = CATALOGUE,
        root: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._root, self._endpoints, self._through = root, endpoints, through or (lambda client: client)
        self._clients: dict[str, Client] = {}
        self.breaker = Breaker(
            limit=limit, window_s=window_s, at_least=at_least, rest_s=rest_s, clock=clock, jitter=jitter
        )
        self.primary = primary
        self.backup = _named(self._bundle(primary), located(catalogue)) if backup is None else backup
        self.served: Counter[str] = Counter()
        stands_in = self._bundle(self.backup)
        self.gated = _gated(stands_in, root)
        if not self.gated:
            why = "could not be asked for a" if self.gated is None else "has no"
            warnings.warn(
                f"the backup {stands_in.name} {stands_in.version} on {stands_in.model} is not known to be good: the "
                f"registry {why} passing gate of it that was checked; gate and promote it as you would a candidate",
                RuntimeWarning,
                stacklevel=2,
            )

    async def ask(self, **inputs: object) -> Generation:
        """The answer to these inputs, as of `bundle.request(...)`.

        Raises:
            PromptError: the inputs do not fill the prompt. RequestRefusedError: the endpoint cannot take the request.
            CallError: the backup failed too; its error, with the primary's as the cause.
        """
        ticket = self.breaker.entered()
        if ticket is None:
            return await self._answer("backup", inputs)
        ended: Ended = "nothing"
        try:
            answer = await self._answer("primary", inputs)
            ended = "answered"
            return answer
        except CallError as error:
            if _is_callers(error):
                raise
            failure, limited = error, error.status_code == TOO_MANY_REQUESTS and isinstance(error, TransportError)
            ended = "nothing" if limited else "failed"
            if limited:
                self.breaker.pause(error.retry_after_s or self.breaker.rest_s)
        finally:  # a cancelled call too: its probe is over
            self.breaker.left(ticket, ended)
        try:
            return await self._answer("backup", inputs)
        except CallError as error:
            raise error from failure

    async def aclose(self) -> None:
        """Close the connections of both clients, before a service stops."""
        for client in self._clients.values():
            if (close := getattr(client, "aclose", None)) is not None:
                await close()

    async def _answer(self, role: Literal["primary", "backup"], inputs: dict[str, object]) -> Generation:
        of = self.primary if role == "primary" else self.backup
        bundle = await asyncio.to_thread(self._bundle, of) if isinstance(of, str) else self._bundle(of)
        if (request := open_request()) is not None:
            request.line |= {"bundle": bundle.digest, "fallback": float(role == "backup")}
        name = str(bundle.model)
        if name not in self._clients:
            self._clients[name] = self._through(client_for(bundle.model, self._endpoints))
        answer = await self._clients[name].complete(bundle.request(**inputs))
        self.served[role] += 1
        return answer

    def _bundle(self, of: Bundle | Served | str) -> Bundle:
        if isinstance(of, Bundle):
            return of
        return (load(of, root=self._root) if isinstance(of, str) else of).bundle


def _is_callers(error: CallError) -> bool:
    """Whether the request is at fault: not the connection, the time, the account, the key, or a model that is gone."""
    ours = isinstance(error, (TransportError, CallTimeoutError, UnusableEndpointError))
    return isinstance(error, RequestRefusedError) and not ours and error.status_code not in KEY_REFUSED | NOT_SERVED


def _named(primary: Bundle, catalogue: Path) -> Bundle:
    """The primary on the model that the catalogue names as the fallback of its own."""
    known = Catalogue.load(catalogue).find(primary.model) if catalogue.is_file() else None
    if known is None or known.fallback is None:
        raise ValueError(f"{catalogue} names no fallback for {primary.model}; name one there, or give backup=...")
    backup = primary.with_(model=known.fallback)
    try:
        wire_sampling(Request(model=backup.model, messages=(), sampling=backup.sampling))
    except RequestRefusedError as error:
        raise ValueError(f"{error}; give backup=..., a bundle with sampling that {known.fallback} takes") from None
    return backup


def _gated(bundle: Bundle, root: Path | None) -> bool | None:
    """Whether the registry has this very bundle with a passing gate that was checked; None where it cannot be asked."""
    if not store_exists(root):
        return False
    try:
        version = find(open_registry(root), bundle.name, bundle.digest)
    except StoreError:
        return None
    return version is not None and version.gate == Verdict.PASS
