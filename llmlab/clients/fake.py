"""A client for users' tests: answers from a script, without a network, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from llmlab.base.errors import RequestRefusedError
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Generation, Request, Status, Usage

Reply = str | Generation
Replies = Reply | Mapping[str, Reply] | Sequence[Reply] | Callable[[Request], Reply]


class FakeClient:
    """Answers every request from `replies`, and keeps the requests in `requests`.

    `replies` is one of: a text or Generation (always the same); a mapping from a part of the last user message
    to the reply (the first part that occurs wins); a sequence (the request's `repeat` picks, cyclically, so that
    the order of calls does not matter); a function of the request, which may raise any `CallError`.

    >>> import asyncio
    >>> from llmlab.bundle.bundle import Sampling
    >>> question = {"role": "user", "content": "How do I drop gaps?"}
    >>> request = Request(model=ModelRef.parse("offline/x"), messages=(question,), sampling=Sampling())
    >>> asyncio.run(FakeClient({"gaps": "dropna"}).complete(request)).text
    'dropna'
    """

    def __init__(self, replies: Replies, *, fingerprint: str = "fake", price_usd: Decimal | None = None) -> None:
        self.replies, self.fingerprint, self.requests = replies, fingerprint, list[Request]()
        self._price_usd = price_usd

    async def complete(self, request: Request) -> Generation:
        """The scripted reply; a text gets a word count as its usage. RequestRefusedError when no part fits."""
        self.requests.append(request)
        reply = self._reply(request)
        if isinstance(reply, Generation):
            return reply
        words = sum(len(str(message.get("content", "")).split()) for message in request.messages)
        usage = Usage(input_tokens=words, output_tokens=len(reply.split()), cached_input_tokens=0)
        status: Status = "ok" if reply.strip() else "empty"
        price = self.price_usd(request.model, usage)
        return Generation(status=status, text=reply, usage=usage, cost_usd=price, latency_s=0.0)

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """The fixed price per call, None (unknown) unless one was given."""
        return self._price_usd

    def _reply(self, request: Request) -> Reply:
        replies = self.replies
        if isinstance(replies, (str, Generation)):
            return replies
        if isinstance(replies, Mapping):
            question = next((str(m["content"]) for m in reversed(request.messages) if m["role"] == "user"), "")
            for substring, reply in replies.items():
                if substring in question:
                    return reply
            raise RequestRefusedError(f"FakeClient has no reply for {question[:80]!r} (it knows {', '.join(replies)})")
        return replies(request) if callable(replies) else replies[request.repeat % len(replies)]
