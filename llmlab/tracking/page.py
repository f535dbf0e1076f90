"""What a person sees of a run on MLflow's pages: its description in words, and the few columns a list begins with.

Everything else stands behind them in groups: `mean/`, `mean_ci/`, `n/`, `total/`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from llmlab.base.errors import DataError, RunFailedError
from llmlab.display.markdown import markdown
from llmlab.results.comparison import Comparison
from llmlab.results.results import Results
from llmlab.results.summary import Summary
from llmlab.stats.estimate import Estimate
from llmlab.tracking.spool import Decided

LONGEST_NOTE_CHARS = 1000
VIEW = "llmlab"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # a view that MLflow opens by its key, ?viewStateShareKey=llmlab
_GOAL = ("mean", "mean.low", "mean.high", "n", "usd")  # in the group `goal/`, which sorts before the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the pages of one sweep's runs have in common.

    Attributes:
        results, summary: of the sweep.
        goal: the metric that decides, by the gate's goal or else the first one; "" where there is none.
        baseline: the variant that the others are told against.
        comparison: of the others with it; None where nothing can be compared.
    """

    results: Results
    summary: Summary
    goal: str
    baseline: str
    comparison: Comparison | None

    @classmethod
    def of(cls, results: Results, decision: Decided | None) -> Page:
        """By the decision where there is one."""
        receipt = None if decision is None else decision.receipt
        asked = [c.metric for c in receipt.conditions if c.kind == "goal"] if receipt else []
        goal = next((metric for metric in [*asked, *results.metrics] if metric in results.metrics), "")
        named = "" if receipt is None else receipt.baseline
        baseline = named if named in results.variants else results.variants[0]
        compared = None
        if not results.failed and goal and len(results.variants) > 1:
            with suppress(DataError, RunFailedError):  # the summary says why; a page goes on without
                compared = results.compare(baseline)
        return cls(results=results, summary=results.summary(), goal=goal, baseline=baseline, comparison=compared)

    def note(self, variant: str, *, experiment: str, notebook: str) -> str:
        """The description of a variant's run, as Markdown: what it is, what it changes, and what came of it."""
        results, bundle = self.results, self.results.bundles[variant]
        details = f"on {bundle.model}, digest {bundle.digest[:8]}, in {experiment}."
        paragraphs = []
        if variant != self.baseline:
            changed = results.bundles[self.baseline].diff(bundle)._sentence()
            rows = [row for row in self.comparison or () if (row.candidate, row.metric.name) == (variant, self.goal)]
            paragraphs = [f"Against {self.baseline}. {changed}", *(row.sentence for row in rows)]
        if results.failed:
            paragraphs.append("The run FAILED: too few answers came back for any mean.")
        parts = [f"**{markdown(f'{bundle.name} {bundle.version}')}** {markdown(details)}"]
        parts += [markdown(text, LONGEST_NOTE_CHARS) for text in paragraphs]
        return "\n\n".join([*parts, *([f"[The notebook that ran it]({notebook})"] if notebook else [])])

    def mean(self, estimate: Estimate) -> tuple[float | None, float | None, float | None]:
        """An estimate with its interval; a run that FAILED has none."""
        return (None, None, None) if self.results.failed else (estimate.value, estimate.low, estimate.high)

    def figures(self, variant: str) -> dict[str, float | None]:
        """Mean and interval of the goal, cases with a score and the cost, under `goal/`."""
        if not self.goal:
            return {}
        mean = self.mean(self.summary.estimate(variant, self.goal))
        n, cost = self.summary.rows[variant, self.goal][0], self.results.total("cost_usd", variants=[variant])
        return dict(zip((f"goal/{name}" for name in _GOAL), (*mean, n, cost), strict=True))


def view() -> str:
    """The state of MLflow's table of runs that shows the goal's figures and the verdict, the newest run first."""
    columns = ["tags.`goal_metric`", *(f"metrics.`goal/{name}`" for name in _GOAL), "tags.`gate`"]
    shown = {"selectedColumns": columns, "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False}
    kept = {"startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs"}
    return json.dumps({**shown, **kept})
