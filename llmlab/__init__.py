"""llmlab: is the changed prompt better or worse, how sure are you, and can you ship it?

    import llmlab as ll

    bundles = ll.load_bundles("experiments/pandas_help/bundles")
    golden = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl")
    results = ll.run(bundles, golden, scorers=[ll.scorers.mentions_expected])
    results.compare(baseline="v1")

Importing it does nothing but this: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

__version__ = "0.2.0"

if TYPE_CHECKING:
    from llmlab import scorers as scorers
    from llmlab.base.errors import LlmlabError as LlmlabError
    from llmlab.bundle import Bundle as Bundle
    from llmlab.bundle import ModelRef as ModelRef
    from llmlab.bundle import grid as grid
    from llmlab.bundle import load_bundles as load_bundles
    from llmlab.clients import AnthropicClient as AnthropicClient
    from llmlab.clients import FakeClient as FakeClient
    from llmlab.clients import Generation as Generation
    from llmlab.clients import OpenAIClient as OpenAIClient
    from llmlab.clients import Request as Request
    from llmlab.clients import Usage as Usage
    from llmlab.engine import dry_run as dry_run
    from llmlab.engine import run as run
    from llmlab.experiment import Experiment as Experiment
    from llmlab.gate import GatePolicy as GatePolicy
    from llmlab.golden import Case as Case
    from llmlab.golden import GoldenSet as GoldenSet
    from llmlab.production import Fallback as Fallback
    from llmlab.production import Recorder as Recorder
    from llmlab.production import Rollout as Rollout
    from llmlab.production import Trace as Trace
    from llmlab.production import Traces as Traces
    from llmlab.results import Results as Results
    from llmlab.results import read_scores as read_scores
    from llmlab.scorers import Score as Score
    from llmlab.scorers import scorer as scorer
    from llmlab.tracking import compare_runs as compare_runs
    from llmlab.watch import Watch as Watch

__all__, __getattr__, __dir__ = face(
    __name__,
    {
        "base.errors": ("LlmlabError",),
        "bundle.bundle": ("Bundle", "ModelRef", "load_bundles"),
        "bundle.grids": ("grid",),
        "clients.anthropic": ("AnthropicClient",),
        "clients.base": ("Generation", "Request", "Usage"),
        "clients.fake": ("FakeClient",),
        "clients.openai": ("OpenAIClient",),
        "engine.cost": ("dry_run",),
        "engine.runs": ("run",),
        "experiment.folder": ("Experiment",),
        "gate.decide": ("GatePolicy",),
        "golden.cases": ("Case", "GoldenSet"),
        "production.fallback": ("Fallback",),
        "production.recorder": ("Recorder",),
        "production.rollout": ("Rollout",),
        "production.lines": ("Trace",),
        "production.traces": ("Traces",),
        "results.results": ("Results",),
        "results.score_file": ("read_scores",),
        "scorers.base": ("Score", "scorer"),
        "tracking.changes": ("compare_runs",),
        "watch.report": ("Watch",),
    },
    rooms=(
        *("bundle", "clients", "engine", "experiment", "gate", "golden", "guards", "judge", "notebook", "plots"),
        *("production", "registry", "results", "retrieval", "scorers", "search", "simulate", "tracking", "watch"),
        *("widgets",),
    ),
)
