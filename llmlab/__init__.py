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

from llmlab.base.lazy import face, lend

__version__ = "0.2.0"

if TYPE_CHECKING:
    from llmlab import bundle as bundle
    from llmlab import clients as clients
    from llmlab import engine as engine
    from llmlab import experiment as experiment
    from llmlab import gate as gate
    from llmlab import golden as golden
    from llmlab import guards as guards
    from llmlab import judge as judge
    from llmlab import notebook as notebook
    from llmlab import plots as plots
    from llmlab import production as production
    from llmlab import registry as registry
    from llmlab import results as results
    from llmlab import retrieval as retrieval
    from llmlab import scorers as scorers
    from llmlab import search as search
    from llmlab import simulate as simulate
    from llmlab import tracking as tracking
    from llmlab import watch as watch
    from llmlab import widgets as widgets
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

__all__, __getattr__, __dir__ = face(__name__)

lend("request_of", home="llmlab.engine.plan")  # what `Bundle.request` calls
