"""Results and policies for tests of the gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmlab.bundle.bundle import Bundle
from llmlab.gate import GatePolicy
from llmlab.results.results import Results
from tests.made_results import made


def gateable(scores, **settings) -> Results:
    """Results with known scores whose variants are pinned, different bundles."""
    results = made(scores, **settings)
    bundles = {
        name: Bundle.from_prompt(f"{{{{ question }}}} {i}", model="openai/gpt-4o-2024-08-06", name="desk")
        for i, name in enumerate(results.variants)
    }
    return replace(results, bundles=bundles)


def noisy(gain, *, n=200, sd=0.2, seed=0, **settings) -> Results:
    """v2 is better than v1 by `gain` on average."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.3, 0.6, n)
    d = rng.normal(0, 1, n)
    d = gain + sd * (d - d.mean()) / d.std()
    return gateable({"v1": a.tolist(), "v2": np.clip(a + d, 0, 1).tolist()}, **settings)


def policy(**rules) -> GatePolicy:
    """A policy from plain rules, `right` being the metric."""
    return GatePolicy.model_validate({"baseline": "bundles/v1.yaml", **rules})


def superior(min_effect=0.02, **more):
    return {"metric": "right", "rule": "superior", "min_effect": min_effect, **more}


def non_inferior(margin=0.05, **more):
    return {"metric": "right", "rule": "non_inferior", "margin": margin, **more}


def no_shown_harm(margin=0.05, **more):
    return {"metric": "right", "rule": "no_shown_harm", "margin": margin, **more}


def decided(rules, results, **settings):
    """The decision on v2 against v1."""
    return rules.decide(results, baseline="v1", candidate="v2", **settings)
