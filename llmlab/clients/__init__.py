"""Clients: how a model is asked, over which wire, with which key, how often again, how fast and at what price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.clients.access import Access as Access
    from llmlab.clients.anthropic import AnthropicClient as AnthropicClient
    from llmlab.clients.base import Client as Client
    from llmlab.clients.base import Generation as Generation
    from llmlab.clients.base import Request as Request
    from llmlab.clients.base import Usage as Usage
    from llmlab.clients.fake import FakeClient as FakeClient
    from llmlab.clients.openai import OpenAIClient as OpenAIClient

__all__, __getattr__, __dir__ = face(__name__)
