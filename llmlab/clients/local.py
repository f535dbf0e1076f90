"""Models of provider `local`: a client whose server is started when it is first asked, and shared by every process.

Answers are streamed always, since the server works an unstreamed one to its end after a cancel. As many calls are in
flight as the server has slots. A server that is gone is started again once in a run; after that every call is refused
at once. Used by `endpoints`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from decimal import Decimal
from weakref import WeakKeyDictionary

from llmlab.base.background import in_thread
from llmlab.base.errors import RequestRefusedError, TransportError, UnusableEndpointError
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import TokenPrices
from llmlab.local.server import Lease, hold
from llmlab.local.setup import LocalModel, LocalModelError, absence

_FREE = TokenPrices(input=Decimal(0), output=Decimal(0))
_STARTS_IN_A_RUN = 2
_NOWHERE = "http://127.0.0.1"  # for a client that only checks and encodes


class LocalClient:
    """Asks a model on this machine.

    Attributes:
        fingerprint: the model's file by its sha256, the server's version and settings.
        single_slot: whether one answer is worked on at a time: prompts that begin alike are quicker in a row, and a
            repeat at temperature 0 is a copy.
    """

    retry = RetryPolicy(attempts=4, first_wait_s=0.05, longest_wait_s=0.2)  # it drops idle connections unasked

    def __init__(self, model: LocalModel) -> None:
        self.model, self.fingerprint, self.single_slot = model, model.fingerprint, model.slots == 1
        self._key_env = f"LLMLAB_LOCAL_KEY_{hashlib.sha256(self.fingerprint.encode()).hexdigest()[:12].upper()}"
        self._idle = self._client(_NOWHERE)
        self._running: WeakKeyDictionary[asyncio.AbstractEventLoop, _Running] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"LocalClient({self.fingerprint!r})"

    @property
    def absent(self) -> str:
        """What this machine lacks to run the model, with the command that mends it; "" = nothing."""
        return absence(self.model.require_ready)

    def check(self, request: Request) -> None:
        """RequestRefusedError for what `complete` refuses before it sends anything."""
        if request.tools:
            raise RequestRefusedError(
                f"{request.model} takes no tools: its template would leave them out in silence", attempts=0
            )
        self._idle.check(request)

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """Nothing, for tokens that are known."""
        return self._idle.price_usd(model, usage)

    async def complete(self, request: Request) -> Generation:
        """The model's answer; errors as of `OpenAIClient.complete`, and UnusableEndpointError without a server."""
        self.check(request)
        running = self._running.setdefault(asyncio.get_running_loop(), _Running())
        while True:
            client = await self._started(running)
            try:
                return await client.complete(request)
            except TransportError:
                if client is running.client and running.usable:
                    raise  # else it had waited for a server that is gone

    async def aclose(self) -> None:
        """Give the server back; the next call takes it again."""
        running = self._running.pop(asyncio.get_running_loop(), None)
        if running is not None:
            await running.close()

    async def _started(self, running: _Running) -> OpenAIClient:
        async with running.turn:
            if not running.usable and not running.refused:
                await self._start(running)
            if running.refused:
                raise UnusableEndpointError(running.refused, attempts=0)
            return running.client

    async def _start(self, running: _Running) -> None:
        running.starts += 1
        if running.starts > _STARTS_IN_A_RUN:
            running.refused = f"the server of {self.model.alias} ended twice in this run: is enough memory free?"
            return
        try:
            running.lease = await in_thread(hold, self.model)
        except LocalModelError as error:
            running.refused = str(error)
            return
        os.environ[self._key_env] = running.lease.key  # the one place that clients read keys from
        running.clients.append(self._client(running.lease.url))

    def _client(self, base_url: str) -> OpenAIClient:
        return OpenAIClient(
            base_url,
            api_key_env=self._key_env,
            group=self.fingerprint,
            max_in_flight=self.model.slots,
            prices=_FREE,
            stream=True,
            retry=self.retry,
        )


class _Running:
    """A server as one event loop uses it, and the clients of those before it, for which calls may still wait."""

    def __init__(self) -> None:
        self.turn, self.starts, self.refused = asyncio.Lock(), 0, ""
        self.lease: Lease | None = None
        self.clients: list[OpenAIClient] = []

    @property
    def client(self) -> OpenAIClient:
        return self.clients[-1]

    @property
    def usable(self) -> bool:
        return self.lease is not None and not self.lease.lost

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        if self.lease is not None:
            self.lease.release()
