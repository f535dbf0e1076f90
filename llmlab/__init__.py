"""llmlab: is the changed prompt better or worse, how sure are you, and can you ship it?

    import llmlab as ll

    bundles = ll.load_bundles("experiments/pandas_help/bundles")
    golden = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl")
    results = ll.run(bundles, golden, scorers=[ll.scorers.mentions_expected])
    results.compare(baseline="v1")

Importing it does nothing but this: names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from llmlab import scorers
    from llmlab.bundle import Bundle, ModelRef, grid, load_bundles
    from llmlab.clients.anthropic import AnthropicClient
    from llmlab.clients.base import Generation, Request, Usage
    from llmlab.clients.fake import FakeClient
    from llmlab.clients.openai import OpenAIClient
    from llmlab.errors import LlmlabError
    from llmlab.experiment import dry_run, run
    from llmlab.gate import GatePolicy
    from llmlab.golden import Case, GoldenSet
    from llmlab.results import Results
    from llmlab.scorers import Score, scorer

_HOMES = {
    "AnthropicClient": "clients.anthropic",
    "Bundle": "bundle",
    "Case": "golden",
    "FakeClient": "clients.fake",
    "GatePolicy": "gate",
    "Generation": "clients.base",
    "GoldenSet": "golden",
    "LlmlabError": "errors",
    "ModelRef": "bundle",
    "OpenAIClient": "clients.openai",
    "Request": "clients.base",
    "Results": "results",
    "Score": "scorers",
    "Usage": "clients.base",
    "dry_run": "experiment",
    "grid": "bundle",
    "load_bundles": "bundle",
    "run": "experiment",
    "scorer": "scorers",
}
_MODULES = frozenset(
    {
        "judge",
        "notebook",
        "plots",
        "registry",
        "retrieval",
        "scorers",
        "simulate",
        "tracking",
        "widgets",
    }
)

__all__ = [
    "AnthropicClient",
    "Bundle",
    "Case",
    "FakeClient",
    "GatePolicy",
    "Generation",
    "GoldenSet",
    "LlmlabError",
    "ModelRef",
    "OpenAIClient",
    "Request",
    "Results",
    "Score",
    "Usage",
    "dry_run",
    "grid",
    "load_bundles",
    "run",
    "scorer",
    "scorers",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"llmlab.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"llmlab.{name}")
    raise AttributeError(f"module 'llmlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
